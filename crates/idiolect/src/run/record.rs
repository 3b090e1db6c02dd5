//! What a run shows of itself beside its results: `events.jsonl` (when each job began and ended)
//! and `manifest.json` (program, machine, command). Only these hold times and paths.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use idiolect_core::record::content_hash;
use idiolect_core::store::write_atomic;
use idiolect_model::Usage;
use serde_json::{Value, json};

use super::files::Folders;
use super::plan::Job;
use super::recipe::Recipe;
use super::{io, resolve};
use crate::model::price::{Price, spent};
use crate::progress::{Event, Progress};
use crate::stage::StageError;

/// How often a job notes how far it is.
const EVERY: Duration = Duration::from_secs(10);

/// The open journal of events.
pub(super) struct Record {
    events: Arc<Mutex<File>>,
    manifest: PathBuf,
    facts: Value,
}

impl Record {
    /// Continues the events of a run directory and writes its manifest.
    pub(super) fn open(
        dir: &Path,
        recipe: &Recipe,
        folders: &Folders,
        threads: usize,
    ) -> Result<Self, StageError> {
        let events = events(&dir.join("events.jsonl"))?;
        let facts = json!({
            "program": format!("idiolect {}", env!("CARGO_PKG_VERSION")),
            "recipe": recipe.name,
            "recipe_hash": content_hash(resolve::stored(recipe).as_bytes()),
            "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            "inputs": folders,
            "threads": threads,
            "machine": {
                "os": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
            },
            "began_unix_s": unix_seconds(),
        });
        let record = Self {
            events,
            manifest: dir.join("manifest.json"),
            facts,
        };
        record.write_manifest("running")?;
        Ok(record)
    }

    /// Joins the events of a run that another process began; its manifest stays as it is. A task on
    /// a cluster has a file of events of its own.
    pub(super) fn join(dir: &Path, task: Option<&str>) -> Result<Self, StageError> {
        let path = match task {
            Some(task) => super::cluster::events_of(dir, task),
            None => dir.join("events.jsonl"),
        };
        Ok(Self {
            events: events(&path)?,
            manifest: dir.join("manifest.json"),
            facts: Value::Null,
        })
    }

    /// Notes that a job begins, ends or fails.
    pub(super) fn event(&self, job: &Job, event: &str, message: Option<&str>) {
        let mut row = json!({});
        if let Some(message) = message {
            row["message"] = json!(message);
        }
        self.write_event(job, event, row);
    }

    /// Notes what a job asked an endpoint, also one that then failed.
    pub(super) fn spent(&self, job: &Job, usage: &Usage, price: Option<Price>) {
        let named = spent(usage, price).into_iter();
        let row = named.map(|(name, value)| (name.to_owned(), value));
        self.write_event(job, "spent", row.collect());
    }

    /// Passes a job's progress on to `shown`, and notes it now and then for `status`, which is another
    /// process.
    pub(super) fn noting(&self, job: &Job, shown: Progress) -> Progress {
        let (events, head) = (Arc::clone(&self.events), head(job, "progress"));
        let begun = Mutex::new(None);
        Progress::to(move |name, event| {
            shown.event(name, event);
            let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
            match (event, &mut *begun) {
                (Event::Begin { total, done, unit }, begun) => {
                    *begun = Some((
                        Instant::now(),
                        json!({"total": total, "before": done, "unit": unit}),
                    ));
                }
                (Event::At(done), Some((noted, facts))) if noted.elapsed() >= EVERY => {
                    *noted = Instant::now();
                    facts["done"] = json!(done);
                    write(&events, &head, facts);
                }
                _ => {}
            }
        })
    }

    fn write_event(&self, job: &Job, event: &str, more: Value) {
        write(&self.events, &head(job, event), &more);
    }

    /// Where an earlier process of the run looked for files, and the commits that it took of the hub.
    pub(super) fn folders(dir: &Path) -> Option<Folders> {
        let text = fs::read(dir.join("manifest.json")).ok()?;
        let manifest: Value = serde_json::from_slice(&text).ok()?;
        serde_json::from_value(manifest.get("inputs")?.clone()).ok()
    }

    /// Marks the run as complete or stopped.
    pub(super) fn close(&self, whole: bool) -> Result<(), StageError> {
        self.write_manifest(if whole { "complete" } else { "stopped" })
    }

    fn write_manifest(&self, state: &str) -> Result<(), StageError> {
        let mut facts = self.facts.clone();
        facts["state"] = Value::from(state);
        facts["peak_memory_bytes"] = json!(peak_memory());
        if state != "running" {
            facts["ended_unix_s"] = json!(unix_seconds());
        }
        let text = serde_json::to_string_pretty(&facts).expect("a JSON value serialises") + "\n";
        Ok(write_atomic(&self.manifest, text.as_bytes())?)
    }
}

/// A journal of events, to be continued.
fn events(path: &Path) -> Result<Arc<Mutex<File>>, StageError> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|source| io("write", path, source))?;
    Ok(Arc::new(Mutex::new(file)))
}

/// What every event of a job holds beside its time.
fn head(job: &Job, event: &str) -> Value {
    json!({"job": job.id, "stage": job.stage, "event": event})
}

fn write(events: &Mutex<File>, head: &Value, more: &Value) {
    let mut row = json!({"at_unix_s": unix_seconds()});
    for part in [head, more] {
        if let (Value::Object(row), Value::Object(part)) = (&mut row, part) {
            row.extend(part.clone());
        }
    }
    // One write, so that the lines of several processes do not mix.
    let line = format!("{row}\n");
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    // A lost event harms no result; a full disk shows itself at the next output.
    let _ = events.write_all(line.as_bytes());
}

pub(super) fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| (d.as_secs_f64() * 1e3).round() / 1e3)
}

/// The process's largest resident size so far, where the system shows.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
