//! Arms: matched training sets from verified traces.
//!
//! All arms hold the same training problems, one trace each, so that they differ in the traces and
//! in nothing else. Which problems and which traces is decided by draws keyed by seed, problem and
//! source: not by the order of rows, nor by which other problems are there. A flawed trace is a copy
//! of the very trace that G holds for its problem; a mixture holds for each problem the trace that
//! the plain arm of that source holds.
//!
//! Only problems of the train split enter an arm, and none whose question a held-out problem asks.
//! What this is not: near-duplicate removal, and choice by closeness.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::{
    Alignment, ArmRow, Finish, Origin, OriginKind, Problem, Split, Trace, VerdictRow, content_hash,
};
use crate::rng::Rng;

mod candidates;
pub mod spec;

use candidates::Candidates;
pub use spec::{ArmSpec, Part, Source, SpecError};

/// An arm of fewer rows draws a warning.
const FEW_ROWS: usize = 30;

/// What arms are made from.
#[derive(Clone, Copy, Debug)]
pub struct ArmsInput<'a> {
    /// Problems of every split; those held out guard against leaks.
    pub problems: &'a [Problem],
    /// Traces of any making.
    pub traces: &'a [Trace],
    /// Verdicts of the sampled and paraphrased traces at least.
    pub verdicts: &'a [VerdictRow],
    /// Alignment of the traces, for token counts; may be empty.
    pub alignments: &'a [Alignment],
    /// The task's rendered prompt of every training problem, by problem id.
    pub prompts: &'a BTreeMap<String, String>,
}

/// How to build arms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmsOptions {
    /// The arms, in order; empty for every plain arm that the traces support.
    pub arms: Vec<ArmSpec>,
    /// Matched problems to keep; all where unset or fewer.
    pub rows: Option<usize>,
    /// Keys every draw.
    pub seed: u64,
    /// Lets W hold traces whose source does not say how they ended, when their answer is readable.
    pub unknown_finish_is_stop: bool,
}

/// One built arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name and what it is made of.
    pub spec: ArmSpec,
    /// One row a matched problem, in order of problem id.
    pub rows: Vec<ArmRow>,
}

/// All arms with what is to be known of them.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltArms {
    /// In the order asked for.
    pub arms: Vec<Arm>,
    /// What `arms.json` holds.
    pub summary: ArmsSummary,
}

/// `arms.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmsSummary {
    /// By name.
    pub arms: BTreeMap<String, ArmSummary>,
    /// What each arm could cover and what was used.
    pub coverage: Coverage,
    /// What a reader must know: identical, tiny or unreadable arms.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One arm in `arms.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmSummary {
    /// Training rows.
    pub rows: usize,
    /// Completion tokens without end tokens; absent where a row has no alignment.
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
}

/// What the arms cover.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
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
    /// Traces left out because their problem is held out.
    pub held_out_traces: usize,
    /// Traces left out because their problem was not given.
    pub unknown_problem_traces: usize,
    /// By arm.
    pub arms: BTreeMap<String, ArmCoverage>,
}

/// What one arm could cover, before matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmCoverage {
    /// Problems with a trace.
    pub problems: usize,
    /// Traces to choose from.
    pub traces: usize,
    /// Mean over those problems of the share of sampled traces that are not correct, 0 easy to 1
    /// hard; absent where none was sampled and judged.
    pub difficulty: Option<f64>,
    /// Mean UTF-8 bytes of the traces to choose from.
    pub mean_bytes: Option<f64>,
    /// Traces of its making that cannot be used, by reason.
    pub excluded: BTreeMap<String, usize>,
}

