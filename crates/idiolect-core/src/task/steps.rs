//! Steps of a trace and their arithmetic.
//!
//! A step is a part of the text as [`super::segment`] cuts it. Every `expression = value` in it is recomputed exactly: one false equation makes the step invalid, else
//! one true equation makes it valid, else it is unchecked. Where the text does not state plainly what
//! is computed (a variable of unknown value, "half of 10 + 2", cents that become dollars) nothing is checked: a
//! checker that cries wolf is worse than none. A value shown with decimals may be rounded or cut at
//! its last digit; integers must be exact.

use super::arithmetic::{Parsed, Reading, parse};
use super::segment::parts;
use super::variables::Variables;
use crate::record::{Step, StepCheck};
use idiolect_math::Rational;
use idiolect_math::lexeme::list_marker;
use idiolect_math::lexeme::{Kind, Lexeme, lex};

/// An expression longer than this many lexemes is not read.
const MAX_SIDE: usize = 64;

/// The steps of a text, in order; parts that `is_answer` (given the trimmed part and whether a `|`
/// is before it) are left out, and so are parts without a letter or digit.
pub(super) fn check_steps(text: &str, is_answer: fn(&str, bool) -> bool) -> Vec<Step> {
    let mut variables = Variables::default();
    parts(text)
        .into_iter()
        .filter(|(start, end, after_bar)| {
            let part = &text[*start..*end];
            part.contains(char::is_alphanumeric) && !is_answer(part, *after_bar)
        })
        .map(|(start, end, _)| Step {
            start,
            end,
            check: check(&text[start..end], &mut variables),
        })
        .collect()
}

/// What recomputation finds in one step; what it states of variables is kept for the next.
fn check(part: &str, variables: &mut Variables) -> StepCheck {
    if !part.contains(['=', '＝']) {
        return StepCheck::Unchecked;
    }
    let body = &part[list_marker(part)..];
    let found = check_body(&variables.fill(body));
    variables.learn(body);
    found
}

fn check_body(body: &str) -> StepCheck {
    let mut found = StepCheck::Unchecked;
    for annotation in annotations(body) {
        found = worse(found, check_annotation(annotation));
    }
    let lexemes: Vec<Lexeme> = lex(body, true)
        .into_iter()
        .filter(|l| l.kind != Kind::Annotation)
        .collect();
    let mut side = 0;
    for (i, lexeme) in lexemes.iter().enumerate() {
        if lexeme.kind == Kind::Equals {
            found = worse(found, check_equation(body, &lexemes, side, i));
            side = i + 1;
        }
    }
    found
}

/// One false equation outweighs any number of true ones.
fn worse(a: StepCheck, b: StepCheck) -> StepCheck {
    match (a, b) {
        (StepCheck::Invalid, _) | (_, StepCheck::Invalid) => StepCheck::Invalid,
        (StepCheck::Valid, _) | (_, StepCheck::Valid) => StepCheck::Valid,
        _ => StepCheck::Unchecked,
    }
}

/// The contents of `<<…>>`.
pub(super) fn annotations(text: &str) -> impl Iterator<Item = &str> {
    text.split("<<")
        .skip(1)
        .filter_map(|rest| rest.split_once(">>").map(|(inside, _)| inside))
}

/// A calculator annotation: sides between `=`, all of which must be equal. A side that is no plain
/// expression leaves it unchecked.
pub(super) fn check_annotation(inside: &str) -> StepCheck {
    let mut found = StepCheck::Unchecked;
    let mut left: Option<Readings> = None;
    for side in inside.split('=') {
        let right = readings(side);
        if let (Some(left), Some(right)) = (&left, &right)
            && let Some(equal) = equal(left, right)
        {
            found = worse(
                found,
                if equal {
                    StepCheck::Valid
                } else {
                    StepCheck::Invalid
                },
            );
        }
        left = right;
    }
    found
}

/// One expression with `%` as a hundredth and as a unit.
type Readings = [Parsed; 2];

fn readings(side: &str) -> Option<Readings> {
    let lexemes = lex(side, true);
    if lexemes.len() > MAX_SIDE {
        return None;
    }
    let hundredth = parse(&lexemes, reading(true))?;
    let unit = parse(&lexemes, reading(false))?;
    (hundredth.length == lexemes.len()).then_some([hundredth, unit])
}

fn reading(percent_is_hundredth: bool) -> Reading {
    Reading {
        units: true,
        percent_is_hundredth,
    }
}

/// Whether two sides are equal in some reading of the percent sign; `None` where neither has values.
fn equal(left: &Readings, right: &Readings) -> Option<bool> {
    let mut any = None;
    for l in left {
        for r in right {
            if let (Ok(a), Ok(b)) = (&l.value, &r.value) {
                any = Some(any == Some(true) || same(a, b, r.decimals) || same(b, a, l.decimals));
            }
        }
    }
    any
}

