//! Arguments that several commands share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use idiolect_core::record::{Problem, Split, TaskName};
use idiolect_core::store::{Rows, beside};
use idiolect_engine::local::LocalModel;
use idiolect_engine::text::{Opening, TextModel};
use idiolect_model::{Compute, Model, Sampling, Template};
use serde_json::Value;

use super::numbers;
use super::paths::OutputPath;
use idiolect::hub;
use idiolect::interrupt::Stop;
use idiolect::launch::{Logs, READY_TIMEOUT_S, ServerSettings, Servers};
use idiolect::model::price::{Price, spent};
use idiolect::model::{self, How};
use idiolect::progress::Progress;
use idiolect::sandbox::Protection;
use idiolect::stage::{Control, Extent, StageError};

/// What every command that writes rows takes.
#[derive(Args, Clone, Debug)]
pub(super) struct Common {
    /// Print the result as one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Show no progress
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    pub(super) overwrite: bool,
    /// Share of refused rows above which the command fails
    #[arg(long, value_name = "FRACTION", default_value_t = 0.01, value_parser = numbers::share)]
    pub(super) max_rejects: f64,
    /// Threads to use, default all cores; never changes results
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

impl Common {
    /// Threads to use.
    pub(super) fn threads(&self) -> usize {
        threads(self.threads)
    }

    /// Where progress goes.
    pub(super) fn progress(&self) -> Progress {
        progress(self.quiet)
    }

    /// What a model and a stage of this command share; `endpoint` may name a server to start, whose
    /// log then lies beside `output`.
    pub(super) fn here(
        &self,
        endpoint: &EndpointOptions,
        output: &Path,
    ) -> Result<Here, StageError> {
        let log = Logs::File(server_log(output));
        Ok(Here {
            progress: self.progress(),
            stop: Stop::default(),
            servers: endpoint
                .server
                .settings()?
                .map(|settings| Servers::new(settings, &[], log)),
        })
    }

    /// The same for a command that starts no server.
    pub(super) fn here_alone(&self) -> Here {
        Here {
            progress: self.progress(),
            stop: Stop::default(),
            servers: None,
        }
    }

    /// The control of a stage.
    pub(super) fn control<'a>(&self, here: &'a Here, protection: Protection) -> Control<'a> {
        Control {
            progress: &here.progress,
            stop: &here.stop,
            overwrite: self.overwrite,
            max_rejects: self.max_rejects,
            threads: self.threads(),
            protection,
            extent: Extent::Whole,
        }
    }

    /// Calls a stage with its control.
    pub(super) fn with_control<T>(
        &self,
        stage: impl FnOnce(Control<'_>) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        self.with_protection(Protection::Required, stage)
    }

    /// Calls a stage that may run model-written code.
    pub(super) fn with_protection<T>(
        &self,
        protection: Protection,
        stage: impl FnOnce(Control<'_>) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        stage(Control {
            progress: &self.progress(),
            stop: &Stop::default(),
            overwrite: self.overwrite,
            max_rejects: self.max_rejects,
            threads: self.threads(),
            protection,
            extent: Extent::Whole,
        })
    }
}

/// The log of the servers that a command starts for an output.
pub(super) fn server_log(output: &Path) -> PathBuf {
    beside(output, ".server.log")
}

/// What a model and a stage of one command share.
pub(super) struct Here {
    progress: Progress,
    stop: Stop,
    servers: Option<Servers>,
}

/// Where progress goes.
pub(super) fn progress(quiet: bool) -> Progress {
    if quiet {
        Progress::quiet()
    } else {
        super::progress::stderr()
    }
}

/// As many threads as were asked for, or as there are cores.
pub(super) fn threads(asked: Option<u16>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.map_or_else(cores, usize::from)
}

/// How model-written code is run.
#[derive(Args, Clone, Debug)]
pub(super) struct CodeOption {
    /// Run model-written code (mbpp) without the sandbox, where the kernel offers none: it can do
    /// to this machine whatever you can
    #[arg(long)]
    unsafe_no_sandbox: bool,
}

impl CodeOption {
    /// The protection asked for.
    pub(super) fn protection(&self) -> Protection {
        if self.unsafe_no_sandbox {
            Protection::Waived
        } else {
            Protection::Required
        }
    }
}

/// What an answer counts that equals the gold only when rounded.
#[derive(Args, Clone, Debug)]
pub(super) struct RoundedOption {
    /// Count an answer that equals the gold only when rounded to the digits given (0.3333 for 1/3)
    /// as correct; by default it is ungraded
    #[arg(long)]
    pub(super) accept_rounded: bool,
}

