//! Which trace each source holds for each problem.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::spec::{ArmSpec, Source};
use crate::record::{Finish, Origin, OriginKind, Problem, Trace};
use crate::rng::Rng;

/// The trace that each source holds for each problem that it covers.
pub(super) struct Picks<'a> {
    by_source: BTreeMap<Source, BTreeMap<&'a str, Cow<'a, Trace>>>,
}

impl<'a> Picks<'a> {
    pub(super) fn draw(candidates: &Candidates<'a>, specs: &[ArmSpec], seed: u64) -> Self {
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
        let mut by_source: BTreeMap<Source, BTreeMap<&'a str, Cow<'a, Trace>>> = BTreeMap::new();
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

    pub(super) fn of(&self, source: &Source, problem: &str) -> Option<&Trace> {
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
) -> Option<Cow<'a, Trace>> {
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

pub(super) fn draw<'t, T>(
    found: &'t [T],
    source: &Source,
    problem: &str,
    seed: u64,
) -> Option<&'t T> {
    Rng::keyed(seed, &["arms", problem, &source.to_string()]).choose(found)
}
