//! Scores of token ids through a server: ids in, log-probabilities out, checked by count and by id.

mod echo;
mod forced;
mod order;
mod prompt_logprobs;

use std::sync::Arc;

use idiolect_model::{ModelError, RowError, RowErrorKind, Sink};
use serde_json::Value;

use super::fan_out::fan_out;
use super::refusal::Fault;
use super::transport::{Call, Stop, Transport};
use super::{Endpoint, network};
use forced::EndTokens;

/// A row to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdsRow {
    /// The whole row: prompt, completion and end token.
    pub ids: Vec<u32>,
    /// The first id that is scored; at least 1, for the first id of a row follows nothing.
    pub from: usize,
}

/// What a server finds of `ids[from..]`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IdsScore {
    /// Log-probability of each id, nats.
    pub logprobs: Vec<f32>,
    /// Rank of each id, 1 for the most probable, where the server gives it.
    pub ranks: Option<Vec<u32>>,
}

/// How a server scores given token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScoringMethod {
    /// `prompt_logprobs` of `/completions`: vLLM. One pass a row; gives ranks.
    PromptLogprobs,
    /// `echo` with `logprobs` of `/completions`. One pass a row.
    Echo,
    /// A grammar that forces the ids, through llama.cpp's own `/completion`. One step a token.
    ForcedGrammar,
}

impl ScoringMethod {
    /// In the order in which they are tried: the exact and cheap ones first.
    const ALL: [Self; 3] = [Self::PromptLogprobs, Self::Echo, Self::ForcedGrammar];

    /// Whether scores hold ranks.
    pub fn gives_ranks(self) -> bool {
        self == Self::PromptLogprobs
    }

    /// A name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptLogprobs => "`prompt_logprobs` (vLLM)",
            Self::Echo => "`echo` with `logprobs`",
            Self::ForcedGrammar => "a grammar that forces the tokens (llama.cpp)",
        }
    }

    /// Scores one row.
    async fn score(
        self,
        transport: &Transport,
        model: &str,
        row: &IdsRow,
        ends: &EndTokens,
        strict: bool,
    ) -> Result<IdsScore, Stop> {
        match self {
            Self::PromptLogprobs => {
                let call = prompt_logprobs::call(model, row);
                ask(transport, &call, strict, &|value| {
                    prompt_logprobs::read(value, row)
                })
                .await
            }
            Self::Echo => {
                let call = echo::call(model, row);
                ask(transport, &call, strict, &|value| echo::read(value, row)).await
            }
            Self::ForcedGrammar => forced::score(transport, model, row, ends, strict).await,
        }
    }
}

impl Endpoint {
    /// Finds out how the server scores given token ids, and whether it gives the same scores in
    /// either order of requests that share a beginning. Done once; a few tiny requests.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where it does not, with its reply to each way.
    pub fn probe_scoring(&mut self) -> Result<ScoringMethod, ModelError> {
        if let Some(method) = self.scoring {
            return Ok(method);
        }
        let network = network()?;
        let alphabet = order::alphabet(self.token_ids(order::TEXT)?);
        let mut reasons = Vec::new();
        for method in ScoringMethod::ALL {
            let tried =
                order::same_in_both_orders(&self.transport, &self.info.name, method, &alphabet);
            match network.block_on(tried) {
                Ok(()) => {
                    self.scoring = Some(method);
                    return Ok(method);
                }
                Err(order::Trouble::Absent(reason)) => {
                    reasons.push(format!("{}: {reason}", method.name()));
                }
                Err(order::Trouble::Depends(reason)) => {
                    return Err(ModelError::Unsupported(reason));
                }
                Err(order::Trouble::Dead(error)) => return Err(error),
            }
        }
        Err(ModelError::Unsupported(format!(
            "the server of `{}` does not give the log-probabilities of given tokens. {}",
            self.info.name,
            reasons.join(". ")
        )))
    }

    /// Scores rows of token ids: of each, the log-probability (and rank, where the server gives it)
    /// of every id from `from` on. Each index is given to the sink once, in any order, as replies
    /// come.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] before any work where the server cannot score.
    pub fn score_ids(
        &mut self,
        rows: &[IdsRow],
        sink: Sink<'_, IdsScore>,
    ) -> Result<(), ModelError> {
        let method = self.probe_scoring()?;
        let ends = Arc::new(EndTokens::default());
        let start = |index: usize| -> Result<_, RowError> {
            let row: IdsRow = rows[index].clone();
            if row.from == 0 || row.from >= row.ids.len() {
                return Err(RowError {
                    kind: RowErrorKind::NoTarget,
                    reason: format!(
                        "the row has {} tokens and is to be scored from {}: nothing to score, or \
                         nothing before it",
                        row.ids.len(),
                        row.from
                    ),
                });
            }
            let transport = Arc::clone(&self.transport);
            let (name, ends) = (self.info.name.clone(), Arc::clone(&ends));
            Ok(async move { method.score(&transport, &name, &row, &ends, false).await })
        };
        fan_out(rows.len(), self.transport.settings.in_flight, start, sink)
    }
}

/// Asks for scores and counts what they cost. `strict` takes what is missing for an answer: that of
/// a server that does not give it.
async fn ask<T>(
    transport: &Transport,
    call: &Call,
    strict: bool,
    read: &(dyn Fn(&Value) -> Result<T, Fault> + Send + Sync),
) -> Result<T, Stop> {
    let read_and_count = |value: &Value| {
        let found = read(value).map_err(|fault| match fault {
            Fault::Failed { reason, .. } if strict => Fault::row(reason),
            fault => fault,
        })?;
        let usage = |pointers: [&str; 2]| {
            let counts = pointers.iter().filter_map(|at| value.pointer(at)?.as_u64());
            counts.into_iter().next().unwrap_or(0)
        };
        transport.counters.tokens(
            usage(["/usage/prompt_tokens", "/tokens_evaluated"]),
            usage(["/usage/completion_tokens", "/tokens_predicted"]),
        );
        Ok(found)
    };
    let key = call.body.as_deref().map_or(0, |body| body.len() as u64);
    transport.ask(call, &read_and_count, key).await
}

/// The error of a reply that scores other tokens than those sent.
fn other_ids(what: &str) -> Fault {
    Fault::row(format!(
        "the server scored other tokens than those that were sent: {what}"
    ))
}
