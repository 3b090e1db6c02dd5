//! Reading an object field by field, so that no field is read past.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::ConfigError;

/// Fields that do not change what is computed here, whatever their value, by the reason. The first
/// three groups are the attributes of transformers' base configuration (4.x and 5.x) and of its
/// generation configuration, which older versions put into the same file. Names that begin with `_`
/// are transformers' private attributes and belong here too: it never reads one back.
const IRRELEVANT: [(&str, &[&str]); 6] = [
    (
        "how transformers loads, computes or replies",
        &[
            "attn_implementation",
            "cache_config",
            "cache_implementation",
            "chunk_size_feed_forward",
            "compile_config",
            "continuous_batching_config",
            "disable_compile",
            "experts_implementation",
            "gradient_checkpointing",
            "keys_to_ignore_at_inference",
            "low_memory",
            "output_attentions",
            "output_hidden_states",
            "output_logits",
            "output_scores",
            "prefill_chunk_size",
            "pretraining_tp",
            "return_dict",
            "return_dict_in_generate",
            "tie_last_hidden_states",
            "torchscript",
            "use_bfloat16",
            "use_cache",
            "use_return_dict",
        ],
    ),
    (
        "what wrote the file, what it was made of, and classes named for other programs",
        &[
            "architectures",
            "auto_map",
            "custom_pipelines",
            "finetuning_task",
            "id2label",
            "is_decoder",
            "label2id",
            "name_or_path",
            "num_labels",
            "prefix",
            "problem_type",
            "processor_class",
            "task_specific_params",
            "tf_legacy_loss",
            "tokenizer_class",
            "transformers_version",
        ],
    ),
    (
        "how transformers generates; here the flags of a command decide",
        &[
            "assistant_confidence_threshold",
            "assistant_early_exit",
            "assistant_ensemble_weight",
            "assistant_lookbehind",
            "bad_words_ids",
            "begin_suppress_tokens",
            "constraints",
            "decoder_start_token_id",
            "diversity_penalty",
            "do_sample",
            "dola_layers",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "encoder_repetition_penalty",
            "epsilon_cutoff",
            "eta_cutoff",
            "exponential_decay_length_penalty",
            "force_words_ids",
            "forced_bos_token_id",
            "forced_decoder_ids",
            "forced_eos_token_id",
            "guidance_scale",
            "is_assistant",
            "length_penalty",
            "max_cache_len",
            "max_length",
            "max_matching_ngram_size",
            "max_new_tokens",
            "max_time",
            "min_length",
            "min_new_tokens",
            "min_p",
            "no_repeat_ngram_size",
            "num_assistant_tokens",
            "num_assistant_tokens_schedule",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "penalty_alpha",
            "prompt_lookup_num_tokens",
            "remove_invalid_values",
            "renormalize_logits",
            "repetition_penalty",
            "sequence_bias",
            "speculation_type",
            "stop_strings",
            "suppress_tokens",
            "target_lookbehind",
            "temperature",
            "token_healing",
            "top_h",
            "top_k",
            "top_p",
            "typical_p",
            "use_mtp",
            "watermarking_config",
        ],
    ),
    (
        "read with the tokenizer, or not used because nothing is padded or classified",
        &[
            "bos_token_id",
            "cls_token_id",
            "eos_token_id",
            "mask_token_id",
            "pad_token_id",
            "sep_token_id",
            "unk_token_id",
        ],
    ),
    (
        "another program's",
        &[
            "transformers.js_config",
            "trl_version",
            "unsloth_fixed",
            "unsloth_version",
        ],
    ),
    (
        "a note of the converter or of the data; no code of the family reads it",
        &["is_llama_config", "max_sequence_length", "model_max_length"],
    ),
];

/// Fields that change what is computed, and that no flag may set aside, with what is the matter.
const CHANGES: [(&str, &str); 33] = [
    ("add_cross_attention", "cross-attention is not supported"),
    ("alibi", "position biases are not supported"),
    ("attention_chunk_size", "chunked attention is not supported"),
    ("attention_multiplier", "this scale is not supported"),
    ("attn_logit_softcapping", "only gemma2 computes it"),
    ("attn_temperature_tuning", "this scale is not supported"),
    (
        "clip_qkv",
        "clipped queries, keys and values are not supported",
    ),
    ("compression_config", QUANTIZED),
    (
        "cross_attention_hidden_size",
        "cross-attention is not supported",
    ),
    ("embedding_multiplier", "this scale is not supported"),
    (
        "final_logit_softcapping",
        "only gemma2 and gemma3_text compute it",
    ),
    ("first_k_dense_replace", EXPERTS),
    ("is_encoder_decoder", "only decoders are supported"),
    ("kv_lora_rank", "latent attention is not supported"),
    ("logit_scale", "this scale is not supported"),
    ("logits_scaling", "this scale is not supported"),
    ("moe_intermediate_size", EXPERTS),
    ("n_routed_experts", EXPERTS),
    (
        "no_rope_layers",
        "layers without rotation are not supported",
    ),
    ("num_experts", EXPERTS),
    ("num_experts_per_tok", EXPERTS),
    ("num_local_experts", EXPERTS),
    (
        "per_layer_config",
        "layers that differ in size are not supported",
    ),
    ("pruned_heads", "pruned heads are not supported"),
    ("quantization_config", QUANTIZED),
    (
        "query_pre_attn_scalar",
        "only gemma2 and gemma3_text compute it",
    ),
    ("residual_multiplier", "this scale is not supported"),
    (
        "rope_interleaved",
        "only the rotation of halves is supported",
    ),
    ("text_config", "only models of text are supported"),
    ("tie_encoder_decoder", "only decoders are supported"),
    (
        "use_bidirectional_attention",
        "only causal attention is supported",
    ),
    ("use_mrope", "only rotation by one position is supported"),
    ("vision_config", "only models of text are supported"),
];

