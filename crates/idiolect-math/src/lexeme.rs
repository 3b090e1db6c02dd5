//! Text cut into arithmetic: numbers, operators in every notation that models and people use,
//! words, and marks.
//!
//! Markdown emphasis, currency signs, LaTeX spacing and invisible characters are dropped; Unicode
//! operators and LaTeX commands become the operators they represent. Countdown's answers and the
//! step checks of all tasks read the same lexemes, and only differ in what they allow. One pass,
//! no recursion, time linear in the text.

use crate::Rational;

/// What a lexeme is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A number without sign.
    Number {
        /// Its exact value.
        value: Rational,
        /// Digits after the point.
        decimals: u32,
    },
    /// `+`
    Plus,
    /// `-`, `−`
    Minus,
    /// `*`, `×`, `\times`
    Times,
    /// `/`, `÷`, `\div`
    Divide,
    /// `//`
    FloorDivide,
    /// `^` or `**`
    Power,
    /// `%`
    Percent,
    /// `(`, `[`, `{`
    Open,
    /// `)`, `]`, `}`
    Close,
    /// LaTeX's `\frac`; two braced groups follow.
    Fraction,
    /// `=`
    Equals,
    /// Prose, or the content of `\text{…}`.
    Word,
    /// A cents sign or a currency sign: dropped by parsers, seen by unit checks.
    Currency,
    /// `<<…>>`, a calculator annotation.
    Annotation,
    /// Punctuation, and signs such as ≈ that state nothing exact.
    Mark,
    /// Something with a value that is not understood: a variable, a time, a root.
    Unknown,
}

/// A kind and where it is: byte offsets into the text that was cut, end exclusive.
#[derive(Clone, Debug, PartialEq)]
pub struct Lexeme {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

/// Cuts a text. `thousands`: whether `1,234` is one number.
pub fn lex(text: &str, thousands: bool) -> Vec<Lexeme> {
    let mut lexemes: Vec<Lexeme> = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match c {
            // `Rs.1600`
            '.' if text[..at].ends_with(char::is_alphabetic) => (Some(Kind::Mark), 1),
            '0'..='9' | '.' | '０'..='９' => number(rest, thousands),
            '*' if rest.starts_with("**") => (power_or_emphasis(&lexemes, &rest[2..]), 2),
            '/' if rest.starts_with("//") => (Some(Kind::FloorDivide), 2),
            '<' if rest.starts_with("<<") => annotation(rest),
            '\\' => command(rest),
            _ if c.is_alphabetic() => word(rest, lexemes.last(), at),
            _ => symbol(rest, c),
        };
        if let Some(kind) = kind {
            lexemes.push(Lexeme {
                kind,
                start: at,
                end: at + length,
            });
        }
        at += length;
    }
    lexemes
}

/// A number at the start of `text` and its length in bytes.
fn number(text: &str, thousands: bool) -> (Option<Kind>, usize) {
    let Some(read) = read_number(text, thousands) else {
        let length = text.chars().next().map_or(1, char::len_utf8);
        return (Some(Kind::Mark), length);
    };
    let after = &text[read.length..];
    let mut tail = after.chars();
    // In prose 0730 is a time, not a number.
    let clock =
        thousands && text.starts_with('0') && !text[..read.length].contains('.') && read.length > 1;
    let kind = match (tail.next(), tail.next()) {
        _ if clock => None,
        // 7:30 and 1.2.3 are no numbers.
        (Some(':' | '.'), Some('0'..='9')) => None,
        // 1st, 5m, 2pi, 3y: ordinals and what may be a variable. 12cm is a number with a unit.
        (Some(c), next) if c.is_alphabetic() => {
            let attached: String = after.chars().take_while(|c| c.is_alphanumeric()).collect();
            let times = matches!(c, 'x' | 'X' | '×')
                && next.is_some_and(|n| n.is_ascii_digit() || n == '(' || n == '$' || n == '.');
            let unit = attached.chars().count() > 1
                && !matches!(attached.as_str(), "st" | "nd" | "rd" | "th" | "pi");
            if times || unit { read.kind } else { None }
        }
        _ => read.kind,
    };
    match kind {
        Some(kind) => (Some(kind), read.length),
        None => {
            let unread = after
                .find(|c: char| !(c.is_alphanumeric() || c == ':' || c == '.'))
                .unwrap_or(after.len());
            let word = after[..unread].trim_end_matches(['.', ':']).len();
            (Some(Kind::Unknown), read.length + word)
        }
    }
}

