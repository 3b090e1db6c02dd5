//! Writing completions: many requests through few sequence slots, refilled as sequences end.
//!
//! Each request has its own generator, and a row's logits do not depend on what else is computed
//! with it, so the same request gives the same text whatever it is batched with. Memory is
//! bounded by the number of slots. Requests with equal contexts that stand together share the
//! computation of the context: it is computed once and its cache copied.
//!
//! Text is what decoding adds behind the context ([`Tokenizer::decode_after`]); stop strings are
//! sought in its bytes, so they are found across the borders of tokens. What computes logits is
//! behind [`NextToken`], which the tests replace by a table.

use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};

use idiolect_core::model::{
    Completion, Finish, GenerateRequest, ModelError, Rng, RowError, Sampling, Sink,
};

use crate::encode::{Limits, encode_context};
use crate::sample::{self, Drawn};
use crate::tokenizer::Tokenizer;

/// What generation asks of a model.
pub(crate) trait NextToken {
    /// Keys and values of one sequence; a clone continues a context in another way.
    type Cache: Clone;

    /// A cache without tokens.
    fn cache(&mut self) -> Self::Cache;

    /// Appends some tokens (at least one) to each cache and leaves the logits behind the last of
    /// each in `logits`, (B, V). A row's logits must not depend on the other rows.
    fn feed(&mut self, caches: &mut [Self::Cache], tokens: &[&[u32]], logits: &mut Vec<f32>);
}

/// Tokens of contexts after which a refill computes what it has; bounds the memory of a refill.
const CONTEXT_TOKENS: usize = 2048;

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
}

/// How to write.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) limits: Limits,
    pub(crate) sampling: &'a Sampling,
    /// Sequences written at a time.
    pub(crate) slots: usize,
}

