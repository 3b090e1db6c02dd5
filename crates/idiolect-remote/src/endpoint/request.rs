//! The bodies of requests for completions.

use std::collections::BTreeSet;

use idiolect_model::{Context, ModelError, RowError, RowErrorKind, Sampling, Template};
use serde_json::{Map, Value, json};

/// What a server was found to take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Fields that it refuses; they are left out where they change nothing, and are errors where they
    /// do.
    pub(super) refused: BTreeSet<&'static str>,
    /// It calls `max_tokens` `max_completion_tokens`.
    pub(super) max_completion_tokens: bool,
}

/// One field that decides how tokens are chosen.
struct Field {
    name: &'static str,
    value: Value,
    /// It is what a server does anyway, if its model's files do not set something else.
    neutral: bool,
}

/// Every field that decides how tokens are chosen. All are sent, for a server's defaults come from
/// the model's own `generation_config.json`.
fn fields(sampling: &Sampling, seed: u64, parameters: &Parameters) -> Vec<Field> {
    let field = |name, value, neutral| Field {
        name,
        value,
        neutral,
    };
    let max_tokens = if parameters.max_completion_tokens {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    let plain = |value: f32| Value::from(shortest(value));
    let mut fields = vec![
        field(
            "temperature",
            plain(sampling.temperature),
            sampling.temperature.to_bits() == 1f32.to_bits(),
        ),
        field(
            "top_p",
            plain(sampling.top_p),
            sampling.top_p.to_bits() == 1f32.to_bits(),
        ),
        field(max_tokens, Value::from(sampling.max_tokens), false),
        field("seed", Value::from(small_seed(seed)), true),
        field("n", Value::from(1), true),
        field("presence_penalty", Value::from(0), true),
        field("frequency_penalty", Value::from(0), true),
        field("repetition_penalty", plain(1.0), true),
        field("top_k", Value::from(sampling.top_k), sampling.top_k == 0),
        field(
            "min_p",
            plain(sampling.min_p),
            sampling.min_p.to_bits() == 0f32.to_bits(),
        ),
    ];
    // No model's files set one, and an empty list fails on some servers (`transformers serve`).
    if !sampling.stop.is_empty() {
        fields.push(field("stop", Value::from(sampling.stop.clone()), false));
    }
    fields
}

/// The number that reads as this one does: 0.7, not 0.699999988079071.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// A seed that every server takes: some have 32 bits, some mean chance by all of them set.
fn small_seed(seed: u64) -> u64 {
    (seed ^ (seed >> 32)) & 0x7fff_ffff
}

impl Parameters {
    /// Those of OpenAI's own API, where no probe can find them out.
    pub(super) fn of_openai() -> Self {
        Self {
            refused: BTreeSet::from(["repetition_penalty", "top_k", "min_p"]),
            max_completion_tokens: true,
        }
    }

    /// # Errors
    /// Names the fields of these settings that the server refuses though they matter.
    pub(super) fn require(&self, sampling: &Sampling, model: &str) -> Result<(), ModelError> {
        let missing = self.missing(sampling);
        if missing.is_empty() {
            return Ok(());
        }
        Err(ModelError::Unsupported(format!(
            "the server of `{model}` does not take the setting `{}`",
            missing.join("`, `")
        )))
    }

    /// The fields of these settings that the server refuses though they matter.
    fn missing(&self, sampling: &Sampling) -> Vec<&'static str> {
        fields(sampling, 0, self)
            .iter()
            .filter(|field| !field.neutral && self.refused.contains(field.name))
            .map(|field| field.name)
            .collect()
    }

    /// Learns from a refusal of a request with default settings which fields to leave out. `false`
    /// where it names none that could be.
    pub(super) fn learn(&mut self, message: &str) -> bool {
        if !self.max_completion_tokens && message.contains("max_completion_tokens") {
            self.max_completion_tokens = true;
            return true;
        }
        let optional = fields(&Sampling::default(), 0, self)
            .into_iter()
            .filter(|field| field.neutral)
            .map(|field| field.name);
        let mut changed = false;
        for name in optional.chain(LOGPROBS) {
            if names(message, name) {
                changed |= self.refused.insert(name);
            }
        }
        // One goes with the other.
        if self.refused.contains("logprobs") || self.refused.contains("top_logprobs") {
            self.refused.extend(LOGPROBS);
        }
        changed
    }

    /// The body of a request for one completion.
    pub(super) fn body(
        &self,
        (template, model): (Template, &str),
        context: &Context,
        sampling: &Sampling,
        seed: u64,
        logprobs: bool,
    ) -> Result<Value, RowError> {
        let mut body = Map::new();
        body.insert("model".to_owned(), Value::from(model));
        match (template, context) {
            (Template::Raw, Context::Prompt(text)) => {
                body.insert("prompt".to_owned(), Value::from(text.as_str()));
            }
            (Template::Raw, Context::Messages(_)) => {
                return Err(RowError {
                    kind: RowErrorKind::Template,
                    reason: "template `raw` cannot render a conversation".to_owned(),
                });
            }
            (Template::Chat, Context::Prompt(text)) => {
                let turn = json!({"role": "user", "content": text});
                body.insert("messages".to_owned(), Value::from(vec![turn]));
            }
            (Template::Chat, Context::Messages(messages)) => {
                let turns = serde_json::to_value(messages)
                    .map_err(|error| RowError::other(error.to_string()))?;
                body.insert("messages".to_owned(), turns);
            }
        }
        for field in fields(sampling, seed, self) {
            if !self.refused.contains(field.name) {
                body.insert(field.name.to_owned(), field.value);
            }
        }
        if logprobs && !self.refused.contains("logprobs") {
            match template {
                // 1, not 0: llama.cpp takes 0 for none.
                Template::Raw => body.insert("logprobs".to_owned(), Value::from(1)),
                Template::Chat => {
                    body.insert("top_logprobs".to_owned(), Value::from(1));
                    body.insert("logprobs".to_owned(), Value::from(true))
                }
            };
        }
        body.insert("stream".to_owned(), Value::from(false));
        Ok(Value::Object(body))
    }
}

