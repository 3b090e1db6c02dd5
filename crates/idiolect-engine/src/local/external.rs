//! Training by a program other than this engine: what it is given (rows of tokens in the order of
//! the steps, the adapter it starts with), and a model directory out of what it leaves.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use idiolect_model::{Example, Lora, ModelError, TrainSettings};

use super::LocalModel;
use super::training::{Card, row_to_learn};
use crate::adapter::Adapter;
use crate::batch::TokenRow;
use crate::directory::Description;
use crate::files;
use crate::peft;
use crate::score::score_rows;
use crate::text::TextModel;
use crate::train::{PlannedStep, planned_steps};
use crate::weights::{Dtype, WeightFiles};

/// A training as another program is to do it: the rows, loss masks, weights, order and learning
/// rates with which this engine would train.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalTraining {
    /// The rows; steps name them by index.
    pub rows: Vec<TokenRow>,
    /// Rows whose loss is reported.
    pub dev: Vec<TokenRow>,
    /// Every step of every pass.
    pub steps: Vec<PlannedStep>,
}

/// The training of these examples.
///
/// # Errors
/// When an example cannot be trained on.
pub fn external_training(
    text: &TextModel,
    examples: &[Example],
    dev: &[Example],
    settings: &TrainSettings,
) -> Result<ExternalTraining, ModelError> {
    settings.check().map_err(ModelError::Invalid)?;
    let all = |examples: &[Example], what: &str| -> Result<Vec<TokenRow>, ModelError> {
        let row = |(i, example): (usize, &Example)| {
            row_to_learn(text, example)
                .map(|(row, _)| row)
                .map_err(|error| ModelError::Invalid(format!("{what} {i}: {error}")))
        };
        examples.iter().enumerate().map(row).collect()
    };
    let rows = all(examples, "row")?;
    Ok(ExternalTraining {
        dev: all(dev, "dev row")?,
        steps: planned_steps(&rows, settings),
        rows,
    })
}

/// Writes the adapter that this engine's training with `seed` starts from, in PEFT's format.
///
/// # Errors
/// When a target names no layer, or a file cannot be written.
pub fn write_first_adapter(
    text: &TextModel,
    lora: &Lora,
    seed: u64,
    out: &Path,
) -> Result<(), ModelError> {
    let adapter = Adapter::random(&text.description.config.model, lora.clone(), seed)
        .map_err(|error| ModelError::Invalid(error.to_string()))?;
    peft::write(out, &adapter, None, "").map(drop)
}

/// What another program trained, and what it was told.
#[derive(Clone, Copy)]
pub struct Trained<'a> {
    /// Config, tokenizer and template of the model that it began with.
    pub text: &'a TextModel,
    /// The directory of that model.
    pub base: &'a Path,
    /// The hash of that model.
    pub base_hash: &'a str,
    /// How it was told to train.
    pub settings: &'a TrainSettings,
    /// Rows that it trained on.
    pub rows: usize,
    /// Its name and version.
    pub trainer: &'a str,
}

impl Trained<'_> {
    /// Takes the model, or the adapter, that lies in `from` into the finished directory `out`, with
    /// the files and the layout of one that was trained here. Weight files are moved, not read.
    ///
    /// # Errors
    /// When what lies there is not what was to be trained: a tensor missing or of another shape or
    /// type, an adapter of other settings.
    pub fn adopt(&self, from: &Path, out: &Path) -> Result<(), ModelError> {
        fs::create_dir_all(out).map_err(|error| files::io_error(out, error))?;
        let card = Card {
            start: &format!("model {}", self.base_hash),
            settings: self.settings,
            rows: self.rows,
            trainer: Some(self.trainer),
        }
        .text(&self.text.description.config.model);
        match &self.settings.lora {
            Some(lora) => self.adopt_adapter(lora, from, out, &card),
            None => {
                let dtype = self.settings.save_dtype.into();
                let description = self.text.description.with_dtype(dtype)?;
                let weights = checked_weights(&description, from)?;
                description.write_beside(out, &card)?;
                for path in weights {
                    let name = path.file_name().unwrap_or_default();
                    fs::rename(&path, out.join(name)).map_err(|e| files::io_error(&path, e))?;
                }
                files::sync_directory(out)
            }
        }
    }

    /// Gives a resumable state of the other program the files that a state written here has beside
    /// its weights, so that it is loadable as a model and names no path of this machine.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn complete_state(&self, state: &Path) -> Result<(), ModelError> {
        if self.settings.lora.is_some() {
            let mut config = peft::read_config(state)?;
            config.base = peft::relative(state, self.base)?;
            return peft::write_config(state, &config);
        }
        self.text
            .description
            .with_dtype(Dtype::F32)?
            .write_beside(state, "")
    }

    fn adopt_adapter(
        &self,
        lora: &Lora,
        from: &Path,
        out: &Path,
        card: &str,
    ) -> Result<(), ModelError> {
        let found = peft::read_config(from)?;
        let wanted = sorted(lora.clone());
        if sorted(found.lora.clone()) != wanted {
            return Err(ModelError::Invalid(format!(
                "`{}` holds an adapter of other settings than it was to have: {:?} and not {wanted:?}",
                from.display(),
                found.lora
            )));
        }
        let (mut adapter, _) = peft::read(from, &found, &self.text.description.config.model)?;
        adapter.name_settings(lora.clone());
        let base = peft::relative(out, self.base)?;
        peft::write(out, &adapter, base.as_deref(), card).map(drop)
    }
}

/// With targets in the order of their names, all of them named.
fn sorted(mut lora: Lora) -> Lora {
    if lora.targets.is_empty() {
        lora.targets = crate::adapter::TARGETS.map(str::to_owned).to_vec();
    }
    lora.targets.sort();
    lora
}

/// The weight files of a directory, the index last, if they hold the described model in its type.
fn checked_weights(description: &Description, dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let weights = WeightFiles::open(dir)?;
    weights.check(&description.config.model)?;
    if let Some((tensor, dtype)) = weights.of_other_type(description.config.dtype) {
        return Err(ModelError::Invalid(format!(
            "`{}` holds `{tensor}` in {dtype}, not in {} as asked for",
            dir.display(),
            description.config.dtype.config_name()
        )));
    }
    Ok(weights.paths())
}

impl LocalModel {
    /// The mean surprisal, nats, of each row's tokens that take part in the loss, under this model.
    ///
    /// # Errors
    /// When a row cannot be scored.
    pub fn mean_losses(&self, rows: &[TokenRow]) -> Result<Vec<f64>, ModelError> {
        let mut losses = Vec::with_capacity(rows.len());
        let mut failed = None;
        score_rows(&self.decoder, rows, &self.threads, &mut |i, scores| {
            let scores = match scores {
                Ok(scores) => scores,
                Err(fault) => {
                    failed = Some(ModelError::Invalid(format!("row {i}: {fault}")));
                    return ControlFlow::Break(());
                }
            };
            let targets = (rows[i].completion_start..).zip(scores);
            let (mut sum, mut count) = (0.0, 0usize);
            for (_, score) in targets.filter(|(t, _)| rows[i].in_loss(*t)) {
                sum -= f64::from(score.logprob);
                count += 1;
            }
            losses.push(sum / count.max(1) as f64);
            ControlFlow::Continue(())
        });
        failed.map_or(Ok(losses), Err)
    }
}
