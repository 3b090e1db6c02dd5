//! `idiolect convert`.

use std::path::PathBuf;

use clap::ValueEnum;
use idiolect_engine::weights::Dtype;
use serde_json::{Value, json};

use super::options::{self, Common, ConfigOption, ServerOptions};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::launch::{Logs, Servers};
use idiolect::stage::convert::{ConvertSettings, Form, convert};
use idiolect::stage::export::{ExportSettings, Shape, export};
use idiolect::stage::gguf_check::{self, Agreement, GgufCheck};
use idiolect::stage::lm_eval::{LmEvalSettings, lm_eval, written};
use idiolect::stage::table::{TableSettings, table};
use idiolect::stage::{Outcome, StageError};

/// Write a model in another form, rows in the shape of another trainer, or an evaluation in lm-eval's
///
/// `--to merged` adds an adapter to its base model, in f32, and writes a model directory of its
/// own that needs neither. It is written in f32 unless --dtype states otherwise: what an adapter adds
/// is small beside the weights, and a half-precision type rounds part of it away.
///
/// `--to gguf` writes a model, or an adapter merged with its base, as one file for llama.cpp: weights,
/// tokenizer and chat template. What llama.cpp cannot compute is refused, and what it computes
/// otherwise is stated. With --check and --server the file is loaded by llama.cpp, which scores some
/// of the rows given, and the mean difference to the native engine in f32 is stated.
///
/// The other forms are of rows (an arm, or any file that `train` takes), one JSON line each: `trl` for
/// TRL's SFT trainer, `trl-messages` as conversations, `openai` for OpenAI's fine-tuning,
/// `llama-factory` with its entry of dataset_info.json beside it, `axolotl` with the parts of each
/// answer that are trained on. A row that says what a form cannot hold is refused.
///
/// `parquet` writes rows of any kind as a table, with a data card (README.md) beside it. `lm-eval`
/// writes an evaluation as lm-evaluation-harness does: a folder of results_*.json and samples_*.jsonl.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect convert train/W-lora -o models/W --to merged
  idiolect convert adapter -o models/W --to merged --base models/student --dtype bf16
  idiolect convert train/W -o W.gguf --to gguf --dtype bf16
  idiolect convert train/W -o W.gguf --to gguf --check arms/W.jsonl \\
    --server \"llama-server -m {model} --host 127.0.0.1 --port {port}\"
  idiolect convert arms/W.jsonl -o W-trl.jsonl --to trl
  idiolect convert arms/W.jsonl -o LLaMA-Factory/data/W.jsonl --to llama-factory
  idiolect convert arms/W.jsonl -o data/W.parquet --to parquet
  idiolect convert eval/W.jsonl -o results/W --to lm-eval --problems problems.jsonl")]
pub(super) struct Arguments {
    /// What to convert: an adapter directory, for GGUF also a model directory; else a file of rows
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Folder of the model to write, or the file
    #[arg(short, long, value_name = "OUTPUT", value_parser = options::output)]
    output: OutputPath,
    /// The form to write
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// The problems that an evaluation answers, for lm-eval
    #[arg(long, value_name = "FILE")]
    problems: Option<PathBuf>,
    /// The adapter's base model, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The type of a model's weights; default f32
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DtypeName>,
    /// Rows by which a GGUF file is compared with the model: an arm, or any file that `train` takes
    #[arg(long, value_name = "ROWS.jsonl", requires = "command")]
    check: Option<PathBuf>,
    /// Rows to compare by
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..), requires = "check")]
    check_rows: u32,
    #[command(flatten)]
    server: ServerOptions,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Merged,
    Gguf,
    Trl,
    TrlMessages,
    Openai,
    LlamaFactory,
    Axolotl,
    Parquet,
    LmEval,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeName {
    F32,
    Bf16,
    F16,
}

impl DtypeName {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::Bf16,
            Self::F16 => Dtype::F16,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    if arguments.problems.is_some() && !matches!(arguments.to, Format::LmEval) {
        return Err(StageError::usage(
            "--problems: only --to lm-eval reads problems",
            "leave it out",
        ));
    }
    match arguments.to {
        Format::Merged => model(arguments, Form::Merged),
        Format::Gguf => model(arguments, Form::Gguf),
        Format::Trl => rows(arguments, Shape::Trl),
        Format::TrlMessages => rows(arguments, Shape::TrlMessages),
        Format::Openai => rows(arguments, Shape::Openai),
        Format::LlamaFactory => rows(arguments, Shape::LlamaFactory),
        Format::Axolotl => rows(arguments, Shape::Axolotl),
        Format::Parquet => as_table(arguments),
        Format::LmEval => as_lm_eval(arguments),
    }
}

