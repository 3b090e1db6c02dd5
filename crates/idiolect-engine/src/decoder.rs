//! The decoder: configuration and parameters, and the buffers and steps of its forward pass.
//!
//! One pass serves training (every layer's activations stay), scoring (one set serves all layers) and
//! cached generation (attention looks into the caches instead). The backward is in
//! [`backward`](crate::backward). Shapes are (rows, T) lanes, see `ops`.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::adapter::{Adapter, Projection};
use crate::backward::Sums;
use crate::batch::Batch;
use crate::frozen::Weights;
use crate::linear::{Linear, LinearGradients, LinearWorkspace};
use crate::model_config::{ModelConfig, ModelConfigError, Norms};
use crate::ops::attention::{Heads, attention};
use crate::ops::dropout::Dropout;
use crate::ops::embed::embed;
use crate::ops::gate::gate;
use crate::ops::head::Head;
use crate::ops::head_norm::norm_heads;
use crate::ops::norm::{NormWeight, compute_rstd, scale};
use crate::ops::rope::{Angles, Rotation, rotate};
use crate::ops::shared_prefix::shared_prefix_attention;
use crate::ops::{Buffer, clear_beyond, leading_dim};
use crate::parameters::{LayerRanges, Layout, Parameters, Tensor};
use crate::threads::Threads;

/// A model: its configuration and its weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    config: ModelConfig,
    /// Shared by copies until one changes them: an adapter is trained beside weights that are in
    /// memory once.
    weights: Arc<Weights>,
    adapter: Option<Adapter>,
}

impl Decoder {
    /// A decoder of given parameters.
    ///
    /// # Errors
    /// When the sizes do not fit each other.
    ///
    /// # Panics
    /// When the weights were laid out for another config; a programmer mistake.
    pub fn new(config: ModelConfig, weights: impl Into<Weights>) -> Result<Self, ModelConfigError> {
        config.check()?;
        let weights = weights.into();
        assert!(
            weights.layout().fits(&config),
            "weights laid out for another config"
        );
        Ok(Self {
            config,
            weights: Arc::new(weights),
            adapter: None,
        })
    }

    /// A decoder of fresh parameters, see [`Parameters::random`].
    ///
    /// # Errors
    /// When the sizes do not fit each other.
    pub fn random(
        config: ModelConfig,
        seed: u64,
        initial_sd: f64,
    ) -> Result<Self, ModelConfigError> {
        config.check()?;
        let parameters = Parameters::random(&config, seed, initial_sd);
        Self::new(config, parameters)
    }

    /// The same weights under a configuration that lays them out alike.
    ///
    /// # Panics
    /// When the weights were laid out for another config; a programmer mistake.
    pub(crate) fn with_config(self, config: ModelConfig) -> Self {
        assert!(
            self.layout().fits(&config),
            "weights laid out for another config"
        );
        Self { config, ..self }
    }

    /// The model that a bf16 file of its weights holds.
    pub(crate) fn rounded_to_bf16(&self) -> Self {
        Self {
            weights: Arc::new(self.weights.rounded_to_bf16()),
            ..self.clone()
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where every tensor of the weights lies.
    pub fn layout(&self) -> &Layout {
        self.weights.layout()
    }

    /// Its weights in f32; a copy where they are held in bf16.
    pub fn parameters(&self) -> Cow<'_, Parameters> {
        self.weights.to_f32()
    }

    /// Its weights as they are held.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Its weights, to be changed in place; in f32 from now on.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        Arc::make_mut(&mut self.weights).make_f32()
    }

    /// The same with adapters beside its linear layers; from now on they are what trains.
    ///
    /// # Panics
    /// When the adapters were laid out for another config; a programmer mistake.
    #[must_use]
    pub fn with_adapter(self, adapter: Adapter) -> Self {
        assert!(
            adapter.fits(&self.config),
            "adapters laid out for another config"
        );
        Self {
            adapter: Some(adapter),
            ..self
        }
    }

