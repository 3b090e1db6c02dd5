//! Audit: right answers with false steps, wrong answers that began rightly, and how many of each
//! an arm holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use idiolect_core::audit::StepAudit;
use idiolect_core::record::{ArmRow, Trace, Verdict, VerdictRow};
use idiolect_core::store::BadRow;
use idiolect_core::task::ROUNDED;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StageError;
use super::inputs::{Input, Problems};

/// What to audit.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// `problems.jsonl`.
    pub problems: PathBuf,
    /// Files of traces, in order.
    pub traces: Vec<PathBuf>,
    /// Files of their verdicts.
    pub verdicts: Vec<PathBuf>,
    /// A folder of arms; without one traces are counted by origin.
    pub arms: Option<PathBuf>,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// Counts by arm, or by origin.
    pub groups: BTreeMap<String, Counts>,
    /// Right answers with a false step, in the order of the traces.
    pub right_with_invalid: Vec<Finding>,
    /// Wrong answers with a valid step before the first false one.
    pub wrong_with_valid_prefix: Vec<Finding>,
    /// Traces that no verdict speaks of.
    pub without_verdict: usize,
    /// Rows that could not be read.
    pub refused: Vec<BadRow>,
}

/// What a group of traces adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// All of them.
    pub traces: usize,
    /// With a correct answer.
    pub correct: usize,
    /// Those of them with an invalid step.
    pub correct_with_invalid: usize,
    /// With a wrong answer.
    pub wrong: usize,
    /// Those of them whose first step is valid.
    pub wrong_with_valid_prefix: usize,
    /// Answers that equal the gold only when rounded, which are `ungraded`.
    pub ungraded_for_rounding: usize,
    /// Steps that hold when recomputed.
    pub valid_steps: usize,
    /// Steps that do not.
    pub invalid_steps: usize,
    /// Steps that cannot be recomputed.
    pub unchecked_steps: usize,
    /// Mean over traces with steps of the fraction of steps before the first error.
    pub mean_prefix_share: Option<f64>,
    #[serde(skip)]
    prefix_sum: f64,
    #[serde(skip)]
    with_steps: usize,
}

impl Counts {
    /// Valid among checked steps.
    pub fn valid_share(&self) -> Option<f64> {
        let checked = self.valid_steps + self.invalid_steps;
        (checked > 0).then(|| self.valid_steps as f64 / checked as f64)
    }

    fn add(&mut self, row: &VerdictRow, audit: &StepAudit) {
        let verdict = row.verdict;
        self.traces += 1;
        let rounded = verdict == Verdict::Ungraded && row.reason.starts_with(ROUNDED);
        self.ungraded_for_rounding += usize::from(rounded);
        self.correct += usize::from(verdict == Verdict::Correct);
        self.correct_with_invalid += usize::from(is_lucky(verdict, audit));
        self.wrong += usize::from(verdict == Verdict::Wrong);
        self.wrong_with_valid_prefix += usize::from(began_well(verdict, audit));
        self.valid_steps += audit.valid;
        self.invalid_steps += audit.invalid;
        self.unchecked_steps += audit.unchecked;
        if let Some(share) = audit.prefix_share() {
            self.prefix_sum += share;
            self.with_steps += 1;
            self.mean_prefix_share = Some(self.prefix_sum / self.with_steps as f64);
        }
    }
}

fn is_lucky(verdict: Verdict, audit: &StepAudit) -> bool {
    verdict == Verdict::Correct && audit.invalid > 0
}

fn began_well(verdict: Verdict, audit: &StepAudit) -> bool {
    verdict == Verdict::Wrong && audit.prefix_valid > 0
}

/// One trace whose answer and steps disagree.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// The trace.
    pub trace_id: String,
    /// Its problem.
    pub problem_id: String,
    /// Its arms, or its origin.
    pub groups: Vec<String>,
    /// Its answer as extracted.
    pub extracted: Option<String>,
    /// How far it is right.
    #[serde(flatten)]
    pub audit: StepAudit,
    /// Bytes of the trace's text, end exclusive.
    pub first_error_span: Option<(usize, usize)>,
    /// The first false step.
    pub first_error_text: Option<String>,
}

