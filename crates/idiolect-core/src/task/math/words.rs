//! Words in answers: units, times, dates, prose.

/// Text in lower case with single spaces, without LaTeX that only shapes it.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut space = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                // A command's name goes, its argument stays.
                let mut any = false;
                while chars.peek().is_some_and(char::is_ascii_alphabetic) {
                    chars.next();
                    any = true;
                }
                if !any {
                    chars.next();
                }
                space = true;
            }
            '{' | '}' | '$' => {}
            _ if c.is_whitespace() || c == '~' => space = true,
            _ => {
                if space && !out.is_empty() {
                    out.push(' ');
                }
                space = false;
                out.extend(c.to_lowercase());
            }
        }
    }
    if space && !out.is_empty() {
        out.push(' ');
    }
    out
}

/// What a unit measures, and how many of the base unit it holds (numerator, denominator).
pub(super) struct Unit {
    pub(super) of: &'static str,
    pub(super) factor: (i64, i64),
}

/// A unit by its name or sign.
pub(super) fn unit(name: &str) -> Option<Unit> {
    let name = name.trim().trim_end_matches('.');
    let (of, factor) = match name {
        "mm" | "millimeter" | "millimeters" | "millimetres" => ("length", (1, 1000)),
        "cm" | "centimeter" | "centimeters" | "centimetres" => ("length", (1, 100)),
        "dm" => ("length", (1, 10)),
        "m" | "meter" | "meters" | "metre" | "metres" => ("length", (1, 1)),
        "km" | "kilometer" | "kilometers" | "kilometres" => ("length", (1000, 1)),
        "in" | "inch" | "inches" => ("length", (254, 10_000)),
        "ft" | "foot" | "feet" => ("length", (3048, 10_000)),
        "yd" | "yard" | "yards" => ("length", (9144, 10_000)),
        "mi" | "mile" | "miles" => ("length", (1_609_344, 1000)),
        "mg" | "milligrams" => ("mass", (1, 1_000_000)),
        "g" | "gm" | "gram" | "grams" => ("mass", (1, 1000)),
        "kg" | "kgs" | "kilogram" | "kilograms" | "kilos" => ("mass", (1, 1)),
        "lb" | "lbs" | "pound" | "pounds" => ("mass", (45_359_237, 100_000_000)),
        "oz" | "ounce" | "ounces" => ("mass", (28_349_523_125, 1_000_000_000_000)),
        "ms" => ("time", (1, 1000)),
        "s" | "sec" | "secs" | "second" | "seconds" => ("time", (1, 1)),
        "min" | "mins" | "minute" | "minutes" => ("time", (60, 1)),
        "h" | "hr" | "hrs" | "hour" | "hours" => ("time", (3600, 1)),
        "day" | "days" => ("time", (86_400, 1)),
        "week" | "weeks" => ("time", (604_800, 1)),
        "ml" | "mL" | "milliliters" | "millilitres" => ("volume", (1, 1000)),
        "l" | "L" | "liter" | "liters" | "litre" | "litres" => ("volume", (1, 1)),
        "cent" | "cents" => ("money", (1, 100)),
        "dollar" | "dollars" | "usd" | "USD" => ("money", (1, 1)),
        _ => return None,
    };
    Some(Unit { of, factor })
}

/// Whether a run of letters after a number is a unit rather than variables. One letter may be
/// either, so it must stand apart.
pub(super) fn is_unit(word: &str, spaced: bool) -> bool {
    match word.len() {
        1 => {
            spaced
                && matches!(
                    word,
                    "m" | "g" | "s" | "h" | "l" | "L" | "N" | "J" | "W" | "K"
                )
        }
        _ => {
            unit(word).is_some()
                || matches!(
                    word,
                    "mph"
                        | "kph"
                        | "kmh"
                        | "mbperhour"
                        | "Hz"
                        | "kHz"
                        | "eV"
                        | "rpm"
                        | "sq"
                        | "cc"
                        | "th"
                        | "st"
                        | "nd"
                        | "rd"
                        | "mol"
                        | "Pa"
                        | "kPa"
                        | "rad"
                        | "deg"
                        | "pm"
                        | "am"
                        | "cu"
                        | "pts"
                        | "qt"
                        | "gal"
                        | "kmph"
                )
        }
    }
}

/// Whether a word is prose rather than a product of variables. Short words are only where they
/// stand apart.
pub(super) fn is_prose(word: &str, apart: bool) -> bool {
    let short = apart
        && matches!(
            word,
            "is" | "it"
                | "of"
                | "to"
                | "the"
                | "are"
                | "for"
                | "if"
                | "per"
                | "all"
                | "no"
                | "not"
                | "yes"
                | "one"
                | "two"
                | "any"
                | "so"
                | "as"
                | "at"
                | "by"
                | "be"
                | "has"
                | "was"
                | "when"
                | "The"
                | "No"
                | "Yes"
                | "It"
                | "If"
                | "None"
                | "can"
                | "men"
                | "odd"
                | "six"
                | "ten"
                | "red"
                | "but"
                | "may"
                | "May"
        );
    let tail_is_lower = word.bytes().skip(1).all(|b| b.is_ascii_lowercase());
    short || (word.len() >= 4 && tail_is_lower)
}

