//! The grade of an answer: what was found of it, compared with the gold.

use super::answer::{Answer, equivalent};
use super::equal::Outcome;
use super::{extract, words};

/// What an answer is worth beside the gold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grade {
    /// It means what the gold means.
    Correct,
    /// It means something else.
    Wrong,
    /// Nothing was answered that can be read as mathematics or a name.
    NoAnswer,
    /// It cannot be decided: the gold cannot be read, the answer equals it only when rounded, or the
    /// comparison is beyond the bounds of work.
    Ungraded,
}

/// A grade with what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graded {
    /// See [`Grade`].
    pub grade: Grade,
    /// The answer in its normal spelling; `None` where none was found.
    pub extracted: Option<String>,
    /// Why, as text for a person; of an answer that equals the gold only when rounded it begins with
    /// [`ROUNDED`](crate::ROUNDED).
    pub reason: String,
}

impl Graded {
    fn without_answer(grade: Grade, reason: impl Into<String>) -> Self {
        Self {
            grade,
            extracted: None,
            reason: reason.into(),
        }
    }
}

/// Longer texts are responses, not bare answers.
const LONGEST_BARE: usize = 1000;

/// Grades an answer against a gold answer. Either may be bare (`\frac12`), a formula in a sentence,
/// or a whole response or solution, whose final answer is then taken.
///
/// Total and deterministic; its work is bounded by the length of the texts, without clocks.
pub fn grade(gold: &str, answer: &str) -> Graded {
    match gold_of(gold) {
        Err(reason) => Graded::without_answer(Grade::Ungraded, reason),
        Ok(gold) if gold.text == crate::normal(answer) => compare(&gold, Answer::of(answer), ""),
        Ok(gold) => {
            let (answer, form) = answer_of(answer);
            compare(&gold, answer, form)
        }
    }
}

/// Grades the final answer of a whole response. Of one that was `cut_off` by a token limit only an
/// answer counts whose form is complete.
///
/// A thinking block and what follows the end of a turn are the caller's to cut off before.
pub fn grade_response(gold: &str, response: &str, cut_off: bool) -> Graded {
    match gold_of(gold) {
        Err(reason) => Graded::without_answer(Grade::Ungraded, reason),
        Ok(gold) => match extract::extract(response, cut_off) {
            Some(found) => compare(&gold, Answer::of(&found.text), found.form),
            None if cut_off => {
                Graded::without_answer(Grade::NoAnswer, "cut off before a complete answer")
            }
            None => Graded::without_answer(Grade::NoAnswer, "no answer in the response"),
        },
    }
}

/// Compares an answer that was found in `form` with the gold.
fn compare(gold: &Answer, answer: Answer, form: &str) -> Graded {
    if answer.is_empty() {
        return Graded::without_answer(Grade::NoAnswer, "the answer is empty");
    }
    let decision = equivalent(gold, &answer);
    let grade = match decision.outcome {
        Outcome::Equal => Grade::Correct,
        _ if !gold.is_text() && answer.is_remark() => {
            return Graded::without_answer(Grade::NoAnswer, "words that name no value");
        }
        _ if !answer.is_readable() => {
            return Graded {
                grade: Grade::NoAnswer,
                extracted: Some(answer.text),
                reason: "the answer cannot be read as mathematics or words".to_owned(),
            };
        }
        _ if !gold.is_readable() => {
            let reason = format!("the gold `{}` cannot be read", short(&gold.text));
            return Graded::without_answer(Grade::Ungraded, reason);
        }
        Outcome::Different => Grade::Wrong,
        Outcome::Rounded | Outcome::Undecided => Grade::Ungraded,
    };
    Graded {
        grade,
        extracted: Some(answer.text),
        reason: match form {
            "" => decision.reason,
            form => format!("{} ({form})", decision.reason),
        },
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The gold answer of a bare answer or of a whole solution.
fn gold_of(text: &str) -> Result<Answer, String> {
    let whole = Answer::of(text);
    let answer = match whole.is_text() && whole.is_bare() {
        true => whole,
        false => answer_of(text).0,
    };
    if answer.is_empty() {
        return Err("the gold is empty".to_owned());
    }
    Ok(answer)
}

/// The answer of a bare answer or of a whole response, and the form it is in.
fn answer_of(text: &str) -> (Answer, &'static str) {
    if let Some(found) = extract::stated(text, false) {
        return (Answer::of(&found.text), found.form);
    }
    let text = text.trim();
    if text.len() > LONGEST_BARE {
        return match extract::extract(text, false) {
            Some(found) => (Answer::of(&found.text), found.form),
            None => (Answer::of(text), ""),
        };
    }
    if extract::retracted(text, false) {
        return (Answer::of(""), "");
    }
    let whole = Answer::of(text);
    // Of a formula that cannot be read no part is its answer.
    let sentence = whole.is_text() && text.contains(" is ");
    if (!whole.is_bare() || whole.is_remark() || sentence)
        && is_sentence(text)
        && let Some(found) = extract::extract(text, false)
    {
        return (Answer::of(&found.text), found.form);
    }
    (whole, "")
}

/// Whether a text states something, so that its answer is a part of it. Of "row 31, seat 20" none is.
fn is_sentence(text: &str) -> bool {
    let sequence = words::sequence(text);
    let prose = |t: &&String| t.chars().count() > 1 && t.chars().all(char::is_alphabetic);
    let words: Vec<&String> = sequence.iter().filter(prose).collect();
    let is_verb = |word: &&String| {
        matches!(
            word.as_str(),
            "is" | "are"
                | "was"
                | "were"
                | "be"
                | "has"
                | "have"
                | "had"
                | "get"
                | "gets"
                | "got"
                | "gives"
                | "equals"
                | "makes"
                | "think"
                | "find"
                | "cost"
                | "costs"
                | "its"
                | "thus"
                | "therefore"
                | "so"
                | "hence"
                | "then"
        )
    };
    let marks =
        text.contains(['\n', '$', '。', '，']) || text.contains(". ") || text.contains("\\(");
    let foreign = text.contains(|c: char| c.is_alphabetic() && !c.is_ascii() && c > '\u{2fff}');
    foreign || (!words.is_empty() && (words.len() > 6 || marks || words.iter().any(is_verb)))
}
