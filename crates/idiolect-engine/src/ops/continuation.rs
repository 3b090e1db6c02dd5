//! Attention of continuations: tokens that follow a prefix which several sequences may share.
//!
//! Queries are in lanes, as in [`attention`](super::attention). A tile of queries meets the keys
//! of the prefix and then its sequence's own; sums run over the two in that order, each cut as its
//! own length says. The bits of a continuation therefore depend on its prefix and its own tokens
//! alone: it does not matter who else continues the prefix.

use pulp::{Arch, Simd, WithSimd};

use super::attention::{BLOCK, Heads, Segment, Tile, copy_in, softmax};
use super::product::{Left, Onto, Product};
use super::{aligned, lanes, take};
use crate::threads::Threads;

/// A segment of a batch and the one whose tokens come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continuation {
    pub(crate) prefix: Segment,
    pub(crate) own: Segment,
}

/// Keys and values of `n` tokens under one head.
#[derive(Clone, Copy)]
pub(crate) struct Remembered<'a> {
    pub(crate) n: usize,
    /// (n, D).
    pub(crate) keys: Left<'a>,
    /// (D, n).
    pub(crate) values: Left<'a>,
}

/// One query head of one continuation.
pub(crate) struct HeadContinuation<'a> {
    pub(crate) heads: &'a Heads,
    /// (D, own.n) at `stride`.
    pub(crate) q: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) prefix: Remembered<'a>,
    pub(crate) own: Remembered<'a>,
    /// (D, own.n) at `stride`, overwritten.
    pub(crate) out: &'a mut [f32],
    pub(crate) scratch: &'a mut Vec<f32>,
}

impl WithSimd for HeadContinuation<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            heads,
            q,
            stride,
            prefix,
            own,
            out,
            scratch,
        } = self;
        let d = heads.width;
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
            copy_in(q_tile, q, stride, tile.q);
            let mut rest = &mut *scores;
            for (part, seen) in parts.clone() {
                simd.vectorize(Product {
                    size: (seen.len(), width, d),
                    left: part.keys.skip_rows(seen.start.min(part.n)),
                    right: (q_tile, BLOCK),
                    out: (take(&mut rest, seen.len() * BLOCK), BLOCK),
                    onto: Onto::Nothing,
                });
            }
            let scores = &mut scores[..tile.n_keys() * BLOCK];
            softmax(simd, &tile, heads.softcap, scores, largest, sums);
            let mut onto = Onto::Nothing;
            let mut scores = &*scores;
            for (part, seen) in parts {
                if seen.is_empty() {
                    continue;
                }
                let (own, after) = scores.split_at(seen.len() * BLOCK);
                scores = after;
                simd.vectorize(Product {
                    size: (d, width, seen.len()),
                    left: part.values.skip_columns(seen.start),
                    right: (own, BLOCK),
                    out: (o_tile, BLOCK),
                    onto,
                });
                onto = Onto::Itself;
            }
            for (row, tile) in out.chunks_mut(stride).zip(o_tile.chunks_exact(BLOCK)) {
                for ((o, t), s) in row[q0..q0 + nq].iter_mut().zip(tile).zip(&*sums) {
                    *o = t / s;
                }
            }
        }
    }
}

/// Attention of continuations whose prefixes stand in the same batch.
///
/// - `out`: (H·D, N) lanes at `stride`, overwritten in the own segments
/// - `qkv`: ((H + 2K)·D, N) lanes, rotated, q scaled
///
/// As [`attention`](super::attention::attention) of prefix and own tokens in one sequence, for the
/// own tokens' queries.
pub(crate) fn continuations(
    threads: &Threads,
    scratch: &mut [Vec<f32>],
    heads: &Heads,
    (continuations, stride): (&[Continuation], usize),
    out: &mut [f32],
    qkv: &[f32],
) {
    if continuations.is_empty() {
        return;
    }
    let (part, group) = (heads.width * stride, heads.n / heads.kv);
    let (q, kv) = qkv.split_at(heads.n * part);
    let (k, v) = kv.split_at(heads.kv * part);
    threads.for_chunks(heads.n, [(out, part)], scratch, |h, [out], scratch| {
        let kv_head = h / group * part;
        let remembered = |s: Segment| Remembered {
            n: s.len,
            keys: Left::columns(&k[kv_head + s.start..kv_head + part], stride),
            values: Left::rows(&v[kv_head + s.start..kv_head + part], stride),
        };
        for c in continuations {
            Arch::new().dispatch(HeadContinuation {
                heads,
                q: &q[h * part + c.own.start..(h + 1) * part],
                stride,
                prefix: remembered(c.prefix),
                own: remembered(c.own),
                out: &mut out[c.own.start..],
                scratch,
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::attention::attention;
    use super::*;
    use crate::ops::testing::{close, lanes_of};
    use std::num::NonZeroUsize;

    /// Copies lanes of every row.
    fn copy(from: &[f32], segment: Segment, to: &mut [f32], at: usize, stride: usize) {
        for (f, t) in from.chunks_exact(stride).zip(to.chunks_exact_mut(stride)) {
            t[at..at + segment.len].copy_from_slice(&f[segment.start..segment.start + segment.len]);
        }
    }

    #[test]
    fn a_continuation_attends_as_the_whole_sequence_does_and_company_changes_no_bit() {
        let stride = 208;
        let prefix = Segment { start: 0, len: 41 };
        let owns =
            [(41, 70), (111, 1), (112, 33), (145, 50)].map(|(start, len)| Segment { start, len });
        for (window, softcap) in [(None, None), (Some(5), Some(1.5)), (Some(60), None)] {
            let heads = Heads {
                n: 4,
                kv: 2,
                width: 6,
                window,
                softcap,
            };
            let rows = (heads.n + 2 * heads.kv) * heads.width;
            let qkv = lanes_of("continued", rows, 195, stride);
            let run = |list: &[Continuation], n: usize| {
                let threads = Threads::new(NonZeroUsize::new(n).unwrap());
                let mut scratch = vec![Vec::new(); n];
                let mut out = vec![0.0; heads.n * heads.width * stride];
                let shape = (list, stride);
                continuations(&threads, &mut scratch, &heads, shape, &mut out, &qkv);
                out
            };
            let all = owns.map(|own| Continuation { prefix, own });
            let together = run(&all, 1);
            assert!(together == run(&all, 3), "threads change no bit");
            for c in all {
                let alone = run(&[c], 1);
                let [mut a, mut b, mut whole, mut lse] = [0; 4].map(|_| vec![0.0; qkv.len()]);
                copy(&together, c.own, &mut a, 0, stride);
                copy(&alone, c.own, &mut b, 0, stride);
                assert!(a == b, "company changes no bit");
                let mut sequence = vec![0.0; qkv.len()];
                copy(&qkv, prefix, &mut sequence, 0, stride);
                copy(&qkv, c.own, &mut sequence, prefix.len, stride);
                let segment = Segment {
                    start: 0,
                    len: prefix.len + c.own.len,
                };
                let (n_out, n_lse) = (heads.n * heads.width * stride, heads.n * stride);
                attention(
                    &Threads::single(),
                    &mut [Vec::new()],
                    &heads,
                    (&[segment], stride),
                    &mut whole[..n_out],
                    &mut lse[..n_lse],
                    &sequence,
                );
                let tail = Segment {
                    start: prefix.len,
                    len: c.own.len,
                };
                b.fill(0.0);
                copy(&whole, tail, &mut b, 0, stride);
                close(&format!("{window:?} {softcap:?}"), &a, &b, 1e-5);
            }
        }
    }
}
