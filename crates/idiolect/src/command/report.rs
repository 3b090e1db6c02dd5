//! `idiolect report`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::compare::write_page_of;
use super::options::{self, Seed, named};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;
use idiolect::stage::StageError;
use idiolect::stage::compare::CompareSettings;
use idiolect::stage::report::{ReportSettings, command, view};

/// Make the report of a finished run again from its files, or one out of single files
///
/// One self-contained page that needs no network, and the same as Markdown. With script the page can
/// be sorted, filtered and asked for single answers and training rows; without, it shows all numbers.
///
/// Without a run directory it is made of evaluation files (--eval), and of whatever else is given; the
/// page states what it lacks and which file would give it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect report runs/default
  idiolect report runs/default -o elsewhere.html
  idiolect report --eval base=base.jsonl --eval W=W.jsonl --eval G=G.jsonl --problems problems.jsonl \\
    --arms arms --verdicts verdicts.jsonl --scores scores.jsonl --tokens tokens.parquet \\
    --training W=train/W --training G=train/G -o report.html")]
pub(super) struct Arguments {
    /// The directory that `idiolect run` wrote
    #[arg(value_name = "RUN_DIR", required_unless_present = "evaluations")]
    run: Option<PathBuf>,
    /// File to write, Markdown where it ends in .md; default report.html and report.md of the run
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: Option<OutputPath>,
    #[command(flatten)]
    files: Files,
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

/// What a report without a run directory is made of.
#[derive(clap::Args, Debug)]
#[group(skip)]
struct Files {
    /// An evaluation by its arm's name; may be given again, also for one name
    #[arg(long = "eval", value_name = "NAME=EVAL", value_parser = named,
        conflicts_with = "run", requires = "output")]
    evaluations: Vec<(String, PathBuf)>,
    /// What the others are compared with; default base and H where they are there, else the first
    #[arg(long, value_name = "NAME", requires = "evaluations")]
    baseline: Option<String>,
    /// Compare files of which it is not known, or not true, that they were made alike
    #[arg(long, requires = "evaluations")]
    assume_same: bool,
    /// The problems: questions and right answers
    #[arg(long, value_name = "FILE", requires = "evaluations")]
    problems: Option<PathBuf>,
    /// Folder of the arms that were trained on, each named as its evaluation
    #[arg(long, value_name = "ARMS_DIR", requires = "evaluations")]
    arms: Option<PathBuf>,
    /// Verdicts on the arms' traces; may be given again
    #[arg(long, value_name = "FILE", requires = "arms")]
    verdicts: Vec<PathBuf>,
    /// Scores of the arms' traces under the untrained student; may be given again
    #[arg(long, value_name = "FILE", requires = "arms")]
    scores: Vec<PathBuf>,
    /// Token scores of the same
    #[arg(long, value_name = "FILE", requires = "arms")]
    tokens: Option<PathBuf>,
    /// Folder of an arm's training; may be given again, also for one name
    #[arg(long, value_name = "NAME=TRAIN_DIR", value_parser = named, requires = "evaluations")]
    training: Vec<(String, PathBuf)>,
    #[command(flatten)]
    seed: Seed,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let text = match &arguments.run {
        Some(run) => idiolect::run::report(run, arguments.output.as_deref())?,
        None => of_files(arguments)?,
    };
    let json = json!({ "written": text.lines().collect::<Vec<_>>() });
    Ok(CommandOutput {
        text,
        json,
        as_json: arguments.json,
        code: exit::DONE,
    })
}

fn of_files(arguments: &Arguments) -> Result<String, StageError> {
    let files = &arguments.files;
    let path = arguments
        .output
        .as_deref()
        .ok_or_else(|| StageError::usage("no file to write the report to", "-o report.html"))?;
    let view = view(&ReportSettings {
        problems: files.problems.clone(),
        arms: files.arms.clone(),
        verdicts: files.verdicts.clone(),
        scores: files.scores.clone(),
        tokens: files.tokens.clone(),
        trainings: files.training.clone(),
        command: typed(files, path),
        ..ReportSettings::of(CompareSettings {
            evaluations: files.evaluations.clone(),
            baseline: files.baseline.clone(),
            assume_same: files.assume_same,
            seed: files.seed.seed,
        })
    })?;
    write_page_of(path, &view)?;
    Ok(path.display().to_string())
}

/// The command as it is typed, with the files' names alone.
fn typed(files: &Files, page: &Path) -> String {
    let mut typed: Vec<(String, Option<&Path>)> = Vec::new();
    let named = |flag: &str, name: &str| format!("{flag} {name}=");
    for (name, path) in &files.evaluations {
        typed.push((named("--eval", name), Some(path)));
    }
    if let Some(baseline) = &files.baseline {
        typed.push((format!("--baseline {baseline}"), None));
    }
    if files.assume_same {
        typed.push(("--assume-same".to_owned(), None));
    }
    if files.seed.seed != 0 {
        typed.push((format!("--seed {}", files.seed.seed), None));
    }
    let single = [
        ("--problems ", &files.problems),
        ("--arms ", &files.arms),
        ("--tokens ", &files.tokens),
    ];
    for (flag, path) in single {
        typed.extend(path.as_deref().map(|path| (flag.to_owned(), Some(path))));
    }
    for (flag, paths) in [
        ("--verdicts ", &files.verdicts),
        ("--scores ", &files.scores),
    ] {
        typed.extend(
            paths
                .iter()
                .map(|path| (flag.to_owned(), Some(path.as_path()))),
        );
    }
    for (name, path) in &files.training {
        typed.push((named("--training", name), Some(path)));
    }
    typed.push(("-o ".to_owned(), Some(page)));
    command("report", &typed)
}
