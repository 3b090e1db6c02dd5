//! The model interface: what a language model can be asked, and the plain values that cross.
//!
//! A local engine, a remote endpoint and the scripted fake implement the same three traits.
//! Slices in, results out through a sink, one entry may fail alone; batching and concurrency are
//! the implementer's business. A sink gets each index exactly once, in any order, and may stop the
//! work by returning [`ControlFlow::Break`].

pub mod scripted;

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use crate::record::{Finish, content_hash};
pub use crate::rng::Rng;

/// How a prompt is rendered before it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Template {
    /// The text as it is, with the tokenizer's own special tokens.
    Raw,
    /// The model's chat template.
    Chat,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// Everything else that the turn's row says, for chat templates that render it: `name`,
    /// `reasoning_content`, `tool_calls`, …
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Message {
    /// A turn of a role and what it said.
    pub fn new(role: &str, content: &str) -> Self {
        Self {
            role: role.to_owned(),
            content: content.to_owned(),
            fields: Map::new(),
        }
    }
}

/// What an example gives a chat template beside the turns that its completion follows. Template
/// `raw` renders none of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatFields {
    /// Variables of the conversation: `tools`, `documents`, and others by their names.
    pub variables: Map<String, Value>,
    /// Further fields of the completion's own turn, such as `reasoning_content`.
    pub answer: Map<String, Value>,
}

/// What a completion follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A prompt: raw text, or the user turn of a chat template.
    Prompt(String),
    /// A conversation up to the assistant's turn.
    Messages(Vec<Message>),
}

/// Facts about a model that every result carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Hash of weights and settings.
    pub hash: String,
    /// Hash of the tokenizer (and template, where one renders); empty for a fake.
    pub tokenizer_hash: String,
    /// How prompts are rendered.
    pub template: Template,
    /// A name for people; never a path.
    pub name: String,
    /// Fields of its config that the caller had set aside as unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_config_fields: Vec<String>,
}

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens at least this share as probable as the most probable; 0 keeps all.
    pub min_p: f32,
    /// Stop after this many tokens with finish `length`.
    pub max_tokens: usize,
    /// Texts that end the completion and are cut from it.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_tokens: 512,
            stop: Vec::new(),
        }
    }
}

/// One completion to write. The same request gives the same text, whatever it is batched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateRequest {
    /// What to continue.
    pub context: Context,
    /// Seeds this request's own generator.
    pub seed: u64,
}

/// One completion written.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text, without prompt, end token and stop string.
    pub text: String,
    /// `stop` or `length`.
    pub finish: Finish,
    /// Log-probabilities under the untempered model of the tokens written, the end token not
    /// included; nats. Empty where the model does not give them.
    pub logprobs: Vec<f32>,
    /// Tokens written, the end token not counted.
    pub n_tokens: usize,
}

/// An example to score or to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What the completion follows.
    pub context: Context,
    /// The text that is scored or trained on.
    pub completion: String,
    /// Weight of its tokens in the training loss; scoring ignores it.
    pub weight: f32,
    /// Loss mask: parts of the completion that are trained on or not; scoring ignores them. What
    /// lies in none is trained on, and so is the end token.
    pub spans: Vec<Span>,
    /// What a chat template is given beside the turns.
    pub chat: ChatFields,
}

impl Example {
    /// A completion after its context, all of it trained on, at weight 1.
    pub fn new(context: Context, completion: &str) -> Self {
        Self {
            context,
            completion: completion.to_owned(),
            weight: 1.0,
            spans: Vec::new(),
            chat: ChatFields::default(),
        }
    }
}

/// A part of a completion, which takes part in the training loss or not. A token belongs to it if
/// the token's first byte does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First byte, from the first byte of the completion.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Whether its tokens are targets.
    pub train: bool,
}

/// What the student finds of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// Token id.
    pub token_id: u32,
    /// Log-probability, nats.
    pub logprob: f32,
    /// 1 + the number of tokens with a strictly larger logit.
    pub rank: u32,
    /// Entropy of the distribution it was drawn from, nats.
    pub entropy: f32,
    /// Σ p (ln p)² − entropy², nats².
    pub varentropy: f32,
    /// Σ p².
    pub sum_p2: f32,
    /// Offset of its first byte from the first byte of the completion; the end token has the
    /// completion's length.
    pub byte_start: u32,
    /// Whether it is the end token.
    pub is_end: bool,
}

