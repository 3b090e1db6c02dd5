//! MBPP: short Python functions that must pass assertions.
//!
//! A raw row of the full set, and one of the sanitized set (the plus set adds `test`, a program):
//! ```json
//! {"text": "Write a python function to …", "code": "def f(n):\r\n  return n", "task_id": 11,
//!  "test_setup_code": "", "test_list": ["assert f(1) == 1"], "challenge_test_list": []}
//! {"prompt": "Write a python function to …", "code": "def f(n):\n  return n", "task_id": 11,
//!  "test_imports": ["import math"], "test_list": ["assert f(1) == 1"]}
//! ```
//! A response holds its code in fences of any form, between markers (`[BEGIN]` and `[DONE]`,
//! `[PYTHON]` and `[/PYTHON]`), or bare. Of several blocks the last that defines what the tests call
//! counts, with those that define what it uses; demonstrations and outputs stay out.
//!
//! A candidate is right if its code loads and no test raises. It runs as it was written (the
//! published scorers indent it, cut it at `class` or `def test`, or join it with the tests), as a
//! module of its own whose `__name__` is not `__main__`, and only through [`Execute`]; this file
//! starts nothing. An import that the code takes for granted (typing's names, the usual modules of
//! the standard library) is no fault: completion prompts show it above the code. One of a module
//! that is missing on this machine leaves the trace ungraded. Line ends of imported code are made
//! `\n`; the published file has both kinds.

mod bare;
mod blocks;
mod code;
mod python;

#[cfg(test)]
mod tests;

use std::ops::Range;

use serde_json::{Map, Value, json};

use super::import::{Fields, Parts, kind_of};
use super::{Answered, Execute, Execution, ImportRow, Imported, Judgement, Program, Task, steps};
use crate::record::{Finish, Problem, Split, Step, StepCheck, TaskName, Verdict};

/// The task.
pub(super) struct Mbpp;

/// What a gold object says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gold {
    setup: String,
    tests: Vec<String>,
}

impl Gold {
    /// Reads `{"tests":["assert …"],"setup":""}`, or a text of assertions.
    fn read(gold: &Value) -> Result<Self, String> {
        let (tests, setup) = match gold {
            Value::String(text) => (
                texts("gold", gold)?,
                if text.contains("assert") {
                    String::new()
                } else {
                    return Err("the gold holds no `assert`".to_owned());
                },
            ),
            Value::Object(object) => (
                texts(
                    "tests",
                    object.get("tests").ok_or("the gold has no `tests`")?,
                )?,
                match object.get("setup") {
                    None | Some(Value::Null) => String::new(),
                    Some(setup) => texts("setup", setup)?.join("\n"),
                },
            ),
            other => return Err(format!("the gold is {}, not tests", kind_of(other))),
        };
        if tests.iter().all(|test| test.trim().is_empty()) {
            return Err("the gold has no tests".to_owned());
        }
        Ok(Self { setup, tests })
    }
}

/// A text or a list of texts, with plain line ends.
fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(plain(text)),
        other => Err(format!("`{name}` holds {}, not text", kind_of(other))),
    };
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn plain(text: &str) -> String {
    text.replace("\r\n", "\n")
}

fn judged(verdict: Verdict, extracted: Option<String>, reason: String) -> Judgement {
    Judgement {
        verdict,
        extracted,
        reason,
        steps: Vec::new(),
        read: None,
    }
}

/// Finds the code of a response and runs it; with it where the code stands and the line of it that
/// failed.
fn judge(
    gold: Result<Gold, String>,
    text: &str,
    finish: Finish,
    execute: &dyn Execute,
) -> (Judgement, Option<code::Code>, Option<usize>) {
    let gold = match gold {
        Ok(gold) => gold,
        Err(reason) => return (judged(Verdict::Ungraded, None, reason), None, None),
    };
    let Some(found) = code::extract(text, finish, &python::called(&gold.tests)) else {
        let reason = match finish {
            Finish::Length => "cut off before the code was complete",
            _ => "no Python code",
        };
        return (
            judged(Verdict::NoAnswer, None, reason.to_owned()),
            None,
            None,
        );
    };
    let extracted = Some(found.text.clone());
    let ran = execute.execute(&Program {
        code: &found.text,
        setup: &gold.setup,
        tests: &gold.tests,
    });
    match ran {
        Execution::Passed => {
            let reason = match gold.tests.len() {
                1 => "passes its test".to_owned(),
                n => format!("passes all {n} tests"),
            };
            (
                judged(Verdict::Correct, extracted, reason),
                Some(found),
                None,
            )
        }
        Execution::Failed { reason, line } => {
            (judged(Verdict::Wrong, extracted, reason), Some(found), line)
        }
        Execution::NotJudged(reason) => (
            judged(Verdict::Ungraded, extracted, reason),
            Some(found),
            None,
        ),
    }
}

/// The steps of a response: each line of its code with a letter or digit, and the prose around it
/// as other tasks cut it. The line that failed is invalid; of the others nothing is known.
fn code_steps(text: &str, found: Option<&code::Code>, failed: Option<usize>) -> Vec<Step> {
    let mut lines: Vec<(usize, &Range<usize>)> =
        found.map_or_else(Vec::new, |found| found.lines.iter().enumerate().collect());
    lines.sort_by_key(|(_, line)| line.start);
    let mut all: Vec<Step> = Vec::new();
    let mut at = 0;
    let prose = |part: Range<usize>| {
        let by = part.start;
        steps::check_steps(&text[part], is_markup)
            .into_iter()
            .map(move |step| Step {
                start: step.start + by,
                end: step.end + by,
                ..step
            })
    };
    for (index, line) in lines {
        all.extend(prose(at..line.start));
        at = line.end;
        let code = &text[line.clone()];
        if code.contains(char::is_alphanumeric) {
            let start = line.end - code.trim_start().len();
            all.push(Step {
                start,
                end: start + code.trim().len(),
                check: if failed == Some(index + 1) {
                    StepCheck::Invalid
                } else {
                    StepCheck::Unchecked
                },
            });
        }
    }
    all.extend(prose(at..text.len()));
    all
}

