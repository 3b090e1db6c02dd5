//! The end of a run: `comparison.json`, `report.html`, `report.md` and the table for the terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use idiolect_core::comparison::{
    ArmData, CompareOptions, Comparison, Evaluation, StepCounts, compare,
};
use idiolect_core::record::{ArmRow, EvalRow, ScoreRow, Verdict, VerdictRow, content_hash};
use idiolect_core::store::{Meta, StoreError, hash_file, write_atomic};
use idiolect_report::view::{FactGroup, RunView};

use super::finetune::{BASE, TEACHER};
use super::layout::World;
use super::recipe::{self, Recipe};
use super::view::{self, Numbered, read};
use super::{Finished, RunContext};
use crate::stage::StageError;

/// Bootstrap and permutation draws.
const DRAWS: usize = 10_000;

/// Compares all arms over all worlds and writes what a person reads.
pub(crate) fn compare_and_report(
    run: &RunContext<'_>,
    dir: &Path,
    worlds: &[Numbered],
) -> Result<Finished, StageError> {
    run.record.event(0, "report", "begin");
    let comparison = comparison_of(run.recipe, worlds)?;
    let json = serde_json::to_string_pretty(&comparison).expect("a comparison serialises") + "\n";
    write_atomic(&dir.join("comparison.json"), json.as_bytes())?;
    let text = format!(
        "{}\nreport: {}",
        idiolect_report::arms_table(&comparison),
        dir.join("report.html").display()
    );
    let view = view_of(run.recipe, comparison, worlds)?;
    write_atomic(
        &dir.join("report.html"),
        idiolect_report::html(&view).as_bytes(),
    )?;
    write_atomic(
        &dir.join("report.md"),
        idiolect_report::markdown(&view).as_bytes(),
    )?;
    run.record.event(0, "report", "end");
    let comparison = serde_json::from_str(&json).ok();
    Ok(Finished { text, comparison })
}

/// What the report of a run shows.
pub(crate) fn view_of(
    recipe: &Recipe,
    comparison: Comparison,
    worlds: &[Numbered],
) -> Result<RunView, StageError> {
    let teacher = teacher_accuracy(recipe, worlds)?;
    let facts = provenance(recipe, worlds, &teacher)?;
    let mut view = view::gather(recipe, comparison, worlds, facts, command(recipe))?;
    if let Some(teacher) = teacher {
        view.setting = format!("{} {teacher}", view.setting);
    }
    Ok(view)
}

/// Everything that was evaluated, compared.
pub(crate) fn comparison_of(
    recipe: &Recipe,
    worlds: &[Numbered],
) -> Result<Comparison, StageError> {
    let mut evaluations = Vec::new();
    let mut arms = Vec::new();
    for (number, world) in worlds {
        evaluations.push(evaluation(world, *number, BASE, 0)?);
        for arm in &recipe.arms.listed() {
            for seed in 0..recipe.finetune.seeds as u64 {
                evaluations.push(evaluation(world, *number, arm, seed)?);
            }
        }
        arms.extend(arm_data(recipe, world, *number)?);
    }
    let options = CompareOptions {
        baselines: recipe.arms.baselines.clone(),
        draws: DRAWS,
        seed: recipe.seed,
        ..CompareOptions::default()
    };
    compare(&evaluations, &arms, &options).map_err(|e| StageError::failed(e.to_string(), ""))
}

pub(super) fn evaluation(
    world: &World,
    number: usize,
    arm: &str,
    seed: u64,
) -> Result<Evaluation, StoreError> {
    let mut rows: Vec<EvalRow> = read(&world.evaluation(arm, seed, "greedy"))?;
    let sampled = world.evaluation(arm, seed, "sampled");
    if sampled.exists() {
        rows.extend(read::<EvalRow>(&sampled)?);
    }
    let gold = read(&world.evaluation(arm, seed, "gold"))?;
    Ok(Evaluation {
        arm: arm.to_owned(),
        world: number,
        seed,
        rows,
        gold,
    })
}

