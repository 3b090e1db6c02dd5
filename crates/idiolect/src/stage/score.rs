//! Score: how near each trace is to the student's own distribution.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use idiolect_core::record::{ScoreRow, Trace};
use idiolect_core::scores::{Identity, fold};
use idiolect_core::store::tokens::{self, TokenRow};
use idiolect_core::store::{
    BadRow, Ending, Key, Meta, Occurrences, Opened, Output, hash_input, refuse_foreign,
    write_further,
};
use idiolect_model::{
    Context, Example, ModelInfo, RowError, Score, Scored, TokenScore, TraitCounts,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::Answers;
use super::inputs::{DataRow, Input, Problems, PromptKind, Prompts, id_of, record_model};
use super::verify::UNREADABLE;
use super::{Control, Outcome, StageError};

/// What to score.
#[derive(Clone, Debug)]
pub enum ScoreInput {
    /// Traces after their problems' prompts.
    Traces {
        /// `problems.jsonl`.
        problems: PathBuf,
        /// Files of traces, in order.
        traces: Vec<PathBuf>,
        /// A built-in prompt or a file; `None` is the task's default.
        prompt: Option<String>,
    },
    /// Rows of prompt and completion, or of messages.
    Data(PathBuf),
}

/// What to score, and where to.
#[derive(Clone, Debug)]
pub struct ScoreSettings {
    /// The rows.
    pub input: ScoreInput,
    /// `scores.jsonl`.
    pub output: PathBuf,
    /// `tokens.parquet`, where wanted.
    pub tokens: Option<PathBuf>,
}

/// Rows and bytes of text between which rows of one prompt are brought together: this bounds
/// memory.
const WINDOW_ROWS: usize = 4096;
const WINDOW_BYTES: usize = 16 << 20;

/// Writes one score row (and one row of token scores) a row, in the order of the rows. Rows with
/// one context reach the model together, whatever their order in the file.
pub fn score(
    settings: &ScoreSettings,
    model: &mut dyn Score,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let source = Source::open(&settings.input)?;
    let mut meta = Meta::of("score");
    source.record(&mut meta);
    record_model(&mut meta, model.info());
    for (name, value) in model.recorded() {
        meta.setting(&name, value);
    }
    meta.setting("tokens", settings.tokens.is_some());
    // A finished scoring whose token scores were removed has to be done again.
    let tokens = settings.tokens.as_ref().filter(|_| !control.is_shard());
    let lost = tokens.is_some_and(|path| !path.exists());
    if let Some(path) = tokens {
        refuse_foreign(path)?;
    }
    let output = match control.open(&settings.output, &meta)? {
        Opened::Complete(meta) if !lost => {
            if let Some(path) = tokens {
                hash_input(path)?;
            }
            return Outcome::of(&settings.output, &meta, true, control);
        }
        Opened::Complete(_) => Output::open(&settings.output, &meta, true)?,
        unfinished => unfinished,
    };
    let Opened::Unfinished(mut output) = output else {
        return Err(StageError::failed("the output cannot be started over", ""));
    };
    let mut scoring = Scoring {
        info: model.info().clone(),
        output: &mut output,
        with_tokens: settings.tokens.is_some(),
        traits: TraitCounts::default(),
    };
    let order = scoring.all(&source, model, control)?;
    for note in scoring.traits.notes() {
        control.progress.note("score", &note);
    }
    if let Some(path) = tokens {
        write_further(path, &meta, || {
            tokens::write(path, |put| {
                output.each_row(&order, |_, row| match token_row(row) {
                    Some(row) => put(row),
                    None => Ok(()),
                })
            })
        })?;
    }
    let refused = source.bad_problems();
    let ending = Ending {
        order: &order,
        refused,
        seen: (order.len() + refused.len()) as u64,
    };
    let meta = control.finish(&settings.output, output, |output| {
        output.finish_with(&ending, score_row)
    })?;
    Outcome::of(&settings.output, &meta, false, control)
}

/// The row of `scores.jsonl` of a trace that the model of `info` scored.
pub fn sums(
    scored: &Scored,
    trace_id: &str,
    problem_id: Option<&str>,
    info: &ModelInfo,
) -> ScoreRow {
    fold(
        &scored.tokens,
        Identity {
            trace_id,
            problem_id,
            model: &info.hash,
            template: info.template,
            // The end token's place: the text may end in one of its own.
            completion_bytes: scored
                .tokens
                .last()
                .map_or(0, |end| end.byte_start as usize),
        },
    )
}

/// What the journal holds of a row until the output is finished.
#[derive(Serialize)]
struct Scores<'a> {
    scores: &'a ScoreRow,
    /// Where token scores are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<&'a [TokenScore]>,
}

