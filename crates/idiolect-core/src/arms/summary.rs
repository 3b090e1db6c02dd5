//! What is to be known of built arms: `arms.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::candidates::Candidates;
use super::left_out::{LeftOut, counted, reasons};
use super::matching::{Matching, matched};
use super::picks::Picks;
use super::spec::{ArmSpec, Source};
use super::{Arm, ArmsError};
use crate::record::{ArmRow, Verdict, content_hash};

/// An arm of fewer rows draws a warning.
const FEW_ROWS: usize = 30;

/// `arms.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmsSummary {
    /// By name.
    pub arms: BTreeMap<String, ArmSummary>,
    /// What each arm could cover and what was used.
    pub coverage: Coverage,
    /// Arms that one would look for and that were not built, with why, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, LeftOut>,
    /// What a reader must know: identical, tiny or unreadable arms.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One arm in `arms.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// Training rows.
    pub rows: usize,
    /// Completion tokens without end tokens; absent where a row has no scores.
    pub tokens: Option<u64>,
    /// UTF-8 bytes of the completions.
    pub bytes: u64,
    /// Distinct problems.
    pub problems: usize,
    /// What it is made of, in the arm language.
    pub spec: String,
    /// Content hash of its rows as written, one JSON line each.
    pub hash: String,
    /// How many of its traces have each verdict; `none` where none was given.
    pub verdicts: BTreeMap<String, usize>,
    /// What flaws or paraphrase cost in closeness; absent for other arms and without scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<ParentCloseness>,
}

/// Closeness of derived traces beside that of the traces that they were made from: the shift of the
/// distribution, to be distinguished from what was done to the content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ParentCloseness {
    /// Rows of which both were scored.
    pub traces: usize,
    /// Surprisal in nats over tokens, of the arm's traces.
    pub nll_per_token: f64,
    /// The same of their parents.
    pub parents_nll_per_token: f64,
}

/// What the arms cover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// How the arms were made equal.
    #[serde(default)]
    pub matching: Matching,
    /// Problems of the train split, without those below.
    pub train_problems: usize,
    /// Training problems left out because a held-out problem asks the same question.
    pub same_question_as_held_out: usize,
    /// Problems that every arm covers.
    pub matched_problems: usize,
    /// Of those, the ones used.
    pub used_problems: usize,
    /// Mean difficulty of the used problems; see [`ArmCoverage::difficulty`].
    pub used_difficulty: Option<f64>,
    /// Traces dropped because an equal text of the same making was there.
    pub duplicates: usize,
    /// Training problems left out because an earlier one asks nearly the same: 0.9 of their runs of
    /// five words in common.
    #[serde(default)]
    pub near_duplicate_problems: usize,
    /// Sampled or imported traces left out because another of their problem is nearly the same.
    #[serde(default)]
    pub near_duplicate_traces: usize,
    /// Training problems left out because they repeat 0.8 of a test or dev question's runs of 13 words.
    #[serde(default)]
    pub contaminated_problems: usize,
    /// Traces left out because they repeat a test or dev question.
    #[serde(default)]
    pub contaminated_traces: usize,
    /// Traces left out because their problem is held out.
    pub held_out_traces: usize,
    /// Traces left out because their problem was not given.
    pub unknown_problem_traces: usize,
    /// What the student cannot be trained on; absent where no student was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student: Option<StudentCoverage>,
    /// By arm.
    pub arms: BTreeMap<String, ArmCoverage>,
}

/// What the arms leave out because the student cannot be trained on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudentCoverage {
    /// Traces that would represent an arm, by reason.
    pub traces: BTreeMap<String, usize>,
    /// Problems that every arm would cover, and with this student does not.
    pub problems: usize,
}

/// What one arm could cover, before matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmCoverage {
    /// Problems with a trace.
    pub problems: usize,
    /// Traces to choose from.
    pub traces: usize,
    /// Mean over those problems of the fraction of sampled traces that are not correct, 0 easy to 1
    /// hard; absent where none was sampled and judged.
    pub difficulty: Option<f64>,
    /// Mean UTF-8 bytes of the traces to choose from.
    pub mean_bytes: Option<f64>,
    /// Traces of its making that cannot be used, by reason.
    pub excluded: BTreeMap<String, usize>,
}

/// The content hash of rows as an arm's file holds them.
pub fn rows_hash(rows: &[ArmRow]) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(
            &serde_json::to_string(row).expect("a row of strings and a finite number is JSON"),
        );
        text.push('\n');
    }
    content_hash(text.as_bytes())
}

