//! `idiolect run`.

use std::path::PathBuf;

use super::options::{CodeOption, Common};
use super::output::CommandOutput;
use idiolect::exit;
use idiolect::interrupt::Stop;
use idiolect::run::recipe::On;
use idiolect::run::{self, Finished, Process, RunSettings};

/// Run a whole experiment, from nothing to a report
///
/// Without a recipe: the default experiment, into `runs/default`; of a recipe, into `runs/NAME` of
/// its `name`. The same command continues an interrupted run; a changed recipe is refused with the
/// keys that differ.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect run
  idiolect run --set scale=full --out runs/full
  idiolect run recipes/tiny.toml --out /tmp/tiny
  IDIOLECT_DATA=DIR idiolect run gsm8k-real
  IDIOLECT_DATA=DIR idiolect run gsm8k-real --set models.students=MODEL_DIR --dry-run
  idiolect init math -o mine.toml && idiolect run mine.toml
  idiolect run mine.toml --on slurm --dry-run
  idiolect run mine.toml --on slurm --set execute.resources.train.gpus=1
  idiolect run mine.toml --on ray://head:8265

Stages, for --until: data, pretrain, generate, paraphrase, verify, corrupt, traces, score, arms,
train, eval, report.")]
pub(super) struct Arguments {
    /// A recipe file, or a built-in recipe: miniature (the default), tiny, gsm8k-real
    #[arg(value_name = "RECIPE.toml")]
    recipe: Option<String>,
    /// The run directory; default runs/NAME, where NAME is the recipe's `name`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Override a key of the recipe, for example train.seeds=5; may be given again
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Stop after this stage
    #[arg(long, value_name = "STAGE")]
    until: Option<String>,
    /// Where jobs run: local (this process), slurm, or ray://HOST:PORT of a Ray dashboard (usually
    /// port 8265); default as `[execute] on` of the recipe. Whatever ends this process, the same
    /// command goes on with what it submitted; Ctrl-C cancels it
    #[arg(long, value_name = "PLACE")]
    on: Option<On>,
    /// On a cluster: return once everything that can be is submitted. Slurm then does all but the
    /// report by itself; the same command without it goes on
    #[arg(long)]
    detach: bool,
    /// Say what would be done and what it could show, and do nothing; fails where an input that the
    /// run reads (data files, the student's directory) is missing. With --on, also what would be
    /// submitted, with the scripts
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = RunSettings {
        recipe: arguments.recipe.clone(),
        out: arguments.out.clone(),
        sets: arguments.sets.clone(),
        until: arguments.until.clone(),
        on: arguments.on.clone(),
        detach: arguments.detach,
        dry_run: arguments.dry_run,
        overwrite: arguments.common.overwrite,
        process: process(&arguments.common, &arguments.code),
    };
    let finished = run::run(&settings, arguments.common.progress(), &Stop::default())?;
    Ok(printed(finished, arguments.common.json))
}

/// How a process of a run works.
pub(super) fn process(common: &Common, code: &CodeOption) -> Process {
    Process {
        threads: common.threads(),
        max_rejects: common.max_rejects,
        protection: code.protection(),
    }
}

pub(super) fn printed(finished: Finished, as_json: bool) -> CommandOutput {
    CommandOutput {
        text: finished.text,
        json: finished.json,
        as_json,
        code: exit::DONE,
    }
}
