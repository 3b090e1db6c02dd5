//! Train: fine-tune a model on one arm.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use idiolect_core::model::{Example, ModelError, Train, TrainEvent, TrainSettings, TrainSummary};
use idiolect_core::store::{BadRow, Folder, Journal, Meta, OpenedFolder, Rows};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inputs::{DataRow, Input, tell_model};
use super::{Control, Outcome, StageError};

/// What to train on, and how.
#[derive(Clone, Debug)]
pub(crate) struct TrainStageSettings {
    /// `ARM.jsonl`.
    pub(crate) data: PathBuf,
    /// Rows whose loss is told during training.
    pub(crate) dev: Option<PathBuf>,
    /// How to train.
    pub(crate) train: TrainSettings,
    /// The folder of the finished model.
    pub(crate) output: PathBuf,
}

/// Trains and leaves the finished model, `log.jsonl` and resumable states in the output folder.
/// The log's rows tell the step, what was measured and the wall time so far.
pub(crate) fn train(
    settings: &TrainStageSettings,
    model: &mut dyn Train,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let data = Input::open(&settings.data)?;
    let dev = settings.dev.as_deref().map(Input::open).transpose()?;
    let mut meta = Meta::of("train");
    meta.input("data", data.hash());
    if let Some(dev) = &dev {
        meta.input("dev", dev.hash());
    }
    tell_model(&mut meta, model.info());
    tell_training(&mut meta, &settings.train);
    let mut folder = match Folder::open(&settings.output, &meta, control.fresh)? {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    let examples = Examples::read(&data, &mut folder)?;
    let dev = match dev {
        Some(dev) => Examples::read(&dev, &mut folder)?,
        None => Examples::default(),
    };
    if examples.rows.is_empty() {
        return Err(StageError::failed(
            format!("`{}` holds no row to train on", data.name()),
            "rows are {\"prompt\":…,\"completion\":…} or {\"messages\":[…]}",
        ));
    }
    let out = folder.path().to_owned();
    let place = Place {
        job: "train",
        file: &examples.file,
        lines: &examples.lines,
    };
    let hash = learn(place, &mut folder, control, |sink| {
        model.train(&examples.rows, &dev.rows, &settings.train, &out, sink)
    })?;
    let seen = examples.seen + dev.seen;
    let rows = seen - folder.rejected();
    Outcome::of(
        &settings.output,
        &folder.finish(rows, seen, &hash)?,
        false,
        control,
    )
}

/// Adds training settings to an output's provenance, one a name. How often a state is saved, and
/// whether activations are computed again, changes no result.
pub(super) fn tell_training(meta: &mut Meta, train: &TrainSettings) {
    if let Ok(Value::Object(settings)) = serde_json::to_value(train) {
        for (name, value) in settings
            .into_iter()
            .filter(|(name, _)| name != "checkpoint_every" && name != "recompute")
        {
            meta.setting(&name, value);
        }
    }
}

/// The examples of a file and where each stood.
#[derive(Default)]
struct Examples {
    rows: Vec<Example>,
    lines: Vec<u64>,
    file: String,
    seen: u64,
}

impl Examples {
    fn read(input: &Input, folder: &mut Folder) -> Result<Self, StageError> {
        let mut examples = Self {
            file: input.name(),
            ..Self::default()
        };
        for row in input.rows::<Value>()? {
            examples.seen += 1;
            match row? {
                Err(bad) => folder.reject(&bad)?,
                Ok(row) => match DataRow::parse(&row.value) {
                    Err(reason) => {
                        folder.reject(&BadRow::new(&examples.file, row.line, reason, ""))?
                    }
                    Ok(data) => {
                        examples.rows.push(data.example);
                        examples.lines.push(row.line);
                    }
                },
            }
        }
        Ok(examples)
    }
}

/// What a training is called, and where its rows stood.
pub(super) struct Place<'a> {
    pub(super) job: &'a str,
    pub(super) file: &'a str,
    pub(super) lines: &'a [u64],
}

/// Lets a model learn, keeping its log and telling its progress; gives the finished model's hash.
pub(super) fn learn(
    place: Place<'_>,
    folder: &mut Folder,
    control: Control<'_>,
    work: impl FnOnce(&mut dyn FnMut(TrainEvent) -> ControlFlow<()>) -> Result<TrainSummary, ModelError>,
) -> Result<String, StageError> {
    let mut log = Log::open(folder.path())?;
    let (mut failed, mut meter) = (None, None);
    let mut hear = |event: TrainEvent| -> Result<(), StageError> {
        match &event {
            TrainEvent::Started {
                steps,
                done,
                refused,
            } => {
                log.keep(*done)?;
                for (index, reason) in refused {
                    let line = place.lines.get(*index).copied().unwrap_or_default();
                    folder.reject(&BadRow::new(place.file, line, reason, ""))?;
                }
                let (steps, done) = (*steps as u64, *done as u64);
                meter = Some(
                    control
                        .progress
                        .begin(place.job, "steps", Some(steps), done),
                );
            }
            TrainEvent::Step { step, .. } => {
                log.add(&event)?;
                if let Some(meter) = &mut meter {
                    meter.at(*step as u64);
                }
            }
            TrainEvent::Dev { step, loss } => {
                log.add(&event)?;
                let text = format!("step {step}: dev loss {loss:.4} nats per token");
                control.progress.note(place.job, &text);
            }
            TrainEvent::Checkpoint { .. } => log.journal.sync()?,
        }
        Ok(())
    };
    let summary = work(&mut |event| match hear(event) {
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
        Ok(()) if control.stop.requested() => ControlFlow::Break(()),
        Ok(()) => ControlFlow::Continue(()),
    })?;
    match failed {
        Some(error) => Err(error),
        None if summary.stopped => Err(StageError::Interrupted),
        None => Ok(summary.model_hash),
    }
}

/// `log.jsonl`: the events of training, with wall time.
struct Log {
    journal: Journal,
    path: PathBuf,
    begun: Instant,
    /// Wall time of the processes before this one.
    before_s: f64,
}

/// A row of `log.jsonl`.
#[derive(Serialize)]
struct LogRow<'a> {
    #[serde(flatten)]
    event: &'a TrainEvent,
    wall_s: f64,
}

/// What of a row is needed to continue.
#[derive(Deserialize)]
struct LogPlace {
    step: usize,
    #[serde(default)]
    wall_s: f64,
}

impl Log {
    fn open(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join("log.jsonl");
        Ok(Self {
            journal: Journal::open(&path)?,
            path,
            begun: Instant::now(),
            before_s: 0.0,
        })
    }

    /// Keeps the rows of the first `steps` steps: those after the state that training continues
    /// from come again.
    fn keep(&mut self, steps: usize) -> Result<(), StageError> {
        let rows = Rows::<LogPlace>::open(&self.path)?.collect_good(drop)?;
        let kept = rows.iter().take_while(|row| row.value.step <= steps);
        self.before_s = kept.clone().last().map_or(0.0, |row| row.value.wall_s);
        Ok(self.journal.truncate(kept.count() as u64)?)
    }

    fn add(&mut self, event: &TrainEvent) -> Result<(), StageError> {
        let wall_s = self.before_s + self.begun.elapsed().as_secs_f64();
        Ok(self.journal.push(&LogRow {
            event,
            wall_s: (wall_s * 1e3).round() / 1e3,
        })?)
    }
}
