//! `dropped_step`: a step is left out, with what stood between it and the next.

use super::pieces::Pieces;

/// Leaves step `at` out; the last one that is left stays.
pub(super) fn apply(pieces: &mut Pieces, at: usize) -> bool {
    let left = pieces.steps.iter().filter(|step| !step.is_empty()).count();
    if left < 2 {
        return false;
    }
    pieces.steps[at].clear();
    true
}
