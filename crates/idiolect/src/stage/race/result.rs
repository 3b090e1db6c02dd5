//! What a race found, as it is stored and printed.

use std::path::Path;

use idiolect_core::arms::in_full;
use idiolect_core::race::{Ending, FULL_SEEDS};
use idiolect_core::record::Problem;
use idiolect_core::statistics::{Interval, mean, normal};
use serde::{Deserialize, Serialize};

use super::inputs::{Field, few_problems};
use super::{Finished, RaceSettings};
use crate::stage::StageError;

/// Coverage of the intervals of differences.
const CONFIDENCE: f64 = 0.8;

/// The answer of a race: `DIR/race.json`, and what `idiolect race --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RaceResult {
    /// In a sentence or two.
    pub answer: String,
    /// The arm to train on.
    pub pick: String,
    /// Probability that the pick is the best of these arms after the full training.
    pub p_best: f64,
    /// Accuracy that is lost on average by taking the pick, a fraction.
    pub expected_regret: f64,
    /// Why the race ended.
    pub ending: Ending,
    /// Most probable first.
    pub arms: Vec<RacedArm>,
    /// Accuracy of the untrained student on the same problems.
    pub base_accuracy: f64,
    /// Problems that were asked.
    pub problems: usize,
    /// Tokens trained on.
    pub spent_tokens: u64,
    /// Tokens of training every arm in full, with three seeds each.
    pub full_tokens: u64,
    /// What was spent of that, a fraction.
    pub spent_fraction: f64,
    /// What a reader must know before believing it.
    pub warnings: Vec<String>,
}

/// What was found of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RacedArm {
    /// The arm.
    pub arm: String,
    /// What its letter represents; empty where it is not known.
    pub description: String,
    /// Probability that it is the best after the full training.
    pub p_best: f64,
    /// Expected accuracy behind the pick after the full training, a fraction; 0 of the pick.
    pub behind: f64,
    /// Its interval at 80 %; absent of the pick.
    pub interval: Option<Interval>,
    /// What was read of it, in the order of rungs.
    pub rungs: Vec<RungReading>,
    /// Whether it may be the best and the budget did not pay for the next rung.
    pub unpaid: bool,
}

/// One training of an arm and what it answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RungReading {
    /// Passes over the rows.
    pub epochs: usize,
    /// Rows.
    pub rows: usize,
    /// Tokens that the training read.
    pub tokens: u64,
    /// Greedy accuracy on the problems asked.
    pub accuracy: f64,
    /// The trained model, in the folder of the race.
    pub checkpoint: String,
}

/// The result that a finished race left.
pub(super) fn read(path: &Path) -> Result<RaceResult, StageError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        StageError::failed(format!("cannot read `{}`: {error}", path.display()), "")
    })?;
    serde_json::from_str(&text).map_err(|error| {
        StageError::failed(
            format!("`{}` is no result of a race: {error}", path.display()),
            "make it again with --overwrite",
        )
    })
}

/// The result of a race that ended.
pub(super) fn told(
    settings: &RaceSettings,
    field: &Field,
    asked: &[Problem],
    base: &[f64],
    run: Finished,
) -> RaceResult {
    let pick = run.standing.pick;
    let z = normal::quantile(0.5 + CONFIDENCE / 2.0);
    let mut arms: Vec<RacedArm> = settings
        .arms
        .iter()
        .zip(run.readings)
        .enumerate()
        .map(|(arm, ((name, _), rungs))| {
            let (behind, sd) = run.belief.difference(pick, arm);
            RacedArm {
                arm: name.clone(),
                description: field.description(arm).to_owned(),
                p_best: run.standing.p_best[arm],
                behind,
                interval: (arm != pick).then_some(Interval {
                    low: behind - z * sd,
                    high: behind + z * sd,
                }),
                rungs,
                unpaid: run.unpaid.contains(&arm),
            }
        })
        .collect();
    // The pick first, whatever a draw says of two that are alike.
    let picked = settings.arms[pick].0.clone();
    arms.sort_by(|a, b| {
        (b.arm == picked)
            .cmp(&(a.arm == picked))
            .then(b.p_best.total_cmp(&a.p_best))
            .then(a.behind.total_cmp(&b.behind))
    });
    let mut warnings: Vec<String> = few_problems(asked.len()).into_iter().collect();
    warnings.extend(field.unmatched(settings));
    warnings.extend(over_budget(run.first / run.full.max(1.0), settings.budget));
    let base_accuracy = mean(base);
    let best = arms[0].rungs.last().map_or(0.0, |rung| rung.accuracy);
    if best <= base_accuracy {
        warnings.push(format!(
            "after its last rung {picked} answers no more problems than the untrained student ({:.1} % and {:.1} %)",
            100.0 * best,
            100.0 * base_accuracy
        ));
    }
    let spent_fraction = run.spent / run.full.max(1.0);
    let p_best = run.standing.p_best[pick];
    let taught = |arm: &RacedArm| arm.rungs.iter().any(|rung| rung.accuracy > base_accuracy);
    let sure = format!(
        "with probability {p_best:.2}, expected regret {:.1} points",
        100.0 * run.standing.regret
    );
    let name = in_full(&picked, &arms[0].description);
    let found = if !arms.iter().any(taught) {
        format!(
            "Not resolved: after no training does the student answer more of {} problems than before ({:.1} %).",
            asked.len(),
            100.0 * base_accuracy
        )
    } else if p_best < 0.5 {
        format!(
            "Not resolved: {name} is the likeliest best of {} arms, {sure}.",
            arms.len()
        )
    } else {
        format!("Train on {name}: the best of {} arms {sure}.", arms.len())
    };
    RaceResult {
        answer: format!(
            "{found} {} It took {:.0} % of what training every arm in full with {FULL_SEEDS} seeds would.",
            why(run.ending, settings),
            100.0 * spent_fraction,
        ),
        pick: picked,
        p_best,
        expected_regret: run.standing.regret,
        ending: run.ending,
        arms,
        base_accuracy,
        problems: asked.len(),
        spent_tokens: run.spent as u64,
        full_tokens: run.full as u64,
        spent_fraction,
        warnings,
    }
}

/// What a reader must know where the first rung, without which there is no race, costs more than the
/// budget.
pub(super) fn over_budget(first: f64, budget: f64) -> Option<String> {
    (first > budget).then(|| {
        format!(
            "the first rung alone takes {:.1} % of the full cost, more than the budget of {:.1} %; fewer --rows make it cheaper",
            100.0 * first,
            100.0 * budget
        )
    })
}

fn why(ending: Ending, settings: &RaceSettings) -> String {
    let rules = &settings.rules;
    match ending {
        Ending::Sure => format!(
            "The race ended because that probability reached {}.",
            rules.stop_at
        ),
        Ending::Tolerable => format!(
            "The race ended because no more than {:.1} points are expected to be lost by taking it.",
            100.0 * rules.tolerance
        ),
        Ending::Full => "The arms that were left were trained in full.".to_owned(),
        Ending::Budget => format!(
            "The race ended because the budget of {:.0} % does not pay for the next rung of two arms.",
            100.0 * settings.budget
        ),
    }
}
