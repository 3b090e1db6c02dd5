//! Factor analysis: is it the answer, the closeness or the steps that teach?
//!
//! Arms of attempts (no content control, not the student's own samples) are placed by what was measured of them as answer right or wrong × near or far × steps
//! valid or flawed. A main effect is the mean over strata (the levels of the other two factors) of
//! the difference of cell means; only strata with arms on both sides count, so that no effect is
//! read off arms that differ in something else as well. An interaction is the difference of such
//! differences. What no stratum can show is stated to be so.

use std::collections::BTreeMap;

use super::answers::{Answers, Checkpoint};
use super::{ArmData, ArmResult, CompareOptions};
use crate::arms::{ArmSpec, Source};
use crate::record::Decoding;
use crate::statistics::bootstrap::{Term, contrast};
use crate::statistics::few::{FEWEST, differing};
use crate::statistics::{Interval, mean};
use idiolect_model::Rng;
use serde::{Deserialize, Serialize};

/// Shares of right answers from which an arm counts as right, and up to which as wrong.
const RIGHT: f64 = 0.8;
const WRONG: f64 = 0.2;
/// Share of valid steps, of those checked, from which an arm counts as valid.
const VALID: f64 = 0.9;
/// Arms whose surprisals differ by less than this factor are all near.
const SPREAD: f64 = 1.5;

/// Arms by factor and what each factor does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorAnalysis {
    /// How the levels were set, as text.
    pub method: String,
    /// The levels of each arm, in the order of arms.
    pub arms: Vec<FactorLevels>,
    /// Main effects, then interactions.
    pub effects: Vec<FactorEffect>,
}

/// The levels of an arm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorLevels {
    /// The arm.
    pub arm: String,
    /// Its answers are right; not if they are wrong.
    pub right: bool,
    /// Near to the student.
    pub near: bool,
    /// Its steps are valid.
    pub valid: bool,
}

/// What a factor does to greedy accuracy (avg@k where there is no greedy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorEffect {
    /// For example `answer right` or `answer right × near`.
    pub factor: String,
    /// Share; absent where no stratum shows it.
    pub effect: Option<f64>,
    /// Its bootstrap interval over replicates, seeds and problems; absent where the effect is, and where
    /// it is the same on all but five problems or fewer: too few to resample.
    pub interval: Option<Interval>,
    /// The arms behind it, for example `near, steps valid: G, P − R`.
    pub strata: Vec<String>,
}

const FACTORS: [(&str, [&str; 2]); 3] = [
    ("answer right", ["answer right", "answer wrong"]),
    ("near", ["near", "far"]),
    ("steps valid", ["steps valid", "steps flawed"]),
];

/// The analysis; `None` where fewer than two arms can be placed.
pub(super) fn analyse(
    results: &[ArmResult],
    arms: &[ArmData],
    answers: &Answers,
    options: &CompareOptions,
) -> Option<FactorAnalysis> {
    let placed = place(results, arms);
    if placed.len() < 2 {
        return None;
    }
    let mut cells: BTreeMap<[bool; 3], Vec<&str>> = BTreeMap::new();
    for arm in &placed {
        cells
            .entry([arm.right, arm.near, arm.valid])
            .or_default()
            .push(&arm.arm);
    }
    let mut effects: Vec<FactorEffect> = (0..3)
        .map(|factor| effect(&[factor], &cells, answers, options))
        .collect();
    effects.extend(
        [[0, 1], [0, 2], [1, 2]]
            .iter()
            .map(|pair| effect(pair, &cells, answers, options)),
    );
    Some(FactorAnalysis {
        method: format!(
            "answer right: at least {:.0} % of the rows verified correct, wrong: at most {:.0} %, others left out; \
             near: surprisal per token at most the geometric mean of the nearest and the farthest arm's; \
             steps valid: at least {:.0} % of the checked steps. An effect is the mean over strata of differences \
             of cell means; a cell is the mean of its arms",
            100.0 * RIGHT,
            100.0 * WRONG,
            100.0 * VALID
        ),
        arms: placed,
        effects,
    })
}

/// Whether an arm holds attempts at its problems, as far as its name or spec states. A content control
/// has none to compare, and the student's own samples are right or wrong as they come.
fn attempts(arm: &str, arms: &[ArmData]) -> bool {
    let spec = arms
        .iter()
        .find(|data| data.arm == arm)
        .and_then(|data| data.spec.as_deref())
        .unwrap_or(arm);
    let spec = format!("arm={spec}").parse::<ArmSpec>();
    let without = |source: &Source| matches!(source, Source::Control | Source::Own);
    !spec.is_ok_and(|spec| spec.parts.iter().any(|part| without(&part.source)))
}

