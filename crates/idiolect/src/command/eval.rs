//! `idiolect eval`.

use std::path::PathBuf;

use idiolect_core::record::{EvalRow, Verdict};
use idiolect_core::store::Rows;
use serde_json::json;

use super::options::{
    self, Common, ModelOptions, PromptOption, SamplingOptions, Seed, SplitOption,
};
use super::show::Shown;
use crate::stage::eval::{EvalSettings, eval};

/// Ask a model every problem and judge its answers
///
/// Greedy with one sample; with more, at temperature 1 unless --temperature is given. Accuracy is
/// over all problems: what cannot be read, was cut off or could not be judged is not correct.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect eval --model train/W --problems problems.jsonl --split test -o eval/W.jsonl")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Problems to ask
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    #[command(flatten)]
    split: SplitOption,
    /// Samples a problem
    #[arg(short, long = "samples", value_name = "K", default_value_t = 1)]
    k: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    seed: Seed,
    /// File of judged answers to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = EvalSettings {
        problems: arguments.problems.clone(),
        splits: arguments.split.splits(),
        k: arguments.k,
        sampling: arguments
            .sampling
            .resolve(if arguments.k > 1 { 1.0 } else { 0.0 }),
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.clone(),
    };
    let mut model = arguments.model.open(&arguments.common)?;
    let outcome = arguments
        .common
        .with_control(|control| eval(&settings, model.as_mut(), control))?;
    let mut counts = [0u64; 4];
    for row in Rows::<EvalRow>::open(&settings.output)? {
        if let Ok(row) = row? {
            counts[row.value.verdict as usize] += 1;
        }
    }
    let count = |verdict: Verdict| json!(counts[verdict as usize]);
    let facts = [
        ("correct", count(Verdict::Correct)),
        ("wrong", count(Verdict::Wrong)),
        ("no_answer", count(Verdict::NoAnswer)),
        ("ungraded", count(Verdict::Ungraded)),
    ];
    Ok(Shown::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
