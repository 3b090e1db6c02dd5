//! `idiolect train`.

use std::path::PathBuf;

use clap::ValueEnum;
use idiolect_core::model::{Schedule, StepSize, TrainSettings};
use serde_json::json;

use super::options::{self, Common, ModelOptions, Seed};
use super::show::Shown;
use crate::stage::StageError;
use crate::stage::train::{TrainStageSettings, train};

/// Fine-tune a model on the rows of an arm
///
/// The folder that is written is the finished model, with log.jsonl; its `checkpoint-STEP` folders
/// are resumable states. The loss is over completions and their end, never over prompts. A step
/// holds 32 rows unless --rows-per-step or --tokens-per-step is given.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect train --model models/student --data arms/W.jsonl --epochs 3 --lr 1e-4 \\
    --dev dev.jsonl -o train/W")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Rows of prompt and completion, or of messages
    #[arg(long, value_name = "ARM")]
    data: PathBuf,
    /// Rows whose loss is told during training
    #[arg(long, value_name = "ROWS")]
    dev: Option<PathBuf>,
    /// Train a low-rank adapter: r=16,alpha=32[,targets=...]
    #[arg(long, value_name = "r=R,alpha=A")]
    lora: Option<String>,
    #[command(flatten)]
    schedule: TrainingOptions,
    #[command(flatten)]
    seed: Seed,
    /// Folder of the model to write
    #[arg(short, long, value_name = "DIR", value_parser = options::output)]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// How to train.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct TrainingOptions {
    /// Passes over the rows
    #[arg(long, value_name = "N", default_value_t = 1)]
    epochs: usize,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-5, value_parser = positive)]
    lr: f64,
    /// Rows of an optimiser step
    #[arg(long, value_name = "N", conflicts_with = "tokens_per_step")]
    rows_per_step: Option<usize>,
    /// As many whole rows an optimiser step as fit this many tokens
    #[arg(long, value_name = "N")]
    tokens_per_step: Option<usize>,
    /// Fall of the learning rate after the warm-up
    #[arg(long, value_name = "NAME", default_value = "linear")]
    schedule: ScheduleName,
    /// Share of the peak rate that the schedule ends at
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = options::share)]
    final_lr_share: f64,
    /// Steps from zero to the peak rate
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    warmup: usize,
    /// Decoupled weight decay, not on norms and biases
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = not_negative)]
    weight_decay: f64,
    /// Largest norm of the whole gradient; 0 does not clip
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = not_negative)]
    clip: f64,
    /// Save a resumable state every so many steps; 0 saves one only when interrupted
    #[arg(long, value_name = "STEPS", default_value_t = 200)]
    checkpoint_every: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleName {
    Linear,
    Cosine,
    Constant,
}

impl TrainingOptions {
    /// The settings.
    pub(super) fn resolve(
        &self,
        default: TrainSettings,
        seed: u64,
    ) -> Result<TrainSettings, StageError> {
        let step_size = match (self.rows_per_step, self.tokens_per_step) {
            (Some(rows), _) => StepSize::Rows(rows),
            (None, Some(tokens)) => StepSize::Tokens(tokens),
            (None, None) => default.step_size,
        };
        if self.epochs == 0 || matches!(step_size, StepSize::Rows(0) | StepSize::Tokens(0)) {
            return Err(StageError::usage(
                "nothing to train: epochs and step sizes begin at 1",
                "",
            ));
        }
        Ok(TrainSettings {
            epochs: self.epochs,
            lr: self.lr,
            schedule: match self.schedule {
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Constant => Schedule::Constant,
            },
            final_lr_share: self.final_lr_share,
            warmup_steps: self.warmup,
            weight_decay: self.weight_decay,
            clip: self.clip,
            step_size,
            seed,
            checkpoint_every: self.checkpoint_every,
            ..default
        })
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(value) if value > 0.0 => Ok(value),
        _ => Err("expected a number above 0".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    if arguments.lora.is_some() {
        return Err(StageError::failed(
            "low-rank adapters (--lora) are not in this version",
            "leave --lora out to train all weights",
        ));
    }
    let settings = TrainStageSettings {
        data: arguments.data.clone(),
        dev: arguments.dev.clone(),
        train: arguments
            .schedule
            .resolve(TrainSettings::default(), arguments.seed.seed)?,
        output: arguments.output.clone(),
    };
    let mut model = arguments.model.open(&arguments.common)?;
    let outcome = arguments
        .common
        .with_control(|control| train(&settings, model.as_mut(), control))?;
    let facts = [("model_hash", json!(outcome.hash))];
    Ok(Shown::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
