//! The JSON schema of a recipe, and how it states values whose types are defined elsewhere.

use std::borrow::Cow;

use idiolect_core::record::TaskName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::recipe::Recipe;

/// The JSON schema of a recipe, for editors.
pub fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(Recipe)).unwrap_or_default()
}

/// One text or a list of them.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "states a schema")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A number, or a text.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "states a schema")]
pub(super) enum NumberOrText {
    Number(u32),
    Text(String),
}

macro_rules! words {
    ($name:ident: $($word:ident)+) => {
        #[derive(JsonSchema)]
        #[serde(rename_all = "lowercase")]
        #[expect(dead_code, reason = "states a schema")]
        pub(super) enum $name { $($word),+ }
    };
}

words!(FinishSchema: Stop Length Unknown);
words!(TemplateSchema: Raw Chat);
words!(FamilySchema: Llama Qwen2 Gemma2);
words!(ProseSchema: Plain Human);
words!(MatchSchema: Problems Rows Tokens);
words!(ScheduleSchema: Linear Cosine Constant);
words!(DtypeSchema: F32 Bf16);

/// A task by name.
pub(super) struct TaskSchema;

impl JsonSchema for TaskSchema {
    fn schema_name() -> Cow<'static, str> {
        "TaskSchema".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": TaskName::ALL.map(TaskName::as_str)})
    }
}

/// Adapters of low rank (arXiv 2106.09685).
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "states a schema")]
pub(super) struct LoraSchema {
    r: usize,
    alpha: f64,
    #[serde(default)]
    rslora: bool,
    #[serde(default)]
    dropout: f64,
    #[serde(default)]
    targets: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::super::recipe::BUILT_IN;
    use super::*;

    /// The keys of a schema's object, its references followed.
    fn keys(schema: &serde_json::Value, at: &serde_json::Value) -> Vec<String> {
        let at = match at["$ref"].as_str() {
            Some(reference) => &schema["$defs"][reference.trim_start_matches("#/$defs/")],
            None => at,
        };
        let properties = at["properties"].as_object();
        properties.map_or_else(Vec::new, |found| found.keys().cloned().collect())
    }

    #[test]
    fn the_schema_names_every_key_of_the_built_in_recipes_and_their_words() {
        let schema = schema();
        for (name, text) in BUILT_IN {
            let table: toml::Table = text.parse().unwrap();
            for (key, value) in &table {
                let property = &schema["properties"][key];
                assert!(!property.is_null(), "{name}: {key}");
                let toml::Value::Table(inner) = value else {
                    continue;
                };
                if key == "scale" {
                    continue;
                }
                let known = keys(&schema, property);
                for key in inner.keys() {
                    assert!(known.contains(key), "{name}: {key} is not among {known:?}");
                }
            }
        }
        let text = schema.to_string();
        for word in ["gsm8k", "qwen2", "bf16", "linear", "lora"] {
            assert!(text.contains(&format!("\"{word}\"")), "{word}");
        }
    }
}
