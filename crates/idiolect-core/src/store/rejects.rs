//! The rows that a stage refused: `OUTPUT.rejects.jsonl`, one row each with file, line and reason.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Journal, Rows, StoreError, beside};

/// How much of a refused row's text is kept.
const KEPT_CHARS: usize = 200;

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// Name of its file, without the folder.
    pub file: String,
    /// Its line, from 1; the row's number in a parquet file.
    pub line: u64,
    /// Which of the row's samples, where a stage makes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// What was wrong with it.
    pub reason: String,
    /// Its beginning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl BadRow {
    /// A bad row of which at most 200 characters of text are kept.
    pub fn new(file: &str, line: u64, reason: impl Into<String>, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            line,
            sample: None,
            reason: reason.into(),
            text: text.chars().take(KEPT_CHARS).collect(),
        }
    }
}

/// The rejects of one output. The file exists only once there is a row for it.
#[derive(Debug)]
pub struct Rejects {
    path: PathBuf,
    journal: Option<Journal>,
}

impl Rejects {
    /// Where the rejects of `output` lie.
    pub fn path_of(output: &Path) -> PathBuf {
        beside(output, ".rejects.jsonl")
    }

    /// Continues the rejects of `output`, or starts over with none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(output: &Path, overwrite: bool) -> Result<Self, StoreError> {
        let path = Self::path_of(output);
        let mut rejects = Self {
            path,
            journal: None,
        };
        if overwrite {
            rejects.clear()?;
        } else if rejects.path.exists() {
            rejects.journal = Some(Journal::open(&rejects.path)?);
        }
        Ok(rejects)
    }

    /// Appends one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn push(&mut self, row: &BadRow) -> Result<(), StoreError> {
        match &mut self.journal {
            Some(journal) => journal.push(row),
            none => none.insert(Journal::open(&self.path)?).push(row),
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::rows)
    }

    /// Makes them durable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.journal.as_mut().map_or(Ok(()), Journal::sync)
    }

    /// Removes the file, which must hold what this program writes there.
    fn clear(&mut self) -> Result<(), StoreError> {
        self.journal = None;
        let first = Rows::<BadRow>::open(&self.path)
            .ok()
            .and_then(|mut rows| rows.next());
        if matches!(first, Some(Ok(Err(_)) | Err(_))) {
            return Err(StoreError::foreign(
                &self.path,
                "its rows are no refused rows",
            ));
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }
}
