//! Choosing the next token from logits.
//!
//! The filters apply in the order and with the meaning of transformers' warpers: temperature, then
//! top-k, top-p (the smallest set whose share of what top-k left reaches it) and min-p (relative to
//! the most probable token). One difference: of tokens tied at the border of top-k those of lower
//! ids stay, where transformers keeps them all. One uniform draw a token, so that a request's
//! generator stands at the same place whatever the settings.

use idiolect_model::{ModelError, Rng, Sampling};
use pulp::{Arch, Simd, WithSimd};

use crate::ops::math::exp;

/// A token chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// Log-probability under the model as it is, without temperature and filters; nats.
    pub(crate) logprob: f32,
}

/// Refuses settings that mean nothing.
///
/// # Errors
/// Names the setting and its value.
pub(crate) fn check(sampling: &Sampling) -> Result<(), ModelError> {
    let Sampling {
        temperature,
        top_p,
        min_p,
        ..
    } = *sampling;
    let fault = |name: &str, value: f32, expected: &str| {
        Err(ModelError::Invalid(format!(
            "`{name}` is {value}; expected {expected}"
        )))
    };
    if !(temperature.is_finite() && temperature >= 0.0) {
        return fault("temperature", temperature, "0 (greedy) or more");
    }
    if !(top_p > 0.0 && top_p <= 1.0) {
        return fault("top_p", top_p, "more than 0 and at most 1");
    }
    if !(0.0..=1.0).contains(&min_p) {
        return fault("min_p", min_p, "0 to 1");
    }
    if sampling.stop.iter().any(String::is_empty) {
        return Err(ModelError::Invalid(
            "a stop string is empty; it would stop at once".to_owned(),
        ));
    }
    Ok(())
}

/// Memory of one draw, reused from call to call.
#[derive(Default)]
pub(crate) struct Scratch {
    /// For each token e^((logit − largest) / temperature), where filters need them all.
    weights: Vec<f32>,
    /// Sums of such weights over each [`BLOCK`] of tokens.
    sums: Vec<f64>,
    buckets: Vec<Bucket>,
    /// Tokens of the bucket that a filter cuts through.
    cut: Vec<(f32, u32)>,
}

/// Draws a token, or `None` when a logit is NaN or +∞, or all are −∞.
pub(crate) fn draw(
    logits: &[f32],
    sampling: &Sampling,
    rng: &mut Rng,
    scratch: &mut Scratch,
) -> Option<Drawn> {
    let uniform = rng.uniform();
    let max = largest(logits);
    let Scratch { weights, sums, .. } = scratch;
    let exps = Exps {
        logits,
        max,
        inverse: 1.0,
    };
    exps.sums(weights, sums);
    // In f64 over blocks in the order of ids: the same bits whatever stands in the batch.
    let sum: f64 = sums.iter().sum();
    if !(max.is_finite() && sum.is_finite()) {
        return None;
    }
    let token = if sampling.temperature > 0.0 {
        let inverse = 1.0 / sampling.temperature;
        let exps = Exps { inverse, ..exps };
        if inverse.to_bits() != 1f32.to_bits() || filters(sampling) {
            exps.sums(weights, sums);
        }
        if filters(sampling) {
            filter(sampling, scratch);
        }
        pick(&scratch.weights, &scratch.sums, uniform)?
    } else {
        logits.iter().position(|z| *z >= max)?
    };
    Some(Drawn {
        token: token as u32,
        logprob: (f64::from(logits[token] - max) - sum.ln()) as f32,
    })
}

/// The `n` most probable tokens under the model as it is with their log-probabilities, to the bits
/// of [`Drawn::logprob`]; of equal ones those of lower ids. The logits are ones that [`draw`] took.
pub(crate) fn most_probable(logits: &[f32], n: usize, scratch: &mut Scratch) -> Vec<(u32, f32)> {
    if n == 0 {
        return Vec::new();
    }
    let max = largest(logits);
    let exps = Exps {
        logits,
        max,
        inverse: 1.0,
    };
    exps.sums(&mut scratch.weights, &mut scratch.sums);
    let log_sum = scratch.sums.iter().sum::<f64>().ln();
    let mut top: Vec<(u32, f32)> = Vec::with_capacity(n + 1);
    for (id, &z) in (0..).zip(logits) {
        if top.len() == n && top.last().is_some_and(|last| z <= last.1) {
            continue;
        }
        let place = top.partition_point(|other| other.1 >= z);
        top.insert(place, (id, z));
        top.truncate(n);
    }
    let logprob = |z: f32| (f64::from(z - max) - log_sum) as f32;
    top.into_iter().map(|(id, z)| (id, logprob(z))).collect()
}

