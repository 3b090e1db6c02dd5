//! How much of the data each kind of trace covers: an arm speaks only of the problems it exists for.

use super::{Block, Section};
use crate::format::{self, NONE, fraction};
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::{Fraction, RunView};

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks: Vec<Block> = view
        .coverage_notes
        .iter()
        .cloned()
        .map(Block::Paragraph)
        .collect();
    if !view.coverage.is_empty() {
        blocks.push(Block::Table(fractions(&view.coverage)));
    }
    blocks.extend(traces(view).map(Block::Table));
    if blocks.is_empty() {
        blocks.push(Block::Missing(
            "This run did not record how much of the data each kind of trace covers.".to_owned(),
        ));
    }
    Section {
        id: "coverage",
        title: "Coverage".to_owned(),
        blocks,
    }
}

fn fractions(coverage: &[Fraction]) -> Table {
    let row = |s: &Fraction| {
        let value = if s.of == 0 {
            NONE.to_owned()
        } else {
            fraction(s.n as f64 / s.of as f64)
        };
        vec![
            s.label.clone(),
            format::number(s.n),
            format::number(s.of),
            value,
        ]
    };
    Table {
        caption: "What exists, of what could exist.".to_owned(),
        columns: vec![left("what"), right("n"), right("of"), right("fraction")],
        rows: coverage.iter().map(row).collect(),
        quiet: Vec::new(),
    }
}

/// Verdicts and steps of the traces of every arm; `None` where neither is known.
fn traces(view: &RunView) -> Option<Table> {
    let rows: Vec<Vec<String>> = reading::ordered(&view.comparison)
        .iter()
        .filter_map(|arm| {
            let verdicts = reading::facts(view, &arm.arm).and_then(|f| f.verdicts);
            if verdicts.is_none() && arm.steps.is_none() {
                return None;
            }
            let counts = verdicts.map_or(vec![NONE.to_owned(); 6], |v| {
                [
                    v.total,
                    v.correct,
                    v.wrong,
                    v.no_answer,
                    v.ungraded,
                    v.truncated,
                ]
                .map(format::number)
                .to_vec()
            });
            let steps = arm.steps.map_or(vec![NONE.to_owned(); 3], |s| {
                [s.valid, s.invalid, s.unchecked]
                    .map(format::number)
                    .to_vec()
            });
            Some([vec![reading::full(arm)], counts, steps].concat())
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        caption: "Verdicts of the traces that each arm holds, and their steps: recomputed and right, recomputed and false, nothing to recompute.".to_owned(),
        columns: vec![
            left("arm"),
            right("traces"),
            right("correct"),
            right("wrong"),
            right("no answer"),
            right("ungraded"),
            right("cut off"),
            right("valid steps"),
            right("invalid"),
            right("unchecked"),
        ],
        rows,
        quiet: Vec::new(),
    })
}
