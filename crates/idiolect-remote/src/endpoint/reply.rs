//! Reading a completion out of a reply.

use idiolect_model::{Completion, Finish, Template};
use serde_json::Value;

use super::refusal::Fault;

/// A completion and what it cost.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Written {
    pub(super) completion: Completion,
    pub(super) prompt_tokens: u64,
    pub(super) completion_tokens: u64,
}

/// Reads the one completion of a reply.
pub(super) fn read(reply: &Value, template: Template) -> Result<Written, Fault> {
    if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
        return Err(Fault::failed(format!("an error with status 200: {error}")));
    }
    let Some(choices) = reply.get("choices").and_then(Value::as_array) else {
        return Err(Fault::failed("the reply has no `choices`"));
    };
    let Some(choice) = choices.first() else {
        return Err(Fault::failed("the reply has 0 choices, 1 was asked for"));
    };
    let reason = choice.get("finish_reason").and_then(Value::as_str);
    let mut finish = match reason {
        None => Finish::Unknown,
        Some(reason) => match Finish::of_reason(reason) {
            Some(finish) => finish,
            None => return Err(ended_otherwise(reason)),
        },
    };
    let (text, content) = match template {
        Template::Raw => {
            let text = choice.get("text").and_then(Value::as_str);
            let text = text.ok_or_else(|| Fault::failed("the reply's choice has no `text`"))?;
            (text.to_owned(), text.to_owned())
        }
        Template::Chat => {
            let message = choice
                .get("message")
                .filter(|message| message.is_object())
                .ok_or_else(|| Fault::failed("the reply's choice has no `message`"))?;
            let answer = message.get("content").and_then(text_of);
            let content = answer.clone().unwrap_or_default();
            let text = match thinking_of(message) {
                None if answer.is_none() => {
                    return Err(match message.get("refusal").and_then(Value::as_str) {
                        Some(refusal) => Fault::row(format!("the model refused: {refusal}")),
                        None if finish == Finish::Length => Fault::row(
                            "the reply has no content: its tokens were spent before the answer, \
                             unseen. Allow more tokens (--max-tokens)",
                        ),
                        None => Fault::failed("the reply's message has no `content`"),
                    });
                }
                None => content.clone(),
                Some(thinking) => {
                    let thinking = thinking.trim_matches('\n');
                    // No answer followed: the thinking was cut off, whatever the reason given.
                    if answer.is_none() {
                        finish = Finish::Length;
                    }
                    if content.is_empty() && finish == Finish::Length {
                        format!("<think>\n{thinking}")
                    } else {
                        format!("<think>\n{thinking}\n</think>\n\n{content}")
                    }
                }
            };
            (text, content)
        }
    };
    let usage = |name: &str| {
        reply
            .pointer(&format!("/usage/{name}"))
            .and_then(Value::as_u64)
    };
    let counted = usage("completion_tokens");
    let sampled = sampled(choice.get("logprobs"), counted, finish, &content);
    let n_tokens = sampled.as_ref().map_or_else(
        || counted.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        Vec::len,
    );
    Ok(Written {
        completion: Completion {
            text,
            finish,
            logprobs: sampled.unwrap_or_default(),
            n_tokens,
        },
        prompt_tokens: usage("prompt_tokens").unwrap_or(0),
        completion_tokens: counted.unwrap_or(0),
    })
}

/// What it means that a completion ended neither by itself nor at a limit.
fn ended_otherwise(reason: &str) -> Fault {
    let end = reason.to_ascii_lowercase();
    if ["abort", "error", "cancel"]
        .iter()
        .any(|word| end.contains(word))
    {
        return Fault::failed(format!(
            "the server gave the request up (finish `{reason}`)"
        ));
    }
    Fault::row(format!("the completion ended with `{reason}`"))
}

/// Text, or the text parts of a list.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part.get("text")?.as_str())
                .collect(),
        ),
        _ => None,
    }
}

