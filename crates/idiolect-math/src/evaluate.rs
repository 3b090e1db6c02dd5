//! The value of an expression: an exact rational as long as it can be, then a disc.
//!
//! Variables take values at numbered points, each a rational drawn from a generator that is keyed by
//! the variable's name, so that a variable has the same value in every expression. Work is counted
//! and bounded; there is no clock.

use std::collections::BTreeMap;

use super::ball::Ball;
use super::tree::{Constant, Function, Tree};
use crate::rational::Rational;
use idiolect_model::Rng;

/// Points at which variables are positive.
pub(crate) const POSITIVE_POINTS: usize = 4;
/// All points; at the others variables may be negative.
pub(crate) const POINTS: usize = 8;
/// Larger exact numbers are computed as discs.
const MAX_BITS: u64 = 40_000;
/// Operations per evaluation.
const MAX_STEPS: u32 = 20_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Exact(Rational),
    Near(Ball),
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Not defined there: a division by zero, a pole.
    Undefined,
    /// Not a number, or a function that is not followed.
    Unsupported,
    /// Beyond the bounds on work or size.
    TooLarge,
}

type Result = std::result::Result<Value, Lack>;

impl Value {
    pub(crate) fn ball(&self) -> Ball {
        match self {
            Self::Exact(value) => match value.to_i64() {
                Some(n) if n.abs() < 1 << 53 => Ball::exactly(n as f64, 0.0),
                _ => Ball::real(value.to_f64()),
            },
            Self::Near(ball) => *ball,
        }
    }

    /// Whether two values are one; `None` where it cannot be stated.
    pub(crate) fn same(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => Some(a == b),
            _ => self.ball().same(other.ball()),
        }
    }

    /// Order of two real values; `None` where it cannot be stated.
    pub(crate) fn order(&self, other: &Self) -> Option<std::cmp::Ordering> {
        if let (Self::Exact(a), Self::Exact(b)) = (self, other) {
            return Some(a.cmp(b));
        }
        let (a, b) = (self.ball(), other.ball());
        if !(a.is_real() && b.is_real()) {
            return None;
        }
        match a.same(b)? {
            true => Some(std::cmp::Ordering::Equal),
            false => a.re.partial_cmp(&b.re),
        }
    }
}

/// Values of variables at a point.
#[derive(Clone, Debug, Default)]
pub(crate) struct Point {
    values: BTreeMap<String, Value>,
}

impl Point {
    /// Point number `index` for some variables; those of `whole` take small integers.
    pub(crate) fn drawn<'a>(
        index: usize,
        names: impl IntoIterator<Item = &'a str>,
        whole: &std::collections::BTreeSet<&str>,
    ) -> Self {
        let mut values = BTreeMap::new();
        for name in names {
            let mut rng = Rng::keyed(0, &["math point", name]);
            let mut value = Rational::integer(1);
            for i in 0..=index {
                let (n, d) = (rng.below(89) as i64 + 11, 37);
                let negative = rng.chance(0.5) && i >= POSITIVE_POINTS;
                let n = if negative { -n } else { n };
                value = if whole.contains(name) {
                    Rational::integer(2 + rng.below(5) as i64)
                } else {
                    Rational::ratio(n, d).unwrap_or_else(|| Rational::integer(1))
                };
            }
            values.insert(name.to_owned(), Value::Exact(value));
        }
        Self { values }
    }

    /// The point at which one variable has one value.
    pub(crate) fn at(name: &str, value: Value) -> Self {
        Self {
            values: BTreeMap::from([(name.to_owned(), value)]),
        }
    }
}

/// The value of an expression at a point.
pub(crate) fn value(tree: &Tree, point: &Point) -> Result {
    let mut evaluator = Evaluator {
        point,
        bound: Vec::new(),
        steps: 0,
    };
    evaluator.value(tree)
}

/// The value of an expression without variables.
pub(crate) fn constant(tree: &Tree) -> Result {
    value(tree, &Point::default())
}

