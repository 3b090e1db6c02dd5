//! `idiolect jobs`.

use std::path::PathBuf;

use super::run::printed;

/// List the jobs of a run: the plan, with each job's state
///
/// With --json each job has its stage, settings, inputs, outputs, resources, cost and state, and
/// where a cluster has it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect jobs runs/default
  idiolect jobs runs/default --json | jq -r '.jobs[] | select(.state != \"done\") | .id'")]
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
        idiolect::run::state::jobs(&arguments.run)?,
        arguments.json,
    ))
}
