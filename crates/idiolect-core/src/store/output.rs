//! One resumable output of one stage: its journal, provenance and lock, then its rows.
//!
//! There is one rule of resume. A result belongs to a key, `(id, sample)`: it is appended to the
//! journal `OUTPUT.part` when it is known, in whatever order that happens, and a key that lies there
//! is not worked on again. [`Output::finish`] writes the rows in the order that the stage states,
//! then the rejects and the provenance, and removes the journal. A stage that is quick may begin
//! again instead ([`Output::restart`]) and [append](Output::append) its rows in their order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::checksum::Checksum;
use super::{BadRow, Journal, Meta, Rejects, StoreError, beside, hash_file, write_atomic_with};

/// What opening an output found.
#[derive(Debug)]
pub enum Opened {
    /// Every row is there; nothing is to be done.
    Complete(Meta),
    /// Rows are missing, all of them or those after an earlier process's.
    Unfinished(Output),
}

/// What a result belongs to: an id and which of its samples. Kept as a hash, so that a million cost
/// little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of an id's sample.
    pub fn new(id: &str, sample: usize) -> Self {
        let mut hash = Sha256::new();
        hash.update((sample as u64).to_le_bytes());
        hash.update(id.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.finalize()[..16]);
        Self(key)
    }

    /// One of `n` numbers, each for as many keys as the others.
    pub(super) fn spread(self, n: usize) -> usize {
        let number = u128::from_le_bytes(self.0) % n.max(1) as u128;
        usize::try_from(number).unwrap_or(0)
    }
}

/// Gives rows that repeat an id a sample number each, in the order in which they come.
#[derive(Debug, Default)]
pub struct Occurrences(HashMap<Key, usize>);

impl Occurrences {
    /// How often the id came before.
    pub fn next(&mut self, id: &str) -> usize {
        let count = self.0.entry(Key::new(id, 0)).or_default();
        *count += 1;
        *count - 1
    }
}

/// A line of the journal.
#[derive(Serialize)]
struct Written<'a, T: ?Sized> {
    id: &'a str,
    sample: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a BadRow>,
}

#[derive(Deserialize)]
struct Line<'a> {
    id: String,
    sample: usize,
    #[serde(borrow)]
    row: Option<&'a RawValue>,
    refused: Option<BadRow>,
}

/// Where in the journal the result of a key lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    start: u64,
    refused: bool,
}

/// An output being written.
#[derive(Debug)]
pub struct Output {
    pub(super) path: PathBuf,
    pub(super) meta: Meta,
    pub(super) journal: Journal,
    pub(super) places: HashMap<Key, Place>,
    pub(super) rejected: u64,
    /// Of the journal's rows.
    checksum: Checksum,
}

/// How an output ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ending<'a> {
    /// The keys in the order of the output. A key without a result is passed over.
    pub order: &'a [Key],
    /// Rows of the inputs that were refused before there was a key for them.
    pub refused: &'a [BadRow],
    /// Inputs looked at.
    pub seen: u64,
}