pub(super) fn arm_data(
    recipe: &Recipe,
    world: &World,
    number: usize,
) -> Result<Vec<ArmData>, StoreError> {
    let mut rows_of: Vec<(String, Vec<ArmRow>)> = Vec::new();
    for arm in &recipe.arms.listed() {
        rows_of.push((arm.clone(), read(&world.arm(arm))?));
    }
    let wanted: BTreeSet<&str> = rows_of
        .iter()
        .flat_map(|(_, rows)| rows.iter().map(|r| r.trace_id.as_str()))
        .collect();
    let mut scores: BTreeMap<String, ScoreRow> = BTreeMap::new();
    for row in read::<ScoreRow>(&world.scores())? {
        if wanted.contains(row.trace_id.as_str()) {
            scores.insert(row.trace_id.clone(), row);
        }
    }
    let summary = view::summary(world)?;
    let verdicts: Vec<VerdictRow> = read(&world.verdicts())?;
    let right: BTreeSet<&str> = verdicts
        .iter()
        .filter(|row| row.verdict == Verdict::Correct)
        .map(|row| row.trace_id.as_str())
        .collect();
    let share = |rows: &[ArmRow]| {
        let correct = rows
            .iter()
            .filter(|row| right.contains(row.trace_id.as_str()));
        correct.count() as f64 / rows.len() as f64
    };
    let mut trained: BTreeMap<&str, usize> = BTreeMap::new();
    for (arm, rows) in &rows_of {
        trained.insert(arm, rows_trained(recipe, world, arm)?.unwrap_or(rows.len()));
    }
    let data = |(arm, rows): &(String, Vec<ArmRow>)| ArmData {
        arm: arm.clone(),
        world: number,
        spec: summary.arms.get(arm).map(|arm| arm.spec.clone()),
        rows: trained[arm.as_str()],
        problems: rows
            .iter()
            .map(|r| r.problem_id.as_str())
            .collect::<BTreeSet<_>>()
            .len(),
        scores: rows
            .iter()
            .filter_map(|r| scores.get(&r.trace_id).cloned())
            .collect(),
        steps: StepCounts::of(rows, &verdicts),
        right: (!rows.is_empty()).then(|| share(rows)),
    };
    Ok(rows_of.iter().map(data).collect())
}

/// The rows that every checkpoint of an arm was trained on; `None` before any was.
fn rows_trained(recipe: &Recipe, world: &World, arm: &str) -> Result<Option<usize>, StoreError> {
    let mut fewest = None;
    for seed in 0..recipe.finetune.seeds as u64 {
        if let Some(meta) = Meta::read(&world.checkpoint(arm, seed))? {
            let rows = meta.rows as usize;
            fewest = Some(fewest.map_or(rows, |fewest: usize| fewest.min(rows)));
        }
    }
    Ok(fewest)
}

/// The teacher's own greedy accuracy on the test problems, in a sentence.
fn teacher_accuracy(recipe: &Recipe, worlds: &[Numbered]) -> Result<Option<String>, StoreError> {
    if recipe.pretrain.teacher.is_none() {
        return Ok(None);
    }
    let (mut correct, mut total) = (0usize, 0usize);
    for (_, world) in worlds {
        let rows: Vec<EvalRow> = read(&world.evaluation(TEACHER, 0, "greedy"))?;
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
        recipe::resolve(text, "built-in", &sets)
            .is_ok_and(|carried| recipe::stored(&carried) == recipe::stored(recipe))
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
    worlds: &[Numbered],
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
                    content_hash(recipe::stored(recipe).as_bytes())
                ),
            ),
            fact("scale", recipe.scale.clone()),
            fact("seed", recipe.seed.to_string()),
            fact("fine-tuning seeds", recipe.finetune.seeds.to_string()),
            fact(
                "fine-tuning",
                format!(
                    "{} epochs, {} rows a step, peak rate {}, {:?} decay",
                    recipe.finetune.epochs,
                    recipe.finetune.batch_size,
                    recipe.finetune.lr,
                    recipe.finetune.schedule
                ),
            ),
            fact(
                "evaluation",
                format!(
                    "greedy, and {} samples at temperature {}, at most {} tokens",
                    recipe.eval.samples, recipe.eval.temperature, recipe.eval.max_tokens
                ),
            ),
        ],
    }];
    if let Some(teacher) = teacher {
        groups[0].facts.push(fact("teacher", teacher.clone()));
    }
    for (number, world) in worlds {
        let mut facts = Vec::new();
        for (name, path) in [
            ("problems.jsonl", world.problems()),
            ("traces.jsonl", world.traces()),
            ("verdicts.jsonl", world.verdicts()),
            ("scores.jsonl", world.scores()),
        ] {
            facts.push(fact(name, hash_file(&path)?));
        }
        for arm in &recipe.arms.listed() {
            facts.push(fact(
                &format!("arms/{arm}.jsonl"),
                hash_file(&world.arm(arm))?,
            ));
        }
        let evaluated = world.evaluation(BASE, 0, "greedy");
        if let Some(meta) = Meta::read(&evaluated)? {
            for (name, version) in &meta.versions {
                facts.push(fact(
                    &format!("{name} (of base's evaluation)"),
                    version.clone(),
                ));
            }
        }
        let title = if worlds.len() == 1 {
            "Hashes".to_owned()
        } else {
            format!("Hashes of world {number}")
        };
        groups.push(FactGroup { title, facts });
    }
    Ok(groups)
}