    /// The adapters beside its linear layers.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// Adds the adapters to the weights they belong to, in f32.
    pub fn merge(&mut self) {
        if let Some(adapter) = self.adapter.take() {
            adapter.merge_into(self.parameters_mut());
        }
    }

    /// The tensors that training changes: the adapters' if there are any, else all parameters.
    pub fn trained_tensors(&self) -> &[Tensor] {
        match &self.adapter {
            Some(adapter) => adapter.tensors(),
            None => self.layout().tensors(),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors) in all.
    pub fn n_trained(&self) -> usize {
        match &self.adapter {
            Some(adapter) => adapter.values().len(),
            None => self.layout().len(),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors), in their order of place; a copy where
    /// they are weights held in bf16.
    pub fn trained(&self) -> Cow<'_, [f32]> {
        match (&self.adapter, &*self.weights) {
            (Some(adapter), _) => Cow::Borrowed(adapter.values()),
            (None, Weights::F32(parameters)) => Cow::Borrowed(parameters.values()),
            (None, weights) => Cow::Owned(weights.to_f32().values().to_vec()),
        }
    }

    /// Values of [`trained_tensors`](Self::trained_tensors), to be changed in place; in f32 from
    /// now on.
    pub fn trained_mut(&mut self) -> &mut [f32] {
        match &mut self.adapter {
            Some(adapter) => adapter.values_mut(),
            None => Arc::make_mut(&mut self.weights).make_f32().values_mut(),
        }
    }

    pub(crate) fn layer(&self, index: usize) -> Layer<'_> {
        let f = &self.config;
        Layer {
            index,
            config: f,
            ranges: &self.layout().layers[index],
            weights: &self.weights,
            adapter: self.adapter.as_ref(),
            heads: Heads {
                n: f.heads,
                kv: f.kv_heads,
                width: f.head_dim,
                window: f.windows[index],
                softcap: f.attention_softcap,
            },
        }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            weight: self.weights.matrix(&self.layout().head),
            width: self.config.hidden,
            softcap: self.config.final_softcap,
        }
    }

    pub(crate) fn final_norm(&self) -> NormWeight<'_> {
        NormWeight {
            values: self.weights.vector(&self.layout().final_norm),
            plus_one: self.config.norm_plus_one,
        }
    }
}

/// One layer's configuration and weights.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) index: usize,
    pub(crate) config: &'a ModelConfig,
    pub(crate) ranges: &'a LayerRanges,
    weights: &'a Weights,
    adapter: Option<&'a Adapter>,
    pub(crate) heads: Heads,
}

impl<'a> Layer<'a> {
    pub(crate) fn norm(&self, range: &Range<usize>) -> NormWeight<'a> {
        NormWeight {
            values: self.weights.vector(range),
            plus_one: self.config.norm_plus_one,
        }
    }

    /// One of the layer's linear maps, with dropout as `drops` state.
    pub(crate) fn linear<'b>(&self, projection: Projection, drops: &'b Drops) -> Linear<'b>
    where
        'a: 'b,
    {
        let (weight, bias) = self.places(projection);
        Linear {
            weight: self.weights.matrix(&weight),
            bias: self.weights.vector(&bias),
            low_rank: self
                .adapter
                .map(|adapter| adapter.at(self.index, projection))
                .unwrap_or_default(),
            dropout: drops.at(self.index, projection),
        }
    }

    /// Where the gradients of a linear map are added to.
    pub(crate) fn linear_gradients<'b>(
        &self,
        projection: Projection,
        sums: &'b mut Sums<'_>,
    ) -> LinearGradients<'b> {
        let (weight, bias) = self.places(projection);
        let (weight, bias) = if sums.base.is_empty() {
            (&mut [][..], &mut [][..])
        } else {
            // The biases lie right behind the weights.
            sums.base[weight.start..weight.end + bias.len()].split_at_mut(weight.len())
        };
        LinearGradients {
            weight,
            bias,
            low_rank: match self.adapter {
                Some(adapter) => adapter.split(sums.adapter, self.index, projection),
                None => (&mut [], &mut []),
            },
        }
    }

    /// Where a linear map's weight and bias lie.
    fn places(&self, projection: Projection) -> (Range<usize>, Range<usize>) {
        let ranges = self.ranges;
        match projection {
            Projection::Qkv => (ranges.qkv.clone(), ranges.qkv_bias.clone()),
            Projection::Output => (ranges.output.clone(), 0..0),
            Projection::GateUp => (ranges.gate_up.clone(), 0..0),
            Projection::Down => (ranges.down.clone(), 0..0),
        }
    }

    /// Those of a workspace's angles that the layer rotates by.
    pub(crate) fn angles<'b>(&self, of: &'b [Angles; 2]) -> &'b Angles {
        let local = self.config.local_rope.is_some() && self.heads.window.is_some();
        &of[usize::from(local)]
    }

    pub(crate) fn norms_after(&self) -> bool {
        self.config.norms == Norms::BeforeAndAfter
    }
}

