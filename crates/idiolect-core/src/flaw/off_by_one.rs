//! `off_by_one`: in a line of code a comparison gains or loses its `=`, or a whole number is one more
//! or less.

use super::code::tokens;
use super::pieces::Pieces;
use idiolect_model::Rng;

/// Changes one comparison or number of line `at`.
pub(super) fn apply(pieces: &mut Pieces, at: usize, rng: &mut Rng) -> bool {
    let line = &pieces.steps[at];
    let places: Vec<_> = tokens(line)
        .into_iter()
        .filter(|place| changed(&line[place.clone()], true).is_some())
        .collect();
    let Some(place) = rng.choose(&places) else {
        return false;
    };
    let Some(new) = changed(&line[place.clone()], rng.chance(0.5)) else {
        return false;
    };
    pieces.steps[at].replace_range(place.clone(), &new);
    true
}

fn changed(token: &str, up: bool) -> Option<String> {
    let flipped = match token {
        "<" => "<=",
        "<=" => "<",
        ">" => ">=",
        ">=" => ">",
        number => {
            let value: u64 = number.parse().ok()?;
            let other = if up || value == 0 {
                value + 1
            } else {
                value - 1
            };
            return Some(other.to_string());
        }
    };
    Some(flipped.to_owned())
}
