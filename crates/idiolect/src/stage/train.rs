//! Train: fine-tune a model on one arm.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use idiolect_core::store::{BadRow, Folder, Journal, Meta, OpenedFolder, Row, Rows};
use idiolect_engine::local::{plan, written_names};
use idiolect_model::{
    Example, ModelError, RowError, RowErrorKind, Train, TrainEvent, TrainPlan, TrainSettings,
    TrainSummary,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::curves::{Curves, EVENT_FILE};
use super::inputs::{DataRow, Input, record_model};
use super::student::StudentText;
use super::{Control, ENOUGH_REFUSED, Outcome, StageError};

/// What to train on, and how.
#[derive(Clone, Debug)]
pub struct TrainStageSettings {
    /// `ARM.jsonl`.
    pub data: PathBuf,
    /// Rows whose loss is reported during training.
    pub dev: Option<PathBuf>,
    /// How to train.
    pub train: TrainSettings,
    /// The folder of the finished model.
    pub output: PathBuf,
}

/// Names of what a stage that makes a model puts into its folder.
pub(super) fn model_files() -> Vec<&'static str> {
    written_names().chain([LOG, EVENT_FILE]).collect()
}

/// The events of training.
const LOG: &str = "log.jsonl";

/// What to do about rows that a student cannot be trained on.
pub const REMEDY: &str = "build the arms for this student: `idiolect arms --model STUDENT` leaves such \
                      rows out of every arm alike";

/// Trains and leaves the finished model, `log.jsonl`, its curves as an event file of TensorBoard and
/// resumable states in the output folder. The log's rows hold the step, what was measured and the wall time so far. Rows that cannot be
/// trained on are refused before the first step, and more than the allowed fraction of them is an
/// error.
pub fn train(
    settings: &TrainStageSettings,
    model: &mut dyn Train,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    train_within(settings, None, model, control)
}

/// As [`train`]; rows that `limit` does not take are refused like those that the model cannot hold.
pub fn train_within(
    settings: &TrainStageSettings,
    limit: Option<&StudentText>,
    model: &mut dyn Train,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    settings
        .train
        .check()
        .map_err(|reason| StageError::usage(reason, ""))?;
    let data = Input::open(&settings.data)?;
    let dev = settings.dev.as_deref().map(Input::open).transpose()?;
    let mut meta = Meta::of("train");
    meta.input("data", data.hash());
    if let Some(dev) = &dev {
        meta.input("dev", dev.hash());
    }
    record_model(&mut meta, model.info());
    record_training(&mut meta, &settings.train);
    for (name, value) in model.recorded() {
        meta.setting(&name, value);
    }
    if let Some(most) = limit.and_then(|limit| limit.max_tokens) {
        meta.setting("max_tokens", most);
    }
    let mut given = TrainRows::read(&data, dev.as_ref())?;
    given.check()?;
    let mut folder = match Folder::open(&settings.output, &meta, &model_files(), control.overwrite)?
    {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    let planned = given.plan(limit, |rows| model.plan(rows, &settings.train))?;
    let seen = given.seen();
    let refused = given.refused().count() as u64;
    // Where nothing will be trained, the first of them show why.
    let written = if control.too_many(refused, seen) {
        ENOUGH_REFUSED
    } else {
        refused
    };
    for bad in given.refused().take(written as usize) {
        folder.reject(bad)?;
    }
    control
        .allows(&settings.output, refused, seen)
        .map_err(|error| error.with_remedy(REMEDY))?;
    given.check()?;
    for note in planned.traits.notes() {
        control.progress.note("train", &note);
    }
    let TrainRows { data, dev } = given;
    let out = folder.path().to_owned();
    let place = Place {
        job: "train",
        file: &data.file,
        lines: &data.lines,
    };
    let hash = learn(place, &mut folder, control, |sink| {
        let dev = dev.as_ref().map_or(&[][..], |dev| &dev.rows);
        model.train(&data.rows, dev, &settings.train, &out, sink)
    })?;
    let rows = data.rows.len() as u64;
    Outcome::of(
        &settings.output,
        &folder.finish(rows, seen, &hash)?,
        false,
        control,
    )
}

/// Adds training settings to an output's provenance, one a name. How often a state is saved, and
/// whether activations are computed again, changes no result.
pub(super) fn record_training(meta: &mut Meta, train: &TrainSettings) {
    if let Ok(Value::Object(settings)) = serde_json::to_value(train) {
        for (name, value) in settings
            .into_iter()
            .filter(|(name, _)| name != "checkpoint_every" && name != "gradient_checkpointing")
        {
            meta.setting(&name, value);
        }
    }
}

/// What a training would be, without a step of it.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Of the rows that can be trained on.
    pub plan: TrainPlan,
    /// Rows of the file.
    pub seen: u64,
    /// Rows that cannot be trained on, those of the dev file included.
    pub refused: Vec<BadRow>,
}

