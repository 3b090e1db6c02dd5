//! Whether two answers are the same, and why.
//!
//! Exact arithmetic first, then structure (lists, sets, intervals, matrices, relations), and the
//! values at drawn points last. Where none of them decides, the outcome states so.

use std::collections::BTreeSet;

use super::evaluate::{Lack, POINTS, POSITIVE_POINTS, Point, Value, constant, value};
use super::parse::is_name;
use super::tree::{Constant, Function, Sign, Tree};
use super::{matrix, members, unit, words};
use crate::rational::Rational;
use crate::rounding;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Equal,
    /// Equal only when one of them is rounded to the digits that the other gives.
    Rounded,
    Different,
    Undecided,
}

/// An outcome and its reason.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
}

pub(crate) fn equal(reason: impl Into<String>) -> Decision {
    Decision {
        outcome: Outcome::Equal,
        reason: reason.into(),
    }
}

pub(crate) fn different(reason: impl Into<String>) -> Decision {
    Decision {
        outcome: Outcome::Different,
        reason: reason.into(),
    }
}

pub(crate) fn undecided(reason: impl Into<String>) -> Decision {
    Decision {
        outcome: Outcome::Undecided,
        reason: reason.into(),
    }
}

fn rounded(reason: impl Into<String>) -> Decision {
    Decision {
        outcome: Outcome::Rounded,
        reason: reason.into(),
    }
}

impl Decision {
    fn is_equal(&self) -> bool {
        self.outcome == Outcome::Equal
    }

    /// Equal, at least when rounded.
    fn is_near(&self) -> bool {
        matches!(self.outcome, Outcome::Equal | Outcome::Rounded)
    }
}

/// More members than this are not matched with each other.
const MAX_MEMBERS: usize = 64;
/// Deeper comparisons are not made.
const MAX_DEPTH: u32 = 60;
/// Comparisons within one answer.
const MAX_COMPARISONS: u32 = 6000;

/// Compares two answers.
pub(crate) fn compare(gold: &Tree, answer: &Tree) -> Decision {
    let mut comparer = Comparer {
        left: MAX_COMPARISONS,
        depth: 0,
    };
    comparer.compare(gold, answer)
}

struct Comparer {
    left: u32,
    depth: u32,
}

impl Comparer {
    fn compare(&mut self, gold: &Tree, answer: &Tree) -> Decision {
        let Some(left) = self.left.checked_sub(1) else {
            return undecided("too many parts to compare");
        };
        if self.depth == MAX_DEPTH {
            return undecided("nested too deep to compare");
        }
        self.left = left;
        self.depth += 1;
        let decision = self.compare_parts(gold, answer);
        self.depth -= 1;
        decision
    }

    fn compare_parts(&mut self, gold: &Tree, answer: &Tree) -> Decision {
        if gold == answer {
            return equal("the same expression");
        }
        if let Some(decision) = self.quantities(gold, answer) {
            return decision;
        }
        if let Some(decision) = words_beside(gold, answer) {
            return decision;
        }
        if let Some(decision) = moments(gold, answer) {
            return decision;
        }
        if let Some(decision) = based(gold, answer) {
            return decision;
        }
        if let Some(decision) = self.relations(gold, answer) {
            return decision;
        }
        if let Some(decision) = self.collections(gold, answer) {
            return decision;
        }
        if let Some(decision) = self.matrices(gold, answer) {
            return decision;
        }
        if let Some(decision) = self.ratios(gold, answer) {
            return decision;
        }
        if gold.is_expression() && answer.is_expression() {
            return expressions(gold, answer);
        }
        different(format!("{} and {}", kind(gold), kind(answer)))
    }

    /// Units: of one kind they are converted; unknown ones are remarks.
    fn quantities(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        use Tree::{Compound, Quantity, Text};
        if let (Some((g, u)), Some((a, v))) = (measured(gold), measured(answer)) {
            if let (Quantity(g, gu), Quantity(a, au)) = (gold, answer)
                && gu == au
            {
                return Some(self.compare(g, a));
            }
            return Some(match u.is_like(&v) {
                true => self.compare(&g, &a),
                false => different("the units measure different things"),
            });
        }
        match (gold, answer) {
            (Compound(parts), plain) | (plain, Compound(parts)) if plain.is_expression() => {
                let plain = match plain {
                    Quantity(of, _) => of,
                    other => other,
                };
                let total = measured(&Compound(parts.clone()))?.0;
                // Money is counted in its larger unit.
                if parts.first().is_some_and(|(_, unit)| unit.is_money()) {
                    return Some(match matches!(gold, Compound(_)) {
                        true => self.compare(&total, plain),
                        false => self.compare(plain, &total),
                    });
                }
                let meant = parts.iter().any(|(_, unit)| {
                    let number = total.clone().over(Tree::exact(unit.factor.clone()));
                    self.compare(&number, plain).is_near()
                });
                Some(match meant {
                    true => undecided("a number without a unit beside several units"),
                    false => different("another quantity"),
                })
            }
            (Quantity(_, gu), Quantity(_, au)) if unit::powers_differ(gu, au) => {
                Some(different("the units measure different things"))
            }
            (Quantity(g, _), Quantity(a, _)) => Some(self.compare(g, a)),
            // An angle in radians beside one in degrees: by value only.
            (Quantity(x, unit), Tree::Degrees(of)) | (Tree::Degrees(of), Quantity(x, unit))
                if unit == "radians" =>
            {
                let turned = Tree::Product(vec![(**of).clone(), Tree::Constant(Constant::Pi)]);
                Some(self.compare(&turned.over(Tree::integer(180)), x))
            }
            (Quantity(g, _), a) if !matches!(a, Text(_)) => Some(self.compare(g, a)),
            (g, Quantity(a, _)) if !matches!(g, Text(_)) => Some(self.compare(g, a)),
            _ => None,
        }
    }

