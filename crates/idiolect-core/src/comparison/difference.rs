//! Differences of two arms, paired by problem, with corrections for how many are looked at.

use std::collections::BTreeMap;

use super::answers::{Answers, Checkpoint};
use super::{
    ArmResult, Best, CompareOptions, Difference, McNemar, Relation, interval, measure, words,
};
use crate::record::Decoding;
use crate::statistics::bootstrap::{
    ReplicateSeeds, Replicates, Resampled, mean_acceleration, nested,
};
use crate::statistics::few::{least_detectable, least_p};
use crate::statistics::permutation::sign_flip;
use crate::statistics::{holm, mean, proportion};
use idiolect_model::Rng;

/// Every arm against every baseline, greedy before sampled. Two baselines meet once.
pub(super) fn against(
    baselines: &[String],
    answers: &Answers,
    options: &CompareOptions,
) -> Vec<Difference> {
    let mut all = Vec::new();
    for decoding in [Decoding::Greedy, Decoding::Sampled] {
        for (at, baseline) in baselines.iter().enumerate() {
            let others = answers
                .arms
                .iter()
                .filter(|arm| !baselines[..=at].contains(arm));
            all.extend(family(others, baseline, decoding, answers, options));
        }
    }
    all
}

/// The most accurate arm (greedy where there is greedy), and what it is not distinguished from.
pub(super) fn best(
    results: &[ArmResult],
    answers: &Answers,
    options: &CompareOptions,
) -> Option<Best> {
    let greedy = results.iter().any(|result| result.greedy.is_some());
    let decoding = if greedy {
        Decoding::Greedy
    } else {
        Decoding::Sampled
    };
    let accuracy = |result: &&ArmResult| measure::accuracy(result, decoding);
    // The first of equals.
    let best = results
        .iter()
        .rev()
        .filter(|result| accuracy(result).is_some())
        .max_by(|a, b| {
            accuracy(a)
                .unwrap_or(0.0)
                .total_cmp(&accuracy(b).unwrap_or(0.0))
        })?;
    let others = answers.arms.iter().filter(|arm| **arm != best.arm);
    let open = family(others, &best.arm, decoding, answers, options)
        .into_iter()
        .filter(|difference| difference.relation == Relation::Unresolved)
        .map(|difference| difference.arm)
        .collect();
    Some(Best {
        arm: best.arm.clone(),
        not_distinguished_from: open,
    })
}

/// Several arms against one baseline: one family of tests.
fn family<'a>(
    arms: impl Iterator<Item = &'a String>,
    baseline: &str,
    decoding: Decoding,
    answers: &Answers,
    options: &CompareOptions,
) -> Vec<Difference> {
    let mut family: Vec<Difference> = arms
        .filter_map(|arm| difference(arm, baseline, decoding, answers, options))
        .collect();
    let adjusted = holm(
        &family
            .iter()
            .map(|difference| difference.p)
            .collect::<Vec<_>>(),
    );
    for (difference, p_holm) in family.iter_mut().zip(adjusted) {
        difference.p_holm = p_holm;
        difference.relation = match difference.interval {
            _ if p_holm >= 1.0 - options.confidence => Relation::Unresolved,
            interval if interval.low > 0.0 => Relation::Above,
            interval if interval.high < 0.0 => Relation::Below,
            _ => Relation::Unresolved,
        };
        difference.verdict = words::verdict(difference);
    }
    family
}

/// Both arms' checkpoints in one replicate.
struct Pairing<'a> {
    replicate: usize,
    arm: &'a [&'a Checkpoint],
    baseline: &'a [&'a Checkpoint],
}

fn difference(
    arm: &str,
    baseline: &str,
    decoding: Decoding,
    answers: &Answers,
    options: &CompareOptions,
) -> Option<Difference> {
    let (ours, theirs) = (answers.of(arm, decoding), answers.of(baseline, decoding));
    let pairings = pair(&ours, &theirs);
    if pairings.is_empty() {
        return None;
    }
    let key = |what| {
        Rng::keyed(
            options.seed,
            &["compare", what, arm, baseline, &format!("{decoding:?}")],
        )
    };
    let resampled = resampled(&pairings, options, &mut key("seeds"));
    let differences = per_problem(&pairings, answers.problems.len());
    let asked: Vec<f64> = (0..differences.len())
        .filter(|at| pairings.iter().any(|p| p.arm[0].has(*at)))
        .map(|at| differences[at])
        .collect();
    let n_problems = asked.len();
    // Of each problem its difference, not its part of the sum.
    let asked: Vec<f64> = asked.iter().map(|d| d * n_problems as f64).collect();
    let (gained, lost) = gained_and_lost(&pairings);
    let mcnemar = if decoding == Decoding::Greedy {
        mcnemar(&pairings)
    } else {
        Vec::new()
    };
    let flip = sign_flip(&differences, options.draws, &mut key("signs"));
    let one_run =
        matches!(pairings.as_slice(), [only] if only.arm.len() == 1 && only.baseline.len() == 1);
    let levels = || {
        let more_seeds = |p: &Pairing<'_>| p.arm.len().max(p.baseline.len()) > 1;
        levels(pairings.len(), pairings.iter().any(more_seeds), options)
    };
    let drawn = if one_run {
        // One replicate: `differences` are divided by its number of problems, which changes no skew.
        let interval = resampled.bca(options.confidence, mean_acceleration(&differences));
        (interval, "BCa bootstrap over problems".to_owned())
    } else {
        (resampled.percentile(options.confidence), levels())
    };
    let (interval, method) = interval::of_difference(drawn, &asked, options);
    let (p, p_method) = match mcnemar.as_slice() {
        [only] if one_run => (only.p, "exact McNemar test".to_owned()),
        _ if one_run => (flip.p, "sign-flip test over problems".to_owned()),
        _ => {
            // No draw of a few problems that all point one way falls on the other side of 0.
            let (p, least) = (resampled.p_of_zero(), least_p(moving(&differences)));
            let exact = if least > p {
                ", not below that of an exact test"
            } else {
                ""
            };
            (
                p.max(least),
                format!("{}, interval inverted{exact}", levels()),
            )
        }
    };
    Some(Difference {
        arm: arm.to_owned(),
        baseline: baseline.to_owned(),
        decoding,
        difference: resampled.estimate,
        interval,
        method,
        p,
        p_holm: p,
        p_method,
        mcnemar,
        p_sign_flip: flip.p,
        gained,
        lost,
        smallest_detectable: least_detectable(n_problems).map(|least| {
            least.max(proportion::smallest_detectable_at(
                resampled.standard_error(),
            ))
        }),
        n_problems,
        n_seeds: pairings.iter().map(|p| p.arm.len()).min().unwrap_or(0),
        per_replicate: pairings
            .iter()
            .map(|p| accuracy(p.arm) - accuracy(p.baseline))
            .collect(),
        relation: Relation::Unresolved,
        verdict: String::new(),
    })
}

