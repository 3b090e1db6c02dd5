//! Words in answers: prose, times, dates, choices, and what a remark may state.

use super::number_words::{TENS, UNITS};
use super::tree::{Constant, Tree};
use super::unit;
use crate::rational::Rational;

/// Text in lower case with single spaces, without LaTeX that only shapes it.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut space = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                // A command's name goes, its argument stays.
                let mut any = false;
                while chars.peek().is_some_and(char::is_ascii_alphabetic) {
                    chars.next();
                    any = true;
                }
                if !any {
                    chars.next();
                }
                space = true;
            }
            '{' | '}' | '$' => {}
            _ if c.is_whitespace() || c == '~' => space = true,
            _ => {
                if space && !out.is_empty() {
                    out.push(' ');
                }
                space = false;
                out.extend(c.to_lowercase());
            }
        }
    }
    if space && !out.is_empty() {
        out.push(' ');
    }
    out
}

/// Whether a run of letters after a number is a unit rather than variables. One letter may be
/// either, so it must stand apart.
pub(crate) fn is_unit(word: &str, spaced: bool) -> bool {
    match word.len() {
        1 => {
            spaced
                && matches!(
                    word,
                    "m" | "g" | "s" | "h" | "l" | "L" | "N" | "J" | "W" | "K" | "V"
                )
        }
        _ => {
            unit::named(word).is_some()
                || matches!(
                    word,
                    "mph"
                        | "kph"
                        | "kmh"
                        | "mbperhour"
                        | "Hz"
                        | "kHz"
                        | "eV"
                        | "rpm"
                        | "sq"
                        | "cc"
                        | "th"
                        | "st"
                        | "nd"
                        | "rd"
                        | "mol"
                        | "Pa"
                        | "kPa"
                        | "rad"
                        | "deg"
                        | "pm"
                        | "am"
                        | "cu"
                        | "pts"
                        | "qt"
                        | "gal"
                        | "kmph"
                )
        }
    }
}

/// Commands that only set type, size or space: the same words with and without them.
const SHAPES: [&str; 41] = [
    "text",
    "textbf",
    "textit",
    "textnormal",
    "textrm",
    "textsf",
    "texttt",
    "textup",
    "textsc",
    "emph",
    "mbox",
    "hbox",
    "mathrm",
    "mathbf",
    "mathit",
    "mathsf",
    "mathtt",
    "operatorname",
    "boldsymbol",
    "bm",
    "rm",
    "bf",
    "it",
    "sf",
    "tt",
    "displaystyle",
    "textstyle",
    "quad",
    "qquad",
    "left",
    "right",
    "big",
    "Big",
    "bigl",
    "bigr",
    "large",
    "Large",
    "small",
    "normalsize",
    "boxed",
    "space",
];