    fn relations(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        match (gold, answer) {
            (Tree::Relation { .. }, Tree::Relation { .. }) => {
                Some(self.two_relations(gold, answer))
            }
            (Tree::Relation { .. }, other) => self.relation_and_value(gold, other, true),
            (other, Tree::Relation { .. }) => self.relation_and_value(answer, other, false),
            _ if members::is_condition(gold) && members::is_condition(answer) => {
                self.conditions(gold, answer)
            }
            _ => None,
        }
    }

    /// Sets of reals by their members; pairs that could be points are compared as such first.
    fn conditions(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        if matches!(
            (gold, answer),
            (Tree::Bracketed { .. }, Tree::Bracketed { .. })
        ) {
            return None;
        }
        members::same(gold, answer).map(|same| match same {
            true => equal("the same set of numbers"),
            false => different("the sets differ"),
        })
    }

    /// `x = 5` beside `5`, `x ∈ S` beside `S`, `0 < x < 1` beside `(0,1)`.
    fn relation_and_value(
        &mut self,
        relation: &Tree,
        other: &Tree,
        gold: bool,
    ) -> Option<Decision> {
        let paired = |comparer: &mut Self, value: &Tree| match gold {
            true => comparer.compare(value, other),
            false => comparer.compare(other, value),
        };
        if let Tree::Relation { sides, signs } = relation
            && signs.iter().all(|s| *s == Sign::In)
            && sides.len() == 2
        {
            return Some(paired(self, &sides[1]));
        }
        if let Some(value) = stated(relation) {
            return Some(paired(self, value));
        }
        if members::is_condition(relation)
            && matches!(
                other,
                Tree::Bracketed { .. }
                    | Tree::Set(_)
                    | Tree::Sets(..)
                    | Tree::List(_)
                    | Tree::Symbol(_)
            )
        {
            return Some(match members::same(relation, other) {
                Some(true) => equal("the same set of numbers"),
                Some(false) => different("the sets differ"),
                None => different("a relation and a set"),
            });
        }
        if matches!(other, Tree::List(_) | Tree::Set(_)) {
            return None;
        }
        Some(different(match gold {
            true => "the answer is no relation",
            false => "the answer is a relation",
        }))
    }

    fn two_relations(&mut self, gold: &Tree, answer: &Tree) -> Decision {
        let (g, a) = (shortened(gold), shortened(answer));
        let (
            Tree::Relation {
                sides: gs,
                signs: gi,
            },
            Tree::Relation {
                sides: ans,
                signs: ai,
            },
        ) = (&g, &a)
        else {
            return different("a relation and a value");
        };
        let all_equal = |signs: &[Sign]| {
            signs
                .iter()
                .all(|s| matches!(s, Sign::Equal | Sign::Congruent))
        };
        let belongs = |signs: &[Sign]| matches!(signs, [Sign::In]);
        if (belongs(gi) && (belongs(ai) || all_equal(ai)) || belongs(ai) && all_equal(gi))
            && gs.len() == 2
            && ans.len() == 2
        {
            return self.compare(&gs[1], &ans[1]);
        }
        if all_equal(gi) && all_equal(ai) && gs.len() == 2 && ans.len() == 2 {
            return self.equations(gs, ans);
        }
        if gi == ai && gs.len() == ans.len() {
            let sides = self.in_order(gs, ans);
            if sides.is_near() {
                return sides;
            }
        }
        let reversed: Vec<Sign> = ai.iter().rev().map(|s| s.reversed()).collect();
        if *gi == reversed && gs.len() == ans.len() {
            let same = gs
                .iter()
                .zip(ans.iter().rev())
                .all(|(x, y)| self.compare(x, y).is_equal());
            if same {
                return equal("the same relation read from the other side");
            }
        }
        if gs.len() == 2 && ans.len() == 2 && (gi[0].orders() || gi[0] == Sign::NotEqual) {
            let same_direction = gi[0] == ai[0];
            let opposite = gi[0] == ai[0].reversed();
            if same_direction || opposite {
                let symbols = names(&[&g, &a]);
                if let Some(factor) = factor_between(&difference(gs), &difference(ans), &symbols) {
                    let fits = match (factor, gi[0]) {
                        (_, Sign::NotEqual) => true,
                        (Factor::Positive, _) => same_direction,
                        (Factor::Negative, _) => opposite,
                    };
                    return match fits {
                        true => equal("the same inequality but for a factor"),
                        false => different("the inequality points the other way"),
                    };
                }
            }
        }
        match members::same(&g, &a) {
            Some(true) => equal("the same set of numbers"),
            Some(false) => different("the relations hold for different numbers"),
            None => different("the relations differ"),
        }
    }

    fn equations(&mut self, gold: &[Tree], answer: &[Tree]) -> Decision {
        if self.compare(&gold[0], &answer[0]).is_equal() {
            let right = self.compare(&gold[1], &answer[1]);
            if right.outcome != Outcome::Different {
                return right;
            }
        }
        let function_of = |t: &Tree| matches!(t, Tree::Call(_, a) if a.iter().all(|x| matches!(x, Tree::Symbol(_))));
        let y_and_f = |a: &Tree, b: &Tree| matches!(a, Tree::Symbol(_)) && function_of(b);
        if y_and_f(&gold[0], &answer[0]) || y_and_f(&answer[0], &gold[0]) {
            return self.compare(&gold[1], &answer[1]);
        }
        let (g, a) = (difference(gold), difference(answer));
        if !(g.is_expression() && a.is_expression()) {
            let crossed = self.compare(&gold[0], &answer[1]).is_equal()
                && self.compare(&gold[1], &answer[0]).is_equal();
            return match crossed {
                true => equal("the same equation read from the other side"),
                false => different("the equations differ"),
            };
        }
        match factor_between(&g, &a, &names(&[&g, &a])) {
            Some(_) => equal("the same equation but for a factor"),
            None if decides_nothing(&g) || decides_nothing(&a) => {
                undecided("the sides hold parts that cannot be evaluated")
            }
            None => different("the equations differ"),
        }
    }

