//! Exact rational numbers: two machine words where they fit, big integers where they do not.
//!
//! Verification and step checks never round. Nearly every value in a trace fits the small form,
//! which is what makes checking a solution cost microseconds.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

/// A rational number in lowest terms with a positive denominator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rational(Form);

/// `Big` holds only what `Small` cannot, so that equality of forms is equality of numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    Small(i64, i64),
    Big(Box<BigRational>),
}

impl Rational {
    /// An integer.
    pub fn integer(n: i64) -> Self {
        Self(Form::Small(n, 1))
    }

    /// A quotient; `None` over zero.
    pub fn ratio(numerator: i64, denominator: i64) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        Some(Self::reduced(
            i128::from(numerator),
            i128::from(denominator),
        ))
    }

    /// `digits` (ASCII digits only) times ten to the power `-decimals`; `None` beyond 200 digits or
    /// 200 decimals either way, which no honest text holds.
    pub fn decimal(digits: &str, decimals: i32) -> Option<Self> {
        if digits.is_empty() || digits.len() > 200 || decimals.abs() > 200 {
            return None;
        }
        if digits.len() <= 18 && (0..=18).contains(&decimals) {
            let numerator: i64 = digits.parse().ok()?;
            return Some(Self::reduced(
                i128::from(numerator),
                10i128.pow(decimals as u32),
            ));
        }
        let numerator: BigInt = digits.parse().ok()?;
        let scale = BigInt::from(10).pow(decimals.unsigned_abs());
        Some(Self::from_big(if decimals >= 0 {
            BigRational::new(numerator, scale)
        } else {
            BigRational::from(numerator * scale)
        }))
    }

    /// Whether it has no fractional part.
    pub fn is_integer(&self) -> bool {
        match &self.0 {
            Form::Small(_, d) => *d == 1,
            Form::Big(big) => big.is_integer(),
        }
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        matches!(self.0, Form::Small(0, _))
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        match &self.0 {
            Form::Small(n, _) => *n < 0,
            Form::Big(big) => big.is_negative(),
        }
    }

    /// The integer it is, where it is one that fits.
    pub fn to_i64(&self) -> Option<i64> {
        match &self.0 {
            Form::Small(n, 1) => Some(*n),
            _ => None,
        }
    }

    /// Sum.
    pub fn plus(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            // Products of two i64 fit i128 with a bit to spare for the sum.
            (Form::Small(a, b), Form::Small(c, d)) => Self::reduced(
                i128::from(*a) * i128::from(*d) + i128::from(*c) * i128::from(*b),
                i128::from(*b) * i128::from(*d),
            ),
            _ => Self::from_big(self.to_big() + other.to_big()),
        }
    }

    /// Difference.
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    /// Product.
    pub fn times(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Form::Small(a, b), Form::Small(c, d)) => Self::reduced(
                i128::from(*a) * i128::from(*c),
                i128::from(*b) * i128::from(*d),
            ),
            _ => Self::from_big(multiplied(&self.to_big(), &other.to_big())),
        }
    }

    /// Quotient; `None` over zero.
    pub fn over(&self, other: &Self) -> Option<Self> {
        if other.is_zero() {
            return None;
        }
        Some(match (&self.0, &other.0) {
            (Form::Small(a, b), Form::Small(c, d)) => Self::reduced(
                i128::from(*a) * i128::from(*d),
                i128::from(*b) * i128::from(*c),
            ),
            _ => Self::from_big(multiplied(&self.to_big(), &other.to_big().recip())),
        })
    }

    /// The largest integer not above it.
    pub fn floor(&self) -> Self {
        match &self.0 {
            Form::Small(n, d) => Self(Form::Small(n.div_euclid(*d), 1)),
            Form::Big(big) => Self::from_big(big.floor()),
        }
    }

    /// Binary digits of numerator and denominator together: its size.
    pub fn bits(&self) -> u64 {
        match &self.0 {
            Form::Small(..) => 128,
            Form::Big(big) => big.numer().bits() + big.denom().bits(),
        }
    }

    /// Whole power; `None` for 0 to a negative power, and beyond an exponent of 64 either way or a
    /// base of 512 bits, to stay bounded.
    pub fn power(&self, exponent: i64) -> Option<Self> {
        let bounded = (-64..=64).contains(&exponent) && self.bits() <= 512;
        if !bounded || (self.is_zero() && exponent < 0) {
            return None;
        }
        let mut result = Self::integer(1);
        for _ in 0..exponent.abs() {
            result = result.times(self);
        }
        if exponent < 0 {
            Self::integer(1).over(&result)
        } else {
            Some(result)
        }
    }

    /// Whole power, where the result has at most `max_bits`; `None` beyond, and for 0 to a negative
    /// power.
    pub fn power_within(&self, exponent: i64, max_bits: u64) -> Option<Self> {
        if self.is_zero() && exponent < 0 {
            return None;
        }
        let trivial = matches!(self.0, Form::Small(-1..=1, 1));
        let size = match &self.0 {
            Form::Small(n, d) => {
                128 - u64::from(n.unsigned_abs().leading_zeros() + d.leading_zeros())
            }
            Form::Big(_) => self.bits(),
        };
        if !trivial && exponent.unsigned_abs().saturating_mul(size) > max_bits {
            return None;
        }
        if trivial {
            return Some(match exponent {
                0 => Self::integer(1),
                e if e % 2 == 0 => self.magnitude(),
                _ => self.clone(),
            });
        }
        // Numerator and denominator stay coprime: nothing to reduce on the way.
        let size = u32::try_from(exponent.unsigned_abs()).ok()?;
        let big = self.to_big();
        let (n, d) = (big.numer().pow(size), big.denom().pow(size));
        Some(Self::from_big(if exponent < 0 {
            BigRational::new(d, n)
        } else {
            BigRational::new_raw(n, d)
        }))
    }

    /// The product of the whole numbers `from..=to` in steps of `step`; 1 where there are none.
    pub fn product_of(from: i64, to: i64, step: i64) -> Self {
        let mut product = BigInt::from(1);
        let mut k = from;
        while k <= to {
            product *= k;
            k += step.max(1);
        }
        Self::from_big(BigRational::from(product))
    }

    /// n over k, for `0 <= k <= n`.
    pub fn choose(n: i64, k: i64) -> Self {
        let mut result = BigInt::from(1);
        for i in 0..k.min(n - k) {
            result = result * (n - i) / (i + 1);
        }
        Self::from_big(BigRational::from(result))
    }

    /// The nearest double; infinite beyond its range.
    pub fn to_f64(&self) -> f64 {
        match &self.0 {
            Form::Small(n, d) => *n as f64 / *d as f64,
            Form::Big(big) => big.to_f64().unwrap_or(f64::INFINITY),
        }
    }

    /// Numerator and denominator, where both fit.
    pub fn to_i64_pair(&self) -> Option<(i64, i64)> {
        match &self.0 {
            Form::Small(n, d) => Some((*n, *d)),
            Form::Big(_) => None,
        }
    }

    /// The largest rational that both are whole multiples of; of 0 and 0, it is 0.
    pub fn common_divisor(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.magnitude(), other.magnitude());
        // Each step at least halves a·b in units of the common denominator.
        while !b.is_zero() {
            let Some(quotient) = a.over(&b) else { break };
            let rest = a.minus(&quotient.floor().times(&b));
            (a, b) = (b, rest);
        }
        a
    }

    /// The number with the other sign.
    pub fn negated(&self) -> Self {
        match &self.0 {
            Form::Small(n, d) => Self::reduced(-i128::from(*n), i128::from(*d)),
            Form::Big(big) => Self::from_big(-big.as_ref()),
        }
    }

    /// The number without its sign.
    pub fn magnitude(&self) -> Self {
        if self.is_negative() {
            self.negated()
        } else {
            self.clone()
        }
    }

    /// Whether `shown`, written with `decimals` (at least one) digits after the point, is this
    /// number correctly rounded or cut there.
    pub fn shown_as(&self, shown: &Self, decimals: u32) -> bool {
        let Some(unit) = Self::decimal("1", decimals as i32) else {
            return false;
        };
        let (value, shown) = (self.magnitude(), shown.magnitude().signed_like(self, shown));
        let difference = value.minus(&shown);
        let twice = difference.magnitude().plus(&difference.magnitude());
        twice <= unit || (!difference.is_negative() && difference < unit)
    }

    /// `self` (a magnitude), negative where two numbers have opposite signs.
    fn signed_like(self, a: &Self, b: &Self) -> Self {
        if a.is_negative() == b.is_negative() {
            self
        } else {
            self.negated()
        }
    }

    /// Lowest terms of a quotient; the denominator is not zero.
    fn reduced(numerator: i128, denominator: i128) -> Self {
        let common = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        // Both magnitudes are at most 2^127; dividing by at least 1 keeps them there.
        let sign = if (numerator < 0) == (denominator < 0) {
            1
        } else {
            -1
        };
        let n = numerator.unsigned_abs() / common;
        let d = denominator.unsigned_abs() / common;
        match (i64::try_from(n), i64::try_from(d)) {
            (Ok(n), Ok(d)) => Self(Form::Small(sign * n, d)),
            _ => Self(Form::Big(Box::new(BigRational::new_raw(
                BigInt::from(n) * sign,
                BigInt::from(d),
            )))),
        }
    }

    fn from_big(big: BigRational) -> Self {
        match (big.numer().to_i64(), big.denom().to_i64()) {
            // i64::MIN has no small negation: it stays big in every path.
            (Some(n), Some(d)) if n != i64::MIN => Self(Form::Small(n, d)),
            _ => Self(Form::Big(Box::new(big))),
        }
    }

    fn to_big(&self) -> BigRational {
        match &self.0 {
            Form::Small(n, d) => BigRational::new_raw(BigInt::from(*n), BigInt::from(*d)),
            Form::Big(big) => big.as_ref().clone(),
        }
    }
}

