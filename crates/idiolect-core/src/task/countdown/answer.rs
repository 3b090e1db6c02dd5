//! From a response to a verdict: finding the answer, reading it, using each number exactly once.

use super::super::arithmetic::{Parsed, Reading, parse};
use crate::record::Finish;
use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, Lexeme, lex};

/// The longest answer that is read, in bytes; sixty-four numbers fit in it.
const MAX_BYTES: usize = 4096;

/// The answer in a response: the content of the last complete `<answer>…</answer>`; only where there
/// is none, what follows a final `| ans`. A response that was cut has the second form only by
/// accident, so it does not count there.
pub(super) fn extract(text: &str, finish: Finish) -> Option<&str> {
    if let Some(tagged) = last_tag(text) {
        return Some(tagged);
    }
    if finish == Finish::Length {
        return None;
    }
    let (_, last) = text.rsplit_once('|')?;
    let answer = last.trim_start().strip_prefix("ans")?;
    answer.starts_with([' ', '\t', '(']).then(|| answer.trim())
}

/// The content of the last complete tag.
fn last_tag(text: &str) -> Option<&str> {
    let before = &text[..text.rfind("</answer>")?];
    let open = before.rfind("<answer>")?;
    Some(&before[open + "<answer>".len()..])
}

/// Whether a part of a text is the answer rather than a step.
pub(super) fn is_answer(part: &str, after_bar: bool) -> bool {
    let part = part.trim_start_matches(['*', '`', '#', ' ']);
    part.starts_with("<answer>") || (after_bar && part.starts_with("ans"))
}

/// An answer that reads as an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// ASCII, one space around each binary operator.
    pub(super) canonical: String,
    /// The numbers it is made of, in order, as written.
    pub(super) literals: Vec<(String, Rational)>,
    /// Its value, or why it has none.
    pub(super) value: Result<Rational, &'static str>,
    /// The first thing in it that is not allowed.
    pub(super) forbidden: Option<&'static str>,
    /// What it states it equals, each time it states so.
    pub(super) stated: Vec<Rational>,
}

/// Reads an answer; `None` where it is no expression.
pub(super) fn read(candidate: &str) -> Option<Answer> {
    if candidate.len() > MAX_BYTES {
        return None;
    }
    let text = &unlabelled(candidate);
    let mut lexemes: Vec<Lexeme> = lex(text, false);
    lexemes.retain(|l| l.kind != Kind::Currency);
    drop_closing_marks(text, &mut lexemes);
    let (mut lexemes, stated) = split_stated_values(&lexemes)?;
    drop_closing_marks(text, &mut lexemes);
    drop_outer_braces(text, &mut lexemes);
    let parsed = parse(
        &lexemes,
        Reading {
            units: false,
            percent_is_hundredth: false,
        },
    )?;
    if parsed.length != lexemes.len() {
        return None;
    }
    Some(Answer {
        canonical: canonical(text, &lexemes),
        literals: literals(text, &lexemes),
        forbidden: forbidden(text, &lexemes, &parsed),
        value: parsed.value,
        stated,
    })
}

/// Drops full stops, commas and check marks from the end.
fn drop_closing_marks(text: &str, lexemes: &mut Vec<Lexeme>) {
    while let Some(last) = lexemes.last()
        && last.kind == Kind::Mark
        && matches!(
            &text[last.start..last.end],
            "." | "," | ";" | "✅" | "✓" | "✔"
        )
    {
        lexemes.pop();
    }
}

/// The expression among the sides of an equation, and the numbers that it is stated to equal: `3 * 7 -
/// 2 = 19`, `19 = 3 * 7 - 2`. `None` where two sides compute.
fn split_stated_values(lexemes: &[Lexeme]) -> Option<(Vec<Lexeme>, Vec<Rational>)> {
    let sides: Vec<&[Lexeme]> = lexemes.split(|l| l.kind == Kind::Equals).collect();
    let number = |side: &[Lexeme]| match side {
        [
            Lexeme {
                kind: Kind::Number { value, .. },
                ..
            },
        ] => Some(value.clone()),
        [
            sign,
            Lexeme {
                kind: Kind::Number { value, .. },
                ..
            },
        ] if sign.kind == Kind::Minus => Some(value.negated()),
        _ => None,
    };
    let computing = sides.iter().position(|side| number(side).is_none());
    let expression = computing.unwrap_or(0);
    let mut stated = Vec::with_capacity(sides.len() - 1);
    for (index, side) in sides.iter().enumerate() {
        if index != expression {
            stated.push(number(side)?);
        }
    }
    Some((sides[expression].to_vec(), stated))
}

