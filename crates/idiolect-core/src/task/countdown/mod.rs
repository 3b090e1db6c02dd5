//! Countdown: reach a target from given numbers, each used exactly once, with + - * / and
//! parentheses.
//!
//! A raw row of the common set, and one with a known solution:
//! ```json
//! {"nums": [79, 17, 60], "target": 36}
//! {"id": "test-000001", "numbers": [79, 17, 60], "target": 36, "gold_expr": "(79+(17-60))"}
//! ```
//! The paper's prompt states that each number *can* be used only once while its scorer demands all of
//! them; both here state exactly once. Notation is not arithmetic: Unicode and LaTeX operators, `= target`
//! on either side, a name or label in front and a fence are read. `**`, `//`, decimals, a unary minus and juxtaposition are arithmetic
//! that the task does not allow: wrong. The scorer's own verdicts are in [`super::compat`].

mod answer;
mod generate;
mod solve;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use generate::{Difficulty, Drawn, Generator};
pub use solve::{Expression, Operator, reachable, solve};

use super::import::{Fields, Parts, kind_of};
use super::{Answered, Execute, ImportRow, Imported, Judgement, Task, steps};
use crate::record::{Finish, Problem, Step, TaskName, Verdict};

/// Problems with more numbers are refused; each has at most 18 digits.
const MAX_NUMBERS: usize = 64;

/// The task.
pub(super) struct Countdown;

/// What a gold object states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gold {
    /// Each to be used exactly once.
    pub numbers: Vec<i64>,
    /// To be reached.
    pub target: i64,
}

impl Gold {
    /// Reads `{"numbers":[3,7,2],"target":19}`.
    ///
    /// # Errors
    /// In words: what is missing or no integer.
    pub fn read(gold: &Value) -> Result<Self, String> {
        let field = |name| {
            gold.get(name)
                .ok_or_else(|| format!("the gold has no `{name}`"))
        };
        Ok(Self {
            numbers: numbers(field("numbers")?)?,
            target: integer("target", field("target")?)?,
        })
    }
}

/// The question in words.
pub fn question(numbers: &[i64], target: i64) -> String {
    format!(
        "Using the numbers {}, create an equation that equals {target}. Use each number exactly once, and only +, -, *, / and parentheses.",
        list(numbers)
    )
}

/// `[3, 7, 2]`
fn list(numbers: &[i64]) -> String {
    format!("[{}]", join(numbers, ", "))
}

fn join(numbers: &[i64], between: &str) -> String {
    numbers
        .iter()
        .map(i64::to_string)
        .collect::<Vec<_>>()
        .join(between)
}

