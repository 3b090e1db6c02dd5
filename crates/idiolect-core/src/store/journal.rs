//! An append-only file of JSON lines with a checked tail.
//!
//! Each row is one write, so that a killed process leaves at most one torn line at the end. Opening
//! drops a torn or unreadable tail, reports how much that was, and appends after it. The file
//! itself is locked against a second writer while it is open.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::IgnoredAny;

use super::{StoreError, lock};

/// A journal open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of whole rows; everything after them is being written or is torn.
    length: u64,
    rows: u64,
    dropped: u64,
    line: Vec<u8>,
}

impl Journal {
    /// Opens a journal, creating it where needed, drops its torn tail and counts its rows.
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process writes it, else [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = idiolect_files::append_to(path).map_err(StoreError::io("write", path))?;
        lock(&file, path)?;
        let about = file.metadata().map_err(StoreError::io("read", path))?;
        // A device or pipe has no rows to continue, and may have no end.
        let (length, rows) = if about.is_file() {
            whole_rows(&mut file).map_err(StoreError::io("read", path))?
        } else {
            (0, 0)
        };
        let size = about.len();
        let mut journal = Self {
            path: path.to_owned(),
            file,
            length,
            rows,
            dropped: size - length,
            line: Vec::new(),
        };
        if journal.dropped > 0 {
            journal.cut()?;
        }
        if about.is_file() {
            journal
                .file
                .seek(SeekFrom::Start(length))
                .map_err(StoreError::io("write", path))?;
        }
        Ok(journal)
    }

    /// Rows in the file.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the whole rows: where the next one begins.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of a torn tail that opening dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a row in one write.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the rows before it are kept, and a part of it that was written is
    /// dropped again, now if the system allows or when the journal is next opened.
    pub fn push<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<(), StoreError> {
        self.push_with(row, |_| {})
    }

    /// As [`push`](Self::push); `complete` may change the text of the row.
    pub(super) fn push_with<T: Serialize + ?Sized>(
        &mut self,
        row: &T,
        complete: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), StoreError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, row).map_err(|error| {
            StoreError::format(&self.path, format!("a row cannot be written: {error}"))
        })?;
        complete(&mut self.line);
        self.line.push(b'\n');
        if let Err(error) = self.file.write_all(&self.line) {
            let _ = self.cut();
            return Err(StoreError::io("write", &self.path)(error));
        }
        self.length += self.line.len() as u64;
        self.rows += 1;
        Ok(())
    }

    /// Keeps the first `rows` rows and appends after them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn truncate(&mut self, rows: u64) -> Result<(), StoreError> {
        if rows >= self.rows {
            return Ok(());
        }
        let length =
            length_of_rows(&mut self.file, rows).map_err(StoreError::io("read", &self.path))?;
        (self.length, self.rows) = (length, rows);
        self.cut()
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        self.file
            .sync_all()
            .map_err(StoreError::io("write", &self.path))
    }

    fn cut(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.length)))
            .map(drop)
            .map_err(StoreError::io("write", &self.path))
    }
}

/// Length and number of the whole rows at the front of the file. A line counts as whole when it
/// ends in a newline; of the last such lines those that are not JSON are dropped too, which is
/// what a power cut can leave behind.
fn whole_rows(file: &mut File) -> io::Result<(u64, u64)> {
    let (mut length, mut rows) = (0, 0);
    // Where the unreadable lines began, if the lines read last are such.
    let mut bad_from: Option<(u64, u64)> = None;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        if serde_json::from_slice::<IgnoredAny>(&line).is_ok() {
            bad_from = None;
        } else {
            bad_from = bad_from.or(Some((length, rows)));
        }
        length += line.len() as u64;
        rows += 1;
    }
    Ok(bad_from.unwrap_or((length, rows)))
}

fn length_of_rows(file: &mut File, rows: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 16, file.take(u64::MAX));
    let mut length = 0;
    for _ in 0..rows {
        length += reader.skip_until(b'\n')? as u64;
    }
    Ok(length)
}
