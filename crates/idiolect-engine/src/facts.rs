//! What distinguishes one decoder from another, as data.
//!
//! One decoder computes every family; a family is a row of facts. Reading them from a
//! `config.json` is another module's business, and nothing here allocates or computes.
//!
//! | fact | Llama, Mistral | Qwen 2/2.5 | Qwen 3 | Gemma 2 | Gemma 3 text |
//! |---|---|---|---|---|---|
//! | bias on q, k, v | no | yes | no | no | no |
//! | norm of each q and k head | no | no | yes | no | yes |
//! | norm gain | w | w | w | 1 + w | 1 + w |
//! | norms of a layer | before attention, before MLP | same | same | before **and after** each | same |
//! | activation | silu | silu | silu | gelu, tanh form | same |
//! | embedding scale | 1 | 1 | 1 | √hidden, rounded to the weights' type | same |
//! | attention scale | 1/√head_width | same | same | 1/√query_pre_attn_scalar | same |
//! | softcap, attention / final | none | none | none | 50 / 30 | none / none |
//! | window | Llama none, Mistral per config | none unless enabled | same | 4096 on even layers | five layers of six |
//! | rotary | θ, scaling per config | θ | θ | θ | θ and scaling; windowed layers θ of their own |
//! | head width | config, else hidden/heads | same | config, else 128 | config, else 256 | same |
//! | tied head | per config | per config | per config | yes | yes |
//!
//! With a window w a query sees keys with i − j < w. Source: the model classes of Hugging Face transformers, held to
//! by the parity fixtures. Llama 2, 3.x and SmolLM2 are one row.

use serde::{Deserialize, Serialize};

/// Which row of the table; for messages and for writing a `config.json` back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
}

/// Where a layer normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Before attention and before the MLP.
    Before,
    /// Also after each, on what is added to the residual stream.
    BeforeAndAfter,
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

/// Llama 3's stretching of the rotary wavelengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Llama3Scaling {
    /// Long wavelengths are stretched by this.
    pub factor: f64,
    /// Wavelengths above `original_positions / low_frequency_factor` are stretched whole.
    pub low_frequency_factor: f64,
    /// Wavelengths below `original_positions / high_frequency_factor` are left alone.
    pub high_frequency_factor: f64,
    /// Positions the model was first trained on.
    pub original_positions: f64,
}

/// How the rotary wavelengths differ from those of the base.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scaling {
    /// All are stretched by this.
    Linear(f64),
    /// Long ones are stretched, short ones not.
    Llama3(Llama3Scaling),
}

/// Rotary position embedding, in the half-rotation form: dimension i turns with i + D/2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the wavelengths.
    pub theta: f64,
    /// Stretching, if any.
    pub scaling: Option<Scaling>,
}

impl Rope {
    /// Radians per position of each pair of dimensions, (D/2), as transformers computes them.
    pub fn frequencies(&self, head_width: usize) -> Vec<f64> {
        (0..head_width / 2)
            .map(|i| self.stretch(self.theta.powf(-2.0 * i as f64 / head_width as f64)))
            .collect()
    }

    fn check(&self) -> Result<(), FactsError> {
        positive("rope.theta", self.theta)?;
        let numbers: &[f64] = match &self.scaling {
            None => &[],
            Some(Scaling::Linear(factor)) => &[*factor],
            Some(Scaling::Llama3(s)) => &[
                s.factor,
                s.low_frequency_factor,
                s.high_frequency_factor,
                s.original_positions,
            ],
        };
        numbers
            .iter()
            .try_for_each(|&n| positive("rope.scaling", n))
    }

    fn stretch(&self, frequency: f64) -> f64 {
        let s = match self.scaling {
            None => return frequency,
            Some(Scaling::Linear(factor)) => return frequency / factor,
            Some(Scaling::Llama3(s)) => s,
        };
        let wavelength = std::f64::consts::TAU / frequency;
        if wavelength < s.original_positions / s.high_frequency_factor {
            return frequency;
        }
        if wavelength > s.original_positions / s.low_frequency_factor {
            return frequency / s.factor;
        }
        let smooth = (s.original_positions / wavelength - s.low_frequency_factor)
            / (s.high_frequency_factor - s.low_frequency_factor);
        (1.0 - smooth) * frequency / s.factor + smooth * frequency
    }
}

/// Everything the decoder needs to know of a model besides its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The row of the table that the rest was read from.
    pub family: Family,
    /// Rows of the embedding, V.
    pub vocab: usize,
    /// Width of the residual stream, C.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Query heads, H.
    pub heads: usize,
    /// Key and value heads, K; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head, D; even.
    pub head_width: usize,
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
    /// Whether each head of q and of k is normalised before it is rotated.
    pub qk_norm: bool,
    /// Whether the norm's gain is 1 + w and not w.
    pub gain_plus_one: bool,
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

