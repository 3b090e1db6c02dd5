//! What few differing problems can show.
//!
//! A bootstrap draws from the problems as they came. Where they all state the same it has nothing to
//! draw from and its interval has no width: at one problem, or with all right or all wrong, it claims
//! certainty. Where a few differ it is not much better: simulated coverage of a 95 % interval falls to
//! 79 % (see the tests). Below [`FEWEST`] differing problems intervals therefore also hold exact
//! limits ([`mean_limits`]; Wilson's for one share), and p and the detectable difference are
//! held to what an exact test could reach.

use std::collections::BTreeMap;

use super::Interval;
use super::proportion::clopper_pearson;

/// The fewest problems on which two arms must differ before an exact two-sided test can give
/// p < 0.05: 2·½⁶ = 0.031, 2·½⁵ = 0.063.
pub const FEWEST: usize = 6;
/// The power that [`least_detectable`] asks for.
const POWER: f64 = 0.8;

/// How many values are not the most common one. Values that differ by rounding alone are equal.
pub fn differing(values: &[f64]) -> usize {
    values.len() - most_common(values).map_or(0, |(_, count)| count)
}

/// The most common value, the smallest of several, and how often it comes.
fn most_common(values: &[f64]) -> Option<(f64, usize)> {
    let largest = values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
    let mut counts: BTreeMap<i64, (f64, usize)> = BTreeMap::new();
    for value in values {
        let key = if largest > 0.0 {
            (value / largest * 1e9).round() as i64
        } else {
            0
        };
        counts.entry(key).or_insert((*value, 0)).1 += 1;
    }
    let most = counts.values().map(|(_, count)| *count).max()?;
    counts.into_values().find(|(_, count)| *count == most)
}

/// The smallest two-sided p that an exact test (McNemar's, sign flips) can give when `moving`
/// problems differ from 0: 2·½^moving.
pub fn least_p(moving: usize) -> f64 {
    0.5f64
        .powi(i32::try_from(moving).unwrap_or(i32::MAX) - 1)
        .min(1.0)
}

/// Exact limits of the mean of what `values` were drawn from, whose values all lie in `range`: the
/// most common value has at least the share that its [`clopper_pearson`] interval opens with, and of
/// all others nothing is assumed but the range.
///
/// No distribution is assumed, so they cover at least their level, of right and wrong answers and of
/// means over seeds or samples alike. Where every problem goes one way they are in step with the exact
/// McNemar test: a difference of 1 on all problems leaves 0 out when its p is below 1 − confidence, and
/// not before. Score intervals of a paired difference (Tango, 1998; Newcombe, 1998, method 10) are
/// narrower, but leave 0 out at four problems of four, where p is 0.125, and cover 80 % at one problem.
/// Where many problems differ these limits are of no use. Of no value: `range`.
pub fn mean_limits(values: &[f64], (lowest, highest): (f64, f64), confidence: f64) -> Interval {
    let Some((value, count)) = most_common(values) else {
        return Interval {
            low: lowest,
            high: highest,
        };
    };
    let share = clopper_pearson(count as f64 / values.len() as f64, values.len(), confidence).low;
    let value = value.clamp(lowest, highest);
    Interval {
        low: share * value + (1.0 - share) * lowest,
        high: share * value + (1.0 - share) * highest,
    }
}

