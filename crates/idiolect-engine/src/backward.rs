//! The decoder's loss and the gradients of what trains: all its parameters, or its adapters.

use crate::adapter::{Adapter, Projection};
use crate::batch::TokenRow;
use crate::decoder::{Decoder, Layer, ParameterGradients};
use crate::ops::cpu::Cpu;
use crate::ops::dropout::token_key;
use crate::ops::head::loss::LossAndGradients;
use crate::ops::norm::{self, NormWeight};
use crate::ops::rope::Rotation;
use crate::ops::{attention, embed, head_norm};
use crate::parameters::Parameters;
use crate::threads::Threads;
use crate::workspace::{ActivationGradients, Save, SavedActivations, Workspace};

/// What decides which inputs of adapters are dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'a> {
    /// Fraction of values.
    pub(crate) fraction: f64,
    /// Of the optimiser step.
    pub(crate) step: u64,
    /// What distinguishes each row of the call, for example its index in the data.
    pub(crate) rows: &'a [usize],
}

impl Workspace {
    /// Adds the gradients of some rows' loss to `gradients`, which is laid out as
    /// [`Decoder::trained`], and returns the loss: the sum of the targets' surprisals in nats,
    /// each times its row's weight and `loss_scale`. With `loss_scale` one over the total weight of
    /// a step, steps cut anyhow into calls give the same sums.
    ///
    /// # Panics
    /// When a row does not pass [`TokenRow::check`], or `gradients` has another length; a
    /// programmer mistake.
    pub fn accumulate(
        &mut self,
        decoder: &Decoder,
        rows: &[&TokenRow],
        loss_scale: f64,
        gradients: &mut [f32],
        threads: &Threads,
    ) -> f64 {
        self.accumulate_dropping(decoder, rows, loss_scale, None, gradients, threads)
    }

    /// [`accumulate`](Self::accumulate) with dropout on the inputs of adapters.
    pub(crate) fn accumulate_dropping(
        &mut self,
        decoder: &Decoder,
        rows: &[&TokenRow],
        loss_scale: f64,
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
        rows.iter()
            .for_each(|row| self.batch.push_row(row, loss_scale));
        self.drops.tokens.clear();
        self.drops.fraction = draw.map_or(0.0, |draw| draw.fraction);
        if let Some(draw) = draw.filter(|draw| draw.fraction > 0.0) {
            for (row, &id) in rows.iter().zip(draw.rows) {
                let keys = (0..row.n_inputs()).map(|t| token_key(draw.step, id, t));
                self.drops.tokens.extend(keys);
            }
        }
        let save = if self.gradient_checkpointing {
            Save::LayerInputs
        } else {
            Save::All
        };
        self.plan(decoder.config(), save);
        let mut memory = std::mem::take(&mut self.cpu);
        let cpu = &mut Cpu::new(threads, &mut memory);
        self.forward(decoder, cpu);
        let loss = self.backward(decoder, ParameterGradients { base, adapter }, cpu);
        self.cpu = memory;
        // Scores of the same workspace drop nothing.
        self.drops.fraction = 0.0;
        loss
    }

    fn backward(
        &mut self,
        decoder: &Decoder,
        mut sums: ParameterGradients<'_>,
        cpu: &mut Cpu<'_>,
    ) -> f64 {
        let (config, ld) = (decoder.config(), self.ld);
        let width = config.hidden * ld;
        let mut grads = std::mem::take(&mut self.gradients);
        grads.plan(config, (self.n, ld));
        let layout = decoder.layout();
        self.logprobs.resize(self.batch.targets.len(), 0.0);
        let loss = cpu.loss_and_gradients(LossAndGradients {
            head: decoder.head(),
            hidden: self.normed.get(width),
            ld,
            targets: &self.batch.targets,
            d_hidden: grads.normed.get_mut(width),
            d_weight: sums.of(&layout.head),
            logprobs: &mut self.logprobs,
            buffer: &mut self.logits,
        });
        cpu.rms_norm_backward(norm::Backward {
            d_input: grads.residual.get_mut(width),
            add: false,
            d_weight: sums.of(&layout.final_norm),
            d_output: grads.normed.get(width),
            input: self.residuals[config.layers].get(width),
            rstd: self.final_rstd.get(ld),
            weight: decoder.final_norm(),
            means: grads.means.get_mut(ld),
        });
        for index in (0..config.layers).rev() {
            let layer = decoder.layer(index);
            let slot = self.slot(index);
            let mut saved = std::mem::take(&mut self.saved[slot]);
            // What the last layer saved is still there.
            if self.saved.len() < config.layers && index + 1 < config.layers {
                self.recompute(&layer, &mut saved, cpu);
            }
            self.mlp_backward(&layer, &mut saved, &mut grads, &mut sums, cpu);
            self.attention_backward(&layer, &saved, &mut grads, &mut sums, cpu);
            self.saved[slot] = saved;
        }
        let table = sums.of(&layout.embedding);
        if !table.is_empty() {
            embed::embed_backward(
                table,
                grads.residual.get(width),
                ld,
                &self.batch.ids,
                config.embedding_scale,
            );
        }
        self.gradients = grads;
        loss
    }

