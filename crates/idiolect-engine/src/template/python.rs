//! Values as Python has them: what `str` and `repr` write, `json.dumps`, tuples, mappings and views.
//!
//! The template engine has lists and mappings of its own; what a template can distinguish from
//! Python's is here: how a value is printed, that `(1, 2)` is no list, that a mapping's methods go
//! before its keys.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};
use serde_json::Value as Json;

use super::limits::spend;
use super::methods;

/// A tuple.
#[derive(Debug)]
pub(super) struct Tuple(pub(super) Vec<Value>);

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

/// A tuple of values.
pub(super) fn tuple(items: Vec<Value>) -> Value {
    Value::from_object(Tuple(items))
}

/// A mapping of what a conversation holds. Its methods go before keys of the same name.
#[derive(Debug)]
struct Dict(Vec<(Value, Value)>);

impl Object for Dict {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let found = self.0.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(key, _)| key.clone()).collect())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        methods::of_mapping(&Value::from_dyn_object(self.clone()), method, args)
    }
}

/// What a mapping's `keys`, `values` and `items` give: can be gone through, and is no sequence.
#[derive(Debug)]
pub(super) struct View {
    /// The method's name.
    pub(super) of: &'static str,
    pub(super) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// What `range` gives.
#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
}

impl Range {
    /// As Python's `range` of one to three numbers.
    pub(super) fn of(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, stop) = second.map_or((0, first), |stop| (first, stop));
        let range = Self {
            start,
            stop,
            step: step.unwrap_or(1),
        };
        if range.step == 0 {
            return Err(fault("range() arg 3 must not be zero"));
        }
        // The sandbox of Jinja2 refuses longer ones.
        if range.len() > 100_000 {
            return Err(fault(
                "Range too big. The sandbox blocks ranges larger than 100000.",
            ));
        }
        Ok(Value::from_object(range))
    }

    fn len(&self) -> usize {
        let (gap, step) = if self.step > 0 {
            (self.stop.saturating_sub(self.start), self.step)
        } else {
            (
                self.start.saturating_sub(self.stop),
                self.step.saturating_neg(),
            )
        };
        if gap <= 0 {
            return 0;
        }
        usize::try_from((gap - 1) / step + 1).unwrap_or(usize::MAX)
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_usize().filter(|index| *index < self.len())?;
        Some(Value::from(self.start + index as i64 * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.len())
    }
}

/// An operation that Python refuses.
pub(super) fn fault(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// A value of JSON.
pub(super) fn of_json(value: &Json) -> Value {
    match value {
        Json::Array(items) => Value::from(items.iter().map(of_json).collect::<Vec<Value>>()),
        Json::Object(fields) => {
            let entry = |(name, value): (&String, &Json)| (Value::from(name), of_json(value));
            Value::from_object(Dict(fields.iter().map(entry).collect()))
        }
        scalar => Value::from_serialize(scalar),
    }
}

/// The name of a value's type, for messages.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "Undefined",
        ValueKind::None => "NoneType",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Map => "dict",
        ValueKind::Seq if value.downcast_object_ref::<Tuple>().is_some() => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        _ => "object",
    }
}

/// The most items of one value: the engine repeats lists without making them.
const MOST_ITEMS: usize = 1_000_000;

/// The items that Python's `iter` goes through.
///
/// # Errors
/// When the value is none that can be gone through, or has too many items.
pub(super) fn items(value: &Value) -> Result<Vec<Value>, Error> {
    if value.len().is_some_and(|n| n > MOST_ITEMS) {
        return Err(fault("the list is too long"));
    }
    spend(value.len().unwrap_or(0).saturating_mul(size_of::<Value>()))?;
    match value.kind() {
        ValueKind::Undefined => Ok(Vec::new()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            Ok(text.chars().map(|c| Value::from(c.to_string())).collect())
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            value.try_iter().map(Iterator::collect)
        }
        _ => Err(fault(format!(
            "'{}' object is not iterable",
            type_name(value)
        ))),
    }
}

/// The entries of a mapping.
pub(super) fn entries(mapping: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let entry = |key: Value| Ok((key.clone(), mapping.get_item(&key)?));
    mapping.try_iter()?.map(entry).collect()
}

/// Python's `str`.
pub(super) fn str_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            spend(text.len())?;
            Ok(text.to_owned())
        }
        ValueKind::Undefined => Ok(String::new()),
        _ => {
            let mut out = String::new();
            write_repr(value, 0, &mut out)?;
            Ok(out)
        }
    }
}

/// Nested values deeper than this are refused: Python's own limit on recursion is of this size.
const DEEPEST: usize = 200;

