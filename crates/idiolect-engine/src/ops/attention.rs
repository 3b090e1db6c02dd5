//! Causal attention inside each sequence of a packed batch, queries in lanes.
//!
//! A block of queries meets all keys it may see at once: scores, softmax and the weighted sum are
//! products and vertical passes over a (keys, block) tile, so nothing of size T × T exists and
//! there is no running rescale. The backward recomputes the probabilities from the log-sum-exp.
//! q comes with the attention scale and the rotation already in it.
#![expect(
    unsafe_code,
    reason = "tasks of the backward write the lanes of their sequence in rows that they share"
)]

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::cpu::Cpu;
use super::math::{exp, tanh};
use super::operand::OperandA;
use super::product::{Accumulate, Product};
use super::transpose::transpose;
use super::{LINE, aligned, lanes, take};

/// Queries of one tile: two AVX-512 vectors, so that little above the diagonal is computed for
/// the short sequences of small models. Measured against 16 and 48.
pub(super) const BLOCK: usize = 32;

/// Lanes `start..start + len` of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// What attention needs to know of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) n: usize,
    /// Key and value heads.
    pub(crate) kv: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Positions back that a query sees, itself included.
    pub(crate) window: Option<usize>,
    /// c tanh(score / c).
    pub(crate) softcap: Option<f32>,
}

/// The queries of one tile and the keys it may see.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// First query and number of queries.
    pub(super) q: (usize, usize),
    /// First key and one past the last.
    pub(super) keys: (usize, usize),
    /// Position of the first query among the keys.
    at: usize,
    window: usize,
}

impl Tile {
    /// The tile of queries from `q0` on, when `past` keys lie before the first query.
    pub(super) fn new(heads: &Heads, past: usize, len: usize, q0: usize) -> Self {
        let nq = BLOCK.min(len - q0);
        let at = past + q0;
        let window = heads.window.unwrap_or(usize::MAX);
        Self {
            q: (q0, nq),
            keys: ((at + 1).saturating_sub(window), at + nq),
            at,
            window,
        }
    }

    pub(super) fn n_keys(&self) -> usize {
        self.keys.1 - self.keys.0
    }

    /// Whether some query of the tile must not see this key.
    #[inline(always)]
    fn cuts(&self, key: usize) -> bool {
        key > self.at || self.at + self.q.1 > self.window.saturating_add(key)
    }

    /// Positions of the queries from lane `first` on; lanes beyond the last query repeat it.
    #[inline(always)]
    fn positions<S: Simd>(&self, simd: S, first: usize) -> S::f32s {
        let mut positions = [0.0f32; LINE];
        for (lane, p) in positions[..S::F32_LANES].iter_mut().enumerate() {
            // Exact: positions are far below 2²⁴.
            *p = (self.at + (first + lane).min(self.q.1 - 1)) as f32;
        }
        simd.partial_load_f32s(&positions[..S::F32_LANES])
    }

    /// `score` where the query at `positions` sees `key`, else `other`.
    #[inline(always)]
    fn masked<S: Simd>(
        &self,
        simd: S,
        key: usize,
        positions: S::f32s,
        score: S::f32s,
        other: S::f32s,
    ) -> S::f32s {
        let seen = simd.less_than_or_equal_f32s(simd.splat_f32s(key as f32), positions);
        let end = simd.splat_f32s(self.window.saturating_add(key) as f32);
        let near = simd.less_than_f32s(positions, end);
        simd.select_f32s(seen, simd.select_f32s(near, score, other), other)
    }
}

/// One query head of one sequence.
pub(crate) struct HeadForward<'a> {
    pub(crate) heads: &'a Heads,
    /// (D, len) at leading dimension `ld`.
    pub(crate) q: &'a [f32],
    pub(crate) ld: usize,
    /// Queries, and keys before the first of them.
    pub(crate) len: usize,
    pub(crate) past: usize,
    /// (past + len, D).
    pub(crate) keys: OperandA<'a>,
    /// (D, past + len).
    pub(crate) values: OperandA<'a>,
    /// (D, len) at leading dimension `ld`, overwritten.
    pub(crate) out: &'a mut [f32],
    /// (len), overwritten.
    pub(crate) lse: &'a mut [f32],
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl WithSimd for HeadForward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let d = self.heads.head_dim;
        let longest = self.past + self.len;
        let mut rest = aligned(self.scratch, (2 * d + longest + 2) * BLOCK);
        let q_tile = take(&mut rest, d * BLOCK);
        let o_tile = take(&mut rest, d * BLOCK);
        let scores = take(&mut rest, longest * BLOCK);
        let largest = take(&mut rest, BLOCK);
        let sums = take(&mut rest, BLOCK);
        for q0 in (0..self.len).step_by(BLOCK) {
            let tile = Tile::new(self.heads, self.past, self.len, q0);
            let (nq, width, nk) = (tile.q.1, lanes(tile.q.1), tile.n_keys());
            copy_in(q_tile, self.q, self.ld, tile.q);
            simd.vectorize(Product {
                size: (nk, width, d),
                a: self.keys.skip_rows(tile.keys.0),
                b: (q_tile, BLOCK),
                c: (scores, BLOCK),
                accumulate: Accumulate::Nothing,
            });
            softmax(
                simd,
                &tile,
                self.heads.softcap,
                &mut scores[..nk * BLOCK],
                largest,
                sums,
            );
            simd.vectorize(Product {
                size: (d, width, nk),
                a: self.values.skip_columns(tile.keys.0),
                b: (scores, BLOCK),
                c: (o_tile, BLOCK),
                accumulate: Accumulate::Nothing,
            });
            for (row, tile) in self.out.chunks_mut(self.ld).zip(o_tile.chunks_exact(BLOCK)) {
                for ((o, t), s) in row[q0..q0 + nq].iter_mut().zip(tile).zip(&*sums) {
                    *o = t / s;
                }
            }
            for ((lse, m), s) in self.lse[q0..q0 + nq].iter_mut().zip(&*largest).zip(&*sums) {
                *lse = m + s.ln();
            }
        }
    }
}

