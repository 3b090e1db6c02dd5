//! The curves of a training as an event file of TensorBoard, beside `log.jsonl` and made from it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use idiolect_core::store::StoreError;
use idiolect_model::TrainEvent;

use crate::event_file;

/// Its name: TensorBoard looks for `tfevents`, others for `events.out.tfevents.` with a number. No
/// time and no host stands in it, so that a training that is continued has one file.
pub(super) const EVENT_FILE: &str = "events.out.tfevents.0.idiolect";

/// The event file of a training that goes on. What is appended can be seen at once.
pub(super) struct Curves {
    path: PathBuf,
    file: File,
    /// When the training would have begun had it never been interrupted, seconds since 1970.
    began_s: f64,
}

impl Curves {
    /// Writes the file anew, with what was logged so far and its wall times: a training that is
    /// continued from an earlier state leaves no point of the steps that it does again.
    pub(super) fn begin(folder: &Path, past: &[(TrainEvent, f64)]) -> Result<Self, StoreError> {
        let path = folder.join(EVENT_FILE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let before_s = past.last().map_or(0.0, |(_, wall_s)| *wall_s);
        let began_s = now.map_or(0.0, |now| now.as_secs_f64()) - before_s;
        let mut bytes = event_file::first_record(began_s);
        for (event, wall_s) in past {
            bytes.extend(record(event, began_s + wall_s));
        }
        let begun = idiolect_files::replace(&path, |file| file.write_all(&bytes));
        let opened = begun.and_then(|()| {
            let mut file = idiolect_files::append_to(&path)?;
            io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(file)
        });
        match opened {
            Ok(file) => Ok(Self {
                path,
                file,
                began_s,
            }),
            Err(error) => Err(StoreError::io("write", &path)(error)),
        }
    }

    /// Appends what an event measured, `wall_s` after the beginning.
    pub(super) fn add(&mut self, event: &TrainEvent, wall_s: f64) -> Result<(), StoreError> {
        let bytes = record(event, self.began_s + wall_s);
        let written = self.file.write_all(&bytes);
        written.map_err(StoreError::io("write", &self.path))
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let synced = self.file.sync_all();
        synced.map_err(StoreError::io("write", &self.path))
    }
}

/// The record of an event, under the tags that the Trainer of transformers gives; none for events
/// without a measure.
fn record(event: &TrainEvent, wall_time_s: f64) -> Vec<u8> {
    match event {
        TrainEvent::Step {
            step,
            loss,
            lr,
            gradient_norm,
            ..
        } => {
            let values = [
                ("train/loss", *loss),
                ("train/grad_norm", *gradient_norm),
                ("train/learning_rate", *lr),
            ];
            event_file::record(wall_time_s, *step as u64, &values)
        }
        TrainEvent::Dev {
            step,
            loss,
            save_dtype,
        } => {
            let tag = save_dtype.map_or_else(
                || "eval/loss".to_owned(),
                |dtype| format!("eval/loss_saved_as_{}", dtype.name()),
            );
            event_file::record(wall_time_s, *step as u64, &[(&tag, *loss)])
        }
        TrainEvent::Started { .. } | TrainEvent::Checkpoint { .. } => Vec::new(),
    }
}
