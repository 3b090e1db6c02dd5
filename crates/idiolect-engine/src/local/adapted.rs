//! Adapter directories as models, and models written whole.
//!
//! An adapter is merged into its base when it is loaded, in f32: scoring and generation then cost
//! what the base alone costs, and nothing but training knows of adapters.

use std::path::{Path, PathBuf};

use idiolect_core::model::{Lora, ModelError, Template, content_hash};

use super::LocalModel;
use crate::directory::Description;
use crate::peft;
use crate::weights::Dtype;

/// Where a model came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The directory of its weights; of an adapter, its base's.
    pub(super) dir: PathBuf,
    /// Whether an adapter was merged into them.
    pub(super) adapter: bool,
}

/// The hash of a base with an adapter.
pub(super) fn adapted_hash(base: &str, lora: &Lora, adapter: &str) -> String {
    content_hash(format!("{base} {adapter} {}", lora.scale()).as_bytes())
}

impl LocalModel {
    /// Loads an adapter directory with its base, which is `base` or what the adapter's config
    /// names.
    ///
    /// # Errors
    /// When the directory is no adapter, the base cannot be found or used, or the two do not fit.
    pub fn load_adapter(
        dir: &Path,
        base: Option<&Path>,
        template: Option<Template>,
        threads: usize,
    ) -> Result<Self, ModelError> {
        if !peft::is_adapter(dir) {
            return Err(ModelError::Invalid(format!(
                "`{}` is no adapter directory (it has no {}, or a config.json of its own), so it \
                 has no base",
                dir.display(),
                peft::CONFIG
            )));
        }
        let config = peft::read_config(dir)?;
        let base = match base {
            Some(base) => base.to_owned(),
            None => peft::find_base(dir, &config)?,
        };
        if peft::is_adapter(&base) {
            return Err(ModelError::Unsupported(format!(
                "`{}`: its base `{}` is an adapter too; merge that into a model first: idiolect \
                 convert {1} -o MERGED --to merged",
                dir.display(),
                base.display()
            )));
        }
        let mut model = Self::load(&base, template, threads)?;
        let (adapter, hash) = peft::read(dir, &config, model.facts())?;
        model.info.hash = adapted_hash(&model.info.hash, &config.lora, &hash);
        if let Some(name) = dir.file_name() {
            model.info.name = name.to_string_lossy().into_owned();
        }
        model.decoder = model.decoder.with_adapter(adapter);
        model.decoder.merge();
        model.origin.adapter = true;
        Ok(model)
    }

    /// Whether an adapter was merged into this model's weights when it was loaded.
    pub fn is_adapted(&self) -> bool {
        self.origin.adapter
    }

    /// Writes the model as a directory of its own, in the given type or that of its config, and
    /// returns its hash.
    ///
    /// # Errors
    /// When a file cannot be written, or a weight does not fit the type.
    pub fn write(&self, out: &Path, dtype: Option<Dtype>) -> Result<String, ModelError> {
        let how = if self.origin.adapter {
            "an adapter merged into its base in f32, and cast once"
        } else {
            "weights as they were, cast once"
        };
        let card = format!(
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n\
             # A model written by idiolect {}\n\n\
             From model {}: {how}.\n",
            env!("CARGO_PKG_VERSION"),
            self.info.hash
        );
        let parameters = self.decoder.parameters();
        match dtype {
            None => self.description.write(out, parameters, &card),
            Some(dtype) => {
                let changed: Description = self.description.with_dtype(dtype)?;
                changed.write(out, parameters, &card)
            }
        }
    }
}
