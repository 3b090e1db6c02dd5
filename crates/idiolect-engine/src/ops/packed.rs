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

use pulp::{Arch, Simd, WithSimd};

use super::cpu::Cpu;
use super::operand::OperandA;
use super::operand::{Bf16Operand, StoredOperand, widen_all};
use super::product::{Accumulate, Block, k_block};
use super::transpose::transpose;
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
        let panels = aligned(&mut shared, a_len(a, m, k));
        let part = 4 * TALL;
        if a.is_col_major() {
            let parts = [(&mut *panels, part * k)];
            self.for_chunks(m.div_ceil(part), parts, |i, [panels], _| {
                a.pack(i * part, (m, k), panels);
            });
        }
        let shared_a = Shared::new(a, panels);
        let (column_blocks, columns) = cut_columns(n, k_block(k), self.threads.n());
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
            Arch::new().dispatch(Task {
                rows: (i, rows.min(m - i)),
                columns: (j, columns.min(n - j)),
                k,
                a: shared_a,
                b,
                matrix,
                packed: aligned(scratch, b_len(columns, k) + widened_len(a, k)),
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
    let (blocks, columns) = cut_columns(n, k_block(k), 1);
    let (panels, packed) = workspace.split_at_mut(a_len(a, m, k));
    if a.is_col_major() {
        a.pack(0, (m, k), panels);
    }
    let a = Shared::new(a, panels);
    for j in (0..blocks).map(|block| block * columns) {
        Arch::new().dispatch(Task {
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
pub(crate) fn workspace_alone((m, n, k): (usize, usize, usize), a: StoredOperand<'_>) -> usize {
    let (_, columns) = cut_columns(n, k_block(k), 1);
    a_len(a, m, k) + b_len(columns, k) + widened_len(a, k)
}

/// Whether the B operand, (k, n), is worth packing: it is beyond the first caches, and enough
/// rows pass by. Does not change results.
pub(crate) fn packs((m, n, k): (usize, usize, usize)) -> bool {
    m >= 64 && k * n >= 1 << 16
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
fn a_len(a: StoredOperand<'_>, m: usize, k: usize) -> usize {
    if a.is_col_major() {
        m.next_multiple_of(TALL) * k
    } else {
        0
    }
}

/// Floats of a packed block of the B operand, for vectors of any width.
fn b_len(columns: usize, k: usize) -> usize {
    columns.next_multiple_of(3 * LINE) * k_block(k).max(1)
}

/// Floats of the rows that are widened at a time.
fn widened_len(a: StoredOperand<'_>, k: usize) -> usize {
    match a {
        StoredOperand::Bf16(halves) if !halves.col_major => TALL * k_block(k),
        _ => 0,
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
const TALL: usize = 8;

/// A as the tiles read it.
#[derive(Clone, Copy)]
enum Shared<'a> {
    /// Where it lies, row-major.
    Rows(OperandA<'a>),
    /// Row-major, widened [`TALL`] rows at a time.
    Bf16Operand(Bf16Operand<'a>),
    /// In panels of [`TALL`] rows, each (k, TALL).
    Panels(&'a [f32]),
}

impl<'a> Shared<'a> {
    /// A row-major operand as it is, a column-major one as it was packed.
    fn new(a: StoredOperand<'a>, panels: &'a [f32]) -> Self {
        match a {
            _ if a.is_col_major() => Self::Panels(panels),
            StoredOperand::F32(a) => Self::Rows(a),
            StoredOperand::Bf16(halves) => Self::Bf16Operand(halves),
        }
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

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            rows: (i0, m),
            columns: (j0, n),
            k,
            a,
            b,
            matrix,
            packed,
        } = self;
        let kc = k_block(k).max(1);
        let wide = 3 * S::F32_LANES;
        let (packed, widened) = packed.split_at_mut(n.div_ceil(wide) * wide * kc);
        let mut base = matrix.base;
        let mut k0 = 0;
        while k0 < k || k0 == 0 {
            let kb = kc.min(k - k0);
            for (p, panel) in packed.chunks_exact_mut(wide * kc).enumerate() {
                let first = p * wide;
                pack_b(
                    b,
                    (k0, kb),
                    (j0 + first, wide.min(n - first)),
                    (panel, wide),
                );
            }
            for i in (0..m).step_by(TALL) {
                let mb = TALL.min(m - i);
                let (tile, lda) = match a {
                    Shared::Rows(a) => a.at(i0 + i, k0),
                    Shared::Panels(panels) => (panels[(i0 + i) * k + k0 * TALL..].as_ptr(), TALL),
                    Shared::Bf16Operand(halves) => {
                        let rows = halves.values[(i0 + i) * halves.ld..].chunks(halves.ld);
                        for (to, row) in widened.chunks_exact_mut(kc).zip(rows).take(mb) {
                            widen_all(&row[k0..k0 + kb], to);
                        }
                        (widened.as_ptr(), kc)
                    }
                };
                for (p, panel) in packed.chunks_exact(wide * kc).enumerate() {
                    let at = (i0 + i) * matrix.ld + j0 + p * wide;
                    // SAFETY: `check` bounded C and the base for all rows and columns, both stay
                    // borrowed until all tasks have ended, and this task's blocks are its own; the
                    // panel was just filled to whole vectors, and `check` bounded A; a null base
                    // is never read.
                    unsafe {
                        let block = Block {
                            m: mb,
                            n: wide.min(n - p * wide),
                            k: kb,
                            a: tile,
                            lda,
                            b: panel.as_ptr(),
                            ldb: wide,
                            base: if base.is_null() { base } else { base.add(at) },
                            c: matrix.c.add(at),
                            ldc: matrix.ld,
                        };
                        if matches!(a, Shared::Panels(_)) {
                            block.run::<S, true>(simd)
                        } else {
                            block.run::<S, false>(simd)
                        }
                    }
                }
            }
            base = matrix.c.cast_const();
            k0 += kb.max(1);
        }
    }
}

/// Copies rows `k0..k0 + kb` and `n` columns from `j` on into a panel, zeros beyond n.
#[inline(always)]
fn pack_b(
    b: OperandB<'_>,
    (k0, kb): (usize, usize),
    (j, n): (usize, usize),
    (panel, wide): (&mut [f32], usize),
) {
    match b {
        OperandB::RowMajor(values, ld) => {
            for (k, to) in panel.chunks_exact_mut(wide).take(kb).enumerate() {
                let from = &values[(k0 + k) * ld + j..][..n];
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
            transpose((n, kb), (&values[j * ld + k0..], ld), (panel, wide));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::CpuWorkspace;
    use crate::ops::product::{Product, multiply};
    use crate::ops::testing::normal;
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
