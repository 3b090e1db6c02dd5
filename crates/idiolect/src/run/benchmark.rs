//! The living benchmark's tables: how well do rankings made before training agree with what came out?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::advice::judge::{ADVISE, Judged, LONGEST, RANDOM, Summary, judge, summaries};
use idiolect_core::advice::{FinishedArm, FinishedWorld};
use idiolect_core::record::{EvalRow, Problem, Verdict};
use idiolect_core::statistics::mean;
use idiolect_core::store::{Meta, hash_file, write_atomic};
use idiolect_model::Template;
use serde_json::Value;

use super::claims;
use super::layout::Layout;
use super::plan::BASE;
use super::recipe::Recipe;
use super::resolve;
use super::view::{self, Numbered, Replicate, read};
use crate::model::{self, How};
use crate::stage::features::{FeatureSettings, measure};
use crate::stage::{Control, StageError};
use idiolect_engine::text::Opening;

/// Rows of each arm, problems asked and samples drawn: what `idiolect advise` takes by default.
const ROWS: usize = 1024;
const ASK: usize = 1000;
const SAMPLES: usize = 16;

/// What the goal of the advice is: the best published figure for ranking trajectories before
/// training (arXiv 2601.14249).
const GOAL: f64 = 0.86;

/// What the advice is held against by regret.
const RIVALS: [&str; 5] = [RANDOM, LONGEST, "nll_per_token", "rsr", "lark"];

/// What to judge, and what to write.
#[derive(Clone, Debug)]
pub(crate) struct BenchmarkSettings {
    /// Directories of finished runs.
    pub(crate) runs: Vec<PathBuf>,
    /// The tables.
    pub(crate) output: Option<PathBuf>,
    /// The paper's claims.
    pub(crate) claims: Option<PathBuf>,
    /// The finished worlds.
    pub(crate) finished: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(crate) struct Benchmarked {
    /// For a person.
    pub(crate) text: String,
    /// Means over worlds, over all arms.
    pub(crate) summary: Vec<Summary>,
    /// The same without arms F and R.
    pub(crate) restricted: Vec<Summary>,
    /// Every ranking in every world, over all arms.
    pub(crate) judged: Vec<Judged>,
}

/// A finished run.
pub(super) struct FinishedRun {
    /// Its directory's name.
    pub(super) name: String,
    pub(super) recipe: Recipe,
    pub(super) worlds: Vec<Numbered>,
    dir: PathBuf,
}

impl FinishedRun {
    fn open(dir: &Path) -> Result<Self, StageError> {
        let path = dir.join("recipe.toml");
        let text = fs::read_to_string(&path).map_err(|source| {
            StageError::failed(
                format!(
                    "`{}` holds no run: cannot read `recipe.toml`: {source}",
                    dir.display()
                ),
                "give directories that `idiolect run` wrote",
            )
        })?;
        if !dir.join("comparison.json").exists() {
            return Err(StageError::failed(
                format!("`{}` is not finished", dir.display()),
                "`idiolect run` with its recipe continues it",
            ));
        }
        let recipe = resolve::read_stored(&text, &path.display().to_string())
            .map_err(|error| StageError::failed(error.to_string(), ""))?;
        let students = recipe.students();
        let first = students
            .first()
            .map_or("student", |(name, _)| name.as_str());
        let worlds = view::replicates(&recipe, &Layout::of(dir), first);
        let name = dir
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name,
            recipe,
            worlds,
            dir: dir.to_owned(),
        })
    }

    /// The run's worlds as finished: read where they were measured before, else measured.
    fn finished(&self, control: Control<'_>) -> Result<Vec<FinishedWorld>, StageError> {
        let path = self.dir.join("advice.jsonl");
        let mut meta = self.provenance()?;
        if Meta::read(&path)?.is_some_and(|old| old.complete && old.differences(&meta).is_empty()) {
            return crate::stage::advise::read(&path);
        }
        let mut finished = Vec::new();
        for (number, world) in &self.worlds {
            finished.push(self.world(*number, world, control)?);
        }
        write_rows(&path, &finished)?;
        meta.rows = finished.len() as u64;
        meta.complete = true;
        meta.write(&path)?;
        Ok(finished)
    }

    /// Everything that decides what is measured.
    fn provenance(&self) -> Result<Meta, StageError> {
        let mut meta = Meta::of("benchmark");
        meta.setting("rows", ROWS)
            .setting("ask", ASK)
            .setting("samples", SAMPLES)
            .setting("measures", MEASURES);
        for (number, world) in &self.worlds {
            meta.input(
                &format!("problems {number}"),
                hash_file(&world.data.problems())?,
            );
            for arm in &self.recipe.arms.listed() {
                meta.input(
                    &format!("{arm} {number}"),
                    hash_file(&world.student.arm(arm))?,
                );
                for seed in 0..self.recipe.train.seeds as u64 {
                    let greedy = world.student.evaluation(arm, seed, "greedy");
                    meta.input(&format!("{arm} {number} {seed}"), hash_file(&greedy)?);
                }
            }
        }
        Ok(meta)
    }

    fn world(
        &self,
        number: usize,
        world: &Replicate,
        control: Control<'_>,
    ) -> Result<FinishedWorld, StageError> {
        let student = world.model.clone();
        if !student.is_dir() {
            return Err(StageError::failed(
                format!(
                    "`{}` holds no student: it was trained with one from elsewhere",
                    self.dir.display()
                ),
                "idiolect advise measures arms under any model",
            ));
        }
        let recipe = &self.recipe;
        let settings = FeatureSettings {
            problems: world.data.problems(),
            arms: recipe
                .arms
                .names
                .iter()
                .map(|name| (name.clone(), world.student.arm(name)))
                .collect(),
            prompt: recipe.prompt(),
            rows: ROWS,
            batch_size: recipe.train.batch_size,
            lr: recipe.train.lr,
            probe_problems: ASK,
            samples: SAMPLES,
            max_tokens: recipe.eval.max_tokens,
            all_metrics: true,
            seed: recipe.seed + number as u64,
        };
        let reference = student.display().to_string();
        let opening = Opening {
            template: Some(Template::Raw),
            ..Opening::default()
        };
        let how = How {
            opening,
            ..How::here(control.threads, control.progress, control.stop)
        };
        let mut model = model::open(&reference, &how)?;
        let measured = measure(&settings, model.as_mut(), control)?;
        for warning in &measured.warnings {
            control.progress.note(&self.name, warning);
        }
        let mut arms = Vec::new();
        for before in measured.arms {
            let seeds: Vec<f64> = (0..recipe.train.seeds as u64)
                .map(|seed| accuracy(world, &before.arm, seed))
                .collect::<Result<_, _>>()?;
            arms.push(FinishedArm {
                accuracy: mean(&seeds),
                seeds,
                before,
            });
        }
        let problems: Vec<Problem> = read(&world.data.problems())?;
        Ok(FinishedWorld {
            run: self.name.clone(),
            student: architecture(&student)?,
            task: problems
                .first()
                .map_or_else(String::new, |p| p.task.to_string()),
            world: number,
            base: accuracy(world, BASE, 0)?,
            arms,
        })
    }
}

