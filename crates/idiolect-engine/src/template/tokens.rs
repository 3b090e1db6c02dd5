//! The code of a tag cut into tokens.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    /// The word that a statement begins with, where an expression can follow it.
    Statement,
    /// A number or a text.
    Literal,
    Operator,
    Space,
}

/// The tokens of code; together they are the code.
pub(super) fn tokens(code: &str) -> Vec<(&str, Kind)> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let while_true =
            |test: &dyn Fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
        let (len, kind) = if first.is_whitespace() {
            (while_true(&char::is_whitespace), Kind::Space)
        } else if first.is_alphabetic() || first == '_' {
            (while_true(&|c| c.is_alphanumeric() || c == '_'), Kind::Name)
        } else if first.is_ascii_digit() {
            (number(rest), Kind::Literal)
        } else if first == '\'' || first == '"' {
            (text(rest, first), Kind::Literal)
        } else {
            let pair = ["==", "!=", "<=", ">=", "//", "**"]
                .into_iter()
                .find(|pair| rest.starts_with(pair));
            (pair.map_or(first.len_utf8(), str::len), Kind::Operator)
        };
        let (token, behind) = rest.split_at(len);
        tokens.push((token, kind));
        rest = behind;
    }
    tokens
}

/// Length of a number: `1.5` is one token, `x.1.items` three.
fn number(code: &str) -> usize {
    let digits = |from: usize| {
        let rest = &code[from..];
        from + rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len())
    };
    let whole = digits(0);
    let mut behind = code[whole..].chars();
    let decimal = behind.next() == Some('.') && behind.next().is_some_and(|c| c.is_ascii_digit());
    if decimal { digits(whole + 1) } else { whole }
}

/// Length of a text with its quotes.
fn text(code: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in code.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    code.len()
}
