//! Score: how near each trace is to the student's own distribution.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use idiolect_core::record::Trace;
use idiolect_core::scores::{Identity, fold};
use idiolect_core::store::tokens::{self, TokenRow};
use idiolect_core::store::{BadRow, Journal, Meta, Opened, Output};
use idiolect_model::{Context, Example, ModelInfo, RowError, Score, Scored, TraitCounts};
use serde_json::Value;

use super::inputs::{DataRow, Input, Problems, PromptKind, Prompts, record_model};
use super::ordered::{InOrder, finished};
use super::{Control, Outcome, StageError};

/// What to score.
#[derive(Clone, Debug)]
pub(crate) enum ScoreInput {
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
pub(crate) struct ScoreSettings {
    /// The rows.
    pub(crate) input: ScoreInput,
    /// `scores.jsonl`.
    pub(crate) output: PathBuf,
    /// `tokens.parquet`, where wanted.
    pub(crate) tokens: Option<PathBuf>,
}

/// Rows and bytes of text between which rows of one prompt are brought together. A row is written
/// when all before it are, so this bounds memory and what a kill can lose.
const WINDOW_ROWS: usize = 4096;
const WINDOW_BYTES: usize = 16 << 20;

/// Writes one score row (and one row of token scores) a row, in the order of the rows. Rows with
/// one context reach the model together, whatever their order in the file.
pub(crate) fn score(
    settings: &ScoreSettings,
    model: &mut dyn Score,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let source = Source::open(&settings.input)?;
    let mut meta = Meta::of("score");
    source.record(&mut meta);
    record_model(&mut meta, model.info());
    meta.setting("tokens", settings.tokens.is_some());
    // A finished scoring whose token scores were removed has to be done again.
    let lost = settings.tokens.as_ref().is_some_and(|path| !path.exists());
    let output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) if !lost => {
            return Outcome::of(&settings.output, &meta, true, control);
        }
        Opened::Complete(_) => Output::open(&settings.output, &meta, true)?,
        unfinished => unfinished,
    };
    let Opened::Unfinished(mut output) = output else {
        return Err(StageError::failed("the output cannot be started over", ""));
    };
    let tokens = settings
        .tokens
        .as_deref()
        .map(|path| part(path, &mut output))
        .transpose()?;
    for bad in source.bad_problems() {
        output.reject_once(bad)?;
    }
    let mut scoring = Scoring {
        info: model.info().clone(),
        output: &mut output,
        tokens,
        traits: TraitCounts::default(),
    };
    let seen = scoring.all(&source, model, control)?;
    let (traits, tokens) = (scoring.traits, scoring.tokens.take());
    for note in traits.notes() {
        control.progress.note("score", &note);
    }
    if let (Some(path), Some(journal)) = (&settings.tokens, tokens) {
        tokens::finish_part(path, journal)?;
    }
    Outcome::of(&settings.output, &output.finish(seen)?, false, control)
}

/// The journal of token scores, at as many rows as the scores have.
fn part(path: &Path, output: &mut Output) -> Result<Journal, StageError> {
    if let Some(journal) = tokens::continue_part(path, output.rows())? {
        return Ok(journal);
    }
    output.restart()?;
    let journal = tokens::continue_part(path, 0)?;
    journal.ok_or_else(|| StageError::failed("the token scores cannot be started over", ""))
}

/// The rows to score, in either form.
struct Source {
    input: Input,
    traces: Option<(Problems, Prompts)>,
}

/// One row to score.
struct Item {
    file: Arc<str>,
    line: u64,
    trace_id: String,
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
    fn item(&self, file: Arc<str>, line: u64, row: Value) -> Result<Item, String> {
        let Some((problems, prompts)) = &self.traces else {
            let row = DataRow::parse(&row)?;
            let trace_id = row.trace_id.unwrap_or_else(|| line.to_string());
            return Ok(Item {
                file,
                line,
                trace_id,
                problem_id: row.problem_id,
                example: row.example,
            });
        };
        let trace: Trace = serde_json::from_value(row).map_err(|error| error.to_string())?;
        let problem = problems
            .get(&trace.problem_id)
            .ok_or_else(|| format!("no problem has the id `{}`", trace.problem_id))?;
        let prompt = problems
            .task(problem)
            .prompt(problem, prompts.of(problem))?;
        let example = Example::new(Context::Prompt(prompt), &trace.text);
        Ok(Item {
            file,
            line,
            trace_id: trace.id,
            problem_id: Some(trace.problem_id),
            example,
        })
    }
}

