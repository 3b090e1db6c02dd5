//! `idiolect paraphrase`.

use std::path::{Path, PathBuf};

use idiolect_core::arms::FAULT;
use idiolect_core::paraphrase::Bounds;
use idiolect_core::record::Trace;
use idiolect_core::store::Rows;
use serde_json::json;

use super::numbers;
use super::options::{
    self, CodeOption, Common, ModelOptions, PromptOption, SamplingOptions, Seed, WritingOptions,
};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::paraphrase::{ParaphraseSettings, paraphrase};

/// Rewrite traces: a model writes each in its own words
///
/// Greedy unless --temperature is given. A rewriting may represent its trace when its final answer is
/// the trace's, no number is lost, it is no copy and about as long. One at fault is tried again with
/// other chance, and kept with its reasons where no try is better: arm P leaves it out. A rewritten
/// program is run instead: it passes the tests of its problem, as the trace does.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect paraphrase --model models/teacher --problems problems.jsonl --traces human.jsonl \\
    --temperature 0.7 --retries 3 -o paraphrased.jsonl")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// The traces' problems
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to rewrite; may be given again
    #[arg(long, value_name = "T", required = true)]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    writing: WritingOptions,
    #[command(flatten)]
    prompt: PromptOption,
    /// Further tries for a rewriting at fault; needs a --temperature above 0 [default: 2 with one]
    #[arg(long, value_name = "N", value_parser = numbers::retries)]
    retries: Option<usize>,
    /// Fewest words of a rewriting, as a fraction of the trace's
    #[arg(long, value_name = "FRACTION", default_value_t = Bounds::default().shortest, value_parser = numbers::ratio)]
    shortest: f64,
    /// Most words of a rewriting, as a fraction of the trace's
    #[arg(long, value_name = "FRACTION", default_value_t = Bounds::default().longest, value_parser = numbers::ratio)]
    longest: f64,
    /// Take every rewriting as it comes, whatever its answer
    #[arg(long, conflicts_with_all = ["retries", "shortest", "longest"])]
    unchecked: bool,
    #[command(flatten)]
    seed: Seed,
    /// File of traces to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let sampling = arguments.sampling.resolve(0.0);
    let greedy = sampling.temperature <= 0.0;
    if greedy && arguments.retries.is_some_and(|retries| retries > 0) {
        return Err(StageError::usage(
            "every try at temperature 0 would be the same",
            "give a --temperature above 0, or no --retries",
        ));
    }
    let bounds = Bounds {
        shortest: arguments.shortest,
        longest: arguments.longest,
        ..Bounds::default()
    };
    let settings = ParaphraseSettings {
        problems: arguments.problems.clone(),
        traces: options::files(&arguments.traces)?,
        bounds: (!arguments.unchecked).then_some(bounds),
        retries: arguments.retries.unwrap_or(if greedy { 0 } else { 2 }),
        sampling,
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.to_path_buf(),
    };
    let here = arguments
        .common
        .here(&arguments.writing.endpoint, &arguments.output)?;
    let mut model = arguments
        .model
        .open_to_write(&arguments.common, &arguments.writing, &here)?;
    let control = arguments.common.control(&here, arguments.code.protection());
    let outcome = paraphrase(&settings, model.as_generate()?, control)?;
    let collapsed = outcome.seen.saturating_sub(outcome.rows + outcome.rejected);
    let mut facts = vec![
        ("collapsed", json!(collapsed)),
        ("at fault", json!(at_fault(&settings.output)?)),
    ];
    facts.extend(arguments.writing.endpoint.spent(model.as_ref()));
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

/// Rewritings that may not represent their traces.
fn at_fault(output: &Path) -> Result<u64, StageError> {
    let mut count = 0;
    for row in Rows::<Trace>::open(output)? {
        if let Ok(row) = row? {
            let ops = &row.value.origin.ops;
            count += u64::from(ops.iter().any(|op| op["op"] == FAULT));
        }
    }
    Ok(count)
}
