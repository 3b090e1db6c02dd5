//! One spelling for what is written in many: wrappers, invisible characters, spacing and type.

use std::borrow::Cow;

use super::{currency, groups, label};

/// The answer itself, without what only sets it: mathematical delimiters, `\left`, sizes, a closing
/// full stop, invisible characters, doubled backslashes. Doing it twice changes nothing.
pub(crate) fn normal(text: &str) -> String {
    let mut current = text.trim().to_owned();
    // Wrappers may hold wrappers; a few layers are all that is ever seen.
    for _ in 0..9 {
        let next = once(&current);
        if next == current {
            break;
        }
        current = next;
    }
    current
}

fn once(text: &str) -> String {
    let mut text = visible(text);
    if is_escaped_twice(&text) {
        text = Cow::Owned(text.replace("\\\\", "\\"));
    }
    if text.contains("**") {
        text = Cow::Owned(unemphasized(&text));
    }
    if text.contains('*') {
        text = Cow::Owned(unstarred(&text));
    }
    if text.contains(['“', '”', '`']) || text.matches('"').count() == 2 {
        text = Cow::Owned(text.replace(['“', '”', '`', '"'], ""));
    }
    if text.contains("__") {
        text = Cow::Owned(text.replace("__", " "));
    }
    if text.contains("</") {
        text = Cow::Owned(untagged(&text));
    }
    if text.contains(['{', '}']) {
        text = balanced(text);
    }
    if let Some(named) = currency::named(&text) {
        text = Cow::Owned(named);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = label::without_label(without_marks(text.trim()));
    rest = label::without_remark(rest);
    rest = unwrapped(rest);
    let mut space = false;
    while let Some(c) = rest.chars().next() {
        // Spaces that part digit groups, and no words.
        if matches!(c, '\u{a0}' | '\u{2009}' | '\u{202f}' | '\u{2007}')
            && out.ends_with(|c: char| c.is_ascii_digit())
            && groups::three_digits(&rest[c.len_utf8()..])
        {
            push(&mut out, "\\,", &mut space);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if c.is_whitespace() || c == '~' {
            space = true;
            rest = &rest[c.len_utf8()..];
            continue;
        }
        if c == '\\' {
            let name = rest[1..]
                .bytes()
                .take_while(u8::is_ascii_alphabetic)
                .count();
            let command = &rest[1..1 + name];
            let replacement = match command {
                "" => match rest[1..].chars().next() {
                    // Delimiters and spaces.
                    Some('(' | ')') => Some(("", 2)),
                    Some('[' | ']') => Some((" ", 2)),
                    Some(';' | ':' | ' ' | '\n' | '/') => Some((" ", 2)),
                    // Space before anything states nothing.
                    Some(',') if out.is_empty() => Some((" ", 2)),
                    // `05\!:\!00`. After a comma it marks thousands.
                    Some('!') if !out.ends_with(',') => Some(("", 2)),
                    None => Some(("", 1)),
                    _ => None,
                },
                // Type around a value.
                "boldsymbol" | "mathbf" | "mathrm" | "mathit" | "mathsf" | "mathtt"
                | "mathnormal" | "bm" | "pmb" => {
                    let group = super::token::group(&rest[1 + name..]);
                    match group {
                        // What holds words set as such is no name.
                        Some(inside)
                            if inside.contains("\\text")
                                && out.is_empty()
                                && is_all(rest, name, inside) =>
                        {
                            rest = inside;
                            continue;
                        }
                        // `\mathrm{\$}`
                        Some(inside) if !inside.contains(char::is_alphanumeric) => {
                            push(&mut out, inside, &mut space);
                            rest = &rest[name + 3 + inside.len()..];
                            continue;
                        }
                        Some(inside) if is_typed_value(inside) => Some(("", name + 1)),
                        _ => None,
                    }
                }
                "checkmark" | "blacksquare" | "qed" => Some((" ", name + 1)),
                "square" | "Box"
                    if rest[1 + name..]
                        .trim_start_matches([' ', '}', '$', '.'])
                        .is_empty() =>
                {
                    Some((" ", name + 1))
                }
                "rm" | "bf" | "it" | "sf" | "tt" | "tiny" | "scriptsize" | "footnotesize"
                | "small" | "normalsize" | "large" | "Large" | "LARGE" | "huge" | "Huge" => {
                    Some((" ", name + 1))
                }
                "quad" | "qquad" | "enspace" | "thinspace" if out.is_empty() => {
                    Some((" ", name + 1))
                }
                "therefore" | "because" | "implies" | "Rightarrow" | "rightarrow"
                | "Longrightarrow"
                    if out.trim().is_empty() =>
                {
                    Some((" ", name + 1))
                }
                "text" | "mbox" | "textbf" | "textit" | "textnormal" | "textrm" | "hbox"
                | "textsf" | "texttt" | "emph" | "textup" | "textmd" | "textsl" => {
                    let after = rest[1 + name..].trim_start_matches(' ');
                    let group = super::token::group(after);
                    // `4\text{ meters and }36`
                    if let Some(inside) = group
                        && let Some(unit) = inside.trim_end().strip_suffix(" and")
                        && !unit.trim().is_empty()
                    {
                        push(
                            &mut out,
                            &format!("\\text{{{unit}}}\\text{{ and }}"),
                            &mut space,
                        );
                        rest = &after[inside.len() + 2..];
                        continue;
                    }
                    match group
                        .filter(|inside| is_value_in_text(inside, &after[inside.len() + 2..]))
                    {
                        Some(inside) => {
                            // `08\text{:}15`
                            let apart = inside.contains(char::is_alphanumeric);
                            space |= apart || inside.starts_with(' ');
                            push(&mut out, inside.trim(), &mut space);
                            space = apart || inside.ends_with(' ');
                            rest = &after[inside.len() + 2..];
                            continue;
                        }
                        None => None,
                    }
                }
                // What only colours or underlines.
                "color" | "textcolor" | "colorbox" | "fcolorbox" | "underline" | "uline" => {
                    let colours = match command {
                        "color" | "textcolor" | "colorbox" => 1,
                        "fcolorbox" => 2,
                        _ => 0,
                    };
                    let mut after = rest[1 + name..].trim_start();
                    if after.starts_with('[') && colours > 0 {
                        after = after.split_once(']').map_or(after, |(_, after)| after);
                    }
                    for _ in 0..colours {
                        let group = super::token::group(after).map_or(0, |g| g.len() + 2);
                        after = after[group..].trim_start();
                    }
                    if let Some(inside) = super::token::group(after)
                        && out.is_empty()
                        && ends_with_group(after, inside)
                    {
                        after = inside;
                    }
                    rest = after;
                    space = true;
                    continue;
                }
                "dfrac" | "tfrac" | "cfrac" => Some(("\\frac", name + 1)),
                "left" | "right" | "bigl" | "bigr" | "big" | "Big" | "Bigl" | "Bigr" | "biggl"
                | "biggr" | "Biggl" | "Biggr" | "bigg" | "Bigg" | "displaystyle" => {
                    // `\left.` shows nothing, and `\left{` means a brace.
                    match rest[1 + name..].chars().next() {
                        Some('.') => Some(("", name + 2)),
                        Some('{') if matches!(command, "left") => Some(("\\{", name + 2)),
                        Some('}') if matches!(command, "right") => Some(("\\}", name + 2)),
                        _ => Some(("", name + 1)),
                    }
                }
                _ => None,
            };
            if let Some((with, length)) = replacement {
                match with {
                    " " => space = true,
                    _ => push(&mut out, with, &mut space),
                }
                rest = &rest[length.min(rest.len())..];
                continue;
            }
            // A command and its name stay together.
            let mut length = 1 + name;
            if name == 0 {
                length += rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            push(&mut out, &rest[..length], &mut space);
            rest = &rest[length..];
            continue;
        }
        // `{:}`, `{-}`: a sign without the space around it.
        if c == '{'
            && let [_, sign @ (b':' | b'-' | b'+' | b'='), b'}', ..] = rest.as_bytes()
        {
            let sign = char::from(*sign).to_string();
            push(&mut out, &sign, &mut space);
            rest = &rest[3..];
            continue;
        }
        // Delimiters and the currency sign alike state nothing about the value.
        if c == '$' {
            rest = &rest[1..];
            continue;
        }
        let length = c.len_utf8();
        push(&mut out, &rest[..length], &mut space);
        rest = &rest[length..];
    }
    // `0.333...` goes on.
    if out.ends_with("...") && ends_in_decimal(out.trim_end_matches('.')) {
        return out;
    }
    let end = out
        .trim_end_matches(['.', ',', ';', ':', '。', '，'])
        .trim_end();
    // `\.` and `\,` are commands.
    let end = if end.ends_with('\\') && !end.ends_with("\\\\") {
        &end[..end.len() - 1]
    } else {
        end
    };
    end.trim().to_owned()
}

/// Whether the group `inside`, which is behind a command of `name` letters, ends a text.
fn is_all(text: &str, name: usize, inside: &str) -> bool {
    ends_with_group(&text[1 + name..], inside)
}

/// Whether nothing but closing signs follows the group `inside` that a text begins with.
fn ends_with_group(text: &str, inside: &str) -> bool {
    text[inside.len() + 2..]
        .trim_matches(['.', ' ', '$', ',', '\\', ')', ']'])
        .is_empty()
}

fn ends_in_decimal(text: &str) -> bool {
    let whole = text.trim_end_matches(|c: char| c.is_ascii_digit());
    whole.len() < text.len() && whole.ends_with('.')
}

fn push(out: &mut String, text: &str, space: &mut bool) {
    if std::mem::take(space) && !out.is_empty() && !text.is_empty() {
        out.push(' ');
    }
    out.push_str(text);
}

/// Whether the content of `\text{…}` holds a value, so that it is read as if it stood outside: a digit,
/// or letters parted by commas. `\text{A5}_{11}` stays whole.
fn is_value_in_text(inside: &str, after: &str) -> bool {
    let letters = inside.contains(',')
        && inside
            .split(',')
            .all(|part| part.trim().len() == 1 && part.trim().as_bytes()[0].is_ascii_alphabetic());
    let signs = !inside.trim().is_empty() && !inside.contains(char::is_alphanumeric);
    let digits = inside.contains(|c: char| c.is_ascii_digit());
    !after.starts_with(['_', '^']) && (digits || letters || signs)
}

/// Whether the content of `\mathrm{…}` and the like is a value rather than a name or unit.
fn is_typed_value(inside: &str) -> bool {
    let mut commands = inside.split('\\');
    let letters = |part: &str| part.contains(|c: char| c.is_ascii_alphabetic());
    let outside = commands.next().is_some_and(letters)
        || commands.any(|c| {
            c.trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .contains(|c: char| c.is_ascii_alphabetic())
        });
    let digits = inside.contains(|c: char| c.is_ascii_digit());
    let unit = inside.contains('^') && outside && !inside.starts_with(|c: char| c.is_ascii_digit());
    (digits && !unit) || !letters(inside)
}

/// Without `**` that is no power: between two operands it is one.
fn unemphasized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("**") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        out.push_str(before);
        let operand_before = out
            .trim_end()
            .ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | '}'));
        let operand_after = after
            .trim_start()
            .starts_with(|c: char| c.is_alphanumeric() || matches!(c, '(' | '-' | '{' | '\\'));
        let spaces = (out.ends_with(' '), after.starts_with(' '));
        if operand_before && operand_after && spaces.0 == spaces.1 {
            out.push_str("**");
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Without the stars of `*emphasis*`: one that a word begins after, and one that ends a word.
fn unstarred(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: Option<usize>| i.and_then(|i| chars.get(i)).copied().unwrap_or(' ');
    let opens = |i: usize| at(i.checked_sub(1)).is_whitespace() && !at(Some(i + 1)).is_whitespace();
    let closes = |i: usize| {
        let after = at(Some(i + 1));
        !at(i.checked_sub(1)).is_whitespace()
            && (after.is_whitespace() || ".,;:!?)".contains(after))
    };
    let stars: Vec<usize> = (0..chars.len()).filter(|i| chars[*i] == '*').collect();
    let mut dropped = Vec::new();
    let mut open = None;
    for i in stars {
        match open {
            Some(from) if closes(i) => {
                dropped.extend([from, i]);
                open = None;
            }
            _ if opens(i) => open = Some(i),
            // Its partner was left behind where the answer was cut out.
            None if closes(i) && is_prose(&chars[i + 1..]) => dropped.push(i),
            _ => {}
        }
    }
    let kept = chars
        .iter()
        .enumerate()
        .filter(|(i, _)| !dropped.contains(i));
    kept.map(|(_, c)| c).collect()
}

/// Whether nothing or words follow.
fn is_prose(rest: &[char]) -> bool {
    let rest: String = rest.iter().take(40).collect();
    let rest = rest.trim_start().trim_start_matches('(');
    let letters = rest.chars().take_while(|c| c.is_alphabetic()).count();
    letters > 1 || rest.is_empty()
}

/// Without HTML tags that set type.
fn untagged(text: &str) -> String {
    let mut out = text.to_owned();
    for tag in ["b", "i", "u", "em", "strong", "sup", "code", "span", "p"] {
        if out.contains(&format!("</{tag}>")) && tag != "sup" {
            out = out
                .replace(&format!("<{tag}>"), "")
                .replace(&format!("</{tag}>"), "");
        }
    }
    out
}

/// With plain braces that nothing opens dropped, and those that nothing closes closed at the end.
fn balanced(text: Cow<'_, str>) -> Cow<'_, str> {
    let (mut depth, mut stray) = (0usize, false);
    let mut escaped = false;
    for b in text.bytes() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => stray = true,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    if (depth == 0 && !stray) || depth > 8 {
        return text;
    }
    let mut out = String::with_capacity(text.len() + depth);
    let (mut open, mut escaped) = (0usize, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => open += 1,
            '}' if open == 0 => continue,
            '}' => open -= 1,
            _ => {}
        }
        out.push(c);
    }
    while out.ends_with(['.', ' ', '$']) && open > 0 {
        out.pop();
    }
    out.extend(std::iter::repeat_n('}', open));
    Cow::Owned(out)
}

/// Without the marks that close a proof or tick off an answer.
fn without_marks(text: &str) -> &str {
    let mut rest = text;
    loop {
        let trimmed = rest
            .trim_end_matches(|c: char| {
                c.is_whitespace()
                    || matches!(c, '✓' | '✔' | '✅' | '□' | '■' | '∎' | '☑' | '\u{fe0f}')
            })
            .trim_end_matches("\\,")
            .trim_end_matches("\\;")
            .trim_end_matches("\\ ")
            .trim_end_matches("\\quad")
            .trim_end_matches("\\qquad");
        let next = [
            "QED",
            "Q.E.D",
            "\\checkmark",
            "\\square",
            "\\blacksquare",
            "\\Box",
            "\\qed",
            "\\hfill",
        ]
        .iter()
        .find_map(|mark| trimmed.strip_suffix(mark))
        .unwrap_or(trimmed);
        if next.len() == rest.len() || next.is_empty() {
            return rest;
        }
        rest = next;
    }
}

/// Without characters that show nothing, and with full-width ASCII made plain.
fn visible(text: &str) -> Cow<'_, str> {
    let odd = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{0}' | '\u{ad}' | '！'..='～');
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let plain = |c: char| match c {
        '！'..='～' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        c => c,
    };
    Cow::Owned(
        text.chars()
            .filter(|c| matches!(c, '！'..='～') || !odd(*c))
            .map(plain)
            .collect(),
    )
}

/// Whether every run of backslashes is even and one is before a command that never begins a
/// row: text that was escaped twice.
fn is_escaped_twice(text: &str) -> bool {
    if !text.contains("\\\\") {
        return false;
    }
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut seen = false;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let run = bytes[at..].iter().take_while(|b| **b == b'\\').count();
        if run % 2 == 1 {
            return false;
        }
        at += run;
        let after = &text[at..];
        seen |= [
            "frac", "dfrac", "sqrt", "left", "begin", "text", "boxed", "pi", "cup", "infty", "(",
        ]
        .iter()
        .any(|c| after.starts_with(c));
    }
    seen
}

