//! The expression tree that answers are read into.

use super::unit::Unit;
use super::words::Clock;
use crate::rational::Rational;

/// An answer or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tree {
    /// An exact number; `decimals` where it was written with a point.
    Number {
        value: Rational,
        decimals: Option<u32>,
    },
    /// A decimal that dots continue: no more is known than that it was cut there.
    Truncated {
        value: Rational,
        places: u32,
    },
    Constant(Constant),
    /// A variable, with its subscript and accents in its name.
    Symbol(String),
    Sum(Vec<Tree>),
    Product(Vec<Tree>),
    Negative(Box<Tree>),
    Quotient(Box<(Tree, Tree)>),
    Power(Box<(Tree, Tree)>),
    /// A function with a meaning.
    Apply(Function, Vec<Tree>),
    /// A function without one: `f(x)`.
    Call(String, Vec<Tree>),
    Percent(Box<Tree>),
    Degrees(Box<Tree>),
    /// `±x`, or `∓x` where `flipped`; is in sums.
    Signs {
        of: Box<Tree>,
        flipped: bool,
    },
    /// A sum or product over an index.
    Series {
        product: bool,
        index: String,
        from: Box<Tree>,
        to: Box<Tree>,
        body: Box<Tree>,
    },
    /// An integral, limit or derivative: equal parts make it equal, unequal parts decide nothing.
    Opaque(&'static str, Vec<Tree>),
    Matrix(Vec<Vec<Tree>>),
    /// A tuple, a point or an interval, by its brackets.
    Bracketed {
        open: char,
        items: Vec<Tree>,
        close: char,
    },
    Set(Vec<Tree>),
    Sets(SetOperation, Box<(Tree, Tree)>),
    /// Answers beside each other, in any order.
    List(Vec<Tree>),
    /// `a = b`, `a < b ≤ c`: one sign fewer than sides.
    Relation {
        sides: Vec<Tree>,
        signs: Vec<Sign>,
    },
    /// `a : b : c`
    Ratio(Vec<Tree>),
    /// Digits with an explicit base.
    Based {
        digits: String,
        base: u32,
        negative: bool,
    },
    Time(Clock),
    /// Month and day, and the year where it is given.
    Date {
        month: u8,
        day: u8,
        year: Option<i32>,
    },
    /// A number and its unit.
    Quantity(Box<Tree>, String),
    /// Numbers with units of one kind, from large to small: 2 hours 30 minutes.
    Compound(Vec<(Tree, Unit)>),
    /// A value beside words that change it in a way that is not read: "half of 12".
    Unread(Box<Tree>, String),
    /// Words, in lower case with single spaces.
    Text(String),
}

/// A constant with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
    Infinity,
}

/// A function with a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Arccot,
    Sinh,
    Cosh,
    Tanh,
    Arsinh,
    Arcosh,
    Artanh,
    Exp,
    /// Natural where one argument; else to the base of the second.
    Log,
    /// The root of the first argument, of the degree that the second names.
    Root,
    Abs,
    Floor,
    Ceil,
    Sign,
    Factorial,
    DoubleFactorial,
    Binomial,
    Gcd,
    Lcm,
    Max,
    Min,
    /// Remainder with the divisor's sign.
    Mod,
    Re,
    Im,
    Arg,
    Det,
    Norm,
}

impl Function {
    /// Whether a bare degree sign inside means an angle.
    pub(crate) fn takes_angle(self) -> bool {
        matches!(
            self,
            Self::Sin | Self::Cos | Self::Tan | Self::Cot | Self::Sec | Self::Csc
        )
    }
}

/// What joins two sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOperation {
    Union,
    Intersection,
    Difference,
}

/// What is between the sides of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Subset,
    Congruent,
    Similar,
    Parallel,
    Perpendicular,
}

impl Sign {
    /// The sign of the relation read from right to left.
    pub(crate) fn reversed(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }

    /// Whether it orders its sides.
    pub(crate) fn orders(self) -> bool {
        matches!(
            self,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual
        )
    }
}

impl Tree {
    pub(crate) fn integer(n: i64) -> Self {
        Self::Number {
            value: Rational::integer(n),
            decimals: None,
        }
    }

    pub(crate) fn exact(value: Rational) -> Self {
        Self::Number {
            value,
            decimals: None,
        }
    }

    pub(crate) fn negated(self) -> Self {
        match self {
            Self::Number { value, decimals } => Self::Number {
                value: value.negated(),
                decimals,
            },
            Self::Negative(inner) => *inner,
            other => Self::Negative(Box::new(other)),
        }
    }

    pub(crate) fn over(self, below: Self) -> Self {
        Self::Quotient(Box::new((self, below)))
    }

    pub(crate) fn raised_to(self, exponent: Self) -> Self {
        Self::Power(Box::new((self, exponent)))
    }

    /// The parts directly below.
    pub(crate) fn parts(&self) -> Vec<&Tree> {
        match self {
            Self::Number { .. }
            | Self::Truncated { .. }
            | Self::Constant(_)
            | Self::Symbol(_)
            | Self::Based { .. }
            | Self::Time(_)
            | Self::Date { .. }
            | Self::Text(_) => Vec::new(),
            Self::Compound(parts) => parts.iter().map(|(tree, _)| tree).collect(),
            Self::Sum(items)
            | Self::Product(items)
            | Self::Apply(_, items)
            | Self::Call(_, items)
            | Self::Opaque(_, items)
            | Self::Bracketed { items, .. }
            | Self::Set(items)
            | Self::List(items)
            | Self::Relation { sides: items, .. }
            | Self::Ratio(items) => items.iter().collect(),
            Self::Negative(a)
            | Self::Percent(a)
            | Self::Degrees(a)
            | Self::Quantity(a, _)
            | Self::Unread(a, _) => vec![a],
            Self::Signs { of, .. } => vec![of],
            Self::Quotient(pair) | Self::Power(pair) | Self::Sets(_, pair) => {
                vec![&pair.0, &pair.1]
            }
            Self::Series { from, to, body, .. } => vec![from, to, body],
            Self::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Whether `test` holds for the tree or a part of it.
    pub(crate) fn any(&self, test: &dyn Fn(&Tree) -> bool) -> bool {
        test(self) || self.parts().into_iter().any(|part| part.any(test))
    }

    /// Whether it is a plain arithmetic or algebraic expression: no relation, set, list or text.
    pub(crate) fn is_expression(&self) -> bool {
        !self.any(&|t| {
            matches!(
                t,
                Self::Matrix(_)
                    | Self::Bracketed { .. }
                    | Self::Set(_)
                    | Self::Sets(..)
                    | Self::List(_)
                    | Self::Relation { .. }
                    | Self::Ratio(_)
                    | Self::Text(_)
                    | Self::Compound(_)
                    | Self::Unread(..)
                    | Self::Time(_)
                    | Self::Date { .. }
                    | Self::Signs { .. }
            )
        })
    }

    /// The names of its variables, each once, in order.
    pub(crate) fn symbols(&self) -> std::collections::BTreeSet<&str> {
        let mut names = std::collections::BTreeSet::new();
        self.gather(&mut names);
        names
    }

    fn gather<'a>(&'a self, names: &mut std::collections::BTreeSet<&'a str>) {
        if let Self::Symbol(name) = self {
            names.insert(name);
        }
        for part in self.parts() {
            part.gather(names);
        }
    }
}
