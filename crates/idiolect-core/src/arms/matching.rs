//! Which problems each arm uses: the same ones, as many rows, or as many tokens.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::candidates::Candidates;
use super::picks::Picks;
use super::spec::ArmSpec;
use super::summary::Covered;
use super::{Arm, ArmsError, by_lot};

/// How arms are made equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Matching {
    /// Every arm holds the same problems.
    #[default]
    Problems,
    /// Every arm holds as many rows, each of the problems that it covers.
    Rows,
    /// Of the same problems each arm holds so many that all have the same tokens, within 1 %.
    Tokens,
}

/// Totals of token-matched arms differ by at most this fraction of the smallest.
pub const TOKEN_TOLERANCE: f64 = 0.01;

/// The problems that each arm uses, by its name.
pub(super) type Used<'a> = BTreeMap<String, BTreeSet<&'a str>>;

/// The problems that every arm covers.
pub(super) fn matched<'a>(covered: &Covered<'a>) -> BTreeSet<&'a str> {
    let mut sets = covered.values().map(|(problems, _)| problems);
    let mut matched = sets.next().cloned().unwrap_or_default();
    sets.for_each(|problems| matched.retain(|id| problems.contains(id)));
    matched
}

/// The problems that each arm uses. Each problem has one lot, so that one problem more or fewer
/// leaves the others' places alone, and arms of different problems share as many as they can.
pub(super) fn used<'a>(
    matching: Matching,
    specs: &[ArmSpec],
    covered: &Covered<'a>,
    rows: Option<usize>,
    seed: u64,
) -> Result<Used<'a>, ArmsError> {
    let limit = rows.unwrap_or(usize::MAX);
    if matching == Matching::Rows {
        let fewest = covered.values().map(|(problems, _)| problems.len()).min();
        let limit = limit.min(fewest.unwrap_or(0));
        let of = |(name, (problems, _)): (&String, &(BTreeSet<&'a str>, _))| {
            let places = by_lot(problems.iter().copied(), seed, "match");
            (name.clone(), places.into_iter().take(limit).collect())
        };
        return Ok(covered.iter().map(of).collect());
    }
    let matched = matched(covered);
    if matched.is_empty() {
        let count = |spec: &ArmSpec| format!("{} {}", spec.name, covered[&spec.name].0.len());
        return Err(ArmsError::NoMatch {
            coverage: specs.iter().map(count).collect::<Vec<_>>().join(", "),
        });
    }
    let places = by_lot(matched.iter().copied(), seed, "match");
    let chosen: BTreeSet<&str> = places.into_iter().take(limit).collect();
    Ok(specs
        .iter()
        .map(|spec| (spec.name.clone(), chosen.clone()))
        .collect())
}

/// Drops rows by lot until every arm has the tokens of the smallest.
pub(super) fn trim_to_tokens(
    arms: &mut [Arm],
    candidates: &Candidates<'_>,
    seed: u64,
) -> Result<(), ArmsError> {
    let tokens_of = |arm: &Arm| -> Result<BTreeMap<String, u64>, ArmsError> {
        let row = |row: &crate::record::ArmRow| {
            let tokens = candidates.tokens(&row.trace_id);
            let tokens = tokens.ok_or_else(|| ArmsError::NoTokens {
                arm: arm.spec.name.clone(),
                trace: row.trace_id.clone(),
                some_scored: candidates.some_scored(),
            })?;
            Ok((row.trace_id.clone(), tokens))
        };
        arm.rows.iter().map(row).collect()
    };
    let tokens = arms.iter().map(tokens_of).collect::<Result<Vec<_>, _>>()?;
    let total = |tokens: &BTreeMap<String, u64>| tokens.values().sum::<u64>();
    let target = tokens.iter().map(total).min().unwrap_or(0);
    for (arm, tokens) in arms.iter_mut().zip(&tokens) {
        if total(tokens) == target {
            continue;
        }
        let order = by_lot(tokens.keys().map(String::as_str), seed, "tokens");
        let kept = near_total(&order, tokens, target);
        let sum: u64 = kept.iter().map(|id| tokens[*id]).sum();
        if sum.abs_diff(target) as f64 > target as f64 * TOKEN_TOLERANCE / 2.0 {
            return Err(ArmsError::TokenMatch {
                arm: arm.spec.name.clone(),
                tokens: sum,
                target,
            });
        }
        arm.rows.retain(|row| kept.contains(row.trace_id.as_str()));
        arm.reasons
            .retain(|pick| kept.contains(pick.trace_id.as_str()));
    }
    Ok(())
}

/// Exchanges after which a total is as near as it gets.
const MAX_EXCHANGES: usize = 16;

/// Ids in their order as long as the total stays within `target`, then a few exchanges of one for
/// another that bring it nearer.
fn near_total<'a>(
    order: &[&'a str],
    tokens: &BTreeMap<String, u64>,
    target: u64,
) -> BTreeSet<&'a str> {
    let mut sum = 0;
    let mut kept = BTreeSet::new();
    for id in order {
        if sum + tokens[*id] <= target {
            sum += tokens[*id];
            kept.insert(*id);
        }
    }
    for _ in 0..MAX_EXCHANGES {
        // Rows that are out, by their length; the first of each length by lot.
        let mut out: BTreeMap<u64, &'a str> = BTreeMap::new();
        for id in order.iter().filter(|id| !kept.contains(*id)) {
            out.entry(tokens[*id]).or_insert(id);
        }
        let mut best: Option<(u64, &'a str, &'a str)> = None;
        for id in order.iter().filter(|id| kept.contains(*id)) {
            let rest = sum - tokens[*id];
            let wanted = target.saturating_sub(rest);
            let near = [out.range(..=wanted).next_back(), out.range(wanted..).next()];
            for (n, other) in near.into_iter().flatten() {
                let total = rest + n;
                let held = best.map_or(sum, |(total, ..)| total);
                if total.abs_diff(target) < held.abs_diff(target) {
                    best = Some((total, id, other));
                }
            }
        }
        let Some((total, gone, come)) = best else {
            break;
        };
        kept.remove(gone);
        kept.insert(come);
        sum = total;
    }
    kept
}

/// Why each row of an arm was picked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickReason {
    /// The problem.
    pub problem_id: String,
    /// The trace.
    pub trace_id: String,
    /// The part of the arm that it represents.
    pub part: String,
    /// Traces that could have stood there.
    pub of: usize,
    /// In words.
    pub why: String,
}

/// The reasons of an arm's rows.
pub(super) fn reasons(
    arm: &Arm,
    parts: &BTreeMap<&str, &super::Part>,
    candidates: &Candidates<'_>,
    picks: &Picks<'_>,
) -> Vec<PickReason> {
    let reason = |row: &crate::record::ArmRow| {
        let part = parts.get(row.problem_id.as_str())?;
        let of = candidates
            .of(&part.source, &row.problem_id)
            .into_iter()
            .filter(|trace| candidates.passes(part, trace))
            .count()
            .max(1);
        let why = picks.why(part, of);
        Some(PickReason {
            problem_id: row.problem_id.clone(),
            trace_id: row.trace_id.clone(),
            part: part.selection(),
            of,
            why,
        })
    };
    arm.rows.iter().filter_map(reason).collect()
}
