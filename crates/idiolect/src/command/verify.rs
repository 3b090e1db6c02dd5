//! `idiolect verify`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use idiolect_core::record::TaskName;
use idiolect_core::store::Rows;
use serde_json::{Value, json};

use super::options::{self, CodeOption, Common, RoundedOption};
use super::output::{CommandOutput, plain, table};
use super::paths::OutputPath;
use idiolect::stage::compat::Compat;
use idiolect::stage::theirs::{Agreement, agreement};
use idiolect::stage::verify::{PairSettings, VerifySettings, verify, verify_pairs};
use idiolect::stage::{Outcome, StageError};

/// Judge traces against their problems' gold answers, or pairs of gold and answer
///
/// A verdict is correct, wrong, no_answer (nothing readable was answered) or ungraded (it could
/// not be judged for certain, for example because the answer equals the gold only when rounded).
/// Each comes with its reason.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect verify --problems problems.jsonl --traces traces.jsonl -o verdicts.jsonl
  idiolect verify --task math --pairs pairs.jsonl -o results.jsonl
  idiolect verify --task math --pairs graded.csv --map answer=response --theirs my_grade -o both.jsonl
  idiolect verify --problems math.jsonl --traces traces.jsonl --compat math-verify -o verdicts.jsonl

MBPP's answers are programs. They run under Python (python3, or IDIOLECT_PYTHON) in a sandbox without
network, files, or processes of their own; see --unsafe-no-sandbox where the kernel offers none.")]
pub(super) struct Arguments {
    /// The traces' problems
    #[arg(
        long,
        value_name = "P",
        required_unless_present = "pairs",
        requires = "traces"
    )]
    problems: Option<PathBuf>,
    /// Traces to judge; may be given again
    #[arg(long, value_name = "T", requires = "problems")]
    traces: Vec<PathBuf>,
    /// Task that judges the pairs
    #[arg(long, value_name = "TASK", requires = "pairs", value_parser = options::task())]
    task: Option<TaskName>,
    /// Rows of id, gold and answer, judged without problems
    #[arg(long, value_name = "PAIRS", requires = "task", conflicts_with_all = ["problems", "traces"])]
    pairs: Option<PathBuf>,
    /// Fill id, gold or answer of the pairs from another column; may be given again. Pairs without an
    /// id are named by their lines
    #[arg(long = "map", value_name = "FIELD=COLUMN", requires = "pairs", value_parser = options::pair)]
    columns: Vec<(String, String)>,
    /// A column of the pairs that holds another grader's verdict (true or false, 1 or 0, correct or
    /// incorrect): it is kept beside ours, and agreement and differences are shown
    #[arg(long, value_name = "COLUMN", requires = "pairs")]
    theirs: Option<String>,
    /// Write a public scorer's verdict beside ours, labelled as such
    #[arg(long, value_name = "SCORER")]
    compat: Option<CompatName>,
    #[command(flatten)]
    rounded: RoundedOption,
    /// File of verdicts to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

/// A public scorer.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompatName {
    /// The paper's scorers, of countdown, math and gsm8k
    Paper,
    /// The math-verify library
    MathVerify,
    /// GSM8K's exact match
    Gsm8kEm,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let compat = match arguments.compat {
        None => None,
        Some(CompatName::Paper) => Some(Compat::Paper),
        Some(CompatName::Gsm8kEm) => Some(Compat::Gsm8kEm),
        Some(CompatName::MathVerify) => Some(Compat::MathVerify),
    };
    let accept_rounded = arguments.rounded.accept_rounded;
    let outcome = arguments
        .common
        .with_protection(arguments.code.protection(), |control| {
            let output = arguments.output.to_path_buf();
            match (&arguments.problems, arguments.task, &arguments.pairs) {
                (Some(problems), None, None) => {
                    let (problems, traces) = (problems.clone(), options::files(&arguments.traces)?);
                    verify(
                        &VerifySettings {
                            problems,
                            traces,
                            compat,
                            accept_rounded,
                            output,
                        },
                        control,
                    )
                }
                (None, Some(task), Some(pairs)) => verify_pairs(
                    &PairSettings {
                        task,
                        pairs: pairs.clone(),
                        columns: arguments.columns.clone(),
                        theirs: arguments.theirs.clone(),
                        compat,
                        accept_rounded,
                        output,
                    },
                    control,
                ),
                _ => Err(StageError::usage(
                    "give --problems and --traces, or --task and --pairs",
                    "idiolect verify --help shows both",
                )),
            }
        })?;
    let mut output = command_output(&arguments.output, &outcome, arguments.common.json)?;
    if let Some(column) = &arguments.theirs {
        let found = agreement(&arguments.output)?;
        output.text.push_str(&beside(&found, column));
        if let Value::Object(document) = &mut output.json {
            document.insert("agreement".to_owned(), json!(found));
        }
    }
    Ok(output)
}

/// Our verdicts by those of another grader, and where they differ.
fn beside(found: &Agreement, column: &str) -> String {
    let (judged, same) = found.shares();
    let mut text = format!(
        "\n\n{same} of {judged} answers that are right or wrong here have the same grade in `{column}`"
    );
    if found.unread > 0 {
        text.push_str(&format!(
            "; of {} it states neither right nor wrong",
            found.unread
        ));
    }
    let mut rows = vec![
        ["verdict", "theirs right", "theirs wrong"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (verdict, [right, wrong]) in &found.counts {
        let name = json!(verdict).as_str().unwrap_or_default().to_owned();
        rows.push(vec![name, right.to_string(), wrong.to_string()]);
    }
    text.push_str(&format!("\n{}", table(&rows)));
    for row in &found.disagreements {
        text.push_str(&format!(
            "\n{}: {} here, {} there: {}",
            plain(&row.id),
            plain(&json!(row.verdict)),
            plain(&row.theirs),
            row.reason
        ));
    }
    text
}

/// The verdicts by kind.
fn command_output(output: &Path, outcome: &Outcome, as_json: bool) -> super::Result {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for row in Rows::<Value>::open(output)? {
        if let Ok(row) = row? {
            let verdict = row
                .value
                .get("verdict")
                .and_then(Value::as_str)
                .unwrap_or_default();
            *counts.entry(verdict.to_owned()).or_default() += 1;
        }
    }
    let facts = ["correct", "wrong", "no_answer", "ungraded"]
        .map(|verdict| (verdict, json!(counts.get(verdict).copied().unwrap_or(0))));
    Ok(CommandOutput::rows(output, outcome, &facts, as_json))
}