/// An answer without what only presents it: a fence, quotes, and a label or name in front, as in
/// `Answer: …`, `result = …`, `The expression is …`.
fn unlabelled(candidate: &str) -> String {
    let mut text = candidate.trim();
    if let Some(fenced) = text.strip_prefix("```") {
        let tag = fenced
            .find(|c: char| !c.is_ascii_alphanumeric())
            .filter(|end| fenced[..*end].contains(|c: char| c.is_ascii_alphabetic()));
        text = fenced[tag.unwrap_or(0)..].trim().trim_end_matches('`');
    }
    let quotes = ['"', '\'', '“', '”', '‘', '’'];
    text = text.trim_matches(|c: char| quotes.contains(&c) || c.is_whitespace());
    // `\text{Answer: }`
    let opened = text.trim_start_matches(['$', ' ']);
    if let Some(inside) = opened.strip_prefix("\\text{")
        && let Some((label, rest)) = inside.split_once('}')
        && !label.contains(|c: char| c.is_numeric() || "+-*/".contains(c))
    {
        text = rest;
    }
    let is_label = |c: char| c.is_alphabetic() || matches!(c, ' ' | '_' | ':' | '*' | '$');
    let end = text.find(|c| !is_label(c)).unwrap_or(text.len());
    let label = text[..end].trim_end_matches([' ', '*']);
    let named = text[end..].strip_prefix('=');
    // More words are a sentence of the working.
    if label.split_whitespace().count() > 4 {
        return text.to_owned();
    }
    match named {
        Some(rest) if label.contains(char::is_alphabetic) => rest.to_owned(),
        _ if label.ends_with(':') || label.ends_with(" is") => text[end..].to_owned(),
        _ => text.to_owned(),
    }
}

/// `\boxed{…}` leaves its braces behind.
fn drop_outer_braces(text: &str, lexemes: &mut Vec<Lexeme>) {
    let brace = |l: Option<&Lexeme>, c| l.is_some_and(|l| text[l.start..].starts_with(c));
    if brace(lexemes.first(), '{') && brace(lexemes.last(), '}') {
        lexemes.pop();
        lexemes.remove(0);
    }
}

fn literals(text: &str, lexemes: &[Lexeme]) -> Vec<(String, Rational)> {
    lexemes
        .iter()
        .filter_map(|l| match &l.kind {
            Kind::Number { value, .. } => Some((ascii(&text[l.start..l.end]), value.clone())),
            _ => None,
        })
        .collect()
}

/// What the parser noted, or a number that is not written as a plain integer.
fn forbidden(text: &str, lexemes: &[Lexeme], parsed: &Parsed) -> Option<&'static str> {
    parsed.forbidden.or_else(|| {
        lexemes.iter().find_map(|l| {
            let literal =
                matches!(l.kind, Kind::Number { .. }).then(|| ascii(&text[l.start..l.end]))?;
            if !literal.bytes().all(|b| b.is_ascii_digit()) {
                Some("a number in other than plain digits")
            } else if literal.len() > 1 && literal.starts_with('0') {
                Some("a leading zero")
            } else {
                None
            }
        })
    })
}

/// Full-width digits as ASCII.
fn ascii(literal: &str) -> String {
    literal
        .chars()
        .map(|c| match c {
            '０'..='９' => char::from(b'0' + (c as u32 - '０' as u32) as u8),
            _ => c,
        })
        .collect()
}

