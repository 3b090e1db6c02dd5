//! Gradients of attention inside each sequence of a packed batch. One task computes a key and value
//! head of one sequence with all query heads that use it.
#![expect(
    unsafe_code,
    reason = "tasks of the backward write the lanes of their sequence in rows that they share"
)]

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::{BLOCK, Heads, Segment, Tile, copy_in};
use crate::ops::cpu::Cpu;
use crate::ops::math::{exp, tanh};
use crate::ops::operand::OperandA;
use crate::ops::product::{Accumulate, Product};
use crate::ops::transpose::transpose;
use crate::ops::{aligned, lanes, take};

/// One key and value head of one sequence, with all query heads that use it. Slices start at the
/// sequence's first lane; those of queries hold the whole group.
struct GroupBackward<'a> {
    heads: &'a Heads,
    len: usize,
    ld: usize,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    d_out: &'a [f32],
    d_q: Lanes<'a>,
    d_k: Lanes<'a>,
    d_v: Lanes<'a>,
    scratch: &'a mut Vec<f32>,
}

/// The lanes of one sequence in all rows of an activation; others write other lanes meanwhile.
#[derive(Clone, Copy)]
struct Lanes<'a> {
    first: *mut f32,
    ld: usize,
    rows: usize,
    len: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: memory is reached by `row` alone, of lanes that `part` was promised nobody else uses; the
// whole, made by `all`, is only cut into parts while threads run.
unsafe impl Sync for Lanes<'_> {}

impl<'a> Lanes<'a> {
    /// All lanes.
    fn all(values: &'a mut [f32], ld: usize) -> Self {
        Self {
            first: values.as_mut_ptr(),
            ld,
            rows: values.len() / ld,
            len: ld,
            of: PhantomData,
        }
    }

    /// Some rows of some lanes.
    ///
    /// # Safety
    /// While it is used nobody else may use these lanes of these rows.
    unsafe fn part(self, (row, rows): (usize, usize), segment: Segment) -> Self {
        assert!(row + rows <= self.rows && segment.start + segment.len <= self.len);
        Self {
            first: self.first.wrapping_add(row * self.ld + segment.start),
            rows,
            len: segment.len,
            ..self
        }
    }

    fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        // SAFETY: inside the slice that `all` was given, checked by `part` and here; whoever made
        // the part promised that its lanes are used by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.ld), self.len) }
    }

    /// Overwrites them with the transposed of (lanes, rows) values at a leading dimension.
    fn set_transposed(&mut self, (values, ld): (&[f32], usize), scratch: &mut [f32]) {
        let wide = lanes(self.len);
        transpose((self.len, self.rows), (values, ld), (&mut *scratch, wide));
        for (r, from) in (0..self.rows).zip(scratch.chunks_exact(wide)) {
            let to = self.row(r);
            to.copy_from_slice(&from[..to.len()]);
        }
    }
}

