//! Two answers as they are written: spelling first, then what they mean, in each way they can be
//! read.

use std::cell::OnceCell;

use super::equal::{Decision, Outcome, compare, different, equal, undecided};
use super::evaluate::constant;
use super::parse::{Parsed, parse};
use super::spelling::{key, normal};
use super::token::{Commas, T, cut};
use super::tree::Tree;
use super::{groups, unit, words};

/// Longer answers are not read as expressions.
const MAX_BYTES: usize = 5000;

/// An answer in its normal spelling, and its ways to be read.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// See [`normal`].
    pub(crate) text: String,
    key: String,
    /// The likeliest reading first; empty where it cannot be read. Read when asked for.
    readings: OnceCell<Vec<Tree>>,
    /// The reading in which a comma between digits is a decimal point, or one of India's groups.
    decimal_comma: OnceCell<Option<Tree>>,
}

impl Answer {
    pub(crate) fn of(text: &str) -> Self {
        let text = normal(text);
        Self {
            key: key(&text),
            readings: OnceCell::new(),
            decimal_comma: OnceCell::new(),
            text,
        }
    }

    pub(crate) fn readings(&self) -> &[Tree] {
        self.readings.get_or_init(|| readings(&self.text))
    }

    /// What it states if its commas are decimal points, where that is possible.
    fn decimal_comma(&self) -> Option<&Tree> {
        let read = || {
            let text = groups::indian(&self.text).or_else(|| decimal_commas(&self.text))?;
            readings(&text).into_iter().next()
        };
        self.decimal_comma.get_or_init(read).as_ref()
    }

    /// Whether there is anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// Whether it could be read as mathematics or words.
    pub(crate) fn is_readable(&self) -> bool {
        !self.readings().is_empty()
    }

    /// Whether it is an answer and nothing else: no prose around a number or formula.
    pub(crate) fn is_bare(&self) -> bool {
        self.readings().first().is_some_and(|tree| match tree {
            Tree::Text(text) => {
                !text.contains(|c: char| c.is_numeric()) || is_short_expression(text)
            }
            Tree::Unread(..) => self.text.split_whitespace().count() <= 6,
            tree => !mixes_words(tree),
        })
    }

    /// Whether it is a value, or a choice, and nothing else.
    pub(crate) fn is_value(&self) -> bool {
        let letter = words::choice(&self.text).is_some();
        letter || (self.is_bare() && !self.is_text())
    }

    /// Whether it is words.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.readings().first(), Some(Tree::Text(_)))
    }

    /// Whether it is a sentence rather than an answer in words.
    pub(crate) fn is_remark(&self) -> bool {
        let words = self.text.split_whitespace().count();
        self.is_text() && (words > 5 || self.text.starts_with("I "))
    }
}

/// Whether an answer is the gold answer.
pub(crate) fn equivalent(gold: &Answer, answer: &Answer) -> Decision {
    if gold.key == answer.key {
        return equal("the same text");
    }
    if let Some(decision) = choices(gold, answer) {
        return decision;
    }
    let (g, a) = (connectives(&gold.text), connectives(&answer.text));
    if g != a && !g.is_empty() && !a.is_empty() {
        return undecided("`and` in one, `or` in the other");
    }
    let unread = !(gold.is_readable() || answer.is_readable());
    if unread || gold.is_text() || answer.is_text() {
        let (g, a) = (words::sequence(&gold.text), words::sequence(&answer.text));
        if g == a && !g.is_empty() {
            return equal("the same words");
        }
    }
    if let Some(decision) = dollars_and_cents(gold, answer) {
        return decision;
    }
    let mut first: Option<Decision> = None;
    for (i, g) in gold.readings().iter().enumerate() {
        for (j, a) in answer.readings().iter().enumerate() {
            // `100,100` is read as two numbers only beside several.
            if (i > 0 && is_several(g) && !is_several(a))
                || (j > 0 && is_several(a) && !is_several(g))
            {
                continue;
            }
            let decision = compare(g, a);
            match decision.outcome {
                Outcome::Equal => return decision,
                Outcome::Rounded => first = Some(decision),
                _ => {
                    first.get_or_insert(decision);
                }
            }
        }
    }
    with_glued_unit(gold, answer)
        .or_else(|| with_decimal_comma(gold, answer))
        .or(first)
        .unwrap_or_else(|| different("the texts differ"))
}

