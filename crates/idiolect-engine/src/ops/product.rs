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
//! [`k_block`] that are then added: its bits depend on k and the machine's vector unit only, not
//! on m, n, tile or thread.
#![expect(
    unsafe_code,
    reason = "loads and stores of tiles inside slices that were checked as a whole"
)]

use pulp::{Arch, Simd, WithSimd};

use super::arithmetic::{Arithmetic, F32};
use super::operand::OperandA;

/// What becomes of the old contents of C.
#[derive(Clone, Copy)]
pub(crate) enum Accumulate<'a> {
    /// Ignored.
    Nothing,
    /// Added to.
    Output,
    /// C becomes this plus the product; same leading dimension as C.
    Other(&'a [f32]),
}

/// C (+)= A·B.
pub(crate) struct Product<'a> {
    /// Rows of A and C, columns of B and C, columns of A and rows of B.
    pub(crate) size: (usize, usize, usize),
    pub(crate) a: OperandA<'a>,
    /// (k, n), rows readable to whole vectors beyond n.
    pub(crate) b: (&'a [f32], usize),
    /// (m, n).
    pub(crate) c: (&'a mut [f32], usize),
    pub(crate) accumulate: Accumulate<'a>,
}

/// Largest number of terms summed in registers: 48 columns of B of this k_block fill two thirds of
/// a 48 KiB first-level cache.
const K_BLOCK: usize = 512;

/// Rows of A that a block of B meets before the next: 512 × 192 floats are 384 KiB of a
/// second-level cache of 1 MiB or more.
const BLOCK_ROWS: usize = 512;

/// The size of the blocks that a sum of k terms is cut into: even, and at most a third above
/// [`K_BLOCK`] so that no small rest is left.
pub(super) fn k_block(k: usize) -> usize {
    if k <= K_BLOCK * 4 / 3 {
        k
    } else {
        k.div_ceil(k.div_ceil(K_BLOCK))
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
        a,
        b,
        c: out,
        accumulate,
    } = product;
    if m == 0 || n == 0 {
        return;
    }
    let wide = n.next_multiple_of(S::F32_LANES);
    let end = |rows: usize, ld: usize, width: usize| rows.saturating_sub(1) * ld + width;
    a.check(m, k);
    assert!(
        k == 0 || b.0.len() >= end(k, b.1, wide),
        "B operand too short"
    );
    assert!(out.0.len() >= end(m, out.1, n), "output too short");
    let c = out.0.as_mut_ptr();
    let mut base = match accumulate {
        Accumulate::Nothing => std::ptr::null(),
        // The address that is written by, since another of the same slice would no longer be valid.
        Accumulate::Output => c.cast_const(),
        Accumulate::Other(other) => {
            assert!(other.len() >= end(m, out.1, n), "base too short");
            other.as_ptr()
        }
    };
    let kc = k_block(k).max(1);
    let mut k0 = 0;
    while k0 < k || k0 == 0 {
        let kb = kc.min(k - k0);
        let mut m0 = 0;
        while m0 < m {
            let mb = BLOCK_ROWS.min(m - m0);
            let a_offset = if a.col_major {
                k0 * a.ld + m0
            } else {
                m0 * a.ld + k0
            };
            // SAFETY: the asserts above bound every row and column that the block touches, those of
            // B to whole vectors (nothing of A and B where k is 0); C is borrowed for writing here
            // alone, and a base apart from it for reading; a null base is never read.
            unsafe {
                let block = Block {
                    m: mb,
                    n,
                    k: kb,
                    a: a.values.as_ptr().wrapping_add(a_offset),
                    lda: a.ld,
                    b: b.0.as_ptr().wrapping_add(k0 * b.1),
                    ldb: b.1,
                    base: if base.is_null() {
                        base
                    } else {
                        base.add(m0 * out.1)
                    },
                    c: c.add(m0 * out.1),
                    ldc: out.1,
                    ahead: &[],
                };
                if a.col_major {
                    block.run::<S, F32, true>(simd, F32)
                } else {
                    block.run::<S, F32, false>(simd, F32)
                }
            }
            m0 += mb;
        }
        base = c.cast_const();
        k0 += kb.max(1);
    }
}

/// Asks memory for a cache line, which may be at no address at all.
#[inline(always)]
fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that reads nothing and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// A block whose B fits the caches, by raw addresses.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) m: usize,
    pub(super) n: usize,
    /// Steps of the sums, each a float of A and B.
    pub(super) k: usize,
    pub(super) a: *const f32,
    pub(super) lda: usize,
    pub(super) b: *const f32,
    pub(super) ldb: usize,
    /// Added to the product; null for none.
    pub(super) base: *const f32,
    pub(super) c: *mut f32,
    pub(super) ldc: usize,
    /// Addresses that are asked of memory on the way, one a step: what is read or written next.
    pub(super) ahead: &'a [*const f32],
}

