//! Numbers in running text: a literal, fraction or power with its sign, cents and scale word.

use super::super::lexeme::{Kind, Lexeme};
use super::super::rational::Rational;
use super::value::Value;

/// A number among lexemes: indices, end exclusive.
pub(super) struct Number {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) value: Rational,
    /// What a word behind it makes of it.
    scaled: Option<(Rational, Scale)>,
    /// Where it stands in the text, in bytes.
    pub(super) bytes: (usize, usize),
}

/// Whether a scale word is part of the number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// "5 million" is 5,000,000, unless the question counts millions.
    Part,
    /// "5 dozen" counts dozens, unless the question counts pieces.
    Unit,
}

impl Number {
    /// What it is meant as, and what it could be.
    pub(super) fn reading(&self) -> Value {
        let (meant, possible) = match &self.scaled {
            None => (self.value.clone(), Vec::new()),
            Some((scaled, Scale::Part)) => (scaled.clone(), vec![self.value.clone()]),
            Some((scaled, Scale::Unit)) => (self.value.clone(), vec![scaled.clone()]),
        };
        Value::One {
            meant: vec![meant],
            possible,
        }
    }
}

/// The numbers of a text, left to right.
pub(super) fn numbers<'a>(
    text: &'a str,
    lexemes: &'a [Lexeme],
) -> impl Iterator<Item = Number> + 'a {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < lexemes.len() {
            let quantity =
                quantity(lexemes, at).or_else(|| Some((full_hour(text, &lexemes[at])?, at + 1)));
            if let Some((value, end)) = quantity {
                let number = with_neighbours(text, lexemes, at, end, value);
                at = number.end;
                return Some(number);
            }
            at += 1;
        }
        None
    })
}

/// `3:00` counts as 3, since gold answers to "at what time" do.
fn full_hour(text: &str, lexeme: &Lexeme) -> Option<Rational> {
    let hour = text[lexeme.start..lexeme.end].strip_suffix(":00")?;
    (hour.len() <= 2).then(|| hour.parse().ok().map(Rational::integer))?
}

/// A number without sign: a literal, `1/2`, `\frac{1}{2}`, `5 1/2`, `5\frac{1}{2}`, `1.5 × 10^3`.
fn quantity(lexemes: &[Lexeme], at: usize) -> Option<(Rational, usize)> {
    let number = |i: usize| match lexemes.get(i).map(|l| &l.kind) {
        Some(Kind::Number { value, .. }) => Some(value),
        _ => None,
    };
    let is = |i: usize, kind: Kind| lexemes.get(i).is_some_and(|l| l.kind == kind);
    let adjacent = |i: usize| {
        lexemes
            .get(i + 1)
            .is_some_and(|r| lexemes[i].end == r.start)
    };
    let fraction = |i: usize| -> Option<(Rational, usize)> {
        if is(i, Kind::Fraction) && is(i + 1, Kind::Open) && is(i + 4, Kind::Open) {
            return Some((number(i + 2)?.over(number(i + 5)?)?, i + 7));
        }
        let tight = adjacent(i) && adjacent(i + 1);
        let (n, d) = (number(i)?, number(i + 2)?);
        (is(i + 1, Kind::Divide) && tight && n.is_integer() && d.is_integer())
            .then(|| n.over(d).map(|v| (v, i + 3)))?
    };
    if let Some((value, end)) = fraction(at) {
        return Some((value, end.min(lexemes.len())));
    }
    let whole = number(at)?;
    if whole.is_integer()
        && let Some((part, end)) = fraction(at + 1)
        && part < Rational::integer(1)
    {
        return Some((whole.plus(&part), end.min(lexemes.len())));
    }
    if is(at + 1, Kind::Times)
        && number(at + 2) == Some(&Rational::integer(10))
        && is(at + 3, Kind::Power)
    {
        // The exponent may stand in braces.
        let inner = at + 4 + usize::from(is(at + 4, Kind::Open));
        let sign = usize::from(is(inner, Kind::Minus));
        if let Some(exponent) = number(inner + sign).and_then(Rational::to_i64) {
            let exponent = if sign == 1 { -exponent } else { exponent };
            let close = usize::from(is(inner + sign + 1, Kind::Close) && inner > at + 4);
            if let Some(power) = Rational::integer(10).power(exponent) {
                return Some((whole.times(&power), inner + sign + 1 + close));
            }
        }
    }
    Some((whole.clone(), at + 1))
}

