//! The buffers of a pass over one batch: what a forward leaves, and what a backward adds.
//!
//! Every buffer has its size before the pass begins (`Workspace::plan`) and is reused.
//! Shapes are (rows, T) lanes, see `ops`.

use crate::adapter::Projection;
use crate::batch::Batch;
use crate::model_config::{ModelConfig, Norms};
use crate::ops::cpu::CpuWorkspace;
use crate::ops::dropout::Dropout;
use crate::ops::rope::Angles;
use crate::ops::{Buffer, clear_beyond, leading_dim};

/// What is dropped of the adapters' inputs; nothing outside of training.
#[derive(Debug, Default)]
pub(crate) struct Drops {
    /// Fraction of values.
    pub(crate) fraction: f64,
    /// One key a token of the batch, see [`token_key`](crate::ops::dropout::token_key).
    pub(crate) tokens: Vec<u32>,
}

impl Drops {
    pub(crate) fn at(&self, layer: usize, projection: Projection) -> Option<Dropout<'_>> {
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
    /// 1 / rms (rstd) of the layer's input and of the post-attention residual where they are normed,
    /// and of the two outputs normed after.
    pub(crate) rstd: [Buffer; 4],
    /// Rotated, q scaled: ((H + 2K)·D, T).
    pub(crate) qkv: Buffer,
    /// q and k before their norm: ((H + K)·D, T), and its rstd, (H + K, T) or, of a norm over all
    /// heads, (2, T); unused without one.
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

/// Gradients of activations, planned with the batch.
#[derive(Debug, Default)]
pub(crate) struct ActivationGradients {
    shape: (usize, usize),
    /// Of the residual: (C, T).
    pub(crate) residual: Buffer,
    /// Of a normed residual, and of an output normed after: (C, T).
    pub(crate) normed: Buffer,
    pub(crate) output: Buffer,
    pub(crate) qkv: Buffer,
    pub(crate) attention: Buffer,
    pub(crate) gated: Buffer,
    pub(crate) means: Buffer,
    /// Of the norm weights of heads, head by head: (H + K, D).
    pub(crate) head_weights: Buffer,
    /// Activations as rows of tokens.
    pub(crate) tokens: Buffer,
}

impl ActivationGradients {
    /// Makes the next batch plan anew.
    pub(crate) fn forget(&mut self) {
        self.shape = (0, 0);
    }

    pub(crate) fn plan(&mut self, config: &ModelConfig, shape: (usize, usize)) {
        if self.shape == shape {
            return;
        }
        self.shape = shape;
        fit(&mut self.residual, config.hidden, shape);
        fit(&mut self.normed, config.hidden, shape);
        fit(&mut self.output, config.hidden, shape);
        fit(&mut self.qkv, config.qkv_rows(), shape);
        fit(&mut self.attention, config.attention_rows(), shape);
        fit(&mut self.gated, config.intermediate, shape);
        fit(&mut self.means, 1, shape);
        self.head_weights.reserve(config.qk_rows());
        let widest = config
            .hidden
            .max(config.attention_rows())
            .max(config.intermediate);
        self.tokens
            .reserve(shape.0 * crate::ops::leading_dim(widest));
    }
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
    pub(crate) gradients: ActivationGradients,
    /// Whether a training pass saves each layer's input only.
    pub(crate) gradient_checkpointing: bool,
    pub(crate) drops: Drops,
    pub(crate) logits: Buffer,
    pub(crate) logprobs: Vec<f32>,
    /// Memory of the operations.
    pub(crate) cpu: CpuWorkspace,
}

/// What decides the size of every buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    n: usize,
    residuals: usize,
    sets: usize,
    sizes: [usize; 5],
    norms: Norms,
    /// Parts of q and of k that are normed; none without that norm.
    qk_norm: Option<[usize; 2]>,
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
    pub(crate) fn plan(&mut self, config: &ModelConfig, save: Save) {
        let n = self.batch.ids.len();
        let (residuals, sets) = match save {
            Save::All => (config.layers + 1, config.layers),
            Save::LayerInputs => (config.layers + 1, 1),
            Save::Nothing => (2, 1),
        };
        let ropes = std::iter::once(&config.rope).chain(&config.local_rope);
        for (angles, rope) in self.angles.iter_mut().zip(ropes) {
            let frequencies = rope.frequencies(config.head_dim);
            angles.fill(&frequencies, &self.batch.positions, leading_dim(n));
        }
        let (before, after) = (config.norms.before(), config.norms.after());
        let qk_norm = config.qk_norm.then(|| config.qk_norm_parts());
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
            norms: config.norms,
            qk_norm,
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
                fit(
                    buffer,
                    usize::from(if i < 2 { before } else { after }),
                    shape,
                );
            }
            fit(&mut saved.qkv, config.qkv_rows(), shape);
            if let Some([q, k]) = qk_norm {
                fit(&mut saved.qk, config.qk_rows(), shape);
                fit(&mut saved.qk_rstd, q + k, shape);
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
}

/// Holds `rows` rows of the batch, with zeros beyond its lanes.
pub(crate) fn fit(buffer: &mut Buffer, rows: usize, (n, ld): (usize, usize)) {
    buffer.reserve(rows * ld);
    clear_beyond(buffer.get_mut(rows * ld), n, ld);
}
