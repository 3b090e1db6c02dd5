//! What predictions are worth: rankings made before training against what came out.
//!
//! For a replicate, advice learns only from replicates of another student **and** another task. Rank
//! correlations come with their exact permutation p, as arms are few; regret is the accuracy lost by
//! training on the arm ranked first instead of the best.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fit::{Fit, fit};
use super::{ArmFeatures, FEATURES, FinishedArm, FinishedReplicate, common_features};
use crate::statistics::clusters::over_clusters;
use crate::statistics::correlation::{NullDistributions, regret};
use crate::statistics::{Interval, mean};

/// The name of the advice among the rankings.
pub const ADVISE: &str = "advise";
/// The name of ranking arms by what arms of their names gave in the same runs as advice learns from.
pub const BY_NAME: &str = "by name";
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
        all.extend(gains(&fit, &before).map(|gains| (ADVISE.to_owned(), gains)));
    }
    all.extend(by_name(replicate, &others).map(|places| (BY_NAME.to_owned(), places)));
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

/// What is expected of some arms; `None` where one lacks a feature.
fn gains(fit: &Fit, arms: &[&ArmFeatures]) -> Option<Vec<f64>> {
    arms.iter().map(|arm| fit.gain(arm)).collect()
}

/// The mean place, 0 the last to 1 the first, that an arm of each arm's name took in other replicates;
/// the middle for a name that none of them has. `None` where none has any.
fn by_name(replicate: &FinishedReplicate, others: &[&FinishedReplicate]) -> Option<Vec<f64>> {
    let mut places: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for other in others.iter().filter(|other| other.arms.len() > 1) {
        for arm in &other.arms {
            // Half of a tie is below: the arm itself is in no pair.
            let below = other
                .arms
                .iter()
                .filter(|a| a.accuracy < arm.accuracy)
                .count() as f64;
            let above = other
                .arms
                .iter()
                .filter(|a| a.accuracy > arm.accuracy)
                .count() as f64;
            let place = 0.5 + (below - above) / (2.0 * (other.arms.len() - 1) as f64);
            places.entry(&arm.before.arm).or_default().push(place);
        }
    }
    let of = |arm: &FinishedArm| places.get(arm.before.arm.as_str()).map(|all| mean(all));
    let known = replicate.arms.iter().any(|arm| of(arm).is_some());
    known.then(|| {
        replicate
            .arms
            .iter()
            .map(|arm| of(arm).unwrap_or(0.5))
            .collect()
    })
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

/// What advice is worth on finished replicates that it did not learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Mean rank correlation with what came out; absent where it ranked nothing.
    pub spearman: Option<f64>,
    /// Its interval at 95 % over tasks and their data: replicates that differ in the student alone count
    /// as one. Absent where there is but one.
    pub spearman_interval: Option<Interval>,
    /// Mean regret, a share: the best arm's accuracy less that of the arm ranked first.
    pub regret: f64,
    /// Standard deviation of a gain about what was expected of it.
    pub error: f64,
    /// The same about its replicate's own offset: what a difference of two of its arms is uncertain by,
    /// over √2.
    pub within: f64,
    /// Mean rank correlation and regret of ranking by the arms' names alone.
    pub by_name: Option<(Option<f64>, f64)>,
    /// Replicates behind it.
    pub replicates: usize,
}

