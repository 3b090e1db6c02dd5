//! Command templates: `vllm serve {model} --port {port}`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A command as a user writes it: words as a POSIX shell splits them, with `{name}` where values go.
/// No shell runs it, so a value with spaces or quotes stays one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    words: Vec<String>,
}

/// What a shell would act on.
const OPERATORS: [&str; 10] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"];

impl Template {
    /// Reads a template whose placeholders are among `known` and hold all of `required`. Braces
    /// around anything but lower-case letters and `_`, such as JSON, stand for themselves.
    ///
    /// # Errors
    /// In words: no command, an open quote, what only a shell could do, a placeholder that is
    /// unknown or missing, by name.
    pub fn parse(text: &str, known: &[&str], required: &[&str]) -> Result<Self, String> {
        let words = shlex::split(text)
            .ok_or_else(|| format!("the command `{text}` ends within a quote or after a `\\`"))?;
        let Some(program) = words.first() else {
            return Err("the command is empty".to_owned());
        };
        if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
            return Err(format!(
                "the command `{text}` holds `{operator}`, and no shell runs it: put it into a script, and name the script"
            ));
        }
        if program.contains('=') && !program.contains('/') {
            return Err(format!(
                "the command `{text}` begins with `{program}`, and no shell runs it: begin it with `env {program}`"
            ));
        }
        let found: Vec<&str> = words.iter().flat_map(|word| placeholders(word)).collect();
        let listed = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
            names.join(", ")
        };
        if let Some(unknown) = found.iter().find(|name| !known.contains(name)) {
            return Err(format!(
                "the command `{text}` holds the unknown placeholder {{{unknown}}}; known: {}",
                listed(known)
            ));
        }
        let missing: Vec<&str> = required
            .iter()
            .filter(|name| !found.contains(name))
            .copied()
            .collect();
        if !missing.is_empty() {
            return Err(format!("the command `{text}` lacks {}", listed(&missing)));
        }
        Ok(Self { words })
    }

    /// Whether the template holds a placeholder.
    pub fn holds(&self, name: &str) -> bool {
        self.words
            .iter()
            .any(|word| placeholders(word).any(|found| found == name))
    }

    /// The words with `values` by name in their places; one that is not given stays as it is.
    pub fn fill(&self, values: &[(&str, &str)]) -> Vec<String> {
        self.words.iter().map(|word| filled(word, values)).collect()
    }

    /// The program of the template, where the system has it; see [`find_program`].
    ///
    /// # Errors
    /// In words.
    pub fn program(&self) -> Result<PathBuf, String> {
        find_program(&self.words[0])
    }
}

/// A word cut at its placeholders: a text, then a placeholder's name where one follows.
fn pieces(word: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(word);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut from = 0;
        while let Some(open) = text[from..].find('{').map(|at| from + at) {
            let inside = &text[open + 1..];
            let name = inside.find('}').map_or("", |close| &inside[..close]);
            if !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                rest = Some(&inside[name.len() + 1..]);
                return Some((&text[..open], Some(name)));
            }
            from = open + 1;
        }
        rest = None;
        Some((text, None))
    })
}

fn placeholders(word: &str) -> impl Iterator<Item = &str> {
    pieces(word).filter_map(|(_, name)| name)
}

fn filled(word: &str, values: &[(&str, &str)]) -> String {
    let mut whole = String::new();
    for (text, name) in pieces(word) {
        whole.push_str(text);
        let Some(name) = name else { continue };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => whole.push_str(value),
            None => whole.push_str(&format!("{{{name}}}")),
        }
    }
    whole
}

/// Where a program lies: a path as it is, a bare name in the folders of `PATH`.
///
/// # Errors
/// In words, where there is none that can be run.
pub fn find_program(name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match is_executable(Path::new(name)) {
            true => Ok(PathBuf::from(name)),
            false => Err(format!("there is no program `{name}`")),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
        .ok_or_else(|| {
            format!("the program `{name}` is not found: it is in no folder of PATH; install it, or give its path")
        })
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["model", "port", "name"];

    fn parse(text: &str) -> Result<Template, String> {
        Template::parse(text, &KNOWN, &["model", "port"])
    }

    #[test]
    fn values_stay_in_their_words() {
        let text =
            r#"'/opt/my vllm' serve {model} --port={port} --json '{"a": {"b": 1}}' "x y" a\ b"#;
        let template = parse(text).unwrap();
        assert_eq!(
            template.fill(&[("model", "a dir/with 'quotes' {port}"), ("port", "81")]),
            [
                "/opt/my vllm",
                "serve",
                "a dir/with 'quotes' {port}",
                "--port=81",
                "--json",
                r#"{"a": {"b": 1}}"#,
                "x y",
                "a b"
            ]
        );
        assert!(template.holds("port") && !template.holds("name"));
        let odd = Template::parse("p {{model}} {} {A} {model", &KNOWN, &["model"]).unwrap();
        assert_eq!(
            odd.fill(&[("model", "m")]),
            ["p", "{m}", "{}", "{A}", "{model"]
        );
    }

    #[test]
    fn what_cannot_run_is_named() {
        for (text, words) in [
            ("", "empty"),
            ("  ", "empty"),
            ("serve '{model} {port}", "quote"),
            ("serve {model}", "lacks {port}"),
            ("serve", "lacks {model}, {port}"),
            (
                "serve {model} {prot}",
                "unknown placeholder {prot}; known: {model}, {port}, {name}",
            ),
            ("serve {model} {port} && x", "`&&`"),
            ("A=1 serve {model} {port}", "env A=1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn programs_are_found_before_they_are_needed() {
        assert!(find_program("sh").unwrap().is_absolute());
        assert!(find_program("/bin/sh").is_ok());
        for none in ["no-such-program-anywhere", "/bin", "/no/such"] {
            assert!(find_program(none).unwrap_err().contains(none));
        }
    }
}
