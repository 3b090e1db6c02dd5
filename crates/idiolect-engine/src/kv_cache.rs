//! The forward pass over a cache of keys and values: what sampling needs.
//!
//! A prompt is computed once ([`forward_prompts`]) and its keys and values, contiguous and then
//! never changed, are shared by all sequences that continue it without a copy. What a sequence
//! writes itself lies in pages of `PAGE` tokens ([`forward_step`]), so that memory follows what
//! was written and not what might be.
//!
//! A sequence's result does not depend on what else is in the call, to the bit: products are per
//! lane or per row, and softmax is per query. Choosing tokens is another module's business.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use pulp::{Arch, Simd, WithSimd};

use crate::decoder::{Decoder, Layer, Save, SavedActivations, Workspace};
use crate::model_config::ModelConfig;
use crate::ops::attention::{Segment, attention};
use crate::ops::head::all_logits;
use crate::ops::math::{exp, tanh};
use crate::ops::operand::OperandA;
use crate::ops::product::{Accumulate, Product};
use crate::ops::shared_prefix::{CachedKv, HeadWithPrefix};
use crate::ops::transpose::transpose;
use crate::ops::{Buffer, LINE, aligned, lanes, leading_dim, take};
use crate::threads::Threads;

/// Tokens of a page.
pub(crate) const PAGE: usize = 32;

/// Tokens of a prompt that are computed in one go; a longer one continues what was computed, so
/// that activations stay bounded. Where it is cut depends on the prompt alone.
const PROMPT_TOKENS: usize = 1024;

/// What decides the size of keys and values.
#[derive(Clone, Copy, Debug)]
struct Shape {
    layers: usize,
    kv_heads: usize,
    width: usize,
}

impl Shape {
    fn of(config: &ModelConfig) -> Self {
        Self {
            layers: config.layers,
            kv_heads: config.kv_heads,
            width: config.head_dim,
        }
    }

    /// Floats of the keys of one layer and head, (D, tokens).
    fn keys(self, tokens: usize) -> usize {
        self.width * tokens
    }

    /// Floats of the values of one layer and head, (tokens, D up to whole lines).
    fn values(self, tokens: usize) -> usize {
        tokens * lanes(self.width)
    }

    /// Floats of all layers and heads.
    fn floats(self, tokens: usize) -> usize {
        self.layers * self.kv_heads * (self.keys(tokens) + self.values(tokens))
    }
}

/// Bytes of keys and values that `tokens` written tokens take at most, in whole pages.
pub(crate) fn page_bytes(config: &ModelConfig, tokens: usize) -> usize {
    tokens.div_ceil(PAGE) * Shape::of(config).floats(PAGE) * size_of::<f32>()
}

/// Bytes of keys and values that a prompt of `tokens` takes.
pub(crate) fn prompt_bytes(config: &ModelConfig, tokens: usize) -> usize {
    Shape::of(config).floats(leading_dim(tokens)) * size_of::<f32>()
}

/// Keys and values of a run of tokens: for each layer and head the keys, (D, capacity) with tokens
/// in lanes, and then the values, (capacity, D up to whole lines).
#[derive(Debug)]
struct Store {
    shape: Shape,
    capacity: usize,
    floats: Buffer,
}

impl Store {
    fn new(shape: Shape, capacity: usize) -> Self {
        let mut floats = Buffer::default();
        floats.reserve(shape.floats(capacity));
        Self {
            shape,
            capacity,
            floats,
        }
    }

    #[cfg(test)]
    fn n_bytes(&self) -> usize {
        self.shape.floats(self.capacity) * size_of::<f32>()
    }

    fn place(&self, layer: usize, head: usize) -> (Range<usize>, Range<usize>) {
        let (keys, values) = (
            self.shape.keys(self.capacity),
            self.shape.values(self.capacity),
        );
        let start = (layer * self.shape.kv_heads + head) * (keys + values);
        (start..start + keys, start + keys..start + keys + values)
    }

    fn get(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
        let (keys, values) = self.place(layer, head);
        let floats = self.floats.get(self.shape.floats(self.capacity));
        (&floats[keys], &floats[values])
    }

