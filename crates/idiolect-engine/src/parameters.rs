//! All parameters of a model in one allocation, laid out from its [`ModelConfig`].
//!
//! Gradients and optimiser moments have the same layout, so that a step of the optimiser is one
//! pass over parallel slices. Tensors are known by their Hugging Face names and shapes,
//! (out, in) for a linear map; q, k, v lie side by side, and so do gate and up, so that each
//! group is one product. Reading and writing files is another module's business.

use std::collections::BTreeMap;
use std::ops::Range;

use idiolect_model::Rng;

use crate::model_config::{ModelConfig, Norms};

/// One tensor's place in the allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tensor {
    /// Hugging Face name, for example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// (out, in), or (width) for a norm weight or a bias.
    pub shape: Vec<usize>,
    /// Where it lies, in floats.
    pub range: Range<usize>,
    /// Whether weight decay applies: not to norm weights and biases.
    pub decays: bool,
    /// What it is before training.
    kind: Kind,
}

impl Tensor {
    /// A matrix that starts at a place.
    pub(crate) fn matrix(name: String, shape: [usize; 2], start: usize) -> Self {
        Self {
            name,
            shape: shape.to_vec(),
            range: start..start + shape[0] * shape[1],
            decays: true,
            kind: Kind::Matrix,
        }
    }
}

/// Runs of neighbours that weight decay treats alike.
pub(crate) fn decay_runs(tensors: &[Tensor]) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for t in tensors {
        match runs.last_mut() {
            Some((range, decays)) if *decays == t.decays => range.end = t.range.end,
            _ => runs.push((t.range.clone(), t.decays)),
        }
    }
    runs
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Matrix,
    NormWeight,
    Bias,
}

/// The places of one layer's tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LayerRanges {
    /// Before attention; empty for [`Norms::After`].
    pub(crate) input_norm: Range<usize>,
    /// q, k, v: ((H + 2K)·D, C).
    pub(crate) qkv: Range<usize>,
    /// Empty without biases.
    pub(crate) qkv_bias: Range<usize>,
    /// On each head of q, and of k, or on all at once; empty without these norms.
    pub(crate) q_norm: Range<usize>,
    pub(crate) k_norm: Range<usize>,
    pub(crate) output: Range<usize>,
    /// On attention's output; empty for [`Norms::Before`].
    pub(crate) after_attention_norm: Range<usize>,
    /// Before the MLP; empty for [`Norms::After`].
    pub(crate) mlp_norm: Range<usize>,
    /// gate, up: (2F, C).
    pub(crate) gate_up: Range<usize>,
    pub(crate) down: Range<usize>,
    /// On the MLP's output; empty for [`Norms::Before`].
    pub(crate) after_mlp_norm: Range<usize>,
}

/// Where every tensor lies. The order is fixed: embedding, layers, final norm, head if untied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<Tensor>,
    by_name: BTreeMap<String, usize>,
    pub(crate) embedding: Range<usize>,
    pub(crate) layers: Vec<LayerRanges>,
    pub(crate) final_norm: Range<usize>,
    /// The embedding's place when tied.
    pub(crate) head: Range<usize>,
    len: usize,
}

impl Layout {
    /// The layout for `config`, which must have passed [`ModelConfig::check`].
    pub fn new(config: &ModelConfig) -> Self {
        let mut builder = Builder {
            tensors: Vec::new(),
            len: 0,
        };
        let c = config.hidden;
        let embedding = builder.matrix("model.embed_tokens.weight".to_owned(), config.vocab, c);
        let layers = (0..config.layers)
            .map(|i| builder.layer(config, i))
            .collect();
        let final_norm = builder.norm("model.norm.weight".to_owned(), c);
        let head = if config.tied {
            embedding.clone()
        } else {
            builder.matrix("lm_head.weight".to_owned(), config.vocab, c)
        };
        let Builder { tensors, len } = builder;
        let by_name = tensors
            .iter()
            .enumerate()
            .map(|(i, t)| (t.name.clone(), i))
            .collect();
        Self {
            tensors,
            by_name,
            embedding,
            layers,
            final_norm,
            head,
            len,
        }
    }

