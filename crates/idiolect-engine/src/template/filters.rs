//! Filters, tests and functions of Jinja2 where the template engine's own differ, and none that
//! Jinja2 lacks.

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Environment, Error, FormatStyle, Value};

use super::bounded;
use super::limits::spend;
use super::methods::formatted;
use super::python::{
    JsonStyle, Range, Tuple, View, entries, fault, items, str_of, tuple, type_name, write_json,
};
use super::strings::{self, capitalized, is_space, lower, padded, stripped};
use super::sum::{SPENT, SUM, spent, sum};

/// Puts them into an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    for name in ["split", "lines", "chain", "zip", "bool"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
    add_texts(environment);
    add_collections(environment);
    add_numbers(environment);
    add_tests(environment);
    environment.add_filter("tojson", to_json);
    bounded::add(environment);
    environment.add_function("range", Range::of);
    environment.add_function(SUM, |parts: Rest<Value>| sum(&parts));
    environment.add_function(SPENT, spent);
    environment.add_function(CONCATENATE, |parts: Rest<Value>| concatenated(&parts));
    environment.add_function(ITEMS, |value: &Value| items(value).map(Value::from));
    environment.add_function(TUPLE, |parts: Rest<Value>| tuple(parts.to_vec()));
}

/// What `a ~ b` is rewritten to.
pub(super) const CONCATENATE: &str = "__concatenate";
/// What a `for` goes through is rewritten to a call of this.
pub(super) const ITEMS: &str = "__items";
/// What `(a, b)` is rewritten to.
pub(super) const TUPLE: &str = "__tuple";

fn concatenated(parts: &[Value]) -> Result<String, Error> {
    parts.iter().map(str_of).collect()
}

fn add_texts(environment: &mut Environment<'_>) {
    environment.add_filter("string", |value: &Value| str_of(value));
    environment.add_filter("safe", |value: &Value| str_of(value));
    environment.add_filter("upper", |value: &Value| {
        str_of(value).map(|text| text.to_uppercase())
    });
    environment.add_filter("lower", |value: &Value| {
        str_of(value).map(|text| lower(&text))
    });
    environment.add_filter("capitalize", |value: &Value| {
        str_of(value).map(|text| capitalized(&text))
    });
    environment.add_filter("title", |value: &Value| {
        str_of(value).map(|text| titled(&text))
    });
    environment.add_filter("trim", |value: &Value, set: Option<&str>| {
        str_of(value).map(|text| stripped(&text, set, true, true).to_owned())
    });
    environment.add_filter("center", |value: &Value, width: Option<i64>| {
        padded(&str_of(value)?, "center", width.unwrap_or(80), " ")
    });
    environment.add_filter("replace", replaced);
    environment.add_filter("format", |value: &Value, args: Rest<Value>| {
        formatted(FormatStyle::Printf, &str_of(value)?, &args)
    });
    environment.add_filter("wordcount", |value: &Value| {
        let text = str_of(value)?;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        Ok::<_, Error>(
            text.split(|c| !word(c))
                .filter(|part| !part.is_empty())
                .count(),
        )
    });
    for name in ["e", "escape"] {
        environment.add_filter(name, |value: &Value| {
            str_of(value).map(|text| escaped(&text))
        });
    }
}

fn replaced(
    value: &Value,
    old: &Value,
    new: &Value,
    count: Option<usize>,
) -> Result<String, Error> {
    strings::replaced(&str_of(value)?, &str_of(old)?, &str_of(new)?, count)
}

/// Jinja2's `title`: a word begins after a dash, space or opening bracket.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = is_space(c) || matches!(c, '-' | '(' | '{' | '[' | '<');
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

