//! `duplicated_step`: a step is written twice.

use super::pieces::Pieces;

/// Writes step `at` twice.
pub(super) fn apply(pieces: &mut Pieces, at: usize) -> bool {
    let joined = format!("{0}{1}{0}", pieces.steps[at], pieces.separator(at));
    pieces.steps[at] = joined;
    true
}
