//! The forward pass of a few new tokens over remembered keys and values: what sampling needs.
//!
//! A sequence's result does not depend on what else is in the call, to the bit: products are per
//! lane, and attention is per sequence. Choosing tokens is another module's business.

use pulp::{Arch, Simd, WithSimd};

use crate::decoder::{Decoder, Keep, Kept, Layer, Workspace};
use crate::facts::Facts;
use crate::ops::attention::{HeadForward, Segment};
use crate::ops::head::all_logits;
use crate::ops::math::{exp, tanh};
use crate::ops::product::{Left, Onto, Product};
use crate::ops::{Buffer, aligned, lanes, stride, take};
use crate::threads::Threads;

/// The keys and values of one sequence so far.
///
/// Cloning it continues a shared prompt in several ways at the cost of a copy.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    kv_heads: usize,
    width: usize,
    len: usize,
    capacity: usize,
}

#[derive(Debug, Default)]
struct LayerCache {
    /// (K·D, capacity): positions in lanes.
    keys: Buffer,
    /// (K, capacity, D up to whole lines): a head's width in lanes.
    values: Buffer,
}

impl KvCache {
    /// An empty cache for a model with these facts.
    pub fn new(facts: &Facts) -> Self {
        let layers = (0..facts.layers).map(|_| LayerCache::default()).collect();
        Self {
            layers,
            kv_heads: facts.kv_heads,
            width: facts.head_width,
            len: 0,
            capacity: 0,
        }
    }

    /// Tokens remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all but the first `len` tokens; keeps the memory.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Bytes held.
    pub fn n_bytes(&self) -> usize {
        self.layers.len()
            * (self.keys_len(self.capacity) + self.values_len(self.capacity))
            * size_of::<f32>()
    }

    /// Makes room for `tokens` in all, so that a known length is laid out once.
    pub fn reserve(&mut self, tokens: usize) {
        if tokens <= self.capacity {
            return;
        }
        // A stride keeps rows apart in the cache sets; half as much again bounds the copying.
        let capacity = stride(tokens.max(self.capacity * 3 / 2));
        *self = self.with_capacity(capacity);
    }

    fn keys_len(&self, capacity: usize) -> usize {
        self.kv_heads * self.width * capacity
    }

    fn values_len(&self, capacity: usize) -> usize {
        self.kv_heads * capacity * lanes(self.width)
    }

    fn with_capacity(&self, capacity: usize) -> Self {
        let wide = lanes(self.width);
        let copied = |from: &LayerCache| {
            let mut to = LayerCache::default();
            to.keys.reserve(self.keys_len(capacity));
            to.values.reserve(self.values_len(capacity));
            if self.len > 0 {
                let old = from
                    .keys
                    .get(self.keys_len(self.capacity))
                    .chunks_exact(self.capacity);
                let new = to
                    .keys
                    .get_mut(self.keys_len(capacity))
                    .chunks_exact_mut(capacity);
                new.zip(old)
                    .for_each(|(n, o)| n[..self.len].copy_from_slice(&o[..self.len]));
                let old = from
                    .values
                    .get(self.values_len(self.capacity))
                    .chunks_exact(self.capacity * wide);
                let new = to
                    .values
                    .get_mut(self.values_len(capacity))
                    .chunks_exact_mut(capacity * wide);
                let filled = self.len * wide;
                new.zip(old)
                    .for_each(|(n, o)| n[..filled].copy_from_slice(&o[..filled]));
            }
            to
        };
        Self {
            layers: self.layers.iter().map(copied).collect(),
            capacity,
            ..*self
        }
    }

    /// Appends the keys and values of a segment of a layer's lanes.
    fn append(&mut self, layer: usize, kv: &[f32], stride: usize, segment: Segment) {
        let (rows, wide, capacity) = (self.kv_heads * self.width, lanes(self.width), self.capacity);
        let (keys_len, values_len) = (self.keys_len(capacity), self.values_len(capacity));
        let at = segment.start..segment.start + segment.len;
        let (k, v) = kv.split_at(rows * stride);
        let keys = self.layers[layer]
            .keys
            .get_mut(keys_len)
            .chunks_exact_mut(capacity);
        for (to, from) in keys.zip(k.chunks_exact(stride)) {
            to[self.len..self.len + segment.len].copy_from_slice(&from[at.clone()]);
        }
        let values = self.layers[layer]
            .values
            .get_mut(values_len)
            .chunks_exact_mut(capacity * wide);
        for (to, from) in values.zip(v.chunks_exact(self.width * stride)) {
            for (d, row) in from.chunks_exact(stride).enumerate() {
                for (i, value) in row[at.clone()].iter().enumerate() {
                    to[(self.len + i) * wide + d] = *value;
                }
            }
        }
    }

    fn head(&self, layer: usize, kv_head: usize) -> CachedHead<'_> {
        let (keys, values) = (
            self.width * self.capacity,
            self.capacity * lanes(self.width),
        );
        CachedHead {
            keys: &self.layers[layer].keys.get(self.keys_len(self.capacity))[kv_head * keys..]
                [..keys],
            values: &self.layers[layer]
                .values
                .get(self.values_len(self.capacity))[kv_head * values..][..values],
            capacity: self.capacity,
        }
    }
}

impl Clone for KvCache {
    fn clone(&self) -> Self {
        self.with_capacity(self.capacity)
    }
}

#[derive(Clone, Copy)]
struct CachedHead<'a> {
    /// (D, capacity).
    keys: &'a [f32],
    /// (capacity, D up to whole lines).
    values: &'a [f32],
    capacity: usize,
}

