//! Text of others (a candidate's, a model's, a server's) on its way into messages and onto terminals.

/// The text with control and direction characters as escapes (`\n`, `\u{202e}`), and no more than
/// `longest` characters of the original.
pub(crate) fn escaped(text: &str, longest: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(longest));
    for c in text.chars().take(longest) {
        if c.is_control() || changes_direction(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Marks, embeddings, overrides and isolates of direction, and separators of lines and paragraphs.
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
