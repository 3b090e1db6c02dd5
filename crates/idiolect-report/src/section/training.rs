//! How training went: losses and dev accuracy. Dev problems are in no arm and choose nothing here.

use std::collections::BTreeMap;

use super::{Block, Section};
use crate::figure::training;
use crate::format::{self, NONE, fraction, quantity};
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::RunView;

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

/// Losses and dev accuracies of one arm in one replicate, by seed.
#[derive(Default)]
struct Runs {
    first: Vec<f64>,
    last: Vec<f64>,
    dev: Vec<(f64, usize)>,
}

/// Loss and dev accuracy by arm and replicate; `None` where neither is known.
fn table(view: &RunView) -> Option<Table> {
    let order: Vec<&str> = reading::ordered(&view.comparison)
        .iter()
        .map(|arm| arm.arm.as_str())
        .collect();
    let place = |arm: &str| {
        order
            .iter()
            .position(|name| *name == arm)
            .unwrap_or(order.len())
    };
    let mut curves: Vec<_> = view.curves.iter().collect();
    curves.sort_by_key(|c| c.seed);
    let mut dev: Vec<_> = view.dev.iter().filter(|d| d.problems > 0).collect();
    dev.sort_by_key(|d| d.seed);
    let mut runs: BTreeMap<(usize, &str, usize), Runs> = BTreeMap::new();
    for c in curves {
        if let (Some(first), Some(last)) = (c.points.first(), c.points.last()) {
            let run = runs
                .entry((place(&c.arm), &c.arm, c.replicate))
                .or_default();
            run.first.push(first.1);
            run.last.push(last.1);
        }
    }
    for d in dev {
        let run = runs
            .entry((place(&d.arm), &d.arm, d.replicate))
            .or_default();
        run.dev
            .push((d.correct as f64 / d.problems as f64, d.problems));
    }
    if runs.is_empty() {
        return None;
    }
    let replicates = view.comparison.n_replicates > 1;
    let mut columns = vec![left("arm")];
    if replicates {
        columns.push(left("replicate"));
    }
    columns.extend(
        [
            "first loss",
            "last loss",
            "dev accuracy",
            "single seeds",
            "dev problems",
        ]
        .map(right),
    );
    let rows = runs.into_iter().map(|((_, arm, replicate), run)| {
        let mut cells = vec![reading::full_name(&view.comparison, arm)];
        if replicates {
            cells.push(reading::replicate_name(view, replicate));
        }
        cells.extend(row(&run));
        cells
    });
    Some(Table {
        caption: "Training by arm: mean loss over seeds at the first and last drawn point, nats per target token, and greedy accuracy on the dev problems, which are in no arm and not in the test.".to_owned(),
        rows: rows.collect(),
        quiet: Vec::new(),
        columns,
    })
}

fn row(run: &Runs) -> [String; 5] {
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let accuracies: Vec<f64> = run.dev.iter().map(|d| d.0).collect();
    let seeds: Vec<String> = accuracies.iter().map(|a| fraction(*a)).collect();
    [
        mean(&run.first).map_or(NONE.to_owned(), quantity),
        mean(&run.last).map_or(NONE.to_owned(), quantity),
        mean(&accuracies).map_or(NONE.to_owned(), fraction),
        if seeds.is_empty() {
            NONE.to_owned()
        } else {
            seeds.join("\u{2002}")
        },
        run.dev
            .iter()
            .map(|d| d.1)
            .max()
            .map_or(NONE.to_owned(), format::number),
    ]
}
