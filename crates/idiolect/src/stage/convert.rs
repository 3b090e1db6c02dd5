//! Convert: an adapter and its base as one model.

use std::path::PathBuf;

use idiolect_core::store::{Folder, Meta, OpenedFolder};
use idiolect_engine::text::Opening;
use idiolect_engine::weights::Dtype;
use idiolect_model::{Model, Template};

use super::train::model_files;
use super::{Control, Outcome, StageError};
use crate::model::{self, How};

/// What to merge, and into what.
#[derive(Clone, Debug)]
pub struct ConvertSettings {
    /// An adapter directory.
    pub input: PathBuf,
    /// Its base, where its config does not lead to it.
    pub base: Option<PathBuf>,
    /// Fields of the base's config that are set aside where they are not known.
    pub ignored_fields: Vec<String>,
    /// The type of the weights.
    pub dtype: Dtype,
    /// The folder of the model.
    pub output: PathBuf,
}

/// Merges an adapter into its base and writes the model.
pub fn convert(settings: &ConvertSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    // No text is rendered, so that a base with a chat template is as good as one without.
    let opening = Opening {
        template: Some(Template::Raw),
        base: settings.base.as_deref(),
        ignored_fields: &settings.ignored_fields,
        ..Opening::default()
    };
    let how = How {
        opening,
        ..How::here(control.threads, control.progress, control.stop)
    };
    let model = model::local(&settings.input.to_string_lossy(), &how)?;
    if !model.is_adapted() {
        return Err(StageError::failed(
            format!("`{}` is a model of its own", settings.input.display()),
            "--to merged takes an adapter directory",
        ));
    }
    let mut meta = Meta::of("convert");
    meta.version("model", &model.info().hash);
    meta.setting("to", "merged");
    meta.setting("dtype", settings.dtype.config_name());
    if !model.info().ignored_config_fields.is_empty() {
        meta.setting("ignore_config_field", &model.info().ignored_config_fields);
    }
    let folder = match Folder::open(&settings.output, &meta, &model_files(), control.overwrite)? {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    let hash = model.write(folder.path(), settings.dtype)?;
    Outcome::of(
        &settings.output,
        &folder.finish(0, 0, &hash)?,
        false,
        control,
    )
}
