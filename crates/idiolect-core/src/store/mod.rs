//! The files of the stages: rows in, rows out, and what makes an interrupted output continue.
//!
//! - [`rows`] streams rows from JSON lines, a JSON array, gzip or parquet; a bad row is data.
//! - `journal` appends rows to a file whose torn tail is dropped when it is opened again; `checksum`
//!   tells a row that was changed meanwhile.
//! - [`meta`] keeps beside an output what decided it, and states what differs.
//! - [`rejects`] keeps the refused rows beside an output.
//! - `output` joins the three: one resumable output of one stage; `folder` likewise, and `whole` for a file that is not rows.
//! - [`tokens`] writes and reads `tokens.parquet`.
//!
//! This is the only module of the crate that touches files. It knows nothing of what the rows mean.
//! A file is either an append-only journal or is written whole by [`write_atomic`]; a `kill -9`
//! at any moment loses at most the row in flight.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

mod checksum;
pub mod csv_rows;
mod document;
mod folder;
mod journal;
pub mod meta;
pub mod non_finite;
mod output;
mod parquet_file;
mod parquet_rows;
pub mod parquet_table;
pub mod rejects;
pub mod rows;
mod shard;
#[cfg(test)]
mod tests;
pub mod tokens;
mod whole;

pub use document::document;
pub use folder::{Folder, OpenedFolder};
pub use idiolect_files::beside;
pub use journal::Journal;
pub use meta::{Difference, Meta, hash_input};
pub use output::{
    Ending, Key, Occurrences, Opened, Output, part_of, refuse_foreign, write_further,
};
pub use rejects::{BadRow, Rejects};
pub use rows::{Row, Rows};
pub use shard::Shard;
pub use whole::write_whole;

/// Why a file of rows cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// The file.
        path: String,
        /// A verb: `read`, `write`, `lock`.
        doing: &'static str,
        /// What the system stated.
        source: io::Error,
    },
    /// The file as a whole is not what its name states.
    #[error("`{path}`: {reason}")]
    Format {
        /// The file.
        path: String,
        /// What was wrong, and what to do.
        reason: String,
    },
    /// Another process holds the output.
    #[error("`{path}` is being written by another process")]
    Locked {
        /// The output.
        path: String,
    },
    /// The output was made with other settings.
    #[error("`{path}` was made with other settings:\n{}", meta::lines(.differences))]
    Changed {
        /// The output.
        path: String,
        /// Each setting that differs.
        differences: Vec<Difference>,
    },
    /// Something is there that this program did not make.
    #[error("`{path}` was not made by this program: {reason}")]
    Foreign {
        /// The file or folder.
        path: String,
        /// By what that is known.
        reason: String,
    },
    /// An input that this program made is no longer what was written.
    #[error("`{path}` is not what was written: {reason}")]
    Altered {
        /// The input.
        path: String,
        /// What no longer holds.
        reason: String,
        /// The provenance that it is told by.
        meta: String,
    },
    /// A finished output is no longer what was written.
    #[error("`{path}` was changed after it was finished ({reason})")]
    Edited {
        /// The output.
        path: String,
        /// What no longer holds.
        reason: String,
    },
}

impl StoreError {
    /// What turns an error of the system into this one: it has the file and a verb.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io {
            path,
            doing,
            source,
        }
    }

    /// Of what this program did not make.
    pub fn foreign(path: &Path, reason: &str) -> Self {
        Self::Foreign {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        }
    }

    /// Of an input that is not what the provenance of `output` states: of the input itself, or of
    /// the folder that it lies in.
    pub fn altered(path: &Path, output: &Path, reason: &str) -> Self {
        Self::Altered {
            path: path.display().to_string(),
            reason: reason.to_owned(),
            meta: Meta::path_of(output).display().to_string(),
        }
    }

    pub(crate) fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            path: path.display().to_string(),
            reason: reason.into(),
        }
    }
}

/// Writes a whole file: to a sibling temporary that is synced and renamed over `path`, so that a
/// reader sees the old content or the new, never a part.
///
/// # Errors
/// [`StoreError::Io`]; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// [`write_atomic`] for content that is produced while it is written.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_with(
    path: &Path,
    produce: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    idiolect_files::replace(path, produce).map_err(StoreError::io("write", path))
}

/// Writes a whole page for people (HTML or Markdown) as [`write_atomic`] does, over nothing but such a
/// page that nobody has changed since: its last line, a comment, holds the hash of what is above.
///
/// # Errors
/// [`StoreError::Foreign`] for another file, a changed page, or what is no regular file, all of which
/// stay as they are; [`StoreError::Io`].
pub fn write_page(path: &Path, page: &str) -> Result<(), StoreError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io("read", path)(error)),
        Ok(found) if found.is_file() => {
            let old = fs::read(path).map_err(StoreError::io("read", path))?;
            let old = String::from_utf8_lossy(&old);
            match old.rsplit_once(SEAL) {
                _ if old.is_empty() => {}
                Some((page, hash)) if sealed(page) == format!("{page}{SEAL}{hash}") => {}
                Some(_) => {
                    let reason = "it was changed after it was written";
                    return Err(StoreError::foreign(path, reason));
                }
                None => {
                    let reason = "it is no page that this command writes";
                    return Err(StoreError::foreign(path, reason));
                }
            }
        }
        Ok(_) => return Err(StoreError::foreign(path, "it is not a regular file")),
    }
    write_atomic(path, sealed(page).as_bytes())
}

/// What stands before the hash of a page.
const SEAL: &str = "\n<!-- written by idiolect, unchanged if the hash of all above is ";

fn sealed(page: &str) -> String {
    let hash = crate::record::content_hash(page.as_bytes());
    format!("{page}{SEAL}{hash} -->\n")
}

/// The file's own name, for rows and messages that must not hold its path.
pub fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || "-".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// The content hash of a file, read as a stream; the same form as
/// [`content_hash`](crate::record::content_hash).
///
/// # Errors
/// [`StoreError::Io`].
pub fn hash_file(path: &Path) -> Result<String, StoreError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    hash_of(file, path)
}

/// As [`hash_file`], of what is left to read of an open file; `path` is its name.
///
/// # Errors
/// [`StoreError::Io`].
pub fn hash_of(mut file: impl Read, path: &Path) -> Result<String, StoreError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hash.update(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoreError::io("read", path)(error)),
        }
    }
    Ok(hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Forbids a second writer for as long as it lives. The file stays: removing it would let a third
/// process lock a new file of the same name while a second still waits for the old.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes a folder, creating it where needed. Where the system locks open folders nothing is
    /// left behind, else a lock file beside it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn of_folder(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io("create", path))?;
        if cfg!(unix) {
            let folder = File::open(path).map_err(StoreError::io("lock", path))?;
            lock(&folder, path)?;
            Ok(Self { _file: folder })
        } else {
            Self::acquire(&beside(path, ".lock"), path)
        }
    }

    /// Takes the lock file `path`, creating it where needed; it protects `what`.
    ///
    /// # Errors
    /// [`StoreError::Locked`] naming `what` when another process holds it, else [`StoreError::Io`].
    pub fn acquire(path: &Path, what: &Path) -> Result<Self, StoreError> {
        let file = idiolect_files::append_to(path).map_err(StoreError::io("lock", path))?;
        lock(&file, what)?;
        Ok(Self { _file: file })
    }
}

/// Locks an open file against other writers until it is closed. A file system without locks
/// (some network mounts) is no reason to refuse the work.
fn lock(file: &File, what: &Path) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: what.display().to_string(),
        }),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", what)(error)),
    }
}