impl WithSimd for GroupBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            heads,
            len,
            ld,
            scratch,
            d_q: mut d_queries,
            d_k: mut d_keys,
            d_v: mut d_values,
            ..
        } = self;
        let d = heads.head_dim;
        let wide = lanes(d);
        let mut rest = aligned(
            scratch,
            (3 * d + 2 * wide + 2 * len + 2) * BLOCK + 2 * len * wide + d * lanes(len),
        );
        let q = take(&mut rest, d * BLOCK);
        let d_o = take(&mut rest, d * BLOCK);
        let d_q = take(&mut rest, d * BLOCK);
        let q_tokens = take(&mut rest, wide * BLOCK);
        let d_o_tokens = take(&mut rest, wide * BLOCK);
        let p = take(&mut rest, len * BLOCK);
        let d_s = take(&mut rest, len * BLOCK);
        let lse = take(&mut rest, BLOCK);
        let delta = take(&mut rest, BLOCK);
        let d_k = take(&mut rest, len * wide);
        let d_v = take(&mut rest, len * wide);
        let turned = take(&mut rest, d * lanes(len));
        for part in [&mut *d_k, &mut *d_v, &mut *q_tokens, &mut *d_o_tokens] {
            part.fill(0.0);
        }
        for h in 0..heads.n / heads.kv {
            let head = h * d * ld;
            for q0 in (0..len).step_by(BLOCK) {
                let tile = Tile::new(heads, 0, len, q0);
                let (nq, width, nk) = (tile.q.1, lanes(tile.q.1), tile.n_keys());
                copy_in(q, &self.q[head..], ld, tile.q);
                copy_in(d_o, &self.d_out[head..], ld, tile.q);
                copy_in(lse, &self.lse[h * ld..], len.max(1), tile.q);
                dots(delta, &self.out[head..], ld, d_o, tile.q);
                let scores = |a: OperandA<'_>, b: &[f32], out: &mut [f32]| {
                    simd.vectorize(Product {
                        size: (nk, width, d),
                        a,
                        b: (b, BLOCK),
                        c: (out, BLOCK),
                        accumulate: Accumulate::Nothing,
                    });
                };
                scores(OperandA::col_major(self.k, ld).skip_rows(tile.keys.0), q, p);
                scores(
                    OperandA::col_major(self.v, ld).skip_rows(tile.keys.0),
                    d_o,
                    d_s,
                );
                let parts = (&mut p[..nk * BLOCK], &mut d_s[..nk * BLOCK]);
                score_gradients(simd, &tile, heads.softcap, parts, lse, delta);
                simd.vectorize(Product {
                    size: (d, width, nk),
                    a: OperandA::row_major(self.k, ld).skip_columns(tile.keys.0),
                    b: (d_s, BLOCK),
                    c: (d_q, BLOCK),
                    accumulate: Accumulate::Nothing,
                });
                for (row, tile) in (h * d..).zip(d_q.chunks_exact(BLOCK)) {
                    d_queries.row(row)[q0..q0 + nq].copy_from_slice(&tile[..nq]);
                }
                transpose((d, nq), (q, BLOCK), (q_tokens, wide));
                transpose((d, nq), (d_o, BLOCK), (d_o_tokens, wide));
                for (out, a, b) in [
                    (&mut *d_k, &*d_s, &*q_tokens),
                    (&mut *d_v, &*p, &*d_o_tokens),
                ] {
                    simd.vectorize(Product {
                        size: (nk, wide, nq),
                        a: OperandA::row_major(a, BLOCK),
                        b: (b, wide),
                        c: (&mut out[tile.keys.0 * wide..], wide),
                        accumulate: Accumulate::Output,
                    });
                }
            }
        }
        d_keys.set_transposed((d_k, wide), turned);
        d_values.set_transposed((d_v, wide), turned);
    }
}

/// Σ_d d_out ⊙ out of each query of the tile.
#[inline(always)]
fn dots(delta: &mut [f32], out: &[f32], ld: usize, d_o: &[f32], (q0, nq): (usize, usize)) {
    delta.fill(0.0);
    for (row, d_o) in out.chunks(ld).zip(d_o.chunks_exact(BLOCK)) {
        for ((sum, o), d) in delta.iter_mut().zip(&row[q0..q0 + nq]).zip(d_o) {
            *sum += o * d;
        }
    }
}

