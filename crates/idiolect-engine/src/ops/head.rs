//! Projection to the vocabulary with what is asked of the logits: a loss and its gradients, or
//! the scores of given tokens.
//!
//! Only positions with a target are projected, [`chunk_lanes`] of them at a time, and the logits
//! of a chunk are gone before the next: nothing of size N × V exists. Within a chunk positions
//! are lanes, so every sum over the vocabulary is vertical.

use std::sync::{Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};

use super::math::{exp, tanh};
use super::product::{Left, Onto, Product, multiply};
use super::transpose::transpose;
use super::{LINE, aligned, lanes, take};
use crate::threads::Threads;

/// One predicted token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    /// The lane whose hidden state predicts it; no two targets share one.
    pub(crate) lane: usize,
    /// What it is, below V.
    pub(crate) token: u32,
    /// Its weight in the loss, already divided by the total.
    pub(crate) weight: f32,
}

/// What the distribution at one position says of the token that came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TargetScore {
    /// Log-probability, nats.
    pub logprob: f32,
    /// 1 + the number of tokens with a strictly larger logit.
    pub rank: u32,
    /// Entropy, nats.
    pub entropy: f32,
    /// Σ p (ln p)² − entropy², nats².
    pub varentropy: f32,
    /// Σ p².
    pub sum_p2: f32,
}

/// The output projection.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// (V, C).
    pub(crate) weight: &'a [f32],
    pub(crate) width: usize,
    /// c tanh(logit / c).
    pub(crate) softcap: Option<f32>,
}

/// Positions of one chunk: enough for full tiles, and for a large vocabulary enough that the
/// weight's gradient is not read and written more often than it is computed.
pub(crate) fn chunk_lanes(vocab: usize) -> usize {
    if vocab <= 8192 { 128 } else { 256 }
}

/// Rows of logits whose sums are kept apart, so that f32 sums over a large vocabulary stay exact
/// to a few units in the last place; at most 32 KiB of logits.
const SUM_ROWS: usize = 64;

impl Head<'_> {
    fn vocab(&self) -> usize {
        self.weight.len() / self.width
    }

    /// Gathers the targets' hidden states into lanes (C, chunk), zeros beyond.
    fn gather(
        &self,
        to: &mut [f32],
        chunk: usize,
        hidden: &[f32],
        stride: usize,
        targets: &[Target],
    ) {
        for (to, row) in to.chunks_exact_mut(chunk).zip(hidden.chunks_exact(stride)) {
            for (value, t) in to.iter_mut().zip(targets) {
                *value = row[t.lane];
            }
            to[targets.len()..].fill(0.0);
        }
    }

    /// (V, chunk) = W h, then the cap.
    fn logits(&self, logits: &mut [f32], chunk: usize, hidden: &[f32], n: usize) {
        multiply(Product {
            size: (self.vocab(), lanes(n), self.width),
            left: Left::rows(self.weight, self.width),
            right: (hidden, chunk),
            out: (logits, chunk),
            onto: Onto::Nothing,
        });
        if let Some(c) = self.softcap {
            Arch::new().dispatch(Cap(logits, c));
        }
    }
}

struct Cap<'a>(&'a mut [f32], f32);

impl WithSimd for Cap<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (c, inverse) = (simd.splat_f32s(self.1), simd.splat_f32s(1.0 / self.1));
        for z in S::as_mut_simd_f32s(self.0).0 {
            *z = simd.mul_f32s(c, tanh(simd, simd.mul_f32s(*z, inverse)));
        }
    }
}

/// The largest logit of each lane.
#[inline(always)]
fn largest<S: Simd>(simd: S, logits: &[f32], chunk: usize, largest: &mut [f32]) {
    largest.fill(f32::NEG_INFINITY);
    for row in logits.chunks_exact(chunk) {
        let row = S::as_simd_f32s(&row[..largest.len()]).0;
        for (m, z) in S::as_mut_simd_f32s(largest).0.iter_mut().zip(row) {
            *m = simd.max_f32s(*m, *z);
        }
    }
}

/// Logits of one chunk become their gradient; log-probabilities of the targets come out.
struct Loss<'a> {
    softcap: Option<f32>,
    logits: &'a mut [f32],
    chunk: usize,
    targets: &'a [Target],
    /// Per target, overwritten.
    logprobs: &'a mut [f32],
    /// 2 chunks.
    scratch: &'a mut [f32],
}

