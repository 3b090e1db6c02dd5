//! Likelihood: surprisal per token and per byte, perplexity.

use super::ratio;
use super::set::SetSums;
use crate::record::ScoreRow;

/// s̄ = Σs / T, nats per token. Not comparable across tokenizers.
pub(super) fn nll_per_token(a: &ScoreRow) -> Option<f64> {
    ratio(a.nll_nats, a.n_tokens as f64)
}

/// Σs / (ln 2 · bytes): comparable across tokenizers.
pub(super) fn bits_per_byte(a: &ScoreRow) -> Option<f64> {
    ratio(a.nll_nats, std::f64::consts::LN_2 * a.n_bytes as f64)
}

/// exp(s̄). Of a set's summed tokens this is `ppl_tok`.
pub(super) fn perplexity(a: &ScoreRow) -> Option<f64> {
    nll_per_token(a).map(f64::exp).filter(|ppl| ppl.is_finite())
}

/// exp(mean over traces of s̄): `ppl_seq`.
pub(super) fn perplexity_by_trace(set: &SetSums) -> Option<f64> {
    ratio(set.nll_per_token_sum, set.traces)
        .map(f64::exp)
        .filter(|ppl| ppl.is_finite())
}

/// mean over traces of exp(s̄): `ppl_arith`, which a single far trace dominates.
pub(super) fn perplexity_arithmetic(set: &SetSums) -> Option<f64> {
    ratio(set.perplexity_sum, set.traces)
}
