//! Arms: matched training sets from verified traces.
//!
//! All arms hold the same training problems, one trace each, so that they differ in the traces and
//! in nothing else. Which problems and which traces is decided by draws keyed by seed, problem and
//! source: not by the order of rows, nor by which other problems are there. A flawed trace is a copy
//! of the very trace that G holds for its problem; a mixture holds for each problem the trace that
//! the plain arm of that source holds.
//!
//! Only problems of the train split enter an arm, and none whose question a held-out problem asks.
//! Near duplicates are dropped, and so is what repeats a held-out question (`near`); how many is
//! always reported. What this is not: choice by closeness, which is [`crate::curation`]'s.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{ArmRow, Problem, ScoreRow, Split, Trace, VerdictRow};
use idiolect_model::{Rng, Span};

mod candidates;
mod curated;
mod describe;
pub mod filter;
mod left_out;
mod matching;
mod near;
mod picks;
pub mod spec;
mod student;
mod summary;

use candidates::Candidates;
pub use candidates::FAULT;
pub use describe::{Names, describe, explain, in_full, source_of};
pub use left_out::{LeftOut, counted, remedy};
use left_out::{left_out, remedies};
pub use matching::{Matching, PickReason, TOKEN_TOLERANCE};
use matching::{Used, reasons, trim_to_tokens, used};
pub use near::similarity;
pub use picks::models_to_copy;
use picks::{Picks, to_copy};
pub use spec::{ArmSpec, Part, Source, SpecError, is_name};
pub use student::Student;
pub use summary::{
    ArmCoverage, ArmSummary, ArmsSummary, Coverage, ParentCloseness, StudentCoverage, rows_hash,
};
use summary::{Covered, coverage_of, student_coverage, summarise};

/// What arms are made from.
#[derive(Clone, Copy, Debug)]
pub struct ArmsInput<'a> {
    /// Problems of every split; those held out guard against leaks.
    pub problems: &'a [Problem],
    /// Traces of any making.
    pub traces: &'a [Trace],
    /// Verdicts of the sampled and paraphrased traces at least.
    pub verdicts: &'a [VerdictRow],
    /// Scores of the traces, for token counts; may be empty.
    pub scores: &'a [ScoreRow],
    /// The task's rendered prompt of every training problem, by problem id.
    pub prompts: &'a BTreeMap<String, String>,
    /// Whether the student can be trained on a row; unset, it can on every one.
    pub student: Option<Student<'a>>,
}

/// How to build arms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmsOptions {
    /// The arms, in order; empty for every plain arm that the traces support.
    pub arms: Vec<ArmSpec>,
    /// How the arms are made equal.
    pub matching: Matching,
    /// Rows to keep of each arm, before tokens are matched; all where unset or fewer.
    pub rows: Option<usize>,
    /// Keys every draw.
    pub seed: u64,
    /// Lets W hold traces whose source does not state how they ended, when their answer is readable.
    pub unknown_finish_is_stop: bool,
}

