//! What the report of a finished run shows, gathered from its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use idiolect_core::arms::ArmsSummary;
use idiolect_core::comparison::{Comparison, Counts};
use idiolect_core::model::TrainEvent;
use idiolect_core::record::{ArmRow, EvalRow, Verdict, VerdictRow};
use idiolect_core::store::{Meta, Rows, StoreError, tokens};
use idiolect_report::view::{
    ArmFacts, Curve, DevScore, Example, ExampleToken, FactGroup, RunView, Share, thin,
};
use serde::de::DeserializeOwned;

use super::finetune::BASE;
use super::layout::World;
use super::recipe::{Recipe, Source};

/// Points that a training curve is drawn with.
const CURVE_POINTS: usize = 120;
/// Problems whose traces are shown.
const EXAMPLE_PROBLEMS: usize = 1;

/// One world of a run and its number.
pub(crate) type Numbered = (usize, World);

/// Gathers the view. Everything comes from files of the run, so that the report can be made again.
pub(crate) fn gather(
    recipe: &Recipe,
    comparison: Comparison,
    worlds: &[Numbered],
    facts: Vec<FactGroup>,
    command: String,
) -> Result<RunView, StoreError> {
    let mut view = RunView::new(&recipe.name, comparison);
    view.setting = recipe.about.clone();
    view.worlds = worlds
        .iter()
        .map(|(n, _)| format!("world {n} (seed {})", recipe.seed + *n as u64))
        .collect();
    for (number, world) in worlds {
        curves(recipe, *number, world, &mut view)?;
    }
    if let Some((_, first)) = worlds.first() {
        arms(recipe, first, &mut view)?;
        examples(recipe, first, &mut view)?;
    }
    view.limits = limits(recipe);
    view.provenance = facts;
    view.commands = vec![command];
    Ok(view)
}

/// In words, what each arm holds.
pub(crate) fn about_arm(name: &str) -> String {
    match name {
        "H" => "human-written correct solutions".to_owned(),
        "HD" => "human-style solutions with digits instead of number words".to_owned(),
        "G" => "sampled traces whose answer is correct".to_owned(),
        "W" => "sampled traces whose answer is wrong, finished and readable".to_owned(),
        "P" => "human solutions rewritten by the teacher, answer preserved".to_owned(),
        "R" => "content control: the dialect of G without the problem's content".to_owned(),
        "S" => "the untrained student's own samples, right or wrong".to_owned(),
        "Wv" => "W, learnt only up to its first false step".to_owned(),
        name if name.ends_with("~random") => "a pick by lot as large as the curated arm".to_owned(),
        name if name.ends_with("~length") => {
            "a pick of like length, as large as the curated arm".to_owned()
        }
        other => match other.strip_prefix('F').and_then(|d| d.parse::<u32>().ok()) {
            Some(dose) => format!(
                "G with each step corrupted with probability {:.2}",
                f64::from(dose) / 100.0
            ),
            None => String::new(),
        },
    }
}

fn limits(recipe: &Recipe) -> Vec<String> {
    match &recipe.source {
        Source::Miniature { size, .. } if size == "tiny" => vec![
            "This is the seconds-long recipe: its models are too small to learn anything, so no number here means anything.".to_owned(),
        ],
        Source::Miniature { .. } => vec![
            "Student and teacher are tiny models trained on a small artificial language; what holds here need not hold for a 1.5B to 9B model on real text.".to_owned(),
            "P is easy in this world: the rewriting keeps the human answer expression, so it carries the content of H in the dialect of G.".to_owned(),
            "That wrong traces help because most of their steps are valid is not isolated here: W differs from G in its answers and in its steps at once.".to_owned(),
        ],
        Source::Gsm8kTraces { .. } => {
            let mut limits = vec![
                "The traces exist only for problems of GSM8K's official test file. This recipe splits those problems by hash of their id into its own train, dev and test; no number here is an official GSM8K result.".to_owned(),
                "G and W come from several models (GPT-3 6B and 175B, Qwen2.5 3B), so an arm mixes dialects.".to_owned(),
            ];
            if recipe.student.is_none() {
                limits.push("The student is trained from scratch on the official train file, whose solutions are written in the dialect of H: that H is nearest to it is by construction, not a finding.".to_owned());
                limits.push("A student of this size solves almost no problem, so accuracies near zero say nothing about the arms; the surprisal of held-out human solutions says how well each arm keeps the student near human text, not how well it reasons.".to_owned());
            }
            limits
        }
    }
}

