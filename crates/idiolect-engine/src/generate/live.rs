//! Requests of clients that come while others are written, and leave when they like.
//!
//! A bounded queue in front of the writers: what waits is counted and refused beyond its size;
//! what is written goes to each request's [`Reader`] as it settles. Workers that share a queue
//! claim in turn, so that none has much more to write than another.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use idiolect_model::{Finish, RowError, Sampling};

use super::Written;
use super::source::{Ended, Source};
use super::text::Text;

/// Receives what is written for one request. Its methods are called on a thread that computes, and
/// must not wait.
pub trait Reader: Send {
    /// Whether anybody still waits; a request of whom nobody does is dropped without an end.
    fn wanted(&self) -> bool;

    /// More of the text that will not change any more: tokens, and whole characters. Tokens may
    /// come before their characters, and characters before the last of a stop string's beginning.
    fn more(&mut self, tokens: Vec<Written>, text: String);

    /// The request ended or failed; nothing follows.
    fn end(&mut self, result: Result<LiveEnd, RowError>);
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LiveEnd {
    /// `stop` or `length`.
    pub finish: Finish,
    /// The end token, where one was drawn; no part of the text.
    pub end: Option<Written>,
}

/// One completion for a client.
pub struct LiveRequest {
    /// The tokens that it follows, at least one.
    pub context: Arc<[u32]>,
    /// How its tokens are chosen.
    pub sampling: Arc<Sampling>,
    /// Seeds its own generator.
    pub seed: u64,
    /// The most probable tokens to name at each place.
    pub n_top: usize,
    /// Whether text is passed on while it grows, or only at the end.
    pub stream: bool,
    /// Who receives it.
    pub reader: Box<dyn Reader>,
}

/// Why requests were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// As many wait as may.
    #[error("the queue is full")]
    Full,
    /// No more are taken.
    #[error("no more requests are taken")]
    Closed,
}

/// Requests that wait, in order.
pub struct LiveQueue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
    generated: AtomicU64,
    dropped: AtomicU64,
    aborted: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<LiveRequest>,
    /// Requests that each worker holds.
    held: Vec<usize>,
    closed: bool,
}

/// Counts of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveCounts {
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Requests that workers hold.
    pub running: usize,
    /// Tokens drawn since the beginning.
    pub generated: u64,
    /// Requests dropped because nobody waited for them any more.
    pub dropped: u64,
}

impl LiveQueue {
    /// A queue in which up to `capacity` requests may wait.
    pub fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            capacity,
            generated: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            aborted: AtomicBool::new(false),
        }
    }

    /// Adds requests behind those that wait, all or none. Requests of one context that follow each
    /// other share its computation.
    ///
    /// # Errors
    /// [`NotTaken`]; the requests are dropped.
    pub fn push(&self, requests: Vec<LiveRequest>) -> Result<(), NotTaken> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotTaken::Closed);
        }
        if state.waiting.len() + requests.len() > self.capacity {
            self.forget_unwanted(&mut state);
        }
        if state.waiting.len() + requests.len() > self.capacity {
            return Err(NotTaken::Full);
        }
        state.waiting.extend(requests);
        self.changed.notify_all();
        Ok(())
    }

    /// Takes no more requests; those that wait or run are finished.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Drops all requests as soon as the workers notice.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }

    /// What it holds and has done.
    pub fn counts(&self) -> LiveCounts {
        let state = self.lock();
        LiveCounts {
            waiting: state.waiting.len(),
            running: state.held.iter().sum(),
            generated: self.generated.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_unwanted(&self, state: &mut State) {
        let before = state.waiting.len();
        state.waiting.retain(|request| request.reader.wanted());
        let dropped = before - state.waiting.len();
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
    }
}

/// A request that a worker holds; it counts as long as it is held.
pub(crate) struct Held<'a> {
    request: LiveRequest,
    /// Tokens and bytes that the reader has.
    sent: (usize, usize),
    /// Tokens that were counted; more than there are after a preemption.
    counted: usize,
    queue: &'a LiveQueue,
    worker: usize,
    ended: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.queue.lock().held[self.worker] -= 1;
        // Whoever has fewer now may claim.
        self.queue.changed.notify_all();
    }
}

