//! The decoder: facts and parameters, and the buffers and steps of its forward pass.
//!
//! One pass serves training (every layer's activations stay), scoring (one set serves all layers) and
//! cached generation (attention looks into the caches instead). The backward is in
//! [`backward`](crate::backward). Shapes are (rows, N) lanes, see `ops`.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::adapter::{Adapter, Site};
use crate::backward::Sums;
use crate::batch::Batch;
use crate::facts::{Facts, FactsError, Norms};
use crate::frozen::Weights;
use crate::linear::{Linear, LinearGradients, LinearRoom};
use crate::ops::attention::{Heads, attention};
use crate::ops::continuation::continuations;
use crate::ops::dropout::Dropout;
use crate::ops::embed::embed;
use crate::ops::gate::gate;
use crate::ops::head::Head;
use crate::ops::head_norm::norm_heads;
use crate::ops::norm::{Gain, inverse_rms, scale};
use crate::ops::rope::{Angles, Turn, rotate};
use crate::ops::{Buffer, clear_beyond, stride};
use crate::parameters::{LayerRanges, Layout, Parameters, Tensor};
use crate::threads::Threads;

/// A model: what it is and what it has learnt.
#[derive(Clone, Debug)]
pub struct Decoder {
    facts: Facts,
    /// Shared by copies until one changes them: an adapter is trained beside weights that are in
    /// memory once.
    weights: Arc<Weights>,
    adapter: Option<Adapter>,
}

impl Decoder {
    /// A decoder of given parameters.
    ///
    /// # Errors
    /// When the facts do not fit each other.
    ///
    /// # Panics
    /// When the weights were laid out for other facts; a programmer mistake.
    pub fn new(facts: Facts, weights: impl Into<Weights>) -> Result<Self, FactsError> {
        facts.check()?;
        let weights = weights.into();
        assert!(
            weights.layout().fits(&facts),
            "weights laid out for other facts"
        );
        Ok(Self {
            facts,
            weights: Arc::new(weights),
            adapter: None,
        })
    }

    /// A decoder of fresh parameters, see [`Parameters::random`].
    ///
    /// # Errors
    /// When the facts do not fit each other.
    pub fn random(facts: Facts, seed: u64, initial_sd: f64) -> Result<Self, FactsError> {
        facts.check()?;
        let parameters = Parameters::random(&facts, seed, initial_sd);
        Self::new(facts, parameters)
    }

    /// The same weights as a model of facts that lay them out alike.
    ///
    /// # Panics
    /// When the weights were laid out for other facts; a programmer mistake.
    pub(crate) fn with_facts(self, facts: Facts) -> Self {
        assert!(
            self.layout().fits(&facts),
            "weights laid out for other facts"
        );
        Self { facts, ..self }
    }

    /// The model that a bf16 file of its weights holds.
    pub(crate) fn rounded_to_bf16(&self) -> Self {
        Self {
            weights: Arc::new(self.weights.rounded_to_bf16()),
            ..self.clone()
        }
    }

    /// What it is.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where every tensor of the weights lies.
    pub fn layout(&self) -> &Layout {
        self.weights.layout()
    }

    /// What it has learnt, in f32; a copy where the weights are held in bf16.
    pub fn parameters(&self) -> Cow<'_, Parameters> {
        self.weights.to_f32()
    }

    /// What it has learnt, as it is held.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What it has learnt, to be changed in place; in f32 from now on.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        Arc::make_mut(&mut self.weights).make_f32()
    }

    /// The same with adapters beside its linear layers; from now on they are what trains.
    ///
    /// # Panics
    /// When the adapters were laid out for other facts; a programmer mistake.
    #[must_use]
    pub fn with_adapter(self, adapter: Adapter) -> Self {
        assert!(
            adapter.fits(&self.facts),
            "adapters laid out for other facts"
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

    /// Adds the adapters to the weights they stand beside, in f32.
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
        let f = &self.facts;
        Layer {
            index,
            facts: f,
            ranges: &self.layout().layers[index],
            weights: &self.weights,
            adapter: self.adapter.as_ref(),
            heads: Heads {
                n: f.heads,
                kv: f.kv_heads,
                width: f.head_width,
                window: f.windows[index],
                softcap: f.attention_softcap,
            },
        }
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            weight: self.weights.matrix(&self.layout().head),
            width: self.facts.hidden,
            softcap: self.facts.final_softcap,
        }
    }

    pub(crate) fn final_gain(&self) -> Gain<'_> {
        Gain {
            weight: self.weights.vector(&self.layout().final_norm),
            plus_one: self.facts.gain_plus_one,
        }
    }
}

