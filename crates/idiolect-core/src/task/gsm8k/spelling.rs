//! A stated answer in plain spelling: without typefaces, colours, emphasis and bullets, its numbers
//! without digit groups.

/// Commands whose braces hold what is shown.
const SHOWN: [&str; 22] = [
    "text",
    "mbox",
    "textbf",
    "textit",
    "textrm",
    "texttt",
    "textsf",
    "emph",
    "mathrm",
    "mathbf",
    "mathsf",
    "mathit",
    "mathtt",
    "boldsymbol",
    "bm",
    "underline",
    "uline",
    "boxed",
    "fbox",
    "operatorname",
    "hbox",
    "displaytext",
];
/// Commands whose first braces hold a colour, and the second what is shown.
const COLOURED: [&str; 3] = ["textcolor", "colorbox", "color"];
/// Commands that show nothing to read.
const NOTHING: [&str; 32] = [
    "bf",
    "rm",
    "it",
    "sf",
    "tt",
    "displaystyle",
    "textstyle",
    "left",
    "right",
    "checkmark",
    "blacksquare",
    "square",
    "therefore",
    "Box",
    "qed",
    "big",
    "Big",
    "bigl",
    "bigr",
    "limits",
    "nolimits",
    "mathstrut",
    "tiny",
    "scriptsize",
    "footnotesize",
    "small",
    "normalsize",
    "large",
    "Large",
    "LARGE",
    "huge",
    "Huge",
];
const HTML: [&str; 14] = [
    "<b>",
    "</b>",
    "<u>",
    "</u>",
    "<i>",
    "</i>",
    "<em>",
    "</em>",
    "<strong>",
    "</strong>",
    "<mark>",
    "</mark>",
    "<code>",
    "</code>",
];

/// Typefaces may lie in each other this deep.
const MAX_DEPTH: usize = 8;

/// The text in plain spelling. Its words stay, and so does its arithmetic.
pub(super) fn plain(text: &str) -> String {
    let text = unmarked(text);
    let mut shown = String::with_capacity(text.len() + 8);
    show(&text, &mut shown, 0);
    let shown = over(&shown).replace("{-}", "-").replace("{+}", "+");
    plain_numbers(&shown)
}

/// Replaces commands by what they show.
fn show(text: &str, out: &mut String, depth: usize) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '~']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('~') {
            out.push(' ');
            rest = after;
            continue;
        }
        rest = command(rest, out, depth);
    }
    out.push_str(rest);
}

/// Writes what the command at the start of `text` shows; what follows it.
fn command<'a>(text: &'a str, out: &mut String, depth: usize) -> &'a str {
    let after = &text[1..];
    let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (name, rest) = after.split_at(letters);
    if letters == 0 {
        let Some(c) = after.chars().next() else {
            return "";
        };
        match c {
            ',' | ';' | ':' | ' ' => out.push(' '),
            '!' | '(' | ')' | '[' | ']' => {}
            '$' | '%' => out.push(c),
            _ => {
                out.push('\\');
                out.push(c);
            }
        }
        return &after[c.len_utf8()..];
    }
    match name {
        "quad" | "qquad" => out.push(' '),
        "pounds" => out.push('£'),
        "euro" => out.push('€'),
        "frac" | "dfrac" | "tfrac" | "cfrac" => return fraction(rest, out, depth),
        _ if NOTHING.contains(&name) => out.push(' '),
        _ if COLOURED.contains(&name) => {
            return match group(rest) {
                Some((_, after)) => after,
                None => rest,
            };
        }
        _ if SHOWN.contains(&name) => {
            let Some((inside, after)) = group(rest) else {
                return rest;
            };
            if out.ends_with(|c: char| c.is_alphanumeric()) {
                out.push(' ');
            }
            match depth < MAX_DEPTH {
                true => show(inside, out, depth + 1),
                false => out.push_str(inside),
            }
            return after;
        }
        _ => {
            out.push('\\');
            out.push_str(name);
        }
    }
    rest
}

