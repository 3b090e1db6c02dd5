//! Closeness of each arm to the untrained student, and whether it goes with accuracy.

use idiolect_core::comparison::{ArmResult, Correlation, MetricFacts};
use idiolect_core::record::Decoding;

use super::{Block, Section};
use crate::figure::closeness;
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::RunView;
use crate::words::{self, NONE, decimal, quantity, share};

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = Vec::new();
    match (reading::drawn_metric(&view.comparison), closeness::figure(view)) {
        (None, _) => blocks.push(Block::Missing(
            "The arms were not scored under the untrained student in this run, so nothing can be said about closeness.".to_owned(),
        )),
        (Some(_), None) => {
            blocks.push(Block::Missing("Fewer than two arms have both a closeness and an accuracy, so they are not drawn against each other.".to_owned()));
            blocks.push(Block::Table(metrics(view)));
        }
        (Some(_), Some(figure)) => {
            blocks.push(Block::Figure(figure));
            blocks.push(Block::Table(metrics(view)));
let tables: Vec<Table> =
                [Decoding::Greedy, Decoding::Sampled].into_iter().filter_map(|d| correlations(view, d)).collect();
            if tables.is_empty() {
                blocks.push(Block::Missing("No rank correlation over arms was computed.".to_owned()));
            }
            blocks.extend(tables.into_iter().map(Block::Table));
        }
    }
    Section {
        id: "closeness",
        title: "Closeness and accuracy".to_owned(),
        blocks,
    }
}

/// Every metric of every arm that was scored, an arm a column.
fn metrics(view: &RunView) -> Table {
    let comparison = &view.comparison;
    let arms: Vec<&ArmResult> = reading::ordered(comparison)
        .into_iter()
        .filter(|arm| !arm.closeness.is_empty())
        .collect();
    let mut columns = vec![left("metric")];
    columns.extend(arms.iter().map(|arm| right(&arm.arm)));
    columns.push(left("unit; direction"));
    let row = |m: &MetricFacts| {
        let values = arms.iter().map(|arm| {
            arm.closeness
                .get(&m.name)
                .map_or(NONE.to_owned(), |e| quantity(e.value))
        });
        let mut cells = vec![reading::metric_name(&m.name)];
        cells.extend(values);
        cells.push(reading::unit_and_direction(m));
        cells
    };
    Table {
        caption: "Closeness of each arm's traces to the untrained student by every metric, the most accurate arm first. Intervals stand in comparison.json.".to_owned(),
        rows: comparison.metrics.iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    }
}

/// Rank correlations of nearness and accuracy under one decoding; `None` where none were computed.
fn correlations(view: &RunView, decoding: Decoding) -> Option<Table> {
    let comparison = &view.comparison;
    let found: Vec<&Correlation> = comparison
        .correlations
        .iter()
        .filter(|c| c.decoding == decoding)
        .collect();
    if found.is_empty() {
        return None;
    }
    let row = |c: &&Correlation| {
        vec![
            reading::metric_name(&c.metric),
            c.n_arms.to_string(),
            decimal(c.spearman, 2),
            words::p_value(c.p_spearman),
            decimal(c.kendall, 2),
            words::p_value(c.p_kendall),
            c.nearest.clone(),
            share(c.regret),
        ]
    };
    let tests = match (found.iter().all(|c| c.exact), found.iter().any(|c| c.exact)) {
        (true, _) => "exact",
        (false, true) => "exact or random-draw",
        (false, false) => "random-draw",
    };
    Some(Table {
        caption: format!(
            "Does the nearer arm teach more? Rank correlation over arms of nearness and {} (positive: nearer arms taught more), with two-sided {tests} permutation p, not adjusted for the {}. \
             Regret: the accuracy given up by training on the arm that the metric finds nearest instead of the best.",
            reading::measure(comparison, decoding),
            words::counted(found.len(), "metric"),
        ),
        columns: vec![
            left("metric"),
            right("arms"),
            right("Spearman ρ"),
            right("p"),
            right("Kendall τ"),
            right("p"),
            left("nearest"),
            right("regret"),
        ],
        rows: found.iter().map(row).collect(),
        quiet: Vec::new(),
    })
}