impl WithSimd for Loss<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            softcap,
            logits,
            chunk,
            targets,
            logprobs,
            mut scratch,
        } = self;
        let n = lanes(targets.len());
        let most = take(&mut scratch, n);
        let factors = take(&mut scratch, n);
        largest(simd, logits, chunk, most);
        self::sums(simd, logits, chunk, most, factors);
        for (i, (t, logprob)) in targets.iter().zip(logprobs).enumerate() {
            let z = logits[t.token as usize * chunk + i];
            *logprob = z - most[i] - factors[i].ln();
            factors[i] = t.weight / factors[i];
        }
        // Lanes beyond the targets carry no gradient.
        factors[targets.len()..].fill(0.0);
        for row in logits.chunks_exact_mut(chunk) {
            let row = S::as_mut_simd_f32s(&mut row[..n]).0;
            let scales = S::as_simd_f32s(most)
                .0
                .iter()
                .zip(S::as_simd_f32s(factors).0);
            for (z, (m, f)) in row.iter_mut().zip(scales) {
                let p = simd.mul_f32s(exp(simd, simd.sub_f32s(*z, *m)), *f);
                *z = match softcap {
                    None => p,
                    Some(c) => simd.mul_f32s(p, cap_slope(simd, *z, c)),
                };
            }
        }
    }
}

/// 1 − (z/c)².
#[inline(always)]
fn cap_slope<S: Simd>(simd: S, capped: S::f32s, c: f32) -> S::f32s {
    let t = simd.mul_f32s(capped, simd.splat_f32s(1.0 / c));
    simd.negate_mul_add_f32s(t, t, simd.splat_f32s(1.0))
}

/// Σ e^(z − largest) of each lane.
#[inline(always)]
fn sums<S: Simd>(simd: S, logits: &[f32], chunk: usize, most: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    for block in logits.chunks(SUM_ROWS * chunk) {
        for (v, (m, total)) in S::as_simd_f32s(most)
            .0
            .iter()
            .zip(S::as_mut_simd_f32s(sums).0)
            .enumerate()
        {
            let at = v * S::F32_LANES;
            let mut sum = simd.splat_f32s(0.0);
            for row in block.chunks_exact(chunk) {
                let z = S::as_simd_f32s(&row[at..]).0[0];
                sum = simd.add_f32s(sum, exp(simd, simd.sub_f32s(z, *m)));
            }
            *total = simd.add_f32s(*total, sum);
        }
    }
}

/// The loss of given targets, and its gradients.
///
/// - `hidden`: (C, N) lanes at `stride`, after the last norm
/// - `d_hidden`: (C, N) lanes, overwritten: 0 where no target is
/// - `d_weight`: (V, C), accumulated into; or empty for a head that does not train
/// - `logprobs`: one a target, overwritten
///
/// Returns −Σ weight · logprob in f64. With p = softmax(cap(W h)):
/// d_z = weight (p − onehot) cap',  d_h = Wᵀ d_z,  d_W += d_z hᵀ.
pub(crate) struct LossAndGradients<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) hidden: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) targets: &'a [Target],
    pub(crate) d_hidden: &'a mut [f32],
    pub(crate) d_weight: &'a mut [f32],
    pub(crate) logprobs: &'a mut [f32],
    pub(crate) buffer: &'a mut super::Buffer,
}

