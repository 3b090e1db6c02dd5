//! The one matrix product: C (+)= A·B with the columns of B and C in vector lanes.
//!
//! A is read by broadcast in either order, so neither weights nor activations are packed; the
//! three products of a linear map, and all of attention, are this one (the weight's gradient
//! after a transposition of the tokens, see [`transpose`](super::transpose)). It is used instead
//! of the `gemm` crate because the products of small models are skinny (k of 16 to 64, where
//! packing costs as much as multiplying; this one reaches the rate that `gemm` has at 1024³), and
//! because a column's bits must not depend on the columns beside it. On products of 1000³ and
//! more `gemm` with AVX-512 is a tenth to a quarter faster: packing there is left to do.
//!
//! Every entry of C is the sum over k in ascending order, by fused multiply-add, in blocks of
//! [`depth`] that are then added: its bits depend on k and the machine's vector unit only, not
//! on m, n, tile or thread.
#![expect(
    unsafe_code,
    reason = "loads and stores of tiles inside slices that were checked as a whole"
)]

use pulp::{Arch, Simd, WithSimd};

use super::stored::{check_left, pack_columns};

/// The left factor, (m, k).
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    values: &'a [f32],
    stride: usize,
    /// Whether entry (m, k) lies at k·stride + m and not at m·stride + k.
    by_columns: bool,
}

impl<'a> Left<'a> {
    /// Entry (m, k) at m·stride + k.
    pub(crate) fn rows(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            stride,
            by_columns: false,
        }
    }

    /// Entry (m, k) at k·stride + m.
    pub(crate) fn columns(values: &'a [f32], stride: usize) -> Self {
        Self {
            values,
            stride,
            by_columns: true,
        }
    }

    /// Whether entries of one column lie side by side.
    pub(super) fn by_columns(self) -> bool {
        self.by_columns
    }

    /// # Panics
    /// When it is shorter than (m, k); a programmer mistake.
    pub(super) fn check(self, m: usize, k: usize) {
        check_left(self.values, self.stride, self.by_columns, (m, k));
    }

    /// Where entry (i, k) of a factor by rows lies, and the stride.
    pub(super) fn at(self, i: usize, k: usize) -> (*const f32, usize) {
        debug_assert!(!self.by_columns, "read where it lies");
        (self.values[i * self.stride + k..].as_ptr(), self.stride)
    }

    /// [`pack_columns`] of a factor by columns.
    pub(super) fn pack(self, i: usize, size: (usize, usize), to: &mut [f32]) {
        pack_columns((self.values, self.stride), |value| value, i, size, to);
    }

    /// Without the first rows.
    pub(crate) fn skip_rows(self, rows: usize) -> Self {
        let offset = if self.by_columns {
            rows
        } else {
            rows * self.stride
        };
        Self {
            values: &self.values[offset..],
            ..self
        }
    }

    /// Without the first columns.
    pub(crate) fn skip_columns(self, columns: usize) -> Self {
        let offset = if self.by_columns {
            columns * self.stride
        } else {
            columns
        };
        Self {
            values: &self.values[offset..],
            ..self
        }
    }
}

/// What becomes of the old contents of C.
#[derive(Clone, Copy)]
pub(crate) enum Onto<'a> {
    /// Ignored.
    Nothing,
    /// Added to.
    Itself,
    /// C becomes this plus the product; same stride as C.
    Other(&'a [f32]),
}

