//! `contradicting_step`: a step is followed by a copy of itself that states another result.

use super::equation;
use super::number_slip::slip;
use super::pieces::Pieces;
use idiolect_model::Rng;

/// Puts the contradiction of step `at` behind it; nothing later takes it up.
pub(super) fn apply(pieces: &mut Pieces, at: usize, rng: &mut Rng) -> bool {
    let step = &pieces.steps[at];
    let Some(equation) = equation::next(step, 0) else {
        return false;
    };
    let mut other = step.clone();
    let slipped = slip(&step[equation.result.clone()], rng);
    other.replace_range(equation.result, &slipped);
    pieces.steps[at] = format!("{step}{}{other}", pieces.separator(at));
    true
}
