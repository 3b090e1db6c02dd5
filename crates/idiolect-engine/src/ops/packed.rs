//! The product of [`product`](super::product) for factors that do not fit the caches, on all
//! threads.
//!
//! A task is a block of columns by a block of rows of C. It copies its block of B into panels of
//! one tile's width, so that the innermost loop reads memory in order (a row of B is a page away
//! from the next, and a page table's cache holds few), small enough to stay in the second-level
//! cache while every row of A passes by; of A eight rows at a time stay in the first. Rows of A
//! are read where they lie; a transposed A is copied likewise, sixteen rows at a time. The bits are
//! those of the unpacked product: the same sums in the same order.
#![expect(
    unsafe_code,
    reason = "tasks write disjoint blocks of one matrix, and run tiles on packed panels"
)]

use std::ops::Range;

use pulp::Simd;

use super::arithmetic::{Arithmetic, Factors, Steps, WithArithmetic};
use super::cpu::Cpu;
use super::operand::StoredOperand;
use super::product::{Accumulate, Block, k_block};
use super::{LINE, aligned};

/// Floats of a packed block of B: 448 KiB, under half of a second-level cache of 1 MiB.
const BLOCK: usize = 112 << 10;

/// Rows of C that one task computes at least: packing a column of B costs as much as some ten rows
/// of it.
const ROWS: usize = 256;

/// The B operand, (k, n).
#[derive(Clone, Copy)]
pub(crate) enum OperandB<'a> {
    /// Entry (k, n) at k·ld + n.
    RowMajor(&'a [f32], usize),
    /// Entry (k, n) at n·ld + k.
    ColMajor(&'a [f32], usize),
}

impl Cpu<'_> {
    /// C (+)= A·B, shared by the threads.
    ///
    /// - `size`: (m, n, k)
    /// - `out`: (m, n) at a leading dimension
    ///
    /// # Panics
    /// When a slice is shorter than its shape; a programmer mistake.
    pub(crate) fn multiply_packed<'a>(
        &mut self,
        factors: Factors,
        (m, n, k): (usize, usize, usize),
        a: impl Into<StoredOperand<'a>>,
        b: OperandB<'_>,
        (out, ld): (&mut [f32], usize),
        accumulate: Accumulate<'_>,
    ) {
        let a = a.into();
        let Some(matrix) = check((m, n, k), a, b, (out, ld), accumulate) else {
            return;
        };
        let matrix = &matrix;
        // Scratch beyond the self.threads' own, where there is some, holds what they share.
        let mut shared = self
            .workspace
            .scratch
            .get_mut(self.threads.n())
            .map(std::mem::take)
            .unwrap_or_default();
        let steps = factors.steps(k);
        let panels = aligned(&mut shared, a_len(a, m, steps));
        let part = 4 * TALL;
        if a.is_col_major() {
            let parts = [(&mut *panels, part * steps)];
            self.for_chunks(m.div_ceil(part), parts, |i, [to], _| {
                let size = (m, k);
                factors.dispatch(PackColumns {
                    a,
                    i: i * part,
                    size,
                    to,
                });
            });
        }
        let shared_a = Shared::new(a, panels);
        let (column_blocks, columns) = cut_columns(n, k_block(steps), self.threads.n());
        // More blocks of rows than the self.threads ask for would only pack B more often.
        let row_blocks = if column_blocks % self.threads.n() == 0 {
            1
        } else {
            let wanted = (2 * self.threads.n()).div_ceil(column_blocks);
            wanted.min(m.div_ceil(ROWS))
        };
        let rows = m.div_ceil(row_blocks).next_multiple_of(LINE);
        let chunks = column_blocks * m.div_ceil(rows);
        self.for_chunks(chunks, [], |chunk, [], scratch| {
            let (j, i) = (
                chunk % column_blocks * columns,
                chunk / column_blocks * rows,
            );
            factors.dispatch(Task {
                rows: (i, rows.min(m - i)),
                columns: (j, columns.min(n - j)),
                k,
                a: shared_a,
                b,
                matrix,
                packed: aligned(scratch, b_len(columns, steps) + rows_len(factors, a, steps)),
            });
        });
        if let Some(spare) = self.workspace.scratch.get_mut(self.threads.n()) {
            *spare = shared;
        }
    }
}

