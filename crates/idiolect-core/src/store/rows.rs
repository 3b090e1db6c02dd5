//! Rows from files: JSON lines, a JSON array or CSV, each of them perhaps gzipped, or parquet.
//!
//! A row that cannot be read is data: it comes out as a [`BadRow`] with its file, line and reason,
//! and the rows after it are unaffected. Only a file that cannot be read on (missing, cut off
//! inside gzip, not parquet) is an error. Memory holds one row at a time (parquet: one row group).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use idiolect_model::budget::json_values;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::rejects::BadRow;
use super::{StoreError, csv_rows, file_name, non_finite, parquet_rows};

/// A longer row is refused: no record of this program comes near it, and memory is finite.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// Values of one row: each takes some hundred bytes once it is read, whatever it takes in the file.
pub const MAX_ROW_VALUES: usize = 1 << 20;

/// Bytes between two rows, or of a row that is passed over. A few compressed bytes expand to more
/// than any disk holds.
const MAX_SKIPPED: u64 = 4 << 30;

/// Blank lines between two rows.
const MAX_BLANK_LINES: u64 = 1_000_000;

/// A row and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// Name of its file, without the folder.
    pub file: Arc<str>,
    /// Line of the file, from 1; the row's number in a parquet file.
    pub line: u64,
    /// The row.
    pub value: T,
}

/// The rows of one file, in order. Items are good rows or bad rows; after an `Err` there are none.
pub struct Rows<T> {
    source: Source,
    path: std::path::PathBuf,
    file: Arc<str>,
    failed: bool,
    row: PhantomData<fn() -> T>,
}

enum Source {
    Lines(Lines),
    Array(Array),
    Csv(csv_rows::Records),
    Parquet(parquet_rows::Records),
}

/// A row before it is typed.
enum Raw {
    /// Its bytes.
    Text(u64, Vec<u8>),
    /// Its value; parquet has no text.
    Value(u64, Value),
    /// Its cells.
    Record(u64, csv_rows::Record),
    /// It cannot be one: line, reason, beginning.
    Bad(u64, String, Vec<u8>),
}

impl<T: DeserializeOwned> Rows<T> {
    /// Opens a file of rows. CSV is recognized by its name (`.csv`, `.csv.gz`), gzip and parquet by
    /// their first bytes, an array by its first bracket.
    ///
    /// # Errors
    /// When the file cannot be opened or is not what it begins as.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io("read", path))?;
        Self::of(file, path)
    }

    /// As [`open`](Self::open), of a file that is open at its beginning; `path` is its name.
    ///
    /// # Errors
    /// When it is not what it begins as.
    pub fn of(mut file: File, path: &Path) -> Result<Self, StoreError> {
        if file
            .metadata()
            .map_err(StoreError::io("read", path))?
            .is_dir()
        {
            return Err(StoreError::format(
                path,
                "is a folder, expected a file of rows",
            ));
        }
        let mut magic = [0u8; 4];
        let n = read_up_to(&mut file, &mut magic).map_err(StoreError::io("read", path))?;
        let is_parquet = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("parquet"));
        let source = if is_parquet || magic == *b"PAR1" {
            Source::Parquet(parquet_rows::Records::of(file, path)?)
        } else {
            // A pipe has no second beginning, so the bytes looked at are put back in front.
            let head = Cursor::new(magic[..n].to_vec());
            Source::from_stream(Box::new(BufReader::new(head.chain(file))), path)?
        };
        Ok(Self {
            source,
            path: path.to_owned(),
            file: file_name(path).into(),
            failed: false,
            row: PhantomData,
        })
    }

    /// All good rows; the bad ones go to `bad`.
    ///
    /// # Errors
    /// As the iterator's.
    pub fn collect_good(self, mut bad: impl FnMut(BadRow)) -> Result<Vec<Row<T>>, StoreError> {
        let mut rows = Vec::new();
        for row in self {
            match row? {
                Ok(row) => rows.push(row),
                Err(row) => bad(row),
            }
        }
        Ok(rows)
    }
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = Result<Result<Row<T>, BadRow>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let raw = match &mut self.source {
            Source::Lines(lines) => lines.next_raw(),
            Source::Array(array) => array.next_raw(),
            Source::Csv(records) => records.next_raw(),
            Source::Parquet(records) => records.next_raw(),
        };
        match raw {
            Ok(None) => None,
            Ok(Some(raw)) => Some(Ok(self.typed(raw))),
            Err(reason) => {
                self.failed = true;
                Some(Err(StoreError::format(&self.path, reason)))
            }
        }
    }
}

