//! Planned contrasts: what style, answer and steps do, each read off arms that differ in it.
//!
//! Arms as they are found differ in several things at once: one of wrong answers was also reached
//! otherwise, a content control has neither steps nor answers of its problems. Nothing is read off
//! such pairs here. A contrast is between crossed arms ([`crate::crossed`], [`crate::flaw`]) that hold
//! copies of the same traces, changed in one thing; "wrong" is three things: a natural mistake, an
//! answer that contradicts its steps, and flawed steps. A natural mistake and a paraphrase cannot be
//! made to order: G and W, P and H are other traces of the same problems, and what else comes with them
//! is part of that contrast. What no two arms of a run show is not listed.

use std::collections::BTreeMap;

use super::answers::{Answers, Checkpoint};
use super::{ArmData, ArmResult, CompareOptions};
use crate::arms::source_of;
use crate::record::Decoding;
use crate::statistics::bootstrap::{Term, contrast};
use crate::statistics::few::{FEWEST, differing, least_p};
use crate::statistics::{Interval, holm, mean};
use idiolect_model::Rng;
use serde::{Deserialize, Serialize};

/// What the planned contrasts show, those that the arms allow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorAnalysis {
    /// How they are made, as text.
    pub method: String,
    /// In a fixed order: style, answer, steps.
    pub contrasts: Vec<PlannedContrast>,
}

/// One thing changed, and what it does to greedy accuracy (avg@k where there is no greedy).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedContrast {
    /// What is changed into what: `the student's style instead of the human one`.
    pub factor: String,
    /// The arms behind it: `(G − GH + W − WH) / 2`.
    pub arms: String,
    /// Share; above 0 where the change helps.
    pub effect: f64,
    /// Its bootstrap interval over replicates, seeds and problems; absent where the effect is the same
    /// on all but five problems or fewer: too few to resample.
    pub interval: Option<Interval>,
    /// Two-sided p of no effect; absent where the interval is.
    pub p: Option<f64>,
    /// The same, Holm-adjusted over the contrasts of the analysis.
    pub p_holm: Option<f64>,
}

const STYLE: &str = "the student's style instead of the human one";
const STEPS: &str = "steps before a right answer instead of none";
const CORRECT: &str = "a right answer instead of a natural mistake";

/// What is changed, and the pairs of arms, by source, that show it: first with the change, then
/// without. Several pairs count alike.
const PLANNED: [(&str, &[(&str, &str)]); 8] = [
    (STYLE, &[("G", "GH"), ("W", "WH")]),
    (CORRECT, &[("G", "W"), ("GH", "WH")]),
    (
        "a wrong answer behind true steps instead of the right one",
        &[("F0@wrong", "G")],
    ),
    (STEPS, &[("G", "A")]),
    (
        "own steps before a right answer instead of unrelated ones",
        &[("G", "RR")],
    ),
    (
        "a right answer behind unrelated steps instead of a wrong one",
        &[("RR", "R")],
    ),
    (
        "a right answer alone instead of no training",
        &[("A", BASE)],
    ),
    (
        "human solutions paraphrased instead of as they are",
        &[("P", "H")],
    ),
];
/// Behind [`PLANNED`]: whether style does the same to right traces and to wrong ones.
const INTERACTION: &str = "that style, for right traces more than for natural mistakes";

/// The untrained student.
const BASE: &str = "base";

impl FactorAnalysis {
    /// Style, natural correctness and steps: what opens a report, where the arms show it.
    pub fn leading(&self) -> impl Iterator<Item = (&PlannedContrast, Interval)> {
        [STYLE, CORRECT, STEPS].into_iter().filter_map(|factor| {
            let found = self.contrasts.iter().find(|c| c.factor == factor)?;
            Some((found, found.interval?))
        })
    }
}

/// A contrast before it is computed: weighted arms.
struct Plan<'a> {
    factor: String,
    arms: String,
    weights: Vec<(f64, &'a str)>,
}

