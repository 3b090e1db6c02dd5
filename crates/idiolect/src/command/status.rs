//! `idiolect status`.

use std::path::PathBuf;

use super::run::printed;

/// Show how far a run is: what is done, what runs, how long it takes yet, what failed and why
///
/// Of a run on a cluster also where each task is: as the cluster states it, or, on a machine that
/// cannot ask it, as the submitting process saw it last.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect status runs/default
  watch idiolect status runs/default")]
pub(super) struct Arguments {
    /// The directory that `idiolect run` wrote
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    Ok(printed(
        idiolect::run::state::status(&arguments.run)?,
        arguments.json,
    ))
}
