//! Finding the final number of a response, in the forms that people and models close with.
//!
//! By priority: what follows the last `####`; else whichever ends furthest right of "answer is",
//! "final answer", the last closed `\boxed{…}` and the last `<answer>…</answer>`; else the last line
//! `A: …`; else the last number of the text. A response that was cut counts only a form that was
//! complete before the cut.

use std::fmt;

use super::super::lexeme::{Kind, Lexeme, lex};
use super::super::rational::Rational;
use super::Answered;
use crate::record::Finish;

/// A number found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its exact value.
    pub value: Rational,
    /// The value with "thousand", "million" or "billion" applied, where one follows.
    pub scaled: Option<Rational>,
    /// As it was written.
    pub written: String,
    /// The form that it was found in, in words.
    pub form: &'static str,
}

impl Found {
    /// Exact equality. "5 million" equals 5,000,000, and also 5, since a gold answer may count in
    /// millions.
    pub fn equals(&self, other: &Self) -> bool {
        let values = |f: &Self| [Some(f.value.clone()), f.scaled.clone()];
        let theirs = values(other);
        values(self)
            .iter()
            .flatten()
            .any(|v| theirs.iter().flatten().any(|w| v == w))
    }
}

impl fmt::Display for Found {
    /// The canonical form: a decimal where it ends, else a fraction in lowest terms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.scaled.as_ref().unwrap_or(&self.value).fmt(f)
    }
}

/// A text that is one number and nothing else but its unit.
pub fn read_number(text: &str) -> Option<Found> {
    if text.len() > 200 {
        return None;
    }
    let lexemes = lex(text, true);
    let mut numbers = numbers(text, &lexemes);
    let first = numbers.next()?;
    let negative = first.value.is_negative();
    let before = lexemes[..first.start].iter().all(|l| match l.kind {
        Kind::Currency | Kind::Open => true,
        Kind::Minus => negative,
        _ => false,
    });
    let after = lexemes[first.end..].iter().all(|l| {
        matches!(
            l.kind,
            Kind::Word | Kind::Currency | Kind::Percent | Kind::Close | Kind::Mark
        )
    });
    (before && after).then(|| first.found(text, "the answer itself"))
}

/// The final number of a response.
pub fn extract(text: &str, finish: Finish) -> Option<Found> {
    let cut = finish == Finish::Length;
    if let Some(found) = after_hashes(text, cut) {
        return Some(found);
    }
    let stated = [stated(text, cut), boxed(text), tagged(text)];
    if let Some((_, found)) = stated.into_iter().flatten().max_by_key(|(end, _)| *end) {
        return Some(found);
    }
    if let Some(at) = answer_line(text) {
        return first_number(text, at, line_end(text, at), cut, "after A:");
    }
    if cut {
        return None;
    }
    let lexemes = lex(text, true);
    numbers(text, &lexemes)
        .last()
        .map(|n| n.found(text, "the last number"))
}

/// How far a text has come with its answer.
pub(super) fn answered(text: &str) -> Answered {
    let closed = || {
        after_hashes(text, false).is_some()
            || boxed(text).is_some()
            || tagged(text).is_some()
            || rfind_ignoring_case(text, "final answer")
                .is_some_and(|at| stated(&text[at..], false).is_some())
    };
    match extract(text, Finish::Stop) {
        None => Answered::Nothing,
        Some(_) if closed() => Answered::Closed,
        Some(_) if stated(text, false).is_some() || answer_line(text).is_some() => Answered::Stated,
        Some(_) => Answered::Loosely,
    }
}

/// Whether a part of a text is the answer rather than a step.
pub(super) fn is_answer(part: &str, _after_bar: bool) -> bool {
    part.starts_with("####") || part.starts_with("A:") || part.starts_with("<answer>")
}

/// The number right after the last `####` that one follows. `#### Step 3` is a heading, and so is a
/// number that more than a unit follows.
fn after_hashes(text: &str, cut: bool) -> Option<Found> {
    // Answers close a text; a few headings after one are enough to look past.
    text.rmatch_indices("####")
        .take(8)
        .find_map(|(at, hashes)| {
            let from = at + hashes.len();
            let to = line_end(text, from);
            let line = text[from..to].trim();
            let found = first_number(text, from, to, cut, "after ####")?;
            let first = line.find(|c: char| c.is_alphanumeric())?;
            let words = line.split_whitespace().count();
            (line[first..].starts_with(|c: char| c.is_ascii_digit() || c == '.') && words <= 4)
                .then_some(found)
        })
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |i| at + i)
}

/// The first number of `text[from..to]`, after the last `=` there. Of a cut text, only where more
/// text follows the number.
fn first_number(
    text: &str,
    from: usize,
    to: usize,
    cut: bool,
    form: &'static str,
) -> Option<Found> {
    let part = &text[from..to];
    let part = &part[part.rfind('=').map_or(0, |i| i + 1)..];
    let lexemes = lex(part, true);
    let number = numbers(part, &lexemes).next()?;
    let end = lexemes[number.end - 1].end;
    let complete = !cut || to < text.len() || !part[end..].trim_matches(['.', ',', ' ']).is_empty();
    complete.then(|| number.found(part, form))
}

