//! Import: rows of a published data set become problems, and the traces that they hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::record::{Problem, Split, TaskName};
use idiolect_core::store::{BadRow, Meta, Opened, Output};
use idiolect_core::task::{ImportRow, Imported, Task, map_columns, split_named, task};
use serde_json::{Map, Value};

use super::inputs::Input;
use super::{Control, Outcome, StageError};

/// What to import.
#[derive(Clone, Debug)]
pub(crate) struct ImportSettings {
    /// The task of every row.
    pub(crate) task: TaskName,
    /// Files of raw rows, in order.
    pub(crate) files: Vec<PathBuf>,
    /// Pairs of field and the column that fills it.
    pub(crate) columns: Vec<(String, String)>,
    /// The split of rows that do not tell; `None`: by the file's name, else by the row's number
    /// where the data set has such a rule, else train.
    pub(crate) split: Option<Split>,
    /// First part of made ids; `None` is the task's name.
    pub(crate) set: Option<String>,
    /// `problems.jsonl`.
    pub(crate) output: PathBuf,
    /// `traces.jsonl`, where the rows' solutions and responses are wanted.
    pub(crate) traces: Option<PathBuf>,
}

/// Writes each problem once (rows of one problem may repeat it beside different responses) and,
/// where asked for, each distinct trace. Importing is quick, so an unfinished output starts over.
pub(crate) fn import(
    settings: &ImportSettings,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let task = task(settings.task);
    let inputs = settings
        .files
        .iter()
        .map(|file| Input::open(file))
        .collect::<Result<Vec<_>, _>>()?;
    let meta = provenance(settings, task, &inputs);
    let problems = Output::open(&settings.output, &meta, control.fresh)?;
    let traces = settings
        .traces
        .as_ref()
        .map(|path| Output::open(path, &meta, control.fresh))
        .transpose()?;
    let (mut problems, mut traces) = match (problems, traces) {
        (Opened::Complete(meta), None | Some(Opened::Complete(_))) => {
            return Outcome::of(&settings.output, &meta, true, control);
        }
        (problems, traces) => (
            started_over(problems, &settings.output, &meta)?,
            match (traces, &settings.traces) {
                (Some(traces), Some(path)) => Some(started_over(traces, path, &meta)?),
                _ => None,
            },
        ),
    };
    let mut meter = control.progress.begin("import", "rows", None, 0);
    let mut seen = 0;
    let mut known = Known::default();
    for (input, path) in inputs.iter().zip(&settings.files) {
        let at = |index| ImportRow {
            index,
            split: split_of(settings, path),
            set: set_of(settings),
        };
        for (index, row) in input.rows::<Map<String, Value>>()?.enumerate() {
            seen += 1;
            meter.advance(1);
            let imported = match row? {
                Err(bad) => Err(bad),
                Ok(row) => read_row(task, row.value, settings, &at(index))
                    .and_then(|imported| known.admit(imported, row.line))
                    .map_err(|reason| BadRow::new(&input.name(), row.line, reason, "")),
            };
            match imported {
                Err(bad) => problems.reject(&bad)?,
                Ok(new) => write_new(&new, &mut problems, traces.as_mut())?,
            }
            if control.stop.requested() {
                return Err(StageError::Interrupted);
            }
        }
    }
    drop(meter);
    if let Some(traces) = traces {
        traces.finish(seen)?;
    }
    Outcome::of(&settings.output, &problems.finish(seen)?, false, control)
}

fn provenance(settings: &ImportSettings, task: &dyn Task, inputs: &[Input]) -> Meta {
    let mut meta = Meta::of("import");
    for (index, (input, path)) in inputs.iter().zip(&settings.files).enumerate() {
        meta.input(&format!("file.{index}"), input.hash());
        meta.setting(&format!("split.{index}"), split_of(settings, path));
    }
    meta.setting("columns", &settings.columns)
        .setting("set", set_of(settings))
        .setting("traces", settings.traces.is_some())
        .version("task", task.verifier());
    meta
}

