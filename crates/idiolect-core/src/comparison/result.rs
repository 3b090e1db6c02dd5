//! What a comparison holds: the types of `comparison.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metric::{Direction, Metric};
use crate::record::{ArmRow, Decoding, Step, StepCheck, VerdictRow};
use crate::statistics::Interval;
use crate::statistics::bootstrap::Resampled;

/// Everything a report states about a run: `comparison.json`.
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
    /// Replicates pooled.
    pub n_replicates: usize,
    /// The declared baselines that are among the arms.
    pub baselines: Vec<String>,
    /// One entry an arm, in the order of the evaluations.
    pub arms: Vec<ArmResult>,
    /// Every arm against every baseline, greedy before sampled.
    pub differences: Vec<Difference>,
    /// The most accurate arm, against every other arm.
    pub best: Option<Best>,
    /// What each closeness metric is; the keys of [`ArmResult::closeness`].
    pub metrics: Vec<MetricDescription>,
    /// Does closeness go with accuracy over arms? One entry a metric.
    pub correlations: Vec<Correlation>,
    /// Accuracy against the dose of flaws: G as dose 0, then F25 and so on.
    pub dose_curve: Vec<DosePoint>,
    /// Is it the answer, the closeness or the steps that teach? Absent where arms cannot be placed.
    #[serde(default)]
    pub factors: Option<super::FactorAnalysis>,
    /// What a reader must know before believing the above.
    pub warnings: Vec<String>,
}

/// One arm's results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// The arm.
    pub arm: String,
    /// What its letter represents, for example `teacher, wrong answer`; empty where it is not known.
    #[serde(default)]
    pub description: String,
    /// Rows that it was trained on, summed over replicates; absent where that is not known (`base`).
    pub rows: Option<usize>,
    /// Completion tokens of them without end tokens, summed over replicates.
    pub tokens: Option<u64>,
    /// Greedy decoding.
    pub greedy: Option<Accuracy>,
    /// Sampled decoding.
    pub sampled: Option<SampledAccuracy>,
    /// Set-level closeness of its rows to the untrained student, by metric name; the mean over replicates.
    pub closeness: BTreeMap<String, Closeness>,
    /// What was found of its steps.
    pub steps: Option<StepCounts>,
    /// Surprisal of the evaluation problems' own solutions after training.
    pub gold: Option<GoldSurprisal>,
}

/// Greedy accuracy: the mean over replicates of the mean over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of all problems answered correctly.
    pub mean: f64,
    /// Wilson interval at the mean, n = problems: uncertainty from the choice of problems.
    pub wilson: Interval,
    /// Bootstrap over seeds and problems (and replicates): uncertainty from training too. Widened to
    /// hold `wilson` where fewer than six problems differ.
    pub interval: Interval,
    /// How `interval` was made.
    #[serde(default)]
    pub method: String,
    /// Standard error of the mean from the spread over seeds; absent with one seed a replicate, and
    /// where all are equal: a few equal values do not show that there is no spread.
    pub seed_error: Option<f64>,
    /// Standard error of the mean from the spread over replicates; absent with one replicate, and where all
    /// are equal.
    pub replicate_error: Option<f64>,
    /// What the answers were, summed over seeds and replicates.
    pub counts: Counts,
    /// One entry a replicate and seed.
    pub per_seed: Vec<SeedAccuracy>,
}

/// One checkpoint's greedy accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedAccuracy {
    /// Replicate.
    pub replicate: usize,
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

/// Accuracy of k samples a problem: means over replicates of means over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampledAccuracy {
    /// Samples a problem (the fewest, if they differ).
    pub k: usize,
    /// Mean fraction of correct samples.
    pub avg_at_k: f64,
    /// Bootstrap interval of it, over seeds and problems (and replicates); widened to hold Wilson's
    /// where fewer than six problems differ.
    pub interval: Interval,
    /// How `interval` was made.
    #[serde(default)]
    pub method: String,
    /// Unbiased pass@j for j = 1, 2, 4, …, k and `common_k`.
    pub pass_at: BTreeMap<usize, f64>,
    /// Samples a problem that every arm of the comparison has (the fewest): what `maj_at_k` is over.
    #[serde(default)]
    pub common_k: usize,
    /// Accuracy of the most frequent answer among the first `common_k`; ties share the credit.
    pub maj_at_k: f64,
    /// Standard error of `avg_at_k` from the spread over seeds.
    pub seed_error: Option<f64>,
    /// What the answers were, summed over seeds and replicates.
    pub counts: Counts,
}