/// The expression in `+ - * / ( )` and what else was written, with the writer's own parentheses.
fn canonical(text: &str, lexemes: &[Lexeme]) -> String {
    /// Which bracket a closing one closes.
    #[derive(Clone, Copy)]
    enum Bracket {
        Plain,
        Above,
        Below,
    }
    let mut pieces: Vec<String> = Vec::with_capacity(lexemes.len());
    let mut open: Vec<(Bracket, usize)> = Vec::new();
    let mut next = Bracket::Plain;
    for l in lexemes {
        let piece = match l.kind {
            Kind::Open => {
                open.push((next, pieces.len()));
                next = Bracket::Plain;
                "("
            }
            Kind::Close => {
                let (bracket, start) = open.pop().unwrap_or((Bracket::Plain, 0));
                // A single number above or below a fraction bar needs no parentheses.
                if pieces.len() == start + 2 && !matches!(bracket, Bracket::Plain) {
                    pieces.remove(start);
                } else {
                    pieces.push(")".to_owned());
                }
                match bracket {
                    Bracket::Plain => {}
                    Bracket::Above => {
                        pieces.push("/".to_owned());
                        next = Bracket::Below;
                    }
                    Bracket::Below => pieces.push(")".to_owned()),
                }
                continue;
            }
            Kind::Fraction => {
                next = Bracket::Above;
                "("
            }
            Kind::Plus => "+",
            Kind::Minus => "-",
            Kind::Times => "*",
            Kind::Divide => "/",
            Kind::FloorDivide => "//",
            Kind::Power => "**",
            Kind::Percent => "%",
            _ => {
                pieces.push(ascii(&text[l.start..l.end]));
                continue;
            }
        };
        pieces.push(piece.to_owned());
    }
    spaced(&pieces)
}

/// Pieces joined with a space on both sides of binary operators.
fn spaced(pieces: &[String]) -> String {
    let mut out = String::new();
    let mut after_operand = false;
    for piece in pieces {
        let operator = matches!(piece.as_str(), "+" | "-" | "*" | "/" | "//" | "**");
        if operator && after_operand {
            out.push(' ');
            out.push_str(piece);
            out.push(' ');
        } else {
            out.push_str(piece);
        }
        after_operand = !operator && piece != "(";
    }
    out
}

/// What is wrong with an answer to a problem, as text; nothing where it is right.
pub(super) fn faults(answer: &Answer, numbers: &[i64], target: i64) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(what) = answer.forbidden {
        faults.push(format!("has {what}, which is not allowed"));
    }
    faults.extend(misuse(answer, numbers));
    let target = Rational::integer(target);
    match &answer.value {
        // The forbidden operators state it already.
        Err(_) if answer.forbidden.is_some() => {}
        Err(why) => faults.push(format!("has {why}")),
        Ok(value) if *value != target => {
            faults.push(format!("gives {}, not {target}", brief(value)));
        }
        Ok(_) => {}
    }
    if let Some(stated) = answer.stated.iter().find(|stated| **stated != target) {
        faults.push(format!(
            "states that it equals {}, not {target}",
            brief(stated)
        ));
    }
    faults
}

/// A number short enough for a reason.
fn brief(value: &Rational) -> String {
    let shown = value.to_string();
    if shown.len() <= 60 {
        shown
    } else {
        format!("a number of {} characters", shown.len())
    }
}

/// Numbers used too often, not given, or left over.
fn misuse(answer: &Answer, numbers: &[i64]) -> Vec<String> {
    let mut given: Vec<(i64, usize)> = Vec::new();
    for n in numbers {
        match given.iter_mut().find(|(m, _)| m == n) {
            Some((_, count)) => *count += 1,
            None => given.push((*n, 1)),
        }
    }
    let mut used: Vec<(&str, Option<i64>, usize)> = Vec::new();
    for (text, value) in &answer.literals {
        let value = value.to_i64().filter(|v| given.iter().any(|(m, _)| m == v));
        let same = |u: &&mut (&str, Option<i64>, usize)| match value {
            Some(_) => u.1 == value,
            None => u.0 == text,
        };
        match used.iter_mut().find(same) {
            Some((_, _, count)) => *count += 1,
            None => used.push((text, value, 1)),
        }
    }
    let mut found = Vec::new();
    for (text, value, count) in &used {
        match value.and_then(|v| given.iter().find(|(m, _)| *m == v)) {
            None => found.push(format!("uses {text}, which is not given")),
            Some((n, there)) if count > there => found.push(format!(
                "uses {n} {}, given {}",
                times(*count),
                times(*there)
            )),
            Some(_) => {}
        }
    }
    for (n, there) in &given {
        let count = used.iter().find(|u| u.1 == Some(*n)).map_or(0, |u| u.2);
        match there.saturating_sub(count) {
            0 => {}
            1 => found.push(format!("leaves {n} unused")),
            left => found.push(format!("leaves {n} unused {}", times(left))),
        }
    }
    // A long list of misused numbers states no more than its beginning.
    let more = found.len().saturating_sub(6);
    found.truncate(6);
    if more > 0 {
        found.push(format!("and {more} more of the kind"));
    }
    found
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}
