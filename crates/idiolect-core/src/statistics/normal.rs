//! The standard normal distribution.

use std::f64::consts::{PI, SQRT_2};

/// Φ(x), to about 1e-15 (absolute); the series 0.5 + φ(x) (x + x³/3 + x⁵/15 + …) inside |x| < 5,
/// a continued fraction for the tail outside (Abramowitz and Stegun 26.2.11, 26.2.14).
pub fn cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x < 0.0 {
        return if x > -5.0 {
            0.5 - central(-x)
        } else {
            tail(-x)
        };
    }
    if x < 5.0 {
        0.5 + central(x)
    } else {
        1.0 - tail(x)
    }
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (SQRT_2 * PI.sqrt())
}

fn central(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term > sum * 1e-17 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    density(x) * sum
}

fn tail(x: f64) -> f64 {
    // Sixty levels from the inside out are exact to rounding for x ≥ 5.
    let fraction = (1..=60)
        .rev()
        .fold(x, |inner, level| x + f64::from(level) / inner);
    density(x) / fraction
}

/// Φ⁻¹(p): Newton's iteration on [`cdf`] from a rational start (Abramowitz and Stegun 26.2.23).
/// Infinite at 0 and 1, not a number outside.
pub fn quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    if p > 0.5 {
        return -quantile(1.0 - p);
    }
    let t = (-2.0 * p.ln()).sqrt();
    let mut x = -(t
        - (2.515517 + 0.802853 * t + 0.010328 * t * t)
            / (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t));
    for _ in 0..8 {
        let step = (cdf(x) - p) / density(x);
        if !step.is_finite() {
            break;
        }
        x -= step;
        if step.abs() < 1e-15 * x.abs() {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_quantiles_come_out() {
        for (p, expected) in [
            (0.975, 1.959963984540054),
            (0.8, 0.8416212335729143),
            (0.995, 2.5758293035489004),
            (0.5, 0.0),
            (1e-10, -6.361340902404056),
        ] {
            assert!(
                (quantile(p) - expected).abs() < 1e-12,
                "{p}: {}",
                quantile(p)
            );
        }
    }

    #[test]
    fn published_probabilities_come_out() {
        for (x, expected) in [
            (0.0, 0.5),
            (1.0, 0.8413447460685429),
            (-1.96, 0.024997895148220435),
            (-6.0, 9.86587645037698e-10),
        ] {
            assert!((cdf(x) - expected).abs() < 1e-15, "{x}: {}", cdf(x));
        }
        assert!((cdf(5.0 - 1e-12) - cdf(5.0 + 1e-12)).abs() < 1e-15);
    }
}
