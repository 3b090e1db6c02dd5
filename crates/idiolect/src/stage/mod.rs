//! The stages as plain functions over files: settings and a model in, rows or a folder out.
//!
//! A single command calls one of them, `idiolect run` calls them all. Each continues an unfinished
//! output of the same settings, skips a finished one, and refuses one of other settings. A stage
//! prints nothing; it reports its progress and returns an [`Outcome`] or a [`StageError`].

pub mod advise;
pub mod arms;
mod ask;
pub mod audit;
pub mod code;
pub mod compare;
pub mod compat;
pub mod convert;
pub mod corrupt;
pub mod countdown;
mod curves;
pub mod eval;
pub mod export;
pub mod extent;
pub mod features;
pub mod generate;
pub mod gguf_check;
pub mod import;
pub mod inputs;
pub mod lm_eval;
pub mod outside;
pub mod paraphrase;
pub mod pretrain;
pub mod race;
pub mod report;
pub mod score;
pub mod student;
pub mod table;
pub mod theirs;
pub mod train;
pub mod verify;

use std::path::Path;

use idiolect_core::store::{BadRow, Meta, Output, Rejects, Rows, StoreError};
use idiolect_model::ModelError;

pub use extent::Extent;

use crate::exit;
use crate::interrupt::Stop;
use crate::progress::Progress;
use crate::sandbox::Protection;

/// What every stage gets beside its settings; none of it changes results.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Where progress goes.
    pub progress: &'a Progress,
    /// Looked at between rows and steps.
    pub stop: &'a Stop,
    /// Start over instead of continuing.
    pub overwrite: bool,
    /// Share of refused rows above which the stage fails.
    pub max_rejects: f64,
    /// Threads for work of the program's own.
    pub threads: usize,
    /// Whether model-written code may run without the sandbox.
    pub protection: Protection,
    /// Which part of its output a stage makes.
    pub extent: Extent,
}

impl Control<'_> {
    /// Whether more than the allowed fraction of the rows looked at were refused.
    pub fn too_many(&self, rejected: u64, seen: u64) -> bool {
        rejected as f64 > self.max_rejects * seen as f64
    }

    /// Whether it is time to stop reading: enough refused rows are written down to see what is wrong,
    /// and the allowed fraction is exceeded whatever the rows to come are. Of `total` rows where
    /// their number is known; else where none may be refused, or where all of the first
    /// [`ALL_REFUSED`] were.
    pub fn hopeless(&self, rejected: u64, seen: u64, total: Option<u64>) -> bool {
        let none_good = rejected == seen && seen >= ALL_REFUSED && self.max_rejects < 1.0;
        rejected >= ENOUGH_REFUSED
            && match total {
                Some(total) => self.too_many(rejected, total.max(seen)),
                None => none_good || self.max_rejects <= 0.0,
            }
    }

    /// Fails where more than the allowed fraction of the rows looked at were refused; the rejects of
    /// `output` name them.
    pub fn allows(&self, output: &Path, rejected: u64, seen: u64) -> Result<(), StageError> {
        // Of a split output it is the fraction of the whole that counts.
        if !self.is_shard() && self.too_many(rejected, seen) {
            return Err(self.refusal(output, rejected, seen)?);
        }
        Ok(())
    }

    /// Fails as soon as more than the allowed fraction of an output's rows are refused whatever the
    /// rows to come are, of `total` where their number is known. What is done is kept.
    pub(super) fn check_refused(
        &self,
        output: &Output,
        total: Option<u64>,
    ) -> Result<(), StageError> {
        let (rejected, seen) = (output.rejected(), output.done());
        if self.is_shard() || !self.hopeless(rejected, seen, total) {
            return Ok(());
        }
        output.write_refused()?;
        Err(self.refusal(output.path(), rejected, seen)?)
    }

    /// The error of an output that refused too many rows, with the first of them.
    pub fn refusal(
        &self,
        output: &Path,
        rejected: u64,
        seen: u64,
    ) -> Result<StageError, StageError> {
        Ok(StageError::TooManyRefused(Box::new(TooManyRefused {
            rejected,
            seen,
            share: self.max_rejects,
            rejects: Rejects::path_of(output).display().to_string(),
            first: first_refused(output)?,
            remedy: None,
        })))
    }
}

/// Refused rows of which a failed stage writes down no more: they show what is wrong.
pub const ENOUGH_REFUSED: u64 = 1000;

/// Rows after which a file of which not one could be used is taken for another kind of file.
pub const ALL_REFUSED: u64 = 10_000;

/// Refused rows that an error shows.
const SHOWN_REJECTS: usize = 3;

/// The first rows that an output refused.
pub fn first_refused(output: &Path) -> Result<Vec<BadRow>, StageError> {
    let path = Rejects::path_of(output);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut first = Vec::new();
    for row in Rows::<BadRow>::open(&path)?.take(SHOWN_REJECTS) {
        first.extend(row?.ok().map(|row| row.value));
    }
    Ok(first)
}

