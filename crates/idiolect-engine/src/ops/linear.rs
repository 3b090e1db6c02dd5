//! Linear maps: y = W x (+ b) on lanes.
//!
//! The three products of one map. Work is shared by rows of what is written. Products run over
//! whole lines of lanes: those beyond T hold zeros and give zeros.

use super::arithmetic::Factors;
use super::cpu::Cpu;
use super::operand::OperandA;
use super::operand::{Stored, widen_all};
use super::packed::{OperandB, packs};
use super::product::{Accumulate, Product, multiply};
use super::transpose::transpose;
use super::{aligned, lanes};
use crate::threads::Threads;

/// The number of rows that one chunk of work writes: everything for one thread, else enough
/// chunks to share evenly, each of whole tiles. Does not change results.
fn chunk_rows(threads: &Threads, rows: usize) -> usize {
    if threads.n() == 1 {
        rows.max(1)
    } else {
        rows.div_ceil(4 * threads.n()).next_multiple_of(8)
    }
}

/// Wᵀ without its rows before `first`, of which the next `count` are read.
fn columns<'a>(
    weight: Stored<'a>,
    (first, count): (usize, usize),
    (o, i): (usize, usize),
    scratch: &'a mut Vec<f32>,
) -> OperandA<'a> {
    let halves = match weight {
        Stored::F32(values) => return OperandA::col_major(&values[first..], i),
        Stored::Bf16(halves) => halves,
    };
    let out = aligned(scratch, o * count);
    for (to, row) in out.chunks_exact_mut(count).zip(halves.chunks_exact(i)) {
        widen_all(&row[first..first + count], to);
    }
    OperandA::col_major(out, count)
}

