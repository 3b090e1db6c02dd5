//! What the imports of all tasks share: which column is which field, identity, split, and the
//! trace that some rows hold.

use serde_json::{Map, Value};

use crate::record::{Finish, Origin, OriginKind, Problem, Split, TaskName, Trace};

/// Where a raw row is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRow {
    /// Its number in the file, from 0.
    pub index: usize,
    /// The part it belongs to, unless the row states otherwise; `None` where nothing shows.
    pub split: Option<Split>,
    /// The data set's name, the first part of ids: `gsm8k` in `gsm8k/train/17`.
    pub set: String,
}

/// What one raw row gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The problem.
    pub problem: Problem,
    /// The data set's own solution (origin `human`), and the row's `response` (origin `sampled`
    /// where its `model` is known, else `imported`).
    pub traces: Vec<Trace>,
    /// The reason that the response ended, where it states neither `stop` nor `length`; it stays in
    /// the trace's unknown fields.
    pub unknown_finish: Option<String>,
    /// Whether the problem's id is made of its row's number, and so says nothing of its question.
    pub numbered: bool,
}

/// A row whose `FIELD`s are filled from other columns, for rows that name them differently. A column
/// may lie inside objects and lists: `orig.nums`, `code.0`. The column is moved, so it does not stay as an unknown field
/// (one inside an object is copied).
///
/// # Errors
/// A column that the row does not have.
pub fn map_columns(
    mut raw: Map<String, Value>,
    mapping: &[(String, String)],
) -> Result<Map<String, Value>, String> {
    let mut mapped = Vec::with_capacity(mapping.len());
    for (field, column) in mapping {
        let value = column_of(&raw, column).ok_or_else(|| {
            let columns: Vec<_> = raw.keys().map(|k| format!("`{k}`")).collect();
            format!(
                "no column `{column}` to fill `{field}` from; the row has {}",
                columns.join(", ")
            )
        })?;
        mapped.push((field.clone(), value.clone()));
    }
    for (_, column) in mapping {
        raw.shift_remove(column);
    }
    raw.extend(mapped);
    Ok(raw)
}

/// The value of a column, which may lie inside objects and lists.
pub fn column_of<'a>(raw: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    raw.get(column).or_else(|| nested(raw, column))
}

fn nested<'a>(raw: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    let mut parts = column.split('.');
    let first = raw.get(parts.next()?)?;
    parts.try_fold(first, |value, part| match value {
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

/// The part that a row's `split` or a file's name speaks of: `train`, `dev` (also `val`, `valid`,
/// `validation`), `test` or `teacher`.
pub fn split_named(name: &str) -> Option<Split> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "dev" | "val" | "valid" | "validation" => Some(Split::Dev),
        "test" => Some(Split::Test),
        "teacher" => Some(Split::Teacher),
        _ => None,
    }
}

/// Where servers state why a response ended.
const FINISH_REASONS: [&str; 4] = ["finish", "finish_reason", "stop_reason", "done_reason"];

/// A raw row while a task takes its fields out; what is left over is kept as unknown fields.
pub(super) struct Fields {
    left: Map<String, Value>,
}

impl Fields {
    pub(super) fn of(raw: &Map<String, Value>) -> Self {
        Self { left: raw.clone() }
    }

    /// Takes the first of `names` that is there and not null.
    pub(super) fn take(&mut self, names: &[&str]) -> Option<Value> {
        #[cfg(test)]
        assert!(listed(names), "{names:?} are not in task/field.rs");
        let name = names
            .iter()
            .find(|n| self.left.get(**n).is_some_and(|v| !v.is_null()))?;
        self.left.shift_remove(*name)
    }

    /// Sets a field that is not there.
    pub(super) fn set(&mut self, name: &str, text: &str) {
        self.left
            .entry(name)
            .or_insert_with(|| Value::String(text.to_owned()));
    }

