//! A finished run, measured as arms before training are: what `advise` learns from.

use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::advice::{FinishedArm, FinishedReplicate};
use idiolect_core::comparison::{ArmData, Evaluation};
use idiolect_core::record::{EvalRow, Problem, Verdict};
use idiolect_core::statistics::mean;
use idiolect_core::store::{Meta, hash_file, write_atomic};
use idiolect_engine::text::Opening;
use idiolect_model::Template;
use serde_json::Value;

use super::layout::Layout;
use super::plan::BASE;
use super::recipe::Recipe;
use super::view::{self, Numbered, Replicate, read};
use super::{resolve, results};
use crate::model::{self, How};
use crate::stage::features::{FeatureSettings, measure};
use crate::stage::{Control, StageError, advise};

/// Rows of each arm, problems asked and samples drawn: what `idiolect advise` takes by default.
const ROWS: usize = 1024;
const ASK: usize = 1000;
const SAMPLES: usize = 16;

/// A finished run.
pub struct FinishedRun {
    /// Its directory's name.
    pub name: String,
    /// Its recipe.
    pub recipe: Recipe,
    replicates: Vec<Numbered>,
    dir: PathBuf,
}

impl FinishedRun {
    /// Opens a run's directory; an error where it holds none, or one that is not finished.
    pub fn open(dir: &Path) -> Result<Self, StageError> {
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
        let replicates = view::replicates(&recipe, &Layout::of(dir), first);
        let name = dir
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self {
            name,
            recipe,
            replicates,
            dir: dir.to_owned(),
        })
    }

    /// How many replicates it has.
    pub fn replicates(&self) -> usize {
        self.replicates.len()
    }

    /// What a checkpoint of a replicate answered, as one of replicate `number` of a comparison.
    pub fn evaluation(
        &self,
        replicate: usize,
        number: usize,
        arm: &str,
        seed: u64,
    ) -> Result<Evaluation, StageError> {
        let (_, replicate) = &self.replicates[replicate];
        Ok(results::evaluation(replicate, number, arm, seed)?)
    }

    /// The training sets of a replicate, as those of replicate `number` of a comparison.
    pub fn arm_data(&self, replicate: usize, number: usize) -> Result<Vec<ArmData>, StageError> {
        let (_, replicate) = &self.replicates[replicate];
        Ok(results::arm_data(&self.recipe, replicate, number)?)
    }

    /// Its arms as they look before training, beside what they came to: read from the run's
    /// `advice.jsonl` where they were measured before, else measured and kept there.
    pub fn measured(&self, control: Control<'_>) -> Result<Vec<FinishedReplicate>, StageError> {
        let path = self.dir.join("advice.jsonl");
        let mut meta = self.provenance()?;
        if Meta::read(&path)?.is_some_and(|old| old.complete && old.differences(&meta).is_empty()) {
            return advise::read(&path);
        }
        let mut finished = Vec::new();
        for (number, replicate) in &self.replicates {
            finished.push(self.replicate(*number, replicate, control)?);
        }
        write_rows(&path, &finished)?;
        meta.rows = finished.len() as u64;
        meta.complete = true;
        meta.write(&path)?;
        Ok(finished)
    }

    /// Everything that decides what is measured.
    fn provenance(&self) -> Result<Meta, StageError> {
        let mut meta = Meta::of("advise");
        meta.setting("rows", ROWS)
            .setting("ask", ASK)
            .setting("samples", SAMPLES)
            .setting("measures", MEASURES);
        for (number, replicate) in &self.replicates {
            meta.input(
                &format!("problems {number}"),
                hash_file(&replicate.data.problems())?,
            );
            for arm in &self.recipe.arms.listed() {
                meta.input(
                    &format!("{arm} {number}"),
                    hash_file(&replicate.student.arm(arm))?,
                );
                for seed in 0..self.recipe.train.seeds as u64 {
                    let greedy = replicate.student.evaluation(arm, seed, "greedy");
                    meta.input(&format!("{arm} {number} {seed}"), hash_file(&greedy)?);
                }
            }
        }
        Ok(meta)
    }

    fn replicate(
        &self,
        number: usize,
        replicate: &Replicate,
        control: Control<'_>,
    ) -> Result<FinishedReplicate, StageError> {
        let student = replicate.model.clone();
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
            problems: replicate.data.problems(),
            arms: recipe
                .arms
                .names
                .iter()
                .map(|name| (name.clone(), replicate.student.arm(name)))
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
                .map(|seed| accuracy(replicate, &before.arm, seed))
                .collect::<Result<_, _>>()?;
            arms.push(FinishedArm {
                accuracy: mean(&seeds),
                seeds,
                before,
            });
        }
        let problems: Vec<Problem> = read(&replicate.data.problems())?;
        Ok(FinishedReplicate {
            run: self.name.clone(),
            student: architecture(&student)?,
            task: problems
                .first()
                .map_or_else(String::new, |p| p.task.to_string()),
            replicate: number,
            base: accuracy(replicate, BASE, 0)?,
            arms,
        })
    }
}

/// Moves when what is measured changes, so that kept measurements are made again.
const MEASURES: u32 = 4;

/// Writes rows as `advise --learn` reads them.
pub fn write_rows(path: &Path, replicates: &[FinishedReplicate]) -> Result<(), StageError> {
    let mut text = String::new();
    for replicate in replicates {
        text.push_str(&serde_json::to_string(replicate).expect("a finished replicate serialises"));
        text.push('\n');
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Greedy accuracy over all problems of the test split.
fn accuracy(replicate: &Replicate, arm: &str, seed: u64) -> Result<f64, StageError> {
    let rows: Vec<EvalRow> = read(&replicate.student.evaluation(arm, seed, "greedy"))?;
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
