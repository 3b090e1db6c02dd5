//! Projection to the vocabulary, in chunks. What is asked of the logits is beside it: [`loss`] and
//! its gradients, [`scores`] of given tokens, the [`logits`] themselves.
//!
//! Only positions with a target are projected, [`chunk_lanes`] of them at a time, and the logits
//! of a chunk are gone before the next: nothing of size T × V exists. Within a chunk positions
//! are lanes, so every sum over the vocabulary is vertical.

use pulp::{Arch, Simd, WithSimd};

use super::arithmetic::Factors;
use super::math::tanh;
use super::operand::{Stored, StoredOperand};
use super::packed::{OperandB, multiply_alone, packs, workspace_alone};
use super::product::{Accumulate, Product, multiply};
use super::{LINE, lanes};

pub(crate) mod logits;
pub(crate) mod loss;
pub(crate) mod scores;

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

/// The output projection.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    /// (V, C).
    pub(crate) weight: Stored<'a>,
    pub(crate) width: usize,
    /// c tanh(logit / c).
    pub(crate) softcap: Option<f32>,
    /// Of the products with it.
    pub(crate) factors: Factors,
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
        workspace(
            self.factors,
            (rows, n, self.width),
            self.weight.row_major(self.width),
        )
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
            self.factors,
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
fn workspace(factors: Factors, size: (usize, usize, usize), a: StoredOperand<'_>) -> usize {
    if packs(factors, size) {
        workspace_alone(factors, size, a)
    } else {
        a.workspace(size.0 * size.2)
    }
}

/// A product of one thread, packed where that is worth it.
///
/// - `workspace`: [`workspace`] floats
fn product(
    workspace: &mut [f32],
    factors: Factors,
    size: (usize, usize, usize),
    a: StoredOperand<'_>,
    b: (&[f32], usize),
    out: (&mut [f32], usize),
    accumulate: Accumulate<'_>,
) {
    if packs(factors, size) {
        return multiply_alone(
            workspace,
            factors,
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

const _: () = assert!(LINE * 8 == 128, "chunks are whole lines");

#[cfg(test)]
mod tests;
