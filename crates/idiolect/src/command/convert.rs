//! `idiolect convert`.

use std::path::PathBuf;

use clap::ValueEnum;
use idiolect_engine::weights::Dtype;
use serde_json::json;

use super::options::{self, Common, ConfigOption};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::convert::{ConvertSettings, convert};

/// Write a model in another form
///
/// `--to merged` adds an adapter to its base model, in f32, and writes a model directory of its
/// own that needs neither. It is written in f32 unless --dtype states otherwise: what an adapter adds
/// is small beside the weights, and a half-precision type rounds part of it away.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect convert train/W-lora -o models/W --to merged
  idiolect convert adapter -o models/W --to merged --base models/student --dtype bf16")]
pub(super) struct Arguments {
    /// What to convert: an adapter directory
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Folder of the model to write
    #[arg(short, long, value_name = "OUTPUT", value_parser = options::output)]
    output: OutputPath,
    /// The form to write
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// The adapter's base model, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// The type of the weights written
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: DtypeName,
    #[command(flatten)]
    config: ConfigOption,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Merged,
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
    let Format::Merged = arguments.to;
    let settings = ConvertSettings {
        input: arguments.input.clone(),
        base: arguments.base.clone(),
        ignored_fields: arguments.config.ignored_fields.clone(),
        dtype: arguments.dtype.dtype(),
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
    Ok(CommandOutput {
        text: format!("{output}: model {}{again}", outcome.hash),
        json: json!({"output": output, "model_hash": outcome.hash, "was_complete": outcome.was_complete}),
        as_json: arguments.common.json,
        code: super::code(0),
    })
}
