//! Lines of Python, cut as finely as the flaws need.

use std::ops::Range;

const KEYWORDS: [&str; 16] = [
    "and", "def", "elif", "else", "for", "if", "import", "in", "is", "lambda", "not", "or", "pass",
    "print", "return", "while",
];

/// Names, numbers and operators of a line, by their bytes; strings and comments are left out.
pub(super) fn tokens(line: &str) -> Vec<Range<usize>> {
    let bytes = line.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let start = at;
        let run = |from: usize, is: fn(u8) -> bool| {
            from + bytes[from..].iter().take_while(|b| is(**b)).count()
        };
        match bytes[at] {
            b'#' => break,
            quote @ (b'"' | b'\'') => {
                let rest = &bytes[at + 1..];
                at += 2 + rest.iter().position(|b| *b == quote).unwrap_or(rest.len());
                continue;
            }
            b if b.is_ascii_alphabetic() || b == b'_' => {
                at = run(at, |b| b.is_ascii_alphanumeric() || b == b'_');
            }
            b if b.is_ascii_digit() => at = run(at, |b| b.is_ascii_digit() || b == b'.'),
            b'<' | b'>' | b'=' | b'!' | b'+' | b'-' | b'*' | b'/' => {
                at = run(at, |b| b"<>=!+-*/".contains(&b));
            }
            _ => {
                at += 1;
                continue;
            }
        }
        found.push(start..at);
    }
    found
}

/// Whether a token can be a variable.
pub(super) fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !KEYWORDS.contains(&token)
}
