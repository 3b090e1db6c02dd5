//! What is measured of each arm alone, and how closeness goes with accuracy over arms.

use std::collections::BTreeMap;

use super::answers::{Answers, Checkpoint};
use super::{
    Accuracy, ArmData, ArmResult, Closeness, CompareError, CompareOptions, Correlation, Counts,
    DosePoint, Estimate, Evaluation, GoldSurprisal, SampledAccuracy, SeedAccuracy, StepCounts,
    difference, interval,
};
use crate::arms::describe;
use crate::metric::{METRICS, SetSums, named, set};
use crate::record::Decoding;
use crate::statistics::bootstrap::{ReplicateSeeds, Resampled, nested};
use crate::statistics::correlation::{NullDistributions, regret};
use crate::statistics::proportion::wilson;
use crate::statistics::{mean, standard_error};
use idiolect_model::Rng;

/// Draws behind the interval of a closeness value: its ends are then uncertain by a twentieth of its
/// half-width, and nothing is decided by them.
const CLOSENESS_DRAWS: usize = 2_000;

/// Everything about one arm.
pub(super) fn arm(
    name: &str,
    answers: &Answers,
    evaluations: &[Evaluation],
    arms: &[ArmData],
    options: &CompareOptions,
) -> Result<ArmResult, CompareError> {
    let mut data: Vec<&ArmData> = arms.iter().filter(|data| data.arm == name).collect();
    data.sort_by_key(|data| data.replicate);
    let closeness = closeness(name, &data, options)?;
    let mut steps: Option<StepCounts> = None;
    for counts in data.iter().filter_map(|data| data.steps) {
        *steps.get_or_insert_default() += counts;
    }
    let scored = !data.is_empty() && data.iter().all(|d| d.scores.len() >= d.rows);
    let tokens = data
        .iter()
        .flat_map(|data| &data.scores)
        .map(|a| a.n_tokens)
        .sum();
    let spec = data.iter().find_map(|data| data.spec.as_deref());
    Ok(ArmResult {
        arm: name.to_owned(),
        description: describe(name, spec),
        rows: (!data.is_empty()).then(|| data.iter().map(|data| data.rows).sum()),
        tokens: scored.then_some(tokens),
        greedy: greedy(name, answers, options),
        sampled: sampled(name, answers, options),
        closeness,
        steps,
        gold: gold(name, evaluations)?,
    })
}

fn greedy(arm: &str, answers: &Answers, options: &CompareOptions) -> Option<Accuracy> {
    let replicates = answers.of(arm, Decoding::Greedy);
    let resampled = resampled(arm, &replicates, Decoding::Greedy, options)?;
    let checkpoints: Vec<&Checkpoint> = replicates.values().flatten().copied().collect();
    let per_seed = checkpoints
        .iter()
        .map(|c| seed_accuracy(c, options))
        .collect();
    let scores = scores(&checkpoints, answers.problems.len());
    let method = levels(&replicates, options);
    let (interval, method) = interval::of_share(&resampled, &scores, method, options);
    Some(Accuracy {
        mean: resampled.estimate,
        wilson: wilson(resampled.estimate, scores.len(), options.confidence),
        interval,
        method,
        seed_error: seed_error(&replicates),
        replicate_error: spread(
            &replicates
                .values()
                .map(|seeds| mean_accuracy(seeds))
                .collect::<Vec<_>>(),
        ),
        counts: counts(&checkpoints),
        per_seed,
    })
}

fn seed_accuracy(checkpoint: &Checkpoint, options: &CompareOptions) -> SeedAccuracy {
    SeedAccuracy {
        replicate: checkpoint.replicate,
        seed: checkpoint.seed,
        accuracy: checkpoint.accuracy.estimate,
        wilson: wilson(
            checkpoint.accuracy.estimate,
            checkpoint.n_problems(),
            options.confidence,
        ),
        counts: checkpoint.counts,
    }
}

fn sampled(arm: &str, answers: &Answers, options: &CompareOptions) -> Option<SampledAccuracy> {
    let replicates = answers.of(arm, Decoding::Sampled);
    let resampled = resampled(arm, &replicates, Decoding::Sampled, options)?;
    let checkpoints: Vec<&Checkpoint> = replicates.values().flatten().copied().collect();
    let k = checkpoints.iter().map(|c| c.samples.k).min().unwrap_or(0);
    let over_replicates = |value: &dyn Fn(&Checkpoint) -> f64| {
        mean(
            &replicates
                .values()
                .map(|seeds| mean(&seeds.iter().map(|c| value(c)).collect::<Vec<_>>()))
                .collect::<Vec<_>>(),
        )
    };
    let mut ks: Vec<usize> = std::iter::successors(Some(1), |k| Some(2 * k))
        .take_while(|j| *j < k)
        .collect();
    ks.extend([k, answers.common_k]);
    let scores = scores(&checkpoints, answers.problems.len());
    let method = levels(&replicates, options);
    let (interval, method) = interval::of_share(&resampled, &scores, method, options);
    Some(SampledAccuracy {
        k,
        avg_at_k: resampled.estimate,
        interval,
        method,
        pass_at: ks
            .into_iter()
            .map(|j| (j, over_replicates(&|c| c.samples.pass_at(j))))
            .collect(),
        common_k: answers.common_k,
        maj_at_k: over_replicates(&|c| c.samples.majority),
        seed_error: seed_error(&replicates),
        counts: counts(&checkpoints),
    })
}

