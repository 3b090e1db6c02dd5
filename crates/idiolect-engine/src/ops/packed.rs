//! The product of [`product`](super::product) for factors that do not fit the caches, on all
//! threads.
//!
//! A task is a block of columns by a block of rows of C. It copies its block of B into panels of
//! one tile's width, so that the innermost loop reads memory in order (a row of B is a page away
//! from the next, and a page table's cache holds few), small enough to stay in the second-level
//! cache while every row of A passes by; of A eight rows at a time stay in the first. Rows of A
//! are read where they lie; a transposed A is copied likewise, sixteen rows at a time. The bits are those of the unpacked
//! product: the same sums in the same order.
#![expect(
    unsafe_code,
    reason = "tasks write disjoint blocks of one matrix, and run tiles on packed panels"
)]

use pulp::{Arch, Simd, WithSimd};

use super::product::{Block, Left, Onto, depth};
use super::stored::{Factor, Halves, widen_all};
use super::transpose::transpose;
use super::{LINE, aligned};
use crate::threads::Threads;

/// Floats of a packed block of B: 448 KiB, under half of a second-level cache of 1 MiB.
const BLOCK: usize = 112 << 10;

/// Rows of C that one task computes at least: packing a column of B costs as much as some ten rows of it.
const ROWS: usize = 256;

/// The right factor, (k, n).
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Entry (k, n) at k·stride + n.
    Rows(&'a [f32], usize),
    /// Entry (k, n) at n·stride + k.
    Columns(&'a [f32], usize),
}

/// C (+)= A·B, shared by the threads.
///
/// - `size`: (m, n, k)
/// - `out`: (m, n) at a stride
///
/// # Panics
/// When a slice is shorter than its shape; a programmer mistake.
pub(crate) fn multiply_packed<'a>(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    (m, n, k): (usize, usize, usize),
    left: impl Into<Factor<'a>>,
    right: Right<'_>,
    (out, stride): (&mut [f32], usize),
    onto: Onto<'_>,
) {
    let left = left.into();
    let Some(matrix) = check((m, n, k), left, right, (out, stride), onto) else {
        return;
    };
    let matrix = &matrix;
    // Scratch beyond the threads' own, where there is some, holds what they share.
    let mut shared = scratch
        .get_mut(threads.n())
        .map(std::mem::take)
        .unwrap_or_default();
    let panels = aligned(&mut shared, left_size(left, m, k));
    let part = 4 * TALL;
    if left.by_columns() {
        let parts = [(&mut *panels, part * k)];
        threads.for_chunks(m.div_ceil(part), parts, scratch, |i, [panels], _| {
            left.pack(i * part, (m, k), panels);
        });
    }
    let shared_left = Shared::new(left, panels);
    let (column_blocks, columns) = cut_columns(n, depth(k), threads.n());
    // More blocks of rows than the threads ask for would only pack B more often.
    let row_blocks = if column_blocks % threads.n() == 0 {
        1
    } else {
        let wanted = (2 * threads.n()).div_ceil(column_blocks);
        wanted.min(m.div_ceil(ROWS))
    };
    let rows = m.div_ceil(row_blocks).next_multiple_of(LINE);
    let chunks = column_blocks * m.div_ceil(rows);
    threads.for_chunks(chunks, [], scratch, |chunk, [], scratch| {
        let (j, i) = (
            chunk % column_blocks * columns,
            chunk / column_blocks * rows,
        );
        Arch::new().dispatch(Task {
            rows: (i, rows.min(m - i)),
            columns: (j, columns.min(n - j)),
            k,
            left: shared_left,
            right,
            matrix,
            packed: aligned(scratch, right_size(columns, k) + widened_size(left, k)),
        });
    });
    if let Some(spare) = scratch.get_mut(threads.n()) {
        *spare = shared;
    }
}

