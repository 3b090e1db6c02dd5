//! MATH: contest problems whose answer is any mathematical object.
//!
//! A raw row (of the published files; MATH-500 names `type` `subject` and adds `answer`):
//! ```json
//! {"problem": "What is the sum of the roots of $2x^2 - 3x + 1 = 0$?", "level": "Level 2", "type": "Algebra",
//!  "solution": "By Vieta's formulas the sum is $\\frac{3}{2}$, so the answer is $\\boxed{\\frac{3}{2}}$."}
//! ```
//! The answer stands in the solution's last `\boxed{…}`. Two answers are compared by what they
//! mean: exact arithmetic first, then structure, and values at drawn points last; a verdict carries
//! the reason. What cannot be decided is `ungraded`, never wrong.

mod answer;
mod atom;
mod ball;
mod currency;
mod equal;
mod evaluate;
mod extract;
mod groups;
mod label;
mod matrix;
mod members;
mod parse;
mod peer;
mod spelling;
mod token;
mod tree;
mod unit;
mod words;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::import::{Fields, Parts, kind_of};
use super::{Answered, Execute, ImportRow, Imported, Judgement, Task, reading, steps};
use crate::record::{Finish, Problem, Step, TaskName, Verdict};

pub(super) use peer::math_verify;

use answer::{Answer, equivalent};
use equal::Outcome;

/// Longer texts are responses, not bare answers.
const LONGEST_BARE: usize = 1000;

/// The task.
pub(super) struct Math;

/// The answer in its normal spelling: without delimiters, `\left`, sizes, closing full stop. Doing it
/// twice changes nothing.
pub fn normal_answer(text: &str) -> String {
    spelling::normal(text)
}

/// The answer that a whole response or solution comes to, as it is written there.
pub fn extract_answer(text: &str, finish: Finish) -> Option<String> {
    let part = reading::part_of(&Math, text)?;
    extract::extract(part, finish).map(|f| f.text)
}

fn no_answer(reason: &str) -> Judgement {
    Judgement {
        verdict: Verdict::NoAnswer,
        extracted: None,
        reason: reason.to_owned(),
        steps: Vec::new(),
        read: None,
    }
}

fn ungraded(reason: String) -> Judgement {
    Judgement {
        verdict: Verdict::Ungraded,
        extracted: None,
        reason,
        steps: Vec::new(),
        read: None,
    }
}

/// Judges an answer that was found in `form`.
fn judge(gold: &Answer, answer: Answer, form: &str) -> Judgement {
    if answer.is_empty() {
        return no_answer("the answer is empty");
    }
    let decision = equivalent(gold, &answer);
    let verdict = match decision.outcome {
        Outcome::Equal => Verdict::Correct,
        _ if !gold.is_text() && answer.is_remark() => {
            return no_answer("words that name no value");
        }
        _ if !answer.is_readable() => {
            return Judgement {
                extracted: Some(answer.text),
                ..no_answer("the answer cannot be read as mathematics or words")
            };
        }
        _ if !gold.is_readable() => {
            return ungraded(format!("the gold `{}` cannot be read", short(&gold.text)));
        }
        Outcome::Different => Verdict::Wrong,
        Outcome::Rounded | Outcome::Undecided => Verdict::Ungraded,
    };
    Judgement {
        verdict,
        extracted: Some(answer.text),
        reason: match form {
            "" => decision.reason,
            form => format!("{} ({form})", decision.reason),
        },
        steps: Vec::new(),
        read: None,
    }
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The gold answer of `{"answer": …}`, of a bare answer or of a whole solution.
fn gold_of(gold: &Value) -> Result<Answer, String> {
    let text = match gold {
        Value::Object(object) => match object.get("answer") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(other) => {
                return Err(format!(
                    "the gold's `answer` is {}, not text",
                    kind_of(other)
                ));
            }
            None => return Err("the gold has no `answer`".to_owned()),
        },
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return Err(format!("the gold is {}, not text", kind_of(other))),
    };
    let whole = Answer::of(&text);
    let answer = match whole.is_text() && whole.is_bare() {
        true => whole,
        false => answer_of(&text).0,
    };
    if answer.is_empty() {
        return Err("the gold is empty".to_owned());
    }
    Ok(answer)
}

