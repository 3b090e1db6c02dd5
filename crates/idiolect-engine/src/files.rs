//! Small files of a model directory: JSON read whole, and writes that a crash cannot tear.
//!
//! Not for rows or runs, which belong to other crates.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use idiolect_model::ModelError;
use idiolect_model::budget::json_values;
use serde_json::Value;

/// How a Git LFS pointer begins, which a clone without LFS leaves in place of a large file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Why the beginning of a file cannot be what the file's name states, if it is a Git LFS pointer.
pub(crate) fn lfs_pointer(head: &[u8]) -> Option<&'static str> {
    head.starts_with(LFS_POINTER).then_some(
        "is a Git LFS pointer and not the file itself: run `git lfs install` and `git lfs pull` in \
         that directory, or download the model again with `hf download`",
    )
}

/// The largest small file that is read, bytes; the largest published `tokenizer.json` has 35 MB.
const LARGEST: u64 = 128 << 20;

/// Values of its JSON: each takes some hundred bytes once it is read. The largest published
/// `tokenizer.json` has two million.
const MOST_VALUES: usize = 4_000_000;

fn not_a_pointer(path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, ModelError> {
    match lfs_pointer(&bytes) {
        Some(reason) => Err(ModelError::Invalid(format!(
            "`{}` {reason}",
            path.display()
        ))),
        None => Ok(bytes),
    }
}

/// Reads a file that may be absent.
///
/// # Errors
/// When it exists and cannot be read, or is a Git LFS pointer.
pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, ModelError> {
    match read_bounded(path) {
        Ok(bytes) => not_a_pointer(path, bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(path, error)),
    }
}

/// Reads a file that must be there.
///
/// # Errors
/// When it cannot be read, or is a Git LFS pointer.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let bytes = read_bounded(path).map_err(|error| io_error(path, error))?;
    not_a_pointer(path, bytes)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        let reason = format!(
            "has more than {} MiB, which no file of its kind has",
            LARGEST >> 20
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// Parses JSON and names the file when it is none.
///
/// # Errors
/// When the bytes are not JSON.
pub(crate) fn parse_json(path: &Path, bytes: &[u8]) -> Result<Value, ModelError> {
    json(bytes).map_err(|reason| ModelError::Invalid(format!("`{}` {reason}", path.display())))
}

/// Parses JSON of as many values as a small file may hold.
///
/// # Errors
/// Why it cannot be read, as the end of a sentence.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    let values = json_values(bytes);
    if values > MOST_VALUES {
        return Err(format!(
            "holds {values} values; at most {MOST_VALUES} are read"
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))
}

/// Writes a file whole: a reader finds the old content or the new and nothing between.
///
/// # Errors
/// When the directory cannot be written; the old file is then untouched.
pub(crate) fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), ModelError> {
    let written = idiolect_files::replace(path, |file| {
        let mut file = io::BufWriter::with_capacity(1 << 20, file);
        fill(&mut file)?;
        file.flush()
    });
    written.map_err(|error| io_error(path, error))
}

/// Makes the renames in a directory durable.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ModelError> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(|error| io_error(path, error))
}

/// An input or output error with its file.
pub(crate) fn io_error(path: &Path, source: io::Error) -> ModelError {
    ModelError::Io {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_optional_file_is_none_and_broken_json_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert!(read_optional(&path).unwrap().is_none());
        assert!(
            parse_json(&path, b"{")
                .unwrap_err()
                .to_string()
                .contains("config.json")
        );
    }
}
