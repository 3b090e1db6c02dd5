//! The decoder's forward pass.
//!
//! One pass serves training (every layer's activations are saved), scoring (one set serves all
//! layers) and cached generation (attention looks into the caches instead). The backward is in
//! [`backward`](crate::backward).

use crate::adapter::Projection;
use crate::batch::Batch;
use crate::decoder::{Decoder, Layer};
use crate::ops::attention::attention;
use crate::ops::embed::embed;
use crate::ops::gate::gate;
use crate::ops::head::logits::all_logits;
use crate::ops::head_norm::norm_heads;
use crate::ops::norm::{compute_rstd, scale};
use crate::ops::rope::{Rotation, rotate};
use crate::ops::shared_prefix::shared_prefix_attention;
use crate::threads::Threads;
use crate::workspace::{Save, SavedActivations, Workspace};

impl Workspace {
    /// The batch from embedding to the normed last residual, which is left in `normed`.
    pub(crate) fn forward(&mut self, decoder: &Decoder, threads: &Threads) {
        self.forward_with(decoder, threads, |layer, _, saved, batch, ld, scratch| {
            attend(layer, saved, (batch, ld), threads, scratch);
        });
    }

    /// Computes again what layer `index` saves, from its input; the same bits.
    pub(crate) fn recompute(
        &mut self,
        layer: &Layer<'_>,
        index: usize,
        saved: &mut SavedActivations,
        threads: &Threads,
    ) {
        let width = layer.config.hidden * self.ld;
        let input = std::mem::take(&mut self.residuals[index]);
        let mut output = std::mem::take(&mut self.residuals[index + 1]);
        self.compute_qkv(layer, input.get(width), saved, threads);
        let batch = (&self.batch, self.ld);
        attend(layer, saved, batch, threads, &mut self.scratch);
        self.compute_post_attention(layer, input.get(width), saved, threads);
        // The output is there; what a norm after it needs is not.
        let out = layer.norms_after().then(|| output.get_mut(width));
        self.compute_output(layer, saved, out, threads);
        self.residuals[index] = input;
        self.residuals[index + 1] = output;
    }

    /// [`forward`](Self::forward) with attention left to the caller: from `saved.qkv` to
    /// `saved.attention`.
    pub(crate) fn forward_with(
        &mut self,
        decoder: &Decoder,
        threads: &Threads,
        mut attend: impl FnMut(&Layer<'_>, usize, &mut SavedActivations, &Batch, usize, &mut [Vec<f32>]),
    ) {
        let config = decoder.config();
        let (ld, width) = (self.ld, config.hidden * self.ld);
        let embedding = decoder.weights().matrix(&decoder.layout().embedding);
        let first = self.residuals[0].get_mut(width);
        embed(
            threads,
            &mut self.scratch,
            first,
            ld,
            embedding,
            &self.batch.ids,
            config.embedding_scale,
        );
        for index in 0..config.layers {
            let layer = decoder.layer(index);
            let slot = self.slot(index);
            let (before, next) = (self.residual(index), self.residual(index + 1));
            let input = std::mem::take(&mut self.residuals[before]);
            let mut output = std::mem::take(&mut self.residuals[next]);
            let mut saved = std::mem::take(&mut self.saved[slot]);
            self.compute_qkv(&layer, input.get(width), &mut saved, threads);
            attend(
                &layer,
                index,
                &mut saved,
                &self.batch,
                ld,
                &mut self.scratch,
            );
            self.compute_post_attention(&layer, input.get(width), &mut saved, threads);
            let out = Some(output.get_mut(width));
            self.compute_output(&layer, &mut saved, out, threads);
            self.saved[slot] = saved;
            self.residuals[next] = output;
            self.residuals[before] = input;
        }
        let last = self.residuals[self.residual(config.layers)].get(width);
        let rstd = self.final_rstd.get_mut(ld);
        compute_rstd(rstd, last, ld, config.norm_eps);
        let normed = self.normed.get_mut(width);
        scale(
            threads,
            &mut self.scratch,
            normed,
            last,
            rstd,
            decoder.final_norm(),
            &[],
        );
    }

    /// Norm, projection to q, k, v, rotation.
    fn compute_qkv(
        &mut self,
        layer: &Layer<'_>,
        input: &[f32],
        saved: &mut SavedActivations,
        threads: &Threads,
    ) {
        let (config, ld) = (layer.config, self.ld);
        let rstd = saved.rstd[0].get_mut(ld);
        compute_rstd(rstd, input, ld, config.norm_eps);
        let normed = self.normed.get_mut(input.len());
        scale(
            threads,
            &mut self.scratch,
            normed,
            input,
            rstd,
            layer.norm(&layer.ranges.input_norm),
            &[],
        );
        let qkv = saved.qkv.get_mut(config.qkv_rows() * ld);
        layer.linear(Projection::Qkv, &self.drops).forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            qkv,
            normed,
            None,
            (self.n, ld),
        );
        let (q, kv) = qkv.split_at_mut(config.attention_rows() * ld);
        let k = &mut kv[..config.kv_heads * config.head_dim * ld];
        if config.qk_norm {
            let (saved_q, saved_k) = saved
                .qk
                .get_mut(config.qk_rows() * ld)
                .split_at_mut(q.len());
            let (q_rstd, k_rstd) = saved
                .qk_rstd
                .get_mut((config.heads + config.kv_heads) * ld)
                .split_at_mut(config.heads * ld);
            let (q_norm, k_norm) = (&layer.ranges.q_norm, &layer.ranges.k_norm);
            for (buffers, range) in [
                ([&mut *q, saved_q, q_rstd], q_norm),
                ([&mut *k, saved_k, k_rstd], k_norm),
            ] {
                let weight = layer.norm(range);
                let scratch = &mut self.scratch;
                norm_heads(threads, scratch, buffers, ld, weight, config.norm_eps);
            }
        }
        let angles = layer.angles(&self.angles);
        rotate(
            threads,
            &mut self.scratch,
            q,
            ld,
            angles,
            Rotation::Forward,
            config.attention_scale,
        );
        rotate(
            threads,
            &mut self.scratch,
            k,
            ld,
            angles,
            Rotation::Forward,
            1.0,
        );
    }

