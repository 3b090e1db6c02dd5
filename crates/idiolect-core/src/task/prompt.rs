//! Prompt files: text with placeholders in braces.
//!
//! `{name}` (lowercase letters and underscores) is filled by the task; `{{` and `}}` are braces;
//! every other brace represents itself, so LaTeX needs no escaping unless it reads like a name.

use crate::record::content_hash;

/// A prompt and what identifies it in results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptFile {
    /// A built-in's name, or a file's stem.
    pub name: String,
    /// The text, without the line end that closes a file.
    pub text: String,
    /// [`content_hash`] of `text`.
    pub hash: String,
}

impl PromptFile {
    /// A prompt from a file's text. One closing line end is cut: what a prompt ends in decides how
    /// a model goes on, and editors add one.
    pub fn new(name: &str, text: &str) -> Self {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
            hash: content_hash(text.as_bytes()),
        }
    }

    /// Whether the text has a placeholder.
    pub fn holds(&self, name: &str) -> bool {
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            rest = &rest[at..];
            let length = match placeholder(rest) {
                Some(found) if found == name => return true,
                Some(found) => found.len() + 2,
                None if rest.starts_with("{{") || rest.starts_with("}}") => 2,
                None => 1,
            };
            rest = &rest[length..];
        }
        false
    }

    /// The words that introduce a problem: what is before its first placeholder on that line,
    /// or else the line above. `None` where the problem comes first, or nothing but signs does.
    pub fn introduction(&self) -> Option<String> {
        let mut at = 0;
        loop {
            at += self.text[at..].find(['{', '}'])?;
            let rest = &self.text[at..];
            match placeholder(rest) {
                Some("solution") | None => {}
                Some(_) => break,
            }
            let doubled = rest.starts_with("{{") || rest.starts_with("}}");
            at += if doubled { 2 } else { 1 };
        }
        let line = self.text[..at].trim_end().lines().next_back()?;
        let words = line.replace("{{", "{").replace("}}", "}");
        words.contains(char::is_alphanumeric).then_some(words)
    }

    /// The text with its placeholders filled. Values are inserted as they are, never read again.
    ///
    /// # Errors
    /// A placeholder without a value, with those there are; where none of them states the problem, for
    /// then every problem would be asked with the same text.
    pub fn render(&self, values: &[(&'static str, String)]) -> Result<String, String> {
        let mut out = String::with_capacity(self.text.len() + 64);
        let known = || {
            let known: Vec<_> = values.iter().map(|(n, _)| format!("`{{{n}}}`")).collect();
            known.join(", ")
        };
        let mut used = Vec::new();
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(name) = placeholder(rest) {
                let value = values.iter().find(|(n, _)| *n == name).ok_or_else(|| {
                    format!(
                        "prompt `{}` has the placeholder `{{{name}}}`, which cannot be filled here; there are {} (a literal brace is written twice)",
                        self.name,
                        known()
                    )
                })?;
                out.push_str(&value.1);
                used.push(name);
                rest = &rest[name.len() + 2..];
            } else {
                let doubled = rest.starts_with("{{") || rest.starts_with("}}");
                out.push_str(&rest[..1]);
                rest = &rest[if doubled { 2 } else { 1 }..];
            }
        }
        out.push_str(rest);
        match missing(values, &used) {
            None => Ok(out),
            Some(missing) => Err(format!(
                "prompt `{}` lacks {missing}, so it does not state what is asked; there are {}",
                self.name,
                known()
            )),
        }
    }
}

/// Placeholders of which every one of some set states a problem as well as `{question}` does: the
/// numbers of a Countdown problem with its target, and the tests of a program.
const STATES: [&[&str]; 4] = [
    &["numbers", "target"],
    &["list", "target"],
    &["tests"],
    &["first_test"],
];