    fn get_mut(&mut self, layer: usize, head: usize) -> (&mut [f32], &mut [f32]) {
        let (keys, values) = self.place(layer, head);
        let len = self.shape.floats(self.capacity);
        let (before, rest) = self.floats.get_mut(len).split_at_mut(values.start);
        (&mut before[keys], &mut rest[..values.len()])
    }

    /// Writes the keys and values of a segment of a layer's lanes, from token `at` on.
    fn put_lanes(
        &mut self,
        layer: usize,
        at: usize,
        (k, v): (&[f32], &[f32]),
        ld: usize,
        s: Segment,
    ) {
        let Shape {
            kv_heads, width, ..
        } = self.shape;
        let (capacity, wide) = (self.capacity, lanes(width));
        for head in 0..kv_heads {
            let part = head * width * ld;
            let (keys, values) = self.get_mut(layer, head);
            for d in 0..width {
                let row = part + d * ld + s.start;
                keys[d * capacity + at..][..s.len].copy_from_slice(&k[row..row + s.len]);
            }
            transpose(
                (width, s.len),
                (&v[part + s.start..], ld),
                (&mut values[at * wide..], wide),
            );
        }
    }

    /// Writes the keys and values of one token, each (K·D), at token `at`.
    fn put_token(&mut self, layer: usize, at: usize, k: &[f32], v: &[f32]) {
        let (width, capacity) = (self.shape.width, self.capacity);
        let wide = lanes(width);
        for (head, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
            let (keys, values) = self.get_mut(layer, head);
            for (key, row) in k.iter().zip(keys.chunks_exact_mut(capacity)) {
                row[at] = *key;
            }
            values[at * wide..][..width].copy_from_slice(v);
        }
    }
}

/// The keys and values of a prompt.
#[derive(Debug)]
pub struct Prompt {
    store: Store,
    len: usize,
}

impl Prompt {
    /// Tokens cached.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// One sequence: a prompt and what was written after it.
#[derive(Debug)]
pub struct Sequence {
    prompt: Arc<Prompt>,
    pages: Vec<Store>,
    written: usize,
}

impl Sequence {
    /// Continues a prompt, sharing its memory.
    pub fn after(prompt: &Arc<Prompt>) -> Self {
        Self {
            prompt: Arc::clone(prompt),
            pages: Vec::new(),
            written: 0,
        }
    }

    /// Tokens cached.
    pub fn len(&self) -> usize {
        self.prompt.len + self.written
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shared prompt, its bytes, and those of this sequence's pages.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> (*const Prompt, usize, usize) {
        let pages = self.pages.iter().map(Store::n_bytes).sum();
        (
            Arc::as_ptr(&self.prompt),
            self.prompt.store.n_bytes(),
            pages,
        )
    }
}

/// Pages of ended sequences, to be used again.
#[derive(Debug, Default)]
pub struct Pages {
    free: Vec<Store>,
}

impl Pages {
    /// Takes back the pages of a sequence that has ended.
    pub fn reclaim(&mut self, sequence: Sequence) {
        self.free.extend(sequence.pages);
    }

    /// Adds a page where one more token needs it.
    fn extend(&mut self, sequence: &mut Sequence) {
        if sequence.written == sequence.pages.len() * PAGE {
            let shape = sequence.prompt.store.shape;
            let page = self.free.pop();
            let page = page.unwrap_or_else(|| Store::new(shape, PAGE));
            sequence.pages.push(page);
        }
    }

    /// Bytes of the free pages.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> usize {
        self.free.iter().map(Store::n_bytes).sum()
    }

    /// Lets go of all but so many pages.
    pub(crate) fn keep(&mut self, pages: usize) {
        self.free.truncate(pages);
    }
}

