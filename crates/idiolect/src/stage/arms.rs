//! Arms: matched training sets from verified traces.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::arms::{
    ArmSpec, ArmsInput, ArmsOptions, ArmsSummary, BuiltArms, Matching, Student, build,
};
use idiolect_core::record::{ArmRow, Problem, ScoreRow, Split, Trace, VerdictRow, content_hash};
use idiolect_core::store::{BadRow, Folder, Meta, OpenedFolder, StoreError, write_atomic};
use serde::de::DeserializeOwned;

use super::inputs::{Input, Problems, PromptKind, Prompts};
use super::student::StudentText;
use super::{Control, Outcome, StageError};

/// What to build arms from.
#[derive(Clone, Debug)]
pub struct ArmsSettings {
    /// `problems.jsonl`, held-out problems included: they guard against leaks.
    pub problems: PathBuf,
    /// Files of traces, in order.
    pub traces: Vec<PathBuf>,
    /// Files of their verdicts.
    pub verdicts: Vec<PathBuf>,
    /// Files of their scores, for token counts; may be none.
    pub scores: Vec<PathBuf>,
    /// Pairs of name and spec; none are every plain arm that the traces support.
    pub arms: Vec<(String, String)>,
    /// How the arms are made equal.
    pub matching: Matching,
    /// Rows of each arm to keep, before tokens are matched; all where unset.
    pub rows: Option<usize>,
    /// Lets W hold traces whose source does not state how they ended.
    pub unknown_finish_is_stop: bool,
    /// A built-in prompt or a file; `None` is the task's default.
    pub prompt: Option<String>,
    /// Keys every draw.
    pub seed: u64,
    /// The folder of arms.
    pub output: PathBuf,
}

/// What the stage puts into its folder.
const ARM_FILES: &[&str] = &["*.jsonl", "picks.json", "arms.json", ".*.tmp"];

/// Writes one file an arm and `arms.json`. All arms hold the same training problems, and only rows
/// that the student can be trained on, where one is given.
pub fn arms(
    settings: &ArmsSettings,
    student: Option<&StudentText>,
    control: Control<'_>,
) -> Result<Outcome, StageError> {
    let specs = specs(&settings.arms)?;
    let problems = Problems::read(&settings.problems, &[])?;
    let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
    let files = Files::open(settings)?;
    let mut meta = provenance(settings, &specs, &problems, &prompts, &files);
    if let Some(student) = student {
        student.record(&mut meta);
    }
    let mut folder = match Folder::open(&settings.output, &meta, ARM_FILES, control.overwrite)? {
        OpenedFolder::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        OpenedFolder::Unfinished(folder) => folder,
    };
    folder.hash_files();
    let meter = control.progress.begin("arms", "arms", None, 0);
    let mut bad = problems.bad.clone();
    let (asked, prompts) = rendered(&problems, &prompts, &mut bad);
    let mut seen = (problems.rows.len() + problems.bad.len()) as u64;
    // What arms do not ask for is dropped: of a million rows, hundreds of megabytes.
    let traces = all(&files.traces, &mut bad, &mut seen, |trace: &mut Trace| {
        if let Some(problem) = problems.get(&trace.problem_id) {
            let checked = trace.check_question(problem);
            checked.map_err(|reason| (reason, trace.text.clone()))?;
        }
        trace.extra = serde_json::Map::new();
        trace.origin.sampling = None;
        Ok(())
    })?;
    let verdicts = all(
        &files.verdicts,
        &mut bad,
        &mut seen,
        |row: &mut VerdictRow| {
            row.reason = String::new();
            row.problem_id = String::new();
            row.steps.shrink_to_fit();
            Ok(())
        },
    )?;
    let scores: Vec<ScoreRow> = match &files.scores {
        Some(input) => all(input, &mut bad, &mut seen, |_| Ok(()))?,
        None => Vec::new(),
    };
    for row in &bad {
        folder.reject(row)?;
    }
    control.allows(&settings.output, folder.rejected(), seen)?;
    let takes = |row: &ArmRow| {
        student.map_or(Ok(()), |student| {
            student.takes(row).map_err(|error| error.kind)
        })
    };
    let input = ArmsInput {
        problems: &asked,
        traces: &traces,
        verdicts: &verdicts,
        scores: &scores,
        prompts: &prompts,
        student: student.map(|_| Student::new(&takes)),
    };
    let options = ArmsOptions {
        arms: specs,
        matching: settings.matching,
        rows: settings.rows,
        seed: settings.seed,
        unknown_finish_is_stop: settings.unknown_finish_is_stop,
    };
    let built =
        build(input, &options).map_err(|error| StageError::failed(error.to_string(), ""))?;
    drop(meter);
    let hash = write(folder.path(), &built)?;
    for warning in &built.summary.warnings {
        control.progress.note("arms", warning);
    }
    let rows: usize = built.arms.iter().map(|arm| arm.rows.len()).sum();
    Outcome::of(
        &settings.output,
        &folder.finish(rows as u64, seen, &hash)?,
        false,
        control,
    )
}

