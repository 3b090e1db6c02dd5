//! Two answers as they are written: spelling first, then what they mean, in each way they can be
//! read.

use std::cell::OnceCell;

use super::equal::{Decision, Outcome, compare, different, equal};
use super::parse::{Parsed, parse};
use super::spelling::{key, normal};
use super::token::{Commas, T, cut};
use super::tree::Tree;
use super::words;

/// Longer answers are not read as expressions.
const MAX_BYTES: usize = 5000;

/// An answer in its normal spelling, and its ways to be read.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// See [`normal`].
    pub(super) text: String,
    key: String,
    /// The likeliest reading first; empty where it cannot be read. Read when asked for.
    readings: OnceCell<Vec<Tree>>,
}

impl Answer {
    pub(super) fn of(text: &str) -> Self {
        let text = normal(text);
        Self {
            key: key(&text),
            readings: OnceCell::new(),
            text,
        }
    }

    pub(super) fn readings(&self) -> &[Tree] {
        self.readings.get_or_init(|| readings(&self.text))
    }

    /// Whether there is anything in it.
    pub(super) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// Whether it could be read as mathematics or words.
    pub(super) fn is_readable(&self) -> bool {
        !self.readings().is_empty()
    }

    /// Whether it is an answer and nothing else: no prose around a number or formula.
    pub(super) fn is_bare(&self) -> bool {
        self.readings().first().is_some_and(|tree| match tree {
            Tree::Text(text) => !text.contains(|c: char| c.is_numeric()),
            tree => !mixes_words(tree),
        })
    }

    /// Whether it is words.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.readings().first(), Some(Tree::Text(_)))
    }

    /// Whether it is a sentence rather than an answer in words.
    pub(super) fn is_remark(&self) -> bool {
        let words = self.text.split_whitespace().count();
        self.is_text() && (words > 5 || self.text.starts_with("I "))
    }

    /// Letters and digits alone, in lower case, without a leading article.
    fn words(&self) -> String {
        let plain = words::plain(&self.text);
        let mut rest = plain.trim();
        for article in ["the ", "an ", "a "] {
            rest = rest.strip_prefix(article).unwrap_or(rest);
        }
        rest.chars().filter(|c| c.is_alphanumeric()).collect()
    }
}

/// Whether an answer is the gold answer.
pub(super) fn equivalent(gold: &Answer, answer: &Answer) -> Decision {
    if gold.key == answer.key {
        return equal("the same text");
    }
    if let Some(decision) = choices(gold, answer) {
        return decision;
    }
    if gold.is_text() || answer.is_text() {
        let (g, a) = (gold.words(), answer.words());
        if g == a && !g.is_empty() {
            return equal("the same words");
        }
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
            if decision.outcome == Outcome::Equal {
                return decision;
            }
            first.get_or_insert(decision);
        }
    }
    first.unwrap_or_else(|| different("the texts differ"))
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
    if let Some(joined) = spaced_thousands(text) {
        return readings(&joined);
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
        true => Vec::new(),
        false => cut(text, Commas::Separate),
    };
    if separate.len() != tokens.len() && add(parse(text, &separate, false)) {
        add(parse(text, &separate, true));
    }
    if trees.is_empty() && reads_as_words(text) {
        trees.push(Tree::Text(words::plain(text).trim().to_owned()));
    }
    if trees.is_empty() {
        trees.extend(equation_tail(text, &tokens));
    }
    trees
}

/// Of a text whose beginning cannot be read, what stands after its last `=`.
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

/// `1 000 000`: groups of exactly three.
fn spaced_thousands(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let whole = unsigned.split('.').next()?;
    let mut groups = whole.split(' ');
    let first = groups.next()?;
    let digits = |g: &str| g.bytes().all(|b| b.is_ascii_digit());
    let rest: Vec<&str> = groups.collect();
    (!rest.is_empty()
        && (1..=3).contains(&first.len())
        && digits(first)
        && rest.iter().all(|g| g.len() == 3 && digits(g)))
    .then(|| text.replace(' ', ""))
}

/// Whether most of a short text is words.
fn reads_as_words(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let signs = text.chars().filter(|c| "=+*^_{}\\<>".contains(*c)).count();
    text.len() <= 400 && letters > 2 && signs * 4 <= letters
}