impl Output {
    /// Opens the output of a stage. One made with the same provenance is continued or found
    /// complete; of another it is an error that lists the differences, unless `overwrite` starts
    /// over. What this program did not make is neither continued nor overwritten, and a symbolic link
    /// is not followed.
    ///
    /// # Errors
    /// [`StoreError::Changed`], [`StoreError::Edited`], [`StoreError::Foreign`],
    /// [`StoreError::Locked`] or a failure to read or write.
    pub fn open(path: &Path, meta: &Meta, overwrite: bool) -> Result<Opened, StoreError> {
        if fs::metadata(path).is_ok_and(|file| !file.is_file()) {
            return Err(StoreError::format(
                path,
                "is not a regular file; rows are written to a file, which can be continued",
            ));
        }
        let part = part_of(path);
        let earlier = refuse_foreign(path)?;
        if earlier.is_none() && holds_bytes(&part) {
            return Err(StoreError::foreign(&part, NO_PROVENANCE));
        }
        if overwrite {
            // Locked before anything is thrown away: another process may be writing it.
            let mut journal = Journal::open(&part)?;
            journal.truncate(0)?;
            // The provenance last, and by being replaced: rows without it would be nobody's.
            remove(path)?;
            remove(&Rejects::path_of(path))?;
        } else if let Some(old) = earlier {
            let differences = old.differences(meta);
            if !differences.is_empty() {
                // A stage that failed before it wrote anything binds nobody.
                if old.complete || holds_bytes(&part) {
                    return Err(StoreError::Changed {
                        path: path.display().to_string(),
                        differences,
                    });
                }
            } else if old.complete && path.exists() {
                if hash_file(path)? == old.hash {
                    // A process that was killed just before its end leaves it behind.
                    remove(&part)?;
                    return Ok(Opened::Complete(old));
                }
                // One that lost its end is made again.
                if is_gzip(path) || Journal::open(path)?.rows() >= old.rows {
                    return Err(edited(path, "its content hash differs"));
                }
            }
        }
        let journal = Journal::open(&part)?;
        let mut meta = meta.clone();
        meta.complete = false;
        meta.write(path)?;
        let mut output = Self {
            path: path.to_owned(),
            meta,
            journal,
            places: HashMap::new(),
            rejected: 0,
            checksum: Checksum::default(),
        };
        output.find_places()?;
        Ok(Opened::Unfinished(output))
    }

    /// Reads which keys an earlier process came past.
    fn find_places(&mut self) -> Result<(), StoreError> {
        let part = self.journal.path().to_owned();
        self.checksum = each_line(&part, |start, line| {
            self.keep(
                Key::new(&line.id, line.sample),
                start,
                line.refused.is_some(),
            );
            Ok(())
        })?;
        Ok(())
    }

    /// Writes down those results of another journal that this one does not have.
    pub(super) fn copy_lines(&mut self, from: &Path) -> Result<(), StoreError> {
        each_line(from, |_, line| {
            if self.contains(Key::new(&line.id, line.sample)) {
                return Ok(());
            }
            self.write(&line.id, line.sample, line.row, line.refused.as_ref())
        })?;
        Ok(())
    }

    fn keep(&mut self, key: Key, start: u64, refused: bool) {
        let old = self.places.insert(key, Place { start, refused });
        self.rejected += u64::from(refused);
        self.rejected -= u64::from(old.is_some_and(|old| old.refused));
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the key has its result.
    pub fn contains(&self, key: Key) -> bool {
        self.places.contains_key(&key)
    }

    /// Keys that have their result.
    pub fn done(&self) -> u64 {
        self.places.len() as u64
    }

    /// Results that are refusals.
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Writes down the row of a key.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the rows before it are kept and the same command continues.
    pub fn push<T: Serialize + ?Sized>(
        &mut self,
        id: &str,
        sample: usize,
        row: &T,
    ) -> Result<(), StoreError> {
        self.write(id, sample, Some(row), None)
    }

    /// Writes down that a key was refused.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn refuse(&mut self, id: &str, sample: usize, bad: &BadRow) -> Result<(), StoreError> {
        self.write::<()>(id, sample, None, Some(bad))
    }

