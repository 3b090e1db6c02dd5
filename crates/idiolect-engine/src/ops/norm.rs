//! Root-mean-square norm.
//!
//! Two passes each way: one over channels that leaves a number per token, one over rows.

use pulp::Arch;

use super::cpu::Cpu;

/// Rows of one chunk of work.
const ROWS: usize = 32;

/// Reciprocal root mean square of each token (`rstd` of PyTorch's norms).
///
/// - `rstd`: (ld), overwritten
/// - `input`: (C, T) lanes of leading dimension `ld`
///
/// rstd[t] = (mean_c input² + ε)^−½
pub(crate) fn compute_rstd(rstd: &mut [f32], input: &[f32], ld: usize, eps: f32) {
    let inverse_width = 1.0 / (input.len() / ld) as f32;
    Arch::new().dispatch(|| {
        rstd.fill(0.0);
        for row in input.chunks_exact(ld) {
            for (sum, x) in rstd.iter_mut().zip(row) {
                *sum += x * x;
            }
        }
        for r in rstd.iter_mut() {
            *r = 1.0 / (*r * inverse_width + eps).sqrt();
        }
    });
}

/// A norm's weight: the normalised value is multiplied by w, or by 1 + w.
#[derive(Clone, Copy)]
pub(crate) struct NormWeight<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) plus_one: bool,
}

impl NormWeight<'_> {
    pub(crate) fn at(self, c: usize) -> f32 {
        if self.plus_one {
            1.0 + self.values[c]
        } else {
            self.values[c]
        }
    }
}

impl Cpu<'_> {
    /// [`compute_rstd`] and [`normalize`](Self::normalize), nothing added.
    pub(crate) fn rms_norm(
        &mut self,
        out: &mut [f32],
        rstd: &mut [f32],
        input: &[f32],
        weight: NormWeight<'_>,
        eps: f32,
    ) {
        let ld = rstd.len();
        compute_rstd(rstd, input, ld, eps);
        self.normalize(out, input, rstd, weight, &[]);
    }

    /// Root-mean-square norm.
    ///
    /// - `out`: (C, T) lanes of leading dimension `ld`, overwritten
    /// - `input`: (C, T) lanes
    /// - `rstd`: left by [`compute_rstd`]
    /// - `residual`: added to the result, or empty
    ///
    /// out = weight ⊙ input · rstd (+ residual)
    pub(crate) fn normalize(
        &mut self,
        out: &mut [f32],
        input: &[f32],
        rstd: &[f32],
        weight: NormWeight<'_>,
        residual: &[f32],
    ) {
        let ld = rstd.len();
        let chunks = (out.len() / ld).div_ceil(ROWS);
        self.for_chunks(chunks, [(out, ROWS * ld)], |chunk, [out], _| {
            Arch::new().dispatch(|| {
                for (i, out) in out.chunks_exact_mut(ld).enumerate() {
                    let c = chunk * ROWS + i;
                    let g = weight.at(c);
                    let row = c * ld..(c + 1) * ld;
                    let values = out.iter_mut().zip(&input[row.clone()]).zip(rstd);
                    if residual.is_empty() {
                        values.for_each(|((o, x), r)| *o = x * r * g);
                    } else {
                        values
                            .zip(&residual[row])
                            .for_each(|(((o, x), r), add)| *o = x * r * g + add);
                    }
                }
            });
        });
    }
}

/// Root-mean-square norm, backward.
///
/// - `d_input`: (C, T) lanes of leading dimension `ld`; overwritten, or with `add` accumulated into
/// - `d_weight`: (C), accumulated into; or empty for a weight that does not train
/// - `d_output`: (C, T) lanes
/// - `input`, `rstd`, `weight`: as in the forward
/// - `means`: (ld) of scratch
///
/// With u = d_output ⊙ weight and r = rstd:
/// d_input = r (u − x r² mean(u ⊙ x)),  d_weight += Σ_t d_output ⊙ x r.
pub(crate) struct Backward<'a> {
    pub(crate) d_input: &'a mut [f32],
    pub(crate) add: bool,
    pub(crate) d_weight: &'a mut [f32],
    pub(crate) d_output: &'a [f32],
    pub(crate) input: &'a [f32],
    pub(crate) rstd: &'a [f32],
    pub(crate) weight: NormWeight<'a>,
    pub(crate) means: &'a mut [f32],
}

impl Cpu<'_> {
    /// Computes both gradients.
    pub(crate) fn rms_norm_backward(&mut self, op: Backward<'_>) {
        let Backward {
            d_input,
            add,
            d_weight,
            d_output,
            input,
            rstd,
            weight,
            means,
        } = op;
        let ld = rstd.len();
        let width = input.len() / ld;
        let means = &mut means[..ld];
        Arch::new().dispatch(|| {
            means.fill(0.0);
            for (c, (d, x)) in d_output
                .chunks_exact(ld)
                .zip(input.chunks_exact(ld))
                .enumerate()
            {
                let g = weight.at(c);
                for ((m, d), x) in means.iter_mut().zip(d).zip(x) {
                    *m += g * d * x;
                }
            }
            for (m, r) in means.iter_mut().zip(rstd) {
                *m *= r * r * r / width as f32;
            }
        });
        let means = &*means;
        let parts = [(d_input, ROWS * ld), (d_weight, ROWS)];
        self.for_chunks(
            width.div_ceil(ROWS),
            parts,
            |chunk, [d_input, d_weight], _| {
                Arch::new().dispatch(|| {
                    for (i, d_input) in d_input.chunks_exact_mut(ld).enumerate() {
                        let c = chunk * ROWS + i;
                        let row = c * ld..(c + 1) * ld;
                        let d = backward_row(
                            d_input,
                            add,
                            &d_output[row.clone()],
                            &input[row],
                            rstd,
                            means,
                            weight.at(c),
                        );
                        if let Some(d_weight) = d_weight.get_mut(i) {
                            *d_weight += d;
                        }
                    }
                });
            },
        );
    }
}