/// The answer of a bare answer or of a whole response, and the form it stands in.
fn answer_of(text: &str) -> (Answer, &'static str) {
    if let Some(found) = extract::stated(text, Finish::Unknown) {
        return (Answer::of(&found.text), found.form);
    }
    let text = text.trim();
    if text.len() > LONGEST_BARE {
        return match extract::extract(text, Finish::Unknown) {
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
        && let Some(found) = extract::extract(text, Finish::Unknown)
    {
        return (Answer::of(&found.text), found.form);
    }
    (whole, "")
}

/// Whether a text says something, so that its answer is a part of it. Of "row 31, seat 20" none is.
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

impl Task for Math {
    fn name(&self) -> TaskName {
        TaskName::Math
    }

    fn version(&self) -> u32 {
        2
    }

    /// `solution` holds the answer in its last box, unless `answer` gives it; `level`, `type` and
    /// `subject` are kept as they are.
    fn import(&self, raw: &Map<String, Value>, at: &ImportRow) -> Result<Imported, String> {
        let mut fields = Fields::of(raw);
        let question = fields
            .take_text(&["problem", "question"])?
            .ok_or("no field `problem`")?;
        if question.trim().is_empty() {
            return Err("`problem` is empty".to_owned());
        }
        let human = fields.take_text(&["solution", "human"])?;
        let answer = match fields.take(&["answer", "gold"]) {
            Some(Value::Object(object)) => match object.get("answer") {
                Some(Value::String(text)) => Some(text.clone()),
                _ => return Err("`gold` has no text `answer`".to_owned()),
            },
            Some(Value::String(text)) => Some(text),
            Some(Value::Number(number)) => Some(number.to_string()),
            Some(other) => return Err(format!("`answer` is {}, not text", kind_of(&other))),
            None => None,
        };
        let gold = match (answer, &human) {
            (Some(answer), _) => match extract::stated(&answer, Finish::Unknown) {
                Some(found) => found.text,
                None => answer,
            },
            (None, Some(solution)) => {
                extract::stated(solution, Finish::Unknown)
                    .ok_or("the solution states no answer: no `\\boxed{…}`, and no field `answer`")?
                    .text
            }
            (None, None) => return Err("neither `solution` nor `answer`".to_owned()),
        };
        if spelling::normal(&gold).is_empty() {
            return Err("the answer is empty".to_owned());
        }
        if let Some(id) = fields.take_text(&["unique_id"])? {
            fields.set("id", &format!("{}/{id}", at.set));
        }
        let parts = Parts {
            task: TaskName::Math,
            question,
            gold: json!({"answer": gold.trim()}),
            human,
            split: None,
        };
        fields.finish(at, parts)
    }

    fn prompt_files(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "zero-shot",
                include_str!("../../../prompts/math/zero-shot.txt"),
            ),
            (
                "few-shot",
                include_str!("../../../prompts/math/few-shot.txt"),
            ),
            ("paper", include_str!("../../../prompts/math/paper.txt")),
            ("boxed", include_str!("../../../prompts/math/boxed.txt")),
            (
                "paraphrase",
                include_str!("../../../prompts/math/paraphrase.txt"),
            ),
        ]
    }

    fn judge(
        &self,
        problem: &Problem,
        part: &str,
        finish: Finish,
        _code: &dyn Execute,
    ) -> Judgement {
        let judged = match gold_of(&problem.gold) {
            Err(reason) => ungraded(reason),
            Ok(gold) => match extract::extract(part, finish) {
                Some(found) => judge(&gold, Answer::of(&found.text), found.form),
                None => no_answer(match finish {
                    Finish::Length => "cut off before a complete answer",
                    _ => "no answer in the response",
                }),
            },
        };
        Judgement {
            steps: self.check_steps(problem, part),
            ..judged
        }
    }

    fn judge_pair(&self, gold: &Value, part: &str, _code: &dyn Execute) -> Judgement {
        match gold_of(gold) {
            Err(reason) => ungraded(reason),
            Ok(gold) if gold.text == normal_answer(part) => judge(&gold, Answer::of(part), ""),
            Ok(gold) => {
                let (answer, form) = answer_of(part);
                judge(&gold, answer, form)
            }
        }
    }

    fn check_steps(&self, _problem: &Problem, part: &str) -> Vec<Step> {
        steps::check_steps(part, is_answer)
    }

    fn answered(&self, text: &str) -> Answered {
        extract::answered(text)
    }
}

/// Whether a part of a text is the answer rather than a step.
fn is_answer(part: &str, _after_bar: bool) -> bool {
    part.starts_with("####") || part.starts_with("Final Answer") || part.starts_with("<answer>")
}
