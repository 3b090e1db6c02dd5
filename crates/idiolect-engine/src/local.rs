//! A model in a directory, behind the three traits of the model interface: text in, text and scores
//! out.
//!
//! Glues what other modules do: [`encode`](crate::encode) makes rows of examples,
//! [`score`](crate::score) and [`train`](crate::train) compute on rows, `generate` writes.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, mpsc};

use idiolect_model::{
    Capabilities, Completion, Compute, Distribution, Example, Generate, GenerateRequest, Model,
    ModelError, ModelInfo, RowError, Sampling, Score, Scored, Sink, Template, TokenScore, Train,
};

use crate::batch::TokenRow;
use crate::decoder::Decoder;
use crate::encode::Row;
use crate::generate::queue::{Encoder, Queue, Queued};
use crate::generate::{GenerationConfig, NextToken, generate};
use crate::kv_cache::{
    PagePool, Prompt, Sequence, forward_prompts, forward_step, page_bytes, prompt_bytes,
};
use crate::model_config::ModelConfig;
use crate::peft;
use crate::sample;
use crate::score::{TargetScore, score_rows};
use crate::text::{Opening, TextModel};
use crate::threads::Threads;
use crate::workspace::Workspace;

mod adapted;
pub mod external;
mod gguf;
pub mod live;
mod training;

use adapted::Origin;
pub use training::{plan, pretrain, written_names};

/// A model loaded from a directory in Hugging Face layout.
pub struct LocalModel {
    text: TextModel,
    decoder: Decoder,
    threads: Threads,
    info: ModelInfo,
    /// Memory for keys and values while generating.
    kv_bytes: usize,
    origin: Origin,
}

/// The text side of a directory's model and what [`LocalModel::open`] would state of it, without the
/// memory that its weights take: they are read once, for their hash.
///
/// # Errors
/// As [`LocalModel::open`], but for weights that are not finite, which are not looked for.
pub fn identify(dir: &Path, opening: &Opening<'_>) -> Result<(TextModel, ModelInfo), ModelError> {
    let base = peft::base_directory(dir, opening.base)?;
    let weights_dir = base.as_deref().unwrap_or(dir);
    let mut text = TextModel::open(dir, opening)?;
    text.description.follow_head(weights_dir)?;
    let mut hash = text.description.hash_weights(weights_dir)?;
    if base.is_some() {
        let config = peft::read_config(dir)?;
        let (_, adapter) = peft::read(dir, &config, &text.description.config.model)?;
        hash = adapted::adapted_hash(&hash, &config.lora, &adapter);
    }
    let info = info(dir, &text, hash, opening.compute);
    Ok((text, info))
}

fn info(dir: &Path, text: &TextModel, hash: String, compute: Compute) -> ModelInfo {
    let name = dir.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    ModelInfo {
        hash,
        tokenizer_hash: text.hash(),
        template: text.template(),
        name,
        ignored_config_fields: text.description.set_aside(),
        compute,
        server: None,
    }
}