/// By arm: the problems that it covers and what is to be stated of them.
pub(super) type Covered<'a> = BTreeMap<String, (BTreeSet<&'a str>, ArmCoverage)>;

/// What each arm could cover.
pub(super) fn coverage_of<'a>(
    candidates: &Candidates<'a>,
    specs: &[ArmSpec],
    picks: &Picks<'_>,
) -> Result<Covered<'a>, ArmsError> {
    let mut covered = Covered::new();
    for spec in specs {
        let has_all = |id: &&&str| picks.cover(spec, id);
        let problems: BTreeSet<&str> = candidates
            .problems
            .keys()
            .filter(has_all)
            .copied()
            .collect();
        let sources: BTreeSet<&Source> = spec.parts.iter().map(|part| &part.source).collect();
        if problems.is_empty() {
            return Err(ArmsError::EmptyArm {
                arm: spec.name.clone(),
                makers: sources
                    .iter()
                    .filter(|source| candidates.excluded(source).is_empty())
                    .filter_map(|source| source.written_by())
                    .collect(),
                excluded: reasons(candidates, sources),
            });
        }
        let mut excluded = BTreeMap::new();
        for source in &sources {
            for (reason, count) in candidates.excluded(source) {
                *excluded.entry(reason).or_default() += count;
            }
        }
        let lengths: Vec<f64> = problems
            .iter()
            .flat_map(|id| lengths(candidates, &sources, id))
            .collect();
        let coverage = ArmCoverage {
            problems: problems.len(),
            traces: lengths.len(),
            difficulty: difficulty(candidates, &problems),
            mean_bytes: average(&lengths),
            excluded,
        };
        covered.insert(spec.name.clone(), (problems, coverage));
    }
    Ok(covered)
}

