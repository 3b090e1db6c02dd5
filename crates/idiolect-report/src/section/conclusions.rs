//! What can be concluded and what cannot, as far as the numbers decide it; the run's own limits
//! follow.

use idiolect_core::arms::Names;
use idiolect_core::comparison::{Comparison, Difference, Relation};
use idiolect_core::record::Decoding;

use super::{Block, Section};
use crate::format::{self, fraction, listed};
use crate::reading::{self, BASE};
use crate::view::RunView;

pub(super) fn section(view: &RunView) -> Section {
    let comparison = &view.comparison;
    let decoding = reading::leading(comparison);
    let names = reading::names(comparison);
    let can = can(comparison, decoding, &names);
    let mut blocks = vec![Block::Heading("What can be concluded".to_owned())];
    blocks.push(if can.is_empty() {
        Block::Paragraph("Nothing about which arm teaches more: no difference in this run passes its adjusted test.".to_owned())
    } else {
        Block::List(can)
    });
    blocks.push(Block::Heading("What cannot".to_owned()));
    blocks.push(Block::List(cannot(view, decoding, &names)));
    if !comparison.warnings.is_empty() {
        blocks.push(Block::Heading("Warnings".to_owned()));
        blocks.push(Block::List(warnings(&comparison.warnings)));
    }
    Section {
        id: "conclusions",
        title: "What this run can and cannot show".to_owned(),
        blocks,
    }
}

fn can(comparison: &Comparison, decoding: Decoding, names: &Names) -> Vec<String> {
    let scope = match (comparison.n_replicates, reading::seeds(comparison)) {
        (0 | 1, Some((1, _))) => "For this student, these checkpoints and this set of problems",
        (0 | 1, _) => "For this student, over fine-tuning seeds",
        _ => "Over these replicates",
    };
    let mut out = Vec::new();
    for baseline in &comparison.baselines {
        for (relation, word) in [(Relation::Above, "more"), (Relation::Below, "less")] {
            let arms = related(comparison, baseline, decoding, relation);
            if !arms.is_empty() {
                let compared: Vec<&str> = arms.iter().map(|d| d.arm.as_str()).collect();
                let smallest = arms
                    .iter()
                    .map(|d| d.difference.abs())
                    .fold(f64::INFINITY, f64::min);
                let largest = arms.iter().map(|d| d.difference.abs()).fold(0.0, f64::max);
                let size = if arms.len() == 1 {
                    fraction(largest)
                } else {
                    format!("{} to {}", fraction(smallest), fraction(largest))
                };
                out.push(format!(
                    "{scope}, {} {} {word} accurate than {} (by {size}, after Holm's adjustment).",
                    listed(&names.of_all(&compared)),
                    is(&compared),
                    names.of(baseline)
                ));
            }
        }
    }
    if let Some(best) = comparison
        .best
        .as_ref()
        .filter(|best| best.arm != BASE && !reading::near_zero(comparison))
        .filter(|best| best.not_distinguished_from.len() + 1 < comparison.arms.len())
    {
        out.push(match best.not_distinguished_from.as_slice() {
            [] => format!(
                "{} is distinguished from every other arm.",
                names.of(&best.arm)
            ),
            others => format!(
                "{} is the most accurate arm but is not distinguished from {}.",
                names.of(&best.arm),
                listed(&names.of_all(others))
            ),
        });
    }
    out
}

fn is(names: &[&str]) -> &'static str {
    if names.len() == 1 { "is" } else { "are" }
}

fn related<'a>(
    comparison: &'a Comparison,
    baseline: &str,
    decoding: Decoding,
    relation: Relation,
) -> Vec<&'a Difference> {
    let mut found: Vec<&Difference> = comparison
        .differences
        .iter()
        .filter(|d| d.baseline == baseline && d.decoding == decoding && d.relation == relation)
        .collect();
    found.sort_by(|a, b| {
        b.difference
            .abs()
            .total_cmp(&a.difference.abs())
            .then_with(|| a.arm.cmp(&b.arm))
    });
    found
}

