//! Report: a page out of evaluation files, and of whatever else there is of arms, scores and trainings,
//! without a run directory. What is not given is stated on the page.

pub(crate) mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use idiolect_core::comparison::{ArmData, Comparison, Evaluation};
use idiolect_core::record::{ArmRow, ScoreRow, VerdictRow};
use idiolect_core::store::{Meta, file_name};
use idiolect_report::view::{Answers, Asked, Checkpoint, FactGroup, RunView};
use serde_json::Value;

use super::StageError;
use super::arms;
use super::compare::{CompareSettings, Compared, ComparedFile, compared};
use super::inputs::Problems;

/// What a page is made of.
#[derive(Clone, Debug)]
pub struct ReportSettings {
    /// The evaluations, at least one.
    pub compare: CompareSettings,
    /// `problems.jsonl`: questions and right answers beside the answers.
    pub problems: Option<PathBuf>,
    /// A folder of arms: what was trained on.
    pub arms: Option<PathBuf>,
    /// Verdicts on the arms' traces.
    pub verdicts: Vec<PathBuf>,
    /// Scores of the arms' traces under the untrained student.
    pub scores: Vec<PathBuf>,
    /// `tokens.parquet` of the same.
    pub tokens: Option<PathBuf>,
    /// Folders of trainings, by arm.
    pub trainings: Vec<(String, PathBuf)>,
    /// The command, for the page.
    pub command: String,
}

impl ReportSettings {
    /// Of evaluations alone.
    pub fn of(compare: CompareSettings) -> Self {
        Self {
            compare,
            problems: None,
            arms: None,
            verdicts: Vec::new(),
            scores: Vec::new(),
            tokens: None,
            trainings: Vec::new(),
            command: String::new(),
        }
    }
}

/// Gathers the page's view.
///
/// # Errors
/// A file that cannot be read, evaluations that were not made alike, and arms of which none was
/// evaluated.
pub fn view(settings: &ReportSettings) -> Result<RunView, StageError> {
    let training_sets = match &settings.arms {
        Some(folder) => Some(TrainingSets::read(folder, settings)?),
        None => None,
    };
    let data = training_sets
        .as_ref()
        .map_or_else(Vec::new, TrainingSets::data);
    let compared = compared(&settings.compare, &data)?;
    let mut view = RunView::new("Comparison", compared.comparison.clone());
    view.setting = setting(&compared);
    view.provenance = provenance(&compared, settings.compare.assume_same);
    view.answers = vec![answers(compared.checkpoints, settings)?];
    view.commands = vec![settings.command.clone()];
    if let Some(sets) = &training_sets {
        sets.show(settings, &mut view)?;
    }
    let mut seeds: BTreeMap<&str, u64> = BTreeMap::new();
    let evaluated: BTreeSet<&str> = settings
        .compare
        .evaluations
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for (arm, folder) in &settings.trainings {
        if !evaluated.contains(arm.as_str()) {
            let named: Vec<&str> = evaluated.iter().copied().collect();
            return Err(StageError::usage(
                format!(
                    "--training {arm}={}: no evaluation is called `{arm}`",
                    folder.display()
                ),
                &format!("the evaluations are {}", named.join(", ")),
            ));
        }
        let seed = seeds.entry(arm.as_str()).or_default();
        view.curves.push(parts::curve(0, arm, *seed, folder)?);
        *seed += 1;
    }
    view.lacks = lacks(settings, &view.comparison);
    Ok(view)
}

