//! A template of Jinja2 as the template engine reads it alike.
//!
//! Six things are rewritten, in the text of the template, because the engine has no place where
//! they could be changed: `{% generation %}` blocks, which mark what the assistant wrote and render
//! as what they hold; `a ~ b`, which has to join what Python's `str` writes; `a + b` and `a * b`,
//! which have to pay for what they make; `(a, b)`, which is
//! no list; `x[a:b:c]`, which keeps the type of `x`; and what a `for` goes through, which may not be
//! none. Lines keep their numbers.

use super::filters::{CONCATENATE, ITEMS, TUPLE};
use idiolect_model::budget::OverBudget;

use super::limits;
use super::methods::SLICE;
use super::sum::{SPENT, SUM};
use super::tokens::{Kind, tokens};

/// A template as the engine reads it.
pub(super) struct Rewritten {
    pub(super) text: String,
    /// Bytes of its longest text inside a macro or another block that is kept as a value.
    pub(super) kept_text: usize,
}

/// Blocks that can be kept as values, or that call themselves.
const KEPT: [&str; 5] = ["macro", "call", "filter", "set", "block"];

/// The template with its tags rewritten. Tags are sought where tags can be: outside comments, texts
/// and `raw` blocks.
///
/// # Errors
/// When it is longer or deeper than templates may be.
pub(super) fn rewritten(source: &str) -> Result<Rewritten, String> {
    let over = |error: OverBudget| error.to_string();
    limits::SOURCE.check_size(source.len()).map_err(over)?;
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let (mut open, mut kept_text, mut branches) = (0usize, 0, 0);
    while let Some(start) = next_tag(rest) {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        if open > 0 {
            kept_text = before.len().max(kept_text);
        }
        let kind = tag.as_bytes()[1];
        let end = match kind {
            b'#' => tag.find("#}").map(|end| end + 2),
            b'%' => end_of_code(tag, "%}"),
            _ => end_of_code(tag, "}}"),
        };
        let Some(end) = end else {
            rest = tag;
            break;
        };
        let (tag, behind) = tag.split_at(end);
        rest = behind;
        if kind == b'#' {
            out.push_str(tag);
            continue;
        }
        let inside = &tag[2..end - 2];
        let bare = inside.trim_matches(['-', '+']).trim();
        check_tag(inside).map_err(over)?;
        if kind == b'%' {
            let word = bare.split(|c: char| !c.is_alphanumeric()).next();
            let word = word.unwrap_or_default();
            let assigns = word == "set" && assigns(bare);
            // A loop that calls itself is taken to go on: its end is not told from another's.
            let recursive = word == "for" && bare.ends_with("recursive");
            open += usize::from((KEPT.contains(&word) && !assigns) || recursive);
            let ends = word
                .strip_prefix("end")
                .is_some_and(|of| KEPT.contains(&of));
            open = open.saturating_sub(usize::from(ends));
            branches += usize::from(word == "elif");
            limits::BRANCHES.check_size(branches).map_err(over)?;
        }
        match (kind, bare) {
            (b'%', "generation") => out.push_str(&tag.replacen("generation", "if true", 1)),
            (b'%', "endgeneration") => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            (b'%', "raw") => {
                out.push_str(tag);
                let end = rest.find("endraw").unwrap_or(rest.len());
                kept_text = end.max(kept_text);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            _ => {
                out.push_str(&tag[..2]);
                out.push_str(&code(inside, kind == b'%'));
                out.push_str(&tag[end - 2..]);
            }
        }
    }
    out.push_str(rest);
    Ok(Rewritten {
        text: out,
        kept_text,
    })
}

fn next_tag(text: &str) -> Option<usize> {
    let opens = |pair: &[u8]| pair[0] == b'{' && matches!(pair[1], b'%' | b'#' | b'{');
    text.as_bytes().windows(2).position(opens)
}

/// Whether a `set` has a value, and so no block.
fn assigns(code: &str) -> bool {
    let mut depth = 0usize;
    tokens(code).into_iter().any(|(token, _)| {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        token == "=" && depth == 0
    })
}

/// Refuses code whose tree no stack holds.
fn check_tag(code: &str) -> Result<(), OverBudget> {
    let (mut depth, mut deepest, mut length) = (0usize, 0, 0);
    for (token, kind) in tokens(code) {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = depth.max(deepest);
        length += match kind {
            Kind::Literal | Kind::Space => 1,
            _ => token.len(),
        };
    }
    limits::DEPTH.check_size(deepest)?;
    limits::TAG.check_size(length)
}

/// One past `close` in code that begins with an opening pair, texts in quotes passed over. `}}` that
/// closes mappings closes no tag.
fn end_of_code(code: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut open = 0usize;
    for (at, c) in code.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if open == 0 && code[at..].starts_with(close) => return Some(at + close.len()),
            None => match c {
                '\'' | '"' => quote = Some(c),
                '{' => open += 1,
                '}' => open = open.saturating_sub(1),
                _ => {}
            },
        }
    }
    None
}

