//! Intervals that claim no more than the problems behind them can carry.
//!
//! The nested bootstrap is the interval wherever enough problems differ. Where fewer than
//! [`FEWEST`] do, it is widened to hold limits that do not come from resampling; see
//! [`crate::statistics::few`].

use super::CompareOptions;
use crate::statistics::Interval;
use crate::statistics::bootstrap::Resampled;
use crate::statistics::few::{FEWEST, differing, mean_limits};
use crate::statistics::proportion::wilson;

/// What a method gains where limits were added to it.
fn also(method: &str, limits: &str) -> String {
    format!("{method}, widened to {limits} as fewer than {FEWEST} problems differ")
}

/// Interval of an accuracy or avg@k and how it was made. `scores` holds the mean score of each
/// problem.
pub(super) fn of_share(
    resampled: &Resampled,
    scores: &[f64],
    method: String,
    options: &CompareOptions,
) -> (Interval, String) {
    let drawn = within(resampled.percentile(options.confidence), 0.0);
    if differing(scores) >= FEWEST {
        return (drawn, method);
    }
    let limits = wilson(resampled.estimate, scores.len(), options.confidence);
    (both(drawn, limits), also(&method, "Wilson's interval"))
}

/// Interval of a paired difference and how it was made. `differences` holds that of each problem;
/// their mean is the difference.
pub(super) fn of_difference(
    (drawn, method): (Interval, String),
    differences: &[f64],
    options: &CompareOptions,
) -> (Interval, String) {
    let drawn = within(drawn, -1.0);
    if differing(differences) >= FEWEST {
        return (drawn, method);
    }
    let limits = mean_limits(differences, (-1.0, 1.0), options.confidence);
    (both(drawn, limits), also(&method, "exact limits"))
}

fn both(a: Interval, b: Interval) -> Interval {
    a.including(b.low).including(b.high)
}

/// Few seeds are spread apart again after resampling and may leave the range of a fraction.
fn within(interval: Interval, lowest: f64) -> Interval {
    Interval {
        low: interval.low.max(lowest),
        high: interval.high.min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[f64]) -> Resampled {
        Resampled {
            estimate: values[0],
            draws: values.to_vec(),
        }
    }

    #[test]
    fn no_draws_that_are_all_alike_make_a_point() {
        let options = CompareOptions::default();
        for n in [1, 2, 5, 30, 1000] {
            for share in [0.0, 0.5, 1.0] {
                let scores = vec![share; n];
                let (interval, method) =
                    of_share(&drawn(&[share; 4]), &scores, "bootstrap".into(), &options);
                assert!(
                    interval.high - interval.low > 1e-3,
                    "{n} {share} {interval:?}"
                );
                assert!(interval.contains(share) && interval.low >= 0.0 && interval.high <= 1.0);
                assert!(method.contains("Wilson"), "{method}");
            }
            for difference in [0.0, 1.0, -0.5] {
                let point = Interval {
                    low: difference,
                    high: difference,
                };
                let drawn = (point, "bootstrap".into());
                let (interval, method) = of_difference(drawn, &vec![difference; n], &options);
                assert!(
                    interval.high - interval.low > 1e-3,
                    "{n} {difference} {interval:?}"
                );
                assert!(
                    interval.contains(difference),
                    "{n} {difference} {interval:?}"
                );
                assert!(method.contains("exact limits"), "{method}");
            }
        }
    }

    #[test]
    fn where_enough_problems_differ_the_bootstrap_is_used() {
        let options = CompareOptions::default();
        let scores: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i < 6))).collect();
        let resampled = drawn(&[0.15, 0.1, 0.2]);
        let (interval, method) = of_share(&resampled, &scores, "bootstrap".into(), &options);
        assert_eq!(interval, resampled.percentile(0.95));
        assert_eq!(method, "bootstrap");
    }

    #[test]
    fn seeds_that_are_spread_apart_stay_in_range() {
        let options = CompareOptions::default();
        let scores = [
            1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0,
        ];
        let (interval, _) = of_share(&drawn(&[0.5, -0.2, 1.3]), &scores, String::new(), &options);
        assert!(interval.low >= 0.0 && interval.high <= 1.0, "{interval:?}");
    }
}
