//! A complete solver: every expression over all of the numbers that reaches the target.
//!
//! The numbers are split in two; every value of the smaller part is tabled, and the value that the
//! larger part would need is solved for in turn. So only small parts are ever enumerated: six
//! numbers take well under a second, and "no solution" is a proof.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use idiolect_math::Rational;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// `+`
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Divide,
}

/// An expression over whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expression {
    /// A given number.
    Number(i64),
    /// An operation on two expressions.
    Binary(Box<Expression>, Operator, Box<Expression>),
}

impl Expression {
    /// `left operator right`.
    pub fn binary(left: Self, operator: Operator, right: Self) -> Self {
        Self::Binary(Box::new(left), operator, Box::new(right))
    }

    /// Its exact value; `None` where it divides by zero.
    pub fn value(&self) -> Option<Rational> {
        match self {
            Self::Number(n) => Some(Rational::integer(*n)),
            Self::Binary(left, operator, right) => operator.apply(&left.value()?, &right.value()?),
        }
    }

    fn strength(&self) -> u8 {
        match self {
            Self::Number(_) => 3,
            Self::Binary(_, Operator::Times | Operator::Divide, _) => 2,
            Self::Binary(..) => 1,
        }
    }

    /// The same for expressions that differ only in the order or grouping of terms and factors.
    fn key(&self) -> String {
        match self {
            Self::Number(n) => n.to_string(),
            Self::Binary(_, operator, _) => {
                let additive = matches!(operator, Operator::Plus | Operator::Minus);
                let mut parts = Vec::new();
                self.gather(additive, false, &mut parts);
                parts.sort_unstable();
                format!("({}{})", if additive { 's' } else { 'p' }, parts.concat())
            }
        }
    }

    /// The terms (or factors) with whether each is subtracted (divided by).
    fn gather(&self, additive: bool, inverted: bool, parts: &mut Vec<String>) {
        match self {
            Self::Binary(left, operator, right)
                if additive == matches!(operator, Operator::Plus | Operator::Minus) =>
            {
                let inverts = matches!(operator, Operator::Minus | Operator::Divide);
                left.gather(additive, inverted, parts);
                right.gather(additive, inverted != inverts, parts);
            }
            _ => parts.push(format!(
                "{}{}",
                if inverted { " ~" } else { " " },
                self.key()
            )),
        }
    }
}

impl Operator {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Plus, Self::Minus, Self::Times, Self::Divide];

    /// As it is written.
    pub fn symbol(self) -> char {
        match self {
            Self::Plus => '+',
            Self::Minus => '-',
            Self::Times => '*',
            Self::Divide => '/',
        }
    }

    /// The exact result; `None` over zero.
    pub fn apply(self, left: &Rational, right: &Rational) -> Option<Rational> {
        match self {
            Self::Plus => Some(left.plus(right)),
            Self::Minus => Some(left.minus(right)),
            Self::Times => Some(left.times(right)),
            Self::Divide => left.over(right),
        }
    }
}

impl fmt::Display for Expression {
    /// ASCII with the parentheses that it needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Binary(left, operator, right) = self else {
            let Self::Number(n) = self else { return Ok(()) };
            return write!(f, "{n}");
        };
        let strength = self.strength();
        let strict = matches!(operator, Operator::Minus | Operator::Divide);
        let side = |f: &mut fmt::Formatter<'_>, e: &Self, weak: bool| {
            if weak {
                write!(f, "({e})")
            } else {
                write!(f, "{e}")
            }
        };
        side(f, left, left.strength() < strength)?;
        write!(f, " {} ", operator.symbol())?;
        let weak = right.strength() < strength || (strict && right.strength() == strength);
        side(f, right, weak)
    }
}

/// Whether some expression over all of the numbers, each once, has the target as its value. More
/// than six numbers are not searched: `None`.
pub fn reachable(numbers: &[i64], target: i64) -> Option<bool> {
    Some(!solve(numbers, target, 1)?.is_empty())
}

/// Expressions that reach the target with each number once: all of them that differ in more than
/// the order and grouping of terms and factors, or the first `limit` found. Where a zero times (or
/// over) four numbers or more is wanted, one choice represents all of theirs. More than six numbers
/// or a negative one are not searched: `None`.
pub fn solve(numbers: &[i64], target: i64, limit: usize) -> Option<Vec<Expression>> {
    if numbers.is_empty() || numbers.len() > 6 || numbers.iter().any(|n| *n < 0) {
        return None;
    }
    let mut search = Search {
        numbers,
        limit,
        values: BTreeMap::new(),
        unsolvable: BTreeSet::new(),
    };
    let all = (1u8 << numbers.len()) - 1;
    Some(search.reaching(all, &Rational::integer(target), limit))
}

/// Expressions by value.
type Values = BTreeMap<Rational, Vec<Expression>>;

struct Search<'a> {
    numbers: &'a [i64],
    limit: usize,
    /// Every value of a part of the numbers (a bit mask), each with its distinct expressions, up to
    /// the limit.
    values: BTreeMap<u8, Rc<Values>>,
    /// Parts and values known to be out of reach.
    unsolvable: BTreeSet<(u8, Rational)>,
}

