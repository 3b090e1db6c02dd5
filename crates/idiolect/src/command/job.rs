//! `idiolect job`.

use std::path::PathBuf;

use super::options::{CodeOption, Common};
use super::run::{printed, process};
use idiolect::interrupt::Stop;
use idiolect::run::Which;

/// Do one job of a run, on any machine that sees the run directory
///
/// The job's inputs must be there: `idiolect jobs` lists all jobs in an order in which they can be
/// done. Doing a job again continues it, or does nothing where it is done. The outputs are the same
/// bytes as when `idiolect run` does it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect run recipe.toml --until arms
  idiolect job runs/mine mine/r0/gemma-2-2b/W/seed1/train")]
pub(super) struct Arguments {
    /// The directory that `idiolect run` wrote
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// The job, as `idiolect jobs` names it
    #[arg(value_name = "JOB_ID", required_unless_present = "task")]
    job: Option<String>,
    /// Do the jobs of a task that `idiolect run --on` submitted: what the nodes of a cluster run
    #[arg(long, value_name = "TASK", conflicts_with = "job")]
    task: Option<String>,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let which = match (&arguments.task, &arguments.job) {
        (Some(task), _) => Which::Task(task.clone()),
        (None, job) => Which::Job(job.clone().unwrap_or_default()),
    };
    let finished = idiolect::run::job(
        &arguments.run,
        &which,
        process(&arguments.common, &arguments.code),
        arguments.common.progress(),
        &Stop::default(),
    )?;
    Ok(printed(finished, arguments.common.json))
}