/// What a prompt must hold and does not: the solution where one is to be rewritten, else the problem.
fn missing(values: &[(&'static str, String)], used: &[&str]) -> Option<String> {
    let is_given = |name: &str| values.iter().any(|(n, _)| *n == name);
    if is_given("solution") {
        return (!used.contains(&"solution")).then(|| "`{solution}`".to_owned());
    }
    let holds = |names: &[&str]| names.iter().all(|name| used.contains(name));
    if !is_given("question") || holds(&["question"]) || STATES.iter().any(|names| holds(names)) {
        return None;
    }
    let ways = STATES
        .iter()
        .filter(|names| names.iter().all(|name| is_given(name)))
        .map(|names| format!("`{{{}}}`", names.join("}` with `{")));
    let ways: Vec<String> = std::iter::once("`{question}`".to_owned())
        .chain(ways)
        .collect();
    Some(ways.join(" or "))
}

/// The name of the placeholder that `text` begins with.
fn placeholder(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = name.len() > 1 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<(&'static str, String)> {
        vec![
            ("question", "What is {target}?".to_owned()),
            ("target", "19".to_owned()),
        ]
    }

    #[test]
    fn placeholders_are_filled_once_and_other_braces_stay() {
        let prompt = PromptFile::new("p", "{question} {{target}} \\frac{1}{2} {target}\n");
        assert_eq!(
            prompt.render(&values()).unwrap(),
            "What is {target}? {target} \\frac{1}{2} 19"
        );
    }

    #[test]
    fn a_placeholder_without_a_value_is_named() {
        let error = PromptFile::new("mine", "{quesiton}")
            .render(&values())
            .unwrap_err();
        assert!(
            error.contains("`{quesiton}`") && error.contains("`{question}`"),
            "{error}"
        );
    }

    #[test]
    fn a_prompt_that_does_not_state_the_problem_is_refused() {
        let mut of = values();
        let render = |of: &[_], text: &str| PromptFile::new("mine", text).render(of);
        for text in ["Solve it.", "Solve {{question}}.", "Make {target}."] {
            let error = render(&of, text).unwrap_err();
            assert!(
                error.contains("lacks `{question}`, so") && error.contains("`{target}`"),
                "{error}"
            );
        }
        of.push(("numbers", "3 4".to_owned()));
        assert_eq!(render(&of, "{numbers} -> {target}").unwrap(), "3 4 -> 19");
        let error = render(&of, "{numbers}").unwrap_err();
        assert!(
            error.contains("`{question}` or `{numbers}` with `{target}`"),
            "{error}"
        );
        of.push(("solution", "3 + 4".to_owned()));
        assert!(
            render(&of, "{question}")
                .unwrap_err()
                .contains("`{solution}`")
        );
        assert_eq!(render(&of, "{solution} ->").unwrap(), "3 + 4 ->");
        let holds = |text: &str| PromptFile::new("mine", text).holds("question");
        assert!(holds("Q: {question}") && !holds("{target}") && !holds("{{question}}"));
        assert!(holds("{{{question}}}") && holds("{target} {question}"));
    }

    #[test]
    fn the_words_that_introduce_a_problem_are_those_before_it() {
        for (text, expected) in [
            ("Solve.\n\nQ: 1 + 1?\nA: 2\n\nQ: {question}\nA:", Some("Q:")),
            (
                "Solve.\n\nProblem:\n{question}\n\nSolution:",
                Some("Problem:"),
            ),
            ("nums {numbers} -> {target} |", Some("nums")),
            ("Use {{name}}.\n{question}", Some("Use {name}.")),
            ("{question} |", None),
            ("--- {question}", None),
            ("rewrite {solution} ->", None),
        ] {
            let found = PromptFile::new("p", text).introduction();
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn only_one_closing_line_end_is_cut_and_the_hash_follows_the_text() {
        assert_eq!(PromptFile::new("a", "x\n\n").text, "x\n");
        assert_eq!(PromptFile::new("a", "x\r\n"), PromptFile::new("a", "x"));
        assert_ne!(
            PromptFile::new("a", "x").hash,
            PromptFile::new("a", "y").hash
        );
    }
}
