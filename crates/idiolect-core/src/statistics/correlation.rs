//! Rank correlation of short lists (arms), with permutation p.
//!
//! Both statistics are integers in disguise: doubled mid-ranks and signs of pairs. They are counted
//! as such, so that "at least as far from 0" has no rounding in it.

use super::permutation::PermutationP;
use crate::rng::Rng;

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

/// Rank correlation of `x` with `y`, pair by pair. Exact p up to nine pairs; above, `draws` random
/// permutations, the observed one counted among them. `None` where there are fewer than three pairs,
/// lengths differ, a value is not a number, or all values of a side are equal.
pub fn rank_correlation(
    x: &[f64],
    y: &[f64],
    draws: usize,
    rng: &mut Rng,
) -> Option<RankCorrelation> {
    let n = x.len();
    if n < 3 || n != y.len() || x.iter().chain(y).any(|v| v.is_nan()) {
        return None;
    }
    let (rank_x, rank_y) = (centred_ranks(x), centred_ranks(y));
    let (sign_x, sign_y) = (signs(&rank_x), signs(&rank_y));
    let observed = Sums {
        spearman: rank_x.iter().zip(&rank_y).map(|(a, b)| a * b).sum(),
        kendall: (0..n)
            .map(|i| pair_sum(&sign_x, &sign_y, i, n, |j| j))
            .sum(),
    };
    let square = |values: &[i64]| values.iter().map(|v| (v * v) as f64).sum::<f64>();
    let pairs = |signs: &[i64]| signs.iter().map(|s| s * s).sum::<i64>() as f64 / 2.0;
    let spearman_scale = (square(&rank_x) * square(&rank_y)).sqrt();
    let kendall_scale = (pairs(&sign_x) * pairs(&sign_y)).sqrt();
    if spearman_scale <= 0.0 || kendall_scale <= 0.0 {
        return None;
    }
    let (p_spearman, p_kendall) = if n <= ENUMERATED {
        enumerated(&rank_x, &rank_y, &sign_x, &sign_y, observed)
    } else {
        drawn(&rank_x, &rank_y, &sign_x, &sign_y, observed, draws, rng)
    };
    Some(RankCorrelation {
        spearman: observed.spearman as f64 / spearman_scale,
        kendall: observed.kendall as f64 / kendall_scale,
        p_spearman,
        p_kendall,
    })
}

