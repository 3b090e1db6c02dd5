//! LaTeX and plain mathematical text cut into tokens.
//!
//! What only sets space, size or type is dropped; different spellings of one sign become one token.
//! One pass over the text, no recursion.

use super::tree::{Constant, Function, SetOperation, Sign};
use super::unit;
use super::words::{self, Clock};
use crate::lexeme::{Kind, read_number};
use crate::rational::Rational;

/// A token and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: T,
    /// Whether white space is before it.
    pub(crate) spaced: bool,
    /// Byte offsets into the text that was cut, end exclusive.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum T {
    Number {
        value: Rational,
        decimals: Option<u32>,
    },
    /// A decimal that dots continue, in a way that is not known.
    Truncated {
        value: Rational,
        places: u32,
    },
    /// Digits with an explicit base.
    Based {
        digits: String,
        base: u32,
    },
    /// 7:30, with a part of the day where one follows.
    Time(Clock),
    /// Letters as they stand.
    Word(String),
    /// A Greek letter or another named symbol.
    Symbol(String),
    /// Words set as text.
    Text(String),
    Constant(Constant),
    Function(Function),
    /// `\overline`, `\hat`: an accent on what follows.
    Accent(&'static str),
    Plus,
    Minus,
    Times,
    Slash,
    Signs {
        flipped: bool,
    },
    Caret,
    Under,
    Bang,
    Percent,
    Degree,
    Prime,
    Fraction,
    /// `{1 \over 2}`
    Over,
    Binomial,
    Sqrt,
    Mod,
    Pmod,
    Open(char),
    Close(char),
    Bar,
    DoubleBar,
    Comma,
    Semicolon,
    Colon,
    Sign(Sign),
    Approx,
    Sets(SetOperation),
    /// "and", "or" between answers.
    And,
    Ellipsis,
    Integral,
    Series {
        product: bool,
    },
    Limit,
    Begin(String),
    End(String),
    Ampersand,
    Row,
    Currency,
    /// A word space wider than one: `\quad`.
    Quad,
    /// Not understood.
    Unknown,
}

/// Two ways to read a comma between digits, where it could be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commas {
    /// `1,234` is one number outside brackets.
    Thousands,
    /// Commas separate.
    Separate,
}

/// Cuts a text.
pub(crate) fn cut(text: &str, commas: Commas) -> Vec<Token> {
    let mut cutter = Cutter {
        text,
        at: 0,
        tokens: Vec::with_capacity(text.len() / 2 + 1),
        brackets: 0,
        environments: 0,
        commas,
        spaced: false,
    };
    while cutter.at < text.len() {
        cutter.next();
    }
    cutter.tokens
}

struct Cutter<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
    /// Open brackets in which a comma separates.
    brackets: usize,
    environments: usize,
    commas: Commas,
    spaced: bool,
}

