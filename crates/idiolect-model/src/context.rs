//! What a completion follows, and how it is rendered.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a prompt is rendered before it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Template {
    /// The text as it is, with the tokenizer's own special tokens.
    Raw,
    /// The model's chat template.
    Chat,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
    /// Everything else that the turn's row holds, for chat templates that render it: `name`,
    /// `reasoning_content`, `tool_calls`, …
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

impl Message {
    /// A turn of a role with its text.
    pub fn new(role: &str, content: &str) -> Self {
        Self {
            role: role.to_owned(),
            content: content.to_owned(),
            fields: Map::new(),
        }
    }
}

/// What an example gives a chat template beside the turns that its completion follows. Template
/// `raw` renders none of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatFields {
    /// Variables of the conversation: `tools`, `documents`, and others by their names.
    pub variables: Map<String, Value>,
    /// Further fields of the completion's own turn, such as `reasoning_content`.
    pub answer: Map<String, Value>,
}

/// What a completion follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A prompt: raw text, or the user turn of a chat template.
    Prompt(String),
    /// A conversation up to the assistant's turn.
    Messages(Vec<Message>),
}
