//! What each arm holds and what the student reached on it: the figure, the table of results, the
//! table of contents, each replicate apart, and the short table for the terminal.

use idiolect_core::comparison::{ArmResult, Comparison};
use idiolect_core::record::Decoding;

use super::{Block, Section};
use crate::figure::accuracy;
use crate::format::{self, NONE, fraction, fraction_interval, quantity, signed};
use crate::reading::{self, BASE};
use crate::table::{Table, left, right};
use crate::view::RunView;

/// More single values than this are shown as their range.
const LISTED: usize = 5;

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = Vec::new();
    if let Some(why) = accuracy::missing(&view.comparison) {
        blocks.push(Block::Missing(why.to_owned()));
    }
    blocks.extend(accuracy::figure(view).map(Block::Figure));
    if !view.comparison.arms.is_empty() {
        blocks.push(Block::Table(results(&view.comparison)));
        let contents = contents(view).without_blank_columns();
        // The names alone state nothing.
        if contents.columns.len() > 1 {
            blocks.push(Block::Table(contents));
        }
    }
    blocks.extend(by_replicate(view).map(Block::Table));
    Section {
        id: "arms",
        title: match reading::is_of_trainings(&view.comparison) {
            true => "What each arm taught",
            false => "How accurate each is",
        }
        .to_owned(),
        blocks,
    }
}

/// The table of arms for a terminal of that many columns, as wide as it is where that is unknown.
pub(crate) fn terminal(comparison: &Comparison, width: Option<usize>) -> String {
    let decoding = reading::leading(comparison);
    let mut table = results(comparison);
    if arms_with_rows(comparison) {
        table.columns.push(right("rows trained"));
        for (row, arm) in table.rows.iter_mut().zip(reading::ordered(comparison)) {
            row.push(arm.rows.map_or(NONE.to_owned(), format::number));
        }
    }
    let baseline = comparison.baselines.first();
    if let Some(baseline) = baseline {
        table
            .columns
            .extend([right(&format!("vs {baseline}")), right("p Holm")]);
        for (row, arm) in table.rows.iter_mut().zip(reading::ordered(comparison)) {
            let d = reading::difference(comparison, &arm.arm, baseline, decoding);
            row.push(d.map_or(NONE.to_owned(), |d| signed(d.difference)));
            row.push(d.map_or(NONE.to_owned(), |d| format::p_value(d.p_holm)));
        }
    }
    let left_out = width.map_or(Vec::new(), |width| fit(&mut table, comparison, width));
    let left_out = match left_out.is_empty() {
        true => String::new(),
        false => format!(
            "not shown for want of width: {} (--json holds everything)\n",
            left_out.join(", ")
        ),
    };
    format!(
        "{}\n{}, {}, {} intervals\n{left_out}",
        table.text(),
        format::counted(comparison.n_problems, "test problem"),
        reading::replication(comparison),
        reading::coverage(comparison)
    )
}

/// Leaves out what matters least until the table fits, and at last the descriptions of the arms.
fn fit(table: &mut Table, comparison: &Comparison, width: usize) -> Vec<String> {
    let mut least: Vec<(String, usize)> = Vec::new();
    if let Some(k) = reading::samples(comparison) {
        least.extend([(format!("pass@{k}"), 0), (format!("maj@{k}"), 0)]);
    }
    least.extend([
        ("single seeds".to_owned(), 0),
        ("rows trained".to_owned(), 0),
    ]);
    // The accuracy that is compared stays.
    if reading::leading(comparison) == Decoding::Greedy {
        least.push((reading::measure(comparison, Decoding::Sampled), 1));
    }
    let metric = reading::drawn_metric(comparison);
    least.extend(metric.map(|m| (reading::metric_name(&m.name), 0)));
    let mut left_out = Vec::new();
    for (head, behind) in least {
        if table.width() > width && table.leave_out(&head, behind) {
            left_out.push(head);
        }
    }
    if table.width() > width {
        for (row, arm) in table.rows.iter_mut().zip(reading::ordered(comparison)) {
            row[0].clone_from(&arm.arm);
        }
        left_out.push("what the arms hold".to_owned());
    }
    left_out
}

fn arms_with_rows(comparison: &Comparison) -> bool {
    comparison.arms.iter().any(|arm| arm.rows.is_some())
}

/// Accuracy of every arm, with only the columns that some arm has a number for.
fn results(comparison: &Comparison) -> Table {
    let arms = reading::ordered(comparison);
    let metric = reading::drawn_metric(comparison);
    let k = reading::samples(comparison);
    let greedy = arms.iter().any(|arm| arm.greedy.is_some());
    let seeds = arms
        .iter()
        .any(|arm| arm.greedy.as_ref().is_some_and(|g| g.per_seed.len() > 1));
    let passes = k.filter(|k| {
        arms.iter().any(|arm| {
            arm.sampled
                .as_ref()
                .is_some_and(|s| s.pass_at.contains_key(k))
        })
    });
    let interval = format!("[{}]", reading::coverage(comparison));
    let mut columns = vec![left("arm")];
    columns.extend(metric.map(|m| right(&reading::metric_name(&m.name))));
    if greedy {
        columns.extend([right("greedy"), right(&interval)]);
    }
    if seeds {
        columns.push(right("single seeds"));
    }
    if let Some(k) = k {
        columns.extend([
            right(&reading::measure(comparison, Decoding::Sampled)),
            right(&interval),
            right(&format!("maj@{k}")),
        ]);
    }
    columns.extend(passes.map(|k| right(&format!("pass@{k}"))));
    let row = |arm: &&ArmResult| {
        let mut cells = vec![reading::full(arm)];
        cells.extend(metric.map(|m| {
            arm.closeness
                .get(&m.name)
                .map_or(NONE.to_owned(), |e| quantity(e.value))
        }));
        if greedy {
            cells.extend(estimate(arm, Decoding::Greedy));
        }
        if seeds {
            cells.push(single_seeds(arm));
        }
        if k.is_some() {
            cells.extend(estimate(arm, Decoding::Sampled));
            cells.push(
                arm.sampled
                    .as_ref()
                    .map_or(NONE.to_owned(), |s| fraction(s.maj_at_k)),
            );
        }
        cells.extend(passes.map(|k| {
            let pass = arm.sampled.as_ref().and_then(|s| s.pass_at.get(&k));
            pass.map_or(NONE.to_owned(), |p| fraction(*p))
        }));
        cells
    };
    Table {
        caption: format!(
            "Accuracy over all {} (unreadable and truncated answers count as not correct), {}, with {} intervals; the most accurate first.{}",
            format::counted(comparison.n_problems, "test problem"),
            reading::replication(comparison),
            reading::coverage(comparison),
            reading::wilson_note(comparison)
        ),
        rows: arms.iter().map(row).collect(),
        quiet: arms
            .iter()
            .enumerate()
            .filter(|(_, arm)| arm.arm == BASE)
            .map(|(i, _)| i)
            .collect(),
        columns,
    }
}

