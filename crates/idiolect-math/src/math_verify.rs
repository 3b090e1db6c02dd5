//! Math-Verify's conventions over our reading of answers, where they differ from ours.
//!
//! Written from its documented behaviour (0.9): values are rounded to six decimals as soon as one of
//! them is a decimal or a percentage; an interval in the gold is not met by an inequality in the
//! answer, since the question's own would pass; words count without regard to case, and only where
//! they stand in a formula or box; nothing is a choice, a time or a date.

use super::answer::{Answer, equivalent};
use super::equal::{Outcome, compare};
use super::evaluate::constant;
use super::extract::{self, last_expression};
use super::tree::Tree;

/// Its verdict on two responses; `None` where it reads nothing in one of them.
pub fn math_verify(gold: &str, answer: &str) -> Option<bool> {
    let gold = Answer::of(&found(gold)?);
    let answer = Answer::of(&found(answer)?);
    if gold.is_empty() || answer.is_empty() {
        return None;
    }
    if gold.text.to_lowercase() == answer.text.to_lowercase() {
        return Some(true);
    }
    for g in gold.readings() {
        for a in answer.readings() {
            let interval = matches!(g, Tree::Bracketed { .. } | Tree::Sets(..));
            let inequality =
                matches!(a, Tree::Relation { signs, .. } if signs.iter().any(|s| s.orders()));
            if interval && inequality {
                continue;
            }
            if compare(g, a).outcome == Outcome::Equal || rounded(g, a) {
                return Some(true);
            }
        }
    }
    let words = gold.is_text() && answer.is_text();
    Some(words && equivalent(&gold, &answer).outcome == Outcome::Equal)
}

/// What it would take for the answer.
fn found(text: &str) -> Option<String> {
    if let Some(found) = extract::stated(text, false) {
        return Some(found.text);
    }
    let bare = Answer::of(text);
    let formula = text.contains(['$', '\\']);
    if text.len() <= 1000 && bare.is_bare() && (formula || !bare.is_text()) {
        return Some(text.to_owned());
    }
    last_expression(text).map(str::to_owned)
}

/// Equal to six decimals, where one of them is a decimal or a percentage.
fn rounded(gold: &Tree, answer: &Tree) -> bool {
    let inexact = |t: &Tree| {
        t.any(&|t| {
            matches!(
                t,
                Tree::Percent(_)
                    | Tree::Number {
                        decimals: Some(_),
                        ..
                    }
            )
        })
    };
    if !(inexact(gold) || inexact(answer)) {
        return false;
    }
    let (Ok(g), Ok(a)) = (constant(gold), constant(answer)) else {
        return false;
    };
    let round = |x: f64| (x * 1e6).round();
    let (g, a) = (g.ball(), a.ball());
    (round(g.re) - round(a.re)).abs() < 0.5 && (round(g.im) - round(a.im)).abs() < 0.5
}
