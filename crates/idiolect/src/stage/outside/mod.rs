//! Outside: answers that another program asked a model for become problems, traces and evaluation
//! rows. Answers are judged by this program's own verification, so that evaluations of every origin
//! are of one kind; what the other program made of them is kept beside (`theirs`).

mod find;
mod given;
mod source;
mod survey;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::outside::{AnsweredRow, Program, Reply, answers, is_right};
use idiolect_core::record::{
    Decoding, EvalRow, Finish, Origin, OriginKind, Problem, Split, Trace, Verdict,
};
use idiolect_core::store::{BadRow, Meta, Opened, Output, Rows, StoreError};
use idiolect_core::task::{Imported, task};
use serde_json::{Map, Value, json};

use self::find::Finder;
use self::source::{Item, Source};
use self::survey::{Filters, Survey};
use super::code::CodeRunner;
use super::import::{Known, RowTask, columns_of, note_unknown_reasons, remedy, started_over};
use super::verify::{accepted, in_parallel};
use super::{Control, Outcome, StageError};

pub use self::given::{GivenAnswers, given, n_answers};
pub use self::source::{found, recognized, shown, unreadable};

/// What to import of another program's files.
#[derive(Clone, Debug)]
pub struct OutsideSettings {
    /// The task of the problems.
    pub task: RowTask,
    /// The files, each with whose it is.
    pub files: Vec<(PathBuf, Program)>,
    /// Pairs of field and the column of the data set's row that fills it.
    pub columns: Vec<(String, String)>,
    /// The split of every problem; `None`: by the file's name, else test where the file is of an
    /// evaluation, else train.
    pub split: Option<Split>,
    /// The model that wrote every answer; `None`: what the file states.
    pub model: Option<String>,
    /// How every answer ended; `None`: what the file states.
    pub finish: Option<Finish>,
    /// First part of made ids; `None` is the task's name.
    pub set: Option<String>,
    /// `problems.jsonl` that the answers are to; `None`: problems are made of the files.
    pub problems: Option<PathBuf>,
    /// How every answer was decoded; `None`: what the file states, else sampled.
    pub decoding: Option<Decoding>,
    /// Whether an answer that equals the gold only when rounded is correct instead of `ungraded`.
    pub accept_rounded: bool,
    /// What to write; at least one.
    pub outputs: Outputs<PathBuf>,
}

/// Something for each kind of output that is wanted.
#[derive(Clone, Debug)]
pub struct Outputs<T> {
    /// `problems.jsonl`.
    pub problems: Option<T>,
    /// `traces.jsonl`.
    pub traces: Option<T>,
    /// `eval.jsonl`.
    pub evaluation: Option<T>,
}

impl<T> Outputs<T> {
    /// Those that are wanted, the one that refused rows are written beside first.
    fn wanted(&self) -> impl Iterator<Item = &T> {
        self.problems
            .iter()
            .chain(&self.traces)
            .chain(&self.evaluation)
    }

    fn wanted_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let Self {
            problems,
            traces,
            evaluation,
        } = self;
        problems.iter_mut().chain(traces).chain(evaluation)
    }
}

/// Answers that are judged together.
const AT_ONCE: usize = 256;

/// Imports; the outcome is that of the first output that is wanted. Every file is read twice: what
/// decides the provenance stands all over it. An unfinished output starts over.
pub fn import(settings: &OutsideSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let sources = settings
        .files
        .iter()
        .map(|(path, program)| Source::open(path, *program, settings))
        .collect::<Result<Vec<_>, _>>()?;
    let finder = Finder::new(settings)?;
    let code = match settings.outputs.evaluation {
        Some(_) => CodeRunner::for_tasks(settings.task.names(), control)?,
        None => CodeRunner::for_tasks([], control)?,
    };
    let survey = Survey::of(&sources, &finder)?;
    survey.check(settings)?;
    let (rows, evaluation) = (
        rows_meta(settings, &sources, &finder),
        survey.evaluation_meta(settings, &sources, &code),
    );
    let path = settings
        .outputs
        .wanted()
        .next()
        .ok_or_else(|| StageError::usage("nothing is to be written", ""))?;
    let opened = Outputs {
        problems: open(settings.outputs.problems.as_deref(), &rows, control)?,
        traces: open(settings.outputs.traces.as_deref(), &rows, control)?,
        evaluation: open(settings.outputs.evaluation.as_deref(), &evaluation, control)?,
    };
    let complete = |opened: &Opened| matches!(opened, Opened::Complete(_));
    if opened.wanted().all(complete)
        && let Some(Opened::Complete(meta)) = opened.wanted().next()
    {
        return Outcome::of(path, meta, true, control);
    }
    let outputs = Outputs {
        problems: over(opened.problems, settings.outputs.problems.as_deref(), &rows)?,
        traces: over(opened.traces, settings.outputs.traces.as_deref(), &rows)?,
        evaluation: over(
            opened.evaluation,
            settings.outputs.evaluation.as_deref(),
            &evaluation,
        )?,
    };
    for note in survey.notes(settings) {
        control.progress.note("import", &note);
    }
    let mut writing = Writing {
        settings,
        finder: &finder,
        code: &code,
        control,
        outputs,
        known: Known::default(),
        samples: BTreeMap::new(),
        pending: Vec::new(),
        reasons: BTreeMap::new(),
        seen: 0,
        first_refused: None,
    };
    let mut meter = control.progress.begin("import", "rows", None, 0);
    for (source, filters) in sources.iter().zip(survey.filters()) {
        source.each(|item| {
            meter.advance(1);
            writing.item(source, filters, item)
        })?;
    }
    drop(meter);
    writing.judge()?;
    writing.finish(path)
}

