//! Which trace each source holds for each problem.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::filter::Condition;
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
        let mut by_selection = BTreeMap::new();
        for (selection, part) in &parts {
            let paired = paired(part, &parts);
            let mut picks = BTreeMap::new();
            for (id, problem) in &candidates.problems {
                if let Some(trace) = pick(candidates, part, problem, &paired, seed) {
                    picks.insert(*id, trace);
                }
            }
            by_selection.insert(selection.clone(), picks);
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

/// The sources of copies among `parts` that are paired with one: under the same conditions on the model.
fn paired<'s>(part: &Part, parts: &BTreeMap<String, &'s Part>) -> Vec<&'s Source> {
    let models = part.models();
    let copies = parts
        .values()
        .filter(|other| other.source.copied().is_some());
    copies
        .filter(|other| other.models() == models)
        .map(|other| &other.source)
        .collect()
}

/// The parts of arms that are made of copies of G's traces, or of W's (`of`), one of each set of models.
fn made_of<'s>(specs: &'s [ArmSpec], of: &Source) -> BTreeMap<Vec<String>, &'s Part> {
    // A control is made of G's traces too, though it is paired with none.
    let made = |part: &&Part| match part.source {
        Source::Control => *of == Source::Correct,
        _ => part.source.copied().as_ref() == Some(of),
    };
    let parts = specs.iter().flat_map(|spec| &spec.parts).filter(made);
    parts.map(|part| (part.models(), part)).collect()
}

/// The sets of models that arms ask for copies of G, or of W (`of`), under: conditions of filters.
pub fn models_to_copy(specs: &[ArmSpec], of: &Source) -> Vec<Vec<String>> {
    made_of(specs, of).into_keys().collect()
}

/// The traces of G, or of W (`of`), to make copies of: of each training problem one for each set of models.
pub(super) fn to_copy<'a>(
    candidates: &Candidates<'a>,
    specs: &[ArmSpec],
    of: &Source,
    seed: u64,
) -> Vec<&'a Trace> {
    let parts = made_of(specs, of);
    let mut picks = Vec::new();
    for id in candidates.problems.keys() {
        let mut held = BTreeSet::new();
        for part in parts.values() {
            let trace = draw(&of_models(candidates, part, of, id), of, id, seed).copied();
            picks.extend(trace.filter(|trace| held.insert(&trace.id)));
        }
    }
    picks
}

fn pick<'a>(
    candidates: &Candidates<'a>,
    part: &Part,
    problem: &'a Problem,
    paired: &[&Source],
    seed: u64,
) -> Option<Cow<'a, Trace>> {
    let (id, source) = (problem.id.as_str(), &part.source);
    if let Some(of) = source.copied() {
        let parents = with_copies(candidates, part, &of, id, paired);
        let mut found = copies(candidates, source, id, &draw(&parents, &of, id, seed)?.id);
        found.retain(|trace| candidates.passes_where(part, trace, |c| !c.on_model()));
        return draw(&found, source, id, seed).map(|trace| Cow::Borrowed(*trace));
    }
    let mut found = match source {
        Source::Correct | Source::Wrong => with_copies(candidates, part, source, id, paired),
        _ => candidates.of(source, id),
    };
    found.retain(|trace| candidates.passes(part, trace));
    // Wv holds the trace that W holds, where that one can be trained on in part.
    let lot = match source {
        Source::WrongPrefix => &Source::Wrong,
        other => other,
    };
    if *source == Source::WrongPrefix {
        let mut of_w = with_copies(candidates, part, &Source::Wrong, id, paired);
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

/// The traces of a problem that represent `of`, G or W, of the models that a part asks for.
fn of_models<'a>(
    candidates: &Candidates<'a>,
    part: &Part,
    of: &Source,
    problem: &str,
) -> Vec<&'a Trace> {
    let mut found = candidates.of(of, problem);
    found.retain(|trace| candidates.passes_where(part, trace, Condition::on_model));
    found
}

/// The same. Where arms of copies are asked for under the same conditions on the model and only some
/// traces have every one of them, those: G and F must hold the same trace.
fn with_copies<'a>(
    candidates: &Candidates<'a>,
    part: &Part,
    of: &Source,
    problem: &str,
    paired: &[&Source],
) -> Vec<&'a Trace> {
    let all = of_models(candidates, part, of, problem);
    let has_all = |trace: &&Trace| {
        paired
            .iter()
            .filter(|source| source.copied().as_ref() == Some(of))
            .all(|source| !copies(candidates, source, problem, &trace.id).is_empty())
    };
    let whole: Vec<&Trace> = all.iter().copied().filter(has_all).collect();
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

fn draw<'t, T>(found: &'t [T], source: &Source, problem: &str, seed: u64) -> Option<&'t T> {
    Rng::keyed(seed, &["arms", problem, &source.to_string()]).choose(found)
}
