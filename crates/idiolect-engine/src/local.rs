//! A model in a directory, behind the three traits of the model seam: text in, text and scores
//! out.
//!
//! Glues what other modules do: [`encode`](crate::encode) makes rows of examples,
//! [`score`](crate::score) and [`train`](crate::train) compute on rows, `generate` writes. Renders
//! template `raw` only.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::mpsc;

use idiolect_core::model::{
    Completion, Context, Example, Generate, GenerateRequest, ModelError, ModelInfo, RowError,
    Sampling, Score, Scored, Sink, Template, TokenScore,
};

use crate::batch::TokenRow;
use crate::cached::{KvCache, forward_cached};
use crate::decoder::{Decoder, Workspace};
use crate::directory::Description;
use crate::encode::{Row, encode_example};
use crate::facts::Facts;
use crate::generate::{Manner, NextToken, Queue, generate};
use crate::score::{TargetScore, score_rows};
use crate::threads::Threads;

mod training;

pub use training::pretrain;

/// A model loaded from a directory in Hugging Face layout.
pub struct LocalModel {
    description: Description,
    decoder: Decoder,
    threads: Threads,
    info: ModelInfo,
}

impl LocalModel {
    /// Loads `config.json`, the tokenizer and the weights of a directory. Without `template` the
    /// default is taken: `chat` where the model brings a chat template, else `raw`.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for template `chat`, which is not rendered yet; otherwise names
    /// the file that is missing or damaged and what is wrong with it.
    pub fn load(
        dir: &Path,
        template: Option<Template>,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let description = Description::read(dir)?;
        let template = template.unwrap_or_else(|| description.default_template());
        if template == Template::Chat {
            return Err(ModelError::Unsupported(format!(
                "`{}`: chat templates come with a later version; `--template raw` works",
                dir.display()
            )));
        }
        let (parameters, hash) = description.read_weights(dir)?;
        let decoder = Decoder::new(description.config.facts.clone(), parameters)
            .map_err(|error| ModelError::Invalid(format!("`{}`: {error}", dir.display())))?;
        let name = dir.file_name().map_or_else(
            || "model".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        let tokenizer_hash = description.tokenizer.hash().to_owned();
        let info = ModelInfo {
            hash,
            tokenizer_hash,
            template,
            name,
        };
        Ok(Self {
            description,
            decoder,
            threads: pool(threads),
            info,
        })
    }

    /// Facts about the model.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What the decoder is made of.
    pub fn facts(&self) -> &Facts {
        self.decoder.facts()
    }

    fn encode(&self, example: &Example) -> Result<Row, RowError> {
        encode_example(
            &self.description.tokenizer,
            self.description.limits(),
            example,
        )
    }
}

fn pool(threads: usize) -> Threads {
    Threads::new(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN))
}

/// Tokens of rows that are made before they are scored: some dozen batches for each thread, and
/// little memory.
const SCORED_TOKENS: usize = 1 << 15;

impl Score for LocalModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError> {
        let mut start = 0;
        while start < examples.len() {
            let mut rows = Vec::new();
            let mut tokens = 0;
            for example in &examples[start..] {
                if tokens >= SCORED_TOKENS * self.threads.n() {
                    break;
                }
                let row = self.encode(example);
                tokens += row.as_ref().map_or(0, |row| row.ids.len());
                rows.push(row);
            }
            let next = start + rows.len();
            if self.score_rows(start, rows, sink).is_break() {
                return Ok(());
            }
            start = next;
        }
        Ok(())
    }
}

impl LocalModel {
    /// Scores rows whose examples stand from `first` on.
    fn score_rows(
        &self,
        first: usize,
        rows: Vec<Result<Row, RowError>>,
        sink: Sink<'_, Scored>,
    ) -> ControlFlow<()> {
        // A refused row keeps its place as a row without targets, so that order is kept.
        let token_rows: Vec<TokenRow> = rows.iter().map(token_row).collect();
        let mut flow = ControlFlow::Continue(());
        score_rows(
            &self.decoder,
            &token_rows,
            &self.threads,
            &mut |i, scores| {
                let result = match (&rows[i], scores) {
                    (Err(refused), _) => Err(refused.clone()),
                    (Ok(_), Err(fault)) => Err(RowError {
                        reason: fault.to_string(),
                    }),
                    (Ok(row), Ok(scores)) => Ok(scored(row, scores)),
                };
                flow = sink(first + i, result);
                flow
            },
        );
        flow
    }
}

fn token_row(row: &Result<Row, RowError>) -> TokenRow {
    match row {
        Ok(row) => TokenRow {
            ids: row.ids.clone(),
            first_target: row.first_target,
            weight: 1.0,
        },
        Err(_) => TokenRow {
            ids: Vec::new(),
            first_target: 1,
            weight: 0.0,
        },
    }
}

