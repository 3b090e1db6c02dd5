//! The loss of given targets and its gradients; threads share the vocabulary.

use pulp::{Arch, Simd, WithSimd};

use super::{Head, SUM_ROWS, Target, chunk_lanes, largest, product, workspace};
use crate::ops::cpu::Cpu;
use crate::ops::math::exp;
use crate::ops::operand::OperandA;
use crate::ops::product::Accumulate;
use crate::ops::transpose::transpose;
use crate::ops::{Buffer, aligned, clear_beyond, lanes, leading_dim, take};

/// Rows of the vocabulary that are worked on while they are in the caches.
const ROWS: usize = 512;

/// Parts of the vocabulary that each sum their own gradient of the hidden states, so that threads
/// have a part each; the sums are then added in order. Fixed, as the bits depend on it.
const PARTS: usize = 16;

/// Largest logit and Σ e^(z − largest) of each lane, over some rows of the vocabulary.
struct Normaliser<'a> {
    logits: &'a [f32],
    chunk: usize,
    /// Lanes that count, whole lines.
    n: usize,
    /// 2 chunks, overwritten: the largest, the sum.
    stats: &'a mut [f32],
    /// 2 chunks.
    scratch: &'a mut [f32],
}

impl WithSimd for Normaliser<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            logits,
            chunk,
            n,
            stats,
            scratch,
        } = self;
        let (most, sum) = scratch.split_at_mut(chunk);
        let (most, sum) = (&mut most[..n], &mut sum[..n]);
        for (i, block) in logits.chunks(SUM_ROWS * chunk).enumerate() {
            largest(simd, block, chunk, most);
            sum.fill(0.0);
            for row in block.chunks_exact(chunk) {
                let values = S::as_simd_f32s(&row[..n]).0.iter();
                let (most, sum) = (S::as_simd_f32s(most).0, S::as_mut_simd_f32s(sum).0);
                for ((z, m), s) in values.zip(most).zip(sum) {
                    *s = simd.add_f32s(*s, exp(simd, simd.sub_f32s(*z, *m)));
                }
            }
            if i == 0 {
                stats[..n].copy_from_slice(most);
                stats[chunk..chunk + n].copy_from_slice(sum);
            } else {
                merge(simd, stats, chunk, (most, sum));
            }
        }
    }
}

/// Adds one more normaliser to that in `stats`.
#[inline(always)]
fn merge<S: Simd>(simd: S, stats: &mut [f32], chunk: usize, (most, sum): (&[f32], &[f32])) {
    let (m, s) = stats.split_at_mut(chunk);
    let (m, s) = (&mut m[..most.len()], &mut s[..most.len()]);
    let old = S::as_mut_simd_f32s(m)
        .0
        .iter_mut()
        .zip(S::as_mut_simd_f32s(s).0);
    let more = S::as_simd_f32s(most).0.iter().zip(S::as_simd_f32s(sum).0);
    for ((m, s), (most, sum)) in old.zip(more) {
        let larger = simd.max_f32s(*m, *most);
        let kept = exp(simd, simd.sub_f32s(*m, larger));
        let fresh = exp(simd, simd.sub_f32s(*most, larger));
        *s = simd.mul_add_f32s(*s, kept, simd.mul_f32s(*sum, fresh));
        *m = larger;
    }
}

/// Merges the normalisers of all blocks, each 2 chunks, into the first.
struct MergeAll<'a>(&'a mut [f32], usize, usize);

impl WithSimd for MergeAll<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(stats, chunk, n) = self;
        let (first, rest) = stats.split_at_mut(2 * chunk);
        for block in rest.chunks_exact(2 * chunk) {
            merge(simd, first, chunk, (&block[..n], &block[chunk..chunk + n]));
        }
    }
}

/// Logits become p · factor · cap'.
struct Gradient<'a> {
    softcap: Option<f32>,
    logits: &'a mut [f32],
    chunk: usize,
    /// Largest logit of each lane, and weight / Σ e^(z − largest).
    most: &'a [f32],
    factors: &'a [f32],
}