/// Without one layer of `\boxed{…}`, `$…$`, `**…**`, backquotes or plain braces around everything.
fn unwrapped(text: &str) -> &str {
    let text = text.trim();
    for (open, close) in [
        ("**", "**"),
        ("`", "`"),
        ("\\boxed{", "}"),
        ("\\fbox{", "}"),
        ("\"", "\""),
        ("“", "”"),
        ("*", "*"),
    ] {
        if let Some(inside) = text
            .strip_prefix(open)
            .and_then(|t| t.trim_end_matches('.').strip_suffix(close))
        {
            let whole = !open.ends_with('{')
                || super::token::group(&text[open.len() - 1..])
                    .is_some_and(|g| g.len() == inside.len());
            if whole && !inside.is_empty() && !(open.len() < 4 && inside.contains(open)) {
                return inside;
            }
        }
    }
    // Braces around everything, unless they may be those of a set.
    match super::token::group(text) {
        Some(inside)
            if inside.len() + 2 == text.len()
                && (!inside.contains([',', ';']) || inside.trim_start().starts_with("\\{")) =>
        {
            inside
        }
        _ => text,
    }
}

/// The text without spaces, to compare spellings. Between digits a space stays: `1 2` is not 12.
pub(crate) fn key(normal: &str) -> String {
    let mut out = String::with_capacity(normal.len());
    let mut rest = normal;
    let mut space = false;
    while let Some(c) = rest.chars().next() {
        let next = rest.strip_prefix('\\').and_then(|r| r.chars().next());
        if c.is_whitespace() || matches!(next, Some(',' | ' ' | ';' | ':')) {
            space = true;
            rest = &rest[if c == '\\' { 2 } else { c.len_utf8() }..];
            continue;
        }
        if next == Some('!') {
            rest = &rest[2..];
            continue;
        }
        let digit = |c: char| c.is_ascii_digit() || c == '.';
        if std::mem::take(&mut space) && out.ends_with(digit) && digit(c) {
            out.push(' ');
        }
        let mut length = c.len_utf8();
        if c == '\\' {
            length += next.map_or(0, char::len_utf8);
            // A space that ends a command's name would glue it to a letter.
            let name = rest[1..]
                .bytes()
                .take_while(u8::is_ascii_alphabetic)
                .count();
            if name > 0 {
                out.push_str(&rest[..=name]);
                rest = &rest[1 + name..];
                if rest.starts_with(' ')
                    && rest
                        .trim_start()
                        .starts_with(|c: char| c.is_ascii_alphabetic())
                {
                    out.push(' ');
                }
                continue;
            }
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}
