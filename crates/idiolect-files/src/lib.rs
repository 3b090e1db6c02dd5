#![doc = include_str!("../README.md")]

mod paths;
mod replace;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

pub use paths::{is_same, is_within};
pub use replace::replace;

/// Opens a file for reading and appending, creating it where needed with its folder.
///
/// # Errors
/// For a symbolic link, which is not followed, and whatever the system refuses.
pub fn append_to(path: &Path) -> io::Result<File> {
    create_parent(path)?;
    refuse_link(path)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // For a link that is made between the look and the opening.
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path)
}

/// Refuses a symbolic link, by which another file would be written than the one that was named.
///
/// # Errors
/// For a link, with where it leads.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            let target = fs::read_link(path)?;
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "it is a symbolic link to `{}`, and links are not written through; name the file itself",
                    target.display()
                ),
            ))
        }
        // What cannot be looked at shows itself when it is opened.
        _ => Ok(()),
    }
}

/// A file without a name in the folder of temporary files. It is gone when it is closed, by
/// whatever end of the process.
///
/// # Errors
/// What the system refuses.
pub fn temporary() -> io::Result<File> {
    tempfile::tempfile()
}

/// Creates the folder that `path` lies in, with its parents.
///
/// # Errors
/// What the system refuses.
pub fn create_parent(path: &Path) -> io::Result<()> {
    fs::create_dir_all(parent_of(path))
}

/// Makes renames and new names in a folder durable, as far as its file system can.
pub fn sync_folder(path: &Path) {
    // Systems that cannot open a folder do not need it.
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// The folder that `path` lies in.
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// `path` with `ending` appended to its whole name: `a.jsonl` and `.meta.json` give
/// `a.jsonl.meta.json`. A trailing separator of a folder's name does not count.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, link) = (folder.path().join("victim"), folder.path().join("link"));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        for written in [
            append_to(&link).map(drop),
            replace(&link, |file| io::Write::write_all(file, b"x")),
        ] {
            let words = written.unwrap_err().to_string();
            assert!(words.contains("symbolic link to"), "{words}");
        }
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        // One that leads nowhere would create a file elsewhere.
        fs::remove_file(&victim).unwrap();
        assert!(append_to(&link).is_err() && !victim.exists());
    }
}