/// The scores of one example: its completion's tokens, then the end token.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// In text order.
    pub tokens: Vec<TokenScore>,
    /// How its row was made.
    pub traits: RowTraits,
}

/// What a person should know of how a row was made of its example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTraits {
    /// A token straddled the border of prompt and completion (it counts as prompt).
    pub straddled: bool,
    /// The completion's text already ended in an end token, which the row holds once.
    pub end_in_text: bool,
    /// The chat template renders the finished answer after another text than the prompt that asks
    /// for it (`add_generation_prompt`); the row begins with that prompt, as generation does.
    pub other_prompt: bool,
}

/// How many rows have which traits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraitCounts {
    /// Rows in all.
    pub rows: u64,
    /// See [`RowTraits::straddled`].
    pub straddled: u64,
    /// See [`RowTraits::end_in_text`].
    pub end_in_text: u64,
    /// See [`RowTraits::other_prompt`].
    pub other_prompt: u64,
}

impl TraitCounts {
    /// Counts a row.
    pub fn add(&mut self, traits: RowTraits) {
        self.rows += 1;
        self.straddled += u64::from(traits.straddled);
        self.end_in_text += u64::from(traits.end_in_text);
        self.other_prompt += u64::from(traits.other_prompt);
    }

    /// Adds the counts of further rows.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.straddled += other.straddled;
        self.end_in_text += other.end_in_text;
        self.other_prompt += other.other_prompt;
    }

    /// A sentence for each trait that some row has.
    pub fn notes(&self) -> Vec<String> {
        let of =
            |n: u64, what: &str| (n > 0).then(|| format!("in {n} of {} rows {what}", self.rows));
        [
            of(
                self.straddled,
                "a token straddles the border of prompt and completion; it counts as prompt. A \
                 prompt that ends in a space or line break often causes this",
            ),
            of(
                self.end_in_text,
                "the completion's text already ends in an end token; the row holds that token once",
            ),
            of(
                self.other_prompt,
                "the chat template renders the finished answer after another text than the prompt \
                 that asks for it (add_generation_prompt); the row holds the prompt that asks, as \
                 generation does, and `idiolect inspect` shows it",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Why one row got no result; the others are unaffected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct RowError {
    /// What kind of fault it is, for counts over many rows.
    pub kind: RowErrorKind,
    /// What is wrong with this row, and what to do.
    pub reason: String,
}

impl RowError {
    /// A fault of a kind that has no name of its own.
    pub fn other(reason: impl Into<String>) -> Self {
        Self {
            kind: RowErrorKind::Other,
            reason: reason.into(),
        }
    }
}

/// Kinds of faults of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowErrorKind {
    /// It needs more tokens than the model, or a setting, allows.
    TooLong,
    /// No token of the completion is left to score or to train on.
    NoTarget,
    /// The chat template does not render it.
    Template,
    /// Its text cannot be tokenized, or gives tokens that the model does not have.
    Tokens,
    /// Anything else.
    Other,
}

impl RowErrorKind {
    /// The kind, as counts of rows name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "longer than the student's limit",
            Self::NoTarget => "no token left to train on",
            Self::Template => "refused by the chat template",
            Self::Tokens => "not in the student's vocabulary",
            Self::Other => "not a row for the student",
        }
    }
}

/// Why a model cannot go on at all.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model file or setting that cannot be used: file, field or tensor, and what was expected.
    #[error("{0}")]
    Invalid(String),
    /// The model cannot do what was asked, known before work begins.
    #[error("{0}")]
    Unsupported(String),
    /// Training met a value that is not finite.
    #[error(
        "the loss is not finite at step {step}; rows of the batch: {rows}. Lower the learning rate or look at those rows"
    )]
    NonFinite {
        /// The optimiser step, from 1.
        step: usize,
        /// Indices of the examples in the batch.
        rows: String,
    },
}

/// Receives the result of one entry; breaking stops the work.
pub type Sink<'a, T> = &'a mut dyn FnMut(usize, Result<T, RowError>) -> ControlFlow<()>;