/// The one seed of a command.
#[derive(Args, Clone, Debug)]
pub(super) struct Seed {
    /// Decides every draw; same seed, same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

/// Which model, and how its prompts are rendered: all that is needed without its weights.
#[derive(Args, Clone, Debug)]
pub(super) struct TextOptions {
    /// A model directory in Hugging Face layout, an adapter directory, hf:OWNER/NAME,
    /// http(s)://HOST:PORT/v1#MODEL, or scripted:FILE
    #[arg(long, value_name = "M")]
    pub(super) model: String,
    /// The base model of an adapter directory, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// How prompts are rendered; default chat where the model has a template, else raw
    #[arg(long, value_name = "raw|chat")]
    template: Option<TemplateName>,
    #[command(flatten)]
    config: ConfigOption,
}

/// A model and how its prompts are rendered.
#[derive(Args, Clone, Debug)]
pub(super) struct ModelOptions {
    #[command(flatten)]
    pub(super) text: TextOptions,
    /// Type of the factors of its large products; sums and everything else stay f32. bf16 is
    /// faster on processors that multiply it, and rounds
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    compute: FloatName,
}

/// How a model behind an endpoint is asked.
#[derive(Args, Clone, Debug)]
pub(super) struct EndpointOptions {
    /// Tokenizer and template of an endpoint's model: a directory or hf:OWNER/NAME. Needed to
    /// score through an endpoint
    #[arg(long, value_name = "M", conflicts_with = "command")]
    tokenizer: Option<String>,
    /// Requests to an endpoint at once [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    in_flight: Option<u16>,
    /// Prices of an endpoint's tokens for a million of prompts and of completions, so that the
    /// result states the cost
    #[arg(long, value_name = "PROMPT,COMPLETION", value_parser = Price::parse)]
    price: Option<Price>,
    #[command(flatten)]
    server: ServerOptions,
}

/// A server that is started for a model directory.
#[derive(Args, Clone, Debug)]
pub(super) struct ServerOptions {
    /// Start a server for the model directory, ask it, and stop it at the end. The command holds
    /// {model} and {port}, and {name} where the server is told what to call the model; no shell
    /// runs it
    #[arg(long = "server", value_name = "COMMAND")]
    command: Option<String>,
    /// Seconds until which that server has to be ready
    #[arg(long, value_name = "S", default_value_t = READY_TIMEOUT_S, value_parser = numbers::seconds, requires = "command")]
    ready_timeout: f64,
}

impl ServerOptions {
    /// How the server is started, where one is asked for.
    pub(super) fn settings(&self) -> Result<Option<ServerSettings>, StageError> {
        let Some(command) = &self.command else {
            return Ok(None);
        };
        ServerSettings::new(command, Duration::from_secs_f64(self.ready_timeout))
            .map(Some)
            .map_err(|why| {
                StageError::usage(
                    format!("--server: {why}"),
                    "for example --server \"vllm serve {model} --host 127.0.0.1 --port {port}\"",
                )
            })
    }
}

impl EndpointOptions {
    /// What an endpoint was asked by this process, as a command's results.
    pub(super) fn spent(&self, model: &dyn Model) -> Vec<(&'static str, Value)> {
        model
            .usage()
            .map_or_else(Vec::new, |usage| spent(&usage, self.price))
    }

    fn how<'a>(&'a self, how: How<'a>) -> How<'a> {
        How {
            tokenizer: self.tokenizer.as_deref(),
            in_flight: self.in_flight.map(usize::from),
            ..how
        }
    }
}

/// How a model that writes completions is asked.
#[derive(Args, Clone, Debug)]
pub(super) struct WritingOptions {
    #[command(flatten)]
    pub(super) endpoint: EndpointOptions,
    /// Write requests to files of this folder, in the form of OpenAI's batch API and of
    /// `vllm run-batch`, instead of sending them, and read replies that were put there
    #[arg(long, value_name = "DIR", value_parser = output, conflicts_with_all = ["in_flight", "command"])]
    batch: Option<OutputPath>,
    #[command(flatten)]
    kv: KvOption,
}

/// What of a model's config.json is set aside.
#[derive(Args, Clone, Debug)]
pub(super) struct ConfigOption {
    /// Set a field of the model's config.json aside that this program does not know and that does
    /// not change what the model computes; may be given again
    #[arg(long = "ignore-config-field", value_name = "NAME")]
    pub(super) ignored_fields: Vec<String>,
}

/// A type of numbers by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FloatName {
    F32,
    Bf16,
}

/// A template by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum TemplateName {
    Raw,
    Chat,
}

