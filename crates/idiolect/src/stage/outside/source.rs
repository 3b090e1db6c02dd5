//! Files of another program, row by row, and whose they are.

use std::fs;
use std::io::Read;
use std::path::Path;

use idiolect_core::outside::{AnsweredRow, Program, inspect};
use idiolect_core::record::Split;
use idiolect_core::store::{BadRow, Rows, StoreError, file_name};
use idiolect_core::task::map_columns;
use serde_json::{Map, Value};

use super::super::StageError;
use super::super::import::split_by_name;
use super::super::inputs::Input;
use super::OutsideSettings;

/// Bytes at the beginning of a file by which a document is known.
const HEAD: u64 = 64 << 10;

/// A results file of lm-eval that is larger is not looked into for a model's name.
const MOST_RESULTS: u64 = 64 << 20;

/// One file.
pub(super) struct Source {
    input: Input,
    pub(super) program: Program,
    pub(super) name: String,
    /// The split of its problems.
    pub(super) split: Split,
    /// The model that wrote all its answers, where it is known of the whole file.
    pub(super) model: Option<String>,
    /// Pairs of field and column of plain answers; of other programs they are the problem's.
    columns: Vec<(String, String)>,
}

/// One row of it.
pub(super) struct Item {
    /// Its line, from 1.
    pub(super) line: u64,
    /// How many rows came before it.
    pub(super) number: usize,
    pub(super) row: Result<AnsweredRow, String>,
    /// Its beginning, for a refusal.
    text: String,
    /// Its name before the reason of a refusal, where its line says little.
    name: String,
}

impl Item {
    /// The row, or a part of it, refused.
    pub(super) fn refused(&self, source: &Source, reason: &str) -> BadRow {
        let reason = format!("{}{reason}", self.name);
        BadRow::new(&source.name, self.line, reason, &self.text)
    }
}

impl Source {
    pub(super) fn open(
        path: &Path,
        program: Program,
        settings: &OutsideSettings,
    ) -> Result<Self, StageError> {
        let source = Self::bare(path, program)?;
        Ok(Self {
            split: settings.split.unwrap_or(source.split),
            model: settings.model.clone().or(source.model),
            columns: match program {
                Program::Answers => settings.columns.clone(),
                _ => Vec::new(),
            },
            ..source
        })
    }

    /// A file as its names and neighbours tell.
    pub(super) fn bare(path: &Path, program: Program) -> Result<Self, StageError> {
        let usual = if program.evaluates() {
            Split::Test
        } else {
            Split::Train
        };
        Ok(Self {
            input: Input::open(path)?,
            program,
            name: file_name(path),
            split: split_by_name(path).unwrap_or(usual),
            model: match program {
                Program::LmEval => model_beside(path),
                _ => None,
            },
            columns: Vec::new(),
        })
    }

    pub(super) fn hash(&self) -> &str {
        self.input.hash()
    }

    /// Calls `each` with every row, in order. Gives how the file's evaluation ended, where that is
    /// known and no success.
    pub(super) fn each(
        &self,
        mut each: impl FnMut(Item) -> Result<(), StageError>,
    ) -> Result<Option<String>, StageError> {
        if self.program == Program::Inspect {
            return self.each_sample(each);
        }
        let mut last = 0;
        for (number, row) in self.input.rows::<Map<String, Value>>()?.enumerate() {
            let (line, row, text) = match row? {
                Err(bad) => (bad.line, Err(bad.reason), bad.text),
                Ok(row) => (row.line, self.read(&row.value), beginning(&row.value)),
            };
            // All rows of an array may stand in one line.
            let name = if line == last {
                format!("row {}: ", number + 1)
            } else {
                String::new()
            };
            last = line;
            each(Item {
                line,
                number,
                row,
                text,
                name,
            })?;
        }
        Ok(None)
    }

    fn read(&self, row: &Map<String, Value>) -> Result<AnsweredRow, String> {
        if self.columns.is_empty() {
            let read = self.program.read(row);
            return read.map_err(|reason| self.other_kind(row, reason));
        }
        self.program.read(&map_columns(row.clone(), &self.columns)?)
    }

    /// A reason, or that the row is one of another program's.
    fn other_kind(&self, row: &Map<String, Value>, reason: String) -> String {
        match Program::of_row(row) {
            Some(other) if other == self.program => reason,
            Some(other) => format!(
                "the row is of {}, not of `{}`",
                other.holds(),
                self.program.as_str()
            ),
            None => format!(
                "{reason}; rows of `{}` are {}",
                self.program.as_str(),
                self.program.holds()
            ),
        }
    }

