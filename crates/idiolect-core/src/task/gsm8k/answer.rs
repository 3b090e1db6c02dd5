//! Finding the final answer of a response, in the forms that people and models close with.
//!
//! By priority: what follows the last `####`; else whichever ends furthest right of "answer is",
//! "final answer", the last closed `\boxed{…}` and the last `<answer>…</answer>`; else the last line
//! `A: …`; else the response itself where it is no more than a number; else the last number of the
//! text. A response that was cut counts only a form that was complete before the cut.

use std::fmt;

use super::super::arithmetic::{Reading, parse};
use super::Answered;
use super::numeral::numerals;
use super::quantity::{Number, numbers};
use super::spelling::plain;
use super::value::{self, Value};
use crate::record::Finish;
use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, Lexeme, lex};
use idiolect_math::rounding;

/// An answer found in a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub(super) value: Value,
    /// As it was written.
    pub(super) written: String,
    /// The form that it was found in.
    pub(super) form: &'static str,
}

/// Whether an answer is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Equal,
    /// In a reading that is not the likeliest.
    Possible,
    Different,
}

impl Found {
    /// Exact comparison.
    pub(super) fn compare(&self, other: &Self) -> Match {
        let (Some(ours), Some(theirs)) = (self.readings(), other.readings()) else {
            return Match::Different;
        };
        let any = |a: &[&Rational], b: &[&Rational]| a.iter().any(|v| b.contains(v));
        if any(&ours.0, &theirs.0) {
            return Match::Equal;
        }
        let all = |(meant, possible): (Vec<_>, Vec<_>)| [meant, possible].concat();
        match any(&all(ours), &all(theirs)) {
            true => Match::Possible,
            false => Match::Different,
        }
    }

    /// Whether one of them is the other rounded or cut at its last digit.
    pub(super) fn is_rounded(&self, other: &Self) -> bool {
        let meant = |found: &Self| match &found.value {
            Value::One { meant, .. } if meant.len() == 1 => meant.first().cloned(),
            _ => None,
        };
        let (Some(ours), Some(theirs)) = (meant(self), meant(other)) else {
            return false;
        };
        rounding::is_rounded(&ours, &self.written, &theirs)
            || rounding::is_rounded(&theirs, &other.written, &ours)
    }

    /// Whether it is one number in one unit.
    pub(super) fn is_single(&self) -> bool {
        matches!(&self.value, Value::One { meant, .. } if meant.len() == 1)
    }

    /// What it is meant as and what it could be; `None` where it is no single number.
    fn readings(&self) -> Option<(Vec<&Rational>, Vec<&Rational>)> {
        match &self.value {
            Value::One { meant, possible } => {
                Some((meant.iter().collect(), possible.iter().collect()))
            }
            Value::Several | Value::Unread => None,
        }
    }
}

impl fmt::Display for Found {
    /// The canonical form: a decimal where it ends, else a fraction in lowest terms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match &self.value {
            Value::One { meant, possible } => meant.first().or(possible.first()),
            Value::Several | Value::Unread => None,
        };
        match number {
            Some(number) => number.fmt(f),
            None => f.write_str(&self.written),
        }
    }
}

/// A text that is one number and nothing else but its unit.
pub fn read_number(text: &str) -> Option<Found> {
    if text.len() > 200 {
        return None;
    }
    let text = plain(text);
    let lexemes = lex(&text, true);
    let mut numbers = numbers(&text, &lexemes);
    let Some(first) = numbers.next() else {
        let [numeral] = numerals(&text)[..] else {
            return None;
        };
        let whole = text.trim_matches(|c: char| !c.is_alphanumeric());
        return (whole.len() == numeral.end - numeral.start).then(|| Found {
            value: value::one(Rational::integer(numeral.value)),
            written: whole.to_owned(),
            form: "the answer itself",
        });
    };
    let before = lexemes[..first.start].iter().all(|l| match l.kind {
        Kind::Currency | Kind::Open | Kind::Plus => true,
        Kind::Mark => matches!(&text[l.start..l.end], "." | "\"" | "“" | "'"),
        Kind::Minus => first.value.is_negative(),
        Kind::Word => introduces_number(&text[l.start..l.end]),
        _ => false,
    });
    let after = lexemes[first.end..].iter().all(|l| {
        matches!(
            l.kind,
            Kind::Word | Kind::Currency | Kind::Percent | Kind::Close | Kind::Mark
        )
    });
    // `5!` may be 120.
    let joyful = text[first.bytes.1..].starts_with('!');
    (before && after && !joyful).then(|| Found {
        value: first.reading(),
        written: text[first.bytes.0..first.bytes.1].to_owned(),
        form: "the answer itself",
    })
}