/// Computes new tokens of several sequences, each after what its cache remembers, and remembers
/// them. `logits` becomes (B, V) row by row: those after the last new token of each sequence.
///
/// # Panics
/// When there are not as many caches as token slices, a slice is empty, or a token is not below
/// the vocabulary; a programmer mistake.
pub fn forward_cached(
    decoder: &Decoder,
    workspace: &mut Workspace,
    caches: &mut [KvCache],
    tokens: &[&[u32]],
    threads: &Threads,
    logits: &mut Vec<f32>,
) {
    assert_eq!(caches.len(), tokens.len(), "one cache a sequence");
    assert!(
        tokens.iter().all(|t| !t.is_empty()),
        "nothing to compute for a sequence"
    );
    logits.clear();
    if tokens.is_empty() {
        return;
    }
    workspace.batch.clear();
    for (cache, ids) in caches.iter_mut().zip(tokens) {
        cache.reserve(cache.len + ids.len());
        workspace.batch.push_tokens(ids, cache.len);
    }
    workspace.plan(decoder.facts(), Keep::Last, threads);
    workspace.forward_with(
        decoder,
        threads,
        |layer, index, kept, segments, stride, scratch| {
            attend_cached(
                layer,
                index,
                kept,
                (segments, stride),
                caches,
                threads,
                scratch,
            );
        },
    );
    for (cache, ids) in caches.iter_mut().zip(tokens) {
        cache.len += ids.len();
    }
    let columns: Vec<usize> = workspace
        .batch
        .segments
        .iter()
        .map(|s| s.start + s.len - 1)
        .collect();
    let hidden = workspace
        .normed
        .get(decoder.facts().hidden * workspace.stride);
    let scratch = &mut workspace.scratch[0];
    all_logits(
        decoder.head(),
        hidden,
        workspace.stride,
        &columns,
        logits,
        scratch,
    );
}

fn attend_cached(
    layer: &Layer<'_>,
    index: usize,
    kept: &mut Kept,
    (segments, stride): (&[Segment], usize),
    caches: &mut [KvCache],
    threads: &Threads,
    scratch: &mut [Vec<f32>],
) {
    let facts = layer.facts;
    let (q_rows, part) = (facts.attention_rows() * stride, facts.head_width * stride);
    let qkv = kept.qkv.get(facts.qkv_rows() * stride);
    for (cache, segment) in caches.iter_mut().zip(segments) {
        cache.append(index, &qkv[q_rows..], stride, *segment);
    }
    let caches = &*caches;
    let group = facts.heads / facts.kv_heads;
    let out = kept.attention.get_mut(q_rows);
    threads.for_chunks(
        facts.kv_heads,
        [(out, group * part)],
        scratch,
        |kv_head, [out], scratch| {
            let q = &qkv[kv_head * group * part..][..group * part];
            for (cache, s) in caches.iter().zip(segments) {
                let head = cache.head(index, kv_head);
                if s.len == 1 {
                    let lane = s.start;
                    Arch::new().dispatch(OneQuery {
                        layer,
                        head,
                        q,
                        stride,
                        lane,
                        past: cache.len,
                        out,
                        scratch,
                    });
                    continue;
                }
                for h in 0..group {
                    let rows = h * part + s.start..(h + 1) * part;
                    Arch::new().dispatch(HeadForward {
                        heads: &layer.heads,
                        q: &q[rows.clone()],
                        stride,
                        len: s.len,
                        past: cache.len,
                        keys: Left::columns(head.keys, head.capacity),
                        values: Left::columns(head.values, lanes(facts.head_width)),
                        out: &mut out[rows],
                        lse: &mut vec![0.0; s.len],
                        scratch,
                    });
                }
            }
        },
    );
}

/// One new token of one sequence, all query heads of one key and value head: keys in lanes.
struct OneQuery<'a> {
    layer: &'a Layer<'a>,
    head: CachedHead<'a>,
    /// (group·D, N) lanes.
    q: &'a [f32],
    stride: usize,
    lane: usize,
    /// Keys before the new one.
    past: usize,
    /// (group·D, N) lanes.
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for OneQuery<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            layer,
            head,
            q,
            stride,
            lane,
            past,
            out,
            scratch,
        } = self;
        let (d, wide) = (layer.heads.width, lanes(layer.heads.width));
        let group = layer.heads.n / layer.heads.kv;
        let end = past + 1;
        let first = layer.heads.window.map_or(0, |w| end.saturating_sub(w));
        // Keys from a whole line on, so that whole vectors stay inside the cache's rows.
        let start = first / crate::ops::LINE * crate::ops::LINE;
        let (n, n_wide) = (end - start, lanes(end - start));
        let mut rest = aligned(scratch, group * (n_wide + 2 * wide));
        let scores = take(&mut rest, group * n_wide);
        let queries = take(&mut rest, group * wide);
        let outputs = take(&mut rest, group * wide);
        for h in 0..group {
            for i in 0..d {
                queries[h * wide + i] = q[(h * d + i) * stride + lane];
            }
        }
        simd.vectorize(Product {
            size: (group, n_wide, d),
            left: Left::rows(queries, wide),
            right: (&head.keys[start..], head.capacity),
            out: (scores, n_wide),
            onto: Onto::Nothing,
        });
        for row in scores.chunks_exact_mut(n_wide) {
            row[..first - start].fill(f32::NEG_INFINITY);
            row[n..].fill(f32::NEG_INFINITY);
            normalise(simd, row, layer.heads.softcap);
        }
        simd.vectorize(Product {
            size: (group, d, n),
            left: Left::rows(scores, n_wide),
            right: (&head.values[start * wide..], wide),
            out: (outputs, wide),
            onto: Onto::Nothing,
        });
        for h in 0..group {
            for i in 0..d {
                out[(h * d + i) * stride + lane] = outputs[h * wide + i];
            }
        }
    }
}

/// Scores of one query, whole vectors of them, to probabilities; −∞ stays 0.
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
