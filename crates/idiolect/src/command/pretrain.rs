//! `idiolect pretrain`.

use std::path::PathBuf;

use idiolect_model::{StepSize, TrainSettings};
use serde_json::json;

use super::options::{self, Common, Seed};
use super::output::CommandOutput;
use super::paths::OutputPath;
use super::train::TrainingOptions;
use idiolect::stage::pretrain::{PretrainSettings, pretrain};

/// Train a model from random weights on the tokens of texts
///
/// The folder that is written is the finished model, with log.jsonl and its curves for TensorBoard
/// (events.out.tfevents.*). A step holds 1024 tokens unless --batch-size or --batch-tokens is given.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect pretrain --config config.json --tokenizer tokenizer.json --data texts.jsonl \\
    --lr 4e-3 --schedule cosine --warmup-steps 50 -o models/student")]
pub(super) struct Arguments {
    /// The model's shape, as a config.json
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// A tokenizer.json
    #[arg(long, value_name = "FILE")]
    tokenizer: PathBuf,
    /// Rows of text
    #[arg(long, value_name = "TEXT")]
    data: PathBuf,
    #[command(flatten)]
    schedule: TrainingOptions,
    #[command(flatten)]
    seed: Seed,
    /// Folder of the model to write
    #[arg(short, long, value_name = "DIR", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let default = TrainSettings {
        step_size: StepSize::Tokens(1024),
        ..TrainSettings::default()
    };
    let settings = PretrainSettings {
        config: arguments.config.clone(),
        tokenizer: arguments.tokenizer.clone(),
        data: arguments.data.clone(),
        train: arguments.schedule.resolve(default, arguments.seed.seed)?,
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| pretrain(&settings, control))?;
    let facts = [("model_hash", json!(outcome.hash))];
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
