//! Steps of a trace and their arithmetic.
//!
//! A step is a line, a sentence, or a part between the `;` and `|` of the miniature's dialect. Every
//! `expression = value` in it is recomputed exactly: one false equation makes the step invalid, else
//! one true equation makes it valid, else it is unchecked. Where the text does not say plainly what
//! is computed (a variable, "half of 10 + 2", cents that become dollars) nothing is checked: a
//! checker that cries wolf is worse than none. A value shown with decimals may be rounded or cut at
//! its last digit; integers must be exact.

use super::arithmetic::{Parsed, Reading, parse};
use super::lexeme::{Kind, Lexeme, lex};
use super::rational::Rational;
use crate::record::{Step, StepCheck};

/// An expression longer than this many lexemes is not read.
const MAX_SIDE: usize = 64;

/// The steps of a text, in order; parts that `is_answer` (given the trimmed part and whether a `|`
/// stands before it) are left out, and so are parts without a letter or digit.
pub(super) fn check_steps(text: &str, is_answer: fn(&str, bool) -> bool) -> Vec<Step> {
    parts(text)
        .into_iter()
        .filter(|(start, end, after_bar)| {
            let part = &text[*start..*end];
            part.contains(char::is_alphanumeric) && !is_answer(part, *after_bar)
        })
        .map(|(start, end, _)| Step {
            start,
            end,
            check: check(&text[start..end]),
        })
        .collect()
}

/// What recomputation finds in one step.
fn check(part: &str) -> StepCheck {
    let mut found = StepCheck::Unchecked;
    if !part.contains(['=', '＝']) {
        return found;
    }
    let body = &part[list_marker(part)..];
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
    let right = &after[..after
        .iter()
        .position(|l| l.kind == Kind::Equals)
        .unwrap_or(after.len())];
    let Some((left, left_lexemes)) = expression_before(text, &lexemes[from..equals]) else {
        return StepCheck::Unchecked;
    };
    let Some(right_readings) = expression_after(text, right) else {
        return StepCheck::Unchecked;
    };
    if left[0].operations + right_readings[0].operations == 0 {
        return StepCheck::Unchecked;
    }
    match equal(&left, &right_readings) {
        None => StepCheck::Unchecked,
        Some(true) => StepCheck::Valid,
        Some(false) if converts(text, left_lexemes, &left[0], right, &right_readings[0]) => {
            StepCheck::Unchecked
        }
        Some(false) => StepCheck::Invalid,
    }
}

