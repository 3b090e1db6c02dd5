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

pub use source::Written;

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

/// Tokens of contexts after which a refill computes what it has; bounds the memory of a refill.
const CONTEXT_TOKENS: usize = 2048;

/// Completions after which their mean length is what the next ones are expected to write.
const TYPICAL: usize = 8;

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
/// workers may share what stands behind their sources. A request that cannot be served fails alone.
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

/// Refuses what needs more bytes of keys and values than there are: a context of so many tokens, and
/// so many more.
pub(crate) fn within(
    bytes: usize,
    memory: usize,
    (context, max_new_tokens): (usize, usize),
) -> Result<(), RowError> {
    if bytes <= memory {
        return Ok(());
    }
    Err(RowError::other(format!(
        "a prompt of {context} tokens and up to {max_new_tokens} more need {} MiB of keys and \
         values, and {} MiB are set aside for them; allow fewer tokens (--max-tokens) or more \
         memory (--kv-memory)",
        bytes.div_ceil(1 << 20),
        memory >> 20
    )))
}

/// The group that is next, if one is.
type Next<P, R> = Option<Group<P, R>>;

/// A group of which some requests are taken up.
type Begun<P, R> = (Group<P, R>, Vec<R>);

impl<M: NextToken, S: Source> Writer<'_, M, S> {
    /// Takes up requests while slots and memory last, computes their contexts and writes their
    /// first tokens.
    fn admit(&mut self, slots: usize) -> ControlFlow<()> {
        let (mut free, mut tokens) = (slots - self.active.len(), 0);
        let mut promised =
            self.bytes(|slot| self.expected(slot.max_new_tokens).max(slot.written()));
        let mut begun: Vec<Begun<M::Prompt, S::Request>> = Vec::new();
        while free > 0 && tokens < CONTEXT_TOKENS {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => match self.next_group()? {
                    Some(group) => group,
                    None => break,
                },
            };
            let mut context = match group.computed {
                None => self.model.prompt_bytes(group.ids.len()),
                Some(_) => 0,
            };
            let mut taken = Vec::new();
            while let Some(request) = group.waiting.front() {
                let own = self.expected(self.max_new_tokens(request, group.ids.len()));
                let cost = context + self.model.written_bytes(own);
                let alone = self.active.is_empty() && begun.is_empty() && taken.is_empty();
                if free == 0 || (promised + cost > self.config.memory && !alone) {
                    break;
                }
                taken.extend(group.waiting.pop_front());
                (free, promised, context) = (free - 1, promised + cost, 0);
            }
            if taken.is_empty() {
                self.group = Some(group);
                break;
            }
            if group.computed.is_none() {
                tokens += group.ids.len();
            }
            let whole = group.waiting.is_empty();
            begun.push((group, taken));
            if !whole {
                break;
            }
        }
        self.compute(&mut begun);
        for (group, taken) in begun {
            self.start(&group, taken)?;
            if !group.waiting.is_empty() {
                self.group = Some(group);
            }
        }
        ControlFlow::Continue(())
    }

    /// The next requests of one context that can be served; the others are refused.
    fn next_group(&mut self) -> ControlFlow<(), Next<M::Prompt, S::Request>> {
        loop {
            let mut waiting = match self.preempted.pop() {
                Some(request) => VecDeque::from([request]),
                None => self.source.claim(),
            };
            let Some(first) = waiting.front() else {
                return ControlFlow::Continue(None);
            };
            let ids = match self.source.encode(first) {
                Ok(ids) => ids,
                Err(error) => {
                    for request in waiting {
                        self.source.ended(request, Err(error.clone()))?;
                    }
                    continue;
                }
            };
            while let Some(next) = self
                .preempted
                .pop_if(|request| self.source.same_context(request, &waiting[0]))
            {
                waiting.push_back(next);
            }
            let mut group = Group {
                waiting: VecDeque::with_capacity(waiting.len()),
                ids,
                computed: None,
            };
            for request in waiting {
                match self.fits(&request, group.ids.len()) {
                    Ok(()) => group.waiting.push_back(request),
                    Err(error) => self.source.ended(request, Err(error))?,
                }
            }
            if !group.waiting.is_empty() {
                return ControlFlow::Continue(Some(group));
            }
        }
    }

    /// Tokens that may follow a context.
    fn max_new_tokens(&self, request: &S::Request, context: usize) -> usize {
        let left = self.config.limits.max_position_embeddings - context;
        self.source.sampling(request).max_tokens.min(left)
    }

    /// Whether the memory holds one sequence alone, as long as it may become.
    fn fits(&self, request: &S::Request, context: usize) -> Result<(), RowError> {
        let max_new_tokens = self.max_new_tokens(request, context);
        let bytes = self.model.prompt_bytes(context) + self.model.written_bytes(max_new_tokens);
        within(bytes, self.config.memory, (context, max_new_tokens))
    }

    /// Tokens that a completion is expected to have: all it may, until some have ended.
    fn expected(&self, max_new_tokens: usize) -> usize {
        let (n, tokens) = self.ended;
        if n < TYPICAL {
            return max_new_tokens;
        }
        (tokens + tokens / 4).div_ceil(n).min(max_new_tokens)
    }

    /// Bytes of all contexts that are held, and of sequences with so many tokens.
    fn bytes(&self, tokens: impl Fn(&Slot<M::Prompt, S::Request>) -> usize) -> usize {
        let mut prompts: Vec<&Rc<Computed<M::Prompt>>> =
            self.active.iter().map(|slot| &slot.computed).collect();
        prompts.extend(
            self.group
                .iter()
                .filter_map(|group| group.computed.as_ref()),
        );
        // Sequences of one context follow each other.
        prompts.dedup_by(|a, b| Rc::ptr_eq(a, b));
        let prompts: usize = prompts.iter().map(|computed| computed.bytes).sum();
        let written = self.active.iter().map(&tokens);
        prompts + written.map(|n| self.model.written_bytes(n)).sum::<usize>()
    }

    fn compute(&mut self, begun: &mut [Begun<M::Prompt, S::Request>]) {
        let held = self.bytes(Slot::written);
        let mut new: Vec<&mut Group<M::Prompt, S::Request>> = begun
            .iter_mut()
            .map(|(group, _)| group)
            .filter(|group| group.computed.is_none())
            .collect();
        if new.is_empty() {
            return;
        }
        let contexts: Vec<&[u32]> = new.iter().map(|group| &group.ids[..]).collect();
        let bytes = contexts
            .iter()
            .map(|ids| self.model.prompt_bytes(ids.len()));
        let spare = self
            .config
            .memory
            .saturating_sub(held + bytes.sum::<usize>());
        self.model.keep_spare(spare);
        let prompts = self.model.prompts(&contexts, &mut self.logits);
        let logits = self.logits.chunks_exact(self.config.limits.vocabulary);
        for ((group, prompt), logits) in new.iter_mut().zip(prompts).zip(logits) {
            group.computed = Some(Rc::new(Computed {
                prompt,
                logits: logits.to_vec(),
                bytes: self.model.prompt_bytes(group.ids.len()),
                first: !self.config.tokenizer.any_text(&group.ids),
            }));
        }
    }

    /// Gives each request a slot behind its context, and writes the first token.
    fn start(
        &mut self,
        group: &Group<M::Prompt, S::Request>,
        requests: Vec<S::Request>,
    ) -> ControlFlow<()> {
        let Some(computed) = &group.computed else {
            return ControlFlow::Continue(());
        };
        let slots = self.active.len()..self.active.len() + requests.len();
        for request in requests {
            self.sequences.push(self.model.sequence(&computed.prompt));
            self.active.push(Slot {
                computed: Rc::clone(computed),
                max_new_tokens: self.max_new_tokens(&request, group.ids.len()),
                text: Text::new(computed.first),
                rng: Rng::keyed(self.source.seed(&request), &["generate"]),
                last: 0,
                request,
            });
        }
        for slot in slots.rev() {
            self.advance(slot, &computed.logits)?;
        }
        ControlFlow::Continue(())
    }

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

    /// Sees to it that the next token of every active sequence fits the memory.
    fn preempt(&mut self) {
        loop {
            let held = self.bytes(Slot::written);
            if held <= self.config.memory || self.active.len() <= 1 {
                if held > self.config.memory
                    && let Some(group) = &mut self.group
                {
                    group.computed = None;
                }
                return self
                    .model
                    .keep_spare(self.config.memory.saturating_sub(held));
            }
            let youngest = self.active.len() - 1;
            let request = self.remove(youngest).request;
            self.preempted.push(request);
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
