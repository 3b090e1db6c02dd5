//! Words set beside a value within its formula: a label before it, a remark behind it.

use super::token::group;
use super::words;

/// Commands that set words.
const COMMANDS: [&str; 9] = [
    "\\text",
    "\\textbf",
    "\\textit",
    "\\textrm",
    "\\textnormal",
    "\\mbox",
    "\\hbox",
    "\\mathrm",
    "\\mathbf",
];

/// Words that a label is made of.
const LABELS: [&str; 14] = [
    "the",
    "final",
    "correct",
    "answer",
    "answers",
    "ans",
    "result",
    "total",
    "solution",
    "value",
    "is",
    "are",
    "therefore",
    "so",
];

/// What a remark behind a value may state without changing it.
const REMARKS: [&str; 31] = [
    "final answer",
    "the final answer",
    "answer",
    "exactly",
    "exact",
    "exact value",
    "simplified",
    "fully simplified",
    "in simplest form",
    "simplest form",
    "in lowest terms",
    "lowest terms",
    "reduced",
    "in total",
    "total",
    "altogether",
    "all together",
    "in all",
    "overall",
    "as required",
    "as desired",
    "as claimed",
    "as expected",
    "as stated",
    "as needed",
    "see above",
    "checked",
    "verified",
    "as an integer",
    "as a fraction",
    "as a decimal",
];

/// The formula without a label that it begins with: `\text{Ans: }5`, `\text{Total} = 5`.
pub(crate) fn without_label(text: &str) -> &str {
    let open = text.trim_start_matches(['$', ' ']);
    let Some(after) = COMMANDS
        .iter()
        .filter_map(|command| open.strip_prefix(command))
        .find(|after| after.trim_start().starts_with('{'))
    else {
        return text;
    };
    let after = after.trim_start();
    let Some(inside) = group(after).filter(|inside| inside.len() <= 40) else {
        return text;
    };
    let rest = after[inside.len() + 2..].trim_start();
    let label = inside.trim();
    let (closed, rest) = match rest.strip_prefix([':', '=']) {
        Some(rest) => (true, rest),
        None => (label.ends_with([':', '=']) || label.ends_with(" is"), rest),
    };
    let mut said = label
        .trim_end_matches([':', '=', ' '])
        .split_whitespace()
        .peekable();
    let is_label = said.peek().is_some()
        && said.all(|word| LABELS.iter().any(|known| word.eq_ignore_ascii_case(known)));
    match closed && is_label && !rest.trim().is_empty() {
        true => rest.trim_start(),
        false => text,
    }
}

/// The formula without a remark that ends it: `(1,2)\quad\text{(final answer)}`, `5 (exactly)`.
pub(crate) fn without_remark(text: &str) -> &str {
    let end = text.trim_end_matches(['$', ' ', '.']);
    let (inside, before) = if let Some(inner) = end.strip_suffix('}') {
        let Some(open) = inner.rfind('{') else {
            return text;
        };
        let before = &inner[..open];
        let Some(before) = COMMANDS
            .iter()
            .find_map(|command| before.strip_suffix(command))
        else {
            return text;
        };
        (&inner[open + 1..], before)
    } else if end.ends_with(')') {
        let Some(open) = end.rfind(" (") else {
            return text;
        };
        (&end[open + 1..], &end[..open])
    } else {
        return text;
    };
    let before = without_space(before);
    match is_remark(inside) && !before.is_empty() && is_closed(before) {
        true => before,
        false => text,
    }
}

fn is_remark(text: &str) -> bool {
    let bare = text
        .trim()
        .trim_matches(['(', ')', '[', ']', ',', '.', ' ']);
    let said = words::sequence(bare).join(" ");
    bare.len() <= 40 && REMARKS.contains(&said.as_str())
}

/// Without the space commands that end a text.
fn without_space(text: &str) -> &str {
    let mut rest = text;
    loop {
        let next = rest.trim_end_matches([' ', '~', ',']);
        let next = ["\\qquad", "\\quad", "\\,", "\\;", "\\:", "\\ ", "\\"]
            .iter()
            .find_map(|space| next.strip_suffix(space))
            .unwrap_or(next);
        if next.len() == rest.len() {
            return rest;
        }
        rest = next;
    }
}

/// Whether a text opens no bracket that it leaves open, and has a `$` for each.
fn is_closed(text: &str) -> bool {
    let count = |signs: [char; 2]| text.matches(signs).count();
    text.matches('{').count() == text.matches('}').count() && count(['(', '[']) == count([')', ']'])
}

#[cfg(test)]
mod tests {
    use super::{without_label, without_remark};

    #[test]
    fn labels_and_remarks_are_left_out() {
        for (text, expected) in [
            (r"\text{Ans: }\mbox{Alice}", r"\mbox{Alice}"),
            (r"\textbf{Answer: }C", "C"),
            (r"\text{Answer} = 9", "9"),
            (r"\text{The answer is }1-3i", "1-3i"),
            (r"\text{Alice: }5", r"\text{Alice: }5"),
            (r"\text{Total}", r"\text{Total}"),
            ("5", "5"),
        ] {
            assert_eq!(without_label(text), expected, "{text}");
        }
        for (text, expected) in [
            (r"(-4, -5)\quad\text{(final answer)}", "(-4, -5)"),
            (r"8\text{ hours}\text{ in total}", r"8\text{ hours}"),
            ("5 (exactly)", "5"),
            (r"5\text{ (inches)}", r"5\text{ (inches)}"),
            (r"\text{in total}", r"\text{in total}"),
            ("5 (7)", "5 (7)"),
        ] {
            assert_eq!(without_remark(text), expected, "{text}");
        }
    }
}