/// What is dropped of the adapters' inputs; nothing outside of training.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    /// Fraction of values.
    pub(crate) fraction: f64,
    /// One key a token of the batch, see [`token_key`](crate::ops::dropout::token_key).
    pub(crate) tokens: Vec<u32>,
}

impl Drops {
    fn at(&self, layer: usize, projection: Projection) -> Option<Dropout<'_>> {
        (self.fraction > 0.0).then(|| Dropout {
            fraction: self.fraction,
            tokens: &self.tokens,
            projection: (4 * layer + projection as usize) as u32,
        })
    }
}

/// What one layer saves for the backward.
#[derive(Debug, Default)]
pub(crate) struct SavedActivations {
    /// 1 / rms (rstd) of the layer's input, of the post-attention residual, and of the two outputs
    /// normed after.
    pub(crate) rstd: [Buffer; 4],
    /// Rotated, q scaled: ((H + 2K)·D, T).
    pub(crate) qkv: Buffer,
    /// q and k before the norm of their heads: ((H + K)·D, T), and its rstd, (H + K, T);
    /// unused without one.
    pub(crate) qk: Buffer,
    pub(crate) qk_rstd: Buffer,
    pub(crate) attention: Buffer,
    /// (H, T).
    pub(crate) lse: Buffer,
    /// The post-attention residual: (C, T).
    pub(crate) post_attention: Buffer,
    /// (2F, T).
    pub(crate) gate_up: Buffer,
    /// What attention and MLP gave before the norm after them: (C, T); unused without one.
    pub(crate) outputs: [Buffer; 2],
}

/// The buffers of a pass over one batch, planned for its size and reused.
///
/// One for each thread of work that goes on side by side; nothing in it is shared.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) batch: Batch,
    planned: Option<Plan>,
    pub(crate) n: usize,
    pub(crate) ld: usize,
    /// Of the layers without a window, and of those with one where theirs are others.
    pub(crate) angles: [Angles; 2],
    /// The residual before each layer, and after the last, or two that alternate: (C, T).
    pub(crate) residuals: Vec<Buffer>,
    pub(crate) saved: Vec<SavedActivations>,
    /// A normed residual: (C, T).
    pub(crate) normed: Buffer,
    /// (F, T).
    pub(crate) gated: Buffer,
    pub(crate) final_rstd: Buffer,
    pub(crate) gradients: crate::backward::Gradients,
    /// Whether a training pass saves each layer's input only.
    pub(crate) gradient_checkpointing: bool,
    pub(crate) linear: LinearWorkspace,
    pub(crate) drops: Drops,
    pub(crate) logits: Buffer,
    pub(crate) logprobs: Vec<f32>,
    /// One a thread, and one that they share.
    pub(crate) scratch: Vec<Vec<f32>>,
}

/// What decides the size of every buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    n: usize,
    residuals: usize,
    sets: usize,
    sizes: [usize; 5],
    after: bool,
    qk_norm: bool,
}

