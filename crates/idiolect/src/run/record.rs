//! What a run tells of itself beside its results: `events.jsonl` (when each stage began and ended)
//! and `manifest.json` (program, machine, command). Only these hold times and paths.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use idiolect_core::record::content_hash;
use idiolect_core::store::write_atomic;
use serde_json::{Value, json};

use super::recipe::{self, Recipe};
use super::{RunSettings, io};
use crate::stage::StageError;

/// The open journal of events.
pub(crate) struct Record {
    events: Mutex<File>,
    manifest: PathBuf,
    facts: Value,
}

impl Record {
    /// Continues the events of a run directory and writes its manifest.
    pub(crate) fn open(
        dir: &Path,
        recipe: &Recipe,
        settings: &RunSettings,
    ) -> Result<Self, StageError> {
        let path = dir.join("events.jsonl");
        let events = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|source| io("write", &path, source))?;
        let facts = json!({
            "program": format!("idiolect {}", env!("CARGO_PKG_VERSION")),
            "recipe": recipe.name,
            "recipe_hash": content_hash(recipe::stored(recipe).as_bytes()),
            "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            "data": recipe.data.clone().or_else(|| std::env::var("IDIOLECT_DATA").ok()),
            "student": recipe.student,
            "threads": settings.threads,
            "machine": {
                "os": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
            },
            "began_unix_s": unix_seconds(),
        });
        let record = Self {
            events: Mutex::new(events),
            manifest: dir.join("manifest.json"),
            facts,
        };
        record.write_manifest("running")?;
        Ok(record)
    }

    /// Notes that a stage begins, ends or was already done.
    pub(crate) fn event(&self, world: usize, stage: &str, event: &str) {
        let row =
            json!({"at_unix_s": unix_seconds(), "world": world, "stage": stage, "event": event});
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        // A lost event harms no result; a full disk shows itself at the next output.
        let _ = writeln!(events, "{row}");
    }

    /// Marks the run as complete or stopped.
    pub(crate) fn close(&self, whole: bool) -> Result<(), StageError> {
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

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| (d.as_secs_f64() * 1e3).round() / 1e3)
}

/// The process's largest resident size so far, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
