//! Attention with a shared prefix: tokens that follow a prefix which several sequences may share.
//!
//! Queries are in lanes, as in [`attention`](super::attention). A tile of queries meets the keys
//! of the prefix and then its sequence's own; sums run over the two in that order, each cut by its
//! own length. The bits of a sequence therefore depend on its prefix and its own tokens
//! alone: it does not matter who else shares the prefix.

use pulp::{Arch, Simd, WithSimd};

use super::attention::{BLOCK, Heads, Segment, Tile, copy_in, softmax};
use super::cpu::Cpu;
use super::kv_cache::Prompt;
use super::operand::OperandA;
use super::product::{Accumulate, Product};
use super::{aligned, lanes, take};

/// A segment of a batch and the one whose tokens come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PrefixedSegment {
    pub(crate) prefix: Segment,
    pub(crate) own: Segment,
}

/// Keys and values of `n` tokens under one head.
#[derive(Clone, Copy)]
pub(crate) struct CachedKv<'a> {
    pub(crate) n: usize,
    /// (n, D).
    pub(crate) keys: OperandA<'a>,
    /// (D, n).
    pub(crate) values: OperandA<'a>,
}

/// One query head of one segment.
pub(crate) struct HeadWithPrefix<'a> {
    pub(crate) heads: &'a Heads,
    /// (D, own.n) at leading dimension `ld`.
    pub(crate) q: &'a [f32],
    pub(crate) ld: usize,
    pub(crate) prefix: CachedKv<'a>,
    pub(crate) own: CachedKv<'a>,
    /// (D, own.n) at leading dimension `ld`, overwritten.
    pub(crate) out: &'a mut [f32],
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl WithSimd for HeadWithPrefix<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            heads,
            q,
            ld,
            prefix,
            own,
            out,
            scratch,
        } = self;
        let d = heads.head_dim;
        let longest = prefix.n + own.n;
        let mut rest = aligned(scratch, (2 * d + longest + 2) * BLOCK);
        let q_tile = take(&mut rest, d * BLOCK);
        let o_tile = take(&mut rest, d * BLOCK);
        let scores = take(&mut rest, longest * BLOCK);
        let largest = take(&mut rest, BLOCK);
        let sums = take(&mut rest, BLOCK);
        for q0 in (0..own.n).step_by(BLOCK) {
            let tile = Tile::new(heads, prefix.n, own.n, q0);
            let (nq, width) = (tile.q.1, lanes(tile.q.1));
            let (first, end) = tile.keys;
            // The keys of each part that some query of the tile may see.
            let parts = [
                (prefix, first.min(prefix.n)..prefix.n),
                (own, first.saturating_sub(prefix.n)..end - prefix.n),
            ];
            copy_in(q_tile, q, ld, tile.q);
            let mut rest = &mut *scores;
            for (part, seen) in parts.clone() {
                simd.vectorize(Product {
                    size: (seen.len(), width, d),
                    a: part.keys.skip_rows(seen.start.min(part.n)),
                    b: (q_tile, BLOCK),
                    c: (take(&mut rest, seen.len() * BLOCK), BLOCK),
                    accumulate: Accumulate::Nothing,
                });
            }
            let scores = &mut scores[..tile.n_keys() * BLOCK];
            softmax(simd, &tile, heads.softcap, scores, largest, sums);
            let mut accumulate = Accumulate::Nothing;
            let mut scores = &*scores;
            for (part, seen) in parts {
                if seen.is_empty() {
                    continue;
                }
                let (own, after) = scores.split_at(seen.len() * BLOCK);
                scores = after;
                simd.vectorize(Product {
                    size: (d, width, seen.len()),
                    a: part.values.skip_columns(seen.start),
                    b: (own, BLOCK),
                    c: (o_tile, BLOCK),
                    accumulate,
                });
                accumulate = Accumulate::Output;
            }
            for (row, tile) in out.chunks_mut(ld).zip(o_tile.chunks_exact(BLOCK)) {
                for ((o, t), s) in row[q0..q0 + nq].iter_mut().zip(tile).zip(&*sums) {
                    *o = t / s;
                }
            }
        }
    }
}

