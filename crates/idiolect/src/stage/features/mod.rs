//! What is measured of candidate arms before training; `advise` predicts from it and the benchmark
//! judges it.
//!
//! Passes over a sample of each arm under the untrained student: scores of its rows, verdicts on its
//! answers, whether they can be distinguished from the student's own samples (`own`), one
//! gradient step ahead (`probe`), and the extra passes of `extra`.

mod extra;
mod own;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::advice::ArmFeatures;
use idiolect_core::arms::{ArmsSummary, describe};
use idiolect_core::metric::{METRICS, SetSums, grape, lark, named};
use idiolect_core::record::{Finish, Problem, ScoreRow, StepCheck, Verdict};
use idiolect_core::scores::{Identity, fold};
use idiolect_core::task::Judgement;
use idiolect_model::{Context, Example, GenerateRequest, Rng, Scored};
use serde_json::Value;

use self::own::Own;
use super::code::CodeRunner;
use super::inputs::{Input, Problems, PromptKind, Prompts, arm_rows};
use super::{Control, StageError};
use idiolect_model::Model;

/// What to measure and on how much of it.
#[derive(Clone, Debug)]
pub struct FeatureSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Names and files.
    pub arms: Vec<(String, PathBuf)>,
    /// A built-in prompt or a file; `None` is the task's default.
    pub prompt: Option<String>,
    /// Rows of each arm that are looked at.
    pub rows: usize,
    /// Rows of an optimiser step.
    pub batch_size: usize,
    /// Peak learning rate of the training that is considered.
    pub lr: f64,
    /// Problems that the student is asked to find its own right answers.
    pub probe_problems: usize,
    /// Samples a problem.
    pub samples: usize,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// Also measure what only the benchmark shows (`extra`).
    pub all_metrics: bool,
    /// Decides which rows and problems, and the student's samples.
    pub seed: u64,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// In the order of the arms.
    pub arms: Vec<ArmFeatures>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// One row of an arm that is looked at.
struct ArmRow {
    problem: Option<Problem>,
    example: Example,
    /// Which row of its file it is, from 0.
    place: usize,
}

/// An arm's sample, and how long the whole is.
struct Arm {
    name: String,
    /// What its letter represents.
    description: String,
    path: PathBuf,
    /// In a random order, so that the first of them are a sample too.
    rows: Vec<ArmRow>,
    total: usize,
    problems: BTreeSet<String>,
}

/// Measures every arm.
pub fn measure(
    settings: &FeatureSettings,
    model: &mut dyn Model,
    control: Control<'_>,
) -> Result<Measured, StageError> {
    let problems = Problems::read(&settings.problems, &[])?;
    let prompts = Prompts::resolve(&problems, settings.prompt.as_deref(), PromptKind::Solve)?;
    let code = CodeRunner::for_tasks(problems.tasks(), control)?;
    let mut warnings = Vec::new();
    let mut arms = Vec::new();
    for (name, path) in &settings.arms {
        arms.push(Arm::read(name, path, &problems, settings)?);
    }
    for arm in &arms {
        let rows = arm.rows.iter();
        let asked = rows.filter_map(|row| Some((row.problem.as_ref()?, &row.example.context)));
        same_prompt(&arm.name, asked, &problems, &prompts)?;
    }
    let mut all = Vec::new();
    let mut by_arm = Vec::new();
    for arm in &mut arms {
        control
            .progress
            .note("advise", &format!("scoring a sample of {}", arm.name));
        let score_rows = arm_scores(arm, model, &mut warnings)?;
        all.push(arm.features(&problems, &code, &score_rows)?);
        code.check()?;
        by_arm.push(score_rows);
        stop(control)?;
    }
    by_problem(&by_arm, &mut all);
    control
        .progress
        .note("advise", "the student's own samples for the arms' problems");
    let own = Own::sample(settings, &arms, model, control)?;
    for (score_rows, features) in by_arm.iter().zip(&mut all) {
        let likeness = own.likeness(score_rows);
        features
            .features
            .extend(likeness.map(|likeness| ("likeness".to_owned(), likeness)));
    }
    let used: BTreeSet<&str> = arms
        .iter()
        .flat_map(|a| a.problems.iter().map(String::as_str))
        .collect();
    match probe::probe(settings, &problems, &prompts, &code, &used, model, control)? {
        Err(why) => warnings.push(why),
        Ok(probe) => {
            warnings.extend(probe.warning.clone());
            let mut gains = Vec::with_capacity(arms.len());
            for (arm, features) in arms.iter().zip(&mut all) {
                control
                    .progress
                    .note("advise", &format!("one step ahead on {}", arm.name));
                gains.push(probe.look_ahead(arm, settings, model, features, &mut warnings)?);
                stop(control)?;
            }
            for (error, features) in probe::paired_errors(&gains).into_iter().zip(&mut all) {
                let error = error.map(|error| ("lookahead".to_owned(), error));
                features.errors.extend(error);
            }
        }
    }
    if settings.all_metrics {
        extra::measure(
            settings, &arms, &by_arm, &own, &problems, model, &mut all, control,
        )?;
    }
    warnings.dedup();
    Ok(Measured {
        arms: all,
        warnings,
    })
}

