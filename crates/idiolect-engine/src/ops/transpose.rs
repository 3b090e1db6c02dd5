//! Transposition between lanes (C, T) and rows of tokens (T, C).
//!
//! The weight's gradient sums over tokens, so one factor of it must have its channels in the
//! lanes. Blocks of 16 × 16 go through registers on AVX-512; elsewhere they go through the cache.
#![expect(
    unsafe_code,
    reason = "unaligned vector loads and stores inside checked slices"
)]

use pulp::Arch;

/// to[j · to_stride + i] = from[i · from_stride + j] for i < rows, j < columns.
///
/// # Panics
/// When a slice is shorter than its shape; a programmer mistake.
pub(crate) fn transpose(
    (rows, columns): (usize, usize),
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        from.len() >= (rows - 1) * from_stride + columns,
        "input too short"
    );
    assert!(
        to.len() >= (columns - 1) * to_stride + rows,
        "output too short"
    );
    #[cfg(target_arch = "x86_64")]
    if let Arch::V4(simd) = Arch::new() {
        return simd.vectorize(Registers {
            simd,
            rows,
            columns,
            from,
            from_stride,
            to,
            to_stride,
        });
    }
    cached(
        (0, rows),
        (0, columns),
        (from, from_stride),
        (to, to_stride),
    );
}

/// The given ranges, in blocks that stay in the first cache.
fn cached(
    (row0, rows): (usize, usize),
    (column0, columns): (usize, usize),
    (from, from_stride): (&[f32], usize),
    (to, to_stride): (&mut [f32], usize),
) {
    const BLOCK: usize = 16;
    for i0 in (row0..rows).step_by(BLOCK) {
        for j in column0..columns {
            for i in i0..(i0 + BLOCK).min(rows) {
                to[j * to_stride + i] = from[i * from_stride + j];
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
use {pulp::x86::V4, std::arch::x86_64::__m512};

#[cfg(target_arch = "x86_64")]
struct Registers<'a> {
    simd: V4,
    rows: usize,
    columns: usize,
    from: &'a [f32],
    from_stride: usize,
    to: &'a mut [f32],
    to_stride: usize,
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Registers<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            simd,
            rows,
            columns,
            from,
            from_stride,
            to,
            to_stride,
        } = self;
        let (whole_rows, whole_columns) = (rows / 16 * 16, columns / 16 * 16);
        for i in (0..whole_rows).step_by(16) {
            for j in (0..whole_columns).step_by(16) {
                // SAFETY: `transpose` checked both slices for all rows and columns, and the
                // block lies inside them.
                unsafe {
                    let source = from.as_ptr().add(i * from_stride + j);
                    let target = to.as_mut_ptr().add(j * to_stride + i);
                    block(simd, source, from_stride, target, to_stride);
                }
            }
        }
        cached(
            (whole_rows, rows),
            (0, columns),
            (from, from_stride),
            (to, to_stride),
        );
        cached(
            (0, whole_rows),
            (whole_columns, columns),
            (from, from_stride),
            (to, to_stride),
        );
    }
}

/// Transposes 16 × 16 floats.
///
/// # Safety
/// 16 floats must be readable at each of 16 rows of `from`, and writable at each of `to`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn block(simd: V4, from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let f = simd.avx512f;
    // SAFETY: the caller's promise.
    let rows = std::array::from_fn(|i| unsafe { f._mm512_loadu_ps(from.add(i * from_stride)) });
    for (i, column) in columns_of(simd, rows).into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { f._mm512_storeu_ps(to.add(i * to_stride), column) };
    }
}

/// The columns of a matrix of 16 × 16 floats, given its rows.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn columns_of(simd: V4, r: [__m512; 16]) -> [__m512; 16] {
    let f = simd.avx512f;
    // Pairs of rows, then quadruples, inside each 128-bit part ...
    let mut t = r;
    for i in (0..16).step_by(2) {
        t[i] = f._mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = f._mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    let mut q = t;
    for i in (0..16).step_by(4) {
        q[i] = f._mm512_shuffle_ps::<0x44>(t[i], t[i + 2]);
        q[i + 1] = f._mm512_shuffle_ps::<0xee>(t[i], t[i + 2]);
        q[i + 2] = f._mm512_shuffle_ps::<0x44>(t[i + 1], t[i + 3]);
        q[i + 3] = f._mm512_shuffle_ps::<0xee>(t[i + 1], t[i + 3]);
    }
    // ... then the 128-bit parts of four and of sixteen rows.
    let mut columns = r;
    for i in 0..4 {
        let a = f._mm512_shuffle_f32x4::<0x88>(q[i], q[i + 4]);
        let b = f._mm512_shuffle_f32x4::<0xdd>(q[i], q[i + 4]);
        let c = f._mm512_shuffle_f32x4::<0x88>(q[i + 8], q[i + 12]);
        let d = f._mm512_shuffle_f32x4::<0xdd>(q[i + 8], q[i + 12]);
        columns[i] = f._mm512_shuffle_f32x4::<0x88>(a, c);
        columns[4 + i] = f._mm512_shuffle_f32x4::<0x88>(b, d);
        columns[8 + i] = f._mm512_shuffle_f32x4::<0xdd>(a, c);
        columns[12 + i] = f._mm512_shuffle_f32x4::<0xdd>(b, d);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::normal;

    #[test]
    fn every_entry_finds_its_place_and_nothing_else_is_written() {
        for (rows, columns) in [
            (1, 1),
            (16, 16),
            (17, 40),
            (64, 33),
            (5, 100),
            (31, 16),
            (0, 3),
        ] {
            let (from_stride, to_stride) = (columns + 3, rows + 2);
            let from = normal("t", rows * from_stride + 1, 1.0);
            let mut to = vec![9.0; columns * to_stride];
            transpose((rows, columns), (&from, from_stride), (&mut to, to_stride));
            for j in 0..columns {
                for i in 0..to_stride {
                    let expected = if i < rows {
                        from[i * from_stride + j]
                    } else {
                        9.0
                    };
                    assert_eq!(
                        to[j * to_stride + i],
                        expected,
                        "({rows}, {columns}) at {i}, {j}"
                    );
                }
            }
        }
    }
}