/// `\$12` beside `12\text{ cents}`.
fn dollars_and_cents(gold: &Answer, answer: &Answer) -> Option<Decision> {
    let counted = |side: &Answer| match side.readings().first()? {
        Tree::Quantity(_, name) => unit::of(name).filter(unit::Unit::is_money),
        _ => None,
    };
    let dollars = |side: &Answer| {
        let tree = side
            .readings()
            .first()
            .filter(|tree| tree.is_expression())?;
        let signed = side.text.contains("\\$") && counted(side).is_none();
        signed.then(|| Tree::Quantity(Box::new(tree.clone()), "dollars".to_owned()))
    };
    if counted(answer).is_some() {
        return Some(compare(&dollars(gold)?, answer.readings().first()?));
    }
    counted(gold)?;
    Some(compare(gold.readings().first()?, &dollars(answer)?))
}

/// `159h` beside 159 hours: a letter that touches the number is a unit where it measures what the gold
/// counts.
fn with_glued_unit(gold: &Answer, answer: &Answer) -> Option<Decision> {
    let counted = gold.readings().iter().find_map(|tree| match tree {
        Tree::Quantity(_, name) => unit::of(name),
        _ => None,
    })?;
    let text = &answer.text;
    let digits = text.find(|c: char| c.is_ascii_digit())?;
    let at = digits + text[digits..].find(char::is_alphabetic)?;
    let word: String = text[at..]
        .chars()
        .take_while(|c| c.is_alphabetic())
        .collect();
    let measures = unit::of(&word.to_lowercase()).is_some_and(|unit| unit.is_like(&counted));
    if !(measures && word.len() == 1 && text[..at].ends_with(|c: char| c.is_ascii_digit())) {
        return None;
    }
    let (number, more) = (&text[..at], &text[at + word.len()..]);
    let apart = Answer::of(&format!("{number} {}{more}", word.to_lowercase()));
    let mut decisions = gold
        .readings()
        .iter()
        .flat_map(|g| apart.readings().iter().map(|a| compare(g, a)));
    decisions.find(|d| matches!(d.outcome, Outcome::Equal | Outcome::Rounded))
}

/// `3,5` as an answer to 3.5: a gold that is written with a point, or with neither, leaves no other
/// reading. As a gold it may be two numbers.
fn with_decimal_comma(gold: &Answer, answer: &Answer) -> Option<Decision> {
    if !has_digit_comma(&gold.text)
        && let Some(a) = answer.decimal_comma()
    {
        let decisions = gold.readings().iter().map(|g| compare(g, a));
        let mut near = decisions.filter(|d| matches!(d.outcome, Outcome::Equal | Outcome::Rounded));
        return near.next().map(|d| Decision {
            reason: format!("with a decimal comma: {}", d.reason),
            ..d
        });
    }
    if !has_digit_comma(&answer.text)
        && let Some(g) = gold.decimal_comma()
    {
        let mut decisions = answer.readings().iter().map(|a| compare(g, a));
        return decisions
            .any(|d| matches!(d.outcome, Outcome::Equal | Outcome::Rounded))
            .then(|| undecided("the comma of the gold may be a decimal point"));
    }
    None
}

/// Whether a comma without a space is between digits.
fn has_digit_comma(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    (1..bytes.len())
        .any(|i| bytes[i] == b',' && digit(i - 1) && digit(i + 1) && !digit_pair(bytes, i))
}

/// Whether a comma at `at` parts the numbers of a pair that is written in brackets: `(1,2)`.
fn digit_pair(bytes: &[u8], at: usize) -> bool {
    let open = bytes[..at].iter().filter(|b| b"([".contains(b)).count();
    let close = bytes[..at].iter().filter(|b| b")]".contains(b)).count();
    open > close
}

/// The text with commas between digits as points: `3,5`, `2{,}5`, `1.234,56`. `None` where it has
/// none, or where three digits after it make it a thousands separator.
fn decimal_commas(text: &str) -> Option<String> {
    if !text.contains(',') || text.len() > 200 {
        return None;
    }
    let text = text.replace("{,}", ",");
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    // In brackets a comma parts the members of a pair, unless a semicolon does.
    let in_pair = |at: usize| digit_pair(bytes, at) && !text.contains(';');
    let mut from = 0;
    while from < bytes.len() {
        if !digit(from) {
            let length = text[from..].chars().next().map_or(1, char::len_utf8);
            out.push_str(&text[from..from + length]);
            from += length;
            continue;
        }
        let run = (from..).take_while(|i| {
            digit(*i) || (matches!(bytes.get(*i), Some(b'.' | b',')) && digit(i + 1))
        });
        let to = from + run.count();
        let number = &text[from..to];
        match number.split_once(',') {
            Some((whole, decimals)) if !decimals.contains([',', '.']) => {
                let groups: Vec<&str> = whole.split('.').collect();
                let grouped = groups.len() > 1 && groups[1..].iter().all(|g| g.len() == 3);
                let thousands =
                    decimals.len() == 3 && !grouped && !whole.trim_start_matches('0').is_empty();
                if thousands || (groups.len() > 1 && !grouped) || in_pair(from + whole.len()) {
                    return None;
                }
                out.push_str(&groups.concat());
                out.push('.');
                out.push_str(decimals);
                found = true;
            }
            Some(_) => return None,
            None => out.push_str(number),
        }
        from = to;
    }
    // Commas that part numbers elsewhere part them here too.
    (found && !out.contains(',')).then_some(out)
}

