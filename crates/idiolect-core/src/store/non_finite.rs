//! `NaN` and `Infinity`, which Python's `json` writes and JSON does not have.

/// The text of a JSON value with each bare `NaN` as null, as a missing value is written elsewhere,
/// and each bare `Infinity` as a text, which no number takes; none where it has neither.
pub(super) fn replaced(text: &str) -> Option<String> {
    const WORDS: [(&str, &str); 3] = [
        ("NaN", "null"),
        ("-Infinity", "\"-Infinity\""),
        ("Infinity", "\"Infinity\""),
    ];
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut found) = (text, false);
    let (mut in_text, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|(word, _)| !in_text && rest.starts_with(word));
        if let Some((word, put)) = word {
            out.push_str(put);
            rest = &rest[word.len()..];
            found = true;
            continue;
        }
        match c {
            _ if escaped => escaped = false,
            '\\' if in_text => escaped = true,
            '"' => in_text = !in_text,
            _ => {}
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_are_replaced_and_texts_are_not() {
        let of = |text: &str| replaced(text);
        assert_eq!(
            of("{\"a\": NaN, \"b\": [-Infinity, Infinity]}").unwrap(),
            "{\"a\": null, \"b\": [\"-Infinity\", \"Infinity\"]}"
        );
        assert_eq!(of("{\"NaN\": \"a \\\" NaN\"}"), None);
        assert_eq!(of("{\"é\": NaN}").unwrap(), "{\"é\": null}");
    }
}