fn resampled(
    arm: &str,
    replicates: &BTreeMap<usize, Vec<&Checkpoint>>,
    decoding: Decoding,
    options: &CompareOptions,
) -> Option<Resampled> {
    if replicates.is_empty() {
        return None;
    }
    let replicates: Vec<ReplicateSeeds<'_>> = replicates
        .values()
        .map(|seeds| ReplicateSeeds {
            arm: seeds.iter().map(|c| &c.accuracy).collect(),
            baseline: Vec::new(),
        })
        .collect();
    let decoding = format!("{decoding:?}");
    Some(nested(
        &replicates,
        options.replicates,
        &mut Rng::keyed(options.seed, &["compare", "accuracy", arm, &decoding]),
    ))
}

/// The mean score of each problem that any of the checkpoints was asked: over those that were.
/// Replicates share problems, or not; each counts once.
fn scores(checkpoints: &[&Checkpoint], n: usize) -> Vec<f64> {
    (0..n)
        .filter_map(|at| {
            let asked: Vec<f64> = checkpoints
                .iter()
                .filter(|c| c.has(at))
                .map(|c| c.scores[at])
                .collect();
            (!asked.is_empty()).then(|| mean(&asked))
        })
        .collect()
}

/// What the bootstrap of an arm draws from.
fn levels(replicates: &BTreeMap<usize, Vec<&Checkpoint>>, options: &CompareOptions) -> String {
    difference::levels(
        replicates.len(),
        replicates.values().any(|seeds| seeds.len() > 1),
        options,
    )
}

fn mean_accuracy(seeds: &[&Checkpoint]) -> f64 {
    mean(
        &seeds
            .iter()
            .map(|c| c.accuracy.estimate)
            .collect::<Vec<_>>(),
    )
}

/// Standard error of the mean over replicates of means over seeds, from the spread over seeds alone.
fn seed_error(replicates: &BTreeMap<usize, Vec<&Checkpoint>>) -> Option<f64> {
    let squares: Option<Vec<f64>> = replicates
        .values()
        .map(|seeds| {
            let accuracies: Vec<f64> = seeds.iter().map(|c| c.accuracy.estimate).collect();
            standard_error(&accuracies).map(|error| error * error)
        })
        .collect();
    let error = squares?.iter().sum::<f64>().sqrt() / replicates.len() as f64;
    Some(error).filter(is_spread)
}

/// [`standard_error`], but none where all values are equal: a few equal values do not show that
/// there is no spread.
fn spread(values: &[f64]) -> Option<f64> {
    standard_error(values).filter(is_spread)
}

/// More than rounding.
fn is_spread(error: &f64) -> bool {
    *error > 1e-12
}

fn counts(checkpoints: &[&Checkpoint]) -> Counts {
    let mut sum = Counts::default();
    checkpoints.iter().for_each(|c| sum += c.counts);
    sum
}

fn closeness(
    arm: &str,
    data: &[&ArmData],
    options: &CompareOptions,
) -> Result<BTreeMap<String, Closeness>, CompareError> {
    let draws = options.draws.min(CLOSENESS_DRAWS);
    let mut by_metric: BTreeMap<&str, Vec<Resampled>> = BTreeMap::new();
    let replicates: Vec<&&ArmData> = data.iter().filter(|data| !data.scores.is_empty()).collect();
    for data in &replicates {
        let mut rng = Rng::keyed(
            options.seed,
            &["compare", "closeness", arm, &data.replicate.to_string()],
        );
        let found = set::resampled(&data.scores, draws, &mut rng).map_err(|source| {
            CompareError::Closeness {
                arm: arm.to_owned(),
                source,
            }
        })?;
        for (metric, resampled) in found {
            by_metric.entry(metric.name).or_default().push(resampled);
        }
    }
    // A metric that one replicate lacks would be a mean over other replicates than its neighbours.
    by_metric.retain(|_, resampled| resampled.len() == replicates.len());
    let estimate =
        |resampled: Vec<Resampled>| Closeness::of(&mean_of(&resampled), options.confidence);
    Ok(by_metric
        .into_iter()
        .map(|(name, resampled)| (name.to_owned(), estimate(resampled)))
        .collect())
}

fn mean_of(replicates: &[Resampled]) -> Resampled {
    let n = replicates.len() as f64;
    let draws = replicates
        .first()
        .map_or(0, |replicate| replicate.draws.len());
    Resampled {
        estimate: replicates.iter().map(|w| w.estimate).sum::<f64>() / n,
        draws: (0..draws)
            .map(|at| replicates.iter().map(|w| w.draws[at]).sum::<f64>() / n)
            .collect(),
    }
}

