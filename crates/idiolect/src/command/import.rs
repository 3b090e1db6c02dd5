//! `idiolect import`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use idiolect_core::outside::Program;
use idiolect_core::record::{Decoding, Finish, Split, TaskName};
use idiolect_core::store::Meta;
use idiolect_core::task::countdown::Difficulty;
use idiolect_core::task::{Field, own_fields, shared_fields};
use serde_json::{Map, Value, json};

use super::numbers;
use super::options::{self, Common, Seed};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::countdown::{DrawSettings, draw};
use idiolect::stage::import::{ImportSettings, RowTask, import};
use idiolect::stage::outside::{
    Outputs, OutsideSettings, count, found, import as from_outside_files, recognized, shown,
    unreadable,
};

/// Read a published data set, or what another program got from a model: problems and traces
///
/// Rows become problems, and the solutions they hold traces.
/// Columns are found by the names that the data sets use; --map names others. Files may be JSON
/// lines, a JSON array, CSV with a line of column names, parquet, or gzipped. Countdown problems can
/// be drawn instead: --generate.
/// A row that holds a model's `response` gives a trace too; rows of one question and gold are one
/// problem. It counts as sampled, for arms G and W, where its model is known, and can join W where it
/// is known to have finished: --model and --finish state so of all rows. Samples to problems that are
/// imported already are read with --problems, by their ids or questions.
///
/// Results of other programs are known by what they hold, or named with --format: samples of
/// lm-evaluation-harness, JSON logs of inspect_ai, details of lighteval, output files of OpenAI's
/// batches, outputs of vLLM's offline inference. Every sample of a problem is kept, and what the other
/// program made of it stands beside it as `theirs`. --eval writes the answers as evaluation rows for
/// `compare`, judged by idiolect's own verification.
#[derive(clap::Args, Debug)]
#[command(after_help = after_help())]
pub(super) struct Arguments {
    /// The task of every row
    #[arg(value_parser = row_task())]
    task: RowTask,
    /// Files of raw rows, or patterns such as 'data/*.parquet'; - is standard input
    #[arg(required_unless_present = "generate", value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    generate: GenerateOptions,
    /// File of problems to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output,
        required_unless_present = "problems")]
    output: Option<OutputPath>,
    /// File of traces to write: the rows' own solutions and responses
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    traces: Option<OutputPath>,
    #[command(flatten)]
    outside: OutsideOptions,
    /// Fill a field from another column; may be given again. A column may lie inside objects and lists: a.b, a.0
    #[arg(long = "map", value_name = "FIELD=COLUMN", value_parser = options::pair)]
    columns: Vec<(String, String)>,
    /// Split of every row, whatever the row states; default what it states, else by the file's name,
    /// else MBPP's numbering, else train
    #[arg(long, value_name = "NAME", value_parser = options::split())]
    split: Option<Split>,
    /// The model that wrote every response, whatever the row states; default the row's `model`
    #[arg(long, value_name = "NAME", conflicts_with = "generate")]
    model: Option<String>,
    /// How every response ended, whatever the row states; default the row's `finish`, else unknown
    #[arg(long, value_name = "HOW", conflicts_with = "generate")]
    finish: Option<FinishName>,
    /// First part of the ids that are made; default the task's name
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// The task of rows: one of all, or that which each names.
fn row_task() -> impl TypedValueParser<Value = RowTask> {
    let named = PossibleValue::new("jsonl")
        .help("Rows that name their task each in the field `task`, as those of problems.jsonl do");
    let tasks = TaskName::ALL.map(|task| PossibleValue::new(task.as_str()));
    PossibleValuesParser::new(tasks.into_iter().chain([named])).map(|name| {
        let task = name.parse::<TaskName>();
        task.map_or(RowTask::Named, RowTask::All)
    })
}

/// How a response ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FinishName {
    /// Its writer ended it
    Stop,
    /// A token limit cut it off
    Length,
    /// Nobody knows
    Unknown,
}

impl FinishName {
    fn finish(self) -> Finish {
        match self {
            Self::Stop => Finish::Stop,
            Self::Length => Finish::Length,
            Self::Unknown => Finish::Unknown,
        }
    }
}