impl TemplateName {
    /// The template.
    pub(super) fn template(self) -> Template {
        match self {
            Self::Raw => Template::Raw,
            Self::Chat => Template::Chat,
        }
    }
}

/// The text side of a model, without its weights.
pub(super) fn text_model(model: &str, opening: &Opening<'_>) -> Result<TextModel, StageError> {
    Ok(TextModel::open(&model::text_directory(model)?, opening)?)
}

impl TextOptions {
    /// The text side of the model.
    pub(super) fn open(&self) -> Result<TextModel, StageError> {
        text_model(&self.model, &self.opening())
    }

    fn opening(&self) -> Opening<'_> {
        Opening {
            template: self.template.map(TemplateName::template),
            base: self.base.as_deref(),
            ignored_fields: &self.config.ignored_fields,
            ..Opening::default()
        }
    }
}

impl ModelOptions {
    /// How it is opened where no further option states otherwise.
    pub(super) fn how<'a>(
        &'a self,
        threads: usize,
        progress: &'a Progress,
        stop: &'a Stop,
    ) -> How<'a> {
        let compute = match self.compute {
            FloatName::F32 => Compute::F32,
            FloatName::Bf16 => Compute::Bf16,
        };
        How {
            opening: Opening {
                compute,
                ..self.text.opening()
            },
            ..How::here(threads, progress, stop)
        }
    }

    /// Opens it.
    pub(super) fn open<'a>(
        &'a self,
        common: &Common,
        here: &'a Here,
    ) -> Result<Box<dyn Model + 'a>, StageError> {
        let how = self.how(common.threads(), &here.progress, &here.stop);
        model::open(&self.text.model, &how)
    }

    /// The same options of another model: a checkpoint of this one.
    pub(super) fn of_checkpoint(&self, checkpoint: &Path) -> Self {
        let mut options = self.clone();
        options.text.model = checkpoint.to_string_lossy().into_owned();
        options.text.base = None;
        options
    }

    /// Opens it to write completions, wherever it is.
    pub(super) fn open_to_write<'a>(
        &'a self,
        common: &Common,
        writing: &'a WritingOptions,
        here: &'a Here,
    ) -> Result<Box<dyn Model + 'a>, StageError> {
        let how = How {
            batch: writing.batch.as_deref(),
            kv_mib: writing.kv.kv_memory,
            servers: here.servers.as_ref(),
            ..self.how(common.threads(), &here.progress, &here.stop)
        };
        model::open(&self.text.model, &writing.endpoint.how(how))
    }

    /// Opens it to score given completions, wherever it is.
    pub(super) fn open_to_score<'a>(
        &'a self,
        common: &Common,
        endpoint: &'a EndpointOptions,
        here: &'a Here,
    ) -> Result<Box<dyn Model + 'a>, StageError> {
        if endpoint.tokenizer.is_none() && model::is_endpoint(&self.text.model) {
            return Err(StageError::usage(
                format!(
                    "scoring through `{}` needs the tokenizer of its model: token ids are sent",
                    self.text.model
                ),
                "--tokenizer DIR or --tokenizer hf:OWNER/NAME names it",
            ));
        }
        let how = How {
            servers: here.servers.as_ref(),
            ..self.how(common.threads(), &here.progress, &here.stop)
        };
        model::open(&self.text.model, &endpoint.how(how))
    }

    /// Opens it to compute with it in this process.
    pub(super) fn open_here(
        &self,
        threads: usize,
        kv: &KvOption,
        progress: &Progress,
    ) -> Result<LocalModel, StageError> {
        let stop = Stop::default();
        let how = How {
            kv_mib: kv.kv_memory,
            ..self.how(threads, progress, &stop)
        };
        model::local(&self.text.model, &how)
    }
}

/// Memory of a model that writes.
#[derive(Args, Clone, Debug)]
pub(super) struct KvOption {
    /// Memory for keys and values in MiB, default a quarter of what is free up to 4096; changes
    /// the speed, never a text
    #[arg(long, value_name = "MIB")]
    kv_memory: Option<usize>,
}

/// Which prompt problems are asked with.
#[derive(Args, Clone, Debug)]
pub(super) struct PromptOption {
    /// A built-in prompt of the task, or a file with placeholders; default the task's first
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) prompt: Option<String>,
}

