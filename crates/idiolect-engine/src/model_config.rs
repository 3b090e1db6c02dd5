//! The settings that distinguish one decoder from another.
//!
//! One decoder computes every family; a family is a row of the table below, which
//! [`ModelConfig::new`] states in code. Reading a `config.json` is another module's business.
//!
//! | setting | Llama, Mistral | Qwen 2/2.5 | Qwen 3 | Gemma 2 | Gemma 3 text | OLMo 2 |
//! |---|---|---|---|---|---|---|
//! | bias on q, k, v | no | yes | no | no | no | no |
//! | norm of each q and k head | no | no | yes | no | yes | no; of the whole q and the whole k |
//! | norm weight | w | w | w | 1 + w | 1 + w | w |
//! | norms of a layer | before attention, before MLP | same | same | before **and after** each | same | **after** each only |
//! | activation | silu | silu | silu | gelu, tanh form | same | silu |
//! | embedding scale | 1 | 1 | 1 | √hidden, rounded to the weights' type | same | 1 |
//! | attention scale | 1/√head_dim | same | same | 1/√query_pre_attn_scalar | same | 1/√head_dim |
//! | softcap, attention / final | none | none | none | 50 / 30 | none / none | none |
//! | window | Llama none, Mistral per config | none unless enabled | same | 4096 on even layers | five layers of six | none |
//! | rotary | θ, scaling per config | θ | θ | θ | θ and scaling; windowed layers θ of their own | θ, scaling per config |
//! | head_dim | config, else hidden/heads | same | config, else 128 | config, else 256 | same | config, else hidden/heads |
//! | tied head | per config | per config | per config | yes | yes | per config |
//!
//! With a window w a query sees keys with i − j < w. Source: the model classes of Hugging Face
//! transformers, held to by the parity fixtures. Llama 2, 3.x and SmolLM2 are one row.

use serde::{Deserialize, Serialize};

pub use rope::{Llama3Scaling, Rope, Scaling};

mod rope;

/// Which row of the table; for messages and for writing a `config.json` back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Family {
    /// Llama 2 and 3.x, SmolLM2, Mistral.
    Llama,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Gemma 2.
    Gemma2,
    /// Gemma 3, text only.
    Gemma3,
    /// OLMo 2.
    Olmo2,
}

/// Where a layer normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Norms {
    /// Before attention and before the MLP.
    Before,
    /// Also after each, on what is added to the residual.
    BeforeAndAfter,
    /// Only after each, on what is added to the residual.
    After,
}

impl Norms {
    /// Whether attention and the MLP read a normed residual.
    pub fn before(self) -> bool {
        self != Self::After
    }

    /// Whether what they add to the residual is normed.
    pub fn after(self) -> bool {
        self != Self::Before
    }
}

/// The gate's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x σ(x).
    Silu,
    /// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh,
}

/// Everything the decoder needs to know of a model besides its weights.
///
/// A model's recorded hash is that of its serialized form (and of its weights), so names and order
/// in that form never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The row of the table that the rest was read from.
    pub family: Family,
    /// Rows of the embedding, V.
    pub vocab: usize,
    /// Width of the residual, C.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, K; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, D; even.
    pub head_dim: usize,
    /// Width of the gated unit, F.
    pub intermediate: usize,
    /// Added to the mean square before the root.
    pub norm_eps: f32,
    /// Position embedding.
    pub rope: Rope,
    /// That of the layers with a window, where it is another.
    pub local_rope: Option<Rope>,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether q and k are normalised before they are rotated, each head on its own.
    pub qk_norm: bool,
    /// Whether that norm is over all heads of q at once, and of k. Recorded only where it is, as
    /// models were before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub qk_norm_whole: bool,
    /// Whether a norm multiplies by 1 + w and not by w.
    #[serde(rename = "gain_plus_one")]
    pub norm_plus_one: bool,
    /// Where a layer normalises.
    pub norms: Norms,
    /// The gate's nonlinearity.
    pub activation: Activation,
    /// Multiplies the embedding's rows on the way in; for Gemma already rounded to the type that
    /// the weights were stored in.
    pub embedding_scale: f32,
    /// Multiplies q·k.
    pub attention_scale: f32,
    /// c tanh(score / c), if any.
    pub attention_softcap: Option<f32>,
    /// c tanh(logit / c), if any.
    pub final_softcap: Option<f32>,
    /// For each layer how many positions back a query sees, itself included; `None` sees all.
    pub windows: Vec<Option<usize>>,
    /// Whether the output projection is the embedding.
    pub tied: bool,
}