impl LocalModel {
    /// [`open`](Self::open) with a template and nothing else.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn load(
        dir: &Path,
        template: Option<Template>,
        threads: usize,
    ) -> Result<Self, ModelError> {
        let opening = Opening {
            template,
            ..Opening::default()
        };
        Self::open(dir, &opening, threads)
    }

    /// Loads `config.json`, the tokenizer and the weights of a directory; of an adapter directory
    /// config and weights are its base's, into which the adapter is merged, and tokenizer and
    /// template its own where it brings them.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for template `chat` of a model without one; otherwise names the
    /// file that is missing or damaged and what is wrong with it.
    pub fn open(dir: &Path, opening: &Opening<'_>, threads: usize) -> Result<Self, ModelError> {
        let base = peft::base_directory(dir, opening.base)?;
        let weights_dir = base.as_deref().unwrap_or(dir);
        let mut text = TextModel::open(dir, opening)?;
        text.description.follow_head(weights_dir)?;
        let description = &text.description;
        let (weights, hash) = description.read_weights(weights_dir)?;
        let decoder = Decoder::new(description.config.model.clone(), weights).map_err(|error| {
            ModelError::Invalid(format!("`{}`: {error}", weights_dir.display()))
        })?;
        let info = info(dir, &text, hash, opening.compute);
        let model = Self {
            decoder: decoder
                .with_compute(opening.compute)
                .map_err(|error| ModelError::Unsupported(error.to_string()))?,
            threads: pool(threads),
            info,
            kv_bytes: default_kv_bytes(),
            origin: Origin {
                dir: weights_dir.to_owned(),
                adapter: false,
            },
            text,
        };
        if base.is_some() {
            model.adapted(dir)
        } else {
            Ok(model)
        }
    }

    /// Sets the memory that generation may take for keys and values. Changes no text, only how
    /// many are written at a time, and which requests are too long to be served.
    pub fn set_kv_bytes(&mut self, bytes: usize) {
        self.kv_bytes = bytes;
    }

    /// What the decoder is made of.
    pub fn model_config(&self) -> &ModelConfig {
        self.decoder.config()
    }

    fn encode(&self, example: &Example) -> Result<Row, RowError> {
        self.text.encode(example)
    }
}

fn pool(threads: usize) -> Threads {
    Threads::new(NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN))
}

/// A quarter of the memory that is free now, between 256 MiB and 4 GiB; 1 GiB where the system does
/// not state it.
fn default_kv_bytes() -> usize {
    let free = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
            line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()
        });
    free.map_or(1 << 30, |kib| (kib << 10) / 4)
        .clamp(256 << 20, 4 << 30)
}

/// Tokens of rows that are made before they are scored: some dozen batches for each thread, and
/// little memory.
const SCORED_TOKENS: usize = 1 << 15;

impl Model for LocalModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: true,
            sampled_logprobs: true,
            score: true,
            ranks: true,
            entropies: true,
            gradients: true,
            deterministic: true,
        }
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Ok(self)
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Ok(self)
    }

    fn as_train(&mut self) -> Result<&mut dyn Train, ModelError> {
        Ok(self)
    }
}

impl Score for LocalModel {
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
    /// Scores rows whose examples begin at `first`.
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
                    (Ok(_), Err(fault)) => Err(RowError::other(fault.to_string())),
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
        Ok(row) => TokenRow::new(row.ids.clone(), row.completion_start),
        Err(_) => TokenRow::new(Vec::new(), 1),
    }
}

fn scored(row: &Row, scores: &[TargetScore]) -> Scored {
    let targets = row.ids[row.completion_start..]
        .iter()
        .zip(&row.byte_starts)
        .zip(scores);
    let tokens = targets
        .enumerate()
        .map(|(i, ((&token_id, &byte_start), score))| TokenScore {
            token_id,
            logprob: score.logprob,
            rank: Some(score.rank),
            distribution: Some(Distribution {
                entropy: score.entropy,
                varentropy: score.varentropy,
                sum_p2: score.sum_p2,
            }),
            byte_start,
            is_end: i + 1 == scores.len(),
        });
    Scored {
        tokens: tokens.collect(),
        traits: row.traits,
    }
}

/// Sequences that one worker writes at a time, as far as memory for keys and values lasts: enough
/// that reading the weights costs little beside computing with them. On a 135M model 96 gave 530
/// tokens a second, 128 580, 256 573.
const SLOTS: usize = 128;

/// Models of fewer parameters stay in each core's cache, so that cores do better writing texts of
/// their own than sharing products.
const SMALL: u128 = 8_000_000;

/// Sequences for each thread from which threads write texts of their own whatever the model's
/// size: a core is busy with so many columns, and nobody waits for anybody.
const BUSY: usize = 32;

