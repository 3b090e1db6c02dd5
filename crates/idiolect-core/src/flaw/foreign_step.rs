//! `foreign_step`: a step of another problem's trace in place of a step.

use super::pieces::Pieces;
use idiolect_model::Rng;

/// Puts one of `donors` in the place of step `at`.
pub(super) fn apply(pieces: &mut Pieces, at: usize, donors: &[&str], rng: &mut Rng) -> bool {
    let others: Vec<&&str> = donors
        .iter()
        .filter(|donor| **donor != pieces.steps[at])
        .collect();
    let Some(donor) = rng.choose(&others) else {
        return false;
    };
    pieces.steps[at] = (**donor).to_string();
    true
}
