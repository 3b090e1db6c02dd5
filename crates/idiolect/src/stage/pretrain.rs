//! Pretrain: a model from random weights.

use std::path::PathBuf;

use idiolect_core::store::{Folder, Meta, OpenedFolder};
use idiolect_model::TrainSettings;
use serde::Deserialize;

use super::inputs::Input;
use super::train::{Place, learn, model_files, record_training};
use super::{Control, Outcome, StageError};

/// What to make a model of.
#[derive(Clone, Debug)]
pub struct PretrainSettings {
    /// The shape: a `config.json`.
    pub config: PathBuf,
    /// A `tokenizer.json`; what belongs to it lies beside it.
    pub tokenizer: PathBuf,
    /// Rows of `text`.
    pub data: PathBuf,
    /// How to train; its seed draws the weights too.
    pub train: TrainSettings,
    /// The folder of the finished model.
    pub output: PathBuf,
}

/// A row of the data.
#[derive(Deserialize)]
struct TextRow {
    text: String,
}

/// Trains on every token of every text and leaves the finished model, `log.jsonl`, its curves and
/// resumable states in the output folder.
pub fn pretrain(settings: &PretrainSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let data = Input::open(&settings.data)?;
    let meta = provenance(settings, &data)?;
    let mut folder = match Folder::open(&settings.output, &meta, &model_files(), control.overwrite)?
    {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    let (mut texts, mut lines, mut seen) = (Vec::new(), Vec::new(), 0);
    // The last line may lack its end.
    let total = data.lines().map(|lines| lines + 1);
    for row in data.rows::<TextRow>()? {
        seen += 1;
        match row? {
            Err(bad) => {
                folder.reject(&bad)?;
                if control.hopeless(folder.rejected(), seen, total) {
                    return Err(control.refusal(&settings.output, folder.rejected(), seen)?);
                }
            }
            Ok(row) => {
                texts.push(row.value.text);
                lines.push(row.line);
            }
        }
    }
    if texts.is_empty() {
        let message = format!("`{}` holds no text to train on", data.name());
        return Err(StageError::failed(message, "rows are {\"text\":…}"));
    }
    let out = folder.path().to_owned();
    let place = Place {
        job: "pretrain",
        file: &data.name(),
        lines: &lines,
    };
    let hash = learn(place, &mut folder, control, |sink| {
        let PretrainSettings {
            config,
            tokenizer,
            train,
            ..
        } = settings;
        idiolect_engine::local::pretrain(
            config,
            tokenizer,
            &texts,
            train,
            train.seed,
            &out,
            control.threads,
            sink,
        )
    })?;
    let rows = seen - folder.rejected();
    Outcome::of(
        &settings.output,
        &folder.finish(rows, seen, &hash)?,
        false,
        control,
    )
}

fn provenance(settings: &PretrainSettings, data: &Input) -> Result<Meta, StageError> {
    let mut meta = Meta::of("pretrain");
    meta.input("data", data.hash());
    meta.input("config", Input::open(&settings.config)?.hash());
    meta.input("tokenizer", Input::open(&settings.tokenizer)?.hash());
    let beside = settings.tokenizer.with_file_name("tokenizer_config.json");
    if beside.exists() {
        meta.input("tokenizer_config", Input::open(&beside)?.hash());
    }
    record_training(&mut meta, &settings.train);
    Ok(meta)
}
