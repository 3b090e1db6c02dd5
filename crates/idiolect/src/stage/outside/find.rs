//! Which problem a row answers: made of the row's own columns, or found among problems that are known
//! already, by its id or by the question inside its prompt. Never by its place.

use std::collections::BTreeMap;
use std::path::Path;

use idiolect_core::outside::{AnsweredRow, Program};
use idiolect_core::record::{Problem, Split, TaskName};
use idiolect_core::store::Meta;
use idiolect_core::task::{ImportRow, Imported, fields, map_columns};
use serde_json::{Map, Value};

use super::super::StageError;
use super::super::import::RowTask;
use super::super::inputs::Problems;
use super::source::Source;
use super::{OutsideSettings, alone, set_of};

/// Bytes of a question by which it is looked for.
const KEY: usize = 12;

pub(super) struct Finder {
    task: RowTask,
    columns: Vec<(String, String)>,
    forced_split: bool,
    set: String,
    known: Option<KnownProblems>,
}

struct KnownProblems {
    problems: Problems,
    /// Problems by the first bytes of their questions.
    questions: BTreeMap<[u8; KEY], Vec<usize>>,
}

impl Finder {
    pub(super) fn new(settings: &OutsideSettings) -> Result<Self, StageError> {
        let plain = |(_, program): &(_, Program)| *program == Program::Answers;
        let known = match &settings.problems {
            None if settings.files.iter().any(plain) => {
                return Err(StageError::usage(
                    "plain rows of answers do not hold their problems",
                    "--problems FILE states which they are to; without --format answers the rows are \
                     those of a data set",
                ));
            }
            None => None,
            Some(path) => Some(KnownProblems::read(path)?),
        };
        Ok(Self::with(settings, known))
    }

    /// Finds the problems among these alone.
    pub(super) fn of(settings: &OutsideSettings, problems: &[Problem]) -> Self {
        Self::with(settings, Some(KnownProblems::of(Problems::held(problems))))
    }

    fn with(settings: &OutsideSettings, known: Option<KnownProblems>) -> Self {
        Self {
            task: settings.task,
            columns: settings.columns.clone(),
            forced_split: settings.split.is_some(),
            set: set_of(settings),
            known,
        }
    }

    /// Adds the problems that are known to an output's provenance.
    pub(super) fn record(&self, meta: &mut Meta) {
        if let Some(known) = &self.known {
            meta.input("problems", &known.problems.hash);
        }
    }

    /// The problem of a row, the `number`th of its file, with its human solution's trace where that is
    /// in the row.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn problem(
        &self,
        row: &AnsweredRow,
        source: &Source,
        number: usize,
    ) -> Result<Imported, String> {
        match &self.known {
            Some(known) => self.among(known, row, source).cloned().map(alone),
            None => self.made(row, source, number),
        }
    }

    fn made(&self, row: &AnsweredRow, source: &Source, number: usize) -> Result<Imported, String> {
        let mut raw = row.columns.clone();
        // Columns of the data set that mean something else here: they would speak of the answer.
        for name in [
            "response",
            "model",
            "finish",
            "finish_reason",
            "stop_reason",
            "done_reason",
        ] {
            raw.shift_remove(name);
        }
        if let RowTask::All(task) = self.task
            && raw.get("task").and_then(Value::as_str) != Some(task.as_str())
        {
            raw.shift_remove("task");
        }
        let mut raw = map_columns(raw, &self.columns)?;
        // A number is one of the data set's, and its id is made of it.
        if let Some(id) = row.id.as_ref().filter(|_| row.index.is_none()) {
            raw.insert("problem_id".to_owned(), Value::from(id.as_str()));
        }
        let task = self.task.of(&raw)?;
        fill(&mut raw, task.name(), row);
        if self.forced_split {
            raw.insert("split".to_owned(), Value::from(source.split.as_str()));
        }
        let at = ImportRow {
            index: row.index.unwrap_or(number),
            split: Some(source.split),
            set: self.set.clone(),
        };
        let imported = task.import(&raw, &at)?;
        // A number that the file states is a name: equal questions under two are two problems.
        Ok(Imported {
            numbered: imported.numbered && row.index.is_none(),
            ..imported
        })
    }

    /// A problem that is known already.
    fn among<'a>(
        &self,
        known: &'a KnownProblems,
        row: &AnsweredRow,
        source: &Source,
    ) -> Result<&'a Problem, String> {
        if let Some(id) = &row.id {
            let named = |id: &str| {
                known
                    .problems
                    .get(id)
                    .or_else(|| known.problems.get(&format!("{}/{id}", self.set)))
            };
            if let Some(problem) = named(id).or_else(|| named(without_sample(id)?)) {
                let prompt = row.prompt.as_deref().unwrap_or_default();
                let is_other = !prompt.is_empty() && !prompt.contains(problem.question.trim());
                // An id in rows of one's own may be the row's, and by chance a problem's.
                if source.program == Program::Answers && is_other {
                    return known.asked_in(prompt).map_err(|_| {
                        format!(
                            "its question is not that of problem `{}`, which has its id",
                            problem.id
                        )
                    });
                }
                return Ok(problem);
            }
        }
        let numbered = || without_sample(row.id.as_deref()?)?.parse().ok();
        if let Some(index) = row.index.or_else(numbered)
            && let Some(problem) = self.numbered(known, source, index)
        {
            // A number says little: another data set has one too.
            let prompt = row.prompt.as_deref().unwrap_or_default();
            if prompt.is_empty() || prompt.contains(problem.question.trim()) {
                return Ok(problem);
            }
            // Its own question may be that of a problem with another number.
            return known.asked_in(prompt).map_err(|_| {
                format!(
                    "its prompt does not hold the question of problem `{}`, which has its number",
                    problem.id
                )
            });
        }
        match row.prompt.as_deref() {
            Some(prompt) => known.asked_in(prompt),
            None => Err(match &row.id {
                Some(id) => format!(
                    "no problem has the id `{}`",
                    id.chars().take(80).collect::<String>()
                ),
                None => "it names no problem and holds no prompt".to_owned(),
            }),
        }
    }

    /// The problem with a number: of the file's split, else, where that is a guess, of the only split
    /// that has it.
    fn numbered<'a>(
        &self,
        known: &'a KnownProblems,
        source: &Source,
        index: usize,
    ) -> Option<&'a Problem> {
        let of = |split: Split| {
            let id = format!("{}/{split}/{index}", self.set);
            known.problems.get(&id)
        };
        if let Some(problem) = of(source.split) {
            return Some(problem);
        }
        if self.forced_split || source.program.evaluates() {
            return None;
        }
        let mut others = Split::ALL.into_iter().filter_map(of);
        others.next().filter(|_| others.next().is_none())
    }
}

