//! What the report of a finished run shows, gathered from its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::arms::{ArmsSummary, Source};
use idiolect_core::comparison::Comparison;
use idiolect_core::record::{ArmRow, EvalRow, Problem, Split, Trace, Verdict, VerdictRow};
use idiolect_core::store::{Meta, StoreError};
use idiolect_report::view::{Answers, Checkpoint, DevScore, FactGroup, RunView};
use serde::de::DeserializeOwned;

use super::layout::{DataPaths, Layout, StudentPaths};
use super::limits::limits;
use super::plan::BASE;
use super::recipe::Recipe;
use crate::stage::arms;
use crate::stage::report::parts;
pub(super) use crate::stage::report::parts::{name_of, read};

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
        let spec = summary.arms.get(name).map(|arm| arm.spec.as_str());
        view.arms
            .push(parts::description(name, &rows, &verdicts, spec));
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
    arms::summary(&replicate.student.arms())
}

/// How many of the train problems each arm could cover, and how many all arms cover.
fn coverage(summary: &ArmsSummary, recipe: &Recipe, view: &mut RunView) {
    parts::coverage(summary, &recipe.arms.listed(), view);
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
            let training = replicate.student.checkpoint(arm, seed);
            view.curves
                .push(parts::curve(number, arm, seed, &training)?);
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
    let problems: Vec<Problem> = read(&replicate.data.problems())?;
    let is_asked = |problem: &Problem| problem.split == Split::Test;
    Ok(Answers {
        replicate: number,
        problems: problems
            .into_iter()
            .filter(is_asked)
            .map(parts::asked)
            .collect(),
        checkpoints,
    })
}

/// The arms' rows for the same problems, with the untrained student's surprisal at each token.
fn examples(recipe: &Recipe, replicate: &Replicate, view: &mut RunView) -> Result<(), StoreError> {
    let mut arms = Vec::new();
    for arm in &recipe.arms.listed() {
        arms.push((arm.clone(), read::<ArmRow>(&replicate.student.arm(arm))?));
    }
    let verdicts = verdicts_by_trace(replicate)?;
    view.examples = parts::examples(&arms, Some(&replicate.student.tokens()), &verdicts)?;
    Ok(())
}

pub(super) fn verdicts_by_trace(
    replicate: &Replicate,
) -> Result<BTreeMap<String, VerdictRow>, StoreError> {
    Ok(parts::by_trace(replicate.verdicts()?))
}
