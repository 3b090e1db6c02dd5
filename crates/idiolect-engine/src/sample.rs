//! Choosing the next token from logits.
//!
//! The filters apply in the order and with the meaning of transformers' warpers: temperature, then
//! top-k, top-p (the smallest set whose fraction of what top-k left reaches it) and min-p (relative to
//! the most probable token). One difference: of tokens tied at the border of top-k those of lower
//! ids stay, where transformers keeps them all. One uniform draw a token, so that a request's
//! generator is in the same state whatever the settings.

use idiolect_model::{ModelError, Rng, Sampling};
use pulp::{Arch, Simd, WithSimd};

use crate::ops::math::exp;

use filters::{Bucket, filter};

mod filters;

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
    // In f64 over blocks in the order of ids: the same bits whatever is in the batch.
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

/// The token in whose part of the weights `uniform` falls.
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
mod tests;