/// Why arms cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmsError {
    /// Two arms of one name.
    #[error("two arms are called `{name}`; give each arm its own name")]
    SameName {
        /// The name.
        name: String,
    },
    /// Two verdicts that disagree.
    #[error(
        "trace `{trace}` has two verdicts that disagree, by `{one}` and `{other}`; give the verdicts of one verifier"
    )]
    TwoVerdicts {
        /// The trace.
        trace: String,
        /// A verifier.
        one: String,
        /// Another.
        other: String,
    },
    /// No trace stands for any arm.
    #[error(
        "the traces support no arm: none of them belongs to a problem of the train split; check that problems and traces belong together"
    )]
    NoArm,
    /// An arm without a single problem.
    #[error("arm `{arm}` covers no training problem{}; leave the arm out or give traces for it", because(.excluded))]
    EmptyArm {
        /// The arm.
        arm: String,
        /// Traces of its making that cannot be used, by reason.
        excluded: BTreeMap<String, usize>,
    },
    /// No problem that every arm covers.
    #[error(
        "no training problem is covered by every arm ({coverage}); leave out the arms that cover least"
    )]
    NoMatch {
        /// How many problems each arm covers.
        coverage: String,
    },
    /// A problem without a prompt.
    #[error(
        "problem `{problem}` has no rendered prompt; render the prompts of all training problems"
    )]
    NoPrompt {
        /// The problem.
        problem: String,
    },
    /// A held-out problem among training rows.
    #[error(
        "{count} training rows belong to held-out problems, such as {examples}; a test, dev or teacher problem may enter no arm"
    )]
    HeldOut {
        /// How many rows.
        count: usize,
        /// Some of the problems.
        examples: String,
    },
}

fn because(excluded: &BTreeMap<String, usize>) -> String {
    let reasons: Vec<String> = excluded
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    }
}

/// Builds matched arms.
///
/// # Errors
/// See [`ArmsError`]; an arm asked for that no trace supports is one, a silent gap would not be
/// noticed.
pub fn build(input: ArmsInput<'_>, options: &ArmsOptions) -> Result<BuiltArms, ArmsError> {
    let candidates = Candidates::new(
        input.problems,
        input.traces,
        input.verdicts,
        options.unknown_finish_is_stop,
    )?;
    let specs = wanted(&candidates, options)?;
    let picks = Picks::draw(&candidates, &specs, options.seed);
    let covered = coverage_of(&candidates, &specs, &picks)?;
    let matched = match_problems(&specs, &covered)?;
    let used = limit(&matched, options);
    let arms: Vec<Arm> = specs
        .iter()
        .map(|spec| arm(spec, &used, &picks, &input, options.seed))
        .collect::<Result<_, _>>()?;
    for arm in &arms {
        refuse_held_out(&arm.rows, input.problems)?;
    }
    let summary = summarise(
        &candidates,
        &arms,
        covered,
        matched.len(),
        &used,
        &picks,
        input.alignments,
    );
    Ok(BuiltArms { arms, summary })
}

/// The trace that arm G holds for each training problem under `seed`, by problem id: what is to be
/// corrupted into the F arms. The same that [`build`] picks once the flawed copies are there.
///
/// # Errors
/// When two verdicts on one trace disagree.
pub fn correct_picks<'a>(
    problems: &'a [Problem],
    traces: &'a [Trace],
    verdicts: &'a [VerdictRow],
    seed: u64,
) -> Result<BTreeMap<&'a str, &'a Trace>, ArmsError> {
    let candidates = Candidates::new(problems, traces, verdicts, false)?;
    let pick = |problem: &&'a str| {
        Some((
            *problem,
            *draw(
                &candidates.of(&Source::Correct, problem),
                &Source::Correct,
                problem,
                seed,
            )?,
        ))
    };
    Ok(candidates.problems.keys().filter_map(pick).collect())
}