/// C (+)= A·B.
pub(crate) struct Product<'a> {
    /// Rows of A and C, columns of B and C, columns of A and rows of B.
    pub(crate) size: (usize, usize, usize),
    pub(crate) left: Left<'a>,
    /// (k, n), rows readable to whole vectors beyond n.
    pub(crate) right: (&'a [f32], usize),
    /// (m, n).
    pub(crate) out: (&'a mut [f32], usize),
    pub(crate) onto: Onto<'a>,
}

/// Largest number of terms summed in registers: 48 columns of B of this depth fill two thirds of
/// a 48 KiB first-level cache.
const DEPTH: usize = 512;

/// Rows of A that a block of B meets before the next: 512 × 192 floats are 384 KiB of a
/// second-level cache of 1 MiB or more.
const BLOCK_ROWS: usize = 512;

/// The size of the blocks that a sum of k terms is cut into: even, and at most a third above
/// [`DEPTH`] so that no small rest is left.
pub(super) fn depth(k: usize) -> usize {
    if k <= DEPTH * 4 / 3 {
        k
    } else {
        k.div_ceil(k.div_ceil(DEPTH))
    }
}

/// Repeats a body for an index below a constant of at most 8, written out, so that arrays of
/// vectors are only ever indexed by constants and live in registers.
macro_rules! unrolled {
    ($i:ident < $n:expr, $body:block) => {
        unrolled!(@ $i, $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        $(if $k < $n {
            let $i: usize = $k;
            $body
        })*
    };
}

/// Computes a product with the machine's vector unit.
pub(crate) fn multiply(product: Product<'_>) {
    Arch::new().dispatch(product);
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        multiply_in(simd, self);
    }
}

/// [`multiply`] from inside a dispatched function.
///
/// # Panics
/// When a slice is shorter than its shape; a programmer mistake.
#[inline(always)]
pub(crate) fn multiply_in<S: Simd>(simd: S, product: Product<'_>) {
    let Product {
        size: (m, n, k),
        left,
        right,
        out,
        onto,
    } = product;
    if m == 0 || n == 0 {
        return;
    }
    let wide = n.next_multiple_of(S::F32_LANES);
    let end = |rows: usize, stride: usize, width: usize| rows.saturating_sub(1) * stride + width;
    left.check(m, k);
    assert!(
        k == 0 || right.0.len() >= end(k, right.1, wide),
        "right factor too short"
    );
    assert!(out.0.len() >= end(m, out.1, n), "output too short");
    let mut base = match onto {
        Onto::Nothing => std::ptr::null(),
        Onto::Itself => out.0.as_ptr(),
        Onto::Other(other) => {
            assert!(other.len() >= end(m, out.1, n), "base too short");
            other.as_ptr()
        }
    };
    let c = out.0.as_mut_ptr();
    let kc = depth(k).max(1);
    let mut k0 = 0;
    while k0 < k || k0 == 0 {
        let kb = kc.min(k - k0);
        let mut m0 = 0;
        while m0 < m {
            let mb = BLOCK_ROWS.min(m - m0);
            let a_offset = if left.by_columns {
                k0 * left.stride + m0
            } else {
                m0 * left.stride + k0
            };
            // SAFETY: the asserts above bound every row and column that the block touches; a null
            // base is never read.
            unsafe {
                let block = Block {
                    m: mb,
                    n,
                    k: kb,
                    a: left.values.as_ptr().wrapping_add(a_offset),
                    a_stride: left.stride,
                    b: right.0.as_ptr().wrapping_add(k0 * right.1),
                    b_stride: right.1,
                    base: if base.is_null() {
                        base
                    } else {
                        base.add(m0 * out.1)
                    },
                    c: c.add(m0 * out.1),
                    c_stride: out.1,
                };
                if left.by_columns {
                    block.run::<S, true>(simd)
                } else {
                    block.run::<S, false>(simd)
                }
            }
            m0 += mb;
        }
        base = c.cast_const();
        k0 += kb.max(1);
    }
}

/// A block whose B fits the caches, by raw addresses.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) a_stride: usize,
    pub(super) b: *const f32,
    pub(super) b_stride: usize,
    /// Added to the product; null for none.
    pub(super) base: *const f32,
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
}

