//! The decoder's forward pass.
//!
//! One pass serves training (every layer's activations are saved), scoring (one set serves all
//! layers) and cached generation (attention looks into the caches instead). The backward is in
//! [`backward`](crate::backward).

use std::ops::Range;

use crate::adapter::Projection;
use crate::batch::Batch;
use crate::decoder::{Decoder, Layer};
use crate::ops::Buffer;
use crate::ops::cpu::{Cpu, CpuWorkspace};
use crate::ops::norm::compute_rstd;
use crate::ops::projection::Linear;
use crate::ops::rope::{Angles, Rotation};
use crate::threads::Threads;
use crate::workspace::{Save, SavedActivations, Workspace};

impl Workspace {
    /// The batch from embedding to the normed last residual, which is left in `normed`.
    pub(crate) fn forward(&mut self, decoder: &Decoder, cpu: &mut Cpu<'_>) {
        self.forward_with(decoder, cpu, attend);
    }

    /// [`forward`](Self::forward) with attention left to the caller: from `saved.qkv` to
    /// `saved.attention`.
    pub(crate) fn forward_with(
        &mut self,
        decoder: &Decoder,
        cpu: &mut Cpu<'_>,
        mut attend: impl FnMut(&Layer<'_>, &mut SavedActivations, &Batch, usize, &mut Cpu<'_>),
    ) {
        let (config, ld) = (decoder.config(), self.ld);
        let width = config.hidden * ld;
        let embedding = decoder.weights().matrix(&decoder.layout().embedding);
        let first = self.residuals[0].get_mut(width);
        cpu.embed(
            first,
            ld,
            embedding,
            &self.batch.ids,
            config.embedding_scale,
        );
        for index in 0..config.layers {
            let slot = self.slot(index);
            let (before, next) = (self.residual(index), self.residual(index + 1));
            let input = std::mem::take(&mut self.residuals[before]);
            let mut output = std::mem::take(&mut self.residuals[next]);
            let mut saved = std::mem::take(&mut self.saved[slot]);
            let out = Some(output.get_mut(width));
            let layer = decoder.layer(index);
            self.forward_layer(&layer, input.get(width), &mut saved, out, cpu, &mut attend);
            self.saved[slot] = saved;
            self.residuals[next] = output;
            self.residuals[before] = input;
        }
        let last = self.residuals[self.residual(config.layers)].get(width);
        let (normed, rstd) = (self.normed.get_mut(width), self.final_rstd.get_mut(ld));
        cpu.rms_norm(normed, rstd, last, decoder.final_norm(), config.norm_eps);
    }

    /// Computes again what a layer saves, from its input; the same bits.
    pub(crate) fn recompute(
        &mut self,
        layer: &Layer<'_>,
        saved: &mut SavedActivations,
        cpu: &mut Cpu<'_>,
    ) {
        let width = layer.config.hidden * self.ld;
        let input = std::mem::take(&mut self.residuals[layer.index]);
        let mut output = std::mem::take(&mut self.residuals[layer.index + 1]);
        // The output is there; what a norm after it needs is not.
        let out = layer.norms_after().then(|| output.get_mut(width));
        self.forward_layer(layer, input.get(width), saved, out, cpu, &mut attend);
        self.residuals[layer.index] = input;
        self.residuals[layer.index + 1] = output;
    }

    /// One layer, from its input to the next one's; without `out` only what is saved of it.
    fn forward_layer(
        &mut self,
        layer: &Layer<'_>,
        input: &[f32],
        saved: &mut SavedActivations,
        out: Option<&mut [f32]>,
        cpu: &mut Cpu<'_>,
        attend: &mut impl FnMut(&Layer<'_>, &mut SavedActivations, &Batch, usize, &mut Cpu<'_>),
    ) {
        let (config, ranges) = (layer.config, layer.ranges);
        let (ld, width, shape) = (self.ld, input.len(), (self.n, self.ld));
        let (normed, gated) = (&mut self.normed, &mut self.gated);
        let linear = |projection| layer.linear(projection, &self.drops);

        let (norm, rstd) = (&ranges.input_norm, &mut saved.rstd[0]);
        let read = read_residual(layer, norm, input, normed, rstd, ld, cpu);
        let qkv = saved.qkv.get_mut(config.qkv_rows() * ld);
        linear(Projection::Qkv).forward(cpu, qkv, read, None, shape);
        rotate_heads(layer, saved, layer.angles(&self.angles), ld, cpu);
        attend(layer, saved, &self.batch, ld, cpu);
        let attention = saved.attention.get(config.attention_rows() * ld);
        let post_attention = saved.post_attention.get_mut(width);
        let after = After {
            norm: &ranges.after_attention_norm,
            output: &mut saved.outputs[0],
            rstd: &mut saved.rstd[2],
        };
        let projection = linear(Projection::Output);
        add_projected(
            layer,
            projection,
            after,
            post_attention,
            attention,
            input,
            shape,
            cpu,
        );

        let post_attention = &*post_attention;
        let (norm, rstd) = (&ranges.mlp_norm, &mut saved.rstd[1]);
        let read = read_residual(layer, norm, post_attention, normed, rstd, ld, cpu);
        let gate_up = saved.gate_up.get_mut(2 * config.intermediate * ld);
        linear(Projection::GateUp).forward(cpu, gate_up, read, None, shape);
        let Some(out) = out else { return };
        let gated = gated.get_mut(config.intermediate * ld);
        cpu.gate(config.activation, gated, gate_up, ld);
        let after = After {
            norm: &ranges.after_mlp_norm,
            output: &mut saved.outputs[1],
            rstd: &mut saved.rstd[3],
        };
        let projection = linear(Projection::Down);
        add_projected(
            layer,
            projection,
            after,
            out,
            gated,
            post_attention,
            shape,
            cpu,
        );
    }
}

