//! Writing a file whole.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::path::Path;

use crate::{create_parent, parent_of, refuse_link, sync_folder};

/// Random characters in the name of a temporary.
const RANDOM: usize = 12;
const ENDING: &str = ".tmp";

/// Writes a whole file: to a temporary in the same folder that is synced and renamed over `path`, so
/// that a reader finds the old content or the new, never a part. Temporaries of the same file that a
/// kill left are removed.
///
/// # Errors
/// What `produce` or the system refuses; a symbolic link at `path`. The old file is then untouched.
pub fn replace(path: &Path, produce: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    create_parent(path)?;
    refuse_link(path)?;
    let parent = parent_of(path);
    let prefix = prefix_of(path)?;
    remove_abandoned(parent, &prefix);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(ENDING).rand_bytes(RANDOM);
    // Created as any file is, so that its mode states what the user lets others do; its own, until
    // it is whole.
    #[cfg(unix)]
    builder.permissions(mode(0o666));
    let mut temporary = builder.tempfile_in(parent)?;
    // Held until it has its name: what is not locked is nobody's. A file system without locks keeps
    // what a kill leaves.
    let _ = temporary.as_file().try_lock();
    let usual: Permissions = temporary.as_file().metadata()?.permissions();
    #[cfg(unix)]
    temporary.as_file().set_permissions(mode(0o600))?;
    produce(temporary.as_file_mut())?;
    temporary.as_file().set_permissions(usual)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|failed| failed.error)?;
    sync_folder(parent);
    Ok(())
}

#[cfg(unix)]
fn mode(bits: u32) -> Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// What the names of a file's temporaries begin with.
fn prefix_of(path: &Path) -> io::Result<OsString> {
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path does not end in the name of a file",
        )
    })?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Ok(prefix)
}

/// Removes temporaries that no process holds. They harm nobody, so nothing here is an error.
fn remove_abandoned(parent: &Path, prefix: &OsString) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    let prefix = prefix.as_encoded_bytes();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name
            .as_encoded_bytes()
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(ENDING.as_bytes()));
        let is_temporary = middle.is_some_and(|middle| {
            middle.len() == RANDOM && middle.iter().all(u8::is_ascii_alphanumeric)
        }) && entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_temporary
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let failed = replace(&path, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn what_a_kill_left_goes_and_what_is_held_or_foreign_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        file(".a.json.abcdefghijkl.tmp");
        let held = file(".a.json.ABCDEFGHIJKL.tmp");
        held.try_lock().unwrap();
        for foreign in [
            "a.json.tmp",
            ".a.json.short.tmp",
            ".b.json.abcdefghijkl.tmp",
            ".a.json.abcdefghijk-.tmp",
        ] {
            file(foreign);
        }
        replace(&folder.path().join("a.json"), |file| file.write_all(b"x")).unwrap();
        let left = names(folder.path());
        assert_eq!(
            left,
            [
                ".a.json.ABCDEFGHIJKL.tmp",
                ".a.json.abcdefghijk-.tmp",
                ".a.json.short.tmp",
                ".b.json.abcdefghijkl.tmp",
                "a.json",
                "a.json.tmp"
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_temporary_is_its_owners_alone_and_the_file_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = folder.path().join("a");
        replace(&path, |_| {
            let temporary = names(folder.path()).remove(0);
            assert_eq!(mode(&folder.path().join(temporary)), 0o600);
            Ok(())
        })
        .unwrap();
        let usual = folder.path().join("usual");
        File::create(&usual).unwrap();
        assert_eq!(mode(&path), mode(&usual));
    }
}
