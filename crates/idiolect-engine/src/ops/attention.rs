//! Causal attention inside each sequence of a packed batch, queries in lanes.
//!
//! A block of queries meets all keys it may see at once: scores, softmax and the weighted sum are
//! products and vertical passes over a (keys, block) tile, so nothing of size T × T exists and
//! there is no running rescale. The backward recomputes the probabilities from the log-sum-exp.
//! q comes with the attention scale and the rotation already in it.

use pulp::{Arch, Simd, WithSimd};

use super::cpu::Cpu;
use super::math::{exp, tanh};
use super::operand::OperandA;
use super::product::{Accumulate, Product};
use super::{LINE, aligned, lanes, take};

pub(crate) use backward::Backward;

mod backward;

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

#[cfg(test)]
mod tests;