/// Computes prompts. `logits` becomes (B, V) row by row: those after the last token of each.
///
/// # Panics
/// When a prompt is empty or a token is not below the vocabulary; a programmer mistake.
pub fn forward_prompts(
    decoder: &Decoder,
    workspace: &mut Workspace,
    tokens: &[&[u32]],
    threads: &Threads,
    logits: &mut Vec<f32>,
) -> Vec<Prompt> {
    let config = decoder.config();
    let (shape, vocab) = (Shape::of(config), config.vocab);
    logits.clear();
    logits.resize(tokens.len() * vocab, 0.0);
    let mut prompts: Vec<Prompt> = tokens
        .iter()
        .map(|ids| Prompt {
            store: Store::new(shape, leading_dim(ids.len())),
            len: 0,
        })
        .collect();
    let mut last = Vec::new();
    while let Some(pieces) = next_pieces(&prompts, tokens) {
        forward_pieces(decoder, workspace, &mut prompts, tokens, &pieces, threads);
        let ended: Vec<(usize, usize)> = pieces
            .iter()
            .zip(lane_ends(&pieces))
            .filter(|(piece, _)| piece.tokens.end == tokens[piece.prompt].len())
            .map(|(piece, end)| (piece.prompt, end - 1))
            .collect();
        let columns: Vec<usize> = ended.iter().map(|(_, lane)| *lane).collect();
        logits_of(decoder, workspace, &columns, threads, &mut last);
        for ((prompt, _), row) in ended.iter().zip(last.chunks_exact(vocab)) {
            logits[prompt * vocab..][..vocab].copy_from_slice(row);
        }
    }
    prompts
}

/// Tokens of one prompt that are computed together.
struct Piece {
    prompt: usize,
    tokens: Range<usize>,
}

/// What to compute next: pieces of prompts in their order, at least one, together at most
/// [`PROMPT_TOKENS`] where there are several.
fn next_pieces(prompts: &[Prompt], tokens: &[&[u32]]) -> Option<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut sum = 0;
    for (prompt, (done, ids)) in prompts.iter().map(|p| p.len).zip(tokens).enumerate() {
        assert!(!ids.is_empty(), "nothing to compute for a prompt");
        let end = ids.len().min(done + PROMPT_TOKENS);
        if done == end {
            continue;
        }
        sum += end - done;
        if sum > PROMPT_TOKENS && !pieces.is_empty() {
            break;
        }
        let tokens = done..end;
        pieces.push(Piece { prompt, tokens });
    }
    (!pieces.is_empty()).then_some(pieces)
}

/// For each piece the lane behind its last token.
fn lane_ends(pieces: &[Piece]) -> impl Iterator<Item = usize> {
    pieces.iter().scan(0, |end, piece| {
        *end += piece.tokens.len();
        Some(*end)
    })
}

/// Computes some tokens of prompts and caches their keys and values.
fn forward_pieces(
    decoder: &Decoder,
    workspace: &mut Workspace,
    prompts: &mut [Prompt],
    tokens: &[&[u32]],
    pieces: &[Piece],
    threads: &Threads,
) {
    workspace.batch.clear();
    for piece in pieces {
        let ids = &tokens[piece.prompt][piece.tokens.clone()];
        workspace.batch.push_tokens(ids, piece.tokens.start);
    }
    workspace.plan(decoder.config(), Save::Nothing, threads);
    workspace.forward_with(
        decoder,
        threads,
        |layer, index, saved, batch, ld, scratch| {
            let config = layer.config;
            let (q_rows, part) = (config.attention_rows() * ld, config.head_dim * ld);
            let qkv = saved.qkv.get(config.qkv_rows() * ld);
            let (k, v) = qkv[q_rows..].split_at(config.kv_heads * part);
            let out = saved.attention.get_mut(q_rows);
            let (fresh, begun): (Vec<_>, Vec<_>) = pieces
                .iter()
                .zip(batch.segments.iter().copied())
                .partition(|(piece, _)| piece.tokens.start == 0);
            let fresh: Vec<Segment> = fresh.into_iter().map(|(_, segment)| segment).collect();
            let lse = saved.lse.get_mut(config.heads * ld);
            let shape = (&fresh[..], ld);
            attention(threads, scratch, &layer.heads, shape, out, lse, qkv);
            if !begun.is_empty() {
                let prompts = &*prompts;
                threads.for_chunks(config.heads, [(out, part)], scratch, |h, [out], scratch| {
                    let kv_head = h * config.kv_heads / config.heads;
                    for (piece, s) in &begun {
                        let prompt = &prompts[piece.prompt];
                        let (keys, values) = prompt.store.get(index, kv_head);
                        let lane = kv_head * part + s.start..(kv_head + 1) * part;
                        Arch::new().dispatch(HeadWithPrefix {
                            heads: &layer.heads,
                            q: &qkv[h * part + s.start..(h + 1) * part],
                            ld,
                            prefix: CachedKv {
                                n: prompt.len,
                                keys: OperandA::col_major(keys, prompt.store.capacity),
                                values: OperandA::col_major(values, lanes(config.head_dim)),
                            },
                            own: CachedKv {
                                n: s.len,
                                keys: OperandA::col_major(&k[lane.clone()], ld),
                                values: OperandA::row_major(&v[lane], ld),
                            },
                            out: &mut out[s.start..],
                            scratch,
                        });
                    }
                });
            }
            for (piece, s) in pieces.iter().zip(&batch.segments) {
                let store = &mut prompts[piece.prompt].store;
                store.put_lanes(index, piece.tokens.start, (k, v), ld, *s);
            }
        },
    );
    for piece in pieces {
        prompts[piece.prompt].len = piece.tokens.end;
    }
}

