//! What a statement of an answer comes to: one number, several, or none that can be read.
//!
//! `3 + 5` is 8, `- 15` is −15, `2 hours 30 minutes` is 150 of one unit and 2.5 of the other; `12 or
//! 15` and `2, 3` are no single number. A reading that could be meant beside the likelier one
//! (`5 million` counts millions, `12,5` has a decimal comma) is kept apart: it decides nothing.

use super::super::arithmetic::{Reading, parse};
use super::numeral::numerals;
use super::quantity::{Number, numbers};
use super::spelling::plain;
use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, Lexeme, lex};

/// What a statement comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// One quantity.
    One {
        /// Its number; in several units where it names several.
        meant: Vec<Rational>,
        /// What it could be meant as besides.
        possible: Vec<Rational>,
    },
    /// Several numbers that are not one.
    Several,
    /// Digits that are no number: a time, an unknown sign.
    Unread,
}

/// A statement's value and its words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stated {
    pub(super) value: Value,
    /// The number as written, or all that was read.
    pub(super) written: String,
    /// Whether more than a closing sign follows it.
    pub(super) goes_on: bool,
    /// Whether the statement names no other number.
    pub(super) alone: bool,
}

/// Words after which a statement gives reasons, repeats itself or names what it is not.
const ASIDES: [&str; 31] = [
    "; this",
    "; since",
    "; because",
    " – as ",
    " – since",
    " – because",
    " — as ",
    " — since",
    " — because",
    " because",
    " since ",
    ", since",
    ", as ",
    ", not ",
    " not ",
    ", and not",
    ", which",
    " which ",
    ", so ",
    ", but ",
    ", where",
    ", that is",
    ", and we",
    ", or simply",
    ", rounded",
    " rather than",
    " instead of",
    " when ",
    " if ",
    ". ",
    "! ",
];

/// Words between a number and the next that make the next a remark: "9 minutes for 459 blinks".
const REMARKS: [&str; 34] = [
    "for", "in", "per", "of", "each", "at", "on", "with", "from", "out", "by", "every", "after",
    "when", "than", "more", "fewer", "less", "who", "that", "into", "over", "within", "left", "is",
    "are", "was", "were", "has", "have", "will", "if", "before", "during",
];

/// Words that compute with the number after them.
const COMPUTE: [&str; 8] = [
    "half", "twice", "double", "triple", "thrice", "third", "quarter", "not",
];

/// Reads a statement. `None` where it names no number at all.
pub(super) fn read(part: &str) -> Option<Stated> {
    // The words in front may have opened braces that are not part of it.
    let whole = without_unit_powers(&plain(part.trim_start_matches(['}', ')', ' ', '*'])));
    let head = head(&whole);
    let aside = whole[head.len()..].contains(is_digit);
    let text = after_equals(head);
    let stated = |value, (start, end): (usize, usize)| Stated {
        value,
        written: text[start..end].trim().trim_end_matches('.').to_owned(),
        goes_on: !text[end..].trim_matches(CLOSING).is_empty(),
        alone: !aside,
    };
    let all = (0, text.len());
    if !text.contains(is_digit) {
        let (value, start, end) = in_words(text)?;
        return Some(stated(value, (start, end)));
    }
    let lexemes = lex(text, true);
    if let Some(value) = computed(&lexemes).filter(|_| !says_sign(text, &lexemes)) {
        return Some(stated(one(value), all));
    }
    let found: Vec<Number> = numbers(text, &lexemes).collect();
    let unread = lexemes.iter().position(|l| {
        l.kind == Kind::Unknown && text[l.start..].starts_with(|c: char| c.is_ascii_digit())
    });
    let Some(first) = found.first() else {
        return unread.map(|_| stated(Value::Unread, all));
    };
    if unread.is_some_and(|at| at < first.start) || computes(text, &lexemes[..first.start]) {
        return Some(stated(Value::Unread, all));
    }
    let perhaps = |value| Value::One {
        meant: Vec::new(),
        possible: vec![value],
    };
    // A factorial, or joy.
    let ends = lexemes[first.end..]
        .iter()
        .all(|l| matches!(l.kind, Kind::Mark | Kind::Currency | Kind::Close));
    if text[first.bytes.1..].starts_with('!') && ends {
        return Some(stated(perhaps(first.value.clone()), all));
    }
    Some(match beside(text, &lexemes, &found) {
        Beside::Nothing => Stated {
            alone: !aside && found.len() == 1,
            ..stated(first.reading(), first.bytes)
        },
        Beside::Units(meant) => stated(
            Value::One {
                meant,
                possible: Vec::new(),
            },
            all,
        ),
        Beside::Perhaps(value) => stated(perhaps(value), all),
        Beside::Another => stated(Value::Several, all),
    })
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || ('０'..='９').contains(&c)
}