    /// From the gradient of a layer's output to that of its post-attention residual, in
    /// `grads.residual`.
    fn mlp_backward(
        &mut self,
        layer: &Layer<'_>,
        saved: &mut SavedActivations,
        grads: &mut ActivationGradients,
        sums: &mut ParameterGradients<'_>,
        cpu: &mut Cpu<'_>,
    ) {
        let (config, ranges, ld) = (layer.config, layer.ranges, self.ld);
        let (width, shape) = (config.hidden * ld, (self.n, ld));
        let d_out = if layer.norms_after() {
            cpu.rms_norm_backward(norm::Backward {
                d_input: grads.output.get_mut(width),
                add: false,
                d_weight: sums.of(&ranges.after_mlp_norm),
                d_output: grads.residual.get(width),
                input: saved.outputs[1].get(width),
                rstd: saved.rstd[3].get(ld),
                weight: layer.norm(&ranges.after_mlp_norm),
                means: grads.means.get_mut(ld),
            });
            grads.output.get(width)
        } else {
            grads.residual.get(width)
        };
        let gated = grads.gated.get_mut(config.intermediate * ld);
        let gate_up = saved.gate_up.get_mut(2 * config.intermediate * ld);
        let down = layer.linear(Projection::Down, &self.drops);
        down.d_input(cpu, gated, d_out, shape);
        cpu.gate_backward(config.activation, gate_up, gated, ld);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::leading_dim(config.intermediate));
        let d_down = layer.linear_gradients(Projection::Down, sums);
        down.d_weights(cpu, d_down, d_out, gated, shape, tokens);
        let d_normed = grads.normed.get_mut(width);
        let linear = layer.linear(Projection::GateUp, &self.drops);
        linear.d_input(cpu, d_normed, gate_up, shape);
        let input = Residual {
            values: saved.post_attention.get(width),
            norm: layer
                .norms_before()
                .then(|| (saved.rstd[1].get(ld), layer.norm(&ranges.mlp_norm))),
        };
        let read = input.read(self.normed.get_mut(width), cpu);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::leading_dim(config.hidden));
        let d_gate_up = layer.linear_gradients(Projection::GateUp, sums);
        linear.d_weights(cpu, d_gate_up, gate_up, read, shape, tokens);
        let d_weight = sums.of(&ranges.mlp_norm);
        add_to_residual(grads, d_weight, input, cpu);
    }

    /// From the gradient of a layer's post-attention residual to that of its input, in
    /// `grads.residual`.
    fn attention_backward(
        &mut self,
        layer: &Layer<'_>,
        saved: &SavedActivations,
        grads: &mut ActivationGradients,
        sums: &mut ParameterGradients<'_>,
        cpu: &mut Cpu<'_>,
    ) {
        let (config, ranges, ld) = (layer.config, layer.ranges, self.ld);
        let (width, shape) = (config.hidden * ld, (self.n, ld));
        let d_out = if layer.norms_after() {
            cpu.rms_norm_backward(norm::Backward {
                d_input: grads.output.get_mut(width),
                add: false,
                d_weight: sums.of(&ranges.after_attention_norm),
                d_output: grads.residual.get(width),
                input: saved.outputs[0].get(width),
                rstd: saved.rstd[2].get(ld),
                weight: layer.norm(&ranges.after_attention_norm),
                means: grads.means.get_mut(ld),
            });
            grads.output.get(width)
        } else {
            grads.residual.get(width)
        };
        let rows = config.attention_rows() * ld;
        let d_attention = grads.attention.get_mut(rows);
        let linear = layer.linear(Projection::Output, &self.drops);
        linear.d_input(cpu, d_attention, d_out, shape);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::leading_dim(config.attention_rows()));
        let d_output = layer.linear_gradients(Projection::Output, sums);
        let input = saved.attention.get(rows);
        linear.d_weights(cpu, d_output, d_out, input, shape, tokens);

        let d_qkv = grads.qkv.get_mut(config.qkv_rows() * ld);
        cpu.attention_backward(attention::Backward {
            heads: &layer.heads,
            segments: &self.batch.segments,
            ld,
            d_qkv,
            d_out: d_attention,
            out: saved.attention.get(rows),
            lse: saved.lse.get(config.heads * ld),
            qkv: saved.qkv.get(config.qkv_rows() * ld),
        });
        let (d_q, d_kv) = d_qkv.split_at_mut(rows);
        let d_k = &mut d_kv[..config.kv_heads * config.head_dim * ld];
        let angles = layer.angles(&self.angles);
        cpu.rotate(d_q, ld, angles, Rotation::Inverse, config.attention_scale);
        cpu.rotate(d_k, ld, angles, Rotation::Inverse, 1.0);
        if config.qk_norm {
            let (saved_q, saved_k) = saved.qk.get(config.qk_rows() * ld).split_at(rows);
            let [q_parts, k_parts] = config.qk_norm_parts();
            let (q_rstd, k_rstd) = saved
                .qk_rstd
                .get((q_parts + k_parts) * ld)
                .split_at(q_parts * ld);
            for (d_heads, saved, rstd, range) in [
                (d_q, saved_q, q_rstd, &ranges.q_norm),
                (d_k, saved_k, k_rstd, &ranges.k_norm),
            ] {
                cpu.norm_heads_backward(head_norm::Backward {
                    d_heads,
                    d_weight: sums.of(range),
                    saved,
                    rstd,
                    ld,
                    weight: layer.norm(range),
                    partial: grads.head_weights.get_mut(config.qk_rows()),
                });
            }
        }

        let d_qkv = grads.qkv.get(config.qkv_rows() * ld);
        let linear = layer.linear(Projection::Qkv, &self.drops);
        let d_normed = grads.normed.get_mut(width);
        linear.d_input(cpu, d_normed, d_qkv, shape);
        let input = Residual {
            values: self.residuals[layer.index].get(width),
            norm: layer
                .norms_before()
                .then(|| (saved.rstd[0].get(ld), layer.norm(&ranges.input_norm))),
        };
        let read = input.read(self.normed.get_mut(width), cpu);
        let tokens = grads
            .tokens
            .get_mut(self.n * crate::ops::leading_dim(config.hidden));
        let d_weights = layer.linear_gradients(Projection::Qkv, sums);
        linear.d_weights(cpu, d_weights, d_qkv, read, shape, tokens);
        let d_weight = sums.of(&ranges.input_norm);
        add_to_residual(grads, d_weight, input, cpu);
    }
}

