//! Comparison: which arm taught the student most, and how sure that is.
//!
//! [`Comparison`] is what `comparison.json` holds and all that the report's figures need; it depends
//! on the evaluations, the arms' scores and a seed alone. Accuracies are shares in [0, 1] over
//! **all** problems: an answer that is unreadable, cut off or ungraded counts as not correct and is
//! counted apart. What this is not: it reads no files and judges no answers.
//!
//! The unit is the problem. Differences are paired by problem; fine-tuning seeds are a second
//! level, replicates (other students, other splits) a third.

mod answers;
mod difference;
mod factors;
mod interval;
mod measure;
mod result;
pub mod settings;
mod words;

use crate::metric::METRICS;
use crate::record::{EvalRow, ScoreRow};
use crate::scores::MergeError;

pub use crate::statistics::bootstrap::Replicates;
use answers::Answers;
pub use factors::{FactorAnalysis, PlannedContrast};
pub use result::{
    Accuracy, ArmResult, Best, Closeness, Comparison, Correlation, Counts, Difference, DosePoint,
    Estimate, GoldSurprisal, McNemar, MetricDescription, Relation, SampledAccuracy, SeedAccuracy,
    StepCounts,
};

/// One checkpoint's answers to the evaluation problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The arm it was trained on; `base` for the untrained student.
    pub arm: String,
    /// Which replicate (student and split) it belongs to; 0 where there is one.
    pub replicate: usize,
    /// The fine-tuning seed; 0 for the untrained student.
    pub seed: u64,
    /// Greedy and sampled rows, in any order.
    pub rows: Vec<EvalRow>,
    /// Scores of the evaluation problems' own solutions under this checkpoint; may be empty.
    pub gold: Vec<ScoreRow>,
}

/// What is known of an arm's training set in one replicate.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmData {
    /// The arm.
    pub arm: String,
    /// Its replicate.
    pub replicate: usize,
    /// What it is made of, in the arm language; `None` where only its name is known.
    pub spec: Option<String>,
    /// Rows that its checkpoints were trained on.
    pub rows: usize,
    /// Distinct problems among them.
    pub problems: usize,
    /// Scores of its rows under the untrained student; may be empty.
    pub scores: Vec<ScoreRow>,
    /// What was found of its steps, where they were checked.
    pub steps: Option<StepCounts>,
    /// Share of its rows verified correct, where they were verified.
    pub right: Option<f64>,
}

/// How to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareOptions {
    /// Arms that every other arm is compared with, in order; the first is the main one. Empty: those
    /// of `base` and `H` that are there, else the first arm.
    pub baselines: Vec<String>,
    /// Bootstrap and permutation draws.
    pub draws: usize,
    /// Seeds them.
    pub seed: u64,
    /// Coverage of every interval, for example 0.95.
    pub confidence: f64,
    /// Whether intervals are to hold for replicates like those at hand, or for these alone.
    pub replicates: Replicates,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            baselines: Vec::new(),
            draws: 10_000,
            seed: 0,
            confidence: 0.95,
            replicates: Replicates::default(),
        }
    }
}