const EXPERTS: &str = "mixtures of experts are not supported";
const QUANTIZED: &str = "quantized weights are not read; load the model with transformers, call \
     `dequantize()`, delete the field and save it";

/// The fields of an object, and which of them were asked for.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    /// Where the object lies in the config; empty for the config itself.
    within: &'a str,
    /// The config's `model_type`, for messages.
    family: &'a str,
    /// Names that the caller sets aside where they are not known here.
    ignored: &'a [String],
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>, ignored: &'a [String]) -> Self {
        let family = map.get("model_type").and_then(Value::as_str);
        Self {
            map,
            within: "",
            family: family.unwrap_or("?"),
            ignored,
            asked: RefCell::default(),
        }
    }

    /// The fields of an object inside this one, `within` its full name.
    pub(super) fn nested(&self, map: &'a Map<String, Value>, within: &'a str) -> Self {
        Self {
            map,
            within,
            family: self.family,
            ignored: &[],
            asked: RefCell::default(),
        }
    }

    /// A field's value; absent and `null` are the same.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(name);
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        name: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        self.get(name)
            .map(|value| read(value).ok_or_else(|| self.fault(name, expected)))
            .transpose()
    }

    pub(super) fn size(&self, name: &'static str) -> Result<Option<usize>, ConfigError> {
        let read = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.typed(name, read, "expected a whole number")
    }

    pub(super) fn required(&self, name: &'static str) -> Result<usize, ConfigError> {
        self.size(name)?
            .ok_or_else(|| ConfigError::Missing(self.path(name)))
    }

    pub(super) fn number(&self, name: &'static str) -> Result<Option<f64>, ConfigError> {
        self.typed(name, Value::as_f64, "expected a number")
    }

    pub(super) fn needed(&self, name: &'static str) -> Result<f64, ConfigError> {
        self.number(name)?
            .ok_or_else(|| ConfigError::Missing(self.path(name)))
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        self.typed(name, Value::as_bool, "expected true or false")
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        self.typed(
            name,
            |value| value.as_str().map(str::to_owned),
            "expected a text",
        )
    }

    pub(super) fn object(
        &self,
        name: &'static str,
    ) -> Result<Option<&'a Map<String, Value>>, ConfigError> {
        self.typed(name, Value::as_object, "expected an object")
    }

    /// A softcap, which only Gemma computes: its value where the field is absent (`null`
    /// switches it off).
    pub(super) fn softcap(
        &self,
        name: &'static str,
        gemma: Option<f32>,
    ) -> Result<Option<f32>, ConfigError> {
        match (self.number(name)?, gemma) {
            (Some(_), None) => Err(self.unknown(name)),
            (None, Some(cap)) if !self.map.contains_key(name) => Ok(Some(cap)),
            (cap, _) => Ok(cap.map(|cap| cap as f32)),
        }
    }

    pub(super) fn is(&self, name: &str, text: &str) -> bool {
        self.map.get(name).is_some_and(|value| value == text)
    }

    fn path(&self, name: &str) -> String {
        if self.within.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.within)
        }
    }

    fn printed(&self, name: &str) -> String {
        self.map
            .get(name)
            .map_or_else(|| "absent".to_owned(), Value::to_string)
    }

    pub(super) fn fault(&self, name: &str, expected: &str) -> ConfigError {
        ConfigError::Value {
            field: self.path(name),
            value: self.printed(name),
            expected: expected.to_owned(),
        }
    }

    /// The refusal of a field that is not known, or not computed for this family.
    pub(super) fn unknown(&self, name: &str) -> ConfigError {
        let (field, value) = (self.path(name), self.printed(name));
        match changes(name) {
            Some(reason) => ConfigError::Value {
                field,
                value,
                expected: reason.to_owned(),
            },
            None if self.within.is_empty() => ConfigError::Unknown {
                field,
                value,
                family: self.family.to_owned(),
            },
            None => ConfigError::UnknownWithin { field, value },
        }
    }

    /// Refuses fields that were neither asked for nor are irrelevant nor set aside by the caller,
    /// and names to set aside that are used here. `null`, `false` and what is empty switch nothing
    /// on.
    pub(super) fn refuse_rest(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let used = |name: &str| asked.contains(name) || changes(name).is_some();
        for name in self.ignored {
            if used(name) && self.map.get(name).is_some_and(|value| !is_idle(value)) {
                return Err(ConfigError::NotIgnorable {
                    field: name.clone(),
                    value: self.printed(name),
                });
            }
        }
        let known = |name: &str| {
            asked.contains(name)
                || (self.within.is_empty() && is_irrelevant(name))
                || self.ignored.iter().any(|ignored| ignored == name)
        };
        let rest = self
            .map
            .iter()
            .find(|(name, value)| !known(name) && !is_idle(value));
        rest.map_or(Ok(()), |(name, _)| Err(self.unknown(name)))
    }
}

fn is_irrelevant(name: &str) -> bool {
    name.starts_with('_') || IRRELEVANT.iter().any(|(_, names)| names.contains(&name))
}

/// What is the matter with a field that changes what is computed.
fn changes(name: &str) -> Option<&'static str> {
    let mut fields = CHANGES.iter();
    fields
        .find(|(field, _)| *field == name)
        .map(|(_, reason)| *reason)
}

fn is_idle(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