fn same(computed: &Rational, shown: &Rational, decimals: u32) -> bool {
    computed == shown || (decimals > 0 && computed.shown_as(shown, decimals))
}

/// The equation at the `=` of index `equals`, whose left side begins at index `from`.
fn check_equation(text: &str, lexemes: &[Lexeme], from: usize, equals: usize) -> StepCheck {
    let after = &lexemes[equals + 1..];
    let next_equals = after.iter().position(|l| l.kind == Kind::Equals);
    let right_side = &after[..next_equals.unwrap_or(after.len())];
    let Some((left, left_side)) = expression_before(text, &lexemes[from..equals]) else {
        return StepCheck::Unchecked;
    };
    let Some(right) = expression_after(text, right_side) else {
        return StepCheck::Unchecked;
    };
    // `Week 1 = 30 + 5` names something; `21 = 3 * 7` computes.
    let names = left[0].operations == 0 && left_side.len() < equals - from;
    if names || left[0].operations + right[0].operations == 0 {
        return StepCheck::Unchecked;
    }
    match equal(&left, &right) {
        None => StepCheck::Unchecked,
        Some(true) => StepCheck::Valid,
        Some(false) => {
            let excused = converts(text, left_side, &left[0], right_side, &right[0])
                || (next_equals.is_some() && runs_on(&left, right_side))
                || nearly(&left[0], &right[0], left_side, right_side)
                || shown_scientifically(&left[0], &right[0], right_side)
                || (left[0].operations == 0 && right[0].value != right[1].value)
                || rounds(text);
            if excused {
                StepCheck::Unchecked
            } else {
                StepCheck::Invalid
            }
        }
    }
}

/// `7 * 60 = 420 + 23 = 443`: the right side goes on computing from the value of the left. Sloppy,
/// but no wrong arithmetic.
fn runs_on(left: &Readings, right_side: &[Lexeme]) -> bool {
    let first = right_side.iter().find_map(|l| match &l.kind {
        Kind::Number { value, .. } => Some(value),
        _ => None,
    });
    first.is_some() && left[0].value.as_ref().ok() == first
}

/// Sides that differ by at most a thousandth may have been rounded on the way, where one of them
/// computes with decimals.
fn nearly(left: &Parsed, right: &Parsed, left_side: &[Lexeme], right_side: &[Lexeme]) -> bool {
    let decimals = |parsed: &Parsed, side: &[Lexeme]| {
        parsed.operations > 0
            && side
                .iter()
                .any(|l| matches!(l.kind, Kind::Number { decimals, .. } if decimals > 0))
    };
    let (Ok(a), Ok(b)) = (&left.value, &right.value) else {
        return false;
    };
    let thousandth = Rational::ratio(1, 1000).map(|t| b.magnitude().times(&t));
    (decimals(left, left_side) || decimals(right, right_side))
        && thousandth.is_some_and(|t| a.minus(b).magnitude() <= t)
}

/// `1.36 * 10^-19`: a value that is shown with a power of ten may be rounded or cut at the last
/// digit of its first factor.
fn shown_scientifically(left: &Parsed, right: &Parsed, right_side: &[Lexeme]) -> bool {
    let [first, times, ten, power, ..] = right_side else {
        return false;
    };
    let (
        Kind::Number {
            value: factor,
            decimals,
        },
        Kind::Number { value: base, .. },
    ) = (&first.kind, &ten.kind)
    else {
        return false;
    };
    let form = times.kind == Kind::Times && power.kind == Kind::Power;
    if !form || right.operations != 2 || *decimals == 0 || base.to_i64() != Some(10) {
        return false;
    }
    let (Ok(a), Ok(b)) = (&left.value, &right.value) else {
        return false;
    };
    let unit = Rational::decimal("1", *decimals as i32).and_then(|unit| unit.over(factor));
    unit.is_some_and(|unit| a.minus(b).magnitude() <= b.magnitude().times(&unit))
}

/// Whether a step speaks of rounding or of a remainder.
fn rounds(text: &str) -> bool {
    let text = text.to_lowercase();
    ["remain", "left over", "leftover", "round", "approx"]
        .iter()
        .any(|w| text.contains(w))
}

/// The expression that ends where the left side ends, and the lexemes it was read from.
fn expression_before<'a>(text: &str, side: &'a [Lexeme]) -> Option<(Readings, &'a [Lexeme])> {
    let side = &side[side.len().saturating_sub(MAX_SIDE)..];
    for start in 0..side.len() {
        let begins = match side[start].kind {
            Kind::Number { .. } | Kind::Open | Kind::Fraction | Kind::Currency => true,
            // A sign may begin an expression only where nothing is before it to be an operand.
            Kind::Minus | Kind::Plus => start == 0 || side[start - 1].kind == Kind::Mark,
            _ => false,
        };
        if !begins {
            continue;
        }
        if let Some(hundredth) = parse(&side[start..], reading(true))
            && hundredth.length == side.len() - start
        {
            if !begins_apart(text, &side[..start]) {
                return None;
            }
            let mut units = hundredth.units.iter().map(|i| &side[start + i]);
            if !units.all(|l| ends_apart(text, std::slice::from_ref(l))) {
                return None;
            }
            let unit = parse(&side[start..], reading(false))?;
            return Some(([hundredth, unit], &side[start..]));
        }
    }
    None
}