impl Cutter<'_> {
    fn push(&mut self, kind: T, length: usize) {
        match &kind {
            T::Open(c) if *c != '{' => self.brackets += 1,
            T::Close(c) if *c != '}' => self.brackets = self.brackets.saturating_sub(1),
            T::Begin(_) => self.environments += 1,
            T::End(_) => self.environments = self.environments.saturating_sub(1),
            _ => {}
        }
        self.tokens.push(Token {
            kind,
            spaced: std::mem::take(&mut self.spaced),
            start: self.at,
            end: self.at + length,
        });
        self.at += length;
    }

    fn skip(&mut self, length: usize) {
        self.spaced = true;
        self.at += length;
    }

    fn next(&mut self) {
        let rest = &self.text[self.at..];
        let Some(c) = rest.chars().next() else { return };
        match c {
            '0'..='9' | '.' => self.number(rest),
            '\\' => self.command(rest),
            _ if c.is_alphabetic() => self.letters(rest, c),
            _ => self.symbol(rest, c),
        }
    }

    fn number(&mut self, rest: &str) {
        if rest.starts_with("...") {
            return self.push(T::Ellipsis, 3);
        }
        let raised = self.tokens.last().is_some_and(|t| t.kind == T::Caret);
        if !raised && let Some((digits, base, length)) = based(rest) {
            return self.push(T::Based { digits, base }, length);
        }
        if let Some((time, length)) = words::time(rest) {
            return self.push(T::Time(time), length);
        }
        // A lone superscript or subscript digit run is read whole; `\frac12` takes digits one by one.
        if self.takes_one_digit() {
            let length = 1;
            let value = Rational::integer(i64::from(rest.as_bytes()[0]) - 48);
            if rest.as_bytes()[0].is_ascii_digit() {
                return self.push(
                    T::Number {
                        value,
                        decimals: None,
                    },
                    length,
                );
            }
        }
        let thousands = self.commas == Commas::Thousands && self.brackets == 0;
        let Some(read) = read_number(rest, thousands) else {
            return self.push(T::Unknown, 1);
        };
        let Some(Kind::Number { value, decimals }) = read.kind else {
            return self.push(T::Unknown, read.length);
        };
        let mut length = read.length;
        let mut value = value;
        let written = &rest[..length];
        let mut decimals = written.contains('.').then_some(decimals);
        if let Some((repeating, more)) = repeating_decimals(&rest[length..], decimals.is_some()) {
            let places = decimals.unwrap_or(0) as i64;
            let shift = Rational::integer(10).power(-places);
            if let Some(tail) = shift.map(|s| repeating.times(&s)) {
                value = value.plus(&tail);
                length += more;
                // It is exact, not rounded.
                decimals = None;
            }
        } else if decimals.is_some()
            && let Some(dots) = dots(&rest[length..])
        {
            length += dots;
            match repeated(written) {
                Some(repeating) => {
                    value = repeating;
                    decimals = None;
                }
                None => {
                    let places = decimals.unwrap_or(0);
                    return self.push(T::Truncated { value, places }, length);
                }
            }
        }
        self.push(T::Number { value, decimals }, length);
    }

    /// Whether the token before could be the end of a value.
    fn after_value(&self) -> bool {
        matches!(
            self.tokens.last().map(|t| &t.kind),
            Some(
                T::Number { .. }
                    | T::Based { .. }
                    | T::Close(_)
                    | T::Percent
                    | T::Degree
                    | T::Constant(_)
                    | T::Bang
            )
        )
    }

    /// What a word between or before numbers represents, given what follows it.
    fn operator(&self, word: &str, after: &str) -> Option<T> {
        let after = after.trim_start_matches([' ', '}', '~', ',']);
        let number = after.starts_with(|c: char| c.is_ascii_digit() || "$(-.−".contains(c))
            || [
                "\\frac", "\\dfrac", "\\tfrac", "\\sqrt", "\\$", "\\pi", "\\left", "\\(",
            ]
            .iter()
            .any(|command| after.starts_with(command));
        if !number {
            return None;
        }
        Some(match (word, self.after_value()) {
            ("plus" | "added to", true) => T::Plus,
            ("minus", _) | ("negative", false) => T::Minus,
            ("times" | "multiplied by", true) => T::Times,
            ("divided by" | "over" | "out of", true) => T::Slash,
            ("to", true) => T::Colon,
            _ => return None,
        })
    }

    /// Whether the next digit is alone: the unbraced arguments of `\frac` and `\binom`.
    fn takes_one_digit(&self) -> bool {
        let mut back = self.tokens.iter().rev();
        match back.next().map(|t| &t.kind) {
            Some(T::Fraction | T::Binomial) => true,
            // The second argument: after `\frac1` or `\frac{…}`.
            Some(T::Number { .. }) => matches!(
                back.next().map(|t| &t.kind),
                Some(T::Fraction | T::Binomial)
            ),
            Some(T::Close('}')) => {
                let mut depth = 1;
                for token in back {
                    match token.kind {
                        T::Close('}') => depth += 1,
                        T::Open('{') => depth -= 1,
                        T::Fraction | T::Binomial if depth == 0 => return true,
                        _ if depth == 0 => return false,
                        _ => {}
                    }
                }
                false
            }
            _ => false,
        }
    }

    fn letters(&mut self, rest: &str, first: char) {
        if !first.is_ascii() {
            let kind = match first {
                'π' | 'Π' => T::Constant(Constant::Pi),
                'α'..='ω' | 'Α'..='Ω' => T::Symbol(greek_name(first)),
                'ℝ' | 'ℕ' | 'ℤ' | 'ℚ' | 'ℂ' => T::Symbol(first.to_string()),
                _ => {
                    let length = rest
                        .find(|c: char| !c.is_alphabetic() || c.is_ascii())
                        .unwrap_or(rest.len());
                    let word = rest[..length].to_lowercase();
                    return self.push(T::Text(word), length);
                }
            };
            return self.push(kind, first.len_utf8());
        }
        let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = &rest[..length];
        let two = [
            "divided by",
            "multiplied by",
            "added to",
            "out of",
            "per cent",
        ]
        .into_iter()
        .find(|two| {
            rest.starts_with(two) && !rest[two.len()..].starts_with(|c: char| c.is_alphabetic())
        });
        if let Some("per cent") = two {
            return self.push(T::Percent, "per cent".len());
        }
        if let Some(kind) =
            self.operator(two.unwrap_or(word), &rest[two.map_or(length, str::len)..])
        {
            return self.push(kind, two.map_or(length, str::len));
        }
        let kind = match word {
            // `40 min`
            "min"
                if self.after_value()
                    && !rest[length..]
                        .trim_start()
                        .starts_with(['(', '{', '[', '\\', '_']) =>
            {
                T::Word(word.to_owned())
            }
            "pi" | "Pi" => T::Constant(Constant::Pi),
            "infinity" | "inf" | "oo" | "Infinity" => T::Constant(Constant::Infinity),
            "and" | "or" | "AND" | "OR" => T::And,
            "USD" | "EUR" | "GBP" | "Rs" => T::Currency,
            "INR" | "AUD" | "CAD" | "JPY" | "CNY" | "RMB" | "CHF" | "HKD" | "SGD" | "NZD"
                if self.after_value()
                    || rest[length..]
                        .trim_start()
                        .starts_with(|c: char| c.is_ascii_digit()) =>
            {
                T::Currency
            }
            "sqrt" => T::Sqrt,
            "mod" => T::Mod,
            "percent" | "percentage" | "percents" | "pct" | "pcts" => T::Percent,
            "degrees" | "degree" => T::Degree,
            "bar" if rest[length..].starts_with('{') => T::Accent("bar"),
            "U" if self.brackets == 0
                && matches!(
                    self.tokens.last().map(|t| &t.kind),
                    Some(T::Close(')' | ']'))
                )
                && rest[1..].trim_start().starts_with(['(', '[']) =>
            {
                T::Sets(SetOperation::Union)
            }
            _ => match function(word) {
                Some(f) => T::Function(f),
                None => match greek(word) {
                    Some(name) => T::Symbol(name.to_owned()),
                    None => T::Word(word.to_owned()),
                },
            },
        };
        self.push(kind, length);
    }

    fn command(&mut self, rest: &str) {
        let after = &rest[1..];
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        if letters == 0 {
            return self.escape(rest, after);
        }
        let mut name = &after[..letters];
        if meaning(name).is_none() && !is_known(name) {
            // `\lvertx`, `\omegat`: a name that ran into the letters after it.
            let shorter = (2..name.len())
                .rev()
                .map(|n| &name[..n])
                .find(|n| meaning(n).is_some() || is_known(n));
            if let Some(shorter) = shorter {
                name = shorter;
            }
        }
        let length = 1 + name.len();
        if let Some(kind) = meaning(name) {
            return self.push(kind, length);
        }
        match name {
            "left" | "right" | "mleft" | "mright" | "big" | "Big" | "bigl" | "bigr" | "Bigl"
            | "Bigr" | "bigg" | "Bigg" | "biggl" | "biggr" | "Biggl" | "Biggr" | "middle" => {
                self.at += length;
                let next = &self.text[self.at..];
                // `\left.` shows no bracket.
                if next.starts_with('.') && name != "middle" {
                    self.at += 1;
                }
                // `\left{` means `\left\{`.
                if next.starts_with('{') {
                    self.push(T::Open('⦃'), 1);
                } else if next.starts_with('}') {
                    self.push(T::Close('⦄'), 1);
                }
            }
            "displaystyle" | "textstyle" | "limits" | "nolimits" | "rm" | "bf" | "it" | "sf"
            | "tt" | "boldsymbol" | "mathrm" | "mathbf" | "mathit" | "mathsf" | "mathtt"
            | "mathnormal" | "mathcal" | "mathfrak" | "LARGE" | "huge" | "Huge" | "tiny"
            | "operatorname" | "mathop" | "boxed" | "fbox" | "ensuremath" | "variable"
            | "triangle" | "angle" | "protect" | "phantom" | "mathbb" | "bm" | "noindent"
            | "cr" | "large" | "Large" | "small" | "normalsize" | "vphantom" | "nonumber"
            | "hline" => self.wrapper(name, rest, length),
            "text" | "mbox" | "textbf" | "textit" | "textnormal" | "textrm" | "hbox" | "textsf"
            | "texttt" | "emph" | "textup" | "textsc" | "textmd" | "textsl" => {
                self.text_group(rest, length);
            }
            "begin" | "end" => self.environment(name, rest, length),
            "quad" | "qquad" => self.push(T::Quad, length),
            "hspace" | "vspace" | "hskip" | "kern" | "label" | "tag" => {
                let group = group(&rest[length..]).map_or(0, |g| g.len() + 2);
                self.skip(length + group);
            }
            "enspace" | "thinspace" | "space" | "thickspace" | "medspace" | "smallskip" | "n"
            | "newline" | "allowbreak" | "strut" | "negthinspace" => self.skip(length),
            _ => self.push(T::Unknown, length),
        }
    }

    /// Commands whose argument counts and whose look does not.
    fn wrapper(&mut self, name: &str, rest: &str, length: usize) {
        let inside = group(&rest[length..]).filter(|g| g.len() <= 24);
        // `37^\circ\mathrm{C}`
        if let (Some(scale @ ("C" | "F")), Some(T::Degree)) =
            (inside.map(str::trim), self.tokens.last().map(|t| &t.kind))
        {
            let total = length + inside.map_or(0, |i| i.len() + 2);
            return self.push(T::Word(scale.to_owned()), total);
        }
        // `36\,\mathrm{m/s}`: a unit after a number.
        if let ("mathrm" | "operatorname" | "mathit" | "mathsf" | "rm" | "mathbf", Some(inside)) =
            (name, inside)
            && (self.after_value() || self.after_unit())
            && !inside.contains(|c: char| c.is_ascii_digit() && !inside.contains('^'))
        {
            let unit = words::plain(&inside.replace("\\cdot", "·").replace("\\times", "·"));
            if unit::of(unit.trim()).is_some() {
                return self.push(T::Text(unit.trim().to_owned()), length + inside.len() + 2);
            }
        }
        match (name, inside) {
            ("phantom" | "vphantom", Some(inside)) => self.skip(length + inside.len() + 2),
            ("mathbb", Some(inside)) => {
                let set = match inside {
                    "R" => "ℝ",
                    "N" => "ℕ",
                    "Z" => "ℤ",
                    "Q" => "ℚ",
                    "C" => "ℂ",
                    other => other,
                };
                self.push(T::Symbol(set.to_owned()), length + inside.len() + 2);
            }
            ("mathrm" | "operatorname" | "mathit" | "mathsf" | "rm" | "mathop", Some(inside))
                if inside.bytes().filter(u8::is_ascii_alphabetic).count() > 1
                    && inside
                        .bytes()
                        .all(|b| b.is_ascii_alphabetic() || b == b' ' || b == b'.') =>
            {
                let word = inside.trim();
                let kind = match function(word) {
                    Some(f) => T::Function(f),
                    None if name == "operatorname" => T::Symbol(word.to_owned()),
                    None => T::Text(word.to_lowercase()),
                };
                self.push(kind, length + inside.len() + 2);
            }
            ("variable", Some(inside)) => {
                let name: String = inside.split_whitespace().collect();
                let plain = name.bytes().all(|b| b.is_ascii_alphabetic()) && name.len() == 1;
                let kind = if plain {
                    T::Word(name)
                } else {
                    self.skip(length);
                    return;
                };
                self.push(kind, length + inside.len() + 2);
            }
            // The sign of an angle or triangle is no part of its value.
            _ => self.skip(length),
        }
    }

    /// Whether the token before is a unit, or joins one to the next.
    fn after_unit(&self) -> bool {
        let mut back = self.tokens.iter().rev().map(|t| &t.kind);
        match back.next() {
            Some(T::Text(text)) => unit::of(text).is_some(),
            Some(T::Times | T::Slash) => {
                matches!(back.next(), Some(T::Text(_)))
            }
            _ => false,
        }
    }

    /// `\text{…}`
    fn text_group(&mut self, rest: &str, length: usize) {
        let spaces = rest[length..].len() - rest[length..].trim_start_matches(' ').len();
        let length = length + spaces;
        let Some(inside) = group(&rest[length..]) else {
            return self.skip(length);
        };
        let total = length + inside.len() + 2;
        if let Some((time, read)) = words::time(inside.trim())
            && read == inside.trim().len()
        {
            return self.push(T::Time(time), total);
        }
        // `\text{A5}_{11}`
        if rest[total..].starts_with('_')
            && inside.len() < 24
            && let Some((digits, base, read)) = based(&format!("{inside}{}", &rest[total..]))
        {
            let length = total - inside.len() + read;
            return self.push(T::Based { digits, base }, length);
        }
        let words = words::plain(inside);
        let kind = match words.trim_matches([',', ' ', ';']) {
            "" if words.contains([',', ';']) => T::Comma,
            "" => {
                self.skip(total);
                return;
            }
            "and" | "or" | "and/or" => T::And,
            "percent" | "percents" | "pct" | "per cent" => T::Percent,
            word => match self.operator(word, &rest[total..]) {
                Some(kind) => kind,
                None => T::Text(words.trim().to_owned()),
            },
        };
        self.push(kind, total);
    }

    fn environment(&mut self, name: &str, rest: &str, length: usize) {
        let Some(inside) = group(&rest[length..]) else {
            return self.push(T::Unknown, length);
        };
        let mut total = length + inside.len() + 2;
        let environment = inside.trim_end_matches('*').to_owned();
        if name == "end" {
            return self.push(T::End(environment), total);
        }
        // The columns of an array.
        if matches!(inside, "array" | "tabular") {
            let after = &rest[total..];
            let spaces = after.len() - after.trim_start().len();
            if let Some(columns) = group(&after[spaces..])
                && columns.bytes().all(|b| b"lcr|@{} ".contains(&b))
            {
                total += spaces + columns.len() + 2;
            }
        }
        self.push(T::Begin(environment), total);
    }

    /// A backslash before something that is no letter.
    fn escape(&mut self, rest: &str, after: &str) {
        let Some(c) = after.chars().next() else {
            return self.skip(1);
        };
        match c {
            '{' => self.push(T::Open('⦃'), 2),
            '}' => self.push(T::Close('⦄'), 2),
            '|' => self.push(T::DoubleBar, 2),
            '%' => self.push(T::Percent, 2),
            '$' | '#' => self.push(T::Currency, 2),
            '\\' => {
                let doubled = after[1..]
                    .bytes()
                    .take_while(u8::is_ascii_alphabetic)
                    .count();
                let name = &after[1..1 + doubled];
                // `\\frac` is an escape written twice, not a new row.
                if name.len() > 1 && (is_known(name) || meaning(name).is_some()) {
                    self.at += 1;
                    let rest = &rest[1..];
                    return self.command(rest);
                }
                if self.environments > 0 {
                    self.push(T::Row, 2);
                } else {
                    self.skip(2);
                }
            }
            _ => self.skip(1 + c.len_utf8()),
        }
    }

    fn symbol(&mut self, rest: &str, c: char) {
        let length = c.len_utf8();
        let two = |end: &str| rest[length..].starts_with(end);
        let (kind, length) = match c {
            _ if c.is_whitespace() => return self.skip(length),
            '+' if two("-") => (T::Signs { flipped: false }, 2),
            '+' | '＋' => (T::Plus, length),
            '-' if two(">") => (T::Unknown, 2),
            '-' | '−' | '–' | '‐' | '‑' | '﹣' | '－' | '—' => (T::Minus, length),
            '*' if two("*") => (T::Caret, 2),
            '*' | '×' | '·' | '⋅' | '∙' | '∗' | '＊' => (T::Times, length),
            '/' | '÷' | '∕' | '⁄' | '／' => (T::Slash, length),
            '^' => (T::Caret, length),
            '_' => (T::Under, length),
            '!' if two("=") => (T::Sign(Sign::NotEqual), 2),
            '!' => (T::Bang, length),
            '%' | '％' => (T::Percent, length),
            '°' | 'º' | '˚' => (T::Degree, length),
            '\'' | '’' | '′' => (T::Prime, length),
            '(' | '[' | '{' => (T::Open(c), length),
            ')' | ']' | '}' => (T::Close(c), length),
            '（' => (T::Open('('), length),
            '）' => (T::Close(')'), length),
            '|' | '∣' => (T::Bar, length),
            '‖' => (T::DoubleBar, length),
            '∥' => (T::Sign(Sign::Parallel), length),
            '⊥' => (T::Sign(Sign::Perpendicular), length),
            ',' | '，' | '、' => (T::Comma, length),
            ';' | '；' => (T::Semicolon, length),
            ':' | '：' | '∶' => (T::Colon, length),
            '=' if two("=") => (T::Sign(Sign::Equal), 2),
            '=' | '＝' => (T::Sign(Sign::Equal), length),
            '<' if two("=") => (T::Sign(Sign::LessEqual), 2),
            '<' => (T::Sign(Sign::Less), length),
            '>' if two("=") => (T::Sign(Sign::GreaterEqual), 2),
            '>' => (T::Sign(Sign::Greater), length),
            '≤' | '⩽' => (T::Sign(Sign::LessEqual), length),
            '≥' | '⩾' => (T::Sign(Sign::GreaterEqual), length),
            '≠' => (T::Sign(Sign::NotEqual), length),
            '≡' => (T::Sign(Sign::Congruent), length),
            '∈' => (T::Sign(Sign::In), length),
            '∉' => (T::Sign(Sign::NotIn), length),
            '≈' | '≃' | '≅' | '～' => (T::Approx, length),
            '±' => (T::Signs { flipped: false }, length),
            '∓' => (T::Signs { flipped: true }, length),
            '√' => (T::Sqrt, length),
            '∪' | '⋃' => (T::Sets(SetOperation::Union), length),
            '∩' | '⋂' => (T::Sets(SetOperation::Intersection), length),
            '∖' => (T::Sets(SetOperation::Difference), length),
            '∞' => (T::Constant(Constant::Infinity), length),
            '∅' => (T::Symbol("∅".to_owned()), length),
            '…' | '⋯' => (T::Ellipsis, length),
            '$' | '€' | '£' | '¥' | '₹' | '¢' | '￥' => (T::Currency, length),
            '&' => (T::Ampersand, length),
            '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' => return self.superscript(rest),
            '½' | '⅓' | '⅔' | '¼' | '¾' | '⅕' | '⅖' | '⅗' | '⅘' | '⅙' | '⅚' | '⅛' | '⅜' | '⅝'
            | '⅞' | '⅐' | '⅑' | '⅒' => {
                let (n, d) = vulgar(c);
                let Some(value) = Rational::ratio(n, d) else {
                    return;
                };
                let kind = T::Number {
                    value,
                    decimals: None,
                };
                // 2½ is a mixed number.
                if let Some(last) = self.tokens.last_mut()
                    && let T::Number {
                        value: whole,
                        decimals: None,
                    } = &mut last.kind
                    && whole.is_integer()
                    && let T::Number { value, .. } = &kind
                {
                    *whole = whole.plus(value);
                    self.at += length;
                    return;
                }
                (kind, length)
            }
            '`'
            | '~'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{0}' => {
                return self.skip(length);
            }
            _ => (T::Unknown, length),
        };
        self.push(kind, length);
    }

    /// `x²`
    fn superscript(&mut self, rest: &str) {
        let digits: String = rest.chars().map_while(super_digit).collect();
        let length: usize = rest
            .chars()
            .take_while(|c| super_digit(*c).is_some())
            .map(char::len_utf8)
            .sum();
        self.push(T::Caret, 0);
        let kind = Rational::decimal(&digits, 0).map_or(T::Unknown, |value| T::Number {
            value,
            decimals: None,
        });
        self.push(kind, length);
    }
}

