//! What the answers were: correct, wrong, none, ungraded, cut off. Apart from accuracy, which
//! counts all of them.

use idiolect_core::comparison::{ArmResult, Counts};

use super::{Block, Section};
use crate::format;
use crate::reading::{self, BASE};
use crate::table::{Table, left, right};
use crate::view::RunView;

pub(super) fn section(view: &RunView) -> Section {
    let comparison = &view.comparison;
    let of = |f: &dyn Fn(&str) -> Option<Counts>| -> Vec<(&ArmResult, Counts)> {
        reading::ordered(comparison)
            .into_iter()
            .filter_map(|arm| Some((arm, f(&arm.arm)?)))
            .collect()
    };
    let greedy = of(&|name| {
        reading::arm(comparison, name)?
            .greedy
            .as_ref()
            .map(|a| a.counts)
    });
    let sampled = of(&|name| {
        reading::arm(comparison, name)?
            .sampled
            .as_ref()
            .map(|a| a.counts)
    });
    let mut blocks = Vec::new();
    if !greedy.is_empty() {
        blocks.push(Block::Table(table("Greedy answers", &greedy)));
    }
    if !sampled.is_empty() {
        blocks.push(Block::Table(table("Sampled answers", &sampled)));
    }
    if blocks.is_empty() {
        blocks.push(Block::Missing(
            "No answers were counted in this run.".to_owned(),
        ));
    }
    Section {
        id: "outcomes",
        title: "What the answers were".to_owned(),
        blocks,
    }
}

fn table(what: &str, arms: &[(&ArmResult, Counts)]) -> Table {
    let cell = |n: usize, of: usize| match of {
        0 => format::number(n),
        of => format!(
            "{}\u{2002}({})",
            format::number(n),
            format::fraction(n as f64 / of as f64)
        ),
    };
    let row = |(arm, c): &(&ArmResult, Counts)| {
        let mut cells = vec![reading::full(arm), format::number(c.total)];
        cells.extend(
            [c.correct, c.wrong, c.no_answer, c.ungraded, c.truncated].map(|n| cell(n, c.total)),
        );
        cells
    };
    Table {
        caption: format!(
            "{what}, summed over seeds and replicates: counts and fractions. Cut off by the token limit is counted again, on top of the verdict."
        ),
        columns: vec![
            left("arm"),
            right("answers"),
            right("correct"),
            right("wrong"),
            right("no answer"),
            right("ungraded"),
            right("cut off"),
        ],
        rows: arms.iter().map(row).collect(),
        quiet: arms
            .iter()
            .enumerate()
            .filter(|(_, (arm, _))| arm.arm == BASE)
            .map(|(i, _)| i)
            .collect(),
    }
}