/// Python's `repr`.
pub(super) fn write_repr(value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(fault("the value is nested too deeply"));
    }
    spend(size_of::<Value>() + value.as_str().map_or(0, str::len))?;
    let list = |items: Vec<Value>, open: &str, close: &str, out: &mut String| {
        out.push_str(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push_str(", ");
            }
            write_repr(item, depth + 1, out)?;
        }
        out.push_str(close);
        Ok(())
    };
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => {
            out.push('{');
            for (i, (key, value)) in entries(value)?.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_repr(key, depth + 1, out)?;
                out.push_str(": ");
                write_repr(value, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => {
            if let Some(tuple) = value.downcast_object_ref::<Tuple>() {
                let close = if tuple.0.len() == 1 { ",)" } else { ")" };
                return list(tuple.0.clone(), "(", close, out);
            }
            if let Some(view) = value.downcast_object_ref::<View>() {
                return list(
                    view.items.clone(),
                    &format!("dict_{}([", view.of),
                    "])",
                    out,
                );
            }
            if let Some(range) = value.downcast_object_ref::<Range>() {
                out.push_str(&format!("range({}, {}", range.start, range.stop));
                if range.step != 1 {
                    out.push_str(&format!(", {}", range.step));
                }
                out.push(')');
                return Ok(());
            }
            match value.kind() {
                ValueKind::Seq | ValueKind::Iterable => return list(items(value)?, "[", "]", out),
                // Functions and namespaces; no template prints them.
                _ => out.push_str(&value.to_string()),
            }
        }
    }
    Ok(())
}

/// A text in quotes.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if is_printable(c) => out.push(c),
            c => match u32::from(c) {
                code @ 0..=0xff => out.push_str(&format!("\\x{code:02x}")),
                code @ 0x100..=0xffff => out.push_str(&format!("\\u{code:04x}")),
                code => out.push_str(&format!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` of one character: neither other, nor a separator but the space. Rust
/// escapes the same classes, and combining marks only at a text's beginning.
pub(super) fn is_printable(c: char) -> bool {
    let text = format!("a{c}");
    matches!(c, '\'' | '"' | '\\') || text.escape_debug().eq(text.chars())
}

/// Python's `repr` of a float: the shortest digits that give it back, with an exponent below 1e-4
/// and from 1e16 on.
pub(super) fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = format!("{x}");
        return if plain.contains('.') {
            plain
        } else {
            format!("{plain}.0")
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// How `json.dumps` writes.
pub(super) struct JsonStyle {
    /// Escape what is not ASCII.
    pub(super) ascii: bool,
    /// What a level is indented by; one line without.
    pub(super) indent: Option<String>,
    /// Between items, and between key and value.
    pub(super) separators: (String, String),
    /// Entries by their keys.
    pub(super) sorted: bool,
}

/// Python's `json.dumps`.
pub(super) fn write_json(
    value: &Value,
    style: &JsonStyle,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(fault("the value is nested too deeply"));
    }
    let indented = style
        .indent
        .as_ref()
        .map_or(0, |indent| indent.len() * depth);
    spend(size_of::<Value>() + value.as_str().map_or(0, str::len) + indented)?;
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
        ValueKind::Number => out.push_str(&json_float(f64::try_from(value.clone())?)),
        ValueKind::String => json_text(value.as_str().unwrap_or_default(), style.ascii, out),
        ValueKind::Map => {
            let mut entries = entries(value)?
                .into_iter()
                .map(|(key, value)| Ok((json_key(&key)?, value)))
                .collect::<Result<Vec<(String, Value)>, Error>>()?;
            if style.sorted {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
            }
            out.push('{');
            for (i, (key, value)) in entries.iter().enumerate() {
                if i > 0 {
                    out.push_str(&style.separators.0);
                }
                line(depth + 1, out);
                json_text(key, style.ascii, out);
                out.push_str(&style.separators.1);
                write_json(value, style, depth + 1, out)?;
            }
            if !entries.is_empty() {
                line(depth, out);
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable
            if value.downcast_object_ref::<View>().is_none()
                && value.downcast_object_ref::<Range>().is_none() =>
        {
            let items = items(value)?;
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push_str(&style.separators.0);
                }
                line(depth + 1, out);
                write_json(item, style, depth + 1, out)?;
            }
            if !items.is_empty() {
                line(depth, out);
            }
            out.push(']');
        }
        _ => {
            return Err(fault(format!(
                "Object of type {} is not JSON serializable",
                type_name(value)
            )));
        }
    }
    Ok(())
}

fn json_float(x: f64) -> String {
    if x.is_nan() {
        "NaN".to_owned()
    } else if x.is_infinite() {
        if x > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        float(x)
    }
}

fn json_key(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number if key.is_integer() => Ok(key.to_string()),
        ValueKind::Number => Ok(json_float(f64::try_from(key.clone())?)),
        _ => Err(fault(format!(
            "keys must be str, int, float, bool or None, not {}",
            type_name(key)
        ))),
    }
}

fn json_text(text: &str, ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