fn add_collections(environment: &mut Environment<'_>) {
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    environment.add_filter("list", |value: &Value| items(value).map(Value::from));
    environment.add_filter("first", |value: &Value| {
        Ok::<_, Error>(items(value)?.into_iter().next().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("last", |value: &Value| {
        Ok::<_, Error>(items(value)?.pop().unwrap_or(Value::UNDEFINED))
    });
    environment.add_filter("join", joined);
    environment.add_filter("items", |value: &Value| match value.kind() {
        ValueKind::Undefined => Ok(Value::from(Vec::<Value>::new())),
        ValueKind::Map => pairs(entries(value)?),
        _ => Err(fault("Can only get item pairs from a mapping.")),
    });
    environment.add_filter("unique", unique);
    environment.add_filter("dictsort", sorted_entries);
    environment.add_filter("reverse", |value: &Value| {
        if let Some(text) = value.as_str() {
            return Ok(Value::from(text.chars().rev().collect::<String>()));
        }
        let mut reversed = items(value)?;
        reversed.reverse();
        Ok::<_, Error>(Value::from(reversed))
    });
}

/// Each item once, texts compared without their case unless asked.
fn unique(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (cased, options): (Option<bool>, Kwargs) = from_args(&args)?;
    let cased = cased.or(options.get("case_sensitive")?).unwrap_or(false);
    let attribute: Option<&Value> = options.get("attribute")?;
    options.assert_all_used()?;
    let mut seen: Vec<Value> = Vec::new();
    let mut kept = Vec::new();
    for item in items(value)? {
        let mut key = match attribute {
            Some(name) => item.get_item(name)?,
            None => item.clone(),
        };
        if let (Some(text), false) = (key.as_str(), cased) {
            key = Value::from(lower(text));
        }
        // It is compared with every one before.
        spend(seen.len())?;
        if !seen.contains(&key) {
            seen.push(key);
            kept.push(item);
        }
    }
    Ok(Value::from(kept))
}

fn pairs(entries: Vec<(Value, Value)>) -> Result<Value, Error> {
    let pairs = entries.into_iter().map(|(k, v)| tuple(vec![k, v]));
    Ok(Value::from(pairs.collect::<Vec<_>>()))
}

fn length(value: &Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        ValueKind::String | ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => {
            Ok(items(value)?.len())
        }
        _ => Err(fault(format!(
            "object of type '{}' has no len()",
            type_name(value)
        ))),
    }
}

fn joined(value: &Value, by: Option<&Value>, options: Kwargs) -> Result<String, Error> {
    let by = match by.or(options.get("d")?) {
        Some(by) => str_of(by)?,
        None => String::new(),
    };
    let attribute: Option<&Value> = options.get("attribute")?;
    options.assert_all_used()?;
    let part = |item: &Value| match attribute {
        Some(name) => str_of(&item.get_item(name)?),
        None => str_of(item),
    };
    let parts = items(value)?
        .iter()
        .map(part)
        .collect::<Result<Vec<_>, _>>()?;
    strings::joined(&parts, &by)
}

fn sorted_entries(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (cased, by, reverse, options): (Option<bool>, Option<&str>, Option<bool>, Kwargs) =
        from_args(&args)?;
    let cased = cased.or(options.get("case_sensitive")?).unwrap_or(false);
    let by_value = match by.or(options.get("by")?).unwrap_or("key") {
        "key" => false,
        "value" => true,
        _ => return Err(fault("You can only sort by either \"key\" or \"value\"")),
    };
    let reverse = reverse.or(options.get("reverse")?).unwrap_or(false);
    options.assert_all_used()?;
    if value.kind() != ValueKind::Map {
        return Err(fault(format!("{} has no items", type_name(value))));
    }
    let mut found = entries(value)?;
    let key = |(key, value): &(Value, Value)| {
        let key = if by_value { value } else { key };
        match key.as_str() {
            Some(text) if !cased => Value::from(lower(text)),
            _ => key.clone(),
        }
    };
    found.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        if reverse { b.cmp(&a) } else { a.cmp(&b) }
    });
    pairs(found)
}

fn add_numbers(environment: &mut Environment<'_>) {
    environment.add_filter("int", whole);
    environment.add_filter("float", |value: &Value, default: Option<f64>| {
        defined(value)?;
        Ok::<_, Error>(number(value).unwrap_or(default.unwrap_or(0.0)))
    });
    environment.add_filter("round", rounded);
}