/// Writes completions.
pub trait Generate: Send {
    /// Facts that the results carry.
    fn info(&self) -> &ModelInfo;
    /// Writes one completion a request. Requests with equal contexts that are adjacent may
    /// share the prompt's computation.
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError>;
}

/// Scores the tokens of given completions.
pub trait Score: Send {
    /// Facts that the results carry.
    fn info(&self) -> &ModelInfo;
    /// Scores each example's completion and end token. Examples with equal contexts that are
    /// adjacent may share the prompt's computation.
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError>;
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Straight to `min_lr_ratio`.
    Linear,
    /// Half a cosine to `min_lr_ratio`.
    Cosine,
    /// Not at all.
    Constant,
}

/// How many rows make an optimiser step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSize {
    /// This many rows.
    Rows(usize),
    /// As many whole rows as fit this many tokens (at least one).
    Tokens(usize),
}

/// Low-rank adapters beside frozen linear layers: y = W x + scale · B (A x), where A is (r, in)
/// and B is (out, r) and starts at 0 (arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// The rank.
    pub r: usize,
    /// Scales by alpha / r.
    pub alpha: f64,
    /// Scales by alpha / √r instead (arXiv 2312.03732).
    #[serde(default)]
    pub rslora: bool,
    /// Share of A's inputs that are dropped in training.
    #[serde(default)]
    pub dropout: f64,
    /// Names of the layers that get one, for example `q_proj`; none are all linear layers of
    /// attention and MLP.
    #[serde(default)]
    pub targets: Vec<String>,
}

impl Lora {
    /// What B (A x) is multiplied by.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Whether the numbers make an adapter.
    ///
    /// # Errors
    /// Names the setting and what was expected.
    pub fn check(&self) -> Result<(), String> {
        if self.r == 0 {
            return Err("`r` is 0; the rank begins at 1".to_owned());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(format!(
                "`alpha` is {}; expected a number above 0",
                self.alpha
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!(
                "`dropout` is {}; expected a share from 0 to below 1",
                self.dropout
            ));
        }
        Ok(())
    }
}

/// The type that a trained model's weights are written in. Training computes in f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// IEEE single: the weights as they were trained.
    #[default]
    F32,
    /// bfloat16: half the size, each weight rounded to 8 bits of precision. Updates smaller than
    /// half a unit in the last place are lost, which at small learning rates are nearly all.
    Bf16,
}

impl SaveDtype {
    /// The name, as `--save-dtype` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How to train. The loss is the weighted sum over target tokens, divided once by the sum of
/// their weights in the whole step; the end token is always a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Passes over the examples.
    pub epochs: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Fall after the warm-up.
    pub schedule: Schedule,
    /// Ratio of the rate that the schedule ends at to the peak.
    pub min_lr_ratio: f64,
    /// Warm-up steps, from lr/warmup up to lr.
    pub warmup_steps: usize,
    /// Decoupled, not on norms and biases.
    pub weight_decay: f64,
    /// AdamW's first- and second-moment decay.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// Largest norm of the whole gradient; 0 does not clip.
    pub max_grad_norm: f64,
    /// Rows of a step.
    pub step_size: StepSize,
    /// Shuffles the rows of each epoch, starts adapters and draws their dropout.
    pub seed: u64,
    /// Train adapters of this kind and leave the model's own weights as they are.
    pub lora: Option<Lora>,
    /// For comparison with trainings whose parameters are bf16: what trains, its gradient and
    /// both moments are rounded to bf16 in each step, as PyTorch holds them for a model that was
    /// loaded in bf16. Small rates then move nothing.
    pub bf16_parity: bool,
    /// The type that the trained weights are written in; adapters are always written in f32.
    #[serde(default)]
    pub save_dtype: SaveDtype,
    /// Compute each layer's activations again in the backward instead of keeping them: less
    /// memory, a third more work, the same bits.
    pub gradient_checkpointing: bool,
    /// Score the dev examples every so many steps too; 0 at the end of each epoch only.
    pub dev_every: usize,
    /// A resumable state every so many steps; 0 writes none.
    pub checkpoint_every: usize,
}

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 1,
            lr: 1e-5,
            schedule: Schedule::Linear,
            min_lr_ratio: 0.0,
            warmup_steps: 0,
            weight_decay: 0.0,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            step_size: StepSize::Rows(32),
            seed: 0,
            lora: None,
            bf16_parity: false,
            save_dtype: SaveDtype::F32,
            gradient_checkpointing: false,
            dev_every: 0,
            checkpoint_every: 0,
        }
    }
}

