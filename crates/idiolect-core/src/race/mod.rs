//! A race of arms: short trainings of all, longer ones of those that may still be the best, until one
//! is known well enough (successive halving with a posterior).
//!
//! A rung is a fraction of the full training. After each, [`Belief`] says with what probability each
//! arm would be the best after the full training, and [`next`] whether to stop and which arms go on.

pub mod belief;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use belief::{Belief, Reading, Standing};

/// Fractions of the full training that the rungs hold.
pub const RUNGS: [f64; 3] = [1.0 / 6.0, 0.5, 1.0];
/// Seeds of the full training of an arm that a race is compared with.
pub const FULL_SEEDS: usize = 3;
/// Arms that go on at least: one alone can be compared with nothing.
const FEWEST: usize = 2;

/// How far readings can be believed and when to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Standard deviation of a training's accuracy over its seeds, a fraction.
    pub seed_sd: f64,
    /// Standard deviation of an arm's own drift from a rung to the next, a fraction, one fewer than
    /// rungs.
    pub drift_sd: [f64; RUNGS.len() - 1],
    /// An arm whose probability of being the best is below this goes on no longer.
    pub drop_below: f64,
    /// The race ends where an arm is the best with at least this probability.
    pub stop_at: f64,
    /// The race ends where the expected regret is at most this, a fraction.
    pub tolerance: f64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            seed_sd: 0.01,
            drift_sd: [0.025, 0.015],
            drop_below: 0.05,
            stop_at: 0.9,
            tolerance: 0.003,
        }
    }
}

/// Why a race ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// An arm is the best with the probability that was asked for.
    Sure,
    /// No arm is expected to be better by more than the tolerance.
    Tolerable,
    /// Those that went on were trained in full.
    Full,
    /// The budget does not pay for two further trainings.
    Budget,
}

/// What follows a rung.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The race is over.
    Stop(Ending),
    /// These arms go on, by number in their order; of the others, those that only the budget holds
    /// back.
    Go {
        /// What the next rung trains.
        arms: Vec<usize>,
        /// What may still be the best and is not paid for.
        unpaid: Vec<usize>,
    },
}

/// What is believed after a rung of what the full training would give: a belief that drifted through
/// the rungs that were not run.
pub fn in_full(belief: &Belief, rung: usize, rules: &Rules) -> Belief {
    let mut full = belief.clone();
    for deviation in &rules.drift_sd[rung.min(rules.drift_sd.len())..] {
        full.drift(*deviation);
    }
    full
}

/// Whether the race is over after `rung`, and which of the arms `running` go on. `cost` is what the
/// next rung of an arm costs, `left` what may still be spent, in the same unit.
pub fn next(
    standing: &Standing,
    running: &[usize],
    rung: usize,
    cost: impl Fn(usize) -> f64,
    left: f64,
    rules: &Rules,
) -> Next {
    if standing
        .p_best
        .get(standing.pick)
        .is_some_and(|p| *p >= rules.stop_at)
    {
        return Next::Stop(Ending::Sure);
    }
    if standing.regret <= rules.tolerance {
        return Next::Stop(Ending::Tolerable);
    }
    if rung + 1 >= RUNGS.len() || running.len() < FEWEST {
        return Next::Stop(Ending::Full);
    }
    let p = |arm: usize| standing.p_best.get(arm).copied().unwrap_or(0.0);
    let mut likely = running.to_vec();
    likely.sort_by(|a, b| p(*b).total_cmp(&p(*a)).then_with(|| a.cmp(b)));
    let keep = likely
        .iter()
        .filter(|arm| p(**arm) >= rules.drop_below)
        .count()
        .max(FEWEST);
    likely.truncate(keep);
    let (mut spent, mut arms, mut unpaid) = (0.0, Vec::new(), Vec::new());
    for arm in likely {
        spent += cost(arm);
        match spent <= left {
            true => arms.push(arm),
            false => unpaid.push(arm),
        }
    }
    if arms.len() < FEWEST {
        return Next::Stop(Ending::Budget);
    }
    arms.sort_unstable();
    unpaid.sort_unstable();
    Next::Go { arms, unpaid }
}
