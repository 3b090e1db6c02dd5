//! Curated arms and their controls, from the same pool.

use std::collections::BTreeSet;

use super::candidates::Candidates;
use super::matching::PickReason;
use super::{Arm, ArmSpec, ArmsError, ArmsInput};
use crate::curation::{Chosen, Clause, Curated, Item, Scope, curate};
use crate::record::{ArmRow, Trace};

/// Appended to a curated arm's name for the pick by lot and the pick of like length.
pub(super) const CONTROLS: [&str; 2] = ["~random", "~length"];

/// The curated arm of a spec with a pick, and its two controls.
pub(super) fn arms(
    spec: &ArmSpec,
    clause: &Clause,
    used: &BTreeSet<&str>,
    candidates: &Candidates<'_>,
    input: &ArmsInput<'_>,
    seed: u64,
) -> Result<Vec<Arm>, ArmsError> {
    let part = &spec.parts[0];
    // One trace a problem competes within the problems that all arms use; a pick over the whole
    // set is its own matter.
    let problems: Vec<&str> = match clause.scope {
        Scope::Problem => used.iter().copied().collect(),
        Scope::Set => candidates.problems.keys().copied().collect(),
    };
    let pool: Vec<&Trace> = problems
        .iter()
        .flat_map(|id| candidates.of(&part.source, id))
        .filter(|trace| candidates.passes(part, trace))
        .collect();
    let items: Vec<Item<'_>> = pool
        .iter()
        .map(|trace| {
            let scores = candidates.scores(&trace.id);
            Ok(Item {
                problem_id: &trace.problem_id,
                trace_id: &trace.id,
                scores: scores.ok_or_else(|| ArmsError::NoCloseness {
                    arm: spec.name.clone(),
                    trace: trace.id.clone(),
                    some_scored: candidates.some_scored(),
                })?,
                difficulty: candidates.difficulty(&trace.problem_id),
            })
        })
        .collect::<Result<_, ArmsError>>()?;
    let Curated {
        chosen,
        random,
        length,
        ..
    } = curate(&items, clause, seed);
    let named = |suffix: &str| ArmSpec {
        name: format!("{}{suffix}", spec.name),
        ..spec.clone()
    };
    let arm = |(suffix, picks): (&str, Vec<Chosen>)| {
        let mut arm = Arm {
            spec: named(suffix),
            rows: Vec::with_capacity(picks.len()),
            reasons: Vec::with_capacity(picks.len()),
        };
        for pick in picks {
            let trace = pool[pick.item];
            let prompt = input.prompts.get(&trace.problem_id);
            arm.rows.push(ArmRow {
                prompt: prompt.cloned().ok_or_else(|| ArmsError::NoPrompt {
                    problem: trace.problem_id.clone(),
                })?,
                weight: pick.weight,
                ..super::row_of(&part.source, trace, candidates)
            });
            arm.reasons.push(PickReason {
                problem_id: trace.problem_id.clone(),
                trace_id: trace.id.clone(),
                part: part.selection(),
                of: pool.len(),
                why: pick.why,
            });
        }
        Ok(arm)
    };
    [("", chosen), (CONTROLS[0], random), (CONTROLS[1], length)]
        .into_iter()
        .map(arm)
        .collect()
}