/// The thinking that a server has cut from the answer, by either name in use.
fn thinking_of(message: &Value) -> Option<&str> {
    ["reasoning", "reasoning_content"]
        .iter()
        .filter_map(|name| message.get(*name)?.as_str())
        .find(|text| !text.trim().is_empty())
}

/// The log-probabilities of the tokens written, the end token left out; `None` where there is not
/// one for every token.
fn sampled(
    logprobs: Option<&Value>,
    counted: Option<u64>,
    finish: Finish,
    content: &str,
) -> Option<Vec<f32>> {
    let logprobs = logprobs?;
    let (mut values, texts) = match logprobs.get("content").and_then(Value::as_array) {
        Some(entries) => {
            let values = entries.iter().map(|entry| number(entry.get("logprob")?));
            let texts = entries.iter().map(|entry| entry.get("token")?.as_str());
            (
                values.collect::<Option<Vec<_>>>()?,
                texts.collect::<Option<Vec<_>>>()?,
            )
        }
        None => {
            let list = |name: &str| logprobs.get(name).and_then(Value::as_array);
            let values = list("token_logprobs")?.iter().map(number);
            let texts = list("tokens")?.iter().map(Value::as_str);
            (
                values.collect::<Option<Vec<_>>>()?,
                texts.collect::<Option<Vec<_>>>()?,
            )
        }
    };
    if texts.len() != values.len() {
        return None;
    }
    if finish == Finish::Stop
        && let Some((last, before)) = texts.split_last()
        && (before.concat() == content || is_end(last))
    {
        let n = counted.unwrap_or(values.len() as u64);
        if n != values.len() as u64 {
            return None;
        }
        values.pop();
        return Some(values);
    }
    let n = values.len() as u64;
    let end_not_given = finish == Finish::Stop && texts.concat() == content;
    counted
        .is_none_or(|counted| counted == n || (end_not_given && counted == n + 1))
        .then_some(values)
}

/// A log-probability, if it is one.
pub(super) fn number(value: &Value) -> Option<f32> {
    let value = value.as_f64()? as f32;
    // Some servers write the lowest number there is for an underflow.
    (value > -1e30 && value <= 1e-3).then_some(value)
}

/// Whether a token's text is that of a token that ends a turn or a text.
fn is_end(token: &str) -> bool {
    (token.starts_with("<|") && token.ends_with("|>"))
        || matches!(token, "" | "</s>" | "<eos>" | "<end_of_turn>" | "<turn|>")
}

#[cfg(test)]
mod tests {
    use idiolect_model::RowError;
    use serde_json::json;

    use super::*;

    fn chat(message: Value, finish: &str) -> Result<Written, Fault> {
        let choice = json!({"index": 0, "message": message, "finish_reason": finish});
        let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
        read(
            &json!({"choices": [choice], "usage": usage}),
            Template::Chat,
        )
    }

    #[test]
    fn text_finish_and_counts_are_read() {
        let written = chat(json!({"content": "It is 4."}), "stop").unwrap();
        assert_eq!(written.completion.text, "It is 4.");
        assert_eq!(written.completion.finish, Finish::Stop);
        assert_eq!(written.completion.n_tokens, 3);
        assert_eq!((written.prompt_tokens, written.completion_tokens), (7, 3));
        let parts = json!([{"type": "text", "text": "It "}, {"type": "text", "text": "is"}]);
        let written = chat(json!({ "content": parts }), "length").unwrap();
        assert_eq!(written.completion.text, "It is");
        let raw = json!({"choices": [{"text": " 4", "finish_reason": null}]});
        let written = read(&raw, Template::Raw).unwrap().completion;
        assert_eq!(
            (written.text.as_str(), written.finish),
            (" 4", Finish::Unknown)
        );
    }

