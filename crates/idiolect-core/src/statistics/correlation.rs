//! Rank correlation of short lists (arms), with permutation p.
//!
//! Both statistics are integers in disguise: doubled mid-ranks and signs of pairs. They are counted
//! as such, so that "at least as far from 0" has no rounding in it.

use std::collections::BTreeMap;

use super::mean;
use super::permutation::PermutationP;
use idiolect_model::Rng;

/// Up to this many pairs all permutations are enumerated: 9! = 362,880.
pub const ENUMERATED: usize = 9;

/// Spearman's ρ and Kendall's τ_b of one list of pairs, each with its two-sided permutation p.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankCorrelation {
    /// Spearman's ρ: Pearson's correlation of mid-ranks.
    pub spearman: f64,
    /// Kendall's τ_b.
    pub kendall: f64,
    /// Of |ρ| at least as large.
    pub p_spearman: PermutationP,
    /// Of |τ_b| at least as large.
    pub p_kendall: PermutationP,
}

/// What is lost by taking the first of a ranking by `scores`, larger first, instead of the best: the
/// highest of `values` less the mean value of all that share the highest score. Ties share it, as no
/// ranking says which of them to take.
pub fn regret(scores: &[f64], values: &[f64]) -> f64 {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let picked: Vec<f64> = scores
        .iter()
        .zip(values)
        .filter(|(score, _)| **score >= top)
        .map(|(_, value)| *value)
        .collect();
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    best - mean(&picked)
}

/// Rank correlation of `x` with `y`, pair by pair; see [`NullDistributions::correlate`].
pub fn rank_correlation(x: &[f64], y: &[f64], draws: usize, seed: u64) -> Option<RankCorrelation> {
    NullDistributions::new(draws, seed).correlate(x, y)
}

/// Permutation distributions, kept: they depend on the number of pairs and on ties alone, so that
/// twenty metrics over the same arms need one.
#[derive(Clone, Debug)]
pub struct NullDistributions {
    draws: usize,
    seed: u64,
    enumerated: usize,
    known: BTreeMap<[Vec<i64>; 2], Distribution>,
}

impl NullDistributions {
    /// Distributions of `draws` random permutations where there are too many to enumerate.
    pub fn new(draws: usize, seed: u64) -> Self {
        Self {
            draws,
            seed,
            enumerated: ENUMERATED,
            known: BTreeMap::new(),
        }
    }

    /// The same, but all permutations are enumerated up to `n` pairs; ten are 3.6 million.
    pub fn enumerating(self, n: usize) -> Self {
        Self {
            enumerated: n,
            ..self
        }
    }

    /// Rank correlation of `x` with `y`, pair by pair. Exact p up to nine pairs; above, from random
    /// permutations, the observed one counted among them. `None` where there are fewer than three
    /// pairs, lengths differ, a value is not a number, or all values of a side are equal.
    pub fn correlate(&mut self, x: &[f64], y: &[f64]) -> Option<RankCorrelation> {
        let n = x.len();
        if n < 3 || n != y.len() || x.iter().chain(y).any(|v| v.is_nan()) {
            return None;
        }
        let (rank_x, rank_y) = (centred_ranks(x), centred_ranks(y));
        let (sign_x, sign_y) = (signs(&rank_x), signs(&rank_y));
        let spearman: i64 = rank_x.iter().zip(&rank_y).map(|(a, b)| a * b).sum();
        let kendall: i64 = (0..n)
            .map(|i| pair_sum(&sign_x, &sign_y, i, n, |j| j))
            .sum();
        let square = |values: &[i64]| values.iter().map(|v| (v * v) as f64).sum::<f64>();
        let pairs = |signs: &[i64]| signs.iter().map(|s| s * s).sum::<i64>() as f64 / 2.0;
        let spearman_scale = (square(&rank_x) * square(&rank_y)).sqrt();
        let kendall_scale = (pairs(&sign_x) * pairs(&sign_y)).sqrt();
        if spearman_scale <= 0.0 || kendall_scale <= 0.0 {
            return None;
        }
        let sorted = |mut ranks: Vec<i64>| {
            ranks.sort_unstable();
            ranks
        };
        let key = [sorted(rank_x), sorted(rank_y)];
        let (draws, seed, most) = (self.draws, self.seed, self.enumerated);
        let null = self
            .known
            .entry(key)
            .or_insert_with_key(|key| Distribution::of(key, draws, seed, most));
        Some(RankCorrelation {
            spearman: spearman as f64 / spearman_scale,
            kendall: kendall as f64 / kendall_scale,
            p_spearman: null.p(&null.spearman, spearman),
            p_kendall: null.p(&null.kendall, kendall),
        })
    }
}

