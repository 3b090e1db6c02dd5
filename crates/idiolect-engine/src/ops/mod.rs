//! The operations of the decoder, each with its hand-derived backward in the same file.
//!
//! **Lanes.** An activation of width C over T tokens is C rows of T lanes: the value of channel c
//! and token n lies at `c * ld + n`. Tokens are the lanes of the vector unit, so sums over
//! channels (norms, products) and over keys (softmax) need no horizontal step, a weight matrix is
//! read as it is stored, and a token's bits do not depend on what else is in the batch. The leading
//! dimension `ld` is an odd number of 64-byte lines (a power of two would fold all rows onto a few
//! cache sets); lanes beyond T hold zeros, in activations and in their gradients.
//!
//! **Accumulation rule.** Gradients of activations are overwritten unless a comment states
//! otherwise; gradients of parameters are always accumulated into, and somebody else clears them.
//!
//! **Order of sums.** Every output is summed by one thread in an order that depends on the model
//! alone, so the number of threads changes no bit.

pub(crate) mod adamw;
pub(crate) mod arithmetic;
pub(crate) mod attention;
pub(crate) mod bf16;
pub(crate) mod cpu;
pub(crate) mod decode_attention;
pub(crate) mod dropout;
pub(crate) mod embed;
pub(crate) mod gate;
pub(crate) mod head;
pub(crate) mod head_norm;
pub(crate) mod kv_cache;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod math;
pub(crate) mod norm;
pub(crate) mod operand;
pub(crate) mod packed;
pub(crate) mod product;
pub(crate) mod projection;
pub(crate) mod rope;
pub(crate) mod shared_prefix;
pub(crate) mod transpose;

/// Lanes come in whole lines of this many floats, the widest vector any machine here has.
pub(crate) const LINE: usize = 16;

/// `n` rounded up to whole lines.
pub(crate) fn lanes(n: usize) -> usize {
    n.next_multiple_of(LINE)
}

/// Distance of two rows of `n` lanes: whole lines, an odd number of them.
pub(crate) fn leading_dim(n: usize) -> usize {
    (n.div_ceil(LINE) | 1) * LINE
}

/// A growing float buffer that starts on a cache line and is reused.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    values: Vec<f32>,
}

impl Buffer {
    /// Holds `len` floats with whatever they held before; grows only.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.values.len() < len + LINE {
            self.values = vec![0.0; len + LINE];
        }
    }

    /// The first `len` floats.
    pub(crate) fn get(&self, len: usize) -> &[f32] {
        let start = start(&self.values);
        &self.values[start..start + len]
    }

    /// The first `len` floats.
    pub(crate) fn get_mut(&mut self, len: usize) -> &mut [f32] {
        let start = start(&self.values);
        &mut self.values[start..start + len]
    }
}

/// Floats before the first cache line's border.
fn start(values: &[f32]) -> usize {
    // 4-byte floats: at most 15 of them. `usize::MAX` (never on real machines) would mean that
    // the alignment is unknown; then do without.
    let offset = values.as_ptr().align_offset(LINE * size_of::<f32>());
    if offset < LINE { offset } else { 0 }
}

/// The first `len` floats of a worker's scratch that start on a cache line, whatever they held.
pub(crate) fn aligned(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len + LINE {
        *scratch = vec![0.0; len + LINE];
    }
    let start = start(scratch);
    &mut scratch[start..start + len]
}

/// Cuts the next `len` floats off the front.
pub(crate) fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (first, after) = std::mem::take(rest).split_at_mut(len);
    *rest = after;
    first
}

/// Clears the lanes beyond `n` in each row.
pub(crate) fn clear_beyond(values: &mut [f32], n: usize, ld: usize) {
    for row in values.chunks_exact_mut(ld) {
        row[n..].fill(0.0);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Random inputs and comparisons for the operations' tests.
    use idiolect_model::Rng;

    /// `n` normal values with the given scale.
    pub(crate) fn normal(key: &str, n: usize, scale: f64) -> Vec<f32> {
        let mut rng = Rng::keyed(1, &["test", key]);
        (0..n).map(|_| (scale * rng.normal()) as f32).collect()
    }

    /// Rows of `n` lanes of leading dimension `ld`, random inside and zero beyond.
    pub(crate) fn lanes_of(key: &str, rows: usize, n: usize, ld: usize) -> Vec<f32> {
        let mut values = normal(key, rows * ld, 1.0);
        super::clear_beyond(&mut values, n, ld);
        values
    }

    /// Says that a test of bf16 had nothing to test.
    pub(crate) fn without_bf16() {
        eprintln!("SKIPPED: this machine has no AVX-512 instructions for bf16");
    }

    /// Fails with the worst entry when `a` and `b` differ by more than `tolerance` of the largest.
    #[track_caller]
    pub(crate) fn close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
        assert_eq!(a.len(), b.len(), "{what}: lengths");
        let largest = b.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        let worst =
            (0..a.len()).max_by(|&i, &j| (a[i] - b[i]).abs().total_cmp(&(a[j] - b[j]).abs()));
        let Some(i) = worst else { return };
        assert!(
            (a[i] - b[i]).abs() <= tolerance * largest,
            "{what}[{i}]: {} against {}, largest {largest}",
            a[i],
            b[i]
        );
    }
}