struct Evaluator<'a> {
    point: &'a Point,
    /// Indices of sums and products.
    bound: Vec<(String, Rational)>,
    steps: u32,
}

fn near(ball: Ball) -> Result {
    if ball.size().is_finite() && ball.radius.is_finite() {
        Ok(Value::Near(ball))
    } else {
        Err(Lack::TooLarge)
    }
}

fn exact(value: Rational) -> Result {
    Ok(Value::Exact(value))
}

fn integer(n: i64) -> Value {
    Value::Exact(Rational::integer(n))
}

impl Evaluator<'_> {
    fn value(&mut self, tree: &Tree) -> Result {
        self.spend(1)?;
        let value = self.unbounded_value(tree)?;
        if let Value::Exact(value) = &value {
            // Long numbers cost by their length.
            self.spend(value.bits() / 256)?;
        }
        Ok(value)
    }

    fn spend(&mut self, steps: u64) -> std::result::Result<(), Lack> {
        self.steps = self
            .steps
            .saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
        if self.steps > MAX_STEPS {
            return Err(Lack::TooLarge);
        }
        Ok(())
    }

    fn unbounded_value(&mut self, tree: &Tree) -> Result {
        match tree {
            Tree::Number { value, .. } | Tree::Truncated { value, .. } => exact(value.clone()),
            Tree::Constant(Constant::Pi) => near(Ball::real(std::f64::consts::PI)),
            Tree::Constant(Constant::E) => near(Ball::real(std::f64::consts::E)),
            Tree::Constant(Constant::I) => match self.bound.iter().rev().find(|(n, _)| n == "i") {
                Some((_, value)) => exact(value.clone()),
                None => near(Ball::exactly(0.0, 1.0)),
            },
            Tree::Constant(Constant::Infinity) => Err(Lack::Unsupported),
            Tree::Symbol(name) => {
                if let Some((_, value)) = self.bound.iter().rev().find(|(n, _)| n == name) {
                    return exact(value.clone());
                }
                let value = self.point.values.get(name).cloned();
                value.ok_or(Lack::Unsupported)
            }
            Tree::Sum(terms) => {
                let mut total = integer(0);
                for term in terms {
                    total = add(&total, &self.value(term)?)?;
                }
                Ok(total)
            }
            Tree::Product(factors) => {
                let mut total = integer(1);
                for factor in factors {
                    total = multiply(&total, &self.value(factor)?)?;
                }
                Ok(total)
            }
            Tree::Negative(of) => Ok(negate(self.value(of)?)),
            Tree::Quotient(pair) => divide(&self.value(&pair.0)?, &self.value(&pair.1)?),
            Tree::Power(pair) => {
                // e^x keeps its precision as an exponential.
                if pair.0 == Tree::Constant(Constant::E) {
                    return near(self.value(&pair.1)?.ball().exp());
                }
                power(&self.value(&pair.0)?, &self.value(&pair.1)?)
            }
            Tree::Apply(f, arguments) => self.apply(*f, arguments),
            Tree::Call(name, arguments) => self.generic(name, arguments),
            Tree::Opaque(name, parts) => self.opaque(name, parts),
            Tree::Percent(of) => {
                let hundred = integer(100);
                divide(&self.value(of)?, &hundred)
            }
            Tree::Degrees(of) | Tree::Quantity(of, _) => self.value(of),
            Tree::Series {
                product,
                index,
                from,
                to,
                body,
            } => self.series(*product, index, from, to, body),
            Tree::Based {
                digits,
                base,
                negative,
            } => based(digits, *base, *negative),
            Tree::Ratio(terms) if terms.len() == 2 => {
                divide(&self.value(&terms[0])?, &self.value(&terms[1])?)
            }
            _ => Err(Lack::Unsupported),
        }
    }

    /// A function without a meaning: some fixed smooth function of its arguments, so that equal
    /// arguments give equal values and unequal ones do not.
    fn generic(&mut self, name: &str, arguments: &[Tree]) -> Result {
        let mut rng = Rng::keyed(1, &["math call", name]);
        let mut draw = || Ball::real(rng.uniform() + 0.5);
        let mut total = draw();
        for argument in arguments {
            let x = self.value(argument)?.ball();
            let (a, b, c) = (draw(), draw(), draw());
            total = total
                .plus(x.times(a).plus(c).sin().times(b))
                .plus(x.times(c));
        }
        near(total)
    }

    /// As [`Self::generic`], where names inside that have no value represent themselves.
    fn opaque(&mut self, name: &str, parts: &[Tree]) -> Result {
        let names: std::collections::BTreeSet<&str> =
            parts.iter().flat_map(Tree::symbols).collect();
        let point = Point::drawn(0, names, &std::collections::BTreeSet::new());
        let mut inner = Evaluator {
            point: &point,
            bound: self.bound.clone(),
            steps: self.steps,
        };
        let result = inner.generic(name, parts);
        self.steps = inner.steps;
        result
    }

    fn series(
        &mut self,
        product: bool,
        index: &str,
        from: &Tree,
        to: &Tree,
        body: &Tree,
    ) -> Result {
        let whole = |value: Value| match value {
            Value::Exact(value) => value.to_i64().ok_or(Lack::Unsupported),
            Value::Near(_) => Err(Lack::Unsupported),
        };
        let (from, to) = match (self.value(from), self.value(to)) {
            (Ok(from), Ok(to)) => (whole(from)?, whole(to)?),
            // Endless: equal where its parts are.
            (Ok(from), Err(Lack::Unsupported)) => {
                let saved = self.bound.len();
                let half = Rational::ratio(7, 3).ok_or(Lack::Unsupported)?;
                self.bound.push((index.to_owned(), half));
                let body = self.value(body);
                self.bound.truncate(saved);
                let sum = add(&from, &body?)?;
                return near(sum.ball().sin().plus(Ball::real(1.25)));
            }
            (Err(lack), _) | (_, Err(lack)) => return Err(lack),
        };
        if to.saturating_sub(from) > 2000 {
            return Err(Lack::TooLarge);
        }
        let mut total = integer(i64::from(product));
        for i in from..=to {
            self.bound.push((index.to_owned(), Rational::integer(i)));
            let term = self.value(body);
            self.bound.pop();
            total = if product {
                multiply(&total, &term?)?
            } else {
                add(&total, &term?)?
            };
        }
        Ok(total)
    }

    fn apply(&mut self, f: Function, arguments: &[Tree]) -> Result {
        let first = arguments.first().ok_or(Lack::Unsupported)?;
        if f.takes_angle()
            && let Tree::Degrees(of) = first
        {
            let turned = multiply(
                &self.value(of)?,
                &Value::Near(Ball::real(std::f64::consts::PI)),
            )?;
            let angle = divide(&turned, &integer(180))?.ball();
            return trigonometric(f, angle);
        }
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.value(argument)?);
        }
        if matches!(
            f,
            Function::Factorial | Function::DoubleFactorial | Function::Binomial
        ) && let Value::Exact(n) = &values[0]
        {
            // A product of n numbers takes about n² operations on its words.
            let n = n.to_i64().map_or(0, |n| n.clamp(0, 3000) as u64);
            self.spend(n + n * n / 256)?;
        }
        apply(f, &values)
    }
}

