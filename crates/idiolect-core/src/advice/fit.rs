//! Learning from finished runs how much each feature's vote counts.

use super::{FEATURES, FinishedReplicate, common_features, rank_scores, votes};
use crate::statistics::mean;

/// Replicates that the prior counts as.
const PRIOR_WORLDS: f64 = 2.0;
/// Rounds of coordinate descent; the objective is strictly convex in a handful of weights.
const ROUNDS: usize = 500;

/// What was learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// How much each feature's vote counts, at least 0.
    pub weights: Vec<(&'static str, f64)>,
    /// Gain over the untrained student = `intercept` + `slope` · votes, shares.
    pub intercept: f64,
    /// See `intercept`.
    pub slope: f64,
    /// Standard deviation of a gain about that line, within a replicate.
    pub within: f64,
    /// Standard deviation of replicates' own offsets from that line.
    pub between: f64,
    /// Replicates behind it.
    pub replicates: usize,
}

impl Fit {
    /// The sum of weighted votes of each of some arms.
    pub fn scores(&self, arms: &[&super::ArmFeatures]) -> Vec<f64> {
        let names: Vec<&'static str> = self.weights.iter().map(|(name, _)| *name).collect();
        let votes = votes(arms, &names);
        (0..arms.len())
            .map(|arm| {
                self.weights
                    .iter()
                    .filter_map(|(name, weight)| {
                        let (_, votes) = votes.iter().find(|(vote, _)| vote == name)?;
                        Some(weight * votes[arm])
                    })
                    .sum()
            })
            .collect()
    }
}

