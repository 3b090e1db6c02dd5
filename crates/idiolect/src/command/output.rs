//! What a command prints: a table for a person, one JSON document for a program.

use std::io::{self, Write};
use std::path::Path;

use idiolect_core::store::Rejects;
use serde_json::{Map, Value, json};

use idiolect::stage::{Outcome, first_refused};

/// The result of a command.
#[derive(Clone, Debug)]
pub(super) struct CommandOutput {
    /// For a person.
    pub(super) text: String,
    /// For a program.
    pub(super) json: Value,
    /// Whether the program is asked for.
    pub(super) as_json: bool,
    /// The exit code.
    pub(super) code: u8,
}

impl CommandOutput {
    /// The result of a stage that wrote rows: a line on what lies where, then `facts` one a line.
    pub(super) fn rows(
        output: &Path,
        outcome: &Outcome,
        facts: &[(&str, Value)],
        as_json: bool,
    ) -> Self {
        let mut text = format!("{}: {} rows", output.display(), outcome.rows);
        if outcome.was_complete {
            text.push_str(" (complete before; nothing to do)");
        }
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            text.push_str(&format!("\n  {name:width$}  {}", plain(value)));
        }
        let mut document = Map::new();
        document.insert("output".into(), json!(output.display().to_string()));
        document.insert("rows".into(), json!(outcome.rows));
        document.insert("refused".into(), json!(outcome.rejected));
        document.insert("seen".into(), json!(outcome.seen));
        document.insert("was_complete".into(), json!(outcome.was_complete));
        document.extend(
            facts
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        if outcome.rejected > 0 {
            let first = first_refused(output).unwrap_or_default();
            let first = first.first().map_or_else(String::new, |row| {
                format!(
                    "; the first is {}, line {}: {}",
                    row.file, row.line, row.reason
                )
            });
            print_error(&format!(
                "{} of {} rows were refused: see {}{first}",
                outcome.rejected,
                outcome.seen,
                Rejects::path_of(output).display()
            ));
        }
        Self {
            text,
            json: Value::Object(document),
            as_json,
            code: super::code(outcome.rejected),
        }
    }
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Prints a result and gives the exit code. A reader that closed the pipe has what it wanted.
pub(super) fn print(output: &CommandOutput) -> u8 {
    let text = if output.as_json {
        serde_json::to_string_pretty(&output.json).unwrap_or_default()
    } else {
        output.text.clone()
    };
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            print_error(&format!("error: cannot write the result: {error}"));
            idiolect::exit::FAILED
        }
        _ => output.code,
    }
}

/// Prints a line on standard error, and ignores that it may be closed.
pub(super) fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A table with a header: the first column left, the others right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_lines_its_columns_up() {
        let rows = [["arm", "greedy"], ["W", "0.141"], ["base", "1"]];
        let rows: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| (*cell).to_owned()).collect())
            .collect();
        assert_eq!(table(&rows), "arm   greedy\nW      0.141\nbase       1");
    }
}