fn based(digits: &str, base: u32, negative: bool) -> Result {
    let base_value = Rational::integer(i64::from(base));
    let mut total = Rational::integer(0);
    for digit in digits.chars().filter_map(|c| c.to_digit(36)) {
        total = total
            .times(&base_value)
            .plus(&Rational::integer(i64::from(digit)));
    }
    exact(if negative { total.negated() } else { total })
}

fn bounded(value: Rational) -> Result {
    if value.bits() > MAX_BITS {
        return near(Ball::real(value.to_f64()));
    }
    exact(value)
}

fn add(a: &Value, b: &Value) -> Result {
    match (a, b) {
        (Value::Exact(a), Value::Exact(b)) => bounded(a.plus(b)),
        _ => near(a.ball().plus(b.ball())),
    }
}

fn negate(a: Value) -> Value {
    match a {
        Value::Exact(a) => Value::Exact(a.negated()),
        Value::Near(a) => Value::Near(a.negated()),
    }
}

fn multiply(a: &Value, b: &Value) -> Result {
    match (a, b) {
        (Value::Exact(a), Value::Exact(b)) => bounded(a.times(b)),
        (Value::Exact(zero), _) | (_, Value::Exact(zero)) if zero.is_zero() => Ok(integer(0)),
        _ => near(a.ball().times(b.ball())),
    }
}

