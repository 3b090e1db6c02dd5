//! The part of Python's arithmetic that the paper's Countdown scorer can reach: integers of any
//! size, doubles, `+ - * / // **`, signs and parentheses.

use num_bigint::{BigInt, Sign};
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Results of more bits are not computed: Python would, for as long as it takes.
const MAX_BITS: u64 = 1 << 22;
/// Python's parser refuses deeper nesting of parentheses; long runs of signs end alike.
const MAX_DEPTH: usize = 200;

/// A Python number.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    /// `int`
    Int(BigInt),
    /// `float`
    Float(f64),
    /// `complex`, whose value is not followed.
    Complex,
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Python raises.
    Raises,
    /// Python would compute for longer than anyone waits.
    Endless,
}

impl Number {
    /// As a double; `None` where the integer is too large. A complex number is near nothing.
    pub(super) fn to_f64(&self) -> Option<f64> {
        match self {
            Self::Int(n) => n.to_f64().filter(|f| f.is_finite()),
            Self::Float(f) => Some(*f),
            Self::Complex => Some(f64::INFINITY),
        }
    }

    fn float(&self) -> Result<f64, Failure> {
        self.to_f64().ok_or(Failure::Raises)
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Int(n) => n.is_zero(),
            Self::Float(f) => *f == 0.0,
            Self::Complex => false,
        }
    }
}

/// `eval(text)` for a text of digits, operators, parentheses, points and white space.
pub(super) fn evaluate(text: &str) -> Result<Number, Failure> {
    let mut reader = Reader {
        rest: text.trim(),
        depth: 0,
    };
    let value = reader.sum()?;
    reader.space();
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(Failure::Raises)
    }
}