/// Computes the next token of each sequence and caches its keys and values. `logits` becomes (B, V) row by row:
/// those after it. Sequences of one prompt that follow each other read its keys and values once.
///
/// # Panics
/// When there are not as many sequences as tokens, or a token is not below the vocabulary; a
/// programmer mistake.
pub fn forward_step(
    decoder: &Decoder,
    workspace: &mut Workspace,
    pages: &mut Pages,
    sequences: &mut [Sequence],
    tokens: &[u32],
    threads: &Threads,
    logits: &mut Vec<f32>,
) {
    assert_eq!(sequences.len(), tokens.len(), "one token a sequence");
    logits.clear();
    if tokens.is_empty() {
        return;
    }
    workspace.batch.clear();
    for (sequence, id) in sequences.iter_mut().zip(tokens) {
        pages.extend(sequence);
        workspace
            .batch
            .push_tokens(std::slice::from_ref(id), sequence.len());
    }
    workspace.plan(decoder.config(), Save::Nothing, threads);
    let mut rows = Buffer::default();
    rows.reserve(tokens.len() * decoder.config().attention_rows());
    workspace.forward_with(decoder, threads, |layer, index, saved, _, ld, scratch| {
        let at = (index, ld);
        attend_step(layer, at, saved, sequences, &mut rows, threads, scratch);
    });
    for sequence in sequences {
        sequence.written += 1;
    }
    let columns: Vec<usize> = (0..tokens.len()).collect();
    logits_of(decoder, workspace, &columns, threads, logits);
}

fn logits_of(
    decoder: &Decoder,
    workspace: &mut Workspace,
    columns: &[usize],
    threads: &Threads,
    logits: &mut Vec<f32>,
) {
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    all_logits(
        decoder.head(),
        threads,
        &mut workspace.scratch,
        hidden,
        workspace.ld,
        columns,
        logits,
    );
}

/// Sequences that one chunk of work attends for.
const SEQUENCES: usize = 8;

/// Caches each sequence's new key and value, and attends.
fn attend_step(
    layer: &Layer<'_>,
    (index, ld): (usize, usize),
    saved: &mut SavedActivations,
    sequences: &mut [Sequence],
    rows: &mut Buffer,
    threads: &Threads,
    scratch: &mut [Vec<f32>],
) {
    let (config, n) = (layer.config, sequences.len());
    let (width, q_rows) = (config.qkv_rows(), config.attention_rows());
    let qkv = saved.qkv.get(width * ld);
    // Each chunk takes its own sequences, once.
    let chunks: Vec<Mutex<&mut [Sequence]>> =
        sequences.chunks_mut(SEQUENCES).map(Mutex::new).collect();
    let rows = rows.get_mut(n * q_rows);
    threads.for_chunks(
        chunks.len(),
        [(&mut *rows, SEQUENCES * q_rows)],
        scratch,
        |chunk, [out], scratch| {
            let mut sequences = chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
            Arch::new().dispatch(Step {
                layer,
                index,
                qkv: &qkv[chunk * SEQUENCES..],
                ld,
                sequences: &mut sequences,
                out,
                scratch,
            });
        },
    );
    let out = saved.attention.get_mut(q_rows * ld);
    transpose((n, q_rows), (rows, q_rows), (out, ld));
}