/// Refuses training rows whose problem is held out.
///
/// # Errors
/// [`ArmsError::HeldOut`] with some of the problems.
pub fn refuse_held_out(rows: &[ArmRow], problems: &[Problem]) -> Result<(), ArmsError> {
    let held_out: BTreeSet<&str> = problems
        .iter()
        .filter(|p| p.split != Split::Train)
        .map(|p| p.id.as_str())
        .collect();
    let leaked: Vec<&str> = rows
        .iter()
        .map(|row| row.problem_id.as_str())
        .filter(|id| held_out.contains(id))
        .collect();
    if leaked.is_empty() {
        return Ok(());
    }
    let distinct: BTreeSet<&str> = leaked.iter().copied().collect();
    let examples = distinct
        .iter()
        .take(3)
        .map(|id| format!("`{id}`"))
        .collect::<Vec<_>>()
        .join(", ");
    Err(ArmsError::HeldOut {
        count: leaked.len(),
        examples,
    })
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

fn wanted(candidates: &Candidates<'_>, options: &ArmsOptions) -> Result<Vec<ArmSpec>, ArmsError> {
    let specs = if options.arms.is_empty() {
        candidates
            .sources()
            .into_iter()
            .map(ArmSpec::plain)
            .collect()
    } else {
        options.arms.clone()
    };
    let mut names = BTreeSet::new();
    match specs.iter().find(|spec| !names.insert(spec.name.as_str())) {
        Some(spec) => Err(ArmsError::SameName {
            name: spec.name.clone(),
        }),
        None if specs.is_empty() => Err(ArmsError::NoArm),
        None => Ok(specs),
    }
}

/// The trace that each source holds for each problem that it covers.
struct Picks<'a> {
    by_source: BTreeMap<Source, BTreeMap<&'a str, std::borrow::Cow<'a, Trace>>>,
}

impl<'a> Picks<'a> {
    fn draw(candidates: &Candidates<'a>, specs: &[ArmSpec], seed: u64) -> Self {
        let mut sources: BTreeSet<&Source> = specs
            .iter()
            .flat_map(|s| &s.parts)
            .map(|p| &p.source)
            .collect();
        let doses: Vec<&Source> = sources
            .iter()
            .copied()
            .filter(|s| matches!(s, Source::Flawed(_)))
            .collect();
        sources.insert(&Source::Correct);
        let mut by_source: BTreeMap<Source, BTreeMap<&'a str, std::borrow::Cow<'a, Trace>>> =
            BTreeMap::new();
        for source in sources {
            let mut picks = BTreeMap::new();
            for (id, problem) in &candidates.problems {
                if let Some(trace) = pick(candidates, source, problem, &doses, seed) {
                    picks.insert(*id, trace);
                }
            }
            by_source.insert(source.clone(), picks);
        }
        Self { by_source }
    }

    fn of(&self, source: &Source, problem: &str) -> Option<&Trace> {
        self.by_source
            .get(source)?
            .get(problem)
            .map(std::convert::AsRef::as_ref)
    }
}

fn pick<'a>(
    candidates: &Candidates<'a>,
    source: &Source,
    problem: &'a Problem,
    doses: &[&Source],
    seed: u64,
) -> Option<std::borrow::Cow<'a, Trace>> {
    use std::borrow::Cow;
    let id = problem.id.as_str();
    let found = match source {
        Source::Correct => correct(candidates, id, doses),
        Source::Flawed(_) => {
            let parent =
                draw(&correct(candidates, id, doses), &Source::Correct, id, seed).copied()?;
            copies(candidates, source, id, &parent.id)
        }
        _ => candidates.of(source, id),
    };
    match draw(&found, source, id, seed) {
        Some(trace) => Some(Cow::Borrowed(trace)),
        None if *source == Source::Human => {
            let text = problem.human.as_deref()?;
            Some(Cow::Owned(Trace::new(
                id,
                text,
                Finish::Stop,
                Origin::of(OriginKind::Human),
            )))
        }
        None => None,
    }
}

/// The correct traces of a problem. Where F arms are asked for and only some of them were corrupted
/// at every dose, those: G and F must hold the same trace.
fn correct<'a>(candidates: &Candidates<'a>, problem: &str, doses: &[&Source]) -> Vec<&'a Trace> {
    let all = candidates.of(&Source::Correct, problem);
    let corrupted: Vec<&Trace> = all
        .iter()
        .copied()
        .filter(|trace| {
            doses
                .iter()
                .all(|dose| !copies(candidates, dose, problem, &trace.id).is_empty())
        })
        .collect();
    if corrupted.is_empty() { all } else { corrupted }
}