    #[test]
    fn thinking_is_put_before_the_answer_by_either_name() {
        for name in ["reasoning", "reasoning_content"] {
            let written = chat(json!({"content": "4", name: "\n2 + 2\n"}), "stop").unwrap();
            assert_eq!(written.completion.text, "<think>\n2 + 2\n</think>\n\n4");
            for finish in ["length", "stop"] {
                let cut = chat(json!({"content": null, name: "2 + "}), finish).unwrap();
                assert_eq!(cut.completion.text, "<think>\n2 + ");
                assert_eq!(cut.completion.finish, Finish::Length);
            }
        }
        let both = json!({"content": "4", "reasoning": "a", "reasoning_content": "a"});
        let written = chat(both, "stop").unwrap();
        assert_eq!(written.completion.text, "<think>\na\n</think>\n\n4");
        let empty = json!({"content": "4", "reasoning_content": ""});
        assert_eq!(chat(empty, "stop").unwrap().completion.text, "4");
    }

    #[test]
    fn replies_without_a_completion_are_faults_of_the_attempt_or_the_row() {
        let empty = json!({"content": ""});
        for reply in [
            json!({}),
            json!([]),
            json!({"choices": []}),
            json!({"choices": [{}]}),
            json!({"choices": [{"message": {}, "finish_reason": "stop"}]}),
            json!({"choices": [{"message": empty, "finish_reason": "abort"}]}),
            json!({"error": {"message": "overloaded"}}),
        ] {
            let fault = read(&reply, Template::Chat).unwrap_err();
            assert!(matches!(fault, Fault::Failed { .. }), "{reply}");
        }
        for (message, finish) in [
            (json!({"content": "no"}), "content_filter"),
            (json!({"content": null, "refusal": "no"}), "stop"),
            (json!({"content": null}), "length"),
            (json!({"content": null, "tool_calls": []}), "tool_calls"),
        ] {
            let fault = chat(message, finish).unwrap_err();
            assert!(matches!(
                fault,
                Fault::Row {
                    error: RowError { .. },
                    ..
                }
            ));
        }
    }

    fn logprobs(tokens: &[&str], counted: u64, finish: Finish, content: &str) -> Option<usize> {
        let entries: Vec<Value> = tokens
            .iter()
            .map(|token| json!({"token": token, "logprob": -0.5}))
            .collect();
        let as_chat = json!({ "content": entries });
        let lists = json!({"tokens": tokens, "token_logprobs": vec![-0.5; tokens.len()]});
        let [a, b] =
            [as_chat, lists].map(|value| sampled(Some(&value), Some(counted), finish, content));
        assert_eq!(a, b);
        a.map(|values| values.len())
    }

    #[test]
    fn log_probabilities_match_the_tokens_or_are_dropped() {
        let (stop, length) = (Finish::Stop, Finish::Length);
        assert_eq!(logprobs(&["It", " is"], 2, length, "It is"), Some(2));
        assert_eq!(logprobs(&["It", " is"], 3, length, "It is"), None);
        assert_eq!(logprobs(&["It"], 2, length, "It is"), None);
        // The end token: given and counted, or counted only, or neither.
        assert_eq!(
            logprobs(&["It", " is", "<|im_end|>"], 3, stop, "It is"),
            Some(2)
        );
        assert_eq!(logprobs(&["It", " is", ""], 3, stop, "It is"), Some(2));
        assert_eq!(logprobs(&["It", " is"], 3, stop, "It is"), Some(2));
        assert_eq!(logprobs(&["It", " is"], 2, stop, "It is"), Some(2));
        assert_eq!(logprobs(&["It", "</s>"], 5, stop, "It"), None);
        assert_eq!(sampled(None, Some(0), stop, ""), None);
        for value in [json!(null), json!("x"), json!(0.5)] {
            let lists = json!({"tokens": ["a"], "token_logprobs": [value]});
            assert_eq!(sampled(Some(&lists), Some(1), length, "a"), None);
        }
    }
}