/// Which activations are saved for a backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Save {
    /// Those of all layers.
    All,
    /// Each layer's input, as gradient checkpointing does; the rest is computed again from it.
    LayerInputs,
    /// None: one set serves every layer, and two residuals alternate.
    Nothing,
}

impl Workspace {
    /// Empty; buffers grow with the first batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty; a training pass in it saves each layer's input only, and computes the layer's other
    /// activations again in the backward: the same bits in less memory.
    pub fn with_gradient_checkpointing() -> Self {
        Self {
            gradient_checkpointing: true,
            ..Self::default()
        }
    }

    /// Sizes all buffers for the batch. Lanes beyond T are cleared here, and every operation leaves
    /// zeros there.
    pub(crate) fn plan(&mut self, config: &ModelConfig, save: Save, threads: &Threads) {
        let n = self.batch.ids.len();
        let (residuals, sets) = match save {
            Save::All => (config.layers + 1, config.layers),
            Save::LayerInputs => (config.layers + 1, 1),
            Save::Nothing => (2, 1),
        };
        self.scratch
            .resize_with((threads.n() + 1).max(self.scratch.len()), Vec::new);
        let ropes = std::iter::once(&config.rope).chain(&config.local_rope);
        for (angles, rope) in self.angles.iter_mut().zip(ropes) {
            let frequencies = rope.frequencies(config.head_dim);
            angles.fill(&frequencies, &self.batch.positions, leading_dim(n));
        }
        let after = config.norms == Norms::BeforeAndAfter;
        let sizes = [
            config.hidden,
            config.qkv_rows(),
            config.attention_rows(),
            config.heads,
            config.intermediate,
        ];
        let plan = Plan {
            n,
            residuals,
            sets,
            sizes,
            after,
            qk_norm: config.qk_norm,
        };
        if self.planned.replace(plan) == Some(plan) {
            return;
        }
        (self.n, self.ld) = (n, leading_dim(n));
        self.residuals.resize_with(residuals, Buffer::default);
        self.saved.resize_with(sets, SavedActivations::default);
        let shape = (n, self.ld);
        self.gradients.forget();
        for residual in &mut self.residuals {
            fit(residual, config.hidden, shape);
        }
        for saved in &mut self.saved {
            for (i, buffer) in saved.rstd.iter_mut().enumerate() {
                fit(buffer, usize::from(after || i < 2), shape);
            }
            fit(&mut saved.qkv, config.qkv_rows(), shape);
            if config.qk_norm {
                fit(&mut saved.qk, config.qk_rows(), shape);
                fit(&mut saved.qk_rstd, config.heads + config.kv_heads, shape);
            }
            fit(&mut saved.attention, config.attention_rows(), shape);
            fit(&mut saved.lse, config.heads, shape);
            fit(&mut saved.post_attention, config.hidden, shape);
            fit(&mut saved.gate_up, 2 * config.intermediate, shape);
            for buffer in &mut saved.outputs {
                fit(buffer, if after { config.hidden } else { 0 }, shape);
            }
        }
        fit(&mut self.normed, config.hidden, shape);
        fit(&mut self.gated, config.intermediate, shape);
        fit(&mut self.final_rstd, 1, shape);
    }

    /// Which set of saved activations layer `index` uses.
    pub(crate) fn slot(&self, index: usize) -> usize {
        index % self.saved.len()
    }

    /// Which residual layer `index` reads; the one after the last layer counts as the next.
    pub(crate) fn residual(&self, index: usize) -> usize {
        index % self.residuals.len()
    }

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
        let embedding = decoder.weights.matrix(&decoder.layout().embedding);
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

/// Holds `rows` rows of the batch, with zeros beyond its lanes.
pub(crate) fn fit(buffer: &mut Buffer, rows: usize, (n, ld): (usize, usize)) {
    buffer.reserve(rows * ld);
    clear_beyond(buffer.get_mut(rows * ld), n, ld);
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
    crate::ops::head::all_logits(
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