impl LossAndGradients<'_> {
    /// Computes all of it, as many chunks side by side as there are threads.
    pub(crate) fn run(self, threads: &Threads, scratch: &mut [Vec<f32>]) -> f64 {
        let Self {
            head,
            hidden,
            stride,
            targets,
            d_hidden,
            d_weight,
            logprobs,
            buffer,
        } = self;
        let (vocab, width, chunk) = (head.vocab(), head.width, chunk_lanes(head.vocab()));
        let tokens = super::stride(width);
        let wave = threads.n().min(targets.len().div_ceil(chunk)).max(1);
        let sizes = [vocab * chunk, width * chunk, chunk * tokens];
        buffer.reserve(wave * sizes.iter().sum::<usize>());
        let mut rest = buffer.get_mut(wave * sizes.iter().sum::<usize>());
        let [d_logits, d_part, states] = sizes.map(|size| take(&mut rest, wave * size));
        d_hidden.fill(0.0);
        let mut done = 0;
        while done < targets.len() {
            let targets = &targets[done..targets.len().min(done + wave * chunk)];
            let logprobs = &mut logprobs[done..done + targets.len()];
            let chunks = targets.len().div_ceil(chunk);
            let parts = [
                (&mut *d_logits, sizes[0]),
                (&mut *d_part, sizes[1]),
                (&mut *states, sizes[2]),
                (&mut *logprobs, chunk),
            ];
            threads.for_chunks(
                chunks,
                parts,
                scratch,
                |i, [logits, d_part, states, logprobs], scratch| {
                    let targets = &targets[i * chunk..targets.len().min((i + 1) * chunk)];
                    one_chunk(
                        head,
                        hidden,
                        stride,
                        targets,
                        [logits, d_part, states, logprobs],
                        scratch,
                    );
                },
            );
            for (i, t) in targets.iter().enumerate() {
                let part = &d_part[i / chunk * sizes[1]..][..sizes[1]];
                for (d, row) in d_hidden
                    .chunks_exact_mut(stride)
                    .zip(part.chunks_exact(chunk))
                {
                    d[t.lane] = row[i % chunk];
                }
            }
            let rows = if threads.n() == 1 {
                vocab
            } else {
                vocab.div_ceil(4 * threads.n()).next_multiple_of(8)
            };
            let (d_logits, states) = (&*d_logits, &*states);
            let frozen = d_weight.is_empty();
            threads.for_chunks(
                if frozen { 0 } else { vocab.div_ceil(rows) },
                [(&mut *d_weight, rows * width)],
                scratch,
                |r, [d_weight], _| {
                    for i in 0..chunks {
                        multiply(Product {
                            size: (
                                d_weight.len() / width,
                                width,
                                chunk.min(targets.len() - i * chunk),
                            ),
                            left: Left::rows(&d_logits[i * sizes[0] + r * rows * chunk..], chunk),
                            right: (&states[i * sizes[2]..][..sizes[2]], tokens),
                            out: (d_weight, width),
                            onto: Onto::Itself,
                        });
                    }
                },
            );
            done += targets.len();
        }
        -targets
            .iter()
            .zip(logprobs)
            .map(|(t, l)| f64::from(t.weight) * f64::from(*l))
            .sum::<f64>()
    }
}

/// Logits, their gradient, the hidden states' gradient, and the states as rows of tokens.
fn one_chunk(
    head: Head<'_>,
    hidden: &[f32],
    stride: usize,
    targets: &[Target],
    [logits, d_part, states, logprobs]: [&mut [f32]; 4],
    scratch: &mut Vec<f32>,
) {
    let (vocab, width, chunk) = (head.vocab(), head.width, chunk_lanes(head.vocab()));
    let mut rest = aligned(scratch, width * chunk + 2 * chunk);
    let gathered = take(&mut rest, width * chunk);
    head.gather(gathered, chunk, hidden, stride, targets);
    head.logits(logits, chunk, gathered, targets.len());
    Arch::new().dispatch(Loss {
        softcap: head.softcap,
        logits,
        chunk,
        targets,
        logprobs,
        scratch: rest,
    });
    for (i, t) in targets.iter().enumerate() {
        let at = t.token as usize * chunk + i;
        // The cap's slope at the target is already inside p's share; take 1 − p's whole value.
        logits[at] -= t.weight * head.target_slope(gathered, chunk, t, i);
    }
    multiply(Product {
        size: (width, lanes(targets.len()), vocab),
        left: Left::columns(head.weight, width),
        right: (logits, chunk),
        out: (d_part, chunk),
        onto: Onto::Nothing,
    });
    let tokens = super::stride(width);
    transpose((width, targets.len()), (gathered, chunk), (states, tokens));
    super::clear_beyond(&mut states[..targets.len() * tokens], width, tokens);
}

impl Head<'_> {
    /// The cap's slope at the logit of target `i`, recomputed; 1 without a cap.
    fn target_slope(&self, gathered: &[f32], chunk: usize, target: &Target, i: usize) -> f32 {
        let Some(c) = self.softcap else { return 1.0 };
        let row = &self.weight[target.token as usize * self.width..][..self.width];
        let z: f32 = row
            .iter()
            .zip(gathered.chunks_exact(chunk))
            .map(|(w, h)| w * h[i])
            .sum();
        let t = (z / c).tanh();
        1.0 - t * t
    }
}