/// Fences and markers are no steps.
fn is_markup(part: &str, _after_bar: bool) -> bool {
    let marker = blocks::is_marker(part);
    let fence = part.starts_with("```") || part.starts_with("~~~");
    marker || (fence && !part.trim_start_matches(['`', '~']).contains('`'))
}

/// The part that the data set's authors gave a row, by its number: the first ten are the few-shot
/// prompt's, so they enter neither arms nor evaluations.
fn published_split(task_id: &str) -> Option<Split> {
    match task_id.rsplit('/').next()?.parse().ok()? {
        1..=10u32 => Some(Split::Teacher),
        11..=510 => Some(Split::Test),
        511..=600 => Some(Split::Dev),
        601..=974 => Some(Split::Train),
        _ => None,
    }
}

impl Task for Mbpp {
    fn name(&self) -> TaskName {
        TaskName::Mbpp
    }

    fn version(&self) -> u32 {
        3
    }

    /// `test_list` and, in the plus set, `test` are the tests; `test_setup_code` or `test_imports`
    /// the setup; `code` the human solution. A row that does not tell its split has that of its
    /// number.
    fn import(&self, raw: &Map<String, Value>, at: &ImportRow) -> Result<Imported, String> {
        let mut fields = Fields::of(raw);
        let question = fields
            .take_text(&["question", "text", "prompt", "problem"])?
            .ok_or("no field `question`, `text` or `prompt`")?;
        if question.trim().is_empty() {
            return Err("`question` is empty".to_owned());
        }
        let human = fields.take_text(&["human", "code", "solution", "canonical_solution"])?;
        let gold = match fields.take(&["gold"]) {
            Some(gold) => Gold::read(&gold)?,
            None => {
                let mut tests = Vec::new();
                for name in ["tests", "test_list", "test"] {
                    if let Some(value) = fields.take(&[name]) {
                        tests.extend(texts(name, &value)?);
                    }
                }
                let mut setup = Vec::new();
                for name in ["setup", "test_imports", "test_setup_code"] {
                    if let Some(value) = fields.take(&[name]) {
                        setup.extend(texts(name, &value)?);
                    }
                }
                setup.retain(|part| !part.trim().is_empty());
                Gold::read(&json!({"tests": tests, "setup": setup.join("\n")}))
                    .map_err(|_| "no field `test_list` or `test` with a test".to_owned())?
            }
        };
        let number = fields.take_text(&["problem_id", "id", "task_id"])?;
        let split = number.as_deref().and_then(published_split);
        if let Some(number) = number {
            fields.set("id", &number);
        }
        let parts = Parts {
            task: TaskName::Mbpp,
            question: plain(question.trim()),
            gold: json!({"tests": gold.tests, "setup": gold.setup}),
            human: human.map(|code| plain(&code)),
            split,
        };
        fields.finish(at, parts)
    }

    fn prompt_files(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "zero-shot",
                include_str!("../../../prompts/mbpp/zero-shot.txt"),
            ),
            (
                "few-shot",
                include_str!("../../../prompts/mbpp/few-shot.txt"),
            ),
            ("paper", include_str!("../../../prompts/mbpp/paper.txt")),
            (
                "paraphrase",
                include_str!("../../../prompts/mbpp/paraphrase.txt"),
            ),
        ]
    }

    /// `{question}`, `{first_test}`, `{tests}` one a line.
    fn placeholders(&self, problem: &Problem) -> Result<Vec<(&'static str, String)>, String> {
        let gold = Gold::read(&problem.gold)?;
        let tests: Vec<&str> = gold.tests.iter().map(|test| test.trim()).collect();
        Ok(vec![
            ("question", problem.question.clone()),
            ("first_test", tests[0].to_owned()),
            ("tests", tests.join("\n")),
        ])
    }

    fn judge(
        &self,
        problem: &Problem,
        part: &str,
        finish: Finish,
        code: &dyn Execute,
    ) -> Judgement {
        let (judgement, found, failed) = judge(Gold::read(&problem.gold), part, finish, code);
        Judgement {
            steps: code_steps(part, found.as_ref(), failed),
            ..judgement
        }
    }

    fn judge_pair(&self, gold: &Value, part: &str, code: &dyn Execute) -> Judgement {
        judge(Gold::read(gold), part, Finish::Unknown, code).0
    }

    fn check_steps(&self, problem: &Problem, part: &str) -> Vec<Step> {
        let tests = Gold::read(&problem.gold).map_or_else(|_| Vec::new(), |gold| gold.tests);
        let found = code::extract(part, Finish::Unknown, &python::called(&tests));
        code_steps(part, found.as_ref(), None)
    }

    fn answered(&self, text: &str) -> Answered {
        match code::extract(text, Finish::Stop, &[]) {
            None if text.lines().any(binds_function) => Answered::Loosely,
            None => Answered::Nothing,
            Some(_) if blocks::sets_apart(text) => Answered::Closed,
            Some(_) => Answered::Loosely,
        }
    }
}

/// Whether a line is `NAME = lambda …`, a function that no `def` begins.
fn binds_function(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, value)| {
        let name = name.trim_end();
        !name.is_empty()
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            && value.trim_start().starts_with("lambda")
    })
}
