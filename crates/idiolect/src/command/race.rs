//! `idiolect race`.

use std::path::{Path, PathBuf};

use idiolect_core::advice::predict::Advice;
use idiolect_core::arms::in_full;
use idiolect_core::race::Rules;
use idiolect_core::statistics::normal;
use idiolect_model::{Lora, Model, TrainSettings};
use serde_json::json;

use super::numbers;
use super::options::{self, CodeOption, Common, KvOption, ModelOptions, PromptOption, Seed, named};
use super::output::{CommandOutput, table};
use super::paths::OutputPath;
use super::train::{TrainingOptions, lora};
use idiolect::exit;
use idiolect::stage::StageError;
use idiolect::stage::race::{Expectation, RaceResult, RaceSettings, Stable, race};
use idiolect::stage::student::StudentText;

/// Find out by short trainings which arm a student learns most from, and how sure that is
///
/// All arms are trained for a sixth of the full training (at most --rows rows), those that may still
/// be the best for half of it, then in full. After each rung the trained students answer problems
/// that are in no arm and no test's, the same for all; an arm whose probability of being the best is
/// below --drop-below goes no further. The race ends once an arm is the best with probability
/// --stop-at, once no more than --tolerance points are expected to be lost by taking it, or where
/// the budget does not pay for the next rung. --epochs and the other training options are those of
/// the full training; what a race trained in full is what `idiolect train` would make with the same
/// options, and is kept in DIR/rung-3.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect race --model models/student --problems problems.jsonl --epochs 6 --lr 1e-5 \\
    G=arms/G.jsonl W=arms/W.jsonl H=arms/H.jsonl P=arms/P.jsonl -o race
  idiolect advise --model M --problems P G=G.jsonl W=W.jsonl --json > advice.json
  idiolect race --model M --problems P G=G.jsonl W=W.jsonl --prior advice.json --budget 0.3 -o race")]
pub(super) struct Arguments {
    /// Candidate arms by name
    #[arg(required = true, value_name = "NAME=ARM.jsonl", value_parser = named)]
    arms: Vec<(String, PathBuf)>,
    #[command(flatten)]
    model: ModelOptions,
    /// Problems: those of the arms, and others of split dev or train, which are asked
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    #[command(flatten)]
    prompt: PromptOption,
    /// Share that may be spent of the tokens of training every arm in full with three seeds
    #[arg(long, value_name = "FRACTION", default_value_t = 0.2, value_parser = numbers::budget)]
    budget: f64,
    /// End the race where an arm is the best with this probability
    #[arg(long, value_name = "P", default_value_t = Rules::default().stop_at, value_parser = numbers::share)]
    stop_at: f64,
    /// Drop an arm whose probability of being the best is below this
    #[arg(long, value_name = "P", default_value_t = Rules::default().drop_below, value_parser = numbers::share)]
    drop_below: f64,
    /// End the race where the expected regret is at most this accuracy, a fraction
    #[arg(long, value_name = "FRACTION", default_value_t = Rules::default().tolerance, value_parser = numbers::share)]
    tolerance: f64,
    /// What `idiolect advise --json` printed for these arms: expected gains to begin from
    #[arg(long, value_name = "FILE")]
    prior: Option<PathBuf>,
    /// Rows of each arm in the first rung, at most
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = numbers::step_size)]
    rows: usize,
    /// Problems to ask, at most
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = numbers::step_size)]
    ask: usize,
    /// Tokens after which an answer is cut off
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = numbers::tokens)]
    max_tokens: usize,
    /// Train low-rank adapters instead of all weights: as of `idiolect train`
    #[arg(long, value_name = "r=R,alpha=A,...", value_parser = lora)]
    lora: Option<Lora>,
    #[command(flatten)]
    training: TrainingOptions,
    #[command(flatten)]
    kv: KvOption,
    #[command(flatten)]
    seed: Seed,
    /// Folder of trainings, answers and race.json
    #[arg(short, long, value_name = "DIR", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let seed = arguments.seed.seed;
    let settings = RaceSettings {
        arms: arguments.arms.clone(),
        problems: arguments.problems.clone(),
        prompt: arguments.prompt.prompt.clone(),
        train: TrainSettings {
            lora: arguments.lora.clone(),
            ..arguments.training.resolve(TrainSettings::default(), seed)?
        },
        rows: arguments.rows,
        ask: arguments.ask,
        max_tokens: arguments.max_tokens,
        rules: Rules {
            drop_below: arguments.drop_below,
            stop_at: arguments.stop_at,
            tolerance: arguments.tolerance,
            ..Rules::default()
        },
        budget: arguments.budget,
        prior: match &arguments.prior {
            Some(path) => Some(expectations(path, &arguments.arms)?),
            None => None,
        },
        seed,
        output: arguments.output.to_path_buf(),
    };
    let text = StudentText {
        text: arguments.model.text.open()?,
        max_tokens: None,
    };
    let open = |checkpoint: Option<&Path>| -> Result<Box<dyn Model>, StageError> {
        let options = match checkpoint {
            None => arguments.model.clone(),
            Some(path) => arguments.model.of_checkpoint(path),
        };
        let (threads, progress) = (arguments.common.threads(), arguments.common.progress());
        Ok(Box::new(options.open_here(
            threads,
            &arguments.kv,
            &progress,
        )?))
    };
    let student = Stable {
        open: &open,
        text: &text,
    };
    let result = arguments
        .common
        .with_protection(arguments.code.protection(), |control| {
            race(&settings, &student, control)
        })?;
    Ok(CommandOutput {
        text: words(&result),
        json: json!(result),
        as_json: arguments.common.json,
        code: exit::DONE,
    })
}