/// How often each distance from 0 comes up over permutations.
#[derive(Clone, Debug, Default)]
struct Distribution {
    spearman: BTreeMap<i64, u64>,
    kendall: BTreeMap<i64, u64>,
    seen: u64,
    exact: bool,
}

impl Distribution {
    fn of(ranks: &[Vec<i64>; 2], draws: usize, seed: u64, enumerated_up_to: usize) -> Self {
        let signs = [signs(&ranks[0]), signs(&ranks[1])];
        if ranks[0].len() <= enumerated_up_to {
            enumerated(ranks, &signs)
        } else {
            drawn(ranks, &signs, draws, seed)
        }
    }

    fn count(&mut self, spearman: i64, kendall: i64) {
        *self.spearman.entry(spearman.abs()).or_default() += 1;
        *self.kendall.entry(kendall.abs()).or_default() += 1;
        self.seen += 1;
    }

    fn p(&self, counts: &BTreeMap<i64, u64>, observed: i64) -> PermutationP {
        let as_far: u64 = counts.range(observed.abs()..).map(|(_, count)| count).sum();
        let itself = u64::from(!self.exact);
        PermutationP {
            p: (as_far + itself) as f64 / (self.seen + itself) as f64,
            exact: self.exact,
        }
    }
}

/// 2·(mid-rank) − (n + 1): integers with sum 0.
fn centred_ranks(values: &[f64]) -> Vec<i64> {
    values
        .iter()
        .map(|v| {
            let below = values.iter().filter(|w| *w < v).count() as i64;
            let above = values.iter().filter(|w| *w > v).count() as i64;
            below - above
        })
        .collect()
}

/// (n, n) signs of `values[i] − values[j]`.
fn signs(values: &[i64]) -> Vec<i64> {
    values
        .iter()
        .flat_map(|a| values.iter().map(move |b| (a - b).signum()))
        .collect()
}

/// Concordant minus discordant pairs of element `i` with the elements before it, where element j of
/// x goes with element `at(j)` of y.
fn pair_sum(
    sign_x: &[i64],
    sign_y: &[i64],
    i: usize,
    n: usize,
    at: impl Fn(usize) -> usize,
) -> i64 {
    let row = at(i) * n;
    (0..i)
        .map(|j| sign_x[i * n + j] * sign_y[row + at(j)])
        .sum()
}

/// A permutation being built, with what its first elements add up to.
struct Enumeration<'a> {
    ranks: &'a [Vec<i64>; 2],
    signs: &'a [Vec<i64>; 2],
    placed: Vec<usize>,
    found: Distribution,
}

impl Enumeration<'_> {
    /// Extends the permutation by every free element; partial sums travel down.
    fn descend(&mut self, spearman: i64, kendall: i64) {
        let (i, n) = (self.placed.len(), self.ranks[0].len());
        if i == n {
            self.found.count(spearman, kendall);
            return;
        }
        for element in 0..n {
            if self.placed.contains(&element) {
                continue;
            }
            self.placed.push(element);
            let placed = &self.placed;
            let pairs = pair_sum(&self.signs[0], &self.signs[1], i, n, |j| placed[j]);
            self.descend(
                spearman + self.ranks[0][i] * self.ranks[1][element],
                kendall + pairs,
            );
            self.placed.pop();
        }
    }
}

fn enumerated(ranks: &[Vec<i64>; 2], signs: &[Vec<i64>; 2]) -> Distribution {
    let found = Distribution {
        exact: true,
        ..Distribution::default()
    };
    let mut all = Enumeration {
        ranks,
        signs,
        placed: Vec::with_capacity(ranks[0].len()),
        found,
    };
    all.descend(0, 0);
    all.found
}