fn filters(sampling: &Sampling) -> bool {
    sampling.top_k > 0 || sampling.top_p < 1.0 || sampling.min_p > 0.0
}

/// Tokens whose weights are summed in f32, each vector lane apart.
const BLOCK: usize = 1024;

struct Largest<'a>(&'a [f32]);

impl WithSimd for Largest<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.0);
        let mut most = simd.splat_f32s(f32::NEG_INFINITY);
        for z in vectors {
            most = simd.max_f32s(most, *z);
        }
        let most = simd.reduce_max_f32s(most);
        rest.iter().fold(most, |most, z| most.max(*z))
    }
}

/// The largest logit; any value where one is NaN.
fn largest(logits: &[f32]) -> f32 {
    Arch::new().dispatch(Largest(logits))
}

/// e^((logit − largest) · inverse) of each token.
#[derive(Clone, Copy)]
struct Exps<'a> {
    logits: &'a [f32],
    max: f32,
    inverse: f32,
}

impl Exps<'_> {
    fn sums(self, weights: &mut Vec<f32>, sums: &mut Vec<f64>) {
        weights.resize(self.logits.len(), 0.0);
        sums.clear();
        let blocks = self.logits.chunks(BLOCK).zip(weights.chunks_mut(BLOCK));
        for (logits, weights) in blocks {
            let exps = Exps { logits, ..self };
            sums.push(Arch::new().dispatch(BlockSum(exps, weights)));
        }
    }
}

struct BlockSum<'a>(Exps<'a>, &'a mut [f32]);

impl WithSimd for BlockSum<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self(exps, weights) = self;
        let (logits, last_logits) = S::as_simd_f32s(exps.logits);
        let (weights, last_weights) = S::as_mut_simd_f32s(weights);
        let mut sum = simd.splat_f32s(0.0);
        for (z, w) in logits.iter().zip(weights) {
            *w = weight(simd, exps, *z);
            sum = simd.add_f32s(sum, *w);
        }
        let mut total = f64::from(simd.reduce_sum_f32s(sum));
        if !last_logits.is_empty() {
            let w = weight(simd, exps, simd.partial_load_f32s(last_logits));
            simd.partial_store_f32s(last_weights, w);
            total += last_weights.iter().map(|w| f64::from(*w)).sum::<f64>();
        }
        total
    }
}

/// A function and not a closure, which would be compiled without the vector unit.
#[inline(always)]
fn weight<S: Simd>(simd: S, exps: Exps<'_>, z: S::f32s) -> S::f32s {
    let (max, inverse) = (simd.splat_f32s(exps.max), simd.splat_f32s(exps.inverse));
    exp(simd, simd.mul_f32s(simd.sub_f32s(z, max), inverse))
}

/// Tokens whose weights agree in their leading bits.
#[derive(Clone, Copy, Default)]
struct Bucket {
    sum: f64,
    n: usize,
}

/// Bits of a weight that do not distinguish buckets: a bucket spans less than a hundredth.
const SHIFT: u32 = 16;

/// Buckets of weights from 0 to 1.
const BUCKETS: usize = (1f32.to_bits() >> SHIFT) as usize + 1;

fn bucket(weight: f32) -> usize {
    (weight.to_bits() >> SHIFT) as usize
}

/// The last token that a filter keeps, in the order of falling weights and then rising ids.
type Last = (f32, u32);