/// "answer is 18", "Final Answer: 18", "answer: 18": the last that a number follows in its
/// sentence, with the end of that sentence.
fn stated(text: &str, cut: bool) -> Option<(usize, Found)> {
    let mut end = text.len();
    // Earlier statements matter only where later ones name no number; a few are enough.
    for _ in 0..8 {
        let at = rfind_ignoring_case(&text[..end], "answer")?;
        end = at;
        let after = &text[at + "answer".len()..];
        let Some(from) = statement(after).map(|i| text.len() - after.len() + i) else {
            continue;
        };
        let to = sentence_end(text, from);
        if let Some(found) = first_number(text, from, to, cut, "after \"answer is\"") {
            return Some((to, found));
        }
    }
    None
}

/// Where a statement that begins after the word "answer" names its value: after "is", ":" or "=",
/// with a few words such as "to this question" between.
fn statement(after: &str) -> Option<usize> {
    let lead = after.trim_start_matches(['*', ' ', '_']);
    let at = after.len() - lead.len();
    if lead.starts_with("is") || lead.starts_with([':', '=']) {
        return Some(at);
    }
    let window = lead
        .char_indices()
        .nth(40)
        .map_or(lead, |(i, _)| &lead[..i]);
    let is = window.find(" is ")?;
    (!window[..is].contains(['.', '\n', '?', '!'])).then_some(at + is)
}

/// The end of a sentence or line. The line after counts where this one ends in a colon.
fn sentence_end(text: &str, from: usize) -> usize {
    let mut seen = false;
    let mut chars = text[from..].char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let next_is_space = chars.peek().is_none_or(|(_, n)| n.is_whitespace());
        if (c == '\n' && seen) || (c == '.' && next_is_space && seen) {
            return from + i;
        }
        seen |= c.is_ascii_digit();
        // A statement without a number within 300 bytes states none.
        if i > 300 {
            return from + i;
        }
    }
    text.len()
}

fn rfind_ignoring_case(text: &str, word: &str) -> Option<usize> {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    (0..=text.len().checked_sub(word.len())?)
        .rev()
        .find(|i| text[*i..*i + word.len()].eq_ignore_ascii_case(word))
}

/// The number in the last closed `\boxed{…}`, with its end.
fn boxed(text: &str) -> Option<(usize, Found)> {
    let mut end = text.len();
    for _ in 0..8 {
        let at = text[..end].rfind("\\boxed{")?;
        end = at;
        let from = at + "\\boxed{".len();
        if let Some(length) = closing_brace(&text[from..]) {
            let found = last_value(&text[from..from + length], "in \\boxed")?;
            return Some((from + length, found));
        }
    }
    None
}

/// Bytes before the brace that closes a group.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, b) in text.bytes().enumerate().take(1000) {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(i),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The number in the last complete `<answer>…</answer>`, with its end.
fn tagged(text: &str) -> Option<(usize, Found)> {
    let end = text.rfind("</answer>")?;
    let from = text[..end].rfind("<answer>")? + "<answer>".len();
    Some((end, last_value(&text[from..end], "in <answer>")?))
}

/// The number that a short text comes down to: its first after its last `=`.
fn last_value(text: &str, form: &'static str) -> Option<Found> {
    first_number(text, 0, text.len(), false, form)
}

/// Where the last line `A: …` has its answer.
fn answer_line(text: &str) -> Option<usize> {
    let start = text
        .rfind("\nA:")
        .map(|i| i + 1)
        .or(text.starts_with("A:").then_some(0))?;
    Some(start + 2)
}

/// A number among lexemes: indices, end exclusive.
struct Number {
    start: usize,
    end: usize,
    value: Rational,
    scaled: Option<Rational>,
    bytes: (usize, usize),
}

impl Number {
    fn found(self, text: &str, form: &'static str) -> Found {
        let written = text[self.bytes.0..self.bytes.1].to_owned();
        Found {
            value: self.value,
            scaled: self.scaled,
            written,
            form,
        }
    }
}

/// The numbers of a text, left to right.
fn numbers<'a>(text: &'a str, lexemes: &'a [Lexeme]) -> impl Iterator<Item = Number> + 'a {
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
    let negative = is_negative(lexemes, start);
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
        Some("thousand") => Some(1_000),
        Some("million") => Some(1_000_000),
        Some("billion") => Some(1_000_000_000),
        _ => None,
    };
    if negative {
        value = value.negated();
    }
    let scaled = scale.map(|s| value.times(&Rational::integer(s)));
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

/// Whether a minus that touches the number (a currency sign may stand between) is its sign: nothing
/// it could be subtracted from, and no hyphenated word, stands before.
fn is_negative(lexemes: &[Lexeme], start: usize) -> bool {
    let mut next = start;
    let mut before = start.checked_sub(1);
    if let Some(i) = before
        && lexemes[i].kind == Kind::Currency
        && lexemes[i].end == lexemes[next].start
    {
        (next, before) = (i, i.checked_sub(1));
    }
    let Some(minus) = before else { return false };
    if lexemes[minus].kind != Kind::Minus || lexemes[minus].end != lexemes[next].start {
        return false;
    }
    match minus.checked_sub(1).map(|i| &lexemes[i]) {
        None => true,
        Some(l) => match l.kind {
            Kind::Number { .. } | Kind::Close | Kind::Unknown | Kind::Percent => false,
            Kind::Word => l.end < lexemes[minus].start,
            _ => true,
        },
    }
}
