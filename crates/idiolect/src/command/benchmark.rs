//! `idiolect benchmark`.

use std::path::PathBuf;

use serde_json::json;

use super::options::{self, Common};
use super::output::CommandOutput;
use crate::exit;
use crate::run::benchmark::{BenchmarkSettings, benchmark};

/// Judge rankings made before training against what finished runs gave
///
/// Measures the arms of finished runs under their untrained students (kept as advice.jsonl in each
/// run), ranks them by every metric, by length, at random and by advice that saw neither the student
/// nor the task, and says how well each ranking agrees with the realised accuracies.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect benchmark runs/living/* -o docs/benchmark.md --claims docs/claims.md")]
pub(super) struct Arguments {
    /// Directories that `idiolect run` finished
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Markdown file of the tables to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: Option<PathBuf>,
    /// Markdown file to write: the paper's claims over the same runs
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    claims: Option<PathBuf>,
    /// File of finished worlds to write, for `advise --learn`
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    finished: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = BenchmarkSettings {
        runs: arguments.runs.clone(),
        output: arguments.output.clone(),
        claims: arguments.claims.clone(),
        finished: arguments.finished.clone(),
    };
    let done = arguments
        .common
        .with_control(|control| benchmark(&settings, control))?;
    Ok(CommandOutput {
        text: done.text,
        json: json!({ "summary": done.summary, "without_f_and_r": done.restricted, "judged": done.judged }),
        as_json: arguments.common.json,
        code: exit::DONE,
    })
}
