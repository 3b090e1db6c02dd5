//! Rows of a chat template: the rendered conversation, tokenized once.

use idiolect_model::{ChatFields, Context, Example, Message, RowError, RowErrorKind, RowTraits};

use serde_json::{Map, Value};

use super::{Limits, Row, check, offset, refuse, without_end};
use crate::template::ChatTemplate;
use crate::tokenizer::{Encoded, Tokenizer};

/// Tokenizes an example: the conversation with the completion as the assistant's turn, up to the
/// token that ends the turn.
///
/// The row begins with the prompt that asks for the turn (`add_generation_prompt`), whatever the
/// template renders before a finished one: what is trained and scored follows the text that
/// generation starts from.
///
/// # Errors
/// When the template refuses the conversation, the completion is not in what it renders, nothing
/// can be scored or trained on, or the model cannot hold the row.
pub fn encode_chat_example(
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    limits: Limits,
    example: &Example,
) -> Result<Row, RowError> {
    let (completion, end_in_text) = without_end(tokenizer, &example.completion);
    if completion.trim().is_empty() {
        return refuse("the completion is empty");
    }
    let conversation = Conversation {
        template,
        turns: turns(&example.context),
        chat: &example.chat,
    };
    let rendered = conversation.answered(completion)?;
    let encoded = encode(tokenizer, &rendered.text)?;
    let starts_at = |byte: usize| encoded.spans.partition_point(|&(start, _)| start < byte);
    // What the prompt already holds of the completion is given.
    let border = rendered.start.max(rendered.asked);
    let completion_start = starts_at(border);
    let behind = starts_at(rendered.end);
    if completion_start == 0 || completion_start >= behind {
        return refuse("no token begins in the completion");
    }
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
    let n_bytes = completion.len();
    let from_start = |span: &(usize, usize)| {
        (span.0 + rendered.skipped)
            .saturating_sub(rendered.start)
            .min(n_bytes)
    };
    let mut byte_starts = encoded.spans[completion_start..ids.len() - 1]
        .iter()
        .map(|span| offset(from_start(span)))
        .collect::<Result<Vec<u32>, RowError>>()?;
    byte_starts.push(offset(n_bytes)?);
    check(limits, &ids, ids.len())?;
    Ok(Row {
        loss_start: starts_at(rendered.asked).min(completion_start),
        traits: RowTraits {
            straddled: encoded.spans[completion_start - 1].1 > border,
            end_in_text,
            other_prompt: rendered.other_prompt,
        },
        ids,
        completion_start,
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
    let chat = ChatFields::default();
    let conversation = Conversation {
        template,
        turns: turns(context),
        chat: &chat,
    };
    let ids = encode(tokenizer, &conversation.asked()?)?.ids;
    if ids.is_empty() {
        return refuse("the chat template renders nothing for this conversation");
    }
    check(limits, &ids, ids.len() + 1)?;
    Ok(ids)
}

/// The token that a template puts behind an assistant's turn, if it is a special one.
pub(crate) fn turn_end(tokenizer: &Tokenizer, template: &ChatTemplate) -> Option<u32> {
    let chat = ChatFields::default();
    let conversation = Conversation {
        template,
        turns: vec![Message::new("user", "Is it?")],
        chat: &chat,
    };
    let rendered = conversation.answered("Yes.").ok()?;
    let encoded = tokenizer.encode_rendered(&rendered.text).ok()?;
    let behind = encoded
        .spans
        .partition_point(|&(start, _)| start < rendered.end);
    let special = |id: &&u32| tokenizer.is_special(**id);
    encoded.ids[behind..].iter().find(special).copied()
}

/// Turns that an answer is to follow, and the template that renders them.
struct Conversation<'a> {
    template: &'a ChatTemplate,
    turns: Vec<Message>,
    chat: &'a ChatFields,
}

/// A conversation with its answer as one text.
struct Rendered {
    text: String,
    /// Where the completion lies in it.
    start: usize,
    end: usize,
    /// Bytes at the completion's beginning that are left out.
    skipped: usize,
    /// Where the prompt that asks for the answer ends.
    asked: usize,
    /// Whether the template itself renders the finished answer after another prompt.
    other_prompt: bool,
}

/// A stand-in for an answer where only what a template puts around it is wanted: letters and digits,
/// which no template escapes.
const ANSWER: &str = "Answer7b41f9e3";

impl Conversation<'_> {
    /// The text that the assistant is to continue.
    fn asked(&self) -> Result<String, RowError> {
        self.render(&self.turns, true)
    }

    /// The finished turn, with its further fields, as the template renders it.
    fn finished(&self, completion: &str, fields: Map<String, Value>) -> Result<String, RowError> {
        let mut turns = self.turns.clone();
        turns.push(Message {
            fields,
            ..Message::new("assistant", completion)
        });
        self.render(&turns, false)
    }

    /// What the template puts before and behind the assistant's text.
    fn around(&self, fields: Map<String, Value>) -> Result<(String, String), RowError> {
        let rendered = self.finished(ANSWER, fields)?;
        let around = rendered.rsplit_once(ANSWER);
        around
            .map(|(before, after)| (before.to_owned(), after.to_owned()))
            .ok_or_else(|| template_fault("the chat template does not render the assistant's text"))
    }

    fn render(&self, turns: &[Message], prompt: bool) -> Result<String, RowError> {
        self.template
            .render_with(turns, &self.chat.variables, prompt)
            .map_err(|reason| template_fault(&reason))
    }

    /// The prompt that asks, the completion, and what the template puts around it.
    fn answered(&self, completion: &str) -> Result<Rendered, RowError> {
        let asked = self.asked()?;
        let fields = &self.chat.answer;
        let whole = self.finished(completion, fields.clone())?;
        // What follows an answer is seen beside another one: nothing of a completion is sought in
        // the template's own text.
        let (before, after) = self.around(fields.clone())?;
        let after = after.as_str();
        if !whole.starts_with(&asked) {
            // What the template makes of such fields has no place between the prompt that asks and
            // the completion.
            if !fields.is_empty() && self.around(Map::new())?.0 != before {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                return Err(template_fault(&format!(
                    "the chat template renders fields of the last turn ({}) after another text \
                     than the prompt that asks for it (add_generation_prompt); write them into its \
                     `content`",
                    names.join(", ")
                )));
            }
            // The template decides whether space at the end of a turn stays.
            let kept = whole
                .strip_suffix(after)
                .is_some_and(|body| body.ends_with(&completion[completion.trim_end().len()..]));
            let completion = if kept {
                completion
            } else {
                completion.trim_end()
            };
            return Ok(after_prompt(&asked, &before, completion, after));
        }
        let body = whole.strip_suffix(after).unwrap_or_default();
        let lead = completion.len() - completion.trim_start().len();
        // Templates trim the text, and may put something before it (for example an empty thought).
        let forms = [
            (completion, 0),
            (completion.trim_end(), 0),
            (completion.trim_start(), lead),
            (completion.trim(), lead),
        ];
        // Behind the template's own text exactly, where that does not depend on the answer.
        let text_of_turn = body.strip_prefix(before.as_str());
        let found = forms
            .iter()
            .find(|(text, _)| text_of_turn == Some(*text))
            .or_else(|| forms.iter().find(|(text, _)| body.ends_with(text)));
        let Some(&(text, skipped)) = found else {
            return Err(template_fault(
                "the chat template changes the completion, so that its tokens cannot be told from \
                 the template's",
            ));
        };
        Ok(Rendered {
            start: body.len() - text.len(),
            end: body.len(),
            skipped,
            asked: asked.len(),
            other_prompt: false,
            text: whole,
        })
    }
}