/// One built arm.
#[derive(Clone, Debug, PartialEq)]
pub struct Arm {
    /// Its name and what it is made of.
    pub spec: ArmSpec,
    /// One row a problem, in order of problem id.
    pub rows: Vec<ArmRow>,
    /// Why each row was picked, in the same order.
    pub reasons: Vec<PickReason>,
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
    /// No trace represents any arm.
    #[error("the traces support no arm{}", each(.left_out))]
    NoArm {
        /// Why, by arm.
        left_out: BTreeMap<String, LeftOut>,
    },
    /// An arm without a single problem.
    #[error(
        "arm `{arm}` covers no training problem{}; leave the arm out or give traces for it{}",
        because(.excluded),
        made(.makers)
    )]
    EmptyArm {
        /// The arm.
        arm: String,
        /// What writes such traces, for the sources of which there are none.
        makers: Vec<&'static str>,
        /// Traces of its making that cannot be used, by reason.
        excluded: BTreeMap<String, usize>,
    },
    /// No problem that every arm covers.
    #[error(
        "no training problem is covered by every arm ({coverage}); leave out the arms that cover least, draw more samples of each problem, or match rows instead of problems (--match rows; in a recipe `match = \"rows\"` in [arms])"
    )]
    NoMatch {
        /// How many problems each arm covers.
        coverage: String,
    },
    /// A trace without scores, where closeness is to decide.
    #[error(
        "arm `{arm}` cannot be curated: trace `{trace}` has no scores; {}",
        unscored(*.some_scored)
    )]
    NoCloseness {
        /// The arm.
        arm: String,
        /// The trace.
        trace: String,
        /// Whether other traces have scores.
        some_scored: bool,
    },
    /// A trace without scores, where tokens are to be matched.
    #[error(
        "arm `{arm}` cannot be matched on tokens: trace `{trace}` has no scores; {}",
        unscored(*.some_scored)
    )]
    NoTokens {
        /// The arm.
        arm: String,
        /// The trace.
        trace: String,
        /// Whether other traces have scores.
        some_scored: bool,
    },
    /// Rows too long to come near the tokens of the smallest arm.
    #[error(
        "arm `{arm}` cannot be matched on tokens: its rows give {tokens} where the smallest arm has {target}, more than 1 % apart; give more rows, or match on rows"
    )]
    TokenMatch {
        /// The arm.
        arm: String,
        /// What its rows give.
        tokens: u64,
        /// What they should.
        target: u64,
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
    if excluded.is_empty() {
        return String::new();
    }
    let remedies: String = remedies(excluded)
        .iter()
        .map(|remedy| format!("; {remedy}"))
        .collect();
    format!(" ({}){remedies}", counted(excluded))
}

/// Where some traces have scores, one that has none is most often one that the student cannot hold.
fn unscored(some_scored: bool) -> &'static str {
    match some_scored {
        true => {
            "score that trace too, or where it is too long for the student leave such traces out of every arm with --model M"
        }
        false => "score the traces and give the scores",
    }
}

fn made(makers: &[&str]) -> String {
    match makers {
        [] => String::new(),
        makers => format!(" (such traces are written by `{}`)", makers.join("` and `")),
    }
}

fn each(left_out: &BTreeMap<String, LeftOut>) -> String {
    let line = |(arm, why): (&String, &LeftOut)| format!("\n  {arm} {why}");
    left_out.iter().map(line).collect()
}

/// Builds matched arms.
///
/// # Errors
/// See [`ArmsError`]; an arm asked for that no trace supports is one, a silent gap would not be
/// noticed.
pub fn build(input: ArmsInput<'_>, options: &ArmsOptions) -> Result<BuiltArms, ArmsError> {
    let candidates = Candidates::new(&input, options.unknown_finish_is_stop)?;
    let Drawn {
        specs,
        picks,
        covered,
        used,
    } = drawn(&candidates, options)?;
    let mut arms: Vec<Arm> = Vec::with_capacity(specs.len());
    for spec in &specs {
        let used = &used[&spec.name];
        match &spec.pick {
            Some(clause) => arms.extend(curated::arms(
                spec,
                clause,
                used,
                &candidates,
                &input,
                options.seed,
            )?),
            None => arms.push(arm(spec, used, &candidates, &picks, &input, options.seed)?),
        }
    }
    if options.matching == Matching::Tokens {
        trim_to_tokens(&mut arms, &candidates, options.seed)?;
    }
    for arm in &arms {
        refuse_held_out(&arm.rows, input.problems)?;
    }
    let student = student_coverage(&candidates, &specs, options.seed, &covered);
    let left_out = if options.arms.is_empty() {
        left_out(&candidates, &specs)
    } else {
        BTreeMap::new()
    };
    let mut summary = summarise(&candidates, options.matching, &arms, covered, student);
    summary.left_out = left_out;
    Ok(BuiltArms { arms, summary })
}

/// Refuses arms that [`build`] would refuse for want of traces. Asks for no scores, so that it is
/// known before anything is scored.
///
/// # Errors
/// [`ArmsError::EmptyArm`] and [`ArmsError::NoMatch`], with the reasons; two arms of one name; two
/// verdicts on one trace that disagree.
pub fn check_coverage(input: &ArmsInput<'_>, options: &ArmsOptions) -> Result<(), ArmsError> {
    let candidates = Candidates::new(input, options.unknown_finish_is_stop)?;
    drawn(&candidates, options).map(drop)
}