impl Generate for LocalModel {
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        let threads = self.threads.n();
        let small = self.model_config().n_parameters() < SMALL;
        let workers = if small || requests.len() >= BUSY * threads {
            threads.min(requests.len()).max(1)
        } else {
            1
        };
        sample::check(sampling)?;
        let config = self.generation_config(workers);
        let encoder = Encoder {
            tokenizer: &self.text.description.tokenizer,
            chat: self.text.chat(),
            limits: self.text.description.limits(),
        };
        let queue = Queue::new(requests);
        let work = |threads: &Threads, sink: Sink<'_, Completion>| {
            let mut source = Queued {
                queue: &queue,
                encoder,
                sampling,
                sink,
            };
            generate(
                &mut Cached::new(&self.decoder, threads),
                config,
                &mut source,
            );
        };
        if workers == 1 {
            work(&self.threads, sink);
        } else {
            side_by_side(workers, sink, &|send| work(&Threads::single(), send));
        }
        Ok(())
    }
}

impl LocalModel {
    /// How each of some workers writes.
    fn generation_config(&self, workers: usize) -> GenerationConfig<'_> {
        GenerationConfig {
            tokenizer: &self.text.description.tokenizer,
            limits: self.text.description.limits(),
            slots: SLOTS,
            memory: self.kv_bytes / workers,
        }
    }
}

/// Workers with a thread each; their results pass through the caller's thread, as a sink belongs
/// to it.
fn side_by_side(
    workers: usize,
    sink: Sink<'_, Completion>,
    work: &(dyn Fn(Sink<'_, Completion>) + Sync),
) {
    // A sink that stops drops the receiver, and a worker that cannot send stops.
    let (sender, receiver) = mpsc::sync_channel::<(usize, Result<Completion, RowError>)>(1024);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let sender = sender.clone();
            scope.spawn(move || {
                work(&mut |index, result| match sender.send((index, result)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                });
            });
        }
        drop(sender);
        for (index, result) in receiver {
            if sink(index, result).is_break() {
                break;
            }
        }
    });
}

/// The decoder as generation asks for it.
struct Cached<'a> {
    decoder: &'a Decoder,
    threads: &'a Threads,
    workspace: Workspace,
    pages: PagePool,
}

impl<'a> Cached<'a> {
    fn new(decoder: &'a Decoder, threads: &'a Threads) -> Self {
        Self {
            decoder,
            threads,
            workspace: Workspace::new(),
            pages: PagePool::default(),
        }
    }
}

impl NextToken for Cached<'_> {
    type Prompt = Arc<Prompt>;
    type Sequence = Sequence;

    fn prompts(&mut self, contexts: &[&[u32]], logits: &mut Vec<f32>) -> Vec<Arc<Prompt>> {
        let Self {
            decoder,
            threads,
            workspace,
            ..
        } = self;
        let prompts = forward_prompts(decoder, workspace, contexts, threads, logits);
        prompts.into_iter().map(Arc::new).collect()
    }

    fn sequence(&mut self, prompt: &Arc<Prompt>) -> Sequence {
        Sequence::after(prompt)
    }

    fn step(&mut self, sequences: &mut [Sequence], tokens: &[u32], logits: &mut Vec<f32>) {
        let Self {
            decoder,
            threads,
            workspace,
            pages,
        } = self;
        forward_step(
            decoder, workspace, pages, sequences, tokens, threads, logits,
        );
    }

    fn end(&mut self, sequence: Sequence) {
        self.pages.reclaim(sequence);
    }

    fn keep_spare(&mut self, bytes: usize) {
        self.pages
            .keep(bytes / page_bytes(self.decoder.config(), 1));
    }

    fn prompt_bytes(&self, tokens: usize) -> usize {
        prompt_bytes(self.decoder.config(), tokens)
    }

    fn written_bytes(&self, tokens: usize) -> usize {
        page_bytes(self.decoder.config(), tokens)
    }
}

#[cfg(test)]
mod tests;
