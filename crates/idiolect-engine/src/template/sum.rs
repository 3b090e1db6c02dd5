//! Python's `+`, and what the engine's `*` makes, paid for.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::limits::spend;
use super::python::{fault, items, tuple, type_name};

/// What `a + b + c` is rewritten to.
pub(super) const SUM: &str = "__sum";
/// What a product is rewritten to an argument of.
pub(super) const SPENT: &str = "__spent";

/// The terms one after the other, from the left.
pub(super) fn sum(terms: &[Value]) -> Result<Value, Error> {
    let mut terms = terms.iter();
    let first = terms.next().cloned().unwrap_or(Value::UNDEFINED);
    terms.try_fold(first, |sum, term| added(&sum, term))
}

fn added(a: &Value, b: &Value) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        spend(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    if let (Some(a), Some(b)) = (integer(a), integer(b)) {
        let sum = a
            .checked_add(b)
            .ok_or_else(|| fault("the sum is too large"))?;
        return Ok(i64::try_from(sum).map_or_else(|_| Value::from(sum), Value::from));
    }
    if is_number(a) && is_number(b) {
        return Ok(Value::from(float(a)? + float(b)?));
    }
    let (kind, other) = (type_name(a), type_name(b));
    if kind != other || !matches!(kind, "list" | "tuple") {
        return Err(fault(format!(
            "unsupported operand type(s) for +: '{kind}' and '{other}'"
        )));
    }
    let mut both = items(a)?;
    both.extend(items(b)?);
    Ok(if kind == "tuple" {
        tuple(both)
    } else {
        Value::from(both)
    })
}

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// A whole number; truth values are such.
fn integer(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn float(value: &Value) -> Result<f64, Error> {
    match value.kind() {
        ValueKind::Bool => Ok(f64::from(u8::from(value.is_true()))),
        _ => f64::try_from(value.clone()),
    }
}

/// A value that was just made.
pub(super) fn spent(value: &Value) -> Result<Value, Error> {
    let bytes = match value.as_str() {
        Some(text) => text.len(),
        None if is_number(value) => 0,
        None => value.len().unwrap_or(0).saturating_mul(size_of::<Value>()),
    };
    spend(bytes)?;
    Ok(value.clone())
}