fn open(
    path: Option<&Path>,
    meta: &Meta,
    control: Control<'_>,
) -> Result<Option<Opened>, StageError> {
    let opened = path.map(|path| Output::open(path, meta, control.overwrite));
    Ok(opened.transpose()?)
}

fn over(
    opened: Option<Opened>,
    path: Option<&Path>,
    meta: &Meta,
) -> Result<Option<Output>, StageError> {
    match (opened, path) {
        (Some(opened), Some(path)) => started_over(opened, path, meta).map(Some),
        _ => Ok(None),
    }
}

/// The provenance of problems and traces.
fn rows_meta(settings: &OutsideSettings, sources: &[Source], finder: &Finder) -> Meta {
    let mut meta = Meta::of("import");
    for (index, source) in sources.iter().enumerate() {
        meta.input(&format!("file.{index}"), source.hash());
        meta.setting(&format!("program.{index}"), source.program.as_str());
        meta.setting(&format!("split.{index}"), source.split);
        if let Some(model) = &source.model {
            meta.setting(&format!("model.{index}"), model);
        }
    }
    if let Some(finish) = settings.finish {
        meta.setting("finish", finish);
    }
    finder.record(&mut meta);
    let outputs = &settings.outputs;
    let wanted = [
        outputs.problems.is_some(),
        outputs.traces.is_some(),
        outputs.evaluation.is_some(),
    ];
    meta.setting("columns", &settings.columns)
        .setting("set", set_of(settings))
        .setting("outputs", wanted)
        .version("task", settings.task.versions());
    meta
}

fn set_of(settings: &OutsideSettings) -> String {
    let set = settings.set.clone();
    set.unwrap_or_else(|| settings.task.name().to_owned())
}

/// An answer before it is judged.
struct Pending {
    problem: Problem,
    trace: Result<Trace, String>,
    sample: usize,
    decoding: Decoding,
    n_tokens: Option<u64>,
    theirs: Value,
}

/// Import while it goes.
struct Writing<'a> {
    settings: &'a OutsideSettings,
    finder: &'a Finder,
    code: &'a CodeRunner,
    control: Control<'a>,
    outputs: Outputs<Output>,
    known: Known,
    /// Answers so far by problem.
    samples: BTreeMap<String, usize>,
    pending: Vec<Pending>,
    /// Finish reasons that are not known.
    reasons: BTreeMap<String, u64>,
    seen: u64,
    /// The columns of the first row that was read, and refused.
    first_refused: Option<Vec<String>>,
}

