//! Parts of a report page out of rows, whether a run or single files hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use idiolect_core::arms::{ArmsSummary, describe, explain, in_full};
use idiolect_core::comparison::{ArmData, Counts, StepCounts};
use idiolect_core::record::{ArmRow, Problem, ScoreRow, Verdict, VerdictRow, content_hash};
use idiolect_core::store::{Rows, StoreError, hash_input, tokens};
use idiolect_model::TrainEvent;
use idiolect_report::view::{
    ArmDescription, Asked, Curve, Example, ExampleToken, Fraction, RunView, thin,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Points that a training curve is drawn with.
const CURVE_POINTS: usize = 120;
/// Bytes of training rows that are handed to the report, which shows what fits its size.
const EXAMPLE_BYTES: usize = 1 << 20;

/// All rows of a file that this program wrote; a row that cannot be read is an error here.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    hash_input(path)?;
    let mut bad = None;
    let rows = Rows::<T>::open(path)?.collect_good(|row| bad = bad.take().or(Some(row)))?;
    match bad {
        None => Ok(rows.into_iter().map(|row| row.value).collect()),
        Some(row) => Err(StoreError::Format {
            path: path.display().to_string(),
            reason: format!("line {}: {}", row.line, row.reason),
        }),
    }
}

/// Verdicts by trace.
pub(crate) fn by_trace(rows: Vec<VerdictRow>) -> BTreeMap<String, VerdictRow> {
    rows.into_iter()
        .map(|row| (row.trace_id.clone(), row))
        .collect()
}

/// What an arm holds: its rows, their problems and verdicts.
pub(crate) fn description(
    name: &str,
    rows: &[ArmRow],
    verdicts: &BTreeMap<String, VerdictRow>,
    spec: Option<&str>,
) -> ArmDescription {
    let mut counts = Counts::default();
    for row in rows {
        if let Some(found) = verdicts.get(&row.trace_id) {
            counts.total += 1;
            match found.verdict {
                Verdict::Correct => counts.correct += 1,
                Verdict::Wrong => counts.wrong += 1,
                Verdict::NoAnswer => counts.no_answer += 1,
                Verdict::Ungraded => counts.ungraded += 1,
            }
        }
    }
    let problems: BTreeSet<&str> = rows.iter().map(|r| r.problem_id.as_str()).collect();
    ArmDescription {
        name: name.to_owned(),
        about: explain(name, spec),
        rows: Some(rows.len()),
        problems: Some(problems.len()),
        verdicts: (counts.total > 0).then_some(counts),
    }
}

/// How many of the train problems each arm could cover, and how many all arms cover.
pub(crate) fn coverage(summary: &ArmsSummary, arms: &[String], view: &mut RunView) {
    let of = summary.coverage.train_problems;
    for arm in arms {
        if let Some(covered) = summary.coverage.arms.get(arm) {
            let spec = summary.arms.get(arm).map(|arm| arm.spec.as_str());
            let named = in_full(arm, &describe(arm, spec));
            let label = format!("train problems with a trace for {named}");
            view.coverage.push(Fraction {
                label,
                n: covered.problems,
                of,
            });
        }
    }
    view.coverage.push(Fraction {
        label: "train problems that every arm covers".to_owned(),
        n: summary.coverage.matched_problems,
        of,
    });
    view.coverage.push(Fraction {
        label: "of those, used (the same in every arm)".to_owned(),
        n: summary.coverage.used_problems,
        of: summary.coverage.matched_problems,
    });
}

/// What is known of arms' training sets in a replicate. `trained` is how many rows checkpoints were
/// trained on, where that is not all of an arm's.
pub(crate) fn arm_data(
    replicate: usize,
    arms: &[(String, Vec<ArmRow>)],
    scores: &BTreeMap<String, ScoreRow>,
    verdicts: &[VerdictRow],
    summary: Option<&ArmsSummary>,
    trained: &BTreeMap<String, usize>,
) -> Vec<ArmData> {
    let verified: BTreeMap<&str, Verdict> = verdicts
        .iter()
        .map(|row| (row.trace_id.as_str(), row.verdict))
        .collect();
    let is_right = |row: &&ArmRow| verified.get(row.trace_id.as_str()) == Some(&Verdict::Correct);
    let share = |rows: &[ArmRow]| rows.iter().filter(is_right).count() as f64 / rows.len() as f64;
    let spec = |arm: &str| Some(summary?.arms.get(arm)?.spec.clone());
    let data = |(arm, rows): &(String, Vec<ArmRow>)| ArmData {
        arm: arm.clone(),
        replicate,
        spec: spec(arm),
        rows: trained.get(arm).copied().unwrap_or(rows.len()),
        problems: rows
            .iter()
            .map(|r| r.problem_id.as_str())
            .collect::<BTreeSet<_>>()
            .len(),
        scores: rows
            .iter()
            .filter_map(|r| scores.get(&r.trace_id).cloned())
            .collect(),
        steps: StepCounts::of(rows, verdicts),
        right: (!rows.is_empty() && !verdicts.is_empty()).then(|| share(rows)),
    };
    arms.iter().map(data).collect()
}

