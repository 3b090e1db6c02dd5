//! Root-mean-square norm.
//!
//! Two passes each way: one over channels that leaves a number per token, one over rows.

use pulp::Arch;

use crate::threads::Threads;

/// Rows of one chunk of work.
const ROWS: usize = 32;

/// Inverse root mean square of each token.
///
/// - `inv_rms`: (stride), overwritten
/// - `input`: (C, N) lanes at `stride`
///
/// inv_rms[n] = (mean_c input² + ε)^−½
pub(crate) fn inverse_rms(inv_rms: &mut [f32], input: &[f32], stride: usize, eps: f32) {
    let inverse_width = 1.0 / (input.len() / stride) as f32;
    Arch::new().dispatch(|| {
        inv_rms.fill(0.0);
        for row in input.chunks_exact(stride) {
            for (sum, x) in inv_rms.iter_mut().zip(row) {
                *sum += x * x;
            }
        }
        for r in inv_rms.iter_mut() {
            *r = 1.0 / (*r * inverse_width + eps).sqrt();
        }
    });
}

/// What is multiplied onto the normalised value: w, or 1 + w.
#[derive(Clone, Copy)]
pub(crate) struct Gain<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) plus_one: bool,
}

impl Gain<'_> {
    pub(crate) fn at(self, c: usize) -> f32 {
        if self.plus_one {
            1.0 + self.weight[c]
        } else {
            self.weight[c]
        }
    }
}

/// Root-mean-square norm.
///
/// - `out`: (C, N) lanes at `stride`, overwritten
/// - `input`: (C, N) lanes
/// - `inv_rms`: left by [`inverse_rms`]
/// - `residual`: added to the result, or empty
///
/// out = gain ⊙ input · inv_rms (+ residual)
pub(crate) fn scale(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    out: &mut [f32],
    input: &[f32],
    inv_rms: &[f32],
    gain: Gain<'_>,
    residual: &[f32],
) {
    let stride = inv_rms.len();
    let chunks = (out.len() / stride).div_ceil(ROWS);
    threads.for_chunks(
        chunks,
        [(out, ROWS * stride)],
        scratch,
        |chunk, [out], _| {
            Arch::new().dispatch(|| {
                for (i, out) in out.chunks_exact_mut(stride).enumerate() {
                    let c = chunk * ROWS + i;
                    let g = gain.at(c);
                    let row = c * stride..(c + 1) * stride;
                    let values = out.iter_mut().zip(&input[row.clone()]).zip(inv_rms);
                    if residual.is_empty() {
                        values.for_each(|((o, x), r)| *o = x * r * g);
                    } else {
                        values
                            .zip(&residual[row])
                            .for_each(|(((o, x), r), add)| *o = x * r * g + add);
                    }
                }
            });
        },
    );
}

/// Root-mean-square norm, backward.
///
/// - `d_input`: (C, N) lanes at `stride`; overwritten, or with `add` accumulated into
/// - `d_gain`: (C), accumulated into; or empty for a gain that does not train
/// - `d_output`: (C, N) lanes
/// - `input`, `inv_rms`, `gain`: as in the forward
/// - `means`: (stride) of scratch
///
/// With u = d_output ⊙ gain and r = inv_rms:
/// d_input = r (u − x r² mean(u ⊙ x)),  d_gain += Σ_n d_output ⊙ x r.
pub(crate) struct Backward<'a> {
    pub(crate) d_input: &'a mut [f32],
    pub(crate) add: bool,
    pub(crate) d_gain: &'a mut [f32],
    pub(crate) d_output: &'a [f32],
    pub(crate) input: &'a [f32],
    pub(crate) inv_rms: &'a [f32],
    pub(crate) gain: Gain<'a>,
    pub(crate) means: &'a mut [f32],
}

impl Backward<'_> {
    /// Computes both gradients.
    pub(crate) fn run(self, threads: &Threads, scratch: &mut [Vec<f32>]) {
        let Self {
            d_input,
            add,
            d_gain,
            d_output,
            input,
            inv_rms,
            gain,
            means,
        } = self;
        let stride = inv_rms.len();
        let width = input.len() / stride;
        let means = &mut means[..stride];
        Arch::new().dispatch(|| {
            means.fill(0.0);
            for (c, (d, x)) in d_output
                .chunks_exact(stride)
                .zip(input.chunks_exact(stride))
                .enumerate()
            {
                let g = gain.at(c);
                for ((m, d), x) in means.iter_mut().zip(d).zip(x) {
                    *m += g * d * x;
                }
            }
            for (m, r) in means.iter_mut().zip(inv_rms) {
                *m *= r * r * r / width as f32;
            }
        });
        let means = &*means;
        let parts = [(d_input, ROWS * stride), (d_gain, ROWS)];
        threads.for_chunks(
            width.div_ceil(ROWS),
            parts,
            scratch,
            |chunk, [d_input, d_gain], _| {
                Arch::new().dispatch(|| {
                    for (i, d_input) in d_input.chunks_exact_mut(stride).enumerate() {
                        let c = chunk * ROWS + i;
                        let row = c * stride..(c + 1) * stride;
                        let d = backward_row(
                            d_input,
                            add,
                            &d_output[row.clone()],
                            &input[row],
                            inv_rms,
                            means,
                            gain.at(c),
                        );
                        if let Some(d_gain) = d_gain.get_mut(i) {
                            *d_gain += d;
                        }
                    }
                });
            },
        );
    }
}