fn divide(a: &Value, b: &Value) -> Result {
    match (a, b) {
        (Value::Exact(a), Value::Exact(b)) => bounded(a.over(b).ok_or(Lack::Undefined)?),
        _ => near(a.ball().over(b.ball()).ok_or(Lack::Undefined)?),
    }
}

fn power(base: &Value, exponent: &Value) -> Result {
    if let Value::Exact(e) = exponent {
        if let Some(n) = e.to_i64() {
            if let Value::Exact(b) = base {
                if b.is_zero() && n < 0 {
                    return Err(Lack::Undefined);
                }
                if let Some(exact_power) = b.power_within(n, MAX_BITS) {
                    return exact(exact_power);
                }
            }
            if n.unsigned_abs() <= 4096 {
                let raised = base.ball().whole_power(n.unsigned_abs() as u32);
                return match n < 0 {
                    true => near(
                        Ball::exactly(1.0, 0.0)
                            .over(raised)
                            .ok_or(Lack::Undefined)?,
                    ),
                    false => near(raised),
                };
            }
        } else if let Some((n, d)) = e.to_i64_pair()
            && let Ok(root) = root(base, &integer(d))
        {
            return power(&root, &integer(n));
        }
    }
    near(base.ball().power(exponent.ball()).ok_or(Lack::Undefined)?)
}

/// The root of a whole degree: real for odd degrees of negative numbers, exact where it is rational.
fn root(of: &Value, degree: &Value) -> Result {
    let whole = match degree {
        Value::Exact(d) => d.to_i64(),
        Value::Near(_) => None,
    };
    let Some(degree) = whole.filter(|d| (1..=1000).contains(d)) else {
        let exponent = divide(&integer(1), degree)?;
        return near(of.ball().power(exponent.ball()).ok_or(Lack::Undefined)?);
    };
    if let Value::Exact(value) = of {
        if value.is_negative() && degree % 2 == 1 {
            return root(&Value::Exact(value.negated()), &integer(degree)).map(negate);
        }
        if let Some((n, d)) = value.to_i64_pair()
            && let (Some(n), Some(d)) = (whole_root(n, degree), whole_root(d, degree))
            && let Some(exact_root) = Rational::ratio(n, d)
        {
            return exact(exact_root);
        }
    }
    let ball = of.ball();
    if ball.im == 0.0 && ball.re < 0.0 && degree % 2 == 1 {
        return near(
            ball.negated()
                .root(degree as f64)
                .ok_or(Lack::Undefined)?
                .negated(),
        );
    }
    near(ball.root(degree as f64).ok_or(Lack::Undefined)?)
}

/// The whole root of a whole number, where there is one.
fn whole_root(n: i64, degree: i64) -> Option<i64> {
    if n < 0 || degree > 62 {
        return None;
    }
    let guess = (n as f64).powf(1.0 / degree as f64).round() as i64;
    let raised = guess.checked_pow(degree as u32)?;
    (raised == n).then_some(guess)
}

