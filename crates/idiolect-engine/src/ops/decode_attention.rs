//! Attention of one new token a sequence over the cached keys and values: the step of sampling.
//!
//! Sequences of one prompt that follow each other read its keys and values once, with all their
//! queries in one product. Products are per row and softmax is per query, so a sequence's bits do
//! not depend on the others.

use std::sync::{Arc, Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};

use super::attention::Heads;
use super::cpu::Cpu;
use super::kv_cache::{PAGE, Sequence};
use super::math::{exp, tanh};
use super::operand::OperandA;
use super::product::{Accumulate, Product};
use super::transpose::transpose;
use super::{aligned, lanes, take};

/// Sequences that one chunk of work attends for.
const SEQUENCES: usize = 8;

/// Attention of each sequence's newest token over its prompt and pages.
///
/// - `out`: (H·D, B) lanes of leading dimension `ld`, overwritten
/// - `qkv`: ((H + 2K)·D, B) lanes, rotated, q scaled; keys and values are written to the caches
/// - `rows`: B · H·D of workspace
pub(crate) struct DecodeAttention<'a> {
    pub(crate) heads: &'a Heads,
    pub(crate) layer: usize,
    pub(crate) ld: usize,
    pub(crate) sequences: &'a mut [Sequence],
    pub(crate) out: &'a mut [f32],
    pub(crate) qkv: &'a [f32],
    pub(crate) rows: &'a mut [f32],
}

impl Cpu<'_> {
    /// Threads share the sequences.
    pub(crate) fn decode_attention(&mut self, op: DecodeAttention<'_>) {
        let DecodeAttention {
            heads,
            layer,
            ld,
            sequences,
            out,
            qkv,
            rows,
        } = op;
        let (n, q_rows) = (sequences.len(), heads.n * heads.head_dim);
        // Each chunk takes its own sequences, once.
        let chunks: Vec<Mutex<&mut [Sequence]>> =
            sequences.chunks_mut(SEQUENCES).map(Mutex::new).collect();
        self.for_chunks(
            chunks.len(),
            [(&mut *rows, SEQUENCES * q_rows)],
            |chunk, [out], scratch| {
                let mut sequences = chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
                Arch::new().dispatch(NewTokens {
                    heads,
                    layer,
                    qkv: &qkv[chunk * SEQUENCES..],
                    ld,
                    sequences: &mut sequences,
                    out,
                    scratch,
                });
            },
        );
        transpose((n, q_rows), (rows, q_rows), (out, ld));
    }
}

/// The new tokens of a few sequences.
struct NewTokens<'a> {
    heads: &'a Heads,
    layer: usize,
    /// ((H + 2K)·D, T) lanes, from the first sequence's on.
    qkv: &'a [f32],
    ld: usize,
    sequences: &'a mut [Sequence],
    /// (sequences, H·D).
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for NewTokens<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            heads,
            layer,
            qkv,
            ld,
            sequences,
            out,
            scratch,
        } = self;
        let (d, group) = (heads.head_dim, heads.n / heads.kv);
        let (width, q_rows) = ((heads.n + 2 * heads.kv) * d, heads.n * d);
        let n = sequences.len();
        let longest = sequences.iter().map(row_len).max().unwrap_or(0);
        let (m, wide) = (n * group, lanes(d));
        let mut rest = aligned(scratch, n * width + m * (longest + 2 * wide));
        let tokens = take(&mut rest, n * width);
        let scores = take(&mut rest, m * longest);
        let queries = take(&mut rest, m * wide);
        let outputs = take(&mut rest, m * wide);
        transpose((width, n), (qkv, ld), (tokens, width));
        for (sequence, token) in sequences.iter_mut().zip(tokens.chunks_exact(width)) {
            let (k, v) = token[q_rows..].split_at(heads.kv * d);
            let page = &mut sequence.pages[sequence.written / PAGE];
            page.put_token(layer, sequence.written % PAGE, k, v);
        }
        for kv_head in 0..heads.kv {
            let columns = kv_head * group * d;
            let mut start = 0;
            for run in sequences.chunk_by(|a, b| Arc::ptr_eq(&a.prompt, &b.prompt)) {
                let m = run.len() * group;
                for i in 0..m {
                    let token = &tokens[(start + i / group) * width..];
                    queries[i * wide..][..d]
                        .copy_from_slice(&token[columns + i % group * d..][..d]);
                }
                simd.vectorize(SamePrompt {
                    heads,
                    place: (layer, kv_head),
                    run,
                    queries: &queries[..m * wide],
                    scores: &mut scores[..m * longest],
                    outputs: &mut outputs[..m * wide],
                });
                for i in 0..m {
                    let row = &mut out[(start + i / group) * q_rows..];
                    row[columns + i % group * d..][..d].copy_from_slice(&outputs[i * wide..][..d]);
                }
                start += run.len();
            }
        }
    }
}

