//! How much of the data each kind of trace covers: an arm speaks only of the problems it exists for.

use super::{Block, Section};
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::{RunView, Share};
use crate::words::{self, NONE, share};

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks: Vec<Block> = view
        .coverage_notes
        .iter()
        .cloned()
        .map(Block::Paragraph)
        .collect();
    if !view.coverage.is_empty() {
        blocks.push(Block::Table(shares(&view.coverage)));
    }
    blocks.extend(verdicts(view).map(Block::Table));
    blocks.extend(steps(view).map(Block::Table));
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

fn shares(coverage: &[Share]) -> Table {
    let row = |s: &Share| {
        let value = if s.of == 0 {
            NONE.to_owned()
        } else {
            share(s.n as f64 / s.of as f64)
        };
        vec![
            s.label.clone(),
            words::number(s.n),
            words::number(s.of),
            value,
        ]
    };
    Table {
        caption: "What exists, of what could exist.".to_owned(),
        columns: vec![left("what"), right("n"), right("of"), right("share")],
        rows: coverage.iter().map(row).collect(),
        quiet: Vec::new(),
    }
}

/// Verdicts of the traces of every arm; `None` where none are known.
fn verdicts(view: &RunView) -> Option<Table> {
    let rows: Vec<Vec<String>> = reading::ordered(&view.comparison)
        .iter()
        .filter_map(|arm| {
            let v = reading::facts(view, &arm.arm)?.verdicts?;
            let counts = [
                v.total,
                v.correct,
                v.wrong,
                v.no_answer,
                v.ungraded,
                v.truncated,
            ]
            .map(words::number);
            Some([vec![arm.arm.clone()], counts.to_vec()].concat())
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        caption: "Verdicts of the traces that each arm holds.".to_owned(),
        columns: vec![
            left("arm"),
            right("traces"),
            right("correct"),
            right("wrong"),
            right("no answer"),
            right("ungraded"),
            right("cut off"),
        ],
        rows,
        quiet: Vec::new(),
    })
}

/// What a checker found of the steps of every arm; `None` where none were checked.
fn steps(view: &RunView) -> Option<Table> {
    let rows: Vec<Vec<String>> = reading::ordered(&view.comparison)
        .iter()
        .filter_map(|arm| {
            let s = arm.steps?;
            let counts = [s.valid, s.invalid, s.unchecked]
                .map(words::number)
                .to_vec();
            Some(
                [
                    vec![arm.arm.clone()],
                    counts,
                    vec![s.valid_share().map_or(NONE.to_owned(), share)],
                ]
                .concat(),
            )
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        caption: "Steps of the traces that each arm holds: recomputed and right, recomputed and false, nothing to recompute.".to_owned(),
        columns: vec![left("arm"), right("valid"), right("invalid"), right("unchecked"), right("valid of checked")],
        rows,
        quiet: Vec::new(),
    })
}