/// Copies lanes `q.0..q.0 + q.1` of each row into rows of a tile, zeros beyond.
#[inline(always)]
pub(super) fn copy_in(tile: &mut [f32], rows: &[f32], ld: usize, (q0, nq): (usize, usize)) {
    for (tile, row) in tile.chunks_exact_mut(BLOCK).zip(rows.chunks(ld)) {
        tile[..nq].copy_from_slice(&row[q0..q0 + nq]);
        tile[nq..].fill(0.0);
    }
}

/// Scores to unnormalised probabilities: e^(score − largest), exactly 0 where not seen.
#[inline(always)]
pub(super) fn softmax<S: Simd>(
    simd: S,
    tile: &Tile,
    softcap: Option<f32>,
    scores: &mut [f32],
    largest: &mut [f32],
    sums: &mut [f32],
) {
    let columns = lanes(tile.q.1) / S::F32_LANES;
    let below = simd.splat_f32s(f32::NEG_INFINITY);
    for v in 0..columns {
        let at = v * S::F32_LANES;
        let positions = tile.positions(simd, at);
        let mut most = below;
        for (row, key) in scores.chunks_exact_mut(BLOCK).zip(tile.keys.0..) {
            let s = &mut S::as_mut_simd_f32s(&mut row[at..]).0[0];
            if let Some(c) = softcap {
                let capped = tanh(simd, simd.mul_f32s(*s, simd.splat_f32s(1.0 / c)));
                *s = simd.mul_f32s(capped, simd.splat_f32s(c));
            }
            if tile.cuts(key) {
                *s = tile.masked(simd, key, positions, *s, below);
            }
            most = simd.max_f32s(most, *s);
        }
        let mut sum = simd.splat_f32s(0.0);
        for row in scores.chunks_exact_mut(BLOCK) {
            let s = &mut S::as_mut_simd_f32s(&mut row[at..]).0[0];
            *s = exp(simd, simd.sub_f32s(*s, most));
            sum = simd.add_f32s(sum, *s);
        }
        S::as_mut_simd_f32s(&mut largest[at..]).0[0] = most;
        S::as_mut_simd_f32s(&mut sums[at..]).0[0] = sum;
    }
}

impl Cpu<'_> {
    /// Attention.
    ///
    /// - `out`: (H·D, T) lanes of leading dimension `ld`, overwritten in the segments
    /// - `lse`: (H, T) lanes, log-sum-exp of the scores, overwritten; saved for the backward
    /// - `qkv`: ((H + 2K)·D, T) lanes, rotated, q scaled
    ///
    /// out[q] = Σ_k softmax_k(cap(q·k)) v[k] over the keys of q's segment with
    /// 0 ≤ position(q) − position(k) < window.
    pub(crate) fn attention(
        &mut self,
        heads: &Heads,
        (segments, ld): (&[Segment], usize),
        out: &mut [f32],
        lse: &mut [f32],
        qkv: &[f32],
    ) {
        let (part, group) = (heads.head_dim * ld, heads.n / heads.kv);
        let (q, kv) = qkv.split_at(heads.n * part);
        let (k, v) = kv.split_at(heads.kv * part);
        self.for_chunks(
            heads.n,
            [(out, part), (lse, ld)],
            |h, [out, lse], scratch| {
                let kv_head = h / group * part;
                for s in segments {
                    Arch::new().dispatch(HeadForward {
                        heads,
                        q: &q[h * part + s.start..(h + 1) * part],
                        ld,
                        len: s.len,
                        past: 0,
                        keys: OperandA::col_major(&k[kv_head + s.start..kv_head + part], ld),
                        values: OperandA::row_major(&v[kv_head + s.start..kv_head + part], ld),
                        out: &mut out[s.start..],
                        lse: &mut lse[s.start..s.start + s.len],
                        scratch,
                    });
                }
            },
        );
    }
}

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

