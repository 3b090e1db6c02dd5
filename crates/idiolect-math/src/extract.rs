//! Finding the final answer of a response.
//!
//! By priority: "Final Answer: The final answer is X. I hope it is correct."; else the last of
//! "final answer is X", `\boxed{X}`, `<answer>X</answer>` and a plain "answer is X" or "Answer: X";
//! else what follows the last `####`; else the value that the last sentence states something "is"; else
//! the last formula or number. Boxes that only "and" or a comma parts are one answer, and an empty or
//! cut box after them takes them back. What a statement states beside its value (why, what it is not) is cut
//! from it.

use super::answer::Answer;
use super::lexeme::list_marker;
use super::token::group;
use super::words;

/// How far a text has come with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answered {
    /// Nothing in it would be taken for the answer.
    Nothing,
    /// Something would be taken for the answer if the text ended here: its last number.
    Loosely,
    /// It states what the answer is.
    Stated,
    /// It has the form that closes a solution: `\boxed{…}`, `#### 18`, a final answer, a closed tag
    /// or block.
    Closed,
}

/// An answer's text and where it was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) text: String,
    /// The form that it was found in, as text.
    pub(crate) form: &'static str,
    /// Whether the form states that this is the answer.
    pub(crate) stated: bool,
}

fn found(text: &str, form: &'static str) -> Option<Found> {
    let text = text.trim();
    (!text.is_empty()).then(|| Found {
        text: text.to_owned(),
        form,
        stated: true,
    })
}

/// Bytes at the end of a response that are searched.
const WINDOW: usize = 200_000;

/// The final answer of a response; of one that was cut, only a form that was complete.
pub(crate) fn extract(text: &str, cut_off: bool) -> Option<Found> {
    stated(text, cut_off).or_else(|| {
        if cut_off {
            return None;
        }
        let text = window(text);
        if retracted(text, false) {
            return None;
        }
        let last = last_sentence(text).or_else(|| last_expression(text))?;
        Some(Found {
            text: last.to_owned(),
            form: "the last expression",
            stated: false,
        })
    })
}

/// The answer that a response states as such.
pub(crate) fn stated(text: &str, cut_off: bool) -> Option<Found> {
    let text = window(text);
    if !["nswer", "box", "####", "NSWER", "y reply"]
        .iter()
        .any(|mark| text.contains(mark))
    {
        return None;
    }
    if retracted(text, cut_off) {
        return None;
    }
    if let Some(inside) = template(text) {
        return found(&inside, "in \"Final Answer\"");
    }
    let candidates = [
        final_answer(text, cut_off).map(|(end, t)| (end, t, "after \"final answer is\"")),
        boxed(text).map(|(end, t)| (end, t, "in \\boxed")),
        tagged(text).map(|(end, t)| (end, t, "in <answer>")),
    ];
    let said = answer_is(text, cut_off);
    let is_value = |t: &str| Answer::of(t).is_value();
    let candidates = candidates.into_iter().chain([said
        .as_ref()
        .filter(|said| said.direct && (is_value(&said.value) || is_name(&said.value)))
        .map(|said| (said.end, said.value.clone(), "after \"answer is\""))]);
    if let Some((_, inside, form)) = candidates.flatten().max_by_key(|c| c.0) {
        return found(&inside, form);
    }
    if let Some(inside) = after_hashes(text, cut_off) {
        return found(inside, "after ####");
    }
    found(&said?.value, "after \"answer is\"")
}

/// Whether the last box, which nothing but an empty or cut box may follow, holds no answer: it takes
/// back the boxes before it. Where the response itself was cut, any box that does not close is cut.
pub(crate) fn retracted(text: &str, cut: bool) -> bool {
    let Some(at) = text.rfind("\\boxed") else {
        return false;
    };
    let after = text[at + "\\boxed".len()..].trim_start_matches(' ');
    let Some(open) = after.strip_prefix('{') else {
        return after.is_empty();
    };
    match group(after) {
        Some(inside) => inside.trim().is_empty() && rfind(after, "answer").is_none(),
        None => {
            let line = open.lines().next().unwrap_or_default();
            open.len() < 4000 && (cut || line.chars().all(|c| !c.is_alphanumeric()))
        }
    }
}