/// Predicts each replicate from those of another student and task; where there is none such, from all
/// other replicates. `None` where there is no other.
pub fn leave_out(replicates: &[FinishedReplicate], wanted: &[&'static str]) -> Option<LeftOut> {
    let mut nulls = NullDistributions::new(1, 0);
    let (mut rhos, mut regrets) = (Vec::new(), Vec::new());
    let (mut name_rhos, mut name_regrets) = (Vec::new(), Vec::new());
    let mut residuals: Vec<Vec<f64>> = Vec::new();
    for (at, replicate) in replicates.iter().enumerate() {
        let mut others = unseen(replicates, at);
        if others.is_empty() {
            let is_other = |(place, _): &(usize, &FinishedReplicate)| *place != at;
            others = replicates
                .iter()
                .enumerate()
                .filter(is_other)
                .map(|(_, r)| r)
                .collect();
        }
        let before: Vec<&ArmFeatures> = replicate.arms.iter().map(|a| &a.before).collect();
        let Some(fit) = fit(&others, wanted) else {
            continue;
        };
        let Some(expected) = gains(&fit, &before).filter(|gains| !gains.is_empty()) else {
            continue;
        };
        let accuracies: Vec<f64> = replicate.arms.iter().map(|a| a.accuracy).collect();
        let rho = correlation(&mut nulls, &expected, &accuracies);
        rhos.extend(rho.map(|rho| ((&replicate.task, replicate.replicate), rho)));
        regrets.push(regret(&expected, &accuracies));
        residuals.push(fit.residuals(replicate));
        if let Some(places) = by_name(replicate, &others) {
            name_rhos.extend(correlation(&mut nulls, &places, &accuracies));
            name_regrets.push(regret(&places, &accuracies));
        }
    }
    if residuals.is_empty() {
        return None;
    }
    let (error, within) = deviations(&residuals);
    let mean_of = |values: &[f64]| (!values.is_empty()).then(|| mean(values));
    let all: Vec<f64> = rhos.iter().map(|(_, rho)| *rho).collect();
    Some(LeftOut {
        spearman: mean_of(&all),
        spearman_interval: over_clusters(rhos, 0.95).and_then(|over| over.interval),
        regret: mean(&regrets),
        error,
        within,
        by_name: mean_of(&name_regrets).map(|regret| (mean_of(&name_rhos), regret)),
        replicates: residuals.len(),
    })
}

/// Standard deviations of residuals: about 0, and about each replicate's own mean.
pub(super) fn deviations(residuals: &[Vec<f64>]) -> (f64, f64) {
    let all: Vec<f64> = residuals.concat();
    let squares: Vec<f64> = all.iter().map(|e| e * e).collect();
    let about_own: f64 = residuals
        .iter()
        .flat_map(|own| {
            let offset = mean(own);
            own.iter().map(move |e| (e - offset).powi(2))
        })
        .sum();
    let freedom = all.len().saturating_sub(residuals.len()).max(1);
    (mean(&squares).sqrt(), (about_own / freedom as f64).sqrt())
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
    /// Its interval at 95 %, replicates that differ in the student alone counted as one; absent where
    /// that leaves one.
    #[serde(default)]
    pub spearman_interval: Option<Interval>,
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
                spearman_interval: over_clusters(
                    replicates
                        .iter()
                        .filter_map(|j| Some(((&j.task, j.replicate), j.spearman?))),
                    0.95,
                )
                .and_then(|over| over.interval),
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
    fn names_are_looked_up_in_runs_of_another_student_and_task_alone() {
        // Arms of one name gain the same everywhere, and nothing that is measured tells them apart.
        let mut replicates: Vec<FinishedReplicate> =
            (0..6).map(|s| replicate(s, 5, [0.0; 3], 0.0)).collect();
        for replicate in &mut replicates {
            for (at, arm) in replicate.arms.iter_mut().enumerate() {
                arm.accuracy = 0.1 * at as f64;
            }
        }
        let judged = judge(&replicates, &|_| true);
        let names: Vec<&Judged> = judged.iter().filter(|j| j.ranking == BY_NAME).collect();
        assert_eq!(names.len(), 6);
        assert!(
            names
                .iter()
                .all(|j| j.spearman == Some(1.0) && j.regret.abs() < 1e-12)
        );
        let wanted: Vec<&'static str> = FEATURES.iter().map(|f| f.name).collect();
        let found = leave_out(&replicates, &wanted).unwrap();
        assert_eq!(found.by_name, Some((Some(1.0), 0.0)));
        assert!(found.spearman.is_none_or(|rho| rho < 0.9), "{found:?}");
        // An arm that no other run has is in the middle.
        let one = &replicates[0];
        let mut other = replicates[1].clone();
        other.arms.retain(|arm| arm.before.arm != "A4");
        let places = by_name(one, &[&other]).unwrap();
        assert!((places[4] - 0.5).abs() < 1e-12 && (places[3] - 1.0).abs() < 1e-12);
        other.arms.clear();
        assert_eq!(by_name(one, &[&other]), None);
    }

    #[test]
    fn a_mean_correlation_comes_with_its_interval() {
        let mut replicates: Vec<FinishedReplicate> = (0..12)
            .map(|s| replicate(s, 9, [1.0, 1.0, 0.2], 0.02))
            .collect();
        // Three students on each of four sets of data.
        for (at, replicate) in replicates.iter_mut().enumerate() {
            replicate.replicate = at / 3 % 2;
            replicate.task = format!("t{}", at / 6);
            replicate.student = format!("s{}", at % 3);
        }
        let table = summaries(&judge(&replicates, &|_| true));
        let of = |name: &str| table.iter().find(|s| s.ranking == name).unwrap();
        let (rho, interval) = (
            of(ADVISE).spearman.unwrap(),
            of(ADVISE).spearman_interval.unwrap(),
        );
        assert!(
            interval.contains(rho) && interval.high > interval.low,
            "{interval:?}"
        );
        assert_eq!(of(RANDOM).spearman_interval, None);
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
}