/// What `arms.json` of a folder of arms holds.
///
/// # Errors
/// When it cannot be read, or is no such summary.
pub fn summary(folder: &Path) -> Result<ArmsSummary, StoreError> {
    let path = folder.join("arms.json");
    let bytes = std::fs::read(&path).map_err(StoreError::io("read", &path))?;
    serde_json::from_slice(&bytes).map_err(|error| StoreError::Format {
        path: path.display().to_string(),
        reason: format!("not a summary of arms: {error}"),
    })
}

fn specs(arms: &[(String, String)]) -> Result<Vec<ArmSpec>, StageError> {
    let parse = |(name, spec): &(String, String)| {
        format!("{name}={spec}")
            .parse::<ArmSpec>()
            .map_err(|error| StageError::usage(error.to_string(), ""))
    };
    arms.iter().map(parse).collect()
}

/// The inputs beside the problems.
struct Files {
    traces: Input,
    verdicts: Input,
    scores: Option<Input>,
}

impl Files {
    fn open(settings: &ArmsSettings) -> Result<Self, StageError> {
        Ok(Self {
            traces: Input::open_all(&settings.traces)?,
            verdicts: Input::open_all(&settings.verdicts)?,
            scores: match settings.scores.as_slice() {
                [] => None,
                files => Some(Input::open_all(files)?),
            },
        })
    }
}

fn provenance(
    settings: &ArmsSettings,
    specs: &[ArmSpec],
    problems: &Problems,
    prompts: &Prompts,
    files: &Files,
) -> Meta {
    let mut meta = Meta::of("arms");
    problems.record(&mut meta);
    prompts.record(&mut meta);
    meta.input("traces", files.traces.hash())
        .input("verdicts", files.verdicts.hash());
    if let Some(scores) = &files.scores {
        meta.input("scores", scores.hash());
    }
    let named: Vec<String> = specs
        .iter()
        .map(|arm| format!("{}={}", arm.name, arm.spec()))
        .collect();
    meta.setting("arms", named)
        .setting("matching", settings.matching)
        .setting("rows", settings.rows)
        .setting("unknown_finish_is_stop", settings.unknown_finish_is_stop)
        .setting("seed", settings.seed);
    meta
}

/// The problems, and the prompts of those that may enter an arm. A training problem that cannot
/// be asked is refused.
fn rendered(
    problems: &Problems,
    prompts: &Prompts,
    bad: &mut Vec<BadRow>,
) -> (Vec<Problem>, BTreeMap<String, String>) {
    let (mut asked, mut rendered) = (Vec::new(), BTreeMap::new());
    for (line, problem) in &problems.rows {
        if problem.split == Split::Train {
            match problems.task(problem).prompt(problem, prompts.of(problem)) {
                Ok(prompt) => drop(rendered.insert(problem.id.clone(), prompt)),
                Err(reason) => {
                    bad.push(BadRow::new(
                        &problems.file,
                        *line,
                        reason,
                        &problem.question,
                    ));
                    continue;
                }
            }
        }
        asked.push(problem.clone());
    }
    (asked, rendered)
}

/// The rows of an input that `takes` accepts, each cut down by it as it is read; what it refuses has a
/// reason and a text.
fn all<T: DeserializeOwned>(
    input: &Input,
    bad: &mut Vec<BadRow>,
    seen: &mut u64,
    takes: impl Fn(&mut T) -> Result<(), (String, String)>,
) -> Result<Vec<T>, StageError> {
    let mut rows = Vec::new();
    for row in input.rows::<T>()? {
        *seen += 1;
        let mut row = match row? {
            Ok(row) => row,
            Err(row) => {
                bad.push(row);
                continue;
            }
        };
        match takes(&mut row.value) {
            Ok(()) => rows.push(row.value),
            Err((reason, text)) => bad.push(BadRow::new(&row.file, row.line, reason, &text)),
        }
    }
    Ok(rows)
}

/// Writes the arms and their summary; gives the summary's hash, which covers the arms' own.
fn write(folder: &Path, built: &BuiltArms) -> Result<String, StageError> {
    for arm in &built.arms {
        let mut text = Vec::new();
        for row in &arm.rows {
            serde_json::to_writer(&mut text, row)
                .map_err(|error| StageError::failed(error.to_string(), ""))?;
            text.push(b'\n');
        }
        write_atomic(&folder.join(format!("{}.jsonl", arm.spec.name)), &text)?;
    }
    let picks: BTreeMap<&str, _> = built
        .arms
        .iter()
        .map(|arm| (arm.spec.name.as_str(), &arm.reasons))
        .collect();
    let picks =
        serde_json::to_vec(&picks).map_err(|error| StageError::failed(error.to_string(), ""))?;
    write_atomic(&folder.join("picks.json"), &picks)?;
    let mut text = serde_json::to_vec_pretty(&built.summary)
        .map_err(|error| StageError::failed(error.to_string(), ""))?;
    text.push(b'\n');
    write_atomic(&folder.join("arms.json"), &text)?;
    Ok(content_hash(&text))
}
