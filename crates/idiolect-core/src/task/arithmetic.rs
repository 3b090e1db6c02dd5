//! Arithmetic expressions read from lexemes and evaluated exactly while they are read.
//!
//! What is written around the numbers (units, currency) is tolerated where [`Reading`] states so, and
//! what Countdown forbids is evaluated and noted, so that a verdict can name it. Depth, powers and
//! digits are bounded; nothing else can grow.

use idiolect_math::Rational;
use idiolect_math::lexeme::{Kind, Lexeme};

/// Parentheses and signs may nest this deep; deeper is no expression.
const MAX_DEPTH: usize = 64;
/// So many words may stand between a number and the operator after it: `5 red glass marbles + 3`.
const MAX_UNIT_WORDS: usize = 4;

/// Values larger than this many bits are given up: no honest text holds them, and each operation
/// costs at most the square of it.
const MAX_BITS: u64 = 1 << 15;

/// How lexemes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// Words after a number are its unit.
    pub(super) units: bool,
    /// `20%` is 0.2 rather than 20 of a unit.
    pub(super) percent_is_hundredth: bool,
}

/// An expression at the start of some lexemes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Parsed {
    /// `Err` where a division by zero or a power beyond bounds has no value.
    pub(super) value: Result<Rational, &'static str>,
    /// Lexemes read.
    pub(super) length: usize,
    /// Binary operations in it.
    pub(super) operations: usize,
    /// Indices of the words read as units.
    pub(super) units: Vec<usize>,
    /// Digits after the point, where the expression is one number.
    pub(super) decimals: u32,
    /// The first thing in it that Countdown does not allow.
    pub(super) forbidden: Option<&'static str>,
}

/// Reads the longest expression that `lexemes` begin with; `None` where there is none. A dangling
/// operator after it is left unread.
pub(super) fn parse(lexemes: &[Lexeme], reading: Reading) -> Option<Parsed> {
    let mut parser = Parser {
        lexemes,
        reading,
        at: 0,
        depth: 0,
        operations: 0,
        units: Vec::new(),
        decimals: 0,
        forbidden: None,
    };
    let value = parser.sum()?;
    Some(Parsed {
        value,
        length: parser.at,
        operations: parser.operations,
        units: parser.units,
        decimals: if parser.operations == 0 {
            parser.decimals
        } else {
            0
        },
        forbidden: parser.forbidden,
    })
}

type Value = Result<Rational, &'static str>;

struct Parser<'a> {
    lexemes: &'a [Lexeme],
    reading: Reading,
    at: usize,
    depth: usize,
    operations: usize,
    units: Vec<usize>,
    decimals: u32,
    forbidden: Option<&'static str>,
}