fn model(arguments: &Arguments, form: Form) -> super::Result {
    if let (Some(rows), Form::Merged) = (&arguments.check, form) {
        return Err(StageError::usage(
            format!(
                "--check {}: --to merged writes no GGUF file",
                rows.display()
            ),
            "--check goes with --to gguf",
        ));
    }
    let settings = ConvertSettings {
        input: arguments.input.clone(),
        base: arguments.base.clone(),
        ignored_fields: arguments.config.ignored_fields.clone(),
        form,
        dtype: arguments.dtype.unwrap_or(DtypeName::F32).dtype(),
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| convert(&settings, control))?;
    let again = if outcome.was_complete {
        " (complete before; nothing to do)"
    } else {
        ""
    };
    let output = settings.output.display().to_string();
    let (what, field) = match form {
        Form::Merged => ("model", "model_hash"),
        Form::Gguf => ("file", "hash"),
    };
    let mut text = format!("{output}: {what} {}{again}", outcome.hash);
    let mut json =
        json!({"output": output, field: outcome.hash, "was_complete": outcome.was_complete});
    if let Some(found) = checked(arguments, &settings)? {
        text.push_str(&format!(
            "\nchecked: {} row(s), {} tokens; log-probabilities by the server and by the native engine in f32 differ by {:.1e} nats in the mean and {:.1e} at most",
            found.rows, found.tokens, found.mean, found.most
        ));
        json["check"] = json!({"rows": found.rows, "tokens": found.tokens, "mean_abs_diff_nats": found.mean, "max_abs_diff_nats": found.most});
    }
    Ok(CommandOutput {
        text,
        json,
        as_json: arguments.common.json,
        code: super::code(0),
    })
}

fn checked(
    arguments: &Arguments,
    settings: &ConvertSettings,
) -> Result<Option<Agreement>, StageError> {
    let (Some(rows), Some(server)) = (&arguments.check, arguments.server.settings()?) else {
        return Ok(None);
    };
    let log = Logs::File(options::server_log(&settings.output));
    let check = GgufCheck {
        rows: rows.clone(),
        n: arguments.check_rows as usize,
        servers: &Servers::new(server, &[], log),
    };
    arguments
        .common
        .with_control(|control| gguf_check::check(settings, &check, control))
        .map(Some)
}

/// Refuses what is said of models, where rows are written.
fn without_model_options(arguments: &Arguments, form: &str) -> Result<(), StageError> {
    let of_models = [
        ("--check", arguments.check.is_some()),
        ("--base", arguments.base.is_some()),
        ("--dtype", arguments.dtype.is_some()),
        (
            "--ignore-config-field",
            !arguments.config.ignored_fields.is_empty(),
        ),
    ];
    match of_models.into_iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(StageError::usage(
            format!("{flag}: --to {form} writes rows, not a model"),
            "leave it out",
        )),
    }
}

fn as_table(arguments: &Arguments) -> super::Result {
    without_model_options(arguments, "parquet")?;
    let settings = TableSettings {
        input: arguments.input.clone(),
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| table(&settings, control))?;
    let facts = [("to", json!("parquet")), ("card", json!("README.md"))];
    Ok(written_rows(arguments, &outcome, &facts))
}

fn as_lm_eval(arguments: &Arguments) -> super::Result {
    without_model_options(arguments, "lm-eval")?;
    let problems = arguments.problems.clone().ok_or_else(|| {
        StageError::usage(
            "--to lm-eval: the samples hold questions and right answers, which an evaluation has not",
            "--problems problems.jsonl",
        )
    })?;
    let settings = LmEvalSettings {
        input: arguments.input.clone(),
        problems,
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| lm_eval(&settings, control))?;
    let facts = [("files", json!(written(&settings.output)?))];
    Ok(written_rows(arguments, &outcome, &facts))
}

fn rows(arguments: &Arguments, shape: Shape) -> super::Result {
    without_model_options(arguments, shape.name())?;
    let settings = ExportSettings {
        input: arguments.input.clone(),
        shape,
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| export(&settings, control))?;
    Ok(written_rows(
        arguments,
        &outcome,
        &[("to", json!(shape.name()))],
    ))
}

/// What is said of rows that were written.
fn written_rows(
    arguments: &Arguments,
    outcome: &Outcome,
    facts: &[(&str, Value)],
) -> CommandOutput {
    CommandOutput::rows(&arguments.output, outcome, facts, arguments.common.json)
}