impl Writing<'_> {
    fn item(&mut self, source: &Source, filters: &Filters, item: Item) -> Result<(), StageError> {
        self.seen += 1;
        if self.control.stop.requested() {
            return Err(StageError::Interrupted);
        }
        let taken = match &item.row {
            Err(reason) => Err(reason.clone()),
            Ok(row) => match filters.repeats(row, item.number) {
                // Another filter of answers that are here already.
                Ok(true) => return Ok(()),
                Ok(false) => self.row(source, filters, row, &item),
                Err(reason) => Err(reason),
            },
        };
        let refused = match taken {
            Ok(replies) => replies,
            Err(reason) => {
                if let (None, Ok(row)) = (&self.first_refused, &item.row) {
                    self.first_refused = Some(columns_of(&row.columns));
                }
                vec![reason]
            }
        };
        for reason in refused {
            self.refuse(item.refused(source, &reason))?;
        }
        if self.pending.len() < AT_ONCE {
            return Ok(());
        }
        self.judge()
    }

    fn refuse(&mut self, bad: BadRow) -> Result<(), StageError> {
        match self.outputs.wanted_mut().next() {
            Some(output) => Ok(output.append_refused(&bad)?),
            None => Ok(()),
        }
    }

    /// Takes a row: its problem, its traces, and its answers to be judged. Gives why replies are none,
    /// where nothing is judged: each is refused alone.
    ///
    /// # Errors
    /// Why nothing of the row can be taken.
    fn row(
        &mut self,
        source: &Source,
        filters: &Filters,
        row: &AnsweredRow,
        item: &Item,
    ) -> Result<Vec<String>, String> {
        let mut imported = self.finder.problem(row, source, item.number)?;
        let scores = filters.scores(row);
        let judges = self.settings.outputs.evaluation.is_some();
        let (mut pending, mut refused) = (Vec::new(), Vec::new());
        for (place, reply) in row.replies.iter().enumerate() {
            let theirs = theirs(source.program, row, place, &scores);
            let mut trace = trace(self.settings, source, row, reply, &imported.problem);
            if let Ok((trace, unknown)) = &mut trace {
                beside(trace, source.program, row, &theirs);
                if let Some(reason) = unknown {
                    *self.reasons.entry(reason.clone()).or_default() += 1;
                }
            }
            let trace = trace.map(|(trace, _)| trace);
            match &trace {
                Ok(trace) => imported.traces.push(trace.clone()),
                // Where answers are judged, one that is none is a row too.
                Err(_) if judges => {}
                Err(reason) => {
                    refused.push(reason.clone());
                    continue;
                }
            }
            pending.push((trace, reply.n_tokens, theirs));
        }
        // The share that is refused is one of answers, as refusals are.
        if !judges {
            self.seen += (row.replies.len() as u64).saturating_sub(1);
        }
        if pending.is_empty() {
            return Ok(refused);
        }
        let mut problem = imported.problem.clone();
        let new = self.known.admit(imported, item.line)?;
        problem.id.clone_from(&new.id);
        if let (Some(output), Some(problem)) = (&mut self.outputs.problems, &new.problem) {
            output.append(problem).map_err(|error| error.to_string())?;
        }
        if let Some(output) = &mut self.outputs.traces {
            for trace in &new.traces {
                output.append(trace).map_err(|error| error.to_string())?;
            }
        }
        let decoding = survey::decoding(row, self.settings);
        for (trace, n_tokens, theirs) in pending {
            let sample = self.samples.entry(problem.id.clone()).or_default();
            self.pending.push(Pending {
                problem: problem.clone(),
                trace,
                sample: *sample,
                decoding,
                n_tokens,
                theirs,
            });
            *sample += 1;
        }
        Ok(refused)
    }

    /// Judges what is waiting, in its order.
    fn judge(&mut self) -> Result<(), StageError> {
        let pending = std::mem::take(&mut self.pending);
        let Some(output) = &mut self.outputs.evaluation else {
            return Ok(());
        };
        let rounded = self.settings.accept_rounded;
        let rows = in_parallel(&pending, self.control.threads, |answer| {
            judged(answer, self.code, rounded)
        });
        self.code.check()?;
        for row in rows {
            output.append(&row)?;
        }
        Ok(())
    }

    fn finish(self, path: &Path) -> Result<Outcome, StageError> {
        note_unknown_reasons(&self.reasons, self.control);
        let mut outputs = self.outputs;
        let rejected = outputs.wanted().next().map_or(0, Output::rejected);
        if self.control.too_many(rejected, self.seen) {
            // A part of an evaluation is none, and the corrected command must find the place free.
            for output in [
                outputs.problems.take(),
                outputs.traces.take(),
                outputs.evaluation.take(),
            ] {
                output.map_or(Ok(()), Output::abandon)?;
            }
            let error = self.control.refusal(path, rejected, self.seen)?;
            // Of rows that cannot be read the reasons say all.
            let Some(columns) = &self.first_refused else {
                return Err(error);
            };
            return Err(error.with_remedy(match self.settings.problems {
                Some(_) => "a problem of --problems is found by its id, by its number under --set and --split, or by the question inside the prompt".to_owned(),
                None => format!(
                    "{}; --problems FILE takes question and gold from problems that are known already",
                    remedy(self.settings.task, Some(columns))
                ),
            }));
        }
        // The one that refused rows lie beside goes last: it is what states that all is there.
        let mut meta = None;
        let in_order = [outputs.evaluation, outputs.traces, outputs.problems];
        for output in in_order.into_iter().flatten() {
            meta = Some(output.finish_appended(self.seen)?);
        }
        let meta = meta.ok_or_else(|| StageError::usage("nothing is to be written", ""))?;
        Outcome::of(path, &meta, false, self.control)
    }
}

