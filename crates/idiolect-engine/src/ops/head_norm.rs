//! Root-mean-square norm of each head of q, or of k, on its own, in place on lanes. A norm over all
//! heads at once is that of one head of the whole width.

use pulp::Arch;

use super::cpu::Cpu;
use super::norm::{NormWeight, compute_rstd};

impl Cpu<'_> {
    /// Norm of heads.
    ///
    /// - `heads`: rows of whole heads, (heads·D, T) lanes of leading dimension `ld`, normed in place
    /// - `saved`: the same shape, overwritten with what came in; for the backward
    /// - `rstd`: (heads, T) lanes, overwritten; for the backward
    /// - `weight`: (D), shared by all heads
    ///
    /// Each head x of each token becomes weight ⊙ x r with r = (mean x² + ε)^−½.
    pub(crate) fn norm_heads(
        &mut self,
        [heads, saved, rstd]: [&mut [f32]; 3],
        ld: usize,
        weight: NormWeight<'_>,
        eps: f32,
    ) {
        let part = weight.values.len() * ld;
        let slices = [(&mut *heads, part), (saved, part), (rstd, ld)];
        let chunks = slices[0].0.len() / part;
        self.for_chunks(chunks, slices, |_, [head, saved, rstd], _| {
            saved.copy_from_slice(head);
            compute_rstd(rstd, saved, ld, eps);
            Arch::new().dispatch(|| {
                for (c, row) in head.chunks_exact_mut(ld).enumerate() {
                    let g = weight.at(c);
                    for (x, r) in row.iter_mut().zip(&*rstd) {
                        *x *= r * g;
                    }
                }
            });
        });
    }
}

/// Norm of heads, backward.
///
/// - `d_heads`: gradient of the normed heads, (heads·D, T) lanes; that of the heads on return
/// - `d_weight`: (D), accumulated into; or empty for a weight that does not train
/// - `saved`, `rstd`, `weight`: as left by and given to [`Cpu::norm_heads`]
/// - `partial`: (heads, D) of scratch
///
/// With u = d ⊙ weight and r = rstd, for each head and token:
/// d_x = r (u − x r² mean(u ⊙ x)),  d_weight += Σ over heads and tokens of d ⊙ x r.
pub(crate) struct Backward<'a> {
    pub(crate) d_heads: &'a mut [f32],
    pub(crate) d_weight: &'a mut [f32],
    pub(crate) saved: &'a [f32],
    pub(crate) rstd: &'a [f32],
    pub(crate) ld: usize,
    pub(crate) weight: NormWeight<'a>,
    pub(crate) partial: &'a mut [f32],
}

impl Cpu<'_> {
    /// Computes both gradients.
    pub(crate) fn norm_heads_backward(&mut self, op: Backward<'_>) {
        let Backward {
            saved,
            rstd,
            ld,
            weight,
            ..
        } = op;
        let width = weight.values.len();
        let part = width * ld;
        let heads = saved.len() / part;
        let slices = [(op.d_heads, part), (&mut *op.partial, width)];
        self.for_chunks(heads, slices, |h, [d_head, partial], scratch| {
            let means = super::aligned(scratch, ld);
            let (x, r) = (&saved[h * part..][..part], &rstd[h * ld..][..ld]);
            Arch::new().dispatch(|| head_backward(d_head, partial, x, r, weight, means));
        });
        // Head after head, whoever computed them.
        for partial in op.partial.chunks_exact(width).take(heads) {
            for (d, p) in op.d_weight.iter_mut().zip(partial) {
                *d += p;
            }
        }
    }
}

