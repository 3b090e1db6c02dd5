//! Numbers in English words, below a thousand million.

use idiolect_math::number_words::{TENS, UNITS};

/// A number in words and where it is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numeral {
    pub(super) value: i64,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The numbers in words of a text, left to right.
pub(super) fn numerals(text: &str) -> Vec<Numeral> {
    let words = words(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match number(text, &words, at) {
            Some((value, next)) => {
                let end = words[next - 1].0 + words[next - 1].1.len();
                // "eighteen-ish" and "three-day" are words of their own.
                let mut after = text[end..].chars();
                let goes_on =
                    after.next() == Some('-') && after.next().is_some_and(char::is_alphabetic);
                if !goes_on {
                    let start = words[at].0;
                    found.push(Numeral { value, start, end });
                }
                at = next;
            }
            None => at += 1,
        }
    }
    found
}

type Words<'a> = [(usize, &'a str)];

/// The words of a text with their places; hyphens part them.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_alphanumeric(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                words.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    words
}

/// The word at `at`, where nothing but a space or hyphen parts it from the one before.
fn next<'a>(text: &str, words: &Words<'a>, at: usize) -> Option<&'a str> {
    let (start, word) = *words.get(at)?;
    let (before, last) = words.get(at.checked_sub(1)?)?;
    let gap = &text[before + last.len()..start];
    gap.chars().all(|c| c == ' ' || c == '-').then_some(word)
}

/// "two million three hundred thousand and five"
fn number(text: &str, words: &Words<'_>, at: usize) -> Option<(i64, usize)> {
    let (mut value, mut at) = below_thousand(text, words, at)?;
    let mut total = 0;
    let mut smallest = i64::MAX;
    while let Some(scale) = next(text, words, at).and_then(scale)
        && scale < smallest
    {
        total += value * scale;
        (value, smallest, at) = (0, scale, at + 1);
        let rest = at + usize::from(next(text, words, at).is_some_and(is_and));
        if next(text, words, rest).is_some()
            && let Some((more, end)) = below_thousand(text, words, rest)
        {
            (value, at) = (more, end);
        }
    }
    Some((total + value, at))
}

fn scale(word: &str) -> Option<i64> {
    match word.to_ascii_lowercase().as_str() {
        "thousand" => Some(1_000),
        "million" => Some(1_000_000),
        _ => None,
    }
}

fn is_and(word: &str) -> bool {
    word.eq_ignore_ascii_case("and")
}

fn below_thousand(text: &str, words: &Words<'_>, at: usize) -> Option<(i64, usize)> {
    let (value, at) = below_hundred(text, words, at)?;
    if !next(text, words, at).is_some_and(|word| word.eq_ignore_ascii_case("hundred")) {
        return Some((value, at));
    }
    let (value, at) = (value * 100, at + 1);
    let rest = at + usize::from(next(text, words, at).is_some_and(is_and));
    match next(text, words, rest).and_then(|_| below_hundred(text, words, rest)) {
        Some((more, end)) => Some((value + more, end)),
        None => Some((value, at)),
    }
}

fn below_hundred(text: &str, words: &Words<'_>, at: usize) -> Option<(i64, usize)> {
    let word = words.get(at)?.1;
    let place = |list: &[&str], word: &str| {
        list.iter()
            .position(|other| word.eq_ignore_ascii_case(other))
            .map(|n| n as i64)
    };
    if let Some(unit) = place(&UNITS, word) {
        return Some((unit, at + 1));
    }
    let ten = 20 + 10 * place(&TENS, word)?;
    let unit = next(text, words, at + 1).and_then(|word| place(&UNITS, word));
    match unit {
        Some(unit @ 1..=9) => Some((ten + unit, at + 2)),
        _ => Some((ten, at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::numerals;

    #[test]
    fn numbers_in_words_are_read_whole() {
        let values = |text: &str| numerals(text).iter().map(|n| n.value).collect::<Vec<_>>();
        for (text, expected) in [
            ("Three eggs", vec![3]),
            ("twenty-one", vec![21]),
            ("twenty two", vec![22]),
            ("three hundred and five", vec![305]),
            ("three hundred and he", vec![300]),
            ("nine hundred ninety-nine", vec![999]),
            ("two thousand and sixteen", vec![2016]),
            ("two million three hundred thousand five", vec![2_300_005]),
            ("three, four or five", vec![3, 4, 5]),
            ("twenty twenty", vec![20, 20]),
            ("someone tends to bone", vec![]),
            ("hundred", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(values(text), expected, "{text}");
        }
        let found = numerals("is two hundred.")[0];
        assert_eq!((found.start, found.end), (3, 14));
    }
}
