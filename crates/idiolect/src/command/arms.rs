//! `idiolect arms`.

use std::path::PathBuf;

use idiolect_core::arms::{ArmsSummary, Coverage, Matching, counted, describe, in_full, remedy};
use idiolect_engine::text::Opening;
use serde_json::json;

use super::numbers;
use super::options::{self, Common, PromptOption, Seed, TemplateName};
use super::output::{CommandOutput, table};
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::arms::{ArmsSettings, arms, summary};
use idiolect::stage::student::StudentText;

/// Build matched training sets (arms) from verified traces
///
/// All arms hold the same training problems, one trace each, unless --match states otherwise. Sources:
/// H human, G sampled and correct, W sampled and wrong, Wv W up to its first false step, P
/// paraphrased, F1 to F100 flawed, R content control, S the student's own samples, T any trace.
/// Crossed sources change one thing of the trace that G or W holds: A its answer alone, F50@right and
/// F50@wrong that answer behind flawed steps, F0@wrong a wrong answer behind true steps, RR R's steps
/// with the right answer, GH and WH the chain in a generated world's human style. A mixture is W:0.5+G:0.5, a filter W[steps>=2,nll_per_token<1.5], and a curated arm
/// G{by=nll_per_token,per=set,rows=500}, which comes with NAME~random and NAME~length of its size.
/// Without --arm: every plain arm that the traces support, and the reason for each of H, G and W
/// that is left out. With --model a trace that the student cannot be trained on (too long, nothing left
/// to train on) enters no arm, so that what is matched is what is trained; no weights are read.
/// Near duplicates and what repeats a test question are left out and counted; picks.json records
/// why each row was picked.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect arms --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl \\
    --scores scores.jsonl --model models/student --arm G=G --arm W=W \\
    --arm mixed=W:0.5+G:0.5 -o arms
  idiolect arms --problems problems.jsonl --traces traces.jsonl --verdicts verdicts.jsonl \\
    --scores scores.jsonl --arm near=G{by=nll_per_token} --arm short=W[tokens<=80] --match tokens -o arms")]
pub(super) struct Arguments {
    /// Problems of every split: held-out ones guard against leaks
    #[arg(long, value_name = "P")]
    problems: PathBuf,
    /// Traces to choose from; may be given again
    #[arg(long, value_name = "T", required = true)]
    traces: Vec<PathBuf>,
    /// Their verdicts; may be given again
    #[arg(long, value_name = "V", required = true)]
    verdicts: Vec<PathBuf>,
    /// Their scores, for token counts and closeness; may be given again
    #[arg(long, value_name = "S")]
    scores: Vec<PathBuf>,
    #[command(flatten)]
    student: StudentOptions,
    /// An arm; may be given again
    #[arg(long = "arm", value_name = "NAME=SPEC", value_parser = pair)]
    arms: Vec<(String, String)>,
    /// How arms are made equal: problems (the same ones), rows (as many, each of its own problems)
    /// or tokens (of the same problems so many that the totals agree within 1 %)
    #[arg(long = "match", value_name = "WHAT", default_value = "problems", value_parser = matching)]
    matching: Matching,
    /// Rows to keep of each arm, before tokens are matched; default all
    #[arg(long, value_name = "N", value_parser = numbers::rows)]
    rows: Option<usize>,
    /// Let W hold traces whose source does not state how they ended, when their answer is readable
    #[arg(long)]
    unknown_finish_is_stop: bool,
    #[command(flatten)]
    prompt: PromptOption,
    #[command(flatten)]
    seed: Seed,
    /// Folder of arms to write
    #[arg(short, long, value_name = "DIR", value_parser = options::output)]
    output: OutputPath,
    #[command(flatten)]
    common: Common,
}

