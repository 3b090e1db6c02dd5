//! Products of bf16 factors by `vdpbf16ps`, which adds two terms to a sum of f32 at once.
//!
//! A lane holds a *pair*: the bf16 of terms 2s and 2s + 1, in the place of one f32. A sum of k terms
//! is one of ⌈k/2⌉ pairs, the last with a zero where k is odd. The instruction takes numbers below
//! the smallest normal one for 0 and rounds its sums to the nearest.
#![cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "instructions that the unit's existence proves to be there, on vectors in registers"
    )
)]

pub(super) use unit::Bf16Unit;

#[cfg(not(target_arch = "x86_64"))]
mod unit {
    use crate::ops::arithmetic::WithArithmetic;

    /// There is none on this architecture.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Bf16Unit {}

    impl Bf16Unit {
        pub(in crate::ops) fn detect() -> Option<Self> {
            None
        }

        pub(in crate::ops) fn dispatch<Op: WithArithmetic>(self, _: Op) {
            match self {}
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod unit {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_permutexvar_epi16,
    };
    use std::mem::transmute;

    use pulp::x86::V4;
    use pulp::{Simd, f32x16};

    use crate::ops::arithmetic::{Arithmetic, Steps, WithArithmetic};
    use crate::ops::operand::{StoredOperand, widen_all};
    use crate::ops::packed::{OperandB, TALL};
    use crate::ops::transpose::columns_of;

    /// AVX-512 with bf16; a value of it is the proof that this machine has it.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Bf16Unit(V4);

    impl Bf16Unit {
        pub(in crate::ops) fn detect() -> Option<Self> {
            let v4 = V4::try_new()?;
            std::is_x86_feature_detected!("avx512bf16").then_some(Self(v4))
        }

        pub(in crate::ops) fn dispatch<Op: WithArithmetic>(self, op: Op) {
            // What `V4` has, and bf16: so that its operations are compiled into this one.
            #[target_feature(
                enable = "fxsr,popcnt,bmi1,bmi2,fma,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,\
                          avx512bf16"
            )]
            fn with_bf16<Op: WithArithmetic>(unit: Bf16Unit, op: Op) {
                op.with(unit.0, Pairs);
            }
            // SAFETY: `detect` found all of these features.
            unsafe { with_bf16(self, op) }
        }
    }

    const LANES: usize = 16;

    /// Two terms a step. Made by [`Bf16Unit::dispatch`] alone.
    #[derive(Clone, Copy)]
    struct Pairs;

    /// 16 values from `at` on, zeros beyond the last.
    #[inline(always)]
    fn load(simd: V4, values: &[f32], at: usize) -> f32x16 {
        match values.get(at..) {
            Some(values) => match values.first_chunk::<LANES>() {
                Some(whole) => simd.partial_load_f32s(whole),
                None => simd.partial_load_f32s(values),
            },
            None => simd.splat_f32s(0.0),
        }
    }

    /// `n` values, at most 16, of row k of a column-major A from column `i` on, zeros beyond.
    #[inline(always)]
    fn row(simd: V4, a: StoredOperand<'_>, k: usize, (i, n): (usize, usize)) -> f32x16 {
        match a {
            StoredOperand::F32(a) => load(simd, &a.values[k * a.ld + i..][..n], 0),
            StoredOperand::Bf16(a) => {
                let mut values = [0.0; LANES];
                widen_all(&a.values[k * a.ld + i..][..n], &mut values);
                load(simd, &values, 0)
            }
        }
    }