    fn each_sample(
        &self,
        mut each: impl FnMut(Item) -> Result<(), StageError>,
    ) -> Result<Option<String>, StageError> {
        let failed = |reason: String| StageError::failed(format!("`{}`: {reason}", self.name), "");
        let text = self.input.document()?;
        let log = inspect::log(&text).map_err(failed)?;
        for (number, (line, sample)) in log.samples.into_iter().enumerate() {
            let text = sample.as_ref().map(beginning).unwrap_or_default();
            let name = match &sample {
                Ok(sample) => sample_name(sample),
                Err(_) => format!("sample {} of the log: ", number + 1),
            };
            let row = sample.and_then(|sample| self.program.read(&sample));
            each(Item {
                line,
                number,
                row,
                text,
                name,
            })?;
        }
        Ok(log.ended)
    }
}

/// A sample of inspect_ai before a reason: a log of one line says no more of where it stands.
fn sample_name(sample: &Map<String, Value>) -> String {
    let field = |name: &str| {
        let value = sample.get(name).unwrap_or(&Value::Null);
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        crate::shown::escaped(&text, 60)
    };
    format!("sample {}, epoch {}: ", field("id"), field("epoch"))
}

/// The beginning of a row's text, as much as a refusal keeps.
fn beginning(row: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in row {
        let value = match value {
            Value::String(value) => format!("{:?}", value.chars().take(100).collect::<String>()),
            Value::Array(_) => "[…]".to_owned(),
            Value::Object(_) => "{…}".to_owned(),
            other => other.to_string(),
        };
        text.push_str(&format!("{name}: {value} "));
        if text.len() > 200 {
            break;
        }
    }
    text
}

/// Whose file this is; `None` is a file of plain rows.
///
/// # Errors
/// When it cannot be read, or is a log of inspect_ai that is no JSON.
pub fn recognized(path: &Path) -> Result<Option<Program>, StageError> {
    // Standard input is read once only, by whom it is for.
    if path == Path::new("-") || !fs::metadata(path).is_ok_and(|file| file.is_file()) {
        return Ok(None);
    }
    let mut head = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map_err(StoreError::io("read", path))?;
    if head.starts_with(b"PK\x03\x04") {
        return Err(StageError::failed(
            format!(
                "`{}` is a zip archive, as inspect_ai's `.eval` logs are",
                path.display()
            ),
            "`inspect log convert LOG.eval --to json --output-dir DIR` writes the same as JSON",
        ));
    }
    if inspect::is_log(&head) {
        return Ok(Some(Program::Inspect));
    }
    // A file that is no rows at all is an error of whom reads it.
    let Ok(rows) = Rows::<Map<String, Value>>::open(path) else {
        return Ok(None);
    };
    for row in rows.take(20) {
        if let Ok(Ok(row)) = row {
            return Ok(Program::of_row(&row.value));
        }
    }
    Ok(None)
}

/// A name of another program's, for a terminal.
pub fn shown(name: &str) -> String {
    crate::shown::escaped(name, 200)
}

/// Why none of a file's first rows can be read; `None` where one can, or there is none.
pub fn unreadable(path: &Path) -> Option<String> {
    let rows = match Rows::<Map<String, Value>>::open(path) {
        Ok(rows) => rows,
        Err(error) => return Some(error.to_string()),
    };
    let mut first = None;
    for row in rows.take(20) {
        match row {
            Ok(Ok(_)) => return None,
            Ok(Err(bad)) => drop(first.get_or_insert_with(|| {
                format!("`{}`, line {}: {}", bad.file, bad.line, bad.reason)
            })),
            Err(error) => drop(first.get_or_insert_with(|| error.to_string())),
        }
    }
    first
}

/// What was found out about files, for the screen.
pub fn found(path: &Path, program: Program) -> String {
    format!(
        "`{}` holds {}: read as --format {}; --format rows reads its columns as they are",
        file_name(path),
        program.holds(),
        program.as_str()
    )
}

/// The model's name in the results file that lm-eval writes beside its samples: `results_DATE.json`.
fn model_beside(path: &Path) -> Option<String> {
    let name = file_name(path);
    let date = name
        .rsplit_once('_')?
        .1
        .trim_end_matches(".gz")
        .strip_suffix(".jsonl")?;
    let results = path.with_file_name(format!("results_{date}.json"));
    if fs::metadata(&results).ok()?.len() > MOST_RESULTS {
        return None;
    }
    let results: Value = serde_json::from_slice(&fs::read(results).ok()?).ok()?;
    let model = results.get("model_name")?.as_str()?;
    (!model.is_empty()).then(|| model.to_owned())
}