// SAFETY: a task is the only one that writes its lanes, see `Lanes::new`.
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
/// - `lse`, `qkv`: as left by and given to [`attention`]
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
            // SAFETY: no two tasks have the same head and sequence, and no two segments share
            // lanes.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of};
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    const SEGMENTS: [Segment; 3] = [
        Segment { start: 0, len: 37 },
        Segment { start: 37, len: 1 },
        Segment { start: 38, len: 70 },
    ];
    const N: usize = 108;
    const LD: usize = 112;

    /// Everything in f64, one query at a time: out, and Σ weights ⊙ out.
    fn naive(heads: &Heads, qkv: &[f64], weights: &[f32]) -> (Vec<f32>, f64) {
        let d = heads.head_dim;
        let (mut out, mut total) = (vec![0.0f32; heads.n * d * LD], 0.0);
        for h in 0..heads.n {
            let k_row = (heads.n + h / (heads.n / heads.kv)) * d;
            let v_row = k_row + heads.kv * d;
            for s in SEGMENTS {
                for q in s.start..s.start + s.len {
                    let first = heads
                        .window
                        .map_or(s.start, |w| s.start.max((q + 1).saturating_sub(w)));
                    let score = |k: usize| {
                        let dot: f64 = (0..d)
                            .map(|i| qkv[(h * d + i) * LD + q] * qkv[(k_row + i) * LD + k])
                            .sum();
                        heads
                            .softcap
                            .map_or(dot, |c| f64::from(c) * (dot / f64::from(c)).tanh())
                    };
                    let e: Vec<f64> = (first..=q).map(|k| score(k).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    for i in 0..d {
                        let o = e
                            .iter()
                            .zip(first..)
                            .map(|(e, k)| e / sum * qkv[(v_row + i) * LD + k])
                            .sum::<f64>();
                        out[(h * d + i) * LD + q] = o as f32;
                        total += o * f64::from(weights[(h * d + i) * LD + q]);
                    }
                }
            }
        }
        (out, total)
    }

    fn both(heads: &Heads, qkv: &[f32], d_out: &[f32], n_threads: usize) -> (Vec<f32>, Vec<f32>) {
        let threads = Threads::new(NonZeroUsize::new(n_threads).unwrap());
        let mut out = vec![0.0; heads.n * heads.head_dim * LD];
        let mut lse = vec![0.0; heads.n * LD];
        Cpu::new(&threads, &mut Default::default()).attention(
            heads,
            (&SEGMENTS, LD),
            &mut out,
            &mut lse,
            qkv,
        );
        let mut d_qkv = vec![0.0; qkv.len()];
        Cpu::new(&threads, &mut Default::default()).attention_backward(Backward {
            heads,
            segments: &SEGMENTS,
            ld: LD,
            d_qkv: &mut d_qkv,
            d_out,
            out: &out,
            lse: &lse,
            qkv,
        });
        (out, d_qkv)
    }

    #[test]
    fn output_is_the_formula_and_gradients_agree_with_central_differences() {
        for (window, softcap) in [
            (None, None),
            (Some(5), None),
            (Some(40), Some(1.5)),
            (None, Some(2.0)),
        ] {
            let heads = Heads {
                n: 4,
                kv: 2,
                head_dim: 6,
                window,
                softcap,
            };
            let rows = (heads.n + 2 * heads.kv) * heads.head_dim;
            let qkv = lanes_of("qkv", rows, N, LD);
            let d_out = lanes_of("d", heads.n * heads.head_dim, N, LD);
            let exact: Vec<f64> = qkv.iter().map(|v| f64::from(*v)).collect();
            let (out, d_qkv) = both(&heads, &qkv, &d_out, 1);
            close("out", &out, &naive(&heads, &exact, &d_out).0, 1e-5);
            for n_threads in [2, 3] {
                assert!(both(&heads, &qkv, &d_out, n_threads) == (out.clone(), d_qkv.clone()));
            }
            let places: Vec<usize> = (0..rows)
                .flat_map(|r| [0, 36, 37, 38, 71, 107].map(|n| r * LD + n))
                .step_by(3)
                .collect();
            let numeric: Vec<f32> = places
                .iter()
                .map(|&i| {
                    let value = |h: f64| {
                        let mut moved = exact.clone();
                        moved[i] += h;
                        naive(&heads, &moved, &d_out).1
                    };
                    ((value(1e-5) - value(-1e-5)) / 2e-5) as f32
                })
                .collect();
            let analytic: Vec<f32> = places.iter().map(|&i| d_qkv[i]).collect();
            close(
                &format!("d_qkv {window:?} {softcap:?}"),
                &analytic,
                &numeric,
                2e-5,
            );
        }
    }
}