    /// 32 values rounded to bf16, those of `first` before those of `second`.
    #[inline(always)]
    fn round(first: f32x16, second: f32x16) -> __m512i {
        // SAFETY: vectors of one size; the instruction is there, as `Pairs` is.
        unsafe {
            let first = transmute::<f32x16, __m512>(first);
            let second = transmute::<f32x16, __m512>(second);
            transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first))
        }
    }

    /// Pairs of neighbours: of 32 values in a row.
    #[inline(always)]
    fn neighbours(first: f32x16, second: f32x16) -> f32x16 {
        // SAFETY: vectors of one size.
        unsafe { transmute::<__m512i, f32x16>(round(first, second)) }
    }

    /// Pairs across: lane i of both.
    #[inline(always)]
    fn across(first: f32x16, second: f32x16) -> f32x16 {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 32 {
                order[i] = (i / 2 + i % 2 * LANES) as u16;
                i += 1;
            }
            order
        };
        // SAFETY: as `round`.
        unsafe {
            let pairs = _mm512_permutexvar_epi16(
                transmute::<[u16; 32], __m512i>(ORDER),
                round(first, second),
            );
            transmute::<__m512i, f32x16>(pairs)
        }
    }

    /// Pairs of neighbours of some values: 16 of the first 32, zeros beyond the last.
    #[inline(always)]
    fn pairs_of(simd: V4, values: &[f32]) -> f32x16 {
        neighbours(load(simd, values, 0), load(simd, values, LANES))
    }

    /// Stores the first of 16 pairs.
    #[inline(always)]
    fn store(simd: V4, to: &mut [f32], pairs: f32x16) {
        match to.first_chunk_mut::<LANES>() {
            Some(whole) => simd.partial_store_f32s(whole, pairs),
            None => simd.partial_store_f32s(to, pairs),
        }
    }

    impl Arithmetic<V4> for Pairs {
        const TERMS: usize = 2;

        #[inline(always)]
        fn mul_add(self, _: V4, a: f32x16, b: f32x16, sum: f32x16) -> f32x16 {
            // SAFETY: as `round`.
            unsafe {
                transmute::<__m512, f32x16>(_mm512_dpbf16_ps(
                    transmute::<f32x16, __m512>(sum),
                    transmute::<f32x16, __m512bh>(a),
                    transmute::<f32x16, __m512bh>(b),
                ))
            }
        }

        #[inline(always)]
        fn rows<'a>(
            self,
            simd: V4,
            a: StoredOperand<'a>,
            (i, count): (usize, usize),
            steps: Steps,
            (buffer, width): (&'a mut [f32], usize),
        ) -> (&'a [f32], usize) {
            let terms = steps.terms(2);
            for (i, to) in (i..i + count).zip(buffer.chunks_exact_mut(width)) {
                let to = &mut to[..steps.count];
                match a {
                    StoredOperand::F32(a) => {
                        let row = &a.values[i * a.ld..][terms.clone()];
                        for (to, values) in to.chunks_mut(LANES).zip(row.chunks(2 * LANES)) {
                            store(simd, to, pairs_of(simd, values));
                        }
                    }
                    StoredOperand::Bf16(a) => {
                        let row = &a.values[i * a.ld..][terms.clone()];
                        let (whole, last) = row.as_chunks::<2>();
                        for (to, [first, second]) in to.iter_mut().zip(whole) {
                            *to = f32::from_bits(u32::from(*first) | u32::from(*second) << 16);
                        }
                        if let (Some(to), [first]) = (to.last_mut(), last) {
                            *to = f32::from_bits(u32::from(*first));
                        }
                    }
                }
            }
            (buffer, width)
        }

        #[inline(always)]
        fn columns(
            self,
            simd: V4,
            a: StoredOperand<'_>,
            i: usize,
            (m, k): (usize, usize),
            to: &mut [f32],
        ) {
            let steps = k.div_ceil(2);
            let mut panels = to.chunks_exact_mut((TALL * steps).max(1));
            // Two panels at a time: a vector of 16 rows.
            for i in (i..m).step_by(2 * TALL) {
                let (Some(upper), lower) = (panels.next(), panels.next()) else {
                    return;
                };
                let mut lower = lower.map(|panel| panel.chunks_exact_mut(TALL));
                let n = (m - i).min(2 * TALL);
                for (s, upper) in upper.chunks_exact_mut(TALL).enumerate() {
                    let first = row(simd, a, 2 * s, (i, n));
                    let second = if 2 * s + 1 < k {
                        row(simd, a, 2 * s + 1, (i, n))
                    } else {
                        simd.splat_f32s(0.0)
                    };
                    let mut pairs = [0.0; LANES];
                    store(simd, &mut pairs, across(first, second));
                    upper.copy_from_slice(&pairs[..TALL]);
                    if let Some(lower) = lower.as_mut().and_then(Iterator::next) {
                        lower.copy_from_slice(&pairs[TALL..]);
                    }
                }
            }
        }

        #[inline(always)]
        fn panel(
            self,
            simd: V4,
            b: OperandB<'_>,
            steps: Steps,
            (j, n): (usize, usize),
            (panel, wide): (&mut [f32], usize),
        ) {
            match b {
                OperandB::RowMajor(values, ld) => {
                    let rows = panel.chunks_exact_mut(wide).take(steps.count);
                    for (s, to) in (steps.first..).zip(rows) {
                        let first = &values[2 * s * ld + j..][..n];
                        let second = if 2 * s + 1 < steps.k {
                            &values[(2 * s + 1) * ld + j..][..n]
                        } else {
                            &[]
                        };
                        for (v, to) in to.chunks_exact_mut(LANES).enumerate() {
                            let at = v * LANES;
                            store(
                                simd,
                                to,
                                across(load(simd, first, at), load(simd, second, at)),
                            );
                        }
                    }
                }
                OperandB::ColMajor(values, ld) => {
                    let terms = steps.terms(2);
                    for v in (0..wide).step_by(LANES) {
                        for s0 in (0..steps.count).step_by(LANES) {
                            let mut block = [simd.splat_f32s(0.0); LANES];
                            for (c, pairs) in block.iter_mut().enumerate().take(n.saturating_sub(v))
                            {
                                let column = &values[(j + v + c) * ld..][terms.clone()];
                                *pairs = pairs_of(simd, &column[2 * s0..]);
                            }
                            // SAFETY: arrays of vectors of one size.
                            let columns: [f32x16; LANES] = unsafe {
                                let block = transmute::<[f32x16; LANES], [__m512; LANES]>(block);
                                transmute(columns_of(simd, block))
                            };
                            let rows = panel[s0 * wide..].chunks_exact_mut(wide);
                            for (to, pairs) in rows.take(steps.count - s0).zip(columns) {
                                store(simd, &mut to[v..], pairs);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use crate::ops::arithmetic::Factors;
    use crate::ops::cpu::Cpu;
    use crate::ops::operand::{Stored, f32_to_bf16, widen};
    use crate::ops::packed::OperandB;
    use crate::ops::product::Accumulate;
    use crate::ops::testing::{close, normal};
    use crate::ops::transpose::transpose;
    use crate::threads::Threads;

    /// Of any layout, size and number of threads: the sums of the rounded factors, and the same bits.
    #[test]
    fn products_are_those_of_rounded_factors() {
        let Some(factors) = Factors::bf16() else {
            return crate::ops::testing::without_bf16();
        };
        for (m, n, k) in [
            (1, 1usize, 1usize),
            (9, 17, 2),
            (37, 129, 71),
            (300, 65, 33),
            (21, 500, 2701),
            (40, 70, 0),
        ] {
            let (a, b) = (normal("a", m * k, 1.0), normal("b", n * k, 1.0));
            let old = normal("old", m * n, 1.0);
            let halves: Vec<u16> = a.iter().map(|x| f32_to_bf16(*x)).collect();
            let rounded = |x: &f32| f64::from(widen(f32_to_bf16(*x)));
            let want: Vec<f32> = (0..m * n)
                .map(|e| {
                    let row = a[e / n * k..][..k].iter();
                    let column = b.iter().skip(e % n).step_by(n);
                    let sum: f64 = row.zip(column).map(|(a, b)| rounded(a) * rounded(b)).sum();
                    (f64::from(old[e]) + sum) as f32
                })
                .collect();
            let turn = |(rows, columns), from: &[f32]| {
                let mut to = vec![0.0; rows * columns];
                transpose((rows, columns), (from, columns), (&mut to, rows));
                to
            };
            let (a_turned, b_turned) = (turn((m, k), &a), turn((k, n), &b));
            let turned_halves: Vec<u16> = a_turned.iter().map(|x| f32_to_bf16(*x)).collect();
            let mut all: Vec<Vec<f32>> = Vec::new();
            for a in [
                Stored::F32(&a).row_major(k),
                Stored::Bf16(&halves).row_major(k),
                Stored::F32(&a_turned).col_major(m),
                Stored::Bf16(&turned_halves).col_major(m),
            ] {
                for b in [OperandB::RowMajor(&b, n), OperandB::ColMajor(&b_turned, k)] {
                    for threads in 1..4 {
                        let pool = Threads::new(NonZeroUsize::new(threads).unwrap());
                        let mut got = old.clone();
                        Cpu::new(&pool, &mut Default::default()).multiply_packed(
                            factors,
                            (m, n, k),
                            a,
                            b,
                            (&mut got, n),
                            Accumulate::Output,
                        );
                        all.push(got);
                    }
                }
            }
            close(&format!("({m}, {n}, {k})"), &all[0], &want, 2e-5);
            assert!(
                all.iter().all(|got| got == &all[0]),
                "({m}, {n}, {k}): bits"
            );
        }
    }
}