    /// Writes down the next row of a stage that began again.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn append<T: Serialize + ?Sized>(&mut self, row: &T) -> Result<(), StoreError> {
        self.push("", self.places.len(), row)
    }

    /// Writes down the next refused row of a stage that began again.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn append_refused(&mut self, bad: &BadRow) -> Result<(), StoreError> {
        self.refuse("", self.places.len(), bad)
    }

    /// The keys of the rows that were appended, in order.
    fn appended(&self) -> Vec<Key> {
        (0..self.places.len())
            .map(|number| Key::new("", number))
            .collect()
    }

    fn write<T: Serialize + ?Sized>(
        &mut self,
        id: &str,
        sample: usize,
        row: Option<&T>,
        refused: Option<&BadRow>,
    ) -> Result<(), StoreError> {
        let start = self.journal.length();
        let written = Written {
            id,
            sample,
            row,
            refused,
        };
        let mut checksum = self.checksum;
        self.journal
            .push_with(&written, |line| checksum.add_to(line))?;
        self.checksum = checksum;
        self.keep(Key::new(id, sample), start, refused.is_some());
        Ok(())
    }

    /// Throws away what an earlier process left, keeping the lock.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.places.clear();
        self.rejected = 0;
        self.checksum = Checksum::default();
        self.journal.truncate(0)
    }

    /// Gives the output up: its rows and its provenance go, the rejects stay to be read. The next
    /// command may write it with any settings.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn abandon(self) -> Result<(), StoreError> {
        self.write_rejects(&[], &self.appended())?;
        // In this order: a journal without its provenance would be nobody's.
        remove(self.journal.path())?;
        remove(&Meta::path_of(&self.path))
    }

    /// Writes the rejects so far in the order in which they were refused, for a stage that ends
    /// before its last row. The journal stays: the same command continues.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_refused(&self) -> Result<(), StoreError> {
        let refused = self.places.iter().filter(|(_, place)| place.refused);
        let mut keys: Vec<(u64, Key)> = refused.map(|(key, place)| (place.start, *key)).collect();
        keys.sort_unstable_by_key(|(start, _)| *start);
        let keys: Vec<Key> = keys.into_iter().map(|(_, key)| key).collect();
        self.write_rejects(&[], &keys).map(drop)
    }

    /// Calls `each` with the row of every key that has one, in this order.
    ///
    /// # Errors
    /// [`StoreError`] of the journal, and what `each` returns.
    pub fn each_row<E: From<StoreError>>(
        &self,
        order: &[Key],
        mut each: impl FnMut(Key, &RawValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut lines = Lines::open(self.journal.path())?;
        for key in order {
            let Some(place) = self.places.get(key).filter(|place| !place.refused) else {
                continue;
            };
            if let Some(row) = lines.at(place.start)?.row {
                each(*key, row)?;
            }
        }
        Ok(())
    }

    /// Writes the rows in order, marks the output complete and removes the journal.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the journal then remains.
    pub fn finish(self, ending: &Ending<'_>) -> Result<Meta, StoreError> {
        self.finish_with(ending, |row| Some(row.get().to_owned()))
    }

    /// As [`finish`](Self::finish), for rows that were [appended](Self::append).
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_appended(self, seen: u64) -> Result<Meta, StoreError> {
        let order = self.appended();
        self.finish(&Ending {
            order: &order,
            refused: &[],
            seen,
        })
    }

    /// As [`finish`](Self::finish), where the stage makes the row of the output out of that of the
    /// journal, or leaves it out.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with(
        mut self,
        ending: &Ending<'_>,
        mut row_of: impl FnMut(&RawValue) -> Option<String>,
    ) -> Result<Meta, StoreError> {
        self.journal.sync()?;
        let mut rows = 0;
        write_rows(&self.path, |file| {
            self.each_row(ending.order, |_, row| {
                let Some(text) = row_of(row) else {
                    return Ok(());
                };
                rows += 1;
                file.write_all(text.as_bytes())
                    .and_then(|()| file.write_all(b"\n"))
                    .map_err(StoreError::io("write", &self.path))
            })
        })?;
        let rejected = self.write_rejects(ending.refused, ending.order)?;
        self.meta.complete = true;
        self.meta.rows = rows;
        self.meta.rejected = rejected;
        self.meta.seen = ending.seen;
        self.meta.hash = hash_file(&self.path)?;
        self.meta.write(&self.path)?;
        remove(self.journal.path())?;
        Ok(self.meta)
    }

    fn write_rejects(&self, first: &[BadRow], order: &[Key]) -> Result<u64, StoreError> {
        let mut rejects = Rejects::open(&self.path, true)?;
        for bad in first {
            rejects.push(bad)?;
        }
        if self.rejected > 0 {
            let mut lines = Lines::open(self.journal.path())?;
            for place in order.iter().filter_map(|key| self.places.get(key)) {
                if place.refused
                    && let Some(bad) = lines.at(place.start)?.refused
                {
                    rejects.push(&bad)?;
                }
            }
        }
        rejects.sync()?;
        Ok(rejects.count())
    }
}