/// A configuration that no decoder can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelConfigError {
    /// A size is out of range.
    #[error("`{name}` is {value}, expected {expected}")]
    Size {
        /// The field of [`ModelConfig`].
        name: &'static str,
        /// What it holds.
        value: usize,
        /// What it may hold.
        expected: String,
    },
    /// A number is not finite or not positive.
    #[error("`{name}` must be a positive finite number")]
    Number {
        /// The field of [`ModelConfig`].
        name: &'static str,
    },
}

/// No single size may exceed this; keeps every product of two sizes and a layer count in range.
const LARGEST: usize = 1 << 24;

/// Far beyond any machine this runs on, far below what an address can hold.
const MOST_PARAMETERS: u128 = 1 << 40;

impl Family {
    /// Whether it is one of the two Gemmas.
    pub fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }
}

/// The sizes of a model, as its `config.json` states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of the embedding, V.
    pub vocab: usize,
    /// Width of the residual, C.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, K.
    pub kv_heads: usize,
    /// Width of a head, D.
    pub head_dim: usize,
    /// Width of the gated unit, F.
    pub intermediate: usize,
}

impl ModelConfig {
    /// The family's row of the table above, with what transformers takes for fields that a
    /// `config.json` leaves out; a model that differs is this with other fields.
    pub fn new(family: Family, sizes: Sizes) -> Self {
        let Sizes {
            vocab,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate,
        } = sizes;
        let gemma = family.is_gemma();
        let olmo2 = family == Family::Olmo2;
        let (gemma2, gemma3) = (family == Family::Gemma2, family == Family::Gemma3);
        let plain = |theta| Rope {
            theta,
            scaling: None,
        };
        let windowed = |layer: usize| {
            (gemma2 && layer.is_multiple_of(2)) || (gemma3 && !(layer + 1).is_multiple_of(6))
        };
        Self {
            family,
            vocab,
            hidden,
            layers,
            heads,
            kv_heads,
            head_dim,
            intermediate,
            norm_eps: if olmo2 { 1e-5 } else { 1e-6 },
            rope: plain(if gemma3 { 1e6 } else { 1e4 }),
            local_rope: gemma3.then(|| plain(1e4)),
            qkv_bias: family == Family::Qwen2,
            qk_norm: matches!(family, Family::Qwen3 | Family::Gemma3 | Family::Olmo2),
            qk_norm_whole: olmo2,
            norm_plus_one: gemma,
            norms: match family {
                Family::Gemma2 | Family::Gemma3 => Norms::BeforeAndAfter,
                Family::Olmo2 => Norms::After,
                _ => Norms::Before,
            },
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            embedding_scale: if gemma {
                (hidden as f64).sqrt() as f32
            } else {
                1.0
            },
            attention_scale: (1.0 / (head_dim as f64).sqrt()) as f32,
            attention_softcap: gemma2.then_some(50.0),
            final_softcap: gemma2.then_some(30.0),
            windows: (0..layers)
                .map(|layer| windowed(layer).then_some(4096))
                .collect(),
            tied: gemma,
        }
    }