const EXAMPLES: &str = "Examples:
  idiolect import gsm8k train.jsonl test.jsonl -o problems.jsonl --traces human.jsonl
  idiolect import gsm8k rows.parquet --map question=problem --map answer=gold -o problems.jsonl
  idiolect import math 'MATH/train/*/*.json' --split train -o problems.jsonl
  idiolect import mbpp mbpp.jsonl -o problems.jsonl --traces human.jsonl
  idiolect import jsonl problems-of-several-tasks.jsonl -o problems.jsonl
  idiolect import countdown --generate 1000 --numbers 4 --max 100 --seed 7 -o problems.jsonl
  idiolect import gsm8k out/m/samples_gsm8k_2026-01-01T00-00-00.jsonl --eval base.jsonl -o p.jsonl
  idiolect import math logs/*.json --format inspect --traces t.jsonl --eval e.jsonl -o p.jsonl
  idiolect import gsm8k batch-output.jsonl --problems p.jsonl --traces t.jsonl
  idiolect import gsm8k samples.jsonl --problems p.jsonl --map question=q \\
    --map response=completion.text --model qwen2.5-7b --finish stop --traces t.jsonl";

/// The examples, and every field with its names.
fn after_help() -> String {
    let mut help =
        format!("{EXAMPLES}\n\nFields, each under any of its names; --map takes them too:");
    let mut list = |title: &str, fields: &[Field]| {
        help.push_str(&format!("\n  {title}"));
        for field in fields {
            help.push_str(&format!(
                "\n    {}: {}",
                field.names.join(", "),
                field.about
            ));
        }
    };
    for task in TaskName::ALL {
        list(task.as_str(), own_fields(task));
    }
    list("every task", shared_fields());
    help
}

/// Reading what another program got from a model.
#[derive(clap::Args, Debug)]
#[group(skip)]
struct OutsideOptions {
    /// Whose files they are; default by what they hold
    #[arg(long, value_name = "FORMAT", conflicts_with = "generate")]
    format: Option<FormatName>,
    /// Problems that the answers are to, found by their ids or by the question in each prompt; default
    /// they are made of the files
    #[arg(long, value_name = "FILE", conflicts_with_all = ["generate", "output"])]
    problems: Option<PathBuf>,
    /// File of evaluation rows to write: the answers, judged
    #[arg(long, value_name = "FILE", value_parser = options::output, conflicts_with = "generate")]
    eval: Option<OutputPath>,
    /// How every answer was decoded; default what the file states, else sampled
    #[arg(long, value_name = "HOW", requires = "eval")]
    decoding: Option<DecodingName>,
    /// Take an answer for correct that equals the gold only when rounded
    #[arg(long, requires = "eval")]
    accept_rounded: bool,
}

/// Whose files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// Rows of a data set, whatever else they look like
    Rows,
    /// `samples_*.jsonl` of lm-evaluation-harness
    LmEval,
    /// A JSON log of inspect_ai
    Inspect,
    /// `details_*.parquet` of lighteval
    Lighteval,
    /// The output file of an OpenAI batch, or of `vllm run-batch`
    OpenaiBatch,
    /// Rows of vLLM's RequestOutput: `prompt` and `outputs` with `text`
    Vllm,
    /// Rows of one's own to known --problems: `response`, beside `problem_id` or the question
    Answers,
}

impl FormatName {
    fn program(self) -> Option<Program> {
        match self {
            Self::Rows => None,
            Self::LmEval => Some(Program::LmEval),
            Self::Inspect => Some(Program::Inspect),
            Self::Lighteval => Some(Program::Lighteval),
            Self::OpenaiBatch => Some(Program::OpenaiBatch),
            Self::Vllm => Some(Program::Vllm),
            Self::Answers => Some(Program::Answers),
        }
    }
}

/// How answers were decoded.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DecodingName {
    /// The most probable token each time
    Greedy,
    /// Drawn at a temperature
    Sampled,
}

impl DecodingName {
    fn decoding(self) -> Decoding {
        match self {
            Self::Greedy => Decoding::Greedy,
            Self::Sampled => Decoding::Sampled,
        }
    }
}

/// Drawing Countdown problems in place of reading them.
#[derive(clap::Args, Debug)]
#[group(skip)]
struct GenerateOptions {
    /// Draw so many Countdown problems, each proven to have a solution
    #[arg(long, value_name = "N", conflicts_with_all = ["files", "columns", "traces"],
        value_parser = numbers::requests)]
    generate: Option<usize>,
    /// Numbers of a drawn problem, 2 to 6
    #[arg(long, value_name = "N", default_value_t = 4, requires = "generate")]
    numbers: usize,
    /// Largest number drawn
    #[arg(long, value_name = "N", default_value_t = 100, requires = "generate")]
    max: i64,
    /// Largest target drawn
    #[arg(long, value_name = "N", default_value_t = 100, requires = "generate")]
    max_target: i64,
    /// Draw problems with at least so many solutions (more than order and grouping apart)
    #[arg(long, value_name = "N", default_value_t = 1, requires = "generate")]
    min_solutions: usize,
    /// Draw problems with at most so many solutions
    #[arg(long, value_name = "N", requires = "generate")]
    max_solutions: Option<usize>,
    #[command(flatten)]
    seed: Seed,
}

impl GenerateOptions {
    fn difficulty(&self) -> Difficulty {
        Difficulty {
            numbers: self.numbers,
            max_number: self.max,
            max_target: self.max_target,
            min_solutions: self.min_solutions,
            max_solutions: self.max_solutions,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    if let Some(count) = arguments.generate.generate {
        return generated(arguments, count);
    }
    let files = options::files(&arguments.files)?;
    if let Some(files) = outside_files(arguments, &files)? {
        return from_outside(arguments, files);
    }
    let output = rows_output(arguments, &files)?;
    let settings = ImportSettings {
        task: arguments.task,
        files,
        columns: arguments.columns.clone(),
        split: arguments.split,
        model: arguments.model.clone(),
        finish: arguments.finish.map(FinishName::finish),
        set: arguments.set.clone(),
        output: output.to_path_buf(),
        traces: arguments.traces.as_deref().map(Path::to_path_buf),
    };
    let outcome = arguments
        .common
        .with_control(|control| import(&settings, control))?;
    let mut facts = Vec::new();
    if let Some(traces) = &settings.traces {
        let rows = Meta::read(traces)?.map_or(0, |meta| meta.rows);
        facts.push(("traces", json!(rows)));
    }
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

/// Where the problems of plain rows go.
fn rows_output<'a>(arguments: &'a Arguments, files: &[PathBuf]) -> Result<&'a Path, StageError> {
    let outside = &arguments.outside;
    if outside.eval.is_some() {
        if let Some(reason) = files.iter().find_map(|file| unreadable(file)) {
            return Err(StageError::failed(
                format!("--eval: no row can be read: {reason}"),
                "answers of other programs are JSON in UTF-8, or parquet",
            ));
        }
        return Err(StageError::usage(
            "--eval: the files are rows of a data set, not answers that another program got",
            "--problems FILE takes them for answers to those problems; --format states whose they are",
        ));
    }
    arguments
        .output
        .as_deref()
        .ok_or_else(|| StageError::usage("no file to write problems to", "-o FILE"))
}

/// The files with whose they are; `None` where they are rows of a data set.
fn outside_files(
    arguments: &Arguments,
    files: &[PathBuf],
) -> Result<Option<Vec<(PathBuf, Program)>>, StageError> {
    if let Some(format) = arguments.outside.format {
        let of = |program| files.iter().map(|file| (file.clone(), program)).collect();
        return Ok(format.program().map(of));
    }
    let mut known = Vec::new();
    for file in files {
        known.push(recognized(file)?);
    }
    if known.iter().all(Option::is_none) {
        // Rows that are to known problems are answers to them.
        let of = |file: &PathBuf| (file.clone(), Program::Answers);
        let to_known = arguments.outside.problems.is_some();
        return Ok(to_known.then(|| files.iter().map(of).collect()));
    }
    let progress = options::progress(arguments.common.quiet);
    let mut with_program = Vec::new();
    for (file, program) in files.iter().zip(known) {
        let program = program.ok_or_else(|| {
            StageError::usage(
                format!(
                    "`{}` holds rows of a data set, and other files results of another program",
                    file.display()
                ),
                "import them by commands of their own, or state with --format whose all are",
            )
        })?;
        progress.note("import", &found(file, program));
        with_program.push((file.clone(), program));
    }
    Ok(Some(with_program))
}

fn from_outside(arguments: &Arguments, files: Vec<(PathBuf, Program)>) -> super::Result {
    let outside = &arguments.outside;
    let path = |path: &Option<OutputPath>| path.as_deref().map(Path::to_path_buf);
    let outputs = Outputs {
        problems: path(&arguments.output),
        traces: path(&arguments.traces),
        evaluation: path(&outside.eval),
    };
    let written = [
        ("problems", outputs.problems.clone()),
        ("traces", outputs.traces.clone()),
        ("eval", outputs.evaluation.clone()),
    ];
    let Some(main) = written.iter().find_map(|(_, path)| path.clone()) else {
        return Err(StageError::usage(
            "with --problems there is nothing to write",
            "give --traces FILE, --eval FILE or both",
        ));
    };
    let settings = OutsideSettings {
        task: arguments.task,
        files,
        columns: arguments.columns.clone(),
        split: arguments.split,
        model: arguments.model.clone(),
        finish: arguments.finish.map(FinishName::finish),
        set: arguments.set.clone(),
        problems: outside.problems.clone(),
        decoding: outside.decoding.map(DecodingName::decoding),
        accept_rounded: outside.accept_rounded,
        outputs,
    };
    let outcome = arguments
        .common
        .with_control(|control| from_outside_files(&settings, control))?;
    let mut facts = Vec::new();
    for (name, path) in written
        .iter()
        .filter(|(_, path)| path.as_ref() != Some(&main))
    {
        if let Some(path) = path {
            facts.push((*name, json!(Meta::read(path)?.map_or(0, |meta| meta.rows))));
        }
    }
    let judged = settings
        .outputs
        .evaluation
        .as_deref()
        .map(count)
        .transpose()?;
    let agreement = judged.iter().flat_map(|judged| &judged.agreement);
    let named = |metric: &str| format!("as {}", shown(metric));
    let lines: Vec<(String, String)> = agreement
        .clone()
        .map(|(metric, (graded, same))| {
            let line = format!("{same} of {graded} answers have the same grade");
            (named(metric), line)
        })
        .collect();
    if let Some(judged) = &judged {
        facts.push(("correct", json!(judged.correct)));
        if judged.unanswered > 0 {
            facts.push(("without an answer", json!(judged.unanswered)));
        }
    }
    facts.extend(
        lines
            .iter()
            .map(|(name, line)| (name.as_str(), json!(line))),
    );
    let mut output = CommandOutput::rows(&main, &outcome, &facts, arguments.common.json);
    if let Value::Object(document) = &mut output.json {
        // A program takes numbers, under the metrics' whole names.
        document.retain(|name, _| lines.iter().all(|(line, _)| line != name));
        let numbers = |(metric, (graded, same)): (&String, &(u64, u64))| {
            (metric.clone(), json!({"graded": graded, "same": same}))
        };
        if judged.is_some() {
            let numbers: Map<String, Value> = agreement.map(numbers).collect();
            document.insert("agreement".to_owned(), Value::Object(numbers));
        }
    }
    Ok(output)
}

fn generated(arguments: &Arguments, count: usize) -> super::Result {
    if arguments.task != RowTask::All(TaskName::Countdown) {
        return Err(StageError::usage(
            "--generate draws problems of countdown alone",
            "give files to read",
        ));
    }
    let settings = DrawSettings {
        count,
        difficulty: arguments.generate.difficulty(),
        seed: arguments.generate.seed.seed,
        split: arguments.split.unwrap_or(Split::Train),
        set: arguments
            .set
            .clone()
            .unwrap_or_else(|| "countdown".to_owned()),
        output: rows_output(arguments, &[])?.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| draw(&settings, control))?;
    let facts = [
        ("numbers", json!(settings.difficulty.numbers)),
        ("seed", json!(settings.seed)),
    ];
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}
