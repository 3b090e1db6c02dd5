//! Divergence of two distributions over one vocabulary: of two models after equal prefixes, nats.

/// KL(p‖q) = Σ p ln(p/q); infinite where q lacks what p has.
///
/// # Panics
/// When the lengths differ; a programmer mistake.
pub fn kl(p: &[f64], q: &[f64]) -> f64 {
    assert_eq!(p.len(), q.len(), "distributions over one vocabulary");
    p.iter()
        .zip(q)
        .filter(|(p, _)| **p > 0.0)
        .map(|(p, q)| p * (p / q).ln())
        .sum()
}

/// Jensen-Shannon divergence: the mean of both KLs to the mixture; at most ln 2.
///
/// # Panics
/// When the lengths differ; a programmer mistake.
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let mixture: Vec<f64> = p.iter().zip(q).map(|(p, q)| 0.5 * (p + q)).collect();
    0.5 * kl(p, &mixture) + 0.5 * kl(q, &mixture)
}

/// KL over the `k` likeliest tokens of p and one bucket for the rest: a **lower bound** of
/// [`kl`], which can be 0 while the true value is not.
///
/// # Panics
/// When the lengths differ; a programmer mistake.
pub fn kl_top_k(p: &[f64], q: &[f64], k: usize) -> f64 {
    assert_eq!(p.len(), q.len(), "distributions over one vocabulary");
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*b].total_cmp(&p[*a]).then(a.cmp(b)));
    let (top, rest) = order.split_at(k.min(order.len()));
    let bucket = |values: &[f64]| {
        let mut kept: Vec<f64> = top.iter().map(|at| values[*at]).collect();
        kept.push(rest.iter().map(|at| values[*at]).sum());
        kept
    };
    kl(&bucket(p), &bucket(q))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    }

    #[test]
    fn the_golden_distributions_have_their_divergences() {
        let (p, q) = ([0.5, 0.5], [0.9, 0.1]);
        near(kl(&p, &q), 0.510825624);
        near(kl(&q, &p), 0.368064207);
        near(jensen_shannon(&p, &q), 0.101749225);
    }

    #[test]
    fn a_tail_bucket_is_a_lower_bound_that_can_be_0() {
        let (p, q) = ([0.5, 0.3, 0.2], [0.5, 0.1, 0.4]);
        near(kl(&p, &q), 0.190954250);
        near(kl_top_k(&p, &q, 1), 0.0);
        near(kl_top_k(&p, &q, 3), kl(&p, &q));
        assert!(kl(&[1.0, 0.0], &[0.0, 1.0]).is_infinite());
        near(kl(&[1.0, 0.0], &[1.0, 0.0]), 0.0);
    }
}