/// A piece of code: a token with the space before it, or what brackets hold.
enum Part<'s> {
    Token(&'s str, Kind),
    Group {
        open: &'s str,
        parts: Vec<Part<'s>>,
        /// Empty where the code ends inside.
        close: &'s str,
    },
}

/// The code between the braces of a tag, rewritten.
fn code(inside: &str, statement: bool) -> String {
    if !inside.contains(['~', '(', '[', '+', '*']) && !inside.contains("for") {
        return inside.to_owned();
    }
    // Signs at the tag's edges trim space and are no operators.
    let bare = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let sign = &inside[..inside.len() - bare.len()];
    let expression = bare.strip_suffix(['-', '+']).unwrap_or(bare);
    let end_sign = &bare[expression.len()..];
    let mut tokens = tokens(expression);
    let first = tokens.iter_mut().find(|(_, kind)| *kind != Kind::Space);
    if let (true, Some((word, kind))) = (statement, first)
        && STATEMENTS.contains(word)
    {
        *kind = Kind::Statement;
    }
    let mut at = 0;
    let parts = grouped(&tokens, &mut at, "");
    let mut out = String::with_capacity(inside.len() + 32);
    out.push_str(sign);
    let targets = targets(&parts);
    match (targets, first_word(&parts)) {
        (1.., Some("for")) => write_loop(&parts, targets, &mut out),
        _ => write(&parts, targets, &mut out),
    }
    out.push_str(end_sign);
    out
}

/// The word that a statement begins with.
fn first_word<'s>(parts: &[Part<'s>]) -> Option<&'s str> {
    parts.iter().find_map(|part| match part {
        Part::Token(word, Kind::Statement) => Some(*word),
        _ => None,
    })
}

/// Writes `for targets in EXPRESSION`, and what may follow, with the items of the expression.
fn write_loop(parts: &[Part<'_>], targets: usize, out: &mut String) {
    let from = targets + 1;
    let ends = |part: &Part<'_>| matches!(part, Part::Token("if" | "recursive", Kind::Name));
    let to = (from..parts.len())
        .find(|&i| ends(&parts[i]))
        .unwrap_or(parts.len());
    write(&parts[..from], targets, out);
    out.push_str(&format!(" {ITEMS}("));
    write(&parts[from..to], 0, out);
    out.push_str(") ");
    write(&parts[to..], 0, out);
}

fn grouped<'s>(tokens: &[(&'s str, Kind)], at: &mut usize, close: &str) -> Vec<Part<'s>> {
    let mut parts = Vec::new();
    while let Some(&(token, kind)) = tokens.get(*at) {
        if token == close {
            return parts;
        }
        *at += 1;
        let closes = match token {
            "(" => ")",
            "[" => "]",
            "{" => "}",
            _ => {
                parts.push(Part::Token(token, kind));
                continue;
            }
        };
        let inner = grouped(tokens, at, closes);
        let close = tokens.get(*at).map_or("", |(token, _)| token);
        *at += 1;
        parts.push(Part::Group {
            open: token,
            parts: inner,
            close,
        });
    }
    parts
}