/// `7:30`, `20:34:00`, `8:34 p.m.`: seconds after midnight and the length. Without seconds or a
/// part of the day it is a time only with two-digit minutes that begin with 0, or from 13:00 on, so
/// that ratios such as 3:25 stay ratios.
pub(super) fn time(text: &str) -> Option<(u32, usize)> {
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let hours = digits(text);
    if hours == 0 || hours > 2 || !text[hours..].starts_with(':') {
        return None;
    }
    let mut at = hours + 1;
    if digits(&text[at..]) != 2 {
        return None;
    }
    let mut hour: u32 = text[..hours].parse().ok()?;
    let minute: u32 = text[at..at + 2].parse().ok()?;
    at += 2;
    let mut second = 0;
    let mut sure = false;
    if text[at..].starts_with(':') {
        if digits(&text[at + 1..]) != 2 {
            return None;
        }
        second = text[at + 1..at + 3].parse().ok()?;
        at += 3;
        sure = true;
    }
    let window: String = text[at..].chars().take(24).collect();
    let letters: String = plain(&window)
        .chars()
        .filter(|c| c.is_alphanumeric())
        .take(2)
        .collect();
    let part = match letters.as_str() {
        "am" => Some(0),
        "pm" => Some(12),
        _ => None,
    };
    if let Some(shift) = part {
        hour = hour % 12 + shift;
        let tail = text[at..].to_ascii_lowercase();
        at += tail.find('m').map_or(0, |i| i + 1);
        // The dot of "p.m." and the brace of \text{…}.
        while text[at..].starts_with(['.', '}']) {
            at += 1;
        }
    } else if !(sure || text[hours + 1..].starts_with('0') || (13..24).contains(&hour)) {
        return None;
    }
    (hour < 24 && minute < 60 && second < 60).then_some((hour * 3600 + minute * 60 + second, at))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// "October 30", "30 October 2020", "Oct. 30th, 2020": month, day, year.
pub(super) fn date(text: &str) -> Option<(u8, u8, Option<i32>)> {
    let letters = text.bytes().filter(u8::is_ascii_alphabetic).count();
    if text.len() > 40 || letters < 3 {
        return None;
    }
    let (mut month, mut numbers) = (None, Vec::new());
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| !w.is_empty())
    {
        let lower = word.to_lowercase();
        let is_month = |m: &str| m == lower || (lower.len() >= 3 && m.starts_with(&lower));
        if let Some(index) = MONTHS.iter().position(|m| is_month(m)) {
            if month.replace(index as u8 + 1).is_some() {
                return None;
            }
            continue;
        }
        let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &lower[digits.len()..];
        if digits.is_empty() || !matches!(suffix, "" | "st" | "nd" | "rd" | "th") {
            return None;
        }
        numbers.push(digits.parse::<i32>().ok()?);
    }
    let month = month?;
    let (day, year) = match numbers[..] {
        [day] => (day, None),
        [a, b] if a <= 31 => (a, Some(b)),
        [a, b] => (b, Some(a)),
        _ => return None,
    };
    let day = u8::try_from(day).ok().filter(|d| (1..=31).contains(d))?;
    Some((month, day, year))
}

/// The letter of a multiple-choice answer: `(C)`, `C.`, `\text{(C)}`, `C) 12`, `(D) Alina`.
pub(super) fn choice(text: &str) -> Option<char> {
    let text = text.trim();
    let bare = plain_case(text);
    let mut chars = bare.chars();
    let first = chars.next()?;
    let (letter, rest, framed) = if first == '(' || first == '[' {
        let letter = chars.next()?;
        let close = chars.next()?;
        if !matches!(close, ')' | ']') {
            return None;
        }
        (letter, chars.as_str().to_owned(), true)
    } else {
        (first, chars.as_str().to_owned(), false)
    };
    if !letter.is_ascii_alphabetic() || !matches!(letter.to_ascii_uppercase(), 'A'..='J') {
        return None;
    }
    let rest = rest.trim_start();
    let ends = rest.is_empty()
        || (framed && !rest.starts_with(|c: char| "+-*/^_=<>,".contains(c)))
        || rest.starts_with([')', '.', ':', '。'])
            && rest.chars().nth(1).is_none_or(|c| c.is_whitespace());
    (ends && (letter.is_ascii_uppercase() || framed || rest.is_empty()))
        .then(|| letter.to_ascii_uppercase())
}

/// The letter that a sentence chooses: the first that stands alone, or the last after "it's",
/// "is" or "answer".
pub(super) fn choice_in(text: &str) -> Option<char> {
    let words: Vec<&str> = text
        .split(|c: char| !(c.is_alphanumeric() || c == '\''))
        .filter(|w| !w.is_empty())
        .collect();
    if words.len() < 3 || text.len() > 2000 || text.contains(['=', '\\', '^']) {
        return None;
    }
    let letter = |w: &&str| {
        let c = w.chars().next()?;
        (w.len() == 1 && matches!(c, 'A'..='J')).then_some(c)
    };
    let after_is = words.windows(2).rev().find_map(|pair| {
        let says = matches!(
            pair[0].to_ascii_lowercase().as_str(),
            "it's" | "is" | "answer" | "choose" | "option"
        );
        letter(&pair[1]).filter(|_| says)
    });
    after_is.or_else(|| words.iter().filter(|w| **w != "A").find_map(letter))
}

/// As [`plain`], with the case kept.
fn plain_case(text: &str) -> String {
    let mut out = text.to_owned();
    for command in [
        "\\text", "\\textbf", "\\mathrm", "\\mbox", "\\mathbf", "\\textit",
    ] {
        if out.contains(command) {
            out = out.replace(&format!("{command}{{"), "{");
        }
    }
    out.retain(|c| !matches!(c, '{' | '}' | '$'));
    out.trim().to_owned()
}
