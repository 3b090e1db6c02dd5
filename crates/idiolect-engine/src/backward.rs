//! The decoder's loss and the gradients of what trains: all its parameters, or its adapters.

use std::ops::Range;

use crate::adapter::{Adapter, Site};
use crate::batch::TokenRow;
use crate::decoder::{Decoder, Keep, Kept, Layer, Workspace, fit};
use crate::facts::Facts;
use crate::ops::dropout::token_key;
use crate::ops::head::LossAndGradients;
use crate::ops::norm::{self, Gain, scale};
use crate::ops::rope::{Turn, rotate};
use crate::ops::{Buffer, attention, embed, gate, head_norm};
use crate::parameters::Parameters;
use crate::threads::Threads;

/// Gradients of activations, planned with the batch.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    shape: (usize, usize),
    /// Of the residual stream: (C, N).
    stream: Buffer,
    /// Of a normed stream, and of an output normed after: (C, N).
    normed: Buffer,
    output: Buffer,
    qkv: Buffer,
    attention: Buffer,
    gated: Buffer,
    means: Buffer,
    /// Of the gains of heads, head by head: (H + K, D).
    gains: Buffer,
    /// Activations as rows of tokens.
    tokens: Buffer,
}

impl Gradients {
    /// Makes the next batch plan anew.
    pub(crate) fn forget(&mut self) {
        self.shape = (0, 0);
    }

    fn plan(&mut self, facts: &Facts, shape: (usize, usize)) {
        if self.shape == shape {
            return;
        }
        self.shape = shape;
        fit(&mut self.stream, facts.hidden, shape);
        fit(&mut self.normed, facts.hidden, shape);
        fit(&mut self.output, facts.hidden, shape);
        fit(&mut self.qkv, facts.qkv_rows(), shape);
        fit(&mut self.attention, facts.attention_rows(), shape);
        fit(&mut self.gated, facts.intermediate, shape);
        fit(&mut self.means, 1, shape);
        self.gains.reserve(facts.qk_rows());
        let widest = facts
            .hidden
            .max(facts.attention_rows())
            .max(facts.intermediate);
        self.tokens.reserve(shape.0 * crate::ops::stride(widest));
    }
}

/// Where gradients are added to. What does not train has none.
pub(crate) struct Sums<'a> {
    /// Laid out as the parameters; empty where they are frozen.
    pub(crate) base: &'a mut [f32],
    /// Laid out as the adapters; empty where there are none.
    pub(crate) adapter: &'a mut [f32],
}

impl Sums<'_> {
    /// The sums of one of the model's own tensors; empty where it is frozen, and the operations
    /// compute no gradient for an empty slice.
    fn of(&mut self, range: &Range<usize>) -> &mut [f32] {
        if self.base.is_empty() {
            &mut []
        } else {
            &mut self.base[range.clone()]
        }
    }
}

/// What decides which inputs of adapters are dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'a> {
    /// Share of values.
    pub(crate) share: f64,
    /// Of the optimiser step.
    pub(crate) step: u64,
    /// What tells each row of the call apart, for example its index in the data.
    pub(crate) rows: &'a [usize],
}

impl Workspace {
    /// Adds the gradients of some rows' loss to `gradients`, which is laid out as
    /// [`Decoder::trained`], and returns the loss: the sum of the targets' surprisals in nats,
    /// each times its row's weight and `share`. With `share` one over the total weight of a step,
    /// steps cut anyhow into calls give the same sums.
    ///
    /// # Panics
    /// When a row does not pass [`TokenRow::check`], or `gradients` has another length; a
    /// programmer mistake.
    pub fn accumulate(
        &mut self,
        decoder: &Decoder,
        rows: &[&TokenRow],
        share: f64,
        gradients: &mut [f32],
        threads: &Threads,
    ) -> f64 {
        self.accumulate_dropping(decoder, rows, share, None, gradients, threads)
    }