const LOGPROBS: [&str; 2] = ["logprobs", "top_logprobs"];

/// Where a message names a field. Short names are words of English too, so they count in quotes or
/// as part of a path only.
fn names(message: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    message.match_indices(name).any(|(at, _)| {
        let before = message[..at].chars().next_back();
        let after = message[at + name.len()..].chars().next();
        let whole = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        let marks = |c: Option<char>| c.is_some_and(|c| "'\"`.".contains(c));
        whole && (name.len() > 5 || name.contains('_') || (marks(before) && marks(after)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampling_field_is_sent() {
        let sampling = Sampling {
            temperature: 0.7,
            top_p: 0.95,
            top_k: 20,
            min_p: 0.05,
            max_tokens: 99,
            stop: vec!["\n\n".to_owned()],
        };
        let context = Context::Prompt("2 + 2".to_owned());
        let seed = 0xffff_ffff_0000_0007;
        let parameters = Parameters::default();
        let body = parameters
            .body((Template::Raw, "m"), &context, &sampling, seed, true)
            .unwrap();
        let expected = json!({
            "model": "m", "prompt": "2 + 2", "temperature": 0.7, "top_p": 0.95, "max_tokens": 99,
            "stop": ["\n\n"], "seed": 0x7fff_fff8_u32, "n": 1, "presence_penalty": 0,
            "frequency_penalty": 0, "repetition_penalty": 1.0, "top_k": 20, "min_p": 0.05,
            "logprobs": 1, "stream": false,
        });
        assert_eq!(body, expected);
        let body = parameters
            .body((Template::Chat, "m"), &context, &sampling, 3, true)
            .unwrap();
        assert_eq!(body["messages"][0]["content"], "2 + 2");
        assert_eq!(
            (&body["logprobs"], &body["top_logprobs"]),
            (&json!(true), &json!(1))
        );
        assert_eq!(body["seed"], 3);
        let turns = Context::Messages(Vec::new());
        let refused = parameters.body((Template::Raw, "m"), &turns, &sampling, 3, true);
        assert_eq!(refused.unwrap_err().kind, RowErrorKind::Template);
    }

    #[test]
    fn fields_that_say_nothing_are_left_out_where_a_server_refuses_them() {
        for (message, refused) in [
            (
                "Unrecognized request arguments supplied: min_p, top_k",
                vec!["min_p", "top_k"],
            ),
            (
                r#"[{"type":"extra_forbidden","loc":["body","seed"]}]"#,
                vec!["seed"],
            ),
            ("Unknown parameter: 'n'", vec!["n"]),
            (
                "'logprobs' is not supported",
                vec!["logprobs", "top_logprobs"],
            ),
        ] {
            let mut parameters = Parameters::default();
            assert!(parameters.learn(message), "{message}");
            assert_eq!(
                parameters.refused.iter().copied().collect::<Vec<_>>(),
                refused
            );
            assert!(!parameters.learn(message));
        }
        let mut parameters = Parameters::default();
        for message in [
            "stop it",
            "a bad seed in n ways",
            "stop_token",
            "max_tokens is wrong",
        ] {
            assert!(!parameters.learn(message), "{message}");
        }
        assert!(parameters.learn("'max_tokens' is not supported. Use 'max_completion_tokens'"));
        let context = Context::Prompt(String::new());
        let sampling = Sampling::default();
        let body = parameters
            .body((Template::Chat, "m"), &context, &sampling, 0, false)
            .unwrap();
        assert_eq!(body["max_completion_tokens"], 512);
        assert!(body.get("max_tokens").is_none());
    }

    #[test]
    fn fields_that_matter_are_not_left_out_silently() {
        let mut parameters = Parameters::default();
        parameters.learn("Unrecognized request argument supplied: top_k");
        let greedy = Sampling::default();
        assert!(parameters.missing(&greedy).is_empty());
        let top = Sampling { top_k: 5, ..greedy };
        assert_eq!(parameters.missing(&top), ["top_k"]);
    }
}