/// [`Cpu::multiply_packed`] by the calling thread, which may be one of several that have a product
/// each.
///
/// - `workspace`: [`workspace_alone`] floats
///
/// # Panics
/// When a slice is shorter than its shape; a programmer mistake.
pub(crate) fn multiply_alone<'a>(
    workspace: &mut [f32],
    factors: Factors,
    (m, n, k): (usize, usize, usize),
    a: impl Into<StoredOperand<'a>>,
    b: OperandB<'_>,
    (out, ld): (&mut [f32], usize),
    accumulate: Accumulate<'_>,
) {
    let a = a.into();
    let Some(matrix) = check((m, n, k), a, b, (out, ld), accumulate) else {
        return;
    };
    let steps = factors.steps(k);
    let (blocks, columns) = cut_columns(n, k_block(steps), 1);
    let (panels, packed) = workspace.split_at_mut(a_len(a, m, steps));
    if a.is_col_major() {
        let (size, to) = ((m, k), &mut *panels);
        factors.dispatch(PackColumns { a, i: 0, size, to });
    }
    let a = Shared::new(a, panels);
    for j in (0..blocks).map(|block| block * columns) {
        factors.dispatch(Task {
            rows: (0, m),
            columns: (j, columns.min(n - j)),
            k,
            a,
            b,
            matrix: &matrix,
            packed,
        });
    }
}

/// Floats that [`multiply_alone`] works in.
pub(crate) fn workspace_alone(
    factors: Factors,
    (m, n, k): (usize, usize, usize),
    a: StoredOperand<'_>,
) -> usize {
    let steps = factors.steps(k);
    let (_, columns) = cut_columns(n, k_block(steps), 1);
    a_len(a, m, steps) + b_len(columns, steps) + rows_len(factors, a, steps)
}

/// Whether the B operand, (k, n), is packed: in f32 where it is beyond the first caches and enough
/// rows pass by, which changes no result; in bf16 always, which is where it is rounded.
pub(crate) fn packs(factors: Factors, (m, n, k): (usize, usize, usize)) -> bool {
    matches!(factors, Factors::Bf16(_)) || m >= 64 && k * n >= 1 << 16
}

/// C and its base, when all slices are as long as they must be; none without entries.
fn check(
    (m, n, k): (usize, usize, usize),
    a: StoredOperand<'_>,
    b: OperandB<'_>,
    (out, ld): (&mut [f32], usize),
    accumulate: Accumulate<'_>,
) -> Option<Matrix> {
    if m == 0 || n == 0 {
        return None;
    }
    let end = |rows: usize, ld: usize, width: usize| rows.saturating_sub(1) * ld + width;
    a.check(m, k);
    let (values, needed) = match b {
        OperandB::RowMajor(values, ld) => (values, end(k, ld, n)),
        OperandB::ColMajor(values, ld) => (values, end(n, ld, k)),
    };
    assert!(k == 0 || values.len() >= needed, "B operand too short");
    assert!(out.len() >= end(m, ld, n), "output too short");
    let c = out.as_mut_ptr();
    let base = match accumulate {
        Accumulate::Nothing => std::ptr::null(),
        // The address that is written by, since another of the same slice would no longer be valid.
        Accumulate::Output => c.cast_const(),
        Accumulate::Other(other) => {
            assert!(other.len() >= end(m, ld, n), "base too short");
            other.as_ptr()
        }
    };
    Some(Matrix { c, base, ld })
}

/// Floats of the packed A operand.
fn a_len(a: StoredOperand<'_>, m: usize, steps: usize) -> usize {
    if a.is_col_major() {
        m.next_multiple_of(TALL) * steps
    } else {
        0
    }
}

/// Floats of a packed block of the B operand, for vectors of any width.
fn b_len(columns: usize, steps: usize) -> usize {
    columns.next_multiple_of(3 * LINE) * k_block(steps).max(1)
}

/// Floats of the rows of A that are converted at a time.
fn rows_len(factors: Factors, a: StoredOperand<'_>, steps: usize) -> usize {
    match (factors, a) {
        _ if a.is_col_major() => 0,
        (Factors::F32, StoredOperand::F32(_)) => 0,
        _ => TALL * k_block(steps).max(1),
    }
}