/// Half of what an interval of `advise` covers.
const ADVICE_CONFIDENCE: f64 = 0.8;

/// What advice expects of the arms, in their order.
fn expectations(path: &Path, arms: &[(String, PathBuf)]) -> Result<Vec<Expectation>, StageError> {
    let failed = |reason: String| {
        StageError::failed(
            format!("`{}` is no advice on these arms: {reason}", path.display()),
            "give what `idiolect advise --json` printed for the same arms",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let advice: Advice = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let z = 2.0 * normal::quantile(0.5 + ADVICE_CONFIDENCE / 2.0);
    arms.iter()
        .map(|(name, _)| {
            let found = advice.ranking.iter().find(|arm| arm.arm == *name);
            let arm = found.ok_or_else(|| failed(format!("it does not name arm `{name}`")))?;
            let (gain, interval) = arm.gain.zip(arm.interval).ok_or_else(|| {
                failed(format!(
                    "it states no gain of arm `{name}` with its interval"
                ))
            })?;
            let sd = (interval.high - interval.low) / z;
            match gain.is_finite() && sd.is_finite() && sd > 0.0 {
                true => Ok(Expectation { gain, sd }),
                false => Err(failed(format!("the interval of arm `{name}` is none"))),
            }
        })
        .collect()
}

/// For a person.
fn words(result: &RaceResult) -> String {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let head = [
        "arm",
        "P(best)",
        "behind, points",
        "80 %",
        "trained",
        "accuracy, %",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for arm in &result.arms {
        let trained = arm.rungs.last().map_or_else(String::new, |rung| {
            format!("{} × {} rows", epochs(rung.epochs), rung.rows)
        });
        let accuracies: Vec<String> = arm.rungs.iter().map(|r| percent(r.accuracy)).collect();
        rows.push(vec![
            in_full(&arm.arm, &arm.description),
            format!("{:.2}", arm.p_best),
            percent(arm.behind),
            arm.interval.map_or("–".to_owned(), |i| {
                format!("[{}, {}]", percent(i.low), percent(i.high))
            }),
            trained,
            accuracies.join(" → "),
            if arm.unpaid { "over the budget" } else { "" }.to_owned(),
        ]);
    }
    let mut text = format!("{}\n\n{}\n", result.answer, table(&rows));
    text.push_str(&format!(
        "\nasked {} problems; the untrained student answers {} %\nspent {} tokens of {} ({} %)",
        result.problems,
        percent(result.base_accuracy),
        result.spent_tokens,
        result.full_tokens,
        percent(result.spent_fraction),
    ));
    for warning in &result.warnings {
        text.push_str(&format!("\nnote: {warning}"));
    }
    text
}

fn epochs(n: usize) -> String {
    match n {
        1 => "1 epoch".to_owned(),
        n => format!("{n} epochs"),
    }
}
