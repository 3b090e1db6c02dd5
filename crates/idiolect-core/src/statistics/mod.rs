//! Statistics for paired experiments: intervals, tests and corrections.
//!
//! Every function names its source. All arithmetic is f64 in a fixed order, and chance comes only
//! from a generator that the caller keys, so equal inputs give equal bits. What this is not: a
//! general library; these are the estimators that a comparison of arms needs and no others.

use serde::{Deserialize, Serialize};

pub mod bootstrap;
pub mod clusters;
pub mod correlation;
pub mod few;
pub mod normal;
pub mod permutation;
pub mod proportion;
pub mod student_t;

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `x` lies in it, ends included.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// The same interval, widened where `x` lies outside so that it contains `x`.
    pub fn including(self, x: f64) -> Self {
        Self {
            low: self.low.min(x),
            high: self.high.max(x),
        }
    }
}

/// Holm's step-down adjustment: `p` in any order gives adjusted p in that order, each at least its
/// own and at most 1 (Holm, 1979).
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]).then(a.cmp(&b)));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0f64;
    for (step, &at) in order.iter().enumerate() {
        largest = largest.max((p.len() - step) as f64 * p[at]).min(1.0);
        adjusted[at] = largest;
    }
    adjusted
}

/// Sample mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// Standard error of the mean from the spread of `values` (divisor n − 1); `None` of fewer than two.
pub fn standard_error(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values);
    let squares: f64 = values.iter().map(|v| (v - centre) * (v - centre)).sum();
    Some((squares / (values.len() - 1) as f64 / values.len() as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn holm_gives_the_golden_values() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - expected).abs() < 1e-12, "{adjusted:?}");
        }
    }

    #[test]
    fn the_standard_error_of_two_values_is_half_their_distance() {
        assert!((standard_error(&[1.0, 4.0]).unwrap() - 1.5).abs() < 1e-12);
        assert_eq!(standard_error(&[1.0]), None);
    }

    proptest! {
        #[test]
        fn holm_never_lowers_p_and_keeps_its_order(p in prop::collection::vec(0.0f64..=1.0, 1..12)) {
            let adjusted = holm(&p);
            for i in 0..p.len() {
                prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
                }
            }
        }
    }
}
