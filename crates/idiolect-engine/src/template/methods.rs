//! Python's methods of texts, lists, tuples and mappings, as templates call them.
//!
//! Those that change a value in place are missing on purpose: the sandbox of transformers refuses
//! them too. Places count characters.

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, FormatStyle, State, Value, format_filter};

use super::limits::spend;
use super::python::{View, entries, fault, is_printable, items, str_of, tuple, type_name};
use super::strings::{
    bounded, capitalized, characters, check_widths, expanded, has_case, is_space, joined, lines,
    lower, padded, replaced, split, stripped, titled,
};

/// What `x[a:b:c]` is rewritten to.
pub(super) const SLICE: &str = "__slice";

/// Calls a method that the template engine does not know.
pub(super) fn call(
    _: &State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if method == SLICE {
        return slice(value, args);
    }
    match value.kind() {
        ValueKind::String => of_text(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => of_mapping(value, method, args),
        ValueKind::Seq | ValueKind::Iterable => of_list(value, method, args),
        _ => unknown(value, method),
    }
}

/// Python's slice of a text, list or tuple.
fn slice(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (start, stop, step): (Option<i64>, Option<i64>, Option<i64>) = from_args(args)?;
    let kind = type_name(value);
    if !matches!(kind, "str" | "list" | "tuple") || value.downcast_object_ref::<View>().is_some() {
        return Err(fault(format!("a value of type {kind} cannot be sliced")));
    }
    let items = items(value)?;
    let (n, step) = (items.len() as i64, step.unwrap_or(1));
    if step == 0 {
        return Err(fault("slice step cannot be zero"));
    }
    let place = |at: i64, low: i64, high: i64| (if at < 0 { at + n } else { at }).clamp(low, high);
    let (first, last) = if step > 0 {
        (
            start.map_or(0, |at| place(at, 0, n)),
            stop.map_or(n, |at| place(at, 0, n)),
        )
    } else {
        (
            start.map_or(n - 1, |at| place(at, -1, n - 1)),
            stop.map_or(-1, |at| place(at, -1, n - 1)),
        )
    };
    let mut taken = Vec::new();
    let mut at = first;
    while (step > 0 && at < last) || (step < 0 && at > last) {
        taken.extend(
            usize::try_from(at)
                .ok()
                .and_then(|at| items.get(at).cloned()),
        );
        at = at.saturating_add(step);
    }
    Ok(match kind {
        "str" => Value::from(taken.iter().filter_map(Value::as_str).collect::<String>()),
        "tuple" => tuple(taken),
        _ => Value::from(taken),
    })
}

fn unknown<T>(value: &Value, method: &str) -> Result<T, Error> {
    Err(Error::new(
        ErrorKind::UnknownMethod,
        format!(
            "a value of type {} has no method `{method}` here",
            type_name(value)
        ),
    ))
}

/// A mapping's methods.
pub(super) fn of_mapping(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == SLICE {
        return slice(value, args);
    }
    let view = |of: &'static str, items: Vec<Value>| Value::from_object(View { of, items });
    match method {
        "keys" => {
            let () = from_args(args)?;
            Ok(view("keys", items(value)?))
        }
        "values" => {
            let () = from_args(args)?;
            let values = entries(value)?.into_iter().map(|(_, value)| value);
            Ok(view("values", values.collect()))
        }
        "items" => {
            let () = from_args(args)?;
            let pairs = entries(value)?.into_iter();
            Ok(view(
                "items",
                pairs.map(|(k, v)| tuple(vec![k, v])).collect(),
            ))
        }
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            let found = value.get_item(key)?;
            if !found.is_undefined() {
                return Ok(found);
            }
            Ok(default.unwrap_or_else(|| Value::from(())))
        }
        "copy" => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        _ => unknown(value, method),
    }
}

fn of_list(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "count" => {
            let (wanted,): (&Value,) = from_args(args)?;
            Ok(Value::from(
                items(value)?.iter().filter(|item| *item == wanted).count(),
            ))
        }
        "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let at = items(value)?.iter().position(|item| item == wanted);
            at.map(Value::from)
                .ok_or_else(|| fault("the value is not in the list"))
        }
        "copy" => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        _ => unknown(value, method),
    }
}

