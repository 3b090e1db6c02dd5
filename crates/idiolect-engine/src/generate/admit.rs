//! Which requests are taken up, within the memory for keys and values.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::rc::Rc;

use idiolect_model::{Rng, RowError};

use super::source::Source;
use super::text::Text;
use super::{Computed, Group, NextToken, Slot, Writer};

/// Tokens of contexts after which a refill computes what it has; bounds the memory of a refill.
const CONTEXT_TOKENS: usize = 2048;

/// Completions after which their mean length is what the next ones are expected to write.
const TYPICAL: usize = 8;

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
    pub(super) fn admit(&mut self, slots: usize) -> ControlFlow<()> {
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

    /// Sees to it that the next token of every active sequence fits the memory.
    pub(super) fn preempt(&mut self) {
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
}