/// What a training of the rows of `data` would be. Nothing is written, and of the model only
/// config, tokenizer and template are read.
pub fn trial(
    data: &Path,
    dev: Option<&Path>,
    train: &TrainSettings,
    student: &StudentText,
) -> Result<Trial, StageError> {
    let dev = dev.map(Input::open).transpose()?;
    let mut given = TrainRows::read(&Input::open(data)?, dev.as_ref())?;
    let planned = given.plan(Some(student), |rows| Ok(plan(&student.text, rows, train)))?;
    given.check()?;
    Ok(Trial {
        plan: planned,
        seen: given.seen(),
        refused: given.refused().cloned().collect(),
    })
}

/// Rows that a model directory was trained on, where `train` made it.
pub fn rows_trained(dir: &Path) -> Result<Option<u64>, StageError> {
    let meta = Meta::read(dir)?;
    Ok(meta
        .filter(|meta| meta.stage == "train" && meta.complete)
        .map(|meta| meta.rows))
}

/// What is trained on, and what its dev loss is of.
struct TrainRows {
    data: Examples,
    dev: Option<Examples>,
}

impl TrainRows {
    fn read(data: &Input, dev: Option<&Input>) -> Result<Self, StageError> {
        Ok(Self {
            data: Examples::read(data)?,
            dev: dev.map(Examples::read).transpose()?,
        })
    }

    /// What the training would be. Rows that it refuses are taken out, and so are those that are
    /// longer than `limit` allows.
    fn plan(
        &mut self,
        limit: Option<&StudentText>,
        plan: impl Fn(&[Example]) -> Result<TrainPlan, ModelError>,
    ) -> Result<TrainPlan, ModelError> {
        if let Some(limit) = limit.filter(|limit| limit.max_tokens.is_some()) {
            self.data.without_longer(limit);
            if let Some(dev) = &mut self.dev {
                dev.without_longer(limit);
            }
        }
        let mut planned = plan(&self.data.rows)?;
        self.data.without_refused(&planned);
        if let Some(dev) = &mut self.dev {
            let of_dev = plan(&dev.rows)?;
            dev.without_refused(&of_dev);
            planned.traits.merge(of_dev.traits);
        }
        Ok(planned)
    }

    /// Fails where nothing would be trained on, or a dev loss be of nothing.
    fn check(&self) -> Result<(), StageError> {
        self.data.needs_a_row("train on")?;
        self.data.needs_weight()?;
        match &self.dev {
            Some(dev) => dev.needs_a_row("take the dev loss of"),
            None => Ok(()),
        }
    }

    fn refused(&self) -> impl Iterator<Item = &BadRow> {
        self.data
            .bad
            .iter()
            .chain(self.dev.iter().flat_map(|dev| &dev.bad))
    }

    fn seen(&self) -> u64 {
        self.data.seen + self.dev.as_ref().map_or(0, |dev| dev.seen)
    }
}