/// One layer's facts and weights.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) index: usize,
    pub(crate) facts: &'a Facts,
    pub(crate) ranges: &'a LayerRanges,
    weights: &'a Weights,
    adapter: Option<&'a Adapter>,
    pub(crate) heads: Heads,
}

impl<'a> Layer<'a> {
    pub(crate) fn gain(&self, range: &Range<usize>) -> Gain<'a> {
        Gain {
            weight: self.weights.vector(range),
            plus_one: self.facts.gain_plus_one,
        }
    }

    /// One of the layer's linear maps, with dropout as `drops` say.
    pub(crate) fn linear<'b>(&self, site: Site, drops: &'b Drops) -> Linear<'b>
    where
        'a: 'b,
    {
        let (weight, bias) = self.places(site);
        Linear {
            weight: self.weights.matrix(&weight),
            bias: self.weights.vector(&bias),
            low_rank: self
                .adapter
                .map(|adapter| adapter.at(self.index, site))
                .unwrap_or_default(),
            dropout: drops.at(self.index, site),
        }
    }

    /// Where the gradients of a linear map are added to.
    pub(crate) fn linear_gradients<'b>(
        &self,
        site: Site,
        sums: &'b mut Sums<'_>,
    ) -> LinearGradients<'b> {
        let (weight, bias) = self.places(site);
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
                Some(adapter) => adapter.split(sums.adapter, self.index, site),
                None => (&mut [], &mut []),
            },
        }
    }

    /// Where a linear map's weight and bias lie.
    fn places(&self, site: Site) -> (Range<usize>, Range<usize>) {
        let ranges = self.ranges;
        match site {
            Site::Qkv => (ranges.qkv.clone(), ranges.qkv_bias.clone()),
            Site::Output => (ranges.output.clone(), 0..0),
            Site::GateUp => (ranges.gate_up.clone(), 0..0),
            Site::Down => (ranges.down.clone(), 0..0),
        }
    }

    /// Those of a workspace's angles that the layer turns by.
    pub(crate) fn angles<'b>(&self, of: &'b [Angles; 2]) -> &'b Angles {
        let local = self.facts.local_rope.is_some() && self.heads.window.is_some();
        &of[usize::from(local)]
    }

    pub(crate) fn norms_after(&self) -> bool {
        self.facts.norms == Norms::BeforeAndAfter
    }
}

/// What is dropped of the adapters' inputs; nothing outside of training.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    /// Share of values.
    pub(crate) share: f64,
    /// One key a token of the batch, see [`token_key`](crate::ops::dropout::token_key).
    pub(crate) tokens: Vec<u32>,
}

impl Drops {
    fn at(&self, layer: usize, site: Site) -> Option<Dropout<'_>> {
        (self.share > 0.0).then(|| Dropout {
            share: self.share,
            tokens: &self.tokens,
            site: (4 * layer + site as usize) as u32,
        })
    }
}

