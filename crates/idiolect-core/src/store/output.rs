//! One resumable output of one stage: its journal, rejects, provenance and lock.
//!
//! A stage opens its output, learns how far an earlier process came, appends what is missing and
//! finishes. While unfinished the rows lie in the output itself (behind a gzip name in
//! `OUTPUT.part`, compressed at the end), so `head` shows them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde::Serialize;

use super::{
    BadRow, Journal, Lock, Meta, Rejects, StoreError, beside, hash_file, write_atomic_with,
};

/// What opening an output found.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one a stage, taken apart at once"
)]
pub enum Opened {
    /// Every row is there; nothing is to be done.
    Complete(Meta),
    /// Rows are missing, all of them or those after an earlier process's.
    Unfinished(Output),
}

/// An output being written.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    meta: Meta,
    journal: Journal,
    rejects: Rejects,
    /// Rows and rejects of an earlier process that the inputs have not yet come past.
    rows_ahead: u64,
    rejects_ahead: VecDeque<BadRow>,
}

impl Output {
    /// Opens the output of a stage. One made with the same provenance is continued or found
    /// complete; of another it is an error that lists the differences, unless `overwrite` starts
    /// over.
    ///
    /// # Errors
    /// [`StoreError::Changed`], [`StoreError::Edited`], [`StoreError::Locked`] or a failure to
    /// read or write.
    pub fn open(path: &Path, meta: &Meta, overwrite: bool) -> Result<Opened, StoreError> {
        if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return Err(StoreError::format(
                path,
                "is not a regular file; rows are written to a file, which can be continued",
            ));
        }
        let journal_path = journal_path(path);
        if overwrite {
            // Locked before anything is thrown away: another process may be writing it.
            let mut journal = Journal::open(&journal_path)?;
            Rejects::open(path, true)?;
            journal.truncate(0)?;
            remove(&Meta::path_of(path))?;
        } else if let Some(old) = Meta::read(path)? {
            let differences = old.differences(meta);
            if !differences.is_empty() {
                // A stage that failed before it wrote anything binds nobody.
                if old.complete
                    || holds_bytes(&journal_path)
                    || holds_bytes(&Rejects::path_of(path))
                {
                    return Err(StoreError::Changed {
                        path: path.display().to_string(),
                        differences,
                    });
                }
            } else if old.complete && is_in_place(path, &old)? {
                return Ok(Opened::Complete(old));
            }
        } else if holds_bytes(path) {
            return Err(StoreError::Edited {
                path: path.display().to_string(),
                reason: "it has no provenance beside it, so this program cannot continue it"
                    .to_owned(),
            });
        }
        let journal = Journal::open(&journal_path)?;
        let rejects = Rejects::open(path, false)?;
        let mut meta = meta.clone();
        meta.complete = false;
        meta.write(path)?;
        let rejects_ahead = rejects.read()?.into();
        let rows_ahead = journal.rows();
        let path = path.to_owned();
        Ok(Opened::Unfinished(Self {
            path,
            meta,
            journal,
            rejects,
            rows_ahead,
            rejects_ahead,
        }))
    }

    /// Rows that lie in it already.
    pub fn rows(&self) -> u64 {
        self.journal.rows()
    }

    /// Rows refused already.
    pub fn rejected(&self) -> u64 {
        self.rejects.count()
    }

    /// Rows written and refused: how many inputs are done where each gives one or the other.
    pub fn done(&self) -> u64 {
        self.rows() + self.rejected()
    }

    /// Whether an earlier process came past this input. For stages in which every input gives, in
    /// order, one row or one reject: the caller asks for every input in order and works on those
    /// for which the answer is no. After the first no, all others are no.
    ///
    /// # Errors
    /// [`StoreError::Io`] when rejects that lie beyond the last row cannot be taken back.
    pub fn already(
        &mut self,
        file: &str,
        line: u64,
        sample: Option<usize>,
    ) -> Result<bool, StoreError> {
        let refused = |bad: &BadRow| bad.file == file && bad.line == line && bad.sample == sample;
        if self.rejects_ahead.front().is_some_and(refused) {
            self.rejects_ahead.pop_front();
            return Ok(true);
        }
        if self.rows_ahead > 0 {
            self.rows_ahead -= 1;
            return Ok(true);
        }
        // An output that lost its end may have kept rejects of later inputs: they come again.
        let beyond = self.rejects_ahead.len() as u64;
        if beyond > 0 {
            self.rejects_ahead.clear();
            self.rejects.truncate(self.rejects.count() - beyond)?;
        }
        Ok(false)
    }

    /// Appends a refused row unless an earlier process did; see [`already`](Self::already).
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn reject_once(&mut self, row: &BadRow) -> Result<(), StoreError> {
        if self.already(&row.file, row.line, row.sample)? {
            Ok(())
        } else {
            self.reject(row)
        }
    }

    /// Keeps the first `count` rejects of an earlier process, for stages that find their place by
    /// other means than [`already`](Self::already).
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keep_rejects(&mut self, count: u64) -> Result<(), StoreError> {
        self.rejects_ahead.clear();
        self.rejects.truncate(count)
    }

    /// Keeps the first `count` rows of an earlier process and appends after them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn keep_rows(&mut self, count: u64) -> Result<(), StoreError> {
        self.journal.truncate(count)?;
        self.rows_ahead = self.rows_ahead.min(count);
        Ok(())
    }

    /// Bytes of a torn last row that opening dropped.
    pub fn dropped(&self) -> u64 {
        self.journal.dropped()
    }

    /// The file in which the rows lie while it is unfinished.
    pub fn journal_path(&self) -> &Path {
        self.journal.path()
    }

    /// What an earlier process refused.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn rejects(&self) -> Result<Vec<BadRow>, StoreError> {
        self.rejects.read()
    }

    /// Appends a row.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the rows before it are kept and the same command continues.
    pub fn push<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<(), StoreError> {
        self.journal.push(row)
    }

    /// Appends a refused row.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn reject(&mut self, row: &BadRow) -> Result<(), StoreError> {
        self.rejects.push(row)
    }

    /// Throws away what an earlier process left, keeping the lock.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        (self.rows_ahead, self.rejects_ahead) = (0, VecDeque::new());
        self.journal.truncate(0)?;
        self.rejects.truncate(0)
    }

    /// Gives the output up: its rows and its provenance go, the rejects stay to be read. The next
    /// command may write it with any settings.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn abandon(mut self) -> Result<(), StoreError> {
        self.rejects.sync()?;
        remove(&Meta::path_of(&self.path))?;
        remove(self.journal.path())?;
        remove(&self.path)
    }

    /// Makes the rows durable and marks the output complete. `seen` counts the inputs looked at.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self, seen: u64) -> Result<Meta, StoreError> {
        self.journal.sync()?;
        self.rejects.sync()?;
        if self.journal.path() != self.path {
            compress(self.journal.path(), &self.path)?;
        }
        self.meta.complete = true;
        self.meta.rows = self.journal.rows();
        self.meta.rejected = self.rejects.count();
        self.meta.seen = seen;
        self.meta.hash = hash_file(&self.path)?;
        self.meta.write(&self.path)?;
        if self.journal.path() != self.path {
            remove(self.journal.path())?;
        }
        Ok(self.meta)
    }
}