    /// Checks that the sizes fit each other, so that nothing after needs to.
    ///
    /// # Errors
    /// Names the first setting that cannot be.
    pub fn check(&self) -> Result<(), ModelConfigError> {
        for (name, value) in [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate", self.intermediate),
        ] {
            if value == 0 || value > LARGEST {
                return Err(size(name, value, format!("1 to {LARGEST}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(size(
                "kv_heads",
                self.kv_heads,
                format!("a divisor of heads {}", self.heads),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(size("head_dim", self.head_dim, "an even number".to_owned()));
        }
        if self.n_parameters() > MOST_PARAMETERS {
            return Err(size(
                "layers",
                self.layers,
                format!("at most {MOST_PARAMETERS} parameters in all"),
            ));
        }
        if self.windows.len() != self.layers {
            return Err(size(
                "windows",
                self.windows.len(),
                format!("one a layer, {}", self.layers),
            ));
        }
        if self.windows.contains(&Some(0)) {
            return Err(size("windows", 0, "at least 1".to_owned()));
        }
        for rope in std::iter::once(&self.rope).chain(&self.local_rope) {
            rope.check()?;
        }
        for (name, value) in [
            ("norm_eps", f64::from(self.norm_eps)),
            ("embedding_scale", f64::from(self.embedding_scale)),
            ("attention_scale", f64::from(self.attention_scale)),
            (
                "attention_softcap",
                f64::from(self.attention_softcap.unwrap_or(1.0)),
            ),
            (
                "final_softcap",
                f64::from(self.final_softcap.unwrap_or(1.0)),
            ),
        ] {
            positive(name, value)?;
        }
        Ok(())
    }

    /// Parameters in all, the embedding counted once when tied; exact whatever the sizes.
    pub fn n_parameters(&self) -> u128 {
        let [v, c, l, h, k, d, f] = [
            self.vocab,
            self.hidden,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.intermediate,
        ]
        .map(|n| n as u128);
        let norms = if self.norms == Norms::BeforeAndAfter {
            4
        } else {
            2
        };
        let bias = if self.qkv_bias { (h + 2 * k) * d } else { 0 };
        let qk_norm = match (self.qk_norm, self.qk_norm_whole) {
            (false, _) => 0,
            (true, false) => 2 * d,
            (true, true) => (h + k) * d,
        };
        let layer = (2 * h + 2 * k) * d * c + bias + qk_norm + 3 * c * f + norms * c;
        v * c * if self.tied { 1 } else { 2 } + l * layer + c
    }

    /// Rows of the fused q, k, v product: (H + 2K)·D.
    pub fn qkv_rows(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Rows of q and k: (H + K)·D.
    pub fn qk_rows(&self) -> usize {
        (self.heads + self.kv_heads) * self.head_dim
    }

    /// Into how many parts, each normed on its own, q and k are cut: heads, or one.
    pub fn qk_norm_parts(&self) -> [usize; 2] {
        if self.qk_norm_whole {
            [1, 1]
        } else {
            [self.heads, self.kv_heads]
        }
    }

    /// Rows of the attention's output: H·D.
    pub fn attention_rows(&self) -> usize {
        self.heads * self.head_dim
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), ModelConfigError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(ModelConfigError::Number { name })
    }
}

fn size(name: &'static str, value: usize, expected: String) -> ModelConfigError {
    ModelConfigError::Size {
        name,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> ModelConfig {
        let sizes = Sizes {
            vocab: 11,
            hidden: 6,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            intermediate: 5,
        };
        ModelConfig {
            windows: vec![None, Some(3)],
            ..ModelConfig::new(Family::Llama, sizes)
        }
    }

    #[test]
    fn every_family_is_a_decoder_and_its_recorded_form_is_fixed() {
        for family in [
            Family::Llama,
            Family::Qwen2,
            Family::Qwen3,
            Family::Gemma2,
            Family::Gemma3,
            Family::Olmo2,
        ] {
            let config = ModelConfig::new(
                family,
                Sizes {
                    vocab: 11,
                    hidden: 6,
                    layers: 7,
                    heads: 4,
                    kv_heads: 2,
                    head_dim: 4,
                    intermediate: 5,
                },
            );
            assert_eq!(config.check(), Ok(()), "{family:?}");
        }
        let recorded = serde_json::to_string(&tiny()).unwrap();
        assert_eq!(
            recorded,
            "{\"family\":\"llama\",\"vocab\":11,\"hidden\":6,\"layers\":2,\"heads\":4,\"kv_heads\":2,\
             \"head_dim\":4,\"intermediate\":5,\"norm_eps\":0.000001,\
             \"rope\":{\"theta\":10000.0,\"scaling\":null},\"local_rope\":null,\"qkv_bias\":false,\
             \"qk_norm\":false,\"gain_plus_one\":false,\"norms\":\"before\",\"activation\":\"silu\",\
             \"embedding_scale\":1.0,\"attention_scale\":0.5,\"attention_softcap\":null,\
             \"final_softcap\":null,\"windows\":[null,3],\"tied\":false}"
        );
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        assert_eq!(tiny().check(), Ok(()));
        type Break = (&'static str, fn(&mut ModelConfig));
        let broken: [Break; 9] = [
            ("`vocab` is 0", |f| f.vocab = 0),
            ("`hidden` is", |f| f.hidden = usize::MAX),
            ("divisor of heads", |f| f.kv_heads = 3),
            ("even number", |f| f.head_dim = 5),
            ("one a layer", |f| f.layers = 3),
            ("at least 1", |f| f.windows[0] = Some(0)),
            ("`norm_eps`", |f| f.norm_eps = f32::NAN),
            ("`rope.scaling`", |f| {
                f.rope.scaling = Some(Scaling::Linear(f64::NAN));
            }),
            ("`final_softcap`", |f| f.final_softcap = Some(0.0)),
        ];
        for (text, change) in broken {
            let mut config = tiny();
            change(&mut config);
            let message = config.check().unwrap_err().to_string();
            assert!(message.contains(text), "{message}");
        }
    }
}
