//! What llama.cpp has to know of a decoder, or why it cannot compute it.
//!
//! llama.cpp fixes in code what a `config.json` states, so a model of unusual settings may have no
//! file that it computes rightly. Such a model is refused; a setting that can be put into the weights
//! is; and what differs all the same is noted. Source: `src/models/` of llama.cpp.

use std::borrow::Cow;

use super::{Entry, Value, number};
use crate::config::Config;
use crate::model_config::{Activation, Family, ModelConfig, Scaling};

/// A decoder in llama.cpp's terms.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) entries: Vec<Entry>,
    /// What queries are to be multiplied by, where llama.cpp's scale of q·k is another.
    pub(crate) query_scale: f32,
    /// What each rotary frequency is divided by, where it is not the base's.
    pub(crate) rope_factors: Option<Vec<f32>>,
    /// In what its results will differ from those of this program.
    pub(crate) notes: Vec<String>,
}

/// llama.cpp's name of a family.
fn architecture(family: Family) -> &'static str {
    match family {
        Family::Llama => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
        Family::Gemma2 => "gemma2",
        Family::Gemma3 => "gemma3",
        Family::Olmo2 => "olmo2",
    }
}

/// # Errors
/// What of the model llama.cpp does not compute.
pub(crate) fn metadata(config: &Config) -> Result<Metadata, String> {
    let model = &config.model;
    refuse(model)?;
    let mut notes = Vec::new();
    let arch = architecture(model.family);
    let key = |name: &str| -> Cow<'static, str> { format!("{arch}.{name}").into() };
    let size = |name: &str, value: usize| number(format!("{arch}.{name}"), value);
    let mut entries = vec![
        ("general.architecture".into(), Value::Text(arch.into())),
        ("general.type".into(), Value::Text("model".into())),
        ("general.quantization_version".into(), Value::U32(2)),
        size("vocab_size", model.vocab),
        size("context_length", context_length(config, &mut notes)),
        size("embedding_length", model.hidden),
        size("block_count", model.layers),
        size("feed_forward_length", model.intermediate),
        size("attention.head_count", model.heads),
        size("attention.head_count_kv", model.kv_heads),
        size("attention.key_length", model.head_dim),
        size("attention.value_length", model.head_dim),
        size("rope.dimension_count", model.head_dim),
        (
            key("attention.layer_norm_rms_epsilon"),
            Value::F32(model.norm_eps),
        ),
        (key("rope.freq_base"), Value::F32(model.rope.theta as f32)),
    ];
    if let Some(local) = &model.local_rope {
        let theta = Value::F32(local.theta as f32);
        entries.push((key("rope.freq_base_swa"), theta));
    }
    if let Some(Scaling::Linear(factor)) = model.rope.scaling {
        entries.push((key("rope.scaling.type"), Value::Text("linear".into())));
        entries.push((key("rope.scaling.factor"), Value::F32(factor as f32)));
    }
    for (name, cap) in [
        ("attn_logit_softcapping", model.attention_softcap),
        ("final_logit_softcapping", model.final_softcap),
    ] {
        entries.extend(cap.map(|cap| (key(name), Value::F32(cap))));
    }
    if model.family.is_gemma() {
        // Which layers have the window is stated always: by default it follows from their number.
        let window = model.windows.iter().flatten().next();
        if window.is_some() || model.family == Family::Gemma2 {
            let window = window.copied().unwrap_or(config.max_position_embeddings);
            let slides = model.windows.iter().map(Option::is_some).collect();
            entries.push(size("attention.sliding_window", window));
            entries.push((
                key("attention.sliding_window_pattern"),
                Value::Bools(slides),
            ));
        }
        let root = (model.hidden as f32).sqrt();
        if model.embedding_scale.to_bits() != root.to_bits() {
            notes.push(format!(
                "llama.cpp multiplies embeddings by {root}; this model's type rounds that to {}, so \
                 its log-probabilities differ a little",
                model.embedding_scale
            ));
        }
    }
    let ratio = f64::from(model.attention_scale) * built_in_divisor(model);
    Ok(Metadata {
        entries,
        query_scale: if (ratio - 1.0).abs() > 1e-6 {
            ratio as f32
        } else {
            1.0
        },
        rope_factors: match model.rope.scaling {
            Some(Scaling::Llama3(_)) => Some(rope_factors(model)),
            _ => None,
        },
        notes,
    })
}

/// Refuses what llama.cpp has no entry for and computes otherwise.
fn refuse(model: &ModelConfig) -> Result<(), String> {
    let family = model.family;
    let arch = architecture(family);
    let unable = |what: String| Err(format!("llama.cpp computes no `{arch}` model {what}"));
    let usual = if family.is_gemma() {
        Activation::GeluTanh
    } else {
        Activation::Silu
    };
    if model.activation != usual {
        return unable("with this activation".to_owned());
    }
    let width = model.attention_rows();
    if matches!(family, Family::Qwen2 | Family::Olmo2) && width != model.hidden {
        return unable(format!(
            "whose heads have {width} values together and whose hidden size is {}",
            model.hidden
        ));
    }
    if matches!(model.rope.scaling, Some(Scaling::Llama3(_))) && family != Family::Llama {
        return unable("with rotary scaling `llama3`".to_owned());
    }
    if model.local_rope.is_some_and(|rope| rope.scaling.is_some()) {
        return unable("whose layers with a window have rotary scaling".to_owned());
    }
    if family == Family::Gemma2 && model.rope.scaling.is_some() {
        return unable("with rotary scaling".to_owned());
    }
    let mut windows = model.windows.iter().flatten();
    let first = windows.next();
    if family.is_gemma() && windows.any(|window| Some(window) != first) {
        return unable("with windows of several sizes".to_owned());
    }
    let (attention, last) = (model.attention_softcap, model.final_softcap);
    match family {
        Family::Gemma2 if attention.is_none() || last.is_none() => {
            unable("without both soft caps".to_owned())
        }
        Family::Gemma2 if !model.tied => unable("with a head of its own".to_owned()),
        Family::Gemma2 | Family::Gemma3 => Ok(()),
        _ if attention.is_some() || last.is_some() => unable("with a soft cap".to_owned()),
        _ => Ok(()),
    }
}

/// The longest text that is computed as the config states: where llama.cpp has no windows, one that
/// lies within the smallest.
fn context_length(config: &Config, notes: &mut Vec<String>) -> usize {
    let whole = config.max_position_embeddings;
    let window = config.model.windows.iter().flatten().min();
    match window {
        Some(&window) if !config.model.family.is_gemma() && window < whole => {
            notes.push(format!(
                "llama.cpp does not compute this model's window of {window} tokens, so \
                 context_length is {window} and not {whole}"
            ));
            window
        }
        _ => whole,
    }
}

/// What llama.cpp divides q·k by.
fn built_in_divisor(model: &ModelConfig) -> f64 {
    let width = match (model.family, model.layers) {
        // It knows the largest Gemmas by their number of layers.
        (Family::Gemma2, 46) | (Family::Gemma3, 62) => model.hidden / model.heads,
        _ => model.head_dim,
    };
    (width as f64).sqrt()
}

fn rope_factors(model: &ModelConfig) -> Vec<f32> {
    let plain = crate::model_config::Rope {
        scaling: None,
        ..model.rope
    };
    let scaled = model.rope.frequencies(model.head_dim);
    let plain = plain.frequencies(model.head_dim);
    let factors = plain.iter().zip(&scaled).map(|(p, s)| (p / s) as f32);
    factors.collect()
}