/// Which trace each arm could hold of each problem, and of which problems it is to.
struct Drawn<'a> {
    specs: Vec<ArmSpec>,
    picks: Picks<'a>,
    covered: Covered<'a>,
    used: Used<'a>,
}

fn drawn<'a>(candidates: &Candidates<'a>, options: &ArmsOptions) -> Result<Drawn<'a>, ArmsError> {
    let mut specs = wanted(candidates, options)?;
    let picks = Picks::draw(candidates, &specs, options.seed);
    // Nobody asked for this one by name, so it is left out and stated, not an error.
    if options.arms.is_empty() {
        specs.retain(|spec| candidates.problems.keys().any(|id| picks.cover(spec, id)));
    }
    let covered = coverage_of(candidates, &specs, &picks)?;
    let used = used(
        options.matching,
        &specs,
        &covered,
        options.rows,
        options.seed,
    )?;
    Ok(Drawn {
        specs,
        picks,
        covered,
        used,
    })
}

/// The traces of G or W (`of`) that the copies in arms of these specs are to be made of (F, A, RR and GH
/// of G's, and content controls; WH of W's), in the order of the problems: for each training problem the
/// one that [`build`] picks under `seed` once the copies are there, or one for each of
/// [`models_to_copy`] (`A` and `A[model=X]`: two).
///
/// # Errors
/// When two verdicts on one trace disagree.
pub fn picks<'a>(
    input: &ArmsInput<'a>,
    specs: &[ArmSpec],
    of: &Source,
    seed: u64,
) -> Result<Vec<&'a Trace>, ArmsError> {
    let candidates = Candidates::new(input, false)?;
    Ok(to_copy(&candidates, specs, of, seed))
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
    let all_names = specs.iter().flat_map(ArmSpec::built);
    match all_names
        .into_iter()
        .find(|name| !names.insert(name.clone()))
    {
        Some(name) => Err(ArmsError::SameName { name }),
        None if specs.is_empty() => Err(ArmsError::NoArm {
            left_out: left_out(candidates, &specs),
        }),
        None => Ok(specs),
    }
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
    candidates: &Candidates<'_>,
    picks: &Picks<'_>,
    input: &ArmsInput<'_>,
    seed: u64,
) -> Result<Arm, ArmsError> {
    let parts = assign(spec, used, seed);
    let mut rows = Vec::with_capacity(used.len());
    for id in used {
        let part = parts[id];
        let trace = picks.of(part, id);
        let trace = trace.expect("a used problem is covered by every part of its arm");
        let prompt = input.prompts.get(*id).ok_or_else(|| ArmsError::NoPrompt {
            problem: (*id).to_owned(),
        })?;
        rows.push(ArmRow {
            prompt: prompt.clone(),
            ..row_of(&part.source, trace, candidates)
        });
    }
    let mut arm = Arm {
        spec: spec.clone(),
        rows,
        reasons: Vec::new(),
    };
    arm.reasons = reasons(&arm, &parts, candidates, picks);
    Ok(arm)
}

/// The row of a trace that represents a source, without its prompt. Of Wv only what comes before
/// the first false step is trained on.
fn row_of(source: &Source, trace: &Trace, candidates: &Candidates<'_>) -> ArmRow {
    let masked_from = match source {
        Source::WrongPrefix => candidates.prefix(trace),
        _ => None,
    };
    let spans = masked_from.map(|start| Span {
        start,
        end: trace.text.len(),
        train: false,
    });
    ArmRow {
        trace_id: trace.id.clone(),
        problem_id: trace.problem_id.clone(),
        prompt: String::new(),
        completion: trace.text.clone(),
        weight: 1.0,
        spans: spans.into_iter().collect(),
    }
}

/// Which part of the arm provides each problem: by lot, in exact shares.
fn assign<'s, 'i>(
    spec: &'s ArmSpec,
    used: &BTreeSet<&'i str>,
    seed: u64,
) -> BTreeMap<&'i str, &'s Part> {
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
        assigned.extend(order[from..to.max(from)].iter().map(|id| (*id, part)));
        from = to.max(from);
    }
    assigned
}

#[cfg(test)]
mod tests;
