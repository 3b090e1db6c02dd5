//! Outputs of vLLM's offline inference (`LLM.generate`, `LLM.chat`), one `RequestOutput` a row as an
//! object: `{"request_id", "prompt", "outputs": [{"index", "text", "token_ids", "finish_reason"}]}`.
//! vLLM itself writes no such file: this is what `dataclasses.asdict` of its outputs, or of their
//! fields, gives. `problem_id` (or `custom_id`, `id`) beside them names the problem; other fields of
//! the row are taken as columns of the problem.
//!
//! Source: `vllm/outputs.py`.

use serde_json::{Map, Value};

use super::value::{list, problem_named, text_if, text_or_none};
use super::{AnsweredRow, Reply};

/// What a `RequestOutput` holds, and so no column of the problem.
const OWN: [&str; 14] = [
    "request_id",
    "prompt",
    "prompt_token_ids",
    "prompt_logprobs",
    "outputs",
    "finished",
    "metrics",
    "lora_request",
    "encoder_prompt",
    "encoder_prompt_token_ids",
    "num_cached_tokens",
    "kv_transfer_params",
    "multi_modal_placeholders",
    "model",
];

/// What names the problem.
const IDS: [&str; 3] = ["problem_id", "custom_id", "id"];

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let (id, index) = problem_named(row, &IDS)?;
    let columns = row
        .iter()
        .filter(|(name, _)| !OWN.contains(&name.as_str()) && !IDS.contains(&name.as_str()));
    let outputs = list(row.get("outputs"), "outputs")?;
    if outputs.is_empty() {
        return Err("`outputs` is empty".to_owned());
    }
    let reply = |(i, output): (usize, &Value)| {
        let tokens = output.get("token_ids").and_then(Value::as_array);
        Ok(Reply {
            text: text_or_none(output.get("text"), &format!("outputs.{i}.text"))?,
            finish: text_if(
                output.get("finish_reason"),
                &format!("outputs.{i}.finish_reason"),
            )?,
            n_tokens: tokens.map(|tokens| tokens.len() as u64),
        })
    };
    Ok(AnsweredRow {
        id,
        index,
        columns: columns
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        prompt: text_if(row.get("prompt"), "prompt")?,
        model: text_if(row.get("model"), "model")?,
        replies: outputs
            .iter()
            .enumerate()
            .map(reply)
            .collect::<Result<_, String>>()?,
        ..AnsweredRow::default()
    })
}
