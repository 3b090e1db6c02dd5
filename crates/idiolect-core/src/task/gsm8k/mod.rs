//! GSM8K: grade-school word problems with a numeric answer.
//!
//! A raw row (of the published files and of the hub's parquet alike):
//! ```json
//! {"question": "Natalia sold clips to 48 of her friends in April, and then …",
//!  "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n… <<48+24=72>>72 clips …\n#### 72"}
//! ```
//! Answers are numbers and are compared as exact rationals: `18`, `$18.00` and `18 dollars` are one
//! answer, `0.33` beside `1/3` is ungraded. A percent sign counts as a unit. The benchmark's own string match is
//! in [`super::compat`].

mod answer;
mod numeral;
mod quantity;
mod spelling;
mod value;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use super::import::{Fields, Parts, gold_text};
use super::{Answered, Execute, ImportRow, Imported, Judgement, ROUNDED, Task, steps};
use crate::record::{Finish, Problem, Step, StepCheck, TaskName, Verdict};

pub use answer::{Found, extract, read_number};

use answer::Match;
use value::Value as Stated;

/// The task.
pub(super) struct Gsm8k;

/// What recomputation finds for each calculator annotation `<<a=b>>` of a solution, in order.
pub fn check_annotations(solution: &str) -> Vec<StepCheck> {
    steps::annotations(solution)
        .map(steps::check_annotation)
        .collect()
}

/// Judges what was found in a response.
fn judge(gold: &Found, found: Option<Found>, finish: Finish) -> Judgement {
    let Some(found) = found else {
        let reason = match finish {
            Finish::Length => "cut off before a complete answer",
            _ => "no number in the response",
        };
        return Judgement {
            verdict: Verdict::NoAnswer,
            extracted: None,
            reason: reason.to_owned(),
            steps: Vec::new(),
            read: None,
        };
    };
    let matches = found.compare(gold);
    let rounded = found.is_rounded(gold);
    let (extracted, gold) = (found.to_string(), gold.to_string());
    let form = found.form;
    let (verdict, reason) = match (&found.value, matches) {
        (Stated::Unread, _) => {
            let reason = format!("`{extracted}` cannot be read as a number ({form})");
            (Verdict::NoAnswer, reason)
        }
        (_, Match::Equal) if found.written.trim() == gold => {
            (Verdict::Correct, format!("{extracted} ({form})"))
        }
        (_, Match::Equal) => (
            Verdict::Correct,
            format!("{} = {gold} exactly ({form})", found.written),
        ),
        (_, Match::Possible) => (
            Verdict::Ungraded,
            format!(
                "`{}` may or may not be meant as {gold} ({form})",
                found.written
            ),
        ),
        (Stated::Several, Match::Different) => (
            Verdict::Wrong,
            format!("`{extracted}` is no single number ({form})"),
        ),
        (Stated::One { .. }, Match::Different) if rounded => (
            Verdict::Ungraded,
            format!("{} ({extracted} for {gold}, {form})", ROUNDED),
        ),
        (Stated::One { .. }, Match::Different) => (
            Verdict::Wrong,
            format!("{extracted} is not {gold} ({form})"),
        ),
    };
    Judgement {
        verdict,
        extracted: (found.value != Stated::Unread).then_some(extracted),
        reason,
        steps: Vec::new(),
        read: None,
    }
}

/// The gold number of `{"answer":"18"}`, of a bare answer or of a whole solution.
fn gold_of(gold: &Value) -> Result<Found, String> {
    let text = gold_text(gold)?;
    gold_in(&text).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        match text.contains(char::is_numeric) {
            true => format!("the gold `{shown}` is no single number"),
            false => format!("the gold `{shown}` holds no number"),
        }
    })
}

/// The gold number of a bare answer or a whole solution. It must be one number and state so: a gold
/// that is misread mislabels every trace of its problem.
fn gold_in(text: &str) -> Option<Found> {
    if let Some(line) = answer::hashes_line(text) {
        return answer::single(line, "after ####");
    }
    read_number(text)
        .or_else(|| answer::single(text, "the answer itself"))
        .or_else(|| answer::in_form(text, false).filter(Found::is_single))
}

/// The number of a bare answer or of a whole response.
fn answer_of(text: &str) -> Option<Found> {
    read_number(text).or_else(|| extract(text, Finish::Unknown))
}

impl Task for Gsm8k {
    fn name(&self) -> TaskName {
        TaskName::Gsm8k
    }

    fn version(&self) -> u32 {
        3
    }

    /// `answer` is the whole solution with its `####` line, or a bare answer; `gold` may stand in for
    /// it.
    fn import(&self, raw: &Map<String, Value>, at: &ImportRow) -> Result<Imported, String> {
        let mut fields = Fields::of(raw);
        let question = fields
            .take_text(&["question", "problem"])?
            .ok_or("no field `question`")?;
        if question.trim().is_empty() {
            return Err("`question` is empty".to_owned());
        }
        let solution = fields.take_text(&["human", "solution"])?;
        let answer = match fields.take(&["answer", "gold"]) {
            Some(value) => value,
            None => Value::String(solution.clone().ok_or("no field `answer`")?),
        };
        let gold = gold_of(&answer)?;
        let human = solution.or_else(|| match answer {
            Value::String(text) if text.contains("####") => Some(text),
            _ => None,
        });
        let parts = Parts {
            task: TaskName::Gsm8k,
            question,
            gold: json!({"answer": gold.to_string()}),
            human,
            split: None,
        };
        fields.finish(at, parts)
    }

    fn prompt_files(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "zero-shot",
                include_str!("../../../prompts/gsm8k/zero-shot.txt"),
            ),
            (
                "few-shot",
                include_str!("../../../prompts/gsm8k/few-shot.txt"),
            ),
            ("plain", include_str!("../../../prompts/gsm8k/plain.txt")),
            (
                "paraphrase",
                include_str!("../../../prompts/gsm8k/paraphrase.txt"),
            ),
            ("mini", include_str!("../../../prompts/gsm8k/mini.txt")),
            (
                "mini-paraphrase",
                include_str!("../../../prompts/gsm8k/mini-paraphrase.txt"),
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
            Err(reason) => Judgement::ungraded(reason),
            Ok(gold) => judge(&gold, extract(part, finish), finish),
        };
        Judgement {
            steps: self.check_steps(problem, part),
            ..judged
        }
    }

    fn judge_pair(&self, gold: &Value, part: &str, _code: &dyn Execute) -> Judgement {
        match gold_of(gold) {
            Err(reason) => Judgement::ungraded(reason),
            Ok(gold) => judge(&gold, answer_of(part), Finish::Unknown),
        }
    }

    fn check_steps(&self, _problem: &Problem, part: &str) -> Vec<Step> {
        steps::check_steps(part, answer::is_answer)
    }

    fn answered(&self, text: &str) -> Answered {
        answer::answered(text)
    }
}