    /// Lists, sets, tuples and intervals.
    fn collections(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        use Tree::{Bracketed, List, Matrix, Set, Sets};
        match (gold, answer) {
            (
                Bracketed { open, items, close },
                Bracketed {
                    open: o,
                    items: other,
                    close: c,
                },
            ) => {
                if items.len() != other.len() {
                    return Some(different(format!(
                        "{} parts and {}",
                        items.len(),
                        other.len()
                    )));
                }
                if items.len() == 2 && (open != o || close != c) {
                    return Some(different("interval ends differ"));
                }
                Some(self.in_order(items, other))
            }
            (Sets(..), _) | (_, Sets(..)) => {
                if let Some(same) = members::same(gold, answer) {
                    return Some(match same {
                        true => equal("the same set of numbers"),
                        false => different("the sets differ"),
                    });
                }
                if let (Sets(f, x), Sets(g, y)) = (gold, answer)
                    && f == g
                {
                    let straight =
                        self.compare(&x.0, &y.0).is_equal() && self.compare(&x.1, &y.1).is_equal();
                    let crossed = straight
                        || (self.compare(&x.0, &y.1).is_equal()
                            && self.compare(&x.1, &y.0).is_equal());
                    return Some(match crossed {
                        true => equal("the same sets joined"),
                        false => different("the sets differ"),
                    });
                }
                Some(different("the sets differ"))
            }
            // A tuple beside a bare list or assignments is compared in order.
            (Bracketed { items, open, close }, List(other))
            | (List(other), Bracketed { items, open, close }) => {
                let named = other.iter().any(|t| matches!(t, Tree::Relation { .. }));
                let variables = other.iter().all(|t| {
                    matches!(t, Tree::Relation { sides, .. } if matches!(sides[0], Tree::Symbol(_)))
                });
                let plain = other.iter().all(|t| !matches!(t, Bracketed { .. }));
                let round = *open == '(' && *close == ')';
                if plain && round && items.len() == other.len() && (!named || variables) {
                    let values: Vec<Tree> = other
                        .iter()
                        .map(|t| stated(t).unwrap_or(t).clone())
                        .collect();
                    let decision = match gold {
                        Bracketed { .. } => self.in_order(items, &values),
                        _ => self.in_order(&values, items),
                    };
                    return Some(decision);
                }
                Some(different("a tuple and a list"))
            }
            (Matrix(rows), Bracketed { items, .. } | List(items)) if is_vector(rows) => {
                let flat: Vec<Tree> = rows.iter().flatten().cloned().collect();
                Some(self.in_order(&flat, items))
            }
            (Bracketed { items, .. } | List(items), Matrix(rows)) if is_vector(rows) => {
                let flat: Vec<Tree> = rows.iter().flatten().cloned().collect();
                Some(self.in_order(items, &flat))
            }
            (Bracketed { .. }, _) | (_, Bracketed { .. }) => {
                let has_many = |t: &Tree| matches!(t, Set(_) | List(_));
                if has_many(gold) || has_many(answer) {
                    return Some(self.in_any_order(gold, answer));
                }
                Some(different(format!("{} and {}", kind(gold), kind(answer))))
            }
            _ => {
                // A ± that is where it is not expanded makes no list.
                let many = |t: &Tree| {
                    matches!(t, List(_) | Set(_)) || (has_signs(t) && !has_signs(&signed(t, false)))
                };
                (many(gold) || many(answer)).then(|| self.in_any_order(gold, answer))
            }
        }
    }

    fn in_order(&mut self, gold: &[Tree], answer: &[Tree]) -> Decision {
        if gold.len() != answer.len() {
            return different(format!("{} parts and {}", gold.len(), answer.len()));
        }
        let mut worst = equal("part by part the same");
        for (i, (g, a)) in gold.iter().zip(answer).enumerate() {
            let decision = self.compare(g, a);
            match decision.outcome {
                Outcome::Equal => {}
                Outcome::Different => {
                    return different(format!("part {} differs: {}", i + 1, decision.reason));
                }
                Outcome::Undecided => worst = decision,
                Outcome::Rounded if worst.is_equal() => worst = decision,
                Outcome::Rounded => {}
            }
        }
        worst
    }

    /// Members in any order, each matched; one that is written twice counts once.
    fn in_any_order(&mut self, gold: &Tree, answer: &Tree) -> Decision {
        let (g, a) = (listed(gold), listed(answer));
        if g.len() > MAX_MEMBERS || a.len() > MAX_MEMBERS {
            return undecided("too many members to compare");
        }
        let things = (things(&g), things(&a));
        if let (Some(of_gold), Some(of_answer)) = &things
            && let Some(matched) = in_order_of(of_gold, of_answer, &a)
        {
            return match self.in_order(&g, &matched) {
                decision if decision.is_equal() => equal("the same members"),
                decision => decision,
            };
        }
        if g.len() == a.len() && self.in_order(&g, &a).is_equal() {
            return equal("the same members");
        }
        let decision = self.matched(&g, &a);
        if decision.is_equal() && (things.0.is_some() || things.1.is_some()) {
            return undecided("the same numbers in another order, of things that differ");
        }
        decision
    }

    /// Whether each member of either side is one of the other's.
    fn matched(&mut self, g: &[Tree], a: &[Tree]) -> Decision {
        // Values under several names are several facts, equal or not.
        if g.len() != a.len() && (named(g) || named(a)) {
            return different(format!("{} named values and {}", g.len(), a.len()));
        }
        let (mut doubt, mut missing, mut near) = (None, None, None);
        for (these, those, whose) in [(g, a, "answer lacks"), (a, g, "gold lacks")] {
            for one in these {
                let (mut found, mut close) = (false, None);
                for other in those {
                    let decision = match whose {
                        "answer lacks" => self.compare(one, other),
                        _ => self.compare(other, one),
                    };
                    match decision.outcome {
                        Outcome::Equal => {
                            found = true;
                            break;
                        }
                        Outcome::Rounded => close = Some(decision),
                        Outcome::Undecided => doubt = Some(decision),
                        Outcome::Different => {}
                    }
                }
                match close {
                    _ if found => {}
                    Some(decision) => near = Some(decision),
                    None => {
                        missing.get_or_insert(whose);
                    }
                }
            }
        }
        // What could not be decided might be the missing member.
        if let Some(whose) = missing {
            return doubt.unwrap_or_else(|| {
                different(format!(
                    "the {whose} a member ({} and {})",
                    g.len(),
                    a.len()
                ))
            });
        }
        near.unwrap_or_else(|| equal("the same members"))
    }

