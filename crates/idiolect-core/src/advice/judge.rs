//! What predictions are worth: rankings made before training against what came out.
//!
//! For a replicate, advice learns only from replicates of another student **and** another task. Rank
//! correlations come with their exact permutation p, as arms are few; regret is the accuracy lost by
//! training on the arm ranked first instead of the best.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fit::fit;
use super::{ArmFeatures, FEATURES, FinishedArm, FinishedReplicate, common_features};
use crate::statistics::correlation::NullDistributions;
use crate::statistics::mean;

/// The name of the advice among the rankings.
pub const ADVISE: &str = "advise";
/// The name of a random pick.
pub const RANDOM: &str = "random";
/// The name of ranking by length.
pub const LONGEST: &str = "longest";
/// Arms up to which every permutation is counted: 10! = 3.6 million.
const ENUMERATED: usize = 10;
/// Permutation draws where there are too many arms to enumerate.
const DRAWS: usize = 100_000;

/// One way to rank, in one replicate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// The ranking.
    pub ranking: String,
    /// The replicate's student.
    pub student: String,
    /// The replicate's task.
    pub task: String,
    /// Which replicate.
    pub replicate: usize,
    /// Arms ranked.
    pub n_arms: usize,
    /// Spearman's ρ with the realised accuracies; absent where it does not rank.
    pub spearman: Option<f64>,
    /// Its two-sided permutation p.
    pub p: Option<f64>,
    /// Whether all permutations were counted.
    pub exact: bool,
    /// Accuracy of the best arm minus that of the arm ranked first; a mean over ties.
    pub regret: f64,
}

/// Every ranking in every replicate, over the arms that `keep` keeps.
pub fn judge(replicates: &[FinishedReplicate], keep: &dyn Fn(&str) -> bool) -> Vec<Judged> {
    let kept: Vec<FinishedReplicate> = replicates
        .iter()
        .map(|replicate| restricted(replicate, keep))
        .collect();
    let mut nulls = NullDistributions::new(DRAWS, 0).enumerating(ENUMERATED);
    let mut judged = Vec::new();
    for (at, replicate) in kept.iter().enumerate() {
        if replicate.arms.len() < 3 {
            continue;
        }
        let accuracies: Vec<f64> = replicate.arms.iter().map(|a| a.accuracy).collect();
        for (ranking, scores) in rankings(replicate, &kept, at) {
            let found = nulls.correlate(&scores, &accuracies);
            judged.push(Judged {
                ranking,
                student: replicate.student.clone(),
                task: replicate.task.clone(),
                replicate: replicate.replicate,
                n_arms: replicate.arms.len(),
                spearman: found.map(|c| c.spearman),
                p: found.map(|c| c.p_spearman.p),
                exact: found.is_some_and(|c| c.p_spearman.exact),
                regret: regret(&scores, &accuracies),
            });
        }
    }
    judged
}

fn restricted(replicate: &FinishedReplicate, keep: &dyn Fn(&str) -> bool) -> FinishedReplicate {
    FinishedReplicate {
        arms: replicate
            .arms
            .iter()
            .filter(|arm| keep(&arm.before.arm))
            .cloned()
            .collect(),
        ..replicate.clone()
    }
}

/// Scores of the arms of `replicates[at]` by every ranking, larger first.
fn rankings(
    replicate: &FinishedReplicate,
    replicates: &[FinishedReplicate],
    at: usize,
) -> Vec<(String, Vec<f64>)> {
    let of = |value: &dyn Fn(&FinishedArm) -> Option<f64>| -> Option<Vec<f64>> {
        replicate.arms.iter().map(value).collect()
    };
    let mut all: Vec<(String, Vec<f64>)> = Vec::new();
    let others = unseen(replicates, at);
    let before: Vec<&ArmFeatures> = replicate.arms.iter().map(|a| &a.before).collect();
    if let Some(fit) = fit(&others, &common_features(before.iter().copied())) {
        all.push((ADVISE.to_owned(), fit.scores(&before)));
    }
    all.push((RANDOM.to_owned(), vec![0.0; replicate.arms.len()]));
    all.extend(of(&|a| Some(a.before.tokens_per_row)).map(|v| (LONGEST.to_owned(), v)));
    for feature in FEATURES {
        all.extend(
            of(&|a| a.before.features.get(feature.name).copied())
                .map(|v| (format!("feature {}", feature.name), v)),
        );
    }
    let names: std::collections::BTreeSet<&String> = replicate
        .arms
        .iter()
        .flat_map(|a| a.before.metrics.keys())
        .collect();
    for name in names {
        all.extend(of(&|a| a.before.metrics.get(name).copied()).map(|v| (name.clone(), v)));
    }
    all
}

/// Replicates of another student and another task than `replicates[at]`.
fn unseen(replicates: &[FinishedReplicate], at: usize) -> Vec<&FinishedReplicate> {
    replicates
        .iter()
        .filter(|other| {
            other.student != replicates[at].student && other.task != replicates[at].task
        })
        .collect()
}

/// Accuracy of the best arm minus the mean accuracy of the arms that share the highest score.
fn regret(scores: &[f64], accuracies: &[f64]) -> f64 {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let picked: Vec<f64> = scores
        .iter()
        .zip(accuracies)
        .filter(|(score, _)| **score >= top)
        .map(|(_, accuracy)| *accuracy)
        .collect();
    let best = accuracies.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    best - mean(&picked)
}