fn lengths(candidates: &Candidates<'_>, sources: &BTreeSet<&Source>, id: &str) -> Vec<f64> {
    let own = |source: &Source| match (source, candidates.problems.get(id)) {
        (Source::Human, Some(problem)) => candidates
            .own_solution(problem)
            .map(|trace| trace.text.len() as f64),
        _ => None,
    };
    sources
        .iter()
        .flat_map(|source| {
            let found = candidates.of(source, id);
            let fallback = if found.is_empty() { own(source) } else { None };
            found
                .into_iter()
                .map(|trace| trace.text.len() as f64)
                .chain(fallback)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn difficulty(candidates: &Candidates<'_>, problems: &BTreeSet<&str>) -> Option<f64> {
    average(
        &problems
            .iter()
            .filter_map(|id| candidates.difficulty(id))
            .collect::<Vec<_>>(),
    )
}

fn average(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| crate::statistics::mean(values))
}

/// What the student leaves out of arms that would cover more for another.
pub(super) fn student_coverage(
    candidates: &Candidates<'_>,
    specs: &[ArmSpec],
    seed: u64,
    covered: &Covered<'_>,
) -> Option<StudentCoverage> {
    let traces = candidates.refused_by_student()?;
    let any = candidates.for_any_student()?;
    let picks = Picks::draw(&any, specs, seed);
    let with_all = coverage_of(&any, specs, &picks).map_or(0, |covered| matched(&covered).len());
    Some(StudentCoverage {
        traces,
        problems: with_all.saturating_sub(matched(covered).len()),
    })
}

/// What `arms.json` holds.
pub(super) fn summarise(
    candidates: &Candidates<'_>,
    matching: Matching,
    arms: &[Arm],
    covered: Covered<'_>,
    student: Option<StudentCoverage>,
) -> ArmsSummary {
    let used: BTreeSet<&str> = arms
        .iter()
        .flat_map(|arm| &arm.rows)
        .map(|row| row.problem_id.as_str())
        .collect();
    let summaries: BTreeMap<String, ArmSummary> = arms
        .iter()
        .map(|arm| (arm.spec.name.clone(), summary(arm, candidates)))
        .collect();
    let coverage = Coverage {
        train_problems: candidates.problems.len(),
        same_question_as_held_out: candidates.same_question,
        matching,
        matched_problems: matched(&covered).len(),
        used_problems: used.len(),
        used_difficulty: difficulty(candidates, &used),
        duplicates: candidates.duplicates,
        near_duplicate_problems: candidates.near_problems,
        near_duplicate_traces: candidates.near_traces,
        contaminated_problems: candidates.contaminated_problems,
        contaminated_traces: candidates.contaminated_traces,
        held_out_traces: candidates.held_out_traces,
        unknown_problem_traces: candidates.orphans,
        student,
        arms: covered
            .into_iter()
            .map(|(name, (_, coverage))| (name, coverage))
            .collect(),
    };
    let warnings = warnings(arms, &summaries, &coverage);
    ArmsSummary {
        arms: summaries,
        coverage,
        left_out: BTreeMap::new(),
        warnings,
    }
}

fn summary(arm: &Arm, candidates: &Candidates<'_>) -> ArmSummary {
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    let used: BTreeSet<&str> = arm.rows.iter().map(|row| row.problem_id.as_str()).collect();
    for row in &arm.rows {
        let verdict = candidates.verdict_of(&row.trace_id);
        let name = verdict.map_or("none", verdict_name);
        *verdicts.entry(name.to_owned()).or_default() += 1;
    }
    ArmSummary {
        rows: arm.rows.len(),
        tokens: arm
            .rows
            .iter()
            .map(|row| candidates.tokens(&row.trace_id))
            .sum(),
        bytes: arm.rows.iter().map(|row| row.completion.len() as u64).sum(),
        problems: used.len(),
        spec: arm.spec.spec(),
        hash: rows_hash(&arm.rows),
        verdicts,
        parents: parents(arm, candidates),
    }
}

fn parents(arm: &Arm, candidates: &Candidates<'_>) -> Option<ParentCloseness> {
    let (mut traces, mut own, mut of_parents) = (0, (0.0, 0), (0.0, 0));
    for row in &arm.rows {
        if let Some((trace, parent)) = candidates.with_parent(&row.problem_id, &row.trace_id) {
            traces += 1;
            own = (own.0 + trace.nll_nats, own.1 + trace.n_tokens);
            of_parents = (
                of_parents.0 + parent.nll_nats,
                of_parents.1 + parent.n_tokens,
            );
        }
    }
    (own.1 > 0 && of_parents.1 > 0).then(|| ParentCloseness {
        traces,
        nll_per_token: own.0 / own.1 as f64,
        parents_nll_per_token: of_parents.0 / of_parents.1 as f64,
    })
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Correct => "correct",
        Verdict::Wrong => "wrong",
        Verdict::NoAnswer => "no_answer",
        Verdict::Ungraded => "ungraded",
    }
}

fn warnings(
    arms: &[Arm],
    summaries: &BTreeMap<String, ArmSummary>,
    coverage: &Coverage,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, arm) in arms.iter().enumerate() {
        let (name, summary) = (&arm.spec.name, &summaries[&arm.spec.name]);
        if summary.rows < FEW_ROWS {
            warnings.push(format!(
                "arm `{name}` has {} rows: too few to show what it teaches",
                summary.rows
            ));
        }
        let unreadable = summary.verdicts.get("no_answer").copied().unwrap_or(0);
        if 10 * unreadable > summary.rows {
            warnings.push(format!(
                "{unreadable} of {} rows of arm `{name}` have no readable answer",
                summary.rows
            ));
        }
        for other in arms[..at]
            .iter()
            .filter(|other| summaries[&other.spec.name].hash == summary.hash)
        {
            warnings.push(format!(
                "arms `{}` and `{name}` hold the same rows",
                other.spec.name
            ));
        }
    }
    if let Some(student) = coverage.student.as_ref().filter(|s| !s.traces.is_empty()) {
        warnings.push(format!(
            "{} traces enter no arm, because the student cannot be trained on them ({}): {} problems \
             that every arm would cover are left out of all",
            student.traces.values().sum::<usize>(),
            counted(&student.traces),
            student.problems
        ));
    }
    if coverage.same_question_as_held_out > 0 {
        warnings.push(format!(
            "{} training problems were left out: a held-out problem asks the same question",
            coverage.same_question_as_held_out
        ));
    }
    for (count, what) in [
        (
            coverage.near_duplicate_problems,
            "training problems were left out: an earlier one asks nearly the same",
        ),
        (
            coverage.near_duplicate_traces,
            "traces were left out: another of their problem is nearly the same",
        ),
        (
            coverage.contaminated_problems,
            "training problems were left out: they repeat a held-out question",
        ),
        (
            coverage.contaminated_traces,
            "traces were left out: they repeat a held-out question",
        ),
    ] {
        if count > 0 {
            warnings.push(format!("{count} {what}"));
        }
    }
    warnings
}