/// From scores and d_p to probabilities and d_scores, in place:
/// p = e^(cap(s) − lse),  d_s = p (d_p − delta) (1 − (cap(s)/c)²).
#[inline(always)]
fn score_gradients<S: Simd>(
    simd: S,
    tile: &Tile,
    softcap: Option<f32>,
    (p, d_s): (&mut [f32], &mut [f32]),
    lse: &[f32],
    delta: &[f32],
) {
    let zero = simd.splat_f32s(0.0);
    for v in 0..lanes(tile.q.1) / S::F32_LANES {
        let at = v * S::F32_LANES;
        let positions = tile.positions(simd, at);
        let lse = S::as_simd_f32s(&lse[at..]).0[0];
        let delta = S::as_simd_f32s(&delta[at..]).0[0];
        let rows = p.chunks_exact_mut(BLOCK).zip(d_s.chunks_exact_mut(BLOCK));
        for ((p, d_s), key) in rows.zip(tile.keys.0..) {
            let p = &mut S::as_mut_simd_f32s(&mut p[at..]).0[0];
            let d_s = &mut S::as_mut_simd_f32s(&mut d_s[at..]).0[0];
            let mut slope = simd.sub_f32s(*d_s, delta);
            if let Some(c) = softcap {
                let t = tanh(simd, simd.mul_f32s(*p, simd.splat_f32s(1.0 / c)));
                *p = simd.mul_f32s(t, simd.splat_f32s(c));
                slope = simd.mul_f32s(
                    slope,
                    simd.sub_f32s(simd.splat_f32s(1.0), simd.mul_f32s(t, t)),
                );
            }
            *p = exp(simd, simd.sub_f32s(*p, lse));
            if tile.cuts(key) {
                *p = tile.masked(simd, key, positions, *p, zero);
            }
            *d_s = simd.mul_f32s(*p, slope);
        }
    }
}

/// Attention, backward.
///
/// - `d_qkv`: ((H + 2K)·D, T) lanes of leading dimension `ld`, overwritten in the segments
/// - `d_out`, `out`: (H·D, T) lanes
/// - `lse`, `qkv`: as left by and given to [`Cpu::attention`]
///
/// With p from the log-sum-exp, d_p = d_out·v and δ = Σ d_out ⊙ out:
/// d_v += p d_out,  d_s = p (d_p − δ) cap',  d_q = Σ_k d_s k,  d_k = Σ_q d_s q.
pub(crate) struct Backward<'a> {
    pub(crate) heads: &'a Heads,
    pub(crate) segments: &'a [Segment],
    pub(crate) ld: usize,
    pub(crate) d_qkv: &'a mut [f32],
    pub(crate) d_out: &'a [f32],
    pub(crate) out: &'a [f32],
    pub(crate) lse: &'a [f32],
    pub(crate) qkv: &'a [f32],
}

impl Cpu<'_> {
    /// Computes all three gradients; threads share the heads of the sequences.
    pub(crate) fn attention_backward(&mut self, op: Backward<'_>) {
        let Backward {
            heads,
            segments,
            ld,
            d_qkv,
            d_out,
            out,
            lse,
            qkv,
        } = op;
        let (part, group) = (heads.head_dim * ld, heads.n / heads.kv);
        let (q, kv) = qkv.split_at(heads.n * part);
        let (k, v) = kv.split_at(heads.kv * part);
        let gradients = Lanes::all(d_qkv, ld);
        let tasks = heads.kv * segments.len();
        self.for_chunks(tasks, [], |task, [], scratch| {
            let (h, s) = (task / segments.len(), segments[task % segments.len()]);
            let queries = h * group * part;
            let rows = |first: usize, n: usize| (first * heads.head_dim, n * heads.head_dim);
            let [d_q, d_k, d_v] = [
                rows(h * group, group),
                rows(heads.n + h, 1),
                rows(heads.n + heads.kv + h, 1),
            ]
            // SAFETY: no two tasks have the same head and sequence, no two segments share lanes,
            // and the three ranges of rows of a task do not overlap. `d_qkv` stays borrowed until
            // all tasks have ended.
            .map(|rows| unsafe { gradients.part(rows, s) });
            Arch::new().dispatch(GroupBackward {
                heads,
                len: s.len,
                ld,
                q: &q[queries + s.start..],
                k: &k[h * part + s.start..(h + 1) * part],
                v: &v[h * part + s.start..(h + 1) * part],
                out: &out[queries + s.start..],
                lse: &lse[h * group * ld + s.start..],
                d_out: &d_out[queries + s.start..],
                d_q,
                d_k,
                d_v,
                scratch,
            });
        });
    }
}
