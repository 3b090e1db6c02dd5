//! What `idiolect view` shows of a run, finished or not: jobs, losses as they come, the reports that
//! are there, any trace by its id. Nothing here waits for the run or writes to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use idiolect_core::record::{Problem, Trace, VerdictRow};
use idiolect_core::store::{Rows, StoreError, tokens};
use idiolect_model::TrainEvent;
use idiolect_report::view::{Example, ExampleToken, thin};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::layout::Layout;
use super::{state, stored_recipe};
use crate::stage::StageError;

/// Points that a curve is drawn with.
const POINTS: usize = 120;

/// Traces of one answer.
const MOST_TRACES: usize = 20;

/// A run directory that is looked at again and again.
pub struct Watched {
    dir: PathBuf,
    /// Of each log its length when it was read, and its curve.
    curves: BTreeMap<PathBuf, (u64, Curve)>,
}

#[derive(Clone, Default)]
struct Curve {
    steps: Option<usize>,
    points: Vec<(usize, f64)>,
}

impl Watched {
    /// A run directory.
    ///
    /// # Errors
    /// If `dir` holds no run.
    pub fn new(dir: &Path) -> Result<Self, StageError> {
        state::progress(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            curves: BTreeMap::new(),
        })
    }

    /// The recipe's name.
    pub fn name(&self) -> Result<String, StageError> {
        Ok(stored_recipe(&self.dir)?.name)
    }

    /// Jobs with their states, training losses, and the reports that are there.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn now(&mut self) -> Result<Value, StageError> {
        let (mut now, jobs) = state::progress(&self.dir)?;
        let mut curves = Vec::new();
        for job in &jobs {
            for output in &job.outputs {
                let log = self.dir.join(output).join("log.jsonl");
                if let Some(curve) = self.curve(&log) {
                    curves.push(
                        json!({ "job": job.id, "steps": curve.steps, "points": curve.points }),
                    );
                }
            }
        }
        now["curves"] = json!(curves);
        now["reports"] = json!(self.reports()?);
        Ok(idiolect_report::shown(now))
    }

    /// The curve of a log that is there. A row that is being written is read the next time.
    fn curve(&mut self, log: &Path) -> Option<Curve> {
        let length = std::fs::metadata(log).ok()?.len();
        if let Some((known, curve)) = self.curves.get(log)
            && *known == length
        {
            return Some(curve.clone());
        }
        let rows = Rows::<TrainEvent>::open(log)
            .ok()?
            .collect_good(|_| {})
            .ok()?;
        let mut curve = Curve::default();
        for row in rows {
            match row.value {
                TrainEvent::Started { steps, .. } => curve.steps = Some(steps),
                TrainEvent::Step { step, loss, .. } => curve.points.push((step, loss)),
                _ => {}
            }
        }
        curve.points = thin(&curve.points, POINTS);
        self.curves.insert(log.to_owned(), (length, curve.clone()));
        Some(curve)
    }

    /// Address and name of each report.
    fn reports(&self) -> Result<Vec<(String, String)>, StageError> {
        let mut reports = Vec::new();
        if self.dir.join("report.html").exists() {
            reports.push(("/report.html".to_owned(), "The report".to_owned()));
        }
        let students = stored_recipe(&self.dir)?.students();
        for (name, _) in students.iter().filter(|_| students.len() > 1) {
            if self.report_of(name).exists() {
                let address = format!("/students/{name}/report.html");
                reports.push((address, format!("The report of student {name}")));
            }
        }
        Ok(reports)
    }

    fn report_of(&self, student: &str) -> PathBuf {
        self.dir.join("students").join(student).join("report.html")
    }

    /// The text of a report: of one student of several, or the run's.
    ///
    /// # Errors
    /// If there is none yet.
    pub fn report(&self, student: Option<&str>) -> Result<String, StageError> {
        let path = match student {
            None => self.dir.join("report.html"),
            Some(name) => {
                let students = stored_recipe(&self.dir)?.students();
                // Only what the recipe names, so that no address leads out of the run.
                match students.iter().any(|(known, _)| known == name) {
                    true => self.report_of(name),
                    false => return Err(none("no student has this name")),
                }
            }
        };
        std::fs::read_to_string(path).map_err(|_| none("the report is not there yet"))
    }

    /// The traces with an id, or of a problem with it, as the page's script draws them: under every
    /// student that scored them.
    ///
    /// # Errors
    /// If there is none, or the run's files cannot be read.
    pub fn traces(&self, id: &str) -> Result<Value, StageError> {
        let recipe = stored_recipe(&self.dir)?;
        let layout = Layout::of(&self.dir);
        let mut found = Vec::new();
        let mut more = 0;
        for replicate in 0..recipe.replicates {
            let data = layout.data(replicate);
            let students: Vec<_> = recipe
                .students()
                .into_iter()
                .map(|(name, _)| (layout.student(replicate, &name), name))
                .collect();
            let mut files = vec![data.traces()];
            if !files[0].exists() {
                files = super::plan::parts(&recipe)
                    .iter()
                    .map(|part| data.part(&part.name))
                    .collect();
            }
            files.extend(students.iter().map(|(paths, _)| paths.own()));
            let mut traces: Vec<Trace> = Vec::new();
            for file in &files {
                each(file, |trace: Trace| {
                    let asked = trace.id == id || trace.problem_id == id;
                    match asked && traces.iter().all(|known| known.id != trace.id) {
                        true if found.len() + traces.len() < MOST_TRACES => traces.push(trace),
                        true => more += 1,
                        false => {}
                    }
                })?;
            }
            if traces.is_empty() {
                continue;
            }
            let mut verdicts: BTreeMap<String, VerdictRow> = BTreeMap::new();
            let mut judged = vec![data.verdicts()];
            judged.extend(students.iter().map(|(paths, _)| paths.own_verdicts()));
            for file in &judged {
                each(file, |verdict: VerdictRow| {
                    if traces.iter().any(|trace| trace.id == verdict.trace_id) {
                        verdicts.insert(verdict.trace_id.clone(), verdict);
                    }
                })?;
            }
            let mut questions: BTreeMap<String, String> = BTreeMap::new();
            each(&data.problems(), |problem: Problem| {
                if traces.iter().any(|trace| trace.problem_id == problem.id) {
                    questions.insert(problem.id, problem.question);
                }
            })?;
            for trace in traces {
                let example = example(&trace, &verdicts, &questions);
                let mut who = format!("{:?}", trace.origin.kind).to_lowercase();
                if let Some(model) = &trace.origin.model {
                    who = format!("{who} from {model}");
                }
                if recipe.replicates > 1 {
                    who = format!("{who}, replicate {replicate}");
                }
                let before = found.len();
                for (paths, name) in &students {
                    let mut scored = None;
                    if paths.tokens().exists() {
                        tokens::read(&paths.tokens(), |row| {
                            if row.trace_id == trace.id {
                                scored = Some(row.tokens);
                            }
                        })?;
                    }
                    if let Some(scored) = scored {
                        let tokens = scored.iter().map(ExampleToken::from).collect();
                        let example = Example {
                            tokens,
                            ..example.clone()
                        };
                        found.push((format!("{who}, scored under {name}"), example));
                    }
                }
                if found.len() == before {
                    found.push((who, example));
                }
            }
        }
        if found.is_empty() {
            return Err(none(
                "no trace of this run has this id, and no problem that has one",
            ));
        }
        Ok(json!({ "traces": idiolect_report::traces_json(&found), "more": more }))
    }
}

fn none(what: &str) -> StageError {
    StageError::failed(what.to_owned(), "")
}

fn example(
    trace: &Trace,
    verdicts: &BTreeMap<String, VerdictRow>,
    questions: &BTreeMap<String, String>,
) -> Example {
    let verdict = verdicts.get(&trace.id);
    Example {
        arm: String::new(),
        problem_id: trace.problem_id.clone(),
        prompt: questions
            .get(&trace.problem_id)
            .cloned()
            .unwrap_or_default(),
        verdict: verdict.map_or_else(String::new, |v| super::view::name_of(v.verdict).to_owned()),
        reason: verdict.map_or_else(String::new, |v| v.reason.clone()),
        text: trace.text.clone(),
        steps: verdict.map_or_else(Vec::new, |v| v.steps.clone()),
        ..Example::default()
    }
}

/// Every good row of a file; none of one that is not there, or not yet whole.
fn each<T: DeserializeOwned>(path: &Path, mut hear: impl FnMut(T)) -> Result<(), StoreError> {
    if !path.exists() {
        return Ok(());
    }
    for row in Rows::<T>::open(path)? {
        if let Ok(Ok(row)) = row {
            hear(row.value);
        }
    }
    Ok(())
}
