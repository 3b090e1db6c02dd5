//! The output (or error) file of OpenAI's batches: a row for each request, known by its `custom_id`.
//! `vllm run-batch` and other servers write the same. Requests of `/v1/chat/completions`, of
//! `/v1/completions` and of `/v1/responses` are read. The questions are not in it.
//!
//! Source: OpenAI's reference of the batch object `BatchRequestOutput` and of the object `response`.

use serde_json::{Map, Value};

use super::value::{list, object, problem_named, text_if, text_or_none, with_reasoning, wrong};
use super::{AnsweredRow, Reply};

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let (id, index) = problem_named(row, &["custom_id"])?;
    let failed = |reason: String| AnsweredRow {
        id: id.clone(),
        index,
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
    Ok(AnsweredRow {
        model: text_if(body.get("model"), "response.body.model")?,
        replies: if body.get("object").and_then(Value::as_str) == Some("response") {
            vec![output(body)?]
        } else {
            choices(body)?
        },
        id,
        index,
        ..AnsweredRow::default()
    })
}

/// The answers of a (chat) completion.
fn choices(body: &Map<String, Value>) -> Result<Vec<Reply>, String> {
    let choices = list(body.get("choices"), "response.body.choices")?;
    if choices.is_empty() {
        let reason = "`response.body.choices` is empty".to_owned();
        return Ok(vec![Reply::none(reason)]);
    }
    let n_tokens = tokens(body, "completion_tokens").filter(|_| choices.len() == 1);
    let reply = |(i, choice): (usize, &Value)| {
        reply(choice, &format!("response.body.choices.{i}"), n_tokens)
    };
    choices.iter().enumerate().map(reply).collect()
}

fn tokens(body: &Map<String, Value>, name: &str) -> Option<u64> {
    body.get("usage")?.get(name)?.as_u64()
}

fn reply(choice: &Value, name: &str, n_tokens: Option<u64>) -> Result<Reply, String> {
    let text = match (choice.get("text"), choice.get("message")) {
        (Some(text), _) => text_or_none(Some(text), &format!("{name}.text"))?,
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

/// The text of an assistant's message, with its reasoning; a refusal or a call of a tool has none.
fn written(message: &Value, name: &str) -> Result<Result<String, String>, String> {
    let content = match message.get("content") {
        None | Some(Value::Null) => None,
        Some(Value::String(content)) => Some(content.clone()),
        Some(Value::Array(parts)) => joined(parts, &["text", "output_text"], "text"),
        Some(other) => return Err(wrong(&format!("{name}.content"), other, "text")),
    };
    let reasoning = ["reasoning_content", "reasoning"]
        .iter()
        .find_map(|field| message.get(*field)?.as_str())
        .unwrap_or_default();
    if content.is_none() && reasoning.trim().is_empty() {
        let refusal = message.get("refusal").and_then(Value::as_str);
        return Ok(Err(refusal.map_or_else(
            || format!("`{name}.content` has no text"),
            |refusal| format!("the model refused: {refusal}"),
        )));
    }
    Ok(Ok(with_reasoning(reasoning, &content.unwrap_or_default())))
}

/// The texts of the parts of some types; `None` where there is no such part.
fn joined(parts: &[Value], types: &[&str], field: &str) -> Option<String> {
    let of_type = |part: &&Value| {
        let kind = part.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| types.contains(&kind))
    };
    let parts = parts.iter().filter(of_type);
    let texts: Vec<&str> = parts.filter_map(|part| part.get(field)?.as_str()).collect();
    (!texts.is_empty()).then(|| texts.concat())
}

/// The answer of a `response`: its messages' texts after its reasoning.
fn output(body: &Map<String, Value>) -> Result<Reply, String> {
    if let Some(error) = body.get("error").filter(|error| !error.is_null()) {
        return Ok(Reply::none(format!("the request failed: {}", said(error))));
    }
    let items = list(body.get("output"), "response.body.output")?;
    let parts = |kind: &str, field: &str| -> Vec<Value> {
        let of_kind = |item: &&Value| item.get("type").and_then(Value::as_str) == Some(kind);
        let lists = items.iter().filter(of_kind);
        let lists = lists.filter_map(|item| item.get(field)?.as_array());
        lists.flatten().cloned().collect()
    };
    let message = parts("message", "content");
    // The whole reasoning where a server gives it, else what it says of it.
    let reasoning = joined(&parts("reasoning", "content"), &["reasoning_text"], "text")
        .or_else(|| joined(&parts("reasoning", "summary"), &["summary_text"], "text"))
        .unwrap_or_default();
    let text = match joined(&message, &["output_text"], "text") {
        None if reasoning.is_empty() => Err(joined(&message, &["refusal"], "refusal").map_or_else(
            || "`response.body.output` has no text".to_owned(),
            |refusal| format!("the model refused: {refusal}"),
        )),
        text => Ok(with_reasoning(&reasoning, &text.unwrap_or_default())),
    };
    let why = body
        .get("incomplete_details")
        .and_then(|details| details.get("reason")?.as_str());
    let status = body.get("status").and_then(Value::as_str);
    Ok(Reply {
        text,
        finish: match (status, why) {
            (Some("completed"), _) => Some("stop".to_owned()),
            (_, Some("max_output_tokens")) => Some("length".to_owned()),
            (status, why) => why.or(status).map(str::to_owned),
        },
        n_tokens: tokens(body, "output_tokens"),
    })
}

/// An error object's message.
fn said(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str);
    message.map_or_else(|| error.to_string(), str::to_owned)
}