/// Rows read but not written, in order.
#[derive(Default)]
struct Window {
    rows: Vec<Result<Item, BadRow>>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, row: Result<Item, BadRow>) {
        self.bytes += row
            .as_ref()
            .map_or(0, |item| item.example.completion.len() + 256);
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= WINDOW_ROWS || self.bytes >= WINDOW_BYTES
    }

    /// Indices of the items, those of one context together, contexts as they first appear.
    fn by_context(&self) -> Vec<usize> {
        let mut groups: BTreeMap<String, usize> = BTreeMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (index, item) in self.rows.iter().enumerate() {
            let Ok(item) = item else { continue };
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
            members[group].push(index);
        }
        members.concat()
    }
}

/// Writes scores as they come.
struct Scoring<'a> {
    info: ModelInfo,
    output: &'a mut Output,
    tokens: Option<Journal>,
    traits: TraitCounts,
}

impl Scoring<'_> {
    fn all(
        &mut self,
        source: &Source,
        model: &mut dyn Score,
        control: Control<'_>,
    ) -> Result<u64, StageError> {
        let mut seen = source.bad_problems().len() as u64;
        let mut meter =
            control
                .progress
                .begin("score", "rows", source.input.lines(), self.output.done());
        let mut window = Window::default();
        for row in source.input.rows::<Value>()? {
            seen += 1;
            let row = row?;
            let (file, line) = match &row {
                Ok(row) => (&*row.file, row.line),
                Err(bad) => (bad.file.as_str(), bad.line),
            };
            if self.output.already(file, line, None)? {
                continue;
            }
            window.push(row.and_then(|row| {
                let text = || row.value.to_string().chars().take(200).collect::<String>();
                let text = text();
                source
                    .item(Arc::clone(&row.file), row.line, row.value)
                    .map_err(|reason| BadRow::new(&row.file, row.line, reason, &text))
            }));
            if window.is_full() {
                self.window(std::mem::take(&mut window), model, control, &mut |n| {
                    meter.at(n)
                })?;
            }
        }
        self.window(window, model, control, &mut |n| meter.at(n))?;
        Ok(seen)
    }

    fn window(
        &mut self,
        window: Window,
        model: &mut dyn Score,
        control: Control<'_>,
        at: &mut dyn FnMut(u64),
    ) -> Result<(), StageError> {
        let order = window.by_context();
        let (mut in_order, mut failed) = (InOrder::new(), None);
        let write = &mut |index: usize, result: Option<Result<Scored, RowError>>| {
            self.write(&window.rows[index], result)?;
            at(self.output.done());
            Ok::<(), StageError>(())
        };
        for (index, row) in window.rows.iter().enumerate() {
            if row.is_err() {
                in_order.put(index, None, &mut *write)?;
            }
        }
        let example = |index: &usize| {
            window.rows[*index]
                .as_ref()
                .ok()
                .map(|item| item.example.clone())
        };
        let examples: Vec<Example> = order.iter().filter_map(example).collect();
        model.score(&examples, &mut |index, result| match in_order.put(
            order[index],
            Some(result),
            &mut *write,
        ) {
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
            Ok(()) if control.stop.requested() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        })?;
        finished(failed, in_order.passed(), window.rows.len(), control.stop)
    }

    /// Writes the row of an input row. Token scores go first: a score row without them could not
    /// be continued.
    fn write(
        &mut self,
        row: &Result<Item, BadRow>,
        result: Option<Result<Scored, RowError>>,
    ) -> Result<(), StageError> {
        let item = match row {
            Err(bad) => return Ok(self.output.reject(bad)?),
            Ok(item) => item,
        };
        let scored = match result {
            Some(Ok(scored)) => scored,
            Some(Err(error)) => {
                let text = &item.example.completion;
                return Ok(self.output.reject(&BadRow::new(
                    &item.file,
                    item.line,
                    error.reason,
                    text,
                ))?);
            }
            None => return Ok(()),
        };
        self.traits.add(scored.traits);
        let scores = fold(
            &scored.tokens,
            Identity {
                trace_id: &item.trace_id,
                problem_id: item.problem_id.as_deref(),
                model: &self.info.hash,
                template: self.info.template,
                // The end token's place: the text may end in one of its own.
                completion_bytes: scored
                    .tokens
                    .last()
                    .map_or(0, |end| end.byte_start as usize),
            },
        );
        if let Some(tokens) = &mut self.tokens {
            tokens.push(&TokenRow {
                trace_id: item.trace_id.clone(),
                tokens: scored.tokens,
            })?;
        }
        Ok(self.output.push(&scores)?)
    }
}
