//! How training went: losses and dev accuracy. Dev problems are in no arm and choose nothing here.

use std::collections::BTreeMap;

use super::{Block, Section};
use crate::figure::training;
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::RunView;
use crate::words::{self, NONE, quantity, share};

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = Vec::new();
    blocks.push(training::figure(view).map_or_else(
        || Block::Missing("No training losses were handed to this report.".to_owned()),
        Block::Figure,
    ));
    blocks.extend(table(view).map(Block::Table));
    Section {
        id: "training",
        title: "Training".to_owned(),
        blocks,
    }
}

/// Loss and dev accuracy of every fine-tuning; `None` where neither is known.
fn table(view: &RunView) -> Option<Table> {
    let mut runs: BTreeMap<(usize, usize, u64), [String; 4]> = BTreeMap::new();
    let order: Vec<String> = reading::ordered(&view.comparison)
        .iter()
        .map(|arm| arm.arm.clone())
        .collect();
    let place = |arm: &str| {
        order
            .iter()
            .position(|name| name == arm)
            .unwrap_or(order.len())
    };
    let blank = |arm: &str| {
        [
            arm.to_owned(),
            NONE.to_owned(),
            NONE.to_owned(),
            NONE.to_owned(),
        ]
    };
    for c in view.curves.iter().filter(|c| !c.points.is_empty()) {
        let cells = runs
            .entry((place(&c.arm), c.world, c.seed))
            .or_insert_with(|| blank(&c.arm));
        cells[1] = c.points.first().map_or(NONE.to_owned(), |p| quantity(p.1));
        cells[2] = c.points.last().map_or(NONE.to_owned(), |p| quantity(p.1));
    }
    for d in view.dev.iter().filter(|d| d.problems > 0) {
        let cells = runs
            .entry((place(&d.arm), d.world, d.seed))
            .or_insert_with(|| blank(&d.arm));
        cells[3] = format!(
            "{}\u{2002}({} of {})",
            share(d.correct as f64 / d.problems as f64),
            d.correct,
            d.problems
        );
    }
    if runs.is_empty() {
        return None;
    }
    let worlds = view.comparison.n_worlds > 1;
    let mut columns = vec![left("arm")];
    if worlds {
        columns.push(left("world"));
    }
    columns.extend([
        right("seed"),
        right("first loss"),
        right("last loss"),
        right("dev accuracy"),
    ]);
    let rows = runs
        .into_iter()
        .map(|((_, world, seed), [arm, first, last, dev])| {
            let mut cells = vec![arm];
            if worlds {
                cells.push(reading::world_name(view, world));
            }
            cells.extend([words::count(seed), first, last, dev]);
            cells
        });
    Some(Table {
        caption: "Every fine-tuning: the first and last drawn loss in nats per target token, and greedy accuracy on the dev problems, which are in no arm.".to_owned(),
        rows: rows.collect(),
        quiet: Vec::new(),
        columns,
    })
}
