//! Writing completions: many requests through few sequence slots, refilled as sequences end.
//!
//! Each request has its own generator, and a sequence's logits do not depend on what else is
//! computed with it, so the same request gives the same text whatever it is batched with. Requests
//! with equal contexts that follow each other share the context: it is computed once, and its keys
//! and values are held once.
//!
//! Memory for keys and values is bounded: requests are taken up while what they are expected to
//! write fits beside the others, and when a guess was too low the youngest sequence is preempted and
//! later written again from its start, to the same text. A request that cannot fit alone is
//! refused.
//!
//! Text is what decoding adds behind the context ([`Tokenizer::decode_after`]); stop strings are
//! sought in its bytes, so they are found across the borders of tokens. What computes logits is
//! behind [`NextToken`], which the tests replace by a table; where requests come from and where
//! completions go is behind [`Source`]: a list that is there from the beginning
//! ([`queue`]), or clients that come and leave ([`live`]).

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;

use idiolect_model::{Finish, Rng, RowError};

use crate::encode::Limits;
use crate::sample::{self, Drawn};
use crate::tokenizer::Tokenizer;

use source::{Ended, Source};
use text::Text;

pub(crate) use admit::within;
pub use source::Written;

mod admit;
pub(crate) mod live;
pub(crate) mod queue;
mod source;
mod text;

/// What generation asks of a model.
pub(crate) trait NextToken {
    /// A computed context.
    type Prompt;
    /// What continues it.
    type Sequence;

    /// Computes contexts (each of at least one token) and leaves the logits behind each in
    /// `logits`, (B, V). A row's logits must not depend on the other rows.
    fn prompts(&mut self, contexts: &[&[u32]], logits: &mut Vec<f32>) -> Vec<Self::Prompt>;

    /// A sequence that continues a context.
    fn sequence(&mut self, prompt: &Self::Prompt) -> Self::Sequence;

    /// Appends a token to each sequence and leaves the logits behind it in `logits`, (B, V); rows
    /// as in [`prompts`](Self::prompts).
    fn step(&mut self, sequences: &mut [Self::Sequence], tokens: &[u32], logits: &mut Vec<f32>);

    /// Takes back the memory of a sequence.
    fn end(&mut self, sequence: Self::Sequence);

    /// Lets go of memory that no sequence uses, down to `bytes`.
    fn keep_spare(&mut self, bytes: usize);

    /// Bytes that a context of so many tokens takes.
    fn prompt_bytes(&self, tokens: usize) -> usize;

    /// Bytes that so many tokens behind a context take.
    fn written_bytes(&self, tokens: usize) -> usize;
}

/// How completions are written.
#[derive(Clone, Copy)]
pub(crate) struct GenerationConfig<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) limits: Limits,
    /// Sequences written at a time.
    pub(crate) slots: usize,
    /// Bytes of keys and values.
    pub(crate) memory: usize,
}

/// Writes a completion for each request of the source, until no more come or it breaks. Several
/// workers may share what is behind their sources. A request that cannot be served fails alone.
pub(crate) fn generate<M: NextToken, S: Source>(
    model: &mut M,
    config: GenerationConfig<'_>,
    source: &mut S,
) {
    let slots = config.slots.max(1);
    let mut writer = Writer {
        model,
        config,
        source,
        preempted: Vec::new(),
        group: None,
        active: Vec::new(),
        sequences: Vec::new(),
        ended: (0, 0),
        logits: Vec::new(),
        scratch: sample::Scratch::default(),
    };
    // The fraction of slots that must be free before contexts are computed again: a few rows at
    // a time would leave the products half empty.
    let refill = (slots / 8).max(1);
    loop {
        let starved = writer.active.is_empty() || slots - writer.active.len() >= refill;
        if starved && writer.admit(slots).is_break() {
            return;
        }
        // Sequences may have ended with their first token while others still wait.
        if writer.active.is_empty() {
            let none_held = writer.group.is_none() && writer.preempted.is_empty();
            if none_held && !writer.source.wait() {
                return;
            }
            continue;
        }
        if writer.step().is_break() {
            return;
        }
    }
}

struct Writer<'a, M: NextToken, S: Source> {
    model: &'a mut M,
    config: GenerationConfig<'a>,
    source: &'a mut S,
    /// Requests that were preempted for older ones, the last to be taken up first.
    preempted: Vec<S::Request>,
    /// The requests that are next.
    group: Option<Group<M::Prompt, S::Request>>,
    /// In the order in which they were taken up.
    active: Vec<Slot<M::Prompt, S::Request>>,
    /// Of the active, in the same order.
    sequences: Vec<M::Sequence>,
    /// Completions that ended, and their tokens.
    ended: (usize, usize),
    logits: Vec<f32>,
    scratch: sample::Scratch,
}

