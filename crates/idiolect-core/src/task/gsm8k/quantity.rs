//! Numbers in running text: a literal, fraction or power with its sign, cents and scale word.

use super::value::Value;
use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, Lexeme};

/// A number among lexemes: indices, end exclusive.
pub(super) struct Number {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) value: Rational,
    /// What a word behind it makes of it.
    scaled: Option<(Rational, Scale)>,
    /// Where it is in the text, in bytes.
    pub(super) bytes: (usize, usize),
    /// Whether its minus is apart between words and it, and so may be a dash.
    perhaps_dash: bool,
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
        let (meant, mut possible) = match &self.scaled {
            None => (self.value.clone(), Vec::new()),
            Some((scaled, Scale::Part)) => (scaled.clone(), vec![self.value.clone()]),
            Some((scaled, Scale::Unit)) => (self.value.clone(), vec![scaled.clone()]),
        };
        if self.perhaps_dash {
            possible.push(meant.negated());
        }
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

/// Adds what is around a number: its sign, cents after dollars, a scale word.
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
    let sign = sign_before(text, lexemes, start);
    let negative = sign != Sign::None;
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
        perhaps_dash: sign == Sign::Apart,
    }
}

/// The sign of a number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    None,
    Minus,
    /// A minus between words and the number, with a space on both sides.
    Apart,
}

/// Whether a dash may part a word from what it announces: "Answer - 36".
fn is_label(word: &str) -> bool {
    ["answer", "ans", "result", "solution", "total", "sum"]
        .iter()
        .any(|label| word.eq_ignore_ascii_case(label))
}

/// Whether a word names a currency, or the country of a dollar, before its number.
fn is_currency(word: &str) -> bool {
    const WORDS: [&str; 17] = [
        "US", "A", "AU", "C", "CA", "HK", "NZ", "S", "SG", "USD", "EUR", "GBP", "Rs", "INR", "AUD",
        "CAD", "RMB",
    ];
    WORDS.contains(&word)
}

/// Whether a number is negative: "negative" or "minus" is before it, or a minus that touches it
/// or opens the text (a currency sign or bracket may stand between), where there is nothing that it
/// could be subtracted from, and no hyphenated word. With a space behind it, it is one where a sign
/// that opens something is before it, and may be a dash behind a word.
fn sign_before(text: &str, lexemes: &[Lexeme], start: usize) -> Sign {
    let yes = |yes: bool| if yes { Sign::Minus } else { Sign::None };
    let mut next = start;
    let mut before = start.checked_sub(1);
    if let Some(i) = before
        && lexemes[i].kind == Kind::Currency
    {
        (next, before) = (i, i.checked_sub(1));
    }
    // `-US$5`, `-EUR 5`
    if let Some(i) = before
        && lexemes[i].kind == Kind::Word
        && is_currency(&text[lexemes[i].start..lexemes[i].end])
    {
        (next, before) = (i, i.checked_sub(1));
    }
    let Some(sign) = before else {
        return Sign::None;
    };
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
        return yes(word.eq_ignore_ascii_case("negative")
            || (word.eq_ignore_ascii_case("minus") && !operand(sign)));
    }
    if lexemes[sign].kind != Kind::Minus {
        return Sign::None;
    }
    let opens = lexemes[..sign]
        .iter()
        .all(|l| matches!(l.kind, Kind::Mark | Kind::Currency | Kind::Open));
    if opens {
        return Sign::Minus;
    }
    let touches = lexemes[sign].end == lexemes[next].start;
    let hyphen =
        lexemes[sign - 1].kind == Kind::Word && lexemes[sign - 1].end == lexemes[sign].start;
    if touches {
        return yes(!operand(sign) && !hyphen);
    }
    let written = &text[..lexemes[sign].start];
    let opened = written.ends_with(['$', '(', '[', '{', '`', '"', '“', '‘', '\'', '*', '_', ':']);
    let stated = written.trim_end_matches(' ').ends_with([':', '=']);
    match lexemes[sign - 1].kind {
        _ if stated => Sign::Minus,
        _ if opened && !operand(sign) => Sign::Minus,
        Kind::Word if is_label(&text[lexemes[sign - 1].start..lexemes[sign - 1].end]) => Sign::None,
        Kind::Word if written.ends_with(' ') && !written.ends_with("\n ") => Sign::Apart,
        _ => Sign::None,
    }
}