/// The words, numbers and signs of a text in their order, in lower case: what two texts must share to
/// be the same words. Only what states nothing is left out: type, space, quotation marks, the
/// hyphen in a word, full stops after words, a leading article and a bracket around everything.
pub(crate) fn sequence(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' => {
                let name = rest[1..]
                    .bytes()
                    .take_while(u8::is_ascii_alphabetic)
                    .count();
                let next = rest[1..].chars().next();
                match (name, next) {
                    (0, Some(' ' | ',' | ';' | ':' | '!' | '$' | '(' | ')' | '[' | ']')) => 2,
                    (0, Some(c)) => {
                        found.push(c.to_string());
                        1 + c.len_utf8()
                    }
                    (0, None) => 1,
                    _ => {
                        let command = &rest[1..=name];
                        if !SHAPES.contains(&command) {
                            found.push(format!("\\{command}"));
                        }
                        1 + name
                    }
                }
            }
            _ if c.is_alphabetic() => {
                let mut word = String::new();
                let mut length = 0;
                let mut chars = rest.chars().peekable();
                while let Some(c) = chars.next() {
                    let joined = matches!(c, '\'' | '’')
                        && !word.is_empty()
                        && chars.peek().is_some_and(|n| n.is_alphabetic());
                    if !(c.is_alphabetic() || joined) {
                        break;
                    }
                    length += c.len_utf8();
                    if !joined {
                        word.extend(c.to_lowercase());
                    }
                }
                found.push(word);
                length
            }
            '0'..='9' => {
                let bytes = rest.as_bytes();
                let mut length = 0;
                while bytes.get(length).is_some_and(|b| {
                    b.is_ascii_digit()
                        || (matches!(b, b'.' | b',')
                            && bytes.get(length + 1).is_some_and(u8::is_ascii_digit))
                }) {
                    length += 1;
                }
                found.push(rest[..length].to_owned());
                length
            }
            _ => {
                let after = rest[c.len_utf8()..].chars().next();
                let in_word = before.is_alphabetic() && after.is_some_and(char::is_alphabetic);
                let silent = c.is_whitespace()
                    || matches!(c, '{' | '}' | '$' | '~' | '"' | '“' | '”' | '`' | '‘')
                    || (matches!(c, '-' | '‐' | '‑') && in_word)
                    || (matches!(c, '.' | '!' | '?') && before.is_alphabetic());
                if !silent {
                    found.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        before = rest[..length].chars().next_back().unwrap_or(' ');
        rest = &rest[length..];
    }
    while found
        .last()
        .is_some_and(|t| matches!(t.as_str(), "," | ";" | ":" | "." | "。"))
    {
        found.pop();
    }
    let bracketed = |found: &[String]| {
        matches!(found, [open, inside @ .., close]
            if open == "(" && close == ")" && inside.iter().all(|t| is_word(t)))
    };
    if bracketed(&found) {
        found.pop();
        found.remove(0);
    }
    while found.len() > 1
        && matches!(found[0].as_str(), "the" | "an" | "a")
        && found[1].chars().count() > 1
        && is_word(&found[1])
    {
        found.remove(0);
    }
    found
}

fn is_word(token: &str) -> bool {
    token.chars().all(char::is_alphabetic)
}

/// What a number word, or several, come to: "three", "twenty-five", "two thirds", "one and a half",
/// "minus five", "two dozen".
pub(crate) fn number(text: &str) -> Option<Rational> {
    let tokens = sequence(text);
    let mut words: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let negative = words.len() > 1 && matches!(words[0], "minus" | "negative");
    if negative {
        words.remove(0);
    }
    let value = unsigned_number(&words)?;
    Some(if negative { value.negated() } else { value })
}

fn unsigned_number(words: &[&str]) -> Option<Rational> {
    if words.is_empty() || words.len() > 16 {
        return None;
    }
    if let Some(whole) = cardinal(words) {
        return Some(whole);
    }
    let (last, before) = words.split_last()?;
    let part = part(last)?;
    // "one and a half", "two and three quarters"
    if let Some(at) = before.iter().position(|w| *w == "and")
        && at > 0
    {
        let whole = cardinal(&before[..at])?;
        let count = match &before[at + 1..] {
            [] | ["a" | "one"] => Rational::integer(1),
            several => cardinal(several)?,
        };
        return Some(whole.plus(&count.times(&part)));
    }
    match before {
        // An ordinal alone may be a place in a row: only these are certainly parts.
        [] if matches!(*last, "half" | "quarter") => Some(part),
        [] => None,
        ["a" | "one"] => Some(part),
        several => Some(cardinal(several)?.times(&part)),
    }
}

/// "half", "thirds", "quarter": one of so many parts.
fn part(word: &str) -> Option<Rational> {
    let one = word.strip_suffix('s').unwrap_or(word);
    let parts = match one {
        "half" | "halve" => 2,
        "third" => 3,
        "quarter" | "fourth" => 4,
        "fifth" => 5,
        "sixth" => 6,
        "seventh" => 7,
        "eighth" => 8,
        "ninth" => 9,
        "tenth" => 10,
        "eleventh" => 11,
        "twelfth" => 12,
        "hundredth" => 100,
        "thousandth" => 1000,
        _ => return None,
    };
    Rational::ratio(1, parts)
}