/// The examples of a file and where each stood.
#[derive(Default)]
struct Examples {
    rows: Vec<Example>,
    traces: Vec<Option<String>>,
    lines: Vec<u64>,
    /// Rows that are no example, or none that can be trained on.
    bad: Vec<BadRow>,
    file: String,
    seen: u64,
}

impl Examples {
    fn read(input: &Input) -> Result<Self, StageError> {
        let mut examples = Self {
            file: input.name(),
            ..Self::default()
        };
        for row in input.rows::<Value>()? {
            examples.seen += 1;
            match row? {
                Err(bad) => examples.bad.push(bad),
                Ok(row) => match DataRow::parse(&row.value) {
                    Err(reason) => {
                        let bad = BadRow::new(&row.file, row.line, reason, "");
                        examples.bad.push(bad);
                    }
                    Ok(data) => {
                        examples.rows.push(data.example);
                        examples.traces.push(data.trace_id);
                        examples.lines.push(row.line);
                    }
                },
            }
        }
        Ok(examples)
    }

    /// Takes out what has more tokens than `limit` allows. Other faults are found by the plan.
    fn without_longer(&mut self, limit: &StudentText) {
        let longer = |(i, row): (usize, &Example)| match limit.takes_example(row) {
            Err(error) if error.kind == RowErrorKind::TooLong => Some((i, error)),
            _ => None,
        };
        let refused = self.rows.iter().enumerate().filter_map(longer).collect();
        self.without_refused(&TrainPlan {
            refused,
            ..TrainPlan::default()
        });
    }

    /// Takes out what a plan refuses.
    fn without_refused(&mut self, plan: &TrainPlan) {
        let refused: BTreeMap<usize, &RowError> =
            plan.refused.iter().map(|(i, error)| (*i, error)).collect();
        let rows = std::mem::take(&mut self.rows).into_iter();
        let traces = std::mem::take(&mut self.traces).into_iter();
        let lines = std::mem::take(&mut self.lines).into_iter();
        for (i, ((row, trace), line)) in rows.zip(traces).zip(lines).enumerate() {
            match refused.get(&i) {
                None => {
                    self.rows.push(row);
                    self.traces.push(trace);
                    self.lines.push(line);
                }
                Some(error) => {
                    let trace = trace.map_or_else(String::new, |id| format!("trace `{id}`: "));
                    let reason = format!("{trace}{error}");
                    let bad = BadRow::new(&self.file, line, reason, &row.completion);
                    self.bad.push(bad);
                }
            }
        }
        self.bad.sort_by_key(|bad| bad.line);
    }

    /// Fails where there is no row for what rows are wanted for.
    fn needs_a_row(&self, what_for: &str) -> Result<(), StageError> {
        if !self.rows.is_empty() {
            return Ok(());
        }
        let why = self.bad.first().map_or_else(String::new, |bad| {
            format!("; line {}: {}", bad.line, bad.reason)
        });
        Err(StageError::failed(
            format!("`{}` holds no row to {what_for}{why}", self.file),
            if self.bad.is_empty() {
                "rows are {\"prompt\":…,\"completion\":…} or {\"messages\":[…]}"
            } else {
                REMEDY
            },
        ))
    }

    /// Fails where all rows weigh nothing: a training of them would finish and change nothing.
    fn needs_weight(&self) -> Result<(), StageError> {
        if self.rows.iter().any(|row| row.weight > 0.0) {
            return Ok(());
        }
        Err(StageError::failed(
            format!(
                "nothing would be trained on: all {} rows of `{}` have weight 0",
                self.rows.len(),
                self.file
            ),
            "a row's `weight` multiplies its loss, and is 1 where the row has none",
        ))
    }
}

/// What a training is called, and where its rows stood.
pub(super) struct Place<'a> {
    pub(super) job: &'a str,
    pub(super) file: &'a str,
    pub(super) lines: &'a [u64],
}