fn window(text: &str) -> &str {
    let mut from = text.len().saturating_sub(WINDOW);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// How far a text has come with its answer.
pub fn answered(text: &str) -> Answered {
    match extract(text, false) {
        None if is_bare_value(text) => Answered::Loosely,
        None => Answered::Nothing,
        Some(found) if !found.stated => Answered::Loosely,
        Some(found) if found.form == "after \"answer is\"" => Answered::Stated,
        Some(_) => Answered::Closed,
    }
}

/// Whether a text is a value or a choice and no more: `\text{(A)}`.
fn is_bare_value(text: &str) -> bool {
    const LONGEST: usize = 200;
    let text = text.trim();
    text.len() <= LONGEST && (Answer::of(text).is_value() || is_name(text) || is_word(text))
}

/// Words that open a text or judge an answer, and are none.
const NO_NAMES: [&str; 26] = [
    "Solution",
    "Answer",
    "Step",
    "Problem",
    "Question",
    "Explanation",
    "Proof",
    "Given",
    "Sure",
    "Okay",
    "Ok",
    "Yes",
    "No",
    "Hello",
    "Certainly",
    "Correct",
    "Incorrect",
    "Right",
    "Wrong",
    "Verified",
    "Confirmed",
    "Unique",
    "Done",
    "Above",
    "Below",
    "Here",
];

/// Whether a text is one word that may be an answer.
fn is_word(text: &str) -> bool {
    let opens = NO_NAMES.iter().any(|word| word.eq_ignore_ascii_case(text));
    text.len() > 1 && text.chars().all(char::is_alphabetic) && !opens
}

/// Whether a text is a name and no more: words set as text, or one word with a capital letter.
fn is_name(text: &str) -> bool {
    if text.len() > 80 {
        return false;
    }
    let answer = Answer::of(text);
    let said = answer.text.as_str();
    if said.starts_with("\\text") || said.starts_with("\\mbox") {
        let digits = said.contains(|c: char| c.is_ascii_digit());
        return !digits && answer.is_text() && words::sequence(said).len() <= 4;
    }
    let mut letters = said.chars();
    letters.next().is_some_and(char::is_uppercase)
        && said.chars().count() > 1
        && letters.all(char::is_lowercase)
        && !NO_NAMES.contains(&said)
}

/// The last place at which `word` (lower case) is, without regard to case.
pub(crate) fn rfind(text: &str, word: &str) -> Option<usize> {
    let (bytes, word) = (text.as_bytes(), word.as_bytes());
    let last = bytes.len().checked_sub(word.len())?;
    let first = [word[0], word[0].to_ascii_uppercase()];
    (0..=last).rev().find(|i| {
        first.contains(&bytes[*i]) && bytes[*i..*i + word.len()].eq_ignore_ascii_case(word)
    })
}

/// The last place at which a statement begins with `word`: not that of a label which is set within a
/// formula, as in `$\text{The answer is }5$`.
fn rfind_said(text: &str, word: &str) -> Option<usize> {
    let mut end = text.len();
    for _ in 0..8 {
        let at = rfind(&text[..end], word)?;
        if !closes_label(&text[at + word.len()..]) {
            return Some(at);
        }
        end = at;
    }
    None
}

/// Whether the words of a label and its braces end here.
fn closes_label(after: &str) -> bool {
    let rest = after.trim_start();
    let rest = rest.strip_prefix("is").unwrap_or(rest);
    rest.trim_start_matches([':', '=', ' ']).starts_with('}')
}

/// "final answer is X. I hope it is correct."
fn template(text: &str) -> Option<String> {
    let mut end = text.len();
    for _ in 0..4 {
        let at = rfind(&text[..end], "final answer")?;
        let after = &text[at + "final answer".len()..];
        if after.starts_with(')') {
            end = at;
            continue;
        }
        let hope = find(after, "i hope");
        if let Some(hope) = hope.filter(|h| *h < 1500) {
            let inside = &after[..hope];
            if let Some(value) = statement(inside) {
                return Some(boxed(&value).map_or(value, |(_, inside)| inside));
            }
        }
        end = at;
    }
    None
}

fn find(text: &str, word: &str) -> Option<usize> {
    let (bytes, word) = (text.as_bytes(), word.as_bytes());
    (0..=bytes.len().checked_sub(word.len())?)
        .take(2000)
        .find(|i| bytes[*i..*i + word.len()].eq_ignore_ascii_case(word))
        .filter(|i| text.is_char_boundary(*i))
}

/// The value in " is X", ": X", "is: X": what a statement comes down to.
fn statement(after: &str) -> Option<String> {
    if let Some((items, _)) = bullets(after)
        && rfind(&items, "answer").is_none()
    {
        return Some(items);
    }
    let mut rest = after.trim_start_matches(['*', '_', ' ', ':', '#', '\n', '=', '\t']);
    // "Final Answer: The final answer is X", "The volume of ABCD is X".
    if let Some(at) = rfind_said(rest, "answer is") {
        rest = &rest[at + "answer is".len()..];
    } else if rest.starts_with("is ")
        || rest.starts_with("is:")
        || rest.starts_with("is\n")
        || rest.starts_with("is$")
    {
        rest = &rest[2..];
    }
    let rest = rest.trim_start_matches([':', ' ', '*', '=']);
    if let Some((items, _)) = bullets(rest) {
        return Some(items);
    }
    let rest = rest
        .trim_start_matches([':', ' ', '\n', '*', '='])
        .trim_end()
        .trim_end_matches(['.', '*', ' ', '\n']);
    if rest.is_empty() {
        return None;
    }
    Some(value_of(rest).to_owned())
}

/// The lines of a list that begins on the next line, joined by commas, and the bytes they take.
fn bullets(text: &str) -> Option<(String, usize)> {
    let start = text.trim_start_matches([' ', '\t', '*', ':']);
    if !start.starts_with('\n') {
        return None;
    }
    let mut items: Vec<&str> = Vec::new();
    let mut end = 0;
    for line in start.split_inclusive('\n') {
        let at = end;
        end += line.len();
        let item = line.trim();
        if item.is_empty() && items.is_empty() {
            continue;
        }
        let marker = list_marker(item);
        let number = item.starts_with(|c: char| c.is_ascii_digit());
        let counts = !number || item.starts_with(&(items.len() + 1).to_string());
        let value = claim(item[marker..].trim());
        let holds = !number || Answer::of(value).is_value();
        if marker == 0 || item.starts_with('#') || !counts || !holds || value.is_empty() {
            end = at;
            break;
        }
        items.push(value);
        if items.len() == 32 {
            break;
        }
    }
    (!items.is_empty()).then(|| (items.join(", "), text.len() - start.len() + end))
}

/// What only introduces a value, and may be dropped before it.
const INTRODUCTIONS: [&str; 50] = [
    "therefore",
    "thus",
    "hence",
    "so",
    "then",
    "simply",
    "just",
    "exactly",
    "precisely",
    "approximately",
    "about",
    "roughly",
    "around",
    "only",
    "still",
    "indeed",
    "clearly",
    "obviously",
    "now",
    "also",
    "actually",
    "again",
    "probably",
    "likely",
    "definitely",
    "equal to",
    "equals",
    "given by",
    "found to be",
    "as follows",
    "that",
    "going to be",
    "the following",
    "the number",
    "the value",
    "the integer",
    "the fraction",
    "the expression",
    "the pair",
    "the point",
    "the interval",
    "the set",
    "the letter",
    "option",
    "choice",
    "answer",
    "final answer",
    "a total of",
    "is",
    "are",
];

/// What begins a clause beside the value: why it holds, what it is not, what it means.
const CLAUSES: [&str; 45] = [
    "; this ",
    "; since ",
    "; because ",
    " – as ",
    " – since ",
    " – because ",
    " — as ",
    " — since ",
    " — because ",
    " — done",
    " because",
    " since ",
    ", since ",
    ", as ",
    " as required",
    " as claimed",
    " as desired",
    " as expected",
    " as stated",
    " not ",
    ", not ",
    " and not ",
    " rather than ",
    " instead of ",
    " but not ",
    ", where ",
    " where ",
    ", which ",
    " which ",
    ", so ",
    ", i.e.",
    " i.e.",
    ", that is",
    " given that",
    " due to ",
    ", when ",
    ", in total",
    ", in all",
    ", altogether",
    ", and we ",
    ", and so ",
    ", as was ",
    ", overall",
    " (not ",
    ", for ",
];

/// The value of a statement: without emphasis, what introduces it and the clause after it.
fn claim(text: &str) -> &str {
    let mut rest = text.trim();
    'introduced: loop {
        rest = emphasis(rest);
        // "(as an integer): 4"
        if let Some(inside) = rest.strip_prefix('(')
            && let Some((label, after)) = inside.split_once("):")
            && label.len() < 60
            && label.chars().all(|c| c.is_alphabetic() || c == ' ')
            && !after.trim().is_empty()
        {
            rest = after.trim_start();
            continue;
        }
        for word in INTRODUCTIONS {
            let Some(head) = rest.get(..word.len()) else {
                continue;
            };
            let after = &rest[word.len()..];
            if head.eq_ignore_ascii_case(word)
                && after.starts_with([' ', ':', ',', '\n'])
                && !after.trim().is_empty()
            {
                rest = after.trim_start_matches([' ', ':', ',', '\n']);
                continue 'introduced;
            }
        }
        break;
    }
    let mut to = rest.len();
    for clause in CLAUSES {
        let mut from = 0;
        while let Some(at) = find_from(rest, clause, from) {
            if at >= to {
                break;
            }
            let (before, after) = (rest[..at].trim(), &rest[at + clause.len()..]);
            let boundary =
                clause.ends_with([' ', '.']) || !after.starts_with(char::is_alphanumeric);
            if boundary && is_balanced(before) && says_something(before) {
                to = at;
                break;
            }
            from = at + clause.len();
        }
    }
    let value = emphasis(
        rest[..to]
            .trim()
            .trim_end_matches([',', ';', '—', '–'])
            .trim_end(),
    );
    // "$5$!" is no factorial.
    match value.strip_suffix('!') {
        Some(formula) if formula.ends_with(['$', ')']) && formula.contains(['$', '\\']) => formula,
        _ => value,
    }
}

