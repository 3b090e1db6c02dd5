//! Comparison: which arm taught the student most, and how sure that is.
//!
//! [`Comparison`] is what `comparison.json` holds and all that the report's figures need; it depends
//! on the evaluations, the arms' alignments and a seed alone. Accuracies are shares in [0, 1] over
//! **all** problems: an answer that is unreadable, cut off or ungraded counts as not correct and is
//! counted apart. What this is not: it reads no files and judges no answers.
//!
//! The unit is the problem. Differences are paired by problem; fine-tuning seeds are a second
//! level, worlds (other students, other splits) a third.

mod answers;
mod difference;
mod measure;
pub mod settings;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alignment::MergeError;
use crate::metric::{Direction, METRICS, Metric};
use crate::record::{Alignment, ArmRow, Decoding, EvalRow, Step, StepCheck, VerdictRow};
use crate::statistics::Interval;

use answers::Answers;

/// One checkpoint's answers to the evaluation problems.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The arm it was trained on; `base` for the untrained student.
    pub arm: String,
    /// Which world (student and split) it belongs to; 0 where there is one.
    pub world: usize,
    /// The fine-tuning seed; 0 for the untrained student.
    pub seed: u64,
    /// Greedy and sampled rows, in any order.
    pub rows: Vec<EvalRow>,
    /// Alignment of the evaluation problems' own solutions with this checkpoint; may be empty.
    pub gold: Vec<Alignment>,
}

/// What is known of an arm's training set in one world.
#[derive(Clone, Debug, PartialEq)]
pub struct ArmData {
    /// The arm.
    pub arm: String,
    /// Its world.
    pub world: usize,
    /// Training rows.
    pub rows: usize,
    /// Distinct problems among them.
    pub problems: usize,
    /// Alignment of its rows with the untrained student; may be empty.
    pub alignments: Vec<Alignment>,
    /// What was found of its steps, where they were checked.
    pub steps: Option<StepCounts>,
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
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            baselines: Vec::new(),
            draws: 10_000,
            seed: 0,
            confidence: 0.95,
        }
    }
}

/// Everything a report says about a run: `comparison.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The answer in a sentence or two.
    pub answer: String,
    /// Coverage of every interval below.
    pub confidence: f64,
    /// Bootstrap draws.
    pub draws: usize,
    /// Seeds them.
    pub seed: u64,
    /// Distinct evaluation problems.
    pub n_problems: usize,
    /// Worlds pooled.
    pub n_worlds: usize,
    /// The declared baselines that are among the arms.
    pub baselines: Vec<String>,
    /// One entry an arm, in the order of the evaluations.
    pub arms: Vec<ArmResult>,
    /// Every arm against every baseline, greedy before sampled.
    pub differences: Vec<Difference>,
    /// The most accurate arm, against every other arm.
    pub best: Option<Best>,
    /// What each closeness metric is; the keys of [`ArmResult::closeness`].
    pub metrics: Vec<MetricFacts>,
    /// Does closeness go with accuracy over arms? One entry a metric.
    pub correlations: Vec<Correlation>,
    /// Accuracy against the dose of flaws: G as dose 0, then F25 and so on.
    pub dose_curve: Vec<DosePoint>,
    /// What a reader must know before believing the above.
    pub warnings: Vec<String>,
}

/// One arm's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm.
    pub arm: String,
    /// Training rows, summed over worlds; absent where it was not told (`base`).
    pub rows: Option<usize>,
    /// Completion tokens of them without end tokens, summed over worlds.
    pub tokens: Option<u64>,
    /// Greedy decoding.
    pub greedy: Option<Accuracy>,
    /// Sampled decoding.
    pub sampled: Option<SampledAccuracy>,
    /// Set-level closeness of its rows to the untrained student, by metric name; the mean over worlds.
    pub closeness: BTreeMap<String, Estimate>,
    /// What was found of its steps.
    pub steps: Option<StepCounts>,
    /// Surprisal of the evaluation problems' own solutions after training.
    pub gold: Option<GoldSurprisal>,
}

/// Greedy accuracy: the mean over worlds of the mean over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of all problems answered correctly.
    pub mean: f64,
    /// Wilson interval at the mean, n = problems: uncertainty from the choice of problems.
    pub wilson: Interval,
    /// Bootstrap over seeds and problems (and worlds): uncertainty from training too.
    pub interval: Interval,
    /// Standard error of the mean from the spread over seeds; absent with one seed a world.
    pub seed_error: Option<f64>,
    /// Standard error of the mean from the spread over worlds; absent with one world.
    pub world_error: Option<f64>,
    /// What the answers were, summed over seeds and worlds.
    pub counts: Counts,
    /// One entry a world and seed.
    pub per_seed: Vec<SeedAccuracy>,
}