    /// The tensors in their order of place.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// Whether it is that of this config.
    pub fn fits(&self, config: &ModelConfig) -> bool {
        self.len as u128 == config.n_parameters() && *self == Self::new(config)
    }

    /// Floats in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no tensor at all; never for checked config.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

struct Builder {
    tensors: Vec<Tensor>,
    len: usize,
}

impl Builder {
    fn push(&mut self, name: String, shape: Vec<usize>, kind: Kind) -> Range<usize> {
        let range = self.len..self.len + shape.iter().product::<usize>();
        self.len = range.end;
        let decays = kind == Kind::Matrix;
        self.tensors.push(Tensor {
            name,
            shape,
            range: range.clone(),
            decays,
            kind,
        });
        range
    }

    fn matrix(&mut self, name: String, out: usize, into: usize) -> Range<usize> {
        self.push(name, vec![out, into], Kind::Matrix)
    }

    fn norm(&mut self, name: String, width: usize) -> Range<usize> {
        self.push(name, vec![width], Kind::NormWeight)
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> LayerRanges {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (c, d, f) = (config.hidden, config.head_dim, config.intermediate);
        let widths = [
            ("q", config.heads * d),
            ("k", config.kv_heads * d),
            ("v", config.kv_heads * d),
        ];
        let (before, after) = (config.norms.before(), config.norms.after());

        let input_norm = if before {
            self.norm(name("input_layernorm.weight"), c)
        } else {
            self.len..self.len
        };
        let start = self.len;
        for (letter, width) in widths {
            self.matrix(name(&format!("self_attn.{letter}_proj.weight")), width, c);
        }
        let qkv = start..self.len;
        if config.qkv_bias {
            for (letter, width) in widths {
                self.push(
                    name(&format!("self_attn.{letter}_proj.bias")),
                    vec![width],
                    Kind::Bias,
                );
            }
        }
        let qkv_bias = qkv.end..self.len;
        let [(q, q_width), (k, k_width), _] = widths;
        let [q_norm, k_norm] = [(q, q_width), (k, k_width)].map(|(letter, whole)| {
            if config.qk_norm {
                let width = if config.qk_norm_whole { whole } else { d };
                self.norm(name(&format!("self_attn.{letter}_norm.weight")), width)
            } else {
                self.len..self.len
            }
        });
        let output = self.matrix(name("self_attn.o_proj.weight"), c, config.heads * d);
        // Gemma 2 calls the norm before the MLP `pre_feedforward` and gives Llama's name for it
        // to the norm after attention.
        let second = self.norm(name("post_attention_layernorm.weight"), c);
        let (after_attention_norm, mlp_norm) = match config.norms {
            Norms::Before => (output.end..output.end, second),
            Norms::BeforeAndAfter => (
                second,
                self.norm(name("pre_feedforward_layernorm.weight"), c),
            ),
            Norms::After => (second.clone(), second.end..second.end),
        };
        let start = self.len;
        self.matrix(name("mlp.gate_proj.weight"), f, c);
        self.matrix(name("mlp.up_proj.weight"), f, c);
        let gate_up = start..self.len;
        let down = self.matrix(name("mlp.down_proj.weight"), c, f);
        let after_mlp_norm = if after {
            self.norm(name("post_feedforward_layernorm.weight"), c)
        } else {
            down.end..down.end
        };
        LayerRanges {
            input_norm,
            qkv,
            qkv_bias,
            q_norm,
            k_norm,
            output,
            after_attention_norm,
            mlp_norm,
            gate_up,
            down,
            after_mlp_norm,
        }
    }
}

/// Values in a [`Layout`]: parameters, their gradients, or a moment of the optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    layout: Layout,
    values: Vec<f32>,
}

impl Parameters {
    /// Zeros.
    pub fn zeros(config: &ModelConfig) -> Self {
        Self::of(Layout::new(config))
    }

    /// Zeros in a layout.
    pub(crate) fn of(layout: Layout) -> Self {
        let values = vec![0.0; layout.len()];
        Self { layout, values }
    }