/// What was compared, in a sentence.
fn setting(compared: &Compared) -> String {
    let models: BTreeSet<&str> = compared
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    format!(
        "Made of {} evaluation {} of {}, without a run directory.",
        compared.files.len(),
        if compared.files.len() == 1 {
            "file"
        } else {
            "files"
        },
        models.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// What was trained on.
struct TrainingSets {
    arms: Vec<(String, Vec<ArmRow>)>,
    summary: Option<idiolect_core::arms::ArmsSummary>,
    verdicts: Vec<VerdictRow>,
    scores: BTreeMap<String, ScoreRow>,
}

impl TrainingSets {
    /// Reads the arms that were evaluated.
    fn read(folder: &std::path::Path, settings: &ReportSettings) -> Result<Self, StageError> {
        let evaluated: BTreeSet<&String> = settings
            .compare
            .evaluations
            .iter()
            .map(|(name, _)| name)
            .collect();
        let mut read = Vec::new();
        for name in &evaluated {
            let path = folder.join(format!("{name}.jsonl"));
            if path.is_file() {
                read.push(((*name).clone(), parts::read::<ArmRow>(&path)?));
            }
        }
        if !folder.is_dir() {
            return Err(StageError::usage(
                format!("--arms: there is no folder `{}`", folder.display()),
                "it takes the folder that `idiolect arms` wrote",
            ));
        }
        if read.is_empty() {
            let named: Vec<&str> = evaluated.iter().map(|name| name.as_str()).collect();
            return Err(StageError::usage(
                format!(
                    "--arms `{}` holds no arm that was evaluated: no file of {}",
                    folder.display(),
                    named.join(", ")
                ),
                "an evaluation is named as its arm's file is: W=eval.jsonl for W.jsonl",
            ));
        }
        let summary = match folder.join("arms.json").is_file() {
            true => Some(arms::summary(folder)?),
            false => None,
        };
        let wanted: BTreeSet<&str> = read
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(|row| row.trace_id.as_str())
            .collect();
        let mut scores = BTreeMap::new();
        for path in &settings.scores {
            for row in parts::read::<ScoreRow>(path)? {
                if wanted.contains(row.trace_id.as_str()) {
                    scores.insert(row.trace_id.clone(), row);
                }
            }
        }
        let mut verdicts: Vec<VerdictRow> = Vec::new();
        for path in &settings.verdicts {
            verdicts.extend(parts::read::<VerdictRow>(path)?);
        }
        Ok(Self {
            arms: read,
            summary,
            verdicts,
            scores,
        })
    }

    fn data(&self) -> Vec<ArmData> {
        parts::arm_data(
            0,
            &self.arms,
            &self.scores,
            &self.verdicts,
            self.summary.as_ref(),
            &BTreeMap::new(),
        )
    }

    fn show(&self, settings: &ReportSettings, view: &mut RunView) -> Result<(), StageError> {
        let verdicts = parts::by_trace(self.verdicts.clone());
        for (name, rows) in &self.arms {
            let spec = self
                .summary
                .as_ref()
                .and_then(|summary| summary.arms.get(name));
            let spec = spec.map(|arm| arm.spec.as_str());
            view.arms
                .push(parts::description(name, rows, &verdicts, spec));
        }
        if let Some(summary) = &self.summary {
            let names: Vec<String> = self.arms.iter().map(|(name, _)| name.clone()).collect();
            parts::coverage(summary, &names, view);
            view.coverage_notes.extend(summary.warnings.iter().cloned());
        }
        view.examples = parts::examples(&self.arms, settings.tokens.as_deref(), &verdicts)?;
        Ok(())
    }
}

/// Everyone's answers, with the questions where they are known.
fn answers(checkpoints: Vec<Evaluation>, settings: &ReportSettings) -> Result<Answers, StageError> {
    let ids: BTreeSet<String> = checkpoints
        .iter()
        .flat_map(|checkpoint| &checkpoint.rows)
        .map(|row| row.problem_id.clone())
        .collect();
    let known = match &settings.problems {
        Some(path) => Some(problems_of(path, &ids)?),
        None => None,
    };
    let asked = |id: String| match known.as_ref().and_then(|known| known.get(&id)) {
        Some(problem) => parts::asked(problem.clone()),
        None => Asked {
            id,
            ..Asked::default()
        },
    };
    Ok(Answers {
        replicate: 0,
        problems: ids.into_iter().map(asked).collect(),
        checkpoints: checkpoints
            .into_iter()
            .map(|evaluation| Checkpoint {
                arm: evaluation.arm,
                seed: evaluation.seed,
                rows: evaluation.rows,
            })
            .collect(),
    })
}

/// The problems that were answered.
///
/// # Errors
/// At the first row that is no problem; where a problem that was answered is not among them.
fn problems_of(path: &std::path::Path, ids: &BTreeSet<String>) -> Result<Problems, StageError> {
    let known = Problems::read(path, &[])?;
    if let Some(bad) = known.bad.first() {
        return Err(StageError::failed(
            format!(
                "--problems `{}`, line {}: {}",
                path.display(),
                bad.line,
                bad.reason
            ),
            "it takes problems that `idiolect import` wrote",
        ));
    }
    let missing: Vec<&String> = ids.iter().filter(|id| known.get(id).is_none()).collect();
    match missing.first() {
        None => Ok(known),
        Some(first) => Err(StageError::usage(
            format!(
                "--problems `{}` lacks {} of the {} problems that were answered, the first `{first}`",
                path.display(),
                missing.len(),
                ids.len()
            ),
            "give the problems that were asked",
        )),
    }
}

/// The files and how they were made: of files made alike once, else of each.
fn provenance(compared: &Compared, assume_same: bool) -> Vec<FactGroup> {
    let file = |compared: &ComparedFile| {
        let ComparedFile { file, hash, .. } = compared;
        let model = compared.meta.as_ref();
        let model = model.and_then(|meta| meta.versions.get("model"));
        let model = model.map_or_else(
            || "its making is not recorded".to_owned(),
            |model| format!("model {model}"),
        );
        (compared.name.clone(), format!("{file} ({hash}), {model}"))
    };
    let mut groups = vec![FactGroup {
        title: "Evaluations".to_owned(),
        facts: compared.files.iter().map(file).collect(),
    }];
    let shown = if assume_same { compared.files.len() } else { 1 };
    for ComparedFile {
        name, file, meta, ..
    } in compared.files.iter().take(shown)
    {
        let Some(meta) = meta else { continue };
        let title = if assume_same {
            format!("How {name} was evaluated ({file})")
        } else {
            "How all of them were evaluated".to_owned()
        };
        groups.push(FactGroup {
            title,
            facts: facts_of(meta, assume_same),
        });
    }
    groups
}

/// Settings and versions, without those that differ from file to file.
fn facts_of(meta: &Meta, own: bool) -> Vec<(String, String)> {
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let settings = meta
        .settings
        .iter()
        .map(|(name, value)| (name.clone(), shown(value)));
    let versions = meta
        .versions
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()));
    settings
        .chain(versions)
        .filter(|(name, value)| {
            (own || !["model", "tokenizer", "seed", "trained_rows"].contains(&name.as_str()))
                && value != "null"
        })
        .collect()
}