fn super_digit(c: char) -> Option<char> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹"
        .chars()
        .position(|d| d == c)
        .and_then(|i| char::from_digit(i as u32, 10))
}

fn vulgar(c: char) -> (i64, i64) {
    match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        _ => (7, 8),
    }
}

/// The content of the braces that `text` begins with, if they close within 4,000 bytes.
pub(crate) fn group(text: &str) -> Option<&str> {
    let inside = text.strip_prefix('{')?;
    let mut depth = 0usize;
    let mut escaped = false;
    for (i, b) in inside.bytes().enumerate().take(4000) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(&inside[..i]),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `152A_{11}`: digits, base, length.
fn based(text: &str) -> Option<(String, u32, usize)> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        .count();
    let after = text[digits..].strip_prefix('_')?;
    let (inside, length) = match group(after) {
        Some(inside) => (inside.trim(), inside.len() + 2),
        None => {
            let n = after.bytes().take_while(u8::is_ascii_digit).count();
            (&after[..n], n)
        }
    };
    let inside = inside
        .strip_prefix("\\text{")
        .and_then(|s| s.strip_suffix('}'))
        .unwrap_or(inside);
    let base = match inside {
        "two" => 2,
        "eight" => 8,
        "ten" => 10,
        "sixteen" => 16,
        _ => inside.parse().ok()?,
    };
    let fits = text[..digits]
        .chars()
        .all(|c| c.to_digit(36).is_some_and(|d| d < base));
    (fits && (2..=36).contains(&base) && digits <= 60)
        .then(|| (text[..digits].to_owned(), base, digits + 1 + length))
}