/// A closeness and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closeness {
    /// The number.
    pub value: f64,
    /// Its bootstrap interval over problems; absent where all resamples give one number, as those of
    /// a single problem do: they show no spread.
    pub interval: Option<Interval>,
}

impl Closeness {
    /// From the bootstrap.
    pub fn of(resampled: &Resampled, confidence: f64) -> Self {
        let drawn = resampled.percentile(confidence);
        let rounding = 1e-12 * resampled.estimate.abs().max(1.0);
        Self {
            value: resampled.estimate,
            interval: (drawn.high - drawn.low > rounding).then_some(drawn),
        }
    }
}

/// An accuracy and how sure it is.
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
/// seeds and replicates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldSurprisal {
    /// Nats per token.
    pub nll_per_token: f64,
    /// Bits per byte.
    pub bits_per_byte: Option<f64>,
    /// Standard error of `nll_per_token` from the spread over seeds; absent with one seed, and where
    /// all are equal.
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
    /// Accuracy of the arm minus that of the baseline, a fraction.
    pub difference: f64,
    /// Its interval.
    pub interval: Interval,
    /// How the interval was made, as text.
    pub method: String,
    /// Two-sided p of no difference, not adjusted.
    pub p: f64,
    /// Holm-adjusted over the arms compared with this baseline under this decoding.
    pub p_holm: f64,
    /// How p was made, as text.
    pub p_method: String,
    /// Exact McNemar tests of single greedy checkpoints, one a replicate and seed.
    pub mcnemar: Vec<McNemar>,
    /// Two-sided sign-flip p over problems (seeds averaged: training noise not counted).
    pub p_sign_flip: f64,
    /// Share of problems that the arm gets right and the baseline does not, mean over all pairs of
    /// their seeds (of their samples, where sampled); `gained` − `lost` is the difference.
    pub gained: f64,
    /// The other way round.
    pub lost: f64,
    /// Smallest true difference that this comparison would find with 80 % power at p < 0.05, a fraction;
    /// absent where there are too few problems to detect any.
    pub smallest_detectable: Option<f64>,
    /// Problems behind it.
    pub n_problems: usize,
    /// Fine-tuning seeds of the arm, the fewest in any replicate.
    pub n_seeds: usize,
    /// The difference in each replicate, in order of replicate.
    pub per_replicate: Vec<f64>,
    /// What may be stated.
    pub relation: Relation,
    /// It as text, for example `W > base by 7.8 points [5.4, 10.6], 3 seeds`.
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
    /// They are not distinguished.
    Unresolved,
}

/// Exact McNemar test of two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Replicate.
    pub replicate: usize,
    /// Fine-tuning seed of the arm.
    pub seed: u64,
    /// Problems that only the arm got right.
    pub only_arm: usize,
    /// Problems that only the baseline got right.
    pub only_baseline: usize,
    /// Two-sided exact p.
    pub p: f64,
}

/// The most accurate arm and what it is not distinguished from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The arm, `base` included; ties go to the first.
    pub arm: String,
    /// Arms that it is not distinguished from at Holm-adjusted p < 1 − confidence.
    pub not_distinguished_from: Vec<String>,
}

/// What a closeness metric is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricDescription {
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
    /// Accuracy of the best of these arms less that of `nearest`, the mean over all that are as near.
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

impl MetricDescription {
    pub(super) fn of(metric: &Metric) -> Self {
        Self {
            name: metric.name.to_owned(),
            direction: metric.direction,
            unit: metric.unit.to_owned(),
            source: metric.source.to_owned(),
            definition: format!("{}; of a set: {}", metric.definition, metric.set_definition),
        }
    }
}
