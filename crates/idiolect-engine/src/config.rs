//! `config.json` to [`ModelConfig`].
//!
//! Strict: every field is used, listed in `fields` as irrelevant to what is computed, set aside by
//! the caller by its name, or an error that names field and value, because a field that is read
//! past is a model that is silently wrong. Reads the spelling of transformers 4 (`rope_theta`,
//! `rope_scaling`, `torch_dtype`) and of transformers 5 (`rope_parameters`, `dtype`). Configs are
//! never written: a trained model keeps the file that it came with.

use serde_json::Value;

use crate::model_config::{Activation, Family, ModelConfig, Sizes};
use crate::weights::Dtype;
use fields::Fields;
use rope::read_ropes;

mod fields;
mod rope;

/// A config that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a JSON object.
    #[error("the config is not a JSON object")]
    NotAnObject,
    /// A family without a row in the table of `model_config`.
    #[error(
        "`model_type` {0} is not supported; supported are llama, mistral, qwen2, qwen3, gemma2, \
         gemma3_text, olmo2 (and the models that name one of these, such as SmolLM2 and Qwen2.5)"
    )]
    Family(String),
    /// A model of text and images.
    #[error(
        "`model_type` is gemma3, a model of text and images; load it with \
         `Gemma3ForCausalLM.from_pretrained` of transformers and save it, which leaves its text \
         model (`gemma3_text`), and give that directory"
    )]
    Images,
    /// A field that must be there.
    #[error("`{0}` is missing")]
    Missing(String),
    /// A field whose value cannot be used.
    #[error("`{field}` is {value}; {expected}")]
    Value {
        /// Its name, with dots for nesting.
        field: String,
        /// As the file has it.
        value: String,
        /// What would do.
        expected: String,
    },
    /// A field that this program does not know, and that might change what is computed.
    #[error(
        "`{field}` is {value}, and this program does not know that field of a `{family}` config; if \
         it does not change what the model computes, `--ignore-config-field {field}` sets it aside"
    )]
    Unknown {
        /// Its name.
        field: String,
        /// As the file has it.
        value: String,
        /// The `model_type`.
        family: String,
    },
    /// An unknown field inside one that is used.
    #[error(
        "`{field}` is {value}, which this program does not know there, and which may change what the \
         model computes"
    )]
    UnknownWithin {
        /// Its name, with dots for nesting.
        field: String,
        /// As the file has it.
        value: String,
    },
    /// The caller sets aside a field that changes what is computed.
    #[error(
        "`{field}` is {value} and changes what the model computes: --ignore-config-field does not \
         apply to it"
    )]
    NotIgnorable {
        /// Its name.
        field: String,
        /// As the file has it.
        value: String,
    },
    /// Sizes that do not fit each other.
    #[error(transparent)]
    Model(#[from] crate::model_config::ModelConfigError),
}

/// The content of a `config.json`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// What the decoder needs.
    pub model: ModelConfig,
    /// Longest row in tokens (`max_position_embeddings`).
    pub max_position_embeddings: usize,
    /// The type that weights are written in (`dtype` or `torch_dtype`; f32 without).
    pub dtype: Dtype,
    /// Standard deviation of fresh matrices (`initializer_range`; 0.02 without).
    pub initial_sd: f64,
}

impl Config {
    /// Reads a parsed `config.json`.
    ///
    /// # Errors
    /// Names the first field that is missing, unknown or of a value that cannot be used.
    pub fn read(config: &Value) -> Result<Self, ConfigError> {
        Self::read_ignoring(config, &[])
    }

    /// [`read`](Self::read), with the fields named in `ignored` set aside where they are not known.
    ///
    /// # Errors
    /// As [`read`](Self::read), and for a name in `ignored` that changes what is computed.
    pub fn read_ignoring(config: &Value, ignored: &[String]) -> Result<Self, ConfigError> {
        let map = config.as_object().ok_or(ConfigError::NotAnObject)?;
        let fields = Fields::new(map, ignored);
        let family = match fields.text("model_type")?.as_deref() {
            Some("llama" | "mistral") => Family::Llama,
            Some("qwen2") => Family::Qwen2,
            Some("qwen3") => Family::Qwen3,
            Some("gemma2") => Family::Gemma2,
            Some("gemma3_text") => Family::Gemma3,
            Some("olmo2") => Family::Olmo2,
            Some("gemma3") => return Err(ConfigError::Images),
            Some(other) => return Err(ConfigError::Family(other.to_owned())),
            None => return Err(ConfigError::Missing("model_type".to_owned())),
        };
        let dtype = read_dtype(&fields)?;
        let model = read_model_config(&fields, family, dtype)?;
        let max_position_embeddings =
            fields
                .size("max_position_embeddings")?
                .unwrap_or(match family {
                    Family::Llama if !fields.is("model_type", "mistral") => 2048,
                    Family::Olmo2 => 2048,
                    Family::Qwen2 | Family::Qwen3 => 32768,
                    Family::Gemma2 => 8192,
                    Family::Llama | Family::Gemma3 => 131_072,
                });
        if max_position_embeddings < 2 {
            return Err(fields.fault("max_position_embeddings", "expected at least 2"));
        }
        let initial_sd = fields.number("initializer_range")?.unwrap_or(0.02);
        if !(initial_sd.is_finite() && initial_sd >= 0.0) {
            return Err(fields.fault("initializer_range", "expected a standard deviation"));
        }
        if fields
            .number("attention_dropout")?
            .is_some_and(|fraction| fraction > 0.0)
        {
            return Err(fields.fault("attention_dropout", "only 0 is supported"));
        }
        fields.refuse_rest()?;
        model.check()?;
        Ok(Self {
            model,
            max_position_embeddings,
            dtype,
            initial_sd,
        })
    }
}