/// A row of a template whose finished turn does not begin with the prompt that asks for it: that
/// prompt, the completion as it is, and what the template puts behind a turn. `before` is what the
/// template puts before a finished turn.
fn after_prompt(asked: &str, before: &str, completion: &str, after: &str) -> Rendered {
    // What the prompt that asks puts behind the beginning of a turn, for example `<think>` and a
    // line break, may begin the completion as well.
    let opening = asked
        .strip_prefix(before.trim_end())
        .unwrap_or_default()
        .trim();
    let lead = completion.len() - completion.trim_start().len();
    let skipped = match completion[lead..].strip_prefix(opening) {
        Some(rest) if !opening.is_empty() && !rest.trim().is_empty() => {
            let space = &asked[asked.trim_end().len()..];
            completion.len() - rest.strip_prefix(space).unwrap_or(rest).len()
        }
        _ => 0,
    };
    let text = [asked, &completion[skipped..], after].concat();
    Rendered {
        start: asked.len(),
        end: text.len() - after.len(),
        skipped,
        asked: asked.len(),
        other_prompt: true,
        text,
    }
}

fn template_fault(reason: &str) -> RowError {
    RowError {
        kind: RowErrorKind::Template,
        reason: reason.to_owned(),
    }
}

fn turns(context: &Context) -> Vec<Message> {
    match context {
        Context::Prompt(prompt) => vec![Message::new("user", prompt)],
        Context::Messages(messages) => messages.clone(),
    }
}

fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Encoded, RowError> {
    tokenizer.encode_rendered(text).map_err(|reason| RowError {
        kind: RowErrorKind::Tokens,
        reason: format!("the rendered conversation cannot be tokenized: {reason}"),
    })
}
