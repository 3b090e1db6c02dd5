//! The dose curve: how much harm a given fraction of flawed steps does.

use super::{Block, Section};
use crate::figure::dose;
use crate::format::{self, NONE, fraction, fraction_interval, quantity};
use crate::table::{Table, left, right};
use crate::view::RunView;

/// The section; `None` of a run without arms of injected flaws (F25, F50, …).
pub(super) fn section(view: &RunView) -> Option<Section> {
    let figure = dose::figure(view)?;
    Some(Section {
        id: "dose",
        title: "The dose of flaws".to_owned(),
        blocks: vec![Block::Figure(figure), Block::Table(table(view))],
    })
}

fn table(view: &RunView) -> Table {
    let comparison = &view.comparison;
    let rows = comparison.dose_curve.iter().map(|p| {
        vec![
            crate::reading::full_name(comparison, &p.arm),
            format::percent(p.dose),
            fraction(p.accuracy.value),
            fraction_interval((p.accuracy.interval.low, p.accuracy.interval.high)),
            p.valid_steps.map_or(NONE.to_owned(), fraction),
            p.nll_per_token.map_or(NONE.to_owned(), quantity),
        ]
    });
    Table {
        caption: format!(
            "The dose curve in numbers, {}.",
            format::counted(comparison.n_problems, "problem")
        ),
        columns: vec![
            left("arm"),
            right("steps flawed"),
            right("greedy"),
            right(&format!("[{}]", crate::reading::coverage(comparison))),
            right("valid steps"),
            right("NLL per token"),
        ],
        rows: rows.collect(),
        quiet: Vec::new(),
    }
}
