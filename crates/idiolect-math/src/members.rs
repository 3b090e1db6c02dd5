//! Sets of real numbers, compared by who belongs to them.
//!
//! Intervals, finite sets, their unions, and inequalities in one variable are all conditions on a
//! number. Two of them are the same set if they agree at every end, on both sides of it and between.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::evaluate::{Point, Value, constant, value};
use super::tree::{Constant, SetOperation, Sign, Tree};
use crate::rational::Rational;

/// More ends than this are not compared.
const MAX_ENDS: usize = 64;

/// Whether two conditions hold for the same real numbers; `None` where one of them is no such
/// condition or cannot be decided somewhere.
pub(crate) fn same(a: &Tree, b: &Tree) -> Option<bool> {
    let mut ends = Vec::new();
    gather(a, &mut ends, 0)?;
    gather(b, &mut ends, 0)?;
    if ends.len() > MAX_ENDS {
        return None;
    }
    let variable = |t: &Tree| -> Option<Option<String>> {
        let names = condition_names(t);
        match names.len() {
            0 => Some(None),
            1 => Some(names.into_iter().next()),
            _ => None,
        }
    };
    let (va, vb) = (variable(a)?, variable(b)?);
    let (mut all, mut any) = (true, false);
    for at in probes(&ends) {
        let (x, y) = (holds(a, &at, va.as_deref())?, holds(b, &at, vb.as_deref())?);
        all &= x == y;
        any |= x || y;
        if !all {
            return Some(false);
        }
    }
    // Two conditions that nothing meets, such as "intervals" that run backwards, state nothing.
    any.then_some(true)
}

/// Whether a tree is a set of reals or a condition on one.
pub(crate) fn is_condition(tree: &Tree) -> bool {
    match tree {
        Tree::Sets(..) => true,
        Tree::Bracketed { items, .. } => items.len() == 2,
        Tree::Relation { signs, .. } => signs.iter().any(|s| {
            s.orders() || matches!(s, Sign::NotEqual | Sign::In | Sign::NotIn)
        }),
        Tree::Symbol(name) => matches!(name.as_str(), "ℝ"),
        Tree::List(items) => items.iter().any(|i| {
            matches!(i, Tree::Relation { signs, .. } if signs.iter().any(|s| s.orders() || *s == Sign::NotEqual))
        }),
        Tree::Set(items) => items.is_empty(),
        _ => false,
    }
}

/// The variables of inequalities; a function of one counts as the variable itself.
fn condition_names(tree: &Tree) -> BTreeSet<String> {
    match tree {
        Tree::Relation { sides, signs }
            if signs.iter().all(|s| matches!(s, Sign::In | Sign::NotIn)) =>
        {
            sides.last().map(condition_names).unwrap_or_default()
        }
        Tree::Relation { sides, .. } => sides
            .iter()
            .flat_map(|s| match s {
                Tree::Call(name, _) => BTreeSet::from([format!("{name}()")]),
                other => other.symbols().into_iter().map(str::to_owned).collect(),
            })
            .collect(),
        Tree::Sets(_, pair) => {
            let mut names = condition_names(&pair.0);
            names.extend(condition_names(&pair.1));
            names
        }
        Tree::List(items) | Tree::Set(items) => items.iter().flat_map(condition_names).collect(),
        _ => BTreeSet::new(),
    }
}

/// Numbers at which a condition may change.
fn gather(tree: &Tree, ends: &mut Vec<Value>, depth: u32) -> Option<()> {
    if depth > 32 {
        return None;
    }
    match tree {
        Tree::Bracketed { items, .. } | Tree::Set(items) => {
            for item in items {
                if !is_infinite(item) {
                    ends.push(constant(item).ok().filter(|v| v.ball().is_real())?);
                }
            }
        }
        Tree::Sets(_, pair) => {
            gather(&pair.0, ends, depth + 1)?;
            gather(&pair.1, ends, depth + 1)?;
        }
        Tree::List(items) => {
            for item in items {
                gather(item, ends, depth + 1)?;
            }
        }
        Tree::Relation { sides, signs } => {
            for (i, side) in sides.iter().enumerate() {
                let of_set = i > 0 && matches!(signs[i - 1], Sign::In | Sign::NotIn);
                if of_set {
                    gather(side, ends, depth + 1)?;
                } else if let Ok(value) = constant(side) {
                    ends.push(value.clone());
                    ends.push(match value {
                        Value::Exact(v) => Value::Exact(v.negated()),
                        Value::Near(b) => Value::Near(b.negated()),
                    });
                }
            }
        }
        Tree::Symbol(name) if name == "ℝ" => {}
        _ => return None,
    }
    Some(())
}