/// Scores of given targets.
///
/// - `hidden`: (C, N) lanes at `stride`, after the last norm
/// - `scores`: one a target, overwritten
pub(crate) fn score(
    head: Head<'_>,
    hidden: &[f32],
    stride: usize,
    targets: &[Target],
    scores: &mut Vec<TargetScore>,
    scratch: &mut Vec<f32>,
) {
    let (vocab, width, chunk) = (head.vocab(), head.width, chunk_lanes(head.vocab()));
    scores.clear();
    for targets in targets.chunks(chunk) {
        let mut rest = aligned(scratch, (width + vocab + SUMS + 2) * chunk);
        let gathered = take(&mut rest, width * chunk);
        let logits = take(&mut rest, vocab * chunk);
        head.gather(gathered, chunk, hidden, stride, targets);
        head.logits(logits, chunk, gathered, targets.len());
        Arch::new().dispatch(Score {
            logits,
            chunk,
            targets,
            scores,
            scratch: rest,
        });
    }
}

/// Σe, Σet, Σet², Σe², and how many logits exceed the target's, with t = z − largest, e = e^t.
const SUMS: usize = 5;

struct Score<'a> {
    logits: &'a [f32],
    chunk: usize,
    targets: &'a [Target],
    scores: &'a mut Vec<TargetScore>,
    /// SUMS + 2 chunks.
    scratch: &'a mut [f32],
}

impl WithSimd for Score<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            logits,
            chunk,
            targets,
            scores,
            mut scratch,
        } = self;
        let n = lanes(targets.len());
        let most = take(&mut scratch, n);
        let target = take(&mut scratch, n);
        let totals = &mut scratch[..SUMS * n];
        largest(simd, logits, chunk, most);
        for (i, (t, z)) in targets.iter().zip(&mut *target).enumerate() {
            *z = logits[t.token as usize * chunk + i];
        }
        target[targets.len()..].fill(0.0);
        totals.fill(0.0);
        let lanes = S::F32_LANES;
        for block in logits.chunks(SUM_ROWS * chunk) {
            for at in (0..n).step_by(lanes) {
                let part = score_sums(simd, block, chunk, at, &most[at..], &target[at..]);
                for (i, sum) in part.into_iter().enumerate() {
                    let total = &mut S::as_mut_simd_f32s(&mut totals[i * n + at..]).0[0];
                    *total = simd.add_f32s(*total, sum);
                }
            }
        }
        scores.extend((0..targets.len()).map(|i| {
            let [e, et, ett, ee, above] = std::array::from_fn(|s| totals[s * n + i]);
            let (log_sum, mean) = (e.ln(), et / e);
            TargetScore {
                logprob: target[i] - most[i] - log_sum,
                rank: 1 + above as u32,
                entropy: (log_sum - mean).max(0.0),
                varentropy: (ett / e - mean * mean).max(0.0),
                sum_p2: ee / (e * e),
            }
        }));
    }
}

/// The [`SUMS`] over some rows, for the lanes from `at` on.
#[inline(always)]
fn score_sums<S: Simd>(
    simd: S,
    rows: &[f32],
    chunk: usize,
    at: usize,
    most: &[f32],
    target: &[f32],
) -> [S::f32s; SUMS] {
    let (most, target) = (S::as_simd_f32s(most).0[0], S::as_simd_f32s(target).0[0]);
    let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
    let mut sums = [zero; SUMS];
    for row in rows.chunks_exact(chunk) {
        let z = S::as_simd_f32s(&row[at..]).0[0];
        let t = simd.sub_f32s(z, most);
        let e = exp(simd, t);
        let et = simd.mul_f32s(e, t);
        sums[0] = simd.add_f32s(sums[0], e);
        sums[1] = simd.add_f32s(sums[1], et);
        sums[2] = simd.mul_add_f32s(et, t, sums[2]);
        sums[3] = simd.mul_add_f32s(e, e, sums[3]);
        let above = simd.select_f32s(simd.greater_than_f32s(z, target), one, zero);
        sums[4] = simd.add_f32s(sums[4], above);
    }
    sums
}

/// Rows of the projection that one chunk of work computes of all logits.
const LOGIT_ROWS: usize = 512;

