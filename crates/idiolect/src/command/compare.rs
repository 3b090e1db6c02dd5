//! `idiolect compare`.

use std::path::{Path, PathBuf};

use idiolect_core::record::Decoding;
use idiolect_core::store::write_page;
use idiolect_report::RunView;
use serde_json::json;

use super::options::{self, Seed, named};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;
use idiolect::stage::StageError;
use idiolect::stage::compare::{CompareSettings, compare};
use idiolect::stage::report::{ReportSettings, command, view};
use idiolect::terminal;

/// Compare evaluations: which is more accurate, and how sure is that?
///
/// Differences are paired by problem, with intervals, exact tests and Holm's correction over the arms
/// that are compared with one baseline under one decoding. One name
/// may be given several times: greedy and sampled answers of one checkpoint, and checkpoints of
/// several fine-tuning seeds.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect compare base=eval/base.jsonl W=eval/W-0.jsonl W=eval/W-1.jsonl H=eval/H.jsonl \\
    --baseline base --report report.html --problems problems.jsonl
  idiolect import gsm8k samples_gsm8k_a.jsonl -o p.jsonl --eval a.jsonl   # results of lm-eval")]
pub(super) struct Arguments {
    /// Evaluations by name
    #[arg(required = true, value_name = "NAME=EVAL", value_parser = named)]
    evaluations: Vec<(String, PathBuf)>,
    /// What the others are compared with; default base and H where they are there, else the first
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Write the report page of the comparison too, which states what it has no data for; Markdown where
    /// the name ends in .md
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    report: Option<OutputPath>,
    /// The problems, whose questions and right answers the page then shows
    #[arg(long, value_name = "FILE", requires = "report")]
    problems: Option<PathBuf>,
    /// Compare files of which it is not known, or not true, that they were made alike
    #[arg(long)]
    assume_same: bool,
    #[command(flatten)]
    seed: Seed,
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

/// The command as it is typed, with the files' names alone.
fn typed(arguments: &Arguments, page: &Path) -> String {
    let mut typed: Vec<(String, Option<&Path>)> = Vec::new();
    for (name, path) in &arguments.evaluations {
        typed.push((format!("{name}="), Some(path)));
    }
    if let Some(baseline) = &arguments.baseline {
        typed.push((format!("--baseline {baseline}"), None));
    }
    if arguments.assume_same {
        typed.push(("--assume-same".to_owned(), None));
    }
    if arguments.seed.seed != 0 {
        typed.push((format!("--seed {}", arguments.seed.seed), None));
    }
    if let Some(path) = &arguments.problems {
        typed.push(("--problems ".to_owned(), Some(path)));
    }
    typed.push(("--report ".to_owned(), Some(page)));
    command("compare", &typed)
}

/// Writes a page, as Markdown where its name states so.
pub(super) fn write_page_of(path: &Path, view: &RunView) -> Result<(), StageError> {
    let page = match path.extension() {
        Some(ending) if ending == "md" => idiolect_report::markdown(view),
        _ => idiolect_report::html(view),
    };
    Ok(write_page(path, &page)?)
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = CompareSettings {
        evaluations: arguments.evaluations.clone(),
        baseline: arguments.baseline.clone(),
        assume_same: arguments.assume_same,
        seed: arguments.seed.seed,
    };
    let comparison = match &arguments.report {
        None => compare(&settings)?,
        Some(path) => {
            let view = view(&ReportSettings {
                command: typed(arguments, path),
                problems: arguments.problems.clone(),
                ..ReportSettings::of(settings)
            })?;
            write_page_of(path, &view)?;
            view.comparison
        }
    };
    let mut text = idiolect_report::arms_table(&comparison, terminal::columns())
        .trim_end()
        .to_owned();
    for difference in &comparison.differences {
        let decoding = match difference.decoding {
            Decoding::Greedy => "greedy",
            Decoding::Sampled => "sampled",
        };
        text.push_str(&format!("\n{decoding}: {}", difference.verdict));
    }
    for warning in &comparison.warnings {
        text.push_str(&format!("\nnote: {warning}"));
    }
    Ok(CommandOutput {
        text,
        json: json!(comparison),
        as_json: arguments.json,
        code: exit::DONE,
    })
}
