//! A folder that one stage writes, with its provenance, rejects and lock beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{BadRow, Lock, Meta, Rejects, StoreError};

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
    /// Opens the folder of a stage as [`Output::open`](super::Output::open) opens a file. `overwrite` empties a folder
    /// that this program made, and no other.
    ///
    /// # Errors
    /// As [`Output::open`](super::Output::open); [`StoreError::Edited`] for a folder with content that no stage made.
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
