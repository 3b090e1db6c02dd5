//! Digits in groups: what parts them represents nothing.

/// Words that may stand between a name and its number.
const CURRENCIES: [&str; 14] = [
    "USD", "EUR", "GBP", "Rs", "INR", "AUD", "CAD", "JPY", "CNY", "RMB", "CHF", "HKD", "SGD", "NZD",
];

/// Whether a text begins with exactly three digits.
pub(crate) fn three_digits(text: &str) -> bool {
    text.bytes().take_while(u8::is_ascii_digit).count() == 3
}

/// The text with its number's groups joined, in any of their spellings; `None` where there are none.
pub(crate) fn joined(text: &str) -> Option<String> {
    thin(text).or_else(|| {
        number_starts(text).find_map(|from| {
            let (before, number) = text.split_at(from);
            let number = spaced(number).or_else(|| marked(number))?;
            Some(format!("{before}{number}"))
        })
    })
}

/// Where the number of a text may begin: at its first digit, or at the first behind its last `=`.
fn number_starts(text: &str) -> impl Iterator<Item = usize> {
    let side = text.rfind('=').map(|at| at + 1);
    let sides = std::iter::once(0).chain(side);
    sides.filter_map(|side| number_start(text, side))
}

/// The first digit at or behind `side`, with nothing but signs, brackets, currencies and words set as
/// text before it.
fn number_start(text: &str, side: usize) -> Option<usize> {
    let from = side + text[side..].find(|c: char| c.is_ascii_digit())?;
    let mut before = &text[side..from];
    if let Some((_, after)) = before.rsplit_once('}')
        && before.contains("\\text{")
    {
        before = after;
    }
    let mut words = before
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty());
    words.all(|word| CURRENCIES.contains(&word)).then_some(from)
}

/// `1\,000\,000`: the space that only groups have, wherever they stand.
fn thin(text: &str) -> Option<String> {
    if !text.contains("\\,") {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut found = false;
    while let Some(at) = rest.find("\\,") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        out.push_str(before);
        let digits = out.bytes().rev().take_while(u8::is_ascii_digit).count();
        let fits = match found && before.len() == 3 {
            true => digits > 3,
            false => (1..=3).contains(&digits) && !out[..out.len() - digits].ends_with('.'),
        };
        if fits && three_digits(after) {
            found = true;
        } else {
            out.push_str("\\,");
        }
        rest = after;
    }
    out.push_str(rest);
    found.then_some(out)
}

/// `1 000 000`: groups of exactly three.
fn spaced(number: &str) -> Option<String> {
    let digits = |at: usize| number[at..].bytes().take_while(u8::is_ascii_digit).count();
    let first = digits(0);
    if !(1..=3).contains(&first) {
        return None;
    }
    let mut joined = number[..first].to_owned();
    let mut at = first;
    while number[at..].starts_with(' ') && digits(at + 1) == 3 {
        joined.push_str(&number[at + 1..at + 4]);
        at += 4;
    }
    // A number that goes on otherwise, as in `1 000 20` or `5 100/3`, has no such groups.
    let after = &number[at..];
    let goes_on = after
        .trim_start()
        .starts_with(|c: char| c.is_ascii_digit() || c == '/');
    (at > first && !goes_on).then(|| joined + after)
}

/// `55_581_184`, `7’000’000`, `9.000.000`: digits in groups of three that no comma or space parts.
/// A point parts groups only where there are several.
fn marked(number: &str) -> Option<String> {
    for mark in ["_", "’", "'", "."] {
        let mut groups = number.split(mark);
        let first = groups.next()?;
        let digits = |g: &str| g.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=3).contains(&first.len()) || digits(first) != first.len() {
            continue;
        }
        let (mut joined, mut count, mut end) = (first.to_owned(), 0, first.len());
        for group in groups {
            let n = digits(group);
            if n != 3 {
                break;
            }
            joined.push_str(&group[..3]);
            end += mark.len() + 3;
            count += 1;
            if group.len() > 3 {
                break;
            }
        }
        let rest = &number[end..];
        let enough = if mark == "." { 2 } else { 1 };
        if count >= enough && !rest.starts_with(|c: char| c.is_alphanumeric() || "_'’".contains(c))
        {
            return Some(joined + rest);
        }
    }
    None
}

/// `60,00,000`: groups of two before the last, as written in India.
pub(crate) fn indian(text: &str) -> Option<String> {
    number_starts(text).find_map(|from| indian_at(text, from))
}

fn indian_at(text: &str, from: usize) -> Option<String> {
    let length = text[from..]
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b',')
        .count();
    let (number, after) = text[from..].split_at(length);
    let groups: Vec<&str> = number.split(',').collect();
    let [first, middle @ .., last] = &groups[..] else {
        return None;
    };
    let fits = (1..=2).contains(&first.len())
        && !middle.is_empty()
        && middle.iter().all(|g| g.len() == 2)
        && last.len() == 3
        && !after.contains(|c: char| c.is_ascii_digit());
    fits.then(|| format!("{}{}{after}", &text[..from], groups.concat()))
}

#[cfg(test)]
mod tests {
    use super::{indian, joined};

    #[test]
    fn groups_are_joined_behind_names_signs_and_currencies() {
        for (text, expected) in [
            ("1 000 000", Some("1000000")),
            ("-1 000", Some("-1000")),
            ("k = 8 041", Some("k = 8041")),
            ("f(3) = 8 041", Some("f(3) = 8041")),
            ("EUR 7 000 000", Some("EUR 7000000")),
            ("\\$6 000", Some("\\$6000")),
            ("(51 000)", Some("(51000)")),
            ("(8\\,000\\,000)", Some("(8000000)")),
            ("(1\\,000, 2)", Some("(1000, 2)")),
            ("N = 38’332’144", Some("N = 38332144")),
            ("9.000.000", Some("9000000")),
            ("8’739 (= 1990 + 6749)", Some("8739 (= 1990 + 6749)")),
            ("5 100/3", None),
            ("1 000 20", None),
            ("1\\,2", None),
            ("x 1 000", None),
            ("9.000", None),
        ] {
            assert_eq!(joined(text).as_deref(), expected, "{text}");
        }
        assert_eq!(indian("A = 9,45,40,847").as_deref(), Some("A = 94540847"));
        assert_eq!(indian("1,23"), None);
    }
}