/// The loss curve of a training, from its `log.jsonl`.
pub(crate) fn curve(
    replicate: usize,
    arm: &str,
    seed: u64,
    training: &Path,
) -> Result<Curve, StoreError> {
    let log: Vec<TrainEvent> = read(&training.join("log.jsonl"))?;
    let points: Vec<(usize, f64)> = log
        .iter()
        .filter_map(|event| match event {
            TrainEvent::Step { step, loss, .. } => Some((*step, *loss)),
            _ => None,
        })
        .collect();
    Ok(Curve {
        replicate,
        arm: arm.to_owned(),
        seed,
        points: thin(&points, CURVE_POINTS),
    })
}

/// A problem as the page asks it.
pub(crate) fn asked(problem: Problem) -> Asked {
    Asked {
        id: problem.id,
        question: problem.question,
        gold: gold(&problem.gold),
    }
}

/// A gold as a person reads it: its answer alone where that is all it holds.
fn gold(gold: &Value) -> String {
    match gold {
        Value::Object(fields) if fields.len() == 1 => {
            let answer = fields.get("answer").and_then(Value::as_str);
            answer.map_or_else(|| gold.to_string(), str::to_owned)
        }
        gold => gold.to_string(),
    }
}

/// The arms' rows for the same problems, with the untrained student's surprisal at each token where
/// `tokens.parquet` is given: problems that most arms hold first, else by a hash of their ids.
pub(crate) fn examples(
    arms: &[(String, Vec<ArmRow>)],
    token_scores: Option<&Path>,
    verdicts: &BTreeMap<String, VerdictRow>,
) -> Result<Vec<Example>, StoreError> {
    let mut by_problem: BTreeMap<&str, Vec<(&str, &ArmRow)>> = BTreeMap::new();
    for (arm, rows) in arms {
        for row in rows {
            by_problem
                .entry(row.problem_id.as_str())
                .or_default()
                .push((arm.as_str(), row));
        }
    }
    let arms_of = |rows: &[(&str, &ArmRow)]| {
        let arms: BTreeSet<&str> = rows.iter().map(|(arm, _)| *arm).collect();
        arms.len()
    };
    let mut problems: Vec<(&str, Vec<(&str, &ArmRow)>)> = by_problem.into_iter().collect();
    problems.sort_by_cached_key(|(id, rows)| {
        (
            std::cmp::Reverse(arms_of(rows)),
            content_hash(id.as_bytes()),
        )
    });
    let mut bytes = 0;
    let fits = |(_, rows): &(&str, Vec<(&str, &ArmRow)>)| {
        let first = bytes == 0;
        bytes += rows
            .iter()
            .map(|(_, row)| row.completion.len() + row.prompt.len())
            .sum::<usize>();
        first || bytes <= EXAMPLE_BYTES
    };
    let shown: Vec<(&str, &ArmRow)> = problems
        .into_iter()
        .take_while(fits)
        .flat_map(|(_, rows)| rows)
        .collect();
    let wanted: BTreeSet<&str> = shown.iter().map(|(_, row)| row.trace_id.as_str()).collect();
    let mut scores: BTreeMap<String, Vec<ExampleToken>> = BTreeMap::new();
    if let Some(path) = token_scores {
        hash_input(path)?;
        tokens::read(path, |row| {
            if wanted.contains(row.trace_id.as_str()) {
                scores.insert(
                    row.trace_id,
                    row.tokens.iter().map(ExampleToken::from).collect(),
                );
            }
        })?;
    }
    let example = |(arm, row): (&str, &ArmRow)| {
        let verdict = verdicts.get(&row.trace_id);
        Example {
            arm: arm.to_owned(),
            problem_id: row.problem_id.clone(),
            prompt: row.prompt.clone(),
            verdict: verdict.map_or_else(String::new, |v| name_of(v.verdict).to_owned()),
            reason: verdict.map_or_else(String::new, |v| v.reason.clone()),
            text: row.completion.clone(),
            tokens: scores.get(&row.trace_id).cloned().unwrap_or_default(),
            steps: verdict.map_or_else(Vec::new, |v| v.steps.clone()),
            spans: row.spans.clone(),
        }
    };
    Ok(shown.into_iter().map(example).collect())
}

/// A verdict in a sentence.
pub(crate) fn name_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Correct => "correct",
        Verdict::Wrong => "wrong",
        Verdict::NoAnswer => "no answer",
        Verdict::Ungraded => "ungraded",
    }
}