/// The length of the dots that follow a decimal which goes on: `...`, `…`, `\ldots`.
fn dots(after: &str) -> Option<usize> {
    let rest = after.trim_start_matches([' ', '{']);
    let rest = rest.strip_prefix("\\,").unwrap_or(rest);
    let mark = ["...", "…", "\\ldots", "\\dots", "\\cdots", "\\dotsc"]
        .into_iter()
        .find(|mark| rest.starts_with(mark))?;
    let braced = after[..after.len() - rest.len()].contains('{');
    let end = &rest[mark.len()..];
    let close = usize::from(braced && end.starts_with('}'));
    (braced == (close == 1)).then_some(after.len() - end.len() + close)
}

/// The value of decimals that repeat at their end: `0.333` is 1/3, `0.5833` is no more than it is,
/// `0.58333` is 7/12. A period of one digit must be there three times, one that begins right after
/// the point twice, any other three times.
fn repeated(written: &str) -> Option<Rational> {
    let (whole, digits) = written.split_once('.')?;
    if digits.len() > 40 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
    let n = digits.len();
    let bytes = digits.as_bytes();
    for period in 1..=n / 2 {
        for start in 0..n {
            let tail = n - start;
            let times = if period > 1 && start == 0 { 2 } else { 3 };
            if tail < period * times {
                break;
            }
            if (start + period..n).any(|i| bytes[i] != bytes[i - period]) {
                continue;
            }
            let fixed = Rational::decimal(&format!("{whole}{}", &digits[..start]), start as i32)?;
            let nines = Rational::integer(10)
                .power(period as i64)?
                .minus(&Rational::integer(1));
            let round = Rational::decimal(&digits[start..start + period], start as i32)?;
            return Some(fixed.plus(&round.over(&nines)?));
        }
    }
    None
}

