//! Import: rows of a published data set become problems, and the traces that they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::record::{
    Finish, OriginKind, Problem, Split, TaskName, Trace, content_hash, trace_id,
};
use idiolect_core::store::{BadRow, Meta, Opened, Output};
use idiolect_core::task::{
    Field, ImportRow, Imported, Task, column_of, map_columns, own_fields, shared_fields,
    split_named, task,
};
use serde_json::{Map, Value, json};

use super::inputs::Input;
use super::{Control, Outcome, StageError};

/// Which task rows are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTask {
    /// All of this one.
    All(TaskName),
    /// Each of the one that its field `task` names.
    Named,
}

impl RowTask {
    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All(name) => name.as_str(),
            Self::Named => "jsonl",
        }
    }

    pub(super) fn names(self) -> Vec<TaskName> {
        match self {
            Self::All(name) => vec![name],
            Self::Named => TaskName::ALL.to_vec(),
        }
    }

    pub(super) fn of(self, row: &Map<String, Value>) -> Result<&'static dyn Task, String> {
        let name = match (self, row.get("task")) {
            (Self::All(name), _) => name,
            (Self::Named, None) => return Err("no field `task`, which names its task".to_owned()),
            (Self::Named, Some(name)) => serde_json::from_value(name.clone()).map_err(|_| {
                format!(
                    "its `task` is {name}, which is none of {}",
                    TaskName::listed()
                )
            })?,
        };
        Ok(task(name))
    }

    /// Versions of the tasks, which decide what a row becomes.
    pub(super) fn versions(self) -> String {
        let all: Vec<String> = self
            .names()
            .into_iter()
            .map(|n| task(n).verifier())
            .collect();
        all.join(" ")
    }

    fn fields(self) -> impl Iterator<Item = &'static Field> {
        let own = self.names().into_iter().flat_map(own_fields);
        own.chain(shared_fields())
    }
}

/// What to import.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// The task of the rows.
    pub task: RowTask,
    /// Files of raw rows, in order.
    pub files: Vec<PathBuf>,
    /// Pairs of field and the column that fills it.
    pub columns: Vec<(String, String)>,
    /// The split of every row; `None`: what the row states, else by the file's name, else by the
    /// row's number where the data set has such a rule, else train.
    pub split: Option<Split>,
    /// The model that wrote every response; `None`: what the row states.
    pub model: Option<String>,
    /// How every response ended; `None`: what the row states.
    pub finish: Option<Finish>,
    /// First part of made ids; `None` is the task's name.
    pub set: Option<String>,
    /// `problems.jsonl`.
    pub output: PathBuf,
    /// `traces.jsonl`, where the rows' solutions and responses are wanted.
    pub traces: Option<PathBuf>,
}

/// Writes each problem once (rows of one problem may repeat it beside different responses) and,
/// where asked for, each distinct trace. Importing is quick, so an unfinished output starts over.
pub fn import(settings: &ImportSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let inputs = settings
        .files
        .iter()
        .map(|file| Input::open(file))
        .collect::<Result<Vec<_>, _>>()?;
    check_columns(settings, &inputs)?;
    let meta = provenance(settings, &inputs);
    let problems = Output::open(&settings.output, &meta, control.overwrite)?;
    let traces = settings
        .traces
        .as_ref()
        .map(|path| Output::open(path, &meta, control.overwrite))
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
    let (mut seen, mut first_refused) = (0, None);
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let mut known = Known::default();
    // The last line of each may lack its end.
    let total: Option<u64> = inputs.iter().map(|input| Some(input.lines()? + 1)).sum();
    'files: for (input, path) in inputs.iter().zip(&settings.files) {
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
                Ok(row) => {
                    let columns = || columns_of(&row.value);
                    let text = || Value::Object(row.value.clone()).to_string();
                    read_row(row.value.clone(), settings, &at(index))
                        .inspect(|imported| {
                            if let Some(reason) = &imported.unknown_finish {
                                *reasons.entry(reason.clone()).or_default() += 1;
                            }
                        })
                        .and_then(|imported| known.admit(imported, row.line))
                        .map_err(|reason| {
                            first_refused.get_or_insert_with(columns);
                            BadRow::new(&row.file, row.line, reason, &text())
                        })
                }
            };
            match imported {
                Err(bad) => {
                    problems.append_refused(&bad)?;
                    if control.hopeless(problems.rejected(), seen, total) {
                        break 'files;
                    }
                }
                Ok(new) => write_new(&new, &mut problems, traces.as_mut())?,
            }
            if control.stop.requested() {
                return Err(StageError::Interrupted);
            }
        }
    }
    drop(meter);
    note_unknown_reasons(&reasons, control);
    let rejected = problems.rejected();
    if control.too_many(rejected, seen) {
        // A part of a data set is none, and the corrected command must find the place free.
        problems.abandon()?;
        traces.map_or(Ok(()), Output::abandon)?;
        let error = control.refusal(&settings.output, rejected, seen)?;
        return Err(error.with_remedy(remedy(settings.task, first_refused.as_deref())));
    }
    if let Some(traces) = traces {
        traces.finish_appended(seen)?;
    }
    Outcome::of(
        &settings.output,
        &problems.finish_appended(seen)?,
        false,
        control,
    )
}