/// A folder being written by one stage, for example a model or a set of arms. Its provenance,
/// rejects and lock lie beside it, so that the folder holds the result alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    meta: Meta,
    rejects: Rejects,
    _lock: Lock,
}

/// What opening a folder found.
#[derive(Debug)]
pub enum OpenedFolder {
    /// Everything is there; nothing is to be done.
    Complete(Meta),
    /// Something is missing.
    Unfinished(Folder),
}

impl Folder {
    /// Opens the folder of a stage as [`Output::open`] opens a file. `overwrite` empties a folder
    /// that this program made, and no other.
    ///
    /// # Errors
    /// As [`Output::open`]; [`StoreError::Edited`] for a folder with content that no stage made.
    pub fn open(path: &Path, meta: &Meta, overwrite: bool) -> Result<OpenedFolder, StoreError> {
        let lock = Lock::of_folder(path)?;
        let used = fs::read_dir(path)
            .map_err(StoreError::io("read", path))?
            .next()
            .is_some();
        match Meta::read(path)? {
            None if used => {
                return Err(StoreError::Edited {
                    path: path.display().to_string(),
                    reason: "it has no provenance beside it, so it may hold something of yours"
                        .to_owned(),
                });
            }
            Some(_) if overwrite => empty(path)?,
            // A stage that failed before it wrote anything binds nobody.
            Some(old) if used => {
                let differences = old.differences(meta);
                if !differences.is_empty() {
                    return Err(StoreError::Changed {
                        path: path.display().to_string(),
                        differences,
                    });
                }
                if old.complete {
                    return Ok(OpenedFolder::Complete(old));
                }
            }
            _ => {}
        }
        let mut meta = meta.clone();
        meta.complete = false;
        meta.write(path)?;
        // Rejects come from reading the inputs, which a continued stage does again.
        let rejects = Rejects::open(path, true)?;
        let path = path.to_owned();
        Ok(OpenedFolder::Unfinished(Self {
            path,
            meta,
            rejects,
            _lock: lock,
        }))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a refused input.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn reject(&mut self, row: &BadRow) -> Result<(), StoreError> {
        self.rejects.push(row)
    }

    /// Rows refused.
    pub fn rejected(&self) -> u64 {
        self.rejects.count()
    }

    /// Marks the folder complete: `rows` it holds, inputs `seen`, and the content hash of what it
    /// holds where the stage has one.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self, rows: u64, seen: u64, hash: &str) -> Result<Meta, StoreError> {
        self.rejects.sync()?;
        self.meta.complete = true;
        self.meta.rows = rows;
        self.meta.rejected = self.rejects.count();
        self.meta.seen = seen;
        hash.clone_into(&mut self.meta.hash);
        self.meta.write(&self.path)?;
        Ok(self.meta)
    }
}

/// Removes what a folder holds, not the folder, which is locked.
fn empty(path: &Path) -> Result<(), StoreError> {
    let clear = || -> io::Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    clear().map_err(StoreError::io("empty", path))
}

/// Whether a complete output still is what was written. One that lost its end is continued.
fn is_in_place(path: &Path, meta: &Meta) -> Result<bool, StoreError> {
    if !path.exists() {
        return Ok(false);
    }
    if hash_file(path)? == meta.hash {
        return Ok(true);
    }
    let rows = if is_gzip(path) {
        u64::MAX
    } else {
        Journal::open(path)?.rows()
    };
    if rows < meta.rows {
        return Ok(false);
    }
    Err(StoreError::Edited {
        path: path.display().to_string(),
        reason: "its content hash differs".to_owned(),
    })
}

fn holds_bytes(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

fn journal_path(path: &Path) -> PathBuf {
    if is_gzip(path) {
        beside(path, ".part")
    } else {
        path.to_owned()
    }
}

fn is_gzip(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
}

fn compress(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut rows = File::open(from).map_err(StoreError::io("read", from))?;
    write_atomic_with(to, |file| {
        // No name and no time in the header: the same rows give the same bytes.
        let mut encoder = GzBuilder::new().write(io::BufWriter::new(file), Compression::default());
        io::copy(&mut rows, &mut encoder)?;
        encoder
            .finish()?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .map(drop)
    })
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