/// One channel; returns its weight's gradient.
#[inline(always)]
fn backward_row(
    d_input: &mut [f32],
    add: bool,
    d_output: &[f32],
    input: &[f32],
    rstd: &[f32],
    means: &[f32],
    g: f32,
) -> f32 {
    // Partial sums in lanes, so that the sum is vectorised in an order that is written here.
    let mut sums = [0.0f32; super::LINE];
    let blocks = d_input
        .chunks_exact_mut(super::LINE)
        .zip(d_output.chunks_exact(super::LINE))
        .zip(input.chunks_exact(super::LINE))
        .zip(
            rstd.chunks_exact(super::LINE)
                .zip(means.chunks_exact(super::LINE)),
        );
    for (((di, d), x), (r, m)) in blocks {
        for l in 0..super::LINE {
            let dr = d[l] * r[l];
            sums[l] += dr * x[l];
            let value = g * dr - x[l] * m[l];
            di[l] = if add { di[l] + value } else { value };
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of, normal};
    use crate::threads::Threads;

    const EPS: f64 = 0.3;

    /// Σ weights ⊙ norm(input) in f64, with the weight 1 + w or w.
    fn objective(
        input: &[f64],
        weight: &[f64],
        weights: &[f32],
        width: usize,
        n: usize,
        ld: usize,
    ) -> f64 {
        let mut total = 0.0;
        for t in 0..n {
            let square = (0..width).map(|c| input[c * ld + t].powi(2)).sum::<f64>() / width as f64;
            let r = 1.0 / (square + EPS).sqrt();
            total += (0..width)
                .map(|c| f64::from(weights[c * ld + t]) * input[c * ld + t] * r * weight[c])
                .sum::<f64>();
        }
        total
    }

    #[test]
    fn both_gradients_agree_with_central_differences() {
        let (width, n, ld) = (37, 21, 48);
        let input = lanes_of("x", width, n, ld);
        let weights = lanes_of("w", width, n, ld);
        let weight = normal("g", width, 1.0);
        for plus_one in [false, true] {
            let weight = NormWeight {
                values: &weight,
                plus_one,
            };
            let threads = Threads::single();
            let mut rstd = vec![0.0; ld];
            compute_rstd(&mut rstd, &input, ld, EPS as f32);
            let mut out = vec![0.0; input.len()];
            Cpu::new(&threads, &mut Default::default()).normalize(
                &mut out,
                &input,
                &rstd,
                weight,
                &[],
            );
            let exact_gain: Vec<f64> = (0..width).map(|c| f64::from(weight.at(c))).collect();
            let exact: Vec<f64> = input.iter().map(|v| f64::from(*v)).collect();
            let got: f64 = out
                .iter()
                .zip(&weights)
                .map(|(o, w)| f64::from(o * w))
                .sum();
            let want = objective(&exact, &exact_gain, &weights, width, n, ld);
            assert!(
                (got - want).abs() < 1e-4 * want.abs().max(1.0),
                "{got} {want}"
            );

            let mut d_input = vec![1.0; input.len()];
            let mut d_weight = vec![2.0; width];
            Cpu::new(&threads, &mut Default::default()).rms_norm_backward(Backward {
                d_input: &mut d_input,
                add: true,
                d_weight: &mut d_weight,
                d_output: &weights,
                input: &input,
                rstd: &rstd,
                weight,
                means: &mut vec![0.0; ld],
            });
            let h = 1e-5;
            let difference = |exact: &[f64], weight: &[f64], i: usize, of_gain: bool| {
                let value = |delta: f64| {
                    let (mut x, mut g) = (exact.to_vec(), weight.to_vec());
                    if of_gain {
                        g[i] += delta
                    } else {
                        x[i] += delta
                    }
                    objective(&x, &g, &weights, width, n, ld)
                };
                ((value(h) - value(-h)) / (2.0 * h)) as f32
            };
            let places: Vec<usize> = (0..width).flat_map(|c| [c * ld, c * ld + n - 1]).collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| 1.0 + difference(&exact, &exact_gain, i, false))
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_input[i]).collect();
            close("d_input", &analytic, &numeric, 1e-5);
            let numeric: Vec<f32> = (0..width)
                .map(|i| 2.0 + difference(&exact, &exact_gain, i, true))
                .collect();
            close("d_weight", &d_weight, &numeric, 1e-5);
            assert!(
                d_input[n..ld].iter().all(|d| *d == 1.0),
                "nothing flows beyond T"
            );
        }
    }
}