fn estimate(arm: &ArmResult, decoding: Decoding) -> [String; 2] {
    match reading::accuracy(arm, decoding) {
        Some(a) => [
            fraction(a.value),
            fraction_interval((a.interval.low, a.interval.high)),
        ],
        None => [NONE.to_owned(), NONE.to_owned()],
    }
}

fn single_seeds(arm: &ArmResult) -> String {
    let values: Vec<f64> = arm
        .greedy
        .iter()
        .flat_map(|g| &g.per_seed)
        .map(|s| s.accuracy)
        .collect();
    match values.as_slice() {
        [] => NONE.to_owned(),
        values if values.len() <= LISTED => values
            .iter()
            .map(|v| fraction(*v))
            .collect::<Vec<_>>()
            .join("\u{2002}"),
        values => {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{} to {} ({})", fraction(low), fraction(high), values.len())
        }
    }
}

/// What was trained on: description, rows, tokens, verdicts, steps.
fn contents(view: &RunView) -> Table {
    let comparison = &view.comparison;
    let arms = reading::ordered(comparison);
    let number = |n: Option<usize>| n.map_or(NONE.to_owned(), format::number);
    let row = |arm: &&ArmResult| {
        let facts = reading::facts(view, &arm.arm);
        let about = facts.map_or("", |f| f.about.as_str());
        let per_row = arm
            .tokens
            .zip(arm.rows)
            .filter(|(_, rows)| *rows > 0)
            .map(|(t, rows)| format::decimal(t as f64 / rows as f64, 1));
        let correct = facts
            .and_then(|f| f.verdicts)
            .filter(|v| v.total > 0)
            .map(|v| fraction(v.correct as f64 / v.total as f64));
        let steps = arm.steps.and_then(|s| s.valid_share()).map(fraction);
        vec![
            reading::full(arm),
            if about.is_empty() {
                NONE.to_owned()
            } else {
                about.to_owned()
            },
            number(facts.and_then(|f| f.problems)),
            number(arm.rows),
            arm.tokens.map_or(NONE.to_owned(), format::count),
            per_row.unwrap_or(NONE.to_owned()),
            correct.unwrap_or(NONE.to_owned()),
            steps.unwrap_or(NONE.to_owned()),
        ]
    };
    Table {
        caption: "What each arm holds. Tokens are those of the completions; valid steps are fractions of the steps that a checker could recompute.".to_owned(),
        columns: vec![
            left("arm"),
            left("holds"),
            right("problems"),
            right("rows trained"),
            right("tokens"),
            right("per row"),
            right("correct"),
            right("valid steps"),
        ],
        rows: arms.iter().map(row).collect(),
        quiet: arms.iter().enumerate().filter(|(_, arm)| arm.arm == BASE).map(|(i, _)| i).collect(),
    }
}

/// Greedy accuracy in each replicate; `None` with one replicate.
fn by_replicate(view: &RunView) -> Option<Table> {
    let comparison = &view.comparison;
    if comparison.n_replicates < 2 {
        return None;
    }
    let row = |arm: &&ArmResult| {
        let seeds = arm.greedy.iter().flat_map(|g| &g.per_seed);
        let cell = |replicate: usize| {
            let values: Vec<f64> = seeds
                .clone()
                .filter(|s| s.replicate == replicate)
                .map(|s| s.accuracy)
                .collect();
            if values.is_empty() {
                NONE.to_owned()
            } else {
                fraction(values.iter().sum::<f64>() / values.len() as f64)
            }
        };
        let mut cells = vec![reading::full(arm)];
        cells.extend((0..comparison.n_replicates).map(cell));
        cells.push(
            arm.greedy
                .as_ref()
                .and_then(|g| g.replicate_error)
                .map_or(NONE.to_owned(), fraction),
        );
        cells
    };
    let mut columns = vec![left("arm")];
    columns.extend(
        (0..comparison.n_replicates)
            .map(|w| right(&format::inline(&reading::replicate_name(view, w)))),
    );
    columns.push(right("standard error"));
    Some(Table {
        caption: "Greedy accuracy in each replicate (mean over fine-tuning seeds), and the standard error of the overall mean from the spread over replicates.".to_owned(),
        rows: reading::ordered(comparison).iter().map(row).collect(),
        quiet: Vec::new(),
        columns,
    })
}