/// Lets a model learn, keeping its log and reporting its progress; gives the finished model's hash.
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
                past,
            } => {
                log.keep(*done, past)?;
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
            TrainEvent::Dev {
                step,
                loss,
                save_dtype,
            } => {
                log.add(&event)?;
                let saved = save_dtype.map_or_else(String::new, |dtype| {
                    format!(" as saved, rounded to {}", dtype.name())
                });
                let text = format!("step {step}: dev loss {loss:.4} nats per token{saved}");
                control.progress.note(place.job, &text);
            }
            TrainEvent::Checkpoint { .. } => log.sync()?,
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
        None => {
            // Before the folder is called complete.
            log.sync()?;
            Ok(summary.model_hash)
        }
    }
}

/// `log.jsonl`: the events of training, with wall time; and the same as curves.
struct Log {
    journal: Journal,
    /// There once it is known which rows stay.
    curves: Option<Curves>,
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

/// A row that is read again.
#[derive(Deserialize)]
struct LogPlace {
    step: usize,
    #[serde(flatten)]
    event: Map<String, Value>,
    #[serde(default)]
    wall_s: f64,
}

/// A row that is drawn again.
#[derive(Deserialize)]
struct LogPoint {
    #[serde(flatten)]
    event: TrainEvent,
    #[serde(default)]
    wall_s: f64,
}

impl LogPlace {
    /// Whether it is the row of an event.
    fn is_of(&self, event: &TrainEvent) -> bool {
        let Ok(Value::Object(mut wanted)) = serde_json::to_value(event) else {
            return false;
        };
        wanted.shift_remove("step") == Some(Value::from(self.step)) && wanted == self.event
    }
}

impl Log {
    fn open(folder: &Path) -> Result<Self, StageError> {
        let path = folder.join(LOG);
        Ok(Self {
            journal: Journal::open(&path)?,
            curves: None,
            path,
            begun: Instant::now(),
            before_s: 0.0,
        })
    }

    /// Keeps the rows of the first `steps` steps: those after the state that training continues
    /// from come again. Rows that the log lost, because it could not be written when the state could,
    /// are written from what the state holds.
    fn keep(&mut self, steps: usize, past: &[TrainEvent]) -> Result<(), StageError> {
        let rows = Rows::<LogPlace>::open(&self.path)?.collect_good(drop)?;
        let stays = |(i, row): &(usize, &Row<LogPlace>)| match past {
            [] => row.value.step <= steps,
            past => past.get(*i).is_some_and(|event| row.value.is_of(event)),
        };
        let kept = rows.iter().enumerate().take_while(stays);
        let kept: Vec<f64> = kept.map(|(_, row)| row.value.wall_s).collect();
        self.before_s = kept.last().copied().unwrap_or_default();
        self.journal.truncate(kept.len() as u64)?;
        for event in past.iter().skip(kept.len()) {
            self.journal.push(&LogRow {
                event,
                wall_s: self.before_s,
            })?;
        }
        let points = Rows::<LogPoint>::open(&self.path)?.collect_good(drop)?;
        let points = points
            .into_iter()
            .map(|row| (row.value.event, row.value.wall_s));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.curves = Some(Curves::begin(folder, &points.collect::<Vec<_>>())?);
        Ok(())
    }

    /// Makes what was added durable.
    fn sync(&mut self) -> Result<(), StageError> {
        self.journal.sync()?;
        match &self.curves {
            Some(curves) => Ok(curves.sync()?),
            None => Ok(()),
        }
    }

    fn add(&mut self, event: &TrainEvent) -> Result<(), StageError> {
        let wall_s = self.before_s + self.begun.elapsed().as_secs_f64();
        let wall_s = (wall_s * 1e3).round() / 1e3;
        self.journal.push(&LogRow { event, wall_s })?;
        match &mut self.curves {
            Some(curves) => Ok(curves.add(event, wall_s)?),
            None => Ok(()),
        }
    }
}
