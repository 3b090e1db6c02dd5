//! Evaluations as numbers: one score a problem and checkpoint, paired, with common resamples.

use std::collections::{BTreeMap, BTreeSet};

use super::{CompareError, CompareOptions, Counts, Evaluation};
use crate::record::{Decoding, EvalRow, Finish, Verdict};
use crate::statistics::bootstrap::{Resampled, resampled_sums};
use crate::statistics::proportion;
use idiolect_model::Rng;

/// All evaluations, paired by problem.
pub(super) struct Answers {
    /// In order of their first evaluation.
    pub(super) arms: Vec<String>,
    /// The problems of all replicates, by id.
    pub(super) problems: Vec<String>,
    /// Samples that every problem of every sampled checkpoint has; 0 where none was sampled.
    pub(super) common_k: usize,
    checkpoints: Vec<Checkpoint>,
}

/// One checkpoint under one decoding.
pub(super) struct Checkpoint {
    pub(super) arm: String,
    pub(super) replicate: usize,
    pub(super) seed: u64,
    decoding: Decoding,
    /// Score in [0, 1] by index of problem; 0 where its replicate lacks the problem.
    pub(super) scores: Vec<f64>,
    /// Whether its replicate has the problem.
    present: Vec<f64>,
    /// Mean score over its replicate's problems, and the same in every resample.
    pub(super) accuracy: Resampled,
    pub(super) counts: Counts,
    pub(super) samples: Samples,
}

/// What k samples a problem give beside their mean.
pub(super) struct Samples {
    /// The fewest of any problem.
    pub(super) k: usize,
    /// (samples, correct) by problem.
    tallies: Vec<(usize, usize)>,
    /// Mean credit of the majority answer among a problem's first [`Answers::common_k`] samples:
    /// more votes make a better majority, so arms are given equally many.
    pub(super) majority: f64,
}

impl Samples {
    /// Mean over problems of the unbiased pass@k.
    pub(super) fn pass_at(&self, k: usize) -> f64 {
        let sum: f64 = self
            .tallies
            .iter()
            .map(|(n, c)| proportion::pass_at_k(*n, *c, k))
            .sum();
        sum / self.tallies.len().max(1) as f64
    }
}

impl Checkpoint {
    /// Whether its replicate has the problem of that index.
    pub(super) fn has(&self, problem: usize) -> bool {
        self.present[problem] > 0.0
    }

    /// Problems of its replicate.
    pub(super) fn n_problems(&self) -> usize {
        self.present.iter().filter(|p| **p > 0.0).count()
    }
}

impl Answers {
    pub(super) fn new(
        evaluations: &[Evaluation],
        options: &CompareOptions,
    ) -> Result<Self, CompareError> {
        let mut arms: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        for evaluation in evaluations {
            if !arms.contains(&evaluation.arm) {
                arms.push(evaluation.arm.clone());
            }
            let Evaluation {
                arm,
                replicate,
                seed,
                ..
            } = evaluation;
            if !seen.insert((arm, *replicate, *seed)) {
                return Err(CompareError::TwiceEvaluated {
                    arm: arm.clone(),
                    replicate: *replicate,
                    seed: *seed,
                });
            }
        }
        // Where all are empty that is the thing to state, not which came first.
        let some = evaluations.iter().any(|e| !e.rows.is_empty());
        if let Some(empty) = evaluations.iter().find(|e| some && e.rows.is_empty()) {
            return Err(CompareError::Empty {
                arm: empty.arm.clone(),
                replicate: empty.replicate,
                seed: empty.seed,
            });
        }
        let problems: BTreeSet<&str> = evaluations
            .iter()
            .flat_map(|e| &e.rows)
            .map(|row| row.problem_id.as_str())
            .collect();
        if problems.is_empty() {
            return Err(CompareError::Nothing);
        }
        let problems: Vec<String> = problems.into_iter().map(str::to_owned).collect();
        let mut ordered: Vec<&Evaluation> = evaluations.iter().collect();
        ordered.sort_by_key(|e| {
            (
                e.replicate,
                arms.iter().position(|arm| *arm == e.arm),
                e.seed,
            )
        });
        let mut answers = Self {
            arms,
            problems,
            common_k: common_k(evaluations),
            checkpoints: Vec::new(),
        };
        for evaluation in ordered {
            for decoding in [Decoding::Greedy, Decoding::Sampled] {
                answers
                    .checkpoints
                    .extend(answers.checkpoint(evaluation, decoding)?);
            }
        }
        answers.check_pairing()?;
        answers.resample(options);
        Ok(answers)
    }

    fn checkpoint(
        &self,
        evaluation: &Evaluation,
        decoding: Decoding,
    ) -> Result<Option<Checkpoint>, CompareError> {
        let mut by_problem: BTreeMap<&str, BTreeMap<usize, &EvalRow>> = BTreeMap::new();
        for row in evaluation
            .rows
            .iter()
            .filter(|row| row.decoding == decoding)
        {
            if by_problem
                .entry(&row.problem_id)
                .or_default()
                .insert(row.sample, row)
                .is_some()
            {
                return Err(CompareError::TwiceAnswered {
                    arm: evaluation.arm.clone(),
                    seed: evaluation.seed,
                    problem: row.problem_id.clone(),
                    sample: row.sample,
                });
            }
        }
        if by_problem.is_empty() {
            return Ok(None);
        }
        let n = self.problems.len();
        let mut checkpoint = Checkpoint {
            arm: evaluation.arm.clone(),
            replicate: evaluation.replicate,
            seed: evaluation.seed,
            decoding,
            scores: vec![0.0; n],
            present: vec![0.0; n],
            accuracy: Resampled {
                estimate: 0.0,
                draws: Vec::new(),
            },
            counts: Counts::default(),
            samples: Samples {
                k: usize::MAX,
                tallies: Vec::with_capacity(n),
                majority: 0.0,
            },
        };
        for (at, problem) in self.problems.iter().enumerate() {
            if let Some(rows) = by_problem.get(problem.as_str()) {
                checkpoint.take(at, rows, self.common_k);
            }
        }
        checkpoint.samples.majority /= by_problem.len() as f64;
        Ok(Some(checkpoint))
    }

