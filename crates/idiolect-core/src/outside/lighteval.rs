//! `details_TASK_DATE.parquet` of lighteval: a row for each document, with the structures `doc`,
//! `model_response` and `metric`. `doc.query` is the question inside the task's prompt; the right
//! answers are those `choices` that `gold_index` names.
//!
//! Source: `lighteval/tasks/requests.py`, `lighteval/models/model_output.py`,
//! `lighteval/logging/evaluation_tracker.py` of 0.13.0.

use serde_json::{Map, Value};

use super::value::{list, number_in, object, text, text_if, text_or_none, with_reasoning, wrong};
use super::{AnsweredRow, Reply};

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let doc = object(row.get("doc"), "doc")?;
    let response = object(row.get("model_response"), "model_response")?;
    let id = match doc.get("id") {
        None | Some(Value::Null) => None,
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id),
        Some(other) => return Err(wrong("doc.id", other, "text")),
    };
    let index = id.and_then(number_in);
    let original = text_if(doc.get("original_query"), "doc.original_query")?;
    let query = text(doc.get("query"), "doc.query")?;
    let columns = match doc.get("specific") {
        Some(Value::Object(specific)) => specific.clone(),
        _ => Map::new(),
    };
    Ok(AnsweredRow {
        id: match index {
            Some(_) => None,
            None => id
                .and_then(Value::as_str)
                .filter(|id| !id.is_empty())
                .map(str::to_owned),
        },
        index,
        columns,
        question: Some(
            original
                .filter(|text| !text.trim().is_empty())
                .unwrap_or_else(|| query.to_owned()),
        ),
        gold: gold(doc),
        prompt: Some(query.to_owned()),
        replies: replies(response)?,
        scores: match row.get("metric") {
            Some(Value::Object(metric)) => metric.clone(),
            _ => Map::new(),
        },
        ..AnsweredRow::default()
    })
}

fn replies(response: &Map<String, Value>) -> Result<Vec<Reply>, String> {
    let texts = list(response.get("text"), "model_response.text")?;
    if texts.is_empty() {
        return Err("`model_response.text` is empty: the task asks no model to write".to_owned());
    }
    let at = |name: &str, i: usize| response.get(name).and_then(|list| list.get(i));
    let reply = |(i, value): (usize, &Value)| {
        let written = text_or_none(Some(value), &format!("model_response.text.{i}"))?;
        let reasoning = at("reasonings", i)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let tokens = at("output_tokens", i).and_then(Value::as_array);
        Ok(Reply {
            text: written.map(|written| with_reasoning(reasoning, &written)),
            finish: None,
            n_tokens: tokens
                .filter(|tokens| !tokens.is_empty())
                .map(|tokens| tokens.len() as u64),
        })
    };
    texts.iter().enumerate().map(reply).collect()
}

/// The first right answer, without the words that the task's prompt puts before it.
fn gold(doc: &Map<String, Value>) -> Option<String> {
    let index = match doc.get("gold_index")? {
        Value::Array(all) => all.first()?.as_u64()?,
        one => one.as_u64()?,
    };
    let choices = doc.get("choices")?.as_array()?;
    let gold = choices.get(usize::try_from(index).ok()?)?.as_str()?.trim();
    Some(
        gold.strip_prefix("ANSWER:")
            .unwrap_or(gold)
            .trim()
            .to_owned(),
    )
}
