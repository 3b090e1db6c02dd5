//! Student's t distribution with a whole number of degrees of freedom.

use std::f64::consts::FRAC_2_PI;

/// P(|T| ≤ t) with `df` ≥ 1 degrees of freedom, t ≥ 0: the finite sums of Abramowitz and Stegun,
/// 26.7.3 and 26.7.4. Of no degree of freedom 0: nothing is known.
pub fn within(t: f64, df: usize) -> f64 {
    if df == 0 {
        return 0.0;
    }
    let angle = (t / (df as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = df % 2 == 1;
    // The powers of the cosine go up by two from 1 (odd) or 0 (even) to df − 2; each factor is that of
    // the one before times (power − 1)/power.
    let mut power = if odd { 1 } else { 0 };
    let mut term = if odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    while power + 2 <= df {
        sum += term;
        power += 2;
        term *= cosine * cosine * (power - 1) as f64 / power as f64;
    }
    if odd {
        FRAC_2_PI * (angle + sine * sum)
    } else {
        sine * sum
    }
}

/// The t ≥ 0 with P(|T| ≤ t) = `confidence`, by bisection to rounding; infinite of no degree of
/// freedom.
pub fn half_width(confidence: f64, df: usize) -> f64 {
    if df == 0 || confidence >= 1.0 {
        return f64::INFINITY;
    }
    let mut high = 1.0;
    while within(high, df) < confidence && high < 1e300 {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if within(middle, df) < confidence {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_quantiles_come_out() {
        // 97.5 % points as every table of t has them.
        for (df, expected) in [
            (1, 12.706_204_736),
            (2, 4.302_652_730),
            (3, 3.182_446_305),
            (5, 2.570_581_836),
            (10, 2.228_138_852),
            (30, 2.042_272_456),
            (200, 1.971_896_224),
        ] {
            let found = half_width(0.95, df);
            assert!((found - expected).abs() < 1e-8, "{df}: {found}");
            assert!((within(found, df) - 0.95).abs() < 1e-12);
        }
        assert!(half_width(0.95, 0).is_infinite());
    }

    #[test]
    fn one_degree_is_cauchys_and_many_are_normal() {
        assert!((within(1.0, 1) - 0.5).abs() < 1e-15);
        let normal = 2.0 * crate::statistics::normal::cdf(1.5) - 1.0;
        assert!((within(1.5, 100_000) - normal).abs() < 1e-5);
        assert!(within(0.0, 4).abs() < 1e-15);
    }
}
