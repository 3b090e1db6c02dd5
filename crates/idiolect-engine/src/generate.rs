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
//! behind [`NextToken`], which the tests replace by a table.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use idiolect_model::{
    Completion, Context, Finish, GenerateRequest, ModelError, Rng, RowError, Sampling, Sink,
};

use crate::encode::{Limits, encode_chat_context, encode_context};
use crate::sample::{self, Drawn};
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

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

/// Most requests of one context that are handed out together, so that no worker gets them all.
const GROUP: usize = 64;

/// Completions after which their mean length is what the next ones are expected to write.
const TYPICAL: usize = 8;

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

/// How completions are written.
#[derive(Clone, Copy)]
pub(crate) struct GenerationConfig<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    /// Renders contexts, where one does.
    pub(crate) chat: Option<&'a ChatTemplate>,
    pub(crate) limits: Limits,
    pub(crate) sampling: &'a Sampling,
    /// Sequences written at a time.
    pub(crate) slots: usize,
    /// Bytes of keys and values.
    pub(crate) memory: usize,
}

impl GenerationConfig<'_> {
    fn encode(&self, context: &Context) -> Result<Vec<u32>, RowError> {
        match self.chat {
            Some(chat) => encode_chat_context(self.tokenizer, chat, self.limits, context),
            None => encode_context(self.tokenizer, self.limits, context),
        }
    }
}

/// Writes a completion for each request of the queue. Several workers may share a queue.
///
/// # Errors
/// When the sampling settings mean nothing. A request that cannot be served fails alone.
pub(crate) fn generate<M: NextToken>(
    model: &mut M,
    config: GenerationConfig<'_>,
    queue: &Queue<'_>,
    sink: Sink<'_, Completion>,
) -> Result<(), ModelError> {
    sample::check(config.sampling)?;
    let slots = config.slots.max(1);
    let mut writer = Writer {
        model,
        config,
        queue,
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
        if starved && writer.admit(slots, sink).is_break() {
            return Ok(());
        }
        // Sequences may have ended with their first token while others still wait.
        if writer.active.is_empty() {
            if writer.group.is_none() && writer.preempted.is_empty() && queue.is_empty() {
                return Ok(());
            }
            continue;
        }
        if writer.step(sink).is_break() {
            return Ok(());
        }
    }
}

struct Writer<'a, M: NextToken> {
    model: &'a mut M,
    config: GenerationConfig<'a>,
    queue: &'a Queue<'a>,
    /// Requests that were preempted for older ones, the last to be taken up first.
    preempted: Vec<usize>,
    /// The requests that are next.
    group: Option<Group<M::Prompt>>,
    /// In the order in which they were taken up.
    active: Vec<Slot<M::Prompt>>,
    /// Of the active, in the same order.
    sequences: Vec<M::Sequence>,
    /// Completions that ended, and their tokens.
    ended: (usize, usize),
    logits: Vec<f32>,
    scratch: sample::Scratch,
}

/// Requests of one context that have no slot yet.
struct Group<P> {
    ids: Vec<u32>,
    waiting: VecDeque<usize>,
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
    /// Tokens that may follow.
    max_new_tokens: usize,
}

/// A sequence being written.
struct Slot<P> {
    request: usize,
    computed: Rc<Computed<P>>,
    text: Text,
    rng: Rng,
    /// Written and not yet computed.
    last: u32,
}