/// What one layer leaves for the backward.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Inverse rms of the layer's input, of the middle, and of the two outputs normed after.
    pub(crate) inv_rms: [Buffer; 4],
    /// Rotated, q scaled: ((H + 2K)·D, N).
    pub(crate) qkv: Buffer,
    /// q and k before the norm of their heads: ((H + K)·D, N), and its inverse rms, (H + K, N);
    /// unused without one.
    pub(crate) qk: Buffer,
    pub(crate) qk_inv_rms: Buffer,
    pub(crate) attention: Buffer,
    /// (H, N).
    pub(crate) lse: Buffer,
    /// The residual stream between attention and MLP: (C, N).
    pub(crate) middle: Buffer,
    /// (2F, N).
    pub(crate) gate_up: Buffer,
    /// What attention and MLP gave before the norm after them: (C, N); unused without one.
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
    pub(crate) stride: usize,
    /// Of the layers without a window, and of those with one where theirs are others.
    pub(crate) angles: [Angles; 2],
    /// The residual stream before each layer, and after the last, or two that take turns: (C, N).
    pub(crate) streams: Vec<Buffer>,
    pub(crate) kept: Vec<Kept>,
    /// A normed stream: (C, N).
    pub(crate) normed: Buffer,
    /// (F, N).
    pub(crate) gated: Buffer,
    pub(crate) final_inv_rms: Buffer,
    pub(crate) gradients: crate::backward::Gradients,
    /// Whether a training pass keeps each layer's input only.
    pub(crate) recomputes: bool,
    pub(crate) linear: LinearRoom,
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
    streams: usize,
    sets: usize,
    sizes: [usize; 5],
    after: bool,
    qk_norm: bool,
}

/// Which activations stay for a backward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Those of all layers.
    All,
    /// Each layer's input; the rest is computed again from it.
    Inputs,
    /// None: one set serves every layer, and two streams take turns.
    Last,
}

impl Workspace {
    /// Empty; buffers grow with the first batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Empty; a training pass in it keeps each layer's input only, and computes the layer's other
    /// activations again on the way back: the same bits in less memory.
    pub fn recomputing() -> Self {
        Self {
            recomputes: true,
            ..Self::default()
        }
    }

    /// Makes room for the batch. Lanes beyond N are cleared here, and every operation leaves
    /// zeros there.
    pub(crate) fn plan(&mut self, facts: &Facts, keep: Keep, threads: &Threads) {
        let n = self.batch.ids.len();
        let (streams, sets) = match keep {
            Keep::All => (facts.layers + 1, facts.layers),
            Keep::Inputs => (facts.layers + 1, 1),
            Keep::Last => (2, 1),
        };
        self.scratch
            .resize_with((threads.n() + 1).max(self.scratch.len()), Vec::new);
        let ropes = std::iter::once(&facts.rope).chain(&facts.local_rope);
        for (angles, rope) in self.angles.iter_mut().zip(ropes) {
            let frequencies = rope.frequencies(facts.head_width);
            angles.fill(&frequencies, &self.batch.positions, stride(n));
        }
        let after = facts.norms == Norms::BeforeAndAfter;
        let sizes = [
            facts.hidden,
            facts.qkv_rows(),
            facts.attention_rows(),
            facts.heads,
            facts.intermediate,
        ];
        let plan = Plan {
            n,
            streams,
            sets,
            sizes,
            after,
            qk_norm: facts.qk_norm,
        };
        if self.planned.replace(plan) == Some(plan) {
            return;
        }
        (self.n, self.stride) = (n, stride(n));
        self.streams.resize_with(streams, Buffer::default);
        self.kept.resize_with(sets, Kept::default);
        let shape = (n, self.stride);
        self.gradients.forget();
        for stream in &mut self.streams {
            fit(stream, facts.hidden, shape);
        }
        for kept in &mut self.kept {
            for (i, buffer) in kept.inv_rms.iter_mut().enumerate() {
                fit(buffer, usize::from(after || i < 2), shape);
            }
            fit(&mut kept.qkv, facts.qkv_rows(), shape);
            if facts.qk_norm {
                fit(&mut kept.qk, facts.qk_rows(), shape);
                fit(&mut kept.qk_inv_rms, facts.heads + facts.kv_heads, shape);
            }
            fit(&mut kept.attention, facts.attention_rows(), shape);
            fit(&mut kept.lse, facts.heads, shape);
            fit(&mut kept.middle, facts.hidden, shape);
            fit(&mut kept.gate_up, 2 * facts.intermediate, shape);
            for buffer in &mut kept.outputs {
                fit(buffer, if after { facts.hidden } else { 0 }, shape);
            }
        }
        fit(&mut self.normed, facts.hidden, shape);
        fit(&mut self.gated, facts.intermediate, shape);
        fit(&mut self.final_inv_rms, 1, shape);
    }