/// Blocks of columns, and columns of one: whole lines, shared evenly where there are few.
fn cut_columns(n: usize, k_block: usize, threads: usize) -> (usize, usize) {
    let lines = n.div_ceil(LINE);
    let most = (BLOCK / k_block.max(1) / LINE).max(3);
    let blocks = lines.div_ceil(most);
    let even = blocks.next_multiple_of(threads);
    let blocks = if lines >= 3 * even { even } else { blocks };
    let lines = lines.div_ceil(blocks);
    (n.div_ceil(lines * LINE), lines * LINE)
}

/// C and what is added to.
struct Matrix {
    c: *mut f32,
    base: *const f32,
    ld: usize,
}

// SAFETY: tasks write disjoint blocks of C, and read the same blocks of a base that is C itself or
// that nobody writes.
unsafe impl Sync for Matrix {}

/// Rows of a tile.
pub(super) const TALL: usize = 8;

/// A as the tiles read it.
#[derive(Clone, Copy)]
enum Shared<'a> {
    /// Row-major, where it lies or [`TALL`] rows at a time in a buffer.
    Rows(StoredOperand<'a>),
    /// In panels of [`TALL`] rows, each (steps, TALL).
    Panels(&'a [f32]),
}

impl<'a> Shared<'a> {
    /// A row-major operand as it is, a column-major one as it was packed.
    fn new(a: StoredOperand<'a>, panels: &'a [f32]) -> Self {
        if a.is_col_major() {
            Self::Panels(panels)
        } else {
            Self::Rows(a)
        }
    }
}

/// Packs rows from `i` on of a column-major operand of size (m, k).
struct PackColumns<'a> {
    a: StoredOperand<'a>,
    i: usize,
    size: (usize, usize),
    to: &'a mut [f32],
}

impl WithArithmetic for PackColumns<'_> {
    #[inline(always)]
    fn with<S: Simd, M: Arithmetic<S>>(self, simd: S, arithmetic: M) {
        arithmetic.columns(simd, self.a, self.i, self.size, self.to);
    }
}

struct Task<'a> {
    rows: (usize, usize),
    columns: (usize, usize),
    k: usize,
    a: Shared<'a>,
    b: OperandB<'a>,
    matrix: &'a Matrix,
    packed: &'a mut [f32],
}

impl WithArithmetic for Task<'_> {
    #[inline(always)]
    fn with<S: Simd, M: Arithmetic<S>>(self, simd: S, arithmetic: M) {
        let Self {
            rows: (i0, m),
            columns: (j0, n),
            k,
            a,
            b,
            matrix,
            packed,
        } = self;
        let all = k.div_ceil(M::TERMS);
        let most = k_block(all).max(1);
        let wide = 3 * S::F32_LANES;
        let (packed, buffer) = packed.split_at_mut(n.div_ceil(wide) * wide * most);
        // The lines of C that a tile writes, and the rows of A that the next ones read, come from
        // beyond the second-level cache: the first while it computes, the others while the first
        // panel is multiplied.
        let mut ahead = Vec::new();
        let mut base = matrix.base;
        let mut first = 0;
        while first < all || first == 0 {
            let count = most.min(all - first);
            let steps = Steps { first, count, k };
            for (p, panel) in packed.chunks_exact_mut(wide * most).enumerate() {
                let at = p * wide;
                let columns = (j0 + at, wide.min(n - at));
                arithmetic.panel(simd, b, steps, columns, (panel, wide));
            }
            for i in (0..m).step_by(TALL) {
                let mb = TALL.min(m - i);
                let (tile, lda) = match a {
                    Shared::Rows(a) => {
                        arithmetic.rows(simd, a, (i0 + i, mb), steps, (&mut *buffer, most))
                    }
                    Shared::Panels(panels) => (&panels[(i0 + i) * all + first * TALL..], TALL),
                };
                for (p, panel) in packed.chunks_exact(wide * most).enumerate() {
                    let at = (i0 + i) * matrix.ld + j0 + p * wide;
                    ahead.clear();
                    ahead.extend((0..mb * wide / LINE).map(|line| {
                        let (row, column) = (line % mb, line / mb * LINE);
                        let c = matrix.c.wrapping_add(at + row * matrix.ld + column);
                        c.cast_const()
                    }));
                    if p == 0 {
                        next_rows(&mut ahead, a, i0 + i + mb, steps.terms(M::TERMS));
                    }
                    // SAFETY: `check` bounded C and the base for all rows and columns, both stay
                    // borrowed until all tasks have ended, and this task's blocks are its own; the
                    // panel was just filled to whole vectors, and `check` bounded A; a null base
                    // is never read.
                    unsafe {
                        let block = Block {
                            m: mb,
                            n: wide.min(n - p * wide),
                            k: count,
                            a: tile.as_ptr(),
                            lda,
                            b: panel.as_ptr(),
                            ldb: wide,
                            base: if base.is_null() { base } else { base.add(at) },
                            c: matrix.c.add(at),
                            ldc: matrix.ld,
                            ahead: &ahead,
                        };
                        if matches!(a, Shared::Panels(_)) {
                            block.run::<S, M, true>(simd, arithmetic)
                        } else {
                            block.run::<S, M, false>(simd, arithmetic)
                        }
                    }
                }
            }
            base = matrix.c.cast_const();
            first += count.max(1);
        }
    }
}

