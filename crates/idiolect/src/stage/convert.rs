//! Convert: a model in another form.

use std::path::PathBuf;

use idiolect_core::store::{Folder, Meta, OpenedFolder, write_whole};
use idiolect_engine::local::LocalModel;
use idiolect_engine::text::Opening;
use idiolect_engine::weights::Dtype;
use idiolect_model::{Model, Template};

use super::train::model_files;
use super::{Control, Outcome, StageError};
use crate::model::{self, How};

/// The form to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An adapter and its base as one model directory.
    Merged,
    /// One file for llama.cpp, an adapter merged.
    Gguf,
}

impl Form {
    /// Its name in the provenance.
    fn name(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Gguf => "gguf",
        }
    }
}

/// What to convert, and into what.
#[derive(Clone, Debug)]
pub struct ConvertSettings {
    /// A model directory or an adapter directory.
    pub input: PathBuf,
    /// The adapter's base, where its config does not lead to it.
    pub base: Option<PathBuf>,
    /// Fields of the model's config that are set aside where they are not known.
    pub ignored_fields: Vec<String>,
    /// The form to write.
    pub form: Form,
    /// The type of the weights.
    pub dtype: Dtype,
    /// The folder of the model, or the file.
    pub output: PathBuf,
}

/// Writes a model in another form.
pub fn convert(settings: &ConvertSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    // No text is rendered, so that a model with a chat template is as good as one without.
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
    let mut meta = Meta::of("convert");
    meta.version("model", &model.info().hash);
    meta.setting("to", settings.form.name());
    meta.setting("dtype", settings.dtype.config_name());
    if !model.info().ignored_config_fields.is_empty() {
        meta.setting("ignore_config_field", &model.info().ignored_config_fields);
    }
    match settings.form {
        Form::Merged => merged(settings, &model, &meta, control),
        Form::Gguf => gguf(settings, &model, &meta, control),
    }
}

fn merged(
    settings: &ConvertSettings,
    model: &LocalModel,
    meta: &Meta,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    if !model.is_adapted() {
        return Err(StageError::failed(
            format!("`{}` is a model of its own", settings.input.display()),
            "--to merged takes an adapter directory",
        ));
    }
    let folder = match Folder::open(&settings.output, meta, &model_files(), control.overwrite)? {
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

fn gguf(
    settings: &ConvertSettings,
    model: &LocalModel,
    meta: &Meta,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let (meta, was_complete) = write_whole(&settings.output, meta, control.overwrite, || {
        for note in model.write_gguf(&settings.output, settings.dtype)? {
            control.progress.note("convert", &note);
        }
        Ok::<(), StageError>(())
    })?;
    Outcome::of(&settings.output, &meta, was_complete, control)
}
