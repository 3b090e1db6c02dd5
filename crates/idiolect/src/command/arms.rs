//! `idiolect arms`.

use std::path::PathBuf;

use idiolect_core::arms::{Coverage, Matching};
use serde_json::json;

use super::options::{self, Common, PromptOption, Seed};
use super::show::{Shown, table};
use crate::stage::arms::{ArmsSettings, arms, summary};

/// Build matched training sets (arms) from verified traces
///
/// All arms hold the same training problems, one trace each, unless --match says otherwise. Sources:
/// H human, G sampled and correct, W sampled and wrong, Wv W up to its first false step, P
/// paraphrased, F1 to F100 flawed, R content control, S the student's own samples, T any trace. A
/// mixture is W:0.5+G:0.5, a filter W[steps>=2,nll_per_token<1.5], and a curated arm
/// G{by=nll_per_token,per=set,rows=500}, which comes with NAME~random and NAME~length of its size.
/// Without --arm: every plain arm that the traces support. Near duplicates and what repeats a test
/// question are left out and counted; picks.json tells why each row was picked.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect arms --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl \\
    --alignment alignment.jsonl --arm G=G --arm W=W --arm mixed=W:0.5+G:0.5 -o arms
  idiolect arms --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl \\
    --alignment alignment.jsonl --arm near=G{by=nll_per_token} --arm short=W[tokens<=80] --match tokens -o arms")]
pub(super) struct Arguments {
    /// Problems of every split: held-out ones guard against leaks
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to choose from
    #[arg(long, value_name = "T")]
    traces: PathBuf,
    /// Their verdicts
    #[arg(long, value_name = "V")]
    verdicts: PathBuf,
    /// Their alignment, for token counts
    #[arg(long, value_name = "A")]
    alignment: Option<PathBuf>,
    /// An arm; may be given again
    #[arg(long = "arm", value_name = "NAME=SPEC", value_parser = pair)]
    arms: Vec<(String, String)>,
    /// How arms are made equal: problems (the same ones), rows (as many, each of its own problems)
    /// or tokens (of the same problems so many that the totals agree within 1 %)
    #[arg(long = "match", value_name = "WHAT", default_value = "problems", value_parser = matching)]
    matching: Matching,
    /// Rows to keep of each arm, before tokens are matched; default all
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Let W hold traces whose source does not say how they ended, when their answer is readable
    #[arg(long)]
    unknown_finish_is_stop: bool,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    seed: Seed,
    /// Folder of arms to write
    #[arg(short, long, value_name = "DIR", value_parser = options::output)]
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

fn matching(text: &str) -> Result<Matching, String> {
    match text {
        "problems" => Ok(Matching::Problems),
        "rows" => Ok(Matching::Rows),
        "tokens" => Ok(Matching::Tokens),
        _ => Err("expected problems, rows or tokens".to_owned()),
    }
}

/// `NAME=SPEC`, or a source alone, which names itself.
fn pair(text: &str) -> Result<(String, String), String> {
    let named = text
        .split_once('=')
        .filter(|(name, _)| !name.contains(['[', '{']));
    let (name, spec) = named.unwrap_or((text, text));
    if name.is_empty() || spec.is_empty() {
        return Err("expected NAME=SPEC, for example W=W or mixed=W:0.5+G:0.5".to_owned());
    }
    Ok((name.to_owned(), spec.to_owned()))
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let settings = ArmsSettings {
        problems: arguments.problems.clone(),
        traces: arguments.traces.clone(),
        verdicts: arguments.verdicts.clone(),
        alignment: arguments.alignment.clone(),
        arms: arguments.arms.clone(),
        matching: arguments.matching,
        rows: arguments.rows,
        unknown_finish_is_stop: arguments.unknown_finish_is_stop,
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.clone(),
    };
    let outcome = arguments
        .common
        .with_control(|control| arms(&settings, control))?;
    let summary = summary(&settings.output)?;
    let mut rows = vec![
        ["arm", "rows", "problems", "tokens", "bytes", "spec"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, arm) in &summary.arms {
        let tokens = arm
            .tokens
            .map_or_else(|| "-".to_owned(), |tokens| tokens.to_string());
        rows.push(vec![
            name.clone(),
            arm.rows.to_string(),
            arm.problems.to_string(),
            tokens,
            arm.bytes.to_string(),
            arm.spec.clone(),
        ]);
    }
    let facts = [("summary", json!(summary))];
    let mut shown = Shown::rows(&settings.output, &outcome, &facts, arguments.common.json);
    let head = shown.text.lines().next().unwrap_or_default().to_owned();
    let coverage = &summary.coverage;
    shown.text = format!(
        "{head}\n{}\n\n{}\n{} training problems, {} covered by every arm, {} used\nleft out: {} near-duplicate and {} contaminated problems, {} near-duplicate and {} contaminated traces, {} exact copies",
        table(&rows),
        coverage_table(coverage),
        coverage.train_problems,
        coverage.matched_problems,
        coverage.used_problems,
        coverage.near_duplicate_problems,
        coverage.contaminated_problems,
        coverage.near_duplicate_traces,
        coverage.contaminated_traces,
        coverage.duplicates
    );
    Ok(shown)
}

/// What each arm could cover, before matching.
fn coverage_table(coverage: &Coverage) -> String {
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let mut rows = vec![
        ["arm", "could cover", "traces", "difficulty", "mean bytes"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (name, arm) in &coverage.arms {
        rows.push(vec![
            name.clone(),
            arm.problems.to_string(),
            arm.traces.to_string(),
            number(arm.difficulty, 2),
            number(arm.mean_bytes, 0),
        ]);
    }
    table(&rows)
}
