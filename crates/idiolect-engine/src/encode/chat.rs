//! Rows of a chat template: the rendered conversation, tokenized once.

use idiolect_core::model::{Context, Example, Message, RowError, RowErrorKind};

use super::{Limits, Row, check, offset, refuse};
use crate::template::ChatTemplate;
use crate::tokenizer::{Encoded, Tokenizer};

/// Tokenizes an example: the conversation with the completion as the assistant's turn, up to the
/// token that ends the turn.
///
/// # Errors
/// When the template refuses the conversation, the completion is not in what it renders, nothing
/// can be scored or learnt, or the model cannot hold the row.
pub fn encode_chat_example(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    limits: Limits,
    example: &Example,
) -> Result<Row, RowError> {
    let mut messages = turns(&example.context);
    let asked = render(template, &messages, true)?;
    messages.push(message("assistant", &example.completion));
    let whole = render(template, &messages, false)?;
    let Some(place) = find_completion(&whole, &asked, &example.completion) else {
        return refuse(
            "the completion is empty or the chat template changes it, so that its tokens cannot \
             be told from the template's",
        );
    };
    let encoded = encode(tokenizer, &whole)?;
    let starts_at = |byte: usize| encoded.spans.partition_point(|&(start, _)| start < byte);
    let first_target = starts_at(place.start);
    if first_target == 0 || first_target >= starts_at(place.end) {
        return refuse("no token begins in the completion");
    }
    let behind = starts_at(place.end);
    let mut ids = encoded.ids;
    match ids[behind..]
        .iter()
        .position(|id| tokenizer.stops().contains(id))
    {
        Some(end) => ids.truncate(behind + end + 1),
        // A template that ends no turn: the text still ends.
        None => {
            ids.truncate(behind);
            ids.push(tokenizer.end());
        }
    }
    let n_bytes = example.completion.len();
    let from_start = |span: &(usize, usize)| (span.0 + place.skipped - place.start).min(n_bytes);
    let mut byte_starts = encoded.spans[first_target..ids.len() - 1]
        .iter()
        .map(|span| offset(from_start(span)))
        .collect::<Result<Vec<u32>, RowError>>()?;
    byte_starts.push(offset(n_bytes)?);
    check(limits, &ids, ids.len())?;
    Ok(Row {
        learn_from: place
            .answer
            .map_or(first_target, starts_at)
            .min(first_target),
        straddled: encoded.spans[first_target - 1].1 > place.start,
        ids,
        first_target,
        byte_starts,
    })
}

/// Tokenizes the conversation that an assistant's turn is to follow.
///
/// # Errors
/// When the template refuses it or the model cannot hold it.
pub fn encode_chat_context(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    limits: Limits,
    context: &Context,
) -> Result<Vec<u32>, RowError> {
    let ids = encode(tokenizer, &render(template, &turns(context), true)?)?.ids;
    if ids.is_empty() {
        return refuse("the chat template renders nothing for this conversation");
    }
    check(limits, &ids, ids.len() + 1)?;
    Ok(ids)
}

/// The token that a template puts behind an assistant's turn, if it is a special one.
pub(crate) fn turn_end(tokenizer: &Tokenizer, template: &ChatTemplate) -> Option<u32> {
    let said = "Yes.";
    let turns = [message("user", "Is it?"), message("assistant", said)];
    let asked = template.render(&turns[..1], true).ok()?;
    let whole = template.render(&turns, false).ok()?;
    let place = find_completion(&whole, &asked, said)?;
    let encoded = tokenizer.encode_rendered(&whole).ok()?;
    let behind = encoded
        .spans
        .partition_point(|&(start, _)| start < place.end);
    let special = |id: &&u32| tokenizer.is_special(**id);
    encoded.ids[behind..].iter().find(special).copied()
}

/// Where the completion lies in the rendered conversation.
struct Place {
    start: usize,
    end: usize,
    /// Bytes at the completion's beginning that the template left out.
    skipped: usize,
    /// Where the assistant begins to write, if what is asked is rendered alike without the answer.
    answer: Option<usize>,
}

/// Templates trim what was said, and may put something before it (an empty thought, say).
fn find_completion(whole: &str, asked: &str, completion: &str) -> Option<Place> {
    let answer = whole.starts_with(asked).then_some(asked.len());
    let from = answer.unwrap_or(0);
    let trimmed = completion.trim();
    if trimmed.is_empty() {
        return None;
    }
    let lead = completion.len() - completion.trim_start().len();
    [(completion, 0), (trimmed, lead)]
        .into_iter()
        .find_map(|(text, skipped)| {
            let rest = &whole[from..];
            // Without a place to begin at, the answer is the last that was said.
            let at = if answer.is_some() {
                rest.find(text)
            } else {
                rest.rfind(text)
            };
            let start = from + at?;
            Some(Place {
                start,
                end: start + text.len(),
                skipped,
                answer,
            })
        })
}

fn turns(context: &Context) -> Vec<Message> {
    match context {
        Context::Prompt(prompt) => vec![message("user", prompt)],
        Context::Messages(messages) => messages.clone(),
    }
}

fn message(role: &str, content: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: content.to_owned(),
    }
}

fn render(template: &ChatTemplate, messages: &[Message], prompt: bool) -> Result<String, RowError> {
    template
        .render(messages, prompt)
        .map_err(|reason| RowError {
            kind: RowErrorKind::Template,
            reason,
        })
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Encoded, RowError> {
    tokenizer.encode_rendered(text).map_err(|reason| RowError {
        kind: RowErrorKind::Tokens,
        reason: format!("the rendered conversation cannot be tokenized: {reason}"),
    })
}
