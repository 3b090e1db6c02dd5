//! `idiolect advise`.

use std::path::PathBuf;

use idiolect_core::advice::predict::{Advice, RaceToRun};
use idiolect_core::arms::in_full;
use serde_json::json;

use super::numbers;
use super::options::{CodeOption, Common, ModelOptions, PromptOption, Seed, named};
use super::output::{CommandOutput, table};
use idiolect::exit;
use idiolect::run::finished::FinishedRun;
use idiolect::stage::StageError;
use idiolect::stage::advise::{AdviseSettings, advise, read};
use idiolect::stage::features::FeatureSettings;

/// Advise, before any training, which arm a student would learn most from, and how sure that is
///
/// Looks at a sample of each arm under the student: how surprising it is, whether it can be
/// distinguished from the student's own samples, whether its answers are right, and what one
/// gradient step on it would do to the student's own right and wrong answers. How much each of
/// these counts was learned from finished runs. With --budget it also states what `idiolect race` would
/// cost, which finds the answer out by short trainings, and the command to type; it trains nothing.
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
    /// Also state what a race of these arms would cost that may spend this share of the tokens of
    /// training every arm in full with three seeds, and its command
    #[arg(long, value_name = "FRACTION", value_parser = numbers::budget)]
    budget: Option<f64>,
    #[command(flatten)]
    code: CodeOption,
    #[command(flatten)]
    seed: Seed,
    #[command(flatten)]
    common: Common,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    if arguments.budget.is_some() && arguments.arms.len() < 2 {
        return Err(StageError::usage(
            "--budget is of a race, and a race takes at least two arms",
            "give another arm, or leave --budget out",
        ));
    }
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
        budget: arguments.budget,
    };
    let here = arguments.common.here_alone();
    let mut model = arguments.model.open(&arguments.common, &here)?;
    let mut advice = arguments
        .common
        .with_protection(arguments.code.protection(), |control| {
            advise(&settings, model.as_mut(), control)
        })?;
    let begins = advice
        .ranking
        .iter()
        .all(|arm| arm.gain.is_some() && arm.interval.is_some());
    if let Some(race) = &mut advice.race {
        let typed = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        race.command = race_command(typed, arguments, begins);
    }
    Ok(CommandOutput {
        text: words(&advice),
        json: json!(advice),
        as_json: arguments.common.json,
        code: exit::DONE,
    })
}

/// Options that mean the same to a race: what was typed of them is typed again.
const SHARED: [&str; 9] = [
    "--model",
    "--base",
    "--template",
    "--ignore-config-field",
    "--compute",
    "--problems",
    "--prompt",
    "--max-tokens",
    "--seed",
];

/// The race of the arms, as the advice was asked for. It begins from the advice where it can.
fn race_command(
    mut typed: impl Iterator<Item = String>,
    asked: &Arguments,
    begins: bool,
) -> String {
    let mut words: Vec<String> = vec!["idiolect".to_owned(), "race".to_owned()];
    while let Some(word) = typed.next() {
        let option = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if SHARED.contains(&option) {
            let value = (option == word).then(|| typed.next()).flatten();
            words.push(word);
            words.extend(value);
        }
    }
    let numbers = [
        ("--epochs", asked.epochs.to_string()),
        ("--lr", format!("{:?}", asked.lr)),
        ("--batch-size", asked.batch_size.max(1).to_string()),
        ("--budget", asked.budget.unwrap_or(0.2).to_string()),
    ];
    words.extend(
        numbers
            .into_iter()
            .flat_map(|(name, value)| [name.to_owned(), value]),
    );
    if begins {
        words.extend(["--prior", "advice.json"].map(str::to_owned));
    }
    let arm = |(name, path): &(String, PathBuf)| format!("{name}={}", path.display());
    words.extend(asked.arms.iter().map(arm));
    words.extend(["-o", "race"].map(str::to_owned));
    let quoted = |word: &String| match shlex::try_quote(word) {
        Ok(quoted) => quoted.into_owned(),
        Err(_) => word.clone(),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// What a race would cost, and how to run it.
fn race_words(race: &RaceToRun) -> String {
    let percent = |tokens: u64| 100.0 * tokens as f64 / (race.full_tokens as f64).max(1.0);
    let millions = |tokens: u64| tokens as f64 / 1e6;
    let over = match race.first_rung_tokens as f64 > race.budget * race.full_tokens as f64 {
        true => ", which is more than the budget",
        false => "",
    };
    let save = match race.command.contains("--prior advice.json") {
        true => " (advice.json is what this command prints with --json)",
        false => "",
    };
    format!(
        "\nto find out by short trainings, a race within the budget of {:.1} % would train on at most {:.2}M tokens beside prompts, of {:.2}M for every arm in full with three seeds; its first rung takes {:.1} %{over}{save}:\n  {}",
        100.0 * race.budget,
        millions(race.tokens),
        millions(race.full_tokens),
        percent(race.first_rung_tokens),
        race.command
    )
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
    if let Some(race) = &advice.race {
        text.push_str(&race_words(race));
    }
    for warning in &advice.warnings {
        text.push_str(&format!("\nnote: {warning}"));
    }
    text
}