/// Learns from replicates of at least three arms, using the features that `wanted` and all of them have.
/// `None` where there is no such replicate or no such feature.
pub fn fit(replicates: &[&FinishedReplicate], wanted: &[&'static str]) -> Option<Fit> {
    let replicates: Vec<&FinishedReplicate> = replicates
        .iter()
        .copied()
        .filter(|w| w.arms.len() >= 3)
        .collect();
    let common = common_features(
        replicates
            .iter()
            .flat_map(|w| w.arms.iter().map(|a| &a.before)),
    );
    let names: Vec<&'static str> = wanted
        .iter()
        .copied()
        .filter(|name| common.contains(name))
        .collect();
    if replicates.is_empty() || names.is_empty() {
        return None;
    }
    let rows: Vec<(Vec<Vec<f64>>, Vec<f64>)> = replicates
        .iter()
        .map(|replicate| {
            let arms: Vec<_> = replicate.arms.iter().map(|a| &a.before).collect();
            let accuracies: Vec<f64> = replicate.arms.iter().map(|a| a.accuracy).collect();
            let votes = votes(&arms, &names).into_iter().map(|(_, v)| v).collect();
            (votes, rank_scores(&accuracies))
        })
        .collect();
    let weights = nonnegative_ridge(
        &rows,
        &names.iter().map(|name| prior(name)).collect::<Vec<_>>(),
    );
    let mut fit = Fit {
        weights: names.into_iter().zip(weights).collect(),
        intercept: 0.0,
        slope: 0.0,
        within: 0.0,
        between: 0.0,
        replicates: replicates.len(),
    };
    fit.scale(&replicates);
    Some(fit)
}

impl Fit {
    /// The line from votes to gains, and what varies about it.
    fn scale(&mut self, replicates: &[&FinishedReplicate]) {
        let points: Vec<Vec<(f64, f64)>> = replicates
            .iter()
            .map(|replicate| {
                let arms: Vec<_> = replicate.arms.iter().map(|a| &a.before).collect();
                let gains = replicate.arms.iter().map(|a| a.accuracy - replicate.base);
                self.scores(&arms).into_iter().zip(gains).collect()
            })
            .collect();
        let all: Vec<(f64, f64)> = points.concat();
        let centre_x = mean(&all.iter().map(|p| p.0).collect::<Vec<_>>());
        let centre_y = mean(&all.iter().map(|p| p.1).collect::<Vec<_>>());
        let xx: f64 = all.iter().map(|p| (p.0 - centre_x).powi(2)).sum();
        let xy: f64 = all
            .iter()
            .map(|p| (p.0 - centre_x) * (p.1 - centre_y))
            .sum();
        self.slope = if xx > 0.0 { (xy / xx).max(0.0) } else { 0.0 };
        self.intercept = centre_y - self.slope * centre_x;
        let residuals: Vec<Vec<f64>> = points
            .iter()
            .map(|replicate| {
                replicate
                    .iter()
                    .map(|(x, y)| y - self.intercept - self.slope * x)
                    .collect()
            })
            .collect();
        let offsets: Vec<f64> = residuals.iter().map(|r| mean(r)).collect();
        let squares: f64 = residuals
            .iter()
            .zip(&offsets)
            .flat_map(|(r, offset)| r.iter().map(move |v| (v - offset).powi(2)))
            .sum();
        let freedom = all.len() as f64 - replicates.len() as f64 - self.weights.len() as f64;
        self.within = (squares / freedom.max(1.0)).sqrt();
        let spread: f64 = offsets.iter().map(|o| o * o).sum();
        self.between = (spread / (replicates.len() as f64 - 1.0).max(1.0)).sqrt();
    }
}

/// How much a feature's vote counts before anything is learned.
pub(crate) fn prior(name: &str) -> f64 {
    FEATURES
        .iter()
        .find(|f| f.name == name)
        .map_or(0.0, |f| f.prior)
}

/// Least squares of ranks on votes, every replicate counting alike, with a ridge towards the prior;
/// weights are kept from falling below 0, as each feature is turned so that more is better.
fn nonnegative_ridge(rows: &[(Vec<Vec<f64>>, Vec<f64>)], prior: &[f64]) -> Vec<f64> {
    let n = prior.len();
    // Votes spread over [−1, 1] have a mean square of about a third.
    let ridge = PRIOR_WORLDS / 3.0;
    let mut gram = vec![0.0; n * n];
    let mut right = vec![0.0; n];
    for (votes, target) in rows {
        let arms = target.len() as f64;
        let product = |a: &[f64], b: &[f64]| -> f64 {
            a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / arms
        };
        for i in 0..n {
            right[i] += product(&votes[i], target);
            for j in 0..n {
                gram[i * n + j] += product(&votes[i], &votes[j]);
            }
        }
    }
    for i in 0..n {
        gram[i * n + i] += ridge;
        right[i] += ridge * prior[i];
    }
    let mut weights = prior.to_vec();
    for _ in 0..ROUNDS {
        for i in 0..n {
            let others: f64 = (0..n)
                .filter(|j| *j != i)
                .map(|j| gram[i * n + j] * weights[j])
                .sum();
            weights[i] = ((right[i] - others) / gram[i * n + i]).max(0.0);
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::super::tests::replicate;
    use super::*;

    fn names() -> Vec<&'static str> {
        FEATURES.iter().map(|f| f.name).collect()
    }

    #[test]
    fn what_decides_gets_the_weight_and_the_rest_little() {
        let replicates: Vec<_> = (0..12)
            .map(|s| replicate(s, 12, [1.0, 0.0, 0.0], 0.0))
            .collect();
        let found = fit(&replicates.iter().collect::<Vec<_>>(), &names()).unwrap();
        let weight = |at: usize| found.weights[at].1;
        assert!(weight(0) > 0.8, "{found:?}");
        assert!((1..FEATURES.len()).all(|at| weight(at) < 0.2), "{found:?}");
        assert!(found.slope > 0.02 && found.within < 0.01, "{found:?}");
    }

    #[test]
    fn one_world_hardly_moves_the_prior_and_none_is_none() {
        let one = replicate(3, 5, [1.0, 0.0, 0.0], 0.0);
        let found = fit(&[&one], &names()).unwrap();
        assert!(
            found.weights[..2].iter().all(|(_, w)| *w > 0.1),
            "{found:?}"
        );
        assert_eq!(fit(&[], &names()), None);
        assert_eq!(fit(&[&one], &[]), None);
    }

    #[test]
    fn a_feature_that_one_arm_lacks_is_not_used() {
        let mut replicates: Vec<_> = (0..3).map(|s| replicate(s, 6, [1.0; 3], 0.01)).collect();
        replicates[1].arms[2].before.features.remove("right");
        let found = fit(&replicates.iter().collect::<Vec<_>>(), &names()).unwrap();
        assert!(found.weights.iter().all(|(name, _)| *name != "right"));
        assert_eq!(found.weights.len(), FEATURES.len() - 1);
    }
}