    /// Which set of kept activations layer `index` uses.
    pub(crate) fn slot(&self, index: usize) -> usize {
        index % self.kept.len()
    }

    /// Which stream layer `index` reads; the one after the last layer counts as the next.
    pub(crate) fn stream(&self, index: usize) -> usize {
        index % self.streams.len()
    }

    /// The batch from embedding to the normed last stream, which is left in `normed`.
    pub(crate) fn forward(&mut self, decoder: &Decoder, threads: &Threads) {
        self.forward_with(
            decoder,
            threads,
            |layer, _, kept, batch, stride, scratch| {
                attend(layer, kept, (batch, stride), threads, scratch);
            },
        );
    }

    /// Computes again what layer `index` kept, from its input; the same bits.
    pub(crate) fn recompute(
        &mut self,
        layer: &Layer<'_>,
        index: usize,
        kept: &mut Kept,
        threads: &Threads,
    ) {
        let width = layer.facts.hidden * self.stride;
        let input = std::mem::take(&mut self.streams[index]);
        let mut output = std::mem::take(&mut self.streams[index + 1]);
        self.compute_qkv(layer, input.get(width), kept, threads);
        let batch = (&self.batch, self.stride);
        attend(layer, kept, batch, threads, &mut self.scratch);
        self.compute_middle(layer, input.get(width), kept, threads);
        // The output is there; what a norm after it needs is not.
        let out = layer.norms_after().then(|| output.get_mut(width));
        self.compute_output(layer, kept, out, threads);
        self.streams[index] = input;
        self.streams[index + 1] = output;
    }