fn pair<'a>(
    ours: &'a BTreeMap<usize, Vec<&'a Checkpoint>>,
    theirs: &'a BTreeMap<usize, Vec<&'a Checkpoint>>,
) -> Vec<Pairing<'a>> {
    ours.iter()
        .filter_map(|(replicate, arm)| {
            theirs.get(replicate).map(|baseline| Pairing {
                replicate: *replicate,
                arm,
                baseline,
            })
        })
        .collect()
}

/// How many problems differ from 0 by more than rounding.
fn moving(differences: &[f64]) -> usize {
    let largest = differences.iter().fold(0.0f64, |most, d| most.max(d.abs()));
    let is_moving = |d: &&f64| d.abs() > 1e-9 * largest;
    differences.iter().filter(is_moving).count()
}

/// What a bootstrap draws from, with several seeds or without.
pub(super) fn levels(n_replicates: usize, seeds: bool, options: &CompareOptions) -> String {
    let mut levels = Vec::new();
    let fixed = n_replicates > 1 && options.replicates == Replicates::Fixed;
    if n_replicates > 1 && !fixed {
        levels.push("replicates");
    }
    if seeds {
        levels.push("seeds");
    }
    levels.push("problems");
    let within = if fixed { " of these replicates" } else { "" };
    format!("percentile bootstrap over {}{within}", words::list(&levels))
}

fn resampled(pairings: &[Pairing<'_>], options: &CompareOptions, rng: &mut Rng) -> Resampled {
    let replicates: Vec<ReplicateSeeds<'_>> = pairings
        .iter()
        .map(|p| ReplicateSeeds {
            arm: p.arm.iter().map(|c| &c.accuracy).collect(),
            baseline: p.baseline.iter().map(|c| &c.accuracy).collect(),
        })
        .collect();
    nested(&replicates, options.replicates, rng)
}

fn accuracy(seeds: &[&Checkpoint]) -> f64 {
    mean(
        &seeds
            .iter()
            .map(|c| c.accuracy.estimate)
            .collect::<Vec<_>>(),
    )
}

/// Mean score of one problem over seeds.
fn score(seeds: &[&Checkpoint], problem: usize) -> f64 {
    seeds.iter().map(|c| c.scores[problem]).sum::<f64>() / seeds.len() as f64
}

/// What each problem adds to the difference: their sum is the difference.
fn per_problem(pairings: &[Pairing<'_>], n: usize) -> Vec<f64> {
    let mut sums = vec![0.0; n];
    for pairing in pairings {
        let scale = (pairing.arm[0].n_problems() * pairings.len()) as f64;
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum += (score(pairing.arm, at) - score(pairing.baseline, at)) / scale;
        }
    }
    sums
}

fn gained_and_lost(pairings: &[Pairing<'_>]) -> (f64, f64) {
    let (mut gained, mut lost) = (0.0, 0.0);
    for pairing in pairings {
        let scale = (pairing.arm[0].n_problems() * pairings.len()) as f64;
        for at in 0..pairing.arm[0].scores.len() {
            let (ours, theirs) = (score(pairing.arm, at), score(pairing.baseline, at));
            gained += ours * (1.0 - theirs) / scale;
            lost += theirs * (1.0 - ours) / scale;
        }
    }
    (gained, lost)
}

/// One test a replicate and seed of the arm: against the baseline of the same seed, or its only one.
fn mcnemar(pairings: &[Pairing<'_>]) -> Vec<McNemar> {
    let mut tests = Vec::new();
    for pairing in pairings {
        for ours in pairing.arm {
            let same_seed = pairing
                .baseline
                .iter()
                .find(|theirs| theirs.seed == ours.seed);
            let only = match pairing.baseline {
                [only] => Some(only),
                _ => None,
            };
            let Some(theirs) = same_seed.or(only) else {
                continue;
            };
            let wins = |a: &Checkpoint, b: &Checkpoint| {
                a.scores
                    .iter()
                    .zip(&b.scores)
                    .filter(|(a, b)| a > b)
                    .count()
            };
            let (only_arm, only_baseline) = (wins(ours, theirs), wins(theirs, ours));
            let p = proportion::mcnemar(only_arm, only_baseline);
            tests.push(McNemar {
                replicate: pairing.replicate,
                seed: ours.seed,
                only_arm,
                only_baseline,
                p,
            });
        }
    }
    tests
}
