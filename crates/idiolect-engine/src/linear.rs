//! A linear layer: its weight, perhaps a bias, and perhaps low-rank maps beside it.
//!
//! The decoder asks for layers and passes on what it is given; only this file knows what a layer
//! is made of. A weight that does not train has no gradient: an empty slice stands for it, and its
//! product is not computed.

use crate::ops::Buffer;
use crate::ops::dropout::Dropout;
use crate::ops::linear::{linear, linear_d_input, linear_d_weight};
use crate::ops::low_rank::{LowRank, LowRankWorkspace};
use crate::ops::operand::Stored;
use crate::threads::Threads;

/// One linear layer's values.
#[derive(Clone, Copy)]
pub(crate) struct Linear<'a> {
    /// (O, I).
    pub(crate) weight: Stored<'a>,
    /// (O) or empty.
    pub(crate) bias: &'a [f32],
    pub(crate) low_rank: LowRank<'a>,
    /// On the input of the low-rank maps; none outside of training.
    pub(crate) dropout: Option<Dropout<'a>>,
}

/// Gradients of one linear layer's values, each accumulated into; those that are not wanted are
/// empty.
pub(crate) struct LinearGradients<'a> {
    pub(crate) weight: &'a mut [f32],
    pub(crate) bias: &'a mut [f32],
    /// A and B of the low-rank maps.
    pub(crate) low_rank: (&'a mut [f32], &'a mut [f32]),
}

/// Buffers that linear layers share; they grow and are reused.
#[derive(Debug, Default)]
pub(crate) struct LinearWorkspace {
    low_rank: LowRankWorkspace,
    /// An input after dropout, or its gradient: (I, T).
    dropped: Buffer,
}

impl Linear<'_> {
    /// - `out`: (O, T) lanes; overwritten, or with `base` that plus the product
    /// - `input`: (I, T) lanes
    ///
    /// out = W x + b (or + base) + s B (A drop(x))
    #[expect(
        clippy::too_many_arguments,
        reason = "threads, their scratch, buffers, and the operation's own four"
    )]
    pub(crate) fn forward(
        &self,
        threads: &Threads,
        scratch: &mut [Vec<f32>],
        workspace: &mut LinearWorkspace,
        out: &mut [f32],
        input: &[f32],
        base: Option<&[f32]>,
        shape: (usize, usize),
    ) {
        let weights = (self.weight, self.bias);
        linear(threads, scratch, out, weights, input, base, shape);
        if self.low_rank.is_empty() {
            return;
        }
        let LinearWorkspace { low_rank, dropped } = workspace;
        let input = self.dropped(threads, scratch, dropped, input, shape.1);
        self.low_rank
            .forward(threads, scratch, low_rank, out, input, shape);
    }

    /// The input as the low-rank maps see it.
    fn dropped<'b>(
        &self,
        threads: &Threads,
        scratch: &mut [Vec<f32>],
        buffer: &'b mut Buffer,
        input: &'b [f32],
        ld: usize,
    ) -> &'b [f32] {
        let Some(dropout) = self.dropout else {
            return input;
        };
        buffer.reserve(input.len());
        let out = buffer.get_mut(input.len());
        dropout.apply(threads, scratch, out, input, ld);
        out
    }

    /// Gradient of the input. Call [`d_weights`](Self::d_weights) of the same layer, if at all,
    /// before this of another.
    ///
    /// - `d_input`: (I, T) lanes, overwritten
    /// - `d_out`: (O, T) lanes
    pub(crate) fn d_input(
        &self,
        threads: &Threads,
        scratch: &mut [Vec<f32>],
        workspace: &mut LinearWorkspace,
        d_input: &mut [f32],
        d_out: &[f32],
        shape: (usize, usize),
    ) {
        linear_d_input(threads, scratch, d_input, self.weight, d_out, shape);
        if self.low_rank.is_empty() {
            return;
        }
        let LinearWorkspace { low_rank, dropped } = workspace;
        let mut low = |d_input: &mut [f32], add, scratch: &mut [Vec<f32>]| {
            self.low_rank
                .d_input(threads, scratch, low_rank, d_input, add, d_out, shape);
        };
        let Some(dropout) = self.dropout else {
            return low(d_input, true, scratch);
        };
        dropped.reserve(d_input.len());
        let d_dropped = dropped.get_mut(d_input.len());
        low(d_dropped, false, scratch);
        dropout.add_back(threads, scratch, d_input, d_dropped, shape.1);
    }

    /// Gradients of the layer's values, after [`d_input`](Self::d_input).
    ///
    /// - `d_out`: (O, T) lanes
    /// - `input`: (I, T) lanes
    /// - `tokens`: T · leading_dim(I) of scratch
    #[expect(
        clippy::too_many_arguments,
        reason = "threads, their scratch, buffers, and the operation's own five"
    )]
    pub(crate) fn d_weights(
        &self,
        threads: &Threads,
        scratch: &mut [Vec<f32>],
        workspace: &mut LinearWorkspace,
        gradients: LinearGradients<'_>,
        d_out: &[f32],
        input: &[f32],
        shape: (usize, usize),
        tokens: &mut [f32],
    ) {
        if !gradients.weight.is_empty() {
            let grads = (gradients.weight, gradients.bias);
            linear_d_weight(threads, scratch, grads, d_out, input, shape, tokens);
        }
        if self.low_rank.is_empty() {
            return;
        }
        let LinearWorkspace { low_rank, dropped } = workspace;
        let input = self.dropped(threads, scratch, dropped, input, shape.1);
        let grads = gradients.low_rank;
        self.low_rank
            .d_weights(threads, scratch, low_rank, grads, d_out, input, shape);
    }
}
