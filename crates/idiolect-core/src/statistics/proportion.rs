//! Proportions: Wilson's interval, exact McNemar, pass@k, maj@k, and how small a difference a
//! number of problems can show.

use super::few::at_most;
use super::{Interval, normal};

/// Wilson's score interval for a fraction of `n` (Wilson, 1927). `share` may be a mean of shares over
/// repeated trainings; n is then still the number of problems. Of no problem: [0, 1].
pub fn wilson(share: f64, n: usize, confidence: f64) -> Interval {
    if n == 0 {
        return Interval {
            low: 0.0,
            high: 1.0,
        };
    }
    let z = normal::quantile(0.5 + confidence / 2.0);
    let n = n as f64;
    let scale = 1.0 + z * z / n;
    let centre = (share + z * z / (2.0 * n)) / scale;
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt() / scale;
    // Rounding must not push an end past the estimate: at 0 and 1 they coincide.
    Interval {
        low: (centre - half).max(0.0),
        high: (centre + half).min(1.0),
    }
    .including(share)
}

/// Exact interval for a fraction of `n` (Clopper and Pearson, 1934): it covers at least its level at
/// every share, where [`wilson`]'s does on average. A share that is no whole count, a mean over
/// repeated trainings or samples, is rounded outwards. Of no problem: [0, 1].
pub fn clopper_pearson(share: f64, n: usize, confidence: f64) -> Interval {
    let count = share * n as f64;
    // Whole counts must not be lost to rounding of the share.
    let below = (count + 1e-9).floor().max(0.0) as usize;
    let above = (count - 1e-9).ceil().max(0.0) as usize;
    Interval {
        low: exact_low(below.min(n), n, confidence),
        high: 1.0 - exact_low(n - above.min(n), n, confidence),
    }
}

/// The share at which `x` or more of `n` have a probability of half of what `confidence` leaves.
fn exact_low(x: usize, n: usize, confidence: f64) -> f64 {
    if x == 0 {
        return 0.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if 1.0 - at_most(x - 1, n, middle) < (1.0 - confidence) / 2.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// Two-sided exact McNemar test: `b` and `c` count the pairs on which only one side is right.
/// p = min(1, 2·P(Bin(b + c, ½) ≤ min(b, c))), and 1 where no pair differs.
pub fn mcnemar(b: usize, c: usize) -> f64 {
    let (n, least) = (b + c, b.min(c));
    if b == c {
        return 1.0;
    }
    // From the largest term down: ln C(n, least) − n ln 2, then ratios of neighbours.
    let log_largest: f64 = (1..=least)
        .map(|i| ((n - least + i) as f64 / i as f64).ln())
        .sum::<f64>()
        - n as f64 * std::f64::consts::LN_2;
    let (mut relative, mut sum) = (1.0, 1.0);
    for i in (1..=least).rev() {
        relative *= i as f64 / (n - i + 1) as f64;
        sum += relative;
    }
    // A p of 0 would claim certainty; the smallest positive number represents an underflow.
    (2.0 * log_largest.exp() * sum).clamp(f64::MIN_POSITIVE, 1.0)
}

/// Unbiased pass@k from `correct` of `n` samples: 1 − C(n − c, k)/C(n, k) (Chen et al., 2021,
/// arXiv 2107.03374). k beyond n is read as n; of no sample, 0.
pub fn pass_at_k(n: usize, correct: usize, k: usize) -> f64 {
    let (correct, k) = (correct.min(n), k.min(n));
    if k == 0 {
        return 0.0;
    }
    if n - correct < k {
        return 1.0;
    }
    1.0 - (n - correct + 1..=n)
        .map(|i| 1.0 - k as f64 / i as f64)
        .product::<f64>()
}

/// Accuracy of the most frequent answer among samples given as (answer, correct). Answers are one
/// where their texts are, spaces aside: who votes does not know the gold answer, so right answers that
/// are written differently are different answers. Samples without an answer do not vote, save those
/// judged correct without one (programs that ran), which are one answer. Tied answers share the credit;
/// of no vote: 0.
pub fn majority<'a>(samples: impl IntoIterator<Item = (Option<&'a str>, bool)>) -> f64 {
    let mut votes: std::collections::BTreeMap<String, (usize, usize)> =
        std::collections::BTreeMap::new();
    for (answer, correct) in samples {
        let text = match answer {
            Some(answer) => answer.split_whitespace().collect::<Vec<_>>().join(" "),
            None if correct => String::new(),
            None => continue,
        };
        let (all, right) = votes.entry(text).or_default();
        *all += 1;
        *right += usize::from(correct);
    }
    let most = votes.values().map(|(all, _)| *all).max().unwrap_or(0);
    let credits: Vec<f64> = votes
        .values()
        .filter(|(all, _)| *all == most)
        .map(|(all, right)| *right as f64 / *all as f64)
        .collect();
    super::mean(&credits)
}

