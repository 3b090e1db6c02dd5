//! Training by TRL in the user's own Python environment: rows of tokens and settings out, a model
//! directory back.
//!
//! idiolect renders, tokenizes, orders and weighs the rows as its own engine would, starts the
//! user's launcher with a small script around TRL's `SFTTrainer`, holds every step that the script
//! reports against the plan, and computes some losses of the model that comes back again.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use idiolect_engine::local::{LocalModel, external, plan};
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{
    Capabilities, Compute, Example, Model, ModelError, ModelInfo, SaveDtype, Template, Train,
    TrainEvent, TrainPlan, TrainSettings, TrainSummary,
};
use serde_json::{Value, json};

use crate::interrupt::Stop;
use crate::launch::python::{Package, search_path, versions};
use crate::launch::{Launch, Process};
use crate::model::{self, How};
use crate::progress::Progress;
use crate::stage::StageError;
use follow::Follower;
use job::{Folder, Job, io};
pub use settings::TrlSettings;

mod follow;
mod job;
mod settings;

/// What the training needs, and from which versions on.
const PACKAGES: [Package; 5] = [
    Package {
        name: "torch",
        from: "2.4",
    },
    Package {
        name: "transformers",
        from: "5.0",
    },
    Package {
        name: "trl",
        from: "1.0",
    },
    Package {
        name: "accelerate",
        from: "1.10",
    },
    Package {
        name: "datasets",
        from: "3.0",
    },
];

/// What the training of an adapter needs beside.
const PEFT: Package = Package {
    name: "peft",
    from: "0.17",
};

/// Lines of the trainer's log that an error shows.
const SHOWN_LINES: usize = 20;

/// How often its events are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Written last into a state of the script's.
const MARK: &str = "idiolect.json";

/// A model that TRL trains.
pub struct Trl<'a> {
    settings: TrlSettings,
    processes: usize,
    versions: BTreeMap<String, String>,
    text: TextModel,
    directory: PathBuf,
    ignored_fields: Vec<String>,
    template: Option<Template>,
    threads: usize,
    info: ModelInfo,
    stop: &'a Stop,
    progress: &'a Progress,
}

impl<'a> Trl<'a> {
    /// Checks the environment, then opens a model directory, or a model of the hub, to have it
    /// trained.
    ///
    /// # Errors
    /// When the settings or the environment will not do, or the model cannot be used.
    pub fn open(
        reference: &str,
        how: &How<'a>,
        settings: &TrlSettings,
        with_adapter: bool,
    ) -> Result<Self, StageError> {
        let refuse = |why: String| StageError::usage(why, "`idiolect train --help` has examples");
        settings.check().map_err(refuse)?;
        let processes = settings.expected_processes().map_err(refuse)?;
        let mut packages = PACKAGES.to_vec();
        packages.extend(with_adapter.then_some(PEFT));
        let versions = versions(&settings.python, &packages, "training by TRL")?;
        let directory = model::directory(reference, how.progress, how.stop)?;
        if idiolect_engine::peft::is_adapter(&directory) {
            return Err(StageError::usage(
                format!("`{reference}` is an adapter, which TRL is not given"),
                "merge it into a model first: idiolect convert ADAPTER -o MERGED --to merged",
            ));
        }
        // The weights are read for their hash, and because TRL need not begin what cannot be read
        // back.
        let in_f32 = Opening {
            compute: Compute::F32,
            ..how.opening
        };
        let opened = model::local(
            reference,
            &How {
                opening: in_f32,
                ..*how
            },
        )?;
        let info = ModelInfo {
            compute: how.opening.compute,
            ..opened.info().clone()
        };
        drop(opened);
        Ok(Self {
            settings: settings.clone(),
            processes,
            versions,
            text: TextModel::open(&directory, &in_f32)?,
            directory,
            ignored_fields: how.opening.ignored_fields.to_vec(),
            template: how.opening.template,
            threads: how.threads,
            info,
            stop: how.stop,
            progress: how.progress,
        })
    }