/// One channel; returns its gain's gradient.
#[inline(always)]
fn backward_row(
    d_input: &mut [f32],
    add: bool,
    d_output: &[f32],
    input: &[f32],
    inv_rms: &[f32],
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
            inv_rms
                .chunks_exact(super::LINE)
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

    const EPS: f64 = 0.3;

    /// Σ weights ⊙ norm(input) in f64, with the gain 1 + w or w.
    fn objective(
        input: &[f64],
        gain: &[f64],
        weights: &[f32],
        width: usize,
        n: usize,
        stride: usize,
    ) -> f64 {
        let mut total = 0.0;
        for t in 0..n {
            let square = (0..width)
                .map(|c| input[c * stride + t].powi(2))
                .sum::<f64>()
                / width as f64;
            let r = 1.0 / (square + EPS).sqrt();
            total += (0..width)
                .map(|c| f64::from(weights[c * stride + t]) * input[c * stride + t] * r * gain[c])
                .sum::<f64>();
        }
        total
    }

    #[test]
    fn both_gradients_agree_with_central_differences() {
        let (width, n, stride) = (37, 21, 48);
        let input = lanes_of("x", width, n, stride);
        let weights = lanes_of("w", width, n, stride);
        let weight = normal("g", width, 1.0);
        for plus_one in [false, true] {
            let gain = Gain {
                weight: &weight,
                plus_one,
            };
            let threads = Threads::single();
            let mut scratch = [Vec::new()];
            let mut inv_rms = vec![0.0; stride];
            inverse_rms(&mut inv_rms, &input, stride, EPS as f32);
            let mut out = vec![0.0; input.len()];
            scale(
                &threads,
                &mut scratch,
                &mut out,
                &input,
                &inv_rms,
                gain,
                &[],
            );
            let exact_gain: Vec<f64> = (0..width).map(|c| f64::from(gain.at(c))).collect();
            let exact: Vec<f64> = input.iter().map(|v| f64::from(*v)).collect();
            let got: f64 = out
                .iter()
                .zip(&weights)
                .map(|(o, w)| f64::from(o * w))
                .sum();
            let want = objective(&exact, &exact_gain, &weights, width, n, stride);
            assert!(
                (got - want).abs() < 1e-4 * want.abs().max(1.0),
                "{got} {want}"
            );

            let mut d_input = vec![1.0; input.len()];
            let mut d_gain = vec![2.0; width];
            Backward {
                d_input: &mut d_input,
                add: true,
                d_gain: &mut d_gain,
                d_output: &weights,
                input: &input,
                inv_rms: &inv_rms,
                gain,
                means: &mut vec![0.0; stride],
            }
            .run(&threads, &mut scratch);
            let h = 1e-5;
            let difference = |exact: &[f64], gain: &[f64], i: usize, of_gain: bool| {
                let value = |delta: f64| {
                    let (mut x, mut g) = (exact.to_vec(), gain.to_vec());
                    if of_gain {
                        g[i] += delta
                    } else {
                        x[i] += delta
                    }
                    objective(&x, &g, &weights, width, n, stride)
                };
                ((value(h) - value(-h)) / (2.0 * h)) as f32
            };
            let places: Vec<usize> = (0..width)
                .flat_map(|c| [c * stride, c * stride + n - 1])
                .collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| 1.0 + difference(&exact, &exact_gain, i, false))
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_input[i]).collect();
            close("d_input", &analytic, &numeric, 1e-5);
            let numeric: Vec<f32> = (0..width)
                .map(|i| 2.0 + difference(&exact, &exact_gain, i, true))
                .collect();
            close("d_gain", &d_gain, &numeric, 1e-5);
            assert!(
                d_input[n..stride].iter().all(|d| *d == 1.0),
                "nothing flows beyond N"
            );
        }
    }
}