/// `\frac12` and `\frac 1 2` with their braces.
fn fraction<'a>(text: &'a str, out: &mut String, depth: usize) -> &'a str {
    out.push_str("\\frac");
    let mut rest = text;
    for _ in 0..2 {
        let at = rest.trim_start_matches(' ');
        if let Some((inside, after)) = group(at) {
            out.push('{');
            if depth < MAX_DEPTH {
                show(inside, out, depth + 1);
            }
            out.push('}');
            rest = after;
        } else if at.starts_with(|c: char| c.is_ascii_digit()) {
            out.push('{');
            out.push_str(&at[..1]);
            out.push('}');
            rest = &at[1..];
        } else {
            return rest;
        }
    }
    rest
}

/// The content of the braces that `text` begins with, and what follows them.
fn group(text: &str) -> Option<(&str, &str)> {
    let inside = text.trim_start_matches(' ').strip_prefix('{')?;
    let mut depth = 0usize;
    for (at, b) in inside.bytes().enumerate().take(2000) {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some((&inside[..at], &inside[at + 1..])),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `{3 \over 4}` as `\frac{3}{4}`.
fn over(text: &str) -> String {
    let parts = || {
        let at = text.find("\\over")?;
        let (open, close) = (text[..at].rfind('{')?, at + text[at..].find('}')?);
        let (above, below) = (&text[open + 1..at], &text[at + "\\over".len()..close]);
        Some((
            &text[..open],
            above.trim(),
            below.trim(),
            &text[close + 1..],
        ))
    };
    match parts() {
        Some((before, above, below, after)) => {
            format!("{before}\\frac{{{above}}}{{{below}}}{after}")
        }
        None => text.to_owned(),
    }
}

/// Without emphasis, the bullets of lines after the first, and tags of typefaces.
fn unmarked(text: &str) -> String {
    let mut lines = Vec::new();
    let mut displayed = false;
    for (index, line) in text.lines().enumerate() {
        let bulleted = line.trim_start();
        let bullet = ["- ", "* ", "• ", "– "]
            .iter()
            .find_map(|mark| bulleted.strip_prefix(mark))
            .filter(|_| (index > 0 && !displayed) || bulleted.starts_with('•'));
        // In a displayed formula it is a minus sign.
        displayed = matches!(line.trim(), "$$" | "\\[");
        lines.push(bullet.unwrap_or(line));
    }
    let mut text = lines.join("\n").replace("**", "").replace("__", "");
    if text.contains('<') {
        for tag in HTML {
            text = text.replace(tag, "");
        }
    }
    // `*5*`: one star each side.
    let trimmed = text.trim();
    let end = trimmed.trim_end_matches(['.', '!']);
    if let Some(inside) = end.strip_prefix('*').and_then(|t| t.strip_suffix('*'))
        && !inside.contains('*')
    {
        return inside.to_owned();
    }
    text
}

/// Every number in plain digits and one decimal point: `1 600`, `1'600`, `1_600`, `1,00,000`,
/// `1.600.000`, `007`, `0,5`, `12,50 €`, `1½`, `12th`, `5k`.
fn plain_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((above, below)) = vulgar(c) {
            if out.ends_with(|c: char| c.is_ascii_digit()) {
                out.push(' ');
            }
            out.push_str(&format!("{above}/{below}"));
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let begins = c.is_ascii_digit() && begins_number(&out);
        if !begins {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let (number, length) = number(rest);
        out.push_str(&number);
        rest = &rest[length..];
    }
    out
}

/// Whether a digit after `before` begins a number: it goes on with no number, name or time. `Rs.1600`
/// has no decimal point.
fn begins_number(before: &str) -> bool {
    let after = |mark: char, is: fn(char) -> bool| {
        before
            .strip_suffix(mark)
            .is_some_and(|rest| rest.ends_with(is))
    };
    let digit = |c: char| c.is_ascii_digit();
    match before.chars().next_back() {
        Some('.') => after('.', |c| c.is_ascii_alphabetic()),
        Some(',') => !after(',', digit),
        Some(':') => !after(':', digit),
        Some(c) => !(c.is_alphanumeric() || c == '_'),
        None => true,
    }
}

/// The number that `text` begins with in plain spelling, and its length in bytes.
fn number(text: &str) -> (String, usize) {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let first = digits(text);
    let grouped = groups(text, first)
        .or_else(|| indian(text, first))
        .or_else(|| dotted(text, first))
        .or_else(|| decimal_comma(text, first));
    let (mut number, length) = match grouped {
        Some(found) => found,
        None => {
            let mut length = first;
            let decimals = text[first..].strip_prefix('.').map_or(0, digits);
            if decimals > 0 {
                length += 1 + decimals;
            }
            (text[..length].to_owned(), length)
        }
    };
    let zeros = number.bytes().take_while(|b| *b == b'0').count();
    let whole = digits(&number);
    number.drain(..zeros.min(whole.saturating_sub(1)));
    let after = &text[length..];
    let word = after
        .find(|c: char| !c.is_alphanumeric())
        .map_or(after, |end| &after[..end]);
    match word {
        "st" | "nd" | "rd" | "th" => (number, length + word.len()),
        "k" | "K" => (number + " thousand", length + word.len()),
        _ => (number, length),
    }
}

/// `1 600`, `1'600`, `1_600`: groups of three parted by one and the same sign.
fn groups(text: &str, first: usize) -> Option<(String, usize)> {
    let marks = [
        "{,}", " ", "\u{a0}", "\u{2009}", "\u{202f}", "\u{2007}", "'", "’", "_", ",",
    ];
    let mark = *marks
        .iter()
        .find(|mark| text[first..].starts_with(**mark))?;
    let commas = matches!(mark, "," | "{,}");
    // `0,125` is a decimal.
    if !(1..=3).contains(&first) || (commas && &text[..first] == "0") {
        return None;
    }
    let mut number = text[..first].to_owned();
    let mut at = first;
    while let Some(group) = text[at..].strip_prefix(mark) {
        let digits = group.bytes().take_while(u8::is_ascii_digit).count();
        // `1 600/7` is a mixed number.
        if digits != 3 || (!commas && group[3..].starts_with('/')) {
            break;
        }
        number.push_str(&group[..3]);
        at += mark.len() + 3;
    }
    if at == first {
        return None;
    }
    // `1,00,000` and `1,234,5` are no groups of three.
    let odd = text[at..]
        .strip_prefix(mark)
        .is_some_and(|rest| mark != " " && rest.starts_with(|c: char| c.is_ascii_digit()));
    if odd {
        return None;
    }
    with_decimals(number, text, at)
}

fn with_decimals(mut number: String, text: &str, at: usize) -> Option<(String, usize)> {
    let decimals = text[at..].strip_prefix('.').map_or(0, |rest| {
        rest.bytes().take_while(u8::is_ascii_digit).count()
    });
    let end = if decimals > 0 { at + 1 + decimals } else { at };
    number.push_str(&text[at..end]);
    Some((number, end))
}

/// `1,00,000`: groups of two before one of three.
fn indian(text: &str, first: usize) -> Option<(String, usize)> {
    if !(1..=2).contains(&first) {
        return None;
    }
    let mut number = text[..first].to_owned();
    let mut at = first;
    let mut pairs = 0;
    loop {
        let group = text[at..].strip_prefix(',')?;
        let digits = group.bytes().take_while(u8::is_ascii_digit).count();
        number.push_str(&group[..digits]);
        at += 1 + digits;
        match digits {
            2 => pairs += 1,
            3 if pairs > 0 => return with_decimals(number, text, at),
            _ => return None,
        }
    }
}

/// `1.600.000`, and `1.600,50`.
fn dotted(text: &str, first: usize) -> Option<(String, usize)> {
    if !(1..=3).contains(&first) {
        return None;
    }
    let mut number = text[..first].to_owned();
    let mut at = first;
    let mut count = 0;
    while let Some(group) = text[at..].strip_prefix('.') {
        if group.bytes().take_while(u8::is_ascii_digit).count() != 3 {
            break;
        }
        number.push_str(&group[..3]);
        at += 4;
        count += 1;
    }
    let decimals = text[at..].strip_prefix(',').map_or(0, |rest| {
        rest.bytes().take_while(u8::is_ascii_digit).count()
    });
    if count > 0 && (1..=2).contains(&decimals) {
        number.push('.');
        number.push_str(&text[at + 1..at + 1 + decimals]);
        return Some((number, at + 1 + decimals));
    }
    let goes_on = text[at..]
        .strip_prefix('.')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    (count > 1 && !goes_on).then_some((number, at))
}

/// `0,5`, `3{,}75`, and one or two digits before a unit: a comma that groups nothing and lists
/// nothing.
fn decimal_comma(text: &str, first: usize) -> Option<(String, usize)> {
    let (braced, after) = match text[first..].strip_prefix("{,}") {
        Some(after) => (true, after),
        None => (false, text[first..].strip_prefix(',')?),
    };
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let end = text.len() - after.len() + digits;
    let unit = || {
        let rest = text[end..].trim_start();
        let word: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
        let joins = [
            "and", "or", "to", "of", "is", "are", "in", "for", "plus", "minus",
        ];
        rest.starts_with(['€', '$', '£', '%', '°'])
            || (!word.is_empty() && !joins.contains(&word.as_str()))
    };
    let zero = &text[..first] == "0";
    let reads = match digits {
        0 => false,
        1 | 2 => zero || braced || unit(),
        _ => zero,
    };
    reads.then(|| (format!("{}.{}", &text[..first], &after[..digits]), end))
}

fn vulgar(c: char) -> Option<(u32, u32)> {
    Some(match c {
        '½' => (1, 2),
        '⅓' => (1, 3),
        '⅔' => (2, 3),
        '¼' => (1, 4),
        '¾' => (3, 4),
        '⅕' => (1, 5),
        '⅖' => (2, 5),
        '⅗' => (3, 5),
        '⅘' => (4, 5),
        '⅙' => (1, 6),
        '⅚' => (5, 6),
        '⅐' => (1, 7),
        '⅛' => (1, 8),
        '⅜' => (3, 8),
        '⅝' => (5, 8),
        '⅞' => (7, 8),
        '⅑' => (1, 9),
        '⅒' => (1, 10),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain;

    #[test]
    fn numbers_lose_their_groups_and_nothing_else() {
        for (text, expected) in [
            ("1 600", "1600"),
            ("1\u{202f}600\u{202f}000.5", "1600000.5"),
            ("1'600", "1600"),
            ("1’600", "1600"),
            ("1_600", "1600"),
            ("1,600.50", "1600.50"),
            ("1,00,000", "100000"),
            ("12,34,567", "1234567"),
            ("1.600.000", "1600000"),
            ("1.600,50", "1600.50"),
            ("1.600", "1.600"),
            ("007", "7"),
            ("0", "0"),
            ("0.50", "0.50"),
            ("0,5", "0.5"),
            ("12,50 €", "12.50 €"),
            ("12,50", "12,50"),
            ("3{,}75", "3.75"),
            ("10{,}000", "10000"),
            ("10{,}000{,}000", "10000000"),
            ("0,125", "0.125"),
            ("1½", "1 1/2"),
            ("¾", "3/4"),
            ("12th", "12"),
            ("5k", "5 thousand"),
            ("Rs.1 600", "Rs.1600"),
            ("12 34", "12 34"),
            ("1 600/7", "1 600/7"),
            ("1,234,5", "1,234,5"),
            ("x2 and 3.14", "x2 and 3.14"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn typefaces_leave_what_they_show() {
        for (text, expected) in [
            (r"\text{36 dollars}", "36 dollars"),
            (r"\textbf{\underline{36}}", "36"),
            (r"\textcolor{red}{36}", "{36}"),
            (r"36\text{ cm}", "36  cm"),
            (r"\text{\$}36", "$36"),
            (r"12^{\text{th}}", "12^{th}"),
            (r"\frac12 + \frac 3 4", r"\frac{1}{2} + \frac{3}{4}"),
            (r"{3 \over 4}", r"\frac{3}{4}"),
            (r"1\,600", "1600"),
            ("**36** __eggs__", "36 eggs"),
            ("is:\n- 36", "is:\n36"),
            ("- 36", "- 36"),
            ("<b>36</b>", "36"),
            ("*36*.", "36"),
            (r"36\checkmark", "36 "),
            (r"{-}36", "-36"),
            ("is:\n\\(-\\,36\\)", "is:\n- 36"),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_plain_spelling(text in "([0-9]{1,3}|[ ,.'_½{}*\\\\~éth\n-]|\\\\text|\\\\frac|\\\\over|\\\\color){0,20}") {
            plain(&text);
        }
    }
}
