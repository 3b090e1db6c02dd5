//! The end of a run: `comparison.json`, `report.html`, `report.md` and the table for the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::comparison::{ArmData, CompareOptions, Comparison, Evaluation, compare};
use idiolect_core::record::{ArmRow, EvalRow, ScoreRow, Verdict, content_hash};
use idiolect_core::store::{Meta, StoreError, hash_file, write_atomic, write_page};
use idiolect_report::view::{FactGroup, RunView};
use serde_json::{Map, Value, json};

use super::RunContext;
use super::layout::Layout;
use super::plan::BASE;
use super::recipe::{self, Recipe};
use super::resolve;
use super::view::{self, Numbered, Replicate, read};
use crate::stage::StageError;
use crate::stage::report::parts;
use crate::terminal;

/// Bootstrap and permutation draws.
const DRAWS: usize = 10_000;

/// Compares all arms of each student over all replicates and writes what a person reads: of one
/// student at the top of the run directory, of several in each one's folder, with an overview there.
pub(super) fn compare_and_report(run: &RunContext<'_>) -> Result<(), StageError> {
    let students = run.recipe.students();
    let mut views: Vec<(String, RunView)> = Vec::new();
    for (name, _) in &students {
        let replicates = view::replicates(run.recipe, &run.layout, name);
        let comparison = comparison_of(run.recipe, &replicates)?;
        views.push((name.clone(), view_of(run.recipe, comparison, &replicates)?));
    }
    write_all(run.dir, &views)
}

/// Writes the report of a finished run again.
pub(super) fn report_again(
    recipe: &Recipe,
    dir: &Path,
    output: Option<&Path>,
) -> Result<Vec<PathBuf>, StageError> {
    let layout = Layout::of(dir);
    let mut views: Vec<(String, RunView)> = Vec::new();
    for (name, comparison) in comparisons(recipe, dir)? {
        let replicates = view::replicates(recipe, &layout, &name);
        views.push((name, view_of(recipe, comparison, &replicates)?));
    }
    let Some(path) = output else {
        let [html, markdown] = ["report.html", "report.md"].map(|name| dir.join(name));
        write_all(dir, &views)?;
        return Ok(vec![html, markdown]);
    };
    let text = match path.extension().is_some_and(|ending| ending == "md") {
        true => markdown(&views),
        false => html(&views),
    };
    write_page(path, &text)?;
    Ok(vec![path.to_owned()])
}

/// The comparison of each student in a finished run.
pub(super) fn comparisons(
    recipe: &Recipe,
    dir: &Path,
) -> Result<Vec<(String, Comparison)>, StageError> {
    let names: Vec<String> = recipe
        .students()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let several = names.len() > 1;
    let mut all = Vec::new();
    for name in names {
        let path = comparison_path(dir, &name, several);
        let bytes = fs::read(&path).map_err(|source| {
            StageError::failed(
                format!(
                    "`{}` is not finished: cannot read `comparison.json`: {source}",
                    dir.display()
                ),
                "`idiolect run` with its recipe continues it",
            )
        })?;
        let comparison = serde_json::from_slice(&bytes).map_err(|error| {
            StageError::failed(
                format!("`{}` is no comparison: {error}", path.display()),
                "",
            )
        })?;
        all.push((name, comparison));
    }
    Ok(all)
}

fn comparison_path(dir: &Path, student: &str, several: bool) -> PathBuf {
    let folder = match several {
        true => dir.join("students").join(student),
        false => dir.to_owned(),
    };
    folder.join("comparison.json")
}

fn write_all(dir: &Path, views: &[(String, RunView)]) -> Result<(), StageError> {
    let json = |value: &Value| {
        serde_json::to_string_pretty(value).expect("a comparison serialises") + "\n"
    };
    if views.len() > 1 {
        for (name, view) in views {
            let folder = dir.join("students").join(name);
            write_page(&folder.join("report.html"), &idiolect_report::html(view))?;
            write_page(&folder.join("report.md"), &idiolect_report::markdown(view))?;
            let path = comparison_path(dir, name, true);
            write_atomic(&path, json(&json!(view.comparison)).as_bytes())?;
        }
    }
    write_page(&dir.join("report.html"), &html(views))?;
    write_page(&dir.join("report.md"), &markdown(views))?;
    // Last: its being there states that the run is finished.
    let text = json(&comparison_json(views));
    Ok(write_atomic(&dir.join("comparison.json"), text.as_bytes())?)
}

/// Of one student its comparison; of several `{"students": {NAME: comparison}}`.
fn comparison_json(views: &[(String, RunView)]) -> Value {
    match views {
        [(_, view)] => json!(view.comparison),
        several => {
            let each = several
                .iter()
                .map(|(name, view)| (name.clone(), json!(view.comparison)));
            json!({ "students": each.collect::<Map<String, Value>>() })
        }
    }
}

