//! One spelling for what is written in many: wrappers, invisible characters, spacing and type.

use std::borrow::Cow;

/// The answer itself, without what only sets it: mathematical delimiters, `\left`, sizes, a closing
/// full stop, invisible characters, doubled backslashes. Doing it twice changes nothing.
pub(super) fn normal(text: &str) -> String {
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
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    rest = unwrapped(rest);
    let mut space = false;
    while let Some(c) = rest.chars().next() {
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
                    None => Some(("", 1)),
                    _ => None,
                },
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
        // Delimiters and the currency sign alike say nothing about the value.
        if c == '$' {
            rest = &rest[1..];
            continue;
        }
        let length = c.len_utf8();
        push(&mut out, &rest[..length], &mut space);
        rest = &rest[length..];
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

fn push(out: &mut String, text: &str, space: &mut bool) {
    if std::mem::take(space) && !out.is_empty() && !text.is_empty() {
        out.push(' ');
    }
    out.push_str(text);
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

/// Whether every run of backslashes is even and one stands before a command that never begins a
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
    ] {
        if let Some(inside) = text
            .strip_prefix(open)
            .and_then(|t| t.trim_end_matches('.').strip_suffix(close))
        {
            let whole = !open.ends_with('{')
                || super::token::group(&text[open.len() - 1..])
                    .is_some_and(|g| g.len() == inside.len());
            if whole && !inside.is_empty() {
                return inside;
            }
        }
    }
    text
}

/// The text without spaces, to compare spellings.
pub(super) fn key(normal: &str) -> String {
    let mut out = String::with_capacity(normal.len());
    let mut rest = normal;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        if c == '\\' {
            let next = rest[1..].chars().next();
            if matches!(next, Some(',' | '!' | ' ' | ';' | ':')) {
                rest = &rest[2..];
                continue;
            }
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
        if !c.is_whitespace() {
            out.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}
