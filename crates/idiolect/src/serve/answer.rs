//! From a job's events to its answer, whole or in pieces.

use std::sync::Arc;

use idiolect_engine::local::live::Written;
use idiolect_model::Finish;
use serde_json::Value;

use super::App;
use super::error::ApiError;
use super::scheduler::{Event, Events};
use super::stream::Pieces;

/// A completion that ended. Its tokens hold the end token, where one was drawn.
#[derive(Default)]
pub(super) struct Whole {
    pub(super) text: String,
    pub(super) tokens: Vec<Written>,
    pub(super) finish: &'static str,
}

/// The finish reason as OpenAI names it.
fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Unknown => "stop",
    }
}

/// The ids of some tokens.
pub(super) fn token_ids(tokens: &[Written]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

/// A piece of one completion; the last has the reason of its end.
pub(super) struct Piece {
    pub(super) choice: usize,
    pub(super) text: String,
    pub(super) tokens: Vec<Written>,
    pub(super) finish: Option<&'static str>,
}

/// A job's events as pieces, until each of its completions has ended.
pub(super) struct Answer {
    events: Events,
    open: usize,
    /// Counts the request as cancelled if it is dropped before the end.
    guard: Guard,
}

/// Counts a request as cancelled where its client leaves.
pub(super) struct Guard {
    app: Arc<App>,
    done: bool,
}

impl Guard {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            done: false,
        }
    }

    /// The answer is complete, or was refused.
    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.done {
            self.app.metrics.cancelled.add(1);
        }
    }
}

impl Answer {
    pub(super) fn new(events: Events, choices: usize, guard: Guard) -> Self {
        Self {
            events,
            open: choices,
            guard,
        }
    }

    /// The next piece; none when all completions have ended.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        if self.open == 0 {
            self.guard.done();
            return Ok(None);
        }
        let Some((choice, event)) = self.events.recv().await else {
            self.guard.done();
            // The queue was emptied, or the thread that writes is gone.
            return Err(ApiError::stopping());
        };
        let end = match event {
            Event::More { tokens, text } => {
                return Ok(Some(Piece {
                    choice,
                    text,
                    tokens,
                    finish: None,
                }));
            }
            Event::End(Ok(end)) => end,
            Event::End(Err(error)) => {
                self.guard.done();
                return Err(ApiError::failed(error.reason));
            }
        };
        self.open -= 1;
        Ok(Some(Piece {
            choice,
            text: String::new(),
            tokens: end.end.into_iter().collect(),
            finish: Some(reason(end.finish)),
        }))
    }

    /// Sends the document of each piece, the first and those that follow, and what went wrong where
    /// something does. How many tokens there were; nothing where the stream ended early.
    pub(super) async fn relay(
        mut self,
        first: Option<Piece>,
        pieces: &Pieces,
        mut document: impl FnMut(&Piece) -> Value,
    ) -> Option<usize> {
        let (mut next, mut n_tokens) = (first, 0);
        while let Some(piece) = next {
            n_tokens += piece.tokens.len();
            pieces.send(&document(&piece)).await.then_some(())?;
            let found = tokio::select! {
                () = pieces.left() => return None,
                found = self.next() => found,
            };
            next = match found {
                Ok(next) => next,
                Err(error) => {
                    pieces.send(&error.document()).await;
                    return None;
                }
            };
        }
        Some(n_tokens)
    }

    /// All completions, when they have ended.
    pub(super) async fn whole(mut self, choices: usize) -> Result<Vec<Whole>, ApiError> {
        let mut all: Vec<Whole> = (0..choices).map(|_| Whole::default()).collect();
        while let Some(piece) = self.next().await? {
            let whole = &mut all[piece.choice];
            whole.text.push_str(&piece.text);
            whole.tokens.extend(piece.tokens);
            whole.finish = piece.finish.unwrap_or(whole.finish);
        }
        Ok(all)
    }
}