/// Facts that no decoder can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// A size is out of range.
    #[error("`{name}` is {value}, expected {expected}")]
    Size {
        /// The field of [`Facts`].
        name: &'static str,
        /// What it holds.
        value: usize,
        /// What it may hold.
        expected: String,
    },
    /// A number is not finite or not positive.
    #[error("`{name}` must be a positive finite number")]
    Number {
        /// The field of [`Facts`].
        name: &'static str,
    },
}

/// No single size may exceed this; keeps every product of two sizes and a layer count in range.
const LARGEST: usize = 1 << 24;

/// Far beyond any machine this runs on, far below what an address can hold.
const MOST_PARAMETERS: u128 = 1 << 40;

impl Facts {
    /// Checks that the sizes fit each other, so that nothing after needs to.
    ///
    /// # Errors
    /// Names the first fact that cannot be.
    pub fn check(&self) -> Result<(), FactsError> {
        for (name, value) in [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_width", self.head_width),
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
        if !self.head_width.is_multiple_of(2) {
            return Err(size(
                "head_width",
                self.head_width,
                "an even number".to_owned(),
            ));
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
            self.head_width,
            self.intermediate,
        ]
        .map(|n| n as u128);
        let norms = if self.norms == Norms::Before { 2 } else { 4 };
        let bias = if self.qkv_bias { (h + 2 * k) * d } else { 0 };
        let qk_norm = if self.qk_norm { 2 * d } else { 0 };
        let layer = (2 * h + 2 * k) * d * c + bias + qk_norm + 3 * c * f + norms * c;
        v * c * if self.tied { 1 } else { 2 } + l * layer + c
    }

    /// Rows of the fused q, k, v product: (H + 2K)·D.
    pub fn qkv_rows(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    /// Rows of q and k: (H + K)·D.
    pub fn qk_rows(&self) -> usize {
        (self.heads + self.kv_heads) * self.head_width
    }

    /// Rows of the attention's output: H·D.
    pub fn attention_rows(&self) -> usize {
        self.heads * self.head_width
    }
}

fn positive(name: &'static str, value: f64) -> Result<(), FactsError> {
    if value.is_finite() && value > 0.0 {
        Ok(())
    } else {
        Err(FactsError::Number { name })
    }
}

fn size(name: &'static str, value: usize, expected: String) -> FactsError {
    FactsError::Size {
        name,
        value,
        expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Facts {
        Facts {
            family: Family::Llama,
            vocab: 11,
            hidden: 6,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head_width: 4,
            intermediate: 5,
            norm_eps: 1e-5,
            rope: Rope {
                theta: 100.0,
                scaling: None,
            },
            local_rope: None,
            qkv_bias: false,
            qk_norm: false,
            gain_plus_one: false,
            norms: Norms::Before,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            attention_scale: 0.5,
            attention_softcap: None,
            final_softcap: None,
            windows: vec![None, Some(3)],
            tied: true,
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        assert_eq!(tiny().check(), Ok(()));
        type Break = (&'static str, fn(&mut Facts));
        let broken: [Break; 9] = [
            ("`vocab` is 0", |f| f.vocab = 0),
            ("`hidden` is", |f| f.hidden = usize::MAX),
            ("divisor of heads", |f| f.kv_heads = 3),
            ("even number", |f| f.head_width = 5),
            ("one a layer", |f| f.layers = 3),
            ("at least 1", |f| f.windows[0] = Some(0)),
            ("`norm_eps`", |f| f.norm_eps = f32::NAN),
            ("`rope.scaling`", |f| {
                f.rope.scaling = Some(Scaling::Linear(f64::NAN));
            }),
            ("`final_softcap`", |f| f.final_softcap = Some(0.0)),
        ];
        for (words, change) in broken {
            let mut facts = tiny();
            change(&mut facts);
            let message = facts.check().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn llama3_scaling_has_three_branches() {
        let scaling = Llama3Scaling {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_positions: 64.0,
        };
        let plain = Rope {
            theta: 10_000.0,
            scaling: None,
        }
        .frequencies(16);
        let scaled = Rope {
            theta: 10_000.0,
            scaling: Some(Scaling::Llama3(scaling)),
        }
        .frequencies(16);
        let ratios: Vec<f64> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        assert!(
            (ratios[0] - 1.0).abs() < 1e-12 && (ratios[7] - 8.0).abs() < 1e-12,
            "{ratios:?}"
        );
        assert!(ratios.iter().any(|r| *r > 1.01 && *r < 7.99), "{ratios:?}");
    }
}