#[derive(Clone, Copy)]
struct Sums {
    spearman: i64,
    kendall: i64,
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

struct Enumeration<'a> {
    ranks: [&'a [i64]; 2],
    signs: [&'a [i64]; 2],
    observed: Sums,
    placed: Vec<usize>,
    used: u32,
    seen: u64,
    as_far: [u64; 2],
}

impl Enumeration<'_> {
    /// Extends the permutation by every free element; partial sums travel down.
    fn descend(&mut self, spearman: i64, kendall: i64) {
        let (i, n) = (self.placed.len(), self.ranks[0].len());
        if i == n {
            self.seen += 1;
            self.as_far[0] += u64::from(spearman.abs() >= self.observed.spearman.abs());
            self.as_far[1] += u64::from(kendall.abs() >= self.observed.kendall.abs());
            return;
        }
        for element in 0..n {
            if self.used >> element & 1 == 1 {
                continue;
            }
            self.used |= 1 << element;
            self.placed.push(element);
            let placed = &self.placed;
            let pairs = pair_sum(self.signs[0], self.signs[1], i, n, |j| placed[j]);
            self.descend(
                spearman + self.ranks[0][i] * self.ranks[1][element],
                kendall + pairs,
            );
            self.placed.pop();
            self.used &= !(1 << element);
        }
    }
}

fn enumerated(
    rank_x: &[i64],
    rank_y: &[i64],
    sign_x: &[i64],
    sign_y: &[i64],
    observed: Sums,
) -> (PermutationP, PermutationP) {
    let mut all = Enumeration {
        ranks: [rank_x, rank_y],
        signs: [sign_x, sign_y],
        observed,
        placed: Vec::with_capacity(rank_x.len()),
        used: 0,
        seen: 0,
        as_far: [0; 2],
    };
    all.descend(0, 0);
    let p = |which: usize| PermutationP {
        p: all.as_far[which] as f64 / all.seen as f64,
        exact: true,
    };
    (p(0), p(1))
}

fn drawn(
    rank_x: &[i64],
    rank_y: &[i64],
    sign_x: &[i64],
    sign_y: &[i64],
    observed: Sums,
    draws: usize,
    rng: &mut Rng,
) -> (PermutationP, PermutationP) {
    let n = rank_x.len();
    let mut order: Vec<usize> = (0..n).collect();
    let mut as_far = [1usize; 2];
    for _ in 0..draws {
        rng.shuffle(&mut order);
        let spearman: i64 = (0..n).map(|i| rank_x[i] * rank_y[order[i]]).sum();
        let kendall: i64 = (0..n)
            .map(|i| pair_sum(sign_x, sign_y, i, n, |j| order[j]))
            .sum();
        as_far[0] += usize::from(spearman.abs() >= observed.spearman.abs());
        as_far[1] += usize::from(kendall.abs() >= observed.kendall.abs());
    }
    let p = |count: usize| PermutationP {
        p: count as f64 / (draws + 1) as f64,
        exact: false,
    };
    (p(as_far[0]), p(as_far[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::rng::Rng;

    fn correlate(x: &[f64], y: &[f64]) -> RankCorrelation {
        rank_correlation(x, y, 20_000, &mut Rng::keyed(0, &["correlation"])).unwrap()
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
        let x: Vec<f64> = (0..9).map(f64::from).collect();
        let y = [2.0, 0.0, 3.0, 1.0, 6.0, 4.0, 5.0, 8.0, 7.0];
        let y_wild = [2.0, 7.0, 3.0, 8.0, 6.0, 4.0, 5.0, 0.0, 1.0];
        for y in [y, y_wild] {
            let exact = correlate(&x, &y);
            let (rank_x, rank_y) = (centred_ranks(&x), centred_ranks(&y));
            let (sign_x, sign_y) = (signs(&rank_x), signs(&rank_y));
            let observed = Sums {
                spearman: rank_x.iter().zip(&rank_y).map(|(a, b)| a * b).sum(),
                kendall: (0..9)
                    .map(|i| pair_sum(&sign_x, &sign_y, i, 9, |j| j))
                    .sum(),
            };
            let draws = 200_000;
            let (s, k) = drawn(
                &rank_x,
                &rank_y,
                &sign_x,
                &sign_y,
                observed,
                draws,
                &mut Rng::keyed(1, &[]),
            );
            // Five binomial standard errors.
            for (a, b) in [(exact.p_spearman.p, s.p), (exact.p_kendall.p, k.p)] {
                near(
                    a,
                    b,
                    5.0 * (a * (1.0 - a) / draws as f64).sqrt() + 1.0 / draws as f64,
                );
            }
        }
    }

    #[test]
    fn too_few_or_equal_values_have_no_correlation() {
        let mut rng = Rng::keyed(0, &[]);
        assert_eq!(
            rank_correlation(&[1.0, 2.0], &[1.0, 2.0], 10, &mut rng),
            None
        );
        assert_eq!(
            rank_correlation(&[1.0; 4], &[1.0, 2.0, 3.0, 4.0], 10, &mut rng),
            None
        );
        assert_eq!(
            rank_correlation(&[1.0, f64::NAN, 2.0], &[1.0, 2.0, 3.0], 10, &mut rng),
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
            let mut rng = Rng::keyed(0, &[]);
            let (a, b) = (rank_correlation(&x, &y, 0, &mut rng), rank_correlation(&x2, &y2, 0, &mut rng));
            prop_assert_eq!(a, b);
            if let Some(a) = a {
                prop_assert!(a.spearman.abs() <= 1.0 + 1e-12 && a.kendall.abs() <= 1.0 + 1e-12);
                prop_assert!(a.p_spearman.p > 0.0 && a.p_spearman.p <= 1.0);
            }
        }
    }
}
