//! A linear layer: its weight, perhaps a bias, and perhaps low-rank maps beside it.
//!
//! The decoder asks for layers and passes on what it is given; only this file knows what a layer
//! is made of. A weight that does not train has no gradient: an empty slice takes its place, and its
//! product is not computed.

use super::Buffer;
use super::arithmetic::Factors;
use super::cpu::Cpu;
use super::dropout::Dropout;
use super::low_rank::{LowRank, LowRankWorkspace};
use super::operand::Stored;

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
    /// Of its own three products; the low-rank maps' are f32.
    pub(crate) factors: Factors,
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
pub(crate) struct ProjectionWorkspace {
    low_rank: LowRankWorkspace,
    /// An input after dropout, or its gradient: (I, T).
    dropped: Buffer,
}

impl Linear<'_> {
    /// - `out`: (O, T) lanes; overwritten, or with `base` that plus the product
    /// - `input`: (I, T) lanes
    ///
    /// out = W x + b (or + base) + s B (A drop(x))
    pub(crate) fn forward(
        &self,
        cpu: &mut Cpu<'_>,
        out: &mut [f32],
        input: &[f32],
        base: Option<&[f32]>,
        shape: (usize, usize),
    ) {
        let weights = (self.weight, self.bias);
        cpu.linear(self.factors, out, weights, input, base, shape);
        if self.low_rank.is_empty() {
            return;
        }
        let mut workspace = std::mem::take(&mut cpu.workspace.projection);
        let input = self.dropped(cpu, &mut workspace.dropped, input, shape.1);
        let low_rank = &mut workspace.low_rank;
        self.low_rank.forward(cpu, low_rank, out, input, shape);
        cpu.workspace.projection = workspace;
    }

    /// The input as the low-rank maps see it.
    fn dropped<'b>(
        &self,
        cpu: &mut Cpu<'_>,
        buffer: &'b mut Buffer,
        input: &'b [f32],
        ld: usize,
    ) -> &'b [f32] {
        let Some(dropout) = self.dropout else {
            return input;
        };
        buffer.reserve(input.len());
        let out = buffer.get_mut(input.len());
        dropout.apply(cpu, out, input, ld);
        out
    }

    /// Gradient of the input. Call [`d_weights`](Self::d_weights) of the same layer, if at all,
    /// before this of another.
    ///
    /// - `d_input`: (I, T) lanes, overwritten
    /// - `d_out`: (O, T) lanes
    pub(crate) fn d_input(
        &self,
        cpu: &mut Cpu<'_>,
        d_input: &mut [f32],
        d_out: &[f32],
        shape: (usize, usize),
    ) {
        cpu.linear_d_input(self.factors, d_input, self.weight, d_out, shape);
        if self.low_rank.is_empty() {
            return;
        }
        let mut workspace = std::mem::take(&mut cpu.workspace.projection);
        let ProjectionWorkspace { low_rank, dropped } = &mut workspace;
        match self.dropout {
            None => self
                .low_rank
                .d_input(cpu, low_rank, d_input, true, d_out, shape),
            Some(dropout) => {
                dropped.reserve(d_input.len());
                let d_dropped = dropped.get_mut(d_input.len());
                self.low_rank
                    .d_input(cpu, low_rank, d_dropped, false, d_out, shape);
                dropout.add_back(cpu, d_input, d_dropped, shape.1);
            }
        }
        cpu.workspace.projection = workspace;
    }

    /// Gradients of the layer's values, after [`d_input`](Self::d_input).
    ///
    /// - `d_out`: (O, T) lanes
    /// - `input`: (I, T) lanes
    /// - `tokens`: T · leading_dim(I) of scratch
    pub(crate) fn d_weights(
        &self,
        cpu: &mut Cpu<'_>,
        gradients: LinearGradients<'_>,
        d_out: &[f32],
        input: &[f32],
        shape: (usize, usize),
        tokens: &mut [f32],
    ) {
        if !gradients.weight.is_empty() {
            let grads = (gradients.weight, gradients.bias);
            cpu.linear_d_weight(self.factors, grads, d_out, input, shape, tokens);
        }
        if self.low_rank.is_empty() {
            return;
        }
        let mut workspace = std::mem::take(&mut cpu.workspace.projection);
        let input = self.dropped(cpu, &mut workspace.dropped, input, shape.1);
        let (grads, low_rank) = (gradients.low_rank, &mut workspace.low_rank);
        self.low_rank
            .d_weights(cpu, low_rank, grads, d_out, input, shape);
        cpu.workspace.projection = workspace;
    }
}