/// A residual that a layer's projections read: (C, T) lanes, and where it is normed before them
/// its rstd and the norm's weight.
#[derive(Clone, Copy)]
struct Residual<'a> {
    values: &'a [f32],
    norm: Option<(&'a [f32], NormWeight<'a>)>,
}

impl<'a> Residual<'a> {
    /// What the projections read, computed again in `normed` where there is a norm.
    fn read(self, normed: &'a mut [f32], cpu: &mut Cpu<'_>) -> &'a [f32] {
        let Some((rstd, weight)) = self.norm else {
            return self.values;
        };
        cpu.normalize(normed, self.values, rstd, weight, &[]);
        normed
    }
}

/// Adds the gradient of what was read of a residual, in `grads.normed`, to that of the residual.
fn add_to_residual(
    grads: &mut ActivationGradients,
    d_weight: &mut [f32],
    Residual {
        values: input,
        norm,
    }: Residual<'_>,
    cpu: &mut Cpu<'_>,
) {
    let Some((rstd, weight)) = norm else {
        let sums = grads.residual.get_mut(input.len());
        let read = grads.normed.get(input.len());
        sums.iter_mut().zip(read).for_each(|(sum, d)| *sum += d);
        return;
    };
    cpu.rms_norm_backward(norm::Backward {
        d_input: grads.residual.get_mut(input.len()),
        add: true,
        d_weight,
        d_output: grads.normed.get(input.len()),
        input,
        rstd,
        weight,
        means: grads.means.get_mut(rstd.len()),
    });
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
    let mut gradients = Parameters::zeros(decoder.config());
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
    let loss_scale = 1.0 / total_weight(&rows);
    Workspace::new().accumulate(decoder, &rows, loss_scale, gradients, threads)
}

/// Σ over rows of weight times targets in the loss; 1 when that is 0, so that it can be divided by.
pub(crate) fn total_weight(rows: &[&TokenRow]) -> f64 {
    let total: f64 = rows
        .iter()
        .map(|r| f64::from(r.weight) * r.n_loss_tokens() as f64)
        .sum();
    if total > 0.0 { total } else { 1.0 }
}
