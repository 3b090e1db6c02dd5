//! Currencies that are named before a number: letters before a currency sign, and `Rs.`.

/// Letters that name the country of a dollar: `US$30`, `A$471`.
const COUNTRIES: [&str; 12] = [
    "US", "A", "AU", "C", "CA", "CAN", "NZ", "HK", "S", "SG", "NT", "R",
];

/// The text with `US$30` as `$30` and `Rs.9` as `Rs 9`; `None` where nothing is to be done.
pub(crate) fn named(text: &str) -> Option<String> {
    if !(text.contains('$') || text.contains("Rs")) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(at) = rest.find(|c: char| c.is_ascii_uppercase()) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (word, after) = rest.split_at(letters);
        // `$A$` closes a formula, and `\AA` is a command.
        let begins = !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '$' | '\\' | '_'));
        if begins && COUNTRIES.contains(&word) && is_sign_before_number(after) {
            changed = true;
        } else if begins
            && matches!(word, "Rs" | "Re")
            && let Some(number) = after.strip_prefix('.')
            && begins_number(number)
        {
            out.push_str("Rs ");
            rest = number;
            changed = true;
            continue;
        } else {
            out.push_str(word);
        }
        rest = after;
    }
    out.push_str(rest);
    changed.then_some(out)
}

fn is_sign_before_number(text: &str) -> bool {
    let sign = text.strip_prefix("\\$").or_else(|| text.strip_prefix('$'));
    sign.is_some_and(begins_number)
}

fn begins_number(text: &str) -> bool {
    text.trim_start_matches(' ')
        .starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_country_before_a_currency_sign_says_nothing_of_the_number() {
        for (text, expected) in [
            ("US$30", Some("$30")),
            ("A\\$471", Some("\\$471")),
            ("-HK$ 5", Some("-$ 5")),
            ("Rs.9", Some("Rs 9")),
            ("Rs. 9.50", Some("Rs  9.50")),
            ("$A$ 5", None),
            ("BUS$30", None),
            ("A + 5", None),
        ] {
            assert_eq!(named(text).as_deref(), expected, "{text}");
        }
    }
}
