//! Linear maps: y = W x (+ b) on lanes.
//!
//! The three products of one map. Work is shared by rows of what is written. Products run over
//! whole lines of lanes: those beyond N hold zeros and give zeros.

use super::packed::{Right, multiply_packed, packs};
use super::product::{Left, Onto, Product, multiply};
use super::stored::{Stored, widen_all};
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
) -> Left<'a> {
    let halves = match weight {
        Stored::F32(values) => return Left::columns(&values[first..], i),
        Stored::Bf16(halves) => halves,
    };
    let out = aligned(scratch, o * count);
    for (to, row) in out.chunks_exact_mut(count).zip(halves.chunks_exact(i)) {
        widen_all(&row[first..first + count], to);
    }
    Left::columns(out, count)
}

/// Linear map.
///
/// - `out`: (O, N) lanes at `stride`; overwritten, or with `onto` a base plus the product
/// - `weight`: (O, I)
/// - `bias`: (O) or empty
/// - `input`: (I, N) lanes at `stride`
///
/// out = W x + b, or base + W x (no map here has both)
pub(crate) fn linear(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    out: &mut [f32],
    (weight, bias): (Stored<'_>, &[f32]),
    input: &[f32],
    base: Option<&[f32]>,
    (n, stride): (usize, usize),
) {
    let (o, i) = (out.len() / stride, input.len() / stride);
    for (row, b) in out.chunks_exact_mut(stride).zip(bias) {
        row[..n].fill(*b);
        row[n..].fill(0.0);
    }
    let size = (o, lanes(n), i);
    if packs(size) {
        let onto = match base {
            Some(base) => Onto::Other(base),
            None if bias.is_empty() => Onto::Nothing,
            None => Onto::Itself,
        };
        let (left, right) = (weight.rows(i), Right::Rows(input, stride));
        return multiply_packed(threads, scratch, size, left, right, (out, stride), onto);
    }
    let rows = chunk_rows(threads, o);
    threads.for_chunks(
        o.div_ceil(rows),
        [(out, rows * stride)],
        scratch,
        |chunk, [out], scratch| {
            let step = weight.at_a_time(rows);
            for (part, out) in out.chunks_mut(step * stride).enumerate() {
                let first = chunk * rows + part * step;
                let onto = match base {
                    Some(base) => Onto::Other(&base[first * stride..]),
                    None if bias.is_empty() => Onto::Nothing,
                    None => Onto::Itself,
                };
                let count = out.len() / stride;
                let weight = weight.skip(first * i);
                let room = aligned(scratch, weight.room(count * i));
                multiply(Product {
                    size: (count, lanes(n), i),
                    left: Left::rows(weight.first(count * i, room), i),
                    right: (input, stride),
                    out: (out, stride),
                    onto,
                });
            }
        },
    );
}

/// Gradient of a linear map's input.
///
/// - `d_input`: (I, N) lanes at `stride`, overwritten
/// - `weight`: (O, I)
/// - `d_out`: (O, N) lanes
///
/// d_input = Wᵀ d_out
pub(crate) fn linear_d_input(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    d_input: &mut [f32],
    weight: Stored<'_>,
    d_out: &[f32],
    (n, stride): (usize, usize),
) {
    let (o, i) = (d_out.len() / stride, d_input.len() / stride);
    let size = (i, lanes(n), o);
    if packs(size) {
        let (left, right) = (weight.columns(i), Right::Rows(d_out, stride));
        let out = (d_input, stride);
        return multiply_packed(threads, scratch, size, left, right, out, Onto::Nothing);
    }
    let rows = chunk_rows(threads, i);
    threads.for_chunks(
        i.div_ceil(rows),
        [(d_input, rows * stride)],
        scratch,
        |chunk, [d_input], scratch| {
            let step = weight.at_a_time(rows);
            for (part, d_input) in d_input.chunks_mut(step * stride).enumerate() {
                let count = d_input.len() / stride;
                let first = chunk * rows + part * step;
                multiply(Product {
                    size: (count, lanes(n), o),
                    left: columns(weight, (first, count), (o, i), scratch),
                    right: (d_out, stride),
                    out: (d_input, stride),
                    onto: Onto::Nothing,
                });
            }
        },
    );
}

/// Gradient of a linear map's weight and bias.
///
/// - `d_weight`: (O, I), accumulated into
/// - `d_bias`: (O) or empty, accumulated into
/// - `d_out`: (O, N) lanes at `stride`
/// - `input`: (I, N) lanes
/// - `tokens`: N · [`stride`](super::stride)(I) of scratch
///
/// d_W += d_out xᵀ,  d_b += Σ_n d_out
pub(crate) fn linear_d_weight(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    (d_weight, d_bias): (&mut [f32], &mut [f32]),
    d_out: &[f32],
    input: &[f32],
    (n, stride): (usize, usize),
    tokens: &mut [f32],
) {
    let (o, i) = (d_out.len() / stride, input.len() / stride);
    for (d, row) in d_bias.iter_mut().zip(d_out.chunks_exact(stride)) {
        *d += row[..n].iter().sum::<f32>();
    }
    if d_weight.is_empty() {
        return;
    }
    let size = (o, i, n);
    if packs(size) {
        let (left, right) = (Left::rows(d_out, stride), Right::Columns(input, stride));
        let out = (d_weight, i);
        return multiply_packed(threads, scratch, size, left, right, out, Onto::Itself);
    }
    let width = super::stride(i);
    let tokens = &mut tokens[..n * width];
    transpose((i, n), (input, stride), (tokens, width));
    super::clear_beyond(tokens, i, width);
    let tokens = &*tokens;
    let rows = chunk_rows(threads, o);
    threads.for_chunks(
        o.div_ceil(rows),
        [(d_weight, rows * i)],
        scratch,
        |chunk, [d_weight], _| {
            multiply(Product {
                size: (d_weight.len() / i, i, n),
                left: Left::rows(&d_out[chunk * rows * stride..], stride),
                right: (tokens, width),
                out: (d_weight, i),
                onto: Onto::Itself,
            });
        },
    );
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
            let stride = crate::ops::stride(n);
            let halves: Vec<u16> = normal("w", o * i, 1.0)
                .iter()
                .map(|w| (w.to_bits() >> 16) as u16)
                .collect();
            let mut weight = vec![0.0; o * i];
            widen_all(&halves, &mut weight);
            let (x, d) = (lanes_of("x", i, n, stride), lanes_of("d", o, n, stride));
            assert_eq!(packs((o, lanes(n), i)), o > 100);
            assert_eq!(packs((i, lanes(n), o)), o > 100);
            let mut bits = Vec::new();
            for t in 1..3 {
                let threads = Threads::new(NonZeroUsize::new(t).unwrap());
                for weight in [Stored::F32(&weight), Stored::Bf16(&halves)] {
                    let scratch = &mut vec![Vec::new(); t + 1];
                    let (mut y, mut dx) = (vec![0.0; o * stride], vec![0.0; i * stride]);
                    let shape = (n, stride);
                    linear(&threads, scratch, &mut y, (weight, &[]), &x, None, shape);
                    linear_d_input(&threads, scratch, &mut dx, weight, &d, shape);
                    bits.push([y, dx].concat());
                }
            }
            assert!(bits[0].iter().any(|b| *b != 0.0));
            assert!(bits.iter().all(|b| b == &bits[0]));
        }
    }

    #[test]
    fn the_three_products_agree_with_their_formulas_on_any_number_of_threads() {
        let (o, i, n, stride) = (45, 23, 37, 48);
        let (weight, bias) = (normal("w", o * i, 1.0), normal("b", o, 1.0));
        let (x, d) = (lanes_of("x", i, n, stride), lanes_of("d", o, n, stride));
        let base = lanes_of("base", o, n, stride);
        let at = |m: &[f32], r: usize, c: usize| f64::from(m[r * stride + c]);
        let mut bits: Vec<Vec<f32>> = Vec::new();
        for t in 1..4 {
            let threads = Threads::new(NonZeroUsize::new(t).unwrap());
            let mut scratch = vec![Vec::new(); t];
            let shape = (n, stride);
            let mut y = vec![0.0; o * stride];
            linear(
                &threads,
                &mut scratch,
                &mut y,
                (Stored::F32(&weight), &bias),
                &x,
                None,
                shape,
            );
            let mut z = vec![0.0; o * stride];
            linear(
                &threads,
                &mut scratch,
                &mut z,
                (Stored::F32(&weight), &[]),
                &x,
                Some(&base),
                shape,
            );
            let mut dx = vec![0.0; i * stride];
            linear_d_input(
                &threads,
                &mut scratch,
                &mut dx,
                Stored::F32(&weight),
                &d,
                shape,
            );
            let (mut dw, mut db) = (vec![1.0; o * i], vec![1.0; o]);
            let mut tokens = vec![f32::NAN; n * crate::ops::stride(i)];
            linear_d_weight(
                &threads,
                &mut scratch,
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
            (0..rows * stride)
                .map(|e| {
                    if e % stride < n {
                        f(e / stride, e % stride) as f32
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