/// Without the marks of emphasis at both ends.
fn emphasis(text: &str) -> &str {
    let text = text.trim();
    let starts = text.trim_start_matches('*').trim_start();
    let ends = starts.trim_end();
    let ends = ends
        .strip_suffix('.')
        .filter(|t| t.ends_with('*'))
        .unwrap_or(ends);
    let ends = ends.trim_end_matches('*').trim_end();
    if ends.is_empty() { text } else { ends }
}

/// Whether all brackets and formulas of a text are closed.
fn is_balanced(text: &str) -> bool {
    let count = |c: char| text.matches(c).count();
    // One currency sign opens no formula.
    let formulas = count('$').is_multiple_of(2)
        || text
            .split('$')
            .nth(1)
            .is_some_and(|t| t.starts_with(|c: char| c.is_ascii_digit()));
    count('{') <= count('}') && formulas && count('(') <= count(')') + 1
}

/// Whether a text holds a value rather than "that" or "the one".
fn says_something(text: &str) -> bool {
    let value = text.contains(|c: char| c.is_ascii_digit()) || text.contains(['$', '\\']);
    let words = text.split_whitespace().count();
    let number = words <= 12 && words::number(text).is_some();
    value || number || (words <= 3 && !text.is_empty() && Answer::of(text).is_readable())
}

