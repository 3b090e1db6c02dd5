//! Curation: choosing traces by closeness, always beside a random and a length-matched choice of
//! the same size.
//!
//! Whether near traces teach more is a question, not an assumption; a choice without its controls
//! cannot answer it. Everything is a function of the items and the seed: their order changes
//! nothing, a choice is a subset of what was given, and its size is exact.

pub mod clause;

use std::collections::{BTreeMap, BTreeSet};

pub use clause::{Budget, Clause, Scope};

use crate::record::ScoreRow;
use idiolect_model::Rng;

/// A trace that may be chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Item<'a> {
    /// Its problem.
    pub problem_id: &'a str,
    /// Its id.
    pub trace_id: &'a str,
    /// Its scores under the student.
    pub scores: &'a ScoreRow,
    /// Share of sampled traces of its problem that are not correct, where known.
    pub difficulty: Option<f64>,
}

/// A chosen trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Index of the item.
    pub item: usize,
    /// Weight of its row.
    pub weight: f64,
    /// In words, why.
    pub why: String,
}

/// A choice and its controls, each as large as the choice where the pool allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Curated {
    /// By the clause.
    pub chosen: Vec<Chosen>,
    /// `NAME~random`: by lot.
    pub random: Vec<Chosen>,
    /// `NAME~length`: near in tokens to what was chosen.
    pub length: Vec<Chosen>,
    /// Items for which the metric is not defined.
    pub unmeasured: usize,
}

/// Chooses among items.
pub fn curate(items: &[Item<'_>], clause: &Clause, seed: u64) -> Curated {
    // In order of id, so that the order of the input decides nothing.
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| (items[i].problem_id, items[i].trace_id));
    order.dedup_by_key(|i| (items[*i].problem_id, items[*i].trace_id));
    let closeness: BTreeMap<usize, f64> = order
        .iter()
        .filter_map(|&i| {
            let value = (clause.by.of)(items[i].scores)?;
            let closeness = clause.by.direction.closeness(value);
            Some((i, if clause.far { -closeness } else { closeness }))
        })
        .collect();
    let unmeasured = order.len() - closeness.len();
    order.retain(|i| closeness.contains_key(i));

    let pool = per_problem(
        items,
        &in_band(&order, &closeness, clause),
        clause.scope,
        &|i| closeness[&i],
    );
    let picked = within_budget(items, &pool, clause, &|i| closeness[&i]);
    let weights = weights(&picked, &closeness, clause.weights);
    let chosen: Vec<Chosen> = picked
        .iter()
        .zip(weights)
        .map(|(&item, weight)| Chosen {
            item,
            weight,
            why: why(items, item, clause),
        })
        .collect();

    let lot = |i: usize| {
        let key = ["curation", items[i].problem_id, items[i].trace_id];
        Rng::keyed(seed, &key).uniform()
    };
    let random = per_problem(items, &order, clause.scope, &lot);
    let random = within_budget(
        items,
        &of_same_problems(items, &random, &picked, clause),
        clause,
        &lot,
    );
    let random = first(random, picked.len(), &lot);
    let length = near_in_length(items, &order, &picked, clause.scope, &lot);
    let plain = |picks: Vec<usize>, why: &str| -> Vec<Chosen> {
        picks
            .into_iter()
            .map(|item| Chosen {
                item,
                weight: 1.0,
                why: why.to_owned(),
            })
            .collect()
    };
    Curated {
        chosen,
        random: plain(random, "by lot"),
        length: plain(length, "near in tokens to a chosen trace, by lot"),
        unmeasured,
    }
}

/// The items between two quantiles of closeness, 0 being the nearest.
fn in_band(order: &[usize], closeness: &BTreeMap<usize, f64>, clause: &Clause) -> Vec<usize> {
    let Some((low, high)) = clause.band else {
        return order.to_vec();
    };
    let mut ranked = order.to_vec();
    // Stable: equals stay in order of id.
    ranked.sort_by(|a, b| closeness[b].total_cmp(&closeness[a]));
    let place = |quantile: f64| (quantile * ranked.len() as f64).round() as usize;
    let mut kept = ranked[place(low)..place(high)].to_vec();
    kept.sort_by_key(|i| order.iter().position(|o| o == i));
    kept
}