fn copies<'a>(
    candidates: &Candidates<'a>,
    source: &Source,
    problem: &str,
    parent: &str,
) -> Vec<&'a Trace> {
    let mut found = candidates.of(source, problem);
    found.retain(|trace| trace.origin.parent.as_deref() == Some(parent));
    found
}

fn draw<'t, T>(found: &'t [T], source: &Source, problem: &str, seed: u64) -> Option<&'t T> {
    Rng::keyed(seed, &["arms", problem, &source.to_string()]).choose(found)
}

type Covered<'a> = BTreeMap<String, (BTreeSet<&'a str>, ArmCoverage)>;

fn coverage_of<'a>(
    candidates: &Candidates<'a>,
    specs: &[ArmSpec],
    picks: &Picks<'_>,
) -> Result<Covered<'a>, ArmsError> {
    let mut covered = Covered::new();
    for spec in specs {
        let has_all = |id: &&&str| {
            spec.parts
                .iter()
                .all(|part| picks.of(&part.source, id).is_some())
        };
        let problems: BTreeSet<&str> = candidates
            .problems
            .keys()
            .filter(has_all)
            .copied()
            .collect();
        let mut excluded = BTreeMap::new();
        let sources: BTreeSet<&Source> = spec.parts.iter().map(|part| &part.source).collect();
        for source in &sources {
            for (reason, count) in candidates.excluded(source) {
                *excluded.entry(reason).or_default() += count;
            }
        }
        if problems.is_empty() {
            return Err(ArmsError::EmptyArm {
                arm: spec.name.clone(),
                excluded,
            });
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
        (Source::Human, Some(problem)) => problem.human.as_ref().map(|text| text.len() as f64),
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

/// The problems that every arm covers.
fn match_problems<'a>(
    specs: &[ArmSpec],
    covered: &Covered<'a>,
) -> Result<BTreeSet<&'a str>, ArmsError> {
    let mut sets = covered.values().map(|(problems, _)| problems);
    let mut matched = sets.next().cloned().unwrap_or_default();
    sets.for_each(|problems| matched.retain(|id| problems.contains(id)));
    if !matched.is_empty() {
        return Ok(matched);
    }
    let count = |spec: &ArmSpec| format!("{} {}", spec.name, covered[&spec.name].0.len());
    Err(ArmsError::NoMatch {
        coverage: specs.iter().map(count).collect::<Vec<_>>().join(", "),
    })
}

/// A seeded choice of `options.rows` problems. Each has its own draw, so that one problem more or
/// fewer leaves the others' places alone.
fn limit<'a>(matched: &BTreeSet<&'a str>, options: &ArmsOptions) -> BTreeSet<&'a str> {
    let places = by_lot(matched.iter().copied(), options.seed, "match");
    places
        .into_iter()
        .take(options.rows.unwrap_or(usize::MAX))
        .collect()
}

fn by_lot<'a>(ids: impl Iterator<Item = &'a str>, seed: u64, what: &str) -> Vec<&'a str> {
    let mut lots: Vec<(u64, &str)> = ids
        .map(|id| (Rng::keyed(seed, &["arms", what, id]).next_u64(), id))
        .collect();
    lots.sort_unstable();
    lots.into_iter().map(|(_, id)| id).collect()
}

fn arm(
    spec: &ArmSpec,
    used: &BTreeSet<&str>,
    picks: &Picks<'_>,
    input: &ArmsInput<'_>,
    seed: u64,
) -> Result<Arm, ArmsError> {
    let sources = assign(spec, used, seed);
    let mut rows = Vec::with_capacity(used.len());
    for id in used {
        let trace = sources.get(id).and_then(|source| picks.of(source, id));
        let trace = trace.expect("a matched problem is covered by every part of every arm");
        let prompt = input.prompts.get(*id).ok_or_else(|| ArmsError::NoPrompt {
            problem: (*id).to_owned(),
        })?;
        rows.push(ArmRow {
            trace_id: trace.id.clone(),
            problem_id: (*id).to_owned(),
            prompt: prompt.clone(),
            completion: trace.text.clone(),
            weight: 1.0,
        });
    }
    Ok(Arm {
        spec: spec.clone(),
        rows,
    })
}