fn find_from(text: &str, word: &str, from: usize) -> Option<usize> {
    let (bytes, word) = (text.as_bytes(), word.as_bytes());
    (from..=bytes.len().checked_sub(word.len())?)
        .take(4000)
        .find(|i| bytes[*i..*i + word.len()].eq_ignore_ascii_case(word))
        .filter(|i| text.is_char_boundary(*i))
}

/// What the last sentence states something is: "My reply is 0.75."
fn last_sentence(text: &str) -> Option<&str> {
    let text = text.trim_end().trim_end_matches(['*', '.', ' ']);
    let from = text.rfind(". ").map_or(0, |i| i + 2);
    let sentence = &text[from.max(text.rfind('\n').map_or(0, |i| i + 1))..];
    let at = rfind(sentence, " is ").or_else(|| rfind(sentence, " is: "))?;
    let before = sentence[..at].split_whitespace();
    let value = claim(sentence[at + 4..].trim_start_matches([':', ' ']));
    let value = [("$", "$"), ("\\(", "\\)")]
        .into_iter()
        .find_map(|(open, close)| value.strip_prefix(open)?.strip_suffix(close))
        .filter(|inside| !inside.contains('$') && !inside.contains("\\("))
        .unwrap_or(value);
    let short = value.split_whitespace().count() <= 8 && before.count() <= 8;
    let answer = Answer::of(value);
    // "$x = 2$ is our answer" states it before.
    let before_holds_value =
        sentence[..at].contains(|c: char| c.is_ascii_digit() || "$\\".contains(c));
    let fits =
        answer.is_value() || (answer.is_bare() && !answer.is_remark() && !before_holds_value);
    (short && sentence.len() < 400 && fits).then_some(value)
}