/// One head of all tokens; leaves its part of the weight's gradient in `partial`.
#[inline(always)]
fn head_backward(
    d_head: &mut [f32],
    partial: &mut [f32],
    input: &[f32],
    rstd: &[f32],
    weight: NormWeight<'_>,
    means: &mut [f32],
) {
    let ld = rstd.len();
    means.fill(0.0);
    let rows = d_head
        .chunks_exact(ld)
        .zip(input.chunks_exact(ld))
        .enumerate();
    for (c, (d, x)) in rows {
        let g = weight.at(c);
        for ((m, d), x) in means.iter_mut().zip(d).zip(x) {
            *m += g * d * x;
        }
    }
    for (m, r) in means.iter_mut().zip(rstd) {
        *m *= r * r * r / partial.len() as f32;
    }
    let rows = d_head
        .chunks_exact_mut(ld)
        .zip(input.chunks_exact(ld))
        .zip(partial)
        .enumerate();
    for (c, ((d, x), partial)) in rows {
        let g = weight.at(c);
        // Partial sums in lanes, so that the sum is vectorised in an order that is written here.
        let mut sums = [0.0f32; super::LINE];
        let blocks = d
            .chunks_exact_mut(super::LINE)
            .zip(x.chunks_exact(super::LINE))
            .zip(rstd.chunks_exact(super::LINE))
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
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    const EPS: f64 = 0.3;
    const SHAPE: (usize, usize, usize, usize) = (3, 7, 21, 48); // heads, D, T, ld

    /// The formula, token by token, in f64.
    fn naive(input: &[f64], weight: &[f64]) -> Vec<f64> {
        let (heads, d, n, ld) = SHAPE;
        let mut out = vec![0.0; input.len()];
        for h in 0..heads {
            for t in 0..n {
                let at = |i: usize| (h * d + i) * ld + t;
                let square: f64 = (0..d).map(|i| input[at(i)].powi(2)).sum();
                let r = 1.0 / (square / d as f64 + EPS).sqrt();
                (0..d).for_each(|i| out[at(i)] = input[at(i)] * r * weight[i]);
            }
        }
        out
    }

    fn threads(n: usize) -> Threads {
        Threads::new(NonZeroUsize::new(n).unwrap())
    }

    fn exact(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    #[test]
    fn both_ways_agree_with_the_formula_and_its_central_differences_on_any_threads() {
        let (heads, d, n, ld) = SHAPE;
        let input = lanes_of("x", heads * d, n, ld);
        let weights = lanes_of("w", heads * d, n, ld);
        let weight = normal("g", d, 1.0);
        for (plus_one, n_threads) in [(false, 1), (true, 1), (true, 3)] {
            let weight = NormWeight {
                values: &weight,
                plus_one,
            };
            let all_weights: Vec<f64> = (0..d).map(|c| f64::from(weight.at(c))).collect();
            let threads = threads(n_threads);
            let (mut out, mut saved) = (input.clone(), vec![0.0; input.len()]);
            let mut rstd = vec![0.0; heads * ld];
            let buffers = [&mut out[..], &mut saved, &mut rstd];
            Cpu::new(&threads, &mut Default::default()).norm_heads(buffers, ld, weight, EPS as f32);
            let wanted: Vec<f32> = naive(&exact(&input), &all_weights)
                .iter()
                .map(|v| *v as f32)
                .collect();
            close("normed", &out, &wanted, 1e-6);
            assert_eq!(saved, input);

            let (mut d_heads, mut d_weight) = (weights.clone(), vec![2.0; d]);
            Cpu::new(&threads, &mut Default::default()).norm_heads_backward(Backward {
                d_heads: &mut d_heads,
                d_weight: &mut d_weight,
                saved: &saved,
                rstd: &rstd,
                ld,
                weight,
                partial: &mut vec![0.0; heads * d],
            });
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
                .flat_map(|row| [row * ld, row * ld + n - 1])
                .collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| slope(&|by| objective(&nudged(&x, i, by), &all_weights)))
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_heads[i]).collect();
            close("d_heads", &analytic, &numeric, 1e-5);
            let numeric: Vec<f32> = (0..d)
                .map(|i| 2.0 + slope(&|by| objective(&x, &nudged(&all_weights, i, by))))
                .collect();
            close("d_weight", &d_weight, &numeric, 1e-5);
            let beyond = d_heads.chunks_exact(ld).flat_map(|row| &row[n..]);
            assert!(
                beyond.into_iter().all(|v| *v == 0.0),
                "nothing flows beyond T"
            );
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (heads, d, n, ld) = SHAPE;
        let weight = normal("g", d, 1.0);
        let weight = NormWeight {
            values: &weight,
            plus_one: false,
        };
        let run = |n_threads: usize| {
            let threads = threads(n_threads);
            let mut out = lanes_of("x", heads * d, n, ld);
            let (mut saved, mut rstd) = (vec![0.0; out.len()], vec![0.0; heads * ld]);
            let buffers = [&mut out[..], &mut saved, &mut rstd];
            Cpu::new(&threads, &mut Default::default()).norm_heads(buffers, ld, weight, EPS as f32);
            let mut d_weight = vec![0.0; d];
            Cpu::new(&threads, &mut Default::default()).norm_heads_backward(Backward {
                d_heads: &mut out,
                d_weight: &mut d_weight,
                saved: &saved,
                rstd: &rstd,
                ld,
                weight,
                partial: &mut vec![0.0; heads * d],
            });
            (out, d_weight)
        };
        assert_eq!(run(1), run(3));
    }
}
