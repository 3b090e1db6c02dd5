//! The code in a response: what stands between `[BEGIN]` and `[DONE]`, in a fenced block, or bare
//! among words.

use crate::record::Finish;

/// A piece of code in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// The code, without the blank lines around it.
    pub(super) code: &'a str,
    /// Where it begins in the response, in bytes.
    pub(super) start: usize,
}

/// The code of a response; `wanted` are the names that its tests call. Of several blocks the last
/// one that defines a wanted name is meant, else the last that defines anything, else the last.
/// A response that was cut (`finish` is `length`) counts code that was complete before the cut.
pub(super) fn extract<'a>(text: &'a str, finish: Finish, wanted: &[String]) -> Option<Found<'a>> {
    let cut = finish == Finish::Length;
    let mut blocks = marked(text, cut);
    if blocks.is_empty() {
        blocks = fenced(text, cut);
    }
    if blocks.is_empty() && !text.contains("```") && !text.contains("[BEGIN]") {
        blocks.extend(bare(text, cut, wanted));
    }
    blocks.retain(|found| !found.code.is_empty());
    let last = |defines: &dyn Fn(&Found<'_>) -> bool| blocks.iter().rev().find(|f| defines(f));
    last(&|found| wanted.iter().any(|name| binds(found.code, name)))
        .or_else(|| last(&|found| found.code.lines().any(is_definition)))
        .or(blocks.last())
        .copied()
}

/// What stands between `[BEGIN]` and `[DONE]`, without a fence around it.
fn marked(text: &str, cut: bool) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    let mut from = match (text.find("[BEGIN]"), text.find("[DONE]")) {
        (Some(begin), _) => begin + "[BEGIN]".len(),
        // A prompt that ends in [BEGIN] leaves only the close.
        (None, Some(_)) => 0,
        (None, None) => return found,
    };
    loop {
        let end = text[from..].find("[DONE]").map(|at| from + at);
        match end {
            None if cut => break,
            _ => {}
        }
        let inside = &text[from..end.unwrap_or(text.len())];
        let fences = fenced(inside, false);
        match fences.last() {
            Some(inner) => found.push(Found {
                start: from + inner.start,
                ..*inner
            }),
            None => found.push(trimmed(text, from, from + inside.len())),
        }
        match end.and_then(|end| text[end..].find("[BEGIN]").map(|at| end + at)) {
            Some(begin) => from = begin + "[BEGIN]".len(),
            None => break,
        }
    }
    found
}

/// The fenced blocks that may hold Python. A block left open counts unless the response was cut: a
/// stop string takes the closing fence away.
fn fenced(text: &str, cut: bool) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, bool)> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let next = at + line.len();
        if let Some(tag) = line.trim_start().strip_prefix("```") {
            open = match open {
                Some((start, python)) => {
                    if python {
                        found.push(trimmed(text, start, at));
                    }
                    None
                }
                None => Some((next, is_python(tag.trim()))),
            };
        }
        at = next;
    }
    if let Some((start, true)) = open
        && !cut
    {
        found.push(trimmed(text, start, text.len()));
    }
    found
}

fn is_python(tag: &str) -> bool {
    let tag = tag.trim_end_matches('`').to_ascii_lowercase();
    tag.is_empty() || tag.starts_with("py") || tag == "code"
}

