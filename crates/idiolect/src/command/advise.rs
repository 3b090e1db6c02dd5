//! `idiolect advise`.

use std::path::PathBuf;

use idiolect_core::advice::predict::Advice;
use idiolect_core::arms::in_full;
use serde_json::json;

use super::numbers;
use super::options::{CodeOption, Common, ModelOptions, PromptOption, Seed, named};
use super::output::{CommandOutput, table};
use idiolect::exit;
use idiolect::run::finished::FinishedRun;
use idiolect::stage::advise::{AdviseSettings, advise, read};
use idiolect::stage::features::FeatureSettings;

/// Advise, before any training, which arm a student would learn most from, and how sure that is
///
/// Looks at a sample of each arm under the student: how surprising it is, whether it can be
/// distinguished from the student's own samples, whether its answers are right, and what one
/// gradient step on it would do to the student's own right and wrong answers. How much each of
/// these counts was learned from finished runs.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect advise --model models/student --problems problems.jsonl \\
    G=arms/G.jsonl W=arms/W.jsonl H=arms/H.jsonl
  idiolect advise --model M --problems P G=G.jsonl W=W.jsonl --learn runs/mine --json")]
pub(super) struct Arguments {
    /// Candidate arms by name
    #[arg(required = true, value_name = "NAME=ARM.jsonl", value_parser = named)]
    arms: Vec<(String, PathBuf)>,
    #[command(flatten)]
    model: ModelOptions,
    /// Problems: those of the arms, and some outside them to ask the student
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    #[command(flatten)]
    prompt: PromptOption,
    /// A finished run of your own to learn from too, measured if it is not yet, or its advice.jsonl;
    /// may be given again
    #[arg(long, value_name = "RUN_DIR|FILE")]
    learn: Vec<PathBuf>,
    /// Rows of each arm to look at
    #[arg(long, value_name = "N", default_value_t = 1024)]
    rows: usize,
    /// Problems to ask the student
    #[arg(long, value_name = "N", default_value_t = 1000)]
    ask: usize,
    /// Answers of the student to each
    #[arg(long, value_name = "K", default_value_t = 16, value_parser = numbers::samples)]
    samples: usize,
    /// Tokens after which an answer is cut off
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = numbers::tokens)]
    max_tokens: usize,
    /// Learning rate of the training that is considered
    #[arg(long, default_value_t = 1e-5, value_parser = numbers::rate)]
    lr: f64,
    /// Rows of an optimiser step of it
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = numbers::step_size)]
    batch_size: usize,
    /// Passes over the arm of it, for the cost to know
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = numbers::epochs)]
    epochs: usize,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let learn = arguments.common.with_control(|control| {
        let mut learn = Vec::new();
        for path in &arguments.learn {
            learn.extend(match path.is_dir() {
                true => FinishedRun::open(path)?.measured(control)?,
                false => read(path)?,
            });
        }
        Ok(learn)
    })?;
    let settings = AdviseSettings {
        features: FeatureSettings {
            problems: arguments.problems.clone(),
            arms: arguments.arms.clone(),
            prompt: arguments.prompt.prompt.clone(),
            rows: arguments.rows.max(1),
            batch_size: arguments.batch_size.max(1),
            lr: arguments.lr,
            probe_problems: arguments.ask,
            samples: arguments.samples.max(1),
            max_tokens: arguments.max_tokens,
            all_metrics: false,
            seed: arguments.seed.seed,
        },
        learn,
        epochs: arguments.epochs,
    };
    let here = arguments.common.here_alone();
    let mut model = arguments.model.open(&arguments.common, &here)?;
    let advice = arguments
        .common
        .with_protection(arguments.code.protection(), |control| {
            advise(&settings, model.as_mut(), control)
        })?;
    Ok(CommandOutput {
        text: words(&advice),
        json: json!(advice),
        as_json: arguments.common.json,
        code: exit::DONE,
    })
}

/// For a person.
fn words(advice: &Advice) -> String {
    let points = |share: f64| format!("{:+.1}", 100.0 * share);
    let mut rows = vec![
        ["arm", "expected gain", "80 %", "not distinguished from"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for arm in &advice.ranking {
        rows.push(vec![
            in_full(&arm.arm, &arm.description),
            arm.gain.map_or("–".to_owned(), points),
            arm.interval.map_or("–".to_owned(), |i| {
                format!("[{}, {}]", points(i.low), points(i.high))
            }),
            arm.indistinguishable_from.join(" "),
        ]);
    }
    let mut text = format!("{}\n\n{}\n", advice.answer, table(&rows));
    text.push_str("\ntrusted, by the points that a standard deviation adds:");
    for trust in &advice.trusted {
        let proven = trust.spearman.map_or(String::new(), |rho| {
            format!("; alone it ranked finished runs with {rho:.2}")
        });
        text.push_str(&format!(
            "\n  {:.1}  {}: {}{proven}",
            100.0 * trust.weight,
            trust.feature,
            trust.words
        ));
    }
    match &advice.left_out {
        Some(found) => {
            let of = |rho: Option<f64>| rho.map_or("none".to_owned(), |rho| format!("{rho:.2}"));
            let interval = found.spearman_interval.map_or(String::new(), |i| {
                format!(" [{:.2}, {:.2}]", i.low, i.high.min(1.0))
            });
            text.push_str(&format!(
                "\nlearned from {} finished replicates; with student and task left out, the rank correlation with what came out was {}{interval} on average, the regret {:.1} points",
                advice.replicates,
                of(found.spearman),
                100.0 * found.regret
            ));
            if let Some((rho, regret)) = found.by_name {
                text.push_str(&format!(
                    "; of a lookup by the arms' names {} and {:.1} points",
                    of(rho),
                    100.0 * regret
                ));
            }
        }
        None => text.push_str(&format!(
            "\nlearned from {} finished replicates, too few to state how good the advice is",
            advice.replicates
        )),
    }
    if !advice.cost_to_know.is_empty() {
        text.push_str("\nwhat it would cost to know:");
        for cost in &advice.cost_to_know {
            text.push_str(&format!("\n  {cost}"));
        }
    }
    for warning in &advice.warnings {
        text.push_str(&format!("\nnote: {warning}"));
    }
    text
}