/// A reply as a trace, with the reason of its end where that is not known.
///
/// # Errors
/// Why the reply is none.
fn trace(
    settings: &OutsideSettings,
    source: &Source,
    row: &AnsweredRow,
    reply: &Reply,
    problem: &Problem,
) -> Result<(Trace, Option<String>), String> {
    let text = reply.text.clone()?;
    let stated = reply.finish.as_deref();
    let finish = settings.finish.or_else(|| Finish::of_reason(stated?));
    let unknown = stated.filter(|reason| finish.is_none() && *reason != "unknown");
    let model = source.model.clone().or_else(|| row.model.clone());
    let origin = Origin {
        kind: match model {
            Some(_) => OriginKind::Sampled,
            None => OriginKind::Imported,
        },
        model,
        sampling: (!row.sampling.is_empty()).then(|| Value::Object(row.sampling.clone())),
        ..Origin::of(OriginKind::Imported)
    };
    let finish = finish.unwrap_or(Finish::Unknown);
    let trace = Trace::new(&problem.id, &text, finish, origin);
    Ok((trace, unknown.map(str::to_owned)))
}

/// Puts what is known beside an answer into its trace: what the other program made of it, or the
/// fields of a plain row that mean nothing here.
fn beside(trace: &mut Trace, program: Program, row: &AnsweredRow, theirs: &Value) {
    match program {
        Program::Answers => trace.extra.extend(answers::unknown_fields(&row.columns)),
        _ => drop(trace.extra.insert("theirs".to_owned(), theirs.clone())),
    }
}

/// What the other program made of an answer. Scores of several answers together are no answer's own.
fn theirs(program: Program, row: &AnsweredRow, place: usize, scores: &Map<String, Value>) -> Value {
    let name = if row.replies.len() > 1 {
        "scores_of_all"
    } else {
        "scores"
    };
    let mut theirs = Map::new();
    theirs.insert("program".to_owned(), json!(program.as_str()));
    if row.replies.len() > 1 {
        theirs.insert("reply".to_owned(), json!(place));
    }
    if !scores.is_empty() {
        theirs.insert(name.to_owned(), Value::Object(scores.clone()));
    }
    Value::Object(theirs)
}

/// The evaluation row of an answer; what is not known of it is absent.
fn judged(answer: &Pending, code: &CodeRunner, accept_rounded: bool) -> Value {
    let mut row = EvalRow {
        problem_id: answer.problem.id.clone(),
        sample: answer.sample,
        decoding: answer.decoding,
        text: String::new(),
        finish: Finish::Unknown,
        verdict: Verdict::Ungraded,
        reason: None,
        extracted: None,
        n_tokens: answer.n_tokens.unwrap_or(0) as usize,
        read: None,
    };
    match &answer.trace {
        Err(reason) => row.reason = Some(reason.clone()),
        Ok(trace) => {
            let judgement =
                task(answer.problem.task).verify_trace(&answer.problem, trace, code.execute());
            let judgement = accepted(judgement, accept_rounded);
            row.text = trace.text.clone();
            row.finish = trace.finish;
            row.verdict = judgement.verdict;
            row.reason = Some(judgement.reason);
            row.extracted = judgement.extracted;
            row.read = judgement.read;
        }
    }
    let mut row = json!(row);
    if let Value::Object(fields) = &mut row {
        if answer.n_tokens.is_none() {
            fields.shift_remove("n_tokens");
        }
        fields.insert("theirs".to_owned(), answer.theirs.clone());
    }
    row
}

/// What an evaluation that was imported holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Answers.
    pub answers: u64,
    /// Of them correct.
    pub correct: u64,
    /// Of them without a text.
    pub unanswered: u64,
    /// By metric of theirs that says right or wrong: answers with such a grade, and how many have the
    /// same from this program.
    pub agreement: BTreeMap<String, (u64, u64)>,
}

/// Counts an evaluation that [`import`] wrote.
pub fn count(path: &Path) -> Result<Judged, StoreError> {
    let mut found = Judged::default();
    for row in Rows::<Map<String, Value>>::open(path)? {
        let Ok(row) = row? else { continue };
        let verdict = row.value.get("verdict").and_then(Value::as_str);
        found.answers += 1;
        found.correct += u64::from(verdict == Some("correct"));
        let text = row.value.get("text").and_then(Value::as_str);
        found.unanswered += u64::from(verdict == Some("ungraded") && text == Some(""));
        let scores = row
            .value
            .get("theirs")
            .and_then(|theirs| theirs.get("scores"));
        for (metric, score) in scores.and_then(Value::as_object).into_iter().flatten() {
            if let Some(right) = is_right(score) {
                let (graded, same) = found.agreement.entry(metric.clone()).or_default();
                *graded += 1;
                *same += u64::from(right == (verdict == Some("correct")));
            }
        }
    }
    Ok(found)
}

/// An imported problem without traces.
fn alone(problem: Problem) -> Imported {
    Imported {
        problem,
        traces: Vec::new(),
        unknown_finish: None,
        numbered: false,
    }
}