fn scored(row: &Row, scores: &[TargetScore]) -> Scored {
    let targets = row.ids[row.first_target..]
        .iter()
        .zip(&row.byte_starts)
        .zip(scores);
    let tokens = targets
        .enumerate()
        .map(|(i, ((&token_id, &byte_start), score))| TokenScore {
            token_id,
            logprob: score.logprob,
            rank: score.rank,
            entropy: score.entropy,
            varentropy: score.varentropy,
            sum_p2: score.sum_p2,
            byte_start,
            is_end: i + 1 == scores.len(),
        });
    Scored {
        tokens: tokens.collect(),
        straddled: row.straddled,
    }
}

/// Sequences that one worker writes at a time, if their keys and values fit [`CACHE_BYTES`].
const SLOTS: usize = 64;

/// Memory for keys and values of all workers.
const CACHE_BYTES: usize = 256 << 20;

/// Models of fewer parameters stay in each core's cache, so that cores do better writing texts of
/// their own than sharing products.
const SMALL: u128 = 8_000_000;

impl Generate for LocalModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        let small = self.facts().n_parameters() < SMALL;
        let workers = if small {
            self.threads.n().min(requests.len()).max(1)
        } else {
            1
        };
        let manner = Manner {
            tokenizer: &self.description.tokenizer,
            limits: self.description.limits(),
            sampling,
            slots: slots(self.facts(), self.positions(requests, sampling), workers),
        };
        let queue = Queue::new(requests);
        if workers == 1 {
            return generate(
                &mut Cached::new(&self.decoder, &self.threads),
                manner,
                &queue,
                sink,
            );
        }
        side_by_side(&self.decoder, workers, manner, &queue, sink)
    }
}

impl LocalModel {
    /// No request needs more positions than this: a token stands for a byte at least, but for the
    /// special tokens before a text.
    fn positions(&self, requests: &[GenerateRequest], sampling: &Sampling) -> usize {
        let bytes = |request: &GenerateRequest| match &request.context {
            Context::Prompt(prompt) => prompt.len(),
            Context::Messages(messages) => messages.iter().map(|m| m.content.len()).sum(),
        };
        let longest = requests
            .iter()
            .map(bytes)
            .max()
            .unwrap_or(0)
            .saturating_add(8);
        longest
            .saturating_add(sampling.max_tokens)
            .min(self.description.config.positions)
    }
}

/// As many sequences as the memory for keys and values holds.
fn slots(facts: &Facts, positions: usize, workers: usize) -> usize {
    // Capacities grow by half, and a head's values take whole lines of 16.
    let width = facts.head_width + facts.head_width.next_multiple_of(16);
    let bytes = facts.layers * facts.kv_heads * width * positions * 3 / 2 * size_of::<f32>();
    (CACHE_BYTES / workers / bytes.max(1)).clamp(1, SLOTS)
}

/// Workers with a thread each write from one queue; their results pass through the caller's
/// thread, as a sink belongs to it.
fn side_by_side(
    decoder: &Decoder,
    workers: usize,
    manner: Manner<'_>,
    queue: &Queue<'_>,
    sink: Sink<'_, Completion>,
) -> Result<(), ModelError> {
    // A sink that stops drops the receiver, and a worker that cannot send stops.
    let (sender, receiver) = mpsc::sync_channel::<(usize, Result<Completion, RowError>)>(1024);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|_| {
                let sender = sender.clone();
                scope.spawn(move || {
                    let threads = Threads::single();
                    let mut send = |index, result| match sender.send((index, result)) {
                        Ok(()) => ControlFlow::Continue(()),
                        Err(_) => ControlFlow::Break(()),
                    };
                    generate(
                        &mut Cached::new(decoder, &threads),
                        manner,
                        queue,
                        &mut send,
                    )
                })
            })
            .collect();
        drop(sender);
        for (index, result) in receiver {
            if sink(index, result).is_break() {
                break;
            }
        }
        handles
            .into_iter()
            .try_for_each(|handle| match handle.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

/// The decoder as generation asks for it.
struct Cached<'a> {
    decoder: &'a Decoder,
    threads: &'a Threads,
    workspace: Workspace,
}

impl<'a> Cached<'a> {
    fn new(decoder: &'a Decoder, threads: &'a Threads) -> Self {
        Self {
            decoder,
            threads,
            workspace: Workspace::new(),
        }
    }
}

impl NextToken for Cached<'_> {
    type Cache = KvCache;

    fn cache(&mut self) -> KvCache {
        KvCache::new(self.decoder.facts())
    }

    fn feed(&mut self, caches: &mut [KvCache], tokens: &[&[u32]], logits: &mut Vec<f32>) {
        forward_cached(
            self.decoder,
            &mut self.workspace,
            caches,
            tokens,
            self.threads,
            logits,
        );
    }
}

#[cfg(test)]
mod tests;
