//! Equations in free text: `48/2 = 24`, `$5 x 3 = $15`, and GSM8K's `48/2 = <<48/2=24>>24`, where
//! the annotation is the equation and the text before it its twin.

use std::ops::Range;

/// An equation; ranges are byte offsets into the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Equation {
    /// Its operators, in text order; at least one.
    pub(super) operators: Vec<Range<usize>>,
    /// The operators of the same expression written before an annotation; empty without one.
    pub(super) twins: Vec<Range<usize>>,
    /// The number behind `=`, without currency sign.
    pub(super) result: Range<usize>,
}

/// The first equation whose `=` is at or behind byte `from`.
pub(super) fn next(text: &str, from: usize) -> Option<Equation> {
    let equals = text
        .match_indices('=')
        .map(|(at, _)| at)
        .filter(|&at| at >= from);
    equals.filter_map(|at| equation_at(text, at)).next()
}

fn equation_at(text: &str, equals: usize) -> Option<Equation> {
    let (start, operators) = expression_before(text, equals)?;
    let skipped = text[equals + 1..].trim_start_matches([' ', '$']);
    let result = number_from(text, text.len() - skipped.len())?;
    let twins = twins(text, start, operators.len()).unwrap_or_default();
    Some(Equation {
        operators,
        twins,
        result,
    })
}

/// `number (operator number)+` that ends before `end`: where it starts, and its operators.
fn expression_before(text: &str, end: usize) -> Option<(usize, Vec<Range<usize>>)> {
    let mut operators = Vec::new();
    let mut start = number_until(text, skip_back(text, end))?;
    while let Some(operator) = operator_until(text, skip_back(text, start)) {
        let Some(number) = number_until(text, skip_back(text, operator.start)) else {
            break;
        };
        start = number;
        operators.insert(0, operator);
    }
    (!operators.is_empty()).then_some((start, operators))
}

/// The operators of the expression before `= <<`, if it has as many as the annotation.
fn twins(text: &str, start: usize, operators: usize) -> Option<Vec<Range<usize>>> {
    let before = text[..start]
        .strip_suffix("<<")?
        .trim_end_matches([' ', '$'])
        .strip_suffix('=')?;
    let (_, twins) = expression_before(text, before.len())?;
    (twins.len() == operators).then_some(twins)
}

/// `at`, less the spaces and currency signs before it.
fn skip_back(text: &str, at: usize) -> usize {
    text[..at].trim_end_matches([' ', '$']).len()
}

/// Where the number that ends at `end` starts.
fn number_until(text: &str, end: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let is_part = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b',');
    let start = end - bytes[..end].iter().rev().take_while(|b| is_part(b)).count();
    let digits = bytes.get(start..end)?;
    (digits.first()?.is_ascii_digit() && digits.last()?.is_ascii_digit()).then_some(start)
}

/// The number that starts at `start`; a full stop or comma behind its last digit is not part of it.
pub(super) fn number_from(text: &str, start: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes().get(start..)?;
    let length = bytes
        .iter()
        .take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b','))
        .count();
    let trimmed = text[start..start + length].trim_end_matches(['.', ',']);
    bytes
        .first()?
        .is_ascii_digit()
        .then_some(start..start + trimmed.len())
}

/// The operator that ends at `end`.
fn operator_until(text: &str, end: usize) -> Option<Range<usize>> {
    let last = text[..end].chars().next_back()?;
    let start = end - last.len_utf8();
    // A letter x is an operator only where it is alone.
    let alone = || text[..start].ends_with(|c: char| c == ' ' || c.is_ascii_digit());
    match last {
        '+' | '-' | '*' | '/' | '×' | '÷' | '−' => Some(start..end),
        'x' | 'X' if alone() => Some(start..end),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(Vec<&str>, &str)> {
        let mut from = 0;
        let mut equations = Vec::new();
        while let Some(equation) = next(text, from) {
            from = equation.result.end;
            equations.push((
                equation
                    .operators
                    .iter()
                    .map(|r| &text[r.clone()])
                    .collect(),
                &text[equation.result],
            ));
        }
        equations
    }

    #[test]
    fn equations_are_found_in_many_spellings() {
        let text =
            "48/2 = 24. Then $5 x 3 = $15, and 1,200 × 2 + 7 = 2,407.5 in all; n = 3, max = 4, = 5";
        assert_eq!(
            found(text),
            [
                (vec!["/"], "24"),
                (vec!["x"], "15"),
                (vec!["×", "+"], "2,407.5")
            ]
        );
    }

    #[test]
    fn an_annotation_is_one_equation_with_its_twin() {
        let text = "sold 48/2 = <<48/2=24>>24 clips";
        assert_eq!(found(text), [(vec!["/"], "24")]);
        let equation = next(text, 0).unwrap();
        assert_eq!(&text[equation.operators[0].clone()], "/");
        assert_eq!(equation.twins.first(), Some(&(7..8)));
    }

    #[test]
    fn odd_bytes_do_not_panic() {
        for text in [
            "=",
            "é=ü",
            "1+=2",
            "+ = 3",
            "1 + 2 =",
            "…1×2=3…",
            "<<=>>",
            "1.+2.=3.",
            "−5 − 3 = 2",
        ] {
            let _ = found(text);
        }
    }
}