/// Clears the weights that the filters remove, and sums again. The most probable token has weight
/// 1 and stays.
///
/// Sorting a vocabulary for every token would cost as much as the model. Weights are counted and
/// summed by their leading bits instead, which are in the order of the weights, and only the
/// bucket that a filter cuts through is sorted.
fn filter(sampling: &Sampling, scratch: &mut Scratch) {
    let Scratch {
        weights,
        sums,
        buckets,
        cut,
    } = scratch;
    let mut last: Last = (f32::MIN_POSITIVE, u32::MAX);
    if sampling.top_k > 0 || sampling.top_p < 1.0 {
        buckets.clear();
        buckets.resize(BUCKETS, Bucket::default());
        for w in &*weights {
            let bucket = &mut buckets[bucket(*w)];
            bucket.sum += f64::from(*w);
            bucket.n += 1;
        }
        let mut total = buckets.iter().map(|b| b.sum).sum();
        if sampling.top_k > 0 && sampling.top_k < weights.len() {
            let kept = falling(weights, buckets, cut, |n, _| n >= sampling.top_k);
            (last, total) = (kept.last, kept.sum);
        }
        if sampling.top_p < 1.0 {
            let goal = f64::from(sampling.top_p) * total;
            let kept = falling(weights, buckets, cut, |_, sum| sum >= goal);
            // The one that keeps less.
            if before(kept.last, last) {
                last = kept.last;
            }
        }
    }
    if sampling.min_p > last.0 {
        last = (sampling.min_p, u32::MAX);
    }
    sums.clear();
    let first_ids = (0u32..).step_by(BLOCK);
    for (block, first) in weights.chunks_mut(BLOCK).zip(first_ids) {
        let mut sum = 0.0;
        for (w, id) in block.iter_mut().zip(first..) {
            if before(last, (*w, id)) {
                *w = 0.0;
            }
            sum += f64::from(*w);
        }
        sums.push(sum);
    }
}

/// Whether `a` comes before `b` in the order of falling weights and then rising ids.
fn before(a: Last, b: Last) -> bool {
    a.0 > b.0 || (a.0 >= b.0 && a.1 < b.1)
}

/// What a filter keeps.
struct Cut {
    last: Last,
    sum: f64,
}

/// Takes tokens in the order of falling weights until their number and sum are enough.
fn falling(
    weights: &[f32],
    buckets: &[Bucket],
    cut: &mut Vec<(f32, u32)>,
    enough: impl Fn(usize, f64) -> bool,
) -> Cut {
    let (mut n, mut sum) = (0, 0.0);
    for (index, b) in buckets.iter().enumerate().rev() {
        if b.n == 0 || !enough(n + b.n, sum + b.sum) {
            (n, sum) = (n + b.n, sum + b.sum);
            continue;
        }
        cut.clear();
        let inside = (0u32..).zip(weights).filter(|(_, w)| bucket(**w) == index);
        cut.extend(inside.map(|(id, w)| (*w, id)));
        cut.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for &last in &*cut {
            (n, sum) = (n + 1, sum + f64::from(last.0));
            if enough(n, sum) {
                return Cut { last, sum };
            }
        }
    }
    // Rounding may leave a goal unreached: everything stays.
    let last = (0.0, u32::MAX);
    Cut { last, sum }
}