impl Search<'_> {
    /// Distinct expressions over `part` with the value `target`, at most `limit`.
    fn reaching(&mut self, part: u8, target: &Rational, limit: usize) -> Vec<Expression> {
        if part.count_ones() <= 2 {
            let mut found = self
                .values_of(part)
                .get(target)
                .cloned()
                .unwrap_or_default();
            found.truncate(limit);
            return found;
        }
        if self.unsolvable.contains(&(part, target.clone())) {
            return Vec::new();
        }
        let mut found = Distinct::new(limit);
        for small in parts_of(part) {
            let large = part & !small;
            // Of two halves either may be called the small one; take each split once.
            let halves = small.count_ones() == large.count_ones();
            if small.count_ones() > large.count_ones() || (halves && small > large) {
                continue;
            }
            for (value, lefts) in self.values_of(small).iter() {
                for (operator, swapped, needed) in partners(value, target) {
                    let rights = match needed {
                        Some(needed) => self.reaching(large, &needed, limit),
                        None => self.any_of(large),
                    };
                    for (a, b) in lefts
                        .iter()
                        .flat_map(|a| rights.iter().map(move |b| (a, b)))
                    {
                        let (a, b) = if swapped { (b, a) } else { (a, b) };
                        let whole = Expression::binary(a.clone(), operator, b.clone());
                        // A free partner may be the zero that must not divide.
                        if whole.value().as_ref() == Some(target) && found.push(whole) {
                            return found.list;
                        }
                    }
                }
            }
        }
        if found.list.is_empty() {
            self.unsolvable.insert((part, target.clone()));
        }
        found.list
    }

    /// Expressions over a part of any value but zero and of zero: all of them for up to three
    /// numbers, else only their sum, which proves as much (whole numbers are not negative, so
    /// their sum is zero only where every expression is zero or has no value).
    fn any_of(&mut self, part: u8) -> Vec<Expression> {
        if part.count_ones() <= 3 {
            return self.values_of(part).values().flatten().cloned().collect();
        }
        let numbers = (0..8).filter(|i| part & (1 << i) != 0);
        let terms = numbers.map(|i| Expression::Number(self.numbers[i]));
        let sum = terms.reduce(|sum, n| Expression::binary(sum, Operator::Plus, n));
        sum.into_iter().collect()
    }

    /// Every value of a small part.
    fn values_of(&mut self, part: u8) -> Rc<Values> {
        if let Some(known) = self.values.get(&part) {
            return Rc::clone(known);
        }
        let mut found: BTreeMap<Rational, Distinct> = BTreeMap::new();
        if part.count_ones() == 1 {
            let number = self.numbers[part.trailing_zeros() as usize];
            found
                .entry(Rational::integer(number))
                .or_insert_with(|| Distinct::new(self.limit))
                .push(Expression::Number(number));
        }
        for left in parts_of(part) {
            let (lefts, rights) = (self.values_of(left), self.values_of(part & !left));
            for (a, left_expressions) in lefts.iter() {
                for (b, right_expressions) in rights.iter() {
                    for operator in Operator::ALL {
                        let Some(value) = operator.apply(a, b) else {
                            continue;
                        };
                        let entry = found
                            .entry(value)
                            .or_insert_with(|| Distinct::new(self.limit));
                        for x in left_expressions {
                            for y in right_expressions {
                                entry.push(Expression::binary(x.clone(), operator, y.clone()));
                            }
                        }
                    }
                }
            }
        }
        let found: Rc<Values> = Rc::new(found.into_iter().map(|(v, d)| (v, d.list)).collect());
        self.values.insert(part, Rc::clone(&found));
        found
    }
}

/// Expressions without those that only order or grouping distinguishes.
struct Distinct {
    limit: usize,
    keys: BTreeSet<String>,
    list: Vec<Expression>,
}

impl Distinct {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            keys: BTreeSet::new(),
            list: Vec::new(),
        }
    }

    /// Adds one; whether the limit is reached.
    fn push(&mut self, expression: Expression) -> bool {
        if self.list.len() < self.limit && self.keys.insert(expression.key()) {
            self.list.push(expression);
        }
        self.list.len() >= self.limit
    }
}

/// The proper, non-empty parts of a part.
fn parts_of(part: u8) -> impl Iterator<Item = u8> {
    (1..part).filter(move |sub| sub & !part == 0)
}

/// What must stand beside `value` to give `target`: the operator, whether `value` is on the
/// right, and the other side's value; `None` where any will do.
fn partners(value: &Rational, target: &Rational) -> Vec<(Operator, bool, Option<Rational>)> {
    let mut found = vec![
        (Operator::Plus, false, Some(target.minus(value))),
        (Operator::Minus, false, Some(value.minus(target))),
        (Operator::Minus, true, Some(target.plus(value))),
    ];
    match target.over(value) {
        Some(quotient) => {
            found.push((Operator::Times, false, Some(quotient)));
            found.push((Operator::Divide, true, Some(target.times(value))));
        }
        None if target.is_zero() => found.push((Operator::Times, false, None)),
        None => {}
    }
    match value.over(target) {
        Some(quotient) if !quotient.is_zero() => {
            found.push((Operator::Divide, false, Some(quotient)));
        }
        // Zero over anything is zero.
        None if value.is_zero() => found.push((Operator::Divide, false, None)),
        _ => {}
    }
    found
}
