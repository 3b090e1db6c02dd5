//! `operator_swap`: one operator of an equation becomes another; the stated result stays, so the
//! equation is false (or true by accident, as 2 + 2 and 2 * 2 are).

use std::ops::Range;

use super::equation::Equation;
use idiolect_model::Rng;

/// The text with one operator of `equation` changed (in its annotation and before it alike), and
/// where the equation now ends.
pub(super) fn apply(text: &str, equation: &Equation, rng: &mut Rng) -> (String, usize) {
    let at = rng.below(equation.operators.len());
    let operator = &equation.operators[at];
    let others: Vec<&str> = ["+", "-", "*", "/"]
        .into_iter()
        .filter(|o| *o != ascii(&text[operator.clone()]))
        .collect();
    let swapped = others[rng.below(others.len())];
    let mut new = text.to_owned();
    let mut end = equation.result.end;
    // From the back, so that the twin's place still holds.
    let places: Vec<&Range<usize>> = [Some(operator), equation.twins.get(at)]
        .into_iter()
        .flatten()
        .collect();
    for place in places {
        new.replace_range(place.clone(), swapped);
        end = end + swapped.len() - place.len();
    }
    (new, end)
}

fn ascii(operator: &str) -> &str {
    match operator {
        "×" | "x" | "X" => "*",
        "÷" => "/",
        "−" => "-",
        other => other,
    }
}
