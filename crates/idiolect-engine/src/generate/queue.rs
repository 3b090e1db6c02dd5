//! Requests that are all there from the beginning.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};

use idiolect_model::{Completion, Context, GenerateRequest, RowError, Sampling, Sink};

use super::source::{Ended, Source};
use super::text::Text;
use crate::encode::{Limits, encode_chat_context, encode_context};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// Most requests of one context that are handed out together, so that no worker gets them all.
const GROUP: usize = 64;

/// Requests in their order, handed out in groups of equal contexts to one worker or several.
pub(crate) struct Queue<'a> {
    requests: &'a [GenerateRequest],
    next: Mutex<usize>,
}

impl<'a> Queue<'a> {
    pub(crate) fn new(requests: &'a [GenerateRequest]) -> Self {
        Self {
            requests,
            next: Mutex::new(0),
        }
    }

    /// The next requests, all with one context.
    fn claim(&self) -> Option<Range<usize>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = &self.requests[*next..];
        let first = rest.first()?;
        let len = rest
            .iter()
            .take(GROUP)
            .take_while(|r| r.context == first.context)
            .count();
        let range = *next..*next + len;
        *next = range.end;
        Some(range)
    }

    fn is_empty(&self) -> bool {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) == self.requests.len()
    }
}

/// How the contexts of requests become tokens.
#[derive(Clone, Copy)]
pub(crate) struct Encoder<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Renders contexts, where one does.
    pub(crate) chat: Option<&'a ChatTemplate>,
    pub(crate) limits: Limits,
}

impl Encoder<'_> {
    fn encode(&self, context: &Context) -> Result<Vec<u32>, RowError> {
        match self.chat {
            Some(chat) => encode_chat_context(self.tokenizer, chat, self.limits, context),
            None => encode_context(self.tokenizer, self.limits, context),
        }
    }
}

/// One worker's side of a queue. Requests are their indices.
pub(crate) struct Queued<'a> {
    pub(crate) queue: &'a Queue<'a>,
    pub(crate) encoder: Encoder<'a>,
    pub(crate) sampling: &'a Sampling,
    pub(crate) sink: Sink<'a, Completion>,
}

impl Queued<'_> {
    fn context(&self, request: usize) -> &Context {
        &self.queue.requests[request].context
    }
}

impl Source for Queued<'_> {
    type Request = usize;

    fn claim(&mut self) -> VecDeque<usize> {
        self.queue
            .claim()
            .map_or_else(VecDeque::new, Iterator::collect)
    }

    fn wait(&mut self) -> bool {
        !self.queue.is_empty()
    }

    fn encode(&self, request: &usize) -> Result<Vec<u32>, RowError> {
        self.encoder.encode(self.context(*request))
    }

    fn same_context(&self, a: &usize, b: &usize) -> bool {
        self.context(*a) == self.context(*b)
    }

    fn sampling<'r>(&'r self, _: &'r usize) -> &'r Sampling {
        self.sampling
    }

    fn seed(&self, request: &usize) -> u64 {
        self.queue.requests[*request].seed
    }

    fn n_top(&self, _: &usize) -> usize {
        0
    }

    fn wanted(&self, _: &usize) -> bool {
        true
    }

    fn grown(&mut self, _: &mut usize, _: &Text) {}

    fn ended(&mut self, request: usize, result: Result<Ended, RowError>) -> ControlFlow<()> {
        let result = result.map(|ended| ended.text.complete(ended.finish));
        (self.sink)(request, result)
    }
}
