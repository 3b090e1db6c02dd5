//! Which trace each source holds for each problem.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::spec::{ArmSpec, Part, Source};
use crate::record::{Problem, Trace};
use idiolect_model::Rng;

/// The trace that each part of an arm holds for each problem that it covers.
pub(super) struct Picks<'a> {
    /// By [`Part::selection`].
    by_selection: BTreeMap<String, BTreeMap<&'a str, Cow<'a, Trace>>>,
}

impl<'a> Picks<'a> {
    pub(super) fn draw(candidates: &Candidates<'a>, specs: &[ArmSpec], seed: u64) -> Self {
        let parts: BTreeMap<String, &Part> = specs
            .iter()
            .flat_map(|spec| &spec.parts)
            .map(|part| (part.selection(), part))
            .collect();
        let copied: BTreeSet<&Source> = parts
            .values()
            .map(|part| &part.source)
            .filter(|source| source.copied().is_some())
            .collect();
        let mut by_selection = BTreeMap::new();
        for (selection, part) in parts {
            let mut picks = BTreeMap::new();
            for (id, problem) in &candidates.problems {
                if let Some(trace) = pick(candidates, part, problem, &copied, seed) {
                    picks.insert(*id, trace);
                }
            }
            by_selection.insert(selection, picks);
        }
        Self { by_selection }
    }

    /// Whether every part of an arm holds a trace of a problem.
    pub(super) fn cover(&self, spec: &ArmSpec, problem: &str) -> bool {
        spec.parts
            .iter()
            .all(|part| self.of(part, problem).is_some())
    }

    pub(super) fn of(&self, part: &Part, problem: &str) -> Option<&Trace> {
        self.by_selection
            .get(&part.selection())?
            .get(problem)
            .map(std::convert::AsRef::as_ref)
    }
}

impl Picks<'_> {
    /// Why, as a message, the trace of a part was taken out of `of` that could represent it.
    pub(super) fn why(&self, part: &Part, of: usize) -> String {
        match (&part.source, of) {
            (Source::Flawed(..), _) => "the flawed copy of the trace that G holds".to_owned(),
            (source, _) if source.copied().is_some() => format!(
                "the copy of the trace that {} holds",
                source.copied().unwrap_or(Source::Any)
            ),
            (Source::WrongPrefix, _) => "the trace that W holds".to_owned(),
            (_, 1) => "the only one".to_owned(),
            (_, of) => format!("drawn from {of} by seed, problem and source"),
        }
    }
}

fn pick<'a>(
    candidates: &Candidates<'a>,
    part: &Part,
    problem: &'a Problem,
    copied: &BTreeSet<&Source>,
    seed: u64,
) -> Option<Cow<'a, Trace>> {
    let (id, source) = (problem.id.as_str(), &part.source);
    let mut found = match (source, source.copied()) {
        (_, Some(of)) => {
            let parent = draw(&with_copies(candidates, &of, id, copied), &of, id, seed).copied()?;
            copies(candidates, source, id, &parent.id)
        }
        (Source::Correct | Source::Wrong, None) => with_copies(candidates, source, id, copied),
        _ => candidates.of(source, id),
    };
    found.retain(|trace| candidates.passes(part, trace));
    // Wv holds the trace that W holds, where that one can be trained on in part.
    let lot = match source {
        Source::WrongPrefix => &Source::Wrong,
        other => other,
    };
    if *source == Source::WrongPrefix {
        let mut of_w = with_copies(candidates, &Source::Wrong, id, copied);
        of_w.retain(|trace| candidates.passes(part, trace));
        let held = draw(&of_w, lot, id, seed)?;
        return found
            .iter()
            .find(|trace| trace.id == held.id)
            .map(|trace| Cow::Borrowed(*trace));
    }
    match draw(&found, lot, id, seed) {
        Some(trace) => Some(Cow::Borrowed(trace)),
        None if *source == Source::Human => {
            let trace = candidates.own_solution(problem)?;
            candidates.passes(part, &trace).then_some(Cow::Owned(trace))
        }
        None => None,
    }
}

/// The traces of a problem that represent `of`, G or W. Where arms of copies are asked for and only
/// some traces have every one of them, those: G and F must hold the same trace.
fn with_copies<'a>(
    candidates: &Candidates<'a>,
    of: &Source,
    problem: &str,
    copied: &BTreeSet<&Source>,
) -> Vec<&'a Trace> {
    let all = candidates.of(of, problem);
    let whole: Vec<&Trace> = all
        .iter()
        .copied()
        .filter(|trace| {
            copied
                .iter()
                .filter(|source| source.copied().as_ref() == Some(of))
                .all(|source| !copies(candidates, source, problem, &trace.id).is_empty())
        })
        .collect();
    if whole.is_empty() { all } else { whole }
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

pub(super) fn draw<'t, T>(
    found: &'t [T],
    source: &Source,
    problem: &str,
    seed: u64,
) -> Option<&'t T> {
    Rng::keyed(seed, &["arms", problem, &source.to_string()]).choose(found)
}
