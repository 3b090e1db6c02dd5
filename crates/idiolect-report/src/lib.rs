#![doc = include_str!("../README.md")]

mod explore;
mod figure;
mod format;
mod markdown;
mod page;
mod reading;
mod section;
mod svg;
mod table;
pub mod view;

use idiolect_core::comparison::Comparison;

pub use view::RunView;

/// What every page and Markdown text of this crate holds: by it one is told from a file of the user's.
pub const MARK: &str = "Written by idiolect";

/// The report as one HTML file that needs no network: `report.html`. Without script it shows all
/// numbers; with script tables sort and filter, and answers and training rows can be looked through.
pub fn html(view: &RunView) -> String {
    page::html(view)
}

/// The overview of a run over several students: what each one's own report answers, with a link to
/// it at `students/NAME/report.html`.
pub fn students_html(students: &[(String, RunView)]) -> String {
    page::students(students)
}

/// A page over a run that goes, for a server that answers `/run.json` and `/traces/ID`.
pub fn live_html(title: &str) -> String {
    page::live(title)
}

/// Traces as that page draws them, each with a text on who wrote it: the answer of `/traces/ID`.
pub fn traces_json(traces: &[(String, view::Example)]) -> serde_json::Value {
    explore::traces(traces).into()
}

/// A document whose texts are made safe to show: what hides or reorders text becomes visible.
pub fn shown(document: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match document {
        Value::String(text) => format::visible(&text).into(),
        Value::Array(items) => items.into_iter().map(shown).collect(),
        Value::Object(fields) => fields.into_iter().map(|(k, v)| (k, shown(v))).collect(),
        other => other,
    }
}

/// The same sections as Markdown: `report.md`.
pub fn markdown(view: &RunView) -> String {
    markdown::markdown(view)
}

/// The numbers behind each figure: file name and CSV text. A figure that the run has no numbers
/// for gives its heads alone.
pub fn csv(view: &RunView) -> Vec<(&'static str, String)> {
    vec![
        ("accuracy.csv", figure::accuracy::rows(view)),
        ("closeness.csv", figure::closeness::rows(view)),
        ("dose.csv", figure::dose::rows(view)),
        ("gold.csv", figure::gold::rows(view)),
        ("training.csv", figure::training::rows(view)),
    ]
}

/// The arms with their accuracies as aligned text for a terminal, the most accurate first. Where
/// the terminal's `width` in columns is known, what matters least is left out until it fits, and said.
pub fn arms_table(comparison: &Comparison, width: Option<usize>) -> String {
    section::terminal(comparison, width)
}
