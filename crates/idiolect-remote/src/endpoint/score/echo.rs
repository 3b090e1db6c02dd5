//! `/completions` with ids as `prompt`, `echo` and `logprobs`, the way of the first such servers.
//!
//! ```json
//! {"choices": [{"logprobs": {"tokens": ["a", " b", "!"], "token_logprobs": [null, -3.1, -0.2]}}]}
//! ```
//!
//! The reply repeats the prompt and adds what was written; ids are compared where it gives them.

use serde_json::{Value, json};

use super::super::reply::number;
use super::{Call, Fault, IdsRow, IdsScore, other_ids};
use crate::endpoint::transport::Path;

pub(super) fn call(model: &str, row: &IdsRow) -> Call {
    let body = json!({
        "model": model,
        "prompt": row.ids,
        "echo": true,
        "logprobs": 1,
        // Some servers refuse 0.
        "max_tokens": 1,
        "temperature": 0,
        "stream": false,
    });
    let mut call = Call::post(Path::Below("completions"), &body);
    call.prompt_tokens = row.ids.len();
    call
}

pub(super) fn read(reply: &Value, row: &IdsRow) -> Result<IdsScore, Fault> {
    let list = |at: &str| reply.pointer(at).and_then(Value::as_array);
    let values = list("/choices/0/logprobs/token_logprobs")
        .ok_or_else(|| Fault::failed("the reply has no `logprobs.token_logprobs`"))?;
    let n = row.ids.len();
    let written = reply
        .pointer("/usage/completion_tokens")
        .and_then(Value::as_u64)
        .map_or(0..=1, |written| written..=written);
    let beyond = (values.len() as u64).checked_sub(n as u64);
    if !beyond.is_some_and(|beyond| written.contains(&beyond)) {
        return Err(other_ids(&format!(
            "{n} sent, {} scored with what was written",
            values.len()
        )));
    }
    let same = match ids(reply) {
        Some(ids) => ids.len() >= n && ids.iter().zip(&row.ids).all(|(a, b)| a == b),
        None => true,
    };
    if !same {
        return Err(other_ids("the ids that it repeats differ"));
    }
    let logprobs = values[row.from..n]
        .iter()
        .map(number)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Fault::row("the server leaves out the log-probabilities of some tokens"))?;
    Ok(IdsScore {
        logprobs,
        ranks: None,
    })
}

/// The ids that a reply repeats, where it does: as `prompt_token_ids`, or as `token_id:17`.
fn ids(reply: &Value) -> Option<Vec<u32>> {
    let number = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    if let Some(ids) = reply
        .pointer("/choices/0/prompt_token_ids")
        .and_then(Value::as_array)
    {
        return ids.iter().map(number).collect();
    }
    let tokens = reply.pointer("/choices/0/logprobs/tokens")?.as_array()?;
    tokens
        .iter()
        .map(|token| token.as_str()?.strip_prefix("token_id:")?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(values: Value, tokens: Value) -> Value {
        let logprobs = json!({"token_logprobs": values, "tokens": tokens});
        json!({"choices": [{ "logprobs": logprobs }], "usage": {"completion_tokens": 1}})
    }

    #[test]
    fn scores_are_taken_by_index_and_the_count_must_match() {
        let row = IdsRow {
            ids: vec![5, 6, 7],
            from: 2,
        };
        let tokens = json!(["a", "b", "c", "d"]);
        let good = reply(json!([null, -1.0, -2.0, -3.0]), tokens.clone());
        assert_eq!(read(&good, &row).unwrap().logprobs, [-2.0]);
        let named = json!(["token_id:5", "token_id:6", "token_id:7", "token_id:9"]);
        assert!(read(&reply(json!([null, -1.0, -2.0, -3.0]), named), &row).is_ok());
        let other = json!(["token_id:5", "token_id:8", "token_id:7", "token_id:9"]);
        for bad in [
            // llama.cpp and others ignore `echo`.
            reply(json!([-3.0]), json!(["d"])),
            reply(json!([null, -1.0, -2.0]), tokens.clone()),
            reply(json!([null, -1.0, null, -3.0]), tokens),
            reply(json!([null, -1.0, -2.0, -3.0]), other),
        ] {
            assert!(matches!(read(&bad, &row), Err(Fault::Row { .. })), "{bad}");
        }
        let absent = json!({"choices": [{ "logprobs": null }]});
        assert!(matches!(read(&absent, &row), Err(Fault::Failed { .. })));
    }
}