/// `cm^2` and `m/s^{2}` without the powers, which count nothing.
fn without_unit_powers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('^') {
        out.push_str(&rest[..at]);
        let power = rest[at + 1..].trim_start_matches(['{', '-', '3', '2', '1']);
        let unit = out.ends_with(|c: char| c.is_alphabetic());
        let small = power.len() < rest.len() - at - 1 && !power.starts_with(is_digit);
        rest = match unit && small {
            true => power.strip_prefix('}').unwrap_or(power),
            false => {
                out.push('^');
                &rest[at + 1..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// What may stand behind a number without stating more.
const CLOSING: [char; 10] = ['.', ',', ' ', '$', '*', '"', '”', '}', ')', '`'];

/// One plain number.
pub(super) fn one(value: Rational) -> Value {
    Value::One {
        meant: vec![value],
        possible: Vec::new(),
    }
}

/// The statement without what it states besides, which begins after its first number.
fn head(text: &str) -> &str {
    let digit = text.find(is_digit);
    let word = numerals(text).first().map(|n| n.start);
    let Some(from) = digit.into_iter().chain(word).min() else {
        return text;
    };
    let rest = &text[from..];
    let mut end = ASIDES
        .iter()
        .filter_map(|aside| rest.find(aside))
        .min()
        .unwrap_or(rest.len());
    // `18 (6 + 12)`, but not `5 (3 + 2) = 25`.
    if let Some(open) = rest[..end].find(" (")
        && !rest[open..end].contains(") =")
    {
        end = open;
    }
    &text[..from + end]
}

/// What is after the last `=`, where anything does.
fn after_equals(text: &str) -> &str {
    // Looked for before the last letter or digit: one pass, however many `=` there are.
    let last = text.rfind(char::is_alphanumeric).unwrap_or(0);
    match text[..last].rfind(['=', '＝']) {
        Some(at) => text[at..].trim_start_matches(['=', '＝']),
        None => text,
    }
}

/// The value of a statement that is arithmetic and nothing else but units.
fn computed(lexemes: &[Lexeme]) -> Option<Rational> {
    let closing = lexemes.iter().rev().take_while(|l| l.kind == Kind::Mark);
    let lexemes = &lexemes[..lexemes.len() - closing.count()];
    let opening = lexemes
        .iter()
        .take_while(|l| matches!(l.kind, Kind::Word | Kind::Mark));
    let lexemes = &lexemes[opening.count()..];
    let parsed = parse(
        lexemes,
        Reading {
            units: true,
            percent_is_hundredth: false,
        },
    )?;
    // "20 + 62 clips, altogether"
    let remarks = lexemes[parsed.length..].iter().all(|l| {
        matches!(
            l.kind,
            Kind::Word | Kind::Mark | Kind::Currency | Kind::Close
        )
    });
    (parsed.operations > 0 && remarks).then_some(parsed.value.ok())?
}

/// Whether the words before an expression are its sign or compute with it.
fn says_sign(text: &str, lexemes: &[Lexeme]) -> bool {
    let words = lexemes
        .iter()
        .take_while(|l| !matches!(l.kind, Kind::Number { .. }));
    let is = |l: &Lexeme| {
        let word = text[l.start..l.end].to_ascii_lowercase();
        matches!(word.as_str(), "negative" | "minus") || COMPUTE.contains(&word.as_str())
    };
    words.into_iter().any(is)
}

/// Whether the words right before a number make another of it: "half of 12", "not 12".
pub(super) fn computes(text: &str, before: &[Lexeme]) -> bool {
    let mut words = before
        .iter()
        .rev()
        .filter(|l| l.kind != Kind::Currency)
        .map(|l| text[l.start..l.end].to_ascii_lowercase());
    let last = words.next().unwrap_or_default();
    let word = match last.as_str() {
        "of" => words.next().unwrap_or_default(),
        _ => last,
    };
    COMPUTE.contains(&word.as_str())
}

/// What the numbers behind the first make of it.
enum Beside {
    /// They belong to remarks, or there are none.
    Nothing,
    /// A quantity in two units: its number in each.
    Units(Vec<Rational>),
    /// They leave it open whether this number was meant.
    Perhaps(Rational),
    /// Another answer beside the first.
    Another,
}

fn beside(text: &str, lexemes: &[Lexeme], found: &[Number]) -> Beside {
    let (first, Some(second)) = (&found[0], found.get(1)) else {
        return Beside::Nothing;
    };
    let between = &lexemes[first.end..second.start];
    let words = |lexemes: &[Lexeme]| -> Vec<String> {
        let words = lexemes.iter().filter(|l| l.kind == Kind::Word);
        words.map(|l| text[l.start..l.end].to_lowercase()).collect()
    };
    let gap = words(between);
    // `cm^3` and `m/s^2` count nothing.
    let exponent = between.last().is_some_and(|l| l.kind == Kind::Power);
    if exponent || gap.iter().any(|word| REMARKS.contains(&word.as_str())) {
        return Beside::Nothing;
    }
    let tail = words(&lexemes[second.end..]);
    if let Some(meant) = in_units(&gap, &tail, first, second) {
        return Beside::Units(meant);
    }
    let tight = &text[first.bytes.1..second.bytes.0];
    let decimals = &text[second.bytes.0..second.bytes.1];
    if tight == "," && tail.is_empty() && decimals.bytes().all(|b| b.is_ascii_digit()) {
        let written = format!("{}.{decimals}", &text[first.bytes.0..first.bytes.1]);
        if let [
            Lexeme {
                kind: Kind::Number { value, .. },
                ..
            },
        ] = &lex(&written, true)[..]
        {
            return Beside::Perhaps(value.clone());
        }
    }
    if first.value == second.value && found.len() == 2 {
        return Beside::Nothing;
    }
    // "12 or 15", "12 apples and 15 pears", "2, 3", "6 feet 2": nothing but units and a joint.
    let joined = gap.len() <= 3 && tail.len() <= 3;
    match joined || between.iter().any(|l| l.kind == Kind::Mark) && gap.is_empty() {
        true => Beside::Another,
        false => Beside::Perhaps(first.value.clone()),
    }
}

/// The larger unit, the smaller, and how many of these one of those is.
const UNITS: [(&str, &str, i64); 17] = [
    ("week", "day", 7),
    ("day", "hour", 24),
    ("hour", "minute", 60),
    ("hr", "min", 60),
    ("minute", "second", 60),
    ("min", "sec", 60),
    ("year", "month", 12),
    ("feet", "inche", 12),
    ("foot", "inche", 12),
    ("ft", "in", 12),
    ("yard", "feet", 3),
    ("pound", "ounce", 16),
    ("lb", "oz", 16),
    ("dollar", "cent", 100),
    ("meter", "centimeter", 100),
    ("kilometer", "meter", 1000),
    ("kilogram", "gram", 1000),
];

/// "2 hours 30 minutes" in hours and in minutes.
fn in_units(
    gap: &[String],
    tail: &[String],
    first: &Number,
    second: &Number,
) -> Option<Vec<Rational>> {
    let unit = |word: &String| match word.as_str() {
        "inch" => "inche".to_owned(),
        word => word.trim_end_matches('s').to_owned(),
    };
    let large = match gap {
        [large] => unit(large),
        [large, and] if and == "and" => unit(large),
        _ => return None,
    };
    let small = unit(tail.first()?);
    let (.., size) = UNITS.iter().find(|(l, s, _)| *l == large && *s == small)?;
    let size = Rational::integer(*size);
    let total = first.value.times(&size).plus(&second.value);
    Some(vec![total.over(&size)?, total])
}

/// The first number in words, with its sign; "one" only where it is alone.
fn in_words(text: &str) -> Option<(Value, usize, usize)> {
    let all = numerals(text);
    let first = all.first()?;
    let before = text[..first.start].trim_end().to_ascii_lowercase();
    let bare = text.split_whitespace().count() <= 3;
    if first.value == 1 && !bare {
        return None;
    }
    let word = before.rsplit(|c: char| !c.is_alphabetic()).next()?;
    let value = Rational::integer(first.value);
    let value = match word {
        "negative" | "minus" => one(value.negated()),
        _ if COMPUTE.contains(&word) || before.ends_with("half of") => Value::Unread,
        _ if all.len() > 1 && all.iter().any(|n| n.value != first.value) => Value::Several,
        _ => one(value),
    };
    Some((value, first.start, first.end))
}