/// Where a parser stood, to go back to.
struct Mark {
    at: usize,
    operations: usize,
    units: usize,
    forbidden: Option<&'static str>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.lexemes.get(self.at).map(|l| &l.kind)
    }

    fn mark(&self) -> Mark {
        Mark {
            at: self.at,
            operations: self.operations,
            units: self.units.len(),
            forbidden: self.forbidden,
        }
    }

    fn back_to(&mut self, mark: &Mark) {
        self.at = mark.at;
        self.operations = mark.operations;
        self.units.truncate(mark.units);
        self.forbidden = mark.forbidden;
    }

    fn forbid(&mut self, what: &'static str) {
        self.forbidden = self.forbidden.or(Some(what));
    }

    fn sum(&mut self) -> Option<Value> {
        let mut value = self.product()?;
        loop {
            let mark = self.mark();
            let minus = match self.peek() {
                Some(Kind::Plus) => false,
                Some(Kind::Minus) => true,
                _ => return Some(value),
            };
            self.at += 1;
            self.operations += 1;
            let Some(right) = self.product() else {
                self.back_to(&mark);
                return Some(value);
            };
            value = both(value, right, |a, b| {
                Ok(if minus { a.minus(b) } else { a.plus(b) })
            });
        }
    }

    fn product(&mut self) -> Option<Value> {
        let mut value = self.signed()?;
        loop {
            let mark = self.mark();
            let operator = match self.peek() {
                Some(kind @ (Kind::Times | Kind::Divide | Kind::FloorDivide)) => {
                    let kind = kind.clone();
                    self.at += 1;
                    kind
                }
                Some(Kind::Open) if !self.reading.units || self.touches_last() => {
                    self.forbid("a product without an operator");
                    Kind::Times
                }
                _ => return Some(value),
            };
            self.operations += 1;
            let Some(right) = self.tight_fraction().or_else(|| self.signed()) else {
                self.back_to(&mark);
                return Some(value);
            };
            value = match operator {
                Kind::Times => both(value, right, |a, b| Ok(a.times(b))),
                Kind::Divide => both(value, right, |a, b| a.over(b).ok_or("a division by zero")),
                _ => {
                    self.forbid("`//`");
                    both(value, right, |a, b| {
                        a.over(b).map(|q| q.floor()).ok_or("a division by zero")
                    })
                }
            };
        }
    }

    /// Whether the next lexeme touches the one before it.
    fn touches_last(&self) -> bool {
        self.at > 0 && self.lexemes[self.at - 1].end == self.lexemes[self.at].start
    }

    /// In prose, `1/2` after a spaced operator is one operand: `3 / 1/2` is 6.
    fn tight_fraction(&mut self) -> Option<Value> {
        let [a, slash, b] = self.lexemes.get(self.at..self.at + 3)? else {
            return None;
        };
        let (Kind::Number { value: n, .. }, Kind::Divide, Kind::Number { value: d, .. }) =
            (&a.kind, &slash.kind, &b.kind)
        else {
            return None;
        };
        let tight = a.end == slash.start && slash.end == b.start;
        if !self.reading.units || !tight || self.touches_last() {
            return None;
        }
        let value = n.over(d)?;
        self.at += 3;
        self.operations += 1;
        self.suffix(Ok(value))
    }

    fn signed(&mut self) -> Option<Value> {
        let minus = match self.peek() {
            Some(Kind::Minus) => true,
            Some(Kind::Plus) => false,
            _ => return self.power(),
        };
        self.forbid(if minus {
            "a unary minus"
        } else {
            "a unary plus"
        });
        self.at += 1;
        let value = self.nested(Self::signed)?;
        Some(if minus {
            value.map(|v| v.negated())
        } else {
            value
        })
    }

    fn power(&mut self) -> Option<Value> {
        let base = self.atom()?;
        if self.peek() != Some(&Kind::Power) {
            return Some(base);
        }
        let mark = self.mark();
        self.at += 1;
        self.operations += 1;
        let Some(exponent) = self.nested(Self::signed) else {
            self.back_to(&mark);
            return Some(base);
        };
        self.forbidden = mark.forbidden.or(Some("a power"));
        Some(both(base, exponent, |a, b| {
            let exponent = b.to_i64().ok_or("a power that is not whole")?;
            a.power(exponent).ok_or("a power beyond bounds")
        }))
    }

    fn atom(&mut self) -> Option<Value> {
        while self.peek() == Some(&Kind::Currency) && self.reading.units {
            self.at += 1;
        }
        match self.peek()? {
            Kind::Number { value, decimals } => {
                let (value, decimals) = (value.clone(), *decimals);
                self.decimals = decimals;
                if decimals > 0 {
                    self.forbid("a decimal");
                }
                self.at += 1;
                let value = self.mixed(value);
                self.suffix(Ok(value))
            }
            Kind::Open => {
                self.at += 1;
                let value = self.nested(Self::sum)?;
                self.close()?;
                self.suffix(value)
            }
            Kind::Fraction => {
                self.at += 1;
                self.operations += 1;
                let above = self.group()?;
                let below = self.group()?;
                let value = both(above, below, |a, b| a.over(b).ok_or("a division by zero"));
                self.suffix(value)
            }
            _ => None,
        }
    }

    /// `2 1/2` where units are tolerated, that is, in prose.
    fn mixed(&mut self, whole: Rational) -> Rational {
        let [a, slash, b] = self.lexemes.get(self.at..self.at + 3).unwrap_or_default() else {
            return whole;
        };
        if let (true, Kind::Number { value: n, .. }, Kind::Divide, Kind::Number { value: d, .. }) =
            (self.reading.units, &a.kind, &slash.kind, &b.kind)
            && a.end == slash.start
            && slash.end == b.start
            && whole.is_integer()
            && n < d
            && let Some(part) = n.over(d)
        {
            self.at += 3;
            return whole.plus(&part);
        }
        whole
    }

    /// Percent signs, currency signs and unit words after an operand.
    fn suffix(&mut self, mut value: Value) -> Option<Value> {
        while self.peek() == Some(&Kind::Percent) {
            self.at += 1;
            self.forbid("a percent sign");
            if self.reading.percent_is_hundredth {
                value = value.map(|v| v.times(&hundredth()));
            }
        }
        if self.reading.units {
            self.units_after();
        }
        Some(value)
    }

    /// Words are a unit only where an operator, a closing bracket or the end follows them.
    fn units_after(&mut self) {
        let start = self.at;
        let mut end = start;
        let mut words = 0;
        loop {
            match self.lexemes.get(end).map(|l| &l.kind) {
                Some(Kind::Word) if words < MAX_UNIT_WORDS => {
                    words += 1;
                    end += 1;
                }
                Some(Kind::Currency) => end += 1,
                Some(Kind::Divide)
                    if self.lexemes.get(end + 1).map(|l| &l.kind) == Some(&Kind::Word) =>
                {
                    end += 2;
                }
                Some(
                    Kind::Plus
                    | Kind::Minus
                    | Kind::Times
                    | Kind::Divide
                    | Kind::Close
                    | Kind::Power,
                )
                | None => break,
                _ => return,
            }
        }
        self.units
            .extend((start..end).filter(|i| self.lexemes[*i].kind == Kind::Word));
        self.at = end;
    }

    fn group(&mut self) -> Option<Value> {
        if self.peek() != Some(&Kind::Open) {
            return None;
        }
        self.at += 1;
        let value = self.nested(Self::sum)?;
        self.close()?;
        Some(value)
    }

    fn close(&mut self) -> Option<()> {
        (self.peek() == Some(&Kind::Close)).then(|| self.at += 1)
    }

    fn nested(&mut self, read: fn(&mut Self) -> Option<Value>) -> Option<Value> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