/// Requests of one context that have no slot yet.
struct Group<P, R> {
    ids: Vec<u32>,
    waiting: VecDeque<R>,
    /// Where some of them have begun.
    computed: Option<Rc<Computed<P>>>,
}

/// A context and the logits behind it.
struct Computed<P> {
    prompt: P,
    logits: Vec<f32>,
    bytes: usize,
    /// Whether no text comes before the completion.
    first: bool,
}

/// A sequence being written.
struct Slot<P, R> {
    request: R,
    computed: Rc<Computed<P>>,
    /// Tokens that may follow the context.
    max_new_tokens: usize,
    text: Text,
    rng: Rng,
    /// Written and not yet computed.
    last: u32,
}

impl<M: NextToken, S: Source> Writer<'_, M, S> {
    /// Writes one token to every active sequence.
    fn step(&mut self) -> ControlFlow<()> {
        self.drop_unwanted();
        self.preempt();
        let tokens: Vec<u32> = self.active.iter().map(|slot| slot.last).collect();
        let mut logits = std::mem::take(&mut self.logits);
        self.model.step(&mut self.sequences, &tokens, &mut logits);
        // Backwards, so that the removal of an ended slot moves none that is still to come.
        for (slot, logits) in logits
            .chunks_exact(self.config.limits.vocabulary)
            .enumerate()
            .rev()
        {
            self.advance(slot, logits)?;
        }
        self.logits = logits;
        ControlFlow::Continue(())
    }

    /// Frees the slots of requests that nobody waits for any more.
    fn drop_unwanted(&mut self) {
        for slot in (0..self.active.len()).rev() {
            if !self.source.wanted(&self.active[slot].request) {
                self.remove(slot);
            }
        }
    }

    fn remove(&mut self, slot: usize) -> Slot<M::Prompt, S::Request> {
        let sequence = self.sequences.remove(slot);
        self.model.end(sequence);
        self.active.remove(slot)
    }

    /// Draws a slot's next token; a sequence that ends leaves its slot.
    fn advance(&mut self, slot: usize, logits: &[f32]) -> ControlFlow<()> {
        let writing = &mut self.active[slot];
        let tokenizer = self.config.tokenizer;
        let sampling = self.source.sampling(&writing.request);
        let mut end = None;
        let finish = if writing.max_new_tokens == 0 {
            Some(Finish::Length)
        } else {
            match sample::draw(logits, sampling, &mut writing.rng, &mut self.scratch) {
                None => return self.fail(slot),
                Some(drawn) => {
                    let n_top = self.source.n_top(&writing.request);
                    let top = sample::most_probable(logits, n_top, &mut self.scratch);
                    let written = written(drawn, top);
                    if tokenizer.stops().contains(&written.id) {
                        end = Some(written);
                        Some(Finish::Stop)
                    } else {
                        writing.last = written.id;
                        if writing.text.push(tokenizer, written, &sampling.stop) {
                            Some(Finish::Stop)
                        } else if writing.written() == writing.max_new_tokens {
                            Some(Finish::Length)
                        } else {
                            None
                        }
                    }
                }
            }
        };
        let Some(finish) = finish else {
            self.source.grown(&mut writing.request, &writing.text);
            return ControlFlow::Continue(());
        };
        let ended = self.remove(slot);
        self.ended.0 += 1;
        self.ended.1 += ended.written();
        let text = ended.text;
        self.source
            .ended(ended.request, Ok(Ended { text, finish, end }))
    }

    fn fail(&mut self, slot: usize) -> ControlFlow<()> {
        let failed = self.remove(slot);
        let reason = "the model's logits are not finite; its weights are damaged or its training \
                      diverged";
        self.source
            .ended(failed.request, Err(RowError::other(reason)))
    }
}

fn written(drawn: Drawn, top: Vec<(u32, f32)>) -> Written {
    Written {
        id: drawn.token,
        logprob: drawn.logprob,
        top,
    }
}

impl<P, R> Slot<P, R> {
    /// Tokens written so far; all are cached when the next is drawn.
    fn written(&self) -> usize {
        self.text.tokens.len()
    }
}

#[cfg(test)]
mod tests;
