//! From an example to the row of tokens that is scored or trained on, and from a context to the
//! tokens that a completion follows.
//!
//! The text is tokenized once, prompt and completion together, and a token belongs to the
//! completion if its first byte does; tokenizing the two apart would give other tokens at the
//! border. Here is template `raw`; `chat` has that of a chat template.

use idiolect_model::{Context, Example, RowError, RowErrorKind, RowTraits};

use crate::tokenizer::{Encoded, Tokenizer};
pub(crate) use chat::turn_end;
pub use chat::{encode_chat_context, encode_chat_example};

mod chat;

/// What a model can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest row in tokens (`max_position_embeddings`).
    pub max_position_embeddings: usize,
    /// Rows of the embedding.
    pub vocabulary: usize,
}

/// A tokenized example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Row {
    /// The whole row: special tokens, prompt, completion, end token.
    pub ids: Vec<u32>,
    /// Index in `ids` of the completion's first token; at least 1.
    pub completion_start: usize,
    /// Index in `ids` of the first token that takes part in the training loss: the model has to
    /// write all that follows the place where it is asked to begin, and a chat template may put
    /// something between that and the completion. At least 1, at most `completion_start`.
    pub loss_start: usize,
    /// For `ids[completion_start..]`, the offset of its first byte from the first byte of the
    /// completion; the end token has the completion's length (to where its text begins, where it
    /// ends in an end token).
    pub byte_starts: Vec<u32>,
    /// What a person should know of how it was made.
    pub traits: RowTraits,
}

/// A completion without the end tokens that its text ends in, and whether there were any: the row
/// gets one of its own. Space behind such a token is no part of what is written either.
fn without_end<'a>(tokenizer: &Tokenizer, completion: &'a str) -> (&'a str, bool) {
    let special = |id: &&u32| tokenizer.is_special(**id);
    let ends: Vec<String> = tokenizer
        .stops()
        .iter()
        .filter(special)
        .filter_map(|id| tokenizer.token(*id))
        .filter(|text| !text.is_empty())
        .collect();
    let mut rest = completion;
    while let Some(before) = ends
        .iter()
        .find_map(|end| rest.trim_end().strip_suffix(end.as_str()))
    {
        rest = before;
    }
    (rest, rest.len() < completion.len())
}

/// Tokenizes an example with template `raw`: prompt + completion once, then the end token.
///
/// # Errors
/// When nothing can be scored or trained on, or the model cannot hold the row.
pub fn encode_example(
    tokenizer: &Tokenizer,
    limits: Limits,
    example: &Example,
) -> Result<Row, RowError> {
    let prompt = raw_prompt(&example.context)?;
    let (completion, end_in_text) = without_end(tokenizer, &example.completion);
    if completion.is_empty() {
        return refuse("the completion is empty");
    }
    let encoded = encode_text(tokenizer, &[prompt, completion].concat())?;
    let border = prompt.len();
    let text_spans = &encoded.spans[encoded.lead..];
    let completion_start = encoded.lead
        + text_spans
            .iter()
            .take_while(|&&(start, _)| start < border)
            .count();
    if completion_start == encoded.ids.len() {
        return refuse("no token begins in the completion: the prompt's last token covers it");
    }
    if completion_start == 0 {
        return refuse(
            "the prompt is empty and the tokenizer puts no special token before a text, so the \
             first token follows nothing; give a prompt",
        );
    }
    let mut byte_starts = encoded.spans[completion_start..]
        .iter()
        .map(|&(start, _)| offset(start - border))
        .collect::<Result<Vec<u32>, RowError>>()?;
    byte_starts.push(offset(completion.len())?);
    let traits = RowTraits {
        straddled: encoded.spans[completion_start - 1].1 > border,
        end_in_text,
        other_prompt: false,
    };
    let mut ids = encoded.ids;
    ids.push(tokenizer.end());
    check(limits, &ids, ids.len())?;
    Ok(Row {
        ids,
        completion_start,
        loss_start: completion_start,
        byte_starts,
        traits,
    })
}

/// Tokenizes what a completion is to follow. At least one token more fits the model.
///
/// # Errors
/// When there is nothing to follow, or the model cannot hold it.
pub fn encode_context(
    tokenizer: &Tokenizer,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u32>, RowError> {
    let ids = encode_text(tokenizer, raw_prompt(context)?)?.ids;
    if ids.is_empty() {
        return refuse(
            "the prompt is empty and the tokenizer puts no special token before a text; give a \
             prompt",
        );
    }
    check(limits, &ids, ids.len() + 1)?;
    Ok(ids)
}

/// Tokenizes a whole text to train on: special tokens, text, end token, cut into rows that the
/// model can hold. Every token but the first of each row is a target.
///
/// # Errors
/// When the text is empty or a token is not in the model's vocabulary.
pub fn encode_whole(
    tokenizer: &Tokenizer,
    limits: Limits,
    text: &str,
) -> Result<Vec<Vec<u32>>, RowError> {
    let mut ids = encode_text(tokenizer, text)?.ids;
    ids.push(tokenizer.end());
    if ids.len() < 2 {
        return refuse("the text has no token that follows another");
    }
    check(limits, &ids, 0)?;
    // The last token of a row is the context of the next, so that no target is lost at a cut.
    let step = limits.max_position_embeddings.saturating_sub(1).max(1);
    let starts = (0..ids.len() - 1).step_by(step);
    Ok(starts
        .map(|start| ids[start..ids.len().min(start + step + 1)].to_vec())
        .collect())
}

fn raw_prompt(context: &Context) -> Result<&str, RowError> {
    match context {
        Context::Prompt(prompt) => Ok(prompt),
        Context::Messages(_) => Err(RowError {
            kind: RowErrorKind::Template,
            reason: "a row of messages needs a chat template, and this model is used without one \
                     (template raw); give `prompt` and `completion`"
                .to_owned(),
        }),
    }
}

fn encode_text(tokenizer: &Tokenizer, text: &str) -> Result<Encoded, RowError> {
    tokenizer.encode(text).map_err(|reason| RowError {
        kind: RowErrorKind::Tokens,
        reason: format!("the text cannot be tokenized: {reason}"),
    })
}

fn offset(bytes: usize) -> Result<u32, RowError> {
    u32::try_from(bytes).map_err(|_| RowError {
        kind: RowErrorKind::TooLong,
        reason: "the completion is longer than 4 GiB".to_owned(),
    })
}

/// Refuses rows that need more than the model's positions and ids beyond its embedding.
fn check(limits: Limits, ids: &[u32], needed: usize) -> Result<(), RowError> {
    if needed > limits.max_position_embeddings {
        return Err(RowError {
            kind: RowErrorKind::TooLong,
            reason: format!(
                "the row needs {needed} tokens and the model holds {} (`max_position_embeddings`)",
                limits.max_position_embeddings
            ),
        });
    }
    match ids.iter().find(|&&id| id as usize >= limits.vocabulary) {
        Some(id) => Err(RowError {
            kind: RowErrorKind::Tokens,
            reason: format!(
                "token {id} is outside the model's vocabulary of {}; the tokenizer is another model's",
                limits.vocabulary
            ),
        }),
        None => Ok(()),
    }
}

/// Refuses a row that has nothing to score or to train on.
fn refuse<T>(reason: &str) -> Result<T, RowError> {
    Err(RowError {
        kind: RowErrorKind::NoTarget,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests;
