//! What the variables of a text represent, where it states so plainly: `x = 5`, `Let n = 3 + 4.`, and
//! lines of code such as `total = price * 3`.
//!
//! A letter is carried through prose, a longer name through lines of code only, where nothing but
//! names, numbers and operators is. Whatever is not plain (a condition, a second meaning, an
//! unknown on the right) makes the name unknown again: a value that is carried wrongly would call
//! right steps false.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::arithmetic::{Reading, parse};
use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, lex};

/// More variables than this are not kept.
const MAX_VARIABLES: usize = 256;
/// Longer parts of a text define nothing.
const MAX_PART: usize = 500;

/// Values by name.
#[derive(Default)]
pub(super) struct Variables {
    known: BTreeMap<String, Rational>,
}

impl Variables {
    /// A part of the text with the known variables replaced by their values, where they are used.
    pub(super) fn fill<'a>(&self, part: &'a str) -> Cow<'a, str> {
        if self.known.is_empty() || part.len() > MAX_PART {
            return Cow::Borrowed(part);
        }
        let code = code_line(part).is_some();
        let mut filled = String::new();
        let mut copied = 0;
        for (start, name) in names(part) {
            let end = start + name.len();
            let value = match self.known.get(name) {
                Some(value) if code || is_letter(name) => value,
                _ => continue,
            };
            if is_defined_at(part, start, end) || is_times(part, start, end) {
                continue;
            }
            filled.push_str(&part[copied..start]);
            filled.push_str(&format!("({value})"));
            copied = end;
        }
        if copied == 0 {
            return Cow::Borrowed(part);
        }
        filled.push_str(&part[copied..]);
        Cow::Owned(filled)
    }

    /// Takes in what a part of the text states of its variables.
    pub(super) fn learn(&mut self, part: &str) {
        if part.len() > MAX_PART {
            return;
        }
        if let Some((name, right)) = code_line(part) {
            let right = right.split('=').next().unwrap_or_default();
            let value = self.value(right, |rest| rest.is_empty());
            return self.set(name, value);
        }
        let hypothetical = HYPOTHETICAL
            .iter()
            .any(|word| names(part).any(|(_, name)| name.eq_ignore_ascii_case(word)));
        for (start, name) in names(part) {
            let end = start + name.len();
            if !is_letter(name) || !is_defined_at(part, start, end) {
                continue;
            }
            let after = part[end..].trim_start();
            let right = after.strip_prefix('=').unwrap_or_default();
            let (right, more) = match right.find('=') {
                Some(next) => (&right[..next], true),
                None => (right, false),
            };
            let value = self.value(right, |rest| {
                // `x = 5, y = 6` and `x = 5 and y = 6` go on with another name.
                more && rest.trim_end().ends_with(|c: char| c.is_ascii_alphabetic())
            });
            self.set(name, value.filter(|_| !hypothetical));
        }
    }

    fn set(&mut self, name: &str, value: Option<Rational>) {
        match value {
            Some(value) if self.known.len() < MAX_VARIABLES => {
                self.known.insert(name.to_owned(), value);
            }
            _ => {
                self.known.remove(name);
            }
        }
    }

    /// The value of an expression that is alone or before what `may_follow` allows.
    fn value(&self, text: &str, may_follow: impl Fn(&str) -> bool) -> Option<Rational> {
        let filled = self.fill(text);
        let lexemes = lex(&filled, true);
        let reading = Reading {
            units: false,
            percent_is_hundredth: true,
        };
        let parsed = parse(&lexemes, reading)?;
        let rest = &lexemes[parsed.length..];
        let marks = rest
            .iter()
            .take_while(|l| matches!(l.kind, Kind::Mark | Kind::Close | Kind::Currency))
            .count();
        let alone = match rest.get(marks) {
            None => true,
            Some(word) => {
                let follows = filled[word.start..].trim_start_matches("and ").trim_start();
                follows.trim_end().len() <= 1 && may_follow(&filled)
            }
        };
        parsed.value.ok().filter(|_| alone)
    }
}

/// Words that make an equation a question or a condition.
const HYPOTHETICAL: [&str; 14] = [
    "if", "suppose", "assume", "assuming", "guess", "try", "when", "whether", "or", "not", "for",
    "case", "either", "maybe",
];

fn is_letter(name: &str) -> bool {
    // The lexer reads these three as words.
    name.len() == 1 && !matches!(name, "a" | "A" | "I")
}

