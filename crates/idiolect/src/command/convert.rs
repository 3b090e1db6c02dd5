//! `idiolect convert`.

use std::path::PathBuf;

use clap::ValueEnum;
use idiolect_engine::weights::Dtype;
use serde_json::json;

use super::options::{self, Common, ConfigOption};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::convert::{ConvertSettings, Form, convert};
use idiolect::stage::export::{ExportSettings, Shape, export};

/// Write a model in another form, or rows to train on in the shape of another trainer
///
/// `--to merged` adds an adapter to its base model, in f32, and writes a model directory of its
/// own that needs neither. It is written in f32 unless --dtype states otherwise: what an adapter adds
/// is small beside the weights, and a half-precision type rounds part of it away.
///
/// `--to gguf` writes a model, or an adapter merged with its base, as one file for llama.cpp: weights,
/// tokenizer and chat template. What llama.cpp cannot compute is refused, and what it computes
/// otherwise is stated.
///
/// The other forms are of rows (an arm, or any file that `train` takes), one JSON line each: `trl` for
/// TRL's SFT trainer, `trl-messages` as conversations, `openai` for OpenAI's fine-tuning,
/// `llama-factory` with its entry of dataset_info.json beside it, `axolotl` with the parts of each
/// answer that are trained on. A row that says what a form cannot hold is refused.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect convert train/W-lora -o models/W --to merged
  idiolect convert adapter -o models/W --to merged --base models/student --dtype bf16
  idiolect convert train/W -o W.gguf --to gguf --dtype bf16
  idiolect convert arms/W.jsonl -o W-trl.jsonl --to trl
  idiolect convert arms/W.jsonl -o LLaMA-Factory/data/W.jsonl --to llama-factory")]
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
    /// The adapter's base model, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The type of a model's weights; default f32
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DtypeName>,
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
    match arguments.to {
        Format::Merged => model(arguments, Form::Merged),
        Format::Gguf => model(arguments, Form::Gguf),
        Format::Trl => rows(arguments, Shape::Trl),
        Format::TrlMessages => rows(arguments, Shape::TrlMessages),
        Format::Openai => rows(arguments, Shape::Openai),
        Format::LlamaFactory => rows(arguments, Shape::LlamaFactory),
        Format::Axolotl => rows(arguments, Shape::Axolotl),
    }
}

fn model(arguments: &Arguments, form: Form) -> super::Result {
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
    Ok(CommandOutput {
        text: format!("{output}: {what} {}{again}", outcome.hash),
        json: json!({"output": output, field: outcome.hash, "was_complete": outcome.was_complete}),
        as_json: arguments.common.json,
        code: super::code(0),
    })
}

fn rows(arguments: &Arguments, shape: Shape) -> super::Result {
    let of_models = [
        ("--base", arguments.base.is_some()),
        ("--dtype", arguments.dtype.is_some()),
        (
            "--ignore-config-field",
            !arguments.config.ignored_fields.is_empty(),
        ),
    ];
    if let Some((flag, _)) = of_models.into_iter().find(|(_, given)| *given) {
        return Err(StageError::usage(
            format!("{flag}: --to {} writes rows, not a model", shape.name()),
            "leave it out",
        ));
    }
    let settings = ExportSettings {
        input: arguments.input.clone(),
        shape,
        output: arguments.output.to_path_buf(),
    };
    let outcome = arguments
        .common
        .with_control(|control| export(&settings, control))?;
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &[("to", json!(shape.name()))],
        arguments.common.json,
    ))
}