fn read_model_config(
    fields: &Fields<'_>,
    family: Family,
    dtype: Dtype,
) -> Result<ModelConfig, ConfigError> {
    let hidden = fields.required("hidden_size")?;
    let layers = fields.required("num_hidden_layers")?;
    if layers > MOST_LAYERS {
        return Err(fields.fault(
            "num_hidden_layers",
            &format!("at most {MOST_LAYERS} are read"),
        ));
    }
    let heads = fields.required("num_attention_heads")?;
    let gemma = family.is_gemma();
    let head_dim = match fields.size("head_dim")? {
        Some(width) => width,
        None if gemma => return Err(ConfigError::Missing("head_dim".to_owned())),
        // What transformers takes an absent field for.
        None if family == Family::Qwen3 => 128,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let reason = format!("expected a multiple of `num_attention_heads` {heads}");
            return Err(fields.fault("hidden_size", &reason));
        }
    };
    let scale_base = match fields.number("query_pre_attn_scalar")? {
        Some(scalar) if gemma => scalar,
        None if gemma => return Err(ConfigError::Missing("query_pre_attn_scalar".to_owned())),
        Some(_) => return Err(fields.unknown("query_pre_attn_scalar")),
        None => head_dim as f64,
    };
    let kv_heads = match fields.size("num_key_value_heads")? {
        Some(n) => n,
        None if fields.is("model_type", "llama") || family == Family::Olmo2 => heads,
        None => return Err(ConfigError::Missing("num_key_value_heads".to_owned())),
    };
    read_biases(fields, family)?;
    let (rope, local_rope) = read_ropes(fields, family)?;
    let sizes = Sizes {
        vocab: fields.required("vocab_size")?,
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate: fields.required("intermediate_size")?,
    };
    let default = ModelConfig::new(family, sizes);
    Ok(ModelConfig {
        norm_eps: fields
            .number("rms_norm_eps")?
            .map_or(default.norm_eps, |eps| eps as f32),
        rope,
        local_rope,
        activation: read_activation(fields, family)?,
        embedding_scale: if gemma {
            rounded_root(hidden, dtype)
        } else {
            1.0
        },
        attention_scale: (1.0 / scale_base.sqrt()) as f32,
        // Gemma 3 files carry the field, and transformers does not compute it for them.
        attention_softcap: fields.softcap("attn_logit_softcapping", default.attention_softcap)?,
        final_softcap: match family {
            Family::Gemma3 => fields
                .number("final_logit_softcapping")?
                .map(|cap| cap as f32),
            _ => fields.softcap("final_logit_softcapping", default.final_softcap)?,
        },
        windows: read_windows(fields, family, layers)?,
        // Absent, transformers' own defaults hold: tied for Gemma, not for the others.
        tied: fields.flag("tie_word_embeddings")?.unwrap_or(gemma),
        ..default
    })
}

/// More layers than any model has; a bound for what is laid out before weights are seen.
const MOST_LAYERS: usize = 4096;

/// Gemma multiplies embeddings by √hidden held in the weights' type.
fn rounded_root(hidden: usize, dtype: Dtype) -> f32 {
    dtype.round((hidden as f64).sqrt() as f32)
}

fn read_dtype(fields: &Fields<'_>) -> Result<Dtype, ConfigError> {
    let mut found = Dtype::F32;
    for name in ["torch_dtype", "dtype"] {
        found = match fields.text(name)?.as_deref() {
            None => found,
            Some("float32") => Dtype::F32,
            Some("bfloat16") => Dtype::Bf16,
            Some("float16") => Dtype::F16,
            Some(_) => {
                return Err(fields.fault(name, "supported are float32, bfloat16, float16"));
            }
        };
    }
    Ok(found)
}