/// Which part of the arm provides each problem: by lot, in exact shares.
fn assign<'s, 'i>(
    spec: &'s ArmSpec,
    used: &BTreeSet<&'i str>,
    seed: u64,
) -> BTreeMap<&'i str, &'s Source> {
    let order = by_lot(
        used.iter().copied(),
        seed,
        &format!("mixture {}", spec.name),
    );
    let mut assigned = BTreeMap::new();
    let (mut from, mut share) = (0, 0.0);
    for (at, part) in spec.parts.iter().enumerate() {
        share += part.share;
        let last = at + 1 == spec.parts.len();
        let to = if last {
            order.len()
        } else {
            ((share * order.len() as f64).round() as usize).min(order.len())
        };
        assigned.extend(
            order[from..to.max(from)]
                .iter()
                .map(|id| (*id, &part.source)),
        );
        from = to.max(from);
    }
    assigned
}

fn summarise(
    candidates: &Candidates<'_>,
    arms: &[Arm],
    covered: Covered<'_>,
    matched_problems: usize,
    used: &BTreeSet<&str>,
    picks: &Picks<'_>,
    alignments: &[Alignment],
) -> ArmsSummary {
    let tokens: BTreeMap<&str, u64> = alignments
        .iter()
        .map(|a| (a.trace_id.as_str(), a.n_tokens))
        .collect();
    let summaries: BTreeMap<String, ArmSummary> = arms
        .iter()
        .map(|arm| {
            (
                arm.spec.name.clone(),
                summary(arm, &tokens, candidates, picks),
            )
        })
        .collect();
    let coverage = Coverage {
        train_problems: candidates.problems.len(),
        same_question_as_held_out: candidates.same_question,
        matched_problems,
        used_problems: used.len(),
        used_difficulty: difficulty(candidates, used),
        duplicates: candidates.duplicates,
        held_out_traces: candidates.held_out_traces,
        unknown_problem_traces: candidates.orphans,
        arms: covered
            .into_iter()
            .map(|(name, (_, coverage))| (name, coverage))
            .collect(),
    };
    let warnings = warnings(arms, &summaries, &coverage);
    ArmsSummary {
        arms: summaries,
        coverage,
        warnings,
    }
}

fn summary(
    arm: &Arm,
    tokens: &BTreeMap<&str, u64>,
    candidates: &Candidates<'_>,
    picks: &Picks<'_>,
) -> ArmSummary {
    let mut verdicts: BTreeMap<String, usize> = BTreeMap::new();
    let used: BTreeSet<&str> = arm.rows.iter().map(|row| row.problem_id.as_str()).collect();
    for row in &arm.rows {
        let held = arm
            .spec
            .parts
            .iter()
            .filter_map(|part| picks.of(&part.source, &row.problem_id));
        let verdict = held
            .filter(|trace| trace.id == row.trace_id)
            .find_map(|trace| candidates.verdict(trace));
        let name = verdict.map_or("none", verdict_name);
        *verdicts.entry(name.to_owned()).or_default() += 1;
    }
    ArmSummary {
        rows: arm.rows.len(),
        tokens: arm
            .rows
            .iter()
            .map(|row| tokens.get(row.trace_id.as_str()).copied())
            .sum(),
        bytes: arm.rows.iter().map(|row| row.completion.len() as u64).sum(),
        problems: used.len(),
        spec: arm.spec.spec(),
        hash: rows_hash(&arm.rows),
        verdicts,
    }
}

fn verdict_name(verdict: crate::record::Verdict) -> &'static str {
    use crate::record::Verdict;
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
                "arm `{name}` has {} rows: too few to tell what it teaches",
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
    if coverage.same_question_as_held_out > 0 {
        warnings.push(format!(
            "{} training problems were left out: a held-out problem asks the same question",
            coverage.same_question_as_held_out
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
