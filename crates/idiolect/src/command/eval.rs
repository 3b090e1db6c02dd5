//! `idiolect eval`.

use std::path::{Path, PathBuf};

use idiolect_core::record::{EvalRow, Finish, Verdict};
use idiolect_core::statistics::proportion::wilson;
use idiolect_core::store::Rows;
use serde_json::{Value, json};

use super::numbers;
use super::options::{
    self, CodeOption, Common, ModelOptions, PromptOption, RoundedOption, SamplingOptions, Seed,
    SplitOption, WritingOptions,
};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::eval::{EvalSettings, eval};
use idiolect::stage::train::rows_trained;

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
    /// File of judged answers to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    rounded: RoundedOption,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = EvalSettings {
        problems: arguments.problems.clone(),
        splits: arguments.split.splits(),
        samples: arguments.samples,
        sampling: arguments
            .sampling
            .resolve(if arguments.samples > 1 { 1.0 } else { 0.0 }),
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        trained_rows: rows_trained(Path::new(&arguments.model.text.model))?,
        accept_rounded: arguments.rounded.accept_rounded,
        output: arguments.output.to_path_buf(),
    };
    options::some_problem(&settings.problems, &settings.splits)?;
    let here = arguments
        .common
        .here(&arguments.writing.endpoint, &arguments.output)?;
    let mut model = arguments
        .model
        .open_to_write(&arguments.common, &arguments.writing, &here)?;
    let control = arguments.common.control(&here, arguments.code.protection());
    let outcome = eval(&settings, model.as_generate()?, control)?;
    let mut facts = Tally::of(&settings.output)?.facts(settings.samples);
    facts.extend(arguments.writing.endpoint.spent(model.as_ref()));
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

/// The answers of a file, by what they were.
#[derive(Default)]
struct Tally {
    answers: usize,
    verdicts: [usize; 4],
    truncated: usize,
}

impl Tally {
    fn of(output: &Path) -> Result<Self, StageError> {
        let mut tally = Self::default();
        for row in Rows::<EvalRow>::open(output)? {
            let Ok(row) = row? else { continue };
            tally.answers += 1;
            tally.verdicts[row.value.verdict as usize] += 1;
            tally.truncated += usize::from(row.value.finish == Finish::Length);
        }
        Ok(tally)
    }

    /// Accuracy with Wilson's interval, and the counts behind it. Samples of one problem are not
    /// independent: the interval counts problems.
    fn facts(&self, k: usize) -> Vec<(&'static str, Value)> {
        let count = |verdict: Verdict| self.verdicts[verdict as usize];
        let problems = self.answers / k.max(1);
        let share = count(Verdict::Correct) as f64 / self.answers.max(1) as f64;
        let interval = wilson(share, problems, 0.95);
        let digits = |x: f64| (x * 1e4).round() / 1e4;
        vec![
            ("accuracy", json!(digits(share))),
            (
                "interval_95",
                json!([digits(interval.low), digits(interval.high)]),
            ),
            ("problems", json!(problems)),
            ("correct", json!(count(Verdict::Correct))),
            ("wrong", json!(count(Verdict::Wrong))),
            ("no_answer", json!(count(Verdict::NoAnswer))),
            ("ungraded", json!(count(Verdict::Ungraded))),
            ("truncated", json!(self.truncated)),
        ]
    }
}
