//! Projection to the vocabulary with what is asked of the logits: a loss and its gradients, or
//! the scores of given tokens.
//!
//! Only positions with a target are projected, [`chunk_lanes`] of them at a time, and the logits
//! of a chunk are gone before the next: nothing of size T × V exists. Within a chunk positions
//! are lanes, so every sum over the vocabulary is vertical.

use std::sync::{Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};

use super::math::{exp, tanh};
use super::operand::OperandA;
use super::operand::{Stored, StoredOperand};
use super::packed::{OperandB, multiply_alone, packs, workspace_alone};
use super::product::{Accumulate, Product, k_block, multiply};
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

/// The token that came, under the distribution at its position.
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
    pub(crate) weight: Stored<'a>,
    pub(crate) width: usize,
    /// c tanh(logit / c).
    pub(crate) softcap: Option<f32>,
}

/// Positions of one chunk: enough that the weight and its gradient are not read and written more
/// often than it takes to compute with them, and no more logits at once than 96 MiB.
pub(crate) fn chunk_lanes(vocab: usize) -> usize {
    if vocab <= 8192 {
        128
    } else {
        ((24 << 20) / vocab / LINE * LINE).clamp(64, 512)
    }
}

/// Rows of the vocabulary that are worked on while they are in the caches.
const ROWS: usize = 512;

/// Parts of the vocabulary that each sum their own gradient of the hidden states, so that threads
/// have a part each; the sums are then added in order. Fixed, as the bits depend on it.
const PARTS: usize = 16;

/// Rows of logits whose sums are separate, so that f32 sums over a large vocabulary stay exact
/// to a few units in the last place, and which stay in the second cache between two passes.
const SUM_ROWS: usize = 64;

impl Head<'_> {
    fn vocab(&self) -> usize {
        self.weight.len() / self.width
    }

    /// Gathers the targets' hidden states into lanes (C, chunk), zeros beyond.
    fn gather(&self, to: &mut [f32], chunk: usize, hidden: &[f32], ld: usize, targets: &[Target]) {
        for (to, row) in to.chunks_exact_mut(chunk).zip(hidden.chunks_exact(ld)) {
            for (value, t) in to.iter_mut().zip(targets) {
                *value = row[t.lane];
            }
            to[targets.len()..].fill(0.0);
        }
    }

    /// Floats that [`logits`](Self::logits) of so many rows works in.
    fn workspace(&self, rows: usize, n: usize) -> usize {
        workspace((rows, n, self.width), self.weight.row_major(self.width))
    }

    /// (rows, n) at `chunk` = W h for the rows of the vocabulary from `first` on, then the cap.
    fn logits(
        &self,
        workspace: &mut [f32],
        (logits, chunk): (&mut [f32], usize),
        first: usize,
        hidden: &[f32],
        n: usize,
    ) {
        let size = (logits.len() / chunk, lanes(n), self.width);
        let a = self.weight.skip(first * self.width).row_major(self.width);
        product(
            workspace,
            size,
            a,
            (hidden, chunk),
            (logits, chunk),
            Accumulate::Nothing,
        );
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
        let c = (simd.splat_f32s(self.1), simd.splat_f32s(1.0 / self.1));
        for z in S::as_mut_simd_f32s(self.0).0 {
            *z = cap(simd, *z, c);
        }
    }
}

/// c tanh(z / c), given c and 1/c.
#[inline(always)]
fn cap<S: Simd>(simd: S, z: S::f32s, (c, inverse): (S::f32s, S::f32s)) -> S::f32s {
    simd.mul_f32s(c, tanh(simd, simd.mul_f32s(z, inverse)))
}

/// Floats that [`product`] works in.
fn workspace(size: (usize, usize, usize), a: StoredOperand<'_>) -> usize {
    if packs(size) {
        workspace_alone(size, a)
    } else {
        a.workspace(size.0 * size.2)
    }
}

/// A product of one thread, packed where that is worth it.
///
/// - `workspace`: [`workspace`] floats
fn product(
    workspace: &mut [f32],
    size: (usize, usize, usize),
    a: StoredOperand<'_>,
    b: (&[f32], usize),
    out: (&mut [f32], usize),
    accumulate: Accumulate<'_>,
) {
    if packs(size) {
        return multiply_alone(
            workspace,
            size,
            a,
            OperandB::RowMajor(b.0, b.1),
            out,
            accumulate,
        );
    }
    multiply(Product {
        size,
        a: a.widened((size.0, size.2), workspace),
        b,
        c: out,
        accumulate,
    });
}

/// The largest of some rows of logits in each lane.
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
    pub(crate) buffer: &'a mut super::Buffer,
}