/// [`multiply_packed`] by the calling thread, which may be one of several that have a product each.
///
/// - `room`: [`room_alone`] floats
///
/// # Panics
/// When a slice is shorter than its shape; a programmer mistake.
pub(crate) fn multiply_alone<'a>(
    room: &mut [f32],
    (m, n, k): (usize, usize, usize),
    left: impl Into<Factor<'a>>,
    right: Right<'_>,
    (out, stride): (&mut [f32], usize),
    onto: Onto<'_>,
) {
    let left = left.into();
    let Some(matrix) = check((m, n, k), left, right, (out, stride), onto) else {
        return;
    };
    let (blocks, columns) = cut_columns(n, depth(k), 1);
    let (panels, packed) = room.split_at_mut(left_size(left, m, k));
    if left.by_columns() {
        left.pack(0, (m, k), panels);
    }
    let left = Shared::new(left, panels);
    for j in (0..blocks).map(|block| block * columns) {
        Arch::new().dispatch(Task {
            rows: (0, m),
            columns: (j, columns.min(n - j)),
            k,
            left,
            right,
            matrix: &matrix,
            packed,
        });
    }
}

/// Floats that [`multiply_alone`] works in.
pub(crate) fn room_alone((m, n, k): (usize, usize, usize), left: Factor<'_>) -> usize {
    let (_, columns) = cut_columns(n, depth(k), 1);
    left_size(left, m, k) + right_size(columns, k) + widened_size(left, k)
}

/// Whether the right factor, (k, n), is worth packing: it is beyond the first caches, and enough
/// rows pass by. Does not change results.
pub(crate) fn packs((m, n, k): (usize, usize, usize)) -> bool {
    m >= 64 && k * n >= 1 << 16
}

/// C and its base, when all slices are as long as they must be; none without entries.
fn check(
    (m, n, k): (usize, usize, usize),
    left: Factor<'_>,
    right: Right<'_>,
    (out, stride): (&mut [f32], usize),
    onto: Onto<'_>,
) -> Option<Matrix> {
    if m == 0 || n == 0 {
        return None;
    }
    let end = |rows: usize, stride: usize, width: usize| rows.saturating_sub(1) * stride + width;
    left.check(m, k);
    let (values, needed) = match right {
        Right::Rows(values, stride) => (values, end(k, stride, n)),
        Right::Columns(values, stride) => (values, end(n, stride, k)),
    };
    assert!(k == 0 || values.len() >= needed, "right factor too short");
    assert!(out.len() >= end(m, stride, n), "output too short");
    let base = match onto {
        Onto::Nothing => std::ptr::null(),
        Onto::Itself => out.as_ptr(),
        Onto::Other(other) => {
            assert!(other.len() >= end(m, stride, n), "base too short");
            other.as_ptr()
        }
    };
    Some(Matrix {
        c: out.as_mut_ptr(),
        base,
        stride,
    })
}

/// Floats of the packed left factor.
fn left_size(left: Factor<'_>, m: usize, k: usize) -> usize {
    if left.by_columns() {
        m.next_multiple_of(TALL) * k
    } else {
        0
    }
}

/// Floats of a packed block of the right factor, for vectors of any width.
fn right_size(columns: usize, k: usize) -> usize {
    columns.next_multiple_of(3 * LINE) * depth(k).max(1)
}

/// Floats of the rows that are widened at a time.
fn widened_size(left: Factor<'_>, k: usize) -> usize {
    match left {
        Factor::Bf16(halves) if !halves.by_columns => TALL * depth(k),
        _ => 0,
    }
}

/// Blocks of columns, and columns of one: whole lines, shared evenly where there are few.
fn cut_columns(n: usize, depth: usize, threads: usize) -> (usize, usize) {
    let lines = n.div_ceil(LINE);
    let most = (BLOCK / depth.max(1) / LINE).max(3);
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
    stride: usize,
}

// SAFETY: tasks write, and read of the base, disjoint blocks.
unsafe impl Sync for Matrix {}

/// Rows of a tile.
const TALL: usize = 8;