impl Held<'_> {
    fn send(&mut self, text: &Text, (tokens, bytes): (usize, usize)) {
        let (old_tokens, old_bytes) = self.sent;
        // After a preemption the text grows again to what was sent.
        let (tokens, bytes) = (tokens.max(old_tokens), bytes.max(old_bytes));
        if (tokens, bytes) == self.sent {
            return;
        }
        let more = text.tokens[old_tokens..tokens].to_vec();
        self.request
            .reader
            .more(more, text.between(old_bytes, bytes));
        self.sent = (tokens, bytes);
    }
}

/// One worker's side of a live queue.
pub(crate) struct Live<'a> {
    queue: &'a LiveQueue,
    worker: usize,
}

impl<'a> Live<'a> {
    /// A further worker.
    pub(crate) fn new(queue: &'a LiveQueue) -> Self {
        let mut state = queue.lock();
        state.held.push(0);
        Self {
            queue,
            worker: state.held.len() - 1,
        }
    }

    /// Whether this worker is the next to claim.
    fn claims(&self, state: &State) -> bool {
        let fewest = state.held.iter().min();
        !state.waiting.is_empty() && fewest == state.held.get(self.worker)
    }
}

impl<'a> Source for Live<'a> {
    type Request = Held<'a>;

    fn claim(&mut self) -> VecDeque<Held<'a>> {
        let mut state = self.queue.lock();
        self.queue.forget_unwanted(&mut state);
        if !self.claims(&state) {
            return VecDeque::new();
        }
        let context = state
            .waiting
            .front()
            .map(|first| Arc::clone(&first.context));
        let n = state
            .waiting
            .iter()
            .take_while(|next| Some(&next.context) == context.as_ref())
            .count();
        state.held[self.worker] += n;
        let hold = |request| Held {
            request,
            sent: (0, 0),
            counted: 0,
            queue: self.queue,
            worker: self.worker,
            ended: false,
        };
        let claimed = state.waiting.drain(..n).map(hold).collect();
        drop(state);
        self.queue.changed.notify_all();
        claimed
    }

    fn wait(&mut self) -> bool {
        let mut state = self.queue.lock();
        loop {
            if state.closed && state.waiting.is_empty() {
                return false;
            }
            if self.claims(&state) {
                return true;
            }
            state = self
                .queue
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn encode(&self, held: &Held<'a>) -> Result<Vec<u32>, RowError> {
        Ok(held.request.context.to_vec())
    }

    fn same_context(&self, a: &Held<'a>, b: &Held<'a>) -> bool {
        a.request.context == b.request.context
    }

    fn sampling<'r>(&'r self, held: &'r Held<'a>) -> &'r Sampling {
        &held.request.sampling
    }

    fn seed(&self, held: &Held<'a>) -> u64 {
        held.request.seed
    }

    fn n_top(&self, held: &Held<'a>) -> usize {
        held.request.n_top
    }

    fn wanted(&self, held: &Held<'a>) -> bool {
        held.request.reader.wanted() && !self.queue.aborted.load(Ordering::Relaxed)
    }

    fn grown(&mut self, held: &mut Held<'a>, text: &Text) {
        if text.tokens.len() > held.counted {
            held.counted = text.tokens.len();
            self.queue.generated.fetch_add(1, Ordering::Relaxed);
        }
        if held.request.stream {
            let settled = text.settled(&held.request.sampling.stop);
            held.send(text, settled);
        }
    }

    fn ended(&mut self, mut held: Held<'a>, result: Result<Ended, RowError>) -> ControlFlow<()> {
        held.ended = true;
        let result = result.map(|ended| {
            self.queue.generated.fetch_add(1, Ordering::Relaxed);
            held.send(&ended.text, ended.text.whole());
            LiveEnd {
                finish: ended.finish,
                end: ended.end,
            }
        });
        held.request.reader.end(result);
        ControlFlow::Continue(())
    }
}