/// Too many bad rows: a data set that shrinks silently is a wrong result.
#[derive(Debug, thiserror::Error)]
#[error("{rejected} of {seen} rows were refused, more than the allowed fraction of {share}{}", refusals(.first, *.rejected))]
pub struct TooManyRefused {
    /// Rows refused.
    pub rejected: u64,
    /// Rows looked at.
    pub seen: u64,
    /// The share allowed.
    pub share: f64,
    /// The file that names them.
    pub rejects: String,
    /// The first of them.
    pub first: Vec<BadRow>,
    /// What to do about them, where the stage knows.
    pub remedy: Option<String>,
}

/// Refused rows, one a line.
fn refusals(first: &[BadRow], rejected: u64) -> String {
    let line = |row: &BadRow| format!("\n  {}, line {}: {}", row.file, row.line, row.reason);
    let mut lines: String = first.iter().map(line).collect();
    let more = rejected.saturating_sub(first.len() as u64);
    if more > 0 && !first.is_empty() {
        lines.push_str(&format!("\n  and {more} more"));
    }
    lines
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rows of the output.
    pub rows: u64,
    /// Rows refused.
    pub rejected: u64,
    /// Rows looked at.
    pub seen: u64,
    /// Whether it was complete before and nothing was done.
    pub was_complete: bool,
    /// Content hash of the output (of a folder: as its stage defines it).
    pub hash: String,
}

impl Outcome {
    /// The outcome that a finished output's provenance records, judged by the allowed fraction of
    /// refused rows. That share is no setting of the output: it can be raised afterwards.
    pub fn of(
        output: &Path,
        meta: &Meta,
        was_complete: bool,
        control: Control<'_>,
    ) -> Result<Self, StageError> {
        let (rows, rejected, seen) = (meta.rows, meta.rejected, meta.seen);
        control.allows(output, rejected, seen)?;
        Ok(Self {
            rows,
            rejected,
            seen,
            was_complete,
            hash: meta.hash.clone(),
        })
    }
}

/// Why a stage did not finish.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model.
    #[error(transparent)]
    Model(ModelError),
    /// Too many bad rows.
    #[error(transparent)]
    TooManyRefused(Box<TooManyRefused>),
    /// Ctrl-C.
    #[error("interrupted; the same command continues")]
    Interrupted,
    /// What was asked for makes no sense.
    #[error("{message}")]
    Usage {
        /// In words.
        message: String,
        /// What to do, where known.
        hint: Option<String>,
    },
    /// Anything else that ends the stage.
    #[error("{message}")]
    Failed {
        /// In words.
        message: String,
        /// What to do, where known.
        hint: Option<String>,
    },
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::Interrupted => Self::Interrupted,
            error => Self::Model(error),
        }
    }
}

impl StageError {
    /// Wrong use, with what to do.
    pub fn usage(message: impl Into<String>, hint: &str) -> Self {
        Self::Usage {
            message: message.into(),
            hint: some(hint),
        }
    }

    /// A failure, with what to do.
    pub fn failed(message: impl Into<String>, hint: &str) -> Self {
        Self::Failed {
            message: message.into(),
            hint: some(hint),
        }
    }

    /// The same, with what to do about refused rows where it is about such.
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        if let Self::TooManyRefused(refused) = &mut self {
            refused.remedy = Some(remedy.into());
        }
        self
    }

    /// The program's exit code for it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => exit::INTERRUPTED,
            Self::Usage { .. } => exit::USAGE,
            _ => exit::FAILED,
        }
    }

    /// What to do about it, where known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. }
            | Self::Failed { hint, .. }
            | Self::Model(ModelError::Server { hint, .. }) => return hint.clone(),
            Self::Store(StoreError::Changed { .. }) => {
                "use the settings it was made with, another output, or --overwrite to start over"
            }
            Self::Store(StoreError::Edited { .. }) => {
                "give another output, or --overwrite to write this one anew"
            }
            Self::Store(StoreError::Foreign { .. }) => {
                "nothing was changed; give another output, or move away what is there"
            }
            Self::Store(StoreError::Altered { meta, .. }) => {
                return Some(format!(
                    "make it again with --overwrite, or put it back; if the change is meant, remove `{meta}`"
                ));
            }
            Self::Store(StoreError::Locked { .. }) => {
                "wait for the other process or give another output"
            }
            Self::Store(StoreError::Io { source, .. })
            | Self::Model(ModelError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                "free some space; the rows before it are kept and the same command continues"
            }
            Self::TooManyRefused(refused) => {
                let remedy = refused.remedy.iter().map(|remedy| format!("{remedy}\n"));
                let more = if refused.share > 0.0 {
                    "; --max-rejects allows more"
                } else {
                    ""
                };
                return Some(format!(
                    "{}`{}` names each with its line and reason{more}",
                    remedy.collect::<String>(),
                    refused.rejects
                ));
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn some(hint: &str) -> Option<String> {
    (!hint.is_empty()).then(|| hint.to_owned())
}