    /// [`forward`](Self::forward) with attention left to the caller: from `kept.qkv` to
    /// `kept.attention`.
    pub(crate) fn forward_with(
        &mut self,
        decoder: &Decoder,
        threads: &Threads,
        mut attend: impl FnMut(&Layer<'_>, usize, &mut Kept, &Batch, usize, &mut [Vec<f32>]),
    ) {
        let facts = decoder.facts();
        let (stride, width) = (self.stride, facts.hidden * self.stride);
        let embedding = decoder.weights.matrix(&decoder.layout().embedding);
        let first = self.streams[0].get_mut(width);
        embed(
            threads,
            &mut self.scratch,
            first,
            stride,
            embedding,
            &self.batch.ids,
            facts.embedding_scale,
        );
        for index in 0..facts.layers {
            let layer = decoder.layer(index);
            let slot = self.slot(index);
            let (before, next) = (self.stream(index), self.stream(index + 1));
            let input = std::mem::take(&mut self.streams[before]);
            let mut output = std::mem::take(&mut self.streams[next]);
            let mut kept = std::mem::take(&mut self.kept[slot]);
            self.compute_qkv(&layer, input.get(width), &mut kept, threads);
            attend(
                &layer,
                index,
                &mut kept,
                &self.batch,
                stride,
                &mut self.scratch,
            );
            self.compute_middle(&layer, input.get(width), &mut kept, threads);
            let out = Some(output.get_mut(width));
            self.compute_output(&layer, &mut kept, out, threads);
            self.kept[slot] = kept;
            self.streams[next] = output;
            self.streams[before] = input;
        }
        let last = self.streams[self.stream(facts.layers)].get(width);
        let inv_rms = self.final_inv_rms.get_mut(stride);
        inverse_rms(inv_rms, last, stride, facts.norm_eps);
        let normed = self.normed.get_mut(width);
        scale(
            threads,
            &mut self.scratch,
            normed,
            last,
            inv_rms,
            decoder.final_gain(),
            &[],
        );
    }

    /// Norm, projection to q, k, v, rotation.
    fn compute_qkv(
        &mut self,
        layer: &Layer<'_>,
        input: &[f32],
        kept: &mut Kept,
        threads: &Threads,
    ) {
        let (facts, stride) = (layer.facts, self.stride);
        let inv_rms = kept.inv_rms[0].get_mut(stride);
        inverse_rms(inv_rms, input, stride, facts.norm_eps);
        let normed = self.normed.get_mut(input.len());
        scale(
            threads,
            &mut self.scratch,
            normed,
            input,
            inv_rms,
            layer.gain(&layer.ranges.input_norm),
            &[],
        );
        let qkv = kept.qkv.get_mut(facts.qkv_rows() * stride);
        layer.linear(Site::Qkv, &self.drops).forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            qkv,
            normed,
            None,
            (self.n, stride),
        );
        let (q, kv) = qkv.split_at_mut(facts.attention_rows() * stride);
        let k = &mut kv[..facts.kv_heads * facts.head_width * stride];
        if facts.qk_norm {
            let (kept_q, kept_k) = kept
                .qk
                .get_mut(facts.qk_rows() * stride)
                .split_at_mut(q.len());
            let (q_inv_rms, k_inv_rms) = kept
                .qk_inv_rms
                .get_mut((facts.heads + facts.kv_heads) * stride)
                .split_at_mut(facts.heads * stride);
            let (q_norm, k_norm) = (&layer.ranges.q_norm, &layer.ranges.k_norm);
            for (buffers, range) in [
                ([&mut *q, kept_q, q_inv_rms], q_norm),
                ([&mut *k, kept_k, k_inv_rms], k_norm),
            ] {
                let gain = layer.gain(range);
                let scratch = &mut self.scratch;
                norm_heads(threads, scratch, buffers, stride, gain, facts.norm_eps);
            }
        }
        let angles = layer.angles(&self.angles);
        rotate(
            threads,
            &mut self.scratch,
            q,
            stride,
            angles,
            Turn::Forward,
            facts.attention_scale,
        );
        rotate(
            threads,
            &mut self.scratch,
            k,
            stride,
            angles,
            Turn::Forward,
            1.0,
        );
    }

