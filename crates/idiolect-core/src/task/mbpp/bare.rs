//! Code that stands bare among words: no fence, no marker.

use std::ops::Range;

use super::python::{Names, Nesting};

/// A stretch of bare code.
pub(super) struct Bare {
    pub(super) range: Range<usize>,
    /// Whether prose or the end of the part follows: only the first shows that it is complete.
    pub(super) ended: bool,
    /// Whether a line of it can only be code.
    pub(super) certain: bool,
}

/// The bare code of a part of the text: from each line that can only be code, and the assignments
/// above it, to the first line after it that reads as prose; what stands inside brackets and strings
/// is never prose. Assignments alone count where they bind a wanted name.
pub(super) fn bare(text: &str, part: Range<usize>, wanted: &[String]) -> Vec<Bare> {
    let mut found = Vec::new();
    let mut at = part.start;
    let mut start: Option<usize> = None;
    let mut certain = false;
    let mut state = Nesting::default();
    for line in text[part.clone()].split_inclusive('\n') {
        if state.is_outside() {
            if certain && is_prose(line) {
                let range = start.take().unwrap_or(at)..at;
                found.push(Bare {
                    range,
                    ended: true,
                    certain,
                });
                certain = false;
            }
            certain |= begins_code(line);
            let code = certain || is_assignment(line);
            if code {
                start.get_or_insert(at);
            } else if is_prose(line) {
                start = None;
            }
        }
        if start.is_some() {
            state.read(line);
        }
        at += line.len();
    }
    if let Some(start) = start {
        let range = start..part.end;
        let names = Names::of(&text[range.clone()]);
        if certain || wanted.iter().any(|name| names.binds(name)) {
            found.push(Bare {
                range,
                ended: false,
                certain,
            });
        }
    }
    found
}

/// An indented stretch of code in a part of the text, as Markdown has it: from the first line that
/// can only be code but for its indentation to the last that is indented as far.
pub(super) fn indented(text: &str, part: Range<usize>) -> Option<Range<usize>> {
    let mut at = part.start;
    let mut found: Option<(&str, Range<usize>)> = None;
    for line in text[part].split_inclusive('\n') {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        match &mut found {
            None if !indent.is_empty() && begins_code(code) => {
                found = Some((indent, at..at + line.len()));
            }
            None => {}
            Some((indent, range)) if line.starts_with(*indent) => range.end = at + line.len(),
            Some(_) if code.is_empty() => {}
            Some(_) => break,
        }
        at += line.len();
    }
    found.map(|(_, range)| range)
}

/// `NAME = …` at the outermost level.
fn is_assignment(line: &str) -> bool {
    let name = line
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(line.len());
    let rest = line[name..].trim_start();
    let letter = line.starts_with(|c: char| c.is_alphabetic() || c == '_');
    letter && rest.starts_with('=') && !rest.starts_with("==")
}

fn begins_code(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(3).collect();
    let imports = match words[..] {
        ["from", _, "import"] | ["import", _] | ["import", _, "as"] => true,
        ["import", first, _] => first.ends_with(','),
        _ => false,
    };
    let outermost = !line.starts_with(char::is_whitespace);
    let decorates = line.starts_with('@') && words.len() == 1;
    (outermost && imports) || decorates || is_definition(line)
}

fn is_definition(line: &str) -> bool {
    let after = ["def ", "async def ", "class "]
        .iter()
        .find_map(|keyword| line.strip_prefix(keyword));
    after.is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_alphabetic() || c == '_') && rest.contains(['(', ':'])
    })
}
/// A line at the outermost level that begins as a sentence does: a word, white space, and a word,
/// where the first is no keyword.
pub(super) fn is_prose(line: &str) -> bool {
    const KEYWORDS: [&str; 24] = [
        "def", "class", "import", "from", "if", "elif", "else", "for", "while", "try", "except",
        "finally", "with", "return", "assert", "raise", "del", "global", "nonlocal", "async",
        "lambda", "not", "await", "print",
    ];
    let Some(first) = line.chars().next() else {
        return false;
    };
    if first.is_whitespace() || matches!(first, '#' | '@' | ')' | ']' | '}' | '\'' | '"' | '_') {
        return false;
    }
    if !first.is_alphabetic() {
        // `1. The first …`, `- Note`, `**Note**`, `>>> call()`, `[0, 1]`
        return !matches!(first, '(' | '[' | '{');
    }
    let end = line
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '\''))
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    if KEYWORDS.contains(&word) {
        return false;
    }
    let next = rest.trim_start().chars().next();
    let spaced = rest.starts_with([' ', '\t']);
    match next {
        // `Problem:`, `Explanation:`; an annotation `x: int` goes on.
        None => !word.starts_with(|c: char| c.is_lowercase()),
        Some(':') => {
            rest.trim_end() == ":" || (word.starts_with(char::is_uppercase) && !rest.contains('='))
        }
        Some(c) if spaced && c.is_alphabetic() => {
            let rest = rest.trim_start();
            // `x in y`, `x is y`, `x if c else d`, `x and f()`; not `This is …`
            word.starts_with(char::is_uppercase)
                || !["in ", "is ", "if ", "and ", "or ", "not in "]
                    .iter()
                    .any(|operator| rest.starts_with(operator))
        }
        Some(',') => word.starts_with(char::is_uppercase),
        _ => false,
    }
}