fn read_activation(fields: &Fields<'_>, family: Family) -> Result<Activation, ConfigError> {
    // Gemma files carry both; transformers computes `hidden_activation`.
    let newer = fields.text("hidden_activation")?;
    let older = fields.text("hidden_act")?;
    let name = if newer.is_some() {
        "hidden_activation"
    } else {
        "hidden_act"
    };
    match (family.is_gemma(), newer.or(older).as_deref()) {
        (true, Some("gelu_pytorch_tanh") | None) => Ok(Activation::GeluTanh),
        // The published files have `gelu` here and mean the tanh form, as transformers does.
        (true, Some("gelu")) if name == "hidden_act" => Ok(Activation::GeluTanh),
        (false, Some("silu") | None) => Ok(Activation::Silu),
        (false, Some("gelu_pytorch_tanh")) => Ok(Activation::GeluTanh),
        _ => Err(fields.fault(name, "supported are silu and gelu_pytorch_tanh")),
    }
}

fn read_biases(fields: &Fields<'_>, family: Family) -> Result<(), ConfigError> {
    for name in ["attention_bias", "mlp_bias"] {
        // Qwen 2 has its q, k and v biases without a field for it.
        let fits = match fields.flag(name)? {
            None | Some(false) => true,
            Some(true) => family == Family::Qwen2 && name == "attention_bias",
        };
        if !fits {
            return Err(fields.fault(name, "only models without these biases are supported"));
        }
    }
    Ok(())
}

/// The window of each layer. `layer_types` decides which layers have it; older files leave it to the
/// family: Mistral all layers, Gemma 2 the even ones, Gemma 3 all but every sixth, Qwen those from
/// `max_window_layers` on, and only with `use_sliding_window`.
fn read_windows(
    fields: &Fields<'_>,
    family: Family,
    layers: usize,
) -> Result<Vec<Option<usize>>, ConfigError> {
    let mistral = fields.is("model_type", "mistral");
    let size = match fields.size("sliding_window")? {
        // What transformers takes an absent field for; `null` means no window.
        None if (mistral || !matches!(family, Family::Llama | Family::Olmo2))
            && !fields.map.contains_key("sliding_window") =>
        {
            Some(4096)
        }
        size => size,
    };
    let enabled = fields.flag("use_sliding_window")?;
    let first = fields.size("max_window_layers")?;
    let pattern = if family == Family::Gemma3 {
        read_pattern(fields)?
    } else {
        1
    };
    let types = fields.get("layer_types");
    let window = match family {
        Family::Qwen2 | Family::Qwen3 => size.filter(|_| enabled == Some(true)),
        Family::Llama | Family::Olmo2 if !mistral && size.is_some() => {
            return Err(fields.fault("sliding_window", "a llama or olmo2 has none"));
        }
        Family::Llama | Family::Olmo2 | Family::Gemma2 | Family::Gemma3 => size,
    };
    let slides: Vec<bool> = match types {
        Some(types) => layer_types(fields, types, layers)?,
        None => (0..layers)
            .map(|layer| match family {
                Family::Llama | Family::Olmo2 => mistral,
                Family::Qwen2 | Family::Qwen3 => layer >= first.unwrap_or(28),
                Family::Gemma2 => layer.is_multiple_of(2),
                Family::Gemma3 => !(layer + 1).is_multiple_of(pattern),
            })
            .collect(),
    };
    if types.is_some() && window.is_none() && slides.contains(&true) {
        let reason = "`layer_types` names sliding layers, which need a size (and for qwen2 \
                      `use_sliding_window`)";
        return Err(fields.fault("sliding_window", reason));
    }
    if mistral && window.is_some() && slides.contains(&false) {
        let reason = "transformers gives every layer of a mistral the window and reads past \
                      this; remove the field or the window";
        return Err(fields.fault("layer_types", reason));
    }
    Ok(slides
        .into_iter()
        .map(|slides| window.filter(|_| slides))
        .collect())
}

/// Gemma 3's number of layers from one without a window to the next. Transformers 5 writes it as
/// `_sliding_window_pattern` beside the `layer_types` that it made of it, and does not read that.
fn read_pattern(fields: &Fields<'_>) -> Result<usize, ConfigError> {
    match fields.size("sliding_window_pattern")? {
        Some(0) => Err(fields.fault("sliding_window_pattern", "expected at least 1")),
        pattern => Ok(pattern.unwrap_or(6)),
    }
}

fn layer_types(
    fields: &Fields<'_>,
    types: &Value,
    layers: usize,
) -> Result<Vec<bool>, ConfigError> {
    let reason = format!("expected {layers} times `full_attention` or `sliding_attention`");
    types
        .as_array()
        .filter(|types| types.len() == layers)
        .and_then(|types| {
            types
                .iter()
                .map(|kind| match kind.as_str() {
                    Some("full_attention") => Some(false),
                    Some("sliding_attention") => Some(true),
                    _ => None,
                })
                .collect()
        })
        .ok_or_else(|| fields.fault("layer_types", &reason))
}

#[cfg(test)]
mod tests;