/// Says which finish reasons are not known, the most frequent first.
pub(super) fn note_unknown_reasons(reasons: &BTreeMap<String, u64>, control: Control<'_>) {
    if reasons.is_empty() {
        return;
    }
    let mut sorted: Vec<(&String, &u64)> = reasons.iter().collect();
    sorted.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), reason.as_str()));
    let named: Vec<String> = sorted
        .iter()
        .take(5)
        .map(|(reason, count)| {
            let start: String = reason.chars().take(40).collect();
            format!("{start:?} {count} times")
        })
        .collect();
    let text = format!(
        "{} responses have a finish reason that means neither `stop` nor `length` ({}): their finish is `unknown`; --finish overrides it",
        reasons.values().sum::<u64>(),
        named.join(", ")
    );
    control.progress.note("import", &text);
}

/// Refuses a mapping that no row can follow: to a field that the task does not read, or from a
/// column that a file does not have. Few rows are looked at where the columns are there.
fn check_columns(settings: &ImportSettings, inputs: &[Input]) -> Result<(), StageError> {
    let listed = |names: Vec<&str>| {
        let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        quoted.join(", ")
    };
    for (field, _) in &settings.columns {
        if !settings
            .task
            .fields()
            .any(|known| known.names.contains(&field.as_str()))
        {
            let mut known: Vec<&str> = Vec::new();
            for field in settings.task.fields() {
                if !known.contains(&field.names[0]) {
                    known.push(field.names[0]);
                }
            }
            return Err(StageError::usage(
                format!(
                    "--map: {} has no field `{field}`; there are {}",
                    settings.task.name(),
                    listed(known)
                ),
                &format!(
                    "`idiolect import {} --help` lists what they hold",
                    settings.task.name()
                ),
            ));
        }
    }
    for input in inputs {
        let mut missing: Vec<&(String, String)> = settings.columns.iter().collect();
        let mut columns = BTreeSet::new();
        let mut rows = input.rows::<Map<String, Value>>()?;
        while !missing.is_empty()
            && let Some(row) = rows.next()
        {
            let Ok(row) = row? else { continue };
            missing.retain(|(_, column)| column_of(&row.value, column).is_none());
            columns.extend(row.value.keys().cloned());
        }
        if let (Some((field, column)), false) = (missing.first(), columns.is_empty()) {
            let columns = columns.iter().map(String::as_str).collect();
            return Err(StageError::usage(
                format!(
                    "--map {field}={column}: no row of `{}` has a column `{column}`; the columns \
                     are {}",
                    input.name(),
                    listed(columns)
                ),
                "name one of them; a file with other columns is imported by a command of its own",
            ));
        }
    }
    Ok(())
}

pub(super) fn columns_of(row: &Map<String, Value>) -> Vec<String> {
    row.keys().map(|key| format!("`{key}`")).collect()
}

/// What to do about rows that were refused.
pub(super) fn remedy(task: RowTask, columns: Option<&[String]>) -> String {
    let columns = columns.filter(|columns| !columns.is_empty());
    let columns = columns.map_or_else(String::new, |columns| {
        format!(
            "; the first row that was refused has {}",
            columns.join(", ")
        )
    });
    format!(
        "`idiolect import {} --help` lists the fields, and --map FIELD=COLUMN fills one from \
         another column{columns}",
        task.name()
    )
}

fn provenance(settings: &ImportSettings, inputs: &[Input]) -> Meta {
    let mut meta = Meta::of("import");
    for (index, (input, path)) in inputs.iter().zip(&settings.files).enumerate() {
        meta.input(&format!("file.{index}"), input.hash());
        meta.setting(&format!("split.{index}"), split_of(settings, path));
    }
    if let Some(model) = &settings.model {
        meta.setting("model", model);
    }
    if let Some(finish) = settings.finish {
        meta.setting("finish", finish);
    }
    meta.setting("columns", &settings.columns)
        .setting("set", set_of(settings))
        .setting("traces", settings.traces.is_some())
        .version("task", settings.task.versions());
    meta
}