/// What a layer's projections read of a residual, (C, T) lanes: its norm, left in `normed` with its
/// `rstd`, or without a norm before them the residual itself.
fn read_residual<'b>(
    layer: &Layer<'_>,
    norm: &Range<usize>,
    residual: &'b [f32],
    normed: &'b mut Buffer,
    rstd: &mut Buffer,
    ld: usize,
    cpu: &mut Cpu<'_>,
) -> &'b [f32] {
    if !layer.norms_before() {
        return residual;
    }
    let normed = normed.get_mut(residual.len());
    let rstd = rstd.get_mut(ld);
    cpu.rms_norm(
        normed,
        rstd,
        residual,
        layer.norm(norm),
        layer.config.norm_eps,
    );
    normed
}

/// The norm after a projection, and what it saves; unused without one.
struct After<'a> {
    norm: &'a Range<usize>,
    output: &'a mut Buffer,
    rstd: &'a mut Buffer,
}

/// out = residual + projection(input), the projection normed first where the family does that.
#[expect(
    clippy::too_many_arguments,
    reason = "a layer, its projection and norm, and the operation's own five"
)]
fn add_projected(
    layer: &Layer<'_>,
    projection: Linear<'_>,
    after: After<'_>,
    out: &mut [f32],
    input: &[f32],
    residual: &[f32],
    shape: (usize, usize),
    cpu: &mut Cpu<'_>,
) {
    if !layer.norms_after() {
        return projection.forward(cpu, out, input, Some(residual), shape);
    }
    let output = after.output.get_mut(out.len());
    projection.forward(cpu, output, input, None, shape);
    let rstd = after.rstd.get_mut(shape.1);
    compute_rstd(rstd, output, shape.1, layer.config.norm_eps);
    cpu.normalize(out, output, rstd, layer.norm(after.norm), residual);
}

/// Norm of q and k where the family has one, of each head or of all at once, rotation, and q's
/// scale; in `saved.qkv`.
fn rotate_heads(
    layer: &Layer<'_>,
    saved: &mut SavedActivations,
    angles: &Angles,
    ld: usize,
    cpu: &mut Cpu<'_>,
) {
    let config = layer.config;
    let qkv = saved.qkv.get_mut(config.qkv_rows() * ld);
    let (q, kv) = qkv.split_at_mut(config.attention_rows() * ld);
    let k = &mut kv[..config.kv_heads * config.head_dim * ld];
    if config.qk_norm {
        let (saved_q, saved_k) = saved
            .qk
            .get_mut(config.qk_rows() * ld)
            .split_at_mut(q.len());
        let [q_parts, k_parts] = config.qk_norm_parts();
        let (q_rstd, k_rstd) = saved
            .qk_rstd
            .get_mut((q_parts + k_parts) * ld)
            .split_at_mut(q_parts * ld);
        for (buffers, range) in [
            ([&mut *q, saved_q, q_rstd], &layer.ranges.q_norm),
            ([&mut *k, saved_k, k_rstd], &layer.ranges.k_norm),
        ] {
            cpu.norm_heads(buffers, ld, layer.norm(range), config.norm_eps);
        }
    }
    cpu.rotate(q, ld, angles, Rotation::Forward, config.attention_scale);
    cpu.rotate(k, ld, angles, Rotation::Forward, 1.0);
}

/// From `saved.qkv` to `saved.attention`, inside the batch.
fn attend(
    layer: &Layer<'_>,
    saved: &mut SavedActivations,
    batch: &Batch,
    ld: usize,
    cpu: &mut Cpu<'_>,
) {
    let (heads, config) = (&layer.heads, layer.config);
    let out = saved.attention.get_mut(config.attention_rows() * ld);
    let lse = saved.lse.get_mut(config.heads * ld);
    let qkv = saved.qkv.get(config.qkv_rows() * ld);
    cpu.attention(heads, (&batch.segments, ld), out, lse, qkv);
    cpu.shared_prefix_attention(heads, (&batch.prefixed, ld), out, qkv);
}

/// Logits after each token of one sequence, (T, V) row by row: for tests and comparisons, not
/// for long sequences or large vocabularies.
///
/// # Panics
/// When a token is not below the vocabulary; a programmer mistake.
pub fn logits(decoder: &Decoder, ids: &[u32], threads: &Threads) -> Vec<f32> {
    let (mut workspace, mut memory) = (Workspace::new(), CpuWorkspace::default());
    let cpu = &mut Cpu::new(threads, &mut memory);
    workspace.batch.push_tokens(ids, 0);
    workspace.plan(decoder.config(), Save::Nothing);
    workspace.forward(decoder, cpu);
    let mut out = Vec::new();
    let columns: Vec<usize> = (0..ids.len()).collect();
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    cpu.logits(decoder.head(), hidden, workspace.ld, &columns, &mut out);
    out
}