impl Cpu<'_> {
    /// Attention of segments whose prefixes are in the same batch.
    ///
    /// - `out`: (H·D, T) lanes of leading dimension `ld`, overwritten in the own segments
    /// - `qkv`: ((H + 2K)·D, T) lanes, rotated, q scaled
    ///
    /// As [`Cpu::attention`] of prefix and own tokens in one sequence, for
    /// the own tokens' queries.
    pub(crate) fn shared_prefix_attention(
        &mut self,
        heads: &Heads,
        (prefixed, ld): (&[PrefixedSegment], usize),
        out: &mut [f32],
        qkv: &[f32],
    ) {
        if prefixed.is_empty() {
            return;
        }
        let (part, group) = (heads.head_dim * ld, heads.n / heads.kv);
        let (q, kv) = qkv.split_at(heads.n * part);
        let (k, v) = kv.split_at(heads.kv * part);
        self.for_chunks(heads.n, [(out, part)], |h, [out], scratch| {
            let kv_head = h / group * part;
            let cached = |s: Segment| CachedKv {
                n: s.len,
                keys: OperandA::col_major(&k[kv_head + s.start..kv_head + part], ld),
                values: OperandA::row_major(&v[kv_head + s.start..kv_head + part], ld),
            };
            for c in prefixed {
                Arch::new().dispatch(HeadWithPrefix {
                    heads,
                    q: &q[h * part + c.own.start..(h + 1) * part],
                    ld,
                    prefix: cached(c.prefix),
                    own: cached(c.own),
                    out: &mut out[c.own.start..],
                    scratch,
                });
            }
        });
    }

    /// Attention of segments whose prefixes are cached.
    ///
    /// Shapes as in [`Cpu::shared_prefix_attention`].
    pub(crate) fn cached_prefix_attention(
        &mut self,
        heads: &Heads,
        layer: usize,
        (segments, ld): (&[(&Prompt, Segment)], usize),
        out: &mut [f32],
        qkv: &[f32],
    ) {
        if segments.is_empty() {
            return;
        }
        let (part, group) = (heads.head_dim * ld, heads.n / heads.kv);
        let (q, kv) = qkv.split_at(heads.n * part);
        let (k, v) = kv.split_at(heads.kv * part);
        self.for_chunks(heads.n, [(out, part)], |h, [out], scratch| {
            let kv_head = h / group;
            for (prompt, own) in segments {
                let (keys, values) = prompt.store.get(layer, kv_head);
                let lane = kv_head * part + own.start..(kv_head + 1) * part;
                Arch::new().dispatch(HeadWithPrefix {
                    heads,
                    q: &q[h * part + own.start..(h + 1) * part],
                    ld,
                    prefix: CachedKv {
                        n: prompt.len,
                        keys: OperandA::col_major(keys, prompt.store.capacity),
                        values: OperandA::col_major(values, lanes(heads.head_dim)),
                    },
                    own: CachedKv {
                        n: own.len,
                        keys: OperandA::col_major(&k[lane.clone()], ld),
                        values: OperandA::row_major(&v[lane], ld),
                    },
                    out: &mut out[own.start..],
                    scratch,
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, lanes_of};
    use crate::threads::Threads;
    use std::num::NonZeroUsize;

    /// Copies lanes of every row.
    fn copy(from: &[f32], segment: Segment, to: &mut [f32], at: usize, ld: usize) {
        for (f, t) in from.chunks_exact(ld).zip(to.chunks_exact_mut(ld)) {
            t[at..at + segment.len].copy_from_slice(&f[segment.start..segment.start + segment.len]);
        }
    }

    #[test]
    fn a_continuation_attends_as_the_whole_sequence_does_and_company_changes_no_bit() {
        let ld = 208;
        let prefix = Segment { start: 0, len: 41 };
        let owns =
            [(41, 70), (111, 1), (112, 33), (145, 50)].map(|(start, len)| Segment { start, len });
        for (window, softcap) in [(None, None), (Some(5), Some(1.5)), (Some(60), None)] {
            let heads = Heads {
                n: 4,
                kv: 2,
                head_dim: 6,
                window,
                softcap,
            };
            let rows = (heads.n + 2 * heads.kv) * heads.head_dim;
            let qkv = lanes_of("continued", rows, 195, ld);
            let run = |list: &[PrefixedSegment], n: usize| {
                let threads = Threads::new(NonZeroUsize::new(n).unwrap());
                let mut out = vec![0.0; heads.n * heads.head_dim * ld];
                let shape = (list, ld);
                Cpu::new(&threads, &mut Default::default())
                    .shared_prefix_attention(&heads, shape, &mut out, &qkv);
                out
            };
            let all = owns.map(|own| PrefixedSegment { prefix, own });
            let together = run(&all, 1);
            assert!(together == run(&all, 3), "threads change no bit");
            for c in all {
                let alone = run(&[c], 1);
                let [mut a, mut b, mut whole, mut lse] = [0; 4].map(|_| vec![0.0; qkv.len()]);
                copy(&together, c.own, &mut a, 0, ld);
                copy(&alone, c.own, &mut b, 0, ld);
                assert!(a == b, "company changes no bit");
                let mut sequence = vec![0.0; qkv.len()];
                copy(&qkv, prefix, &mut sequence, 0, ld);
                copy(&qkv, c.own, &mut sequence, prefix.len, ld);
                let segment = Segment {
                    start: 0,
                    len: prefix.len + c.own.len,
                };
                let (n_out, n_lse) = (heads.n * heads.head_dim * ld, heads.n * ld);
                Cpu::new(&Threads::single(), &mut Default::default()).attention(
                    &heads,
                    (&[segment], ld),
                    &mut whole[..n_out],
                    &mut lse[..n_lse],
                    &sequence,
                );
                let tail = Segment {
                    start: prefix.len,
                    len: c.own.len,
                };
                b.fill(0.0);
                copy(&whole, tail, &mut b, 0, ld);
                close(&format!("{window:?} {softcap:?}"), &a, &b, 1e-5);
            }
        }
    }
}