/// An unfinished output emptied; a complete one opened anew, because its companion is not.
pub(super) fn started_over(opened: Opened, path: &Path, meta: &Meta) -> Result<Output, StageError> {
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
    settings.split.or_else(|| split_by_name(path))
}

/// The split that a part of a file's name states.
pub(super) fn split_by_name(path: &Path) -> Option<Split> {
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
    parts(path).iter().find_map(|part| split_named(part))
}

fn set_of(settings: &ImportSettings) -> String {
    settings
        .set
        .clone()
        .unwrap_or_else(|| settings.task.name().to_owned())
}

fn read_row(
    raw: Map<String, Value>,
    settings: &ImportSettings,
    at: &ImportRow,
) -> Result<Imported, String> {
    let raw = if settings.columns.is_empty() {
        raw
    } else {
        map_columns(raw, &settings.columns)?
    };
    settings
        .task
        .of(&raw)?
        .import(&overridden(raw, settings), at)
}

/// A row with what the command line states of all rows in place of what it states itself.
fn overridden(mut row: Map<String, Value>, settings: &ImportSettings) -> Map<String, Value> {
    // Without a response there is no trace that these could speak of.
    let answered = row.get("response").is_some_and(|value| !value.is_null());
    let said = [
        ("split", settings.split.map(|split| json!(split))),
        (
            "model",
            settings
                .model
                .as_ref()
                .filter(|_| answered)
                .map(|model| json!(model)),
        ),
        (
            "finish",
            settings
                .finish
                .filter(|_| answered)
                .map(|finish| json!(finish)),
        ),
    ];
    for (name, value) in said {
        if let Some(value) = value {
            row.insert(name.to_owned(), value);
        }
    }
    row
}

/// What was written so far.
#[derive(Default)]
pub(super) struct Known {
    problems: BTreeMap<String, (u64, Problem)>,
    /// Ids of answered problems that are named by their rows' numbers, by question and gold.
    answered: BTreeMap<String, String>,
    traces: BTreeSet<String>,
}

impl Known {
    /// What of a row is new.
    ///
    /// # Errors
    /// When its problem's id represents another problem already.
    pub(super) fn admit(&mut self, mut row: Imported, line: u64) -> Result<New, String> {
        let mut new = New {
            id: String::new(),
            problem: None,
            traces: Vec::new(),
        };
        if row.numbered
            && row
                .traces
                .iter()
                .any(|t| t.origin.kind != OriginKind::Human)
        {
            let asked =
                content_hash(format!("{}\0{}", row.problem.question, row.problem.gold).as_bytes());
            match self.answered.get(&asked) {
                Some(id) => rename(&mut row, id),
                None => drop(self.answered.insert(asked, row.problem.id.clone())),
            }
        }
        new.id.clone_from(&row.problem.id);
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

/// Makes a row one of the problem that an earlier row named.
fn rename(row: &mut Imported, id: &str) {
    row.problem.id = id.to_owned();
    for trace in &mut row.traces {
        trace.id = trace_id(id, &trace.text);
        trace.problem_id = id.to_owned();
    }
}

/// Rows of one problem may differ in what they know of it beside question and gold.
fn same(a: &Problem, b: &Problem) -> bool {
    a.question == b.question && a.gold == b.gold
}

pub(super) struct New {
    /// The id under which the row's problem is known.
    pub(super) id: String,
    pub(super) problem: Option<Problem>,
    pub(super) traces: Vec<Trace>,
}

fn write_new(
    new: &New,
    problems: &mut Output,
    traces: Option<&mut Output>,
) -> Result<(), StageError> {
    if let Some(problem) = &new.problem {
        problems.append(problem)?;
    }
    if let Some(output) = traces {
        for trace in &new.traces {
            output.append(trace)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_names_the_split() {
        let settings = ImportSettings {
            task: RowTask::All(TaskName::Gsm8k),
            files: Vec::new(),
            columns: Vec::new(),
            split: None,
            model: None,
            finish: None,
            set: None,
            output: PathBuf::new(),
            traces: None,
        };
        let split = |name: &str| split_of(&settings, Path::new(name));
        assert_eq!(split("train/test.jsonl.gz"), Some(Split::Test));
        assert_eq!(split("val_200.jsonl"), Some(Split::Dev));
        assert_eq!(split("problems.jsonl"), None);
        let given = ImportSettings {
            split: Some(Split::Teacher),
            ..settings
        };
        assert_eq!(
            split_of(&given, Path::new("test.jsonl")),
            Some(Split::Teacher)
        );
    }
}