fn score_row(row: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Part<'a> {
        #[serde(borrow)]
        scores: &'a RawValue,
    }
    let part: Part<'_> = serde_json::from_str(row.get()).ok()?;
    Some(part.scores.get().to_owned())
}

fn token_row(row: &RawValue) -> Option<TokenRow> {
    #[derive(Deserialize)]
    struct Part {
        scores: ScoreRow,
        tokens: Vec<TokenScore>,
    }
    let Part { scores, tokens } = serde_json::from_str(row.get()).ok()?;
    Some(TokenRow {
        trace_id: scores.trace_id,
        tokens,
    })
}

/// The rows to score, in either form.
struct Source {
    input: Input,
    traces: Option<(Problems, Prompts)>,
}

/// One row to score.
struct Item {
    /// The trace, or the line number of a row without one, and how often that came before.
    key: (String, usize),
    file: Arc<str>,
    line: u64,
    problem_id: Option<String>,
    example: Example,
}

impl Source {
    fn open(input: &ScoreInput) -> Result<Self, StageError> {
        match input {
            ScoreInput::Data(path) => Ok(Self {
                input: Input::open(path)?,
                traces: None,
            }),
            ScoreInput::Traces {
                problems,
                traces,
                prompt,
            } => {
                let problems = Problems::read(problems, &[])?;
                let prompts = Prompts::resolve(&problems, prompt.as_deref(), PromptKind::Solve)?;
                Ok(Self {
                    input: Input::open_all(traces)?,
                    traces: Some((problems, prompts)),
                })
            }
        }
    }

    fn record(&self, meta: &mut Meta) {
        match &self.traces {
            None => drop(meta.input("data", self.input.hash())),
            Some((problems, prompts)) => {
                problems.record(meta);
                prompts.record(meta);
                meta.input("traces", self.input.hash());
            }
        }
    }

    fn bad_problems(&self) -> &[BadRow] {
        self.traces
            .as_ref()
            .map_or(&[], |(problems, _)| &problems.bad)
    }

    /// The item of a raw row.
    fn item(
        &self,
        key: (String, usize),
        file: Arc<str>,
        line: u64,
        row: Value,
    ) -> Result<Item, String> {
        let Some((problems, prompts)) = &self.traces else {
            let row = DataRow::parse(&row)?;
            return Ok(Item {
                key,
                file,
                line,
                problem_id: row.problem_id,
                example: row.example,
            });
        };
        let trace: Trace = serde_json::from_value(row).map_err(|error| error.to_string())?;
        let problem = problems.of(&trace)?;
        let prompt = problems
            .task(problem)
            .prompt(problem, prompts.of(problem))?;
        let example = Example::new(Context::Prompt(prompt), &trace.text);
        Ok(Item {
            key,
            file,
            line,
            problem_id: Some(trace.problem_id),
            example,
        })
    }

    /// The problem of a raw row, whose rows are scored together; the row's own id where it names
    /// none.
    fn problem<'a>(&self, row: &'a Value, id: &'a str) -> &'a str {
        row.get("problem_id").and_then(Value::as_str).unwrap_or(id)
    }

    /// The id of a raw row, which its results are kept under.
    fn id(&self, row: &Value, line: u64) -> String {
        let field = if self.traces.is_some() {
            "id"
        } else {
            "trace_id"
        };
        let id = row.as_object().map(|row| id_of(row, field));
        id.and_then(|id| id.ok().flatten())
            .unwrap_or_else(|| line.to_string())
    }
}