fn drawn(ranks: &[Vec<i64>; 2], signs: &[Vec<i64>; 2], draws: usize, seed: u64) -> Distribution {
    let n = ranks[0].len();
    let mut rng = Rng::keyed(seed, &["rank correlation"]);
    let mut order: Vec<usize> = (0..n).collect();
    let mut found = Distribution::default();
    for _ in 0..draws {
        rng.shuffle(&mut order);
        let spearman = (0..n).map(|i| ranks[0][i] * ranks[1][order[i]]).sum();
        let kendall = (0..n)
            .map(|i| pair_sum(&signs[0], &signs[1], i, n, |j| order[j]))
            .sum();
        found.count(spearman, kendall);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_at_the_top_share_their_regret() {
        assert!((regret(&[1.0, 1.0, 0.0], &[0.3, 0.1, 0.2]) - 0.1).abs() < 1e-12);
    }
    use proptest::prelude::*;

    use idiolect_model::Rng;

    fn correlate(x: &[f64], y: &[f64]) -> RankCorrelation {
        rank_correlation(x, y, 20_000, 0).unwrap()
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_golden_arms_correlate_as_published() {
        let result = correlate(
            &[1.56, 1.20, 0.90, 1.10, 2.00],
            &[0.31, 0.36, 0.38, 0.35, 0.30],
        );
        near(result.spearman, -0.9, 1e-9);
        near(result.kendall, -0.8, 1e-9);
        near(result.p_spearman.p, 0.083333333, 1e-9);
        near(result.p_kendall.p, 0.083333333, 1e-9);
        assert!(result.p_spearman.exact);
    }

    #[test]
    fn ties_take_mid_ranks() {
        let result = correlate(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0]);
        near(result.spearman, 0.948683298, 1e-9);
        near(result.kendall, 0.912870929, 1e-9);
    }

    #[test]
    fn five_arms_in_perfect_order_have_p_of_2_in_120() {
        let result = correlate(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.1, 0.2, 0.3, 0.4, 0.5]);
        near(result.p_spearman.p, 2.0 / 120.0, 1e-12);
        near(result.p_kendall.p, 2.0 / 120.0, 1e-12);
    }

    #[test]
    fn drawn_p_agrees_with_enumerated_p() {
        let ranks = [
            centred_ranks(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            centred_ranks(&[0.0, 0.0, 2.0, 3.0, 4.0, 5.0, 5.0]),
        ];
        let signs = [signs(&ranks[0]), signs(&ranks[1])];
        let draws = 100_000;
        let (exact, random) = (enumerated(&ranks, &signs), drawn(&ranks, &signs, draws, 1));
        assert_eq!((exact.seen, exact.exact, random.exact), (5040, true, false));
        for (counts, others, observed) in [
            (&exact.spearman, &random.spearman, 60),
            (&exact.spearman, &random.spearman, 90),
            (&exact.kendall, &random.kendall, 9),
        ] {
            let (a, b) = (exact.p(counts, observed).p, random.p(others, observed).p);
            assert!(a > 0.0 && a < 0.9);
            // Five binomial standard errors.
            near(a, b, 5.0 * (a * (1.0 - a) / draws as f64).sqrt());
        }
    }

    #[test]
    fn ten_pairs_in_perfect_order_have_the_smallest_drawn_p() {
        let x: Vec<f64> = (0..10).map(f64::from).collect();
        let result = correlate(&x, &x);
        assert!(!result.p_spearman.exact);
        near(result.p_spearman.p, 1.0 / 20_001.0, 1e-12);
    }

    #[test]
    fn too_few_or_equal_values_have_no_correlation() {
        assert_eq!(rank_correlation(&[1.0, 2.0], &[1.0, 2.0], 10, 0), None);
        assert_eq!(
            rank_correlation(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0], 10, 0),
            None
        );
        assert_eq!(
            rank_correlation(&[1.0, f64::NAN, 2.0], &[1.0, 2.0, 3.0], 10, 0),
            None
        );
    }

    proptest! {
        #[test]
        fn the_order_of_pairs_changes_nothing(pairs in prop::collection::vec((0u8..6, 0u8..6), 3..8), seed in 0u64..50) {
            let split = |pairs: &[(u8, u8)]| -> (Vec<f64>, Vec<f64>) {
                pairs.iter().map(|(a, b)| (f64::from(*a), f64::from(*b))).unzip()
            };
            let (x, y) = split(&pairs);
            let mut shuffled = pairs;
            Rng::keyed(seed, &[]).shuffle(&mut shuffled);
            let (x2, y2) = split(&shuffled);
            let (a, b) = (rank_correlation(&x, &y, 0, 0), rank_correlation(&x2, &y2, 0, 0));
            prop_assert_eq!(a, b);
            if let Some(a) = a {
                prop_assert!(a.spearman.abs() <= 1.0 + 1e-12 && a.kendall.abs() <= 1.0 + 1e-12);
                prop_assert!(a.p_spearman.p > 0.0 && a.p_spearman.p <= 1.0);
            }
        }
    }
}
