//! `idiolect audit`.

use std::path::PathBuf;

use serde_json::json;

use super::numbers;
use super::options;
use super::output::{self, CommandOutput};
use idiolect::stage::StageError;
use idiolect::stage::audit::{Audit, AuditSettings, Finding, audit};

/// Find right answers with false steps, and wrong answers that began rightly
///
/// Reads what `idiolect verify` found of each step. A step is valid or invalid where its arithmetic
/// could be recomputed; the valid prefix of a trace are the steps before its first invalid one.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect audit --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl
  idiolect audit --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl \\
    --arms arms --json > audit.json")]
pub(super) struct Arguments {
    /// The traces' problems
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to look at; may be given again
    #[arg(long, value_name = "T", required = true)]
    traces: Vec<PathBuf>,
    /// Their verdicts; may be given again
    #[arg(long, value_name = "V", required = true)]
    verdicts: Vec<PathBuf>,
    /// Count by the arms of this folder; default by origin
    #[arg(long, value_name = "ARMS_DIR")]
    arms: Option<PathBuf>,
    /// Show so many traces of either kind; --json shows all
    #[arg(long, value_name = "N", default_value_t = 5)]
    show: usize,
    /// Share of refused rows above which the command fails
    #[arg(long, value_name = "FRACTION", default_value_t = 0.01, value_parser = numbers::share)]
    max_rejects: f64,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
    /// Accepted as everywhere; nothing is shown beside the result
    #[arg(short, long)]
    quiet: bool,
    /// Accepted as everywhere; one thread is enough here
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let found = audit(&AuditSettings {
        problems: arguments.problems.clone(),
        traces: options::files(&arguments.traces)?,
        verdicts: options::files(&arguments.verdicts)?,
        arms: arguments.arms.clone(),
    })?;
    let rows: usize = found.groups.values().map(|counts| counts.traces).sum();
    let refused = found.refused.len();
    for bad in found.refused.iter().take(5) {
        output::print_error(&format!("{}:{}: {}", bad.file, bad.line, bad.reason));
    }
    if refused as f64 > arguments.max_rejects * (rows + refused) as f64 {
        return Err(StageError::failed(
            format!("{refused} rows were refused beside {rows} traces that were audited"),
            "the first are named above; --max-rejects allows more",
        ));
    }
    let mut text = table(
        &found,
        if arguments.arms.is_some() {
            "arm"
        } else {
            "origin"
        },
    );
    if found.without_verdict > 0 {
        text.push_str(&format!(
            "\n{} traces have no verdict",
            found.without_verdict
        ));
    }
    text.push_str(&listed(
        "right answers with a false step",
        &found.right_with_invalid,
        arguments.show,
    ));
    text.push_str(&listed(
        "wrong answers with a valid prefix",
        &found.wrong_with_valid_prefix,
        arguments.show,
    ));
    Ok(CommandOutput {
        text,
        json: json!(found),
        as_json: arguments.json,
        code: super::code(refused as u64),
    })
}

fn table(found: &Audit, group: &str) -> String {
    let header = [
        group,
        "traces",
        "right",
        "…false step",
        "wrong",
        "…valid prefix",
        "rounded",
        "valid steps",
        "prefix",
    ];
    let percent =
        |share: Option<f64>| share.map_or("-".to_owned(), |s| format!("{:.1} %", s * 100.0));
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (name, counts) in &found.groups {
        let numbers = [
            counts.traces,
            counts.correct,
            counts.correct_with_invalid,
            counts.wrong,
            counts.wrong_with_valid_prefix,
            counts.ungraded_for_rounding,
        ];
        let mut row = vec![name.clone()];
        row.extend(numbers.iter().map(usize::to_string));
        row.push(percent(counts.valid_share()));
        row.push(percent(counts.mean_prefix_share));
        rows.push(row);
    }
    let note = "rounded: ungraded, since the answer equals the gold only when rounded; valid steps: of those that could be checked; prefix: mean fraction of a trace before its first false step";
    format!("{}\n{note}", output::table(&rows))
}

fn listed(title: &str, findings: &[Finding], most: usize) -> String {
    let mut text = format!("\n\n{title}: {}", findings.len());
    for finding in findings.iter().take(most) {
        let audit = &finding.audit;
        text.push_str(&format!(
            "\n  {} {} ({}): {} of {} steps before the first error",
            finding.problem_id,
            finding.trace_id,
            finding.groups.join(", "),
            audit.prefix_steps,
            audit.steps(),
        ));
        if let Some(error) = &finding.first_error_text {
            // Control characters of a model's text have no business on a terminal.
            let start: String = error.chars().take(160).collect();
            text.push_str(&format!("\n    {:?}", start));
        }
    }
    if findings.len() > most {
        text.push_str(&format!(
            "\n  … {} more; --json lists all",
            findings.len() - most
        ));
    }
    text
}
