//! The advice itself: ranking, expected gains and what cannot be distinguished.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fit::{Fit, fit};
use super::judge::{LeftOut, deviations, leave_out};
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
    /// What such advice was worth on finished replicates that it did not learn from, beside a lookup of
    /// what arms of that name gave elsewhere; absent where none could be left out.
    pub left_out: Option<LeftOut>,
    /// Finished replicates learned from.
    pub replicates: usize,
    /// What would settle what cannot be distinguished.
    pub cost_to_know: Vec<String>,
    /// What a reader must know before believing it.
    pub warnings: Vec<String>,
    /// What would find it out by training, where a budget was stated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub race: Option<RaceToRun>,
}

/// A race of the arms within a budget, which nobody has run yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceToRun {
    /// What to type. It reads this advice from `advice.json`, where the advice states what a race can
    /// begin from.
    pub command: String,
    /// Share of the full cost that may be spent.
    pub budget: f64,
    /// Most tokens that it would train on.
    pub tokens: u64,
    /// Those of its first rung, which trains every arm.
    pub first_rung_tokens: u64,
    /// Those of training every arm in full with three seeds. All without the prompts.
    pub full_tokens: u64,
}

/// What is expected of one arm, whatever other arms it is listed with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The arm.
    pub arm: String,
    /// What its letter represents; empty where it is not known.
    #[serde(default)]
    pub description: String,
    /// Gain in greedy accuracy over the untrained student, a fraction; absent without finished runs.
    pub gain: Option<f64>,
    /// Its interval at 80 %: what finished replicates came out at about predictions that had seen neither
    /// their student nor their task; absent where they are too few to have varied.
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
    /// What a standard deviation of it, over finished arms, adds to the expected gain; a fraction.
    pub weight: f64,
    /// Its own mean rank correlation with accuracy over the finished replicates.
    pub spearman: Option<f64>,
}

/// What finished replicates teach by some features, and how far that holds.
struct Learned {
    fit: Fit,
    left_out: Option<LeftOut>,
    /// Standard deviation of a gain about what is expected of it, and about its replicate's offset too.
    error: f64,
    within: f64,
}

/// By the features that are used.
type ByFeatures = BTreeMap<Vec<&'static str>, Option<Learned>>;