/// Words after which an expression begins, and that end one.
const KEYWORDS: [&str; 7] = ["and", "or", "not", "in", "if", "else", "recursive"];

/// Words that are such at the beginning of a statement, and names elsewhere.
const STATEMENTS: [&str; 12] = [
    "if", "elif", "for", "set", "do", "print", "with", "return", "include", "extends", "import",
    "from",
];

/// How many parts of a `for` or `set` are what is assigned to, where `(a, b)` is no tuple.
fn targets(parts: &[Part<'_>]) -> usize {
    let mut solid = parts.iter().enumerate().filter_map(|(i, part)| match part {
        Part::Token(token, kind) if *kind != Kind::Space => Some((i, *token)),
        _ => None,
    });
    let ends = match solid.next() {
        Some((_, "for")) => "in",
        Some((_, "set")) => "=",
        _ => return 0,
    };
    solid
        .find(|(_, token)| *token == ends)
        .map_or(0, |(i, _)| i)
}

/// Writes parts; in the first `skipped` of them brackets are no tuples.
fn write(parts: &[Part<'_>], skipped: usize, out: &mut String) {
    // Where the terms of a sum begin, and the sign before each.
    let mut terms: Vec<(&str, usize)> = vec![("", 0)];
    let mut before: Option<Before> = None;
    for i in 0..parts.len() {
        if let (true, Part::Token(token, _)) = (ends_operand(&parts[i], before), &parts[i]) {
            if matches!(*token, "+" | "-") {
                terms.push((token, i + 1));
            } else {
                write_sum(parts, &terms, i, skipped, out);
                out.push_str(token);
                terms = vec![("", i + 1)];
            }
        }
        before = Before::of(&parts[i], before);
    }
    write_sum(parts, &terms, parts.len(), skipped, out);
}

/// Writes terms up to `end`, those that are added as arguments of a call.
fn write_sum(
    parts: &[Part<'_>],
    terms: &[(&str, usize)],
    end: usize,
    skipped: usize,
    out: &mut String,
) {
    let mut sum = String::new();
    let mut adding = false;
    for (i, (sign, start)) in terms.iter().enumerate() {
        // A term ends at the sign of the next.
        let end = terms.get(i + 1).map_or(end, |(_, next)| next - 1);
        let plus = *sign == "+";
        if adding && !plus {
            sum.push_str(") ");
        }
        if plus && !adding {
            sum = format!("{}{SUM}({}", lead(&sum), sum.trim_start());
        }
        sum.push_str(if plus { "," } else { sign });
        adding = plus;
        write_term(&parts[*start..end], *start, skipped, &mut sum);
    }
    if adding {
        sum.push_str(") ");
    }
    out.push_str(&sum);
}

/// The space that a text begins with.
fn lead(text: &str) -> &str {
    &text[..text.len() - text.trim_start().len()]
}

/// Writes a term, a product as the argument of a call.
fn write_term(parts: &[Part<'_>], first: usize, skipped: usize, out: &mut String) {
    let mut before = None;
    let product = parts.iter().any(|part| {
        let found = matches!(part, Part::Token("*", _)) && before == Some(Before::Value);
        before = Before::of(part, before);
        found
    });
    if !product {
        return write_operand(parts, first, skipped, out);
    }
    let mut term = String::new();
    write_operand(parts, first, skipped, &mut term);
    out.push_str(&format!("{}{SPENT}({}) ", lead(&term), term.trim_start()));
}

/// What comes before a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// The end of a value.
    Value,
    /// An operator or a word that begins an expression.
    Begin,
    /// `is`, `is not`, a `.` or a `|`: what follows is a name and no keyword.
    Name,
    /// `is`.
    Is,
}

impl Before {
    fn of(part: &Part<'_>, before: Option<Self>) -> Option<Self> {
        let named = matches!(before, Some(Self::Name | Self::Is));
        Some(match part {
            Part::Token(_, Kind::Space) => return before,
            Part::Token("is", Kind::Name) if !named => Self::Is,
            Part::Token("not", Kind::Name) if before == Some(Self::Is) => Self::Name,
            Part::Token("." | "|", _) => Self::Name,
            Part::Token(_, Kind::Statement) => Self::Begin,
            Part::Token(word, Kind::Name) if !named && KEYWORDS.contains(word) => Self::Begin,
            Part::Token(_, Kind::Operator) => Self::Begin,
            Part::Token(..) | Part::Group { .. } => Self::Value,
        })
    }
}

/// Whether a part binds less tightly than `~`, so that its operands end here.
fn ends_operand(part: &Part<'_>, before: Option<Before>) -> bool {
    let named = matches!(before, Some(Before::Name | Before::Is));
    match part {
        Part::Token("+" | "-", _) => before == Some(Before::Value),
        Part::Token("," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=", _) => true,
        Part::Token(_, Kind::Statement) => true,
        Part::Token(word, Kind::Name) => !named && KEYWORDS.contains(word),
        _ => false,
    }
}

/// Writes operands of `~` as arguments of a call, and everything else as it is.
fn write_operand(parts: &[Part<'_>], first: usize, skipped: usize, out: &mut String) {
    let is_tilde = |part: &Part<'_>| matches!(part, Part::Token("~", _));
    let mut operands = parts.split(is_tilde);
    if !parts.iter().any(is_tilde) {
        return write_parts(parts, first, skipped, out);
    }
    let is_space = |part: &&Part<'_>| matches!(part, Part::Token(_, Kind::Space));
    let lead = parts.iter().take_while(is_space).count();
    write_parts(&parts[..lead], first, skipped, out);
    out.push_str(CONCATENATE);
    out.push('(');
    if let Some(operand) = operands.next() {
        write_parts(
            &operand[lead.min(operand.len())..],
            first + lead,
            skipped,
            out,
        );
    }
    for operand in operands {
        out.push(',');
        write_parts(operand, first, skipped, out);
    }
    out.push_str(") ");
}

fn write_parts(parts: &[Part<'_>], first: usize, skipped: usize, out: &mut String) {
    let mut before = None;
    for (i, part) in parts.iter().enumerate() {
        match part {
            Part::Token(token, _) => out.push_str(token),
            Part::Group { open, parts, close } => {
                let comma = parts.iter().any(|p| matches!(p, Part::Token(",", _)));
                let empty = parts
                    .iter()
                    .all(|p| matches!(p, Part::Token(_, Kind::Space)));
                let value = before == Some(Before::Value);
                if *open == "(" && !value && first + i >= skipped && (comma || empty) {
                    out.push_str(TUPLE);
                }
                let colons = parts.iter().any(|p| matches!(p, Part::Token(":", _)));
                if *open == "[" && value && colons {
                    write_slice(parts, close, out);
                } else {
                    out.push_str(open);
                    write(parts, 0, out);
                    out.push_str(close);
                }
            }
        }
        before = Before::of(part, before);
    }
}

/// Writes what brackets around `a:b:c` hold as the arguments of a method; those left out are none.
fn write_slice(parts: &[Part<'_>], close: &str, out: &mut String) {
    out.push_str(&format!(".{SLICE}("));
    for (i, bound) in parts
        .split(|part| matches!(part, Part::Token(":", _)))
        .enumerate()
    {
        if i > 0 {
            out.push(',');
        }
        let mut text = String::new();
        write(bound, 0, &mut text);
        if text.trim().is_empty() {
            out.push_str("none");
        }
        out.push_str(&text);
    }
    // Code that ends inside the brackets stays wrong.
    out.push_str(if close.is_empty() { "" } else { ")" });
}
