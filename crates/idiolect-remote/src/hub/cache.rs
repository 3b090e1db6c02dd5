//! The cache of downloads, in the layout of `huggingface_hub`:
//!
//! ```text
//! models--OWNER--NAME/blobs/HASH               the bytes
//! models--OWNER--NAME/snapshots/COMMIT/FILE    a link to them
//! models--OWNER--NAME/refs/REVISION            a commit
//! .locks/models--OWNER--NAME/HASH.lock         held while HASH is downloaded
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::name::{Repo, is_hash, is_path};
use super::{HubError, Part};

pub(super) struct Cache {
    root: PathBuf,
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(root: &Path, repo: &Repo) -> Self {
        Self {
            root: root.to_owned(),
            folder: root.join(repo.folder()),
            locks: root.join(".locks").join(repo.folder()),
        }
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// How many bytes of a file are there.
    pub(super) fn present(&self, etag: &str) -> u64 {
        let size = |path: PathBuf| fs::metadata(path).map(|file| file.len()).ok();
        size(self.blob(etag))
            .or_else(|| size(self.incomplete(etag)))
            .unwrap_or(0)
    }

    /// Fails where the disk has no space for so many bytes more.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), HubError> {
        let there = self.root.ancestors().find(|path| path.exists());
        match there.and_then(free_bytes) {
            Some(free) if needed > free => Err(HubError::NoRoom {
                needed,
                free,
                path: self.root.display().to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Gives a downloaded file its name in the snapshot of a commit.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(name);
        create_parent(&path)?;
        let up = "../".repeat(name.matches('/').count() + 2);
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&path).is_ok_and(|known| known == target) {
            return Ok(path);
        }
        replace(&path, |new| symlink(&target, &self.blob(etag), new))?;
        Ok(path)
    }

    /// Notes which commit a revision names.
    pub(super) fn set_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        let path = self.folder.join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        create_parent(&path)?;
        replace(&path, |new| fs::write(new, commit))
    }

    /// The commit that a revision names, as far as the cache knows.
    fn commit(&self, revision: &str) -> Option<String> {
        let noted = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = noted.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        (is_hash(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    /// The directory of a model of which a part is there completely.
    pub(super) fn model(&self, repo: &Repo, part: Part) -> Result<PathBuf, HubError> {
        let absent = || HubError::Offline(repo.to_string());
        let directory = self.snapshot(&self.commit(&repo.revision).ok_or_else(absent)?);
        let exists = |name: &str| directory.join(name).is_file();
        let described = exists("config.json") || exists("adapter_config.json");
        let index = directory.join("model.safetensors.index.json");
        let weights = if part == Part::Text
            || exists("model.safetensors")
            || exists("adapter_model.safetensors")
        {
            true
        } else if index.is_file() {
            let shards = shards(&index)?;
            !shards.is_empty() && shards.iter().all(|name| is_path(name) && exists(name))
        } else {
            fs::read_dir(&directory)
                .map_err(HubError::io(&directory))?
                .flatten()
                .any(|entry| {
                    let path = entry.path();
                    path.extension().is_some_and(|end| end == "safetensors") && path.is_file()
                })
        };
        (described && weights)
            .then_some(directory)
            .ok_or_else(absent)
    }

    /// A file that is there.
    pub(super) fn file(&self, repo: &Repo, path: &str) -> Result<PathBuf, HubError> {
        let absent = || HubError::Offline(format!("`{path}` of {repo}"));
        let commit = self.commit(&repo.revision).ok_or_else(absent)?;
        let file = self.snapshot(&commit).join(path);
        file.is_file().then_some(file).ok_or_else(absent)
    }
}

/// The files that an index of shards names.
fn shards(index: &Path) -> Result<BTreeSet<String>, HubError> {
    let text = fs::read(index).map_err(HubError::io(index))?;
    let value: Value = serde_json::from_slice(&text).unwrap_or_default();
    let map = value.get("weight_map").and_then(Value::as_object);
    let names = map.into_iter().flat_map(|map| map.values());
    Ok(names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect())
}

pub(super) fn create_parent(path: &Path) -> Result<(), HubError> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).map_err(HubError::io(parent))
}

/// Makes a file beside its name and renames it, so that nobody sees half of it.
fn replace(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), HubError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let thread = std::thread::current().id();
    let new = path.with_file_name(format!(".{name}.{}.{thread:?}", std::process::id()));
    let _ = fs::remove_file(&new);
    make(&new)
        .and_then(|()| fs::rename(&new, path))
        .map_err(HubError::io(path))
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, new: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, new)
}

/// Links need rights that users of other systems do not have; a copy serves as well.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, new: &Path) -> std::io::Result<()> {
    fs::copy(blob, new).map(|_| ())
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}
