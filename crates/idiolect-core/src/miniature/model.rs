//! Shapes of the miniature's models and the `config.json` that transformers would save for them.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest text that the models have positions for.
pub(super) const MAX_POSITIONS: usize = 256;

/// Standard deviation of fresh matrices. At transformers' 0.02 models this narrow are still learning
/// to copy their inputs when their text ends.
const INITIAL_SD: f64 = 0.08;

/// Which decoder a model of the miniature is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelFamily {
    /// As many key/value heads as heads.
    #[default]
    Llama,
    /// Biases on q, k and v, and half as many key/value heads as heads.
    Qwen2,
    /// Norms before and after, a gelu gate, a scaled embedding, soft caps, and a window on even
    /// layers that is shorter than a text.
    Gemma2,
}

impl ModelFamily {
    /// As recipes name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Gemma2 => "gemma2",
        }
    }
}

/// The size of a model with tied embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Width C of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Attention heads; C / heads must be even.
    pub heads: usize,
    /// Width of the gated layer.
    pub feed_forward: usize,
}

impl ModelShape {
    /// The default student.
    pub const STUDENT: Self = Self {
        hidden: 64,
        layers: 3,
        heads: 4,
        feed_forward: 176,
    };
    /// The default teacher.
    pub const TEACHER: Self = Self {
        hidden: 128,
        layers: 3,
        heads: 4,
        feed_forward: 320,
    };

    /// Parameters of a Llama with a vocabulary of so many tokens; the other families differ by a
    /// few percent.
    pub fn parameters(&self, vocabulary: usize) -> usize {
        let layer =
            4 * self.hidden * self.hidden + 3 * self.hidden * self.feed_forward + 2 * self.hidden;
        vocabulary * self.hidden + self.layers * layer + self.hidden
    }

    /// Whether a decoder can have it.
    pub(super) fn is_possible(&self) -> bool {
        let some = self.hidden > 0 && self.layers > 0 && self.heads > 0 && self.feed_forward > 0;
        some && self.hidden.is_multiple_of(self.heads.saturating_mul(2))
    }
}

/// `config.json` of a model of this family and shape with a vocabulary of so many tokens.
pub fn config_json(family: ModelFamily, shape: &ModelShape, vocabulary: usize) -> Value {
    let head_dim = shape.hidden / shape.heads.max(1);
    let mut config = json!({
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "eos_token_id": 0,
        "head_dim": head_dim,
        "hidden_size": shape.hidden,
        "initializer_range": INITIAL_SD,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": MAX_POSITIONS,
        "model_type": family.as_str(),
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "pad_token_id": null,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": vocabulary,
    });
    let own = match family {
        ModelFamily::Llama => json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "hidden_act": "silu",
            "mlp_bias": false,
            "pretraining_tp": 1,
            "rope_scaling": null,
        }),
        ModelFamily::Qwen2 => json!({
            "architectures": ["Qwen2ForCausalLM"],
            "hidden_act": "silu",
            "num_key_value_heads": (shape.heads / 2).max(1),
            "rope_scaling": null,
            "use_sliding_window": false,
        }),
        ModelFamily::Gemma2 => json!({
            "architectures": ["Gemma2ForCausalLM"],
            "attention_bias": false,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": head_dim,
            "sliding_window": 64,
        }),
    };
    if let (Some(config), Value::Object(own)) = (config.as_object_mut(), own) {
        config.extend(own);
    }
    config
}