/// Whole numbers in words, with "and", "hundred", "dozen" and so on.
fn cardinal(words: &[&str]) -> Option<Rational> {
    let (mut total, mut group, mut seen) = (0i64, 0i64, false);
    let mut last = i64::MAX;
    for (i, word) in words.iter().enumerate() {
        if *word == "and" && seen && i + 1 < words.len() {
            last = last.max(100);
            continue;
        }
        if *word == "a" && i == 0 && words.len() > 1 && scale(words[1]).is_some() {
            group = 1;
            seen = true;
            continue;
        }
        if let Some(small) = small(word) {
            // "twenty five", never "five twenty" or "three four".
            let fits = match last {
                20..=90 => small < 10 && small > 0,
                _ => last >= 100,
            };
            if !fits {
                return None;
            }
            group += small;
            last = small;
        } else {
            let scale = scale(word)?;
            if !seen {
                return None;
            }
            match scale {
                100 | 12 => group = group.checked_mul(scale)?,
                _ => {
                    total = total.checked_add(group.checked_mul(scale)?)?;
                    group = 0;
                }
            }
            last = 100;
        }
        seen = true;
    }
    seen.then(|| total.checked_add(group).map(Rational::integer))?
}

fn small(word: &str) -> Option<i64> {
    if let Some(n) = UNITS.iter().position(|w| *w == word) {
        return Some(n as i64);
    }
    TENS.iter()
        .position(|w| *w == word)
        .map(|n| 20 + 10 * n as i64)
}

/// What a word such as "million" multiplies a number before it by.
pub(crate) fn scale(word: &str) -> Option<i64> {
    Some(match word {
        "dozen" | "dozens" => 12,
        "hundred" | "hundreds" => 100,
        "thousand" | "thousands" => 1000,
        "million" | "millions" => 1_000_000,
        "billion" | "billions" => 1_000_000_000,
        "trillion" | "trillions" => 1_000_000_000_000,
        _ => return None,
    })
}

/// Whether words beside a number may change its value: operators, numbers, parts, comparisons,
/// negations, and verbs, with which they state something of their own.
pub(crate) fn changes_value(words: &[String]) -> bool {
    words.iter().any(|word| {
        let word = word.as_str();
        !(word.chars().all(char::is_alphabetic)
            || matches!(word, "(" | ")" | "," | "." | "°c" | "°f"))
            || small(word).is_some()
            || scale(word).is_some()
            || part(word).is_some()
            || matches!(
                word,
                "plus"
                    | "minus"
                    | "negative"
                    | "times"
                    | "over"
                    | "divided"
                    | "multiplied"
                    | "double"
                    | "doubled"
                    | "twice"
                    | "triple"
                    | "tripled"
                    | "thrice"
                    | "squared"
                    | "cubed"
                    | "root"
                    | "power"
                    | "mod"
                    | "modulo"
                    | "choose"
                    | "factorial"
                    | "pi"
                    | "than"
                    | "least"
                    | "most"
                    | "not"
                    | "no"
                    | "none"
                    | "never"
                    | "neither"
                    | "except"
                    | "without"
                    | "between"
                    | "until"
                    | "infinity"
                    | "infinite"
                    | "base"
                    | "percent"
                    | "pct"
                    | "percentage"
                    | "is"
                    | "are"
                    | "was"
                    | "were"
                    | "has"
                    | "have"
                    | "equals"
                    | "makes"
                    | "gives"
                    | "but"
                    | "wrong"
                    | "incorrect"
            )
    })
}

