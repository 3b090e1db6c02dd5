//! Gradient energy: ‖p − onehot‖² is the squared norm of the logits' gradient of one token.

use super::ratio;
use crate::record::ScoreRow;

/// Mean over tokens of 1 − 2p(y) + Σp².
pub(super) fn brier_mean(a: &ScoreRow) -> Option<f64> {
    ratio(a.brier_sum?, a.n_tokens as f64)
}
