//! A model as one file for llama.cpp.

use std::path::Path;

use idiolect_model::ModelError;

use super::LocalModel;
use crate::files;
use crate::gguf::metadata::metadata;
use crate::gguf::vocabulary::{Files, vocabulary};
use crate::gguf::{Entry, Value, file_type, head, tensors};
use crate::weights::Dtype;

impl LocalModel {
    /// Writes the model, an adapter merged, as a GGUF file with matrices in the given type, and gives
    /// what llama.cpp will compute otherwise than this program, as messages. The weights are not
    /// copied.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for what llama.cpp cannot compute; when the file cannot be written,
    /// or a weight does not fit the type.
    pub fn write_gguf(&self, path: &Path, dtype: Dtype) -> Result<Vec<String>, ModelError> {
        let unable = |reason: String| {
            ModelError::Unsupported(format!("`{}` has no GGUF form: {reason}", self.info.name))
        };
        let description = &self.text.description;
        let decoder = metadata(&description.config).map_err(unable)?;
        let [tokenizer, settings, special] = [
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ]
        .map(|name| description.json(name));
        let files = Files {
            tokenizer: &tokenizer,
            settings: &settings,
            special: &special,
        };
        let config = &description.config.model;
        let (tokens, more_notes) =
            vocabulary(&files, &description.tokenizer, config.vocab).map_err(unable)?;
        let notes = [&decoder.notes[..], &more_notes].concat();
        let about: [Entry; 3] = [
            (
                "general.name".into(),
                Value::Text(self.info.name.clone().into()),
            ),
            ("general.file_type".into(), Value::U32(file_type(dtype))),
            (
                "idiolect.model_hash".into(),
                Value::Text(self.info.hash.clone().into()),
            ),
        ];
        let template = description.template_source().map_err(unable)?;
        let template = template
            .map(|text| -> Entry { ("tokenizer.chat_template".into(), Value::Text(text.into())) });
        let planned = tensors::planned(config, self.decoder.layout().tensors(), &decoder, dtype);
        let entries: Vec<Entry> = decoder
            .entries
            .into_iter()
            .chain(about)
            .chain(tokens)
            .chain(template)
            .collect();
        let head = head(&entries, planned.iter().map(|tensor| &tensor.listed));
        files::write_atomic(path, |file| {
            file.write_all(&head)?;
            tensors::write(file, self.decoder.weights(), &planned)
        })?;
        Ok(notes)
    }
}
