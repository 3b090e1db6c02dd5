//! Numbers and foreign text as a reader sees them. One place decides precision, signs and what
//! becomes of characters that would hide or reorder text.

use std::borrow::Cow;

/// The minus sign, which has the width of the plus.
const MINUS: char = '\u{2212}';

/// What is written where there is no number.
pub(crate) const NONE: &str = "–";

/// A fraction or accuracy with three decimals and no leading zero: `.171`, `1.000`.
pub(crate) fn fraction(value: f64) -> String {
    fixed(value, 3, false)
}

/// A difference of fractions with its sign: `+.078`, `−.003`, `.000`.
pub(crate) fn signed(value: f64) -> String {
    fixed(value, 3, true)
}

/// A fraction that is above 0: what rounds to none is shown as a bound.
pub(crate) fn positive_fraction(value: f64) -> String {
    if value.is_finite() && value < 0.0005 {
        "<\u{202f}.001".to_owned()
    } else {
        fraction(value)
    }
}

/// An interval of fractions: `[.054, .106]`.
pub(crate) fn fraction_interval(interval: (f64, f64)) -> String {
    format!("[{}, {}]", fraction(interval.0), fraction(interval.1))
}

/// An interval of differences of fractions: `[+.054, +.106]`.
pub(crate) fn signed_interval(interval: (f64, f64)) -> String {
    format!("[{}, {}]", signed(interval.0), signed(interval.1))
}

/// A measured quantity with as many decimals as three significant digits take, at most three.
pub(crate) fn quantity(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let decimals = match value.abs() {
        x if x < 10.0 => 2,
        x if x < 100.0 => 1,
        _ => 0,
    };
    minus(format!("{value:.decimals$}"))
}

/// A quantity with a fixed number of decimals, leading zero kept.
pub(crate) fn decimal(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        minus(unzero(format!("{value:.decimals$}")))
    } else {
        NONE.to_owned()
    }
}

/// A p value: two or three decimals, `< .0001` where even four would show none.
pub(crate) fn p_value(p: f64) -> String {
    match p {
        p if !p.is_finite() => NONE.to_owned(),
        p if p < 0.0001 => "<\u{202f}.0001".to_owned(),
        p if p < 0.001 => fixed(p, 4, false),
        p if p < 0.1 => fixed(p, 3, false),
        p => fixed(p, 2, false),
    }
}

/// A p value after its sign: `p = .017`, `p < .0001`.
pub(crate) fn p_equals(p: f64) -> String {
    let text = p_value(p);
    if text.starts_with('<') {
        format!("p\u{a0}{text}")
    } else {
        format!("p\u{a0}=\u{a0}{text}")
    }
}

/// A fraction in percent: `25 %`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{}\u{202f}%", decimal(fraction * 100.0, 0))
}

/// A count with thin spaces between thousands: `21 304`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    if digits.len() <= 4 {
        return digits;
    }
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// [`count`] of a `usize`.
pub(crate) fn number(n: usize) -> String {
    count(n as u64)
}

/// A noun with its count: `1 problem`, `3 problems`.
pub(crate) fn counted(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", number(n))
    }
}

/// Names as a sentence lists them: `G, P and W`.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

fn fixed(value: f64, decimals: usize, signed: bool) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = unzero(format!("{value:.decimals$}"));
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (MINUS.to_string(), digits),
        None if signed && text.bytes().any(|b| (b'1'..=b'9').contains(&b)) => {
            ("+".to_owned(), text.as_str())
        }
        None => (String::new(), text.as_str()),
    };
    match digits.strip_prefix("0.") {
        Some(rest) => format!("{sign}.{rest}"),
        None => format!("{sign}{digits}"),
    }
}

/// A rounded zero has no sign.
fn unzero(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) if !rest.bytes().any(|b| (b'1'..=b'9').contains(&b)) => rest.to_owned(),
        _ => text,
    }
}

fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(rest) => format!("{MINUS}{rest}"),
        None => text,
    }
}

/// Foreign text made safe to show: characters that are invisible, reorder their neighbours or are
/// not allowed in a page become visible stand-ins. Line feeds and tabs stay. Escaping for HTML or
/// Markdown comes after.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| stand_in(c).is_some()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match stand_in(c) {
            Some(escaped) => out.push_str(&escaped),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// [`visible`] on one line: line feeds and tabs become spaces.
pub(crate) fn inline(text: &str) -> String {
    visible(text).replace(['\n', '\t', '\u{2028}', '\u{2029}'], " ")
}

fn stand_in(c: char) -> Option<String> {
    let code = u32::from(c);
    match code {
        0x09 | 0x0a => None,
        // Control characters have pictures of their own.
        0x00..=0x1f => char::from_u32(0x2400 + code).map(String::from),
        0x7f => Some('\u{2421}'.to_string()),
        // C1 controls; zero-width and direction marks; line and paragraph separators, embeddings
        // and overrides; invisible operators and isolates; byte-order mark; interlinear marks;
        // tag characters; noncharacters.
        0x80..=0x9f
        | 0x061c
        | 0x200b..=0x200f
        | 0x2028..=0x202e
        | 0x2060..=0x206f
        | 0xfeff
        | 0xfff9..=0xfffb
        | 0xe0000..=0xe007f => Some(format!("⟨U+{code:04X}⟩")),
        _ if code & 0xfffe == 0xfffe || (0xfdd0..=0xfdef).contains(&code) => {
            Some(format!("⟨U+{code:04X}⟩"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_gains_have_three_decimals_and_true_signs() {
        assert_eq!(fraction(0.1709), ".171");
        assert_eq!(fraction(1.0), "1.000");
        assert_eq!(signed(0.078), "+.078");
        assert_eq!(signed(-0.0204), "−.020");
        assert_eq!(signed(-0.0001), ".000");
        assert_eq!(signed_interval((-0.1, 0.0)), "[−.100, .000]");
        assert_eq!(fraction(f64::NAN), NONE);
        assert_eq!(positive_fraction(0.0004), "<\u{202f}.001");
        assert_eq!(positive_fraction(0.0005), ".001");
    }

    #[test]
    fn p_values_never_print_as_zero() {
        assert_eq!(p_value(0.03857), ".039");
        assert_eq!(p_value(0.00012), ".0001");
        assert_eq!(p_equals(1e-9), "p\u{a0}<\u{202f}.0001");
        assert_eq!(p_equals(1.0), "p\u{a0}=\u{a0}1.00");
    }

    #[test]
    fn counts_are_grouped_from_five_digits_on() {
        assert_eq!(count(1000), "1000");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn quantities_keep_three_digits() {
        assert_eq!(quantity(0.324), "0.32");
        assert_eq!(quantity(-12.34), "−12.3");
        assert_eq!(quantity(1234.5), "1234");
        assert_eq!(decimal(-0.001, 2), "0.00");
    }

    #[test]
    fn characters_that_hide_or_reorder_text_become_visible() {
        assert_eq!(visible("a\0b\u{202e}c\u{7f}\n"), "a␀b⟨U+202E⟩c␡\n");
        assert_eq!(inline("a\r\nb"), "a␍ b");
        assert!(matches!(visible("Zoë → 7 שלום"), Cow::Borrowed(_)));
    }

    #[test]
    fn lists_read_as_sentences_do() {
        assert_eq!(listed(&["G"]), "G");
        assert_eq!(listed(&["G", "P", "W"]), "G, P and W");
        assert_eq!(counted(1, "seed"), "1 seed");
    }
}