/// Logits of some lanes, (columns, V) row by row, for sampling.
pub(crate) fn all_logits(
    head: Head<'_>,
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    hidden: &[f32],
    stride: usize,
    columns: &[usize],
    out: &mut Vec<f32>,
) {
    let (vocab, width, chunk) = (head.vocab(), head.width, chunk_lanes(head.vocab()));
    out.clear();
    out.resize(columns.len() * vocab, 0.0);
    let mut gathered = super::Buffer::default();
    gathered.reserve(width * chunk);
    for (columns, out) in columns.chunks(chunk).zip(out.chunks_mut(chunk * vocab)) {
        let targets: Vec<Target> = columns
            .iter()
            .map(|&lane| Target {
                lane,
                token: 0,
                weight: 0.0,
            })
            .collect();
        let n = targets.len();
        let gathered = gathered.get_mut(width * chunk);
        head.gather(gathered, chunk, hidden, stride, &targets);
        // Each chunk of work owns a piece of every row.
        let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
        pieces.resize_with(vocab.div_ceil(LOGIT_ROWS), Vec::new);
        for row in out.chunks_exact_mut(vocab) {
            for (piece, of_chunk) in row.chunks_mut(LOGIT_ROWS).zip(&mut pieces) {
                of_chunk.push(piece);
            }
        }
        let pieces: Vec<Mutex<Vec<&mut [f32]>>> = pieces.into_iter().map(Mutex::new).collect();
        let gathered = &*gathered;
        threads.for_chunks(pieces.len(), [], scratch, |i, [], scratch| {
            let mut pieces = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
            let first = i * LOGIT_ROWS;
            let rows = LOGIT_ROWS.min(vocab - first);
            let mut rest = aligned(scratch, LOGIT_ROWS * (chunk + n));
            let logits = take(&mut rest, LOGIT_ROWS * chunk);
            let part = Head {
                weight: &head.weight[first * width..(first + rows) * width],
                ..head
            };
            part.logits(&mut logits[..rows * chunk], chunk, gathered, n);
            transpose((rows, n), (logits, chunk), (&mut *rest, rows));
            for (piece, row) in pieces.iter_mut().zip(rest.chunks_exact(rows)) {
                piece.copy_from_slice(row);
            }
        });
    }
}

