//! Fields of foreign rows, each with the name that a reason states.

use serde_json::{Map, Value};

use crate::task::kind_of;

/// A reason: the field and what it is instead.
pub(super) fn wrong(name: &str, value: &Value, expected: &str) -> String {
    format!("`{name}` is {}, not {expected}", kind_of(value))
}

/// A text that must be there.
pub(super) fn text<'a>(value: Option<&'a Value>, name: &str) -> Result<&'a str, String> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong(name, other, "text")),
        None => Err(format!("no field `{name}`")),
    }
}

/// A text, where there is one.
pub(super) fn text_if(value: Option<&Value>, name: &str) -> Result<Option<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        value => text(value, name).map(|text| Some(text.to_owned())),
    }
}

/// A text that a model wrote; null is what a request leaves that failed.
pub(super) fn text_or_none(
    value: Option<&Value>,
    name: &str,
) -> Result<Result<String, String>, String> {
    match value {
        Some(Value::Null) => Ok(Err(format!("`{name}` is null: nothing was answered"))),
        value => text(value, name).map(|text| Ok(text.to_owned())),
    }
}

/// A list that must be there.
pub(super) fn list<'a>(value: Option<&'a Value>, name: &str) -> Result<&'a [Value], String> {
    match value {
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(wrong(name, other, "a list")),
        None => Err(format!("no field `{name}`")),
    }
}

/// An object that must be there.
pub(super) fn object<'a>(
    value: Option<&'a Value>,
    name: &str,
) -> Result<&'a Map<String, Value>, String> {
    match value {
        Some(Value::Object(fields)) => Ok(fields),
        Some(other) => Err(wrong(name, other, "an object")),
        None => Err(format!("no field `{name}`")),
    }
}

/// A non-negative whole number, also as text or with a fraction of zero.
pub(super) fn number_in(value: &Value) -> Option<usize> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|of| of.fract() == 0.0)?;
            (0.0..=f64::from(u32::MAX))
                .contains(&whole)
                .then_some(whole as usize)
        }
        other => usize::try_from(other.as_u64()?).ok(),
    }
}

/// What the first of some fields names the problem: its id, and its index where that is a number.
pub(super) fn problem_named(
    row: &Map<String, Value>,
    names: &[&str],
) -> Result<(Option<String>, Option<usize>), String> {
    let mut present = names
        .iter()
        .filter_map(|name| Some((name, row.get(*name)?)));
    match present.find(|(_, value)| !value.is_null()) {
        None => Ok((None, None)),
        Some((_, value @ Value::String(id))) => Ok((Some(id.clone()), number_in(value))),
        Some((_, value @ Value::Number(_))) => {
            let index = number_in(value);
            let id = index.map_or_else(|| value.to_string(), |index| index.to_string());
            Ok((Some(id), index))
        }
        Some((name, other)) => Err(wrong(name, other, "text or a number")),
    }
}

/// A text with the reasoning that was written before it, as models write it themselves. Reasoning
/// that no text follows was cut off, and has no end.
pub(super) fn with_reasoning(reasoning: &str, text: &str) -> String {
    if reasoning.trim().is_empty() {
        text.to_owned()
    } else if text.trim().is_empty() {
        format!("<think>\n{}", reasoning.trim())
    } else {
        format!("<think>\n{}\n</think>\n\n{text}", reasoning.trim())
    }
}

/// Copies the settings of sampling that are numbers, each under its usual name.
pub(super) fn sampling(from: &Value, names: &[(&str, &str)]) -> Map<String, Value> {
    let named = names.iter().filter_map(|(theirs, usual)| {
        let value = from.get(*theirs).filter(|value| value.is_number())?;
        Some(((*usual).to_owned(), value.clone()))
    });
    named.collect()
}