/// The value that a short statement comes down to: itself where it is a formula, else its last
/// formula or number.
fn value_of(rest: &str) -> &str {
    if rest.contains("\\boxed") {
        return rest;
    }
    let rest = claim(rest);
    if Answer::of(rest).is_value() {
        return rest;
    }
    let prose = rest
        .split_whitespace()
        .filter(|w| w.len() > 1 && w.bytes().all(|b| b.is_ascii_alphabetic()))
        .count();
    if prose < 3 || words::number(rest).is_some() {
        return rest;
    }
    match last_expression(rest) {
        Some(last) => last,
        None => rest,
    }
}

/// "Final Answer: X", "the final answer is X", without the template's end.
fn final_answer(text: &str, cut: bool) -> Option<(usize, String)> {
    let mut at = rfind_said(text, "final answer")?;
    // "4 (final answer)" states nothing of what follows.
    while text[at + "final answer".len()..].starts_with(')') {
        at = rfind_said(&text[..at], "final answer")?;
    }
    let from = at + "final answer".len();
    let lead = text[from..].trim_start_matches(['*', '_', ' ', ':', '#', '\n', '=', '\t']);
    let from = text.len() - lead.len();
    let label = &text[at + "final answer".len()..];
    if let Some((items, length)) = bullets(label) {
        let to = at + "final answer".len() + length;
        return (!cut || to < text.len()).then_some((to, items));
    }
    let mut to = sentence_end(text, from);
    // "**Final Answer**" over a paragraph.
    if let Some(more) = rfind_said(&text[from..], "answer is") {
        to = sentence_end(text, from + more + "answer is".len());
    }
    if cut && to == text.len() {
        return None;
    }
    let inside = statement(&text[from..to])?;
    let inside = match boxed(&inside) {
        Some((_, inside)) => inside,
        None => inside,
    };
    Some((to, inside))
}

/// The end of the sentence or line: a full stop before white space outside formulas, or a line end
/// after something was stated.
fn sentence_end(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut dollars = 0u32;
    let mut depth = 0i32;
    let mut said = false;
    for i in from..bytes.len() {
        match bytes[i] {
            b'\\' if matches!(bytes.get(i + 1), Some(b'[' | b'(')) => dollars += 1,
            // A formula that opened before the statement ends with it.
            b'\\' if matches!(bytes.get(i + 1), Some(b']' | b')')) && said && dollars == 0 => {
                return i;
            }
            b'\\' if matches!(bytes.get(i + 1), Some(b']' | b')')) => dollars += 1,
            b'$' if i > 0 && bytes[i - 1] == b'\\' => said = true,
            b'$' if dollars.is_multiple_of(2) && is_currency(&text[i + 1..]) => said = true,
            b'$' => dollars += 1,
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'.' | b'!' | b'?' if dollars.is_multiple_of(2) && depth <= 0 && said => {
                let next = bytes.get(i + 1);
                let initial = bytes[i] == b'.' && i >= 2 && bytes[i - 2] == b'.';
                // "It was 12:00 a.m. I hope"
                let closes = initial
                    && i >= 3
                    && matches!(bytes[i - 3], b'a' | b'p' | b'A' | b'P')
                    && matches!(bytes[i - 1], b'm' | b'M')
                    && bytes.get(i + 2).is_some_and(u8::is_ascii_uppercase);
                if next.is_none_or(u8::is_ascii_whitespace) && (!initial || closes) {
                    return i;
                }
            }
            b'<' if said && text[i..].starts_with("</answer") => return i,
            b'\n' if dollars.is_multiple_of(2) && depth <= 0 && said => return i,
            b if b.is_ascii_whitespace() || matches!(b, b':' | b'*') => {}
            _ => said = true,
        }
        if i - from > 1500 {
            return floor_boundary(text, i);
        }
    }
    bytes.len()
}

