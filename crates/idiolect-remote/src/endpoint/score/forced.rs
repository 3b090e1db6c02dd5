//! llama.cpp: its own `/completion` writes the given ids, one by one, because a grammar allows no
//! others, and gives how probable each was without it.
//!
//! ```json
//! {"completion_probabilities": [{"id": 17, "token": " a", "logprob": -3.1, "top_logprobs": []}]}
//! ```
//!
//! A grammar cannot demand a token that ends the text: where it ends, the server allows such tokens
//! and nothing else. So the last id is left out of the grammar first, and whether it comes by itself
//! shows whether it is an end token.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::super::reply::number;
use super::{Call, Fault, IdsRow, IdsScore, Stop, Transport, ask, other_ids};
use crate::endpoint::transport::Path;

/// Which last ids were found to end a text, and which not.
#[derive(Debug, Default)]
pub(super) struct EndTokens(Mutex<BTreeMap<u32, bool>>);

impl EndTokens {
    fn get(&self, id: u32) -> Option<bool> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).copied()
    }

    fn learn(&self, id: u32, ends: bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, ends);
    }
}

pub(super) async fn score(
    transport: &Transport,
    _model: &str,
    row: &IdsRow,
    ends: &EndTokens,
    strict: bool,
) -> Result<IdsScore, Stop> {
    // Callers send no empty row.
    let last = row.ids.last().copied().unwrap_or_default();
    let known = ends.get(last);
    if known != Some(false) {
        let read_end = |value: &Value| match read(value, row) {
            // All came but the last, where another end token is.
            Err(Unread::LastOnly) if known.is_none() => Ok(None),
            other => other.map(Some).map_err(Unread::fault),
        };
        if let Some(score) = ask(transport, &call(row, true), strict, &read_end).await? {
            ends.learn(last, true);
            return Ok(score);
        }
        ends.learn(last, false);
    }
    let read_all = |value: &Value| read(value, row).map_err(Unread::fault);
    ask(transport, &call(row, false), strict, &read_all).await
}

/// A request that forces the row; `ends`: its last id is the one that ends the text.
fn call(row: &IdsRow, ends: bool) -> Call {
    let (prompt, forced) = row.ids.split_at(row.from);
    let n = forced.len();
    let in_grammar = if ends { &forced[..n - 1] } else { forced };
    let mut grammar = "root ::= \"\"".to_owned();
    for id in in_grammar {
        // Writing to a string does not fail.
        let _ = write!(grammar, " <[{id}]>");
    }
    let mut body = json!({
        "prompt": prompt,
        "n_predict": n,
        "n_probs": 1,
        "post_sampling_probs": false,
        "grammar": grammar,
        "temperature": 0,
        "return_tokens": true,
        "cache_prompt": true,
        "stream": false,
    });
    if ends {
        // Of several end tokens, this one. It changes what is chosen, not what is reported.
        body["logit_bias"] = json!([[forced[n - 1], 1000.0]]);
    }
    let mut call = Call::post(Path::Beside("completion"), &body);
    call.prompt_tokens = row.ids.len();
    call
}

/// Why no scores were read.
enum Unread {
    /// All ids came back but the last.
    LastOnly,
    Fault(Fault),
}

impl Unread {
    fn fault(self) -> Fault {
        match self {
            Self::LastOnly => other_ids("the last one differs"),
            Self::Fault(fault) => fault,
        }
    }
}

fn read(reply: &Value, row: &IdsRow) -> Result<IdsScore, Unread> {
    let fault = |fault| Err(Unread::Fault(fault));
    let Some(entries) = reply
        .get("completion_probabilities")
        .and_then(Value::as_array)
    else {
        return fault(Fault::failed("the reply has no `completion_probabilities`"));
    };
    let forced = &row.ids[row.from..];
    if entries.len() != forced.len() {
        return if entries.len() + 1 == forced.len() {
            // It stopped where the grammar ended, without a word.
            Err(Unread::LastOnly)
        } else {
            fault(other_ids(&format!(
                "{} sent, {} scored",
                forced.len(),
                entries.len()
            )))
        };
    }
    let mut logprobs = Vec::with_capacity(forced.len());
    for (at, (id, entry)) in forced.iter().zip(entries).enumerate() {
        if entry.get("id").and_then(Value::as_u64) != Some(u64::from(*id)) {
            return if at + 1 == forced.len() {
                Err(Unread::LastOnly)
            } else {
                fault(other_ids(&format!(
                    "id {id} at {} is missing",
                    row.from + at
                )))
            };
        }
        let Some(logprob) = entry.get("logprob").and_then(number) else {
            return fault(Fault::row(format!(
                "the server gives no log-probability of id {id} at {}",
                row.from + at
            )));
        };
        logprobs.push(logprob);
    }
    Ok(IdsScore {
        logprobs,
        ranks: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_forces_the_ids_and_leaves_an_end_token_out() {
        let row = IdsRow {
            ids: vec![5, 6, 7, 2],
            from: 1,
        };
        let body = |ends| -> Value {
            serde_json::from_slice(call(&row, ends).body.as_deref().unwrap()).unwrap()
        };
        assert_eq!(body(true)["grammar"], "root ::= \"\" <[6]> <[7]>");
        assert_eq!(body(false)["grammar"], "root ::= \"\" <[6]> <[7]> <[2]>");
        assert_eq!(body(true)["n_predict"], 3);
        assert_eq!(body(true)["prompt"], json!([5]));
    }
}
