//! `renamed_variable`: one use of a variable in a line of code names another variable of the text.

use std::collections::BTreeSet;

use super::code::{is_name, tokens};
use super::pieces::Pieces;
use idiolect_model::Rng;

/// Puts another assigned name in the place of one assigned name that line `at` uses.
pub(super) fn apply(pieces: &mut Pieces, at: usize, rng: &mut Rng) -> bool {
    let assigned = assigned(&pieces.steps);
    let line = &pieces.steps[at];
    let equals = line.find('=').unwrap_or(0);
    let uses: Vec<_> = tokens(line)
        .into_iter()
        .filter(|place| place.start >= equals && assigned.contains(&line[place.clone()]))
        .collect();
    let Some(place) = rng.choose(&uses) else {
        return false;
    };
    let others: Vec<String> = assigned
        .iter()
        .filter(|name| **name != line[place.clone()])
        .cloned()
        .collect();
    let Some(other) = rng.choose(&others) else {
        return false;
    };
    pieces.steps[at].replace_range(place.clone(), other);
    true
}

/// Names that stand before a single `=` or behind `for`, or are parameters of a `def`.
fn assigned(lines: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in lines {
        let tokens: Vec<&str> = tokens(line).into_iter().map(|place| &line[place]).collect();
        let defines = tokens.first() == Some(&"def");
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).map(|b| tokens[b]);
            let after = tokens.get(at + 1).copied();
            let is_set = after == Some("=") || before == Some("for") || (defines && at > 1);
            if is_set && is_name(token) {
                names.insert((*token).to_owned());
            }
        }
    }
    names
}