    /// Takes a text; a number counts as its text.
    ///
    /// # Errors
    /// Where it is neither.
    pub(super) fn take_text(&mut self, names: &[&str]) -> Result<Option<String>, String> {
        match self.take(names) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(other) => Err(format!("`{}` is {}, not text", names[0], kind_of(&other))),
        }
    }

    /// Builds the problem and its traces out of what is left: identity, split, the row's own
    /// `response`. Unknown fields go to that response's trace, or else to the problem.
    pub(super) fn finish(mut self, at: &ImportRow, parts: Parts) -> Result<Imported, String> {
        if let Some(task) = self.take_text(&["task"])?
            && task != parts.task.as_str()
        {
            return Err(format!("the row is of task `{task}`, not `{}`", parts.task));
        }
        let split = match self
            .left
            .get("split")
            .and_then(Value::as_str)
            .and_then(split_named)
        {
            Some(split) => {
                self.left.shift_remove("split");
                split
            }
            None => at.split.or(parts.split).unwrap_or(Split::Train),
        };
        let named = self.take_text(&["problem_id", "id"])?;
        let (id, numbered) = match named {
            Some(id) if id.contains('/') => (id, false),
            Some(id) if !id.is_empty() => (format!("{}/{id}", at.set), false),
            _ => (format!("{}/{split}/{}", at.set, at.index), true),
        };
        let mut traces = Vec::new();
        if let Some(human) = &parts.human {
            traces.push(Trace::new(
                &id,
                human,
                Finish::Stop,
                Origin::of(OriginKind::Human),
            ));
        }
        let mut unknown_finish = None;
        if let Some(mut trace) = self.take_response(&id)? {
            if trace.finish == Finish::Unknown {
                unknown_finish = self.finish_reason();
            }
            trace.extra = std::mem::take(&mut self.left);
            traces.push(trace);
        }
        if numbered {
            for trace in &mut traces {
                trace.state_question(&parts.question);
            }
        }
        let problem = Problem {
            id,
            task: parts.task,
            question: parts.question,
            gold: parts.gold,
            human: parts.human,
            split,
            extra: self.left,
        };
        Ok(Imported {
            problem,
            traces,
            unknown_finish,
            numbered,
        })
    }

    /// Why the response ended, in the server's words: a text, or an object with the text `type`.
    fn finish_reason(&self) -> Option<String> {
        let reason = FINISH_REASONS
            .iter()
            .find_map(|name| match self.left.get(*name)? {
                Value::Null => None,
                Value::Object(object) => object.get("type"),
                other => Some(other),
            })?;
        match reason {
            Value::String(text) if text.eq_ignore_ascii_case("unknown") => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    fn take_response(&mut self, problem_id: &str) -> Result<Option<Trace>, String> {
        let Some(response) = self.take_text(&["response"])? else {
            return Ok(None);
        };
        let finish = match self.finish_reason().as_deref().and_then(Finish::of_reason) {
            Some(finish) => {
                self.take(&FINISH_REASONS);
                finish
            }
            None => Finish::Unknown,
        };
        let mut origin = Origin::of(OriginKind::Imported);
        if let Some(model) = self.take_text(&["model"])? {
            origin = Origin {
                kind: OriginKind::Sampled,
                model: Some(model),
                ..origin
            };
        }
        Ok(Some(Trace::new(problem_id, &response, finish, origin)))
    }
}

/// Whether some task lists each of the names.
#[cfg(test)]
fn listed(names: &[&str]) -> bool {
    let all = || TaskName::ALL.into_iter().flat_map(super::fields);
    names
        .iter()
        .all(|name| all().any(|field| field.names.contains(name)))
}

/// What a task found in a row.
pub(super) struct Parts {
    pub(super) task: TaskName,
    pub(super) question: String,
    pub(super) gold: Value,
    pub(super) human: Option<String>,
    /// Where rows and files that do not state their split belong, if the task knows.
    pub(super) split: Option<Split>,
}

/// The answer of a gold, which is `{"answer": …}`, a text or a number.
pub(super) fn gold_text(gold: &Value) -> Result<String, String> {
    let (value, what) = match gold {
        Value::Object(object) => match object.get("answer") {
            Some(answer) => (answer, "the gold's `answer`"),
            None => return Err("the gold has no `answer`".to_owned()),
        },
        other => (other, "the gold"),
    };
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{what} is {}, not text", kind_of(other))),
    }
}

/// What a JSON value is, as text.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
