//! Reading an object field by field, so that no field is read past.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::ConfigError;

/// Fields that do not change what is computed here, whatever they say, and why.
const IRRELEVANT: [(&str, &str); 27] = [
    ("_attn_implementation_autoset", "how transformers computes"),
    ("_name_or_path", "where it came from"),
    ("architectures", "a class name; `model_type` decides"),
    ("attn_implementation", "how transformers computes"),
    ("auto_map", "code that is never run"),
    ("bos_token_id", "the tokenizer puts it"),
    ("cache_implementation", "how transformers caches"),
    ("chunk_size_feed_forward", "how transformers computes"),
    ("eos_token_id", "read with the tokenizer"),
    ("id2label", "a classifier's"),
    ("is_llama_config", "the converter's note"),
    ("keys_to_ignore_at_inference", "how transformers computes"),
    ("label2id", "a classifier's"),
    ("num_labels", "a classifier's"),
    ("output_attentions", "how transformers replies"),
    ("output_hidden_states", "how transformers replies"),
    ("pad_token_id", "nothing is padded"),
    (
        "pretraining_tp",
        "how the matrices were split, not what they are",
    ),
    ("problem_type", "a classifier's"),
    ("return_dict", "how transformers replies"),
    ("return_dict_in_generate", "how transformers replies"),
    ("transformers.js_config", "another program's"),
    ("transformers_version", "what wrote the file"),
    ("unk_token_id", "the tokenizer's"),
    ("unsloth_fixed", "the converter's note"),
    ("use_cache", "how transformers caches"),
    ("use_return_dict", "how transformers replies"),
];

/// The fields of an object, and which of them were asked for.
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    /// Where the object lies in the config; empty for the config itself.
    within: &'a str,
    /// The config's `model_type`, for messages.
    family: &'a str,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        let family = map.get("model_type").and_then(Value::as_str);
        Self {
            map,
            within: "",
            family: family.unwrap_or("?"),
            asked: RefCell::default(),
        }
    }

    /// The fields of an object inside this one, `within` its full name.
    pub(super) fn nested(&self, map: &'a Map<String, Value>, within: &'a str) -> Self {
        Self {
            map,
            within,
            family: self.family,
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

    pub(super) fn says(&self, name: &str, text: &str) -> bool {
        self.map.get(name).is_some_and(|value| value == text)
    }

    fn path(&self, name: &str) -> String {
        if self.within.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.within)
        }
    }

    fn shown(&self, name: &str) -> String {
        self.map
            .get(name)
            .map_or_else(|| "absent".to_owned(), Value::to_string)
    }

    pub(super) fn fault(&self, name: &str, expected: &str) -> ConfigError {
        ConfigError::Value {
            field: self.path(name),
            value: self.shown(name),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn unknown(&self, name: &str) -> ConfigError {
        ConfigError::Unknown {
            field: self.path(name),
            value: self.shown(name),
            family: self.family.to_owned(),
        }
    }

    /// Refuses fields that were neither asked for nor listed as irrelevant. `null` and `false`
    /// switch nothing on.
    pub(super) fn refuse_rest(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let known = |name: &str| {
            asked.contains(name) || IRRELEVANT.iter().any(|(irrelevant, _)| *irrelevant == name)
        };
        let rest = self.map.iter().find(|(name, value)| {
            !known(name) && !value.is_null() && **value != Value::Bool(false)
        });
        rest.map_or(Ok(()), |(name, _)| Err(self.unknown(name)))
    }
}