/// Writes a completion for each request of the queue. Several workers may share a queue.
///
/// # Errors
/// When the sampling settings mean nothing. A request that cannot be served fails alone.
pub(crate) fn generate<M: NextToken>(
    model: &mut M,
    manner: Manner<'_>,
    queue: &Queue<'_>,
    sink: Sink<'_, Completion>,
) -> Result<(), ModelError> {
    sample::check(manner.sampling)?;
    let slots = manner.slots.max(1);
    let mut writer = Writer {
        model,
        manner,
        queue,
        claimed: 0..0,
        drained: false,
        active: Vec::new(),
        caches: Vec::new(),
        shared: None,
        logits: Vec::new(),
        scratch: Vec::new(),
    };
    // The share of slots that must be free before contexts are computed again: a few rows at a
    // time would leave the products half empty.
    let refill = (slots / 8).max(1);
    while !(writer.drained && writer.active.is_empty()) {
        let free = slots - writer.active.len();
        let starved = writer.active.is_empty() || free >= refill;
        if starved && !writer.drained && writer.admit(free, sink).is_break() {
            return Ok(());
        }
        if !writer.active.is_empty() && writer.step(sink).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

struct Writer<'a, M: NextToken> {
    model: &'a mut M,
    manner: Manner<'a>,
    queue: &'a Queue<'a>,
    /// Requests of one group that have no slot yet; their context is in `shared`.
    claimed: Range<usize>,
    /// Whether there is nothing left to claim.
    drained: bool,
    active: Vec<Slot>,
    /// Of the active sequences, in the same order.
    caches: Vec<M::Cache>,
    /// The last context computed, kept while some of its requests wait.
    shared: Option<Computed<M::Cache>>,
    logits: Vec<f32>,
    scratch: Vec<(f32, u32)>,
}

/// A context with its cache and the logits behind it.
struct Computed<C> {
    ids: Vec<u32>,
    cache: C,
    logits: Vec<f32>,
}

/// A sequence being written.
struct Slot {
    request: usize,
    text: Text,
    rng: Rng,
    /// Written and not yet in the cache.
    last: u32,
    /// Tokens that may be written in all.
    room: usize,
}

impl<M: NextToken> Writer<'_, M> {
    /// Takes up requests for the free slots, computes their contexts and writes their first
    /// tokens.
    fn admit(&mut self, free: usize, sink: Sink<'_, Completion>) -> ControlFlow<()> {
        let shared = self.shared.take();
        let waiting = shared.as_ref().map(|_| self.take_claimed(free));
        let mut admitted: Vec<Range<usize>> = waiting.into_iter().collect();
        let mut contexts: Vec<Vec<u32>> = Vec::new();
        let (mut room, mut tokens) = (free - admitted.iter().map(Range::len).sum::<usize>(), 0);
        while room > 0 && tokens < CONTEXT_TOKENS {
            let Some(group) = self.queue.claim() else {
                self.drained = true;
                break;
            };
            let context = &self.queue.requests[group.start].context;
            match encode_context(self.manner.tokenizer, self.manner.limits, context) {
                Ok(ids) => {
                    tokens += ids.len();
                    contexts.push(ids);
                    self.claimed = group;
                    admitted.push(self.take_claimed(room));
                    room -= admitted[admitted.len() - 1].len();
                }
                Err(error) => {
                    for request in group {
                        sink(request, Err(error.clone()))?;
                    }
                }
            }
        }
        let computed: Vec<_> = shared.into_iter().chain(self.compute(contexts)).collect();
        let last = computed.len().saturating_sub(1);
        for (index, (context, requests)) in computed.into_iter().zip(admitted).enumerate() {
            let kept = index == last && !self.claimed.is_empty();
            self.start(context, requests, kept, sink)?;
        }
        ControlFlow::Continue(())
    }

    /// The first of the claimed requests, at most `room`.
    fn take_claimed(&mut self, room: usize) -> Range<usize> {
        let taken = self.claimed.start..self.claimed.end.min(self.claimed.start + room);
        self.claimed.start = taken.end;
        taken
    }

    fn compute(&mut self, contexts: Vec<Vec<u32>>) -> Vec<Computed<M::Cache>> {
        if contexts.is_empty() {
            return Vec::new();
        }
        let mut caches: Vec<M::Cache> = contexts.iter().map(|_| self.model.cache()).collect();
        let rows: Vec<&[u32]> = contexts.iter().map(Vec::as_slice).collect();
        self.model.feed(&mut caches, &rows, &mut self.logits);
        let logits = self
            .logits
            .chunks_exact(self.manner.limits.vocabulary)
            .map(<[f32]>::to_vec);
        let parts = contexts.into_iter().zip(caches).zip(logits);
        parts
            .map(|((ids, cache), logits)| Computed { ids, cache, logits })
            .collect()
    }

    /// Gives each request a slot with its context's cache, or a copy of it, and writes the first
    /// token. A context that is `kept` has further requests waiting.
    fn start(
        &mut self,
        context: Computed<M::Cache>,
        requests: Range<usize>,
        kept: bool,
        sink: Sink<'_, Completion>,
    ) -> ControlFlow<()> {
        let first = !self.manner.tokenizer.any_text(&context.ids);
        let room = self
            .manner
            .sampling
            .max_tokens
            .min(self.manner.limits.positions - context.ids.len());
        let copies = requests.len() - usize::from(!kept);
        self.caches
            .extend((0..copies).map(|_| context.cache.clone()));
        let logits = context.logits.clone();
        if kept {
            self.shared = Some(context);
        } else {
            self.caches.push(context.cache);
        }
        let slots = self.active.len()..self.active.len() + requests.len();
        for request in requests {
            let rng = Rng::keyed(self.queue.requests[request].seed, &["generate"]);
            self.active.push(Slot {
                request,
                text: Text::new(first),
                rng,
                last: 0,
                room,
            });
        }
        for slot in slots.rev() {
            self.advance(slot, &logits, sink)?;
        }
        ControlFlow::Continue(())
    }

    /// Writes one token to every active sequence.
    fn step(&mut self, sink: Sink<'_, Completion>) -> ControlFlow<()> {
        let mut logits = std::mem::take(&mut self.logits);
        let rows: Vec<&[u32]> = self
            .active
            .iter()
            .map(|slot| std::slice::from_ref(&slot.last))
            .collect();
        self.model.feed(&mut self.caches, &rows, &mut logits);
        // Backwards, so that the removal of an ended slot moves none that is still to come.
        for (slot, logits) in logits
            .chunks_exact(self.manner.limits.vocabulary)
            .enumerate()
            .rev()
        {
            self.advance(slot, logits, sink)?;
        }
        self.logits = logits;
        ControlFlow::Continue(())
    }

    /// Draws a slot's next token; a sequence that ends leaves its slot.
    fn advance(
        &mut self,
        slot: usize,
        logits: &[f32],
        sink: Sink<'_, Completion>,
    ) -> ControlFlow<()> {
        let writing = &mut self.active[slot];
        let finish = if writing.room == 0 {
            Some(Finish::Length)
        } else {
            match sample::draw(
                logits,
                self.manner.sampling,
                &mut writing.rng,
                &mut self.scratch,
            ) {
                None => return self.fail(slot, sink),
                Some(drawn) if self.manner.tokenizer.stops().contains(&drawn.token) => {
                    Some(Finish::Stop)
                }
                Some(drawn) => {
                    writing.last = drawn.token;
                    let stopped =
                        writing
                            .text
                            .push(self.manner.tokenizer, drawn, &self.manner.sampling.stop);
                    if stopped {
                        Some(Finish::Stop)
                    } else if writing.text.logprobs.len() == writing.room {
                        Some(Finish::Length)
                    } else {
                        None
                    }
                }
            }
        };
        let Some(finish) = finish else {
            return ControlFlow::Continue(());
        };
        let ended = self.active.swap_remove(slot);
        self.caches.swap_remove(slot);
        sink(ended.request, Ok(ended.text.complete(finish)))
    }

    fn fail(&mut self, slot: usize, sink: Sink<'_, Completion>) -> ControlFlow<()> {
        let failed = self.active.swap_remove(slot);
        self.caches.swap_remove(slot);
        let reason = "the model's logits are not finite; its weights are damaged or its training \
                      diverged";
        sink(
            failed.request,
            Err(RowError {
                reason: reason.to_owned(),
            }),
        )
    }
}

