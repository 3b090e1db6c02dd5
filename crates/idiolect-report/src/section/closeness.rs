//! Closeness of each arm to the untrained student, and whether it goes with accuracy.

use idiolect_core::comparison::{ArmResult, MetricDescription};
use idiolect_core::record::Decoding;

use super::{Block, Section};
use crate::figure::closeness;
use crate::format::{self, NONE, decimal, fraction, quantity};
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::RunView;

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = Vec::new();
    match (reading::drawn_metric(&view.comparison), closeness::figure(view)) {
        (None, _) => blocks.push(Block::Missing(
            "The arms were not scored under the untrained student in this run, so their closeness is not known.".to_owned(),
        )),
        (Some(_), None) => {
            blocks.push(Block::Missing("Fewer than two arms have both a closeness and an accuracy, so they are not drawn against each other.".to_owned()));
            blocks.push(Block::Table(metrics(view)));
        }
        (Some(_), Some(figure)) => {
            blocks.push(Block::Figure(figure));
            blocks.push(Block::Table(metrics(view)));
blocks.push(correlations(view).map_or_else(
                || Block::Missing("No rank correlation over arms was computed.".to_owned()),
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

/// Every metric of every arm that was scored, an arm a column.
fn metrics(view: &RunView) -> Table {
    let comparison = &view.comparison;
    let arms: Vec<&ArmResult> = reading::ordered(comparison)
        .into_iter()
        .filter(|arm| !arm.closeness.is_empty())
        .collect();
    let mut columns = vec![left("metric")];
    columns.extend(arms.iter().map(|arm| right(&arm.arm)));
    columns.push(left("unit"));
    columns.push(left("nearer"));
    let row = |m: &MetricDescription| {
        let values = arms.iter().map(|arm| {
            arm.closeness
                .get(&m.name)
                .map_or(NONE.to_owned(), |e| quantity(e.value))
        });
        let mut cells = vec![reading::metric_name(&m.name)];
        cells.extend(values);
        cells.push(if m.unit.is_empty() {
            NONE.to_owned()
        } else {
            m.unit.clone()
        });
        cells.push(reading::nearer(m.direction).to_owned());
        cells
    };
    Table {
        caption: "Closeness of each arm's traces to the untrained student by every metric, the most accurate arm first. Intervals are in comparison.json.".to_owned(),
        rows: comparison.metrics.iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    }
}

/// Rank correlations of closeness and accuracy, a metric a row; `None` where none were computed.
fn correlations(view: &RunView) -> Option<Table> {
    let comparison = &view.comparison;
    let found = |decoding: Decoding| {
        comparison
            .correlations
            .iter()
            .any(|c| c.decoding == decoding)
    };
    let decodings: Vec<Decoding> = [Decoding::Greedy, Decoding::Sampled]
        .into_iter()
        .filter(|d| found(*d))
        .collect();
    let mut columns = vec![left("metric"), left("nearest")];
    for decoding in &decodings {
        let name = match decoding {
            Decoding::Greedy => "greedy".to_owned(),
            Decoding::Sampled => reading::measure(comparison, Decoding::Sampled),
        };
        columns.extend([
            right(&format!("{name} ρ")),
            right("p"),
            right("τ"),
            right("p"),
            right("regret"),
        ]);
    }
    let cells = |metric: &MetricDescription, decoding: &Decoding| match reading::correlation(
        comparison,
        &metric.name,
        *decoding,
    ) {
        None => vec![NONE.to_owned(); 5],
        Some(c) => vec![
            decimal(c.spearman, 2),
            format::p_value(c.p_spearman),
            decimal(c.kendall, 2),
            format::p_value(c.p_kendall),
            fraction(c.regret),
        ],
    };
    let row = |m: &MetricDescription| {
        let nearest = comparison.correlations.iter().find(|c| c.metric == m.name);
        let mut out = vec![
            reading::metric_name(&m.name),
            nearest.map_or(NONE.to_owned(), |c| c.nearest.clone()),
        ];
        decodings.iter().for_each(|d| out.extend(cells(m, d)));
        out
    };
    let tests = match (
        comparison.correlations.iter().all(|c| c.exact),
        comparison.correlations.iter().any(|c| c.exact),
    ) {
        (true, _) => "exact",
        (false, true) => "exact or random-draw",
        (false, false) => "random-draw",
    };
    let arms = comparison
        .correlations
        .iter()
        .map(|c| c.n_arms)
        .max()
        .unwrap_or(0);
    (!decodings.is_empty()).then(|| Table {
        caption: format!(
            "Does the nearer arm teach more? Rank correlation (Spearman ρ, Kendall τ) of closeness and accuracy over {}; positive: nearer arms taught more. \
             Two-sided {tests} permutation p, not adjusted for the {}. \
             Regret: the accuracy given up by training on the arm that the metric finds nearest instead of the best.",
            format::counted(arms, "arm"),
            format::counted(comparison.metrics.len(), "metric"),
        ),
        rows: comparison.metrics.iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    })
}
