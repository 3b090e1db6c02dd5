//! A folder that one stage writes, with its provenance, rejects and lock beside it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::output::NO_PROVENANCE;
use super::{BadRow, Lock, Meta, Rejects, StoreError, hash_file};

/// A folder being written by one stage, for example a model or a set of arms. Its provenance,
/// rejects and lock lie beside it, so that the folder holds the result alone.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    meta: Meta,
    rejects: Rejects,
    /// Whether the provenance will hold the hash of each file.
    hashes_files: bool,
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
    /// Opens the folder of a stage as [`Output::open`](super::Output::open) opens a file. `makes` are
    /// the names that the stage gives to what it puts there (`*` for any characters): `overwrite`
    /// removes those alone, and of a finished folder only what it held when it was finished.
    ///
    /// # Errors
    /// As [`Output::open`](super::Output::open); [`StoreError::Foreign`] for a folder with content that no stage made.
    pub fn open(
        path: &Path,
        meta: &Meta,
        makes: &[&str],
        overwrite: bool,
    ) -> Result<OpenedFolder, StoreError> {
        idiolect_files::refuse_link(path.components().as_path())
            .map_err(StoreError::io("write", path))?;
        let lock = Lock::of_folder(path)?;
        let held = contents(path)?;
        match Meta::read(path)? {
            None if !held.is_empty() => {
                return Err(StoreError::foreign(path, NO_PROVENANCE));
            }
            Some(old) if overwrite => empty(path, &held, &old, makes)?,
            // A stage that failed before it wrote anything binds nobody.
            Some(old) if !held.is_empty() => {
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
            hashes_files: false,
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

    /// States that later stages read single files of the folder: the provenance will hold the content
    /// hash of each.
    pub fn hash_files(&mut self) {
        self.hashes_files = true;
    }

    /// Rows refused.
    pub fn rejected(&self) -> u64 {
        self.rejects.count()
    }

    /// Marks the folder complete: `rows` it holds, inputs `seen`, and the content hash of what it
    /// holds as the stage defines it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish(mut self, rows: u64, seen: u64, hash: &str) -> Result<Meta, StoreError> {
        self.rejects.sync()?;
        for name in contents(&self.path)? {
            let hash = match self.hashes_files {
                true => hash_file(&self.path.join(&name))?,
                false => String::new(),
            };
            self.meta.files.insert(name, hash);
        }
        self.meta.complete = true;
        self.meta.rows = rows;
        self.meta.rejected = self.rejects.count();
        self.meta.seen = seen;
        hash.clone_into(&mut self.meta.hash);
        self.meta.write(&self.path)?;
        Ok(self.meta)
    }
}

/// The files of a folder by their paths in it, with `/` between names, in order.
fn contents(path: &Path) -> Result<BTreeSet<String>, StoreError> {
    let mut files = BTreeSet::new();
    let mut folders = vec![(path.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let failed = |error| StoreError::io("read", &folder)(error);
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // A link is what it is, not what it leads to.
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                files.insert(name);
            }
        }
    }
    Ok(files)
}

/// Removes what a stage made in a folder, not the folder, which is locked. Where it holds anything
/// else, nothing is removed.
fn empty(
    path: &Path,
    held: &BTreeSet<String>,
    old: &Meta,
    makes: &[&str],
) -> Result<(), StoreError> {
    let is_made = |name: &str| {
        let first = name.split('/').next().unwrap_or(name);
        old.files.contains_key(name)
            || (!old.complete && makes.iter().any(|pattern| matches(first, pattern)))
    };
    if let Some(other) = held.iter().find(|name| !is_made(name)) {
        return Err(StoreError::foreign(
            &path.join(other),
            "no stage put it there, so the folder is not emptied; move it away first",
        ));
    }
    // A process that is killed meanwhile must not leave what looks complete.
    let mut begun = old.clone();
    begun.complete = false;
    begun.write(path)?;
    for name in held {
        let file = path.join(name);
        fs::remove_file(&file).map_err(StoreError::io("remove", &file))?;
        // Folders in between, once they are empty.
        let between = file
            .ancestors()
            .skip(1)
            .take_while(|folder| *folder != path);
        for folder in between {
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Whether a name is one of a pattern with at most one `*`.
fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((front, back)) => name
            .strip_prefix(front)
            .is_some_and(|rest| rest.ends_with(back)),
    }
}
