//! `wrong_answer`: the final answer alone is another; every step stays.

use super::number_slip::slip;
use super::pieces::Pieces;
use idiolect_model::Rng;

/// Changes one number behind the last step; `false` where there is none.
pub(super) fn apply(pieces: &mut Pieces, rng: &mut Rng) -> bool {
    let Some(tail) = pieces.gaps.last_mut() else {
        return false;
    };
    let Some(end) = tail.rfind(|c: char| c.is_ascii_digit()).map(|at| at + 1) else {
        return false;
    };
    let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b',');
    let start = end
        - tail.as_bytes()[..end]
            .iter()
            .rev()
            .take_while(|b| is_part(b))
            .count();
    let slipped = slip(&tail[start..end], rng);
    tail.replace_range(start..end, &slipped);
    true
}