/// The smallest true difference of two arms on `n` problems that an exact test can find at p < 0.05
/// with 80 % power, should no problem differ the other way: enough problems to differ have a
/// probability of 0.8. `None` of fewer than [`FEWEST`] problems: nothing can be learned from them.
pub fn least_detectable(n: usize) -> Option<f64> {
    if n < FEWEST {
        return None;
    }
    let power = |share: f64| 1.0 - at_most(FEWEST - 1, n, share);
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if power(middle) < POWER {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}

/// P(Bin(n, p) ≤ x).
pub(super) fn at_most(x: usize, n: usize, p: f64) -> f64 {
    if x >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    // Logarithms: (1 − p)^n underflows long before the sum does.
    let odds = p.ln() - (-p).ln_1p();
    let mut log_term = n as f64 * (-p).ln_1p();
    let mut sum = log_term.exp();
    for i in 1..=x {
        log_term += ((n + 1 - i) as f64 / i as f64).ln() + odds;
        sum += log_term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::bootstrap::paired_bootstrap;
    use crate::statistics::proportion::{mcnemar, wilson};
    use idiolect_model::Rng;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6, "{a} is not {b}");
    }

    #[test]
    fn values_that_are_not_the_most_common_one_are_counted() {
        for (values, n) in [
            (vec![], 0),
            (vec![0.0; 5], 0),
            (vec![1.0], 0),
            (vec![1.0, 1.0, 0.0], 1),
            (vec![0.1 + 0.2, 0.3, 0.3], 0),
            (vec![0.0, 0.5, 1.0], 2),
        ] {
            assert_eq!(differing(&values), n, "{values:?}");
        }
    }

    #[test]
    fn six_problems_are_the_fewest_that_an_exact_test_can_tell_from_chance() {
        for moving in 1..40 {
            near(least_p(moving), mcnemar(moving, 0));
        }
        near(least_p(0), 1.0);
        assert!(least_p(FEWEST) < 0.05 && least_p(FEWEST - 1) > 0.05);
        assert!(least_p(100_000) >= 0.0);
    }

    #[test]
    fn limits_agree_with_the_exact_test_where_all_problems_go_one_way() {
        let limits =
            |difference: f64, n: usize| mean_limits(&vec![difference; n], (-1.0, 1.0), 0.95);
        for n in 1..60 {
            let up = limits(1.0, n);
            assert_eq!(up.low > 0.0, mcnemar(n, 0) < 0.05, "{n}: {up:?}");
            near(up.high, 1.0);
            let down = limits(-1.0, n);
            near(down.low, -1.0);
            near(down.high, -up.low);
            let none = limits(0.0, n);
            near(none.high, 1.0 - 0.025f64.powf(1.0 / n as f64));
            near(none.low, -none.high);
        }
        near(limits(1.0, 1).low, 2.0 * 0.025 - 1.0);
        let unknown = mean_limits(&[], (-1.0, 1.0), 0.95);
        near(unknown.high - unknown.low, 2.0);
        // A quarter more of the samples of each of 30 problems: not the same as nothing.
        let quarter = limits(0.25, 30);
        assert!(quarter.low > 0.1 && quarter.high < 0.4, "{quarter:?}");
    }

    #[test]
    fn the_least_detectable_difference_makes_six_of_n_problems_likely() {
        assert_eq!(least_detectable(5), None);
        // All six must differ: 0.8^(1/6).
        near(least_detectable(6).unwrap_or(0.0), 0.8f64.powf(1.0 / 6.0));
        // From P(Poisson(x) ≥ 6) = 0.8, x = 7.906.
        let many = least_detectable(1_000_000).unwrap_or(0.0) * 1e6;
        assert!((many - 7.906).abs() < 0.01, "{many}");
        for n in FEWEST..400 {
            let share = least_detectable(n).unwrap_or(0.0);
            assert!(share > 0.0 && share < 1.0, "{n}: {share}");
        }
    }

    #[test]
    fn tails_of_the_binomial_are_the_textbooks() {
        near(at_most(2, 5, 0.3), 0.836_92);
        near(at_most(0, 1319, 0.001), 0.267_226_159);
        near(at_most(5, 5, 0.3), 1.0);
        near(at_most(40, 4000, 0.01), 0.541_918_708);
    }

    /// Probability of each (gained, lost) of `n` problems.
    fn outcomes(n: usize, gain: f64, loss: f64) -> Vec<(usize, usize, f64)> {
        let choose = |n: usize, k: usize| {
            (0..k)
                .map(|i| (n - i) as f64 / (i + 1) as f64)
                .product::<f64>()
        };
        let mut all = Vec::new();
        for b in 0..=n {
            for c in 0..=n - b {
                let ways = choose(n, b) * choose(n - b, c);
                let rest = (1.0 - gain - loss).max(0.0);
                let p = gain.powi(b as i32) * loss.powi(c as i32) * rest.powi((n - b - c) as i32);
                all.push((b, c, ways * p));
            }
        }
        all
    }

    const SHARES: [f64; 9] = [0.0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.9, 0.99];

    /// The least coverage of the 95 % interval of a difference over a grid of true shares, by
    /// enumeration of all outcomes; with exact limits below [`FEWEST`] or without.
    fn least_coverage(n: usize, with_limits: bool) -> f64 {
        let mut rng = Rng::keyed(1, &["few"]);
        let interval = |b: usize, c: usize, rng: &mut Rng| {
            let differences: Vec<f64> = (0..n)
                .map(|i| match i {
                    i if i < b => 1.0,
                    i if i < b + c => -1.0,
                    _ => 0.0,
                })
                .collect();
            let found = paired_bootstrap(&differences, 2000, 0.95, rng).bca;
            if with_limits && differing(&differences) < FEWEST {
                let limits = mean_limits(&differences, (-1.0, 1.0), 0.95);
                found.including(limits.low).including(limits.high)
            } else {
                found
            }
        };
        let intervals: Vec<Vec<Interval>> = (0..=n)
            .map(|b| (0..=n - b).map(|c| interval(b, c, &mut rng)).collect())
            .collect();
        let mut least = 1.0f64;
        for gain in SHARES {
            for loss in SHARES.into_iter().filter(|loss| gain + loss <= 1.0) {
                let covers = |b: usize, c: usize| {
                    let i = intervals[b][c];
                    i.low - 1e-9 <= gain - loss && gain - loss <= i.high + 1e-9
                };
                let coverage = outcomes(n, gain, loss)
                    .into_iter()
                    .filter(|(b, c, _)| covers(*b, *c))
                    .map(|(_, _, p)| p)
                    .sum();
                least = least.min(coverage);
            }
        }
        least
    }

    #[test]
    fn intervals_of_few_problems_cover_their_level_at_any_share() {
        for n in [1, 2, 3, 5, 8, 15, 30] {
            let (bare, held) = (least_coverage(n, false), least_coverage(n, true));
            println!("{n} problems: least coverage {bare:.3} bare, {held:.3} with limits");
            assert!(bare < 0.5, "{n}: {bare}");
            assert!(held >= 0.92, "{n}: {held}");
        }
    }

    #[test]
    fn intervals_of_one_share_cover_their_level_on_average() {
        // Wilson's covers 95 % on average over shares, not at each of them.
        for n in [1, 2, 5, 10, 30] {
            let covered = |share: f64| -> f64 {
                (0..=n)
                    .filter(|x| wilson(*x as f64 / n as f64, n, 0.95).contains(share))
                    .map(|x| {
                        at_most(x, n, share) - if x > 0 { at_most(x - 1, n, share) } else { 0.0 }
                    })
                    .sum()
            };
            let shares: Vec<f64> = (1..200).map(|i| f64::from(i) / 200.0).collect();
            let mean = shares.iter().map(|s| covered(*s)).sum::<f64>() / shares.len() as f64;
            println!("{n} problems: mean coverage {mean:.3}");
            assert!((0.93..=0.99).contains(&mean), "{n}: {mean}");
        }
    }
}