fn html(views: &[(String, RunView)]) -> String {
    match views {
        [(_, view)] => idiolect_report::html(view),
        several => idiolect_report::students_html(several),
    }
}

fn markdown(views: &[(String, RunView)]) -> String {
    match views {
        [(_, view)] => idiolect_report::markdown(view),
        several => several
            .iter()
            .map(|(name, view)| {
                format!(
                    "<!-- student {name} -->\n\n{}",
                    idiolect_report::markdown(view)
                )
            })
            .collect::<Vec<_>>()
            .join("\n\n"),
    }
}

/// The tables of a finished run for a terminal.
pub(super) fn tables(recipe: &Recipe, dir: &Path) -> Result<(String, Value), StageError> {
    let all = comparisons(recipe, dir)?;
    let table = |(name, comparison): &(String, Comparison)| {
        let table = idiolect_report::arms_table(comparison, terminal::columns());
        match all.len() {
            1 => table,
            _ => format!("student {name}\n{table}"),
        }
    };
    let text = all.iter().map(table).collect::<Vec<_>>().join("\n\n");
    let text = format!("{text}\nreport: {}", dir.join("report.html").display());
    let bytes = fs::read(dir.join("comparison.json")).unwrap_or_default();
    Ok((text, serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// What the report of a run shows.
pub(super) fn view_of(
    recipe: &Recipe,
    comparison: Comparison,
    replicates: &[Numbered],
) -> Result<RunView, StageError> {
    let teacher = teacher_accuracy(recipe, replicates)?;
    let facts = provenance(recipe, replicates, &teacher)?;
    let mut view = view::gather(recipe, comparison, replicates, facts, command(recipe))?;
    if let Some(teacher) = teacher {
        view.setting = format!("{} {teacher}", view.setting);
    }
    Ok(view)
}

/// Everything that was evaluated, compared.
pub(super) fn comparison_of(
    recipe: &Recipe,
    replicates: &[Numbered],
) -> Result<Comparison, StageError> {
    let mut evaluations = Vec::new();
    let mut arms = Vec::new();
    for (number, replicate) in replicates {
        evaluations.push(evaluation(replicate, *number, BASE, 0)?);
        for arm in &recipe.arms.listed() {
            for seed in 0..recipe.train.seeds as u64 {
                evaluations.push(evaluation(replicate, *number, arm, seed)?);
            }
        }
        arms.extend(arm_data(recipe, replicate, *number)?);
    }
    let options = CompareOptions {
        baselines: recipe.arms.baselines.clone(),
        draws: DRAWS,
        seed: recipe.seed,
        ..CompareOptions::default()
    };
    compare(&evaluations, &arms, &options).map_err(|e| StageError::failed(e.to_string(), ""))
}

/// A checkpoint's rows under all decodings.
pub(super) fn evaluation(
    replicate: &Replicate,
    number: usize,
    arm: &str,
    seed: u64,
) -> Result<Evaluation, StoreError> {
    let mut rows: Vec<EvalRow> = read(&replicate.student.evaluation(arm, seed, "greedy"))?;
    let sampled = replicate.student.evaluation(arm, seed, "sampled");
    if sampled.exists() {
        rows.extend(read::<EvalRow>(&sampled)?);
    }
    let gold = read(&replicate.student.evaluation(arm, seed, "gold"))?;
    Ok(Evaluation {
        arm: arm.to_owned(),
        replicate: number,
        seed,
        rows,
        gold,
    })
}

/// What is known of every arm's training set in a replicate.
pub(super) fn arm_data(
    recipe: &Recipe,
    replicate: &Replicate,
    number: usize,
) -> Result<Vec<ArmData>, StoreError> {
    let mut rows_of: Vec<(String, Vec<ArmRow>)> = Vec::new();
    for arm in &recipe.arms.listed() {
        rows_of.push((arm.clone(), read(&replicate.student.arm(arm))?));
    }
    let wanted: BTreeSet<&str> = rows_of
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|r| r.trace_id.as_str()))
        .collect();
    let mut scores: BTreeMap<String, ScoreRow> = BTreeMap::new();
    for row in read::<ScoreRow>(&replicate.student.scores())? {
        if wanted.contains(row.trace_id.as_str()) {
            scores.insert(row.trace_id.clone(), row);
        }
    }
    let summary = view::summary(replicate)?;
    let verdicts = replicate.verdicts()?;
    let mut trained: BTreeMap<String, usize> = BTreeMap::new();
    for (arm, _) in &rows_of {
        if let Some(rows) = rows_trained(recipe, replicate, arm)? {
            trained.insert(arm.clone(), rows);
        }
    }
    Ok(parts::arm_data(
        number,
        &rows_of,
        &scores,
        &verdicts,
        Some(&summary),
        &trained,
    ))
}

/// The rows that every checkpoint of an arm was trained on; `None` before any was.
fn rows_trained(
    recipe: &Recipe,
    replicate: &Replicate,
    arm: &str,
) -> Result<Option<usize>, StoreError> {
    let mut fewest = None;
    for seed in 0..recipe.train.seeds as u64 {
        if let Some(meta) = Meta::read(&replicate.student.checkpoint(arm, seed))? {
            let rows = meta.rows as usize;
            fewest = Some(fewest.map_or(rows, |fewest: usize| fewest.min(rows)));
        }
    }
    Ok(fewest)
}

/// The teacher's own greedy accuracy on the test problems, in a sentence.
fn teacher_accuracy(
    recipe: &Recipe,
    replicates: &[Numbered],
) -> Result<Option<String>, StoreError> {
    if recipe.scratch_teacher().is_none() {
        return Ok(None);
    }
    let (mut correct, mut total) = (0usize, 0usize);
    for (_, replicate) in replicates {
        let rows: Vec<EvalRow> = read(&replicate.data.teacher_evaluation())?;
        total += rows.len();
        correct += rows
            .iter()
            .filter(|r| r.verdict == Verdict::Correct)
            .count();
    }
    let share = correct as f64 / total.max(1) as f64;
    Ok(Some(format!(
        "The teacher itself solves {correct} of {total} test problems greedily ({share:.3})."
    )))
}

/// What makes the run again: a recipe that the program carries is asked for by name, any other is the
/// one that the run keeps, which holds its scale and seed.
fn command(recipe: &Recipe) -> String {
    let carried = recipe::BUILT_IN.iter().find(|(_, text)| {
        let sets = [
            format!("scale={}", recipe.scale),
            format!("seed={}", recipe.seed),
        ];
        resolve::resolve(text, "built-in", &sets)
            .is_ok_and(|carried| resolve::stored(&carried) == resolve::stored(recipe))
    });
    let mut command = "idiolect run".to_owned();
    match carried {
        None => return command + " recipe.toml",
        Some(("miniature", _)) => {}
        Some((name, _)) => command.push_str(&format!(" {name}")),
    }
    if recipe.scale != "default" {
        command.push_str(&format!(" --set scale={}", recipe.scale));
    }
    if recipe.seed != 0 {
        command.push_str(&format!(" --set seed={}", recipe.seed));
    }
    command
}

/// What decided the numbers. No time, path or host: equal runs give equal pages.
fn provenance(
    recipe: &Recipe,
    replicates: &[Numbered],
    teacher: &Option<String>,
) -> Result<Vec<FactGroup>, StoreError> {
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let mut groups = vec![FactGroup {
        title: "Run".to_owned(),
        facts: vec![
            fact("program", format!("idiolect {}", env!("CARGO_PKG_VERSION"))),
            fact(
                "recipe",
                format!(
                    "{} ({})",
                    recipe.name,
                    content_hash(resolve::stored(recipe).as_bytes())
                ),
            ),
            fact("scale", recipe.scale.clone()),
            fact("seed", recipe.seed.to_string()),
            fact("fine-tuning seeds", recipe.train.seeds.to_string()),
            fact(
                "fine-tuning",
                format!(
                    "{} epochs, batch size {}, peak learning rate {}, {:?} schedule",
                    recipe.train.epochs,
                    recipe.train.batch_size,
                    recipe.train.lr,
                    recipe.train.schedule
                ),
            ),
            fact(
                "evaluation",
                format!(
                    "greedy, and {} samples at temperature {}, at most {} tokens",
                    recipe.eval.n, recipe.eval.temperature, recipe.eval.max_tokens
                ),
            ),
        ],
    }];
    if let Some(teacher) = teacher {
        groups[0].facts.push(fact("teacher", teacher.clone()));
    }
    for (number, replicate) in replicates {
        let mut facts = Vec::new();
        for (name, path) in [
            ("problems.jsonl", replicate.data.problems()),
            ("traces.jsonl", replicate.data.traces()),
            ("verdicts.jsonl", replicate.data.verdicts()),
            ("scores.jsonl", replicate.student.scores()),
        ] {
            facts.push(fact(name, hash_file(&path)?));
        }
        for arm in &recipe.arms.listed() {
            facts.push(fact(
                &format!("arms/{arm}.jsonl"),
                hash_file(&replicate.student.arm(arm))?,
            ));
        }
        let evaluated = replicate.student.evaluation(BASE, 0, "greedy");
        if let Some(meta) = Meta::read(&evaluated)? {
            for (name, version) in &meta.versions {
                facts.push(fact(
                    &format!("{name} (of base's evaluation)"),
                    version.clone(),
                ));
            }
        }
        let title = if replicates.len() == 1 {
            "Hashes".to_owned()
        } else {
            format!("Hashes of replicate {number}")
        };
        groups.push(FactGroup { title, facts });
    }
    Ok(groups)
}
