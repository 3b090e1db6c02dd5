//! Top-k, top-p and min-p over the weights of a whole vocabulary.

use idiolect_model::Sampling;

use super::{BLOCK, Scratch};

/// Tokens whose weights agree in their leading bits.
#[derive(Clone, Copy, Default)]
pub(super) struct Bucket {
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
pub(super) fn filter(sampling: &Sampling, scratch: &mut Scratch) {
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
