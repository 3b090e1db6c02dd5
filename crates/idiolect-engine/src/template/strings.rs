//! Python's functions of strings, where Rust's own differ or are missing.

use minijinja::{Error, FormatStyle};

use super::limits::spend;
use super::python::fault;

/// What Python strips and splits at.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Nothing is padded beyond this.
pub(super) fn bounded(width: usize) -> Result<usize, Error> {
    if width > 1_000_000 {
        return Err(fault("the width is too large"));
    }
    spend(width)?;
    Ok(width)
}

/// `str.replace`, at most `count` times.
pub(super) fn replaced(
    text: &str,
    old: &str,
    new: &str,
    count: Option<usize>,
) -> Result<String, Error> {
    let count = count.unwrap_or(usize::MAX);
    let found = text.matches(old).take(count).count();
    spend(found.saturating_mul(new.len()).saturating_add(text.len()))?;
    Ok(text.replacen(old, new, count))
}

/// `str.join`.
pub(super) fn joined(parts: &[impl AsRef<str>], by: &str) -> Result<String, Error> {
    let between = by.len().saturating_mul(parts.len());
    let lengths = parts.iter().map(|part| part.as_ref().len());
    spend(lengths.fold(between, usize::saturating_add))?;
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    Ok(parts.join(by))
}

/// Refuses a format whose widths no text has: more than four digits, or widths that arguments give.
pub(super) fn check_widths(style: FormatStyle, format: &str) -> Result<(), Error> {
    let is_wide = |spec: &str| {
        let runs = spec.split(|c: char| !c.is_ascii_digit());
        runs.map(str::len).max().unwrap_or(0) > 4
    };
    let wide = match style {
        // From a sign to the letter of the conversion, the name of a mapping's entry left out.
        FormatStyle::Printf => format.split('%').skip(1).any(|part| {
            let named = part.strip_prefix('(').and_then(|part| part.split_once(')'));
            let spec = named.map_or(part, |(_, spec)| spec);
            let spec = spec.split(char::is_alphabetic).next().unwrap_or_default();
            is_wide(spec) || spec.contains('*')
        }),
        // What follows the colon of a field.
        _ => format.split('{').skip(1).any(|part| {
            let field = part.split('}').next().unwrap_or_default();
            let nested = field.len() == part.len() && field.ends_with(':');
            nested || field.split_once(':').is_some_and(|(_, spec)| is_wide(spec))
        }),
    };
    if wide {
        return Err(fault("a width of the format is too large"));
    }
    Ok(())
}

/// Python writes a final sigma as such; so does Rust.
pub(super) fn lower(text: &str) -> String {
    text.to_lowercase()
}

pub(super) fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().collect::<String>() + &lower(characters.as_str()),
        None => String::new(),
    }
}

/// `str.title`: a letter after what is no letter is a capital.
pub(super) fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

pub(super) fn has_case(text: &str) -> bool {
    text.chars().any(|c| c.is_uppercase() || c.is_lowercase())
}

pub(super) fn stripped<'t>(text: &'t str, set: Option<&str>, left: bool, right: bool) -> &'t str {
    let gone = |c: char| set.map_or_else(|| is_space(c), |set| set.contains(c));
    let text = if left {
        text.trim_start_matches(gone)
    } else {
        text
    };
    if right {
        text.trim_end_matches(gone)
    } else {
        text
    }
}

/// The part of a text between two places counted in characters, negative ones from its end, and the
/// place where it begins; none where they lie the wrong way round.
pub(super) fn characters(
    text: &str,
    start: Option<i64>,
    end: Option<i64>,
) -> (Option<&str>, usize) {
    let n = text.chars().count();
    let place = |at: i64| {
        let at = if at < 0 { at + n as i64 } else { at };
        usize::try_from(at).unwrap_or(0)
    };
    let (start, end) = (place(start.unwrap_or(0)), end.map_or(n, place).min(n));
    if start > end {
        return (None, start);
    }
    let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(at, _)| at);
    (Some(&text[byte(start)..byte(end)]), start)
}

pub(super) fn split(
    text: &str,
    by: Option<&str>,
    most: usize,
    right: bool,
) -> Result<Vec<String>, Error> {
    let Some(by) = by else {
        return Ok(words(text, most, right));
    };
    if by.is_empty() {
        return Err(fault("empty separator"));
    }
    let limit = most.saturating_add(1);
    let parts: Vec<&str> = if right {
        let mut parts: Vec<&str> = text.rsplitn(limit, by).collect();
        parts.reverse();
        parts
    } else {
        text.splitn(limit, by).collect()
    };
    Ok(parts.into_iter().map(str::to_owned).collect())
}

/// Words between stretches of space. What is left after `most` cuts keeps the space at its far end.
fn words(text: &str, most: usize, right: bool) -> Vec<String> {
    let near = |text| stripped(text, None, !right, right);
    let mut rest = near(text);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let at = if parts.len() == most {
            None
        } else if right {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        let Some(at) = at else {
            parts.push(rest.to_owned());
            break;
        };
        let (before, behind) = rest.split_at(at);
        let (word, other) = if right {
            (behind, before)
        } else {
            (before, behind)
        };
        parts.push(stripped(word, None, true, true).to_owned());
        rest = near(other);
    }
    if right {
        parts.reverse();
    }
    parts
}

pub(super) fn lines(text: &str, keep: bool) -> Vec<String> {
    let breaks = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(breaks) {
        let width = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        let end = if keep { at + width } else { at };
        out.push(rest[..end].to_owned());
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        out.push(rest.to_owned());
    }
    out
}

/// Python puts the odd one of `center` to the left where width and text are odd both.
pub(super) fn padded(text: &str, method: &str, width: i64, fill: &str) -> Result<String, Error> {
    if fill.chars().count() != 1 {
        return Err(fault(
            "The fill character must be exactly one character long",
        ));
    }
    let width = bounded(usize::try_from(width).unwrap_or(0))?;
    let missing = width.saturating_sub(text.chars().count());
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!(
        "{}{text}{}",
        fill.repeat(left),
        fill.repeat(missing - left)
    ))
}

pub(super) fn expanded(text: &str, size: usize) -> Result<String, Error> {
    spend(text.matches('\t').count().saturating_mul(size))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let n = size - column % size;
                out.push_str(&" ".repeat(n));
                column += n;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    Ok(out)
}
