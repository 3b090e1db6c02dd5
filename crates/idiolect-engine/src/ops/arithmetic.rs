//! The type in which the large products multiply, and how it lays factors out.
//!
//! A *step* of a sum is what one instruction adds to it: one term of f32, or two of bf16 (see
//! [`bf16`](super::bf16)). Steps take the place of one float, so [`packed`](super::packed) is one
//! product for both types: only packing and the innermost instruction are the type's own.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::bf16::Bf16Unit;
use super::operand::{StoredOperand, widen_all};
use super::packed::OperandB;
use super::transpose::transpose;

/// The type of the factors of a model's large products: the three of every linear map, and those
/// with the vocabulary's matrix. Their sums, and every other operation, are f32 with either.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Factors {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bf16 (nearest, ties to even) where they are packed; values stored in bf16 are taken
    /// as they are.
    Bf16(Bf16Unit),
}

impl Factors {
    /// bf16, where this machine multiplies it.
    pub(crate) fn bf16() -> Option<Self> {
        Bf16Unit::detect().map(Self::Bf16)
    }

    /// Runs an operation with this type's arithmetic on the machine's vector unit.
    pub(super) fn dispatch<Op: WithArithmetic>(self, op: Op) {
        match self {
            Self::F32 => pulp::Arch::new().dispatch(InF32(op)),
            Self::Bf16(unit) => unit.dispatch(op),
        }
    }

    /// Steps of a sum of `k` terms.
    pub(super) fn steps(self, k: usize) -> usize {
        match self {
            Self::F32 => k,
            Self::Bf16(_) => k.div_ceil(2),
        }
    }
}

/// An operation for any arithmetic.
pub(super) trait WithArithmetic {
    fn with<S: Simd, M: Arithmetic<S>>(self, simd: S, arithmetic: M);
}

struct InF32<Op>(Op);

impl<Op: WithArithmetic> WithSimd for InF32<Op> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.with(simd, F32);
    }
}

/// Some steps of a sum of `k` terms.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) k: usize,
}

impl Steps {
    /// The terms of the sum that they add, `of` each but for the last.
    pub(super) fn terms(self, of: usize) -> Range<usize> {
        self.first * of..((self.first + self.count) * of).min(self.k)
    }
}

/// How a type's factors are laid out and multiplied.
pub(super) trait Arithmetic<S: Simd>: Copy {
    /// Terms of a step.
    const TERMS: usize;

    /// sum + a·b in every lane.
    fn mul_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s;

    /// Where `count` rows from `i` on of a row-major A are to be read, and the distance of two:
    /// where they lie, or a buffer that is filled with rows of `width` steps.
    fn rows<'a>(
        self,
        simd: S,
        a: StoredOperand<'a>,
        rows: (usize, usize),
        steps: Steps,
        buffer: (&'a mut [f32], usize),
    ) -> (&'a [f32], usize);

    /// Copies rows from `i` on of a column-major A, (m, k), into panels of 8 rows, (steps, 8) each,
    /// as many as `to` holds; what lies beyond m is left or anything.
    fn columns(self, simd: S, a: StoredOperand<'_>, i: usize, size: (usize, usize), to: &mut [f32]);

    /// Copies `n` columns of B from `j` on into a panel, (steps, wide), with zeros beyond them.
    fn panel(
        self,
        simd: S,
        b: OperandB<'_>,
        steps: Steps,
        columns: (usize, usize),
        panel: (&mut [f32], usize),
    );
}

/// One term a step.
#[derive(Clone, Copy)]
pub(super) struct F32;

impl<S: Simd> Arithmetic<S> for F32 {
    const TERMS: usize = 1;

    #[inline(always)]
    fn mul_add(self, simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_f32s(a, b, sum)
    }

    #[inline(always)]
    fn rows<'a>(
        self,
        _: S,
        a: StoredOperand<'a>,
        (i, count): (usize, usize),
        steps: Steps,
        (buffer, width): (&'a mut [f32], usize),
    ) -> (&'a [f32], usize) {
        let halves = match a {
            StoredOperand::F32(a) => return a.at(i, steps.first),
            StoredOperand::Bf16(halves) => halves,
        };
        let rows = halves.values[i * halves.ld..].chunks(halves.ld);
        for (to, row) in buffer.chunks_exact_mut(width).zip(rows).take(count) {
            widen_all(&row[steps.first..][..steps.count], to);
        }
        (buffer, width)
    }

    #[inline(always)]
    fn columns(self, _: S, a: StoredOperand<'_>, i: usize, size: (usize, usize), to: &mut [f32]) {
        a.pack(i, size, to);
    }

    #[inline(always)]
    fn panel(
        self,
        _: S,
        b: OperandB<'_>,
        steps: Steps,
        (j, n): (usize, usize),
        (panel, wide): (&mut [f32], usize),
    ) {
        match b {
            OperandB::RowMajor(values, ld) => {
                let rows = panel.chunks_exact_mut(wide).take(steps.count);
                for (k, to) in (steps.first..).zip(rows) {
                    let from = &values[k * ld + j..][..n];
                    if n == wide {
                        to.copy_from_slice(from);
                    } else {
                        to[..n].copy_from_slice(from);
                        to[n..].fill(0.0);
                    }
                }
            }
            OperandB::ColMajor(values, ld) => {
                if n < wide {
                    panel.fill(0.0);
                }
                let from = (&values[j * ld + steps.first..], ld);
                transpose((n, steps.count), from, (panel, wide));
            }
        }
    }
}
