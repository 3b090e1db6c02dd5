//! Training of a model directory: on examples from a trained start, or on texts from random
//! weights.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use idiolect_model::{
    Example, Lookahead, LookaheadSettings, ModelError, RowError, RowTraits, SaveDtype, Train,
    TrainEvent, TrainPlan, TrainSettings, TrainSummary, TraitCounts,
};
use serde_json::json;

use super::adapted::{Origin, adapted_hash};
use super::{LocalModel, pool};
use crate::adapter::Adapter;
use crate::batch::TokenRow;
use crate::checkpoint::Place;
use crate::decoder::Decoder;
use crate::directory::{Description, KEPT, Parts};
use crate::encode::encode_whole;
use crate::files;
use crate::lookahead::{Goal, look_ahead};
use crate::memory;
use crate::model_config::ModelConfig;
use crate::peft;
use crate::text::TextModel;
use crate::threads::Threads;
use crate::train::{Training, n_steps, train_rows};

/// Receives the events of a training; breaking stops it.
type Events<'a> = &'a mut dyn FnMut(TrainEvent) -> ControlFlow<()>;

impl Train for LocalModel {
    fn plan(
        &self,
        examples: &[Example],
        settings: &TrainSettings,
    ) -> Result<TrainPlan, ModelError> {
        Ok(plan(&self.text, examples, settings))
    }

    fn train(
        &mut self,
        examples: &[Example],
        dev: &[Example],
        settings: &TrainSettings,
        out: &Path,
        sink: Events<'_>,
    ) -> Result<TrainSummary, ModelError> {
        let rows = self.rows(examples, "row")?;
        // Leaving one out would change what the dev loss means without a word.
        let dev = self.rows(dev, "dev row")?;
        let start = format!("model {}", self.info.hash);
        let description = self.trained_description(settings)?;
        let job = Job {
            description: &description,
            base: Some((&self.origin, &self.info.hash)),
            threads: &self.threads,
            settings,
            out,
        };
        // This model stays what it is and what `info` states; its copy is trained.
        let mut decoder = self
            .decoder
            .clone()
            .with_config(description.config.model.clone());
        if let Some(lora) = &settings.lora {
            if self.origin.adapter {
                return Err(ModelError::Unsupported(format!(
                    "`{}` is an adapter already; merge it into a model first: idiolect convert \
                     {0} -o MERGED --to merged",
                    self.info.name
                )));
            }
            let adapter = Adapter::random(decoder.config(), lora.clone(), settings.seed)
                .map_err(|error| ModelError::Invalid(error.to_string()))?;
            decoder = decoder.with_adapter(adapter);
        }
        let training = Training {
            rows: &rows,
            dev: &dev,
            settings,
            place: None,
        };
        job.run(&mut decoder, training, &start, sink)
    }

    fn look_ahead(
        &mut self,
        goal: &[(Example, f64)],
        sets: &[Vec<Example>],
        settings: &LookaheadSettings,
    ) -> Result<Vec<Lookahead>, ModelError> {
        let (texts, credits): (Vec<Example>, Vec<f64>) = goal.iter().cloned().unzip();
        let goal = Goal::new(
            &self.decoder,
            self.rows(&texts, "goal, row")?,
            credits,
            &self.threads,
        );
        sets.iter()
            .enumerate()
            .map(|(i, set)| {
                let rows = self.rows(set, &format!("set {i}, row"))?;
                Ok(look_ahead(
                    &self.decoder,
                    &goal,
                    &rows,
                    settings,
                    &self.threads,
                ))
            })
            .collect()
    }
}

impl LocalModel {
    /// What the trained model will be read as: an adapter's base stays as it is, weights that train
    /// are written in the type that the settings name.
    fn trained_description(&self, settings: &TrainSettings) -> Result<Description, ModelError> {
        match settings.lora {
            Some(_) => Ok(self.text.description.clone()),
            None => self.text.description.with_dtype(settings.save_dtype.into()),
        }
    }

    /// The rows of the examples.
    fn rows(&self, examples: &[Example], what: &str) -> Result<Vec<TokenRow>, ModelError> {
        let row = |(i, example): (usize, &Example)| {
            row_to_learn(&self.text, example)
                .map(|(row, _)| row)
                .map_err(|error| ModelError::Invalid(format!("{what} {i}: {error}")))
        };
        examples.iter().enumerate().map(row).collect()
    }
}

/// An example as it is trained on, and how its row was made.
pub(super) fn row_to_learn(
    text: &TextModel,
    example: &Example,
) -> Result<(TokenRow, RowTraits), RowError> {
    let (row, loss_mask) = text.encode_to_learn(example)?;
    let traits = row.traits;
    let row = TokenRow {
        ids: row.ids,
        completion_start: row.loss_start,
        weight: example.weight,
        loss_mask,
    };
    Ok((row, traits))
}