impl<T: DeserializeOwned> Rows<T> {
    fn typed(&self, raw: Raw) -> Result<Row<T>, BadRow> {
        let bad = |line, reason: String, text: &[u8]| {
            BadRow::new(&self.file, line, reason, &String::from_utf8_lossy(text))
        };
        let good = |line, value| Row {
            file: Arc::clone(&self.file),
            line,
            value,
        };
        match raw {
            Raw::Bad(line, reason, text) => Err(bad(line, reason, &text)),
            Raw::Text(line, text) if has_too_many_values(&text) => {
                let reason = format!("holds more than {MAX_ROW_VALUES} values");
                Err(bad(line, reason, &text[..text.len().min(1000)]))
            }
            Raw::Text(line, text) => match std::str::from_utf8(&text) {
                Err(error) => Err(bad(
                    line,
                    format!("not UTF-8 at byte {}", error.valid_up_to()),
                    &text,
                )),
                Ok(utf8) => match serde_json::from_str(utf8).or_else(|error| {
                    // What Python's `json` writes and JSON has not.
                    let plain = non_finite::replaced(utf8).ok_or(error)?;
                    serde_json::from_str(&plain)
                }) {
                    Ok(value) => Ok(good(line, value)),
                    Err(error) => Err(bad(line, message(&error), &text)),
                },
            },
            Raw::Record(line, record) => match record.read() {
                Ok(value) => Ok(good(line, value)),
                Err(error) => Err(bad(line, message(&error), record.to_json().as_bytes())),
            },
            Raw::Value(line, value) => {
                let text = value.to_string();
                match serde_json::from_value(value) {
                    Ok(value) => Ok(good(line, value)),
                    Err(error) => Err(bad(line, message(&error), text.as_bytes())),
                }
            }
        }
    }
}

/// Whether a row's JSON holds more values than are read. A short row cannot.
fn has_too_many_values(text: &[u8]) -> bool {
    text.len() > MAX_ROW_VALUES && json_values(text) > MAX_ROW_VALUES
}

/// What the parser stated, without the line number, which counts within the row and would mislead.
fn message(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = match words.find(" at line ") {
        Some(at) if error.column() > 0 => format!("{} at column {}", &words[..at], error.column()),
        Some(at) => words[..at].to_owned(),
        None => words,
    };
    if error.is_data() {
        words
    } else {
        format!("not JSON: {words}")
    }
}

type Stream = Box<dyn BufRead>;

impl Source {
    fn from_stream(mut stream: Stream, path: &Path) -> Result<Self, StoreError> {
        let read = |error| StoreError::format(path, cut_off(error));
        if stream.fill_buf().map_err(read)?.starts_with(&[0x1f, 0x8b]) {
            stream = Box::new(BufReader::new(MultiGzDecoder::new(stream)));
        }
        let head = stream.fill_buf().map_err(read)?;
        if head.starts_with(b"PAR1") {
            return Err(StoreError::format(
                path,
                "parquet cannot be read as a stream; give the file's name",
            ));
        }
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            stream.consume(3);
        }
        if is_csv(path) {
            let records = csv_rows::Records::open(stream);
            return records
                .map(Self::Csv)
                .map_err(|reason| StoreError::format(path, reason));
        }
        let head = stream.fill_buf().map_err(read)?;
        let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            Ok(Self::Array(Array {
                stream,
                line: 1,
                state: ArrayState::Before,
            }))
        } else {
            Ok(Self::Lines(Lines { stream, line: 0 }))
        }
    }
}

/// JSON lines. Blank lines are skipped and counted.
struct Lines {
    stream: Stream,
    line: u64,
}

impl Lines {
    fn next_raw(&mut self) -> Result<Option<Raw>, String> {
        let first = self.line;
        loop {
            if self.line - first > MAX_BLANK_LINES {
                return Err(format!(
                    "holds more than {MAX_BLANK_LINES} blank lines from line {} on; it is no file \
                     of rows",
                    first + 1
                ));
            }
            let mut text = Vec::new();
            let limit = MAX_ROW_BYTES as u64 + 1;
            let n = (&mut self.stream)
                .take(limit)
                .read_until(b'\n', &mut text)
                .map_err(cut_off)?;
            if n == 0 {
                return Ok(None);
            }
            self.line += 1;
            if text.len() > MAX_ROW_BYTES && text.last() != Some(&b'\n') {
                self.skip_line()?;
                text.truncate(1000);
                let reason = format!("longer than {} MiB", MAX_ROW_BYTES >> 20);
                return Ok(Some(Raw::Bad(self.line, reason, text)));
            }
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Raw::Text(self.line, text.trim_ascii().to_vec())));
            }
        }
    }

    fn skip_line(&mut self) -> Result<(), String> {
        let mut rest = (&mut self.stream).take(MAX_SKIPPED);
        let skipped = rest.skip_until(b'\n').map_err(cut_off)?;
        if skipped as u64 == MAX_SKIPPED {
            return Err(format!(
                "line {} has more than {} GiB; it is no file of rows",
                self.line,
                MAX_SKIPPED >> 30
            ));
        }
        Ok(())
    }
}