/// The analysis; `None` where no two arms are planned to be held against each other.
pub(super) fn analyse(
    results: &[ArmResult],
    arms: &[ArmData],
    answers: &Answers,
    options: &CompareOptions,
) -> Option<FactorAnalysis> {
    let mut contrasts: Vec<PlannedContrast> = plans(&by_source(results, arms))
        .into_iter()
        .filter_map(|plan| of_plan(plan, answers, options))
        .collect();
    let p: Vec<f64> = contrasts.iter().filter_map(|c| c.p).collect();
    let mut adjusted = holm(&p).into_iter();
    for contrast in contrasts.iter_mut().filter(|c| c.p.is_some()) {
        contrast.p_holm = adjusted.next();
    }
    (!contrasts.is_empty()).then(|| FactorAnalysis {
        method: format!(
            "Each contrast is between arms of the same problems that differ in the one thing named, copies of the same \
             traces where it can be made to order (a natural mistake and a paraphrase come as they are); it is the mean over \
             the pairs of arms that there are, and p is Holm-adjusted over these {} contrasts",
            contrasts.len()
        ),
        contrasts,
    })
}

/// The arm that holds each source whole, the first of several.
fn by_source<'a>(results: &'a [ArmResult], arms: &[ArmData]) -> BTreeMap<String, &'a str> {
    let mut found = BTreeMap::new();
    for result in results {
        let data = arms.iter().find(|data| data.arm == result.arm);
        let spec = data.and_then(|data| data.spec.as_deref());
        let source = match result.arm.as_str() {
            BASE if spec.is_none() => Some(BASE.to_owned()),
            name => source_of(name, spec).map(|source| source.to_string()),
        };
        if let Some(source) = source {
            found.entry(source).or_insert(result.arm.as_str());
        }
    }
    found
}

/// Every planned contrast of which at least one pair is there.
fn plans<'a>(arms: &BTreeMap<String, &'a str>) -> Vec<Plan<'a>> {
    let of_pairs = |factor: String, pairs: &[(&str, &str)]| -> Option<Plan<'a>> {
        let there: Vec<(&str, &str)> = pairs
            .iter()
            .filter_map(|(with, without)| Some((*arms.get(*with)?, *arms.get(*without)?)))
            .collect();
        let n = there.len() as f64;
        let terms: Vec<String> = there.iter().map(|(a, b)| format!("{a} − {b}")).collect();
        let arms = match terms.as_slice() {
            [] => return None,
            [only] => only.clone(),
            several => format!("({}) / {}", several.join(" + "), several.len()),
        };
        let weights = there
            .iter()
            .flat_map(|(with, without)| [(1.0 / n, *with), (-1.0 / n, *without)])
            .collect();
        Some(Plan {
            factor,
            arms,
            weights,
        })
    };
    let mut plans: Vec<Plan<'a>> = PLANNED
        .iter()
        .filter_map(|(factor, pairs)| of_pairs((*factor).to_owned(), pairs))
        .collect();
    for percent in 1..=100 {
        let (right, wrong) = (format!("F{percent}@right"), format!("F{percent}@wrong"));
        let steps = format!("{percent} % of steps flawed before a right answer instead of none");
        plans.extend(of_pairs(steps, &[(&right, "G")]));
        let answer =
            format!("a wrong answer behind {percent} % flawed steps instead of the right one");
        plans.extend(of_pairs(answer, &[(&wrong, &right)]));
    }
    let all = ["G", "GH", "W", "WH"].map(|source| arms.get(source).copied());
    if let [Some(g), Some(gh), Some(w), Some(wh)] = all {
        plans.push(Plan {
            factor: INTERACTION.to_owned(),
            arms: format!("{g} − {gh} − {w} + {wh}"),
            weights: vec![(1.0, g), (-1.0, gh), (-1.0, w), (1.0, wh)],
        });
    }
    plans
}

/// The weighted sum of the arms' accuracies with its interval, over the replicates that have all of
/// them; `None` where none has, or the arms were not evaluated alike.
fn of_plan(plan: Plan<'_>, answers: &Answers, options: &CompareOptions) -> Option<PlannedContrast> {
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        let by_arm: Vec<_> = plan
            .weights
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
        if replicates.is_empty() {
            continue;
        }
        let mut rng = Rng::keyed(options.seed, &["compare", "factor", &plan.factor]);
        let resampled = contrast(&replicates, options.replicates, &mut rng);
        let by_problem = by_problem(&by_arm, answers.problems.len());
        let moving = differing(&by_problem);
        let enough = moving >= FEWEST;
        return Some(PlannedContrast {
            factor: plan.factor,
            arms: plan.arms,
            effect: resampled.estimate,
            interval: enough.then(|| resampled.percentile(options.confidence)),
            p: enough.then(|| resampled.p_of_zero().max(least_p(moving))),
            p_holm: None,
        });
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