/// What training reports while it runs. Steps count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// The first event: how many steps there are, and how many an earlier process had finished
    /// (a resumed training repeats none of those).
    Started {
        /// Optimiser steps in all.
        steps: usize,
        /// Finished before; 0 from the start.
        done: usize,
        /// Texts of a pretraining that give no row (index and reason).
        refused: Vec<(usize, String)>,
    },
    /// One optimiser step is done.
    Step {
        /// From 1.
        step: usize,
        /// Weighted mean surprisal of the step's target tokens, nats.
        loss: f64,
        /// The rate used.
        lr: f64,
        /// Norm of the gradient before clipping.
        gradient_norm: f64,
        /// Target tokens of the step.
        target_tokens: usize,
        /// Tokens computed in the step.
        tokens: usize,
    },
    /// The dev examples were scored.
    Dev {
        /// After this step.
        step: usize,
        /// Mean surprisal of their target tokens, nats.
        loss: f64,
        /// Of the weights rounded to this type, in which they are saved; absent for the weights as
        /// they train.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        save_dtype: Option<SaveDtype>,
    },
    /// A resumable state lies on disk.
    Checkpoint {
        /// After this step.
        step: usize,
    },
}

/// What a training on some examples would be, known before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainPlan {
    /// Examples that cannot be trained on, by index; what follows is of the others.
    pub refused: Vec<(usize, RowError)>,
    /// Examples that can.
    pub rows: usize,
    /// Their tokens, prompts included.
    pub tokens: usize,
    /// The tokens among them that the loss is over.
    pub target_tokens: usize,
    /// Optimiser steps of all epochs.
    pub steps: usize,
    /// How the rows of the others were made.
    pub traits: TraitCounts,
}

/// What a finished or stopped training was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Optimiser steps done in all.
    pub steps: usize,
    /// Whether the sink stopped it (a resumable state was written first).
    pub stopped: bool,
    /// Hash of the finished model; empty when stopped.
    pub model_hash: String,
}

/// How to look one step ahead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookaheadSettings {
    /// Rows whose mean gradient counts as one draw of the gradient.
    pub rows_per_batch: usize,
    /// Learning rate of the one step.
    pub lr: f64,
}

/// What one step of training on a set would do to other texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookahead {
    /// Weighted mean surprisal of the set's targets before the step, nats.
    pub loss: f64,
    /// Cosine of the step and the gradient of Σ credit · ln p over the goal; positive: the step
    /// raises it, to first order.
    pub cosine: f64,
    /// Change of ln p of each goal text (its end token included) by the step, nats, in order.
    pub moved: Vec<f64>,
}

/// Trains a model on examples and writes it as a model directory.
pub trait Train: Send {
    /// Facts about the model that training starts from.
    fn info(&self) -> &ModelInfo;
    /// Which of the examples can be trained on, and what the training of those would be.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where the model cannot be trained.
    fn plan(&self, examples: &[Example], settings: &TrainSettings)
    -> Result<TrainPlan, ModelError>;
    /// Trains and leaves the finished model in `out`; resumable states lie in
    /// `out/checkpoint-<step>/`, and the newest whole one is continued from, to the same bits as
    /// an uninterrupted training.
    ///
    /// # Errors
    /// When an example cannot be trained on (see [`plan`](Self::plan)) or a dev example not
    /// scored: leaving it out would change what is compared.
    fn train(
        &mut self,
        examples: &[Example],
        dev: &[Example],
        settings: &TrainSettings,
        out: &Path,
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> Result<TrainSummary, ModelError>;

    /// Says for each set what one AdamW step along its mean gradient would do to the goal texts,
    /// each with its credit. The model stays as it is.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where the model gives no gradients, which is the default.
    fn look_ahead(
        &mut self,
        goal: &[(Example, f64)],
        sets: &[Vec<Example>],
        settings: &LookaheadSettings,
    ) -> Result<Vec<Lookahead>, ModelError> {
        let _ = (goal, sets, settings);
        Err(ModelError::Unsupported(format!(
            "`{}` gives no gradients",
            self.info().name
        )))
    }
}