/// Of each problem the item of the highest value, where one a problem is asked for.
fn per_problem(
    items: &[Item<'_>],
    order: &[usize],
    scope: Scope,
    value: &dyn Fn(usize) -> f64,
) -> Vec<usize> {
    if scope == Scope::Set {
        return order.to_vec();
    }
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    for &i in order {
        let held = best.entry(items[i].problem_id).or_insert(i);
        if value(i) > value(*held) {
            *held = i;
        }
    }
    best.into_values().collect()
}

/// One trace a problem is compared with one of the same problems, so that content stays equal.
fn of_same_problems(
    items: &[Item<'_>],
    pool: &[usize],
    picked: &[usize],
    clause: &Clause,
) -> Vec<usize> {
    if clause.scope == Scope::Set {
        return pool.to_vec();
    }
    let problems: BTreeSet<&str> = picked.iter().map(|&i| items[i].problem_id).collect();
    pool.iter()
        .copied()
        .filter(|&i| problems.contains(items[i].problem_id))
        .collect()
}

/// The items of the highest values that the budget allows, in the order of the pool: from each
/// stratum its share.
fn within_budget(
    items: &[Item<'_>],
    pool: &[usize],
    clause: &Clause,
    value: &dyn Fn(usize) -> f64,
) -> Vec<usize> {
    let Some(budget) = clause.budget else {
        return pool.to_vec();
    };
    let tokens = |i: usize| items[i].scores.n_tokens;
    let mut strata: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    let difficulty = thirds(pool, clause.by_difficulty, &|i| {
        items[i].difficulty.unwrap_or(0.5)
    });
    let length = thirds(pool, clause.by_length, &|i| tokens(i) as f64);
    for (at, &i) in pool.iter().enumerate() {
        strata
            .entry((difficulty[at], length[at]))
            .or_default()
            .push(i);
    }
    let mut picked: BTreeSet<usize> = BTreeSet::new();
    match budget {
        Budget::Rows(rows) => {
            let sizes: Vec<usize> = strata.values().map(Vec::len).collect();
            for (members, quota) in strata.values().zip(quotas(&sizes, rows)) {
                picked.extend(best_first(members, value).into_iter().take(quota));
            }
        }
        Budget::Tokens(budget) => {
            let all: u64 = pool.iter().map(|&i| tokens(i)).sum();
            for members in strata.values() {
                let own: u64 = members.iter().map(|&i| tokens(i)).sum();
                let mut left = (budget as f64 * own as f64 / all.max(1) as f64) as u64;
                for i in best_first(members, value) {
                    if tokens(i) <= left {
                        left -= tokens(i);
                        picked.insert(i);
                    }
                }
            }
        }
    }
    pool.iter()
        .copied()
        .filter(|i| picked.contains(i))
        .collect()
}

fn best_first(members: &[usize], value: &dyn Fn(usize) -> f64) -> Vec<usize> {
    let mut ranked = members.to_vec();
    ranked.sort_by(|a, b| value(*b).total_cmp(&value(*a)));
    ranked
}

/// The third of the pool that each item's value lies in; all in one where not asked for.
fn thirds(pool: &[usize], asked: bool, value: &dyn Fn(usize) -> f64) -> Vec<usize> {
    if !asked {
        return vec![0; pool.len()];
    }
    let mut sorted: Vec<f64> = pool.iter().map(|&i| value(i)).collect();
    sorted.sort_by(f64::total_cmp);
    let cut = |third: usize| sorted.get(third * sorted.len() / 3).copied();
    pool.iter()
        .map(|&i| {
            let at_least = |third| cut(third).is_some_and(|cut| value(i) >= cut);
            usize::from(at_least(1)) + usize::from(at_least(2))
        })
        .collect()
}

/// `total` divided in proportion to `sizes`, exact by largest remainder, none above its size.
fn quotas(sizes: &[usize], total: usize) -> Vec<usize> {
    let all: usize = sizes.iter().sum();
    let total = total.min(all);
    let share = |size: usize| size as f64 * total as f64 / all.max(1) as f64;
    let mut quotas: Vec<usize> = sizes.iter().map(|&size| share(size) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
    by_remainder.sort_by(|&a, &b| {
        let remainder = |k: usize| share(sizes[k]) - quotas[k] as f64;
        remainder(b).total_cmp(&remainder(a))
    });
    let mut left = total - quotas.iter().sum::<usize>();
    for &k in by_remainder.iter().cycle().take(2 * sizes.len()) {
        if left > 0 && quotas[k] < sizes[k] {
            quotas[k] += 1;
            left -= 1;
        }
    }
    quotas
}

/// The first `n` by lot, in the order given.
fn first(items: Vec<usize>, n: usize, lot: &dyn Fn(usize) -> f64) -> Vec<usize> {
    let kept: BTreeSet<usize> = best_first(&items, lot).into_iter().take(n).collect();
    items.into_iter().filter(|i| kept.contains(i)).collect()
}

/// For each picked item another one near in tokens: of its own problem where one trace a problem is
/// asked for, else of the whole pool, none twice. What was picked is taken again only where
/// nothing else is left.
fn near_in_length(
    items: &[Item<'_>],
    order: &[usize],
    picked: &[usize],
    scope: Scope,
    lot: &dyn Fn(usize) -> f64,
) -> Vec<usize> {
    let tokens = |i: usize| items[i].scores.n_tokens;
    let chosen: BTreeSet<usize> = picked.iter().copied().collect();
    let mut taken: BTreeSet<usize> = BTreeSet::new();
    let mut twins = Vec::with_capacity(picked.len());
    for &pick in picked {
        let free = order
            .iter()
            .copied()
            .filter(|i| scope == Scope::Set || items[*i].problem_id == items[pick].problem_id)
            .filter(|i| !taken.contains(i));
        let twin = free.min_by(|&a, &b| {
            let far = |i: usize| (chosen.contains(&i), tokens(i).abs_diff(tokens(pick)));
            far(a).cmp(&far(b)).then(lot(a).total_cmp(&lot(b)))
        });
        if let Some(twin) = twin {
            taken.insert(twin);
            twins.push(twin);
        }
    }
    twins.sort_by_key(|i| (items[*i].problem_id, items[*i].trace_id));
    twins
}

/// 1 each, or more the nearer: the exponential of the standardised closeness, cut at two
/// deviations, scaled to a mean of 1.
fn weights(picked: &[usize], closeness: &BTreeMap<usize, f64>, asked: bool) -> Vec<f64> {
    if !asked || picked.is_empty() {
        return vec![1.0; picked.len()];
    }
    let values: Vec<f64> = picked.iter().map(|i| closeness[i]).collect();
    let mean = crate::statistics::mean(&values);
    let squares: Vec<f64> = values.iter().map(|v| (v - mean) * (v - mean)).collect();
    let sd = crate::statistics::mean(&squares).sqrt();
    let raw: Vec<f64> = values
        .iter()
        .map(|v| {
            if sd > 0.0 {
                ((v - mean) / sd).clamp(-2.0, 2.0).exp()
            } else {
                1.0
            }
        })
        .collect();
    let scale = crate::statistics::mean(&raw);
    raw.into_iter().map(|w| w / scale).collect()
}

fn why(items: &[Item<'_>], item: usize, clause: &Clause) -> String {
    let value = (clause.by.of)(items[item].scores).unwrap_or(f64::NAN);
    format!("{} {value:.4}, {clause}", clause.by.name)
}

#[cfg(test)]
mod tests;