/// A as the tiles read it.
#[derive(Clone, Copy)]
enum Shared<'a> {
    /// Where it lies, by rows.
    Rows(Left<'a>),
    /// By rows, widened [`TALL`] rows at a time.
    Halves(Halves<'a>),
    /// In panels of [`TALL`] rows, each (k, TALL).
    Panels(&'a [f32]),
}

impl<'a> Shared<'a> {
    /// A by rows as it is, A by columns as it was packed.
    fn new(left: Factor<'a>, panels: &'a [f32]) -> Self {
        match left {
            _ if left.by_columns() => Self::Panels(panels),
            Factor::F32(left) => Self::Rows(left),
            Factor::Bf16(halves) => Self::Halves(halves),
        }
    }
}

struct Task<'a> {
    rows: (usize, usize),
    columns: (usize, usize),
    k: usize,
    left: Shared<'a>,
    right: Right<'a>,
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
            left,
            right,
            matrix,
            packed,
        } = self;
        let kc = depth(k).max(1);
        let wide = 3 * S::F32_LANES;
        let (packed, widened) = packed.split_at_mut(n.div_ceil(wide) * wide * kc);
        let mut base = matrix.base;
        let mut k0 = 0;
        while k0 < k || k0 == 0 {
            let kb = kc.min(k - k0);
            for (p, panel) in packed.chunks_exact_mut(wide * kc).enumerate() {
                let first = p * wide;
                pack_right(
                    right,
                    (k0, kb),
                    (j0 + first, wide.min(n - first)),
                    (panel, wide),
                );
            }
            for i in (0..m).step_by(TALL) {
                let mb = TALL.min(m - i);
                let (a, a_stride) = match left {
                    Shared::Rows(left) => left.at(i0 + i, k0),
                    Shared::Panels(panels) => (panels[(i0 + i) * k + k0 * TALL..].as_ptr(), TALL),
                    Shared::Halves(halves) => {
                        let rows = halves.values[(i0 + i) * halves.stride..].chunks(halves.stride);
                        for (to, row) in widened.chunks_exact_mut(kc).zip(rows).take(mb) {
                            widen_all(&row[k0..k0 + kb], to);
                        }
                        (widened.as_ptr(), kc)
                    }
                };
                for (p, panel) in packed.chunks_exact(wide * kc).enumerate() {
                    let at = (i0 + i) * matrix.stride + j0 + p * wide;
                    // SAFETY: `multiply_packed` checked C and the base for all rows and columns,
                    // and this task's blocks are its own; the panels were just filled, and A
                    // checked; a null base is never read.
                    unsafe {
                        let block = Block {
                            m: mb,
                            n: wide.min(n - p * wide),
                            k: kb,
                            a,
                            a_stride,
                            b: panel.as_ptr(),
                            b_stride: wide,
                            base: if base.is_null() { base } else { base.add(at) },
                            c: matrix.c.add(at),
                            c_stride: matrix.stride,
                        };
                        if matches!(left, Shared::Panels(_)) {
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
fn pack_right(
    right: Right<'_>,
    (k0, kb): (usize, usize),
    (j, n): (usize, usize),
    (panel, wide): (&mut [f32], usize),
) {
    match right {
        Right::Rows(values, stride) => {
            for (k, to) in panel.chunks_exact_mut(wide).take(kb).enumerate() {
                let from = &values[(k0 + k) * stride + j..][..n];
                if n == wide {
                    to.copy_from_slice(from);
                } else {
                    to[..n].copy_from_slice(from);
                    to[n..].fill(0.0);
                }
            }
        }
        Right::Columns(values, stride) => {
            if n < wide {
                panel.fill(0.0);
            }
            transpose((n, kb), (&values[j * stride + k0..], stride), (panel, wide));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::product::{Product, multiply};
    use crate::ops::testing::normal;
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
            let (a_stride, c_stride) = (m.max(k) + 3, n + 5);
            let b_stride = n.max(k).next_multiple_of(16) + 16;
            let a = normal("a", a_stride * m.max(k), 1.0);
            let b = normal("b", b_stride * (k + 1), 1.0);
            let mut turned = vec![0.0; b_stride * n];
            transpose((k, n), (&b, b_stride), (&mut turned, b_stride));
            let old = normal("old", c_stride * m, 1.0);
            for left in [Left::rows(&a, a_stride), Left::columns(&a, a_stride)] {
                for onto in 0..3 {
                    let onto = || [Onto::Nothing, Onto::Itself, Onto::Other(&old)][onto];
                    let mut want = old.clone();
                    multiply(Product {
                        size: (m, n, k),
                        left,
                        right: (&b, b_stride),
                        out: (&mut want, c_stride),
                        onto: onto(),
                    });
                    for threads in 1..4 {
                        for right in [Right::Rows(&b, b_stride), Right::Columns(&turned, b_stride)]
                        {
                            let mut got = old.clone();
                            let pool = Threads::new(NonZeroUsize::new(threads).unwrap());
                            let scratch = &mut vec![vec![f32::NAN; 9000]; threads];
                            multiply_packed(
                                &pool,
                                scratch,
                                (m, n, k),
                                left,
                                right,
                                (&mut got, c_stride),
                                onto(),
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