    fn matrices(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        let is_matrix = |t: &Tree| t.any(&|t| matches!(t, Tree::Matrix(_)));
        if !(is_matrix(gold) || is_matrix(answer)) {
            return None;
        }
        let (Some(g), Some(a)) = (matrix::of(gold), matrix::of(answer)) else {
            return None;
        };
        if g.len() != a.len() || g.iter().zip(&a).any(|(x, y)| x.len() != y.len()) {
            // A row and a column of the same entries are one vector.
            if is_vector(&g) && is_vector(&a) {
                let (g, a) = (g.concat(), a.concat());
                return Some(self.in_order(&g, &a));
            }
            return Some(different("the matrices have different shapes"));
        }
        Some(self.in_order(&g.concat(), &a.concat()))
    }

    fn ratios(&mut self, gold: &Tree, answer: &Tree) -> Option<Decision> {
        let (Tree::Ratio(g), Tree::Ratio(a)) = (gold, answer) else {
            return match (gold, answer) {
                (Tree::Ratio(terms), other) | (other, Tree::Ratio(terms))
                    if terms.len() == 2 && other.is_expression() =>
                {
                    let quotient = terms[0].clone().over(terms[1].clone());
                    Some(expressions(&quotient, other))
                }
                _ => None,
            };
        };
        if g.len() != a.len() || g.is_empty() {
            return Some(different("ratios of different length"));
        }
        let mut near = None;
        for i in 1..g.len() {
            let (x, y) = (
                Tree::Product(vec![g[0].clone(), a[i].clone()]),
                Tree::Product(vec![a[0].clone(), g[i].clone()]),
            );
            if !(x.is_expression() && y.is_expression()) {
                return Some(different("ratios of what is no number"));
            }
            let decision = expressions(&x, &y);
            match decision.outcome {
                Outcome::Equal => {}
                Outcome::Rounded => near = Some(decision),
                _ => return Some(decision),
            }
        }
        Some(near.unwrap_or_else(|| equal("the same ratio")))
    }
}

/// A quantity in base units, where its units are known.
fn measured(tree: &Tree) -> Option<(Tree, unit::Unit)> {
    let scaled = |value: &Tree, unit: &unit::Unit| {
        Tree::Product(vec![value.clone(), Tree::exact(unit.factor.clone())])
    };
    match tree {
        Tree::Quantity(value, name) => {
            let unit = unit::of(name)?;
            Some((scaled(value, &unit), unit))
        }
        Tree::Compound(parts) => {
            let terms = parts.iter().map(|(value, unit)| scaled(value, unit));
            Some((Tree::Sum(terms.collect()), parts.first()?.1.clone()))
        }
        _ => None,
    }
}

/// What a relation states its name is: the last side of `x = … = 5`, the first of `2 = x`.
pub(crate) fn stated(relation: &Tree) -> Option<&Tree> {
    let Tree::Relation { sides, signs } = relation else {
        return None;
    };
    if !signs
        .iter()
        .all(|s| matches!(s, Sign::Equal | Sign::Congruent))
    {
        return None;
    }
    let (first, last) = (sides.first()?, sides.last()?);
    let computed = first.symbols().is_empty() && last.symbols().is_empty();
    let tuple_of_names =
        matches!(first, Tree::Bracketed { items, .. } if items.iter().all(is_name));
    if is_name(first) || tuple_of_names || (computed && first.is_expression()) {
        return Some(last);
    }
    matches!(last, Tree::Symbol(_)).then_some(first)
}

/// A chain of equations as its first and last side.
fn shortened(relation: &Tree) -> Tree {
    match relation {
        Tree::Relation { sides, signs }
            if sides.len() > 2 && signs.iter().all(|s| *s == Sign::Equal) =>
        {
            Tree::Relation {
                sides: vec![sides[0].clone(), sides[sides.len() - 1].clone()],
                signs: vec![Sign::Equal],
            }
        }
        other => other.clone(),
    }
}

fn difference(sides: &[Tree]) -> Tree {
    Tree::Sum(vec![
        sides[0].clone(),
        Tree::Negative(Box::new(sides[1].clone())),
    ])
}

fn names<'a>(trees: &[&'a Tree]) -> BTreeSet<&'a str> {
    trees.iter().flat_map(|t| t.symbols()).collect()
}

enum Factor {
    Positive,
    Negative,
}

/// The sign of the constant non-zero factor between two expressions, where there is one.
fn factor_between(g: &Tree, a: &Tree, symbols: &BTreeSet<&str>) -> Option<Factor> {
    if !(g.is_expression() && a.is_expression()) || symbols.is_empty() {
        return None;
    }
    let mut factor: Option<Value> = None;
    let mut points = 0;
    for index in 0..POINTS {
        let point = Point::drawn(index, symbols.iter().copied(), &BTreeSet::new());
        let (Ok(x), Ok(y)) = (value(g, &point), value(a, &point)) else {
            continue;
        };
        let zero = Value::Exact(Rational::integer(0));
        match (x.same(&zero), y.same(&zero)) {
            (Some(false), Some(false)) => {}
            (Some(true), Some(true)) => continue,
            _ => return None,
        }
        let quotient = match (&x, &y) {
            (Value::Exact(x), Value::Exact(y)) => Value::Exact(x.over(y)?),
            _ => Value::Near(x.ball().over(y.ball())?),
        };
        match &factor {
            None => factor = Some(quotient),
            Some(known) => {
                if known.same(&quotient) != Some(true) {
                    return None;
                }
            }
        }
        points += 1;
    }
    let factor = factor.filter(|_| points >= 3)?.ball();
    Some(if factor.re < 0.0 {
        Factor::Negative
    } else {
        Factor::Positive
    })
}

fn is_vector(rows: &[Vec<Tree>]) -> bool {
    rows.len() == 1 || rows.iter().all(|r| r.len() == 1)
}