/// A product in lowest terms.
fn multiplied(a: &BigRational, b: &BigRational) -> BigRational {
    let (f, g) = (
        common_factor(a.numer(), b.denom()),
        common_factor(b.numer(), a.denom()),
    );
    BigRational::new_raw(
        (a.numer() / &f) * (b.numer() / &g),
        (a.denom() / &g) * (b.denom() / &f),
    )
}

/// The greatest common divisor, by division: of a long and a short number it takes few steps, where
/// the library's shifts take as many as the long one has bits.
fn common_factor(a: &BigInt, b: &BigInt) -> BigInt {
    let (mut a, mut b) = (a.abs(), b.abs());
    while !b.is_zero() {
        let rest = &a % &b;
        (a, b) = (b, rest);
    }
    if a.is_zero() { BigInt::from(1) } else { a }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    // Machine words divide several times faster than 128 bits.
    while b > u128::from(u64::MAX) || a > u128::from(u64::MAX) {
        if b == 0 {
            return a.max(1);
        }
        (a, b) = (b, a % b);
    }
    let (mut a, mut b) = (a as u64, b as u64);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    u128::from(a.max(1))
}

impl Ord for Rational {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Form::Small(a, b), Form::Small(c, d)) => {
                (i128::from(*a) * i128::from(*d)).cmp(&(i128::from(*c) * i128::from(*b)))
            }
            _ => self.to_big().cmp(&other.to_big()),
        }
    }
}

