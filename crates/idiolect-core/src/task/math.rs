//! MATH: contest problems whose answer is any mathematical object.
//!
//! A raw row (of the published files; MATH-500 names `type` `subject` and adds `answer`):
//! ```json
//! {"problem": "What is the sum of the roots of $2x^2 - 3x + 1 = 0$?", "level": "Level 2", "type": "Algebra",
//!  "solution": "By Vieta's formulas the sum is $\\frac{3}{2}$, so the answer is $\\boxed{\\frac{3}{2}}$."}
//! ```
//! The answer is in the solution's last `\boxed{…}`. Two answers are compared by what they
//! mean: exact arithmetic first, then structure, and values at drawn points last; a verdict carries
//! the reason. What cannot be decided is `ungraded`, never wrong.

#[cfg(test)]
mod tests;

use idiolect_math::{Answered, Grade, Graded, grade, grade_response};
use serde_json::{Map, Value, json};

use super::import::{Fields, Parts, gold_text, kind_of};
use super::{Execute, ImportRow, Imported, Judgement, Task, reading, steps};
use crate::record::{Finish, Problem, Step, TaskName, Verdict};

/// The task.
pub(super) struct Math;

/// The answer that a whole response or solution comes to, as it is written there.
pub fn extract_answer(text: &str, finish: Finish) -> Option<String> {
    let part = reading::part_of(&Math, text)?;
    idiolect_math::extract(part, finish == Finish::Length)
}

impl From<Graded> for Judgement {
    fn from(graded: Graded) -> Self {
        Self {
            verdict: match graded.grade {
                Grade::Correct => Verdict::Correct,
                Grade::Wrong => Verdict::Wrong,
                Grade::NoAnswer => Verdict::NoAnswer,
                Grade::Ungraded => Verdict::Ungraded,
            },
            extracted: graded.extracted,
            reason: graded.reason,
            steps: Vec::new(),
            read: None,
        }
    }
}

/// Grades by the text of the gold, which may be `{"answer": …}`, a text or a number.
fn judged(gold: &Value, grade: impl Fn(&str) -> Graded) -> Judgement {
    match gold_text(gold) {
        Ok(text) => grade(&text).into(),
        Err(reason) => Judgement::ungraded(reason),
    }
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
            (Some(answer), _) => idiolect_math::stated(&answer).unwrap_or(answer),
            (None, Some(solution)) => idiolect_math::stated(solution)
                .ok_or("the solution states no answer: no `\\boxed{…}`, and no field `answer`")?,
            (None, None) => return Err("neither `solution` nor `answer`".to_owned()),
        };
        if idiolect_math::normal(&gold).is_empty() {
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
                include_str!("../../prompts/math/zero-shot.txt"),
            ),
            ("few-shot", include_str!("../../prompts/math/few-shot.txt")),
            ("paper", include_str!("../../prompts/math/paper.txt")),
            ("boxed", include_str!("../../prompts/math/boxed.txt")),
            (
                "paraphrase",
                include_str!("../../prompts/math/paraphrase.txt"),
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
        let cut_off = finish == Finish::Length;
        let judged = judged(&problem.gold, |gold| grade_response(gold, part, cut_off));
        Judgement {
            steps: self.check_steps(problem, part),
            ..judged
        }
    }

    fn judge_pair(&self, gold: &Value, part: &str, _code: &dyn Execute) -> Judgement {
        judged(gold, |gold| grade(gold, part))
    }

    fn check_steps(&self, _problem: &Problem, part: &str) -> Vec<Step> {
        steps::check_steps(part, is_answer)
    }

    fn answered(&self, text: &str) -> Answered {
        idiolect_math::answered(text)
    }
}

/// Whether a part of a text is the answer rather than a step.
fn is_answer(part: &str, _after_bar: bool) -> bool {
    part.starts_with("####") || part.starts_with("Final Answer") || part.starts_with("<answer>")
}
