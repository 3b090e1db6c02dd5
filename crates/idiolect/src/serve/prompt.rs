//! Prompts as they are sent, and their tokens.

use std::sync::Arc;

use idiolect_model::Message;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::App;
use super::error::ApiError;

/// `prompt` of a completion: a text, some texts, tokens, or some lists of tokens.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, a list of texts, token ids or a list of lists of them"
)]
pub(super) enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// A prompt and its tokens.
pub(super) struct Prompt {
    /// As it was sent, where it was a text.
    pub(super) text: Option<String>,
    pub(super) ids: Arc<[u32]>,
}

impl Prompts {
    /// Their tokens; of texts with the tokenizer's own special tokens where `special`.
    pub(super) fn encode(self, app: &App, special: bool) -> Result<Vec<Prompt>, ApiError> {
        let text = |text: String| {
            Ok(Prompt {
                ids: encode(app, &text, special)?.into(),
                text: Some(text),
            })
        };
        let tokens = |ids: Vec<u32>| Prompt {
            text: None,
            ids: ids.into(),
        };
        match self {
            Self::Text(one) => Ok(vec![text(one)?]),
            Self::Texts(many) => many.into_iter().map(text).collect(),
            Self::Tokens(ids) => Ok(vec![tokens(ids)]),
            Self::ManyTokens(many) => Ok(many.into_iter().map(tokens).collect()),
        }
    }
}

/// Tokens of a text.
pub(super) fn encode(app: &App, text: &str, special: bool) -> Result<Vec<u32>, ApiError> {
    let tokenizer = app.tokenizer();
    let encoded = if special {
        tokenizer.encode(text)
    } else {
        tokenizer.encode_rendered(text)
    };
    encoded
        .map(|encoded| encoded.ids)
        .map_err(|reason| ApiError::bad(format!("the text cannot be tokenized: {reason}")))
}

/// A turn as it is sent: its content may be in parts.
#[derive(Deserialize)]
pub(super) struct Turn {
    role: String,
    #[serde(default)]
    content: Option<Content>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text or a list of parts of type `text`"
)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

/// The turns of a conversation; parts of one turn are joined by line breaks, as vLLM does.
pub(super) fn messages(turns: Vec<Turn>) -> Result<Vec<Message>, ApiError> {
    if turns.is_empty() {
        return Err(ApiError::field("messages", "`messages` is empty"));
    }
    let content = |content: Option<Content>| match content {
        None => Ok(String::new()),
        Some(Content::Text(text)) => Ok(text),
        Some(Content::Parts(parts)) => {
            let texts: Result<Vec<String>, ApiError> = parts.into_iter().map(text_of).collect();
            Ok(texts?.join("\n"))
        }
    };
    turns
        .into_iter()
        .map(|turn| {
            Ok(Message {
                role: turn.role,
                content: content(turn.content)?,
                fields: turn.fields,
            })
        })
        .collect()
}

fn text_of(part: Part) -> Result<String, ApiError> {
    match (part.kind.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        ("text", None) => Err(ApiError::field(
            "messages",
            "a part of type `text` has no text",
        )),
        (kind, _) => Err(ApiError::field(
            "messages",
            format!("parts of type `{kind}` are not supported; this model reads text"),
        )),
    }
}

/// Tokens of the conversation that the assistant is to continue. `variables` are further ones of
/// the chat template.
pub(super) fn encode_chat(
    app: &App,
    messages: &[Message],
    variables: &Map<String, Value>,
    special: bool,
) -> Result<Vec<u32>, ApiError> {
    let Some(chat) = app.scheduler.model.text_model().chat() else {
        let message = "this model is served without a chat template; use /v1/completions";
        return Err(ApiError::field("messages", message));
    };
    let rendered = chat
        .render_with(messages, variables, true)
        .map_err(|reason| ApiError::field("messages", reason))?;
    encode(app, &rendered, special)
}