/// Signs and currencies in words.
fn introduces_number(word: &str) -> bool {
    const WORDS: [&str; 18] = [
        "negative", "minus", "plus", "rs", "inr", "usd", "us", "eur", "gbp", "aud", "cad", "a",
        "c", "hk", "nz", "s", "rmb", "php",
    ];
    WORDS.iter().any(|other| word.eq_ignore_ascii_case(other))
}

/// The final answer of a response.
pub fn extract(text: &str, finish: Finish) -> Option<Found> {
    let cut = finish == Finish::Length;
    if let Some(found) = in_form(text, cut) {
        return Some(found);
    }
    if cut {
        return None;
    }
    itself(text).or_else(|| last(text))
}

/// The answer in a form that states that it is one.
pub(super) fn in_form(text: &str, cut: bool) -> Option<Found> {
    if let Some(found) = after_hashes(text, cut) {
        return Some(found);
    }
    let stated = [stated(text, cut), boxed(text), tagged(text)];
    if let Some((_, found)) = stated.into_iter().flatten().max_by_key(|(end, _)| *end) {
        return Some(found);
    }
    let at = answer_line(text)?;
    statement(text, at, line_end(text, at), cut, "after A:")
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

/// The statement `text[from..to]`. Of a cut text, only where more text follows its number.
fn statement(text: &str, from: usize, to: usize, cut: bool, form: &'static str) -> Option<Found> {
    let read = value::read(&text[from..to])?;
    (!cut || to < text.len() || read.goes_on).then_some(Found {
        value: read.value,
        written: read.written,
        form,
    })
}

/// What follows the last `####` that is no heading: `#### Step 3`, and a number that a sentence
/// follows before more text does.
fn after_hashes(text: &str, cut: bool) -> Option<Found> {
    // Answers close a text; a few headings after one are enough to look past.
    text.rmatch_indices("####")
        .take(8)
        .find_map(|(at, hashes)| {
            let from = at + hashes.len();
            let to = line_end(text, from);
            let line = text[from..to].trim_start_matches('#').trim();
            // `#### x = 18`
            let side = line.rsplit('=').next().unwrap_or(line);
            if line.len() > 200 || !(begins_as_number(line) || begins_as_number(side)) {
                return None;
            }
            let words = line.split_whitespace().count();
            let is_last = text[to..].trim().is_empty();
            let heading = !is_last && (words > 4 || is_numbered(line));
            if heading || words > 12 {
                return None;
            }
            statement(text, from, to, cut, "after ####")
        })
}

/// A text of one line that comes to one number and names no other.
pub(super) fn single(text: &str, form: &'static str) -> Option<Found> {
    let text = text.trim();
    if text.len() > 200 || text.contains('\n') {
        return None;
    }
    let read = value::read(text).filter(|read| read.alone)?;
    let found = Found {
        value: read.value,
        written: read.written,
        form,
    };
    found.is_single().then_some(found)
}

/// The line after the last `####`, whatever it holds.
pub(super) fn hashes_line(text: &str) -> Option<&str> {
    let from = text.rfind("####")? + "####".len();
    Some(&text[from..line_end(text, from)])
}

/// `2. Add the numbers`
fn is_numbered(line: &str) -> bool {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let after = line[digits..].strip_prefix(['.', ')', ':']);
    digits > 0 && after.is_some_and(|rest| rest.trim_start().starts_with(char::is_alphabetic))
}

/// Whether a line opens with a number, its sign or its currency.
fn begins_as_number(line: &str) -> bool {
    let line = plain(line);
    let opens = |kind: &Kind| {
        matches!(
            kind,
            Kind::Currency | Kind::Open | Kind::Minus | Kind::Plus | Kind::Mark
        )
    };
    let lexemes = lex(&line, true);
    let Some(first) = lexemes.iter().find(|l| !opens(&l.kind)) else {
        return false;
    };
    let word = &line[first.start..first.end];
    match first.kind {
        Kind::Number { .. } | Kind::Fraction => true,
        Kind::Unknown => word.starts_with(|c: char| c.is_ascii_digit()),
        Kind::Word => {
            (introduces_number(word) && word.len() > 1)
                || numerals(&line)
                    .first()
                    .is_some_and(|n| n.start == first.start)
        }
        _ => false,
    }
}

fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |i| at + i)
}