type Value = Result<Number, Failure>;

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl Reader<'_> {
    /// Python's own white space within a line; anything else is a syntax error.
    fn space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\u{c}']);
    }

    fn take(&mut self, operator: &str) -> bool {
        self.space();
        match self.rest.strip_prefix(operator) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn sum(&mut self) -> Value {
        let mut value = self.product()?;
        loop {
            if self.take("+") {
                value = add(&value, &self.product()?)?;
            } else if self.take("-") {
                value = add(&value, &negate(self.product()?))?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Value {
        let mut value = self.signed()?;
        loop {
            self.space();
            if self.rest.starts_with("**") {
                return Err(Failure::Raises);
            } else if self.take("//") {
                value = floor_divide(&value, &self.signed()?)?;
            } else if self.take("*") {
                value = multiply(&value, &self.signed()?)?;
            } else if self.take("/") {
                value = divide(&value, &self.signed()?)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn signed(&mut self) -> Value {
        if self.take("-") {
            return self.nested(Self::signed).map(negate);
        }
        if self.take("+") {
            return self.nested(Self::signed);
        }
        let base = self.atom()?;
        if self.take("**") {
            return power(&base, &self.nested(Self::signed)?);
        }
        Ok(base)
    }

    fn atom(&mut self) -> Value {
        if self.take("(") {
            let value = self.nested(Self::sum)?;
            return if self.take(")") {
                Ok(value)
            } else {
                Err(Failure::Raises)
            };
        }
        let length = self
            .rest
            .bytes()
            .take_while(|b| b.is_ascii_digit() || *b == b'.')
            .count();
        let (literal, rest) = self.rest.split_at(length);
        self.rest = rest;
        read_literal(literal).ok_or(Failure::Raises)
    }

    fn nested(&mut self, read: fn(&mut Self) -> Value) -> Value {
        if self.depth == MAX_DEPTH {
            return Err(Failure::Raises);
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }
}

/// An integer without leading zeros (all zeros are allowed), or a double.
fn read_literal(literal: &str) -> Option<Number> {
    if literal.contains('.') {
        let digits = literal.bytes().any(|b| b.is_ascii_digit());
        return digits.then(|| literal.parse().ok().map(Number::Float))?;
    }
    let zeros = literal.bytes().all(|b| b == b'0');
    // Python refuses to read integers of more than 4,300 digits.
    if literal.is_empty() || literal.len() > 4300 || (literal.starts_with('0') && !zeros) {
        return None;
    }
    literal.parse().ok().map(Number::Int)
}

fn negate(value: Number) -> Number {
    match value {
        Number::Int(n) => Number::Int(-n),
        Number::Float(f) => Number::Float(-f),
        Number::Complex => Number::Complex,
    }
}

fn add(a: &Number, b: &Number) -> Value {
    match (a, b) {
        (Number::Complex, _) | (_, Number::Complex) => Ok(Number::Complex),
        (Number::Int(a), Number::Int(b)) => Ok(Number::Int(a + b)),
        _ => Ok(Number::Float(a.float()? + b.float()?)),
    }
}

fn multiply(a: &Number, b: &Number) -> Value {
    match (a, b) {
        (Number::Complex, _) | (_, Number::Complex) => Ok(Number::Complex),
        (Number::Int(a), Number::Int(b)) if a.bits() + b.bits() > MAX_BITS => Err(Failure::Endless),
        (Number::Int(a), Number::Int(b)) => Ok(Number::Int(a * b)),
        _ => Ok(Number::Float(a.float()? * b.float()?)),
    }
}

fn divide(a: &Number, b: &Number) -> Value {
    if b.is_zero() {
        return Err(Failure::Raises);
    }
    match (a, b) {
        (Number::Complex, _) | (_, Number::Complex) => Ok(Number::Complex),
        (Number::Int(a), Number::Int(b)) => true_quotient(a, b).map(Number::Float),
        _ => Ok(Number::Float(a.float()? / b.float()?)),
    }
}

/// The double nearest to a quotient of integers; Python raises where it overflows.
fn true_quotient(a: &BigInt, b: &BigInt) -> Result<f64, Failure> {
    match num_rational::BigRational::new(a.clone(), b.clone()).to_f64() {
        Some(f) if f.is_finite() => Ok(f),
        _ => Err(Failure::Raises),
    }
}

fn floor_divide(a: &Number, b: &Number) -> Value {
    if b.is_zero() {
        return Err(Failure::Raises);
    }
    match (a, b) {
        // Python raises for complex numbers here.
        (Number::Complex, _) | (_, Number::Complex) => Err(Failure::Raises),
        (Number::Int(a), Number::Int(b)) => {
            let (quotient, remainder) = (a / b, a % b);
            let below = !remainder.is_zero() && remainder.is_negative() != b.is_negative();
            Ok(Number::Int(if below { quotient - 1 } else { quotient }))
        }
        _ => Ok(Number::Float((a.float()? / b.float()?).floor())),
    }
}

fn power(base: &Number, exponent: &Number) -> Value {
    match (base, exponent) {
        (Number::Complex, _) | (_, Number::Complex) => Ok(Number::Complex),
        (Number::Int(b), Number::Int(e)) if e.sign() != Sign::Minus => integer_power(b, e),
        _ => {
            let (b, e) = (base.float()?, exponent.float()?);
            if b == 0.0 && e < 0.0 {
                return Err(Failure::Raises);
            }
            if b < 0.0 && b.is_finite() && e.fract() != 0.0 {
                return Ok(Number::Complex);
            }
            let value = b.powf(e);
            let overflows = value.is_infinite() && b.is_finite() && e.is_finite();
            if overflows {
                Err(Failure::Raises)
            } else {
                Ok(Number::Float(value))
            }
        }
    }
}

fn integer_power(base: &BigInt, exponent: &BigInt) -> Value {
    if base.magnitude().is_one() || base.is_zero() || exponent.is_zero() {
        let odd = exponent.bit(0);
        return Ok(Number::Int(match () {
            () if exponent.is_zero() => BigInt::one(),
            () if base.is_negative() && !odd => BigInt::one(),
            () => base.clone(),
        }));
    }
    match exponent
        .to_u64()
        .filter(|e| e.saturating_mul(base.bits()) <= MAX_BITS)
    {
        Some(e) => Ok(Number::Int(base.pow(e as u32))),
        None => Err(Failure::Endless),
    }
}