    /// Starts the script and follows it to its end; gives the losses that it computed of the checked
    /// rows under the finished model, or none where it was stopped.
    fn launch(
        &self,
        folder: &Folder,
        mut follower: Follower<'_>,
        steps: usize,
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> Result<Option<Vec<f64>>, ModelError> {
        let words = self.settings.words(&folder.script(), &folder.job());
        let mut launch = Launch::new(words.map_err(ModelError::Invalid)?, &folder.log());
        launch
            .environment
            .extend(search_path(&self.settings.python));
        let mut process = Process::start(&launch).map_err(|why| {
            ModelError::Invalid(format!("{why}; it is the launch of the training by TRL"))
        })?;
        let name = folder.log();
        self.progress.note(
            "train",
            &format!("TRL trains; its log is `{}`", name.display()),
        );
        loop {
            let end = process.poll();
            // What was reported before the end is read after it was seen.
            let flow = follower.read(sink)?;
            if flow.is_break() || self.stop.requested() {
                process.stop();
                return Ok(None);
            }
            let Some(end) = end else {
                std::thread::sleep(LOOK);
                continue;
            };
            return match follower.losses() {
                Some(losses) if end.is_success() => Ok(Some(losses.to_vec())),
                _ => Err(ModelError::Invalid(format!(
                    "the training by TRL {end} after step {} of {steps}; the same command goes on \
                     from its last checkpoint{}",
                    follower.step(),
                    process.log().tail(SHOWN_LINES)
                ))),
            };
        }
    }

    /// Computes the losses of some rows under the finished model, and compares them with those that
    /// TRL computed before it wrote it.
    fn compare(&self, out: &Path, job: &Job<'_>, theirs: &[f64]) -> Result<String, ModelError> {
        let opening = Opening {
            ignored_fields: &self.ignored_fields,
            template: self.template,
            ..Opening::default()
        };
        let model = LocalModel::open(out, &opening, self.threads)?;
        let ours = model.mean_losses(&job.checked())?;
        let rounded = !job.compute.is_f32()
            || (job.settings.lora.is_none() && job.settings.save_dtype == SaveDtype::Bf16)
            || self.settings.config.contains_key("model_init_kwargs");
        let bound = if rounded { ROUNDED } else { EXACT };
        let wrong = ours
            .iter()
            .zip(theirs)
            .enumerate()
            .find(|(_, (ours, theirs))| {
                let off = (*ours - *theirs).abs();
                off.is_nan() || off > bound * (1.0 + theirs.abs())
            });
        if ours.len() != theirs.len() || wrong.is_some() {
            let (i, (ours, theirs)) = wrong.unwrap_or((0, (&f64::NAN, &f64::NAN)));
            return Err(ModelError::Invalid(format!(
                "the model that came back is not the one that TRL trained: on row {i} of the last \
                 step TRL computed a loss of {theirs:.6} nats per token, and what it wrote to `{}` \
                 gives {ours:.6} (a difference of {bound} of it is allowed)",
                out.display()
            )));
        }
        Ok(model.info().hash.clone())
    }
}

/// Differences of losses that are rounding, for models that are computed and saved in f32 and for
/// others, nats per token for a loss of 0, and that much more for each nat.
const EXACT: f64 = 1e-3;
const ROUNDED: f64 = 5e-2;

impl Model for Trl<'_> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: false,
            sampled_logprobs: false,
            score: false,
            ranks: false,
            entropies: false,
            gradients: true,
            deterministic: false,
        }
    }

    /// The launch decides no result, but for how many processes it runs.
    fn recorded(&self) -> BTreeMap<String, Value> {
        let of = &self.settings;
        let mut recorded = BTreeMap::from([
            ("backend".to_owned(), json!("trl")),
            ("trl.processes".to_owned(), json!(self.processes)),
            (
                "trl.per_device_batch_size".to_owned(),
                json!(of.per_device_batch_size),
            ),
        ]);
        for (name, value) in &of.config {
            recorded.insert(format!("trl.config.{name}"), value.clone());
        }
        for (name, version) in &self.versions {
            recorded.insert(format!("trl.versions.{name}"), json!(version));
        }
        recorded
    }

    fn as_train(&mut self) -> Result<&mut dyn Train, ModelError> {
        Ok(self)
    }
}

impl Train for Trl<'_> {
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
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> Result<TrainSummary, ModelError> {
        if settings.bf16_parity {
            return Err(ModelError::Unsupported(
                "bf16 parity is of the native engine; with TRL a model is loaded in bf16 by the \
                 config `model_init_kwargs = {dtype = \"bfloat16\"}`"
                    .to_owned(),
            ));
        }
        let training = external::external_training(&self.text, examples, dev, settings)?;
        let steps = training.steps.len();
        let most = training.steps.iter().map(|step| step.rows.len()).max();
        let shares = self.settings.shares(most.unwrap_or(1), self.processes);
        let state = newest_state(out)?;
        let mut job = Job {
            model: &self.directory,
            out,
            training: &training,
            settings,
            compute: self.info.compute,
            shares,
            config: &self.settings.config,
            resume: state.as_ref().map(|(_, path)| path.clone()),
        };
        let folder = Folder::of(out);
        fs::create_dir_all(&folder.work).map_err(io(&folder.work))?;
        if let Some(lora) = &settings.lora {
            let first = folder.first_adapter();
            external::write_first_adapter(&self.text, lora, settings.seed, &first)?;
        }
        job.write(&folder)?;
        let done = state.map_or(0, |(step, _)| step);
        let follower = Follower::new(&folder.events(), &training, job.shares, done)?;
        let Some(losses) = self.launch(&folder, follower, steps, sink)? else {
            return Ok(TrainSummary {
                steps: done,
                stopped: true,
                model_hash: String::new(),
            });
        };
        job.resume = None;
        let trainer = format!("TRL {}", self.versions["trl"]);
        let trained = external::Trained {
            text: &self.text,
            base: &self.directory,
            base_hash: &self.info.hash,
            settings,
            rows: examples.len(),
            trainer: &trainer,
        };
        trained.adopt(&folder.trained(), out)?;
        let model_hash = self.compare(out, &job, &losses)?;
        for (_, state) in states(out)? {
            trained.complete_state(&state)?;
        }
        fs::remove_dir_all(&folder.work).map_err(io(&folder.work))?;
        Ok(TrainSummary {
            steps,
            stopped: false,
            model_hash,
        })
    }
}

/// The folders of states in a training's folder, with their steps.
fn states(out: &Path) -> Result<Vec<(usize, PathBuf)>, ModelError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(out).map_err(io(out))? {
        let path = entry.map_err(io(out))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let step = name
            .strip_prefix("checkpoint-")
            .and_then(|n| n.parse().ok());
        found.extend(step.map(|step| (step, path.clone())));
    }
    Ok(found)
}

/// The newest whole state. Those that are not whole, or newer, are removed: they come again.
fn newest_state(out: &Path) -> Result<Option<(usize, PathBuf)>, ModelError> {
    if !out.is_dir() {
        return Ok(None);
    }
    let (whole, torn): (Vec<_>, Vec<_>) = states(out)?
        .into_iter()
        .partition(|(_, path)| path.join(MARK).is_file());
    for (_, path) in torn {
        fs::remove_dir_all(&path).map_err(io(&path))?;
    }
    Ok(whole.into_iter().max())
}