fn learn(finished: &[FinishedReplicate], wanted: &[&'static str]) -> Option<Learned> {
    let replicates: Vec<&FinishedReplicate> = finished.iter().collect();
    let fit = fit(&replicates, wanted)?;
    let left_out = leave_out(finished, wanted);
    // With nothing left out, what is left of the runs themselves is all that is known.
    let own = || {
        let residuals: Vec<Vec<f64>> = finished.iter().map(|r| fit.residuals(r)).collect();
        deviations(&residuals)
    };
    let (error, within) = left_out
        .as_ref()
        .map_or_else(own, |found| (found.error, found.within));
    Some(Learned {
        fit,
        left_out,
        error,
        within,
    })
}

/// What is expected of one arm, from the features that it has itself.
struct Prediction {
    gain: f64,
    /// Of the gain, and of a difference of two gains over √2.
    error: f64,
    within: f64,
}

fn predict(
    arm: &ArmFeatures,
    finished: &[FinishedReplicate],
    known: &mut ByFeatures,
) -> Option<Prediction> {
    let own = common_features([arm]);
    let learned = known
        .entry(own.clone())
        .or_insert_with(|| learn(finished, &own))
        .as_ref()?;
    let measured = learned.fit.measurement_error(arm).powi(2);
    Some(Prediction {
        gain: learned.fit.gain(arm)?,
        error: (learned.error.powi(2) + measured).sqrt(),
        within: (learned.within.powi(2) + measured).sqrt(),
    })
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
    let mut warnings = Vec::new();
    for feature in FEATURES {
        let lack = |arm: &&ArmFeatures| !arm.features.contains_key(feature.name);
        let lacking: Vec<&str> = arms
            .iter()
            .filter(lack)
            .map(|arm| arm.arm.as_str())
            .collect();
        if !lacking.is_empty() {
            warnings.push(format!(
                "`{}` could not be measured of {}: what is expected there rests on the other features",
                feature.name,
                lacking.join(", ")
            ));
        }
    }
    let references: Vec<&ArmFeatures> = arms.iter().collect();
    warnings.extend(rough(&references, &wanted));
    let mut known = ByFeatures::new();
    let predictions: Vec<Option<Prediction>> = arms
        .iter()
        .map(|arm| predict(arm, finished, &mut known))
        .collect();
    let learned = known
        .remove(&wanted)
        .flatten()
        .or_else(|| learn(finished, &wanted));
    let left_out = learned
        .as_ref()
        .and_then(|learned| learned.left_out.clone());
    let spearman = left_out.as_ref().and_then(|found| found.spearman);
    warnings.extend(left_out.as_ref().and_then(no_better_than_names));
    let mut order: Vec<usize> = (0..arms.len()).collect();
    let gain = |at: usize| predictions[at].as_ref().map(|p| p.gain);
    order.sort_by(|a, b| {
        let key = |at: usize| gain(at).unwrap_or(f64::NEG_INFINITY);
        key(*b)
            .total_cmp(&key(*a))
            .then_with(|| arms[*a].arm.cmp(&arms[*b].arm))
    });
    let believed = spearman.is_none_or(|rho| rho >= WORTH);
    let z = normal::quantile(0.5 + CONFIDENCE / 2.0);
    let differ = |a: usize, b: usize| match (&predictions[a], &predictions[b]) {
        (Some(a), Some(b)) => {
            let error = a.within.hypot(b.within);
            believed && error > NO_SPREAD && a.gain - b.gain > z * error
        }
        _ => false,
    };
    let ranking: Vec<Expected> = order
        .iter()
        .enumerate()
        .map(|(place, arm)| {
            let half = predictions[*arm].as_ref().map_or(0.0, |p| z * p.error);
            Expected {
                arm: arms[*arm].arm.clone(),
                description: arms[*arm].description.clone(),
                gain: gain(*arm),
                interval: gain(*arm).filter(|_| half > NO_SPREAD).map(|g| Interval {
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
    let weights = learned
        .as_ref()
        .map_or(&[][..], |learned| &learned.fit.weights);
    let trusted = weights
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
        cost_to_know: cost(&ranking, tokens_to_train, n_problems),
        ranking,
        trusted,
        left_out,
        replicates: learned.as_ref().map_or(0, |learned| learned.fit.replicates),
        warnings,
        race: None,
    }
}

/// Said where a lookup of what arms of that name gave in other runs did as well: with arms of a few
/// fixed kinds, their order is nearly one everywhere.
fn no_better_than_names(found: &LeftOut) -> Option<String> {
    let (rho, regret) = found.by_name?;
    let no_better = found.regret >= regret || found.spearman < rho;
    let of = |rho: Option<f64>| rho.map_or("none".to_owned(), |rho| format!("{rho:.2}"));
    no_better.then(|| {
        format!(
            "on the {} finished replicates a lookup of what arms of the same name gave in other runs did as well \
             (mean rank correlation {}, regret {:.1} points) as this advice ({}, {:.1} points): for arms of the usual kinds \
             take it as a prior and no more; `idiolect race` measures",
            found.replicates,
            of(rho),
            100.0 * regret,
            of(found.spearman),
            100.0 * found.regret
        )
    })
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
                 error); ask the student more problems, or look at more rows",
                100.0 * share
            )
        })
        .collect()
}

fn answer(ranking: &[Expected], learned: bool, spearman: Option<f64>) -> String {
    let Some(first) = ranking.first() else {
        return "There is no arm to advise on.".to_owned();
    };
    if !learned {
        return "Not known: there is no finished run to learn from, so the arms are in the order of their names.".to_owned();
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
    if ranking.len() == 1 {
        return format!("There is one arm, so nothing to choose: {arm}{gain}.");
    }
    if first.gain.is_some_and(|gain| gain <= 0.0) {
        return format!(
            "None of these arms is expected to make the student better; {arm} ranks first{gain}."
        );
    }
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
fn cost(ranking: &[Expected], tokens_to_train: f64, n_problems: usize) -> Vec<String> {
    let Some(first) = ranking.first() else {
        return Vec::new();
    };
    let gain = |name: &str| {
        let found = ranking.iter().find(|arm| arm.arm == name);
        found.and_then(|arm| arm.gain).unwrap_or(0.0)
    };
    first
        .indistinguishable_from
        .iter()
        .take(3)
        .map(|other| {
            let gap = first.gain.unwrap_or(0.0) - gain(other);
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
    use idiolect_model::Rng;

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
        assert!(
            advice.left_out.as_ref().unwrap().spearman.unwrap() > 0.5,
            "{advice:?}"
        );
        assert!(advice.answer.contains("A3"), "{}", advice.answer);
    }

    #[test]
    fn what_is_expected_of_an_arm_depends_on_no_other() {
        let mut arms = candidates();
        // One lacks a feature, which is no matter of the others.
        arms[4].features.remove("lookahead");
        let all = advise(&arms, &finished(), 1e6, 600);
        for arm in &arms {
            let of = |advice: &Advice| {
                let found = advice.ranking.iter().find(|e| e.arm == arm.arm).unwrap();
                (found.gain, found.interval)
            };
            let alone = advise(std::slice::from_ref(arm), &finished(), 1e6, 600);
            assert_eq!(of(&all), of(&alone), "{}", arm.arm);
            assert!(of(&all).0.is_some(), "{}", arm.arm);
        }
        assert!(
            all.warnings
                .iter()
                .any(|w| w.contains("`lookahead` could not be measured of A4"))
        );
    }

    #[test]
    fn one_arm_is_no_choice_and_is_not_recommended() {
        let one = advise(&candidates()[..1], &finished(), 1e6, 600);
        assert!(
            one.answer
                .starts_with("There is one arm, so nothing to choose")
                && one.answer.contains("expected gain"),
            "{}",
            one.answer
        );
    }

    #[test]
    fn a_set_of_bad_arms_gets_no_good_first_place() {
        let mut arms = candidates();
        for arm in &mut arms {
            for value in arm.features.values_mut() {
                *value -= 3.0;
            }
        }
        let advice = advise(&arms, &finished(), 1e6, 600);
        assert!(
            advice.ranking.iter().all(|e| e.gain.unwrap() < 0.0),
            "{advice:?}"
        );
    }

    #[test]
    fn intervals_hold_at_least_about_as_often_as_they_state() {
        // Students and tasks with offsets of their own, predicted from others.
        let shifted = |seed: u64| {
            let mut one = replicate(seed, 10, [1.0, 0.5, 0.5], 0.01);
            let offset = 0.02 * Rng::keyed(seed, &["offset"]).normal();
            one.arms.iter_mut().for_each(|arm| arm.accuracy += offset);
            one
        };
        let learned: Vec<FinishedReplicate> = (0..18).map(shifted).collect();
        let (mut held, mut all) = (0u32, 0u32);
        for new in (100..140).map(shifted) {
            let arms: Vec<ArmFeatures> = new.arms.iter().map(|a| a.before.clone()).collect();
            for expected in advise(&arms, &learned, 1e6, 600).ranking {
                let arm = new
                    .arms
                    .iter()
                    .find(|a| a.before.arm == expected.arm)
                    .unwrap();
                held += u32::from(expected.interval.unwrap().contains(arm.accuracy - new.base));
                all += 1;
            }
        }
        // Of 80 %; what is left out learns from a third of the runs, so its errors are the larger ones.
        let share = f64::from(held) / f64::from(all);
        assert!((0.75..=0.95).contains(&share), "{share}");
    }

    #[test]
    fn a_lookup_by_name_that_does_as_well_is_reported() {
        // What an arm gains goes by its name alone.
        let mut runs: Vec<FinishedReplicate> = finished();
        for run in &mut runs {
            for (at, arm) in run.arms.iter_mut().enumerate() {
                arm.accuracy = 0.1 + 0.02 * at as f64;
            }
        }
        let advice = advise(&candidates(), &runs, 1e6, 600);
        let warned = advice
            .warnings
            .iter()
            .any(|w| w.contains("arms of the same name"));
        assert!(warned, "{:?}", advice.warnings);
        let by_features = advise(&candidates(), &finished(), 1e6, 600);
        let warned = by_features
            .warnings
            .iter()
            .any(|w| w.contains("arms of the same name"));
        assert!(!warned, "{:?}", by_features.warnings);
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
