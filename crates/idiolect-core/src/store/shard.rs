//! A part of an output's rows that a process of its own makes, on whatever machine.
//!
//! A shard is worked on as any output is: journal, lock, provenance and resume are the same. What it
//! leaves is its journal, whole, beside the output; the output [takes over](Output::take_over) the
//! results of all its shards and finishes as if it had made them itself, so its bytes are the same.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::output::{Key, Output, remove};
use super::{Meta, StoreError, beside, hash_file};

/// One of several parts of an output, by the hash of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Which one, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

impl Shard {
    /// All shards of an output that is split into `of`.
    pub fn all(of: usize) -> impl Iterator<Item = Self> {
        (0..of).map(move |index| Self { index, of })
    }

    /// Whether the rows of this problem belong to it.
    pub fn takes(self, problem_id: &str) -> bool {
        Key::new(problem_id, 0).spread(self.of) == self.index
    }

    /// The shard's file: `OUTPUT.shard-00000-of-00004`.
    pub fn path_of(self, output: &Path) -> PathBuf {
        beside(
            output,
            &format!(".shard-{:05}-of-{:05}", self.index, self.of),
        )
    }

    /// Removes what the shard left, after the output took it over.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn remove(self, output: &Path) -> Result<(), StoreError> {
        let path = self.path_of(output);
        remove(&path)?;
        remove(&Meta::path_of(&path))
    }
}

impl Output {
    /// Ends a shard: its journal becomes its file, as it is.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the journal then remains.
    pub fn finish_shard(self) -> Result<Meta, StoreError> {
        let Self {
            path,
            mut meta,
            mut journal,
            places,
            rejected,
            ..
        } = self;
        journal.sync()?;
        let part = journal.path().to_owned();
        meta.complete = true;
        meta.seen = places.len() as u64;
        meta.rows = meta.seen - rejected;
        meta.rejected = rejected;
        meta.hash = hash_file(&part)?;
        // In this order: a shard that is marked complete but lacks its file is continued from its
        // journal, where every row lies.
        meta.write(&path)?;
        fs::rename(&part, &path).map_err(StoreError::io("rename", &part))?;
        idiolect_files::sync_folder(idiolect_files::parent_of(&path));
        Ok(meta)
    }

    /// Takes over the results of a finished shard that this output does not have. Of a shard that is
    /// not finished it takes none: they are made here.
    ///
    /// # Errors
    /// [`StoreError::Changed`] for a shard of other settings, [`StoreError::Edited`] for one whose
    /// bytes are not those that were written.
    pub fn take_over(&mut self, shard: Shard) -> Result<(), StoreError> {
        let path = shard.path_of(&self.path);
        let Some(meta) = Meta::read(&path)?.filter(|meta| meta.complete) else {
            return Ok(());
        };
        if !path.exists() {
            return Ok(());
        }
        let mut expected = self.meta.clone();
        expected.setting("shard", shard);
        let differences = meta.differences(&expected);
        if !differences.is_empty() {
            return Err(StoreError::Changed {
                path: path.display().to_string(),
                differences,
            });
        }
        if hash_file(&path)? != meta.hash {
            return Err(super::output::edited(&path, "its content hash differs"));
        }
        self.copy_lines(&path)
    }
}