/// Which of the examples a model can be trained on, and what the training of those would be. Its
/// weights are not needed.
pub fn plan(text: &TextModel, examples: &[Example], settings: &TrainSettings) -> TrainPlan {
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    let mut counts = TraitCounts::default();
    for (i, example) in examples.iter().enumerate() {
        match row_to_learn(text, example) {
            Ok((row, traits)) => {
                rows.push(row);
                counts.add(traits);
            }
            Err(error) => refused.push((i, error)),
        }
    }
    TrainPlan {
        refused,
        rows: rows.len(),
        tokens: rows.iter().map(|row| row.ids.len()).sum(),
        target_tokens: rows.iter().map(TokenRow::n_loss_tokens).sum(),
        steps: n_steps(&rows, settings),
        traits: counts,
    }
}

/// Trains a model from random weights on every token of each text, and leaves it in `out` as a
/// model directory.
///
/// `config` is the path of a `config.json`, `tokenizer` that of a `tokenizer.json` (with the files
/// beside it that belong to it). A text begins with the special tokens that the tokenizer puts
/// before it and ends with the end token; its first token is context only. Texts longer than the
/// model's positions are cut into rows. `seed` draws the weights, `settings.seed` the order of
/// rows; indices in events and errors are those of the texts.
///
/// # Errors
/// When a file cannot be used, no text can be trained on, or training fails.
#[expect(
    clippy::too_many_arguments,
    reason = "the files, the data, how, and where: no two belong together"
)]
pub fn pretrain(
    config: &Path,
    tokenizer: &Path,
    texts: &[String],
    settings: &TrainSettings,
    seed: u64,
    out: &Path,
    threads: usize,
    sink: Events<'_>,
) -> Result<TrainSummary, ModelError> {
    if tokenizer
        .file_name()
        .is_none_or(|name| name != "tokenizer.json")
    {
        return Err(ModelError::Invalid(format!(
            "`{}`: expected a file named tokenizer.json",
            tokenizer.display()
        )));
    }
    let dir = tokenizer.parent().unwrap_or(Path::new(""));
    let description = Description::read_parts(&Parts {
        config,
        tokenizer: dir,
        template: dir,
        generation: dir,
        ignored: &[],
    })?
    .with_dtype(settings.save_dtype.into())?;
    let parameters = description.config.model.n_parameters();
    let parameters = usize::try_from(parameters).unwrap_or(usize::MAX);
    memory::available::<f32>(parameters, 4, "the model and the state of its training")
        .map_err(|reason| ModelError::Invalid(format!("`{}`: {reason}", config.display())))?;
    let mut decoder = random(&description, seed)
        .map_err(|error| ModelError::Invalid(format!("`{}`: {error}", config.display())))?;
    let TextRows {
        rows,
        owners,
        mut refused,
    } = TextRows::of(&description, texts);
    if let (true, Some((i, reason))) = (rows.is_empty(), refused.first()) {
        return Err(ModelError::Invalid(format!(
            "no text can be trained on; text {i}: {reason}"
        )));
    }
    let training = Training {
        rows: &rows,
        dev: &[],
        settings,
        place: None,
    };
    let job = Job {
        description: &description,
        base: None,
        threads: &pool(threads),
        settings,
        out,
    };
    let start = format!("random weights, seed {seed}");
    let mut of_texts = |mut event| {
        if let TrainEvent::Started {
            refused: faults, ..
        } = &mut event
        {
            faults.iter_mut().for_each(|(row, _)| *row = owners[*row]);
            faults.append(&mut refused);
            faults.sort();
        }
        sink(event)
    };
    let summary = job.run(&mut decoder, training, &start, &mut of_texts);
    summary.map_err(|error| name_texts(error, &owners))
}

/// Texts as rows.
#[derive(Default)]
struct TextRows {
    rows: Vec<TokenRow>,
    /// The text of each row.
    owners: Vec<usize>,
    /// Texts that are no row, and why.
    refused: Vec<(usize, String)>,
}

impl TextRows {
    fn of(description: &Description, texts: &[String]) -> Self {
        let mut all = Self::default();
        for (i, text) in texts.iter().enumerate() {
            match encode_whole(&description.tokenizer, description.limits(), text) {
                Ok(parts) => {
                    all.owners.extend(parts.iter().map(|_| i));
                    let rows = parts.into_iter().map(|ids| TokenRow::new(ids, 1));
                    all.rows.extend(rows);
                }
                Err(error) => all.refused.push((i, error.reason)),
            }
        }
        all
    }
}

/// The rows that an error names, as texts.
fn name_texts(error: ModelError, owners: &[usize]) -> ModelError {
    let ModelError::NonFinite { step, rows } = error else {
        return error;
    };
    let owner = |row: &str| {
        row.parse()
            .ok()
            .and_then(|row: usize| owners.get(row))
            .copied()
    };
    let mut texts: Vec<usize> = rows.split(", ").filter_map(owner).collect();
    texts.dedup();
    let names: Vec<String> = texts.iter().map(usize::to_string).collect();
    ModelError::NonFinite {
        step,
        rows: names.join(", "),
    }
}

/// Fresh weights with the config's standard deviation.
fn random(
    description: &Description,
    seed: u64,
) -> Result<Decoder, crate::model_config::ModelConfigError> {
    let config = &description.config;
    Decoder::random(config.model.clone(), seed, config.initial_sd)
}

