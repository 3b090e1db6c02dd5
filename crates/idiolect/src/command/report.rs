//! `idiolect report`.

use std::path::PathBuf;

use serde_json::json;

use super::options;
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;

/// Make the report of a finished run again from its files
///
/// One self-contained page that needs no network, and the same as Markdown. With script the page can
/// be sorted, filtered and asked for single answers and training rows; without, it shows all numbers.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect report runs/default
  idiolect report runs/default -o elsewhere.html")]
pub(super) struct Arguments {
    /// The directory that `idiolect run` wrote
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// File to write, Markdown where it ends in .md; default report.html and report.md of the run
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: Option<OutputPath>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Accepted as everywhere; one thread is enough here
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let text = idiolect::run::report(&arguments.run, arguments.output.as_deref())?;
    let json = json!({ "written": text.lines().collect::<Vec<_>>() });
    Ok(CommandOutput {
        text,
        json,
        as_json: arguments.json,
        code: exit::DONE,
    })
}
