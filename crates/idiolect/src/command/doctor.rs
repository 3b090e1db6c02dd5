//! `idiolect doctor`.

use std::path::PathBuf;

use idiolect_engine::doctor::{Finding, Severity, examine};
use idiolect_engine::text::Opening;
use serde_json::json;

use super::options::ConfigOption;
use super::output::CommandOutput;
use idiolect::exit;
use idiolect::interrupt::Stop;
use idiolect::model;

/// Report what would go wrong with a model, and how to fix it
///
/// Looks at end tokens, padding, chat template, generation config, vocabulary and the headers of
/// the weights. Exit code 1 where something is an error, else 0.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect doctor --model models/student")]
pub(super) struct Arguments {
    /// A model directory in Hugging Face layout, an adapter directory, or hf:OWNER/NAME
    #[arg(long, value_name = "M")]
    model: String,
    /// The base model of an adapter directory, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOption,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let opening = Opening {
        base: arguments.base.as_deref(),
        ignored_fields: &arguments.config.ignored_fields,
        ..Opening::default()
    };
    let (progress, stop) = (super::progress::stderr(), Stop::default());
    let directory = model::directory(&arguments.model, &progress, &stop)?;
    let findings = examine(&directory, &opening);
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings, notes) = (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note),
    );
    let mut text: Vec<String> = findings.iter().map(line).collect();
    text.push(format!(
        "{errors} errors, {warnings} warnings, {notes} notes"
    ));
    Ok(CommandOutput {
        text: text.join("\n"),
        json: json!({"errors": errors, "warnings": warnings, "notes": notes, "findings": findings}),
        as_json: arguments.json,
        code: if errors > 0 { exit::FAILED } else { exit::DONE },
    })
}

fn line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let mut text = format!("{severity:<8} {}: {}", finding.about, finding.what);
    if !finding.fix.is_empty() {
        text.push_str(&format!("\n{:<8} → {}", "", finding.fix));
    }
    text
}