    /// All checkpoints of a replicate and decoding answer the same problems.
    fn check_pairing(&self) -> Result<(), CompareError> {
        let mut first: BTreeMap<(usize, Decoding), &Checkpoint> = BTreeMap::new();
        for checkpoint in &self.checkpoints {
            let other = *first
                .entry((checkpoint.replicate, checkpoint.decoding))
                .or_insert(checkpoint);
            let only = |a: &Checkpoint, b: &Checkpoint| -> Vec<usize> {
                (0..self.problems.len())
                    .filter(|at| a.present[*at] > b.present[*at])
                    .collect()
            };
            let (missing, surplus) = (only(other, checkpoint), only(checkpoint, other));
            if let Some(example) = missing.first().or(surplus.first()) {
                return Err(CompareError::OtherProblems {
                    arm: checkpoint.arm.clone(),
                    seed: checkpoint.seed,
                    other: other.arm.clone(),
                    missing: missing.len(),
                    surplus: surplus.len(),
                    example: self.problems[*example].clone(),
                });
            }
        }
        Ok(())
    }

    /// One set of resampled problems for every checkpoint: arms, seeds and decodings stay paired.
    fn resample(&mut self, options: &CompareOptions) {
        let n = self.problems.len();
        let mut rng = Rng::keyed(options.seed, &["compare", "problems"]);
        // Where a replicate lacks problems of another, a resample holds a varying number of its own.
        let partial = |c: &Checkpoint| c.n_problems() < n;
        let mut series: Vec<&[f64]> = self
            .checkpoints
            .iter()
            .map(|c| c.scores.as_slice())
            .collect();
        let mut presence = BTreeMap::new();
        for checkpoint in self.checkpoints.iter().filter(|c| partial(c)) {
            presence
                .entry((checkpoint.replicate, checkpoint.decoding))
                .or_insert_with(|| {
                    series.push(&checkpoint.present);
                    series.len() - 1
                });
        }
        let sums = resampled_sums(&series, n, options.draws, &mut rng);
        let whole = vec![n as f64; options.draws];
        for (at, checkpoint) in self.checkpoints.iter_mut().enumerate() {
            let estimate = checkpoint.scores.iter().sum::<f64>() / checkpoint.n_problems() as f64;
            let sizes = presence
                .get(&(checkpoint.replicate, checkpoint.decoding))
                .map_or(whole.as_slice(), |at| sums.of(*at));
            let resampled = sums.of(at).iter().zip(sizes);
            // A resample without a problem of this replicate (thousands of draws apart) states nothing.
            let draws = resampled
                .map(|(sum, size)| if *size > 0.0 { sum / size } else { estimate })
                .collect();
            checkpoint.accuracy = Resampled { estimate, draws };
        }
    }

    /// The replicates in which anything was evaluated.
    pub(super) fn replicates(&self) -> BTreeSet<usize> {
        self.checkpoints.iter().map(|c| c.replicate).collect()
    }

    /// An arm's checkpoints under a decoding, in order of seed, by replicate.
    pub(super) fn of(&self, arm: &str, decoding: Decoding) -> BTreeMap<usize, Vec<&Checkpoint>> {
        let mut replicates: BTreeMap<usize, Vec<&Checkpoint>> = BTreeMap::new();
        for checkpoint in self
            .checkpoints
            .iter()
            .filter(|c| c.arm == arm && c.decoding == decoding)
        {
            replicates
                .entry(checkpoint.replicate)
                .or_default()
                .push(checkpoint);
        }
        replicates
    }
}

/// The fewest samples of any problem in any evaluation; 0 where none was sampled.
fn common_k(evaluations: &[Evaluation]) -> usize {
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (at, evaluation) in evaluations.iter().enumerate() {
        for row in &evaluation.rows {
            if row.decoding == Decoding::Sampled {
                *counts.entry((at, &row.problem_id)).or_default() += 1;
            }
        }
    }
    counts.into_values().min().unwrap_or(0)
}

impl Checkpoint {
    fn take(&mut self, at: usize, rows: &BTreeMap<usize, &EvalRow>, common_k: usize) {
        let is_correct = |row: &&EvalRow| row.verdict == Verdict::Correct;
        let correct = rows.values().filter(|row| is_correct(row)).count();
        self.scores[at] = correct as f64 / rows.len() as f64;
        self.present[at] = 1.0;
        self.samples.k = self.samples.k.min(rows.len());
        self.samples.tallies.push((rows.len(), correct));
        self.samples.majority += proportion::majority(
            rows.values()
                .take(common_k)
                .map(|row| (row.extracted.as_deref(), is_correct(row))),
        );
        for row in rows.values() {
            self.counts.total += 1;
            self.counts.truncated += usize::from(row.finish == Finish::Length);
            match row.verdict {
                Verdict::Correct => self.counts.correct += 1,
                Verdict::Wrong => self.counts.wrong += 1,
                Verdict::NoAnswer => self.counts.no_answer += 1,
                Verdict::Ungraded => self.counts.ungraded += 1,
            }
        }
    }
}