fn arms(recipe: &Recipe, world: &World, view: &mut RunView) -> Result<(), StoreError> {
    let verdicts = verdicts_by_trace(world)?;
    for name in &recipe.arms.listed() {
        let rows: Vec<ArmRow> = read(&world.arm(name))?;
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
        view.arms.push(ArmFacts {
            name: name.clone(),
            about: about_arm(name),
            problems: Some(problems.len()),
            verdicts: (counts.total > 0).then_some(counts),
        });
    }
    let path = world.arms().join("arms.json");
    let text = std::fs::read(&path).map_err(|source| StoreError::Io {
        path: path.display().to_string(),
        doing: "read",
        source,
    })?;
    let summary: ArmsSummary = serde_json::from_slice(&text).map_err(|e| StoreError::Format {
        path: path.display().to_string(),
        reason: format!("not a summary of arms: {e}"),
    })?;
    coverage(&summary, recipe, view);
    let gold = Meta::read(&world.evaluation(BASE, 0, "gold"))?;
    if let Some(gold) = gold.filter(|meta| meta.rejected > 0) {
        view.coverage_notes.push(format!(
            "The surprisal of the test problems' own solutions is over {} of {}: the student cannot \
             take the others.",
            gold.rows, gold.seen
        ));
    }
    Ok(())
}

/// How many of the train problems each arm could cover, and how many all arms cover.
fn coverage(summary: &ArmsSummary, recipe: &Recipe, view: &mut RunView) {
    let of = summary.coverage.train_problems;
    for arm in &recipe.arms.listed() {
        if let Some(covered) = summary.coverage.arms.get(arm) {
            let label = format!("train problems with a trace for {arm}");
            view.coverage.push(Share {
                label,
                n: covered.problems,
                of,
            });
        }
    }
    view.coverage.push(Share {
        label: "train problems that every arm covers".to_owned(),
        n: summary.coverage.matched_problems,
        of,
    });
    view.coverage.push(Share {
        label: "of those, used (the same in every arm)".to_owned(),
        n: summary.coverage.used_problems,
        of: summary.coverage.matched_problems,
    });
    if recipe.arms.need(&idiolect_core::arms::Source::Wrong) {
        view.coverage_notes.push(
            "W exists only for problems on which the sampled model erred and G only where it succeeded, so the matched problems are neither its easiest nor its hardest.".to_owned(),
        );
    }
    view.coverage_notes.extend(summary.warnings.iter().cloned());
}

fn curves(
    recipe: &Recipe,
    number: usize,
    world: &World,
    view: &mut RunView,
) -> Result<(), StoreError> {
    for arm in &recipe.arms.listed() {
        for seed in 0..recipe.finetune.seeds as u64 {
            let log: Vec<TrainEvent> = read(&world.checkpoint(arm, seed).join("log.jsonl"))?;
            let points: Vec<(usize, f64)> = log
                .iter()
                .filter_map(|event| match event {
                    TrainEvent::Step { step, loss, .. } => Some((*step, *loss)),
                    _ => None,
                })
                .collect();
            view.curves.push(Curve {
                world: number,
                arm: arm.clone(),
                seed,
                points: thin(&points, CURVE_POINTS),
            });
            let dev: Vec<EvalRow> = read(&world.evaluation(arm, seed, "dev"))?;
            view.dev.push(DevScore {
                world: number,
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

/// The same problem's trace in each arm, with the untrained student's surprisal at each token.
fn examples(recipe: &Recipe, world: &World, view: &mut RunView) -> Result<(), StoreError> {
    let mut by_problem: BTreeMap<String, Vec<(String, ArmRow)>> = BTreeMap::new();
    for arm in &recipe.arms.listed() {
        for row in read::<ArmRow>(&world.arm(arm))? {
            by_problem
                .entry(row.problem_id.clone())
                .or_default()
                .push((arm.clone(), row));
        }
    }
    // Problems with the most arms first, then by id.
    let mut problems: Vec<&Vec<(String, ArmRow)>> = by_problem.values().collect();
    problems.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let shown: Vec<&(String, ArmRow)> = problems
        .into_iter()
        .take(EXAMPLE_PROBLEMS)
        .flatten()
        .collect();

    let wanted: BTreeSet<&str> = shown.iter().map(|(_, row)| row.trace_id.as_str()).collect();
    let mut scores: BTreeMap<String, Vec<ExampleToken>> = BTreeMap::new();
    tokens::read(&world.tokens(), |row| {
        if wanted.contains(row.trace_id.as_str()) {
            scores.insert(
                row.trace_id,
                row.tokens.iter().map(ExampleToken::from).collect(),
            );
        }
    })?;
    let verdicts = verdicts_by_trace(world)?;
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
        });
    }
    Ok(())
}

fn name_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Correct => "correct",
        Verdict::Wrong => "wrong",
        Verdict::NoAnswer => "no answer",
        Verdict::Ungraded => "ungraded",
    }
}

pub(crate) fn verdicts_by_trace(world: &World) -> Result<BTreeMap<String, VerdictRow>, StoreError> {
    Ok(read::<VerdictRow>(&world.verdicts())?
        .into_iter()
        .map(|row| (row.trace_id.clone(), row))
        .collect())
}

/// All rows of a file that this program wrote; a row that cannot be read is an error here.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
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