    /// [`accumulate`](Self::accumulate) with dropout on the inputs of adapters.
    pub(crate) fn accumulate_dropping(
        &mut self,
        decoder: &Decoder,
        rows: &[&TokenRow],
        share: f64,
        draw: Option<Draw<'_>>,
        gradients: &mut [f32],
        threads: &Threads,
    ) -> f64 {
        assert_eq!(
            gradients.len(),
            decoder.n_trained(),
            "gradients laid out for something else"
        );
        let (base, adapter) = match decoder.adapter() {
            Some(_) => (&mut [][..], gradients),
            None => (gradients, &mut [][..]),
        };
        self.batch.clear();
        rows.iter().for_each(|row| self.batch.push_row(row, share));
        self.drops.tokens.clear();
        self.drops.share = draw.map_or(0.0, |draw| draw.share);
        if let Some(draw) = draw.filter(|draw| draw.share > 0.0) {
            for (row, &id) in rows.iter().zip(draw.rows) {
                let keys = (0..row.n_inputs()).map(|t| token_key(draw.step, id, t));
                self.drops.tokens.extend(keys);
            }
        }
        let keep = if self.recomputes {
            Keep::Inputs
        } else {
            Keep::All
        };
        self.plan(decoder.facts(), keep, threads);
        self.forward(decoder, threads);
        let loss = self.backward(decoder, Sums { base, adapter }, threads);
        // Scores of the same workspace drop nothing.
        self.drops.share = 0.0;
        loss
    }

    fn backward(&mut self, decoder: &Decoder, mut sums: Sums<'_>, threads: &Threads) -> f64 {
        let (facts, stride) = (decoder.facts(), self.stride);
        let width = facts.hidden * stride;
        let mut grads = std::mem::take(&mut self.gradients);
        grads.plan(facts, (self.n, stride));
        let layout = decoder.layout();
        self.logprobs.resize(self.batch.targets.len(), 0.0);
        let loss = LossAndGradients {
            head: decoder.head(),
            hidden: self.normed.get(width),
            stride,
            targets: &self.batch.targets,
            d_hidden: grads.normed.get_mut(width),
            d_weight: sums.of(&layout.head),
            logprobs: &mut self.logprobs,
            buffer: &mut self.logits,
        }
        .run(threads, &mut self.scratch);
        norm::Backward {
            d_input: grads.stream.get_mut(width),
            add: false,
            d_gain: sums.of(&layout.final_norm),
            d_output: grads.normed.get(width),
            input: self.streams[facts.layers].get(width),
            inv_rms: self.final_inv_rms.get(stride),
            gain: decoder.final_gain(),
            means: grads.means.get_mut(stride),
        }
        .run(threads, &mut self.scratch);
        for index in (0..facts.layers).rev() {
            let layer = decoder.layer(index);
            let slot = self.slot(index);
            let mut kept = std::mem::take(&mut self.kept[slot]);
            // What the last layer kept is still there.
            if self.kept.len() < facts.layers && index + 1 < facts.layers {
                self.recompute(&layer, index, &mut kept, threads);
            }
            self.mlp_backward(&layer, &mut kept, &mut grads, &mut sums, threads);
            self.attention_backward(&layer, index, &kept, &mut grads, &mut sums, threads);
            self.kept[slot] = kept;
        }
        let table = sums.of(&layout.embedding);
        if !table.is_empty() {
            embed::embed_backward(
                table,
                grads.stream.get(width),
                stride,
                &self.batch.ids,
                facts.embedding_scale,
            );
        }
        self.gradients = grads;
        loss
    }

