//! Python read just far enough to tell strings and brackets from the rest, and which names a piece
//! of code binds and uses. Whether it is valid is for the interpreter to say.

use std::collections::BTreeSet;

/// Whether a line begins inside brackets or a string of several lines.
#[derive(Default)]
pub(super) struct Nesting {
    brackets: usize,
    quotes: Option<&'static str>,
}

impl Nesting {
    pub(super) fn is_outside(&self) -> bool {
        self.brackets == 0 && self.quotes.is_none()
    }

    /// Whether the next line begins inside a string.
    pub(super) fn in_string(&self) -> bool {
        self.quotes.is_some()
    }

    pub(super) fn read(&mut self, line: &str) {
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
            if let Some(quotes) = triple(rest) {
                self.quotes = Some(quotes);
                rest = &rest[3..];
                continue;
            }
            match c {
                '#' => return,
                '"' | '\'' => {
                    rest = &rest[1..];
                    rest = &rest[string_end(rest, c)..];
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

fn triple(text: &str) -> Option<&'static str> {
    ["\"\"\"", "'''"]
        .into_iter()
        .find(|quotes| text.starts_with(quotes))
}

/// How far a string of one line reaches, its closing quote included; it never reaches over the end
/// of the line.
fn string_end(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return at,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The names of a piece of code.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Functions and classes of the outermost level.
    pub(super) defined: BTreeSet<&'a str>,
    /// What imports of the outermost level bind.
    pub(super) imported: BTreeSet<&'a str>,
    /// Variables of the outermost level.
    pub(super) assigned: BTreeSet<&'a str>,
    /// Whatever is bound further inside: parameters, variables of functions and comprehensions.
    pub(super) inner: BTreeSet<&'a str>,
    /// Names that are read, or may be.
    pub(super) used: BTreeSet<&'a str>,
    /// `from … import *`.
    pub(super) imports_all: bool,
}

impl<'a> Names<'a> {
    pub(super) fn of(code: &'a str) -> Self {
        let mut names = Self::default();
        for statement in statements(code) {
            names.read(&statement);
        }
        names
    }

    /// Whether the code gives a name of the outermost level a meaning of its own, not an import's.
    pub(super) fn binds(&self, name: &str) -> bool {
        self.defined.contains(name) || self.assigned.contains(name)
    }

    fn read(&mut self, statement: &Statement<'a>) {
        let outermost = statement.indent == 0;
        let mut tokens = &statement.tokens[..];
        if tokens.first() == Some(&Token::Name("async")) {
            tokens = &tokens[1..];
        }
        let (Some(Token::Name(first)), second) = (tokens.first(), tokens.get(1)) else {
            return self.read_expression(tokens);
        };
        match (*first, second) {
            ("def" | "class", Some(Token::Name(name))) => {
                let bound = if outermost {
                    &mut self.defined
                } else {
                    &mut self.inner
                };
                bound.insert(name);
                if *first == "def" {
                    self.read_parameters(&tokens[2..]);
                }
                self.read_expression(&tokens[2..]);
            }
            ("import" | "from", _) => {
                let bound = if outermost {
                    &mut self.imported
                } else {
                    &mut self.inner
                };
                let is_from = *first == "from";
                let from = if is_from {
                    tokens.iter().position(|t| *t == Token::Name("import"))
                } else {
                    Some(0)
                };
                let listed = from.map_or(&[][..], |at| &tokens[at + 1..]);
                for part in listed.split(|t| *t == Token::Mark(',')) {
                    let names: Vec<&'a str> = part.iter().filter_map(Token::name).collect();
                    match (&names[..], part.first()) {
                        ([.., "as", name], _) => _ = bound.insert(name),
                        ([name, ..], _) => _ = bound.insert(name),
                        ([], Some(Token::Mark('*'))) => self.imports_all |= is_from,
                        _ => {}
                    }
                }
            }
            _ => {
                let targets = Self::targets(tokens);
                let bound = if outermost {
                    &mut self.assigned
                } else {
                    &mut self.inner
                };
                bound.extend(targets);
                if *first == "for" && outermost {
                    let names = tokens
                        .iter()
                        .map_while(|t| (*t != Token::Name("in")).then_some(t));
                    self.assigned.extend(names.skip(1).filter_map(Token::name));
                }
                self.read_expression(tokens);
            }
        }
    }

    /// The names that an assignment binds: `a`, `a, b`, `a = b`, `a: int`; not `a[0]` or `a.b`.
    fn targets(mut tokens: &[Token<'a>]) -> Vec<&'a str> {
        if matches!(tokens.first(), Some(Token::Name(first)) if is_keyword(first)) {
            // `if x: y = 1`, `else: y = 1`
            let Some(colon) = tokens.iter().position(|t| *t == Token::Mark(':')) else {
                return Vec::new();
            };
            tokens = &tokens[colon + 1..];
        }
        let mut depth = 0usize;
        let mut last = None;
        let mut colon = None;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Name("lambda") if depth == 0 => break,
                Token::Mark(':') if depth == 0 => _ = colon.get_or_insert(at),
                Token::Assign if depth == 0 => last = Some(at),
                _ => {}
            }
        }
        let Some(last) = last else { return Vec::new() };
        let end = colon.map_or(last, |colon: usize| colon.min(last));
        let mut found = Vec::new();
        let mut depth = 0usize;
        for (at, token) in tokens[..end].iter().enumerate() {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Name(name) if depth == 0 => {
                    let attribute = at > 0 && tokens[at - 1] == Token::Mark('.');
                    let next = &tokens[at + 1];
                    let bound = matches!(next, Token::Assign | Token::Mark(',' | ':'));
                    if bound && !attribute {
                        found.push(*name);
                    }
                }
                _ => {}
            }
        }
        found
    }

    fn read_parameters(&mut self, tokens: &[Token<'a>]) {
        let mut depth = 0usize;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Mark(':') if depth == 0 => return,
                Token::Name(name)
                    if depth == 1
                        && at > 0
                        && matches!(tokens[at - 1], Token::Mark('(' | ',' | '*')) =>
                {
                    self.inner.insert(name);
                }
                _ => {}
            }
        }
    }

    /// Uses, and what expressions bind: `for x in`, `lambda x:`, `as x`, `x := 1`.
    fn read_expression(&mut self, tokens: &[Token<'a>]) {
        let mut depth = 0usize;
        // Within the names of a `for` or `lambda`, up to this.
        let mut binding: Option<Token<'a>> = None;
        for (at, token) in tokens.iter().enumerate() {
            if binding.as_ref() == Some(token) {
                binding = None;
            }
            match token {
                Token::Mark('(' | '[' | '{') => depth += 1,
                Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Name("for") => binding = Some(Token::Name("in")),
                Token::Name("lambda") => binding = Some(Token::Mark(':')),
                Token::Name(name) if !is_keyword(name) => {
                    let before = at.checked_sub(1).map(|at| &tokens[at]);
                    let next = tokens.get(at + 1);
                    let keyword_argument = depth > 0 && next == Some(&Token::Assign);
                    if before == Some(&Token::Mark('.')) {
                        continue;
                    }
                    let bound = match &binding {
                        Some(Token::Mark(':')) => {
                            matches!(before, Some(Token::Name("lambda") | Token::Mark(',' | '*')))
                        }
                        Some(_) => true,
                        None => before == Some(&Token::Name("as")) || next == Some(&Token::Walrus),
                    };
                    if bound {
                        self.inner.insert(name);
                    } else if !keyword_argument {
                        self.used.insert(name);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Words that name nothing.
pub(super) fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 35] = [
        "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class",
        "continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global",
        "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return",
        "try", "while", "with", "yield",
    ];
    KEYWORDS.contains(&word)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    /// `=`, also of `+=`.
    Assign,
    /// `:=`
    Walrus,
    Mark(char),
}

impl<'a> Token<'a> {
    fn name(&self) -> Option<&'a str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// A statement, or the head of a compound one.
struct Statement<'a> {
    /// Characters before it on its line.
    indent: usize,
    tokens: Vec<Token<'a>>,
}

fn statements(code: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let (mut indent, mut depth) = (0, 0usize);
    let mut fresh = true;
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        if fresh && matches!(c, ' ' | '\t') {
            indent += 1;
            rest = &rest[1..];
            continue;
        }
        if c != '\n' {
            fresh = false;
        }
        if let Some(quotes) = triple(rest) {
            let inside = &rest[3..];
            let end = inside.find(quotes);
            interpolated(&inside[..end.unwrap_or(inside.len())], &mut tokens);
            rest = end.map_or("", |end| &inside[end + 3..]);
            continue;
        }
        match c {
            '\n' => {
                rest = &rest[1..];
                if depth == 0 {
                    if !tokens.is_empty() {
                        found.push(Statement {
                            indent,
                            tokens: std::mem::take(&mut tokens),
                        });
                    }
                    indent = 0;
                    fresh = true;
                }
            }
            '#' => rest = rest.find('\n').map_or("", |at| &rest[at..]),
            '\\' => {
                let after = rest[1..].trim_start_matches([' ', '\t', '\r']);
                rest = after.strip_prefix('\n').unwrap_or(after);
            }
            '"' | '\'' => {
                let end = 1 + string_end(&rest[1..], c);
                interpolated(&rest[1..end], &mut tokens);
                rest = &rest[end..];
            }
            ';' if depth == 0 => {
                found.push(Statement {
                    indent,
                    tokens: std::mem::take(&mut tokens),
                });
                rest = rest[1..].trim_start_matches([' ', '\t']);
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                let word = &rest[..end];
                rest = &rest[end..];
                let string = rest.starts_with(['"', '\'']) && word.len() <= 2;
                // The `f` of a string; other prefixes have no names inside.
                if string && word.contains(['f', 'F']) {
                    tokens.push(Token::Mark('f'));
                } else if !string && !c.is_numeric() {
                    tokens.push(Token::Name(word));
                }
            }
            c => {
                let next = &rest[c.len_utf8()..];
                let doubled = next.starts_with('=');
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                let (token, length) = match c {
                    ':' if doubled => (Some(Token::Walrus), 2),
                    '=' | '!' | '<' | '>' if doubled => (Some(Token::Mark('~')), 2),
                    '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' | '@' if doubled => {
                        (Some(Token::Assign), 2)
                    }
                    '=' => (Some(Token::Assign), 1),
                    c if c.is_whitespace() => (None, c.len_utf8()),
                    c => (Some(Token::Mark(c)), c.len_utf8()),
                };
                tokens.extend(token);
                rest = &rest[length..];
            }
        }
    }
    if !tokens.is_empty() {
        found.push(Statement { indent, tokens });
    }
    found
}

/// The names inside the braces of a string whose prefix was an `f`.
fn interpolated<'a>(inside: &'a str, tokens: &mut Vec<Token<'a>>) {
    if tokens.last() != Some(&Token::Mark('f')) {
        return;
    }
    tokens.pop();
    for part in inside.split('{').skip(1) {
        let part = part.split('}').next().unwrap_or("");
        let words = part.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'));
        for word in words.filter_map(|word| word.split('.').next()) {
            if word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                // Apart, so that it is read as a use and nothing else.
                tokens.extend([Token::Mark('f'), Token::Name(word), Token::Mark(';')]);
            }
        }
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
