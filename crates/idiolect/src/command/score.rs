//! `idiolect score`.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Show so many of the traces that are nearest to the student's own distribution, and as many of
    /// the farthest, by NLL a token
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    show: usize,
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
    let mut output = CommandOutput::rows(&settings.output, &outcome, &facts, arguments.common.json);
    if arguments.show > 0 {
        let found = extremes(&settings, arguments.show)?;
        for (name, rows) in [("nearest", &found[0]), ("farthest", &found[1])] {
            output.text.push_str(&format!("\n{name}, nats a token:"));
            for row in rows {
                output.text.push_str(&format!(
                    "\n  {:.3}  {}  {}",
                    row.nll_per_token, row.trace_id, row.text
                ));
            }
            if let Value::Object(document) = &mut output.json {
                document.insert(name.to_owned(), json!(rows));
            }
        }
    }
    Ok(output)
}

/// A trace that is shown.
#[derive(Clone, Debug, serde::Serialize)]
struct Shown {
    trace_id: String,
    nll_per_token: f64,
    /// Its beginning.
    text: String,
}

/// Characters of a trace that are shown.
const BEGINNING: usize = 90;

/// The nearest and the farthest scored rows, each from its end of the order.
fn extremes(settings: &ScoreSettings, n: usize) -> Result<[Vec<Shown>; 2], StageError> {
    let mut order: Vec<(f64, String)> = Vec::new();
    for row in Rows::<ScoreRow>::open(&settings.output)? {
        let Ok(row) = row? else { continue };
        if row.value.n_tokens > 0 {
            let nll = row.value.nll_nats / row.value.n_tokens as f64;
            order.push((nll, row.value.trace_id));
        }
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let nearest = order.iter().take(n);
    let farthest = order.iter().rev().take(n);
    let wanted: BTreeSet<&str> = nearest
        .clone()
        .chain(farthest.clone())
        .map(|(_, id)| id.as_str())
        .collect();
    let texts = texts(&settings.input, &wanted)?;
    let shown = |(nll, id): &(f64, String)| Shown {
        trace_id: id.clone(),
        nll_per_token: round(*nll),
        text: texts.get(id).cloned().unwrap_or_default(),
    };
    Ok([nearest.map(shown).collect(), farthest.map(shown).collect()])
}

/// The beginnings of some rows of the input, by trace id, or by line where they have none.
fn texts(
    input: &ScoreInput,
    wanted: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, StageError> {
    let files = match input {
        ScoreInput::Traces { traces, .. } => traces.clone(),
        ScoreInput::Data(data) => vec![data.clone()],
    };
    let mut found = BTreeMap::new();
    for file in files {
        for row in Rows::<Value>::open(&file)? {
            let Ok(row) = row? else { continue };
            let text_of = |name: &str| row.value.get(name).and_then(Value::as_str);
            let id = text_of("trace_id").or_else(|| text_of("id"));
            let id = id.map_or_else(|| row.line.to_string(), str::to_owned);
            if !wanted.contains(id.as_str()) {
                continue;
            }
            let text = text_of("text").or_else(|| text_of("completion"));
            let words: Vec<&str> = text.unwrap_or_default().split_whitespace().collect();
            let text: String = words.join(" ").chars().take(BEGINNING).collect();
            found.insert(id, text);
        }
    }
    Ok(found)
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