fn defined(value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(fault("the value is undefined"));
    }
    Ok(())
}

/// Python's `float` of a number, a truth value or a text.
fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => digits(value.as_str().unwrap_or_default())?.parse().ok(),
        _ => None,
    }
}

/// The text of a number as Rust reads it: without outer space and single underscores.
fn digits(text: &str) -> Option<String> {
    let text = stripped(text, None, true, true);
    let between = |at: usize| {
        let digit = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let bytes = text.as_bytes();
        digit(at.checked_sub(1).and_then(|at| bytes.get(at).copied()))
            && digit(bytes.get(at + 1).copied())
    };
    let fits = text.match_indices('_').all(|(at, _)| between(at));
    fits.then(|| text.replace('_', ""))
}

/// Jinja2's `int`: what cannot be read is the default.
fn whole(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (default, base, options): (Option<Value>, Option<u32>, Kwargs) = from_args(&args)?;
    let default = default
        .or(options.get("default")?)
        .unwrap_or_else(|| Value::from(0));
    let base = base.or(options.get("base")?).unwrap_or(10);
    options.assert_all_used()?;
    defined(value)?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    if let Some(text) = value.as_str() {
        let text = digits(text).unwrap_or_default();
        let bare = match base {
            16 => text.trim_start_matches("0x").trim_start_matches("0X"),
            8 => text.trim_start_matches("0o").trim_start_matches("0O"),
            2 => text.trim_start_matches("0b").trim_start_matches("0B"),
            _ => &text,
        };
        if let (2..=36, Ok(n)) = (base, i128::from_str_radix(bare, base.clamp(2, 36))) {
            return Ok(Value::from(n));
        }
    }
    let truncated = number(value).map(f64::trunc).filter(|x| x.abs() < 1e38);
    Ok(truncated.map_or(default, |x| Value::from(x as i128)))
}

/// Jinja2's `round`: half to even, and a float stays one.
fn rounded(value: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let (places, way, options): (Option<i32>, Option<&str>, Kwargs) = from_args(&args)?;
    let places = places.or(options.get("precision")?).unwrap_or(0);
    let way = way.or(options.get("method")?).unwrap_or("common");
    options.assert_all_used()?;
    if !matches!(value.kind(), ValueKind::Number | ValueKind::Bool) {
        let kind = type_name(value);
        return Err(fault(format!(
            "type {kind} doesn't define __round__ method"
        )));
    }
    // No float has digits beyond.
    let places = places.clamp(-400, 400);
    let x = number(value).unwrap_or_default();
    let scale = 10f64.powi(places);
    if (value.kind(), way) == (ValueKind::Bool, "common") {
        return Ok(Value::from(x as i64));
    }
    match way {
        "common" if value.is_integer() && places >= 0 => Ok(value.clone()),
        "common" if places > 0 => {
            let text = format!("{x:.*}", places.unsigned_abs() as usize);
            Ok(Value::from(text.parse::<f64>().unwrap_or(x)))
        }
        "common" => {
            let y = (x * scale).round_ties_even() / scale;
            Ok(if value.is_integer() {
                Value::from(y as i64)
            } else {
                Value::from(y)
            })
        }
        "ceil" => Ok(Value::from((x * scale).ceil() / scale)),
        "floor" => Ok(Value::from((x * scale).floor() / scale)),
        _ => Err(fault("method must be common, ceil or floor")),
    }
}