/// `.\overline{36}` or, after decimals, `\overline{6}`: the value and its length.
fn repeating_decimals(after: &str, has_point: bool) -> Option<(Rational, usize)> {
    let (point, rest) = match after.strip_prefix('.') {
        Some(rest) if !has_point => (1, rest),
        None if has_point => (0, after),
        _ => return None,
    };
    let (inside, length) = period(rest)?;
    let n = inside.len();
    if n == 0 || n > 15 || !inside.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nines = 10i64.pow(n as u32) - 1;
    let value = Rational::ratio(inside.parse().ok()?, nines)?;
    Some((value, point + length))
}

/// The digits that repeat: under a line, between dots, or in brackets; and the length they take.
fn period(text: &str) -> Option<(String, usize)> {
    for command in ["\\overline", "\\bar", "\\widebar", "\\dot"] {
        let Some(rest) = text.strip_prefix(command) else {
            continue;
        };
        let (first, length) = match group(rest) {
            Some(inside) => (inside.trim(), inside.len() + 2),
            None => {
                let digit = rest.trim_start();
                let spaces = rest.len() - digit.len();
                (digit.get(..1)?, spaces + 1)
            }
        };
        let mut digits = first.to_owned();
        let mut at = command.len() + length;
        // `\dot{1}4285\dot{7}`
        if command == "\\dot" {
            let plain = text[at..].bytes().take_while(u8::is_ascii_digit).count();
            if let Some(last) = text[at + plain..].strip_prefix("\\dot")
                && let Some(inside) = group(last)
            {
                digits.push_str(&text[at..at + plain]);
                digits.push_str(inside.trim());
                at += plain + "\\dot".len() + inside.len() + 2;
            }
        }
        return Some((digits, at));
    }
    let inside = text.strip_prefix('(')?;
    let digits = inside.bytes().take_while(u8::is_ascii_digit).count();
    let after = inside[digits..].strip_prefix(')')?;
    // `0.1(6)` alone: with anything beside it, a product.
    let alone = after.trim_start().is_empty();
    (digits > 0 && alone).then(|| (inside[..digits].to_owned(), digits + 2))
}

