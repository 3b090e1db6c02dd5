//! Low-rank maps beside a linear map: y += s B (A x), forward and backward.
//!
//! Maps whose outputs are stacked share their input (q, k, v; gate, up), so their A lie one under
//! the other and are one product. h = s A x is R rows for an output of hundreds: it is computed
//! again in the backward, which costs a hundredth of a step and saves nothing.

use super::cpu::Cpu;
use super::operand::OperandA;
use super::product::{Accumulate, Product, multiply};
use super::transpose::transpose;
use super::{Buffer, lanes};
use crate::threads::Threads;

/// The low-rank maps of one linear map; without any map it does nothing.
#[derive(Clone, Copy, Default)]
pub(crate) struct LowRank<'a> {
    /// (R, I): each map's A, one under the other.
    pub(crate) a: &'a [f32],
    /// (rows of all maps, r): each map's B, one under the other.
    pub(crate) b: &'a [f32],
    pub(crate) maps: &'a [Map],
    /// r, of every map.
    pub(crate) rank: usize,
    pub(crate) scale: f32,
}

/// The place of one low-rank map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    /// Rows of the linear map's output that it adds to.
    pub(crate) rows: std::ops::Range<usize>,
    /// Its first row in the stacked B.
    pub(crate) first: usize,
}

/// Buffers of these operations; they grow and are reused.
#[derive(Debug, Default)]
pub(crate) struct LowRankWorkspace {
    /// h and its gradient: (R, T).
    h: Buffer,
    d_h: Buffer,
    /// h or its gradient as rows of tokens.
    tokens: Buffer,
    /// (I, R).
    outer: Buffer,
}

/// Rows that one chunk of work writes; does not change results.
fn chunk_rows(threads: &Threads, rows: usize) -> usize {
    if threads.n() == 1 {
        rows.max(1)
    } else {
        rows.div_ceil(4 * threads.n()).next_multiple_of(8)
    }
}