/// Why evaluations cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Nothing to compare.
    #[error("there is no evaluation with a row; evaluate at least one checkpoint")]
    Nothing,
    /// A checkpoint without a single answer beside others that have some.
    #[error(
        "arm `{arm}`, replicate {replicate}, seed {seed}: the evaluation has no rows; evaluate it, or leave it out"
    )]
    Empty {
        /// The arm.
        arm: String,
        /// The replicate.
        replicate: usize,
        /// The fine-tuning seed.
        seed: u64,
    },
    /// A declared baseline that is no arm.
    #[error("the baseline `{name}` is not among the arms {arms}")]
    UnknownBaseline {
        /// As declared.
        name: String,
        /// What there is.
        arms: String,
    },
    /// One checkpoint twice.
    #[error(
        "arm `{arm}` has two evaluations of replicate {replicate}, seed {seed}; give each checkpoint once"
    )]
    TwiceEvaluated {
        /// The arm.
        arm: String,
        /// The replicate.
        replicate: usize,
        /// The fine-tuning seed.
        seed: u64,
    },
    /// One answer twice.
    #[error(
        "arm `{arm}`, seed {seed}: problem `{problem}` has two rows of sample {sample}; remove one"
    )]
    TwiceAnswered {
        /// The arm.
        arm: String,
        /// The fine-tuning seed.
        seed: u64,
        /// The problem.
        problem: String,
        /// The sample.
        sample: usize,
    },
    /// Checkpoints that answered different problems.
    #[error(
        "arm `{arm}`, seed {seed} does not answer the problems that arm `{other}` answers: {missing} missing, {surplus} too many, such as `{example}`; evaluate all checkpoints of a replicate on the same problems"
    )]
    OtherProblems {
        /// The arm.
        arm: String,
        /// The fine-tuning seed.
        seed: u64,
        /// The arm that it is held against.
        other: String,
        /// Problems that only the other answers.
        missing: usize,
        /// Problems that only this one answers.
        surplus: usize,
        /// One of them.
        example: String,
    },
    /// Scores that have no common sum.
    #[error("arm `{arm}`: {source}")]
    Closeness {
        /// The arm.
        arm: String,
        /// Why.
        source: MergeError,
    },
}

/// Compares arms. Equal inputs give equal bits; the order of rows and of evaluations changes no
/// number (the order of arms is that of their first evaluation).
///
/// The main interval and p of a difference come from the nested bootstrap over replicates, seeds and
/// problems. Where there is one replicate and one seed on both sides that would count no training noise
/// at all: then they are BCa over problems and exact McNemar (sign-flip for samples), and the verdict
/// states "one training run". Where fewer than six problems differ, intervals, p and the detectable
/// difference are held to what so few can show ([`crate::statistics::few`]): no interval is a point.
///
/// # Errors
/// See [`CompareError`].
pub fn compare(
    evaluations: &[Evaluation],
    arms: &[ArmData],
    options: &CompareOptions,
) -> Result<Comparison, CompareError> {
    let answers = Answers::new(evaluations, options)?;
    let baselines = baselines(&answers.arms, options)?;
    let results: Vec<ArmResult> = answers
        .arms
        .iter()
        .map(|arm| measure::arm(arm, &answers, evaluations, arms, options))
        .collect::<Result<_, _>>()?;
    let differences = difference::against(&baselines, &answers, options);
    let best = difference::best(&results, &answers, options);
    let correlations = measure::correlations(&results, options);
    let factors = factors::analyse(&results, arms, &answers, options);
    let mut answer = words::answer(
        &results,
        &differences,
        best.as_ref(),
        &baselines,
        &correlations,
        &answers,
    );
    if let Some(found) = factors.as_ref().and_then(words::on_factors) {
        answer.push(' ');
        answer += &found;
    }
    let warnings = words::warnings(&results, &baselines, &answers, arms);
    Ok(Comparison {
        answer,
        confidence: options.confidence,
        draws: options.draws,
        seed: options.seed,
        n_problems: answers.problems.len(),
        n_replicates: answers.replicates().len(),
        baselines,
        dose_curve: measure::dose_curve(&results),
        arms: results,
        differences,
        best,
        metrics: METRICS.iter().map(MetricDescription::of).collect(),
        correlations,
        factors,
        warnings,
    })
}

fn baselines(arms: &[String], options: &CompareOptions) -> Result<Vec<String>, CompareError> {
    if let Some(unknown) = options.baselines.iter().find(|name| !arms.contains(name)) {
        let arms = arms
            .iter()
            .map(|arm| format!("`{arm}`"))
            .collect::<Vec<_>>()
            .join(", ");
        return Err(CompareError::UnknownBaseline {
            name: unknown.clone(),
            arms,
        });
    }
    if !options.baselines.is_empty() {
        return Ok(options.baselines.clone());
    }
    let usual: Vec<String> = arms
        .iter()
        .filter(|arm| ["base", "H"].contains(&arm.as_str()))
        .cloned()
        .collect();
    Ok(if usual.is_empty() {
        arms.iter().take(1).cloned().collect()
    } else {
        usual
    })
}

#[cfg(test)]
mod tests;