/// A function by its plain or LaTeX name.
fn function(name: &str) -> Option<Function> {
    Some(match name {
        "sin" => Function::Sin,
        "cos" => Function::Cos,
        "tan" | "tg" => Function::Tan,
        "cot" | "ctg" => Function::Cot,
        "sec" => Function::Sec,
        "csc" | "cosec" => Function::Csc,
        "arcsin" | "asin" => Function::Arcsin,
        "arccos" | "acos" => Function::Arccos,
        "arctan" | "atan" | "arctg" => Function::Arctan,
        "arccot" | "acot" => Function::Arccot,
        "sinh" => Function::Sinh,
        "cosh" => Function::Cosh,
        "tanh" => Function::Tanh,
        "arsinh" | "arcsinh" | "asinh" => Function::Arsinh,
        "arcosh" | "arccosh" | "acosh" => Function::Arcosh,
        "artanh" | "arctanh" | "atanh" => Function::Artanh,
        "exp" => Function::Exp,
        "ln" | "log" | "lg" => Function::Log,
        "abs" => Function::Abs,
        "floor" => Function::Floor,
        "ceil" | "ceiling" => Function::Ceil,
        "sgn" | "sign" => Function::Sign,
        "gcd" => Function::Gcd,
        "lcm" => Function::Lcm,
        "max" => Function::Max,
        "min" => Function::Min,
        "Re" => Function::Re,
        "Im" => Function::Im,
        "arg" => Function::Arg,
        "det" => Function::Det,
        "nCr" => Function::Binomial,
        _ => return None,
    })
}