/// Floats for the scores of a sequence: the prompt's and its own, each in whole lines.
fn row_len(sequence: &Sequence) -> usize {
    lanes(sequence.prompt.len) + lanes(sequence.written + 1)
}

/// Sequences of one prompt, one key and value head. Rows of queries are (sequence, head of the
/// group); keys are in lanes.
struct SamePrompt<'a> {
    heads: &'a Heads,
    /// Layer, key and value head.
    place: (usize, usize),
    run: &'a [Sequence],
    /// (m, D) in whole lines.
    queries: &'a [f32],
    /// (m, most of [`row_len`]).
    scores: &'a mut [f32],
    /// As the queries.
    outputs: &'a mut [f32],
}

impl WithSimd for SamePrompt<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            heads,
            place: (layer, head),
            run,
            queries,
            scores,
            outputs,
        } = self;
        let Some(first) = run.first() else { return };
        let (d, wide) = (heads.head_dim, lanes(heads.head_dim));
        let group = heads.n / heads.kv;
        let m = run.len() * group;
        let row = scores.len() / m;
        let (prompt, capacity) = (&first.prompt, first.prompt.store.capacity);
        let (past, own_at) = (prompt.len, lanes(prompt.len));
        let (keys, prompt_values) = prompt.store.get(layer, head);
        simd.vectorize(Product {
            size: (m, own_at, d),
            a: OperandA::row_major(queries, wide),
            b: (keys, capacity),
            c: (&mut *scores, row),
            accumulate: Accumulate::Nothing,
        });
        for (i, sequence) in run.iter().enumerate() {
            let (n, seen) = (sequence.written + 1, seen(heads, sequence));
            let queries = &queries[i * group * wide..][..group * wide];
            let scores = &mut scores[i * group * row..][..group * row];
            for (page, store) in sequence.pages.iter().enumerate() {
                simd.vectorize(Product {
                    size: (group, lanes(n - page * PAGE).min(PAGE), d),
                    a: OperandA::row_major(queries, wide),
                    b: (store.get(layer, head).0, PAGE),
                    c: (&mut scores[own_at + page * PAGE..], row),
                    accumulate: Accumulate::Nothing,
                });
            }
            for scores in scores.chunks_exact_mut(row) {
                let scores = &mut scores[..row_len(sequence)];
                scores[..seen.min(past)].fill(f32::NEG_INFINITY);
                scores[past..own_at + seen.saturating_sub(past)].fill(f32::NEG_INFINITY);
                scores[own_at + n..].fill(f32::NEG_INFINITY);
                normalise(simd, scores, heads.softcap);
            }
        }
        simd.vectorize(Product {
            size: (m, d, past),
            a: OperandA::row_major(scores, row),
            b: (prompt_values, wide),
            c: (&mut *outputs, wide),
            accumulate: Accumulate::Nothing,
        });
        for (i, sequence) in run.iter().enumerate() {
            let scores = &scores[i * group * row..][..group * row];
            for (page, store) in sequence.pages.iter().enumerate() {
                let n = (sequence.written + 1 - page * PAGE).min(PAGE);
                simd.vectorize(Product {
                    size: (group, d, n),
                    a: OperandA::row_major(&scores[own_at + page * PAGE..], row),
                    b: (store.get(layer, head).1, wide),
                    c: (&mut outputs[i * group * wide..][..group * wide], wide),
                    accumulate: Accumulate::Output,
                });
            }
        }
    }
}

/// The first token, counted from the prompt's, that the new one may see.
fn seen(heads: &Heads, sequence: &Sequence) -> usize {
    let end = sequence.len() + 1;
    heads.window.map_or(0, |w| end.saturating_sub(w))
}

/// Scores of one query, whole vectors of them, to probabilities; −∞ becomes 0.
#[inline(always)]
fn normalise<S: Simd>(simd: S, scores: &mut [f32], softcap: Option<f32>) {
    let scores = S::as_mut_simd_f32s(scores).0;
    let lowest = simd.splat_f32s(f32::NEG_INFINITY);
    let mut most = lowest;
    for s in scores.iter_mut() {
        if let Some(c) = softcap {
            let capped = simd.mul_f32s(
                simd.splat_f32s(c),
                tanh(simd, simd.mul_f32s(*s, simd.splat_f32s(1.0 / c))),
            );
            *s = simd.select_f32s(simd.greater_than_f32s(*s, lowest), capped, lowest);
        }
        most = simd.max_f32s(most, *s);
    }
    let most = simd.splat_f32s(simd.reduce_max_f32s(most));
    let mut sum = simd.splat_f32s(0.0);
    for s in scores.iter_mut() {
        *s = exp(simd, simd.sub_f32s(*s, most));
        sum = simd.add_f32s(sum, *s);
    }
    let inverse = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
    for s in scores.iter_mut() {
        *s = simd.mul_f32s(*s, inverse);
    }
}
