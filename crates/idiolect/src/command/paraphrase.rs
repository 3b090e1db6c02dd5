//! `idiolect paraphrase`.

use std::path::PathBuf;

use serde_json::json;

use super::options::{self, Common, KvOption, ModelOptions, PromptOption, SamplingOptions, Seed};
use super::show::Shown;
use crate::stage::paraphrase::{ParaphraseSettings, paraphrase};

/// Rewrite traces: a model says each in its own words
///
/// Greedy unless --temperature is given. Whether a rewriting kept the answer is for verify to say.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect paraphrase --model models/teacher --problems problems.jsonl --traces human.jsonl \\
    -o paraphrased.jsonl")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// The traces' problems
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to rewrite
    #[arg(long, value_name = "T")]
    traces: PathBuf,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    kv: KvOption,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    seed: Seed,
    /// File of traces to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = ParaphraseSettings {
        problems: arguments.problems.clone(),
        traces: arguments.traces.clone(),
        sampling: arguments.sampling.resolve(0.0),
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.clone(),
    };
    let mut model = arguments
        .model
        .open_to_write(&arguments.common, &arguments.kv)?;
    let outcome = arguments
        .common
        .with_control(|control| paraphrase(&settings, model.as_mut(), control))?;
    let collapsed = outcome.seen.saturating_sub(outcome.rows + outcome.rejected);
    let facts = [("collapsed", json!(collapsed))];
    Ok(Shown::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
