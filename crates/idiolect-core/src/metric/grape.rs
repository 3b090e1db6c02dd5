//! GRAPE: of one problem's candidate traces, the one that the student finds most likely per token
//! (arXiv 2502.04194). Higher is preferred; reported to fail across several teachers and on long
//! traces (arXiv 2510.03988).

use super::likelihood::nll_per_token;
use crate::record::ScoreRow;

/// −s̄ of each candidate; `None` where it has no token.
pub fn scores(candidates: &[ScoreRow]) -> Vec<Option<f64>> {
    candidates
        .iter()
        .map(|candidate| nll_per_token(candidate).map(|nll| -nll))
        .collect()
}

/// The candidate of the highest score; of equals the one of the smallest trace id, so that order
/// decides nothing. `None` where no candidate has a token.
pub fn pick(candidates: &[ScoreRow]) -> Option<usize> {
    let scores = scores(candidates);
    (0..candidates.len())
        .filter_map(|at| Some((at, scores[at]?)))
        .max_by(|(a, x), (b, y)| {
            x.total_cmp(y)
                .then_with(|| candidates[*b].trace_id.cmp(&candidates[*a].trace_id))
        })
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{empty, tests::identity};

    fn candidate(id: &str, nll_nats: f64, n_tokens: u64) -> ScoreRow {
        ScoreRow {
            trace_id: id.into(),
            nll_nats,
            n_tokens,
            ..empty(identity())
        }
    }

    #[test]
    fn the_most_likely_per_token_is_picked_in_any_order() {
        let mut all = vec![
            candidate("a", 4.0, 4),
            candidate("b", 6.0, 12),
            candidate("d", 0.0, 0),
            candidate("c", 3.0, 6),
        ];
        assert_eq!(pick(&all), Some(1));
        all.reverse();
        // b and c are equal; the smaller id wins wherever it is.
        assert_eq!(
            pick(&all).map(|at| all[at].trace_id.clone()),
            Some("b".into())
        );
        assert_eq!(pick(&all[1..2]), None);
    }
}