fn has_signs(tree: &Tree) -> bool {
    tree.any(&|t| matches!(t, Tree::Signs { .. }))
}

/// The members of a list or set, with both values of each ±.
fn listed(tree: &Tree) -> Vec<Tree> {
    let items = match tree {
        Tree::List(items) | Tree::Set(items) => items.clone(),
        Tree::Quantity(of, _) => return listed(of),
        other => vec![other.clone()],
    };
    let items = rounds(items);
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        if let Tree::Relation { .. } = &item
            && has_signs(&item)
        {
            let value = stated(&item).unwrap_or(&item);
            all.push(signed(value, false));
            all.push(signed(value, true));
        } else if has_signs(&item) {
            all.push(signed(&item, false));
            all.push(signed(&item, true));
        } else {
            match item {
                Tree::List(inner) => all.extend(inner),
                other => all.push(other),
            }
        }
    }
    all
}

/// What each member counts, where every one counts another thing and none has a unit that is known:
/// boys and girls in `37 boys and 33 girls`.
fn things(members: &[Tree]) -> Option<Vec<String>> {
    let mut things: Vec<String> = Vec::with_capacity(members.len());
    for member in members {
        let Tree::Quantity(_, name) = member else {
            return None;
        };
        let thing = singular(name);
        if unit::of(name).is_some() || things.contains(&thing) {
            return None;
        }
        things.push(thing);
    }
    (things.len() > 1).then_some(things)
}

/// A noun in the singular, as far as its ending shows.
fn singular(noun: &str) -> String {
    match noun {
        "men" => return "man".to_owned(),
        "women" => return "woman".to_owned(),
        "children" => return "child".to_owned(),
        "people" => return "person".to_owned(),
        _ => {}
    }
    if let Some(stem) = noun.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    let hissed = noun.strip_suffix("es").filter(|stem| {
        ["x", "ch", "sh", "ss"]
            .iter()
            .any(|end| stem.ends_with(end))
    });
    hissed.unwrap_or(noun.trim_end_matches('s')).to_owned()
}

/// The answer's members in the order in which the gold names their things; `None` where they are of
/// other things.
fn in_order_of(gold: &[String], answer: &[String], members: &[Tree]) -> Option<Vec<Tree>> {
    if gold.len() != answer.len() {
        return None;
    }
    let place = |thing: &String| answer.iter().position(|other| other == thing);
    gold.iter()
        .map(|thing| Some(members[place(thing)?].clone()))
        .collect()
}

/// Whether members are values under different names.
fn named(items: &[Tree]) -> bool {
    let mut names = items.iter().filter_map(|t| match t {
        Tree::Relation { sides, .. } => Some(&sides[0]),
        _ => None,
    });
    match names.next() {
        Some(first) => names.any(|n| n != first),
        None => false,
    }
}