impl Block<'_> {
    /// Columns in tiles of three vectors, each met by all rows while it is in the first cache.
    ///
    /// # Safety
    /// All addresses that the sizes and strides imply must be readable, those of C writable and
    /// used by nobody else; B's rows to whole vectors. The base is null, C itself, or apart from C.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, M: Arithmetic<S>, const COL_MAJOR: bool>(
        self,
        simd: S,
        arithmetic: M,
    ) {
        let vectors = self.n.div_ceil(S::F32_LANES);
        let mut v = 0;
        // SAFETY: passed on from the caller; each strip stays inside n rounded up to vectors.
        unsafe {
            while v < vectors {
                let rest = vectors - v;
                // Four vectors are two strips of two, not three and one: a strip of one vector
                // is limited by loads.
                let take = if rest == 4 { 2 } else { rest.min(3) };
                match take {
                    1 => self.strip::<S, M, COL_MAJOR, 1>(simd, arithmetic, v),
                    2 => self.strip::<S, M, COL_MAJOR, 2>(simd, arithmetic, v),
                    _ => self.strip::<S, M, COL_MAJOR, 3>(simd, arithmetic, v),
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
    unsafe fn strip<S: Simd, M: Arithmetic<S>, const COL_MAJOR: bool, const NV: usize>(
        self,
        simd: S,
        arithmetic: M,
        v: usize,
    ) {
        let step = |i: usize| if COL_MAJOR { i } else { i * self.lda };
        let mut i = 0;
        // SAFETY: passed on from the caller; each tile stays inside m. Addresses of A wrap, since
        // there are none where k is 0.
        unsafe {
            if S::REGISTER_COUNT >= 32 {
                while i + 8 <= self.m {
                    self.tile::<S, M, COL_MAJOR, 8, NV>(
                        (simd, arithmetic),
                        i,
                        self.a.wrapping_add(step(i)),
                        v,
                    );
                    i += 8;
                }
            }
            while i + 4 <= self.m {
                self.tile::<S, M, COL_MAJOR, 4, NV>(
                    (simd, arithmetic),
                    i,
                    self.a.wrapping_add(step(i)),
                    v,
                );
                i += 4;
            }
            if i + 2 <= self.m {
                self.tile::<S, M, COL_MAJOR, 2, NV>(
                    (simd, arithmetic),
                    i,
                    self.a.wrapping_add(step(i)),
                    v,
                );
                i += 2;
            }
            if i < self.m {
                self.tile::<S, M, COL_MAJOR, 1, NV>(
                    (simd, arithmetic),
                    i,
                    self.a.wrapping_add(step(i)),
                    v,
                );
            }
        }
    }

    /// `MR` rows from row `i` on (A from `a`) by `NV` vectors, summed in registers.
    ///
    /// # Safety
    /// As [`strip`](Self::strip), with `i + MR` rows inside m.
    #[inline(always)]
    unsafe fn tile<
        S: Simd,
        M: Arithmetic<S>,
        const COL_MAJOR: bool,
        const MR: usize,
        const NV: usize,
    >(
        self,
        (simd, arithmetic): (S, M),
        i: usize,
        a: *const f32,
        v: usize,
    ) {
        let lanes = S::F32_LANES;
        let mut sum = [[simd.splat_f32s(0.0); NV]; MR];
        // SAFETY: row and column bounds are the caller's promise. Addresses of A and B wrap, since
        // there are none where k is 0, and those behind the last step are outside and not read.
        unsafe {
            let mut b = self.b.wrapping_add(v * lanes);
            let mut a = a;
            for step in 0..self.k {
                if let Some(address) = self.ahead.get(step) {
                    prefetch(*address);
                }
                let mut b_row = [simd.splat_f32s(0.0); NV];
                unrolled!(j < NV, {
                    b_row[j] = b.add(j * lanes).cast::<S::f32s>().read_unaligned();
                });
                unrolled!(r < MR, {
                    let factor = simd.splat_f32s(*a.add(if COL_MAJOR { r } else { r * self.lda }));
                    unrolled!(j < NV, {
                        sum[r][j] = arithmetic.mul_add(simd, factor, b_row[j], sum[r][j]);
                    });
                });
                a = a.wrapping_add(if COL_MAJOR { self.lda } else { 1 });
                b = b.wrapping_add(self.ldb);
            }
            let whole = self.n >= (v + NV) * lanes;
            unrolled!(r < MR, {
                let at = (i + r) * self.ldc + v * lanes;
                unrolled!(j < NV, {
                    // Only the last vector of a row can be partial.
                    let width = if whole || j + 1 < NV {
                        lanes
                    } else {
                        self.n - (v + j) * lanes
                    };
                    self.store(simd, at + j * lanes, width, sum[r][j]);
                });
            });
        }
    }

    /// Stores one vector of C of which `width` entries exist.
    ///
    /// # Safety
    /// `at + min(width, lanes)` entries of C (and of the base) must be there.
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, at: usize, width: usize, sum: S::f32s) {
        // SAFETY: the caller's promise; a null base is not read.
        unsafe {
            if width >= S::F32_LANES {
                let c = self.c.add(at).cast::<S::f32s>();
                if self.base.is_null() {
                    c.write_unaligned(sum);
                } else {
                    let old = self.base.add(at).cast::<S::f32s>().read_unaligned();
                    c.write_unaligned(simd.add_f32s(old, sum));
                }
            } else {
                let c = std::slice::from_raw_parts_mut(self.c.add(at), width);
                if self.base.is_null() {
                    simd.partial_store_f32s(c, sum);
                } else {
                    let old = simd
                        .partial_load_f32s(std::slice::from_raw_parts(self.base.add(at), width));
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
        ldb: usize,
    ) -> Vec<f32> {
        let mut c = Vec::new();
        for i in 0..m {
            for j in 0..n {
                c.push(
                    (0..k)
                        .map(|l| f64::from(a(i, l)) * f64::from(b[l * ldb + j]))
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
            let (lda, ldb, ldc) = (m.max(k) + 3, n.next_multiple_of(16) + 16, n + 5);
            let values = normal("a", lda * m.max(k), 1.0);
            let b = normal("b", ldb * k.max(1), 1.0);
            let old = normal("c", ldc * m, 1.0);
            for col_major in [false, true] {
                let a = OperandA {
                    values: &values,
                    ld: lda,
                    col_major,
                };
                let entry = |i: usize, l: usize| {
                    if col_major {
                        values[l * lda + i]
                    } else {
                        values[i * lda + l]
                    }
                };
                let expected = naive(m, n, k, &entry, &b, ldb);
                for accumulate in 0..3 {
                    let mut c = if accumulate == 1 {
                        old.clone()
                    } else {
                        vec![9.0; old.len()]
                    };
                    let mode = [
                        Accumulate::Nothing,
                        Accumulate::Output,
                        Accumulate::Other(&old),
                    ][accumulate];
                    multiply(Product {
                        size: (m, n, k),
                        a,
                        b: (&b, ldb),
                        c: (&mut c, ldc),
                        accumulate: mode,
                    });
                    let got: Vec<f32> = (0..m)
                        .flat_map(|i| c[i * ldc..i * ldc + n].to_vec())
                        .collect();
                    let want: Vec<f32> = (0..m * n)
                        .map(|e| {
                            expected[e]
                                + if accumulate == 0 {
                                    0.0
                                } else {
                                    old[e / n * ldc + e % n]
                                }
                        })
                        .collect();
                    close(
                        &format!("({m}, {n}, {k}) {col_major} {accumulate}"),
                        &got,
                        &want,
                        1e-5,
                    );
                    if accumulate != 1 {
                        let outside = (0..m - 1)
                            .all(|i| c[i * ldc + n..(i + 1) * ldc].iter().all(|v| *v == 9.0));
                        assert!(outside, "nothing beside C is written");
                    }
                }
            }
        }
    }

    #[test]
    fn a_column_has_the_same_bits_in_any_company() {
        let (m, k, ld) = (29, 403, 128);
        let a = normal("a", m * k, 1.0);
        let b = normal("b", k * ld, 1.0);
        let column = |n: usize, start: usize, rows: usize| {
            let mut c = vec![0.0; rows * 128];
            multiply(Product {
                size: (rows, n, k),
                a: OperandA::row_major(&a, k),
                b: (&b[start..], ld),
                c: (&mut c, 128),
                accumulate: Accumulate::Nothing,
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