/// Whether words before a value only announce it: "The answer is", "Answer:", "therefore".
pub(crate) fn announces(words: &[String]) -> bool {
    let Some(last) = words.last() else {
        return true;
    };
    let announced = matches!(
        last.as_str(),
        "is" | "are"
            | "be"
            | "was"
            | "equals"
            | "gives"
            | "get"
            | "got"
            | "answer"
            | "ans"
            | "result"
            | "approximately"
            | "about"
            | "exactly"
            | "therefore"
            | "thus"
            | "hence"
            | "so"
            | "only"
            | "just"
            | "simply"
            | "roughly"
            | "total"
            | "option"
            | "choice"
            | ":"
            | "="
    );
    // The verb that announces is no verb of another statement.
    let before: Vec<String> = words[..words.len() - 1]
        .iter()
        .filter(|w| {
            !matches!(
                w.as_str(),
                "is" | "are" | "have" | "has" | "base" | "," | ":" | "percentage"
            )
        })
        .cloned()
        .collect();
    announced && !changes_value(&before)
}

/// Words that represent a mathematical object.
pub(crate) fn meaning(text: &str) -> Option<Tree> {
    if let Some(value) = number(text) {
        return Some(Tree::exact(value));
    }
    let tokens = sequence(text);
    Some(match tokens.join(" ").as_str() {
        "infinity" | "positive infinity" | "plus infinity" | "infinite" | "infinitely many" => {
            Tree::Constant(Constant::Infinity)
        }
        "negative infinity" | "minus infinity" => {
            Tree::Negative(Box::new(Tree::Constant(Constant::Infinity)))
        }
        "no solution"
        | "no solutions"
        | "no real solution"
        | "no real solutions"
        | "no solution exists"
        | "no solutions exist"
        | "there is no solution"
        | "there are no solutions"
        | "there is no real solution"
        | "there are no real solutions"
        | "empty set"
        | "null set" => Tree::Set(Vec::new()),
        "all real numbers"
        | "all reals"
        | "all real"
        | "real numbers"
        | "reals"
        | "set of all real numbers"
        | "set of real numbers" => Tree::Symbol("ℝ".to_owned()),
        _ => return None,
    })
}

/// Short names of things that are counted.
const THINGS: [&str; 34] = [
    "boy", "cat", "dog", "cow", "hen", "pig", "bee", "ant", "fox", "owl", "box", "bag", "jar",
    "cup", "pot", "pan", "pen", "key", "hat", "cap", "car", "bus", "van", "toy", "egg", "nut",
    "pie", "bun", "man", "kid", "bed", "rug", "tie", "map",
];

/// Whether a word is prose rather than a product of variables. Short words are only where they
/// stand apart.
pub(crate) fn is_prose(word: &str, apart: bool) -> bool {
    let short = apart
        && matches!(
            word,
            "is" | "it"
                | "of"
                | "to"
                | "the"
                | "are"
                | "for"
                | "if"
                | "per"
                | "all"
                | "no"
                | "not"
                | "yes"
                | "one"
                | "two"
                | "any"
                | "so"
                | "as"
                | "at"
                | "by"
                | "be"
                | "has"
                | "was"
                | "when"
                | "The"
                | "No"
                | "Yes"
                | "It"
                | "If"
                | "None"
                | "can"
                | "men"
                | "odd"
                | "six"
                | "ten"
                | "red"
                | "but"
                | "may"
                | "May"
                | "My"
                | "my"
                | "We"
                | "we"
                | "He"
                | "he"
                | "She"
                | "she"
                | "its"
                | "Its"
                | "our"
                | "got"
                | "get"
                | "Ans"
                | "ans"
                | "So"
                | "via"
                | "in"
                | "In"
                | "on"
                | "On"
                | "an"
                | "An"
                | "you"
                | "One"
                | "Two"
                | "Six"
                | "Ten"
                | "who"
        );
    let short = short || (apart && THINGS.contains(&word));
    let tail_is_lower = word.bytes().skip(1).all(|b| b.is_ascii_lowercase());
    short || (word.len() >= 4 && tail_is_lower)
}

/// A time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Seconds after midnight.
    pub(crate) seconds: u32,
    /// Whether the half of the day is known: "p.m." is by it, or the hour is above 12 or
    /// written with a leading 0.
    pub(crate) half_known: bool,
}