/// The names in a text, each with its place. Part of a number, a LaTeX command, an attribute or a
/// call is none.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let bytes = text.as_bytes();
    let joins = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || !b.is_ascii();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            if !joins(bytes[at]) {
                at += 1;
                continue;
            }
            while at < bytes.len() && joins(bytes[at]) {
                at += 1;
            }
            let before = start.checked_sub(1).map(|i| bytes[i]);
            let after = bytes.get(at).copied();
            let begins = bytes[start].is_ascii_alphabetic() || bytes[start] == b'_';
            let part_of =
                matches!(before, Some(b'\\' | b'.' | b'\'')) || matches!(after, Some(b'\'' | b'('));
            if begins && !part_of && text[start..at].is_ascii() {
                return Some((start, &text[start..at]));
            }
        }
        None
    })
}

/// Whether a name is what an equation defines: it is before `=`, and before it, back to the
/// last equation or comma, there are words only.
fn is_defined_at(text: &str, start: usize, end: usize) -> bool {
    let after = text[end..].trim_start();
    if !after.starts_with('=') || after.starts_with("==") {
        return false;
    }
    let since = text[..start]
        .rfind(['=', ',', ';', ':', '(', '$'])
        .map_or(0, |i| i + 1);
    let before = text[since..start].trim_end_matches(['`', '*', ' ', '\\']);
    before
        .chars()
        .all(|c| c.is_alphabetic() || matches!(c, ' ' | '`' | '*' | '-' | '>' | '#' | '\''))
}

/// `3 x 4`: the letter is a sign of multiplication.
fn is_times(text: &str, start: usize, end: usize) -> bool {
    let number = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || "()$.".contains(c));
    matches!(&text[start..end], "x" | "X")
        && number(text[..start].trim_end().chars().next_back())
        && number(text[end..].trim_start().chars().next())
}

/// `NAME = …` with nothing but names, numbers and operators after it; a comment does not count.
fn code_line(part: &str) -> Option<(&str, &str)> {
    let part = part.split(" #").next().unwrap_or_default().trim();
    let end = part.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
    let (name, rest) = part.split_at(end);
    let right = rest.trim_start().strip_prefix('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || " _.+-*/()=".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // Two words side by side are prose.
    let prose = right
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == ' '))
        .any(|run| run.split_whitespace().count() > 1);
    (begins && !right.starts_with('=') && right.chars().all(plain) && !prose)
        .then_some((name, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the last part becomes once the parts before it were read.
    fn filled(parts: &[&str]) -> String {
        let (last, first) = parts.split_last().unwrap();
        let mut variables = Variables::default();
        for part in first {
            variables.learn(part);
        }
        variables.fill(last).into_owned()
    }

    #[test]
    fn plain_values_are_carried() {
        for parts in [
            &["x = 5", "x + 3 = 8"][..],
            &["Let x = 2 + 3.", "x + 3 = 8"],
            &["So $x = 5$.", "x + 3 = 8"],
            &["x = 10/2 = 5", "x + 3 = 8"],
            &["y = 2, x = 5", "x + 3 = 8"],
            &["x = 5 and y = 6", "x + 3 = 8"],
            &["y = 4", "x = y + 1", "x + 3 = 8"],
            &["x = 7", "Now x = 5", "x + 3 = 8"],
        ] {
            assert_eq!(filled(parts), "(5) + 3 = 8", "{parts:?}");
        }
        assert_eq!(
            filled(&[
                "white_fiber = 1",
                "blue = 2  # bolts",
                "total = blue + white_fiber = 3"
            ]),
            "total = (2) + (1) = 3"
        );
        assert_eq!(filled(&["n = 1/2", "6 * n = 3"]), "6 * (0.5) = 3");
    }

    #[test]
    fn what_is_not_plain_is_not_carried() {
        for parts in [
            &["If x = 5, we are done", "x + 3 = 8"][..],
            &["x = 5 or x = -5", "x + 3 = 8"],
            &["x = 5", "x = 10 - y", "x + 3 = 8"],
            &["2 + x = 5", "x + 3 = 8"],
            &["x = 5 is too small", "x + 3 = 8"],
            &["x == 5", "x + 3 = 8"],
            &["x = 5", "Suppose x = 6", "x + 3 = 8"],
        ] {
            assert_eq!(filled(parts), "x + 3 = 8", "{parts:?}");
        }
        // A name that is defined, a part of another name, a call, a sign of multiplication.
        for last in [
            "x = 3 + 6 = 9",
            "2x + \\x + max_x = 1",
            "f'x = x(2)",
            "3 x 4 = 12",
            "Maria's x-ray",
        ] {
            let carried = filled(&["x = 5", last]);
            assert!(
                !carried.contains("3 (5) 4") && !carried.starts_with("(5) ="),
                "{carried}"
            );
        }
        // Longer names are carried in code only.
        assert_eq!(
            filled(&["total = 8", "The total cost = 15"]),
            "The total cost = 15"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(parts in proptest::collection::vec("[xyn=+*/(), .0-9a-dé'#_$-]{0,20}", 0..6)) {
            let mut variables = Variables::default();
            for part in &parts {
                variables.fill(part);
                variables.learn(part);
            }
        }
    }
}