impl KnownProblems {
    fn read(path: &Path) -> Result<Self, StageError> {
        let read = Problems::read(path, &[])?;
        if let Some(bad) = read.bad.first() {
            return Err(StageError::failed(
                format!("`{}`, line {}: {}", bad.file, bad.line, bad.reason),
                "--problems takes problems that `idiolect import` wrote",
            ));
        }
        Ok(Self::of(read))
    }

    fn of(problems: Problems) -> Self {
        let mut questions: BTreeMap<[u8; KEY], Vec<usize>> = BTreeMap::new();
        for (index, (_, problem)) in problems.rows.iter().enumerate() {
            if let Some(key) = key_of(problem.question.trim().as_bytes()) {
                questions.entry(key).or_default().push(index);
            }
        }
        Self {
            problems,
            questions,
        }
    }

    /// The problem whose question stands last in a prompt: examples come before it. Of questions that
    /// end at one place the longest.
    fn asked_in(&self, prompt: &str) -> Result<&Problem, String> {
        let bytes = prompt.as_bytes();
        let mut best: Option<(usize, usize, &Problem)> = None;
        let mut several = false;
        for at in 0..bytes.len() {
            let Some(key) = key_of(&bytes[at..]) else {
                break;
            };
            for index in self.questions.get(&key).into_iter().flatten() {
                let problem = &self.problems.rows[*index].1;
                let question = problem.question.trim().as_bytes();
                if !bytes[at..].starts_with(question) {
                    continue;
                }
                let place = (at + question.len(), question.len());
                match best {
                    Some((end, length, _)) if (end, length) > place => {}
                    Some((end, length, _)) if (end, length) == place => several = true,
                    _ => {
                        best = Some((place.0, place.1, problem));
                        several = false;
                    }
                }
            }
        }
        match best {
            Some(_) if several => {
                Err("several problems have the question of its prompt".to_owned())
            }
            Some((_, _, problem)) => Ok(problem),
            None => Err("no problem's question stands in its prompt".to_owned()),
        }
    }
}

/// The first bytes of a text; a shorter text is no question to look for.
fn key_of(text: &[u8]) -> Option<[u8; KEY]> {
    text.get(..KEY)?.try_into().ok()
}

/// An id without the number of a sample at its end: `gsm8k/train/3#2`, `…:2`, `…_2`.
fn without_sample(id: &str) -> Option<&str> {
    let (id, sample) = id.rsplit_once(['#', ':', '_', '@'])?;
    let is_number = !sample.is_empty() && sample.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(id)
}

/// Puts the question and the right answer where the columns have neither under any name.
fn fill(raw: &mut Map<String, Value>, task: TaskName, row: &AnsweredRow) {
    let has = |raw: &Map<String, Value>, first: &str| {
        let field = fields(task).find(|field| field.names[0] == first);
        let names = field.map_or(&[][..], |field| field.names);
        names
            .iter()
            .any(|name| raw.get(*name).is_some_and(|value| !value.is_null()))
    };
    let (question, gold): (&str, &[&str]) = match task {
        TaskName::Gsm8k => ("question", &["answer", "human"]),
        TaskName::Math => ("problem", &["answer", "solution"]),
        TaskName::Countdown => ("question", &["gold", "target"]),
        TaskName::Mbpp => ("question", &["tests", "gold"]),
    };
    if let Some(text) = row.question.as_ref().filter(|_| !has(raw, question)) {
        raw.insert(question.to_owned(), Value::from(text.as_str()));
    }
    let Some(answer) = row
        .gold
        .as_ref()
        .filter(|_| !gold.iter().any(|name| has(raw, name)))
    else {
        return;
    };
    match task {
        TaskName::Gsm8k => {
            raw.insert("answer".to_owned(), Value::from(answer.as_str()));
        }
        // A whole solution, or the answer alone.
        TaskName::Math => {
            let name = if answer.contains("\\boxed") {
                "solution"
            } else {
                "answer"
            };
            raw.insert(name.to_owned(), Value::from(answer.as_str()));
        }
        TaskName::Countdown | TaskName::Mbpp => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_behind_a_mark_is_a_sample() {
        assert_eq!(without_sample("gsm8k/train/3#12"), Some("gsm8k/train/3"));
        assert_eq!(without_sample("a:b"), None);
        assert_eq!(without_sample("gsm8k/train/3"), None);
        assert_eq!(without_sample("a#"), None);
    }
}