fn gold(arm: &str, evaluations: &[Evaluation]) -> Result<Option<GoldSurprisal>, CompareError> {
    let mut replicates: BTreeMap<usize, Vec<(u64, SetSums)>> = BTreeMap::new();
    for evaluation in evaluations.iter().filter(|e| e.arm == arm) {
        let mut rows = evaluation.gold.clone();
        rows.sort_by(|a, b| (&a.problem_id, &a.trace_id).cmp(&(&b.problem_id, &b.trace_id)));
        let sums = SetSums::of(&rows).map_err(|source| CompareError::Closeness {
            arm: arm.to_owned(),
            source,
        })?;
        if let Some(sums) = sums.filter(|sums| sums.tokens.n_tokens > 0) {
            replicates
                .entry(evaluation.replicate)
                .or_default()
                .push((evaluation.seed, sums));
        }
    }
    replicates
        .values_mut()
        .for_each(|seeds| seeds.sort_by_key(|(seed, _)| *seed));
    let Some((_, first)) = replicates.values().flatten().next() else {
        return Ok(None);
    };
    let n_tokens = first.tokens.n_tokens;
    let values = |metric: &str| -> Option<Vec<Vec<f64>>> {
        let metric = named(metric)?;
        let value = |(_, sums): &(u64, SetSums)| (metric.of_set)(sums);
        replicates
            .values()
            .map(|seeds| seeds.iter().map(value).collect())
            .collect()
    };
    let over_replicates = |replicates: &[Vec<f64>]| {
        mean(
            &replicates
                .iter()
                .map(|seeds| mean(seeds))
                .collect::<Vec<_>>(),
        )
    };
    let Some(nll) = values("nll_per_token") else {
        return Ok(None);
    };
    let errors: Option<Vec<f64>> = nll
        .iter()
        .map(|seeds| standard_error(seeds).map(|e| e * e))
        .collect();
    Ok(Some(GoldSurprisal {
        nll_per_token: over_replicates(&nll),
        bits_per_byte: values("bits_per_byte").map(|values| over_replicates(&values)),
        seed_error: errors
            .map(|squares| squares.iter().sum::<f64>().sqrt() / nll.len() as f64)
            .filter(is_spread),
        n_tokens,
    }))
}

/// One entry a metric and decoding, over the arms that have both; where there are three or more.
pub(super) fn correlations(results: &[ArmResult], options: &CompareOptions) -> Vec<Correlation> {
    let mut nulls = NullDistributions::new(options.draws, options.seed);
    let mut found = Vec::new();
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        for metric in METRICS {
            let arms: Vec<(&ArmResult, f64, f64)> = results
                .iter()
                .filter_map(|result| {
                    let closeness = metric
                        .direction
                        .closeness(result.closeness.get(metric.name)?.value);
                    Some((result, closeness, accuracy(result, decoding)?))
                })
                .collect();
            let (closeness, accuracies): (Vec<f64>, Vec<f64>) =
                arms.iter().map(|(_, x, y)| (*x, *y)).unzip();
            let Some(correlation) = nulls.correlate(&closeness, &accuracies) else {
                continue;
            };
            // The first of equals: the arms are in a fixed order.
            let Some(nearest) = arms.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1)) else {
                continue;
            };
            found.push(Correlation {
                metric: metric.name.to_owned(),
                decoding,
                n_arms: arms.len(),
                spearman: correlation.spearman,
                p_spearman: correlation.p_spearman.p,
                kendall: correlation.kendall,
                p_kendall: correlation.p_kendall.p,
                exact: correlation.p_spearman.exact,
                nearest: nearest.0.arm.clone(),
                regret: regret(&closeness, &accuracies),
            });
        }
    }
    found
}

/// Accuracy under a decoding.
pub(super) fn accuracy(result: &ArmResult, decoding: Decoding) -> Option<f64> {
    match decoding {
        Decoding::Greedy => result.greedy.as_ref().map(|a| a.mean),
        Decoding::Sampled => result.sampled.as_ref().map(|a| a.avg_at_k),
    }
}

/// G, then F arms by dose.
pub(super) fn dose_curve(results: &[ArmResult]) -> Vec<DosePoint> {
    let percent = |arm: &str| match arm {
        "G" => Some(0),
        _ => arm
            .strip_prefix('F')
            .and_then(|digits| digits.parse::<u8>().ok())
            .filter(|p| *p <= 100),
    };
    let mut points: Vec<DosePoint> = results
        .iter()
        .filter_map(|result| {
            let greedy = result.greedy.as_ref()?;
            Some(DosePoint {
                dose: f64::from(percent(&result.arm)?) / 100.0,
                arm: result.arm.clone(),
                accuracy: Estimate {
                    value: greedy.mean,
                    interval: greedy.interval,
                },
                nll_per_token: result.closeness.get("nll_per_token").map(|e| e.value),
                valid_steps: result.steps.and_then(|steps| steps.valid_share()),
            })
        })
        .collect();
    points.sort_by(|a, b| a.dose.total_cmp(&b.dose).then_with(|| a.arm.cmp(&b.arm)));
    // G alone is no curve.
    if points.iter().all(|point| point.arm == "G") {
        Vec::new()
    } else {
        points
    }
}
