//! Root-mean-square norm of each head of q, or of k, on its own, in place on lanes.

use pulp::Arch;

use super::norm::{Gain, inverse_rms};
use crate::threads::Threads;

/// Norm of heads.
///
/// - `heads`: rows of whole heads, (heads·D, N) lanes at `stride`, normed in place
/// - `kept`: the same shape, overwritten with what came in; for the backward
/// - `inv_rms`: (heads, N) lanes, overwritten; for the backward
/// - `gain`: (D), shared by all heads
///
/// Each head x of each token becomes gain ⊙ x r with r = (mean x² + ε)^−½.
pub(crate) fn norm_heads(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    [heads, kept, inv_rms]: [&mut [f32]; 3],
    stride: usize,
    gain: Gain<'_>,
    eps: f32,
) {
    let part = gain.weight.len() * stride;
    let slices = [(&mut *heads, part), (kept, part), (inv_rms, stride)];
    let chunks = slices[0].0.len() / part;
    threads.for_chunks(chunks, slices, scratch, |_, [head, kept, inv_rms], _| {
        kept.copy_from_slice(head);
        inverse_rms(inv_rms, kept, stride, eps);
        Arch::new().dispatch(|| {
            for (c, row) in head.chunks_exact_mut(stride).enumerate() {
                let g = gain.at(c);
                for (x, r) in row.iter_mut().zip(&*inv_rms) {
                    *x *= r * g;
                }
            }
        });
    });
}

/// Norm of heads, backward.
///
/// - `d_heads`: gradient of the normed heads, (heads·D, N) lanes; that of the heads on return
/// - `d_gain`: (D), accumulated into; or empty for a gain that does not train
/// - `kept`, `inv_rms`, `gain`: as left by and given to [`norm_heads`]
/// - `partial`: (heads, D) of scratch
///
/// With u = d ⊙ gain and r = inv_rms, for each head and token:
/// d_x = r (u − x r² mean(u ⊙ x)),  d_gain += Σ over heads and tokens of d ⊙ x r.
pub(crate) struct Backward<'a> {
    pub(crate) d_heads: &'a mut [f32],
    pub(crate) d_gain: &'a mut [f32],
    pub(crate) kept: &'a [f32],
    pub(crate) inv_rms: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) gain: Gain<'a>,
    pub(crate) partial: &'a mut [f32],
}

impl Backward<'_> {
    /// Computes both gradients.
    pub(crate) fn run(self, threads: &Threads, scratch: &mut [Vec<f32>]) {
        let Self {
            kept,
            inv_rms,
            stride,
            gain,
            ..
        } = self;
        let width = gain.weight.len();
        let part = width * stride;
        let heads = kept.len() / part;
        let slices = [(self.d_heads, part), (&mut *self.partial, width)];
        threads.for_chunks(heads, slices, scratch, |h, [d_head, partial], scratch| {
            let means = super::aligned(scratch, stride);
            let (x, r) = (&kept[h * part..][..part], &inv_rms[h * stride..][..stride]);
            Arch::new().dispatch(|| head_backward(d_head, partial, x, r, gain, means));
        });
        // Head after head, whoever computed them.
        for partial in self.partial.chunks_exact(width).take(heads) {
            for (d, p) in self.d_gain.iter_mut().zip(partial) {
                *d += p;
            }
        }
    }
}