const _: () = assert!(LINE * 8 == 128, "chunks are whole lines");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of, normal};
    use std::num::NonZeroUsize;

    const WIDTH: usize = 7;
    const VOCAB: usize = 83;
    const N: usize = 330;

    fn case() -> (Vec<f32>, Vec<f32>, Vec<Target>) {
        let weight = normal("head", VOCAB * WIDTH, 1.0);
        let hidden = lanes_of("h", WIDTH, N, 336);
        let targets = (0..N)
            .filter(|n| n % 5 != 2)
            .map(|lane| Target {
                lane,
                token: (lane * 31 % VOCAB) as u32,
                weight: 0.1 + (lane % 3) as f32,
            })
            .collect();
        (weight, hidden, targets)
    }

    fn exact_logits(weight: &[f64], hidden: &[f64], lane: usize, softcap: Option<f32>) -> Vec<f64> {
        (0..VOCAB)
            .map(|v| {
                (0..WIDTH)
                    .map(|c| weight[v * WIDTH + c] * hidden[c * 336 + lane])
                    .sum::<f64>()
            })
            .map(|z: f64| softcap.map_or(z, |c| f64::from(c) * (z / f64::from(c)).tanh()))
            .collect()
    }

    fn exact_loss(weight: &[f64], hidden: &[f64], targets: &[Target], softcap: Option<f32>) -> f64 {
        targets
            .iter()
            .map(|t| {
                let z = exact_logits(weight, hidden, t.lane, softcap);
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                f64::from(t.weight) * (sum.ln() - z[t.token as usize])
            })
            .sum()
    }

    #[test]
    fn loss_and_gradients_agree_with_central_differences_on_any_number_of_threads() {
        let (weight, hidden, targets) = case();
        for softcap in [None, Some(1.5)] {
            let mut results = Vec::new();
            for n in 1..4 {
                let threads = Threads::new(NonZeroUsize::new(n).unwrap());
                let mut d_hidden = vec![3.0; hidden.len()];
                let mut d_weight = vec![1.0; weight.len()];
                let mut logprobs = vec![0.0; targets.len()];
                let loss = LossAndGradients {
                    head: Head {
                        weight: &weight,
                        width: WIDTH,
                        softcap,
                    },
                    hidden: &hidden,
                    stride: 336,
                    targets: &targets,
                    d_hidden: &mut d_hidden,
                    d_weight: &mut d_weight,
                    logprobs: &mut logprobs,
                    buffer: &mut Default::default(),
                }
                .run(&threads, &mut vec![Vec::new(); n]);
                results.push((loss.to_bits(), d_hidden, d_weight));
            }
            assert!(results.iter().all(|r| *r == results[0]));
            let (loss, d_hidden, d_weight) = &results[0];
            let w: Vec<f64> = weight.iter().map(|v| f64::from(*v)).collect();
            let h: Vec<f64> = hidden.iter().map(|v| f64::from(*v)).collect();
            let want = exact_loss(&w, &h, &targets, softcap);
            assert!((f64::from_bits(*loss) - want).abs() < 1e-5 * want);
            let step = 1e-5;
            let moved = |values: &[f64], i: usize, by: f64| {
                let mut moved = values.to_vec();
                moved[i] += by;
                moved
            };
            let places: Vec<usize> = (0..w.len()).step_by(17).collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| {
                    let at = |by| exact_loss(&moved(&w, i, by), &h, &targets, softcap);
                    (1.0 + (at(step) - at(-step)) / (2.0 * step)) as f32
                })
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_weight[i]).collect();
            close("d_weight", &analytic, &numeric, 2e-5);
            let places: Vec<usize> = (0..WIDTH)
                .flat_map(|c| [0, 1, 2, 159, 328, 329].map(|n| c * 336 + n))
                .collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| {
                    let at = |by| exact_loss(&w, &moved(&h, i, by), &targets, softcap);
                    ((at(step) - at(-step)) / (2.0 * step)) as f32
                })
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_hidden[i]).collect();
            close("d_hidden", &analytic, &numeric, 2e-5);
        }
    }

    #[test]
    fn scores_agree_with_double_precision() {
        let (weight, hidden, targets) = case();
        let w: Vec<f64> = weight.iter().map(|v| f64::from(*v)).collect();
        let h: Vec<f64> = hidden.iter().map(|v| f64::from(*v)).collect();
        for softcap in [None, Some(1.5)] {
            let head = Head {
                weight: &weight,
                width: WIDTH,
                softcap,
            };
            let mut scores = Vec::new();
            score(head, &hidden, 336, &targets, &mut scores, &mut Vec::new());
            assert_eq!(scores.len(), targets.len());
            for (s, t) in scores.iter().zip(&targets) {
                let z = exact_logits(&w, &h, t.lane, softcap);
                let sum: f64 = z.iter().map(|z| z.exp()).sum();
                let p: Vec<f64> = z.iter().map(|z| z.exp() / sum).collect();
                let entropy: f64 = -p.iter().map(|p| p * p.ln()).sum::<f64>();
                let varentropy =
                    p.iter().map(|p| p * p.ln().powi(2)).sum::<f64>() - entropy * entropy;
                let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 2e-5 * (1.0 + b.abs());
                assert!(near(s.logprob, p[t.token as usize].ln()), "{s:?}");
                assert!(
                    near(s.entropy, entropy) && near(s.varentropy, varentropy),
                    "{s:?} {entropy} {varentropy}"
                );
                assert!(near(s.sum_p2, p.iter().map(|p| p * p).sum()));
                let target = z[t.token as usize];
                assert_eq!(
                    s.rank as usize,
                    1 + z.iter().filter(|z| **z > target + 1e-6).count()
                );
            }
        }
    }

    #[test]
    fn equal_logits_share_the_best_rank() {
        let head = Head {
            weight: &[0.0; 5],
            width: 1,
            softcap: None,
        };
        let mut scores = Vec::new();
        let target = Target {
            lane: 0,
            token: 4,
            weight: 1.0,
        };
        score(
            head,
            &[1.0; 16],
            16,
            &[target],
            &mut scores,
            &mut Vec::new(),
        );
        assert_eq!(scores[0].rank, 1);
        assert!((scores[0].entropy - 5f32.ln()).abs() < 1e-6 && scores[0].varentropy < 1e-6);
    }

    #[test]
    fn a_diverged_state_shows_in_the_score() {
        let head = Head {
            weight: &[1.0, 2.0],
            width: 1,
            softcap: None,
        };
        let mut scores = Vec::new();
        let target = Target {
            lane: 0,
            token: 0,
            weight: 1.0,
        };
        score(
            head,
            &[f32::NAN; 16],
            16,
            &[target],
            &mut scores,
            &mut Vec::new(),
        );
        assert!(scores[0].logprob.is_nan());
    }
}