/// An unfinished output emptied; a complete one opened anew, because its companion is not.
fn started_over(opened: Opened, path: &Path, meta: &Meta) -> Result<Output, StageError> {
    let opened = match opened {
        Opened::Complete(_) => Output::open(path, meta, true)?,
        unfinished => unfinished,
    };
    match opened {
        Opened::Unfinished(mut output) => {
            output.restart()?;
            Ok(output)
        }
        Opened::Complete(_) => Err(StageError::failed(
            format!("`{}` cannot be started over", path.display()),
            "",
        )),
    }
}

fn split_of(settings: &ImportSettings, path: &Path) -> Option<Split> {
    let parts = |path: &Path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.into_iter()
            .flat_map(|name| {
                name.split(|c: char| !c.is_alphanumeric())
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let named = || parts(path).iter().find_map(|part| split_named(part));
    settings.split.or_else(named)
}

fn set_of(settings: &ImportSettings) -> String {
    settings
        .set
        .clone()
        .unwrap_or_else(|| settings.task.to_string())
}

fn read_row(
    task: &dyn Task,
    raw: Map<String, Value>,
    settings: &ImportSettings,
    at: &ImportRow,
) -> Result<Imported, String> {
    let raw = if settings.columns.is_empty() {
        raw
    } else {
        map_columns(raw, &settings.columns)?
    };
    task.import(&raw, at)
}

/// What was written so far.
#[derive(Default)]
struct Known {
    problems: BTreeMap<String, (u64, Problem)>,
    traces: std::collections::BTreeSet<String>,
}

impl Known {
    /// What of a row is new.
    ///
    /// # Errors
    /// When its problem's id stands for another problem already.
    fn admit(&mut self, mut row: Imported, line: u64) -> Result<New, String> {
        let mut new = New {
            problem: None,
            traces: Vec::new(),
        };
        match self.problems.get(&row.problem.id) {
            Some((first, known)) if !same(known, &row.problem) => {
                return Err(format!(
                    "the id `{}` is already that of another problem, line {first}",
                    known.id
                ));
            }
            Some(_) => {}
            None => {
                self.problems
                    .insert(row.problem.id.clone(), (line, row.problem.clone()));
                new.problem = Some(row.problem);
            }
        }
        for trace in row.traces.drain(..) {
            // Equal texts of one origin kind collapse.
            if self
                .traces
                .insert(format!("{:?} {}", trace.origin.kind, trace.id))
            {
                new.traces.push(trace);
            }
        }
        Ok(new)
    }
}

/// Rows of one problem may differ in what they know of it beside question and gold.
fn same(a: &Problem, b: &Problem) -> bool {
    a.question == b.question && a.gold == b.gold
}

struct New {
    problem: Option<Problem>,
    traces: Vec<idiolect_core::record::Trace>,
}

fn write_new(
    new: &New,
    problems: &mut Output,
    traces: Option<&mut Output>,
) -> Result<(), StageError> {
    if let Some(problem) = &new.problem {
        problems.push(problem)?;
    }
    if let Some(output) = traces {
        for trace in &new.traces {
            output.push(trace)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_tells_the_split() {
        let settings = ImportSettings {
            task: TaskName::Gsm8k,
            files: Vec::new(),
            columns: Vec::new(),
            split: None,
            set: None,
            output: PathBuf::new(),
            traces: None,
        };
        let split = |name: &str| split_of(&settings, Path::new(name));
        assert_eq!(split("train/test.jsonl.gz"), Some(Split::Test));
        assert_eq!(split("val_200.jsonl"), Some(Split::Dev));
        assert_eq!(split("problems.jsonl"), None);
        let told = ImportSettings {
            split: Some(Split::Teacher),
            ..settings
        };
        assert_eq!(
            split_of(&told, Path::new("test.jsonl")),
            Some(Split::Teacher)
        );
    }
}