/// A Greek letter's name, as LaTeX spells it.
fn greek(name: &str) -> Option<&'static str> {
    const NAMES: [&str; 40] = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "iota",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "varrho",
        "sigma",
        "varsigma",
        "tau",
        "upsilon",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Lambda",
        "Xi",
        "Sigma",
        "Upsilon",
        "Phi",
        "Psi",
        "Omega",
        "ell",
        "hbar",
        "nabla",
    ];
    NAMES.into_iter().find(|n| *n == name)
}

/// The LaTeX name of a Greek character.
fn greek_name(c: char) -> String {
    const LOWER: [&str; 25] = [
        "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon",
        "phi", "chi", "psi", "omega",
    ];
    let index = |base: char| (c as u32 - base as u32) as usize;
    match c {
        'α'..='ω' => LOWER[index('α')].to_owned(),
        'Α'..='Ω' => {
            let mut name = LOWER[index('Α')].to_owned();
            name[..1].make_ascii_uppercase();
            name
        }
        _ => c.to_string(),
    }
}

/// Commands that [`Cutter::command`] treats one by one.
fn is_known(name: &str) -> bool {
    matches!(
        name,
        "left"
            | "right"
            | "mleft"
            | "mright"
            | "text"
            | "mbox"
            | "textbf"
            | "textnormal"
            | "mathrm"
            | "mathbf"
            | "operatorname"
            | "boxed"
            | "begin"
            | "end"
            | "quad"
            | "qquad"
            | "displaystyle"
            | "mathbb"
            | "variable"
            | "angle"
            | "triangle"
            | "textit"
            | "big"
            | "Big"
            | "bigl"
            | "bigr"
            | "Bigl"
            | "Bigr"
            | "phantom"
            | "textrm"
            | "hspace"
            | "limits"
            | "boldsymbol"
            | "mathcal"
            | "noindent"
            | "hline"
            | "space"
    )
}