/// "answer is 18", "Final Answer: 18", "answer: 18", "my reply is 18": the last that a number follows
/// in its sentence, with the end of that sentence.
fn stated(text: &str, cut: bool) -> Option<(usize, Found)> {
    let mut end = text.len();
    // Earlier statements matter only where later ones name no number; a few are enough.
    for _ in 0..8 {
        let (at, word) = ["answer", "reply is", "response is"]
            .into_iter()
            .filter_map(|word| Some((rfind_ignoring_case(&text[..end], word)?, word)))
            .max()?;
        end = at;
        let after = at + word.len() - if word.ends_with(" is") { "is".len() } else { 0 };
        // "18 (final answer)" states nothing of what follows.
        if text[after..].starts_with(')') {
            continue;
        }
        let Some(from) = statement_start(text, at, after) else {
            continue;
        };
        let to = sentence_end(text, from);
        if let Some(found) = statement(text, from, to, cut, "after \"answer is\"") {
            return Some((to, found));
        }
    }
    None
}

/// Where a statement whose word "answer" is at `at..after` names its value: after "is", ":" or
/// "=", with a few words such as "to this question" between, or on the lines below a heading.
fn statement_start(text: &str, at: usize, after: usize) -> Option<usize> {
    let rest = &text[after..];
    let lead = rest.trim_start_matches(['*', ' ', '_', '"', '”']);
    // `\text{Answer} = 5`
    let lead = match lead.strip_prefix('}').map(str::trim_start) {
        Some(after) if after.starts_with(['=', ':']) => after,
        _ => lead,
    };
    let lead = lead
        .strip_prefix("s ")
        .filter(|l| l.starts_with("are"))
        .unwrap_or(lead);
    let place = |rest: &str| text.len() - rest.len();
    for verb in ["is", "are"] {
        if let Some(rest) = lead.strip_prefix(verb)
            && !rest.starts_with(char::is_alphabetic)
        {
            return Some(place(rest.trim_start_matches([':', '*', ' ', '='])));
        }
    }
    if lead.starts_with([':', '=', '：']) {
        return Some(place(
            lead.trim_start_matches([':', '*', '_', ' ', '=', '：']),
        ));
    }
    // "Final answer (as a number): 18"
    if let Some(remark) = lead.strip_prefix('(')
        && let Some((remark, rest)) = remark.split_once(')')
        && remark.len() <= 60
        && rest.trim_start_matches('*').starts_with(':')
    {
        return Some(place(rest.trim_start_matches(['*', ':', ' '])));
    }
    if lead.starts_with('\n') {
        let line = text[..at].rfind('\n').map_or(0, |i| i + 1);
        let heading = text[line..at].trim_start_matches(['#', '*', '_', ' ']);
        let is_heading = matches!(
            heading.trim().to_ascii_lowercase().as_str(),
            "" | "final" | "the" | "the final"
        );
        return is_heading.then(|| place(lead));
    }
    let window = lead
        .char_indices()
        .nth(40)
        .map_or(lead, |(i, _)| &lead[..i]);
    let is = window.find(" is ").or_else(|| window.find(" is: "))?;
    (!window[..is].contains(['.', '\n', '?', '!'])).then(|| place(&lead[is + " is".len()..]))
}