impl PartialOrd for Rational {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Rational {
    /// A decimal where it ends within twelve digits, else a fraction in lowest terms.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let big = self.to_big();
        if self.is_integer() {
            return write!(f, "{}", big.numer());
        }
        for decimals in 1..=12usize {
            let scale = BigInt::from(10).pow(decimals as u32);
            if (&scale % big.denom()).is_zero() {
                let digits = (big.numer().abs() * scale / big.denom()).to_string();
                let digits = format!("{digits:0>width$}", width = decimals + 1);
                let (whole, part) = digits.split_at(digits.len() - decimals);
                let sign = if self.is_negative() { "-" } else { "" };
                return write!(f, "{sign}{whole}.{part}");
            }
        }
        write!(f, "{}/{}", big.numer(), big.denom())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn r(n: i64, d: i64) -> Rational {
        Rational::ratio(n, d).unwrap()
    }

    #[test]
    fn prints_decimals_where_they_end() {
        let shown: Vec<String> = [r(6, 4), r(-1, 8), r(1, 3), r(-7, 1), r(1, 20)]
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["1.5", "-0.125", "1/3", "-7", "0.05"]);
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(Rational::decimal("0050", 2), Some(r(1, 2)));
        assert_eq!(Rational::decimal("5", -3), Some(r(5000, 1)));
        assert_eq!(Rational::decimal("", 0), None);
        let long = "9".repeat(40);
        assert_eq!(Rational::decimal(&long, 0).unwrap().to_string(), long);
    }

    #[test]
    fn shown_decimals_may_be_rounded_or_cut() {
        let shown = |n, d, digits: &str, decimals| {
            r(n, d).shown_as(
                &Rational::decimal(digits, decimals).unwrap(),
                decimals as u32,
            )
        };
        assert!(shown(2, 3, "67", 2) && shown(2, 3, "66", 2) && shown(1, 8, "13", 2));
        assert!(!shown(2, 3, "68", 2) && !shown(2, 3, "65", 2) && !shown(10, 3, "34", 1));
        assert!(r(-2, 3).shown_as(&r(-67, 100), 2) && !r(-2, 3).shown_as(&r(67, 100), 2));
    }

    proptest! {
        #[test]
        fn small_and_big_forms_agree(a in any::<i64>(), b in any::<i64>(), c in any::<i64>(), d in any::<i64>()) {
            prop_assume!(b != 0 && d != 0);
            let (x, y) = (r(a, b), r(c, d));
            let (bx, by) = (BigRational::new(a.into(), b.into()), BigRational::new(c.into(), d.into()));
            prop_assert_eq!(x.plus(&y).to_big(), &bx + &by);
            prop_assert_eq!(x.minus(&y).to_big(), &bx - &by);
            prop_assert_eq!(x.times(&y).to_big(), &bx * &by);
            prop_assert_eq!(x.cmp(&y), bx.cmp(&by));
            if c != 0 {
                prop_assert_eq!(x.over(&y).unwrap().to_big(), &bx / &by);
            }
            // One number has one form, whichever way it was reached.
            prop_assert_eq!(x.plus(&y).minus(&y), x);
        }
    }
}