/// The lines of [`TALL`] rows from `i` on, as far as there are.
fn next_rows(ahead: &mut Vec<*const f32>, a: Shared<'_>, i: usize, terms: Range<usize>) {
    let Shared::Rows(a) = a else {
        // Panels lie one behind the other, which the processor sees for itself.
        return;
    };
    let (start, ld, bytes) = match a {
        StoredOperand::F32(a) => (a.values.as_ptr(), a.ld, size_of::<f32>()),
        StoredOperand::Bf16(a) => (a.values.as_ptr().cast::<f32>(), a.ld, size_of::<u16>()),
    };
    for line in (terms.start * bytes..terms.end * bytes).step_by(LINE * size_of::<f32>()) {
        for row in i..i + TALL {
            ahead.push(start.wrapping_byte_add(row * ld * bytes + line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::CpuWorkspace;
    use crate::ops::operand::OperandA;
    use crate::ops::product::{Product, multiply};
    use crate::ops::testing::normal;
    use crate::ops::transpose::transpose;
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    #[test]
    fn packing_changes_no_bit_on_any_number_of_threads() {
        for (m, n, k) in [
            (1, 1usize, 1usize),
            (37, 129, 70),
            (300, 65, 33),
            (21, 500, 1300),
            (40, 700, 0),
        ] {
            let (lda, ldc) = (m.max(k) + 3, n + 5);
            let ldb = n.max(k).next_multiple_of(16) + 16;
            let a = normal("a", lda * m.max(k), 1.0);
            let b = normal("b", ldb * (k + 1), 1.0);
            let mut turned = vec![0.0; ldb * n];
            transpose((k, n), (&b, ldb), (&mut turned, ldb));
            let old = normal("old", ldc * m, 1.0);
            for a in [OperandA::row_major(&a, lda), OperandA::col_major(&a, lda)] {
                for accumulate in 0..3 {
                    let accumulate = || {
                        [
                            Accumulate::Nothing,
                            Accumulate::Output,
                            Accumulate::Other(&old),
                        ][accumulate]
                    };
                    let mut want = old.clone();
                    multiply(Product {
                        size: (m, n, k),
                        a,
                        b: (&b, ldb),
                        c: (&mut want, ldc),
                        accumulate: accumulate(),
                    });
                    for threads in 1..4 {
                        for b in [
                            OperandB::RowMajor(&b, ldb),
                            OperandB::ColMajor(&turned, ldb),
                        ] {
                            let mut got = old.clone();
                            let pool = Threads::new(NonZeroUsize::new(threads).unwrap());
                            let workspace = &mut CpuWorkspace {
                                scratch: vec![vec![f32::NAN; 9000]; threads],
                                ..CpuWorkspace::default()
                            };
                            Cpu::new(&pool, workspace).multiply_packed(
                                Factors::F32,
                                (m, n, k),
                                a,
                                b,
                                (&mut got, ldc),
                                accumulate(),
                            );
                            assert!(
                                got.iter()
                                    .zip(&want)
                                    .all(|(g, w)| g.to_bits() == w.to_bits()),
                                "({m}, {n}, {k})"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_cover_all_columns_and_stay_small() {
        for threads in 1..9 {
            for n in [1, 16, 47, 48, 500, 1024, 4096, 49_152] {
                for k in [1, 64, 576, 640] {
                    let (blocks, columns) = cut_columns(n, k, threads);
                    assert!((blocks - 1) * columns < n && n <= blocks * columns);
                    assert!(columns * k <= BLOCK.max(48 * k));
                }
            }
        }
    }
}