/// Rows read but not scored, in order.
#[derive(Default)]
struct Window {
    rows: Vec<Item>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, row: Item) {
        self.bytes += row.example.completion.len() + 256;
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= WINDOW_ROWS || self.bytes >= WINDOW_BYTES
    }

    /// The items, those of one context together, contexts as they first appear.
    fn by_context(self) -> Vec<Item> {
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        let mut members: Vec<Vec<Item>> = Vec::new();
        for item in self.rows {
            let next = members.len();
            let group = *groups
                .entry(format!(
                    "{:?} {:?}",
                    item.example.context, item.example.chat.variables
                ))
                .or_insert(next);
            if group == next {
                members.push(Vec::new());
            }
            members[group].push(item);
        }
        members.into_iter().flatten().collect()
    }
}

/// Writes scores as they come.
struct Scoring<'a> {
    info: ModelInfo,
    output: &'a mut Output,
    with_tokens: bool,
    traits: TraitCounts,
}

impl Scoring<'_> {
    /// Scores every row that an earlier process did not. Returns the keys in the order of the rows.
    fn all(
        &mut self,
        source: &Source,
        model: &mut dyn Score,
        control: Control<'_>,
    ) -> Result<Vec<Key>, StageError> {
        let lines = source.input.lines();
        let progress = control.progress;
        let mut meter = progress.begin("score", "rows", lines, self.output.done());
        let mut written = |output: &Output| {
            meter.at(output.done());
            control.check_refused(output, lines)
        };
        let (mut order, mut window) = (Vec::new(), Window::default());
        let mut occurrences = Occurrences::default();
        for row in source.input.rows::<Value>()? {
            let row = row?;
            let id = match &row {
                Ok(row) => source.id(&row.value, row.line),
                Err(_) => UNREADABLE.to_owned(),
            };
            let sample = occurrences.next(&id);
            let key = Key::new(&id, sample);
            order.push(key);
            let problem = row
                .as_ref()
                .map_or(UNREADABLE, |row| source.problem(&row.value, &id));
            if !control.takes(problem) || self.output.contains(key) {
                continue;
            }
            let item = row.and_then(|row| {
                let start: String = row.value.to_string().chars().take(200).collect();
                source
                    .item(
                        (id.clone(), sample),
                        Arc::clone(&row.file),
                        row.line,
                        row.value,
                    )
                    .map_err(|reason| BadRow::new(&row.file, row.line, reason, &start))
            });
            match item {
                Ok(item) => window.push(item),
                Err(bad) => {
                    self.output.refuse(&id, sample, &bad)?;
                    control.check_refused(self.output, lines)?;
                }
            }
            if window.is_full() {
                self.window(std::mem::take(&mut window), model, control, &mut written)?;
            }
        }
        self.window(window, model, control, &mut written)?;
        Ok(order)
    }

    fn window(
        &mut self,
        window: Window,
        model: &mut dyn Score,
        control: Control<'_>,
        written: &mut dyn FnMut(&Output) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        let items = window.by_context();
        let examples: Vec<Example> = items.iter().map(|item| item.example.clone()).collect();
        let mut answers = Answers::default();
        model.score(&examples, &mut |index, result| {
            let dealt = self
                .write(&items[index], result)
                .and_then(|()| written(self.output));
            answers.take(dealt, control.stop)
        })?;
        answers.finished(items.len(), control.stop)
    }

    fn write(&mut self, item: &Item, result: Result<Scored, RowError>) -> Result<(), StageError> {
        let (id, sample) = (&item.key.0, item.key.1);
        let scored = match result {
            Ok(scored) => scored,
            Err(error) => {
                let text = &item.example.completion;
                let bad = BadRow::new(&item.file, item.line, error.reason, text);
                return Ok(self.output.refuse(id, sample, &bad)?);
            }
        };
        self.traits.add(scored.traits);
        let scores = sums(&scored, id, item.problem_id.as_deref(), &self.info);
        let row = Scores {
            scores: &scores,
            tokens: self.with_tokens.then_some(&scored.tokens),
        };
        Ok(self.output.push(id, sample, &row)?)
    }
}
