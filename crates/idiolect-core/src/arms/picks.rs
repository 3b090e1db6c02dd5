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
        let doses: BTreeSet<&Source> = parts
            .values()
            .map(|part| &part.source)
            .filter(|source| matches!(source, Source::Flawed(_)))
            .collect();
        let mut by_selection = BTreeMap::new();
        for (selection, part) in parts {
            let mut picks = BTreeMap::new();
            for (id, problem) in &candidates.problems {
                if let Some(trace) = pick(candidates, part, problem, &doses, seed) {
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
            (Source::Flawed(_), _) => "the flawed copy of the trace that G holds".to_owned(),
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
    doses: &BTreeSet<&Source>,
    seed: u64,
) -> Option<Cow<'a, Trace>> {
    let (id, source) = (problem.id.as_str(), &part.source);
    let mut found = match source {
        Source::Correct => correct(candidates, id, doses),
        Source::Flawed(_) => {
            let parent =
                draw(&correct(candidates, id, doses), &Source::Correct, id, seed).copied()?;
            copies(candidates, source, id, &parent.id)
        }
        _ => candidates.of(source, id),
    };
    found.retain(|trace| candidates.passes(part, trace));
    // Wv holds the trace that W holds, where that one can be trained on in part.
    let lot = match source {
        Source::WrongPrefix => &Source::Wrong,
        other => other,
    };
    if *source == Source::WrongPrefix {
        let mut of_w = candidates.of(&Source::Wrong, id);
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

/// The correct traces of a problem. Where F arms are asked for and only some of them were corrupted
/// at every dose, those: G and F must hold the same trace.
fn correct<'a>(
    candidates: &Candidates<'a>,
    problem: &str,
    doses: &BTreeSet<&Source>,
) -> Vec<&'a Trace> {
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

pub(super) fn draw<'t, T>(
    found: &'t [T],
    source: &Source,
    problem: &str,
    seed: u64,
) -> Option<&'t T> {
    Rng::keyed(seed, &["arms", problem, &source.to_string()]).choose(found)
}