/// The expression that ends where the left side ends, and the lexemes it was read from.
fn expression_before<'a>(text: &str, side: &'a [Lexeme]) -> Option<(Readings, &'a [Lexeme])> {
    let side = &side[side.len().saturating_sub(MAX_SIDE)..];
    for start in 0..side.len() {
        let begins = match side[start].kind {
            Kind::Number { .. } | Kind::Open | Kind::Fraction | Kind::Currency => true,
            // A sign may begin an expression only where nothing stands before it to be an operand.
            Kind::Minus | Kind::Plus => start == 0 || side[start - 1].kind == Kind::Mark,
            _ => false,
        };
        if !begins {
            continue;
        }
        if let Some(hundredth) = parse(&side[start..], reading(true))
            && hundredth.length == side.len() - start
        {
            let before = start.checked_sub(1).map(|i| &side[i]);
            if !before.is_none_or(|l| begins_apart(text, l)) {
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
    let next = side.get(hundredth.length);
    // The words that were read as units are prose where they end the text; look at the first.
    let first_unit = hundredth.units.iter().map(|i| &side[*i]);
    let clean = next
        .into_iter()
        .chain(first_unit)
        .all(|l| ends_apart(text, l));
    clean.then_some([hundredth, unit])
}

/// Whether what stands before an expression leaves it whole: punctuation and plain words do;
/// operators, variables and words that compute ("half of", "times") do not.
fn begins_apart(text: &str, before: &Lexeme) -> bool {
    const COMPUTING: [&str; 22] = [
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
    ];
    stands_apart(text, before, &COMPUTING)
}

/// Whether what stands after a value leaves it whole; "million" and "times" do not.
fn ends_apart(text: &str, after: &Lexeme) -> bool {
    const COMPUTING: [&str; 18] = [
        "times",
        "plus",
        "minus",
        "over",
        "divided",
        "multiplied",
        "percent",
        "dozen",
        "hundred",
        "thousand",
        "million",
        "billion",
        "remainder",
        "mod",
        "squared",
        "cubed",
        "dozens",
        "less",
    ];
    stands_apart(text, after, &COMPUTING)
}

fn stands_apart(text: &str, neighbour: &Lexeme, computing: &[&str]) -> bool {
    let word = &text[neighbour.start..neighbour.end];
    match neighbour.kind {
        Kind::Mark | Kind::Equals | Kind::Open | Kind::Close | Kind::Currency => true,
        Kind::Word => !computing.iter().any(|w| word.eq_ignore_ascii_case(w)),
        _ => false,
    }
}

/// Whether a mismatch may be a change of unit: the left side has units of its own, and the right
/// side's is none of them; or cents on the left.
fn converts(
    text: &str,
    left_lexemes: &[Lexeme],
    left: &Parsed,
    right_lexemes: &[Lexeme],
    right: &Parsed,
) -> bool {
    let unit = |l: &Lexeme| {
        text[l.start..l.end]
            .trim_end_matches('}')
            .to_lowercase()
            .trim_end_matches('s')
            .to_owned()
    };
    let left_units: Vec<String> = left.units.iter().map(|i| unit(&left_lexemes[*i])).collect();
    if left_units.is_empty() {
        return false;
    }
    match right
        .units
        .first()
        .or(Some(&right.length))
        .and_then(|i| right_lexemes.get(*i))
    {
        Some(l) if l.kind == Kind::Word => !left_units.contains(&unit(l)),
        _ => true,
    }
}

/// The parts of a text: byte span, trimmed, and whether a `|` stands before it. A line that begins
/// with `=` continues the part before it.
fn parts(text: &str) -> Vec<(usize, usize, bool)> {
    let mut found: Vec<(usize, usize, bool)> = Vec::new();
    let bytes = text.as_bytes();
    let mut start = 0;
    let mut after_bar = false;
    let mut push = |start: usize, end: usize, after_bar: bool| {
        let part = &text[start..end];
        let trimmed = part.trim_start();
        let (from, to) = (end - trimmed.len(), start + part.trim_end().len());
        if from >= to {
            return;
        }
        let continues = trimmed
            .trim_start_matches(['*', '`', '&', ' ', '>'])
            .starts_with('=');
        match found.last_mut() {
            // A step ends somewhere, also in a text of nothing but `=` lines.
            Some(last) if continues && to - last.0 < 1000 => last.1 = to,
            _ => found.push((from, to, after_bar)),
        }
    };
    for (i, b) in bytes.iter().enumerate() {
        let ends = match b {
            b'\n' | b';' => true,
            b'|' => spaced(bytes, i),
            b'.' | b'!' | b'?' => ends_sentence(text, start, i),
            _ => false,
        };
        if ends {
            let keeps = matches!(b, b'.' | b'!' | b'?');
            push(start, if keeps { i + 1 } else { i }, after_bar);
            start = i + 1;
            after_bar = *b == b'|';
        }
    }
    push(start, text.len(), after_bar);
    found
}

/// White space or nothing on both sides of a byte.
fn spaced(bytes: &[u8], at: usize) -> bool {
    let space = |b: Option<&u8>| b.is_none_or(u8::is_ascii_whitespace);
    space(at.checked_sub(1).and_then(|i| bytes.get(i))) && space(bytes.get(at + 1))
}

/// A stop before white space, unless it closes a list number or an abbreviation such as `Mr.`.
fn ends_sentence(text: &str, part: usize, at: usize) -> bool {
    if !text[at + 1..].starts_with(|c: char| c.is_whitespace()) {
        return false;
    }
    let sentence = text[part..at].trim_start();
    let word = sentence
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let list_number = word.len() == sentence.len() && word.bytes().all(|b| b.is_ascii_digit());
    !(list_number
        || matches!(
            word,
            "Mr" | "Mrs" | "Ms" | "Dr" | "St" | "vs" | "No" | "approx"
        ))
}

/// Length of `1. `, `2) `, `- `, `* ` at the start of a part.
fn list_marker(part: &str) -> usize {
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    let after = &part[digits..];
    let marker = if (1..=3).contains(&digits) && after.starts_with(['.', ')']) {
        digits + 1
    } else {
        match part.chars().next() {
            Some(c @ ('-' | '*' | '•' | '+' | '#')) if digits == 0 => c.len_utf8(),
            _ => return 0,
        }
    };
    if part[marker..].starts_with(' ') {
        marker + 1
    } else {
        0
    }
}