/// Whether the `$` before `after` represents dollars: a number follows, and no `$` that closes a formula.
fn is_currency(after: &str) -> bool {
    let number = after.trim_start_matches([' ', '-', '−', '+']);
    number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && !after
            .bytes()
            .take_while(|b| *b != b'\n')
            .take(1500)
            .any(|b| b == b'$')
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The content of the last `\boxed{…}`, together with those that only a comma or "and" parts from
/// it, with its end.
pub(crate) fn boxed(text: &str) -> Option<(usize, String)> {
    let mut end = text.len();
    for _ in 0..8 {
        let at = text[..end]
            .rfind("\\boxed")
            .into_iter()
            .chain(text[..end].rfind("\\fbox"))
            .max()?;
        if let Some((inside, to)) = box_at(text, at) {
            let mut parts = vec![inside.to_owned()];
            let mut first = at;
            // Boxes before it that belong to the same answer.
            while parts.len() < 32
                && let Some(before) = text[..first].rfind("\\boxed")
                && let Some((inside, box_end)) = box_at(text, before)
                && box_end <= first
                && joins(&text[box_end..first])
            {
                parts.push(inside.to_owned());
                first = before;
            }
            parts.reverse();
            return Some((to, parts.join(", ")));
        }
        end = at;
    }
    None
}

/// A box's content and its end.
fn box_at(text: &str, at: usize) -> Option<(&str, usize)> {
    let name = if text[at..].starts_with("\\fbox") {
        5
    } else {
        6
    };
    let after = &text[at + name..];
    let spaces = after.len() - after.trim_start_matches(' ').len();
    let from = at + name + spaces;
    if let Some(inside) = group(&text[from..]) {
        return Some((inside, from + inside.len() + 2));
    }
    // A box that nothing closes ends with its formula or line.
    if let Some(open) = text[from..].strip_prefix('{') {
        let line = open.lines().next().unwrap_or_default();
        let end = ["$", "\\)", "\\]", "<|", "</"]
            .iter()
            .filter_map(|close| line.find(close))
            .min()
            .unwrap_or(line.len());
        let inside = line[..end].trim_end_matches(['.', ' ']);
        return (open.len() < 4000 && !inside.trim().is_empty())
            .then(|| (inside, from + 1 + inside.len()));
    }
    // `\boxed 5`, `\boxed5`
    let inside = &text[from..];
    let length = inside
        .find(|c: char| c.is_whitespace() || c == '$')
        .unwrap_or(inside.len());
    (length > 0 && length < 200).then(|| (&inside[..length], from + length))
}

/// Whether what is between two boxes makes them one answer: nothing, a comma, or "and" with at
/// most one word (a unit) or one assignment beside it.
fn joins(between: &str) -> bool {
    if between.len() > 60 {
        return false;
    }
    if between.is_empty() {
        return true;
    }
    let mut plain = between.to_owned();
    for dropped in [
        "\\quad", "\\qquad", "\\text", "\\(", "\\)", "\\[", "\\]", "\\,", "\\;", "\\ ", "$", "{",
        "}", ".", "~",
    ] {
        plain = plain.replace(dropped, " ");
    }
    let mut joined = false;
    let mut words = 0;
    let plain = plain.replace(',', " , ").replace(';', " ; ");
    let tokens: Vec<&str> = plain.split_whitespace().collect();
    for (i, token) in tokens.iter().enumerate() {
        match *token {
            "," | ";" | "and" | "or" if !joined || matches!(tokens[i - 1], "," | ";") => {
                joined = true
            }
            "and" | "or" => return false,
            "=" => {}
            // `y_2 =` before the next box.
            _ if joined && tokens.get(i + 1) == Some(&"=") => {}
            _ if joined => return false,
            _ => words += 1,
        }
    }
    joined && words <= 1
}

/// The last complete `<answer>…</answer>`, with its end.
fn tagged(text: &str) -> Option<(usize, String)> {
    let end = text.rfind("</answer>")?;
    let from = text[..end].rfind("<answer>")? + "<answer>".len();
    let inside = &text[from..end];
    let inside = boxed(inside).map_or_else(|| inside.to_owned(), |(_, inside)| inside);
    Some((end, inside))
}

/// The rest of the line after the last `####`.
fn after_hashes(text: &str, cut: bool) -> Option<&str> {
    let at = text.rfind("####")?;
    let after = text[at + 4..].trim_start_matches(['#', ' ']);
    let line = after.lines().next()?.trim();
    let complete = !cut || after.contains('\n');
    let heading = line.split_whitespace().count() > 8 || line.is_empty();
    (complete && !heading).then_some(line)
}

/// A statement, its end, and whether it states of the answer itself what it is.
struct Said {
    end: usize,
    value: String,
    direct: bool,
}

/// "the answer is X", "Answer: X", "answer = X". A label within a formula counts where nothing else
/// states so.
fn answer_is(text: &str, cut: bool) -> Option<Said> {
    answer_said(text, cut, false).or_else(|| answer_said(text, cut, true))
}

fn answer_said(text: &str, cut: bool, labels: bool) -> Option<Said> {
    let mut end = text.len();
    for _ in 0..6 {
        let (at, word) = ["answer", "my reply"]
            .into_iter()
            .filter_map(|word| rfind(&text[..end], word).map(|at| (at, word)))
            .max()?;
        end = at;
        let after = &text[at + word.len()..];
        if after.starts_with(')') || (!labels && closes_label(after)) {
            continue;
        }
        let lead = after.trim_start_matches(['*', '_', ' ']);
        let verb = ["is", "IS"].iter().find_map(|is| lead.strip_prefix(is));
        let verb = verb.filter(|rest| rest.starts_with([' ', ':', '\n']));
        // "Answer - 36" has a dash.
        let dash = ["- ", "– ", "— "]
            .iter()
            .find_map(|dash| lead.strip_prefix(dash));
        let direct = verb.or(dash).is_some() || lead.starts_with([':', '=', '：']);
        let from = if direct {
            let skipped = verb.or(dash).unwrap_or(lead);
            let skipped = skipped.trim_start_matches([':', '=', ' ', '：', '*']);
            text.len() - skipped.len()
        } else {
            // "the answer to the question is X"
            let near = &lead[..floor_boundary(lead, lead.len().min(80))];
            let Some(is) = near.find(" is ").or_else(|| near.find(" is:")) else {
                continue;
            };
            if near[..is].contains(['.', '\n', '?', '!']) {
                continue;
            }
            text.len() - lead.len() + is + 4
        };
        let from = from.min(text.len());
        if let Some((items, length)) = bullets(&text[from..]) {
            let end = from + length;
            if cut && end == text.len() {
                continue;
            }
            return Some(Said {
                end,
                value: items,
                direct,
            });
        }
        let to = sentence_end(text, from);
        if cut && to == text.len() {
            continue;
        }
        let inside = text[from.min(to)..to].trim();
        // "The answer is not 4."
        if inside.is_empty() || inside.to_ascii_lowercase().starts_with("not ") {
            continue;
        }
        let value = match boxed(inside) {
            Some((_, inside)) => inside,
            None => value_of(inside).to_owned(),
        };
        return Some(Said {
            end: to,
            value,
            direct,
        });
    }
    None
}

/// The formula or number that ends furthest right.
pub(crate) fn last_expression(text: &str) -> Option<&str> {
    let formula = last_formula(text);
    let number = last_number(text);
    match (formula, number) {
        (Some((_, end, inside)), Some((_, number_end, number))) => {
            Some(if number_end > end { number } else { inside })
        }
        (Some((_, _, inside)), None) => Some(inside),
        (None, Some((_, _, number))) => Some(number),
        (None, None) => None,
    }
}

/// The last `$…$`, `$$…$$`, `\(…\)` or `\[…\]`: start, end, content. Formulas that "and" or a
/// comma joins are one.
fn last_formula(text: &str) -> Option<(usize, usize, &str)> {
    let (start, end, inside) = last_delimited(text)?;
    let mut from = start;
    for _ in 0..16 {
        let before = &text[..from];
        let glue = before.trim_end();
        let joined = ["and", "or", ","].iter().find_map(|g| glue.strip_suffix(g));
        let Some(joined) = joined else { break };
        let trimmed = joined.trim_end().trim_end_matches(',');
        let Some((earlier, earlier_end, _)) = last_delimited(trimmed) else {
            break;
        };
        if earlier_end != trimmed.len() {
            break;
        }
        from = earlier;
        let next = &text[..from];
        if !["and", "or", ","]
            .iter()
            .any(|g| next.trim_end().ends_with(g))
        {
            break;
        }
    }
    if from < start {
        return Some((from, end, &text[from..end]));
    }
    Some((start, end, inside))
}

fn last_delimited(text: &str) -> Option<(usize, usize, &str)> {
    let mut best: Option<(usize, usize, &str)> = None;
    for (open, close) in [("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")] {
        let Some(last) = text.rfind(close) else {
            continue;
        };
        let doubled = close == "$" && text[..last].ends_with('$');
        let inner_end = if doubled { last - 1 } else { last };
        let Some(at) = text[..inner_end].rfind(open) else {
            continue;
        };
        let start = if doubled && text[..at].ends_with('$') {
            at - 1
        } else {
            at
        };
        let inside = &text[at + open.len()..inner_end];
        let end = last + close.len();
        // Prose between two currency signs is no formula.
        let prose = inside
            .split_whitespace()
            .filter(|w| w.len() > 2 && w.bytes().all(|b| b.is_ascii_alphabetic()))
            .count();
        if inside.trim().is_empty() || inside.len() > 2000 || prose > 3 {
            continue;
        }
        if best.is_none_or(|(_, e, _)| end > e) {
            best = Some((start, end, inside));
        }
    }
    best
}

/// The last number of plain text with what belongs to it: sign, fraction, power, LaTeX, percent.
fn last_number(text: &str) -> Option<(usize, usize, &str)> {
    let bytes = text.as_bytes();
    let last = bytes.iter().rposition(u8::is_ascii_digit)?;
    let belongs = |b: u8| b.is_ascii_digit() || b"./,:%()[]+-*^_{}\\!".contains(&b);
    let mut from = last;
    while from > 0 && last - from < 200 {
        let before = bytes[from - 1];
        let command = before.is_ascii_alphabetic() && is_command_letter(bytes, from - 1);
        if !(belongs(before) || command) {
            break;
        }
        from -= 1;
    }
    let mut to = last + 1;
    while to < bytes.len()
        && to - last < 40
        && (b"%)]}!".contains(&bytes[to])
            || (bytes[to] == b'\\' && bytes.get(to + 1) == Some(&b'%')))
    {
        to += 1;
    }
    let from = with_minus_before_currency(text, from);
    let mut run = &text[from..to];
    loop {
        let trimmed = run.trim_start_matches([
            '.', ',', ':', '*', '/', '_', '^', '!', '%', '+', ')', ']', '}',
        ]);
        // An opening bracket without its partner.
        let unbalanced = |open: char, close: char| {
            trimmed.starts_with(open)
                && trimmed.matches(open).count() > trimmed.matches(close).count()
        };
        run = if unbalanced('(', ')') || unbalanced('[', ']') || unbalanced('{', '}') {
            &trimmed[1..]
        } else {
            trimmed
        };
        let tail = |open: char, close: char| {
            run.ends_with(close) && run.matches(close).count() > run.matches(open).count()
        };
        if tail('(', ')') || tail('[', ']') || tail('{', '}') {
            run = &run[..run.len() - 1];
            continue;
        }
        if run.len() == trimmed.len() {
            break;
        }
    }
    let end = to;
    // "- 5 apples" as a list item keeps its number only.
    let run = run
        .strip_prefix("\\")
        .filter(|r| r.starts_with(|c: char| c.is_ascii_digit()))
        .unwrap_or(run);
    (!run.is_empty()).then_some((from, end, run))
}

/// Where a number begins whose currency sign has a minus before it: `-$5`, `−\$5`, `- US$ 5`.
fn with_minus_before_currency(text: &str, from: usize) -> usize {
    let before = text[..from].trim_end_matches(' ');
    let Some(sign) = before.strip_suffix(['$', '€', '£', '¥', '₹']) else {
        return from;
    };
    let sign = sign.strip_suffix('\\').unwrap_or(sign);
    let country = sign.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let Some(left) = country.trim_end_matches(' ').strip_suffix(['-', '−', '–']) else {
        return from;
    };
    // "5-$3" is a difference, "well-$3" no number below zero.
    let left = left.trim_end_matches(' ').len()..left.len();
    let operand = |c: char| c.is_numeric() || matches!(c, ')' | '}');
    let hyphen = |c: char| c.is_alphabetic();
    let (words, apart) = (&text[..left.start], !left.is_empty());
    match words.ends_with(operand) || (!apart && words.ends_with(hyphen)) {
        true => from,
        false => left.end,
    }
}

/// Whether a letter belongs to a LaTeX command: a backslash starts its run of letters.
fn is_command_letter(bytes: &[u8], mut at: usize) -> bool {
    let mut steps = 0;
    while at > 0 && bytes[at].is_ascii_alphabetic() && steps < 20 {
        at -= 1;
        steps += 1;
    }
    bytes[at] == b'\\'
}