impl WithSimd for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = self.most.len();
        for row in self.logits.chunks_exact_mut(self.chunk) {
            let row = S::as_mut_simd_f32s(&mut row[..n]).0;
            let scales = S::as_simd_f32s(self.most)
                .0
                .iter()
                .zip(S::as_simd_f32s(self.factors).0);
            for (z, (m, f)) in row.iter_mut().zip(scales) {
                let p = simd.mul_f32s(exp(simd, simd.sub_f32s(*z, *m)), *f);
                *z = match self.softcap {
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

/// The loss of given targets, and its gradients.
///
/// - `hidden`: (C, T) lanes of leading dimension `ld`, after the last norm
/// - `d_hidden`: (C, T) lanes, overwritten: 0 where no target is
/// - `d_weight`: (V, C), accumulated into; or empty for a head that does not train
/// - `logprobs`: one a target, overwritten
///
/// Returns −Σ weight · logprob in f64. With p = softmax(cap(W h)):
/// d_z = weight (p − onehot) cap',  d_h = Wᵀ d_z,  d_W += d_z hᵀ.
pub(crate) struct LossAndGradients<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) hidden: &'a [f32],
    pub(crate) ld: usize,
    pub(crate) targets: &'a [Target],
    pub(crate) d_hidden: &'a mut [f32],
    pub(crate) d_weight: &'a mut [f32],
    pub(crate) logprobs: &'a mut [f32],
    pub(crate) buffer: &'a mut Buffer,
}

impl Cpu<'_> {
    /// Computes all of it, chunk after chunk of positions; threads share the vocabulary.
    pub(crate) fn loss_and_gradients(&mut self, op: LossAndGradients<'_>) -> f64 {
        let LossAndGradients {
            head,
            hidden,
            ld,
            targets,
            d_hidden,
            d_weight,
            logprobs,
            buffer,
        } = op;
        let (vocab, width) = (head.vocab(), head.width);
        let most_targets = chunk_lanes(vocab);
        let (chunk, tokens) = (leading_dim(most_targets), leading_dim(width));
        let blocks = vocab.div_ceil(ROWS);
        let part = blocks.div_ceil(PARTS) * ROWS;
        let parts = vocab.div_ceil(part);
        let sizes = [
            vocab * chunk,
            width * chunk,
            most_targets * tokens,
            parts * width * chunk,
            blocks * 2 * chunk,
        ];
        let size = sizes.iter().sum();
        buffer.reserve(size);
        let mut rest = buffer.get_mut(size);
        let [logits, gathered, states, d_parts, stats] = sizes.map(|size| take(&mut rest, size));
        let frozen = d_weight.is_empty();
        d_hidden.fill(0.0);
        for (targets, logprobs) in targets
            .chunks(most_targets)
            .zip(logprobs.chunks_mut(most_targets))
        {
            let n = lanes(targets.len());
            head.gather(gathered, chunk, hidden, ld, targets);
            transpose((width, targets.len()), (gathered, chunk), (states, tokens));
            clear_beyond(&mut states[..targets.len() * tokens], width, tokens);
            let (gathered, states) = (&*gathered, &*states);
            self.for_chunks(
                blocks,
                [(&mut *logits, ROWS * chunk), (&mut *stats, 2 * chunk)],
                |block, [logits, stats], scratch| {
                    let workspace = aligned(scratch, head.workspace(logits.len() / chunk, n));
                    head.logits(workspace, (&mut *logits, chunk), block * ROWS, gathered, n);
                    Arch::new().dispatch(Normaliser {
                        logits,
                        chunk,
                        n,
                        stats,
                        scratch: aligned(scratch, 2 * chunk),
                    });
                },
            );
            Arch::new().dispatch(MergeAll(stats, chunk, n));
            let (most, factors) = stats[..2 * chunk].split_at_mut(chunk);
            // What is taken from the gradient where the token that came is.
            let mut taken = Vec::with_capacity(targets.len());
            for (i, (t, logprob)) in targets.iter().zip(logprobs).enumerate() {
                let z = logits[t.token as usize * chunk + i];
                *logprob = z - most[i] - factors[i].ln();
                factors[i] = t.weight / factors[i];
                let slope = head.softcap.map_or(1.0, |c| 1.0 - (z / c) * (z / c));
                taken.push(t.weight * slope);
            }
            // Lanes beyond the targets carry no gradient.
            factors[targets.len()..].fill(0.0);
            let (most, factors) = (&most[..n], &factors[..n]);
            self.for_chunks(
                parts,
                [
                    (&mut *logits, part * chunk),
                    (&mut *d_parts, width * chunk),
                    (&mut *d_weight, part * width),
                ],
                |p, [logits, d_part, d_weight], scratch| {
                    for (block, logits) in logits.chunks_mut(ROWS * chunk).enumerate() {
                        let first = p * part + block * ROWS;
                        let rows = logits.len() / chunk;
                        Arch::new().dispatch(Gradient {
                            softcap: head.softcap,
                            logits: &mut *logits,
                            chunk,
                            most,
                            factors,
                        });
                        for (i, (t, taken)) in targets.iter().zip(&taken).enumerate() {
                            if let Some(row) = (t.token as usize).checked_sub(first)
                                && row < rows
                            {
                                logits[row * chunk + i] -= taken;
                            }
                        }
                        if !frozen {
                            let size = (rows, width, targets.len());
                            let a = OperandA::row_major(logits, chunk).into();
                            product(
                                aligned(scratch, workspace(head.factors, size, a)),
                                head.factors,
                                size,
                                a,
                                (states, tokens),
                                (&mut d_weight[block * ROWS * width..], width),
                                Accumulate::Output,
                            );
                        }
                        let size = (width, n, rows);
                        let a = head.weight.skip(first * width).col_major(width);
                        product(
                            aligned(scratch, workspace(head.factors, size, a)),
                            head.factors,
                            size,
                            a,
                            (logits, chunk),
                            (&mut *d_part, chunk),
                            if block == 0 {
                                Accumulate::Nothing
                            } else {
                                Accumulate::Output
                            },
                        );
                    }
                },
            );
            let d_parts = &*d_parts;
            for (c, row) in d_hidden.chunks_exact_mut(ld).enumerate() {
                for (i, t) in targets.iter().enumerate() {
                    let at = c * chunk + i;
                    row[t.lane] = d_parts.iter().skip(at).step_by(width * chunk).sum();
                }
            }
        }
        -weighted_sum(targets, logprobs)
    }
}

/// Σ weight · logprob in f64.
fn weighted_sum(targets: &[Target], logprobs: &[f32]) -> f64 {
    targets
        .iter()
        .zip(logprobs)
        .map(|(t, l)| f64::from(t.weight) * f64::from(*l))
        .sum()
}
