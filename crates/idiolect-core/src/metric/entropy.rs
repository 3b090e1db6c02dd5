//! Surprisal against entropy: is the text as surprising as the student's own samples would be?

use super::ratio;
use super::set::SetSums;
use crate::record::ScoreRow;

/// ΣH / T.
pub(super) fn mean_entropy(a: &ScoreRow) -> Option<f64> {
    ratio(a.entropy_nats?, a.n_tokens as f64)
}

/// ē = Σ(s − H) / T; 0 on average over the student's own samples at temperature 1.
pub(super) fn excess_surprisal(a: &ScoreRow) -> Option<f64> {
    ratio(a.nll_nats - a.entropy_nats?, a.n_tokens as f64)
}

/// Σs / ΣH.
pub(super) fn surprise_ratio(a: &ScoreRow) -> Option<f64> {
    ratio(a.nll_nats, a.entropy_nats?)
}

/// Σ|s − H| / T.
pub(super) fn typicality_deviation(a: &ScoreRow) -> Option<f64> {
    ratio(a.abs_excess_nats?, a.n_tokens as f64)
}

/// Z = Σ(s − H) / √ΣV; not defined where ΣV vanishes (uniform or certain predictions), beyond the
/// rounding of its terms.
pub(super) fn z_score(a: &ScoreRow) -> Option<f64> {
    let varentropy = a.varentropy_nats2?;
    if varentropy <= 1e-9 * a.n_tokens as f64 {
        return None;
    }
    ratio(a.nll_nats - a.entropy_nats?, varentropy.sqrt())
}

/// Mean Z over the traces that have one. A set's own Z would grow with the number of traces.
pub(super) fn mean_z_score(set: &SetSums) -> Option<f64> {
    ratio(set.z_sum, set.z_traces)
}
