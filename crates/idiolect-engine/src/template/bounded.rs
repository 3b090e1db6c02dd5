//! The engine's own filters whose results can be much longer than what they are given: they pay
//! first.

use minijinja::filters::{batch, slice};
use minijinja::value::{Kwargs, Rest, from_args};
use minijinja::{Environment, Error, State, Value};

use super::limits::spend;
use super::python::{str_of, write_repr};
use super::strings::bounded;

/// Puts them into an environment.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter(
        "batch",
        |state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>| {
            spend(bounded(count)?.saturating_mul(size_of::<Value>()))?;
            batch(state, value, count, fill)
        },
    );
    environment.add_filter(
        "slice",
        |state: &State<'_, '_>, value: Value, count: usize, fill: Option<Value>| {
            spend(bounded(count)?.saturating_mul(size_of::<Value>()))?;
            slice(state, value, count, fill)
        },
    );
    environment.add_filter("indent", |value: &Value, rest: Rest<Value>| {
        let (width, first, blank, options): (Option<usize>, Option<bool>, Option<bool>, Kwargs) =
            from_args(&rest)?;
        let width = width.or(options.get("width")?).unwrap_or(4);
        let first = first.or(options.get("first")?).unwrap_or(false);
        let blank = blank.or(options.get("blank")?).unwrap_or(false);
        options.assert_all_used()?;
        let text = str_of(value)?;
        indented(&text, width, first, blank)
    });
    environment.add_filter("pprint", |value: &Value| {
        let mut out = String::new();
        write_repr(value, 0, &mut out)?;
        Ok::<_, Error>(out)
    });
}

/// Jinja2's `indent`: spaces before each line but the first, and those without text, unless asked.
fn indented(text: &str, width: usize, first: bool, blank: bool) -> Result<String, Error> {
    let lines = text.matches('\n').count() + 1;
    spend(bounded(width)?.saturating_mul(lines))?;
    let space = " ".repeat(width);
    let line = |(i, line): (usize, &str)| {
        let wanted = if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        };
        if wanted {
            format!("{space}{line}")
        } else {
            line.to_owned()
        }
    };
    let lines: Vec<String> = text.split('\n').enumerate().map(line).collect();
    Ok(lines.join("\n"))
}