/// The token in whose share of the weights `uniform` falls.
fn pick(weights: &[f32], sums: &[f64], uniform: f64) -> Option<usize> {
    let total: f64 = sums.iter().sum();
    let mut left = uniform * total;
    let (mut last, mut start) = (None, 0);
    for (block, sum) in weights.chunks(BLOCK).zip(sums) {
        if left >= *sum {
            left -= sum;
            start += block.len();
            if *sum > 0.0 {
                last = Some((block, start - block.len()));
            }
            continue;
        }
        last = Some((block, start));
        for (i, w) in block.iter().enumerate() {
            left -= f64::from(*w);
            if left < 0.0 {
                return Some(start + i);
            }
        }
        break;
    }
    // Rounding can leave a rest behind the last token of a block.
    let (block, start) = last?;
    block.iter().rposition(|w| *w > 0.0).map(|i| start + i)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln of these probabilities.
    fn logits(p: &[f32]) -> Vec<f32> {
        p.iter().map(|p| p.ln()).collect()
    }

    /// Which tokens come out, and how often, in 20,000 draws.
    fn counts(p: &[f32], sampling: &Sampling) -> Vec<usize> {
        let (logits, mut scratch) = (logits(p), Scratch::default());
        let mut rng = Rng::keyed(1, &["sample test"]);
        let mut counts = vec![0; p.len()];
        for _ in 0..20_000 {
            counts[draw(&logits, sampling, &mut rng, &mut scratch)
                .unwrap()
                .token as usize] += 1;
        }
        counts
    }

    fn support(p: &[f32], sampling: &Sampling) -> Vec<usize> {
        let counts = counts(p, sampling);
        (0..p.len()).filter(|&i| counts[i] > 0).collect()
    }

    const P: [f32; 5] = [0.1, 0.4, 0.05, 0.25, 0.2];

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let greedy = Sampling {
            temperature: 0.0,
            ..Sampling::default()
        };
        let mut rng = Rng::keyed(0, &[]);
        let drawn = draw(&[1.0, 3.0, 3.0], &greedy, &mut rng, &mut Scratch::default()).unwrap();
        assert_eq!(drawn.token, 1);
        let expected = 3.0 - (1f32.exp() + 2.0 * 3f32.exp()).ln();
        assert!((drawn.logprob - expected).abs() < 1e-6);
    }

    #[test]
    fn frequencies_follow_the_probabilities_and_the_temperature() {
        let even = |counts: Vec<usize>, p: &[f64]| {
            for (count, p) in counts.iter().zip(p) {
                // Five standard deviations of a binomial.
                let sd = (20_000.0 * p * (1.0 - p)).sqrt();
                assert!(
                    (*count as f64 - 20_000.0 * p).abs() < 5.0 * sd,
                    "{counts:?}"
                );
            }
        };
        even(
            counts(&P, &Sampling::default()),
            &[0.1, 0.4, 0.05, 0.25, 0.2],
        );
        let sharp = Sampling {
            temperature: 0.5,
            ..Sampling::default()
        };
        let total = 0.01 + 0.16 + 0.0025 + 0.0625 + 0.04;
        even(
            counts(&P, &sharp),
            &[0.01, 0.16, 0.0025, 0.0625, 0.04].map(|p: f64| p / total),
        );
    }

    #[test]
    fn each_filter_keeps_what_its_definition_says() {
        let with = |top_k, top_p, min_p| Sampling {
            top_k,
            top_p,
            min_p,
            ..Sampling::default()
        };
        assert_eq!(support(&P, &with(2, 1.0, 0.0)), [1, 3]);
        assert_eq!(support(&P, &with(9, 1.0, 0.0)), [0, 1, 2, 3, 4]);
        assert_eq!(support(&P, &with(0, 0.64, 0.0)), [1, 3]);
        assert_eq!(support(&P, &with(0, 0.66, 0.0)), [1, 3, 4]);
        assert_eq!(support(&P, &with(0, 1e-6, 0.0)), [1]);
        assert_eq!(support(&P, &with(0, 1.0, 0.45)), [1, 3, 4]);
        // top-p counts what top-k has left: 0.4 of 0.65 reach 0.6.
        assert_eq!(support(&P, &with(2, 0.6, 0.0)), [1]);
        // Equal logits: the lower ids.
        assert_eq!(support(&[0.25; 4], &with(3, 1.0, 0.0)), [0, 1, 2]);
    }

    /// The filters by their definition: everything sorted, as transformers does it.
    fn naive(logits: &[f32], sampling: &Sampling) -> Vec<usize> {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |i: usize| f64::from((logits[i] - max) / sampling.temperature).exp();
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        if sampling.top_k > 0 {
            ids.truncate(sampling.top_k);
        }
        let total: f64 = ids.iter().map(|&i| weight(i)).sum();
        let mut sum = 0.0;
        let reached = ids.iter().position(|&i| {
            sum += weight(i);
            sampling.top_p < 1.0 && sum >= f64::from(sampling.top_p) * total
        });
        ids.truncate(reached.map_or(ids.len(), |i| i + 1));
        ids.retain(|&i| weight(i) >= f64::from(sampling.min_p));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_filters_of_a_large_vocabulary_keep_what_sorting_keeps() {
        let mut rng = Rng::keyed(2, &["large"]);
        let mut scratch = Scratch::default();
        for (spread, n) in [(0.1, 5000), (3.0, 3001), (40.0, 2048)] {
            // Rounded, so that there are ties.
            let logits: Vec<f32> = (0..n)
                .map(|_| ((spread * rng.normal()) as f32 * 64.0).round() / 64.0)
                .collect();
            for (temperature, top_k, top_p, min_p) in [
                (1.0, 0, 0.9, 0.0),
                (0.7, 50, 1.0, 0.0),
                (1.3, 400, 0.5, 0.0),
                (1.0, 0, 1.0, 0.3),
                (2.0, 900, 0.97, 0.2),
                (0.5, 1, 1.0, 0.0),
            ] {
                let sampling = Sampling {
                    temperature,
                    top_k,
                    top_p,
                    min_p,
                    ..Sampling::default()
                };
                let _ = draw(&logits, &sampling, &mut rng, &mut scratch).unwrap();
                let kept: Vec<usize> = (0..n).filter(|&i| scratch.weights[i] > 0.0).collect();
                assert_eq!(kept, naive(&logits, &sampling), "{spread} {sampling:?}");
            }
        }
    }

    #[test]
    fn draws_from_a_large_vocabulary_follow_the_probabilities() {
        // Two tokens of block 0, two far behind it, and a tail that shares a hundredth.
        let mut p = vec![0.01 / 3000.0; 3004];
        (p[3], p[900], p[1025], p[3003]) = (0.3, 0.1, 0.4, 0.19);
        let counts = counts(&p, &Sampling::default());
        for (id, share) in [(3, 0.3), (900, 0.1), (1025, 0.4), (3003, 0.19)] {
            let sd = (20_000f64 * share * (1.0 - share)).sqrt();
            let off = counts[id] as f64 - 20_000.0 * share;
            assert!(off.abs() < 5.0 * sd, "{id}: {}", counts[id]);
        }
    }

    #[test]
    fn the_logprob_is_the_untempered_models() {
        let sampling = Sampling {
            temperature: 3.0,
            top_k: 2,
            ..Sampling::default()
        };
        let mut rng = Rng::keyed(5, &[]);
        for _ in 0..20 {
            let drawn = draw(&logits(&P), &sampling, &mut rng, &mut Scratch::default()).unwrap();
            assert!((drawn.logprob - P[drawn.token as usize].ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn the_most_probable_come_first_with_the_bits_of_a_draw() {
        let z = logits(&[0.1, 0.3, 0.05, 0.3, 0.25]);
        let mut scratch = Scratch::default();
        let top = most_probable(&z, 3, &mut scratch);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(most_probable(&z, 99, &mut scratch).len(), 5);
        assert!(most_probable(&z, 0, &mut scratch).is_empty());
        let hot = Sampling {
            temperature: 2.0,
            top_k: 3,
            ..Sampling::default()
        };
        let mut rng = Rng::keyed(6, &[]);
        for _ in 0..20 {
            let drawn = draw(&z, &hot, &mut rng, &mut scratch).unwrap();
            let listed = top.iter().find(|t| t.0 == drawn.token).unwrap();
            assert_eq!(listed.1.to_bits(), drawn.logprob.to_bits());
        }
    }

    #[test]
    fn logits_that_are_no_numbers_give_nothing() {
        let mut rng = Rng::keyed(0, &[]);
        let mut draw = |z: &[f32]| draw(z, &Sampling::default(), &mut rng, &mut Scratch::default());
        assert_eq!(draw(&[0.0, f32::NAN]), None);
        assert_eq!(draw(&[f32::NAN, 0.0]), None);
        assert_eq!(draw(&[f32::INFINITY, 0.0]), None);
        assert_eq!(draw(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(draw(&[f32::NEG_INFINITY, 0.0]).unwrap().token, 1);
    }

    #[test]
    fn settings_without_meaning_are_named() {
        let base = Sampling::default();
        for (bad, name) in [
            (
                Sampling {
                    temperature: -1.0,
                    ..base.clone()
                },
                "`temperature`",
            ),
            (
                Sampling {
                    temperature: f32::NAN,
                    ..base.clone()
                },
                "`temperature`",
            ),
            (
                Sampling {
                    top_p: 0.0,
                    ..base.clone()
                },
                "`top_p`",
            ),
            (
                Sampling {
                    min_p: 2.0,
                    ..base.clone()
                },
                "`min_p`",
            ),
            (
                Sampling {
                    stop: vec![String::new()],
                    ..base.clone()
                },
                "stop string",
            ),
        ] {
            assert!(check(&bad).unwrap_err().to_string().contains(name));
        }
        assert!(check(&base).is_ok());
    }
}