/// Reads the files and audits every trace that has a verdict.
pub fn audit(settings: &AuditSettings) -> Result<Audit, StageError> {
    let mut found = Audit::default();
    let problems = Problems::read(&settings.problems, &[])?;
    found.refused.extend(problems.bad.iter().cloned());
    let mut verdicts: BTreeMap<String, VerdictRow> = BTreeMap::new();
    each(&settings.verdicts, &mut found.refused, |row: VerdictRow| {
        verdicts.insert(row.trace_id.clone(), row);
        Ok(())
    })?;
    let arms = settings
        .arms
        .as_deref()
        .map(|dir| arms_of(dir, &mut found.refused))
        .transpose()?;
    let mut refused = Vec::new();
    let mut seen = BTreeSet::new();
    each(&settings.traces, &mut refused, |trace: Trace| {
        let groups = match &arms {
            None => vec![origin_of(&trace)],
            Some(arms) => arms.get(&trace.id).cloned().unwrap_or_default(),
        };
        problems.of(&trace)?;
        // The same text from two origins is two rows with one id: in an arm it counts once.
        if groups.is_empty() || (arms.is_some() && !seen.insert(trace.id.clone())) {
            return Ok(());
        }
        match verdicts.get(&trace.id) {
            None => found.without_verdict += 1,
            Some(verdict) => take_in(&mut found, &trace, verdict, groups)?,
        }
        Ok(())
    })?;
    found.refused.extend(refused);
    Ok(found)
}

fn take_in(
    found: &mut Audit,
    trace: &Trace,
    verdict: &VerdictRow,
    groups: Vec<String>,
) -> Result<(), String> {
    let audit = StepAudit::of(&verdict.steps);
    for group in &groups {
        found
            .groups
            .entry(group.clone())
            .or_default()
            .add(verdict, &audit);
    }
    let (lucky, well) = (
        is_lucky(verdict.verdict, &audit),
        began_well(verdict.verdict, &audit),
    );
    if !lucky && !well {
        return Ok(());
    }
    let error = audit.first_error.map(|index| verdict.steps[index]);
    let text = error
        .map(|step| {
            let outside = || {
                format!(
                    "the steps of the verdict on `{}` lie outside its text",
                    trace.id
                )
            };
            trace.text.get(step.start..step.end).ok_or_else(outside)
        })
        .transpose()?;
    let finding = Finding {
        trace_id: trace.id.clone(),
        problem_id: trace.problem_id.clone(),
        groups,
        extracted: verdict.extracted.clone(),
        audit,
        first_error_span: error.map(|step| (step.start, step.end)),
        first_error_text: text.map(str::to_owned),
    };
    if lucky {
        found.right_with_invalid.push(finding);
    } else {
        found.wrong_with_valid_prefix.push(finding);
    }
    Ok(())
}

fn origin_of(trace: &Trace) -> String {
    let kind = serde_json::to_value(trace.origin.kind);
    kind.ok()
        .and_then(|kind| kind.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The arms that each trace is in: every `*.jsonl` of the folder is one.
fn arms_of(
    dir: &Path,
    refused: &mut Vec<BadRow>,
) -> Result<BTreeMap<String, Vec<String>>, StageError> {
    let unreadable = |error: std::io::Error| {
        StageError::failed(format!("cannot read `{}`: {error}", dir.display()), "")
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        match name.as_deref().and_then(|name| name.strip_suffix(".jsonl")) {
            Some(arm) if !arm.ends_with(".rejects") => files.push((arm.to_owned(), path)),
            _ => {}
        }
    }
    if files.is_empty() {
        let message = format!("`{}` holds no arm, a file NAME.jsonl", dir.display());
        return Err(StageError::usage(
            message,
            "idiolect arms writes such a folder",
        ));
    }
    files.sort();
    let mut arms: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (arm, path) in files {
        each(&[path], refused, |row: ArmRow| {
            let of_trace = arms.entry(row.trace_id).or_default();
            if of_trace.last() != Some(&arm) {
                of_trace.push(arm.clone());
            }
            Ok(())
        })?;
    }
    Ok(arms)
}

/// Calls `take` with each row of files; what is no row, or what it does not take, is refused.
fn each<T: DeserializeOwned>(
    paths: &[PathBuf],
    refused: &mut Vec<BadRow>,
    mut take: impl FnMut(T) -> Result<(), String>,
) -> Result<(), StageError> {
    for row in Input::open_all(paths)?.rows::<T>()? {
        match row? {
            Err(bad) => refused.push(bad),
            Ok(row) => {
                if let Err(reason) = take(row.value) {
                    refused.push(BadRow::new(&row.file, row.line, reason, ""));
                }
            }
        }
    }
    Ok(())
}
