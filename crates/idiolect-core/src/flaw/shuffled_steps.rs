//! `shuffled_steps`: steps change places. Chosen steps take each other's; a single one changes with
//! its neighbour.

use super::pieces::Pieces;

/// Moves each chosen step to the next chosen one's place. Whether the order is another one.
pub(super) fn apply(pieces: &mut Pieces, chosen: &[usize]) -> bool {
    let mut places = chosen.to_vec();
    if let [only] = places[..] {
        let neighbour = if only + 1 < pieces.steps.len() {
            only + 1
        } else if only > 0 {
            only - 1
        } else {
            return false;
        };
        places.push(neighbour);
    }
    let before = pieces.steps.clone();
    for (at, place) in places.iter().enumerate() {
        let from = places[(at + places.len() - 1) % places.len()];
        pieces.steps[*place].clone_from(&before[from]);
    }
    pieces.steps != before
}