/// A training and where its model goes.
struct Job<'a> {
    description: &'a Description,
    /// Where the model came from that it starts with, and its hash; none from random weights.
    base: Option<(&'a Origin, &'a str)>,
    threads: &'a Threads,
    settings: &'a TrainSettings,
    out: &'a Path,
}

impl Job<'_> {
    /// Trains and writes the finished model; a stopped training leaves a state instead.
    fn run(
        &self,
        decoder: &mut Decoder,
        training: Training<'_>,
        start: &str,
        sink: Events<'_>,
    ) -> Result<TrainSummary, ModelError> {
        let card = Card {
            start,
            settings: self.settings,
            rows: training.rows.len(),
            trainer: None,
        }
        .text(decoder.config());
        let add_model =
            |decoder: &Decoder, folder: &Path| self.write(folder, decoder, &card).map(drop);
        let place = Some(Place {
            folder: self.out,
            add_model: &add_model,
        });
        let training = Training { place, ..training };
        let outcome = train_rows(decoder, training, self.threads, sink)?;
        if outcome.stopped {
            let model_hash = String::new();
            return Ok(TrainSummary {
                steps: outcome.steps,
                stopped: true,
                model_hash,
            });
        }
        let model_hash = self.write(self.out, decoder, &card)?;
        tidy(self.out, self.settings.checkpoint_every)?;
        Ok(TrainSummary {
            steps: outcome.steps,
            stopped: false,
            model_hash,
        })
    }
}

impl Job<'_> {
    /// Writes the model, or the adapter that was trained beside it; gives the hash of what a
    /// reader will find.
    fn write(&self, out: &Path, decoder: &Decoder, card: &str) -> Result<String, ModelError> {
        let (Some(adapter), Some((origin, base_hash))) = (decoder.adapter(), self.base) else {
            return self.description.write(out, &decoder.parameters(), card);
        };
        fs::create_dir_all(out).map_err(|error| files::io_error(out, error))?;
        let base = peft::relative(out, &origin.dir)?;
        let hash = peft::write(out, adapter, base.as_deref(), card)?;
        Ok(adapted_hash(base_hash, adapter.settings(), &hash))
    }
}

/// Names of what a training, a pretraining or a merge puts into its folder, and needs there meanwhile
/// (`*` for any characters).
pub fn written_names() -> impl Iterator<Item = &'static str> {
    let others = [
        "generation_config.json",
        peft::CONFIG,
        "README.md",
        "*.safetensors",
        "model.safetensors.index.json",
        "checkpoint-*",
        ".*.tmp",
    ];
    KEPT.into_iter().chain(others)
}

/// Removes states that were not asked for (of a training that was stopped between two that were)
/// and what a crash left half made, so that a resumed training leaves what an uninterrupted one
/// does.
fn tidy(out: &Path, every: usize) -> Result<(), ModelError> {
    let entries = fs::read_dir(out).map_err(|error| files::io_error(out, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| files::io_error(out, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let half_made = name.starts_with(".checkpoint-") && name.ends_with(".tmp");
        let step: Option<usize> = name
            .strip_prefix("checkpoint-")
            .and_then(|n| n.parse().ok());
        let unasked = step.is_some_and(|step| every == 0 || !step.is_multiple_of(every));
        if half_made || unasked {
            fs::remove_dir_all(entry.path())
                .map_err(|error| files::io_error(&entry.path(), error))?;
        }
    }
    Ok(())
}

/// The README of a trained model or adapter: what it is and how it was made. No paths, no times.
pub(super) struct Card<'a> {
    /// What training began with.
    pub(super) start: &'a str,
    pub(super) settings: &'a TrainSettings,
    /// Rows trained on.
    pub(super) rows: usize,
    /// The program that trained, where it is not this engine.
    pub(super) trainer: Option<&'a str>,
}

impl Card<'_> {
    pub(super) fn text(&self, model: &ModelConfig) -> String {
        let settings = self.settings;
        let family = json!(model.family).as_str().unwrap_or_default().to_owned();
        let json = serde_json::to_string_pretty(settings).unwrap_or_default();
        let (library, title, what) = match &settings.lora {
            None => ("transformers", "model", "all weights".to_owned()),
            Some(lora) => (
                "peft",
                "adapter",
                format!("low-rank adapters of rank {} beside frozen weights", lora.r),
            ),
        };
        let saved = match settings.lora {
            Some(_) => SaveDtype::F32.name(),
            None => settings.save_dtype.name(),
        };
        let how = match self.trainer {
            None => format!("AdamW in f32, saved in {saved}"),
            Some(trainer) => format!("by {trainer}, saved in {saved}"),
        };
        format!(
            "---\nlibrary_name: {library}\npipeline_tag: text-generation\n---\n\n\
             # A {family} {title} trained with idiolect {}\n\n\
             {} parameters: {} layers, hidden size {}, vocabulary {}. Trained from {} on {} rows; {what}, \
             {how}.\n\n```json\n{json}\n```\n",
            env!("CARGO_PKG_VERSION"),
            model.n_parameters(),
            model.layers,
            model.hidden,
            model.vocab,
            self.start,
            self.rows,
        )
    }
}
