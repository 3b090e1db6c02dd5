//! A set of traces against the student's own samples for the same problems (at least four a problem).
//!
//! Traces of one problem are dependent, so labels are permuted and folds cut **within** or **by**
//! problem. What lies here sees per-trace numbers only; see [`features`].

pub mod classifier;
pub mod energy;
pub mod mmd;

use super::entropy::excess_surprisal;
use super::likelihood::nll_per_token;
use super::rank::share;
use crate::record::ScoreRow;

/// A trace as numbers, with its problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its problem; a trace of unknown problem is one of its own.
    pub problem: String,
    /// (D) its features.
    pub at: Vec<f64>,
}

/// s̄, ē, fraction of first choices, fraction of rank ≤ 10 and ln T of each trace that has tokens.
pub fn features(scores: &[ScoreRow]) -> Vec<Point> {
    scores
        .iter()
        .filter_map(|a| {
            let at = vec![
                nll_per_token(a)?,
                excess_surprisal(a)?,
                share(a, a.top1)?,
                share(a, a.top10)?,
                (a.n_tokens as f64).ln(),
            ];
            let problem = a.problem_id.clone().unwrap_or_else(|| a.trace_id.clone());
            Some(Point { problem, at })
        })
        .collect()
}

/// mean s̄ of the set minus mean s̄ of the student's own samples, nats/token. The samples' own mean
/// estimates the student's entropy rate. This is not KL(set‖student): that also needs the writer's
/// log-probabilities.
pub fn likelihood_gap(set: &[ScoreRow], own: &[ScoreRow]) -> Option<f64> {
    let mean = |all: &[ScoreRow]| {
        let values: Vec<f64> = all.iter().filter_map(nll_per_token).collect();
        (!values.is_empty()).then(|| crate::statistics::mean(&values))
    };
    Some(mean(set)? - mean(own)?)
}

/// Both sets scaled by the pooled mean and deviation of each feature; a constant feature becomes 0.
pub(crate) fn standardised(a: &[Point], b: &[Point]) -> (Vec<Point>, Vec<Point>) {
    let width = a.iter().chain(b).map(|p| p.at.len()).min().unwrap_or(0);
    let n = (a.len() + b.len()) as f64;
    let scale: Vec<(f64, f64)> = (0..width)
        .map(|d| {
            let values = || a.iter().chain(b).map(|p| p.at[d]);
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            (mean, variance.sqrt())
        })
        .collect();
    let scaled = |points: &[Point]| {
        points
            .iter()
            .map(|point| Point {
                problem: point.problem.clone(),
                at: scale
                    .iter()
                    .zip(&point.at)
                    .map(|((mean, sd), v)| if *sd > 1e-12 { (v - mean) / sd } else { 0.0 })
                    .collect(),
            })
            .collect()
    };
    (scaled(a), scaled(b))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scores::{empty, tests::identity};
    use idiolect_model::Rng;

    /// `n` problems with `k` points each around `centre`.
    pub(crate) fn cloud(n: usize, k: usize, centre: f64, seed: u64) -> Vec<Point> {
        let mut rng = Rng::keyed(seed, &["cloud"]);
        (0..n * k)
            .map(|at| Point {
                problem: format!("p{}", at / k),
                at: vec![centre + rng.normal(), rng.normal()],
            })
            .collect()
    }

    /// One-dimensional points, each a problem of its own.
    pub(crate) fn line(values: &[f64]) -> Vec<Point> {
        values
            .iter()
            .enumerate()
            .map(|(at, v)| Point {
                problem: format!("p{at}"),
                at: vec![*v],
            })
            .collect()
    }

    #[test]
    fn the_gap_is_that_of_the_means_over_traces() {
        let of = |nll_nats: f64, n_tokens: u64| ScoreRow {
            nll_nats,
            n_tokens,
            ..empty(identity())
        };
        let gap = likelihood_gap(&[of(2.0, 1), of(8.0, 2)], &[of(1.0, 2)]).unwrap();
        assert!((gap - 2.5).abs() < 1e-12);
        assert_eq!(likelihood_gap(&[], &[of(1.0, 2)]), None);
        assert_eq!(features(&[of(1.0, 0), of(1.0, 2)]).len(), 1);
    }
}
