//! Energy distance of two lists of numbers (Székely and Rizzo), such as the s̄ of their traces.

/// 2·E|a − b| − E|a − a′| − E|b − b′|, averages over all ordered pairs; at least 0, `None` where a
/// side is empty. O(n log n).
pub fn energy_distance(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (a, b) = (sorted(a), sorted(b));
    let value = 2.0 * cross(&a, &b) - within(&a) - within(&b);
    // Rounding must not show a distance below 0.
    Some(value.max(0.0))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// E|x − x′| over all ordered pairs of sorted values: x_i counts i times as the larger and
/// n − 1 − i times as the smaller.
fn within(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let sum: f64 = values
        .iter()
        .enumerate()
        .map(|(at, v)| v * (2.0 * at as f64 + 1.0 - n))
        .sum();
    2.0 * sum / (n * n)
}

/// E|a − b| over all pairs: the pooled pairs less those within each side.
fn cross(a: &[f64], b: &[f64]) -> f64 {
    let pooled = sorted(&[a, b].concat());
    let (n, m) = (a.len() as f64, b.len() as f64);
    let total = within(&pooled) * (n + m).powi(2);
    (total - within(a) * n * n - within(b) * m * m) / (2.0 * n * m)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn direct(a: &[f64], b: &[f64]) -> f64 {
        let mean = |x: &[f64], y: &[f64]| {
            let sum: f64 = x
                .iter()
                .flat_map(|x| y.iter().map(move |y| (x - y).abs()))
                .sum();
            sum / (x.len() * y.len()) as f64
        };
        2.0 * mean(a, b) - mean(a, a) - mean(b, b)
    }

    #[test]
    fn the_golden_lists_have_their_distance() {
        let value = energy_distance(&[0.0, 1.0, 2.0], &[1.0, 2.0, 4.0]).unwrap();
        assert!((value - 0.888888889).abs() < 1e-9, "{value}");
        assert_eq!(energy_distance(&[], &[1.0]), None);
    }

    proptest! {
        #[test]
        fn it_equals_the_sum_over_pairs(a in prop::collection::vec(-3.0f64..3.0, 1..12), b in prop::collection::vec(-3.0f64..3.0, 1..12)) {
            prop_assert!((energy_distance(&a, &b).unwrap() - direct(&a, &b)).abs() < 1e-9);
        }
    }
}
