//! Closeness of each arm to the untrained student, and whether it goes with accuracy.

use idiolect_core::comparison::{ArmResult, Correlation};

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
            blocks.push(correlations(view).map_or_else(
                || Block::Missing("Too few arms for a rank correlation.".to_owned()),
                Block::Table,
            ));
        }
    }
    Section {
        id: "closeness",
        title: "Closeness and accuracy".to_owned(),
        blocks,
    }
}

/// Every metric of every arm that was scored.
fn metrics(view: &RunView) -> Table {
    let comparison = &view.comparison;
    let arms: Vec<&ArmResult> = reading::ordered(comparison)
        .into_iter()
        .filter(|arm| !arm.closeness.is_empty())
        .collect();
    let mut columns = vec![left("arm")];
    columns.extend(
        comparison
            .metrics
            .iter()
            .map(|m| right(&reading::metric_name(&m.name))),
    );
    let row = |arm: &&ArmResult| {
        let values = comparison.metrics.iter().map(|m| {
            arm.closeness
                .get(&m.name)
                .map_or(NONE.to_owned(), |e| quantity(e.value))
        });
        [vec![arm.arm.clone()], values.collect()].concat()
    };
    let directions: Vec<String> = comparison
        .metrics
        .iter()
        .map(|m| {
            format!(
                "{} ({}; {})",
                reading::metric_name(&m.name),
                m.unit,
                reading::direction(m.direction)
            )
        })
        .collect();
    Table {
        caption: format!(
            "Closeness of each arm's traces to the untrained student; the most accurate arm first. Units and directions: {}.",
            directions.join(", ")
        ),
        rows: arms.iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    }
}

/// Rank correlations of nearness and accuracy; `None` where none were computed.
fn correlations(view: &RunView) -> Option<Table> {
    let comparison = &view.comparison;
    if comparison.correlations.is_empty() {
        return None;
    }
    let row = |c: &Correlation| {
        vec![
            reading::metric_name(&c.metric),
            reading::measure(comparison, c.decoding),
            c.n_arms.to_string(),
            decimal(c.spearman, 2),
            words::p_value(c.p_spearman),
            decimal(c.kendall, 2),
            words::p_value(c.p_kendall),
            c.nearest.clone(),
            share(c.regret),
        ]
    };
    let exact = if comparison.correlations.iter().all(|c| c.exact) {
        "exact"
    } else {
        "partly random-draw"
    };
    Some(Table {
        caption: format!(
            "Does the nearer arm teach more? Rank correlation over arms of nearness and accuracy (positive: nearer arms taught more), with {exact} two-sided permutation p, not adjusted for the number of metrics. Loss: how much accuracy one gives up by training on the arm that the metric finds nearest instead of the best."
        ),
        columns: vec![
            left("metric"),
            left("accuracy"),
            right("arms"),
            right("ρ"),
            right("p"),
            right("τ"),
            right("p"),
            left("nearest"),
            right("loss"),
        ],
        rows: comparison.correlations.iter().map(row).collect(),
        quiet: Vec::new(),
    })
}