/// `7:30`, `20:34:00`, `8:34 p.m.`: the time and its length in bytes. Without seconds or a part of
/// the day it is a time only with two-digit minutes that begin with 0, or from 13:00 on, so that
/// ratios such as 3:25 stay ratios.
pub(crate) fn time(text: &str) -> Option<(Clock, usize)> {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let hours = digits(text);
    if hours == 0 || hours > 2 || !text[hours..].starts_with(':') {
        return None;
    }
    let mut at = hours + 1;
    if digits(&text[at..]) != 2 {
        return None;
    }
    let hour: u32 = text[..hours].parse().ok()?;
    let minute: u32 = text[at..at + 2].parse().ok()?;
    at += 2;
    let mut second = 0;
    let mut sure = false;
    if text[at..].starts_with(':') {
        if digits(&text[at + 1..]) != 2 {
            return None;
        }
        second = text[at + 1..at + 3].parse().ok()?;
        at += 3;
        sure = true;
    }
    if minute > 59 || second > 59 {
        return None;
    }
    let window: String = text[at..].chars().take(24).collect();
    if let Some(clock) = on_clock(hour, &plain(&window)) {
        // Past the command that sets it, whose name may hold an m.
        let tail = text[at..].to_ascii_lowercase();
        let from = match tail.find('{') {
            Some(brace) if tail[..brace].contains('\\') => brace,
            _ => 0,
        };
        at += tail[from..].find('m').map_or(0, |i| from + i + 1);
        // The dot of "p.m." and the brace of \text{…}.
        while text[at..].starts_with(['.', '}']) {
            at += 1;
        }
        let seconds = clock.seconds + minute * 60 + second;
        return Some((Clock { seconds, ..clock }, at));
    }
    if !(sure || text[hours + 1..].starts_with('0') || (13..24).contains(&hour)) || hour > 23 {
        return None;
    }
    let half_known = hour > 12 || text.starts_with('0');
    let seconds = hour * 3600 + minute * 60 + second;
    Some((
        Clock {
            seconds,
            half_known,
        },
        at,
    ))
}

