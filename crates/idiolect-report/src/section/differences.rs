//! Paired differences against each baseline, with adjusted p and what could have been seen.

use idiolect_core::comparison::{Comparison, Difference, McNemar, Relation};
use idiolect_core::record::Decoding;

use super::{Block, Section};
use crate::format::{self, NONE, fraction, signed, signed_interval};
use crate::reading;
use crate::table::{Table, left, right};
use crate::view::RunView;

pub(super) fn section(view: &RunView) -> Section {
    let comparison = &view.comparison;
    let mut blocks = Vec::new();
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        for baseline in &comparison.baselines {
            let found: Vec<&Difference> = comparison
                .differences
                .iter()
                .filter(|d| &d.baseline == baseline && d.decoding == decoding)
                .collect();
            if !found.is_empty() {
                blocks.push(Block::Table(table(comparison, found, baseline, decoding)));
            }
        }
    }
    if blocks.is_empty() {
        let why =
            "No arm was compared with a baseline in this run, so there are no paired differences.";
        blocks.push(Block::Missing(why.to_owned()));
    } else {
        blocks.insert(0, Block::Paragraph(method(comparison)));
    }
    blocks.extend(by_replicate(view).map(Block::Table));
    Section {
        id: "differences",
        title: "Differences, paired by problem".to_owned(),
        blocks,
    }
}

/// What the columns mean.
fn method(comparison: &Comparison) -> String {
    let mut methods: Vec<&str> = comparison
        .differences
        .iter()
        .map(|d| d.method.as_str())
        .filter(|m| !m.is_empty())
        .collect();
    methods.sort_unstable();
    methods.dedup();
    let mut tests: Vec<&str> = comparison
        .differences
        .iter()
        .map(|d| d.p_method.as_str())
        .filter(|m| !m.is_empty())
        .collect();
    tests.sort_unstable();
    tests.dedup();
    let made = |what: &str, how: &[&str]| {
        if how.is_empty() {
            String::new()
        } else {
            format!(" {what}: {}.", how.join("; ").trim_end_matches('.'))
        }
    };
    format!(
        "Each difference is the arm's accuracy minus the baseline's on the same problems.{}{} Holm's adjustment is over the arms of one table. \
         “Detectable” is the smallest true difference that such a comparison would find four times in five{}. \
         Gained and lost are fractions of problems that only the arm, or only the baseline, gets right. \
         McNemar: the exact test of single greedy checkpoints, its p with one, else how many of them pass .05 unadjusted.",
        made("Intervals", &methods),
        made("Tests", &tests),
        if comparison
            .differences
            .iter()
            .any(|d| d.smallest_detectable.is_none())
        {
            format!(
                "; none can be detected from {}",
                format::counted(comparison.n_problems, "problem")
            )
        } else {
            String::new()
        }
    )
}

fn table(
    comparison: &Comparison,
    mut found: Vec<&Difference>,
    baseline: &str,
    decoding: Decoding,
) -> Table {
    found.sort_by(|a, b| {
        b.difference
            .total_cmp(&a.difference)
            .then_with(|| a.arm.cmp(&b.arm))
    });
    let greedy = found.iter().any(|d| !d.mcnemar.is_empty());
    let mut columns = vec![
        left("arm"),
        right("difference"),
        right(&format!("[{}]", reading::coverage(comparison))),
        right("p"),
        right("p Holm"),
        left("reads"),
        right("detectable"),
        right("gained"),
        right("lost"),
    ];
    if greedy {
        columns.push(right("McNemar"));
    }
    let row = |d: &&Difference| {
        let mut cells = vec![
            reading::full_name(comparison, &d.arm),
            signed(d.difference),
            signed_interval((d.interval.low, d.interval.high)),
            format::p_value(d.p),
            format::p_value(d.p_holm),
            reads(d.relation).to_owned(),
            d.smallest_detectable
                .map_or(NONE.to_owned(), format::positive_fraction),
            fraction(d.gained),
            fraction(d.lost),
        ];
        if greedy {
            cells.push(mcnemar(&d.mcnemar));
        }
        cells
    };
    Table {
        caption: format!(
            "{} minus that of {}, {}, {}.",
            crate::figure::accuracy::capital(&reading::measure(comparison, decoding)),
            reading::full_name(comparison, baseline),
            format::counted(
                found.iter().map(|d| d.n_problems).max().unwrap_or(0),
                "problem"
            ),
            reading::replication(comparison)
        ),
        rows: found.iter().map(row).collect(),
        quiet: found
            .iter()
            .enumerate()
            .filter(|(_, d)| d.relation == Relation::Unresolved)
            .map(|(i, _)| i)
            .collect(),
        columns,
    }
}

/// The verdict of the adjusted test in a word.
fn reads(relation: Relation) -> &'static str {
    match relation {
        Relation::Above => "▲ above",
        Relation::Below => "▼ below",
        Relation::Unresolved => "· unresolved",
    }
}

/// The p of a single checkpoint, or how many of several checkpoints differ at p < .05.
fn mcnemar(tests: &[McNemar]) -> String {
    match tests {
        [] => NONE.to_owned(),
        [one] => format::p_value(one.p),
        tests => format!(
            "{} of {}",
            tests.iter().filter(|t| t.p < 0.05).count(),
            tests.len()
        ),
    }
}

/// Greedy differences in each replicate against the first baseline; `None` with one replicate.
fn by_replicate(view: &RunView) -> Option<Table> {
    let comparison = &view.comparison;
    let baseline = comparison.baselines.first()?;
    if comparison.n_replicates < 2 {
        return None;
    }
    let decoding = reading::leading(comparison);
    let mut found: Vec<&Difference> = comparison
        .differences
        .iter()
        .filter(|d| &d.baseline == baseline && d.decoding == decoding)
        .collect();
    found.sort_by(|a, b| {
        b.difference
            .total_cmp(&a.difference)
            .then_with(|| a.arm.cmp(&b.arm))
    });
    let mut columns = vec![left("arm")];
    columns.extend(
        (0..comparison.n_replicates)
            .map(|w| right(&format::inline(&reading::replicate_name(view, w)))),
    );
    let row = |d: &&Difference| {
        [
            vec![reading::full_name(comparison, &d.arm)],
            d.per_replicate.iter().map(|v| signed(*v)).collect(),
        ]
        .concat()
    };
    Some(Table {
        caption: format!(
            "{} minus that of {} in each replicate.",
            crate::figure::accuracy::capital(&reading::measure(comparison, decoding)),
            reading::full_name(comparison, baseline)
        ),
        rows: found.iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    })
}
