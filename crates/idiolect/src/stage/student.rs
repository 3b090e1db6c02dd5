//! Which rows a student can be trained on, by its text side alone: no weights are read.

use idiolect_core::record::ArmRow;
use idiolect_core::store::Meta;
use idiolect_engine::text::TextModel;
use idiolect_model::{Context, Example, RowError, RowErrorKind};

/// A student and the longest row that it is to be trained on.
pub struct StudentText {
    /// Its config, tokenizer and template.
    pub text: TextModel,
    /// Tokens of a whole row: prompt, completion and end. Unset, as many as the model holds.
    pub max_tokens: Option<usize>,
}

impl StudentText {
    /// Adds what decides which rows it takes to an output's provenance.
    pub fn record(&self, meta: &mut Meta) {
        meta.version("tokenizer", self.text.hash())
            .setting("template", self.text.template())
            .setting("max_positions", self.text.config().max_position_embeddings)
            .setting("max_tokens", self.max_tokens);
        let ignored = self.text.ignored_config_fields();
        if !ignored.is_empty() {
            meta.setting("ignore_config_field", ignored);
        }
    }

    /// Whether it can be trained on a row.
    ///
    /// # Errors
    /// Why not.
    pub fn takes(&self, row: &ArmRow) -> Result<(), RowError> {
        self.takes_example(&Example {
            weight: row.weight as f32,
            spans: row.spans.clone(),
            ..Example::new(Context::Prompt(row.prompt.clone()), &row.completion)
        })
    }

    /// Whether it can be trained on an example.
    ///
    /// # Errors
    /// Why not.
    pub fn takes_example(&self, example: &Example) -> Result<(), RowError> {
        let (row, _) = self.text.encode_to_learn(example)?;
        match self.max_tokens {
            Some(most) if row.ids.len() > most => Err(RowError {
                kind: RowErrorKind::TooLong,
                reason: format!("the row has {} tokens, more than {most}", row.ids.len()),
            }),
            _ => Ok(()),
        }
    }
}
