//! Scores of given targets: log-probability, rank and the shape of the distribution.

use pulp::{Arch, Simd, WithSimd};

use super::{Head, SUM_ROWS, Target, cap, largest};
use crate::ops::arithmetic::{Arithmetic, Steps, WithArithmetic};
use crate::ops::cpu::Cpu;
use crate::ops::math::exp;
use crate::ops::packed::OperandB;
use crate::ops::product::k_block;
use crate::ops::{aligned, lanes, leading_dim, take};

/// The token that came, under the distribution at its position.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
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

/// Positions that are scored at once: the weight is read once for all of them.
const SCORED: usize = 512;

impl Cpu<'_> {
    /// Scores of given targets.
    ///
    /// - `hidden`: (C, T) lanes of leading dimension `ld`, after the last norm
    /// - `scores`: one a target, overwritten
    /// - `top`: the `n_top` most probable tokens (at most V) of each target's place with their
    ///   log-probabilities, the first choice first, of equal ones those of lower ids; overwritten
    pub(crate) fn score(
        &mut self,
        head: Head<'_>,
        (hidden, ld): (&[f32], usize),
        targets: &[Target],
        scores: &mut Vec<TargetScore>,
        (n_top, top): (usize, &mut Vec<(u32, f32)>),
    ) {
        let scratch = &mut self.workspace.scratch[0];
        scores.clear();
        top.clear();
        let (vocab, width) = (head.vocab(), head.width);
        let most_targets = SCORED.min(targets.len());
        let (chunk, rows) = (leading_dim(most_targets), SCORED_ROWS.min(vocab));
        // The products' own scratch, beside what is held here.
        let mut held = std::mem::take(scratch);
        for targets in targets.chunks(most_targets.max(1)) {
            let n = lanes(targets.len());
            let mut rest = aligned(&mut held, (width + rows + SUMS + 3) * chunk);
            let gathered = take(&mut rest, width * chunk);
            let logits = take(&mut rest, rows * chunk);
            let [target, totals, most] = [1, SUMS + 1, 1].map(|k| take(&mut rest, k * chunk));
            head.gather(gathered, chunk, hidden, ld, targets);
            head.factors.dispatch(OwnLogits {
                head,
                hidden: gathered,
                chunk,
                targets,
                logits: target,
            });
            let listed = top.len();
            top.resize(listed + targets.len() * n_top, (0, f32::NEG_INFINITY));
            let top = &mut top[listed..];
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
                if n_top > 0 {
                    let ids = first as u32..;
                    for (id, row) in ids.zip(logits.chunks_exact(chunk)) {
                        list_largest(id, &row[..targets.len()], top, n_top);
                    }
                }
            }
            scores.extend((0..targets.len()).map(|i| {
                let [e, et, ett, ee, above, most] = std::array::from_fn(|s| totals[s * chunk + i]);
                let (log_sum, mean) = (e.ln(), et / e);
                for (_, z) in &mut top[i * n_top..][..n_top] {
                    *z = *z - most - log_sum;
                }
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
}

/// Puts a token into the lists of those whose logits are the largest so far, `n_top` for each lane
/// in falling order.
fn list_largest(id: u32, logits: &[f32], top: &mut [(u32, f32)], n_top: usize) {
    for (&z, list) in logits.iter().zip(top.chunks_exact_mut(n_top)) {
        if z > list[n_top - 1].1 {
            let place = list.partition_point(|other| other.1 >= z);
            list[place..].rotate_right(1);
            list[place] = (id, z);
        }
    }
}

/// The targets' own logits, with the bits that the product gives: the same steps in the same
/// blocks. Ranks compare with them.
struct OwnLogits<'a> {
    head: Head<'a>,
    hidden: &'a [f32],
    chunk: usize,
    targets: &'a [Target],
    logits: &'a mut [f32],
}

impl WithArithmetic for OwnLogits<'_> {
    #[inline(always)]
    fn with<S: Simd, M: Arithmetic<S>>(self, simd: S, arithmetic: M) {
        let (width, lanes) = (self.head.width, S::F32_LANES);
        let a = self.head.weight.row_major(width);
        let count = width.div_ceil(M::TERMS);
        let steps = Steps {
            first: 0,
            count,
            k: width,
        };
        // Each lane's weights and hidden state, (steps, lanes), and one row of weights.
        let [mut weights, mut hidden] = [(); 2].map(|()| vec![0.0; count * lanes]);
        let mut buffer = vec![0.0; count];
        for (v, targets) in self.targets.chunks(lanes).enumerate() {
            let b = OperandB::RowMajor(self.hidden, self.chunk);
            arithmetic.panel(simd, b, steps, (v * lanes, lanes), (&mut hidden, lanes));
            for (lane, t) in targets.iter().enumerate() {
                let rows = (t.token as usize, 1);
                let (row, _) = arithmetic.rows(simd, a, rows, steps, (&mut buffer, count));
                for (weight, value) in weights[lane..].iter_mut().step_by(lanes).zip(row) {
                    *weight = *value;
                }
            }
            let mut terms = S::as_simd_f32s(&weights)
                .0
                .iter()
                .zip(S::as_simd_f32s(&hidden).0);
            let mut total = None;
            for first in (0..count).step_by(k_block(count)) {
                let mut sum = simd.splat_f32s(0.0);
                for (weights, hidden) in terms.by_ref().take(k_block(count).min(count - first)) {
                    sum = arithmetic.mul_add(simd, *weights, *hidden, sum);
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