/// Moves when what is measured changes, so that kept measurements are made again.
const MEASURES: u32 = 3;

fn write_rows(path: &Path, worlds: &[FinishedWorld]) -> Result<(), StageError> {
    let mut text = String::new();
    for world in worlds {
        text.push_str(&serde_json::to_string(world).expect("a finished world serialises"));
        text.push('\n');
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Greedy accuracy over all problems of the test split.
fn accuracy(world: &Replicate, arm: &str, seed: u64) -> Result<f64, StageError> {
    let rows: Vec<EvalRow> = read(&world.student.evaluation(arm, seed, "greedy"))?;
    let correct = rows
        .iter()
        .filter(|r| r.verdict == Verdict::Correct)
        .count();
    Ok(correct as f64 / rows.len().max(1) as f64)
}

/// `model_type` of a model directory.
fn architecture(dir: &Path) -> Result<String, StageError> {
    let path = dir.join("config.json");
    let text = fs::read_to_string(&path)
        .map_err(|e| StageError::failed(format!("cannot read `{}`: {e}", path.display()), ""))?;
    let config: Value = serde_json::from_str(&text)
        .map_err(|e| StageError::failed(format!("`{}`: {e}", path.display()), ""))?;
    Ok(config["model_type"]
        .as_str()
        .unwrap_or("unknown")
        .to_owned())
}

/// Measures, judges and writes.
pub(crate) fn benchmark(
    settings: &BenchmarkSettings,
    control: Control<'_>,
) -> Result<Benchmarked, StageError> {
    let runs: Vec<FinishedRun> = settings
        .runs
        .iter()
        .map(|dir| FinishedRun::open(dir))
        .collect::<Result<_, _>>()?;
    let mut worlds = Vec::new();
    for run in &runs {
        control
            .progress
            .note("benchmark", &format!("measuring {}", run.name));
        worlds.extend(run.finished(control)?);
    }
    number_worlds(&mut worlds);
    let judged = judge(&worlds, &|_| true);
    let without = judge(&worlds, &|arm| !is_control(arm));
    let done = Benchmarked {
        text: String::new(),
        summary: summaries(&judged),
        restricted: summaries(&without),
        judged,
    };
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.recipe.seed).collect();
    let page = page(&seeds, &worlds, &done, &without);
    if let Some(path) = &settings.output {
        write_atomic(path, page.as_bytes())?;
    }
    if let Some(path) = &settings.claims {
        write_atomic(path, claims::page(&runs)?.as_bytes())?;
    }
    if let Some(path) = &settings.finished {
        write_rows(path, &worlds)?;
    }
    Ok(Benchmarked { text: page, ..done })
}

/// Arms that are made to look near or right without being so.
fn is_control(arm: &str) -> bool {
    arm == "R" || (arm.starts_with('F') && arm[1..].bytes().all(|b| b.is_ascii_digit()))
}

fn page(
    seeds: &BTreeSet<u64>,
    worlds: &[FinishedWorld],
    done: &Benchmarked,
    without: &[Judged],
) -> String {
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let mut page = format!(
        "# The living benchmark\n\n\
         Written by `idiolect benchmark RUN_DIR… -o docs/benchmark.md` from finished runs of `recipes/benchmark.toml` (`bench/living.sh`), seed {}.\n\n\
         Every ranking is made before any training, from the arms and the untrained student alone; `advise` has seen \
         neither the student's architecture nor the task of the world that it ranks. ρ is Spearman's rank correlation with \
         the realised greedy accuracies (means over fine-tuning seeds), p its two-sided permutation p. Regret is the \
         accuracy of the best arm minus that of the arm ranked first, in points.\n\n\
         What `advise` measures and how was chosen on worlds of the default experiment and on seeds 0 to 3 of this recipe \
         (`docs/decisions.md` has the figures of each choice): only other seeds are new to all of it. On seeds 1 and 2 arms on \
         word problems held only 100 rows; since then the teacher is trained for two epochs and tries a rewriting eight times.\n",
        seeds.join(", ")
    );
    page += "\n## What came out\n\n";
    page += &outcomes(worlds);
    page += "\n## What holds and what does not\n\n";
    page += &verdicts(done);
    page += "\n## Over all arms\n\n";
    page += &means(&done.summary);
    page += "\n## Without F and R\n\n";
    page += &means(&done.restricted);
    page += "\n## Every world, over all arms\n\nρ (p), regret in points.\n\n";
    page += &every(&done.judged);
    page += "\n## Every world, without F and R\n\n";
    page += &every(without);
    page
}

/// Runs of several seeds of one recipe all hold a world 0: tells the worlds of a student and task
/// apart.
fn number_worlds(worlds: &mut [FinishedWorld]) {
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for world in worlds {
        let next = seen
            .entry((world.student.clone(), world.task.clone()))
            .or_default();
        world.world = *next;
        *next += 1;
    }
}

fn cell(world: &FinishedWorld) -> String {
    format!("{} × {} {}", world.student, world.task, world.world)
}

fn outcomes(worlds: &[FinishedWorld]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for arm in worlds.iter().flat_map(|w| &w.arms) {
        if !names.contains(&arm.before.arm.as_str()) {
            names.push(&arm.before.arm);
        }
    }
    let mut text = format!(
        "| student × task, world | seeds | rows of an arm | base | {} |\n",
        names.join(" | ")
    );
    text += &format!("|---|---|---|---|{}\n", "---|".repeat(names.len()));
    for world in worlds {
        let seeds = world.arms.iter().map(|a| a.seeds.len()).min().unwrap_or(0);
        let rows = world.arms.iter().map(|a| a.before.rows).min().unwrap_or(0);
        let _ = write!(
            text,
            "| {} | {seeds} | {rows} | {:.3} |",
            cell(world),
            world.base
        );
        for name in &names {
            let arm = world.arms.iter().find(|a| a.before.arm == *name);
            let value = arm.map_or("–".to_owned(), |a| format!("{:.3}", a.accuracy));
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    }
    text
}

/// The goals, each with whether it was reached.
fn verdicts(done: &Benchmarked) -> String {
    let mut text = String::new();
    for (what, summary) in [
        ("Over all arms", &done.summary),
        ("Without F and R", &done.restricted),
    ] {
        let of = |name: &str| summary.iter().find(|s| s.ranking == name);
        let Some(advice) = of(ADVISE) else {
            let _ = writeln!(
                text,
                "- {what}: `advise` could not be judged: no world has finished runs of another student and another task to learn from."
            );
            continue;
        };
        let rho = advice.spearman.unwrap_or(0.0);
        let reached = if rho >= GOAL {
            "reached"
        } else {
            "**not reached**"
        };
        let _ = writeln!(
            text,
            "- {what}: `advise` ranks with a mean ρ of {rho:.2} over {} worlds; the goal of {GOAL} is {reached}.",
            advice.worlds
        );
        let better: Vec<String> = summary
            .iter()
            .filter(|s| s.ranking != ADVISE && s.spearman.is_some_and(|r| r > rho))
            .map(|s| format!("`{}` ({:.2})", s.ranking, s.spearman.unwrap_or(0.0)))
            .collect();
        if !better.is_empty() {
            let _ = writeln!(
                text,
                "- {what}: these rank better alone: {}.",
                better.join(", ")
            );
        }
        let lower: Vec<String> = RIVALS
            .iter()
            .filter_map(|name| of(name))
            .filter(|s| s.regret < advice.regret - 1e-12)
            .map(|s| format!("`{}` ({:.1})", s.ranking, 100.0 * s.regret))
            .collect();
        let regret = 100.0 * advice.regret;
        let _ = if lower.is_empty() {
            writeln!(
                text,
                "- {what}: none of {} has a lower mean regret than `advise` ({regret:.1} points).",
                RIVALS.map(|r| format!("`{r}`")).join(", ")
            )
        } else {
            writeln!(
                text,
                "- {what}: `advise` does **not** have the lowest regret ({regret:.1} points): lower are {}.",
                lower.join(", ")
            )
        };
    }
    text
}

fn means(summary: &[Summary]) -> String {
    let mut text =
        String::from("| ranking | mean ρ | mean regret, points | worlds |\n|---|---|---|---|\n");
    for s in summary {
        let rho = s.spearman.map_or("–".to_owned(), |r| format!("{r:.2}"));
        let _ = writeln!(
            text,
            "| {} | {rho} | {:.1} | {} |",
            s.ranking,
            100.0 * s.regret,
            s.worlds
        );
    }
    text
}

fn every(judged: &[Judged]) -> String {
    let label = |j: &Judged| format!("{} × {} {}", j.student, j.task, j.world);
    let mut columns: Vec<String> = Vec::new();
    let mut rows: BTreeMap<&str, BTreeMap<String, &Judged>> = BTreeMap::new();
    for one in judged {
        let label = label(one);
        if !columns.contains(&label) {
            columns.push(label.clone());
        }
        rows.entry(&one.ranking).or_default().insert(label, one);
    }
    let mut text = format!("| ranking | {} |\n", columns.join(" | "));
    text += &format!("|---|{}\n", "---|".repeat(columns.len()));
    for summary in summaries(judged) {
        let Some(row) = rows.get(summary.ranking.as_str()) else {
            continue;
        };
        let _ = write!(text, "| {} |", summary.ranking);
        for column in &columns {
            let value = row.get(column).map_or("–".to_owned(), |j| {
                let regret = format!("{:.1}", 100.0 * j.regret);
                match j.spearman.zip(j.p) {
                    Some((rho, p)) => format!("{rho:.2} ({p:.3}), {regret}"),
                    None => format!("–, {regret}"),
                }
            });
            let _ = write!(text, " {value} |");
        }
        text.push('\n');
    }
    if let Some(drawn) = judged.iter().find(|j| !j.exact && j.p.is_some()) {
        let _ = writeln!(
            text,
            "\np is from 100,000 random permutations where {} arms are too many to enumerate.",
            drawn.n_arms
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_r_and_the_doses() {
        for arm in ["R", "F25", "F100"] {
            assert!(is_control(arm), "{arm}");
        }
        for arm in ["G", "W", "H", "HD", "Fancy", "P"] {
            assert!(!is_control(arm), "{arm}");
        }
    }

    #[test]
    fn worlds_of_one_student_and_task_are_told_apart() {
        let world = |student: &str| FinishedWorld {
            run: String::new(),
            student: student.to_owned(),
            task: "countdown".to_owned(),
            world: 0,
            base: 0.0,
            arms: Vec::new(),
        };
        let mut worlds = ["llama", "qwen2", "llama"].map(world);
        number_worlds(&mut worlds);
        assert_eq!(worlds.each_ref().map(|w| w.world), [0, 0, 1]);
    }
}