/// Judges one expression, as it would stand between answer tags.
pub fn judge(candidate: &str, gold: &Gold) -> Judgement {
    let judged = |verdict, extracted, reason| Judgement {
        verdict,
        extracted,
        reason,
        steps: Vec::new(),
        read: None,
    };
    let candidate = candidate.trim();
    if candidate.is_empty() {
        return judged(Verdict::NoAnswer, None, "the answer is empty".to_owned());
    }
    let Some(read) = answer::read(candidate) else {
        let shown: String = candidate.chars().take(60).collect();
        let reason = format!("the answer `{shown}` is not an arithmetic expression");
        return judged(Verdict::NoAnswer, None, reason);
    };
    let faults = answer::faults(&read, &gold.numbers, gold.target);
    if faults.is_empty() {
        let reason = format!("{} = {}, each number once", read.canonical, gold.target);
        return judged(Verdict::Correct, Some(read.canonical), reason);
    }
    judged(Verdict::Wrong, Some(read.canonical), faults.join("; "))
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

impl Task for Countdown {
    fn name(&self) -> TaskName {
        TaskName::Countdown
    }

    fn version(&self) -> u32 {
        3
    }

    fn import(&self, raw: &Map<String, Value>, at: &ImportRow) -> Result<Imported, String> {
        let mut fields = Fields::of(raw);
        let gold = match raw.get("gold") {
            Some(object @ Value::Object(_)) => {
                let gold = Gold::read(object)?;
                fields.take(&["gold"]);
                gold
            }
            _ => Gold {
                numbers: numbers(
                    &fields
                        .take(&["numbers", "nums"])
                        .ok_or("no field `numbers` or `nums`")?,
                )?,
                target: integer(
                    "target",
                    &fields.take(&["target"]).ok_or("no field `target`")?,
                )?,
            },
        };
        if let Some(Value::String(expression)) = raw.get("gold_expr") {
            let judged = judge(expression, &gold);
            if judged.verdict != Verdict::Correct {
                return Err(format!("`gold_expr` `{expression}`: {}", judged.reason));
            }
        }
        let asked = fields.take_text(&["question", "problem"])?;
        let human = fields.take_text(&["human", "solution"])?;
        let parts = Parts {
            task: TaskName::Countdown,
            question: asked.unwrap_or_else(|| question(&gold.numbers, gold.target)),
            gold: json!({"numbers": gold.numbers, "target": gold.target}),
            human,
            split: None,
        };
        fields.finish(at, parts)
    }

    fn prompt_files(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "zero-shot",
                include_str!("../../../prompts/countdown/zero-shot.txt"),
            ),
            (
                "few-shot",
                include_str!("../../../prompts/countdown/few-shot.txt"),
            ),
            ("mini", include_str!("../../../prompts/countdown/mini.txt")),
            (
                "paraphrase",
                include_str!("../../../prompts/countdown/paraphrase.txt"),
            ),
            (
                "mini-paraphrase",
                include_str!("../../../prompts/countdown/mini-paraphrase.txt"),
            ),
        ]
    }

    /// `{question}`, `{numbers}` as `3 7 2`, `{list}` as `[3, 7, 2]`, `{target}`.
    fn placeholders(&self, problem: &Problem) -> Result<Vec<(&'static str, String)>, String> {
        let gold = Gold::read(&problem.gold)?;
        Ok(vec![
            ("question", problem.question.clone()),
            ("numbers", join(&gold.numbers, " ")),
            ("list", list(&gold.numbers)),
            ("target", gold.target.to_string()),
        ])
    }

    fn judge(
        &self,
        problem: &Problem,
        part: &str,
        finish: Finish,
        _code: &dyn Execute,
    ) -> Judgement {
        let judged = match Gold::read(&problem.gold) {
            Err(reason) => ungraded(reason),
            Ok(gold) => match answer::extract(part, finish) {
                Some(candidate) => judge(candidate, &gold),
                None => Judgement {
                    verdict: Verdict::NoAnswer,
                    extracted: None,
                    reason: no_answer(finish).to_owned(),
                    steps: Vec::new(),
                    read: None,
                },
            },
        };
        Judgement {
            steps: self.check_steps(problem, part),
            ..judged
        }
    }

    /// A gold string is an expression, alone or in a solution: its numbers and its value are the
    /// problem.
    fn judge_pair(&self, gold: &Value, part: &str, _code: &dyn Execute) -> Judgement {
        let gold = match gold {
            Value::String(text) => gold_of(text),
            object => Gold::read(object),
        };
        match gold {
            Err(reason) => ungraded(reason),
            Ok(gold) => judge(
                answer::extract(part, Finish::Unknown).unwrap_or(part),
                &gold,
            ),
        }
    }

    fn check_steps(&self, _problem: &Problem, part: &str) -> Vec<Step> {
        steps::check_steps(part, answer::is_answer)
    }

    fn answered(&self, text: &str) -> Answered {
        match answer::extract(text, Finish::Stop) {
            Some(_) => Answered::Closed,
            None => Answered::Nothing,
        }
    }
}

fn no_answer(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "cut off before a complete answer",
        _ => "neither <answer>…</answer> nor a final | ans",
    }
}

/// The problem that an expression solves.
fn gold_of(text: &str) -> Result<Gold, String> {
    let shown: String = text.chars().take(60).collect();
    let unreadable = || format!("the gold `{shown}` is not an expression with a whole value");
    let candidate = answer::extract(text, Finish::Unknown).unwrap_or(text);
    let read = answer::read(candidate.trim()).ok_or_else(unreadable)?;
    let target = read
        .value
        .ok()
        .and_then(|v| v.to_i64())
        .ok_or_else(unreadable)?;
    let numbers: Option<Vec<i64>> = read.literals.iter().map(|(_, v)| v.to_i64()).collect();
    match (read.forbidden, numbers) {
        (None, Some(numbers)) => Ok(Gold { numbers, target }),
        _ => Err(unreadable()),
    }
}

/// A list of whole numbers, or a text of them apart by spaces or commas.
fn numbers(value: &Value) -> Result<Vec<i64>, String> {
    let numbers: Vec<i64> = match value {
        Value::Array(items) => items
            .iter()
            .map(|item| integer("numbers", item))
            .collect::<Result<_, _>>()?,
        Value::String(text) => text
            .split([' ', ',', '[', ']'])
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse()
                    .map_err(|_| format!("`numbers` holds `{part}`, not a whole number"))
            })
            .collect::<Result<_, _>>()?,
        other => {
            return Err(format!(
                "`numbers` is {}, not a list of whole numbers",
                kind_of(other)
            ));
        }
    };
    if numbers.is_empty() || numbers.len() > MAX_NUMBERS {
        return Err(format!(
            "`numbers` holds {} numbers; 1 to {MAX_NUMBERS} are allowed",
            numbers.len()
        ));
    }
    match numbers
        .iter()
        .find(|n| !(0..1_000_000_000_000_000_000).contains(*n))
    {
        Some(n) => Err(format!("`numbers` holds {n}; they must lie in 0 to 10^18")),
        None => Ok(numbers),
    }
}

fn integer(name: &str, value: &Value) -> Result<i64, String> {
    value
        .as_i64()
        .ok_or_else(|| format!("`{name}` holds {value}, not a whole number"))
}