fn stop(control: Control<'_>) -> Result<(), StageError> {
    if control.stop.requested() {
        return Err(StageError::Interrupted);
    }
    Ok(())
}

impl Arm {
    /// Reads all rows and keeps a seeded sample. A row that is none is an error: advice on a part
    /// of an arm would be advice on another arm.
    fn read(
        name: &str,
        path: &Path,
        problems: &Problems,
        settings: &FeatureSettings,
    ) -> Result<Self, StageError> {
        let mut known = BTreeSet::new();
        let mut rows = Vec::new();
        for data in arm_rows(&Input::open(path)?, name, path)? {
            let problem = data.problem_id.as_deref().and_then(|id| problems.get(id));
            let problem = problem.cloned();
            known.extend(data.problem_id);
            rows.push(ArmRow {
                problem,
                example: data.example,
                place: rows.len(),
            });
        }
        let total = rows.len();
        let ids: Vec<Option<&str>> = rows
            .iter()
            .map(|row| row.problem.as_ref().map(|problem| problem.id.as_str()))
            .collect();
        let mut order = by_lot(&ids, settings.seed);
        order.truncate(settings.rows);
        let mut rows: Vec<Option<ArmRow>> = rows.into_iter().map(Some).collect();
        Ok(Self {
            name: name.to_owned(),
            description: description(name, path),
            path: path.to_owned(),
            rows: order.into_iter().filter_map(|at| rows[at].take()).collect(),
            total,
            problems: known,
        })
    }

    fn examples(&self) -> Vec<Example> {
        self.rows.iter().map(|row| row.example.clone()).collect()
    }

    /// Everything that folds out of scores and verdicts.
    fn features(
        &self,
        problems: &Problems,
        code: &CodeRunner,
        score_rows: &[ScoreRow],
    ) -> Result<ArmFeatures, StageError> {
        let mut arm = ArmFeatures {
            arm: self.name.clone(),
            description: self.description.clone(),
            rows: self.total,
            ..ArmFeatures::default()
        };
        let sums = SetSums::of(score_rows).map_err(|e| StageError::failed(e.to_string(), ""))?;
        if let Some(sums) = sums {
            arm.tokens_per_row = sums.tokens.n_tokens as f64 / score_rows.len() as f64;
            for metric in METRICS {
                if let Some(value) = (metric.of_set)(&sums) {
                    arm.metrics
                        .insert(metric.name.to_owned(), metric.direction.closeness(value));
                }
            }
            let nll = named("nll_per_token").and_then(|m| (m.of_set)(&sums));
            if let Some(nll) = nll.filter(|nll| *nll > 0.0) {
                arm.features.insert("closeness".to_owned(), -nll.ln());
            }
        }
        let judged: Vec<Judgement> = self
            .rows
            .iter()
            .filter_map(|row| {
                let problem = row.problem.as_ref()?;
                let text = &row.example.completion;
                Some(
                    problems
                        .task(problem)
                        .verify(problem, text, Finish::Stop, code.execute()),
                )
            })
            .collect();
        // A share over some rows would not be the arm's.
        if judged.len() == self.rows.len() {
            let right = judged
                .iter()
                .filter(|j| j.verdict == Verdict::Correct)
                .count();
            arm.features
                .insert("right".to_owned(), right as f64 / judged.len() as f64);
            let of = |check: StepCheck| {
                let steps = judged.iter().flat_map(|j| &j.steps);
                steps.filter(|step| step.check == check).count() as f64
            };
            let (valid, invalid) = (of(StepCheck::Valid), of(StepCheck::Invalid));
            if valid + invalid > 0.0 {
                arm.metrics
                    .insert("valid_steps".to_owned(), valid / (valid + invalid));
            }
        }
        Ok(arm)
    }
}