impl LossAndGradients<'_> {
    /// Computes all of it, chunk after chunk of positions; threads share the vocabulary.
    pub(crate) fn run(self, threads: &Threads, scratch: &mut [Vec<f32>]) -> f64 {
        let Self {
            head,
            hidden,
            ld,
            targets,
            d_hidden,
            d_weight,
            logprobs,
            buffer,
        } = self;
        let (vocab, width) = (head.vocab(), head.width);
        let most_targets = chunk_lanes(vocab);
        let (chunk, tokens) = (super::leading_dim(most_targets), super::leading_dim(width));
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
            super::clear_beyond(&mut states[..targets.len() * tokens], width, tokens);
            let (gathered, states) = (&*gathered, &*states);
            threads.for_chunks(
                blocks,
                [(&mut *logits, ROWS * chunk), (&mut *stats, 2 * chunk)],
                scratch,
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
            threads.for_chunks(
                parts,
                [
                    (&mut *logits, part * chunk),
                    (&mut *d_parts, width * chunk),
                    (&mut *d_weight, part * width),
                ],
                scratch,
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
                                aligned(scratch, workspace(size, a)),
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
                            aligned(scratch, workspace(size, a)),
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

/// Positions that are scored at once: the weight is read once for all of them.
const SCORED: usize = 512;

/// Scores of given targets.
///
/// - `hidden`: (C, T) lanes of leading dimension `ld`, after the last norm
/// - `scores`: one a target, overwritten
pub(crate) fn score(
    head: Head<'_>,
    hidden: &[f32],
    ld: usize,
    targets: &[Target],
    scores: &mut Vec<TargetScore>,
    scratch: &mut Vec<f32>,
) {
    scores.clear();
    let (vocab, width) = (head.vocab(), head.width);
    let most_targets = SCORED.min(targets.len());
    let (chunk, rows) = (super::leading_dim(most_targets), SCORED_ROWS.min(vocab));
    // The products' own scratch, beside what is held here.
    let mut held = std::mem::take(scratch);
    for targets in targets.chunks(most_targets.max(1)) {
        let n = lanes(targets.len());
        let mut rest = aligned(&mut held, (width + rows + SUMS + 3) * chunk);
        let gathered = take(&mut rest, width * chunk);
        let logits = take(&mut rest, rows * chunk);
        let [target, totals, most] = [1, SUMS + 1, 1].map(|k| take(&mut rest, k * chunk));
        head.gather(gathered, chunk, hidden, ld, targets);
        Arch::new().dispatch(OwnLogits {
            head,
            hidden: gathered,
            chunk,
            targets,
            logits: target,
        });
        for first in (0..vocab).step_by(rows) {
            let logits = &mut logits[..rows.min(vocab - first) * chunk];
            let workspace = aligned(scratch, head.workspace(logits.len() / chunk, n));
            head.logits(workspace, (&mut *logits, chunk), first, gathered, n);
            Arch::new().dispatch(Score {
                logits,
                chunk,
                n,
                target,
                totals,
                most,
                first: first == 0,
            });
        }
        scores.extend((0..targets.len()).map(|i| {
            let [e, et, ett, ee, above, most] = std::array::from_fn(|s| totals[s * chunk + i]);
            let (log_sum, mean) = (e.ln(), et / e);
            TargetScore {
                logprob: target[i] - most - log_sum,
                rank: 1 + above as u32,
                entropy: (log_sum - mean).max(0.0),
                varentropy: (ett / e - mean * mean).max(0.0),
                sum_p2: ee / (e * e),
            }
        }));
    }
    // The larger of the two is kept.
    if held.len() > scratch.len() {
        *scratch = held;
    }
}

/// The targets' own logits, with the bits that the product gives: the same terms in the same
/// blocks. Ranks compare with them.
struct OwnLogits<'a> {
    head: Head<'a>,
    hidden: &'a [f32],
    chunk: usize,
    targets: &'a [Target],
    logits: &'a mut [f32],
}

impl WithSimd for OwnLogits<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let width = self.head.width;
        let lanes = S::F32_LANES;
        for (v, targets) in self.targets.chunks(lanes).enumerate() {
            let mut total = None;
            for k0 in (0..width).step_by(k_block(width)) {
                let mut sum = simd.splat_f32s(0.0);
                for k in k0..width.min(k0 + k_block(width)) {
                    let mut weights = [0.0; LINE];
                    for (w, t) in weights.iter_mut().zip(targets) {
                        *w = self.head.weight.get(t.token as usize * width + k);
                    }
                    let weights = simd.partial_load_f32s(&weights[..lanes]);
                    let hidden = S::as_simd_f32s(&self.hidden[k * self.chunk..]).0[v];
                    sum = simd.mul_add_f32s(weights, hidden, sum);
                }
                total = Some(total.map_or(sum, |total| simd.add_f32s(total, sum)));
            }
            let mut z = total.unwrap_or(simd.splat_f32s(0.0));
            if let Some(c) = self.head.softcap {
                z = cap(simd, z, (simd.splat_f32s(c), simd.splat_f32s(1.0 / c)));
            }
            S::as_mut_simd_f32s(&mut self.logits[v * lanes..]).0[0] = z;
        }
    }
}