/// The elements of one JSON array, cut out by brackets and quotes and parsed one by one, so that
/// one malformed element does not hide the rest.
struct Array {
    stream: Stream,
    line: u64,
    state: ArrayState,
}

#[derive(PartialEq)]
enum ArrayState {
    Before,
    Inside,
    After,
}

impl Array {
    fn next_raw(&mut self) -> Result<Option<Raw>, String> {
        if self.state == ArrayState::Before {
            self.skip(|byte| byte.is_ascii_whitespace())?;
            self.stream.consume(1); // the bracket that made it an array
            self.state = ArrayState::Inside;
        }
        if self.state == ArrayState::After {
            return Ok(None);
        }
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',')?;
        let line = self.line;
        let mut element = Vec::new();
        let mut scan = Scan::default();
        let mut too_long = false;
        let mut length = 0u64;
        loop {
            let Some(byte) = self.peek()? else {
                return Err("the array has no end: the file looks cut off".to_owned());
            };
            if scan.outside() && (byte == b',' || byte == b']') {
                break;
            }
            self.stream.consume(1);
            self.line += u64::from(byte == b'\n');
            scan.step(byte);
            too_long |= element.len() >= MAX_ROW_BYTES;
            length += 1;
            if length > MAX_SKIPPED {
                return Err(too_far(line));
            }
            if !too_long {
                element.push(byte);
            }
        }
        if self.peek()? == Some(b']') {
            self.stream.consume(1);
            self.state = ArrayState::After;
        }
        if too_long {
            element.truncate(1000);
            let reason = format!("longer than {} MiB", MAX_ROW_BYTES >> 20);
            return Ok(Some(Raw::Bad(line, reason, element)));
        }
        let text = element.trim_ascii().to_vec();
        if text.is_empty() {
            self.next_raw()
        } else {
            Ok(Some(Raw::Text(line, text)))
        }
    }

    fn peek(&mut self) -> Result<Option<u8>, String> {
        Ok(self.stream.fill_buf().map_err(cut_off)?.first().copied())
    }

    fn skip(&mut self, which: impl Fn(u8) -> bool) -> Result<(), String> {
        let mut skipped = 0u64;
        while let Some(byte) = self.peek()?.filter(|byte| which(*byte)) {
            self.stream.consume(1);
            self.line += u64::from(byte == b'\n');
            skipped += 1;
            if skipped > MAX_ROW_BYTES as u64 {
                return Err(too_far(self.line));
            }
        }
        Ok(())
    }
}

fn too_far(line: u64) -> String {
    format!(
        "at line {line} no row begins or ends for longer than any row is; it is no list of rows"
    )
}

/// Where in a JSON text the next byte is.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    fn outside(&self) -> bool {
        self.depth == 0 && !self.in_string
    }

    fn step(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

/// Whether a file's name states that it holds CSV.
fn is_csv(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    name.trim_end_matches(".gz").ends_with(".csv")
}

pub(super) fn cut_off(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "ends in the middle: the file looks cut off".to_owned(),
        // What the decompressor states of bytes that are none of its own.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            format!("damaged or cut off: {error}")
        }
        _ => format!("cannot be read on: {error}"),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(read) => n += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(n)
}

impl csv_rows::Records {
    fn next_raw(&mut self) -> Result<Option<Raw>, String> {
        Ok(self.next_record()?.map(|record| match record {
            Ok((line, record)) => Raw::Record(line, record),
            Err((line, reason, text)) => Raw::Bad(line, reason, text),
        }))
    }
}

impl parquet_rows::Records {
    fn next_raw(&mut self) -> Result<Option<Raw>, String> {
        Ok(self
            .next_value()?
            .map(|(line, value)| Raw::Value(line, value)))
    }
}
