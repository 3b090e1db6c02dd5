//! What the report of a finished run shows, gathered from its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::arms::{ArmsSummary, Source, describe, explain, in_full};
use idiolect_core::comparison::{Comparison, Counts};
use idiolect_core::record::{
    ArmRow, EvalRow, Problem, Split, Trace, Verdict, VerdictRow, content_hash,
};
use idiolect_core::store::{Meta, Rows, StoreError, hash_input, tokens};
use idiolect_model::TrainEvent;
use idiolect_report::view::{
    Answers, ArmDescription, Asked, Checkpoint, Curve, DevScore, Example, ExampleToken, FactGroup,
    Fraction, RunView, thin,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::layout::{DataPaths, Layout, StudentPaths};
use super::limits::limits;
use super::plan::BASE;
use super::recipe::Recipe;

/// Points that a training curve is drawn with.
const CURVE_POINTS: usize = 120;
/// Bytes of training rows that are handed to the report, which shows what fits its size.
const EXAMPLE_BYTES: usize = 1 << 20;

/// One student in one replicate of a run.
#[derive(Clone, Debug)]
pub(super) struct Replicate {
    pub data: DataPaths,
    pub student: StudentPaths,
    /// Where the student lies if it was trained inside the run.
    pub model: PathBuf,
}

impl Replicate {
    /// The verdicts on every trace that the student scored.
    pub(super) fn verdicts(&self) -> Result<Vec<VerdictRow>, StoreError> {
        both(&self.data.verdicts(), &self.student.own_verdicts())
    }

    /// Every trace that the student scored.
    pub(super) fn traces(&self) -> Result<Vec<Trace>, StoreError> {
        both(&self.data.traces(), &self.student.own())
    }
}

/// The rows of everyone's file and of the student's own, where it has one.
fn both<T: DeserializeOwned>(all: &Path, own: &Path) -> Result<Vec<T>, StoreError> {
    let mut rows = read(all)?;
    if own.exists() {
        rows.extend(read(own)?);
    }
    Ok(rows)
}

/// A replicate and its number.
pub(super) type Numbered = (usize, Replicate);

/// The replicates of one student.
pub(super) fn replicates(recipe: &Recipe, layout: &Layout, student: &str) -> Vec<Numbered> {
    let of = |number| Replicate {
        data: layout.data(number),
        student: layout.student(number, student),
        model: layout.model(number, "student"),
    };
    (0..recipe.replicates)
        .map(|number| (number, of(number)))
        .collect()
}

/// Gathers the view. Everything comes from files of the run, so that the report can be made again.
pub(super) fn gather(
    recipe: &Recipe,
    comparison: Comparison,
    replicates: &[Numbered],
    facts: Vec<FactGroup>,
    command: String,
) -> Result<RunView, StoreError> {
    let mut view = RunView::new(&recipe.name, comparison);
    view.setting = recipe.about.clone();
    view.replicates = replicates
        .iter()
        .map(|(n, _)| format!("replicate {n} (seed {})", recipe.seed + *n as u64))
        .collect();
    for (number, replicate) in replicates {
        curves(recipe, *number, replicate, &mut view)?;
        view.answers.push(answers(recipe, *number, replicate)?);
    }
    if let Some((_, first)) = replicates.first() {
        arms(recipe, first, &mut view)?;
        examples(recipe, first, &mut view)?;
        view.limits = limits(recipe, first, &view.comparison)?;
    }
    view.provenance = facts;
    view.commands = vec![command];
    Ok(view)
}

fn arms(recipe: &Recipe, replicate: &Replicate, view: &mut RunView) -> Result<(), StoreError> {
    let verdicts = verdicts_by_trace(replicate)?;
    let summary = summary(replicate)?;
    for name in &recipe.arms.listed() {
        let rows: Vec<ArmRow> = read(&replicate.student.arm(name))?;
        let mut counts = Counts::default();
        for row in &rows {
            if let Some(found) = verdicts.get(&row.trace_id) {
                counts.total += 1;
                match found.verdict {
                    Verdict::Correct => counts.correct += 1,
                    Verdict::Wrong => counts.wrong += 1,
                    Verdict::NoAnswer => counts.no_answer += 1,
                    Verdict::Ungraded => counts.ungraded += 1,
                }
            }
        }
        let problems: BTreeSet<&str> = rows.iter().map(|r| r.problem_id.as_str()).collect();
        view.arms.push(ArmDescription {
            name: name.clone(),
            about: explain(name, summary.arms.get(name).map(|arm| arm.spec.as_str())),
            rows: Some(rows.len()),
            problems: Some(problems.len()),
            verdicts: (counts.total > 0).then_some(counts),
        });
    }
    coverage(&summary, recipe, view);
    let gold = Meta::read(&replicate.student.evaluation(BASE, 0, "gold"))?;
    if let Some(gold) = gold.filter(|meta| meta.rejected > 0) {
        view.coverage_notes.push(format!(
            "The surprisal of the test problems' own solutions is over {} of {}: the student cannot \
             take the others.",
            gold.rows, gold.seen
        ));
    }
    Ok(())
}

/// What `arms.json` of a replicate holds.
pub(super) fn summary(replicate: &Replicate) -> Result<ArmsSummary, StoreError> {
    let path = replicate.student.arms().join("arms.json");
    let text = std::fs::read(&path).map_err(|source| StoreError::Io {
        path: path.display().to_string(),
        doing: "read",
        source,
    })?;
    serde_json::from_slice(&text).map_err(|e| StoreError::Format {
        path: path.display().to_string(),
        reason: format!("not a summary of arms: {e}"),
    })
}

/// How many of the train problems each arm could cover, and how many all arms cover.
fn coverage(summary: &ArmsSummary, recipe: &Recipe, view: &mut RunView) {
    let of = summary.coverage.train_problems;
    for arm in &recipe.arms.listed() {
        if let Some(covered) = summary.coverage.arms.get(arm) {
            let spec = summary.arms.get(arm).map(|arm| arm.spec.as_str());
            let named = in_full(arm, &describe(arm, spec));
            let label = format!("train problems with a trace for {named}");
            view.coverage.push(Fraction {
                label,
                n: covered.problems,
                of,
            });
        }
    }
    view.coverage.push(Fraction {
        label: "train problems that every arm covers".to_owned(),
        n: summary.coverage.matched_problems,
        of,
    });
    view.coverage.push(Fraction {
        label: "of those, used (the same in every arm)".to_owned(),
        n: summary.coverage.used_problems,
        of: summary.coverage.matched_problems,
    });
    if recipe.arms.need(|source| *source == Source::Wrong)
        && recipe.arms.need(|source| *source == Source::Correct)
    {
        view.coverage_notes.push(
            "Wrong answers exist only for problems on which the sampled model erred, and right ones only where it succeeded, so the matched problems are neither its easiest nor its hardest.".to_owned(),
        );
    }
    view.coverage_notes.extend(summary.warnings.iter().cloned());
}

fn curves(
    recipe: &Recipe,
    number: usize,
    replicate: &Replicate,
    view: &mut RunView,
) -> Result<(), StoreError> {
    for arm in &recipe.arms.listed() {
        for seed in 0..recipe.train.seeds as u64 {
            let log: Vec<TrainEvent> =
                read(&replicate.student.checkpoint(arm, seed).join("log.jsonl"))?;
            let points: Vec<(usize, f64)> = log
                .iter()
                .filter_map(|event| match event {
                    TrainEvent::Step { step, loss, .. } => Some((*step, *loss)),
                    _ => None,
                })
                .collect();
            view.curves.push(Curve {
                replicate: number,
                arm: arm.clone(),
                seed,
                points: thin(&points, CURVE_POINTS),
            });
            let dev = replicate.student.evaluation(arm, seed, "dev");
            if !dev.exists() {
                continue;
            }
            let dev: Vec<EvalRow> = read(&dev)?;
            view.dev.push(DevScore {
                replicate: number,
                arm: arm.clone(),
                seed,
                correct: dev
                    .iter()
                    .filter(|row| row.verdict == Verdict::Correct)
                    .count(),
                problems: dev.len(),
            });
        }
    }
    Ok(())
}

/// Every checkpoint's answers to the test problems, without seconds and later samples.
fn answers(recipe: &Recipe, number: usize, replicate: &Replicate) -> Result<Answers, StoreError> {
    let mut checkpoints = Vec::new();
    let mut add = |arm: &str, seed: u64| -> Result<(), StoreError> {
        checkpoints.push(Checkpoint {
            arm: arm.to_owned(),
            seed,
            rows: read(&replicate.student.evaluation(arm, seed, "greedy"))?,
        });
        Ok(())
    };
    add(BASE, 0)?;
    for arm in &recipe.arms.listed() {
        for seed in 0..recipe.train.seeds as u64 {
            add(arm, seed)?;
        }
    }
    let asked = |problem: Problem| Asked {
        id: problem.id,
        question: problem.question,
        gold: gold(&problem.gold),
    };
    let problems: Vec<Problem> = read(&replicate.data.problems())?;
    let is_asked = |problem: &Problem| problem.split == Split::Test;
    Ok(Answers {
        replicate: number,
        problems: problems.into_iter().filter(is_asked).map(asked).collect(),
        checkpoints,
    })
}

/// A gold as a person reads it: its answer alone where that is all it holds.
fn gold(gold: &Value) -> String {
    match gold {
        Value::Object(fields) if fields.len() == 1 => {
            let answer = fields.get("answer").and_then(Value::as_str);
            answer.map_or_else(|| gold.to_string(), str::to_owned)
        }
        gold => gold.to_string(),
    }
}

/// The arms' rows for the same problems, with the untrained student's surprisal at each token:
/// problems that most arms hold first, else by a hash of their ids.
fn examples(recipe: &Recipe, replicate: &Replicate, view: &mut RunView) -> Result<(), StoreError> {
    let mut by_problem: BTreeMap<String, Vec<(String, ArmRow)>> = BTreeMap::new();
    for arm in &recipe.arms.listed() {
        for row in read::<ArmRow>(&replicate.student.arm(arm))? {
            by_problem
                .entry(row.problem_id.clone())
                .or_default()
                .push((arm.clone(), row));
        }
    }
    let arms_of = |rows: &[(String, ArmRow)]| {
        let arms: BTreeSet<&str> = rows.iter().map(|(arm, _)| arm.as_str()).collect();
        arms.len()
    };
    let mut problems: Vec<(&String, &Vec<(String, ArmRow)>)> = by_problem.iter().collect();
    problems.sort_by_cached_key(|(id, rows)| {
        (
            std::cmp::Reverse(arms_of(rows)),
            content_hash(id.as_bytes()),
        )
    });
    let mut bytes = 0;
    let fits = |(_, rows): &(&String, &Vec<(String, ArmRow)>)| {
        let first = bytes == 0;
        bytes += rows
            .iter()
            .map(|(_, row)| row.completion.len() + row.prompt.len())
            .sum::<usize>();
        first || bytes <= EXAMPLE_BYTES
    };
    let shown: Vec<&(String, ArmRow)> = problems
        .into_iter()
        .take_while(fits)
        .flat_map(|(_, rows)| rows)
        .collect();

    let wanted: BTreeSet<&str> = shown.iter().map(|(_, row)| row.trace_id.as_str()).collect();
    let mut scores: BTreeMap<String, Vec<ExampleToken>> = BTreeMap::new();
    let path = replicate.student.tokens();
    hash_input(&path)?;
    tokens::read(&path, |row| {
        if wanted.contains(row.trace_id.as_str()) {
            scores.insert(
                row.trace_id,
                row.tokens.iter().map(ExampleToken::from).collect(),
            );
        }
    })?;
    let verdicts = verdicts_by_trace(replicate)?;
    for (arm, row) in shown {
        let verdict = verdicts.get(&row.trace_id);
        view.examples.push(Example {
            arm: arm.clone(),
            problem_id: row.problem_id.clone(),
            prompt: row.prompt.clone(),
            verdict: verdict.map_or_else(String::new, |v| name_of(v.verdict).to_owned()),
            reason: verdict.map_or_else(String::new, |v| v.reason.clone()),
            text: row.completion.clone(),
            tokens: scores.get(&row.trace_id).cloned().unwrap_or_default(),
            steps: verdict.map_or_else(Vec::new, |v| v.steps.clone()),
            spans: row.spans.clone(),
        });
    }
    Ok(())
}

pub(super) fn name_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Correct => "correct",
        Verdict::Wrong => "wrong",
        Verdict::NoAnswer => "no answer",
        Verdict::Ungraded => "ungraded",
    }
}

pub(super) fn verdicts_by_trace(
    replicate: &Replicate,
) -> Result<BTreeMap<String, VerdictRow>, StoreError> {
    Ok(replicate
        .verdicts()?
        .into_iter()
        .map(|row| (row.trace_id.clone(), row))
        .collect())
}

/// All rows of a file that this program wrote; a row that cannot be read is an error here.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    hash_input(path)?;
    let mut bad = None;
    let rows = Rows::<T>::open(path)?.collect_good(|row| bad = bad.take().or(Some(row)))?;
    match bad {
        None => Ok(rows.into_iter().map(|row| row.value).collect()),
        Some(row) => Err(StoreError::Format {
            path: path.display().to_string(),
            reason: format!("line {}: {}", row.line, row.reason),
        }),
    }
}