/// The signs of logic in a text, ∧ and ∨, which part answers beside each other alike.
fn connectives(text: &str) -> Vec<char> {
    let marks = [
        ("\\wedge", '∧'),
        ("\\land", '∧'),
        ("∧", '∧'),
        ("\\vee", '∨'),
        ("\\lor", '∨'),
        ("∨", '∨'),
    ];
    let mut found: Vec<(usize, char)> = marks
        .iter()
        .flat_map(|(mark, sign)| text.match_indices(mark).map(|(at, _)| (at, *sign)))
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, sign)| sign).collect()
}

/// Whether few words do something to a number: "half of 12", "twice 7".
fn is_short_expression(text: &str) -> bool {
    let words: Vec<String> = text
        .split(' ')
        .filter(|w| w.chars().all(char::is_alphabetic))
        .filter(|w| {
            !matches!(
                *w,
                "is" | "are" | "was" | "were" | "has" | "have" | "but" | "no"
            )
        })
        .map(str::to_owned)
        .collect();
    words.len() <= 5 && words::changes_value(&words)
}

fn is_several(tree: &Tree) -> bool {
    matches!(
        tree,
        Tree::List(_) | Tree::Set(_) | Tree::Bracketed { .. } | Tree::Matrix(_)
    )
}

/// Whether words stand inside a formula.
fn mixes_words(tree: &Tree) -> bool {
    match tree {
        Tree::Text(_) => true,
        Tree::List(items) | Tree::Set(items) | Tree::Bracketed { items, .. } => items
            .iter()
            .any(|item| !matches!(item, Tree::Text(_)) && mixes_words(item)),
        other => other.parts().into_iter().any(mixes_words),
    }
}

/// Letters of multiple choice.
fn choices(gold: &Answer, answer: &Answer) -> Option<Decision> {
    let g = words::choice(&gold.text)?;
    let a = words::choice(&answer.text).or_else(|| words::choice_in(&answer.text))?;
    // Two bare letters may be variables: case counts then.
    let bare = |t: &str| t.len() == 1;
    if bare(&gold.text) && bare(&answer.text) && gold.text != answer.text {
        return Some(different("another letter"));
    }
    Some(match g == a {
        true => equal(format!("choice {g}")),
        false => different(format!("choice {a} is not {g}")),
    })
}

/// The ways to read a text, the likeliest first.
fn readings(text: &str) -> Vec<Tree> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return Vec::new();
    }
    if let Some(joined) = groups::joined(text) {
        return readings(&joined);
    }
    if let Some(trees) = restated(text) {
        return trees;
    }
    if text.len() <= 60
        && text.contains(|c: char| c.is_ascii_digit())
        && let Some((month, day, year)) = words::date(&words::plain(text))
    {
        return vec![Tree::Date { month, day, year }];
    }
    let mut trees: Vec<Tree> = Vec::new();
    let mut add = |parsed: Option<Parsed>| -> bool {
        let Some(parsed) = parsed else { return false };
        if !trees.contains(&parsed.tree) {
            trees.push(parsed.tree);
        }
        parsed.ambiguous_slash
    };
    let tokens = cut(text, Commas::Thousands);
    if add(parse(text, &tokens, false)) {
        add(parse(text, &tokens, true));
    }
    let separate = match text.contains(",\\!") || text.contains("{,}") {
        // `2{,}5` has no other reading.
        true => {
            let decimal = decimal_commas(text).filter(|_| text.contains("{,}"));
            add(decimal.and_then(|text| parse(&text, &cut(&text, Commas::Separate), false)));
            Vec::new()
        }
        false => cut(text, Commas::Separate),
    };
    if separate.len() != tokens.len()
        && !leading_zero_after_comma(text)
        && add(parse(text, &separate, false))
    {
        add(parse(text, &separate, true));
    }
    if trees.is_empty() && reads_as_words(text) {
        let said = words::sequence(text).join(" ");
        trees.push(words::meaning(text).unwrap_or(Tree::Text(said)));
    }
    let prose = words::sequence(text)
        .iter()
        .filter(|t| t.chars().count() > 2 && t.chars().all(char::is_alphabetic))
        .count();
    if trees.is_empty() && prose < 2 {
        trees.extend(equation_tail(text, &tokens));
    }
    trees
}