/// Who is to be trained on the arms.
#[derive(clap::Args, Debug)]
#[group(skip)]
struct StudentOptions {
    /// The student: a directory in Hugging Face layout, an adapter directory, or hf:OWNER/NAME.
    /// What it cannot be trained on enters no arm
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// The base model of an adapter directory, where its adapter_config.json does not lead to it
    #[arg(long, value_name = "DIR", requires = "model")]
    base: Option<PathBuf>,
    /// How prompts are rendered; default chat where the model has a template, else raw
    #[arg(long, value_name = "raw|chat", requires = "model")]
    template: Option<TemplateName>,
    /// Set a field of the student's config.json aside that this program does not know and that
    /// does not change what the model computes; may be given again
    #[arg(long = "ignore-config-field", value_name = "NAME", requires = "model")]
    ignored_fields: Vec<String>,
    /// Longest row in tokens, prompt and end included; default what the student can hold
    #[arg(long, value_name = "N", requires = "model", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
}

impl StudentOptions {
    /// Config, tokenizer and template of the student.
    fn open(&self) -> Result<Option<StudentText>, StageError> {
        let Some(model) = &self.model else {
            return Ok(None);
        };
        let opening = Opening {
            template: self.template.map(TemplateName::template),
            base: self.base.as_deref(),
            ignored_fields: &self.ignored_fields,
            ..Opening::default()
        };
        Ok(Some(StudentText {
            text: options::text_model(model, &opening)?,
            max_tokens: self.max_tokens.map(|most| most as usize),
        }))
    }
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
        traces: options::files(&arguments.traces)?,
        verdicts: options::files(&arguments.verdicts)?,
        scores: options::files(&arguments.scores)?,
        arms: arguments.arms.clone(),
        matching: arguments.matching,
        rows: arguments.rows,
        unknown_finish_is_stop: arguments.unknown_finish_is_stop,
        prompt: arguments.prompt.prompt.clone(),
        seed: arguments.seed.seed,
        output: arguments.output.to_path_buf(),
    };
    let student = arguments.student.open()?;
    let outcome = arguments
        .common
        .with_control(|control| arms(&settings, student.as_ref(), control))?;
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
            in_full(name, &describe(name, Some(&arm.spec))),
            arm.rows.to_string(),
            arm.problems.to_string(),
            tokens,
            arm.bytes.to_string(),
            arm.spec.clone(),
        ]);
    }
    let facts = [("summary", json!(summary))];
    let mut output = CommandOutput::rows(&settings.output, &outcome, &facts, arguments.common.json);
    let head = output.text.lines().next().unwrap_or_default().to_owned();
    let coverage = &summary.coverage;
    let mut notes = notes(&summary, student.is_some());
    if settings.scores.is_empty() {
        notes.push_str(
            "no --scores: tokens are not counted, the student's own samples (S) are not known, \
             and nothing can be picked or filtered by closeness\n",
        );
    }
    output.text = format!(
        "{head}\n{}\n\n{}\n{notes}{} training problems, {} covered by every arm, {} used\nleft out: {} near-duplicate and {} contaminated problems, {} near-duplicate and {} contaminated traces, {} exact copies",
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
    Ok(output)
}

/// What enters no arm, why, and what changes it.
fn notes(summary: &ArmsSummary, checked: bool) -> String {
    let mut notes = String::new();
    for (arm, why) in &summary.left_out {
        notes.push_str(&format!("{arm} {why}\n"));
    }
    for (name, arm) in &summary.coverage.arms {
        if arm.excluded.is_empty() {
            continue;
        }
        notes.push_str(&format!("{name} leaves out {}", counted(&arm.excluded)));
        for remedy in arm.excluded.keys().filter_map(|reason| remedy(reason)) {
            notes.push_str(&format!("; {remedy}"));
        }
        notes.push('\n');
    }
    if let Some(student) = &summary.coverage.student {
        notes.push_str(&format!(
            "for the student {} problems are left out of every arm ({} traces)\n",
            student.problems,
            student.traces.values().sum::<usize>()
        ));
    } else if !checked {
        notes.push_str(
            "not checked against a student: with --model M rows that it cannot be trained on enter \
             no arm\n",
        );
    }
    notes
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
