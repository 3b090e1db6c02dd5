//! vLLM: `/completions` with ids as `prompt` and `prompt_logprobs: 0`.
//!
//! ```json
//! {"choices": [{"prompt_logprobs": [null, {"1980": {"logprob": -3.1, "rank": 7, "decoded_token": " a"}}]}]}
//! ```

use serde_json::{Value, json};

use super::super::reply::number;
use super::{Call, Fault, IdsRow, IdsScore, other_ids};
use crate::endpoint::transport::Path;

pub(super) fn call(model: &str, row: &IdsRow) -> Call {
    let body = json!({
        "model": model,
        "prompt": row.ids,
        "prompt_logprobs": 0,
        // `idiolect serve` alone reads this, and sums as its engine does when it scores.
        "prompt_logprobs_start": row.from,
        "add_special_tokens": false,
        "max_tokens": 1,
        "temperature": 0,
        "n": 1,
        "stream": false,
    });
    let mut call = Call::post(Path::Below("completions"), &body);
    call.prompt_tokens = row.ids.len();
    call
}

pub(super) fn read(reply: &Value, row: &IdsRow) -> Result<IdsScore, Fault> {
    let entries = ["/choices/0/prompt_logprobs", "/prompt_logprobs"]
        .iter()
        .find_map(|at| reply.pointer(at)?.as_array())
        .ok_or_else(|| Fault::failed("the reply has no `prompt_logprobs`"))?;
    let n = row.ids.len();
    if entries.len() != n {
        return Err(other_ids(&format!("{n} sent, {} scored", entries.len())));
    }
    let mut logprobs = Vec::with_capacity(n - row.from);
    let mut ranks = Vec::with_capacity(n - row.from);
    for (at, (id, entry)) in row.ids.iter().zip(entries).enumerate().skip(row.from) {
        let entry = entry
            .get(id.to_string())
            .ok_or_else(|| other_ids(&format!("id {id} at {at} is missing")))?;
        let logprob = entry.get("logprob").and_then(number);
        logprobs.push(logprob.ok_or_else(|| {
            Fault::row(format!(
                "the server gives no log-probability of id {id} at {at}"
            ))
        })?);
        ranks.extend(
            entry
                .get("rank")
                .and_then(Value::as_u64)
                .and_then(|rank| u32::try_from(rank).ok())
                .filter(|&rank| rank > 0),
        );
    }
    let ranks = (ranks.len() == logprobs.len()).then_some(ranks);
    Ok(IdsScore { logprobs, ranks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u32, logprob: f64, rank: u32) -> Value {
        json!({ id.to_string(): {"logprob": logprob, "rank": rank, "decoded_token": "x"} })
    }

    #[test]
    fn scores_are_taken_by_id() {
        let row = IdsRow {
            ids: vec![5, 6, 7],
            from: 1,
        };
        let reply = |entries: Value| json!({"choices": [{ "prompt_logprobs": entries }]});
        let good = reply(json!([null, entry(6, -1.5, 2), entry(7, -0.25, 1)]));
        let score = read(&good, &row).unwrap();
        assert_eq!(score.logprobs, [-1.5, -0.25]);
        assert_eq!(score.ranks, Some(vec![2, 1]));
        for entries in [
            json!([null, entry(6, -1.5, 2)]),
            json!([null, entry(6, -1.5, 2), entry(8, -0.25, 1)]),
            json!([null, null, entry(7, -0.25, 1)]),
            json!([null, entry(6, -f64::from(f32::MAX), 2), entry(7, -0.25, 1)]),
        ] {
            let fault = read(&reply(entries.clone()), &row).unwrap_err();
            assert!(matches!(fault, Fault::Row { .. }), "{entries}");
        }
        let absent = read(&json!({"choices": [{"text": ""}]}), &row).unwrap_err();
        assert!(matches!(absent, Fault::Failed { .. }));
    }
}