/// `4 (four)`, `1600 (420+1180)`, `36 (inches)`: a number, and in brackets the same in other words or
/// what it counts.
fn restated(text: &str) -> Option<Vec<Tree>> {
    let (head, inside) = bracketed_end(text)?;
    let read = |text: &str| parse(text, &cut(text, Commas::Thousands), false).map(|p| p.tree);
    let inside = inside
        .trim_start_matches(['=', '≈', '~'])
        .trim_start_matches("\\approx")
        .trim_start();
    let spoken = words::sequence(inside);
    let only_words = inside
        .chars()
        .all(|c| c.is_alphabetic() || " -'’.,".contains(c));
    let unread = || {
        let head = readings(head).into_iter().next()?;
        Some(vec![Tree::Unread(Box::new(head), spoken.join(" "))])
    };
    if only_words
        && spoken.iter().any(|w| w.chars().count() > 2)
        && words::meaning(inside).is_none()
    {
        return match words::changes_value(&spoken) {
            true => unread(),
            false => Some(readings(head)),
        };
    }
    let whole = read(head)?;
    let number = super::equal::stated(&whole).unwrap_or(&whole).clone();
    if constant(&number).is_err() {
        return None;
    }
    let inside = inside
        .trim_start_matches("that is,")
        .trim_start_matches("i.e.,")
        .trim_start_matches("i.e.")
        .trim_start_matches("or ");
    let other = read(inside).filter(|t| constant(t).is_ok())?;
    match compare(&number, &other).outcome {
        Outcome::Equal => Some(vec![whole]),
        // The more exact of the two.
        Outcome::Rounded => {
            let decimal = |t: &Tree| {
                t.any(&|t| {
                    matches!(
                        t,
                        Tree::Number {
                            decimals: Some(_),
                            ..
                        }
                    )
                })
            };
            let exact = decimal(&number) && !decimal(&other);
            Some(vec![if exact { other } else { number }])
        }
        _ if only_words => unread(),
        _ => None,
    }
}

/// What is before and in a bracket, or text in brackets, that ends a text and is apart.
fn bracketed_end(text: &str) -> Option<(&str, &str)> {
    let (end, open) = match text.strip_suffix(")}") {
        Some(before) => (before, ["\\text{(", "\\mbox{("]),
        None => (text.strip_suffix(')')?, [" (", " \\left("]),
    };
    let (at, mark) = open
        .iter()
        .filter_map(|mark| end.rfind(mark).map(|at| (at, mark)))
        .max()?;
    let inside = end[at + mark.len()..].trim();
    let head = end[..at].trim_end();
    let head = head
        .trim_end_matches("\\quad")
        .trim_end_matches("\\qquad")
        .trim_end_matches("\\,")
        .trim_end();
    let closed = |text: &str| text.matches(['(', '[']).count() == text.matches([')', ']']).count();
    // `[1, 3)` closes with a bracket that it did not open with.
    let fits =
        !head.is_empty() && !inside.is_empty() && closed(head) && !inside.contains(['(', ')']);
    (fits && !head.ends_with(['+', '-', '*', '/', '^', '=', ',', '<', '>', ':', '·', '×']))
        .then_some((head, inside))
}

/// Whether digits that begin with 0 stand right after a comma: `115,000` is no list.
fn leading_zero_after_comma(text: &str) -> bool {
    text.match_indices(",0").any(|(at, _)| {
        text[at + 2..].starts_with(|c: char| c.is_ascii_digit())
            && text[..at].ends_with(|c: char| c.is_ascii_digit())
    })
}

/// Of a text whose beginning cannot be read, what is after its last `=`.
fn equation_tail(text: &str, tokens: &[super::token::Token]) -> Option<Tree> {
    let at = tokens.iter().rposition(|t| {
        matches!(t.kind, T::Sign(super::tree::Sign::Equal)) || t.kind == T::Approx
    })?;
    let depth = tokens[..at].iter().fold(0i64, |depth, t| match t.kind {
        T::Open(_) | T::Begin(_) => depth + 1,
        T::Close(_) | T::End(_) => depth - 1,
        _ => depth,
    });
    if depth != 0 {
        return None;
    }
    parse(text, &tokens[at + 1..], false).map(|p| p.tree)
}

/// Whether most of a short text is words.
fn reads_as_words(text: &str) -> bool {
    let tokens = words::sequence(text);
    let is_word = |t: &&String| t.chars().all(char::is_alphabetic);
    let letters: usize = tokens
        .iter()
        .filter(is_word)
        .map(|t| t.chars().count())
        .sum();
    let signs = tokens
        .iter()
        .filter(|t| t.starts_with('\\') || "=+*^_<>".contains(t.as_str()))
        .count();
    text.len() <= 400 && letters > 2 && signs * 4 <= letters
}
