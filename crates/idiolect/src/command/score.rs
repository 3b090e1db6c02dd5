//! `idiolect score`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use idiolect_core::record::ScoreRow;
use idiolect_core::store::Rows;
use serde_json::{Value, json};

use super::numbers;
use super::options::{self, Common, EndpointOptions, ModelOptions, PromptOption};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::sandbox::Protection;
use idiolect::stage::StageError;
use idiolect::stage::score::{ScoreInput, ScoreSettings, score};
use idiolect::torch::{Torch, TorchSettings};

/// Score traces under a student: how near is each to the student's own distribution?
///
/// Writes sums and counts of surprisal, rank and entropy a trace, and with --tokens every token's.
/// Rows are in input order, one an input row.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect score --model models/student --problems problems.jsonl --traces traces.jsonl \\
    -o scores.jsonl --tokens tokens.parquet
  idiolect score --model models/student --data rows.jsonl -o scores.jsonl
  idiolect score --model models/student --data rows.jsonl --backend torch --python venv/bin/python \\
    -o scores.jsonl --tokens tokens.parquet
  idiolect score --model http://127.0.0.1:8000/v1#google/gemma-2-2b --tokenizer hf:google/gemma-2-2b \\
    --data rows.jsonl -o scores.jsonl
  idiolect score --model models/student --data rows.jsonl -o scores.jsonl \\
    --server \"vllm serve {model} --host 127.0.0.1 --port {port}\"")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    endpoint: EndpointOptions,
    #[command(flatten)]
    scorer: ScorerOptions,
    /// The traces' problems
    #[arg(
        long,
        value_name = "P",
        required_unless_present = "data",
        requires = "traces"
    )]
    problems: Option<PathBuf>,
    /// Traces to score; may be given again
    #[arg(long, value_name = "T", requires = "problems")]
    traces: Vec<PathBuf>,
    /// Rows of prompt and completion, or of messages
    #[arg(long, value_name = "ROWS", conflicts_with_all = ["problems", "traces", "prompt"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    prompt: PromptOption,
    /// File of scores to write
    #[arg(short, long, value_name = "FILE", value_parser = options::output)]
    output: OutputPath,
    /// File of token scores to write
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    tokens: Option<OutputPath>,
    #[command(flatten)]
    common: Common,
}

/// Who scores.
#[derive(clap::Args, Clone, Debug)]
struct ScorerOptions {
    /// Who computes with a model directory: this program's engine, or torch in a Python environment
    /// of yours, on its GPU
    #[arg(long, value_name = "NAME", default_value = "native")]
    backend: ScorerName,
    /// With --backend torch: the interpreter of the environment that holds torch, transformers and,
    /// for adapters, peft [default: python3]
    #[arg(long, value_name = "FILE")]
    python: Option<String>,
    /// With --backend torch: where it computes, as torch names it: cuda, cuda:1, mps, cpu; default
    /// the best there is
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// With --backend torch: tokens that it computes at once; it takes less where memory runs out
    /// [default: 16384]
    #[arg(long, value_name = "N", value_parser = numbers::tokens)]
    batch_tokens: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScorerName {
    Native,
    Torch,
}

impl ScorerOptions {
    /// How the torch worker is run, where it scores.
    fn resolve(&self) -> Result<Option<TorchSettings>, StageError> {
        let default = TorchSettings::default();
        if self.backend == ScorerName::Torch {
            return Ok(Some(TorchSettings {
                python: self.python.clone().unwrap_or(default.python),
                device: self.device.clone(),
                batch_tokens: self.batch_tokens.unwrap_or(default.batch_tokens),
            }));
        }
        let given = [
            ("--python", self.python.is_some()),
            ("--device", self.device.is_some()),
            ("--batch-tokens", self.batch_tokens.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => Err(StageError::usage(
                format!("{flag} is of scoring by torch"),
                "--backend torch",
            )),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let input = match (&arguments.problems, &arguments.data) {
        (Some(problems), None) => ScoreInput::Traces {
            problems: problems.clone(),
            traces: options::files(&arguments.traces)?,
            prompt: arguments.prompt.prompt.clone(),
        },
        (None, Some(data)) => ScoreInput::Data(data.clone()),
        _ => {
            return Err(StageError::usage(
                "give --problems and --traces, or --data",
                "idiolect score --help shows both",
            ));
        }
    };
    let output = arguments.output.to_path_buf();
    let tokens = arguments.tokens.as_deref().map(Path::to_path_buf);
    let settings = ScoreSettings {
        input,
        output,
        tokens,
    };
    let (outcome, spent) = match arguments.scorer.resolve()? {
        None => {
            let here = arguments
                .common
                .here(&arguments.endpoint, &arguments.output)?;
            let mut model =
                arguments
                    .model
                    .open_to_score(&arguments.common, &arguments.endpoint, &here)?;
            let control = arguments.common.control(&here, Protection::Required);
            let outcome = score(&settings, model.as_score()?, control)?;
            (outcome, arguments.endpoint.spent(model.as_ref()))
        }
        Some(torch) => arguments.common.with_control(|control| {
            let how = arguments
                .model
                .how(control.threads, control.progress, control.stop);
            let mut model = Torch::open(&arguments.model.text.model, &how, &torch)?;
            Ok((score(&settings, &mut model, control)?, Vec::new()))
        })?,
    };
    let mut facts = totals(&settings.output)?;
    facts.extend(spent);
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

/// Sums over all rows, and the means that people look for.
fn totals(output: &Path) -> Result<Vec<(&'static str, Value)>, StageError> {
    let (mut n_tokens, mut n_bytes, mut nll, mut ranks) = (0u64, 0u64, 0f64, Some(0f64));
    for row in Rows::<ScoreRow>::open(output)? {
        if let Ok(row) = row? {
            n_tokens += row.value.n_tokens;
            n_bytes += row.value.n_bytes;
            nll += row.value.nll_nats;
            ranks = ranks.zip(row.value.rank_sum).map(|(sum, rank)| sum + rank);
        }
    }
    let per = |sum: f64, n: u64| {
        if n == 0 {
            Value::Null
        } else {
            json!(round(sum / n as f64))
        }
    };
    Ok(vec![
        ("n_tokens", json!(n_tokens)),
        ("n_bytes", json!(n_bytes)),
        ("nll_nats_per_token", per(nll, n_tokens)),
        ("bits_per_byte", per(nll / std::f64::consts::LN_2, n_bytes)),
        (
            "mean_rank",
            ranks.map_or(Value::Null, |ranks| per(ranks, n_tokens)),
        ),
    ])
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