fn trigonometric(f: Function, angle: Ball) -> Result {
    let over = |a: Ball, b: Ball| near(a.over(b).ok_or(Lack::Undefined)?);
    let one = Ball::exactly(1.0, 0.0);
    match f {
        Function::Sin => near(angle.sin()),
        Function::Cos => near(angle.cos()),
        Function::Tan => over(angle.sin(), angle.cos()),
        Function::Cot => over(angle.cos(), angle.sin()),
        Function::Sec => over(one, angle.cos()),
        _ => over(one, angle.sin()),
    }
}

fn apply(f: Function, values: &[Value]) -> Result {
    let one = Ball::exactly(1.0, 0.0);
    let first = values.first().ok_or(Lack::Unsupported)?;
    let x = first.ball();
    let defined = |ball: Option<Ball>| near(ball.ok_or(Lack::Undefined)?);
    match f {
        Function::Gcd | Function::Lcm | Function::Max | Function::Min => return fold(f, values),
        Function::Log | Function::Root | Function::Mod | Function::Binomial
            if values.len() == 2 => {}
        _ if values.len() != 1 => return Err(Lack::Unsupported),
        _ => {}
    }
    match f {
        _ if f.takes_angle() => trigonometric(f, x),
        Function::Arcsin => defined(x.real_function(f64::asin, |x| 1.0 / (1.0 - x * x).sqrt())),
        Function::Arccos => defined(x.real_function(f64::acos, |x| 1.0 / (1.0 - x * x).sqrt())),
        Function::Arctan => defined(x.real_function(f64::atan, |_| 1.0)),
        Function::Arccot => defined(
            one.over(x)
                .and_then(|y| y.real_function(f64::atan, |_| 1.0)),
        ),
        Function::Sinh => near(x.sinh()),
        Function::Cosh => near(x.cosh()),
        Function::Tanh => near(x.sinh().over(x.cosh()).ok_or(Lack::Undefined)?),
        Function::Arsinh => defined(x.real_function(f64::asinh, |_| 1.0)),
        Function::Arcosh => defined(x.real_function(f64::acosh, |x| 1.0 / (x * x - 1.0).sqrt())),
        Function::Artanh => defined(x.real_function(f64::atanh, |x| 1.0 / (1.0 - x * x))),
        Function::Exp => near(x.exp()),
        Function::Log => logarithm(first, values.get(1)),
        Function::Root => root(first, values.get(1).unwrap_or(&integer(2))),
        Function::Abs | Function::Norm => match first {
            Value::Exact(value) => exact(value.magnitude()),
            Value::Near(ball) => near(Ball {
                re: ball.size(),
                im: 0.0,
                radius: ball.radius,
            }),
        },
        Function::Floor => whole_below(first),
        Function::Ceil => whole_below(&negate(first.clone())).map(negate),
        Function::Sign => match first.order(&integer(0)) {
            Some(order) => Ok(integer(order as i64)),
            None => Err(Lack::Undefined),
        },
        Function::Factorial => factorial(first),
        Function::DoubleFactorial => double_factorial(first),
        Function::Binomial => binomial(first, values.get(1).ok_or(Lack::Unsupported)?),
        Function::Mod => {
            let by = values.get(1).ok_or(Lack::Unsupported)?;
            let turns = whole_below(&divide(first, by)?)?;
            add(first, &negate(multiply(&turns, by)?))
        }
        Function::Re => near(Ball { im: 0.0, ..x }),
        Function::Im => near(Ball {
            re: x.im,
            im: 0.0,
            ..x
        }),
        Function::Arg => defined(x.ln().map(|l| Ball {
            re: l.im,
            im: 0.0,
            ..l
        })),
        _ => Err(Lack::Unsupported),
    }
}

