//! The text side of a model directory, without its weights: examples to token rows.

use std::path::Path;

use idiolect_model::{Compute, Context, Example, ModelError, RowError, Template, content_hash};

use crate::config::Config;
use crate::directory::Description;
use crate::encode::{
    Row, encode_chat_context, encode_chat_example, encode_context, encode_example, turn_end,
};
use crate::peft;
use crate::spans::loss_mask;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;

/// How a model directory is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    /// How prompts are rendered. Without one the default is taken: `chat` where the model brings a
    /// chat template, else `raw`.
    pub template: Option<Template>,
    /// The base of an adapter directory, where its config does not lead to it.
    pub base: Option<&'a Path>,
    /// Fields of `config.json` that are set aside where this program does not know them.
    pub ignored_fields: &'a [String],
    /// The type of the factors of its large products, where it is computed with.
    pub compute: Compute,
}

/// Config, tokenizer and template of a model directory.
pub struct TextModel {
    pub(crate) description: Description,
    /// What renders, for template `chat`.
    pub(crate) chat: Option<ChatTemplate>,
}

impl TextModel {
    /// [`open`](Self::open) with a template and nothing else.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn load(dir: &Path, template: Option<Template>) -> Result<Self, ModelError> {
        Self::open(
            dir,
            &Opening {
                template,
                ..Opening::default()
            },
        )
    }

    /// Reads `config.json`, the tokenizer and the chat template of a model directory. Of an adapter
    /// directory the config is its base's, and so are tokenizer and template unless the adapter
    /// brings them. With template `chat` texts end with the token that the template puts behind the
    /// assistant's turn.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for template `chat` of a model without one; otherwise names the
    /// file that is missing or damaged and what is wrong with it.
    pub fn open(dir: &Path, opening: &Opening<'_>) -> Result<Self, ModelError> {
        let base = peft::base_directory(dir, opening.base)?;
        let mut description = Description::read(
            base.as_deref().unwrap_or(dir),
            base.is_some().then_some(dir),
            opening.ignored_fields,
        )?;
        let chosen = opening.template;
        let chat = match chosen.unwrap_or_else(|| description.default_template()) {
            Template::Raw => None,
            Template::Chat => Some(description.chat(dir)?),
        };
        let end = chat
            .as_ref()
            .and_then(|chat| turn_end(&description.tokenizer, chat));
        if let Some(end) = end {
            description.tokenizer = description.tokenizer.ending_with(end);
        }
        Ok(Self { description, chat })
    }

    /// How prompts are rendered.
    pub fn template(&self) -> Template {
        if self.chat.is_some() {
            Template::Chat
        } else {
            Template::Raw
        }
    }

    /// The fields of the config that are there and that the caller had set aside, in order.
    pub fn ignored_config_fields(&self) -> Vec<String> {
        self.description.set_aside()
    }

    /// The content of `config.json`.
    pub fn config(&self) -> &Config {
        &self.description.config
    }

    /// The tokenizer, with the template's end of turn as its end where it has one.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.description.tokenizer
    }

    /// The chat template, if it is used.
    pub fn chat(&self) -> Option<&ChatTemplate> {
        self.chat.as_ref()
    }

    /// Hash of the tokenizer, and of the template where one renders.
    pub fn hash(&self) -> String {
        let tokenizer = self.description.tokenizer.hash();
        self.chat.as_ref().map_or_else(
            || tokenizer.to_owned(),
            |chat| content_hash(format!("{tokenizer} {}", chat.hash()).as_bytes()),
        )
    }

    /// The row that is scored and trained on.
    ///
    /// # Errors
    /// Why the example cannot be one.
    pub fn encode(&self, example: &Example) -> Result<Row, RowError> {
        let (tokenizer, limits) = (&self.description.tokenizer, self.description.limits());
        match &self.chat {
            Some(chat) => encode_chat_example(tokenizer, chat, limits, example),
            None => encode_example(tokenizer, limits, example),
        }
    }

    /// The row that is trained on, and for each token from `loss_start` on whether it takes part in
    /// the loss; none where all do.
    ///
    /// # Errors
    /// Why the example cannot be one.
    pub fn encode_to_learn(&self, example: &Example) -> Result<(Row, Vec<bool>), RowError> {
        let row = self.encode(example)?;
        let mut loss_mask = loss_mask(&example.spans, example.completion.len(), &row.byte_starts)?;
        // What the template puts before the completion the model has to write too.
        if !loss_mask.is_empty() {
            loss_mask.splice(0..0, (row.loss_start..row.completion_start).map(|_| true));
        }
        Ok((row, loss_mask))
    }

    /// The tokens that a completion is to follow.
    ///
    /// # Errors
    /// Why the model cannot be asked this.
    pub fn encode_context(&self, context: &Context) -> Result<Vec<u32>, RowError> {
        let (tokenizer, limits) = (&self.description.tokenizer, self.description.limits());
        match &self.chat {
            Some(chat) => encode_chat_context(tokenizer, chat, limits, context),
            None => encode_context(tokenizer, limits, context),
        }
    }
}

#[cfg(test)]
mod tests;