impl<'a> LowRank<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// R.
    fn height(&self) -> usize {
        self.maps.len() * self.rank
    }

    fn b_of(&self, map: &Map) -> &'a [f32] {
        &self.b[map.first * self.rank..][..map.rows.len() * self.rank]
    }

    /// - `out`: (O, T) lanes of leading dimension `ld`, accumulated into
    /// - `input`: (I, T) lanes
    ///
    /// out[rows] += s B (A x) for each map
    pub(crate) fn forward(
        &self,
        cpu: &mut Cpu<'_>,
        workspace: &mut LowRankWorkspace,
        out: &mut [f32],
        input: &[f32],
        (n, ld): (usize, usize),
    ) {
        if self.is_empty() {
            return;
        }
        self.project(cpu, workspace, input, (n, ld));
        let h = workspace.h.get(self.height() * ld);
        for (i, map) in self.maps.iter().enumerate() {
            let (b, h) = (self.b_of(map), &h[i * self.rank * ld..]);
            let out = &mut out[map.rows.start * ld..map.rows.end * ld];
            let rows = chunk_rows(cpu.threads, map.rows.len());
            cpu.for_chunks(
                map.rows.len().div_ceil(rows),
                [(out, rows * ld)],
                |chunk, [out], _| {
                    multiply(Product {
                        size: (out.len() / ld, lanes(n), self.rank),
                        a: OperandA::row_major(&b[chunk * rows * self.rank..], self.rank),
                        b: (h, ld),
                        c: (out, ld),
                        accumulate: Accumulate::Output,
                    });
                },
            );
        }
    }

    /// h = s A x, in `workspace.h`.
    fn project(
        &self,
        cpu: &mut Cpu<'_>,
        workspace: &mut LowRankWorkspace,
        input: &[f32],
        (n, ld): (usize, usize),
    ) {
        let (height, width) = (self.height(), input.len() / ld);
        workspace.h.reserve(height * ld);
        let rows = chunk_rows(cpu.threads, height);
        cpu.for_chunks(
            height.div_ceil(rows),
            [(workspace.h.get_mut(height * ld), rows * ld)],
            |chunk, [h], _| {
                multiply(Product {
                    size: (h.len() / ld, lanes(n), width),
                    a: OperandA::row_major(&self.a[chunk * rows * width..], width),
                    b: (input, ld),
                    c: (h, ld),
                    accumulate: Accumulate::Nothing,
                });
                h.chunks_exact_mut(ld).for_each(|row| {
                    row[..lanes(n)].iter_mut().for_each(|v| *v *= self.scale);
                });
            },
        );
    }

    /// Gradient of the input, as far as it goes through the low-rank maps.
    ///
    /// - `d_input`: (I, T) lanes of leading dimension `ld`; overwritten, or with `add` accumulated
    ///   into
    /// - `d_out`: (O, T) lanes
    ///
    /// d_h = s Bᵀ d_out, left in `workspace` for [`d_weights`](Self::d_weights);  d_input (+)= Aᵀ d_h
    pub(crate) fn d_input(
        &self,
        cpu: &mut Cpu<'_>,
        workspace: &mut LowRankWorkspace,
        d_input: &mut [f32],
        add: bool,
        d_out: &[f32],
        (n, ld): (usize, usize),
    ) {
        let height = self.height();
        workspace.d_h.reserve(height * ld);
        let d_h = workspace.d_h.get_mut(height * ld);
        for (map, d_h) in self.maps.iter().zip(d_h.chunks_exact_mut(self.rank * ld)) {
            let (b, d_out) = (self.b_of(map), &d_out[map.rows.start * ld..]);
            let rows = chunk_rows(cpu.threads, self.rank);
            cpu.for_chunks(
                self.rank.div_ceil(rows),
                [(d_h, rows * ld)],
                |chunk, [d_h], _| {
                    multiply(Product {
                        size: (d_h.len() / ld, lanes(n), map.rows.len()),
                        a: OperandA::col_major(&b[chunk * rows..], self.rank),
                        b: (d_out, ld),
                        c: (d_h, ld),
                        accumulate: Accumulate::Nothing,
                    });
                    d_h.chunks_exact_mut(ld).for_each(|row| {
                        row[..lanes(n)].iter_mut().for_each(|v| *v *= self.scale);
                    });
                },
            );
        }
        let d_h = workspace.d_h.get(height * ld);
        let width = d_input.len() / ld;
        let rows = chunk_rows(cpu.threads, width);
        cpu.for_chunks(
            width.div_ceil(rows),
            [(d_input, rows * ld)],
            |chunk, [d_input], _| {
                multiply(Product {
                    size: (d_input.len() / ld, lanes(n), height),
                    a: OperandA::col_major(&self.a[chunk * rows..], width),
                    b: (d_h, ld),
                    c: (d_input, ld),
                    accumulate: if add {
                        Accumulate::Output
                    } else {
                        Accumulate::Nothing
                    },
                });
            },
        );
    }

    /// Gradients of A and B, after [`d_input`](Self::d_input) of the same map.
    ///
    /// - `d_a`, `d_b`: laid out as `a` and `b`, accumulated into
    /// - `d_out`: (O, T) lanes of leading dimension `ld`
    /// - `input`: (I, T) lanes
    ///
    /// d_B += d_out hᵀ with h = s A x;  d_A += d_h xᵀ
    pub(crate) fn d_weights(
        &self,
        cpu: &mut Cpu<'_>,
        workspace: &mut LowRankWorkspace,
        (d_a, d_b): (&mut [f32], &mut [f32]),
        d_out: &[f32],
        input: &[f32],
        (n, ld): (usize, usize),
    ) {
        let (height, width) = (self.height(), input.len() / ld);
        // Products read whole vectors from any column on.
        let wide = super::leading_dim(height + super::LINE);
        workspace.tokens.reserve(n * wide);
        workspace.outer.reserve(width * wide);
        self.project(cpu, workspace, input, (n, ld));
        let tokens = workspace.tokens.get_mut(n * wide);
        tokens.fill(0.0);
        transpose(
            (height, n),
            (workspace.h.get(height * ld), ld),
            (tokens, wide),
        );
        let tokens = &*tokens;
        for (i, map) in self.maps.iter().enumerate() {
            let d_b = &mut d_b[map.first * self.rank..][..map.rows.len() * self.rank];
            let (d_out, h) = (&d_out[map.rows.start * ld..], &tokens[i * self.rank..]);
            let rows = chunk_rows(cpu.threads, map.rows.len());
            cpu.for_chunks(
                map.rows.len().div_ceil(rows),
                [(d_b, rows * self.rank)],
                |chunk, [d_b], _| {
                    multiply(Product {
                        size: (d_b.len() / self.rank, self.rank, n),
                        a: OperandA::row_major(&d_out[chunk * rows * ld..], ld),
                        b: (h, wide),
                        c: (d_b, self.rank),
                        accumulate: Accumulate::Output,
                    });
                },
            );
        }
        // d_Aᵀ = x d_hᵀ: so the wide input need not be transposed, only what is R wide.
        let tokens = workspace.tokens.get_mut(n * wide);
        transpose(
            (height, n),
            (workspace.d_h.get(height * ld), ld),
            (tokens, wide),
        );
        let tokens = &*tokens;
        let rows = chunk_rows(cpu.threads, width);
        cpu.for_chunks(
            width.div_ceil(rows),
            [(workspace.outer.get_mut(width * wide), rows * wide)],
            |chunk, [outer], _| {
                multiply(Product {
                    size: (outer.len() / wide, height, n),
                    a: OperandA::row_major(&input[chunk * rows * ld..], ld),
                    b: (tokens, wide),
                    c: (outer, wide),
                    accumulate: Accumulate::Nothing,
                });
            },
        );
        for (outer, i) in workspace
            .outer
            .get(width * wide)
            .chunks_exact(wide)
            .zip(0..)
        {
            for (d_a, value) in d_a[i..].iter_mut().step_by(width).zip(outer) {
                *d_a += value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of, normal};
    use std::num::NonZeroUsize;

    #[test]
    fn forward_and_gradients_agree_with_their_formulas_on_any_number_of_threads() {
        let (o, i, r, n, ld) = (45, 23, 5, 37, 48);
        // Two maps, with rows before, between and after them that have none.
        let maps = [
            Map {
                rows: 3..20,
                first: 0,
            },
            Map {
                rows: 25..41,
                first: 17,
            },
        ];
        let (a, b) = (normal("a", 2 * r * i, 1.0), normal("b", 33 * r, 1.0));
        let (x, d) = (lanes_of("x", i, n, ld), lanes_of("d", o, n, ld));
        let low = LowRank {
            a: &a,
            b: &b,
            maps: &maps,
            rank: r,
            scale: 0.7,
        };
        let mut bits: Vec<Vec<f32>> = Vec::new();
        for t in 1..4 {
            let threads = &Threads::new(NonZeroUsize::new(t).unwrap());
            let (mut workspace, shape) = (LowRankWorkspace::default(), (n, ld));
            let mut y = lanes_of("y", o, n, ld);
            low.forward(
                &mut Cpu::new(threads, &mut Default::default()),
                &mut workspace,
                &mut y,
                &x,
                shape,
            );
            let mut dx = lanes_of("dx", i, n, ld);
            low.d_input(
                &mut Cpu::new(threads, &mut Default::default()),
                &mut workspace,
                &mut dx,
                true,
                &d,
                shape,
            );
            let (mut da, mut db) = (vec![1.0; a.len()], vec![1.0; b.len()]);
            let grads = (&mut da[..], &mut db[..]);
            low.d_weights(
                &mut Cpu::new(threads, &mut Default::default()),
                &mut workspace,
                grads,
                &d,
                &x,
                shape,
            );
            bits.push([y, dx, da, db].concat());
        }
        assert!(bits.iter().all(|b| b == &bits[0]));

        let at = |m: &[f32], row: usize, t: usize| f64::from(m[row * ld + t]);
        let (mut y, mut dx) = (lanes_of("y", o, n, ld), lanes_of("dx", i, n, ld));
        let (mut da, mut db) = (vec![1.0; a.len()], vec![1.0; b.len()]);
        for (m, map) in maps.iter().enumerate() {
            let a_of = |k: usize, c: usize| f64::from(a[(m * r + k) * i + c]);
            let b_of = |row: usize, k: usize| f64::from(b[(map.first + row) * r + k]);
            let mut sums = (vec![0.0; r * i], vec![0.0; map.rows.len() * r]);
            for t in 0..n {
                let h = |k: usize| 0.7 * (0..i).map(|c| a_of(k, c) * at(&x, c, t)).sum::<f64>();
                let h: Vec<f64> = (0..r).map(h).collect();
                let d_of = |row: usize| at(&d, map.rows.start + row, t);
                for row in 0..map.rows.len() {
                    y[(map.rows.start + row) * ld + t] +=
                        (0..r).map(|k| b_of(row, k) * h[k]).sum::<f64>() as f32;
                    (0..r).for_each(|k| sums.1[row * r + k] += d_of(row) * h[k]);
                }
                let d_h = |k: usize| {
                    0.7 * (0..map.rows.len())
                        .map(|row| b_of(row, k) * d_of(row))
                        .sum::<f64>()
                };
                for k in 0..r {
                    for c in 0..i {
                        dx[c * ld + t] += (a_of(k, c) * d_h(k)) as f32;
                        sums.0[k * i + c] += d_h(k) * at(&x, c, t);
                    }
                }
            }
            let add = |to: &mut [f32], from: &[f64]| {
                to.iter_mut().zip(from).for_each(|(t, f)| *t += *f as f32);
            };
            add(&mut da[m * r * i..], &sums.0);
            add(&mut db[map.first * r..], &sums.1);
        }
        close("all", &bits[0], &[y, dx, da, db].concat(), 1e-5);
    }

    #[test]
    fn no_map_adds_nothing() {
        let mut y = vec![1.0; 16];
        LowRank::default().forward(
            &mut Cpu::new(&Threads::single(), &mut Default::default()),
            &mut LowRankWorkspace::default(),
            &mut y,
            &[1.0; 16],
            (1, 16),
        );
        assert!(y.iter().all(|v| *v == 1.0));
    }
}