/// The token that a command represents.
fn meaning(name: &str) -> Option<T> {
    use Constant::{E, I, Infinity, Pi};
    Some(match name {
        "frac" | "dfrac" | "tfrac" | "cfrac" | "nicefrac" | "sfrac" => T::Fraction,
        "over" => T::Over,
        "binom" | "dbinom" | "tbinom" => T::Binomial,
        "sqrt" | "root" => T::Sqrt,
        "times" | "cdot" | "ast" | "cdotp" | "bullet" => T::Times,
        "div" => T::Slash,
        "pm" => T::Signs { flipped: false },
        "mp" => T::Signs { flipped: true },
        "pi" => T::Constant(Pi),
        "infty" => T::Constant(Infinity),
        "exponentialE" => T::Constant(E),
        "imaginaryI" | "imaginaryJ" | "imath" => T::Constant(I),
        "percent" => T::Percent,
        "circ" | "degree" | "textdegree" => T::Degree,
        "prime" => T::Prime,
        "dollar" | "euro" | "pounds" | "yen" | "textdollar" => T::Currency,
        "mod" | "bmod" => T::Mod,
        "pmod" => T::Pmod,
        "lvert" | "rvert" | "vert" | "mid" => T::Bar,
        "Vert" | "lVert" | "rVert" => T::DoubleBar,
        "parallel" => T::Sign(Sign::Parallel),
        "perp" => T::Sign(Sign::Perpendicular),
        "lbrace" => T::Open('⦃'),
        "rbrace" => T::Close('⦄'),
        "lbrack" => T::Open('['),
        "rbrack" => T::Close(']'),
        "lgroup" | "lparen" => T::Open('('),
        "rgroup" | "rparen" => T::Close(')'),
        "lfloor" | "llcorner" => T::Open('⌊'),
        "rfloor" | "lrcorner" => T::Close('⌋'),
        "lceil" | "ulcorner" => T::Open('⌈'),
        "rceil" | "urcorner" => T::Close('⌉'),
        "langle" => T::Open('⟨'),
        "rangle" => T::Close('⟩'),
        "le" | "leq" | "leqslant" | "leqq" => T::Sign(Sign::LessEqual),
        "ge" | "geq" | "geqslant" | "geqq" => T::Sign(Sign::GreaterEqual),
        "lt" => T::Sign(Sign::Less),
        "gt" => T::Sign(Sign::Greater),
        "ne" | "neq" => T::Sign(Sign::NotEqual),
        "in" => T::Sign(Sign::In),
        "notin" => T::Sign(Sign::NotIn),
        "subset" | "subseteq" => T::Sign(Sign::Subset),
        "equiv" => T::Sign(Sign::Congruent),
        "sim" | "cong" | "simeq" => T::Sign(Sign::Similar),
        "approx" => T::Approx,
        "cup" | "bigcup" => T::Sets(SetOperation::Union),
        "cap" | "bigcap" => T::Sets(SetOperation::Intersection),
        "setminus" | "backslash" | "smallsetminus" => T::Sets(SetOperation::Difference),
        "emptyset" | "varnothing" => T::Symbol("∅".to_owned()),
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" | "dotsm" => T::Ellipsis,
        "int" => T::Integral,
        "sum" => T::Series { product: false },
        "prod" => T::Series { product: true },
        "lim" => T::Limit,
        "colon" => T::Colon,
        "land" | "lor" | "wedge" | "vee" => T::And,
        "overline" | "bar" => T::Accent("bar"),
        "hat" | "widehat" => T::Accent("hat"),
        "vec" | "overrightarrow" => T::Accent("vec"),
        "dot" => T::Accent("dot"),
        "ddot" => T::Accent("ddot"),
        "tilde" | "widetilde" => T::Accent("tilde"),
        "underline" => T::Accent("under"),
        _ => {
            if let Some(f) = function(name) {
                T::Function(f)
            } else {
                T::Symbol(greek(name)?.to_owned())
            }
        }
    })
}