/// Smallest difference of two paired accuracies that `n` problems show with 80 % power at two-sided
/// p < 0.05, when the arms disagree on a fraction `disagreement` of them: 2.80·√(d/n). Before
/// training, print it for several d.
pub fn smallest_detectable(n: usize, disagreement: f64) -> f64 {
    if n == 0 {
        1.0
    } else {
        smallest_detectable_at((disagreement / n as f64).sqrt())
    }
}

/// The same from a standard error of the difference.
pub fn smallest_detectable_at(standard_error: f64) -> f64 {
    (normal::quantile(0.975) + normal::quantile(0.8)) * standard_error
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn wilson_gives_the_golden_intervals() {
        for (correct, n, low, high) in [
            (80.0, 200, 0.334605786, 0.469163280),
            (0.0, 10, 0.0, 0.277532800),
            (10.0, 10, 0.722467200, 1.0),
        ] {
            let interval = wilson(correct / n as f64, n, 0.95);
            near(interval.low, low);
            near(interval.high, high);
        }
    }

    #[test]
    fn mcnemar_gives_the_golden_p() {
        for (b, c, p) in [
            (6, 0, 0.03125),
            (10, 2, 0.03857421875),
            (12, 5, 0.143463134765625),
            (30, 18, 0.111402891),
            (0, 0, 1.0),
            (3, 3, 1.0),
        ] {
            near(mcnemar(b, c), p);
            near(mcnemar(c, b), p);
        }
        assert!(mcnemar(5000, 0) > 0.0);
    }

    #[test]
    fn wilson_and_mcnemar_agree_with_statsmodels() {
        for (correct, n, low, high) in [
            (37.0, 600, 0.04506736177211666, 0.08384306278322763),
            (1.0, 1319, 0.00013384465011300741, 0.004281997310193979),
            (499.0, 500, 0.9887592932948532, 0.9996468636054407),
        ] {
            let interval = wilson(correct / n as f64, n, 0.95);
            near(interval.low, low);
            near(interval.high, high);
        }
        for (b, c, p) in [
            (47, 23, 0.005582667351023373),
            (101, 140, 0.014204262213416814),
            (1, 9, 0.021484375),
            (700, 610, 0.013902723449447724),
        ] {
            near(mcnemar(b, c), p);
        }
    }

    #[test]
    fn exact_intervals_agree_with_scipy() {
        // scipy 1.x `binomtest(x, n).proportion_ci(method="exact")`.
        for (x, n, low, high) in [
            (0.0, 1, 0.0, 0.975),
            (1.0, 1, 0.025, 1.0),
            (3.0, 10, 0.066_739_51, 0.652_452_85),
            (37.0, 600, 0.043_787_0, 0.084_000_6),
        ] {
            let interval = clopper_pearson(x / n as f64, n, 0.95);
            assert!(
                (interval.low - low).abs() < 1e-6,
                "{x} of {n}: {interval:?}"
            );
            assert!(
                (interval.high - high).abs() < 1e-6,
                "{x} of {n}: {interval:?}"
            );
        }
        let unknown = clopper_pearson(0.0, 0, 0.95);
        assert!(unknown.low <= 0.0 && unknown.high >= 1.0);
        // Between two counts: the lower end of the one below, the upper end of the one above.
        let between = clopper_pearson(0.35, 10, 0.95);
        near(between.low, clopper_pearson(0.3, 10, 0.95).low);
        near(between.high, clopper_pearson(0.4, 10, 0.95).high);
    }

    #[test]
    fn pass_at_k_gives_the_golden_values() {
        for (n, c, k, expected) in [
            (10, 3, 1, 0.3),
            (10, 3, 5, 0.916666667),
            (5, 4, 3, 1.0),
            (200, 1, 100, 0.5),
            (4, 0, 4, 0.0),
            (0, 0, 1, 0.0),
        ] {
            near(pass_at_k(n, c, k), expected);
        }
    }

    #[test]
    fn the_majority_shares_credit_between_ties_and_ignores_silence() {
        let vote = |samples: &[(Option<&str>, bool)]| majority(samples.iter().copied());
        near(
            vote(&[(Some("2"), true), (Some(" 2 "), true), (Some("3"), false)]),
            1.0,
        );
        near(vote(&[(None, true), (None, true), (Some("f"), false)]), 1.0);
        near(
            vote(&[
                (Some("2"), true),
                (Some("3"), false),
                (None, false),
                (None, false),
            ]),
            0.5,
        );
        near(
            vote(&[(Some("2"), true), (Some("3"), false), (Some("3"), false)]),
            0.0,
        );
        near(vote(&[(None, false)]), 0.0);
    }

    #[test]
    fn right_answers_written_differently_are_different_votes() {
        // Two expressions of one value against one wrong answer given twice: a voter without the
        // gold answer takes the wrong one.
        let vote = |samples: &[(Option<&str>, bool)]| majority(samples.iter().copied());
        near(
            vote(&[
                (Some("( 3 * 7 ) - 2"), true),
                (Some("( 7 * 3 ) - 2"), true),
                (Some("3 + 7 + 2"), false),
                (Some("3 + 7 + 2"), false),
            ]),
            0.0,
        );
        near(
            vote(&[(Some("2"), true), (Some("2.0"), true), (Some("3"), false)]),
            2.0 / 3.0,
        );
    }

    #[test]
    fn the_smallest_detectable_difference_gives_the_published_table() {
        for (n, points) in [
            (30, [11.4, 16.2, 22.9, 28.0]),
            (164, [4.9, 6.9, 9.8, 12.0]),
            (500, [2.8, 4.0, 5.6, 6.9]),
            (1319, [1.7, 2.4, 3.4, 4.2]),
        ] {
            for (d, expected) in [0.05, 0.1, 0.2, 0.3].into_iter().zip(points) {
                let got = 100.0 * smallest_detectable(n, d);
                assert!((got - expected).abs() <= 0.05, "n {n}, d {d}: {got}");
            }
        }
    }

    proptest! {
        #[test]
        fn wilson_contains_the_share(n in 1usize..500, part in 0.0f64..=1.0) {
            let share = (part * n as f64).floor() / n as f64;
            let interval = wilson(share, n, 0.95);
            prop_assert!(interval.contains(share) && interval.low >= 0.0 && interval.high <= 1.0);
        }

        #[test]
        fn pass_at_k_grows_from_the_mean_to_at_most_1(n in 1usize..40, c in 0usize..40, k in 1usize..40) {
            let first = pass_at_k(n, c, 1);
            prop_assert!((first - c.min(n) as f64 / n as f64).abs() < 1e-12);
            prop_assert!(pass_at_k(n, c, k) >= first - 1e-12 && pass_at_k(n, c, k) <= 1.0);
        }

        #[test]
        fn mcnemar_is_a_probability(b in 0usize..3000, c in 0usize..3000) {
            let p = mcnemar(b, c);
            prop_assert!(p > 0.0 && p <= 1.0);
        }
    }
}
