//! What is wrong with a recipe, as a person needs to know it: the key, what stands there, what is expected,
//! and where it is stated.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// A value that has not the kind that its key wants, or a key that nobody reads.
#[derive(Debug)]
pub(super) struct Mistake {
    /// The key at fault, dotted.
    pub(super) path: String,
    /// What is wrong with it.
    pub(super) words: String,
}

impl Mistake {
    /// Of what kept a table from being a recipe. Such an error has no place in a text, for the table
    /// has several sources, but it states the keys on the way behind its message; one from a value
    /// that was read by itself states the rest of the way before that.
    pub(super) fn of(error: &Error) -> Self {
        let text = error.to_string();
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let mut keys = Vec::new();
        while let Some(key) = lines.last().and_then(|line| within(line)) {
            keys.push(key);
            lines.pop();
        }
        Self::at(&keys.join("."), &lines.join(" "))
    }

    fn at(table: &str, message: &str) -> Self {
        let inside = |key: &str| match table {
            "" => key.to_owned(),
            table => format!("{table}.{key}"),
        };
        let named = match table {
            "" => "the recipe".to_owned(),
            table => format!("[{table}]"),
        };
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match (&quoted[..], message) {
            ([unknown, known @ ..], text) if text.starts_with("unknown field") => Self {
                path: inside(unknown),
                words: format!(
                    "{named} has no key `{unknown}`{}; its keys are {}",
                    nearest(unknown, known),
                    known.join(", ")
                ),
            },
            ([missing, ..], text) if text.starts_with("missing field") => Self {
                path: table.to_owned(),
                words: format!("{named} lacks `{missing}`"),
            },
            ([value, known @ ..], text) if text.starts_with("unknown variant") => Self {
                path: table.to_owned(),
                words: format!(
                    "`{table}` is {value:?}{}: expected {}",
                    nearest(value, known),
                    known.join(", ")
                ),
            },
            (_, text) => Self {
                path: table.to_owned(),
                words: match ["invalid type: ", "invalid value: "]
                    .iter()
                    .find_map(|kind| text.strip_prefix(kind))
                {
                    Some(found) => kinds(table, found),
                    None => format!("`{table}`: {text}"),
                },
            },
        }
    }
}

/// The key of a line ``in `a.b` ``.
fn within(line: &str) -> Option<&str> {
    line.strip_prefix("in `")?.strip_suffix('`')
}

fn nearest(unknown: &str, known: &[&str]) -> String {
    let near = |name: &&str| strsim::jaro_winkler(unknown, name);
    match known.iter().max_by(|a, b| near(a).total_cmp(&near(b))) {
        Some(best) if near(best) > 0.7 => format!("; the nearest is `{best}`"),
        _ => String::new(),
    }
}

/// `string "one", expected usize` in words of TOML.
fn kinds(path: &str, text: &str) -> String {
    let (found, expected) = text.rsplit_once(", expected ").unwrap_or((text, "another"));
    let found = match found {
        "map" => "a table".to_owned(),
        "sequence" => "a list".to_owned(),
        found => ["string ", "integer ", "floating point ", "boolean "]
            .iter()
            .find_map(|kind| found.strip_prefix(kind))
            .unwrap_or(found)
            .trim_matches('`')
            .to_owned(),
    };
    let expected: Cow<'_, str> = match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number, 0 or more".into(),
        "i64" | "i32" => "a whole number".into(),
        "f64" | "f32" => "a number".into(),
        "a boolean" | "bool" => "true or false".into(),
        "a string" => "a text in quotes".into(),
        "a sequence" => "a list in [ ]".into(),
        "a map" => "a table".into(),
        other if other.starts_with("struct ") => "a table".into(),
        other => other.into(),
    };
    format!("`{path}` is {found}: expected {expected}")
}

/// What a recipe was resolved from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
    /// Its name in errors.
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    /// The scale that was applied.
    pub(super) scale: &'a str,
    /// `KEY=VALUE` overrides.
    pub(super) sets: &'a [String],
}

impl<'a> Origin<'a> {
    /// A file alone.
    pub(super) fn file(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            scale: "",
            sets: &[],
        }
    }

    /// Who states a key: the last `--set` of it or of a table around it, else the line of the file, else
    /// a `--set` of something in it; else the file as a whole.
    pub(super) fn of(&self, path: &str) -> String {
        if path.is_empty() {
            return self.file.to_owned();
        }
        let key = |set: &str| {
            let key = set.split_once('=').map_or("", |(key, _)| key);
            key.trim().to_owned()
        };
        let mut last_first = self.sets.iter().rev();
        if let Some(set) = last_first.find(|set| is_or_holds(&key(set), path)) {
            return format!("--set {set}");
        }
        let scaled = format!("scale.{}.{path}", self.scale);
        if let Some(line) = line_of(self.text, &scaled).or_else(|| line_of(self.text, path)) {
            return format!("{}, line {line}", self.file);
        }
        match self.sets.iter().find(|set| is_or_holds(path, &key(set))) {
            Some(set) => format!("--set {set}"),
            None => self.file.to_owned(),
        }
    }
}

/// Whether a dotted key is another or a table around it.
fn is_or_holds(outer: &str, inner: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The line in which a dotted key of a text stands.
fn line_of(text: &str, path: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let at = place(table.get_ref(), path)?;
    Some(1 + text.get(..at)?.matches('\n').count())
}

/// Where a dotted key begins. Keys may hold dots themselves.
fn place(table: &DeTable<'_>, path: &str) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let rest = path.strip_prefix(key.get_ref().as_ref())?;
        match (rest.strip_prefix('.'), value.get_ref()) {
            (None, _) if rest.is_empty() => Some(start(key)),
            (Some(rest), DeValue::Table(inner)) => place(inner, rest),
            _ => None,
        }
    })
}

fn start<T>(of: &Spanned<T>) -> usize {
    of.span().start
}