/// One head of all tokens; leaves its share of the gain's gradient in `partial`.
#[inline(always)]
fn head_backward(
    d_head: &mut [f32],
    partial: &mut [f32],
    input: &[f32],
    inv_rms: &[f32],
    gain: Gain<'_>,
    means: &mut [f32],
) {
    let stride = inv_rms.len();
    means.fill(0.0);
    let rows = d_head
        .chunks_exact(stride)
        .zip(input.chunks_exact(stride))
        .enumerate();
    for (c, (d, x)) in rows {
        let g = gain.at(c);
        for ((m, d), x) in means.iter_mut().zip(d).zip(x) {
            *m += g * d * x;
        }
    }
    for (m, r) in means.iter_mut().zip(inv_rms) {
        *m *= r * r * r / partial.len() as f32;
    }
    let rows = d_head
        .chunks_exact_mut(stride)
        .zip(input.chunks_exact(stride))
        .zip(partial)
        .enumerate();
    for (c, ((d, x), partial)) in rows {
        let g = gain.at(c);
        // Partial sums in lanes, so that the sum is vectorised in an order that is written here.
        let mut sums = [0.0f32; super::LINE];
        let blocks = d
            .chunks_exact_mut(super::LINE)
            .zip(x.chunks_exact(super::LINE))
            .zip(inv_rms.chunks_exact(super::LINE))
            .zip(means.chunks_exact(super::LINE));
        for (((d, x), r), m) in blocks {
            for l in 0..super::LINE {
                let dr = d[l] * r[l];
                sums[l] += dr * x[l];
                d[l] = g * dr - x[l] * m[l];
            }
        }
        *partial = sums.iter().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of, normal};
    use std::num::NonZeroUsize;

    const EPS: f64 = 0.3;
    const SHAPE: (usize, usize, usize, usize) = (3, 7, 21, 48); // heads, D, N, stride

    /// The formula, token by token, in f64.
    fn naive(input: &[f64], gain: &[f64]) -> Vec<f64> {
        let (heads, d, n, stride) = SHAPE;
        let mut out = vec![0.0; input.len()];
        for h in 0..heads {
            for t in 0..n {
                let at = |i: usize| (h * d + i) * stride + t;
                let square: f64 = (0..d).map(|i| input[at(i)].powi(2)).sum();
                let r = 1.0 / (square / d as f64 + EPS).sqrt();
                (0..d).for_each(|i| out[at(i)] = input[at(i)] * r * gain[i]);
            }
        }
        out
    }

    fn threads(n: usize) -> (Threads, Vec<Vec<f32>>) {
        let threads = Threads::new(NonZeroUsize::new(n).unwrap());
        (threads, vec![Vec::new(); n])
    }

    fn exact(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    #[test]
    fn both_ways_agree_with_the_formula_and_its_central_differences_on_any_threads() {
        let (heads, d, n, stride) = SHAPE;
        let input = lanes_of("x", heads * d, n, stride);
        let weights = lanes_of("w", heads * d, n, stride);
        let weight = normal("g", d, 1.0);
        for (plus_one, n_threads) in [(false, 1), (true, 1), (true, 3)] {
            let gain = Gain {
                weight: &weight,
                plus_one,
            };
            let gains: Vec<f64> = (0..d).map(|c| f64::from(gain.at(c))).collect();
            let (threads, mut scratch) = threads(n_threads);
            let (mut out, mut kept) = (input.clone(), vec![0.0; input.len()]);
            let mut inv_rms = vec![0.0; heads * stride];
            let buffers = [&mut out[..], &mut kept, &mut inv_rms];
            norm_heads(&threads, &mut scratch, buffers, stride, gain, EPS as f32);
            let wanted: Vec<f32> = naive(&exact(&input), &gains)
                .iter()
                .map(|v| *v as f32)
                .collect();
            close("normed", &out, &wanted, 1e-6);
            assert_eq!(kept, input);

            let (mut d_heads, mut d_gain) = (weights.clone(), vec![2.0; d]);
            Backward {
                d_heads: &mut d_heads,
                d_gain: &mut d_gain,
                kept: &kept,
                inv_rms: &inv_rms,
                stride,
                gain,
                partial: &mut vec![0.0; heads * d],
            }
            .run(&threads, &mut scratch);
            let objective = |x: &[f64], g: &[f64]| -> f64 {
                let out = naive(x, g);
                out.iter()
                    .zip(&weights)
                    .map(|(o, w)| o * f64::from(*w))
                    .sum()
            };
            let h = 1e-5;
            let slope = |of: &dyn Fn(f64) -> f64| ((of(h) - of(-h)) / (2.0 * h)) as f32;
            let nudged = |values: &[f64], i: usize, by: f64| {
                let mut values = values.to_vec();
                values[i] += by;
                values
            };
            let x = exact(&input);
            let places: Vec<usize> = (0..heads * d)
                .flat_map(|row| [row * stride, row * stride + n - 1])
                .collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| slope(&|by| objective(&nudged(&x, i, by), &gains)))
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_heads[i]).collect();
            close("d_heads", &analytic, &numeric, 1e-5);
            let numeric: Vec<f32> = (0..d)
                .map(|i| 2.0 + slope(&|by| objective(&x, &nudged(&gains, i, by))))
                .collect();
            close("d_gain", &d_gain, &numeric, 1e-5);
            let beyond = d_heads.chunks_exact(stride).flat_map(|row| &row[n..]);
            assert!(
                beyond.into_iter().all(|v| *v == 0.0),
                "nothing flows beyond N"
            );
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (heads, d, n, stride) = SHAPE;
        let weight = normal("g", d, 1.0);
        let gain = Gain {
            weight: &weight,
            plus_one: false,
        };
        let run = |n_threads: usize| {
            let (threads, mut scratch) = threads(n_threads);
            let mut out = lanes_of("x", heads * d, n, stride);
            let (mut kept, mut inv_rms) = (vec![0.0; out.len()], vec![0.0; heads * stride]);
            let buffers = [&mut out[..], &mut kept, &mut inv_rms];
            norm_heads(&threads, &mut scratch, buffers, stride, gain, EPS as f32);
            let mut d_gain = vec![0.0; d];
            Backward {
                d_heads: &mut out,
                d_gain: &mut d_gain,
                kept: &kept,
                inv_rms: &inv_rms,
                stride,
                gain,
                partial: &mut vec![0.0; heads * d],
            }
            .run(&threads, &mut scratch);
            (out, d_gain)
        };
        assert_eq!(run(1), run(3));
    }
}
