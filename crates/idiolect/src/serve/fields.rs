//! The fields of a request, taken one by one so that an error names its field; what is left is
//! ignored unless it would change what is computed.

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;

/// A request's JSON object.
pub(super) struct Fields(Map<String, Value>);

/// A field that this server does not honour, and the values beside `null`, `false`, zero and
/// emptiness that ask for nothing.
struct Refused(&'static str, &'static [&'static str]);

/// Fields that would change what is computed or returned.
const REFUSED: [Refused; 46] = [
    Refused("logit_bias", &[]),
    Refused("best_of", &["1"]),
    Refused("suffix", &[]),
    Refused("presence_penalty", &[]),
    Refused("frequency_penalty", &[]),
    Refused("repetition_penalty", &["1", "1.0"]),
    Refused("length_penalty", &["1", "1.0"]),
    Refused("use_beam_search", &[]),
    Refused("early_stopping", &[]),
    Refused("min_tokens", &[]),
    Refused("ignore_eos", &[]),
    Refused("stop_token_ids", &[]),
    Refused("include_stop_str_in_output", &[]),
    Refused("bad_words", &[]),
    Refused("allowed_token_ids", &[]),
    Refused("logits_processors", &[]),
    Refused("truncate_prompt_tokens", &[]),
    Refused("prompt_embeds", &[]),
    Refused("return_tokens_as_token_ids", &[]),
    Refused("tools", &[]),
    Refused("tool_choice", &["\"none\"", "\"auto\""]),
    Refused("functions", &[]),
    Refused("function_call", &["\"none\"", "\"auto\""]),
    Refused("response_format", &["{\"type\":\"text\"}"]),
    Refused("guided_json", &[]),
    Refused("guided_regex", &[]),
    Refused("guided_choice", &[]),
    Refused("guided_grammar", &[]),
    Refused("structured_outputs", &[]),
    Refused("grammar", &[]),
    Refused("json_schema", &[]),
    Refused("chat_template", &[]),
    Refused("continue_final_message", &[]),
    Refused("documents", &[]),
    Refused("modalities", &["[\"text\"]"]),
    Refused("audio", &[]),
    Refused("prediction", &[]),
    Refused("reasoning_effort", &[]),
    Refused("thinking_token_budget", &[]),
    Refused("web_search_options", &[]),
    Refused("typical_p", &["1", "1.0"]),
    Refused("tfs_z", &["1", "1.0"]),
    Refused("mirostat", &[]),
    Refused("xtc_probability", &[]),
    Refused("dry_multiplier", &[]),
    Refused("n_probs", &[]),
];

/// Fields that must be true, as they are by default.
const ALWAYS: [&str; 3] = [
    "add_generation_prompt",
    "skip_special_tokens",
    "spaces_between_special_tokens",
];

impl Fields {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(ApiError::bad("the body is no JSON object")),
            Err(error) => Err(ApiError::bad(format!("the body is not JSON: {error}"))),
        }
    }

    /// A field; `null` is as good as its absence.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(value) => serde_json::from_value(value)
                .map_err(|error| ApiError::field(name, format!("`{name}`: {}", in_words(&error)))),
        }
    }

    /// A field that states yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// A number of a range.
    pub(super) fn number(
        &mut self,
        name: &str,
        low: f32,
        high: f32,
    ) -> Result<Option<f32>, ApiError> {
        self.within(name, low, high)
    }

    /// A count of a range.
    pub(super) fn count(
        &mut self,
        name: &str,
        low: u64,
        high: u64,
    ) -> Result<Option<usize>, ApiError> {
        let count = self.within(name, low, high)?;
        Ok(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
    }

    fn within<T: DeserializeOwned + PartialOrd + Display + Copy>(
        &mut self,
        name: &str,
        low: T,
        high: T,
    ) -> Result<Option<T>, ApiError> {
        match self.take(name)? {
            Some(value) if !(low..=high).contains(&value) => Err(ApiError::field(
                name,
                format!("`{name}` is {value}; expected {low} to {high}"),
            )),
            value => Ok(value),
        }
    }

    /// Looks at the fields that nobody took.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        for Refused(name, neutral) in REFUSED {
            if let Some(value) = self.0.get(name)
                && !says_nothing(value)
                && !neutral.contains(&value.to_string().as_str())
            {
                return Err(ApiError::field(
                    name,
                    format!("`{name}` is not supported, and ignoring it would change the answer"),
                ));
            }
        }
        for name in ALWAYS {
            if self.0.get(name) == Some(&Value::Bool(false)) {
                return Err(ApiError::field(
                    name,
                    format!("`{name}: false` is not supported"),
                ));
            }
        }
        Ok(())
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64().is_some_and(|number| number.abs() <= 0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// What is wrong with a value, in the words of JSON rather than of this program.
pub(super) fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let (true, Some((found, expected))) =
        (text.starts_with("invalid "), text.rsplit_once("expected "))
    else {
        return text.to_owned();
    };
    let expected = match expected.trim_start_matches("a ") {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "boolean" => "true or false",
        "string" => "a text",
        "sequence" => "a list",
        "map" => "an object",
        other if other.starts_with("struct ") => "an object",
        _ => expected,
    };
    let found = found
        .replace("invalid type: ", "")
        .replace("invalid value: ", "")
        .replace("sequence", "a list")
        .replace("map", "an object");
    format!("it is {found}expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(body: &str) -> Result<(), ApiError> {
        Fields::parse(body.as_bytes())?.finish()
    }

    #[test]
    fn what_would_change_the_answer_is_refused_and_the_rest_ignored() {
        for body in [
            r#"{"user": "x", "metadata": {"a": 1}, "whatever": [1]}"#,
            r#"{"logit_bias": {}, "best_of": 1, "suffix": null, "presence_penalty": 0.0}"#,
            r#"{"repetition_penalty": 1.0, "response_format": {"type": "text"}, "tools": []}"#,
            r#"{"tool_choice": "none", "ignore_eos": false, "skip_special_tokens": true}"#,
        ] {
            assert!(finish(body).is_ok(), "{body}");
        }
        for body in [
            r#"{"logit_bias": {"5": 1}}"#,
            r#"{"best_of": 2}"#,
            r#"{"suffix": "x"}"#,
            r#"{"presence_penalty": 0.1}"#,
            r#"{"repetition_penalty": 1.1}"#,
            r#"{"response_format": {"type": "json_object"}}"#,
            r#"{"tools": [{}]}"#,
            r#"{"ignore_eos": true}"#,
            r#"{"add_generation_prompt": false}"#,
        ] {
            let error = format!("{:?}", finish(body).unwrap_err());
            assert!(error.contains("not supported"), "{body}: {error}");
        }
    }

    #[test]
    fn an_error_names_its_field() {
        let mut fields = Fields::parse(br#"{"n": -1, "temperature": 9, "stream": 3}"#).unwrap();
        let named = |error: ApiError, name: &str| error.document()["error"]["param"] == name;
        assert!(named(fields.count("n", 1, 8).unwrap_err(), "n"));
        let hot = fields.number("temperature", 0.0, 2.0).unwrap_err();
        assert!(named(hot, "temperature"));
        assert!(named(fields.flag("stream").unwrap_err(), "stream"));
        assert!(Fields::parse(b"[]").is_err() && Fields::parse(b"{").is_err());
    }
}