/// `p=5, q=2, p=7, q=2`: where names come round again, each round is a tuple.
fn rounds(items: Vec<Tree>) -> Vec<Tree> {
    let name = |t: &Tree| match t {
        Tree::Relation { sides, signs } if signs[..] == [Sign::Equal] => match &sides[0] {
            Tree::Symbol(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    };
    let names: Option<Vec<String>> = items.iter().map(name).collect();
    let Some(names) = names else { return items };
    let Some(period) = names
        .iter()
        .skip(1)
        .position(|n| *n == names[0])
        .map(|i| i + 1)
    else {
        return items;
    };
    let regular = period > 1
        && names.len() % period == 0
        && names
            .iter()
            .enumerate()
            .all(|(i, n)| *n == names[i % period]);
    if !regular {
        return items;
    }
    items
        .chunks(period)
        .map(|round| Tree::Bracketed {
            open: '(',
            items: round.to_vec(),
            close: ')',
        })
        .collect()
}

/// A tree with every ± read as + (or − where `minus`), and ∓ as the other.
fn signed(tree: &Tree, minus: bool) -> Tree {
    let each = |items: &[Tree]| items.iter().map(|t| signed(t, minus)).collect::<Vec<_>>();
    match tree {
        Tree::Signs { of, flipped } => {
            let of = signed(of, minus);
            if minus != *flipped { of.negated() } else { of }
        }
        Tree::Sum(items) => Tree::Sum(each(items)),
        Tree::Product(items) => Tree::Product(each(items)),
        Tree::Negative(of) => signed(of, minus).negated(),
        Tree::Quotient(pair) => signed(&pair.0, minus).over(signed(&pair.1, minus)),
        Tree::Power(pair) => signed(&pair.0, minus).raised_to(signed(&pair.1, minus)),
        Tree::Apply(f, items) => Tree::Apply(*f, each(items)),
        Tree::Bracketed { open, items, close } => Tree::Bracketed {
            open: *open,
            items: each(items),
            close: *close,
        },
        Tree::Relation { sides, signs } => Tree::Relation {
            sides: each(sides),
            signs: signs.clone(),
        },
        Tree::Percent(of) => Tree::Percent(Box::new(signed(of, minus))),
        Tree::Degrees(of) => Tree::Degrees(Box::new(signed(of, minus))),
        Tree::Quantity(of, unit) => Tree::Quantity(Box::new(signed(of, minus)), unit.clone()),
        Tree::Call(name, items) => Tree::Call(name.clone(), each(items)),
        Tree::Set(items) => Tree::Set(each(items)),
        Tree::List(items) => Tree::List(each(items)),
        Tree::Ratio(items) => Tree::Ratio(each(items)),
        Tree::Matrix(rows) => Tree::Matrix(rows.iter().map(|row| each(row)).collect()),
        Tree::Sets(operation, pair) => Tree::Sets(
            *operation,
            Box::new((signed(&pair.0, minus), signed(&pair.1, minus))),
        ),
        other => other.clone(),
    }
}

/// Words beside words or a value. Words that hold a number may mean the value after all.
fn words_beside(gold: &Tree, answer: &Tree) -> Option<Decision> {
    let unread = |t: &Tree| matches!(t, Tree::Unread(..));
    if unread(gold) || unread(answer) {
        return Some(undecided("words that may change the value are not read"));
    }
    let numbers = |text: &str| -> Vec<String> {
        let tokens = text.split(' ').map(str::to_owned);
        let is_number = |t: &String| {
            let word = t.chars().all(char::is_alphabetic);
            let digits = t.contains(|c: char| c.is_ascii_digit());
            digits || (word && words::changes_value(std::slice::from_ref(t)))
        };
        tokens.filter(is_number).collect()
    };
    match (gold, answer) {
        (Tree::Text(g), Tree::Text(a)) if g == a => Some(equal("the same words")),
        (Tree::Text(g), Tree::Text(a)) => {
            let (g, a) = (numbers(g), numbers(a));
            Some(match g == a && !g.is_empty() {
                true => undecided("words that hold numbers differ"),
                false => different("the words differ"),
            })
        }
        (Tree::Text(text), Tree::List(items)) | (Tree::List(items), Tree::Text(text))
            if text.contains([',', ';']) && items.iter().any(|i| matches!(i, Tree::Text(_))) =>
        {
            Some(several_words(text, items))
        }
        (Tree::Text(text), value) | (value, Tree::Text(text)) => {
            let none = matches!(text.as_str(), "none" | "nothing" | "nobody");
            let zero = matches!(value, Tree::Number { value, .. } if value.is_zero());
            match value {
                Tree::Set(items) if none && items.is_empty() => Some(equal("nothing")),
                _ if none && zero => Some(undecided("`none` may mean 0")),
                _ if !numbers(text).is_empty() => Some(undecided(
                    "words that hold a number are not read as a value",
                )),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Words between commas beside a list of words, in any order.
fn several_words(text: &str, items: &[Tree]) -> Decision {
    let parts = text.split([',', ';']).flat_map(|part| part.split(" and "));
    let parts: BTreeSet<&str> = parts.map(str::trim).filter(|p| !p.is_empty()).collect();
    let words = items.iter().filter_map(|item| match item {
        Tree::Text(text) => Some(text.trim()),
        _ => None,
    });
    match words.collect::<BTreeSet<&str>>() == parts {
        true => equal("the same words"),
        // "Bob" reads as a product of letters too.
        false if items.iter().any(|i| !matches!(i, Tree::Text(_))) => {
            undecided("words and a list of words and values")
        }
        false => different("the words differ"),
    }
}

/// Times and dates.
fn moments(gold: &Tree, answer: &Tree) -> Option<Decision> {
    match (gold, answer) {
        (Tree::Time(a), Tree::Time(b)) => {
            const HALF: u32 = 12 * 3600;
            let known = a.half_known && b.half_known;
            Some(match a.seconds == b.seconds {
                true if a.half_known && !b.half_known => {
                    undecided("one of the times names no half of the day")
                }
                true => equal("the same time"),
                false if !known && a.seconds % HALF == b.seconds % HALF => {
                    undecided("one of the times names no half of the day")
                }
                false => different("the times differ"),
            })
        }
        // 4:30 without seconds reads as a ratio.
        (Tree::Time(time), Tree::Ratio(terms)) | (Tree::Ratio(terms), Tree::Time(time)) => {
            let part = |i: usize| match terms.get(i) {
                Some(Tree::Number {
                    value,
                    decimals: None,
                }) => value.to_i64(),
                _ => None,
            };
            let (hour, minute) = (
                i64::from(time.seconds / 3600),
                i64::from(time.seconds / 60 % 60),
            );
            // "4:30p" is a ratio whose second term has a letter.
            if terms.len() == 2 && (part(0).is_none() || part(1).is_none()) {
                return Some(undecided("a time and what may be one"));
            }
            // A gold of the morning beside a time of either half.
            let halved = time.half_known && matches!(gold, Tree::Time(_));
            let same = terms.len() == 2
                && part(0).is_some_and(|h| h % 12 == hour % 12)
                && part(1) == Some(minute);
            Some(match same {
                true if part(0) == Some(hour) && !halved => equal("the same time"),
                true => undecided("one of the times names no half of the day"),
                false => different("the times differ"),
            })
        }
        (
            Tree::Date { month, day, year },
            Tree::Date {
                month: m,
                day: d,
                year: y,
            },
        ) => {
            let years = year.is_none() || y.is_none() || year == y;
            Some(match month == m && day == d && years {
                true => equal("the same date"),
                false => different("the dates differ"),
            })
        }
        (Tree::Time(_) | Tree::Date { .. }, _) | (_, Tree::Time(_) | Tree::Date { .. }) => {
            Some(different(format!("{} and {}", kind(gold), kind(answer))))
        }
        _ => None,
    }
}

/// Numbers with an explicit base: beside one without, the digits count, since a problem that asks for
/// base 7 has its answer in base 7.
fn based(gold: &Tree, answer: &Tree) -> Option<Decision> {
    match (gold, answer) {
        (Tree::Based { .. }, Tree::Based { .. }) => {
            let same = constant(gold).ok()?.same(&constant(answer).ok()?)?;
            Some(match same {
                true => equal("the same number in its base"),
                false => different("the numbers differ"),
            })
        }
        (
            Tree::Based {
                digits,
                base,
                negative,
            },
            other,
        )
        | (
            other,
            Tree::Based {
                digits,
                base,
                negative,
            },
        ) => {
            let other = match other {
                Tree::Degrees(of) | Tree::Percent(of) => of,
                other => other,
            };
            let Tree::Number { value, .. } = other else {
                return None;
            };
            let written = format!("{}{digits}", if *negative { "-" } else { "" });
            Some(match value.to_string() == written {
                true => equal(format!("the digits in base {base}")),
                false => different(format!("other digits than in base {base}")),
            })
        }
        _ => None,
    }
}

/// A value that may be meant: a percentage as it is or as a fraction, an angle in degrees or radians.
fn meanings(tree: &Tree, plain: bool) -> Vec<Tree> {
    match tree {
        Tree::Percent(of) => match plain {
            true => vec![(**of).clone()],
            false => vec![(**of).clone(), tree.clone()],
        },
        Tree::Negative(of) if matches!(**of, Tree::Percent(_)) => {
            meanings(of, plain).into_iter().map(Tree::negated).collect()
        }
        Tree::Degrees(of) => match plain {
            true => vec![(**of).clone()],
            false => vec![
                (**of).clone(),
                Tree::Product(vec![(**of).clone(), Tree::Constant(Constant::Pi)])
                    .over(Tree::integer(180)),
            ],
        },
        other => vec![other.clone()],
    }
}

/// Numbers and algebraic expressions.
fn expressions(gold: &Tree, answer: &Tree) -> Decision {
    let mark = |t: &Tree| match t {
        Tree::Percent(_) => 1,
        Tree::Negative(of) if matches!(**of, Tree::Percent(_)) => 1,
        Tree::Degrees(_) => 2,
        _ => 0,
    };
    let (mg, ma) = (mark(gold), mark(answer));
    if mg == 0 && ma == 0 {
        return plain_expressions(gold, answer);
    }
    let plain = mg == ma;
    let mut last = None;
    for g in meanings(gold, plain) {
        for a in meanings(answer, plain) {
            let decision = plain_expressions(&g, &a);
            if decision.is_equal() {
                let how = match (plain, mg.max(ma)) {
                    (true, _) => decision.reason,
                    (_, 1) => format!("as a percentage: {}", decision.reason),
                    _ => format!("as an angle: {}", decision.reason),
                };
                return equal(how);
            }
            match decision.outcome {
                Outcome::Rounded => last = Some(decision),
                _ => {
                    last.get_or_insert(decision);
                }
            }
        }
    }
    last.unwrap_or_else(|| different("the values differ"))
}

fn plain_expressions(gold: &Tree, answer: &Tree) -> Decision {
    let symbols = names(&[gold, answer]);
    if symbols.is_empty() || decides_nothing(gold) || decides_nothing(answer) {
        if let (Ok(g), Ok(a)) = (constant(gold), constant(answer)) {
            return numbers(gold, answer, &g, &a);
        }
        if symbols.is_empty() {
            return without_values(gold, answer);
        }
    }
    identity(gold, answer, &symbols)
}

fn numbers(gold: &Tree, answer: &Tree, g: &Value, a: &Value) -> Decision {
    // 0.2… is no more 0.2 than 0.3333 is 1/3.
    let is_cut = |t: &Tree| t.any(&|t| matches!(t, Tree::Truncated { .. }));
    if is_cut(gold) != is_cut(answer) && g.same(a) == Some(true) {
        return undecided("the dots may stand for digits");
    }
    if let (Value::Exact(x), Value::Exact(y)) = (g, a) {
        if x == y {
            return equal(format!("{} exactly", written(x)));
        }
    } else {
        match g.same(a) {
            Some(true) => return equal("equal to the last digit that was computed"),
            None => return undecided("too little precision is left to compare the values"),
            Some(false) => {}
        }
    }
    if rounds_to(gold, g, answer, a) || rounds_to(answer, a, gold, g) {
        return equal("equal when rounded to the decimals shown");
    }
    if decides_nothing(gold) || decides_nothing(answer) {
        return undecided("an integral, limit or derivative is not evaluated");
    }
    if is_rounded(answer, a, g) || is_rounded(gold, g, a) {
        return rounded(format!(
            "{} ({} for {})",
            rounding::REASON,
            shown(a),
            shown(g)
        ));
    }
    different(format!("{} is not {}", shown(a), shown(g)))
}

/// Whether a decimal with at least six places and five digits is a value rounded or cut there, which
/// makes it equal. Fewer digits decide nothing: see [`is_rounded`]. A decimal beside a decimal is
/// exact.
fn rounds_to(exact_tree: &Tree, exact: &Value, tree: &Tree, decimal: &Value) -> bool {
    let Value::Exact(decimal) = decimal else {
        return false;
    };
    let written = |t: &Tree, places: u32| {
        t.any(&|t| matches!(t, Tree::Number { decimals: Some(d), .. } | Tree::Truncated { places: d, .. } if *d >= places))
    };
    if !written(tree, 4) || written(exact_tree, 1) {
        return false;
    }
    let mut places = 0;
    let mut scaled = decimal.clone();
    let ten = Rational::integer(10);
    while !scaled.is_integer() {
        if places == 30 {
            return false;
        }
        scaled = scaled.times(&ten);
        places += 1;
    }
    let digits = scaled.magnitude().to_string().len();
    if places < 6 || digits < 5 {
        return false;
    }
    match exact {
        Value::Exact(value) => value.shown_as(decimal, places),
        Value::Near(ball) => {
            let unit = 10f64.powi(-(places as i32));
            let off = (ball.re - decimal.to_f64()).abs();
            let cut = ball.re.abs() > decimal.to_f64().abs();
            ball.is_real() && (off <= unit * 0.500_001 || (cut && off <= unit * 1.000_001))
        }
    }
}

/// Whether a value, as it is written, is another rounded or cut at its last digit. Of fewer than two
/// digits, and of a whole number of fewer than five, nothing is stated: 7 is not 7.211.
fn is_rounded(tree: &Tree, shown: &Value, exact: &Value) -> bool {
    let Some(last_place) = last_place(tree) else {
        return false;
    };
    let whole = matches!(tree, Tree::Number { decimals: None, .. });
    let (s, e) = (shown.ball(), exact.ball());
    if !(s.is_real() && e.is_real()) {
        return false;
    }
    let difference = match (shown, exact) {
        (Value::Exact(s), Value::Exact(e)) => e.minus(s).to_f64(),
        _ => e.re - s.re,
    };
    let units = (s.re.abs() / last_place).round();
    rounding::tells(units, whole) && rounding::fits(difference, s.re, last_place)
}

/// What one at the last digit of a decimal is worth, with what it is multiplied by.
fn last_place(tree: &Tree) -> Option<f64> {
    match tree {
        Tree::Number {
            decimals: Some(places),
            value,
        } => {
            let unit = 10f64.powi(-i32::try_from(*places).ok()?);
            // 6.02e23: the last digit that is not zero.
            let scaled = value.to_f64() / unit;
            (scaled.abs() < 1e15).then_some(unit)
        }
        Tree::Number {
            decimals: None,
            value,
        } => value.is_integer().then_some(1.0),
        Tree::Truncated { places, .. } => Some(10f64.powi(-i32::try_from(*places).ok()?)),
        Tree::Negative(of) | Tree::Quantity(of, _) | Tree::Degrees(of) => last_place(of),
        Tree::Percent(of) => Some(last_place(of)? / 100.0),
        Tree::Product(factors) => {
            let decimal = |t: &&Tree| {
                matches!(
                    t,
                    Tree::Number {
                        decimals: Some(_),
                        ..
                    } | Tree::Percent(_)
                )
            };
            let mut decimals = factors.iter().filter(decimal);
            let unit = last_place(decimals.next()?)?;
            if decimals.next().is_some() {
                return None;
            }
            let others = factors.iter().filter(|f| !decimal(f));
            let mut by = 1.0;
            for factor in others {
                by *= constant(factor).ok()?.ball().re.abs();
            }
            Some(unit * by)
        }
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Exact(value) => written(value),
        Value::Near(ball) if ball.is_real() => format!("{:.12}", ball.re),
        Value::Near(ball) => format!("{:.9}{:+.9}i", ball.re, ball.im),
    }
}

/// A number as it is shown in reasons.
fn written(value: &Rational) -> String {
    // Writing a long number out costs more than comparing it.
    if value.bits() > 1024 {
        return format!("a number of {} bits", value.bits());
    }
    short(&value.to_string())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Whether a difference of values would prove nothing.
fn decides_nothing(tree: &Tree) -> bool {
    tree.any(&|t| matches!(t, Tree::Opaque(..)))
}

/// Expressions whose values could not be computed.
fn without_values(gold: &Tree, answer: &Tree) -> Decision {
    let too_large = |t: &Tree| matches!(constant(t), Err(Lack::TooLarge));
    let infinite = |t: &Tree| t.any(&|t| *t == Tree::Constant(Constant::Infinity));
    match () {
        () if infinite(gold) != infinite(answer) => different("one is infinite"),
        () if too_large(gold) || too_large(answer) => undecided("too large to compute"),
        () if decides_nothing(gold) || decides_nothing(answer) => {
            undecided("an integral, limit or derivative is not evaluated")
        }
        () if constant(gold).is_ok() != constant(answer).is_ok() => different("one has no value"),
        () => different("the expressions differ"),
    }
}

/// Equal values at drawn points. Where only one side is real, a point lies outside the domain.
fn identity(gold: &Tree, answer: &Tree, symbols: &BTreeSet<&str>) -> Decision {
    let mut whole = BTreeSet::new();
    for tree in [gold, answer] {
        gather_whole(tree, &mut whole);
    }
    let complex = |t: &Tree| t.any(&|t| *t == Tree::Constant(Constant::I));
    let is_complex = complex(gold) || complex(answer);
    let (mut met, mut outside, mut doubt) = (0, Vec::new(), false);
    let mut too_large = false;
    for index in 0..POINTS {
        let point = Point::drawn(index, symbols.iter().copied(), &whole);
        let (g, a) = match (value(gold, &point), value(answer, &point)) {
            (Ok(g), Ok(a)) => (g, a),
            (Err(Lack::TooLarge), _) | (_, Err(Lack::TooLarge)) => {
                too_large = true;
                continue;
            }
            (Err(Lack::Unsupported), _) | (_, Err(Lack::Unsupported)) => {
                let opaque = decides_nothing(gold) || decides_nothing(answer);
                return match opaque {
                    true => undecided("an integral, limit or derivative is not evaluated"),
                    false => different("the expressions differ"),
                };
            }
            _ => continue,
        };
        if !(is_complex || g.ball().is_real() && a.ball().is_real()) {
            outside.push((g, a));
            continue;
        }
        match g.same(&a) {
            Some(true) => met += 1,
            Some(false) if index < POSITIVE_POINTS || met > 0 || index + 1 == POINTS => {
                return match decides_nothing(gold) || decides_nothing(answer) {
                    true => undecided("an integral, limit or derivative is not evaluated"),
                    false => different("the values differ where the variables are given numbers"),
                };
            }
            Some(false) => {
                return different("the values differ where the variables are given numbers");
            }
            None => doubt = true,
        }
    }
    if met == 0 {
        // Nowhere real: compared as complex numbers.
        let same = outside
            .iter()
            .filter_map(|(g, a)| g.same(a))
            .collect::<Vec<_>>();
        if same.contains(&false) {
            return different("the values differ where the variables are given numbers");
        }
        met = same.len();
    }
    match met {
        0 if too_large => undecided("too large to compute"),
        0 => undecided("no point was found at which both have a value"),
        1 if doubt => undecided("too little precision is left to compare the values"),
        _ => equal(format!("equal at {met} drawn points")),
    }
}

/// Variables that bound a sum, or stand under a factorial: they take whole numbers.
fn gather_whole<'a>(tree: &'a Tree, whole: &mut BTreeSet<&'a str>) {
    match tree {
        Tree::Series { from, to, .. } => {
            whole.extend(from.symbols());
            whole.extend(to.symbols());
        }
        Tree::Apply(Function::Factorial | Function::DoubleFactorial | Function::Binomial, of) => {
            whole.extend(of.iter().flat_map(Tree::symbols));
        }
        _ => {}
    }
    for part in tree.parts() {
        gather_whole(part, whole);
    }
}

/// What a tree is, as text.
fn kind(tree: &Tree) -> &'static str {
    match tree {
        Tree::Text(_) => "words",
        Tree::Set(_) | Tree::Sets(..) => "a set",
        Tree::List(_) => "a list",
        Tree::Bracketed { items, .. } if items.len() == 2 => "a pair or interval",
        Tree::Bracketed { .. } => "a tuple",
        Tree::Matrix(_) => "a matrix",
        Tree::Relation { .. } => "a relation",
        Tree::Ratio(_) => "a ratio",
        Tree::Time(_) => "a time",
        Tree::Date { .. } => "a date",
        Tree::Compound(_) => "a quantity in several units",
        _ => "a value",
    }
}