/// Adds what stands around a number: its sign, cents after dollars, a scale word.
fn with_neighbours(
    text: &str,
    lexemes: &[Lexeme],
    start: usize,
    end: usize,
    value: Rational,
) -> Number {
    let word = |i: usize| {
        lexemes
            .get(i)
            .filter(|l| l.kind == Kind::Word)
            .map(|l| text[l.start..l.end].to_lowercase())
    };
    let negative = is_negative(text, lexemes, start);
    let (mut value, mut end) = (value, end);
    let mut last_byte = lexemes[end - 1].end;
    if word(end).is_some_and(|w| w.starts_with("dollar"))
        && let (
            Some(and),
            Some(Lexeme {
                kind: Kind::Number { value: cents, .. },
                ..
            }),
            Some(unit),
        ) = (word(end + 1), lexemes.get(end + 2), word(end + 3))
        && and == "and"
        && unit.starts_with("cent")
        && let Some(part) = cents.over(&Rational::integer(100))
    {
        value = value.plus(&part);
        last_byte = lexemes[end + 3].end;
        end += 4;
    }
    let scale = match word(end).as_deref() {
        Some("hundred") => Some((100, Scale::Part)),
        Some("thousand") => Some((1_000, Scale::Part)),
        Some("million" | "millions") => Some((1_000_000, Scale::Part)),
        Some("billion") => Some((1_000_000_000, Scale::Part)),
        Some("dozen" | "dozens") => Some((12, Scale::Unit)),
        _ => None,
    };
    if negative {
        value = value.negated();
    }
    let scaled = scale.map(|(size, scale)| (value.times(&Rational::integer(size)), scale));
    let first_byte = if negative {
        lexemes[start].start.saturating_sub(1)
    } else {
        lexemes[start].start
    };
    let first_byte = (0..=first_byte)
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    Number {
        start,
        end,
        value,
        scaled,
        bytes: (first_byte, last_byte),
    }
}

/// Whether a number is negative: "negative" or "minus" stands before it, or a minus that touches it
/// or opens the text (a currency sign or bracket may stand between), where there is nothing that it
/// could be subtracted from, and no hyphenated word.
fn is_negative(text: &str, lexemes: &[Lexeme], start: usize) -> bool {
    let mut next = start;
    let mut before = start.checked_sub(1);
    if let Some(i) = before
        && lexemes[i].kind == Kind::Currency
    {
        (next, before) = (i, i.checked_sub(1));
    }
    let Some(sign) = before else { return false };
    let operand = |at: usize| {
        at.checked_sub(1).is_some_and(|i| {
            matches!(
                lexemes[i].kind,
                Kind::Number { .. } | Kind::Close | Kind::Unknown | Kind::Percent
            )
        })
    };
    if lexemes[sign].kind == Kind::Word {
        let word = &text[lexemes[sign].start..lexemes[sign].end];
        return word.eq_ignore_ascii_case("negative")
            || (word.eq_ignore_ascii_case("minus") && !operand(sign));
    }
    if lexemes[sign].kind != Kind::Minus {
        return false;
    }
    let opens = lexemes[..sign]
        .iter()
        .all(|l| matches!(l.kind, Kind::Mark | Kind::Currency | Kind::Open));
    if opens {
        return true;
    }
    let touches = lexemes[sign].end == lexemes[next].start;
    let hyphen =
        lexemes[sign - 1].kind == Kind::Word && lexemes[sign - 1].end == lexemes[sign].start;
    touches && !operand(sign) && !hyphen
}