/// What [`read_number`] found.
pub struct ReadNumber {
    /// The number; `None` where it is too long to be one.
    pub kind: Option<Kind>,
    /// Bytes read.
    pub length: usize,
}

/// Reads digits with optional thousands separators, decimals and exponent.
pub fn read_number(text: &str, thousands: bool) -> Option<ReadNumber> {
    let mut digits = String::new();
    let mut at = take_digits(text, &mut digits);
    if thousands && (1..=3).contains(&digits.len()) {
        while let Some(separator) = separator_of_thousands(&text[at..]) {
            at += separator + take_digits(&text[at + separator..], &mut digits);
        }
    }
    let mut decimals = 0;
    if text[at..].starts_with('.') {
        let before = digits.len();
        let read = take_digits(&text[at + 1..], &mut digits);
        if read > 0 {
            decimals = digits.len() - before;
            at += 1 + read;
        }
    }
    if digits.is_empty() {
        return None;
    }
    let mut shift = 0i32;
    if let Some((exponent, read)) = exponent(&text[at..]) {
        (shift, at) = (exponent, at + read);
    }
    let decimals = u32::try_from(decimals).unwrap_or(u32::MAX);
    let scale = i32::try_from(decimals)
        .ok()
        .and_then(|d| d.checked_sub(shift));
    let kind = scale
        .and_then(|scale| Rational::decimal(&digits, scale))
        .map(|value| Kind::Number { value, decimals });
    Some(ReadNumber { kind, length: at })
}

/// Appends the ASCII or full-width digits that `text` begins with, as ASCII; bytes read.
fn take_digits(text: &str, digits: &mut String) -> usize {
    let mut read = 0;
    for c in text.chars() {
        match c {
            '0'..='9' => digits.push(c),
            '０'..='９' => {
                digits.push(char::from(b'0' + (c as u32 - '０' as u32) as u8));
            }
            _ => break,
        }
        read += c.len_utf8();
    }
    read
}

/// Length of a thousands separator that exactly three digits follow.
fn separator_of_thousands(text: &str) -> Option<usize> {
    let length = [
        ",\\!", ", \\!", ",\\! ", ",", "{,}", "\\,", "\\!", "\u{202f}", "\u{2009}",
    ]
    .iter()
    .filter(|s| text.starts_with(**s))
    .map(|s| s.len())
    .max()?;
    let after = &text.as_bytes()[length..];
    let three = after.len() >= 3 && after[..3].iter().all(u8::is_ascii_digit);
    (three && !after.get(3).is_some_and(u8::is_ascii_digit)).then_some(length)
}

/// `e5`, `E-3`: the exponent and its length.
fn exponent(text: &str) -> Option<(i32, usize)> {
    let after = text.strip_prefix(['e', 'E'])?;
    let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
    let length = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let ends = !unsigned[length..].starts_with(|c: char| c.is_alphanumeric());
    if length == 0 || length > 3 || !ends {
        return None;
    }
    let sign_and_digits = after.len() - unsigned.len() + length;
    Some((
        after[..sign_and_digits]
            .trim_start_matches('+')
            .parse()
            .ok()?,
        1 + sign_and_digits,
    ))
}

/// `**` is a power between two operands, else emphasis, which is dropped.
fn power_or_emphasis(before: &[Lexeme], after: &str) -> Option<Kind> {
    let operand_before = before
        .last()
        .is_some_and(|l| matches!(l.kind, Kind::Number { .. } | Kind::Close));
    let operand_after = after
        .trim_start_matches([' ', '\t', '-', '+'])
        .starts_with(|c: char| c.is_ascii_digit() || c == '(' || c == '.');
    (operand_before && operand_after).then_some(Kind::Power)
}

/// `<<48/2=24>>`. Without an end on the same line it is two marks.
fn annotation(text: &str) -> (Option<Kind>, usize) {
    // An annotation is short; looking further would make a text of `<<` quadratic.
    let window = text
        .char_indices()
        .nth(256)
        .map_or(text, |(i, _)| &text[..i]);
    match window.find(">>") {
        Some(end) if !window[..end].contains('\n') => (Some(Kind::Annotation), end + 2),
        _ => (Some(Kind::Mark), 2),
    }
}