    /// From the gradient of a layer's output to that of its middle, in `grads.stream`.
    fn mlp_backward(
        &mut self,
        layer: &Layer<'_>,
        kept: &mut Kept,
        grads: &mut Gradients,
        sums: &mut Sums<'_>,
        threads: &Threads,
    ) {
        let (facts, ranges, stride) = (layer.facts, layer.ranges, self.stride);
        let (width, shape) = (facts.hidden * stride, (self.n, stride));
        let (scratch, room) = (&mut self.scratch, &mut self.linear);
        let d_out = if layer.norms_after() {
            norm::Backward {
                d_input: grads.output.get_mut(width),
                add: false,
                d_gain: sums.of(&ranges.after_mlp_norm),
                d_output: grads.stream.get(width),
                input: kept.outputs[1].get(width),
                inv_rms: kept.inv_rms[3].get(stride),
                gain: layer.gain(&ranges.after_mlp_norm),
                means: grads.means.get_mut(stride),
            }
            .run(threads, scratch);
            grads.output.get(width)
        } else {
            grads.stream.get(width)
        };
        let gated = grads.gated.get_mut(facts.intermediate * stride);
        let gate_up = kept.gate_up.get_mut(2 * facts.intermediate * stride);
        let down = layer.linear(Site::Down, &self.drops);
        down.d_input(threads, scratch, room, gated, d_out, shape);
        gate::gate_backward(threads, scratch, facts.activation, gate_up, gated, stride);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::stride(facts.intermediate));
        let d_down = layer.linear_gradients(Site::Down, sums);
        down.d_weights(threads, scratch, room, d_down, d_out, gated, shape, tokens);
        let d_normed = grads.normed.get_mut(width);
        let linear = layer.linear(Site::GateUp, &self.drops);
        linear.d_input(threads, scratch, room, d_normed, gate_up, shape);
        let (middle, inv_rms) = (kept.middle.get(width), kept.inv_rms[1].get(stride));
        let gain = layer.gain(&ranges.mlp_norm);
        let normed = self.normed.get_mut(width);
        scale(threads, scratch, normed, middle, inv_rms, gain, &[]);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::stride(facts.hidden));
        let d_gate_up = layer.linear_gradients(Site::GateUp, sums);
        linear.d_weights(
            threads, scratch, room, d_gate_up, gate_up, normed, shape, tokens,
        );
        let d_gain = sums.of(&ranges.mlp_norm);
        onto_stream(grads, d_gain, middle, inv_rms, gain, threads, scratch);
    }

    /// From the gradient of a layer's middle to that of its input, in `grads.stream`.
    fn attention_backward(
        &mut self,
        layer: &Layer<'_>,
        index: usize,
        kept: &Kept,
        grads: &mut Gradients,
        sums: &mut Sums<'_>,
        threads: &Threads,
    ) {
        let (facts, ranges, stride) = (layer.facts, layer.ranges, self.stride);
        let (width, shape) = (facts.hidden * stride, (self.n, stride));
        let (scratch, room) = (&mut self.scratch, &mut self.linear);
        let d_out = if layer.norms_after() {
            norm::Backward {
                d_input: grads.output.get_mut(width),
                add: false,
                d_gain: sums.of(&ranges.after_attention_norm),
                d_output: grads.stream.get(width),
                input: kept.outputs[0].get(width),
                inv_rms: kept.inv_rms[2].get(stride),
                gain: layer.gain(&ranges.after_attention_norm),
                means: grads.means.get_mut(stride),
            }
            .run(threads, scratch);
            grads.output.get(width)
        } else {
            grads.stream.get(width)
        };
        let rows = facts.attention_rows() * stride;
        let d_attention = grads.attention.get_mut(rows);
        let linear = layer.linear(Site::Output, &self.drops);
        linear.d_input(threads, scratch, room, d_attention, d_out, shape);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::stride(facts.attention_rows()));
        let d_output = layer.linear_gradients(Site::Output, sums);
        let input = kept.attention.get(rows);
        linear.d_weights(
            threads, scratch, room, d_output, d_out, input, shape, tokens,
        );

        let d_qkv = grads.qkv.get_mut(facts.qkv_rows() * stride);
        attention::Backward {
            heads: &layer.heads,
            segments: &self.batch.segments,
            stride,
            d_qkv,
            d_out: d_attention,
            out: kept.attention.get(rows),
            lse: kept.lse.get(facts.heads * stride),
            qkv: kept.qkv.get(facts.qkv_rows() * stride),
        }
        .run(threads, scratch);
        let (d_q, d_kv) = d_qkv.split_at_mut(rows);
        let d_k = &mut d_kv[..facts.kv_heads * facts.head_width * stride];
        let angles = layer.angles(&self.angles);
        rotate(
            threads,
            scratch,
            d_q,
            stride,
            angles,
            Turn::Back,
            facts.attention_scale,
        );
        rotate(threads, scratch, d_k, stride, angles, Turn::Back, 1.0);
        if facts.qk_norm {
            let (kept_q, kept_k) = kept.qk.get(facts.qk_rows() * stride).split_at(rows);
            let (q_inv_rms, k_inv_rms) = kept
                .qk_inv_rms
                .get((facts.heads + facts.kv_heads) * stride)
                .split_at(facts.heads * stride);
            for (d_heads, kept, inv_rms, range) in [
                (d_q, kept_q, q_inv_rms, &ranges.q_norm),
                (d_k, kept_k, k_inv_rms, &ranges.k_norm),
            ] {
                head_norm::Backward {
                    d_heads,
                    d_gain: sums.of(range),
                    kept,
                    inv_rms,
                    stride,
                    gain: layer.gain(range),
                    partial: grads.gains.get_mut(facts.qk_rows()),
                }
                .run(threads, scratch);
            }
        }

        let d_qkv = grads.qkv.get(facts.qkv_rows() * stride);
        let linear = layer.linear(Site::Qkv, &self.drops);
        let d_normed = grads.normed.get_mut(width);
        linear.d_input(threads, scratch, room, d_normed, d_qkv, shape);
        let (input, inv_rms) = (self.streams[index].get(width), kept.inv_rms[0].get(stride));
        let gain = layer.gain(&ranges.input_norm);
        let normed = self.normed.get_mut(width);
        scale(threads, scratch, normed, input, inv_rms, gain, &[]);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::stride(facts.hidden));
        let d_weights = layer.linear_gradients(Site::Qkv, sums);
        linear.d_weights(
            threads, scratch, room, d_weights, d_qkv, normed, shape, tokens,
        );
        let d_gain = sums.of(&ranges.input_norm);
        onto_stream(grads, d_gain, input, inv_rms, gain, threads, scratch);
    }
}

