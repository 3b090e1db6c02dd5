//! The advice itself: ranking, expected gains and what cannot be distinguished.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fit::{Fit, fit};
use super::judge::leave_out;
use super::{ArmFeatures, FEATURES, FinishedReplicate, common_features, measured};
use crate::arms::Names;
use crate::statistics::few::{FEWEST, least_detectable};
use crate::statistics::proportion::smallest_detectable;
use crate::statistics::{Interval, normal};

/// Coverage of the intervals of expected gains.
const CONFIDENCE: f64 = 0.8;
/// A spread of gains below this is the rounding of sums, not variation.
const NO_SPREAD: f64 = 1e-9;
/// Mean rank correlation over left-out replicates below which the advice does not rank.
const WORTH: f64 = 0.3;

/// What is advised: printed by `idiolect advise`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// In a sentence or two.
    pub answer: String,
    /// Best first.
    pub ranking: Vec<Expected>,
    /// What was believed and why, one entry a feature.
    pub trusted: Vec<Trust>,
    /// Rank correlation with what came out, the mean over finished replicates, each predicted without
    /// its student and its task where others are left; absent where none could be.
    pub expected_spearman: Option<f64>,
    /// Finished replicates learned from.
    pub replicates: usize,
    /// What would settle what cannot be distinguished.
    pub cost_to_know: Vec<String>,
    /// What a reader must know before believing it.
    pub warnings: Vec<String>,
}

/// What is expected of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The arm.
    pub arm: String,
    /// What its letter represents; empty where it is not known.
    #[serde(default)]
    pub description: String,
    /// Sum of weighted votes, about −1 to 1.
    pub score: f64,
    /// Gain in greedy accuracy over the untrained student, a fraction; absent without finished runs.
    pub gain: Option<f64>,
    /// Its interval at 80 %: what finished replicates varied by; absent where they are too few to have
    /// varied.
    pub interval: Option<Interval>,
    /// Arms ranked below it that it cannot be distinguished from.
    pub indistinguishable_from: Vec<String>,
    /// What was measured of it: [`FEATURES`] by name.
    pub measured: BTreeMap<String, f64>,
    /// Standard errors of what was measured, where known.
    pub errors: BTreeMap<String, f64>,
}

/// How far a feature is believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// The feature.
    pub feature: String,
    /// What it is.
    pub words: String,
    /// How much its vote counts.
    pub weight: f64,
    /// Its own mean rank correlation with accuracy over the finished replicates.
    pub spearman: Option<f64>,
}

/// Advice on arms from finished replicates. `tokens_to_train` is what one training of one arm reads,
/// `n_problems` what an evaluation would hold.
pub fn advise(
    arms: &[ArmFeatures],
    finished: &[FinishedReplicate],
    tokens_to_train: f64,
    n_problems: usize,
) -> Advice {
    let wanted = common_features(arms);
    let replicates: Vec<&FinishedReplicate> = finished.iter().collect();
    let mut warnings = Vec::new();
    for feature in FEATURES.iter().filter(|f| !wanted.contains(&f.name)) {
        warnings.push(format!(
            "`{}` could not be measured of every arm and has no vote",
            feature.name
        ));
    }
    let references: Vec<&ArmFeatures> = arms.iter().collect();
    warnings.extend(rough(&references, &wanted));
    let learned = fit(&replicates, &wanted);
    let fitted = learned.clone().unwrap_or_else(|| prior_votes(&wanted));
    let scores = fitted.scores(&references);
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by(|a, b| {
        scores[*b]
            .total_cmp(&scores[*a])
            .then_with(|| arms[*a].arm.cmp(&arms[*b].arm))
    });
    let spearman = leave_out(finished, &wanted);
    let believed = learned.is_some() && spearman.is_none_or(|rho| rho >= WORTH);
    let z = normal::quantile(0.5 + CONFIDENCE / 2.0);
    let differ = |a: usize, b: usize| {
        let gap = fitted.slope * (scores[a] - scores[b]);
        believed && fitted.within > NO_SPREAD && gap > z * std::f64::consts::SQRT_2 * fitted.within
    };
    let ranking: Vec<Expected> = order
        .iter()
        .enumerate()
        .map(|(place, arm)| {
            let gain = learned
                .as_ref()
                .map(|fit| fit.intercept + fit.slope * scores[*arm]);
            let half = z * (fitted.within.powi(2) + fitted.between.powi(2)).sqrt();
            Expected {
                arm: arms[*arm].arm.clone(),
                description: arms[*arm].description.clone(),
                score: scores[*arm],
                gain,
                interval: gain.filter(|_| half > NO_SPREAD).map(|g| Interval {
                    low: g - half,
                    high: g + half,
                }),
                indistinguishable_from: order[place + 1..]
                    .iter()
                    .filter(|other| !differ(*arm, **other))
                    .map(|other| arms[*other].arm.clone())
                    .collect(),
                measured: arms[*arm].features.clone(),
                errors: arms[*arm].errors.clone(),
            }
        })
        .collect();
    let trusted = fitted
        .weights
        .iter()
        .map(|(name, weight)| Trust {
            feature: (*name).to_owned(),
            words: FEATURES
                .iter()
                .find(|f| f.name == *name)
                .map_or(String::new(), |f| f.words.to_owned()),
            weight: *weight,
            spearman: super::judge::mean_spearman_of(finished, name),
        })
        .collect();
    Advice {
        answer: answer(&ranking, learned.is_some(), spearman),
        cost_to_know: cost(
            &ranking,
            &fitted,
            &scores,
            arms,
            tokens_to_train,
            n_problems,
        ),
        ranking,
        trusted,
        expected_spearman: spearman,
        replicates: fitted.replicates,
        warnings,
    }
}