    /// Projection of attention's output onto the residual stream.
    fn compute_middle(
        &mut self,
        layer: &Layer<'_>,
        input: &[f32],
        kept: &mut Kept,
        threads: &Threads,
    ) {
        let stride = self.stride;
        let linear = layer.linear(Site::Output, &self.drops);
        let attention = kept.attention.get(layer.facts.attention_rows() * stride);
        let middle = kept.middle.get_mut(input.len());
        let shape = (self.n, stride);
        if !layer.norms_after() {
            return linear.forward(
                threads,
                &mut self.scratch,
                &mut self.linear,
                middle,
                attention,
                Some(input),
                shape,
            );
        }
        let output = kept.outputs[0].get_mut(input.len());
        linear.forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            output,
            attention,
            None,
            shape,
        );
        let inv_rms = kept.inv_rms[2].get_mut(stride);
        inverse_rms(inv_rms, output, stride, layer.facts.norm_eps);
        let gain = layer.gain(&layer.ranges.after_attention_norm);
        scale(
            threads,
            &mut self.scratch,
            middle,
            output,
            inv_rms,
            gain,
            input,
        );
    }

    /// The gated unit, onto the residual stream; only what is kept of it where that is not asked for.
    fn compute_output(
        &mut self,
        layer: &Layer<'_>,
        kept: &mut Kept,
        out: Option<&mut [f32]>,
        threads: &Threads,
    ) {
        let (facts, stride) = (layer.facts, self.stride);
        let (shape, width) = ((self.n, stride), facts.hidden * stride);
        let middle = kept.middle.get(width);
        let inv_rms = kept.inv_rms[1].get_mut(stride);
        inverse_rms(inv_rms, middle, stride, facts.norm_eps);
        let normed = self.normed.get_mut(width);
        scale(
            threads,
            &mut self.scratch,
            normed,
            middle,
            inv_rms,
            layer.gain(&layer.ranges.mlp_norm),
            &[],
        );
        let gate_up = kept.gate_up.get_mut(2 * facts.intermediate * stride);
        layer.linear(Site::GateUp, &self.drops).forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            gate_up,
            normed,
            None,
            shape,
        );
        let Some(out) = out else { return };
        let gated = self.gated.get_mut(facts.intermediate * stride);
        gate(
            threads,
            &mut self.scratch,
            facts.activation,
            gated,
            gate_up,
            stride,
        );
        let linear = layer.linear(Site::Down, &self.drops);
        if !layer.norms_after() {
            return linear.forward(
                threads,
                &mut self.scratch,
                &mut self.linear,
                out,
                gated,
                Some(middle),
                shape,
            );
        }
        let output = kept.outputs[1].get_mut(width);
        linear.forward(
            threads,
            &mut self.scratch,
            &mut self.linear,
            output,
            gated,
            None,
            shape,
        );
        let inv_rms = kept.inv_rms[3].get_mut(stride);
        inverse_rms(inv_rms, output, stride, facts.norm_eps);
        let gain = layer.gain(&layer.ranges.after_mlp_norm);
        scale(
            threads,
            &mut self.scratch,
            out,
            output,
            inv_rms,
            gain,
            middle,
        );
    }
}

/// From `kept.qkv` to `kept.attention`.
fn attend(
    layer: &Layer<'_>,
    kept: &mut Kept,
    (batch, stride): (&Batch, usize),
    threads: &Threads,
    scratch: &mut [Vec<f32>],
) {
    let (qkv, rows) = (
        layer.facts.qkv_rows() * stride,
        layer.facts.attention_rows() * stride,
    );
    attention(
        threads,
        scratch,
        &layer.heads,
        (&batch.segments, stride),
        kept.attention.get_mut(rows),
        kept.lse.get_mut(layer.heads.n * stride),
        kept.qkv.get(qkv),
    );
    continuations(
        threads,
        scratch,
        &layer.heads,
        (&batch.continuations, stride),
        kept.attention.get_mut(rows),
        kept.qkv.get(qkv),
    );
}

/// Room for `rows` rows of the batch, with zeros beyond its lanes.
pub(crate) fn fit(buffer: &mut Buffer, rows: usize, (n, stride): (usize, usize)) {
    buffer.reserve(rows * stride);
    clear_beyond(buffer.get_mut(rows * stride), n, stride);
}

/// Logits after each token of one sequence, (T, V) row by row: for tests and comparisons, not
/// for long sequences or large vocabularies.
///
/// # Panics
/// When a token is not below the vocabulary; a programmer mistake.
pub fn logits(decoder: &Decoder, ids: &[u32], threads: &Threads) -> Vec<f32> {
    let mut workspace = Workspace::new();
    workspace.batch.push_tokens(ids, 0);
    workspace.plan(decoder.facts(), Keep::Last, threads);
    workspace.forward(decoder, threads);
    let mut out = Vec::new();
    let columns: Vec<usize> = (0..ids.len()).collect();
    let hidden = workspace
        .normed
        .get(decoder.facts().hidden * workspace.stride);
    crate::ops::head::all_logits(
        decoder.head(),
        threads,
        &mut workspace.scratch,
        hidden,
        workspace.stride,
        &columns,
        &mut out,
    );
    out
}