fn of_text(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    // What a method makes of a text is about as long, or pays for itself.
    spend(text.len())?;
    let none = || from_args::<()>(args);
    let of = |text: String| Ok(Value::from(text));
    let bool_value = |answer: bool| Ok(Value::from(answer));
    let all = |test: fn(char) -> bool| bool_value(!text.is_empty() && text.chars().all(test));
    match method {
        "upper" => none().and_then(|()| of(text.to_uppercase())),
        "lower" => none().and_then(|()| of(lower(text))),
        "casefold" => none().and_then(|()| of(lower(text).replace('ß', "ss"))),
        "capitalize" => none().and_then(|()| of(capitalized(text))),
        "title" => none().and_then(|()| of(titled(text))),
        "swapcase" => {
            none()?;
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            of(text.chars().map(swap).collect())
        }
        "strip" | "lstrip" | "rstrip" => {
            let (set,): (Option<&str>,) = from_args(args)?;
            of(stripped(text, set, method != "rstrip", method != "lstrip").to_owned())
        }
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            of(text.strip_prefix(part).unwrap_or(text).to_owned())
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            of(text.strip_suffix(part).unwrap_or(text).to_owned())
        }
        "replace" => {
            let (old, new, count, options): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
            let count = count.or(options.get("count")?).unwrap_or(-1);
            options.assert_all_used()?;
            of(replaced(text, old, new, usize::try_from(count).ok())?)
        }
        "split" | "rsplit" => {
            let (by, most, options): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
            let by = by.or(options.get("sep")?);
            let most = most.or(options.get("maxsplit")?).unwrap_or(-1);
            options.assert_all_used()?;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let parts = split(text, by, most, method == "rsplit")?;
            spend(parts.len().saturating_mul(size_of::<Value>()))?;
            Ok(Value::from(
                parts.into_iter().map(Value::from).collect::<Vec<_>>(),
            ))
        }
        "splitlines" => {
            let (keep, options): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(options.get("keepends")?).unwrap_or(false);
            options.assert_all_used()?;
            let lines = lines(text, keep).into_iter().map(Value::from);
            Ok(Value::from(lines.collect::<Vec<_>>()))
        }
        "partition" | "rpartition" => {
            let (by,): (&str,) = from_args(args)?;
            if by.is_empty() {
                return Err(fault("empty separator"));
            }
            let found = if method == "partition" {
                text.find(by)
            } else {
                text.rfind(by)
            };
            let parts = match found {
                Some(at) => [&text[..at], by, &text[at + by.len()..]],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(tuple(parts.into_iter().map(Value::from).collect()))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let (range, skipped) = characters(text, start, end);
            let Some(range) = range else {
                return absent(method);
            };
            if method == "count" {
                let n = if part.is_empty() {
                    range.chars().count() + 1
                } else {
                    range.matches(part).count()
                };
                return Ok(Value::from(n));
            }
            let at = if method.starts_with('r') {
                range.rfind(part)
            } else {
                range.find(part)
            };
            match at {
                Some(at) => Ok(Value::from(skipped + range[..at].chars().count())),
                None => absent(method),
            }
        }
        "startswith" | "endswith" => {
            let (part, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let (range, _) = characters(text, start, end);
            let Some(range) = range else {
                return bool_value(false);
            };
            let parts = if part.as_str().is_some() {
                vec![part.clone()]
            } else if type_name(part) == "tuple" {
                items(part)?
            } else {
                let kind = type_name(part);
                return Err(fault(format!(
                    "{method} first arg must be str or a tuple of str, not {kind}"
                )));
            };
            for part in &parts {
                let part = text_of(part)?;
                if (method == "startswith" && range.starts_with(part))
                    || (method == "endswith" && range.ends_with(part))
                {
                    return bool_value(true);
                }
            }
            bool_value(false)
        }
        "join" => {
            let (parts,): (&Value,) = from_args(args)?;
            let parts = items(parts)?;
            let parts: Vec<&str> = parts.iter().map(text_of).collect::<Result<_, _>>()?;
            of(joined(&parts, text)?)
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = match text.chars().next() {
                Some('+' | '-') => text.split_at(1),
                _ => ("", text),
            };
            let missing = bounded(width)?.saturating_sub(text.chars().count());
            of(format!("{sign}{}{digits}", "0".repeat(missing)))
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<&str>) = from_args(args)?;
            of(padded(text, method, width, fill.unwrap_or(" "))?)
        }
        "expandtabs" => {
            let (size, options): (Option<usize>, Kwargs) = from_args(args)?;
            let size = size.or(options.get("tabsize")?).unwrap_or(8);
            options.assert_all_used()?;
            of(expanded(text, bounded(size)?)?)
        }
        "format" => formatted(FormatStyle::StrFormat, text, args),
        "isalnum" => all(|c| c.is_alphanumeric()),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => bool_value(text.is_ascii()),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "isprintable" => bool_value(text.chars().all(is_printable)),
        "islower" => bool_value(has_case(text) && !text.chars().any(char::is_uppercase)),
        "isupper" => bool_value(has_case(text) && !text.chars().any(char::is_lowercase)),
        "istitle" => bool_value(has_case(text) && titled(text) == text),
        "isidentifier" => {
            let mut characters = text.chars();
            let begins = characters
                .next()
                .is_some_and(|c| c.is_alphabetic() || c == '_');
            bool_value(begins && characters.all(|c| c.is_alphanumeric() || c == '_'))
        }
        _ => unknown(&Value::from(text), method),
    }
}

fn absent(method: &str) -> Result<Value, Error> {
    match method {
        "count" => Ok(Value::from(0)),
        "index" | "rindex" => Err(fault("substring not found")),
        _ => Ok(Value::from(-1)),
    }
}

fn text_of(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| {
        let kind = type_name(value);
        fault(format!("expected str instance, {kind} found"))
    })
}

/// Formats with values that are no numbers as `str` writes them.
pub(super) fn formatted(style: FormatStyle, text: &str, args: &[Value]) -> Result<Value, Error> {
    let printed = |value: &Value| match value.kind() {
        ValueKind::Number => Ok(value.clone()),
        _ if value.is_kwargs() => Ok(value.clone()),
        _ => str_of(value).map(Value::from),
    };
    check_widths(style, text)?;
    let args = args.iter().map(printed).collect::<Result<Vec<_>, _>>()?;
    format_filter(style, text, &args).map(Value::from)
}