/// How tokens are chosen.
#[derive(Args, Clone, Debug)]
pub(super) struct SamplingOptions {
    /// 0 is greedy
    #[arg(long, value_name = "T", value_parser = numbers::temperature)]
    temperature: Option<f32>,
    /// Keep the smallest set of tokens whose probability reaches this
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = numbers::probability)]
    top_p: f32,
    /// Keep this many tokens; 0 keeps all
    #[arg(long, value_name = "N", default_value_t = 0)]
    top_k: usize,
    /// Keep tokens at least this share as probable as the most probable
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = numbers::probability)]
    min_p: f32,
    /// Tokens after which a completion is cut off
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = numbers::tokens)]
    max_tokens: usize,
    /// A text that ends a completion and is cut from it; may be given again
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingOptions {
    /// The settings; a temperature that was not given is `default`.
    pub(super) fn resolve(&self, default: f32) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(default),
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
        }
    }
}

/// Which problems of a file.
#[derive(Args, Clone, Debug)]
pub(super) struct SplitOption {
    /// Only problems of these splits, for example test; default all
    #[arg(long = "split", value_name = "NAME", value_delimiter = ',', value_parser = split())]
    splits: Vec<Split>,
}

impl SplitOption {
    /// The splits; none are all.
    pub(super) fn splits(&self) -> Vec<Split> {
        self.splits.clone()
    }
}

/// A split by name.
pub(super) fn split() -> impl TypedValueParser<Value = Split> {
    let of = |name: String| Split::ALL.into_iter().find(|s| s.as_str() == name);
    PossibleValuesParser::new(Split::ALL.map(Split::as_str))
        .try_map(move |name| of(name).ok_or("no such split"))
}

/// A task by name.
pub(super) fn task() -> impl TypedValueParser<Value = TaskName> {
    PossibleValuesParser::new(TaskName::ALL.map(TaskName::as_str))
        .try_map(|name| name.parse::<TaskName>())
}

/// The files that paths, patterns and names on the hub mean, those of a pattern in order of their
/// names. A path that exists is itself, whatever characters it holds.
pub(super) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, StageError> {
    let mut files = Vec::new();
    for path in paths {
        if let Some(name) = path.to_str().filter(|name| hub::is_dataset_file(name)) {
            let (progress, stop) = (super::progress::stderr(), Stop::default());
            files.push(hub::dataset_file(name, &progress, &stop)?);
            continue;
        }
        files.extend(matched(path)?);
    }
    Ok(files)
}

/// The files that a path or pattern means.
pub(super) fn matched(path: &Path) -> Result<Vec<PathBuf>, StageError> {
    match path.to_str().filter(|text| text.contains(['*', '?', '['])) {
        Some(pattern) if !path.exists() => matching_files(pattern),
        _ => Ok(vec![path.to_owned()]),
    }
}

fn matching_files(pattern: &str) -> Result<Vec<PathBuf>, StageError> {
    let entries = glob::glob(pattern)
        .map_err(|error| StageError::usage(format!("`{pattern}` is no pattern: {error}"), ""))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| StageError::failed(error.to_string(), ""))?;
        if !path.is_dir() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(StageError::failed(
            format!("no file matches `{pattern}`"),
            "a pattern is relative to the working directory; ** matches folders at any depth",
        ));
    }
    files.sort();
    Ok(files)
}

/// `NAME=FILE`.
pub(super) fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("expected NAME=FILE".to_owned()),
    }
}

/// Where rows are written. Standard output carries the command's result.
pub(super) fn output(path: &str) -> Result<OutputPath, String> {
    if path == "-" || path.is_empty() {
        return Err("rows are written to a file, which can be continued; name one".to_owned());
    }
    Ok(OutputPath::new(path))
}

/// Refuses splits that no problem is of: what is asked of nothing shows nothing.
pub(super) fn some_problem(path: &Path, splits: &[Split]) -> Result<(), StageError> {
    // Standard input is read once only.
    if splits.is_empty() || path == Path::new("-") {
        return Ok(());
    }
    let mut there = BTreeSet::new();
    for row in Rows::<Problem>::open(path)? {
        let Ok(row) = row? else { continue };
        if splits.contains(&row.value.split) {
            return Ok(());
        }
        there.insert(row.value.split);
    }
    let listed = |splits: &mut dyn Iterator<Item = &Split>| {
        splits.map(|s| s.as_str()).collect::<Vec<_>>().join(", ")
    };
    Err(StageError::usage(
        format!(
            "no problem of `{}` is of split {}",
            path.display(),
            listed(&mut splits.iter())
        ),
        &format!("its problems are of {}", listed(&mut there.iter())),
    ))
}

/// `FIELD=COLUMN`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((field, column)) if !field.is_empty() && !column.is_empty() => {
            Ok((field.to_owned(), column.to_owned()))
        }
        _ => Err("expected FIELD=COLUMN".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_to_a_file_that_can_be_continued() {
        assert!(output("-").is_err());
        assert_eq!(output("a.jsonl"), Ok(OutputPath::new("a.jsonl")));
    }
}