/// Adds the gradient of a normed stream, in `grads.normed`, to that of the stream.
fn onto_stream(
    grads: &mut Gradients,
    d_gain: &mut [f32],
    input: &[f32],
    inv_rms: &[f32],
    gain: Gain<'_>,
    threads: &Threads,
    scratch: &mut [Vec<f32>],
) {
    norm::Backward {
        d_input: grads.stream.get_mut(input.len()),
        add: true,
        d_gain,
        d_output: grads.normed.get(input.len()),
        input,
        inv_rms,
        gain,
        means: grads.means.get_mut(inv_rms.len()),
    }
    .run(threads, scratch);
}

/// Weighted mean surprisal of the rows' targets in nats, and its gradients by all parameters.
///
/// # Panics
/// When a row does not pass [`TokenRow::check`], or the decoder has adapters: then their
/// gradients are [`adapter_gradients`]; programmer mistakes.
pub fn loss_and_gradients(
    decoder: &Decoder,
    rows: &[TokenRow],
    threads: &Threads,
) -> (f64, Parameters) {
    let mut gradients = Parameters::zeros(decoder.facts());
    let loss = mean_loss(decoder, rows, gradients.values_mut(), threads);
    (loss, gradients)
}

/// Weighted mean surprisal of the rows' targets in nats, and its gradients by the adapters; none
/// without adapters. Nothing is dropped.
///
/// # Panics
/// When a row does not pass [`TokenRow::check`]; a programmer mistake.
pub fn adapter_gradients(
    decoder: &Decoder,
    rows: &[TokenRow],
    threads: &Threads,
) -> Option<(f64, Adapter)> {
    let mut gradients = decoder.adapter()?.clone();
    gradients.values_mut().fill(0.0);
    let loss = mean_loss(decoder, rows, gradients.values_mut(), threads);
    Some((loss, gradients))
}

fn mean_loss(
    decoder: &Decoder,
    rows: &[TokenRow],
    gradients: &mut [f32],
    threads: &Threads,
) -> f64 {
    let rows: Vec<&TokenRow> = rows.iter().collect();
    let share = 1.0 / total_weight(&rows);
    Workspace::new().accumulate(decoder, &rows, share, gradients, threads)
}

/// Σ over rows of weight times learnt targets; 1 when that is 0, so that it can be divided by.
pub(crate) fn total_weight(rows: &[&TokenRow]) -> f64 {
    let total: f64 = rows
        .iter()
        .map(|r| f64::from(r.weight) * r.n_learnt() as f64)
        .sum();
    if total > 0.0 { total } else { 1.0 }
}
