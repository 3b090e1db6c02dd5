//! Judges rankings made before training against what finished runs gave.
//!
//! Measures the arms of finished runs under their untrained students (kept as `advice.jsonl` in each
//! run), ranks them by every metric, by length, at random and by advice that saw neither the student
//! nor the task, and reports how well each ranking agrees with the realised accuracies.

mod benchmark;
mod claims;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use idiolect::interrupt::{Stop, catch_signals};
use idiolect::progress::{Event, Progress};
use idiolect::run::Process;
use idiolect::stage::{Control, Extent, StageError};

use benchmark::{Benchmarked, Outputs, benchmark};

/// Judge rankings made before training against what finished runs gave
#[derive(Debug, Parser)]
#[command(
    name = "idiolect-lab",
    after_help = "Example:
  idiolect-lab runs/living/* -o docs/benchmark.md --claims docs/claims.md"
)]
struct Arguments {
    /// Directories that `idiolect run` finished
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Markdown file of the tables to write
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Markdown file to write: the paper's claims over the same runs
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// File of finished replicates to write, for `advise --learn`
    #[arg(long, value_name = "FILE")]
    finished: Option<PathBuf>,
    /// Print the figures as JSON instead of the tables
    #[arg(long)]
    json: bool,
    /// Threads to compute with
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program reports to its user"
)]
fn main() -> ExitCode {
    if let Some(code) = idiolect::sandbox::enter() {
        return code;
    }
    catch_signals();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(done) if arguments.json => {
            println!("{}", done.json());
            ExitCode::SUCCESS
        }
        Ok(done) => {
            println!("{}", done.page);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.exit_code())
        }
    }
}

#[allow(clippy::print_stderr, reason = "notes are the program's only progress")]
fn run(arguments: &Arguments) -> Result<Benchmarked, StageError> {
    let progress = Progress::to(|job, event| {
        if let Event::Note(text) = event {
            eprintln!("{job}: {text}");
        }
    });
    let process = Process::default();
    let control = Control {
        progress: &progress,
        stop: &Stop::default(),
        overwrite: false,
        max_rejects: 0.0,
        threads: arguments.threads.unwrap_or(process.threads),
        protection: process.protection,
        extent: Extent::Whole,
    };
    let outputs = Outputs {
        page: arguments.output.as_deref(),
        claims: arguments.claims.as_deref(),
        finished: arguments.finished.as_deref(),
    };
    benchmark(&arguments.runs, &outputs, control)
}