impl Block {
    /// Columns in tiles of three vectors, each met by all rows while it is in the first cache.
    ///
    /// # Safety
    /// All addresses that the sizes and strides imply must be readable, those of C writable;
    /// B's rows to whole vectors.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, const COLUMNS: bool>(self, simd: S) {
        let vectors = self.n.div_ceil(S::F32_LANES);
        let mut v = 0;
        // SAFETY: passed on from the caller; each strip stays inside n rounded up to vectors.
        unsafe {
            while v < vectors {
                let left = vectors - v;
                // Four vectors are two strips of two, not three and one: a strip of one vector
                // is limited by loads.
                let take = if left == 4 { 2 } else { left.min(3) };
                match take {
                    1 => self.strip::<S, COLUMNS, 1>(simd, v),
                    2 => self.strip::<S, COLUMNS, 2>(simd, v),
                    _ => self.strip::<S, COLUMNS, 3>(simd, v),
                }
                v += take;
            }
        }
    }

    /// `NV` vectors of columns from vector `v` on, all rows.
    ///
    /// # Safety
    /// As [`run`](Self::run), with `v + NV` vectors inside n rounded up.
    #[inline(always)]
    unsafe fn strip<S: Simd, const COLUMNS: bool, const NV: usize>(self, simd: S, v: usize) {
        let step = |i: usize| if COLUMNS { i } else { i * self.a_stride };
        let mut i = 0;
        // SAFETY: passed on from the caller; each tile stays inside m.
        unsafe {
            if S::REGISTER_COUNT >= 32 {
                while i + 8 <= self.m {
                    self.tile::<S, COLUMNS, 8, NV>(simd, i, self.a.add(step(i)), v);
                    i += 8;
                }
            }
            while i + 4 <= self.m {
                self.tile::<S, COLUMNS, 4, NV>(simd, i, self.a.add(step(i)), v);
                i += 4;
            }
            if i + 2 <= self.m {
                self.tile::<S, COLUMNS, 2, NV>(simd, i, self.a.add(step(i)), v);
                i += 2;
            }
            if i < self.m {
                self.tile::<S, COLUMNS, 1, NV>(simd, i, self.a.add(step(i)), v);
            }
        }
    }

    /// `MR` rows from row `i` on (A from `a`) by `NV` vectors, summed in registers.
    ///
    /// # Safety
    /// As [`strip`](Self::strip), with `i + MR` rows inside m.
    #[inline(always)]
    unsafe fn tile<S: Simd, const COLUMNS: bool, const MR: usize, const NV: usize>(
        self,
        simd: S,
        i: usize,
        a: *const f32,
        v: usize,
    ) {
        let lanes = S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: row and column bounds are the caller's promise.
        unsafe {
            let mut b = self.b.add(v * lanes);
            let mut a = a;
            for _ in 0..self.k {
                let mut right = [simd.splat_f32s(0.0); NV];
                unrolled!(j < NV, {
                    right[j] = b.add(j * lanes).cast::<S::f32s>().read_unaligned();
                });
                unrolled!(r < MR, {
                    let factor =
                        simd.splat_f32s(*a.add(if COLUMNS { r } else { r * self.a_stride }));
                    unrolled!(j < NV, {
                        sum[r][j] = simd.mul_add_f32s(factor, right[j], sum[r][j]);
                    });
                });
                a = a.add(if COLUMNS { self.a_stride } else { 1 });
                b = b.wrapping_add(self.b_stride);
            }
            let whole = self.n >= (v + NV) * lanes;
            unrolled!(r < MR, {
                let at = (i + r) * self.c_stride + v * lanes;
                unrolled!(j < NV, {
                    // Only the last vector of a row can be partial.
                    let left = if whole || j + 1 < NV {
                        lanes
                    } else {
                        self.n - (v + j) * lanes
                    };
                    self.store(simd, at + j * lanes, left, sum[r][j]);
                });
            });
        }
    }

    /// Stores one vector of C of which `left` entries exist.
    ///
    /// # Safety
    /// `at + min(left, lanes)` entries of C (and of the base) must be there.
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: usize, left: usize, sum: S::f32s) {
        // SAFETY: the caller's promise; a null base is not read.
        unsafe {
            if left >= S::F32_LANES {
                let c = self.c.add(at).cast::<S::f32s>();
                if self.base.is_null() {
                    c.write_unaligned(sum);
                } else {
                    let old = self.base.add(at).cast::<S::f32s>().read_unaligned();
                    c.write_unaligned(simd.add_f32s(old, sum));
                }
            } else {
                let c = std::slice::from_raw_parts_mut(self.c.add(at), left);
                if self.base.is_null() {
                    simd.partial_store_f32s(c, sum);
                } else {
                    let old =
                        simd.partial_load_f32s(std::slice::from_raw_parts(self.base.add(at), left));
                    simd.partial_store_f32s(c, simd.add_f32s(old, sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, normal};

    fn naive(
        m: usize,
        n: usize,
        k: usize,
        a: &dyn Fn(usize, usize) -> f32,
        b: &[f32],
        b_stride: usize,
    ) -> Vec<f32> {
        let mut c = Vec::new();
        for i in 0..m {
            for j in 0..n {
                c.push(
                    (0..k)
                        .map(|l| f64::from(a(i, l)) * f64::from(b[l * b_stride + j]))
                        .sum::<f64>() as f32,
                );
            }
        }
        c
    }

    #[test]
    fn every_tile_agrees_with_the_naive_product() {
        for (m, n, k) in [
            (1, 1usize, 1usize),
            (7, 17, 5),
            (13, 50, 33),
            (8, 48, 64),
            (23, 65, 300),
            (5, 100, 0),
            (3, 31, 1000),
        ] {
            let (a_stride, b_stride, c_stride) = (m.max(k) + 3, n.next_multiple_of(16) + 16, n + 5);
            let a = normal("a", a_stride * m.max(k), 1.0);
            let b = normal("b", b_stride * k.max(1), 1.0);
            let old = normal("c", c_stride * m, 1.0);
            for by_columns in [false, true] {
                let left = Left {
                    values: &a,
                    stride: a_stride,
                    by_columns,
                };
                let entry = |i: usize, l: usize| {
                    if by_columns {
                        a[l * a_stride + i]
                    } else {
                        a[i * a_stride + l]
                    }
                };
                let expected = naive(m, n, k, &entry, &b, b_stride);
                for onto in 0..3 {
                    let mut c = if onto == 1 {
                        old.clone()
                    } else {
                        vec![9.0; old.len()]
                    };
                    let mode = [Onto::Nothing, Onto::Itself, Onto::Other(&old)][onto];
                    multiply(Product {
                        size: (m, n, k),
                        left,
                        right: (&b, b_stride),
                        out: (&mut c, c_stride),
                        onto: mode,
                    });
                    let got: Vec<f32> = (0..m)
                        .flat_map(|i| c[i * c_stride..i * c_stride + n].to_vec())
                        .collect();
                    let want: Vec<f32> = (0..m * n)
                        .map(|e| {
                            expected[e]
                                + if onto == 0 {
                                    0.0
                                } else {
                                    old[e / n * c_stride + e % n]
                                }
                        })
                        .collect();
                    close(
                        &format!("({m}, {n}, {k}) {by_columns} {onto}"),
                        &got,
                        &want,
                        1e-5,
                    );
                    if onto != 1 {
                        let outside = (0..m - 1).all(|i| {
                            c[i * c_stride + n..(i + 1) * c_stride]
                                .iter()
                                .all(|v| *v == 9.0)
                        });
                        assert!(outside, "nothing beside C is written");
                    }
                }
            }
        }
    }

    #[test]
    fn a_column_has_the_same_bits_in_any_company() {
        let (m, k, stride) = (29, 403, 128);
        let a = normal("a", m * k, 1.0);
        let b = normal("b", k * stride, 1.0);
        let column = |n: usize, start: usize, rows: usize| {
            let mut c = vec![0.0; rows * 128];
            multiply(Product {
                size: (rows, n, k),
                left: Left::rows(&a, k),
                right: (&b[start..], stride),
                out: (&mut c, 128),
                onto: Onto::Nothing,
            });
            c
        };
        let whole = column(100, 0, m);
        for (n, start, rows) in [(1, 37, m), (20, 20, 5), (64, 36, 1)] {
            let part = column(n, start, rows);
            for i in 0..rows {
                for j in 0..n {
                    assert_eq!(
                        part[i * 128 + j].to_bits(),
                        whole[i * 128 + start + j].to_bits()
                    );
                }
            }
        }
    }
}
