//! Advice: which of several candidate arms a student would learn most from, before any training.
//!
//! A handful of [`FEATURES`] are measured of every candidate, and what each adds to the gain in
//! accuracy is learned from finished runs ([`fit`]), with a strong ridge, as finished runs are few. An
//! arm's expected gain depends on its own features alone, not on which other arms it is listed with.
//! What a prediction is worth is measured by leaving whole students and tasks out, and held against a
//! lookup of what arms of that name gave elsewhere ([`judge`]). What this is not: a model of training.
//! It states how sure it is and when it does not know.

pub mod fit;
pub mod judge;
pub mod predict;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::statistics::{mean, standard_error};

/// Something measured of an arm before training, of which more is expected to teach more.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Its key in every file.
    pub name: &'static str,
    /// What it is, for a person.
    pub words: &'static str,
}

/// What is measured, each turned so that larger is better. The first three were chosen on two replicates
/// of the default experiment (a Llama student on Countdown, seeds 0 and 7), the fourth on the
/// benchmark's seeds 0 to 3, which the bundled runs are of: figures on these are not fresh.
pub const FEATURES: &[Feature] = &[
    Feature {
        name: "lookahead",
        words: "nats by which the student's own right answers gain on its wrong ones over one step on the arm",
    },
    Feature {
        name: "closeness",
        words: "minus the log of the arm's surprisal per token under the student",
    },
    Feature {
        name: "right",
        words: "fraction of the arm's answers that are right",
    },
    Feature {
        name: "likeness",
        words: "minus how well surprisal, entropy, ranks and length distinguish the arm's traces from the student's own samples (|AUC − ½|)",
    },
];

/// What is known of an arm before training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmFeatures {
    /// The arm.
    pub arm: String,
    /// What its letter represents; empty where it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// [`FEATURES`] by name; what could not be measured is absent.
    pub features: BTreeMap<String, f64>,
    /// Standard error of a feature from the sample it was measured on, where known. Where all arms are
    /// measured on the same answers it is that of what sets an arm apart from the others.
    #[serde(default)]
    pub errors: BTreeMap<String, f64>,
    /// Other metrics of the set by name, each turned so that larger is nearer, for the benchmark.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Completion tokens a row.
    pub tokens_per_row: f64,
    /// Rows of the whole arm.
    pub rows: usize,
}

/// A trained arm: what was known before, and what came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedArm {
    /// Known before.
    #[serde(flatten)]
    pub before: ArmFeatures,
    /// Greedy accuracy after training, the mean over seeds.
    pub accuracy: f64,
    /// Accuracy of each seed.
    pub seeds: Vec<f64>,
}

/// One student on one task with its trained arms: a row of a file of finished runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedReplicate {
    /// The run that it is of, by name.
    pub run: String,
    /// The student, so that an evaluation can leave it out: its architecture.
    pub student: String,
    /// The task.
    pub task: String,
    /// Which of several replicates with this student and task.
    pub replicate: usize,
    /// Greedy accuracy of the untrained student.
    pub base: f64,
    /// Its arms.
    pub arms: Vec<FinishedArm>,
}

/// A feature of each arm and its [`reliability`], 1 where errors are not known; `None` where an arm
/// lacks it.
pub(crate) fn measured(arms: &[&ArmFeatures], name: &str) -> Option<(Vec<f64>, f64)> {
    let of = |part: fn(&ArmFeatures) -> &BTreeMap<String, f64>| -> Option<Vec<f64>> {
        arms.iter()
            .map(|arm| part(arm).get(name).copied())
            .collect()
    };
    let values = of(|arm| &arm.features)?;
    let trust = of(|arm| &arm.errors).map_or(1.0, |errors| reliability(&values, &errors));
    Some((values, trust))
}

/// The fraction of the arms' variance that is not their measurement errors', 0 to 1.
fn reliability(values: &[f64], errors: &[f64]) -> f64 {
    let Some(error) = standard_error(values).filter(|error| *error > 0.0) else {
        return 0.0;
    };
    let variance = error * error * values.len() as f64;
    let noise: Vec<f64> = errors.iter().map(|e| e * e).collect();
    (1.0 - mean(&noise) / variance).clamp(0.0, 1.0)
}

/// The names of [`FEATURES`] that every arm has.
pub fn common_features<'a>(arms: impl IntoIterator<Item = &'a ArmFeatures>) -> Vec<&'static str> {
    let arms: Vec<&ArmFeatures> = arms.into_iter().collect();
    FEATURES
        .iter()
        .map(|feature| feature.name)
        .filter(|name| !arms.is_empty() && arms.iter().all(|arm| arm.features.contains_key(*name)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use idiolect_model::Rng;

    /// A replicate whose accuracies follow `weights` over random features, with noise.
    pub(crate) fn replicate(
        seed: u64,
        arms: usize,
        weights: [f64; 3],
        noise: f64,
    ) -> FinishedReplicate {
        let mut rng = Rng::keyed(seed, &["replicate"]);
        let arms = (0..arms)
            .map(|at| {
                let values: Vec<f64> = FEATURES.iter().map(|_| rng.uniform()).collect();
                let signal: f64 = values.iter().zip(weights).map(|(v, w)| v * w).sum();
                let accuracy = 0.1 + 0.1 * signal + noise * rng.normal();
                FinishedArm {
                    before: ArmFeatures {
                        arm: format!("A{at}"),
                        features: FEATURES
                            .iter()
                            .zip(&values)
                            .map(|(f, v)| (f.name.to_owned(), *v))
                            .collect(),
                        tokens_per_row: 20.0,
                        rows: 100,
                        ..ArmFeatures::default()
                    },
                    accuracy,
                    seeds: vec![accuracy; 3],
                }
            })
            .collect();
        FinishedReplicate {
            run: "test".into(),
            student: format!("s{}", seed % 3),
            task: format!("t{}", seed % 2),
            replicate: 0,
            base: 0.1,
            arms,
        }
    }

    #[test]
    fn what_is_all_error_distinguishes_nothing() {
        let of = |values: &[f64], error: f64| reliability(values, &vec![error; values.len()]);
        for (values, error, want) in [
            ([1.0, 2.0, 3.0], 0.0, 1.0),
            ([1.0, 2.0, 3.0], 0.5, 0.75),
            ([1.0, 2.0, 3.0], 2.0, 0.0),
            ([1.0, 1.0, 1.0], 0.1, 0.0),
        ] {
            assert!(
                (of(&values, error) - want).abs() < 1e-12,
                "{values:?} {error}"
            );
        }
    }

    #[test]
    fn a_finished_world_survives_its_file() {
        let before = replicate(1, 4, [1.0; 3], 0.0);
        let text = serde_json::to_string(&before).unwrap();
        assert_eq!(
            serde_json::from_str::<FinishedReplicate>(&text).unwrap(),
            before
        );
    }
}