impl Cpu<'_> {
    /// Linear map.
    ///
    /// - `out`: (O, T) lanes of leading dimension `ld`; overwritten, or with `base`
    ///   that plus the product
    /// - `weight`: (O, I)
    /// - `bias`: (O) or empty
    /// - `input`: (I, T) lanes of leading dimension `ld`
    ///
    /// out = W x + b, or base + W x (no map here has both)
    pub(crate) fn linear(
        &mut self,
        factors: Factors,
        out: &mut [f32],
        (weight, bias): (Stored<'_>, &[f32]),
        input: &[f32],
        base: Option<&[f32]>,
        (n, ld): (usize, usize),
    ) {
        let (o, i) = (out.len() / ld, input.len() / ld);
        for (row, b) in out.chunks_exact_mut(ld).zip(bias) {
            row[..n].fill(*b);
            row[n..].fill(0.0);
        }
        let size = (o, lanes(n), i);
        if packs(factors, size) {
            let accumulate = match base {
                Some(base) => Accumulate::Other(base),
                None if bias.is_empty() => Accumulate::Nothing,
                None => Accumulate::Output,
            };
            let (a, b) = (weight.row_major(i), OperandB::RowMajor(input, ld));
            return self.multiply_packed(factors, size, a, b, (out, ld), accumulate);
        }
        let rows = chunk_rows(self.threads, o);
        self.for_chunks(
            o.div_ceil(rows),
            [(out, rows * ld)],
            |chunk, [out], scratch| {
                let step = weight.at_a_time(rows);
                for (part, out) in out.chunks_mut(step * ld).enumerate() {
                    let first = chunk * rows + part * step;
                    let accumulate = match base {
                        Some(base) => Accumulate::Other(&base[first * ld..]),
                        None if bias.is_empty() => Accumulate::Nothing,
                        None => Accumulate::Output,
                    };
                    let count = out.len() / ld;
                    let weight = weight.skip(first * i);
                    let workspace = aligned(scratch, weight.workspace(count * i));
                    multiply(Product {
                        size: (count, lanes(n), i),
                        a: OperandA::row_major(weight.first(count * i, workspace), i),
                        b: (input, ld),
                        c: (out, ld),
                        accumulate,
                    });
                }
            },
        );
    }

    /// Gradient of a linear map's input.
    ///
    /// - `d_input`: (I, T) lanes of leading dimension `ld`, overwritten
    /// - `weight`: (O, I)
    /// - `d_out`: (O, T) lanes
    ///
    /// d_input = Wᵀ d_out
    pub(crate) fn linear_d_input(
        &mut self,
        factors: Factors,
        d_input: &mut [f32],
        weight: Stored<'_>,
        d_out: &[f32],
        (n, ld): (usize, usize),
    ) {
        let (o, i) = (d_out.len() / ld, d_input.len() / ld);
        let size = (i, lanes(n), o);
        if packs(factors, size) {
            let (a, b) = (weight.col_major(i), OperandB::RowMajor(d_out, ld));
            let out = (d_input, ld);
            return self.multiply_packed(factors, size, a, b, out, Accumulate::Nothing);
        }
        let rows = chunk_rows(self.threads, i);
        self.for_chunks(
            i.div_ceil(rows),
            [(d_input, rows * ld)],
            |chunk, [d_input], scratch| {
                let step = weight.at_a_time(rows);
                for (part, d_input) in d_input.chunks_mut(step * ld).enumerate() {
                    let count = d_input.len() / ld;
                    let first = chunk * rows + part * step;
                    multiply(Product {
                        size: (count, lanes(n), o),
                        a: columns(weight, (first, count), (o, i), scratch),
                        b: (d_out, ld),
                        c: (d_input, ld),
                        accumulate: Accumulate::Nothing,
                    });
                }
            },
        );
    }

    /// Gradient of a linear map's weight and bias.
    ///
    /// - `d_weight`: (O, I), accumulated into
    /// - `d_bias`: (O) or empty, accumulated into
    /// - `d_out`: (O, T) lanes of leading dimension `ld`
    /// - `input`: (I, T) lanes
    /// - `tokens`: T · [`leading_dim`](super::leading_dim)(I) of scratch
    ///
    /// d_W += d_out xᵀ,  d_b += Σ_t d_out
    pub(crate) fn linear_d_weight(
        &mut self,
        factors: Factors,
        (d_weight, d_bias): (&mut [f32], &mut [f32]),
        d_out: &[f32],
        input: &[f32],
        (n, ld): (usize, usize),
        tokens: &mut [f32],
    ) {
        let (o, i) = (d_out.len() / ld, input.len() / ld);
        for (d, row) in d_bias.iter_mut().zip(d_out.chunks_exact(ld)) {
            *d += row[..n].iter().sum::<f32>();
        }
        if d_weight.is_empty() {
            return;
        }
        let size = (o, i, n);
        if packs(factors, size) {
            let (a, b) = (
                OperandA::row_major(d_out, ld),
                OperandB::ColMajor(input, ld),
            );
            let out = (d_weight, i);
            return self.multiply_packed(factors, size, a, b, out, Accumulate::Output);
        }
        let width = super::leading_dim(i);
        let tokens = &mut tokens[..n * width];
        transpose((i, n), (input, ld), (tokens, width));
        super::clear_beyond(tokens, i, width);
        let tokens = &*tokens;
        let rows = chunk_rows(self.threads, o);
        self.for_chunks(
            o.div_ceil(rows),
            [(d_weight, rows * i)],
            |chunk, [d_weight], _| {
                multiply(Product {
                    size: (d_weight.len() / i, i, n),
                    a: OperandA::row_major(&d_out[chunk * rows * ld..], ld),
                    b: (tokens, width),
                    c: (d_weight, i),
                    accumulate: Accumulate::Output,
                });
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of, normal};
    use std::num::NonZeroUsize;

    /// On both sides of the size from which products are packed.
    #[test]
    fn a_weight_in_bf16_gives_the_bits_of_its_f32() {
        for (o, i, n) in [(45, 23, 37), (701, 698, 150)] {
            let ld = crate::ops::leading_dim(n);
            let halves: Vec<u16> = normal("w", o * i, 1.0)
                .iter()
                .map(|w| (w.to_bits() >> 16) as u16)
                .collect();
            let mut weight = vec![0.0; o * i];
            widen_all(&halves, &mut weight);
            let (x, d) = (lanes_of("x", i, n, ld), lanes_of("d", o, n, ld));
            assert_eq!(packs(Factors::F32, (o, lanes(n), i)), o > 100);
            assert_eq!(packs(Factors::F32, (i, lanes(n), o)), o > 100);
            let mut bits = Vec::new();
            for t in 1..3 {
                let threads = Threads::new(NonZeroUsize::new(t).unwrap());
                for weight in [Stored::F32(&weight), Stored::Bf16(&halves)] {
                    let (mut y, mut dx) = (vec![0.0; o * ld], vec![0.0; i * ld]);
                    let shape = (n, ld);
                    Cpu::new(&threads, &mut Default::default()).linear(
                        Factors::F32,
                        &mut y,
                        (weight, &[]),
                        &x,
                        None,
                        shape,
                    );
                    Cpu::new(&threads, &mut Default::default()).linear_d_input(
                        Factors::F32,
                        &mut dx,
                        weight,
                        &d,
                        shape,
                    );
                    bits.push([y, dx].concat());
                }
            }
            assert!(bits[0].iter().any(|b| *b != 0.0));
            assert!(bits.iter().all(|b| b == &bits[0]));
        }
    }

    #[test]
    fn the_three_products_agree_with_their_formulas_on_any_number_of_threads() {
        let (o, i, n, ld) = (45, 23, 37, 48);
        let (weight, bias) = (normal("w", o * i, 1.0), normal("b", o, 1.0));
        let (x, d) = (lanes_of("x", i, n, ld), lanes_of("d", o, n, ld));
        let base = lanes_of("base", o, n, ld);
        let at = |m: &[f32], r: usize, c: usize| f64::from(m[r * ld + c]);
        let mut bits: Vec<Vec<f32>> = Vec::new();
        for t in 1..4 {
            let threads = Threads::new(NonZeroUsize::new(t).unwrap());
            let shape = (n, ld);
            let mut y = vec![0.0; o * ld];
            Cpu::new(&threads, &mut Default::default()).linear(
                Factors::F32,
                &mut y,
                (Stored::F32(&weight), &bias),
                &x,
                None,
                shape,
            );
            let mut z = vec![0.0; o * ld];
            Cpu::new(&threads, &mut Default::default()).linear(
                Factors::F32,
                &mut z,
                (Stored::F32(&weight), &[]),
                &x,
                Some(&base),
                shape,
            );
            let mut dx = vec![0.0; i * ld];
            Cpu::new(&threads, &mut Default::default()).linear_d_input(
                Factors::F32,
                &mut dx,
                Stored::F32(&weight),
                &d,
                shape,
            );
            let (mut dw, mut db) = (vec![1.0; o * i], vec![1.0; o]);
            let mut tokens = vec![f32::NAN; n * crate::ops::leading_dim(i)];
            Cpu::new(&threads, &mut Default::default()).linear_d_weight(
                Factors::F32,
                (&mut dw, &mut db),
                &d,
                &x,
                shape,
                &mut tokens,
            );
            bits.push([y, z, dx, dw, db].concat());
        }
        assert!(bits.iter().all(|b| b == &bits[0]));
        let w = |r: usize, c: usize| f64::from(weight[r * i + c]);
        let mut want = Vec::new();
        let product = |r: usize, t: usize| (0..i).map(|c| w(r, c) * at(&x, c, t)).sum::<f64>();
        let lane = |f: &dyn Fn(usize, usize) -> f64, rows: usize| -> Vec<f32> {
            (0..rows * ld)
                .map(|e| {
                    if e % ld < n {
                        f(e / ld, e % ld) as f32
                    } else {
                        0.0
                    }
                })
                .collect()
        };
        want.extend(lane(&|r, t| product(r, t) + f64::from(bias[r]), o));
        want.extend(lane(&|r, t| product(r, t) + at(&base, r, t), o));
        want.extend(lane(
            &|c, t| (0..o).map(|r| w(r, c) * at(&d, r, t)).sum(),
            i,
        ));
        for r in 0..o {
            want.extend(
                (0..i).map(|c| {
                    (1.0 + (0..n).map(|t| at(&d, r, t) * at(&x, c, t)).sum::<f64>()) as f32
                }),
            );
        }
        want.extend((0..o).map(|r| (1.0 + (0..n).map(|t| at(&d, r, t)).sum::<f64>()) as f32));
        close("all", &bits[0], &want, 1e-5);
    }
}
