//! `samples_TASK_DATE.jsonl` of lm-evaluation-harness (`--log_samples`), versions 0.4: a row for each
//! document and filter. `resps` is a list of requests, each a list of repeats; the filters only pick
//! from them, so the rows of one document repeat its answers. The first versions name neither filter
//! nor metrics, and hold `arguments` as a list.
//!
//! Source: `lm_eval/evaluator.py`, `lm_eval/loggers/evaluation_tracker.py` of 0.4.13; of 0.4.0 the
//! first.

use serde_json::{Map, Value};

use super::value::{list, number_in, object, sampling, text_if, text_or_none, wrong};
use super::{AnsweredRow, Reply};

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let columns = object(row.get("doc"), "doc")?.clone();
    let doc_id = row.get("doc_id").ok_or("no field `doc_id`")?;
    let index = number_in(doc_id).ok_or_else(|| match doc_id {
        Value::Number(number) => format!("`doc_id` is {number}, not a whole number from 0"),
        other => wrong("doc_id", other, "a whole number from 0"),
    })?;
    let part = |name: &str, at: usize| {
        let all = row.get("arguments")?;
        match all.get(0) {
            Some(request) => request.get(at),
            None => all.get("gen_args_0")?.get(name),
        }
    };
    let prompt = part("arg_0", 0);
    Ok(AnsweredRow {
        index: Some(index),
        columns,
        gold: text_if(row.get("target"), "target").unwrap_or_default(),
        prompt: prompt.and_then(Value::as_str).map(str::to_owned),
        sampling: part("arg_1", 1).map(settings).unwrap_or_default(),
        replies: replies(row)?,
        scores: scores(row),
        filter: Some(text_if(row.get("filter"), "filter")?.unwrap_or_default()),
        ..AnsweredRow::default()
    })
}

/// Every repeat of every request.
fn replies(row: &Map<String, Value>) -> Result<Vec<Reply>, String> {
    let requests = list(row.get("resps"), "resps")?;
    let mut replies = Vec::new();
    for (i, request) in requests.iter().enumerate() {
        let name = format!("resps.{i}");
        for (j, reply) in list(Some(request), &name)?.iter().enumerate() {
            match reply {
                Value::String(text) => replies.push(Reply::of(text)),
                Value::Array(_) => {
                    return Err("`resps` holds log-likelihoods of choices, not texts: the task asks no model to write".to_owned());
                }
                other => replies.push(Reply {
                    text: text_or_none(Some(other), &format!("{name}.{j}"))?,
                    ..Reply::of("")
                }),
            }
        }
    }
    if replies.is_empty() {
        return Err("`resps` is empty".to_owned());
    }
    Ok(replies)
}

/// The metrics that the row names, with their values; where it names none, whatever is a number.
fn scores(row: &Map<String, Value>) -> Map<String, Value> {
    let Some(named) = row.get("metrics").and_then(Value::as_array) else {
        let is_score = |(name, value): &(&String, &Value)| {
            *name != "doc_id" && (value.is_number() || value.is_boolean())
        };
        let scores = row.iter().filter(is_score);
        return scores
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
    };
    let names = named.iter().filter_map(Value::as_str);
    names
        .filter_map(|name| Some((name.to_owned(), row.get(name)?.clone())))
        .collect()
}

/// Sampling as it was asked for. Where neither is stated, lm-eval's models decode greedily.
fn settings(asked: &Value) -> Map<String, Value> {
    let names = [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_gen_toks", "max_tokens"),
        ("max_tokens", "max_tokens"),
    ];
    let mut settings = sampling(asked, &names);
    let samples = asked.get("do_sample").and_then(Value::as_bool);
    if samples == Some(false) || (samples.is_none() && !settings.contains_key("temperature")) {
        settings.insert("temperature".to_owned(), Value::from(0.0));
    }
    if samples == Some(true) && !settings.contains_key("temperature") {
        settings.insert("do_sample".to_owned(), Value::from(true));
    }
    settings
}