fn both(a: Value, b: Value, f: impl Fn(&Rational, &Rational) -> Value) -> Value {
    let value = f(&a?, &b?)?;
    if value.bits() > MAX_BITS {
        Err("a value beyond bounds")
    } else {
        Ok(value)
    }
}

fn hundredth() -> Rational {
    Rational::ratio(1, 100).expect("100 is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;
    use idiolect_math::lexeme::lex;

    const PLAIN: Reading = Reading {
        units: false,
        percent_is_hundredth: false,
    };
    const PROSE: Reading = Reading {
        units: true,
        percent_is_hundredth: true,
    };

    fn value(text: &str, reading: Reading) -> String {
        let lexemes = lex(text, true);
        match parse(&lexemes, reading) {
            Some(p) if p.length == lexemes.len() => match p.value {
                Ok(v) => v.to_string(),
                Err(why) => why.to_owned(),
            },
            Some(p) => format!("{} of {}", p.length, lexemes.len()),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn expressions_have_their_exact_value() {
        for (text, expected) in [
            ("3 * 7 - 2", "19"),
            ("2 - 3 - 4", "-5"),
            ("8 / 4 / 2", "1"),
            ("8 / \\frac{4}{2}", "4"),
            ("(1 / 3) * 3", "1"),
            ("-3 + 5", "2"),
            ("2 ^ 3 ^ 2", "512"),
            ("2(3)", "6"),
            ("1 / (2 - 2)", "a division by zero"),
            ("3 *", "1 of 2"),
            ("3 4", "1 of 2"),
            ("()", "none"),
            ("(3", "none"),
        ] {
            assert_eq!(value(text, PLAIN), expected, "{text}");
        }
    }

    #[test]
    fn prose_tolerates_units_percent_and_mixed_numbers() {
        for (text, expected) in [
            ("5 apples + 3 oranges", "8"),
            ("$10/hour * 2 1/2 hours", "25"),
            ("20% * 50", "10"),
            ("50 cents x 4", "200"),
        ] {
            assert_eq!(value(text, PROSE), expected, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(value(&deep(MAX_DEPTH), PLAIN), "1");
        assert_eq!(value(&deep(MAX_DEPTH + 1), PLAIN), "none");
        assert_eq!(value(&"-".repeat(100_000), PLAIN), "none");
        assert_eq!(value("9^9^9^9", PLAIN), "a power beyond bounds");
    }
}
