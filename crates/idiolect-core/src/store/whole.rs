//! A file that is no journal of rows, written whole by one stage.

use std::fs;
use std::path::Path;

use super::output::{edited, refuse_foreign, remove};
use super::{Meta, StoreError, hash_file};

/// Lets `write` make the file at `path`, in one piece, and keeps its provenance beside it. A file that
/// is there already with the same provenance is not made again, which the second value states.
///
/// # Errors
/// [`StoreError::Changed`] for a finished one of other settings, [`StoreError::Foreign`] for a file that
/// this program did not make, and what `write` returns.
pub fn write_whole<E: From<StoreError>>(
    path: &Path,
    meta: &Meta,
    overwrite: bool,
    write: impl FnOnce() -> Result<(), E>,
) -> Result<(Meta, bool), E> {
    if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        return Err(StoreError::format(path, "is not a regular file").into());
    }
    let earlier = refuse_foreign(path)?.filter(|old| old.complete && path.exists());
    match earlier {
        Some(_) if overwrite => remove(path)?,
        Some(old) => {
            let differences = old.differences(meta);
            if !differences.is_empty() {
                return Err(StoreError::Changed {
                    path: path.display().to_string(),
                    differences,
                }
                .into());
            }
            if hash_file(path)? != old.hash {
                return Err(edited(path, "its content hash differs").into());
            }
            return Ok((old, true));
        }
        None => {}
    }
    let mut meta = meta.clone();
    meta.complete = false;
    meta.write(path)?;
    write()?;
    meta.complete = true;
    meta.hash = hash_file(path)?;
    meta.write(path)?;
    Ok((meta, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, meta: &Meta, overwrite: bool, text: &str) -> Result<bool, StoreError> {
        let write = || fs::write(path, text).map_err(StoreError::io("write", path));
        write_whole(path, meta, overwrite, write).map(|(_, was_complete)| was_complete)
    }

    #[test]
    fn a_file_is_made_once_and_another_only_when_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let (mut one, mut other) = (Meta::of("convert"), Meta::of("convert"));
        one.setting("dtype", "float32");
        other.setting("dtype", "bfloat16");
        assert!(!write(&path, &one, false, "a").unwrap());
        assert!(write(&path, &one, false, "b").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"a");
        let words = write(&path, &other, false, "c").unwrap_err().to_string();
        assert!(words.contains("dtype"), "{words}");
        assert!(!write(&path, &other, true, "c").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"c");
        fs::write(&path, "edited").unwrap();
        assert!(write(&path, &other, false, "c").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"edited");
    }

    #[test]
    fn what_this_program_did_not_make_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        fs::write(&path, "mine").unwrap();
        for overwrite in [false, true] {
            let failed = write(&path, &Meta::of("convert"), overwrite, "a");
            assert!(matches!(failed, Err(StoreError::Foreign { .. })));
        }
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        // A stage that was killed before it had written left no file.
        fs::remove_file(&path).unwrap();
        let mut begun = Meta::of("convert");
        begun.setting("dtype", "float32");
        begun.write(&path).unwrap();
        assert!(!write(&path, &Meta::of("convert"), false, "a").unwrap());
    }
}
