//! Between the sockets and the engine: requests into the live queue and back as events, prompts
//! into batches to score and back as scores.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use idiolect_engine::local::LocalModel;
use idiolect_engine::local::live::{
    LiveEnd, LiveQueue, LiveRequest, NotTaken, PromptScores, Reader, ScoredPrompt, Written,
};
use idiolect_model::{RowError, Sampling};
use tokio::sync::{mpsc, oneshot};

use super::error::ApiError;

/// Completions to write for one request, all with the same sampling.
pub(super) struct Job {
    /// What each completion follows, and its seed; equal prompts stand together.
    pub(super) completions: Vec<(Arc<[u32]>, u64)>,
    pub(super) sampling: Arc<Sampling>,
    pub(super) n_top: usize,
    pub(super) stream: bool,
}

/// What happened to one of a job's completions.
pub(super) enum Event {
    More { tokens: Vec<Written>, text: String },
    End(Result<LiveEnd, RowError>),
}

/// The events of a job, each with the completion's place in it. Dropping it gives the job up.
pub(super) type Events = mpsc::UnboundedReceiver<(usize, Event)>;

/// Sends a completion's events; what it sends is bounded by the tokens that the completion may have.
struct Client {
    place: usize,
    events: mpsc::UnboundedSender<(usize, Event)>,
}

impl Reader for Client {
    fn wanted(&self) -> bool {
        !self.events.is_closed()
    }

    fn more(&mut self, tokens: Vec<Written>, text: String) {
        // A client that left is noticed by `wanted`.
        let _ = self.events.send((self.place, Event::More { tokens, text }));
    }

    fn end(&mut self, result: Result<LiveEnd, RowError>) {
        let _ = self.events.send((self.place, Event::End(result)));
    }
}

/// Scores of a request's prompts, in order.
pub(super) type Scores = Vec<Result<PromptScores, RowError>>;

struct ScoreJob {
    prompts: Vec<ScoredPrompt>,
    n_top: usize,
    reply: oneshot::Sender<Scores>,
}

#[derive(Default)]
struct Scoring {
    state: Mutex<ScoringState>,
    changed: Condvar,
}

#[derive(Default)]
struct ScoringState {
    jobs: VecDeque<ScoreJob>,
    closed: bool,
}

impl Scoring {
    fn lock(&self) -> MutexGuard<'_, ScoringState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The model with its threads.
pub(super) struct Scheduler {
    pub(super) model: Arc<LocalModel>,
    pub(super) queue: Arc<LiveQueue>,
    scoring: Arc<Scoring>,
    max_queue: usize,
}

impl Scheduler {
    /// Starts the threads that write and score. They end after [`close`](Self::close).
    pub(super) fn start(
        model: LocalModel,
        max_queue: usize,
    ) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let scheduler = Self {
            model: Arc::new(model),
            queue: Arc::new(LiveQueue::new(max_queue)),
            scoring: Arc::default(),
            max_queue,
        };
        let (model, queue) = (Arc::clone(&scheduler.model), Arc::clone(&scheduler.queue));
        let writer = std::thread::Builder::new()
            .name("write".to_owned())
            .spawn(move || model.write_live(&queue))?;
        let (model, scoring) = (Arc::clone(&scheduler.model), Arc::clone(&scheduler.scoring));
        let scorer = std::thread::Builder::new()
            .name("score".to_owned())
            .spawn(move || score(&model, &scoring))?;
        Ok((scheduler, vec![writer, scorer]))
    }

    /// Hands a job to the writers.
    pub(super) fn submit(&self, job: Job) -> Result<Events, ApiError> {
        let (sender, events) = mpsc::unbounded_channel();
        let requests = job
            .completions
            .into_iter()
            .enumerate()
            .map(|(place, (context, seed))| LiveRequest {
                context,
                sampling: Arc::clone(&job.sampling),
                seed,
                n_top: job.n_top,
                stream: job.stream,
                reader: Box::new(Client {
                    place,
                    events: sender.clone(),
                }),
            })
            .collect();
        match self.queue.push(requests) {
            Ok(()) => Ok(events),
            Err(NotTaken::Full) => Err(ApiError::queue_full()),
            Err(NotTaken::Closed) => Err(ApiError::stopping()),
        }
    }

    /// Has prompts scored.
    pub(super) fn score(
        &self,
        prompts: Vec<ScoredPrompt>,
        n_top: usize,
    ) -> Result<oneshot::Receiver<Scores>, ApiError> {
        let (reply, scores) = oneshot::channel();
        let mut state = self.scoring.lock();
        if state.closed {
            return Err(ApiError::stopping());
        }
        state.jobs.retain(|job| !job.reply.is_closed());
        let waiting: usize = state.jobs.iter().map(|job| job.prompts.len()).sum();
        if waiting + prompts.len() > self.max_queue {
            return Err(ApiError::queue_full());
        }
        state.jobs.push_back(ScoreJob {
            prompts,
            n_top,
            reply,
        });
        self.scoring.changed.notify_all();
        Ok(scores)
    }

    /// Prompts that wait for their scores.
    pub(super) fn n_scoring(&self) -> usize {
        let state = self.scoring.lock();
        state.jobs.iter().map(|job| job.prompts.len()).sum()
    }

    /// Takes nothing new; what was taken is finished.
    pub(super) fn close(&self) {
        self.queue.close();
        self.scoring.lock().closed = true;
        self.scoring.changed.notify_all();
    }

    /// Drops everything.
    pub(super) fn abort(&self) {
        self.close();
        self.queue.abort();
        self.scoring.lock().jobs.clear();
    }
}

/// Tokens that are scored together at most, for each thread; a request that waits meanwhile waits
/// some seconds at most.
const TOKENS: usize = 1 << 13;

fn score(model: &LocalModel, scoring: &Scoring) {
    loop {
        let mut state = scoring.lock();
        let jobs = loop {
            state.jobs.retain(|job| !job.reply.is_closed());
            if !state.jobs.is_empty() {
                break take(&mut state.jobs, TOKENS * model.n_threads());
            }
            if state.closed {
                return;
            }
            state = scoring
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let n_top = jobs.first().map_or(0, |job| job.n_top);
        let prompts: Vec<ScoredPrompt> = jobs.iter().flat_map(|job| job.prompts.clone()).collect();
        let mut scores = Vec::with_capacity(prompts.len());
        model.score_prompts(&prompts, n_top, &mut |_, result| {
            scores.push(result);
            ControlFlow::Continue(())
        });
        for job in jobs {
            let rest = scores.split_off(job.prompts.len().min(scores.len()));
            // A client that left needs none.
            let _ = job.reply.send(std::mem::replace(&mut scores, rest));
        }
    }
}

/// The next jobs that are scored together: those that ask for the same, up to so many tokens.
fn take(jobs: &mut VecDeque<ScoreJob>, tokens: usize) -> Vec<ScoreJob> {
    let mut taken: Vec<ScoreJob> = Vec::new();
    let mut sum = 0;
    while let Some(next) = jobs.front() {
        let own: usize = next.prompts.iter().map(|prompt| prompt.ids.len()).sum();
        let same = taken.first().is_none_or(|first| first.n_top == next.n_top);
        if !same || (sum + own > tokens && !taken.is_empty()) {
            break;
        }
        sum += own;
        taken.extend(jobs.pop_front());
    }
    taken
}
