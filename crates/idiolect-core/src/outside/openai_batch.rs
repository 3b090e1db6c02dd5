//! The output (or error) file of OpenAI's batches: a row for each request, known by its `custom_id`.
//! `vllm run-batch` and other servers write the same. Requests of `/v1/chat/completions` and of
//! `/v1/completions` are read. The questions are not in it.
//!
//! Source: OpenAI's reference of the batch object `BatchRequestOutput`.

use serde_json::{Map, Value};

use super::value::{list, object, text, text_if, with_reasoning, wrong};
use super::{AnsweredRow, Reply};

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let id = text(row.get("custom_id"), "custom_id")?.to_owned();
    let failed = |reason: String| AnsweredRow {
        id: Some(id.clone()),
        replies: vec![Reply::none(reason)],
        ..AnsweredRow::default()
    };
    if let Some(error) = row.get("error").filter(|error| !error.is_null()) {
        return Ok(failed(format!("the request failed: {}", said(error))));
    }
    let response = match row.get("response") {
        None | Some(Value::Null) => return Ok(failed("there is no `response`".to_owned())),
        response => object(response, "response")?,
    };
    let body = response.get("body").unwrap_or(&Value::Null);
    match response.get("status_code").and_then(Value::as_u64) {
        Some(200) | None => {}
        Some(status) => {
            let why = body
                .get("error")
                .map_or_else(String::new, |error| format!(": {}", said(error)));
            return Ok(failed(format!("the server answered {status}{why}")));
        }
    }
    let body = object(Some(body), "response.body")?;
    let choices = list(body.get("choices"), "response.body.choices")?;
    if choices.is_empty() {
        return Ok(failed("`response.body.choices` is empty".to_owned()));
    }
    let usage = body
        .get("usage")
        .and_then(|usage| usage.get("completion_tokens"));
    let n_tokens = usage.and_then(Value::as_u64).filter(|_| choices.len() == 1);
    let reply = |(i, choice): (usize, &Value)| {
        reply(choice, &format!("response.body.choices.{i}"), n_tokens)
    };
    Ok(AnsweredRow {
        model: text_if(body.get("model"), "response.body.model")?,
        replies: choices
            .iter()
            .enumerate()
            .map(reply)
            .collect::<Result<_, _>>()?,
        id: Some(id),
        ..AnsweredRow::default()
    })
}

fn reply(choice: &Value, name: &str, n_tokens: Option<u64>) -> Result<Reply, String> {
    let text = match (choice.get("text"), choice.get("message")) {
        (Some(text), _) => Ok(self::text(Some(text), &format!("{name}.text"))?.to_owned()),
        (None, Some(message)) => written(message, &format!("{name}.message"))?,
        (None, None) => return Err(format!("`{name}` has neither `message` nor `text`")),
    };
    Ok(Reply {
        text,
        finish: text_if(
            choice.get("finish_reason"),
            &format!("{name}.finish_reason"),
        )?,
        n_tokens,
    })
}

/// The text of an assistant's message; a refusal or a call of a tool has none.
fn written(message: &Value, name: &str) -> Result<Result<String, String>, String> {
    let content = match message.get("content") {
        None | Some(Value::Null) => {
            let refusal = message.get("refusal").and_then(Value::as_str);
            return Ok(Err(refusal.map_or_else(
                || format!("`{name}.content` is null"),
                |refusal| format!("the model refused: {refusal}"),
            )));
        }
        Some(Value::String(content)) => content,
        Some(other) => return Err(wrong(&format!("{name}.content"), other, "text")),
    };
    let reasoning = ["reasoning_content", "reasoning"]
        .iter()
        .find_map(|field| message.get(*field)?.as_str());
    Ok(Ok(with_reasoning(reasoning.unwrap_or_default(), content)))
}

/// An error object's message.
fn said(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str);
    message.map_or_else(|| error.to_string(), str::to_owned)
}
