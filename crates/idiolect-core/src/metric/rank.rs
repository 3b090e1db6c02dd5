//! Ranks: how far down the student's list the tokens are. Ties are optimistic.

use super::ratio;
use super::set::SetSums;
use crate::record::ScoreRow;
use idiolect_model::TokenScore;

/// Σr / T.
pub(super) fn mean_rank(a: &ScoreRow) -> Option<f64> {
    ratio(a.rank_sum?, a.n_tokens as f64)
}

/// r̄₁₀₀ = Σ min(r, 100) / T.
pub(super) fn mean_rank_clip100(a: &ScoreRow) -> Option<f64> {
    ratio(a.rank_clip100_sum?, a.n_tokens as f64)
}

/// Σ ln r / T.
pub(super) fn mean_log_rank(a: &ScoreRow) -> Option<f64> {
    ratio(a.log_rank_sum?, a.n_tokens as f64)
}

/// `count` of the tokens as a fraction, where it is known.
pub(super) fn share(a: &ScoreRow, count: Option<u64>) -> Option<f64> {
    ratio(count? as f64, a.n_tokens as f64)
}

/// Rank-surprisal ratio of a trace. Grows without bound on memorised text: by design, nothing is
/// left to learn there.
pub(super) fn rsr(a: &ScoreRow) -> Option<f64> {
    ratio(a.rank_clip100_sum?, a.nll_nats)
}

/// Of a set it is the ratio of the means over traces: neither the mean of ratios nor that of pooled
/// sums.
pub(super) fn rsr_of_set(set: &SetSums) -> Option<f64> {
    ratio(set.rank_clip100_per_token_sum, set.nll_per_token_sum)
}

/// Share of a trace's tokens, the end token aside, of rank at most `k`, for a k that no stored sum
/// holds.
pub fn top_share(tokens: &[TokenScore], k: u32) -> Option<f64> {
    let ranks: Option<Vec<u32>> = tokens
        .iter()
        .filter(|token| !token.is_end)
        .map(|token| token.rank)
        .collect();
    let ranks = ranks?;
    let within = ranks.iter().filter(|rank| **rank <= k).count();
    ratio(within as f64, ranks.len() as f64)
}