/// The places of rows in a random order, by a draw of each row's problem: matched arms are looked at
/// on the same problems, whatever else they hold. A row of no known problem draws by its place.
fn by_lot(problems: &[Option<&str>], seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..problems.len()).collect();
    order.sort_by_cached_key(|&at| {
        let place = at.to_string();
        let key = problems[at].map_or(["place", place.as_str()], |id| ["problem", id]);
        Rng::keyed(seed, &["advise", "rows", key[0], key[1]]).next_u64()
    });
    order
}

/// What an arm is made of, as the `arms.json` beside its file records; else what its name usually
/// means.
pub(super) fn description(name: &str, path: &Path) -> String {
    let summary = || -> Option<ArmsSummary> {
        let text = std::fs::read(path.parent()?.join("arms.json")).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    let made = stem.zip(summary()).and_then(|(stem, summary)| {
        let arm = summary.arms.get(stem.as_ref())?;
        Some(describe(&stem, Some(&arm.spec)))
    });
    made.unwrap_or_else(|| describe(name, None))
}

/// The student must be asked as an arm's rows ask it, or its own answers are another style's. Looks at
/// the first of the rows with known problems.
pub(super) fn same_prompt<'a>(
    arm: &str,
    mut rows: impl Iterator<Item = (&'a Problem, &'a Context)>,
    problems: &Problems,
    prompts: &Prompts,
) -> Result<(), StageError> {
    let Some((problem, Context::Prompt(asked))) = rows.next() else {
        return Ok(());
    };
    let rendered = problems
        .task(problem)
        .prompt(problem, prompts.of(problem))
        .map_err(|reason| StageError::failed(format!("problem `{}`: {reason}", problem.id), ""))?;
    if rendered == *asked {
        return Ok(());
    }
    Err(StageError::usage(
        format!(
            "the rows of arm `{arm}` ask problem `{}` with another prompt than the one to ask the student with",
            problem.id
        ),
        "give the prompt that the arms were made with: --prompt NAME|FILE",
    ))
}

/// Scores in the order of the examples, and why the student cannot score some.
fn tried(
    model: &mut dyn Model,
    examples: &[Example],
) -> Result<Vec<Result<Scored, String>>, StageError> {
    let mut found: Vec<Option<Result<Scored, String>>> = vec![None; examples.len()];
    model.as_score()?.score(examples, &mut |index, result| {
        found[index] = Some(result.map_err(|error| error.reason));
        std::ops::ControlFlow::Continue(())
    })?;
    let lost = || Err("the model gave it no result".to_owned());
    Ok(found
        .into_iter()
        .map(|found| found.unwrap_or_else(lost))
        .collect())
}

/// Scores in the order of the examples; one that the student cannot score is an error.
fn scores(model: &mut dyn Model, examples: &[Example]) -> Result<Vec<Scored>, StageError> {
    let scored = tried(model, examples)?.into_iter().zip(examples);
    scored
        .map(|(scored, example)| {
            scored.map_err(|reason| {
                let text: String = example.completion.chars().take(80).collect();
                StageError::failed(
                    format!("the student cannot score the text {text:?}: {reason}"),
                    "",
                )
            })
        })
        .collect()
}

fn score_row(scored: &Scored, example: &Example, model: &dyn Model) -> ScoreRow {
    let info = model.info();
    fold(
        &scored.tokens,
        Identity {
            trace_id: "",
            problem_id: None,
            model: &info.hash,
            template: info.template,
            completion_bytes: example.completion.len(),
        },
    )
}

fn folded(examples: &[Example], model: &mut dyn Model) -> Result<Vec<ScoreRow>, StageError> {
    let scored = scores(model, examples)?;
    let pairs = scored.iter().zip(examples);
    Ok(pairs
        .map(|(scored, example)| score_row(scored, example, model))
        .collect())
}

