//! A text cut into steps: lines, sentences, and the parts between the `;` and `|` of the miniature's
//! style. Steps of code come with the task that needs them.

/// The parts of a text: byte span, trimmed, and whether a `|` is before it. A line that begins
/// with `=` continues the part before it.
pub(super) fn parts(text: &str) -> Vec<(usize, usize, bool)> {
    let mut found: Vec<(usize, usize, bool)> = Vec::new();
    let bytes = text.as_bytes();
    let mut start = 0;
    let mut after_bar = false;
    let mut push = |start: usize, end: usize, after_bar: bool| {
        let part = &text[start..end];
        let trimmed = part.trim_start();
        let (from, to) = (end - trimmed.len(), start + part.trim_end().len());
        if from >= to {
            return;
        }
        let continues = trimmed
            .trim_start_matches(['*', '`', '&', ' ', '>'])
            .starts_with('=');
        match found.last_mut() {
            // A step ends somewhere, also in a text of nothing but `=` lines.
            Some(last) if continues && to - last.0 < 1000 => last.1 = to,
            _ => found.push((from, to, after_bar)),
        }
    };
    for (i, b) in bytes.iter().enumerate() {
        let ends = match b {
            b'\n' | b';' => true,
            b'|' => spaced(bytes, i),
            b'.' | b'!' | b'?' => ends_sentence(text, start, i),
            _ => false,
        };
        if ends {
            let keeps = matches!(b, b'.' | b'!' | b'?');
            push(start, if keeps { i + 1 } else { i }, after_bar);
            start = i + 1;
            after_bar = *b == b'|';
        }
    }
    push(start, text.len(), after_bar);
    found
}

/// White space or nothing on both sides of a byte.
fn spaced(bytes: &[u8], at: usize) -> bool {
    let space = |b: Option<&u8>| b.is_none_or(u8::is_ascii_whitespace);
    space(at.checked_sub(1).and_then(|i| bytes.get(i))) && space(bytes.get(at + 1))
}

/// A stop before white space, unless it closes a list number or an abbreviation such as `Mr.`.
fn ends_sentence(text: &str, part: usize, at: usize) -> bool {
    if !text[at + 1..].starts_with(|c: char| c.is_whitespace()) {
        return false;
    }
    let sentence = text[part..at].trim_start();
    let word = sentence
        .rsplit(char::is_whitespace)
        .next()
        .unwrap_or_default();
    let list_number = word.len() == sentence.len() && word.bytes().all(|b| b.is_ascii_digit());
    !(list_number
        || matches!(
            word,
            "Mr" | "Mrs" | "Ms" | "Dr" | "St" | "vs" | "No" | "approx"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        parts(text)
            .into_iter()
            .map(|(start, end, _)| &text[start..end])
            .collect()
    }

    #[test]
    fn lines_sentences_and_parts_between_bars_are_steps() {
        assert_eq!(
            cut(" 3 * 7 = 21 ; 21 - 2 = 19 | ans 3 * 7 - 2"),
            ["3 * 7 = 21", "21 - 2 = 19", "ans 3 * 7 - 2"]
        );
        assert_eq!(
            cut("1. Mr. Ray pays $3.50. Why? So!\n\n2. Ok"),
            ["1. Mr. Ray pays $3.50.", "Why?", "So!", "2. Ok"]
        );
        assert_eq!(cut("|x| is 5"), ["|x| is 5"]);
    }

    #[test]
    fn a_line_that_begins_with_equals_continues_the_one_before() {
        assert_eq!(
            cut("(2 + 3) * 4\n= 5 * 4\n **= 20**\nDone"),
            ["(2 + 3) * 4\n= 5 * 4\n **= 20**", "Done"]
        );
    }
}
