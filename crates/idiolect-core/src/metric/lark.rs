//! LARK: which of one problem's candidates move the student most for their surprisal, with weights
//! (arXiv 2605.30651, read in its public code). Higher is preferred.
//!
//! Differs from that code on purpose: Brier over the whole vocabulary instead of the renormalised
//! top 50.

use super::energy::brier_mean;
use super::likelihood::nll_per_token;
use crate::record::ScoreRow;

/// ĝ of each candidate of one problem; a candidate without tokens or surprisal is refused.
///
/// # Errors
/// The index of the first candidate that has no L or no ρ.
pub fn scores(candidates: &[ScoreRow]) -> Result<Vec<f64>, usize> {
    let pairs: Vec<(f64, f64)> = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| {
            let nll = nll_per_token(candidate).filter(|nll| *nll > 0.0);
            let brier = brier_mean(candidate);
            nll.zip(brier).map(|(l, b)| (l, b / l)).ok_or(at)
        })
        .collect::<Result<_, _>>()?;
    Ok(from_losses(&pairs))
}

/// ĝ from (L, ρ) of each candidate: (L / ΣL) · (2ρ − ΣρL / ΣL).
pub fn from_losses(candidates: &[(f64, f64)]) -> Vec<f64> {
    let total: f64 = candidates.iter().map(|(l, _)| l).sum();
    let centre = candidates.iter().map(|(l, rho)| l * rho).sum::<f64>() / total;
    candidates
        .iter()
        .map(|(l, rho)| l / total * (2.0 * rho - centre))
        .collect()
}

/// Weights of the `budget` candidates of largest ĝ, 0 of the others; they add up to 1. The measure
/// is the height above the best candidate left out, or, where none is left out, 1e-8 below the
/// smallest. Equal heights give equal weights; of equals the first are kept.
pub fn weights(scores: &[f64], budget: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let kept = &order[..budget.min(order.len())];
    let mut weights = vec![0.0; scores.len()];
    let Some(last) = kept.last() else {
        return weights;
    };
    let floor = order
        .get(kept.len())
        .map_or(scores[*last] - 1e-8, |next| scores[*next]);
    let total: f64 = kept.iter().map(|at| scores[*at] - floor).sum();
    for at in kept {
        weights[*at] = if total > 0.0 {
            (scores[*at] - floor) / total
        } else {
            1.0 / kept.len() as f64
        };
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{empty, tests::identity};
    use proptest::prelude::*;

    fn near(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (a, b) in got.iter().zip(expected) {
            assert!((a - b).abs() < 1e-9, "{got:?} is not {expected:?}");
        }
    }

    const GOLDEN: [(f64, f64); 3] = [(1.0, 0.6), (2.0, 0.5), (0.5, 0.7)];

    #[test]
    fn the_golden_group_gives_its_scores_and_weights() {
        let scores = from_losses(&GOLDEN);
        near(&scores, &[0.183673469, 0.253061224, 0.120408163]);
        near(&weights(&scores, 2), &[0.322916667, 0.677083333, 0.0]);
        near(&weights(&[0.2; 4], 2), &[0.5, 0.5, 0.0, 0.0]);
        assert!(weights(&scores, 3)[2] < 1e-6);
        near(&weights(&scores, 0), &[0.0; 3]);
        assert!(weights(&[], 2).is_empty());
    }

    #[test]
    fn scores_give_losses_and_one_without_tokens_is_named() {
        let of = |nll_nats: f64, brier_sum: f64| ScoreRow {
            n_tokens: 10,
            nll_nats,
            brier_sum: Some(brier_sum),
            ..empty(identity())
        };
        let mut all = vec![of(10.0, 6.0), of(20.0, 10.0), of(5.0, 3.5)];
        near(
            &scores(&all).unwrap(),
            &[0.183673469, 0.253061224, 0.120408163],
        );
        all.push(empty(identity()));
        assert_eq!(scores(&all), Err(3));
    }

    proptest! {
        #[test]
        fn permuting_candidates_permutes_scores(mut group in prop::collection::vec((0.1f64..5.0, 0.1f64..2.0), 2..7), by in 1usize..6) {
            let before = from_losses(&group);
            let by = by % group.len();
            group.rotate_left(by);
            let mut expected = before;
            expected.rotate_left(by);
            for (a, b) in from_losses(&group).iter().zip(&expected) {
                prop_assert!((a - b).abs() < 1e-12);
            }
        }

        #[test]
        fn weights_add_up_to_1(scores in prop::collection::vec(-1.0f64..1.0, 1..9), budget in 1usize..9) {
            let weights = weights(&scores, budget);
            prop_assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(weights.iter().filter(|w| **w > 0.0).count() <= budget);
        }
    }
}