/// A LaTeX command, dropped where it only sets space or size.
fn command(text: &str) -> (Option<Kind>, usize) {
    let after = &text[1..];
    let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
    if letters == 0 {
        let Some(c) = after.chars().next() else {
            return (Some(Kind::Mark), 1);
        };
        let kind = match c {
            '%' => Some(Kind::Percent),
            '$' => Some(Kind::Currency),
            ',' | ';' | ':' | '!' | ' ' | '(' | ')' | '[' | ']' => None,
            _ => Some(Kind::Mark),
        };
        return (kind, 1 + c.len_utf8());
    }
    let length = 1 + letters;
    match &after[..letters] {
        "times" | "cdot" | "ast" => (Some(Kind::Times), length),
        "div" => (Some(Kind::Divide), length),
        "frac" | "dfrac" | "tfrac" | "cfrac" => (Some(Kind::Fraction), length),
        "text" | "mathrm" | "textbf" | "textit" | "mathbf" | "mbox" => text_group(text, length),
        "left" | "right" | "big" | "Big" | "bigl" | "bigr" | "Bigl" | "Bigr" | "displaystyle"
        | "quad" | "qquad" | "boxed" => (None, length),
        "approx" | "Rightarrow" | "rightarrow" | "implies" | "therefore" | "to" | "ldots"
        | "dots" | "begin" | "end" | "neq" | "ne" => (Some(Kind::Mark), length),
        _ => (Some(Kind::Unknown), length),
    }
}

/// `\text{…}` reads as one word; with digits in it, as something not understood.
fn text_group(text: &str, length: usize) -> (Option<Kind>, usize) {
    let Some(group) = text[length..].strip_prefix('{') else {
        return (None, length);
    };
    let window = group
        .char_indices()
        .nth(256)
        .map_or(group, |(i, _)| &group[..i]);
    let Some(end) = window.find('}') else {
        return (Some(Kind::Unknown), length);
    };
    let content = &window[..end];
    let kind = if content.bytes().any(|b| b.is_ascii_digit()) {
        Some(Kind::Unknown)
    } else if content.chars().any(char::is_alphabetic) {
        Some(Kind::Word)
    } else {
        None
    };
    (kind, length + end + 2)
}

/// Letters with inner apostrophes and hyphens. A lone `x` between operands is a multiplication,
/// other lone letters are variables.
fn word(text: &str, before: Option<&Lexeme>, at: usize) -> (Option<Kind>, usize) {
    let mut length = 0;
    let mut has_digit = false;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let joins = matches!(c, '\'' | '’' | '-')
            && i > 0
            && chars.peek().is_some_and(|(_, next)| next.is_alphabetic());
        if !(c.is_alphanumeric() || joins) {
            break;
        }
        has_digit |= c.is_numeric();
        length = i + c.len_utf8();
    }
    if text.starts_with(['x', 'X']) && is_times(text, before, at) {
        return (Some(Kind::Times), 1);
    }
    let one = text[..length].chars().nth(1).is_none();
    let variable = has_digit || (one && !matches!(&text[..length], "a" | "A" | "I"));
    (
        Some(if variable { Kind::Unknown } else { Kind::Word }),
        length,
    )
}

fn is_times(text: &str, before: Option<&Lexeme>, at: usize) -> bool {
    let operand_before = before.is_some_and(|l| match l.kind {
        Kind::Number { .. } | Kind::Close | Kind::Percent => true,
        Kind::Word => l.end < at,
        _ => false,
    });
    let after = &text[1..];
    let operand = after.trim_start_matches([' ', '$', '\\']);
    let spaced = after.len() > operand.len();
    let operand_after = operand.starts_with(|c: char| c.is_ascii_digit() || c == '(' || c == '.')
        || (spaced && operand.starts_with("frac"));
    operand_before && operand_after
}