impl<M: NextToken> Writer<'_, M> {
    /// Takes up requests while slots and memory last, computes their contexts and writes their
    /// first tokens.
    fn admit(&mut self, slots: usize, sink: Sink<'_, Completion>) -> ControlFlow<()> {
        let (mut free, mut tokens) = (slots - self.active.len(), 0);
        let mut promised = self.bytes(|slot| {
            self.expected(slot.computed.max_new_tokens)
                .max(slot.written())
        });
        let mut begun: Vec<(Group<M::Prompt>, Vec<usize>)> = Vec::new();
        while free > 0 && tokens < CONTEXT_TOKENS {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => match self.next_group(sink)? {
                    Some(group) => group,
                    None => break,
                },
            };
            let own = self.expected(self.max_new_tokens(group.ids.len()));
            let own = self.model.written_bytes(own);
            let mut cost = own;
            if group.computed.is_none() {
                cost += self.model.prompt_bytes(group.ids.len());
            }
            let mut taken = Vec::new();
            while let Some(&request) = group.waiting.front() {
                let alone = self.active.is_empty() && begun.is_empty() && taken.is_empty();
                if free == 0 || (promised + cost > self.config.memory && !alone) {
                    break;
                }
                group.waiting.pop_front();
                taken.push(request);
                (free, promised, cost) = (free - 1, promised + cost, own);
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
            self.start(&group, &taken, sink)?;
            if !group.waiting.is_empty() {
                self.group = Some(group);
            }
        }
        ControlFlow::Continue(())
    }

    /// The next requests of one context that can be served; the others are refused.
    fn next_group(
        &mut self,
        sink: Sink<'_, Completion>,
    ) -> ControlFlow<(), Option<Group<M::Prompt>>> {
        let requests = self.queue.requests;
        loop {
            let waiting: VecDeque<usize> = match self.preempted.pop() {
                Some(request) => std::iter::once(request).collect(),
                None => match self.queue.claim() {
                    Some(group) => group.collect(),
                    None => return ControlFlow::Continue(None),
                },
            };
            let context = &requests[waiting[0]].context;
            let ids = self
                .config
                .encode(context)
                .and_then(|ids| self.fits(ids.len()).map(|()| ids));
            match ids {
                Ok(ids) => {
                    let mut group = Group {
                        ids,
                        waiting,
                        computed: None,
                    };
                    while let Some(request) = self
                        .preempted
                        .pop_if(|request| requests[*request].context == *context)
                    {
                        group.waiting.push_back(request);
                    }
                    return ControlFlow::Continue(Some(group));
                }
                Err(error) => {
                    for request in waiting {
                        if sink(request, Err(error.clone())).is_break() {
                            return ControlFlow::Break(());
                        }
                    }
                }
            }
        }
    }

    /// Tokens that may follow a context.
    fn max_new_tokens(&self, context: usize) -> usize {
        self.config
            .sampling
            .max_tokens
            .min(self.config.limits.max_position_embeddings - context)
    }

    /// Whether the memory holds one sequence alone, as long as it may become.
    fn fits(&self, context: usize) -> Result<(), RowError> {
        let max_new_tokens = self.max_new_tokens(context);
        let bytes = self.model.prompt_bytes(context) + self.model.written_bytes(max_new_tokens);
        if bytes <= self.config.memory {
            return Ok(());
        }
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        Err(RowError::other(format!(
            "a prompt of {context} tokens and up to {max_new_tokens} more need {} MiB of keys and \
                 values, and {} MiB are set aside for them; allow fewer tokens (--max-tokens) or \
                 more memory (--kv-memory)",
            mib(bytes),
            self.config.memory >> 20
        )))
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
    fn bytes(&self, tokens: impl Fn(&Slot<M::Prompt>) -> usize) -> usize {
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

    fn compute(&mut self, begun: &mut [(Group<M::Prompt>, Vec<usize>)]) {
        let held = self.bytes(Slot::written);
        let mut new: Vec<&mut Group<M::Prompt>> = begun
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
                max_new_tokens: self.max_new_tokens(group.ids.len()),
            }));
        }
    }

    /// Gives each request a slot behind its context, and writes the first token.
    fn start(
        &mut self,
        group: &Group<M::Prompt>,
        requests: &[usize],
        sink: Sink<'_, Completion>,
    ) -> ControlFlow<()> {
        let Some(computed) = &group.computed else {
            return ControlFlow::Continue(());
        };
        let slots = self.active.len()..self.active.len() + requests.len();
        for &request in requests {
            self.sequences.push(self.model.sequence(&computed.prompt));
            self.active.push(Slot {
                request,
                computed: Rc::clone(computed),
                text: Text::new(computed.first),
                rng: Rng::keyed(self.queue.requests[request].seed, &["generate"]),
                last: 0,
            });
        }
        for slot in slots.rev() {
            self.advance(slot, &computed.logits, sink)?;
        }
        ControlFlow::Continue(())
    }

    /// Writes one token to every active sequence.
    fn step(&mut self, sink: Sink<'_, Completion>) -> ControlFlow<()> {
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
            self.advance(slot, logits, sink)?;
        }
        self.logits = logits;
        ControlFlow::Continue(())
    }

    /// Sees to it that the next token of every active sequence fits the memory.
    fn preempt(&mut self) {
        loop {
            let held = self.bytes(Slot::written);
            if held <= self.config.memory || self.active.len() == 1 {
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

    fn remove(&mut self, slot: usize) -> Slot<M::Prompt> {
        let sequence = self.sequences.remove(slot);
        self.model.end(sequence);
        self.active.remove(slot)
    }

    /// Draws a slot's next token; a sequence that ends leaves its slot.
    fn advance(
        &mut self,
        slot: usize,
        logits: &[f32],
        sink: Sink<'_, Completion>,
    ) -> ControlFlow<()> {
        let writing = &mut self.active[slot];
        let (tokenizer, sampling) = (self.config.tokenizer, self.config.sampling);
        let finish = if writing.computed.max_new_tokens == 0 {
            Some(Finish::Length)
        } else {
            match sample::draw(logits, sampling, &mut writing.rng, &mut self.scratch) {
                None => return self.fail(slot, sink),
                Some(drawn) if tokenizer.stops().contains(&drawn.token) => Some(Finish::Stop),
                Some(drawn) => {
                    writing.last = drawn.token;
                    if writing.text.push(tokenizer, drawn, &sampling.stop) {
                        Some(Finish::Stop)
                    } else if writing.written() == writing.computed.max_new_tokens {
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
        let ended = self.remove(slot);
        self.ended.0 += 1;
        self.ended.1 += ended.written();
        sink(ended.request, Ok(ended.text.complete(finish)))
    }

    fn fail(&mut self, slot: usize, sink: Sink<'_, Completion>) -> ControlFlow<()> {
        let failed = self.remove(slot);
        let reason = "the model's logits are not finite; its weights are damaged or its training \
                      diverged";
        sink(failed.request, Err(RowError::other(reason)))
    }
}

impl<P> Slot<P> {
    /// Tokens written so far; all are cached when the next is drawn.
    fn written(&self) -> usize {
        self.text.logprobs.len()
    }
}

/// The text of a completion while it grows.
struct Text {
    bytes: Vec<u8>,
    /// Where each token's bytes begin.
    starts: Vec<usize>,
    logprobs: Vec<f32>,
    /// Whether no text comes before the next token.
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
