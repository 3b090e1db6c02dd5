//! `idiolect score`.

use std::path::{Path, PathBuf};

use idiolect_core::record::ScoreRow;
use idiolect_core::store::Rows;
use serde_json::{Value, json};

use super::options::{self, Common, EndpointOptions, ModelOptions, PromptOption};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::score::{ScoreInput, ScoreSettings, score};

/// Score traces under a student: how near is each to the student's own distribution?
///
/// Writes sums and counts of surprisal, rank and entropy a trace, and with --tokens every token's.
/// Rows are in input order, one an input row.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect score --model models/student --problems problems.jsonl --traces traces.jsonl \\
    -o scores.jsonl --tokens tokens.parquet
  idiolect score --model models/student --data rows.jsonl -o scores.jsonl
  idiolect score --model http://127.0.0.1:8000/v1#google/gemma-2-2b --tokenizer hf:google/gemma-2-2b \\
    --data rows.jsonl -o scores.jsonl")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    endpoint: EndpointOptions,
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
    let mut model = arguments
        .model
        .open_to_score(&arguments.common, &arguments.endpoint)?;
    let outcome = arguments
        .common
        .with_control(|control| score(&settings, model.as_score()?, control))?;
    let mut facts = totals(&settings.output)?;
    facts.extend(arguments.endpoint.spent(model.as_ref()));
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