    /// Projection of attention's output, added to the residual.
    fn compute_post_attention(
        &mut self,
        layer: &Layer<'_>,
        input: &[f32],
        saved: &mut SavedActivations,
        threads: &Threads,
    ) {
        let ld = self.ld;
        let linear = layer.linear(Projection::Output, &self.drops);
        let attention = saved.attention.get(layer.config.attention_rows() * ld);
        let post_attention = saved.post_attention.get_mut(input.len());
        let shape = (self.n, ld);
        if !layer.norms_after() {
            return linear.forward(
                threads,
                &mut self.scratch,
                &mut self.linear,
                post_attention,
                attention,
                Some(input),
                shape,
            );
        }
        let output = saved.outputs[0].get_mut(input.len());
        linear.forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            output,
            attention,
            None,
            shape,
        );
        let rstd = saved.rstd[2].get_mut(ld);
        compute_rstd(rstd, output, ld, layer.config.norm_eps);
        let weight = layer.norm(&layer.ranges.after_attention_norm);
        scale(
            threads,
            &mut self.scratch,
            post_attention,
            output,
            rstd,
            weight,
            input,
        );
    }

    /// The gated unit, added to the residual; without `out` only what is saved of it.
    fn compute_output(
        &mut self,
        layer: &Layer<'_>,
        saved: &mut SavedActivations,
        out: Option<&mut [f32]>,
        threads: &Threads,
    ) {
        let (config, ld) = (layer.config, self.ld);
        let (shape, width) = ((self.n, ld), config.hidden * ld);
        let post_attention = saved.post_attention.get(width);
        let rstd = saved.rstd[1].get_mut(ld);
        compute_rstd(rstd, post_attention, ld, config.norm_eps);
        let normed = self.normed.get_mut(width);
        scale(
            threads,
            &mut self.scratch,
            normed,
            post_attention,
            rstd,
            layer.norm(&layer.ranges.mlp_norm),
            &[],
        );
        let gate_up = saved.gate_up.get_mut(2 * config.intermediate * ld);
        layer.linear(Projection::GateUp, &self.drops).forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            gate_up,
            normed,
            None,
            shape,
        );
        let Some(out) = out else { return };
        let gated = self.gated.get_mut(config.intermediate * ld);
        gate(
            threads,
            &mut self.scratch,
            config.activation,
            gated,
            gate_up,
            ld,
        );
        let linear = layer.linear(Projection::Down, &self.drops);
        if !layer.norms_after() {
            return linear.forward(
                threads,
                &mut self.scratch,
                &mut self.linear,
                out,
                gated,
                Some(post_attention),
                shape,
            );
        }
        let output = saved.outputs[1].get_mut(width);
        linear.forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            output,
            gated,
            None,
            shape,
        );
        let rstd = saved.rstd[3].get_mut(ld);
        compute_rstd(rstd, output, ld, config.norm_eps);
        let weight = layer.norm(&layer.ranges.after_mlp_norm);
        scale(
            threads,
            &mut self.scratch,
            out,
            output,
            rstd,
            weight,
            post_attention,
        );
    }
}

/// From `saved.qkv` to `saved.attention`.
fn attend(
    layer: &Layer<'_>,
    saved: &mut SavedActivations,
    (batch, ld): (&Batch, usize),
    threads: &Threads,
    scratch: &mut [Vec<f32>],
) {
    let (qkv, rows) = (
        layer.config.qkv_rows() * ld,
        layer.config.attention_rows() * ld,
    );
    attention(
        threads,
        scratch,
        &layer.heads,
        (&batch.segments, ld),
        saved.attention.get_mut(rows),
        saved.lse.get_mut(layer.heads.n * ld),
        saved.qkv.get(qkv),
    );
    shared_prefix_attention(
        threads,
        scratch,
        &layer.heads,
        (&batch.prefixed, ld),
        saved.attention.get_mut(rows),
        saved.qkv.get(qkv),
    );
}

/// Logits after each token of one sequence, (T, V) row by row: for tests and comparisons, not
/// for long sequences or large vocabularies.
///
/// # Panics
/// When a token is not below the vocabulary; a programmer mistake.
pub fn logits(decoder: &Decoder, ids: &[u32], threads: &Threads) -> Vec<f32> {
    let mut workspace = Workspace::new();
    workspace.batch.push_tokens(ids, 0);
    workspace.plan(decoder.config(), Save::Nothing, threads);
    workspace.forward(decoder, threads);
    let mut out = Vec::new();
    let columns: Vec<usize> = (0..ids.len()).collect();
    let hidden = workspace.normed.get(decoder.config().hidden * workspace.ld);
    all_logits(
        decoder.head(),
        threads,
        &mut workspace.scratch,
        hidden,
        workspace.ld,
        &columns,
        &mut out,
    );
    out
}