/// What other files would have shown.
fn lacks(settings: &ReportSettings, comparison: &Comparison) -> Vec<String> {
    let all: [(bool, &str); 7] = [
        (
            settings.problems.is_none(),
            "Questions and right answers: answers are shown by the ids of their problems. --problems problems.jsonl has them.",
        ),
        (
            settings.arms.is_none(),
            "What each arm holds and covers, and its rows to read: idiolect report --arms ARMS_DIR.",
        ),
        (
            settings.arms.is_some() && settings.verdicts.is_empty(),
            "Whether the rows that were trained on are right, and their steps: idiolect report --verdicts verdicts.jsonl.",
        ),
        (
            settings.scores.is_empty(),
            "How close each arm is to the untrained student, and how that goes with accuracy: idiolect report --arms ARMS_DIR --scores scores.jsonl.",
        ),
        (
            settings.arms.is_some() && settings.tokens.is_none(),
            "How much each token of the rows surprises the student: idiolect report --tokens tokens.parquet.",
        ),
        (
            settings.trainings.is_empty(),
            "Losses during training: idiolect report --training NAME=TRAIN_DIR.",
        ),
        (
            settings.arms.is_some() && comparison.dose_curve.is_empty(),
            "A dose curve: none of the arms has injected flaws (F25, F50, …).",
        ),
    ];
    let mut lacks: Vec<String> = all
        .iter()
        .filter(|(lacks, _)| *lacks)
        .map(|(_, text)| (*text).to_owned())
        .collect();
    lacks.push("The test problems' own solutions under each checkpoint, and accuracies on dev problems: only idiolect run measures them.".to_owned());
    lacks
}

/// A command as it is typed, with the names of its files alone.
pub fn command(name: &str, arguments: &[(String, Option<&std::path::Path>)]) -> String {
    let mut command = format!("idiolect {name}");
    for (argument, path) in arguments {
        command.push(' ');
        command.push_str(argument);
        if let Some(path) = path {
            command.push_str(&file_name(path));
        }
    }
    command
}