/// One checkpoint's greedy accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedAccuracy {
    /// World.
    pub world: usize,
    /// Fine-tuning seed.
    pub seed: u64,
    /// Share of all problems.
    pub accuracy: f64,
    /// Wilson interval.
    pub wilson: Interval,
    /// What the answers were.
    pub counts: Counts,
}

/// What a set of answers was. The first four add up to `total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Answers.
    pub total: usize,
    /// Equal to gold.
    pub correct: usize,
    /// Readable, not equal to gold.
    pub wrong: usize,
    /// Nothing readable.
    pub no_answer: usize,
    /// Could not be judged.
    pub ungraded: usize,
    /// Cut off by the token limit; also among the four above.
    pub truncated: usize,
}

/// Accuracy of k samples a problem: means over worlds of means over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledAccuracy {
    /// Samples a problem (the fewest, if they differ).
    pub k: usize,
    /// Mean share of correct samples.
    pub avg_at_k: f64,
    /// Bootstrap interval of it, over seeds and problems (and worlds).
    pub interval: Interval,
    /// Unbiased pass@j for j = 1, 2, 4, … and k.
    pub pass_at: BTreeMap<usize, f64>,
    /// Accuracy of the most frequent answer among the k; ties share the credit.
    pub maj_at_k: f64,
    /// Standard error of `avg_at_k` from the spread over seeds.
    pub seed_error: Option<f64>,
    /// What the answers were, summed over seeds and worlds.
    pub counts: Counts,
}

/// A number and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// What a checker found of a set of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// Recomputed and right.
    pub valid: usize,
    /// Recomputed and false.
    pub invalid: usize,
    /// Nothing to recompute.
    pub unchecked: usize,
}

/// Surprisal of the evaluation problems' own solutions under the trained checkpoints; means over
/// seeds and worlds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldSurprisal {
    /// Nats per token.
    pub nll_per_token: f64,
    /// Bits per byte.
    pub bits_per_byte: Option<f64>,
    /// Standard error of `nll_per_token` from the spread over seeds.
    pub seed_error: Option<f64>,
    /// Tokens behind it, one checkpoint's.
    pub n_tokens: u64,
}

/// One arm minus one baseline, paired by problem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The arm.
    pub arm: String,
    /// What it is compared with.
    pub baseline: String,
    /// Greedy accuracy or avg@k.
    pub decoding: Decoding,
    /// Accuracy of the arm minus that of the baseline, a share.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// How the interval was made, in words.
    pub method: String,
    /// Two-sided p of no difference, not adjusted.
    pub p: f64,
    /// Holm-adjusted over the arms compared with this baseline under this decoding.
    pub p_holm: f64,
    /// How p was made, in words.
    pub p_method: String,
    /// Exact McNemar tests of single greedy checkpoints, one a world and seed.
    pub mcnemar: Vec<McNemar>,
    /// Two-sided sign-flip p over problems (seeds averaged: training noise not counted).
    pub p_sign_flip: f64,
    /// Share of problems that the arm gets right and the baseline does not, mean over all pairs of
    /// their seeds (of their samples, where sampled); `gained` − `lost` is the difference.
    pub gained: f64,
    /// The other way round.
    pub lost: f64,
    /// Smallest true difference that this comparison would find with 80 % power at p < 0.05, a share.
    pub smallest_detectable: f64,
    /// Problems behind it.
    pub n_problems: usize,
    /// Fine-tuning seeds of the arm, the fewest in any world.
    pub n_seeds: usize,
    /// The difference in each world, in order of world.
    pub per_world: Vec<f64>,
    /// What may be said.
    pub relation: Relation,
    /// It in words, for example `W > base by 7.8 points [5.4, 10.6], 3 seeds`.
    pub verdict: String,
}

/// What a comparison shows at Holm-adjusted p < 1 − confidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The arm is more accurate.
    Above,
    /// The arm is less accurate.
    Below,
    /// They are not told apart.
    Unresolved,
}

/// Exact McNemar test of two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// World.
    pub world: usize,
    /// Fine-tuning seed of the arm.
    pub seed: u64,
    /// Problems that only the arm got right.
    pub only_arm: usize,
    /// Problems that only the baseline got right.
    pub only_baseline: usize,
    /// Two-sided exact p.
    pub p: f64,
}

/// The most accurate arm and what it is not told apart from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The arm, `base` included; ties go to the first.
    pub arm: String,
    /// Arms that it is not told apart from at Holm-adjusted p < 1 − confidence.
    pub not_told_apart_from: Vec<String>,
}

/// What a closeness metric is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricFacts {
    /// Its name, the key of [`ArmResult::closeness`].
    pub name: String,
    /// Which value is nearer to the student.
    pub direction: Direction,
    /// Its unit.
    pub unit: String,
    /// Where it comes from.
    pub source: String,
    /// How it is computed.
    pub definition: String,
}