fn cannot(view: &RunView, decoding: Decoding, names: &Names) -> Vec<String> {
    let comparison = &view.comparison;
    let mut out = Vec::new();
    if reading::near_zero(comparison) {
        out.push(
            "Accuracies this near zero rank nothing: they do not show that any arm is useless, only that this student does not reach an answer after any of them.".to_owned(),
        );
    }
    for baseline in &comparison.baselines {
        let open = related(comparison, baseline, decoding, Relation::Unresolved);
        if !open.is_empty() {
            let compared: Vec<&str> = open.iter().map(|d| d.arm.as_str()).collect();
            let largest: Option<f64> = open
                .iter()
                .map(|d| d.smallest_detectable)
                .try_fold(0.0, |most, d| Some(f64::max(most, d?)));
            let unseen = largest.map_or_else(
                || {
                    format!(
                        "no difference can be detected from {}",
                        format::counted(comparison.n_problems, "problem")
                    )
                },
                |largest| {
                    format!(
                        "a true difference below about {} would mostly go unseen here",
                        format::positive_fraction(largest)
                    )
                },
            );
            out.push(format!(
                "{} {} not distinguished from {}. That is no proof of equality: {unseen}.",
                listed(&names.of_all(&compared)),
                is(&compared),
                names.of(baseline)
            ));
        }
    }
    if let Some(c) = reading::drawn_metric(comparison)
        .and_then(|m| reading::correlation(comparison, &m.name, decoding))
    {
        out.push(format!(
            "The correlation of closeness and accuracy rests on {} arms{}. It is over arms of this run, not over data sets, and shows no cause.",
            c.n_arms,
            floor(c.n_arms).map_or(String::new(), |p| format!("; no order of so few could give a two-sided p below {p}"))
        ));
    }
    match (reading::seeds(comparison), comparison.n_replicates) {
        _ if !reading::is_of_trainings(comparison) => {}
        (Some((1, _)), 0 | 1) => out.push("With one fine-tuning seed an arm cannot be distinguished from the luck of its training: read “this checkpoint”, not “this arm”.".to_owned()),
        (Some(_), 0 | 1) => out.push("Seeds repeat the fine-tuning only. The student, the split and the traces were made once; their own spread is not in the intervals.".to_owned()),
        _ => {}
    }
    for text in &view.limits {
        out.push(sentence(text));
    }
    out
}

/// Warnings as sentences; those that differ only in the one name they quote become one.
fn warnings(texts: &[String]) -> Vec<String> {
    let split = |text: &str| -> Option<(String, String, String)> {
        let parts: Vec<&str> = text.split('`').collect();
        let [before, name, after] = parts[..] else {
            return None;
        };
        Some((before.to_owned(), name.to_owned(), after.to_owned()))
    };
    let mut groups: Vec<(String, Vec<String>, String)> = Vec::new();
    for text in texts {
        let (before, name, after) = match split(text) {
            Some((before, name, after)) => (before, vec![name], after),
            None => (text.clone(), Vec::new(), String::new()),
        };
        match groups
            .iter_mut()
            .find(|g| !name.is_empty() && g.0 == before && g.2 == after)
        {
            Some(group) => group.1.extend(name),
            None => groups.push((before, name, after)),
        }
    }
    let joined = |(before, names, after): &(String, Vec<String>, String)| match names.as_slice() {
        [first, others @ ..] if !others.is_empty() => sentence(&format!(
            "{before}{first} (likewise {}){after}",
            listed(others)
        )),
        names => sentence(&format!("{before}{}{after}", names.concat())),
    };
    groups.iter().map(joined).collect()
}

/// A warning as a sentence: a capital, a full stop, no code marks.
fn sentence(text: &str) -> String {
    let plain = text.replace('`', "");
    let stop = if plain.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    crate::figure::accuracy::capital(&plain) + stop
}

/// The smallest two-sided permutation p over `n` arms, 2/n!, where it is large enough to matter.
fn floor(n: usize) -> Option<String> {
    (2..=6)
        .contains(&n)
        .then(|| format::p_value(2.0 / (1..=n).product::<usize>() as f64))
}

#[cfg(test)]
mod tests {
    use super::warnings;

    #[test]
    fn warnings_that_differ_in_a_name_become_one() {
        let texts = [
            "arm `H` is one run: why",
            "few problems",
            "arm `G` is one run: why",
            "arms `a` and `b` are alike",
            "arm `W` is one run: why",
        ];
        let items = warnings(&texts.map(str::to_owned));
        assert_eq!(
            items,
            [
                "Arm H (likewise G and W) is one run: why.",
                "Few problems.",
                "Arms a and b are alike."
            ]
        );
    }
}