/// The ends in order, what lies just beside them, between them and far out.
fn probes(ends: &[Value]) -> Vec<Value> {
    let mut sorted: Vec<Value> = ends.to_vec();
    sorted.push(Value::Exact(Rational::integer(0)));
    sorted.sort_by(|a, b| a.ball().re.total_cmp(&b.ball().re));
    let rational = |x: f64| {
        let scaled = (x * 1e6).round();
        let n = if scaled.abs() < 9e15 {
            scaled as i64
        } else {
            return None;
        };
        Rational::ratio(n, 1_000_000).map(Value::Exact)
    };
    let mut probes = sorted.clone();
    for (i, end) in sorted.iter().enumerate() {
        let x = end.ball().re;
        let next = sorted.get(i + 1).map_or(x + 2.0, |n| n.ball().re);
        let gap = next - x;
        if gap > 1e-4 {
            probes.extend(rational(x + gap * 0.5));
            probes.extend(rational(x + (gap * 0.01).min(0.013)));
            probes.extend(rational(next - (gap * 0.01).min(0.013)));
        }
    }
    let (low, high) = (
        sorted.first().map_or(0.0, |v| v.ball().re),
        sorted.last().map_or(0.0, |v| v.ball().re),
    );
    for far in [
        low - 0.017,
        low - 3.3,
        low * 2.0 - 1037.71,
        high + 0.017,
        high + 3.3,
        high * 2.0 + 1037.71,
    ] {
        probes.extend(rational(far));
    }
    probes
}

fn is_infinite(tree: &Tree) -> bool {
    match tree {
        Tree::Constant(Constant::Infinity) => true,
        Tree::Negative(of) => is_infinite(of),
        _ => false,
    }
}

/// Order of a number and an end that may be infinite.
fn order(x: &Value, end: &Tree) -> Option<Ordering> {
    if is_infinite(end) {
        return Some(match end {
            Tree::Negative(_) => Ordering::Greater,
            _ => Ordering::Less,
        });
    }
    x.order(&constant(end).ok()?)
}

/// Whether a number belongs to a set or meets a condition.
fn holds(tree: &Tree, x: &Value, variable: Option<&str>) -> Option<bool> {
    match tree {
        Tree::Bracketed { open, items, close } => {
            let [low, high] = &items[..] else {
                return None;
            };
            let (above, below) = (order(x, low)?, order(x, high)?);
            let above = above.is_gt() || (above.is_eq() && *open == '[');
            let below = below.is_lt() || (below.is_eq() && *close == ']');
            Some(above && below)
        }
        Tree::Set(items) => {
            let mut any = false;
            for item in items {
                any |= order(x, item)?.is_eq();
            }
            Some(any)
        }
        Tree::Sets(operation, pair) => {
            let (a, b) = (holds(&pair.0, x, variable)?, holds(&pair.1, x, variable)?);
            Some(match operation {
                SetOperation::Union => a || b,
                SetOperation::Intersection => a && b,
                SetOperation::Difference => a && !b,
            })
        }
        Tree::Symbol(name) if name == "ℝ" => Some(true),
        // "x < 1 or x > 2" beside each other: either; `x ≠ 1, x ≠ 2`: both.
        Tree::List(items) => {
            let excludes = |t: &Tree| matches!(t, Tree::Relation { signs, .. } if signs.contains(&Sign::NotEqual));
            let all = items.iter().any(excludes);
            let mut result = all;
            for item in items {
                let one = holds(item, x, variable)?;
                result = if all { result && one } else { result || one };
            }
            Some(result)
        }
        Tree::Relation { sides, signs } => relation(sides, signs, x, variable),
        _ => None,
    }
}

fn relation(sides: &[Tree], signs: &[Sign], x: &Value, variable: Option<&str>) -> Option<bool> {
    let at = |side: &Tree| match side {
        _ if is_infinite(side) => None,
        // 0 < f(x) < 1 speaks of f(x) as of a variable.
        Tree::Call(..) => Some(x.clone()),
        side => {
            let point = match variable {
                Some(name) => Point::at(name, x.clone()),
                None => Point::default(),
            };
            value(side, &point).ok().filter(|v| v.ball().is_real())
        }
    };
    let mut all = true;
    for (pair, sign) in sides.windows(2).zip(signs) {
        let one = match sign {
            Sign::In => holds(&pair[1], x, variable)?,
            Sign::NotIn => !holds(&pair[1], x, variable)?,
            _ => {
                let order = match (is_infinite(&pair[0]), is_infinite(&pair[1])) {
                    (false, true) => order(x, &pair[1])?,
                    (true, false) => order(x, &pair[0])?.reverse(),
                    _ => match (at(&pair[0]), at(&pair[1])) {
                        (Some(a), Some(b)) => a.order(&b)?,
                        // Outside the domain nothing holds.
                        _ => return Some(false),
                    },
                };
                match sign {
                    Sign::Less => order.is_lt(),
                    Sign::LessEqual => order.is_le(),
                    Sign::Greater => order.is_gt(),
                    Sign::GreaterEqual => order.is_ge(),
                    Sign::NotEqual => order.is_ne(),
                    Sign::Equal => order.is_eq(),
                    _ => return None,
                }
            }
        };
        all &= one;
    }
    Some(all)
}
