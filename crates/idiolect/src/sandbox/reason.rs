//! Reasons of verdicts: text that a candidate wrote, on its way into files and onto terminals.

use crate::shown::escaped;

/// Characters of a reason; the rest is cut.
const LONGEST: usize = 1000;

/// The text with control and direction characters as escapes (`\\n`, `\\u{202e}`), absolute paths as
/// their last part (`…/secret.txt`), and no longer than 1000 characters of the original.
pub(super) fn plain(text: &str) -> String {
    escaped(&without_folders(text), LONGEST)
}

/// Absolute paths without their folders, which depend on the machine: a slash that begins a word and
/// what follows it up to a space, or up to the closing quote where one stands before it.
fn without_folders(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, path) = rest.split_at(at);
        shown.push_str(before);
        let previous = before.chars().next_back();
        // After a word or a bracket it divides or separates.
        let is_inside = previous.is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '_' | '.' | '…' | ')' | ']' | '}' | '-' | '~')
        });
        let is_address =
            previous == Some(':') && path.starts_with("//") && !before.ends_with("file:");
        if is_inside || is_address || path.starts_with("/ ") {
            let slashes = path.len() - path.trim_start_matches('/').len();
            shown.push_str(&path[..slashes]);
            rest = &path[slashes..];
            continue;
        }
        let quote = previous.filter(|c| matches!(c, '\'' | '"' | '`'));
        let end = quote
            .and_then(|quote| path.find(quote))
            .or_else(|| path.find(|c: char| c.is_whitespace() || "'\"`()[]{}<>,;:".contains(c)))
            .unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or("");
        if path.starts_with("/=") || last.is_empty() {
            // An operator, or a root that says nothing of the machine.
            shown.push_str(path);
        } else {
            shown.push_str("…/");
            shown.push_str(last);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_direction_characters_become_escapes() {
        let text =
            "a\u{1b}[2J\r\n\t\0\u{7f}\u{9b}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}é…\u{1f600}";
        assert_eq!(
            plain(text),
            "a\\u{1b}[2J\\r\\n\\t\\u{0}\\u{7f}\\u{9b}\\u{202e}\\u{2066}\\u{200f}\\u{61c}\\u{2028}é…\u{1f600}"
        );
        assert_eq!(plain(&"é".repeat(5000)).chars().count(), 1000);
    }

    #[test]
    fn absolute_paths_lose_their_folders_and_other_slashes_stay() {
        for (text, shown) in [
            (
                "No such file: '/etc/hidden folder/secret.txt'",
                "No such file: '…/secret.txt'",
            ),
            (
                "from 'random' (/usr/lib/python3.11/random.py)",
                "from 'random' (…/random.py)",
            ),
            ("cannot run `/opt/python`: no", "cannot run `…/python`: no"),
            ("/root", "…/root"),
            ("at /a/b/, then", "at …/b, then"),
            ("file:///home/me/x.py", "file:…/x.py"),
            ("'/home/it's'", "'…/it's'"),
            (
                "f(1) / 2 == a/b and x /= 3 // 4 and 'a/b'",
                "f(1) / 2 == a/b and x /= 3 // 4 and 'a/b'",
            ),
            ("f('/') == \"//\"", "f('/') == \"//\""),
            ("http://host/a/b", "http://host/a/b"),
            ("(a)/b [c]/d", "(a)/b [c]/d"),
            ("/", "/"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }
}