/// Rank correlation over arms between closeness by one metric and accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Correlation {
    /// The metric.
    pub metric: String,
    /// Greedy accuracy or avg@k.
    pub decoding: Decoding,
    /// Arms behind it.
    pub n_arms: usize,
    /// Spearman's ρ of closeness (nearer counts as larger, by the metric's direction) and accuracy;
    /// positive: nearer arms taught more.
    pub spearman: f64,
    /// Its two-sided permutation p.
    pub p_spearman: f64,
    /// Kendall's τ_b of the same.
    pub kendall: f64,
    /// Its two-sided permutation p.
    pub p_kendall: f64,
    /// Whether all permutations were enumerated (9 arms or fewer); drawn at random otherwise.
    pub exact: bool,
    /// The arm that the metric finds nearest.
    pub nearest: String,
    /// Accuracy of the best of these arms minus that of `nearest`.
    pub regret: f64,
}

/// One point of the dose curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DosePoint {
    /// Share of steps flawed, 0 to 1.
    pub dose: f64,
    /// The arm.
    pub arm: String,
    /// Its greedy accuracy.
    pub accuracy: Estimate,
    /// Its surprisal per token under the untrained student, where known.
    pub nll_per_token: Option<f64>,
    /// Share of valid steps among those checked, where known.
    pub valid_steps: Option<f64>,
}

impl StepCounts {
    /// Share of valid steps among those that could be checked.
    pub fn valid_share(&self) -> Option<f64> {
        let checked = self.valid + self.invalid;
        (checked > 0).then(|| self.valid as f64 / checked as f64)
    }

    /// What was found of the steps of some rows' traces; `None` where none of them was looked at.
    pub fn of(rows: &[ArmRow], verdicts: &[VerdictRow]) -> Option<Self> {
        let by_trace: BTreeMap<&str, &[Step]> = verdicts
            .iter()
            .map(|row| (row.trace_id.as_str(), row.steps.as_slice()))
            .collect();
        let mut counts = Self::default();
        for step in rows
            .iter()
            .filter_map(|row| by_trace.get(row.trace_id.as_str()))
            .copied()
            .flatten()
        {
            match step.check {
                StepCheck::Valid => counts.valid += 1,
                StepCheck::Invalid => counts.invalid += 1,
                StepCheck::Unchecked => counts.unchecked += 1,
            }
        }
        (counts != Self::default()).then_some(counts)
    }
}

impl std::ops::AddAssign for StepCounts {
    fn add_assign(&mut self, other: Self) {
        self.valid += other.valid;
        self.invalid += other.invalid;
        self.unchecked += other.unchecked;
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        self.correct += other.correct;
        self.wrong += other.wrong;
        self.no_answer += other.no_answer;
        self.ungraded += other.ungraded;
        self.truncated += other.truncated;
    }
}

/// Why evaluations cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompareError {
    /// Nothing to compare.
    #[error("there is no evaluation with a row; evaluate at least one checkpoint")]
    Nothing,
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
        "arm `{arm}` has two evaluations of world {world}, seed {seed}; give each checkpoint once"
    )]
    TwiceEvaluated {
        /// The arm.
        arm: String,
        /// The world.
        world: usize,
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
        "arm `{arm}`, seed {seed} does not answer the problems that arm `{other}` answers: {missing} missing, {surplus} too many, such as `{example}`; evaluate all checkpoints of a world on the same problems"
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
    /// Alignments that have no common sum.
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
/// The main interval and p of a difference come from the nested bootstrap over worlds, seeds and
/// problems. Where there is one world and one seed on both sides that would count no training noise
/// at all: then they are BCa over problems and exact McNemar (sign-flip for samples), and the verdict
/// says "one training run".
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
    let answer = words::answer(
        &results,
        &differences,
        best.as_ref(),
        &baselines,
        &correlations,
        &answers,
    );
    let warnings = words::warnings(&results, &answers, arms);
    Ok(Comparison {
        answer,
        confidence: options.confidence,
        draws: options.draws,
        seed: options.seed,
        n_problems: answers.problems.len(),
        n_worlds: answers.worlds().len(),
        baselines,
        dose_curve: measure::dose_curve(&results),
        arms: results,
        differences,
        best,
        metrics: METRICS.iter().map(MetricFacts::of).collect(),
        correlations,
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

impl MetricFacts {
    fn of(metric: &Metric) -> Self {
        Self {
            name: metric.name.to_owned(),
            direction: metric.direction,
            unit: metric.unit.to_owned(),
            source: metric.source.to_owned(),
            definition: format!("{}; of a set: {}", metric.definition, metric.set_definition),
        }
    }
}

#[cfg(test)]
mod tests;
