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

use crate::record::{Alignment, ArmRow, Problem, Split, Trace, VerdictRow};
use crate::rng::Rng;

mod candidates;
mod picks;
pub mod spec;
mod summary;

use candidates::Candidates;
use picks::{Picks, draw};
pub use spec::{ArmSpec, Part, Source, SpecError};
pub use summary::{ArmCoverage, ArmSummary, ArmsSummary, Coverage, rows_hash};
use summary::{Covered, coverage_of, summarise};

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

#[cfg(test)]
mod tests;
