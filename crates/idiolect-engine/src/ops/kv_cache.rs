//! Where keys and values lie in the cache: a prompt's contiguous, a sequence's own in pages.

use std::ops::Range;
use std::sync::Arc;

use super::attention::Segment;
use super::transpose::transpose;
use super::{Buffer, LINE, lanes};

/// Tokens of a page.
pub(crate) const PAGE: usize = 32;

/// What decides the size of keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KvShape {
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
}

impl KvShape {
    /// Floats of the keys of one layer and head, (D, tokens).
    fn keys(self, tokens: usize) -> usize {
        self.head_dim * tokens
    }

    /// Floats of the values of one layer and head, (tokens, D up to whole lines).
    fn values(self, tokens: usize) -> usize {
        tokens * lanes(self.head_dim)
    }

    /// Floats of all layers and heads.
    pub(crate) fn floats(self, tokens: usize) -> usize {
        self.layers * self.kv_heads * (self.keys(tokens) + self.values(tokens))
    }
}

/// Keys and values of a run of tokens: for each layer and head the keys, (D, capacity) with tokens
/// in lanes, and then the values, (capacity, D up to whole lines).
#[derive(Debug)]
pub(crate) struct KvBuffer {
    pub(super) shape: KvShape,
    pub(super) capacity: usize,
    floats: Buffer,
}

impl KvBuffer {
    pub(crate) fn new(shape: KvShape, capacity: usize) -> Self {
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

    pub(crate) fn get(&self, layer: usize, head: usize) -> (&[f32], &[f32]) {
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
    pub(crate) fn put_lanes(
        &mut self,
        layer: usize,
        at: usize,
        (k, v): (&[f32], &[f32]),
        ld: usize,
        s: Segment,
    ) {
        let KvShape {
            kv_heads,
            head_dim: width,
            ..
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
    pub(crate) fn put_token(&mut self, layer: usize, at: usize, k: &[f32], v: &[f32]) {
        let (width, capacity) = (self.shape.head_dim, self.capacity);
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
    pub(crate) store: KvBuffer,
    pub(crate) len: usize,
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
    pub(crate) prompt: Arc<Prompt>,
    pub(crate) pages: Vec<KvBuffer>,
    pub(crate) written: usize,
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
        let pages = self.pages.iter().map(KvBuffer::n_bytes).sum();
        (
            Arc::as_ptr(&self.prompt),
            self.prompt.store.n_bytes(),
            pages,
        )
    }
}

/// PagePool of ended sequences, to be used again.
#[derive(Debug, Default)]
pub struct PagePool {
    free: Vec<KvBuffer>,
}

impl PagePool {
    /// Takes back the pages of a sequence that has ended.
    pub fn reclaim(&mut self, sequence: Sequence) {
        self.free.extend(sequence.pages);
    }

    /// Adds a page where one more token needs it.
    pub(crate) fn extend(&mut self, sequence: &mut Sequence) {
        if sequence.written == sequence.pages.len() * PAGE {
            let shape = sequence.prompt.store.shape;
            let page = self.free.pop();
            let page = page.unwrap_or_else(|| KvBuffer::new(shape, PAGE));
            sequence.pages.push(page);
        }
    }

    /// Bytes of the free pages.
    #[cfg(test)]
    pub(crate) fn n_bytes(&self) -> usize {
        self.free.iter().map(KvBuffer::n_bytes).sum()
    }

    /// Lets go of all but so many pages.
    pub(crate) fn keep(&mut self, pages: usize) {
        self.free.truncate(pages);
    }
}

const _: () = assert!(PAGE.is_multiple_of(LINE), "pages are whole lines");