/// Everything that is neither number, word nor command.
fn symbol(text: &str, c: char) -> (Option<Kind>, usize) {
    let length = c.len_utf8();
    let kind = match c {
        _ if c.is_whitespace() => None,
        '+' | '＋' => Some(Kind::Plus),
        '-' if text.starts_with("->") => return (Some(Kind::Mark), 2),
        '-' | '−' | '–' | '‐' | '‑' | '﹣' | '－' => Some(Kind::Minus),
        '*' | '×' | '✕' | '✖' | '⨯' | '·' | '⋅' | '∙' | '•' | '∗' | '＊' => {
            Some(Kind::Times)
        }
        '/' | '÷' | '∕' | '⁄' | '／' => Some(Kind::Divide),
        '^' => Some(Kind::Power),
        '%' | '％' => Some(Kind::Percent),
        '(' | '[' | '{' | '（' | '［' => Some(Kind::Open),
        ')' | ']' | '}' | '）' | '］' => Some(Kind::Close),
        '=' if text.starts_with("=>") => return (Some(Kind::Mark), 2),
        '=' if text.starts_with("==") => return (Some(Kind::Equals), 2),
        '=' | '＝' => Some(Kind::Equals),
        '!' | '<' | '>' | ':' if text[length..].starts_with('=') => {
            return (Some(Kind::Mark), length + 1);
        }
        '$' | '＄' | '£' | '€' | '¥' | '￥' | '₹' | '¢' | '₩' | '₽' | '₦' | '₱' | '₫' | '฿'
        | '₺' | '₪' => Some(Kind::Currency),
        // Emphasis, code marks, alignment, and characters without a width.
        '`' | '~' | '&' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe0f}' => None,
        '√' | '∛' | '_' => Some(Kind::Unknown),
        _ => Some(Kind::Mark),
    };
    (kind, length)
}

/// Length of `1. `, `2) `, `- `, `* ` at the start of a part.
pub fn list_marker(part: &str) -> usize {
    let digits = part.bytes().take_while(u8::is_ascii_digit).count();
    let after = &part[digits..];
    let marker = if (1..=3).contains(&digits) && after.starts_with(['.', ')']) {
        digits + 1
    } else {
        match part.chars().next() {
            Some(c @ ('-' | '*' | '•' | '+' | '#')) if digits == 0 => c.len_utf8(),
            _ => return 0,
        }
    };
    if part[marker..].starts_with(' ') {
        marker + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> String {
        lex(text, true)
            .iter()
            .map(|l| match &l.kind {
                Kind::Number { value, .. } => value.to_string(),
                Kind::Plus => "+".into(),
                Kind::Minus => "-".into(),
                Kind::Times => "*".into(),
                Kind::Divide => "/".into(),
                Kind::FloorDivide => "//".into(),
                Kind::Power => "^".into(),
                Kind::Percent => "%".into(),
                Kind::Open => "(".into(),
                Kind::Close => ")".into(),
                Kind::Fraction => "frac".into(),
                Kind::Equals => "=".into(),
                Kind::Word => "w".into(),
                Kind::Currency => "$".into(),
                Kind::Annotation => "<<>>".into(),
                Kind::Mark => ",".into(),
                Kind::Unknown => "?".into(),
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn notations_become_the_same_lexemes() {
        for text in [
            "(3 * 7) - 2",
            "(3 × 7) − 2",
            "[3·7]–2",
            r"\left( 3 \times 7 \right) - 2",
            "**(3 x 7) - 2**",
            "（３＊７）－２",
            "`(3x7)-2`",
        ] {
            assert_eq!(shape(text), "( 3 * 7 ) - 2", "{text}");
        }
        assert_eq!(shape(r"\dfrac{1}{2} \div 4"), "frac ( 1 ) ( 2 ) / 4");
    }

    #[test]
    fn numbers_are_read_whole() {
        assert_eq!(
            shape("1,234.50 1,23 1{,}000 .5 2e3 5. 12,345,678"),
            "1234.5 1 , 23 1000 0.5 2000 5 , 12345678"
        );
        assert_eq!(shape("7:30 1st 5m 2x 12cm 1.2.3 x2"), "? ? ? ? 12 w ? ?");
        assert_eq!(shape(&"9".repeat(300)), "?");
    }

    #[test]
    fn stars_are_power_only_between_operands() {
        assert_eq!(shape("2 ** 3"), "2 ^ 3");
        assert_eq!(shape("**60 - 17** = **43**"), "60 - 17 = 43");
    }

    #[test]
    fn annotations_words_and_units_are_told_apart() {
        assert_eq!(
            shape("sold 48/2 = <<48/2=24>>24 clips"),
            "w 48 / 2 = <<>> 24 w"
        );
        assert_eq!(
            shape(r"5 \text{ bolts} + $3 x $2 = \boxed{11}"),
            "5 w + $ 3 * $ 2 = ( 11 )"
        );
    }

    #[test]
    fn list_markers_are_not_arithmetic() {
        assert_eq!(
            ["1. a", "12) a", "- a", "a", "3.5 a", "-3"].map(list_marker),
            [3, 4, 2, 0, 0, 0]
        );
    }
}