/// Bare code: from the first line that can only be code, and the assignments above it, to the first
/// line after it that reads as prose; what stands inside brackets and strings is never prose.
fn bare<'a>(text: &'a str, cut: bool, wanted: &[String]) -> Option<Found<'a>> {
    let mut at = 0;
    let mut start: Option<usize> = None;
    let mut certain = false;
    let mut state = Nesting::default();
    let mut end = None;
    for line in text.split_inclusive('\n') {
        if state.is_outside() {
            if certain && is_prose(line) {
                end = Some(at);
                break;
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
    let found = trimmed(text, start?, end.unwrap_or(text.len()));
    let is_code = certain || wanted.iter().any(|name| binds(found.code, name));
    (is_code && (end.is_some() || !cut)).then_some(found)
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

/// Whether code binds a name at its outermost level.
fn binds(code: &str, name: &str) -> bool {
    code.lines().any(|line| {
        let rest = ["def ", "async def ", "class "]
            .iter()
            .find_map(|keyword| line.strip_prefix(keyword))
            .unwrap_or(line);
        rest.strip_prefix(name).is_some_and(|rest| {
            let rest = rest.trim_start();
            let assigns = rest.starts_with('=') && !rest.starts_with("==");
            let defines = line.len() > rest.len() && rest.starts_with(['(', ':']);
            assigns || (defines && is_definition(line))
        })
    })
}

/// A line at the outermost level that begins as a sentence does: a word, white space, and a word,
/// where the first is no keyword.
fn is_prose(line: &str) -> bool {
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
            // `x in y`, `x is y`, `x if c else d`, `x and f()`
            !["in ", "is ", "if ", "and ", "or ", "not in "]
                .iter()
                .any(|operator| rest.starts_with(operator))
        }
        Some(',') => word.starts_with(char::is_uppercase),
        _ => false,
    }
}

/// Whether a line begins inside brackets or a string of several lines.
#[derive(Default)]
struct Nesting {
    brackets: usize,
    quotes: Option<&'static str>,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.brackets == 0 && self.quotes.is_none()
    }

    fn read(&mut self, line: &str) {
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if let Some(quotes) = self.quotes {
                match rest.find(quotes) {
                    Some(at) => {
                        self.quotes = None;
                        rest = &rest[at + quotes.len()..];
                    }
                    None => return,
                }
                continue;
            }
            if rest.starts_with("\"\"\"") || rest.starts_with("'''") {
                self.quotes = Some(if c == '"' { "\"\"\"" } else { "'''" });
                rest = &rest[3..];
                continue;
            }
            match c {
                '#' => return,
                '"' | '\'' => {
                    rest = after_string(&rest[1..], c);
                    continue;
                }
                '(' | '[' | '{' => self.brackets += 1,
                ')' | ']' | '}' => self.brackets = self.brackets.saturating_sub(1),
                _ => {}
            }
            rest = &rest[c.len_utf8()..];
        }
    }
}

/// What follows a string of one line.
fn after_string(text: &str, quote: char) -> &str {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return &text[at..],
            c if c == quote => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

/// A part of the text without the blank lines around it; indentation stays.
fn trimmed(text: &str, start: usize, end: usize) -> Found<'_> {
    let part = &text[start..end];
    let mut lead = 0;
    for line in part.split_inclusive('\n') {
        if !line.trim().is_empty() {
            break;
        }
        lead += line.len();
    }
    Found {
        code: part[lead..].trim_end(),
        start: start + lead,
    }
}

/// The names that tests call, in order, each once. Names of Python's own count only where a test
/// calls nothing else: one problem's function is called `sum`.
pub(super) fn called(tests: &[String]) -> Vec<String> {
    const BUILTINS: [&str; 30] = [
        "abs",
        "all",
        "any",
        "bool",
        "bytes",
        "chr",
        "complex",
        "dict",
        "divmod",
        "enumerate",
        "float",
        "frozenset",
        "int",
        "isinstance",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "ord",
        "range",
        "repr",
        "reversed",
        "round",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
    ];
    let mut names: Vec<String> = Vec::new();
    for test in tests {
        for (at, _) in test.match_indices('(') {
            let before = &test[..at];
            let start = before
                .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
                .map_or(0, |i| {
                    i + before[i..].chars().next().map_or(1, char::len_utf8)
                });
            let name = &before[start..];
            let method = before[..start].ends_with('.');
            let known = names.iter().any(|n| n == name);
            let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
            if is_name && !method && !known {
                names.push(name.to_owned());
            }
        }
    }
    if names.iter().any(|n| !BUILTINS.contains(&n.as_str())) {
        names.retain(|n| !BUILTINS.contains(&n.as_str()));
    }
    names
}
