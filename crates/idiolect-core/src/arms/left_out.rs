//! Why traces join no arm, and what changes that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::candidates::Candidates;
use super::describe::of_source;
use super::spec::{ArmSpec, Source};
use idiolect_model::RowErrorKind;

/// Of human solutions: there is none.
const NO_HUMAN: &str = "problems without a human solution";
/// Of problems: no arm may hold them.
const OTHER_SPLIT: &str = "problems outside the train split";
/// Of traces: no arm may hold them.
const HELD_OUT: &str = "of problems outside the train split";
/// Of traces: their problem is unknown.
const NO_PROBLEM: &str = "of problems that were not given";
/// Of flawed traces: they are chosen only beside the trace that they were made from.
const OF_OTHERS: &str = "copies of traces that G does not hold";
/// Of G and W: there is no trace to choose from.
const NONE_SAMPLED: &str = "traces sampled by a teacher";

pub(super) const CUT_OFF: &str = "cut off by the token limit";
pub(super) const FINISH_UNKNOWN: &str = "not known to be finished";
pub(super) const NOT_SAMPLED: &str = "not known to be sampled by a model";
pub(super) const NO_VERDICT: &str = "no verdict";
pub(super) const UNGRADED: &str = "ungraded";

/// What changes that traces are left out for a reason of `arms.json`, where something does.
pub fn remedy(reason: &str) -> Option<&'static str> {
    Some(match reason {
        CUT_OFF => "write longer ones: `idiolect generate --max-tokens N`",
        FINISH_UNKNOWN => {
            "`idiolect arms --unknown-finish-is-stop` takes them as finished; \
             `idiolect import --finish stop` says it of a whole file"
        }
        NOT_SAMPLED => {
            "name the model that wrote them: `idiolect import --model NAME`, or \
             `--map model=COLUMN`"
        }
        NO_VERDICT => "judge them: `idiolect verify`, and give its file with `--verdicts`",
        UNGRADED => "verdicts.jsonl holds the `reason`",
        NO_HUMAN => "`idiolect import --map human=COLUMN` reads solutions from a column",
        OTHER_SPLIT | HELD_OUT => {
            "only problems of split train enter arms: `idiolect import --split train`"
        }
        NO_PROBLEM => "give the problems that the traces were imported or generated with",
        NONE_SAMPLED => {
            "sample a model with `idiolect generate`, or read samples with \
             `idiolect import --map response=COLUMN --model NAME`"
        }
        reason if reason == RowErrorKind::TooLong.name() => {
            "a larger `--max-tokens`, or a student with more positions, takes them"
        }
        reason if reason == RowErrorKind::Template.name() => {
            "`--template raw` does without the chat template"
        }
        _ => return None,
    })
}

/// An arm that was not built, though nobody asked to leave it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What it would hold.
    pub holds: String,
    /// How many traces (or problems) cannot represent it, by reason.
    pub reasons: BTreeMap<String, usize>,
    /// What changes it, where something does.
    pub remedies: Vec<String>,
}

impl LeftOut {
    fn of(source: &Source, candidates: &Candidates<'_>) -> Self {
        let reasons = reasons(candidates, [source]);
        Self {
            holds: of_source(source),
            remedies: remedies(&reasons),
            reasons,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "({}) is left out: {}",
            self.holds,
            counted(&self.reasons)
        )?;
        if !self.remedies.is_empty() {
            write!(f, "; {}", self.remedies.join("; "))?;
        }
        Ok(())
    }
}

/// The arms among H, G and W (and P and F, where something was paraphrased or flawed) that are not
/// among the specs, by name.
pub(super) fn left_out(
    candidates: &Candidates<'_>,
    specs: &[ArmSpec],
) -> BTreeMap<String, LeftOut> {
    let built = |source: &Source| {
        let mut parts = specs.iter().flat_map(|spec| &spec.parts);
        parts.any(|part| part.source == *source)
    };
    let mut looked_for = vec![Source::Human, Source::Correct, Source::Wrong];
    if !candidates.excluded(&Source::Paraphrased).is_empty() {
        looked_for.push(Source::Paraphrased);
    }
    let is_copy = |source: &Source| source.copied().is_some();
    looked_for.extend(candidates.sources().into_iter().filter(is_copy));
    looked_for.retain(|source| !built(source));
    looked_for
        .iter()
        .map(|source| (source.to_string(), LeftOut::of(source, candidates)))
        .collect()
}

/// Why no trace represents some sources, each reason with how many it keeps out.
pub(super) fn reasons<'s>(
    candidates: &Candidates<'_>,
    sources: impl IntoIterator<Item = &'s Source>,
) -> BTreeMap<String, usize> {
    let sources: BTreeSet<&Source> = sources.into_iter().collect();
    let mut reasons = BTreeMap::new();
    for source in &sources {
        for (reason, count) in candidates.excluded(source) {
            *reasons.entry(reason).or_default() += count;
        }
    }
    let mut more = Vec::new();
    if sources.contains(&Source::Human) {
        let without = |p: &&&crate::record::Problem| p.human.is_none();
        more.push((
            NO_HUMAN,
            candidates.problems.values().filter(without).count(),
        ));
        more.push((OTHER_SPLIT, candidates.held_out_problems));
    }
    if sources.iter().any(|source| **source != Source::Human) {
        more.push((HELD_OUT, candidates.held_out_traces));
        more.push((NO_PROBLEM, candidates.orphans));
    }
    for source in sources.iter().filter(|source| source.copied().is_some()) {
        let all = candidates.problems.keys();
        let copies = all.map(|id| candidates.of(source, id).len()).sum();
        more.push((OF_OTHERS, copies));
    }
    reasons.extend(
        more.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| (reason.to_owned(), count)),
    );
    let of_teacher = |source: &&Source| matches!(source, Source::Correct | Source::Wrong);
    if reasons.is_empty() && sources.iter().any(of_teacher) {
        reasons.insert(NONE_SAMPLED.to_owned(), 0);
    }
    reasons
}

/// What changes some reasons, each once.
pub(super) fn remedies(reasons: &BTreeMap<String, usize>) -> Vec<String> {
    let found = reasons.keys().filter_map(|reason| remedy(reason));
    let distinct: BTreeSet<&str> = found.collect();
    distinct.into_iter().map(str::to_owned).collect()
}

/// Reasons with their counts, the most frequent first.
pub fn counted(reasons: &BTreeMap<String, usize>) -> String {
    let mut sorted: Vec<(&String, &usize)> = reasons.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let words: Vec<String> = sorted
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    words.join(", ")
}