/// The full hour of "9 a.m.", given the number and what follows it.
pub(crate) fn on_clock(hour: u32, after: &str) -> Option<Clock> {
    let mut letters = after.chars().filter(|c| c.is_alphanumeric());
    let pair: String = letters.by_ref().take(2).collect();
    let shift = match pair.to_ascii_lowercase().as_str() {
        "am" => 0,
        "pm" => 12,
        _ => return None,
    };
    // "7:30 among" is no time of day.
    let word = after
        .trim_start()
        .split(|c: char| c.is_whitespace())
        .next()
        .unwrap_or_default();
    let short = word.chars().filter(|c| c.is_alphanumeric()).count() <= 2;
    (short && (1..=12).contains(&hour)).then_some(Clock {
        seconds: (hour % 12 + shift) * 3600,
        half_known: true,
    })
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// "October 30", "30 October 2020", "Oct. 30th, 2020": month, day, year.
pub(crate) fn date(text: &str) -> Option<(u8, u8, Option<i32>)> {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    if text.len() > 40 || letters < 3 {
        return None;
    }
    let (mut month, mut numbers) = (None, Vec::new());
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
    {
        let lower = word.to_lowercase();
        let is_month = |m: &str| m == lower || (lower.len() >= 3 && m.starts_with(&lower));
        if let Some(index) = MONTHS.iter().position(|m| is_month(m)) {
            if month.replace(index as u8 + 1).is_some() {
                return None;
            }
            continue;
        }
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &lower[digits.len()..];
        if digits.is_empty() || !matches!(suffix, "" | "st" | "nd" | "rd" | "th") {
            return None;
        }
        numbers.push(digits.parse::<i32>().ok()?);
    }
    let month = month?;
    let (day, year) = match numbers[..] {
        [day] => (day, None),
        [a, b] if a <= 31 => (a, Some(b)),
        [a, b] => (b, Some(a)),
        _ => return None,
    };
    let day = u8::try_from(day).ok().filter(|d| (1..=31).contains(d))?;
    Some((month, day, year))
}

/// The letter of a multiple-choice answer: `(C)`, `C.`, `\text{(C)}`, `C) 12`, `(D) Alina`.
pub(crate) fn choice(text: &str) -> Option<char> {
    let text = plain_case(text.trim());
    let mut bare = text.as_str();
    for word in [
        "option ", "Option ", "choice ", "Choice ", "option: ", "Option: ",
    ] {
        bare = bare.strip_prefix(word).map_or(bare, str::trim_start);
    }
    let mut chars = bare.chars();
    let first = chars.next()?;
    let (letter, rest, framed) = if first == '(' || first == '[' {
        let letter = chars.next()?;
        let close = chars.next()?;
        if !matches!(close, ')' | ']') {
            return None;
        }
        (letter, chars.as_str().to_owned(), true)
    } else {
        (first, chars.as_str().to_owned(), false)
    };
    if !letter.is_ascii_alphabetic() || !matches!(letter.to_ascii_uppercase(), 'A'..='J') {
        return None;
    }
    let rest = rest.trim_start();
    let ends = rest.is_empty()
        || is_aside(rest)
        || (framed && !rest.starts_with(|c: char| "+-*/^_=<>,".contains(c)))
        || rest.starts_with([')', '.', ':', '。'])
            && rest.chars().nth(1).is_none_or(|c| c.is_whitespace())
        || rest.starts_with("),");
    (ends && (letter.is_ascii_uppercase() || framed || rest.is_empty()))
        .then(|| letter.to_ascii_uppercase())
}

/// Whether a text is a bracket that holds words and no letter of choice: "(see above)".
fn is_aside(text: &str) -> bool {
    let inside = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    inside.is_some_and(|inside| {
        let words = sequence(inside);
        !words.is_empty() && words.iter().all(|w| w.chars().count() > 2) && !changes_value(&words)
    })
}

/// The letter that a sentence chooses: the first that is alone, or the last after "it's",
/// "is" or "answer".
pub(crate) fn choice_in(text: &str) -> Option<char> {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|w| !w.is_empty())
        .collect();
    if words.len() < 3 || text.len() > 2000 || text.contains(['=', '\\', '^']) {
        return None;
    }
    let letter = |w: &&str| {
        let c = w.chars().next()?;
        (w.len() == 1 && matches!(c, 'A'..='J')).then_some(c)
    };
    // `A,B,C,D`
    if words.iter().all(|w| w.len() == 1) {
        return None;
    }
    let after_is = words.windows(2).rev().find_map(|pair| {
        let says = matches!(
            pair[0].to_ascii_lowercase().as_str(),
            "it's" | "is" | "answer" | "choose" | "option"
        );
        letter(&pair[1]).filter(|_| says)
    });
    let chosen = leading(text)
        .or(after_is)
        .or_else(|| words.iter().filter(|w| **w != "A").find_map(letter))?;
    // "B and C" chooses both.
    let both = words.windows(3).any(|three| {
        let ends = [letter(&three[0]), letter(&three[2])];
        matches!(three[1], "and" | "or") && ends.contains(&Some(chosen)) && !ends.contains(&None)
    });
    (!both).then_some(chosen)
}

/// The letter that opens a sentence and is told from another: "A), not C", "A, not C".
fn leading(text: &str) -> Option<char> {
    let text = text.trim_start_matches(['(', '[', '*']);
    let letter = text.chars().next().filter(|c| matches!(c, 'A'..='J'))?;
    let rest = &text[1..];
    let after = rest.trim_start_matches([')', ']', ',', ';', '*', ' ']);
    (after.len() < rest.len() && after.starts_with("not ")).then_some(letter)
}

/// As [`plain`], with the case kept.
fn plain_case(text: &str) -> String {
    let mut out = text.to_owned();
    for command in [
        "\\text", "\\textbf", "\\mathrm", "\\mbox", "\\mathbf", "\\textit",
    ] {
        if out.contains(command) {
            out = out.replace(&format!("{command}{{"), "{");
        }
    }
    out.retain(|c| !matches!(c, '{' | '}' | '$'));
    out.trim().to_owned()
}