/// The expression that the right side begins with.
fn expression_after(text: &str, side: &[Lexeme]) -> Option<Readings> {
    let window = &side[..side.len().min(MAX_SIDE)];
    let hundredth = parse(window, reading(true))?;
    let unit = parse(window, reading(false))?;
    // Words that were read as units may compute as well.
    let units = hundredth.units.iter().map(|i| &side[*i]);
    let clean = ends_apart(text, &side[hundredth.length..])
        && units
            .into_iter()
            .all(|l| ends_apart(text, std::slice::from_ref(l)));
    clean.then_some([hundredth, unit])
}

/// Whether what is before an expression leaves it whole: punctuation and plain words do;
/// operators, variables, words that compute ("half of", "times") and words that number ("day 1") do
/// not.
fn begins_apart(text: &str, before: &[Lexeme]) -> bool {
    const BINDING: [&str; 34] = [
        "of",
        "times",
        "plus",
        "minus",
        "over",
        "by",
        "divided",
        "multiplied",
        "less",
        "than",
        "twice",
        "double",
        "half",
        "triple",
        "thrice",
        "sum",
        "product",
        "difference",
        "average",
        "from",
        "to",
        "per",
        "day",
        "days",
        "week",
        "weeks",
        "month",
        "year",
        "step",
        "set",
        "case",
        "part",
        "round",
        "grade",
    ];
    match before {
        [] => true,
        // `1 and 1/4`
        [.., number, and] if is_number(number) && word(text, and).eq_ignore_ascii_case("and") => {
            false
        }
        [.., last] => match last.kind {
            Kind::Mark | Kind::Equals | Kind::Open | Kind::Currency => true,
            Kind::Word => !is_one_of(word(text, last), &BINDING),
            _ => false,
        },
    }
}

/// Whether what is after a value leaves it whole; "million" and "and 1/4" do not.
fn ends_apart(text: &str, after: &[Lexeme]) -> bool {
    const BINDING: [&str; 19] = [
        "of",
        "times",
        "plus",
        "minus",
        "over",
        "divided",
        "multiplied",
        "percent",
        "dozen",
        "dozens",
        "hundred",
        "thousand",
        "million",
        "billion",
        "remainder",
        "mod",
        "squared",
        "cubed",
        "less",
    ];
    match after {
        [] => true,
        [and, next, ..]
            if word(text, and).eq_ignore_ascii_case("and")
                && (is_number(next) || matches!(next.kind, Kind::Open | Kind::Fraction)) =>
        {
            false
        }
        [first, ..] => match first.kind {
            Kind::Mark | Kind::Equals | Kind::Open | Kind::Close | Kind::Currency => true,
            Kind::Word => !is_one_of(word(text, first), &BINDING),
            _ => false,
        },
    }
}

fn is_number(lexeme: &Lexeme) -> bool {
    matches!(lexeme.kind, Kind::Number { .. })
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// The word that a lexeme is, also inside `\text{…}`.
fn word<'a>(text: &'a str, lexeme: &Lexeme) -> &'a str {
    let whole = &text[lexeme.start..lexeme.end];
    match whole.split_once('{') {
        Some((_, inside)) => inside.trim_end_matches('}').trim(),
        None => whole,
    }
}

/// Whether a mismatch may be a change of unit: dollars that become cents; units on the left, and
/// another or none on the right, or several on the left.
fn converts(
    text: &str,
    left_side: &[Lexeme],
    left: &Parsed,
    right_side: &[Lexeme],
    right: &Parsed,
) -> bool {
    let unit = |l: &Lexeme| {
        word(text, l)
            .to_lowercase()
            .trim_end_matches('s')
            .to_owned()
    };
    let mut left_units: Vec<String> = left.units.iter().map(|i| unit(&left_side[*i])).collect();
    left_units.sort_unstable();
    left_units.dedup();
    let first_right = right
        .units
        .first()
        .or(Some(&right.length))
        .and_then(|i| right_side.get(*i));
    let right_unit = first_right.filter(|l| l.kind == Kind::Word).map(unit);
    match (left_units.as_slice(), right_unit) {
        ([], unit) => unit.as_deref() == Some("cent"),
        ([only], Some(unit)) => *only != unit,
        _ => true,
    }
}