/// The new tokens of a few sequences.
struct Step<'a> {
    layer: &'a Layer<'a>,
    index: usize,
    /// ((H + 2K)·D, T) lanes, from the first sequence's on.
    qkv: &'a [f32],
    ld: usize,
    sequences: &'a mut [Sequence],
    /// (sequences, H·D).
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            layer,
            index,
            qkv,
            ld,
            sequences,
            out,
            scratch,
        } = self;
        let config = layer.config;
        let (width, d) = (config.qkv_rows(), config.head_dim);
        let (q_rows, group) = (config.attention_rows(), config.heads / config.kv_heads);
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
            let (k, v) = token[q_rows..].split_at(config.kv_heads * d);
            let page = &mut sequence.pages[sequence.written / PAGE];
            page.put_token(index, sequence.written % PAGE, k, v);
        }
        for kv_head in 0..config.kv_heads {
            let columns = kv_head * group * d;
            let mut start = 0;
            for run in sequences.chunk_by(|a, b| Arc::ptr_eq(&a.prompt, &b.prompt)) {
                let m = run.len() * group;
                for i in 0..m {
                    let token = &tokens[(start + i / group) * width..];
                    queries[i * wide..][..d]
                        .copy_from_slice(&token[columns + i % group * d..][..d]);
                }
                simd.vectorize(Run {
                    layer,
                    place: (index, kv_head),
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
struct Run<'a> {
    layer: &'a Layer<'a>,
    place: (usize, usize),
    run: &'a [Sequence],
    /// (m, D) in whole lines.
    queries: &'a [f32],
    /// (m, most of [`row_len`]).
    scores: &'a mut [f32],
    /// As the queries.
    outputs: &'a mut [f32],
}

impl WithSimd for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            layer,
            place: (index, head),
            run,
            queries,
            scores,
            outputs,
        } = self;
        let Some(first) = run.first() else { return };
        let (d, wide) = (layer.heads.width, lanes(layer.heads.width));
        let group = layer.heads.n / layer.heads.kv;
        let m = run.len() * group;
        let row = scores.len() / m;
        let (prompt, capacity) = (&first.prompt, first.prompt.store.capacity);
        let (past, own_at) = (prompt.len, lanes(prompt.len));
        let (keys, prompt_values) = prompt.store.get(index, head);
        simd.vectorize(Product {
            size: (m, own_at, d),
            a: OperandA::row_major(queries, wide),
            b: (keys, capacity),
            c: (&mut *scores, row),
            accumulate: Accumulate::Nothing,
        });
        for (i, sequence) in run.iter().enumerate() {
            let (n, seen) = (sequence.written + 1, seen(layer, sequence));
            let queries = &queries[i * group * wide..][..group * wide];
            let scores = &mut scores[i * group * row..][..group * row];
            for (page, store) in sequence.pages.iter().enumerate() {
                simd.vectorize(Product {
                    size: (group, lanes(n - page * PAGE).min(PAGE), d),
                    a: OperandA::row_major(queries, wide),
                    b: (store.get(index, head).0, PAGE),
                    c: (&mut scores[own_at + page * PAGE..], row),
                    accumulate: Accumulate::Nothing,
                });
            }
            for scores in scores.chunks_exact_mut(row) {
                let scores = &mut scores[..row_len(sequence)];
                scores[..seen.min(past)].fill(f32::NEG_INFINITY);
                scores[past..own_at + seen.saturating_sub(past)].fill(f32::NEG_INFINITY);
                scores[own_at + n..].fill(f32::NEG_INFINITY);
                normalise(simd, scores, layer.heads.softcap);
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
                    b: (store.get(index, head).1, wide),
                    c: (&mut outputs[i * group * wide..][..group * wide], wide),
                    accumulate: Accumulate::Output,
                });
            }
        }
    }
}

/// The first token, counted from the prompt's, that the new one may see.
fn seen(layer: &Layer<'_>, sequence: &Sequence) -> usize {
    let end = sequence.len() + 1;
    layer.heads.window.map_or(0, |w| end.saturating_sub(w))
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

const _: () = assert!(PAGE.is_multiple_of(LINE), "pages are whole lines");