/// The end of a sentence or line. The line after counts where this one names no number.
fn sentence_end(text: &str, from: usize) -> usize {
    let mut seen = false;
    let mut chars = text[from..].char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let next_is_space = chars.peek().is_none_or(|(_, n)| n.is_whitespace());
        let ends = c == '\n' || (matches!(c, '.' | '!' | '?') && next_is_space);
        if ends && (seen || (i > 0 && !numerals(&text[from..from + i]).is_empty())) {
            // An exclamation mark may be a factorial's.
            return from + i + usize::from(c == '!');
        }
        seen |= c.is_numeric();
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

/// The answer in the last closed `\boxed{…}`, with its end. Boxes that "or", "and" or a comma joins
/// are several answers.
fn boxed(text: &str) -> Option<(usize, Found)> {
    let mut end = text.len();
    for _ in 0..8 {
        let at = text[..end].rfind("\\boxed")?;
        end = at;
        let after = &text[at + "\\boxed".len()..];
        let Some(inside) = after.trim_start_matches(' ').strip_prefix('{') else {
            continue;
        };
        let from = text.len() - inside.len();
        let Some(length) = closing_brace(inside) else {
            continue;
        };
        let to = from + length;
        let mut found = statement(text, from, to, false, "in \\boxed")?;
        if joins_a_box(&text[..at]) {
            found.value = Value::Several;
        }
        return Some((to, found));
    }
    None
}

/// Whether a text ends in a box and a word that joins it to the next.
fn joins_a_box(before: &str) -> bool {
    let before = before.trim_end_matches([' ', '$']);
    let joined = ["or", "and", ","]
        .iter()
        .find_map(|word| before.strip_suffix(word));
    joined.is_some_and(|rest| {
        let rest = rest.trim_end_matches([' ', '$', ',']);
        rest.ends_with('}')
            && rest
                .rfind("\\boxed")
                .is_some_and(|at| rest.len() - at < 200)
    })
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

/// The answer in the last complete `<answer>…</answer>`, with its end.
fn tagged(text: &str) -> Option<(usize, Found)> {
    let end = text.rfind("</answer>")?;
    let from = text[..end].rfind("<answer>")? + "<answer>".len();
    let inside = &text[from..end];
    let found = match inside.len() <= 200 {
        true => statement(text, from, end, false, "in <answer>")?,
        false => Found {
            form: "in <answer>",
            ..last(inside)?
        },
    };
    Some((end, found))
}

/// Where the last line `A: …` has its answer.
fn answer_line(text: &str) -> Option<usize> {
    let start = text
        .rfind("\nA:")
        .map(|i| i + 1)
        .or(text.starts_with("A:").then_some(0))?;
    Some(start + 2)
}

/// A response that is a number, sum or choice of numbers and no more.
fn itself(text: &str) -> Option<Found> {
    let text = text.trim();
    let bare = text.len() <= 80
        && !text.contains('\n')
        && text.split_whitespace().count() <= 6
        && begins_as_number(text);
    bare.then(|| statement(text, 0, text.len(), false, "the answer itself"))?
}

/// What denies a number that was named before.
const DENIALS: [&str; 5] = [
    ", not ",
    " (not ",
    ", and not",
    " rather than",
    " instead of",
];

/// The last number of a text.
fn last(text: &str) -> Option<Found> {
    let is_digit = |c: char| c.is_numeric();
    let found = |value, written: &str| {
        Some(Found {
            value,
            written: written.to_owned(),
            form: "the last number",
        })
    };
    let end = text.rfind(is_digit);
    let in_digits = end.and_then(|at| in_sentence(sentence(text, at)));
    // The last sentence may name it in words.
    let tail = text.trim_end();
    let closing = sentence(tail, tail.len());
    if let Some(numeral) = numerals(closing).last()
        && match closing.rfind(is_digit) {
            None => true,
            Some(digit) => digit < numeral.start && is_blank(&closing[numeral.end..]),
        }
        && (is_blank(&closing[numeral.end..])
            || !closing[numeral.start..]
                .to_ascii_lowercase()
                .starts_with("one"))
    {
        let possible = match in_digits.map(|(value, _)| value) {
            Some(Value::One { meant, .. }) => meant,
            _ => Vec::new(),
        };
        let meant = vec![Rational::integer(numeral.value)];
        let value = Value::One { meant, possible };
        return found(value, &closing[numeral.start..numeral.end]);
    }
    let (value, written) = in_digits?;
    found(value, &written)
}

fn is_blank(text: &str) -> bool {
    !text.contains(char::is_alphanumeric)
}

/// The sentence around a place, without the bullet of its line.
fn sentence(text: &str, at: usize) -> &str {
    let before = &text[..at];
    let line = before.rfind('\n').map_or(0, |i| i + 1);
    let start = [". ", "! ", "? "]
        .iter()
        .filter_map(|stop| before[line..].trim_end().rfind(stop))
        .max()
        .map_or(line, |i| line + i + 2);
    let end = line_end(text, at);
    let end = text[at..end].find(". ").map_or(end, |i| at + i);
    let sentence = &text[start..end];
    let bullet = ["- ", "* ", "• "]
        .iter()
        .find_map(|mark| sentence.trim_start().strip_prefix(mark));
    bullet.unwrap_or(sentence)
}

/// What the last number of a sentence comes to, and the number as written.
fn in_sentence(sentence: &str) -> Option<(Value, String)> {
    // The end of a long line is enough, and bounds the work.
    let mut from = sentence.len().saturating_sub(2000);
    while !sentence.is_char_boundary(from) {
        from += 1;
    }
    let text = plain(&sentence[from..]);
    let denied = DENIALS
        .iter()
        .filter_map(|denial| text.find(denial))
        .filter(|at| text[..*at].contains(|c: char| c.is_ascii_digit()))
        .min();
    let text = &text[..denied.unwrap_or(text.len())];
    let lexemes = lex(text, true);
    // The 3 of `cm^3` counts nothing.
    let is_exponent = |n: &Number| {
        n.start >= 2
            && lexemes[n.start - 1].kind == Kind::Power
            && lexemes[n.start - 2].kind == Kind::Word
    };
    let found: Vec<Number> = numbers(text, &lexemes)
        .filter(|n| !is_exponent(n))
        .collect();
    let last = found.last()?;
    let written = text[last.bytes.0..last.bytes.1].to_owned();
    if value::computes(text, &lexemes[..last.start]) {
        return Some((Value::Unread, text.trim().to_owned()));
    }
    if let Some(value) = quotient(&lexemes[..last.end], last.start) {
        return Some((value::one(value), written));
    }
    let Some(before) = found.len().checked_sub(2).map(|i| &found[i]) else {
        return Some((last.reading(), written));
    };
    let word = |l: &Lexeme| (l.kind == Kind::Word).then(|| text[l.start..l.end].to_lowercase());
    let between = &lexemes[before.end..last.start];
    let is = |l: Option<&Lexeme>, words: &[&str]| {
        l.and_then(word)
            .is_some_and(|w| words.contains(&w.as_str()))
    };
    let opener = before.start.checked_sub(1).map(|i| &lexemes[i]);
    let range = is(between.last(), &["and"]) && is(opener, &["between"]);
    let choice = is(between.last(), &["or"]) && between.len() <= 4;
    if (choice || range) && before.value != last.value {
        let written = &text[before.bytes.0..last.bytes.1];
        return Some((Value::Several, written.to_owned()));
    }
    // "earns $1600 in 1 day" states how long it takes; the question may ask for it.
    let in_time = is(between.last(), &TIME_PREPOSITIONS)
        && is(lexemes.get(last.end), &TIME_UNITS)
        && lexemes[last.end + 1..].iter().all(|l| l.kind == Kind::Mark);
    if in_time && let Value::One { meant, .. } = before.reading() {
        let value = Value::One {
            meant,
            possible: vec![last.value.clone()],
        };
        return Some((value, text[before.bytes.0..before.bytes.1].to_owned()));
    }
    Some((last.reading(), written))
}

const TIME_PREPOSITIONS: [&str; 7] = ["in", "per", "within", "after", "over", "for", "every"];
const TIME_UNITS: [&str; 14] = [
    "second", "seconds", "minute", "minutes", "hour", "hours", "day", "days", "week", "weeks",
    "month", "months", "year", "years",
];

/// The value of a quotient that ends in the number at `at`: `3 / 4`, `(-3)/4`.
fn quotient(lexemes: &[Lexeme], at: usize) -> Option<Rational> {
    if lexemes.get(at.checked_sub(1)?)?.kind != Kind::Divide {
        return None;
    }
    let first = lexemes.len().saturating_sub(16);
    (first..at).find_map(|start| {
        let begins = matches!(
            lexemes[start].kind,
            Kind::Number { .. } | Kind::Open | Kind::Minus | Kind::Currency
        );
        let parsed = begins.then(|| {
            let reading = Reading {
                units: true,
                percent_is_hundredth: false,
            };
            parse(&lexemes[start..], reading)
        })??;
        (parsed.length == lexemes.len() - start).then_some(parsed.value.ok())?
    })
}