/// The text of a completion while it grows.
struct Text {
    bytes: Vec<u8>,
    /// Where each token's bytes begin.
    starts: Vec<usize>,
    logprobs: Vec<f32>,
    /// Whether no text stands before the next token.
    first: bool,
}

impl Text {
    fn new(first: bool) -> Self {
        Self {
            bytes: Vec::new(),
            starts: Vec::new(),
            logprobs: Vec::new(),
            first,
        }
    }

    /// Appends a token and cuts the text at the first stop string, if one is complete. Tokens
    /// that begin at or behind the cut are not counted as written.
    fn push(&mut self, tokenizer: &Tokenizer, drawn: Drawn, stop: &[String]) -> bool {
        let before = self.bytes.len();
        self.starts.push(before);
        self.logprobs.push(drawn.logprob);
        tokenizer.append(drawn.token, self.first, &mut self.bytes);
        self.first &= !tokenizer.any_text(&[drawn.token]);
        let found = stop
            .iter()
            .filter_map(|stop| {
                // A stop that is complete now ends in the new bytes.
                let from = (before + 1).saturating_sub(stop.len());
                let tail = &self.bytes[from..];
                tail.windows(stop.len())
                    .position(|w| w == stop.as_bytes())
                    .map(|i| from + i)
            })
            .min();
        let Some(cut) = found else { return false };
        self.bytes.truncate(cut);
        let kept = self.starts.partition_point(|&start| start < cut);
        self.starts.truncate(kept);
        self.logprobs.truncate(kept);
        true
    }

    fn complete(self, finish: Finish) -> Completion {
        Completion {
            text: String::from_utf8_lossy(&self.bytes).into_owned(),
            finish,
            n_tokens: self.logprobs.len(),
            logprobs: self.logprobs,
        }
    }
}

#[cfg(test)]
mod tests;
