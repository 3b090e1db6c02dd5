//! Advise: which arm would this student learn most from, before any training?

use std::path::Path;

use idiolect_core::advice::FinishedReplicate;
use idiolect_core::advice::predict::{Advice, RaceToRun, advise as predict};
use idiolect_core::race::{FULL_SEEDS, RUNGS};
use idiolect_core::record::{Problem, Split};
use idiolect_core::store::Rows;

use super::features::{FeatureSettings, measure};
use super::{Control, StageError};
use idiolect_model::Model;

/// Finished replicates that the program carries; `idiolect-lab --finished` made them.
const BUNDLED: &str = include_str!("../../advice/finished.jsonl");

/// What to advise on.
#[derive(Clone, Debug)]
pub struct AdviseSettings {
    /// What to measure.
    pub features: FeatureSettings,
    /// Finished runs of the user's own.
    pub learn: Vec<FinishedReplicate>,
    /// Passes over an arm that training would make.
    pub epochs: usize,
    /// Share of the cost of training every arm in full that a race of them may spend, where one is
    /// thought of.
    pub budget: Option<f64>,
}

/// Measures the arms and predicts.
pub fn advise(
    settings: &AdviseSettings,
    model: &mut dyn Model,
    control: Control<'_>,
) -> Result<Advice, StageError> {
    let mut finished = bundled()?;
    finished.extend(settings.learn.iter().cloned());
    let measured = measure(&settings.features, model, control)?;
    let mut tests = 0;
    for row in Rows::<Problem>::open(&settings.features.problems)? {
        tests += usize::from(row?.is_ok_and(|row| row.value.split == Split::Test));
    }
    let tokens: Vec<f64> = measured
        .arms
        .iter()
        .map(|arm| arm.tokens_per_row * (arm.rows * settings.epochs) as f64)
        .collect();
    let largest = tokens.iter().copied().fold(0.0, f64::max);
    let mut advice = predict(&measured.arms, &finished, largest, tests);
    advice.warnings.extend(measured.warnings);
    advice.race = settings.budget.map(|budget| within(budget, &tokens));
    Ok(advice)
}

/// What a race would cost whose arms take so many tokens to train on in full, once each.
fn within(budget: f64, tokens: &[f64]) -> RaceToRun {
    let once: f64 = tokens.iter().sum();
    let (first, full) = (RUNGS[0] * once, FULL_SEEDS as f64 * once);
    // Every arm's rungs, once each; the first is run whatever it costs.
    let most = RUNGS.iter().sum::<f64>() * once;
    RaceToRun {
        command: String::new(),
        budget,
        tokens: (budget * full).clamp(first, most).round() as u64,
        first_rung_tokens: first.round() as u64,
        full_tokens: full.round() as u64,
    }
}

fn bundled() -> Result<Vec<FinishedReplicate>, StageError> {
    BUNDLED
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            serde_json::from_str(line).map_err(|error| {
                StageError::failed(
                    format!("the bundled finished runs cannot be read: {error}"),
                    "",
                )
            })
        })
        .collect()
}

/// The rows of an `advice.jsonl`.
pub fn read(path: &Path) -> Result<Vec<FinishedReplicate>, StageError> {
    let mut replicates = Vec::new();
    for row in Rows::<FinishedReplicate>::open(path)? {
        let row = row?.map_err(|bad| {
            StageError::failed(
                format!("`{}`, line {}: {}", path.display(), bad.line, bad.reason),
                "give a run directory, or the `advice.jsonl` that `advise --learn RUN_DIR` leaves in it",
            )
        })?;
        replicates.push(row.value);
    }
    Ok(replicates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_core::advice::FEATURES;
    use idiolect_core::advice::judge::leave_out;

    #[test]
    fn what_the_advice_is_worth_on_the_bundled_runs_is_what_its_decision_states() {
        let finished = bundled().unwrap_or_else(|e| panic!("{e}"));
        let wanted: Vec<&'static str> = FEATURES.iter().map(|f| f.name).collect();
        let found = leave_out(&finished, &wanted).expect("runs of several students and tasks");
        println!("{found:?}");
        let near = |value: f64, stated: f64, by: f64| (value - stated).abs() <= by;
        assert!(
            near(found.spearman.unwrap_or(0.0), 0.84, 0.005),
            "{found:?}"
        );
        assert!(near(100.0 * found.regret, 0.7, 0.05), "{found:?}");
        let (rho, regret) = found.by_name.expect("the runs share their arms");
        assert!(near(rho.unwrap_or(0.0), 0.77, 0.005), "{found:?}");
        assert!(near(100.0 * regret, 0.2, 0.05), "{found:?}");
    }

    #[test]
    fn a_race_costs_its_budget_but_no_less_than_its_first_rung_nor_more_than_all_of_them() {
        let of = |budget| within(budget, &[600.0, 1200.0]);
        assert_eq!(of(0.2).full_tokens, 5400);
        assert_eq!(of(0.2).first_rung_tokens, 300);
        assert_eq!(
            [of(0.2), of(0.01), of(1.0)].map(|race| race.tokens),
            [1080, 300, 3000]
        );
    }

    #[test]
    fn the_bundled_worlds_can_be_read() {
        for replicate in bundled().unwrap_or_else(|e| panic!("{e}")) {
            assert!(replicate.arms.len() >= 3, "{replicate:?}");
            assert!(
                replicate
                    .arms
                    .iter()
                    .all(|arm| (0.0..=1.0).contains(&arm.accuracy))
            );
        }
    }
}