    /// Fresh parameters: matrices normal with sd `initial_sd` (the config's `initializer_range`),
    /// norm weights 1 (weight 0 where the norm multiplies by 1 + w), biases 0. Each tensor has its
    /// own generator, keyed by `seed` and its name.
    pub fn random(config: &ModelConfig, seed: u64, initial_sd: f64) -> Self {
        let mut parameters = Self::zeros(config);
        let identity = if config.norm_plus_one { 0.0 } else { 1.0 };
        for tensor in &parameters.layout.tensors {
            let values = &mut parameters.values[tensor.range.clone()];
            match tensor.kind {
                Kind::NormWeight => values.fill(identity),
                Kind::Bias => {}
                Kind::Matrix => {
                    let mut rng = Rng::keyed(seed, &["initialise", &tensor.name]);
                    values.fill_with(|| (initial_sd * rng.normal()) as f32);
                }
            }
        }
        parameters
    }

    /// Where every tensor lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All values in their order of place.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// All values in their order of place.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// One tensor's values, row by row.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        Some(&self.values[self.layout.tensor(name)?.range.clone()])
    }

    /// One tensor's values, row by row.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        let range = self.layout.tensor(name)?.range.clone();
        Some(&mut self.values[range])
    }

    /// Every tensor with its values, in their order of place.
    pub fn iter(&self) -> impl Iterator<Item = (&Tensor, &[f32])> {
        self.layout
            .tensors
            .iter()
            .map(|t| (t, &self.values[t.range.clone()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_config::{Family, Sizes};

    fn config(norms: Norms, qkv_bias: bool, tied: bool) -> ModelConfig {
        let family = match norms {
            Norms::Before => Family::Llama,
            Norms::BeforeAndAfter => Family::Gemma3,
            Norms::After => Family::Olmo2,
        };
        let sizes = Sizes {
            vocab: 11,
            hidden: 6,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            intermediate: 5,
        };
        ModelConfig {
            qkv_bias,
            tied,
            ..ModelConfig::new(family, sizes)
        }
    }

    #[test]
    fn tensors_fill_the_allocation_without_holes() {
        for norms in [Norms::Before, Norms::BeforeAndAfter, Norms::After] {
            for (bias, tied) in [(false, true), (true, false)] {
                let layout = Layout::new(&config(norms, bias, tied));
                let mut at = 0;
                for tensor in layout.tensors() {
                    assert_eq!(tensor.range.start, at, "{}", tensor.name);
                    assert_eq!(tensor.range.len(), tensor.shape.iter().product::<usize>());
                    at = tensor.range.end;
                }
                assert_eq!(at, layout.len());
                assert_eq!(at as u128, config(norms, bias, tied).n_parameters());
                assert_eq!(layout.tensor("lm_head.weight").is_some(), !tied);
            }
        }
    }

    #[test]
    fn gains_and_biases_do_not_decay() {
        let layout = Layout::new(&config(Norms::BeforeAndAfter, true, false));
        for tensor in layout.tensors() {
            assert_eq!(tensor.decays, tensor.shape.len() == 2, "{}", tensor.name);
        }
    }

    #[test]
    fn fresh_parameters_depend_on_seed_and_name_only() {
        let small = config(Norms::Before, true, true);
        let large = ModelConfig {
            layers: 3,
            windows: vec![None; 3],
            ..small.clone()
        };
        let name = "model.layers.1.mlp.down_proj.weight";
        let (a, b) = (
            Parameters::random(&small, 7, 0.02),
            Parameters::random(&large, 7, 0.02),
        );
        assert_eq!(a.get(name), b.get(name));
        assert_ne!(a.get(name), Parameters::random(&small, 8, 0.02).get(name));
        assert!(
            a.get("model.norm.weight")
                .unwrap()
                .iter()
                .all(|&g| g == 1.0)
        );
        let gemma = Parameters::random(&config(Norms::BeforeAndAfter, false, true), 7, 0.02);
        assert!(
            gemma
                .get("model.norm.weight")
                .unwrap()
                .iter()
                .all(|&g| g == 0.0)
        );
    }
}