/// Calls `each` with every line of a journal and where it begins; gives the checksum of them all.
fn each_line(
    path: &Path,
    mut each: impl FnMut(u64, Line<'_>) -> Result<(), StoreError>,
) -> Result<Checksum, StoreError> {
    let file = File::open(path).map_err(StoreError::io("read", path))?;
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let (mut start, mut number, mut text) = (0, 0, Vec::new());
    let mut checksum = Checksum::default();
    loop {
        text.clear();
        let n = io::BufRead::read_until(&mut lines, b'\n', &mut text)
            .map_err(StoreError::io("read", path))?;
        if n == 0 {
            return Ok(checksum);
        }
        number += 1;
        if !checksum.accepts(&text) {
            return Err(StoreError::format(
                path,
                format!(
                    "line {number} is not what was written there; remove it and all lines after it to go on from the rows before, or start over with --overwrite"
                ),
            ));
        }
        each(start, parse(&text, path)?)?;
        start += n as u64;
    }
}

/// Lines of a journal by where they begin. Journals are read nearly in order.
struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    at: u64,
    text: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufReader::with_capacity(1 << 16, file),
            at: 0,
            text: Vec::new(),
        })
    }

    fn at(&mut self, start: u64) -> Result<Line<'_>, StoreError> {
        self.text.clear();
        let offset = start.cast_signed() - self.at.cast_signed();
        let read = self
            .file
            .seek_relative(offset)
            .and_then(|()| io::BufRead::read_until(&mut self.file, b'\n', &mut self.text));
        let read = read.map_err(StoreError::io("read", &self.path))?;
        self.at = start + read as u64;
        parse(&self.text, &self.path)
    }
}

fn parse<'a>(text: &'a [u8], path: &Path) -> Result<Line<'a>, StoreError> {
    serde_json::from_slice(text).map_err(|error| {
        StoreError::format(
            path,
            format!("is no journal of this program ({error}); --overwrite starts over"),
        )
    })
}

/// Writes the rows of an output whole, compressed where its name states so.
fn write_rows(
    path: &Path,
    rows: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut failed = None;
    let written = write_atomic_with(path, |file| {
        let file = BufWriter::with_capacity(1 << 16, file);
        let result = if is_gzip(path) {
            // No name and no time in the header: the same rows give the same bytes.
            let mut encoder = GzBuilder::new().write(file, Compression::default());
            let result = rows(&mut encoder);
            encoder.finish()?.flush()?;
            result
        } else {
            let mut file = file;
            let result = rows(&mut file);
            file.flush()?;
            result
        };
        result.map_err(|error| {
            let message = error.to_string();
            failed = Some(error);
            io::Error::other(message)
        })
    });
    match failed {
        Some(error) => Err(error),
        None => written,
    }
}

pub(super) fn edited(path: &Path, reason: &str) -> StoreError {
    StoreError::Edited {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

/// By what a file or folder is known to be another's.
pub(super) const NO_PROVENANCE: &str = "it has no provenance beside it";

/// Refuses to write over a file that this program did not make, or through a link; gives the
/// provenance of what is there.
///
/// # Errors
/// [`StoreError::Foreign`], [`StoreError::Io`] for a link.
pub fn refuse_foreign(path: &Path) -> Result<Option<Meta>, StoreError> {
    idiolect_files::refuse_link(path).map_err(StoreError::io("write", path))?;
    let meta = Meta::read(path)?;
    if meta.is_none() && holds_bytes(path) {
        return Err(StoreError::foreign(path, NO_PROVENANCE));
    }
    Ok(meta)
}

/// Writes a further file of a stage, with provenance of its own: that of the stage.
///
/// # Errors
/// As [`refuse_foreign`], and what `write` returns.
pub fn write_further(
    path: &Path,
    meta: &Meta,
    write: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    refuse_foreign(path)?;
    let mut meta = meta.clone();
    meta.complete = false;
    meta.write(path)?;
    write()?;
    meta.complete = true;
    meta.hash = hash_file(path)?;
    meta.write(path)
}

fn holds_bytes(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.len() > 0)
}

/// The journal of an unfinished output.
pub fn part_of(path: &Path) -> PathBuf {
    beside(path, ".part")
}

fn is_gzip(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("gz"))
}

pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