/// Mean rank correlation of advice over replicates, each predicted from replicates of another student and
/// task; where there is none such, from all other replicates; `None` where there is no other.
pub fn leave_out(replicates: &[FinishedReplicate], wanted: &[&'static str]) -> Option<f64> {
    let mut nulls = NullDistributions::new(1, 0);
    let found: Vec<f64> = (0..replicates.len())
        .filter_map(|at| {
            let mut others = unseen(replicates, at);
            if others.is_empty() {
                others = (0..replicates.len())
                    .filter(|o| *o != at)
                    .map(|o| &replicates[o])
                    .collect();
            }
            let fit = fit(&others, wanted)?;
            let before: Vec<&ArmFeatures> = replicates[at].arms.iter().map(|a| &a.before).collect();
            let accuracies: Vec<f64> = replicates[at].arms.iter().map(|a| a.accuracy).collect();
            correlation(&mut nulls, &fit.scores(&before), &accuracies)
        })
        .collect();
    (!found.is_empty()).then(|| mean(&found))
}

/// Mean rank correlation of one feature with accuracy over the replicates that have it.
pub fn mean_spearman_of(replicates: &[FinishedReplicate], feature: &str) -> Option<f64> {
    let mut nulls = NullDistributions::new(1, 0);
    let found: Vec<f64> = replicates
        .iter()
        .filter_map(|replicate| {
            let values: Option<Vec<f64>> = replicate
                .arms
                .iter()
                .map(|a| a.before.features.get(feature).copied())
                .collect();
            let accuracies: Vec<f64> = replicate.arms.iter().map(|a| a.accuracy).collect();
            correlation(&mut nulls, &values?, &accuracies)
        })
        .collect();
    (!found.is_empty()).then(|| mean(&found))
}

fn correlation(nulls: &mut NullDistributions, x: &[f64], y: &[f64]) -> Option<f64> {
    nulls.correlate(x, y).map(|c| c.spearman)
}

/// Means over replicates of one ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The ranking.
    pub ranking: String,
    /// Mean ρ over the replicates where it ranks.
    pub spearman: Option<f64>,
    /// Mean regret.
    pub regret: f64,
    /// Replicates.
    pub replicates: usize,
}

/// One entry a ranking, the highest mean ρ first, those without one last.
pub fn summaries(judged: &[Judged]) -> Vec<Summary> {
    let mut by_ranking: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for one in judged {
        by_ranking.entry(&one.ranking).or_default().push(one);
    }
    let mut all: Vec<Summary> = by_ranking
        .into_iter()
        .map(|(ranking, replicates)| {
            let spearman: Vec<f64> = replicates.iter().filter_map(|j| j.spearman).collect();
            Summary {
                ranking: ranking.to_owned(),
                spearman: (!spearman.is_empty()).then(|| mean(&spearman)),
                regret: mean(&replicates.iter().map(|j| j.regret).collect::<Vec<_>>()),
                replicates: replicates.len(),
            }
        })
        .collect();
    all.sort_by(|a, b| {
        let key = |s: &Summary| s.spearman.unwrap_or(f64::NEG_INFINITY);
        key(b)
            .total_cmp(&key(a))
            .then_with(|| a.ranking.cmp(&b.ranking))
    });
    all
}

#[cfg(test)]
mod tests {
    use super::super::tests::replicate;
    use super::*;

    #[test]
    fn advice_is_judged_by_worlds_of_another_student_and_task_alone() {
        let mut replicates: Vec<FinishedReplicate> = (0..6)
            .map(|s| replicate(s, 9, [1.0, 1.0, 0.2], 0.0))
            .collect();
        let of = |replicates: &[FinishedReplicate]| -> Vec<Judged> {
            let all = judge(replicates, &|_| true);
            all.into_iter()
                .filter(|j| j.ranking == ADVISE && j.student == "s0" && j.task == "t0")
                .collect()
        };
        let before = of(&replicates);
        // Replicates 2 (s2 t0) and 3 (s0 t1) share the task or the student with replicate 0.
        for at in [2, 3] {
            replicates[at]
                .arms
                .iter_mut()
                .for_each(|a| a.accuracy = -a.accuracy);
        }
        assert_eq!(of(&replicates), before);
        assert!(before[0].exact && before[0].p.is_some());
    }

    #[test]
    fn random_has_no_correlation_and_the_mean_regret() {
        let replicates = [
            replicate(0, 8, [1.0; 3], 0.0),
            replicate(1, 8, [1.0; 3], 0.0),
        ];
        let judged = judge(&replicates, &|arm| arm != "A0");
        let random = judged.iter().find(|j| j.ranking == RANDOM).unwrap();
        assert_eq!((random.spearman, random.n_arms), (None, 7));
        let accuracies: Vec<f64> = replicates[0].arms[1..].iter().map(|a| a.accuracy).collect();
        let best = accuracies.iter().copied().fold(0.0, f64::max);
        assert!((random.regret - (best - mean(&accuracies))).abs() < 1e-12);
        let table = summaries(&judged);
        assert!(
            table
                .iter()
                .any(|s| s.ranking == ADVISE && s.replicates == 2)
        );
        assert_eq!(table.last().unwrap().spearman, None);
    }

    #[test]
    fn ties_at_the_top_share_their_regret() {
        assert!((regret(&[1.0, 1.0, 0.0], &[0.3, 0.1, 0.2]) - 0.1).abs() < 1e-12);
    }
}