/// Exact where a whole power of the base is the argument.
fn logarithm(of: &Value, base: Option<&Value>) -> Result {
    let Some(base) = base else {
        if of == &integer(1) {
            return Ok(integer(0));
        }
        return near(of.ball().ln().ok_or(Lack::Undefined)?);
    };
    let quotient = of
        .ball()
        .ln()
        .zip(base.ball().ln())
        .and_then(|(a, b)| a.over(b))
        .ok_or(Lack::Undefined)?;
    let whole = quotient.re.round();
    if quotient.is_real()
        && whole.abs() <= 64.0
        && let Ok(raised) = power(base, &integer(whole as i64))
        && let (Value::Exact(raised), Value::Exact(of)) = (&raised, of)
        && raised == of
    {
        return Ok(integer(whole as i64));
    }
    near(quotient)
}

fn whole_below(value: &Value) -> Result {
    match value {
        Value::Exact(value) => exact(value.floor()),
        Value::Near(ball) => {
            let (low, high) = (ball.re - ball.radius, ball.re + ball.radius);
            if !ball.is_real() || low.floor() < high.floor() || low.abs() > 1e15 {
                return Err(Lack::Undefined);
            }
            Ok(integer(low.floor() as i64))
        }
    }
}

fn factorial(of: &Value) -> Result {
    if let Value::Exact(value) = of
        && let Some(n) = value.to_i64()
    {
        if n < 0 {
            return Err(Lack::Undefined);
        }
        if n > 3000 {
            return Err(Lack::TooLarge);
        }
        return exact(Rational::product_of(2, n, 1));
    }
    near(of.ball().factorial().ok_or(Lack::Undefined)?)
}

fn double_factorial(of: &Value) -> Result {
    let Value::Exact(value) = of else {
        return Err(Lack::Unsupported);
    };
    let n = value.to_i64().ok_or(Lack::Unsupported)?;
    if !(0..=3000).contains(&n) {
        return Err(Lack::TooLarge);
    }
    // From 2 or 3 up to n.
    exact(Rational::product_of(2 + n % 2, n, 2))
}

fn binomial(above: &Value, below: &Value) -> Result {
    let (Value::Exact(n), Value::Exact(k)) = (above, below) else {
        return Err(Lack::Unsupported);
    };
    let Some(k) = k.to_i64().filter(|k| (0..=3000).contains(k)) else {
        // Of fractional arguments, through factorials.
        let rest = add(above, &negate(below.clone()))?;
        return divide(
            &factorial(above)?,
            &multiply(&factorial(below)?, &factorial(&rest)?)?,
        );
    };
    if let Some(n) = n.to_i64()
        && n >= k
    {
        return exact(Rational::choose(n, k));
    }
    if n.bits() > 256 {
        return Err(Lack::TooLarge);
    }
    let mut result = Rational::integer(1);
    for i in 0..k {
        let factor = n.minus(&Rational::integer(i));
        result = result
            .times(&factor)
            .over(&Rational::integer(i + 1))
            .ok_or(Lack::Undefined)?;
    }
    exact(result)
}

fn fold(f: Function, values: &[Value]) -> Result {
    let mut result = values.first().ok_or(Lack::Unsupported)?.clone();
    if matches!(f, Function::Gcd | Function::Lcm)
        && let Value::Exact(value) = &result
    {
        result = Value::Exact(value.magnitude());
    }
    for value in &values[1..] {
        result = match f {
            Function::Max | Function::Min => {
                let order = value.order(&result).ok_or(Lack::Undefined)?;
                let takes = match f {
                    Function::Max => order.is_gt(),
                    _ => order.is_lt(),
                };
                if takes { value.clone() } else { result }
            }
            _ => {
                let (Value::Exact(a), Value::Exact(b)) = (&result, value) else {
                    return Err(Lack::Unsupported);
                };
                if a.bits().max(b.bits()) > 2048 {
                    return Err(Lack::TooLarge);
                }
                let divisor = a.common_divisor(b);
                match f {
                    Function::Gcd => Value::Exact(divisor),
                    _ => {
                        let product = a.times(b).magnitude();
                        Value::Exact(
                            product
                                .over(&divisor)
                                .unwrap_or_else(|| Rational::integer(0)),
                        )
                    }
                }
            }
        };
    }
    Ok(result)
}