fn add_tests(environment: &mut Environment<'_>) {
    let kind = |value: &Value, kinds: &[ValueKind]| kinds.contains(&value.kind());
    // `iter(value)` works: an undefined value can be gone through.
    environment.add_test("iterable", move |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        kind(value, &[Undefined, String, Seq, Iterable, Map])
    });
    // `len(value)` works and it has `__getitem__`.
    environment.add_test("sequence", move |value: &Value| {
        use ValueKind::{Iterable, Map, Seq, String, Undefined};
        let view = value.downcast_object_ref::<View>().is_some();
        !view && kind(value, &[Undefined, String, Seq, Iterable, Map])
    });
    environment.add_test("mapping", move |value: &Value| {
        kind(value, &[ValueKind::Map])
    });
    environment.add_test("string", move |value: &Value| {
        kind(value, &[ValueKind::String])
    });
    environment.add_test("boolean", move |value: &Value| {
        kind(value, &[ValueKind::Bool])
    });
    environment.add_test("none", move |value: &Value| kind(value, &[ValueKind::None]));
    environment.add_test("true", move |value: &Value| {
        kind(value, &[ValueKind::Bool]) && value.is_true()
    });
    environment.add_test("false", move |value: &Value| {
        kind(value, &[ValueKind::Bool]) && !value.is_true()
    });
    // Python's truth values are numbers, and no `integer` to Jinja2.
    environment.add_test("number", move |value: &Value| {
        kind(value, &[ValueKind::Number, ValueKind::Bool])
    });
    environment.add_test("integer", move |value: &Value| {
        kind(value, &[ValueKind::Number]) && value.is_integer()
    });
    environment.add_test("float", move |value: &Value| {
        kind(value, &[ValueKind::Number]) && !value.is_integer()
    });
    let remainder = |value: &Value, by: f64| match number(value) {
        Some(x) if value.as_str().is_none() => Ok(x.rem_euclid(by)),
        _ => Err(fault(format!("a {} has no remainder", type_name(value)))),
    };
    environment.add_test("odd", move |value: &Value| {
        Ok::<_, Error>((remainder(value, 2.0)? - 1.0).abs() < 0.5 * f64::EPSILON)
    });
    environment.add_test("even", move |value: &Value| {
        Ok::<_, Error>(remainder(value, 2.0)? == 0.0)
    });
    environment.add_test("divisibleby", move |value: &Value, by: f64| {
        if by == 0.0 {
            return Err(fault("modulo by zero"));
        }
        Ok(remainder(value, by)? == 0.0)
    });
    environment.add_test("callable", move |value: &Value| {
        kind(value, &[ValueKind::Undefined, ValueKind::Plain])
    });
    environment.add_test("lower", |value: &Value| {
        let text = str_of(value)?;
        Ok::<_, Error>(text != text.to_uppercase() && text == lower(&text))
    });
    environment.add_test("upper", |value: &Value| {
        let text = str_of(value)?;
        Ok::<_, Error>(text != lower(&text) && text == text.to_uppercase())
    });
    environment.add_test("sameas", |value: &Value, other: &Value| {
        let tuples = [value, other].map(|v| v.downcast_object_ref::<Tuple>().is_some());
        value.kind() == other.kind() && tuples[0] == tuples[1] && value == other
    });
    for name in ["startingwith", "endingwith", "int"] {
        environment.remove_test(name);
    }
}

/// `tojson` as transformers has it: `json.dumps` that escapes neither HTML nor, unless asked,
/// what is not ASCII.
fn to_json(value: &Value, args: Rest<Value>) -> Result<String, Error> {
    let (ascii, indent, separators, sorted, options): (
        Option<bool>,
        Option<Value>,
        Option<Value>,
        Option<bool>,
        Kwargs,
    ) = from_args(&args)?;
    let ascii = ascii.or(options.get("ensure_ascii")?).unwrap_or(false);
    let indent = indent.or(options.get("indent")?);
    let separators = separators.or(options.get("separators")?);
    let sorted = sorted.or(options.get("sort_keys")?).unwrap_or(false);
    options.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(
                usize::try_from(i64::try_from(indent)?)
                    .unwrap_or(0)
                    .min(100),
            ),
        }),
    };
    let separators = match separators.filter(|pair| !pair.is_none()) {
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
        Some(pair) => match items(&pair)?.as_slice() {
            [item, key] => (str_of(item)?, str_of(key)?),
            _ => return Err(fault("separators must be a pair")),
        },
    };
    let style = JsonStyle {
        ascii,
        indent,
        separators,
        sorted,
    };
    let mut out = String::new();
    write_json(value, &style, 0, &mut out)?;
    Ok(out)
}
