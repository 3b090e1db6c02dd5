//! `idiolect generate`.

use std::path::PathBuf;

use serde_json::json;

use super::numbers;
use super::options::{
    self, Common, ModelOptions, PromptOption, SamplingOptions, Seed, SplitOption, WritingOptions,
};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::sandbox::Protection;
use idiolect::stage::generate::{GenerateSettings, generate};

/// Sample traces: K completions of a model for each problem
///
/// Rows are in the order of problems and samples. Equal texts for one problem collapse to the
/// first.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect generate --model models/teacher --problems problems.jsonl --split train -n 8 \\
    --temperature 0.8 --max-tokens 256 -o traces.jsonl
  idiolect generate --model hf:google/gemma-2-27b-it --problems problems.jsonl -n 8 \\
    --server \"vllm serve {model} --host 127.0.0.1 --port {port}\" -o traces.jsonl")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Problems to ask
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    #[command(flatten)]
    split: SplitOption,
    /// Samples a problem
    #[arg(short = 'n', long, value_name = "K", default_value_t = 1, value_parser = numbers::samples)]
    samples: usize,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    writing: WritingOptions,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    seed: Seed,
    /// File of traces to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = GenerateSettings {
        problems: arguments.problems.clone(),
        splits: arguments.split.splits(),
        samples: arguments.samples,
        sampling: arguments.sampling.resolve(1.0),
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.to_path_buf(),
    };
    options::some_problem(&settings.problems, &settings.splits)?;
    let here = arguments
        .common
        .here(&arguments.writing.endpoint, &arguments.output)?;
    let mut model = arguments
        .model
        .open_to_write(&arguments.common, &arguments.writing, &here)?;
    let control = arguments.common.control(&here, Protection::Required);
    let outcome = generate(&settings, model.as_generate()?, control)?;
    let collapsed = outcome.seen.saturating_sub(outcome.rows + outcome.rejected);
    let mut facts = vec![("collapsed", json!(collapsed))];
    facts.extend(arguments.writing.endpoint.spent(model.as_ref()));
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