/// Scores of an arm's rows. What the student cannot score it cannot be trained on either: such rows
/// are left out of what is looked at, as training refuses them, and counted in a warning.
///
/// # Errors
/// Where no row is left.
fn arm_scores(
    arm: &mut Arm,
    model: &mut dyn Model,
    warnings: &mut Vec<String>,
) -> Result<Vec<ScoreRow>, StageError> {
    let tried = tried(model, &arm.examples())?;
    let (looked_at, mut refused) = (arm.rows.len(), Vec::new());
    let (mut kept, mut score_rows) = (Vec::new(), Vec::new());
    for (row, scored) in std::mem::take(&mut arm.rows).into_iter().zip(tried) {
        match scored {
            Err(reason) => refused.push((row.place, reason)),
            Ok(scored) => {
                score_rows.push(ScoreRow {
                    trace_id: format!("{}/{}", arm.name, kept.len()),
                    problem_id: row.problem.as_ref().map(|p| p.id.clone()),
                    ..score_row(&scored, &row.example, model)
                });
                kept.push(row);
            }
        }
    }
    arm.rows = kept;
    let Some((place, reason)) = refused.iter().min() else {
        return Ok(score_rows);
    };
    let line = Input::open(&arm.path)?.rows::<Value>()?.nth(*place);
    let line = match line.transpose()? {
        Some(Ok(row)) => format!(", line {}", row.line),
        _ => String::new(),
    };
    let words = format!(
        "arm {}: the student cannot score {} of {looked_at} rows; the first of them, `{}`{line}: {reason}",
        arm.name,
        refused.len(),
        arm.path.display()
    );
    let remedy = "`idiolect arms --model M` leaves such rows out of every arm alike";
    if arm.rows.is_empty() {
        return Err(StageError::failed(words, remedy));
    }
    warnings.push(format!("{words}; they are left out here, and {remedy}"));
    Ok(score_rows)
}

/// Requests for `samples` answers to each problem, of an id and what asks it, one after the other.
fn requests(
    seed: u64,
    what: &str,
    asked: &[(&str, &Context)],
    samples: usize,
) -> Vec<GenerateRequest> {
    let request = |unit: usize| {
        let (id, context) = asked[unit / samples];
        let sample = (unit % samples).to_string();
        GenerateRequest {
            context: context.clone(),
            seed: Rng::keyed(seed, &["advise", what, id, &sample]).next_u64(),
        }
    };
    (0..asked.len() * samples).map(request).collect()
}

/// Metrics of an arm's trace among all arms' traces of its problem: LARK's mean ĝ and the fraction of
/// problems on which GRAPE picks the arm.
fn by_problem(by_arm: &[Vec<ScoreRow>], all: &mut [ArmFeatures]) {
    let mut groups: BTreeMap<&str, Vec<(usize, &ScoreRow)>> = BTreeMap::new();
    for (arm, score_rows) in by_arm.iter().enumerate() {
        for score_row in score_rows {
            if let Some(problem) = &score_row.problem_id {
                groups.entry(problem).or_default().push((arm, score_row));
            }
        }
    }
    let mut lark_sums = vec![(0.0, 0usize); all.len()];
    let mut grape_picks = vec![0usize; all.len()];
    let mut whole = 0usize;
    for group in groups.values().filter(|g| g.len() == all.len()) {
        let candidates: Vec<ScoreRow> = group.iter().map(|(_, a)| (*a).clone()).collect();
        whole += 1;
        if let Ok(scores) = lark::scores(&candidates) {
            for ((arm, _), score) in group.iter().zip(scores) {
                lark_sums[*arm].0 += score;
                lark_sums[*arm].1 += 1;
            }
        }
        if let Some(pick) = grape::pick(&candidates) {
            grape_picks[group[pick].0] += 1;
        }
    }
    for (arm, features) in all.iter_mut().enumerate() {
        let (sum, n) = lark_sums[arm];
        if n > 0 {
            features.metrics.insert("lark".to_owned(), sum / n as f64);
        }
        if whole > 0 {
            features
                .metrics
                .insert("grape".to_owned(), grape_picks[arm] as f64 / whole as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_of_a_sample_are_a_sample_of_the_same_problems_in_every_arm() {
        let ids: Vec<String> = (0..1000).map(|at| format!("gsm8k/train/{at:04}")).collect();
        let all: Vec<Option<&str>> = ids.iter().map(|id| Some(id.as_str())).collect();
        let first = |ids: &[Option<&str>]| -> BTreeSet<String> {
            let order = by_lot(ids, 0);
            order[..200]
                .iter()
                .filter_map(|at| ids[*at].map(str::to_owned))
                .collect()
        };
        let found = first(&all);
        // In id order they would all be among the first 200; by lot about a fifth is.
        let early = found.iter().filter(|id| **id < ids[200]).count();
        assert!((20..60).contains(&early), "{early}");
        // An arm without some problems is looked at on the same ones otherwise.
        let without: Vec<Option<&str>> = all.iter().copied().skip(100).collect();
        let shared = first(&without).intersection(&found).count();
        assert!(shared > 160, "{shared}");
        assert_eq!(by_lot(&[None; 5], 1).len(), 5);
    }
}
