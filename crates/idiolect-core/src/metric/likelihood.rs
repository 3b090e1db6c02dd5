//! Likelihood: surprisal per token and per byte, perplexity,
//! and the part of a text that is least likely.

use super::ratio;
use super::set::SetSums;
use crate::record::ScoreRow;
use crate::scores::least_likely;

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

/// Min-K% Prob of K = 20: −Σs over the least likely fifth of the tokens, per token of that fifth.
pub(super) fn min20_prob(a: &ScoreRow) -> Option<f64> {
    let tail = (a.n_tokens > 0).then(|| least_likely(a.n_tokens))?;
    ratio(-a.min20_nats?, tail as f64)
}

/// Mean over traces: a set has no least likely fifth of its own, which would be its outliers.
pub(super) fn mean_min20_prob(set: &SetSums) -> Option<f64> {
    ratio(set.min20_prob_sum, set.traces)
}
