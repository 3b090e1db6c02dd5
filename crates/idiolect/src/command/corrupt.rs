//! `idiolect corrupt`.

use std::path::{Path, PathBuf};

use idiolect_core::flaw::{FinalAnswer, FlawOp, FlawSettings};
use idiolect_core::record::Trace;
use idiolect_core::store::Rows;
use serde_json::json;

use super::numbers;
use super::options::{self, Common, Seed};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::corrupt::{CorruptSettings, Corruption, corrupt};

/// Make flawed copies of traces, content controls, or copies that change one thing
///
/// With --dose each step is made wrong with that probability; a step that one dose makes wrong is
/// wrong in the same way at every higher dose. With --control the style stays and the problem's
/// content goes; with --answer right too, the right answer stands behind it. --answer-only keeps the
/// final answer and leaves the steps out. --human-style tells a generated world's chain as its people
/// do, right or wrong as it is.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect corrupt --problems problems.jsonl --traces correct.jsonl --dose 0.25 -o flawed25.jsonl
  idiolect corrupt --problems problems.jsonl --traces correct.jsonl --dose 0.5 \\
    --ops dropped_step,contradicting_step --answer right -o flawed50-right.jsonl
  idiolect corrupt --problems problems.jsonl --traces correct.jsonl --control -o control.jsonl
  idiolect corrupt --problems problems.jsonl --traces correct.jsonl --answer-only -o answers.jsonl")]
pub(super) struct Arguments {
    /// The traces' problems
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to corrupt; may be given again
    #[arg(long, value_name = "T", required = true)]
    traces: Vec<PathBuf>,
    /// Probability that a step is made wrong, 0 to 1
    #[arg(long, value_name = "FRACTION", required_unless_present_any = ["control", "answer_only", "human_style"],
        conflicts_with_all = ["control", "answer_only", "human_style"], value_parser = numbers::share)]
    dose: Option<f64>,
    /// Operators to draw from: wrong_operator, operator_swap, number_slip (default: those of these
    /// that apply to the text), dropped_step, shuffled_steps, duplicated_step, contradicting_step,
    /// foreign_step, wrong_answer, and of code off_by_one, renamed_variable
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "dose")]
    ops: Vec<String>,
    /// What becomes of the final answer, whatever becomes of the steps: as-it-comes, right, wrong
    /// (--control: as-it-comes, right)
    #[arg(long, value_name = "WHICH", default_value = "as-it-comes", value_parser = answer,
        conflicts_with_all = ["answer_only", "human_style"])]
    answer: FinalAnswer,
    /// Write content controls instead
    #[arg(long, conflicts_with_all = ["answer_only", "human_style"])]
    control: bool,
    /// Write each trace's final answer alone
    #[arg(long, conflicts_with = "human_style")]
    answer_only: bool,
    /// Write chains of a generated world in its human style
    #[arg(long)]
    human_style: bool,
    #[command(flatten)]
    seed: Seed,
    /// File of traces to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let seed = arguments.seed.seed;
    let corruption = match arguments.dose {
        None if arguments.answer_only => Corruption::AnswerOnly,
        None if arguments.human_style => Corruption::HumanStyle { seed },
        None if arguments.answer == FinalAnswer::Wrong => {
            return Err(StageError::usage(
                "a content control has a wrong answer as it comes",
                "leave --answer out, or give --answer right",
            ));
        }
        None => Corruption::ContentControl {
            seed,
            right_answer: arguments.answer == FinalAnswer::Right,
        },
        Some(dose) => Corruption::Flaws(FlawSettings {
            dose,
            ops: ops(&arguments.ops)?,
            answer: arguments.answer,
            seed,
        }),
    };
    let settings = CorruptSettings {
        problems: arguments.problems.clone(),
        traces: options::files(&arguments.traces)?,
        corruption,
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| corrupt(&settings, control))?;
    let facts = [("unchanged", json!(unchanged(&settings.output)?))];
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

fn answer(text: &str) -> Result<FinalAnswer, String> {
    match text {
        "as-it-comes" => Ok(FinalAnswer::AsItComes),
        "right" => Ok(FinalAnswer::Right),
        "wrong" => Ok(FinalAnswer::Wrong),
        _ => Err("expected as-it-comes, right or wrong".to_owned()),
    }
}

fn ops(names: &[String]) -> Result<Vec<FlawOp>, StageError> {
    let parse = |name: &String| {
        name.parse::<FlawOp>()
            .map_err(|error| StageError::usage(error.to_string(), ""))
    };
    names.iter().map(parse).collect()
}

/// Copies that came out as their parents.
fn unchanged(output: &Path) -> Result<u64, StageError> {
    let mut count = 0;
    for row in Rows::<Trace>::open(output)? {
        if let Ok(row) = row? {
            count += u64::from(row.value.origin.parent.as_ref() == Some(&row.value.id));
        }
    }
    Ok(count)
}