/// Rows of the vocabulary that are projected and folded at a time.
const SCORED_ROWS: usize = 512;

/// Σe, Σet, Σet², Σe², and how many logits exceed the target's, with t = z − largest, e = e^t.
const SUMS: usize = 5;

/// Folds some rows of logits into the totals: the [`SUMS`] and then the largest, a chunk each.
struct Score<'a> {
    logits: &'a [f32],
    chunk: usize,
    /// Lanes that count, whole lines.
    n: usize,
    target: &'a [f32],
    totals: &'a mut [f32],
    /// One chunk.
    most: &'a mut [f32],
    /// Whether the totals begin here.
    first: bool,
}

impl WithSimd for Score<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            logits,
            chunk,
            n,
            target,
            totals,
            most: block_most,
            mut first,
        } = self;
        for block in logits.chunks(SUM_ROWS * chunk) {
            largest(simd, block, chunk, &mut block_most[..n]);
            for at in (0..n).step_by(S::F32_LANES) {
                let most = S::as_simd_f32s(&block_most[at..]).0[0];
                let target = S::as_simd_f32s(&target[at..]).0[0];
                let part = score_sums(simd, block, chunk, at, most, target);
                let entry = |s: usize| s * chunk + at;
                if first {
                    for (s, part) in part.into_iter().enumerate() {
                        S::as_mut_simd_f32s(&mut totals[entry(s)..]).0[0] = part;
                    }
                    S::as_mut_simd_f32s(&mut totals[entry(SUMS)..]).0[0] = most;
                    continue;
                }
                let total = std::array::from_fn(|s| S::as_simd_f32s(&totals[entry(s)..]).0[0]);
                let old = S::as_simd_f32s(&totals[entry(SUMS)..]).0[0];
                let larger = simd.max_f32s(old, most);
                let a = rebased(simd, total, simd.sub_f32s(old, larger));
                let b = rebased(simd, part, simd.sub_f32s(most, larger));
                for s in 0..SUMS {
                    S::as_mut_simd_f32s(&mut totals[entry(s)..]).0[0] = simd.add_f32s(a[s], b[s]);
                }
                S::as_mut_simd_f32s(&mut totals[entry(SUMS)..]).0[0] = larger;
            }
            first = false;
        }
    }
}

/// The [`SUMS`] when the largest logit that they refer to moves up by −`shift`.
#[inline(always)]
fn rebased<S: Simd>(
    simd: S,
    [e, et, ett, ee, above]: [S::f32s; SUMS],
    shift: S::f32s,
) -> [S::f32s; SUMS] {
    let factor = exp(simd, shift);
    // e^(t + s) (t + s)ⁿ, multiplied out.
    let moved = simd.mul_add_f32s(shift, e, et);
    let twice = simd.add_f32s(moved, et);
    [
        simd.mul_f32s(factor, e),
        simd.mul_f32s(factor, moved),
        simd.mul_f32s(factor, simd.mul_add_f32s(shift, twice, ett)),
        simd.mul_f32s(simd.mul_f32s(factor, factor), ee),
        above,
    ]
}

/// The [`SUMS`] over some rows, for the lanes from `at` on.
#[inline(always)]
fn score_sums<S: Simd>(
    simd: S,
    rows: &[f32],
    chunk: usize,
    at: usize,
    most: S::f32s,
    target: S::f32s,
) -> [S::f32s; SUMS] {
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
const LOGIT_ROWS: usize = 256;

/// Logits of some lanes, (columns, V) row by row, for sampling.
pub(crate) fn all_logits(
    head: Head<'_>,
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    hidden: &[f32],
    ld: usize,
    columns: &[usize],
    out: &mut Vec<f32>,
) {
    let (vocab, width) = (head.vocab(), head.width);
    let chunk = super::leading_dim(columns.len().clamp(1, chunk_lanes(vocab)));
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
        head.gather(gathered, chunk, hidden, ld, &targets);
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
            let workspace = head.workspace(rows, lanes(n));
            let mut rest = aligned(scratch, LOGIT_ROWS * (chunk + n) + workspace);
            let workspace = take(&mut rest, workspace);
            let logits = &mut take(&mut rest, LOGIT_ROWS * chunk)[..rows * chunk];
            head.logits(workspace, (&mut *logits, chunk), first, gathered, n);
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
                        weight: Stored::F32(&weight),
                        width: WIDTH,
                        softcap,
                    },
                    hidden: &hidden,
                    ld: 336,
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
                weight: Stored::F32(&weight),
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
            weight: Stored::F32(&[0.0; 5]),
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
            weight: Stored::F32(&[1.0, 2.0]),
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