/// Features of which most of what sets the arms apart is measurement error.
fn rough(arms: &[&ArmFeatures], wanted: &[&'static str]) -> Vec<String> {
    wanted
        .iter()
        .filter_map(|name| Some((name, measured(arms, name)?.1)))
        .filter(|(_, share)| arms.len() > 1 && *share < 0.5)
        .map(|(name, share)| {
            format!(
                "`{name}` was measured too roughly to distinguish these arms ({:.0} % of the variance between them is more than \
                 error), and its vote counts that much; ask the student more problems, or look at more rows",
                100.0 * share
            )
        })
        .collect()
}

fn prior_votes(names: &[&'static str]) -> Fit {
    Fit {
        weights: names
            .iter()
            .map(|name| (*name, super::fit::prior(name)))
            .collect(),
        intercept: 0.0,
        slope: 0.0,
        within: 0.0,
        between: 0.0,
        replicates: 0,
    }
}

fn answer(ranking: &[Expected], learned: bool, spearman: Option<f64>) -> String {
    let Some(first) = ranking.first() else {
        return "There is no arm to advise on.".to_owned();
    };
    if !learned {
        return "Not known: there is no finished run to learn from, so the order below is that of the prior and unproven.".to_owned();
    }
    if let Some(rho) = spearman.filter(|rho| *rho < WORTH) {
        return format!(
            "Not known: on finished runs whose student and task were left out such predictions ranked the arms with a correlation of only {rho:.2}."
        );
    }
    let gain = first.gain.map_or(String::new(), |gain| {
        let interval = first
            .interval
            .map_or(" (too few finished runs for an interval)".to_owned(), |i| {
                format!(" [{:+.1}, {:+.1}]", 100.0 * i.low, 100.0 * i.high)
            });
        format!(", expected gain {:+.1} points{interval}", 100.0 * gain)
    });
    let names = Names::new(
        ranking
            .iter()
            .map(|arm| (arm.arm.as_str(), arm.description.as_str())),
    );
    let arm = names.of(&first.arm);
    match first.indistinguishable_from.as_slice() {
        [] => format!("Train on {arm}{gain}."),
        open => format!(
            "{arm} ranks first{gain}, but cannot be distinguished from {} before training.",
            names.of_all(open).join(", ")
        ),
    }
}

/// For the first arm against each that it cannot be distinguished from: what an experiment would
/// need.
fn cost(
    ranking: &[Expected],
    fit: &Fit,
    scores: &[f64],
    arms: &[ArmFeatures],
    tokens_to_train: f64,
    n_problems: usize,
) -> Vec<String> {
    let Some(first) = ranking.first() else {
        return Vec::new();
    };
    let score = |name: &str| {
        arms.iter()
            .position(|arm| arm.arm == name)
            .map_or(0.0, |at| scores[at])
    };
    first
        .indistinguishable_from
        .iter()
        .take(3)
        .map(|other| {
            let gap = fit.slope * (first.score - score(other));
            // Two arms of a small student disagree on about a fifth of the problems.
            let visible = smallest_detectable(n_problems, 0.2)
                .max(least_detectable(n_problems).unwrap_or(1.0));
            let tokens = 2.0 * 3.0 * tokens_to_train / 1e6;
            let trained = format!("training both with 3 seeds reads {tokens:.1}M tokens");
            if n_problems == 0 || gap <= 0.0 {
                format!("{} or {other}: {trained}", first.arm)
            } else if least_detectable(n_problems).is_none() {
                format!(
                    "{} or {other}: {trained}, and {n_problems} evaluation problems cannot distinguish them: at least {FEWEST} must differ",
                    first.arm
                )
            } else if gap >= visible {
                format!(
                    "{} or {other}: {trained}; {n_problems} problems show the expected {:.1} points",
                    first.arm,
                    100.0 * gap
                )
            } else {
                let needed = n_problems as f64 * (smallest_detectable(n_problems, 0.2) / gap).powi(2);
                format!(
                    "{} or {other}: {trained}, and the expected {:.1} points need about {needed:.0} evaluation problems; {n_problems} show {:.1}",
                    first.arm,
                    100.0 * gap,
                    100.0 * visible
                )
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::replicate;
    use super::*;

    fn finished() -> Vec<FinishedReplicate> {
        (0..6)
            .map(|s| replicate(s, 10, [1.0, 0.5, 0.5], 0.005))
            .collect()
    }

    fn candidates() -> Vec<ArmFeatures> {
        replicate(77, 6, [1.0, 0.5, 0.5], 0.0)
            .arms
            .into_iter()
            .map(|a| a.before)
            .collect()
    }

    #[test]
    fn a_clear_candidate_is_ranked_first_with_a_gain() {
        let mut arms = candidates();
        for feature in FEATURES {
            arms[3].features.insert(feature.name.into(), 2.0);
            arms[5].features.insert(feature.name.into(), -1.0);
        }
        let advice = advise(&arms, &finished(), 1e6, 600);
        assert_eq!(advice.ranking[0].arm, "A3");
        assert_eq!(advice.ranking[5].arm, "A5");
        assert!(advice.ranking[0].gain.unwrap() > advice.ranking[5].gain.unwrap());
        assert!(
            !advice.ranking[0]
                .indistinguishable_from
                .contains(&"A5".to_owned()),
            "{advice:?}"
        );
        assert!(advice.expected_spearman.unwrap() > 0.5, "{advice:?}");
        assert!(advice.answer.contains("A3"), "{}", advice.answer);
    }

    #[test]
    fn equal_arms_cannot_be_distinguished_and_the_cost_is_given() {
        let mut arms = candidates();
        arms.truncate(2);
        arms[1] = ArmFeatures {
            arm: "twin".into(),
            ..arms[0].clone()
        };
        let advice = advise(&arms, &finished(), 1e6, 600);
        assert_eq!(advice.ranking[0].indistinguishable_from.len(), 1);
        assert!(
            advice.cost_to_know[0].contains("6.0M tokens"),
            "{:?}",
            advice.cost_to_know
        );
    }

    #[test]
    fn finished_runs_that_did_not_vary_give_no_interval_and_distinguish_nothing() {
        // One replicate of three arms whose gains are all one number.
        let mut only = replicate(1, 3, [0.0; 3], 0.0);
        only.arms.iter_mut().for_each(|arm| arm.accuracy = 0.2);
        let advice = advise(&candidates(), &[only], 1e6, 600);
        assert!(
            advice
                .ranking
                .iter()
                .all(|e| e.gain.is_some() && e.interval.is_none())
        );
        let text = serde_json::to_string(&advice).unwrap();
        assert!(!text.contains("\"low\""), "{text}");
        assert_eq!(
            advice.ranking[0].indistinguishable_from.len(),
            5,
            "{advice:?}"
        );
    }

    #[test]
    fn a_handful_of_problems_shows_nothing() {
        let mut arms = candidates();
        for feature in FEATURES {
            arms[3].features.insert(feature.name.into(), 0.9);
        }
        for n_problems in 1..FEWEST {
            for cost in advise(&arms, &finished(), 1e6, n_problems).cost_to_know {
                assert!(cost.contains("cannot distinguish them"), "{cost}");
            }
        }
    }

    #[test]
    fn the_answer_spells_arms_out() {
        let mut arms = candidates();
        for arm in &mut arms {
            arm.description = format!("the arm {}", arm.arm);
        }
        let advice = advise(&arms, &finished(), 1e6, 600);
        let first = &advice.ranking[0].arm;
        let answer = &advice.answer;
        assert!(
            answer.contains(&format!("{first} (the arm {first})")),
            "{answer}"
        );
    }

    #[test]
    fn a_rough_measurement_is_reported() {
        let mut arms = candidates();
        assert!(advise(&arms, &finished(), 1e6, 600).warnings.is_empty());
        for arm in &mut arms {
            arm.errors.insert("lookahead".to_owned(), 10.0);
        }
        let warnings = advise(&arms, &finished(), 1e6, 600).warnings;
        assert!(
            warnings[0].contains("`lookahead` was measured too roughly"),
            "{warnings:?}"
        );
    }

    #[test]
    fn without_finished_runs_nothing_is_known() {
        let advice = advise(&candidates(), &[], 1e6, 600);
        assert!(advice.answer.starts_with("Not known"), "{}", advice.answer);
        assert!(advice.ranking.iter().all(|e| e.gain.is_none()));
        let noise: Vec<FinishedReplicate> =
            (0..6).map(|s| replicate(s, 10, [0.0; 3], 0.05)).collect();
        let advice = advise(&candidates(), &noise, 1e6, 600);
        assert!(advice.answer.starts_with("Not known"), "{}", advice.answer);
    }
}