/// Arms of attempts of which answers, steps and surprisal are known, and none is in between.
fn place(results: &[ArmResult], arms: &[ArmData]) -> Vec<FactorLevels> {
    let known: Vec<(&str, bool, bool, f64)> = results
        .iter()
        .filter(|result| attempts(&result.arm, arms))
        .filter_map(|result| {
            let shares: Vec<f64> = arms
                .iter()
                .filter(|data| data.arm == result.arm)
                .filter_map(|data| data.right)
                .collect();
            let share = (!shares.is_empty()).then(|| mean(&shares))?;
            let right = match share {
                s if s >= RIGHT => true,
                s if s <= WRONG => false,
                _ => return None,
            };
            let valid = result.steps?.valid_share()? >= VALID;
            let nll = result.closeness.get("nll_per_token")?.value;
            (nll > 0.0).then_some((result.arm.as_str(), right, valid, nll))
        })
        .collect();
    let nearest = known.iter().map(|k| k.3).fold(f64::INFINITY, f64::min);
    let farthest = known.iter().map(|k| k.3).fold(0.0, f64::max);
    let border = if farthest < SPREAD * nearest {
        f64::INFINITY
    } else {
        (nearest * farthest).sqrt()
    };
    known
        .into_iter()
        .map(|(arm, right, valid, nll)| FactorLevels {
            arm: arm.to_owned(),
            right,
            near: nll <= border,
            valid,
        })
        .collect()
}

/// The effect of one factor, or the interaction of two.
fn effect(
    factors: &[usize],
    cells: &BTreeMap<[bool; 3], Vec<&str>>,
    answers: &Answers,
    options: &CompareOptions,
) -> FactorEffect {
    let name = factors
        .iter()
        .map(|f| FACTORS[*f].0)
        .collect::<Vec<_>>()
        .join(" × ");
    let others: Vec<usize> = (0..3).filter(|f| !factors.contains(f)).collect();
    let mut strata: Vec<(String, Vec<(f64, &str)>)> = Vec::new();
    for bits in 0..1usize << others.len() {
        let mut at = [true; 3];
        for (i, factor) in others.iter().enumerate() {
            at[*factor] = bits >> i & 1 == 0;
        }
        strata.extend(stratum(factors, &others, at, cells));
    }
    let n = strata.len() as f64;
    let weights: Vec<(f64, &str)> = strata
        .iter()
        .flat_map(|(_, terms)| terms.iter().map(|(weight, arm)| (weight / n, *arm)))
        .collect();
    let found = (!weights.is_empty())
        .then(|| weighted(&weights, answers, &name, options))
        .flatten();
    FactorEffect {
        factor: name,
        effect: found.as_ref().map(|(effect, _)| *effect),
        interval: found.and_then(|(_, interval)| interval),
        strata: strata.into_iter().map(|(words, _)| words).collect(),
    }
}

/// Words and weighted arms of one stratum; `None` where one of its cells is empty.
fn stratum<'a>(
    factors: &[usize],
    others: &[usize],
    at: [bool; 3],
    cells: &BTreeMap<[bool; 3], Vec<&'a str>>,
) -> Option<(String, Vec<(f64, &'a str)>)> {
    let (mut plus, mut minus) = (Vec::new(), Vec::new());
    let mut terms = Vec::new();
    for bits in 0..1usize << factors.len() {
        let mut cell = at;
        let mut sign = 1.0;
        for (i, factor) in factors.iter().enumerate() {
            cell[*factor] = bits >> i & 1 == 0;
            sign *= if cell[*factor] { 1.0 } else { -1.0 };
        }
        let arms = cells.get(&cell)?;
        terms.extend(arms.iter().map(|arm| (sign / arms.len() as f64, *arm)));
        let names = arms.join(", ");
        if sign > 0.0 {
            plus.push(names);
        } else {
            minus.push(names);
        }
    }
    let place: Vec<&str> = others
        .iter()
        .map(|factor| FACTORS[*factor].1[usize::from(!at[*factor])])
        .collect();
    let words = format!(
        "{}: {} − {}",
        place.join(", "),
        plus.join(" + "),
        minus.join(" − ")
    );
    Some((words, terms))
}

/// A weighted sum of arms' accuracies with its interval, over the replicates that have all of them.
fn weighted(
    weights: &[(f64, &str)],
    answers: &Answers,
    name: &str,
    options: &CompareOptions,
) -> Option<(f64, Option<Interval>)> {
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        let by_arm: Vec<_> = weights
            .iter()
            .map(|(weight, arm)| (*weight, answers.of(arm, decoding)))
            .collect();
        let replicates: Vec<Vec<Term<'_>>> = answers
            .replicates()
            .into_iter()
            .filter_map(|replicate| {
                by_arm
                    .iter()
                    .map(|(weight, of)| {
                        let seeds = of.get(&replicate)?;
                        Some((*weight, seeds.iter().map(|c| &c.accuracy).collect()))
                    })
                    .collect()
            })
            .collect();
        if !replicates.is_empty() {
            let mut rng = Rng::keyed(options.seed, &["compare", "factor", name]);
            let resampled = contrast(&replicates, options.replicates, &mut rng);
            let enough = differing(&by_problem(&by_arm, answers.problems.len())) >= FEWEST;
            return Some((
                resampled.estimate,
                enough.then(|| resampled.percentile(options.confidence)),
            ));
        }
    }
    None
}

/// The effect on each problem that was asked: the weighted sum of its mean scores.
fn by_problem(by_arm: &[(f64, BTreeMap<usize, Vec<&Checkpoint>>)], n_problems: usize) -> Vec<f64> {
    let of_problem = |at: usize| -> Option<f64> {
        by_arm
            .iter()
            .map(|(weight, replicates)| {
                let asked: Vec<f64> = replicates
                    .values()
                    .flatten()
                    .filter(|c| c.has(at))
                    .map(|c| c.scores[at])
                    .collect();
                (!asked.is_empty()).then(|| weight * mean(&asked))
            })
            .sum()
    };
    (0..n_problems).filter_map(of_problem).collect()
}
