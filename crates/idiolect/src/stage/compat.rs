//! What a public scorer states of an answer, as a second, labelled verdict. It decides no arm.

use idiolect_core::record::{TaskName, Verdict};
use idiolect_core::task::compat::{countdown_paper, gsm8k_em, math_paper, math_verify};
use serde::Serialize;
use serde_json::Value;

use super::StageError;

/// A public scorer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// The paper's scorers: of Countdown; of MATH and GSM8K.
    Paper,
    /// The math-verify library.
    MathVerify,
    /// GSM8K's exact match.
    Gsm8kEm,
}

/// Its verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CompatVerdict {
    scorer: Compat,
    verdict: Verdict,
    /// The number it gives, where it gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

impl Compat {
    /// Says so when it cannot judge one of the tasks.
    pub fn judges_all(self, tasks: impl IntoIterator<Item = TaskName>) -> Result<(), StageError> {
        let (name, own): (_, &[TaskName]) = match self {
            Self::Paper => (
                "paper",
                &[TaskName::Countdown, TaskName::Math, TaskName::Gsm8k],
            ),
            Self::MathVerify => ("math-verify", &[TaskName::Math, TaskName::Gsm8k]),
            Self::Gsm8kEm => ("gsm8k-em", &[TaskName::Gsm8k]),
        };
        match tasks.into_iter().find(|task| !own.contains(task)) {
            None => Ok(()),
            Some(other) => {
                let own: Vec<&str> = own.iter().map(|task| task.as_str()).collect();
                Err(StageError::usage(
                    format!(
                        "--compat {name} judges {}, and there is a problem of {other}",
                        own.join(", ")
                    ),
                    "leave --compat out, or give problems of those tasks alone",
                ))
            }
        }
    }

    /// What it states of an answer; `ungraded` where it cannot use the gold.
    pub fn judge(self, gold: &Value, answer: &str) -> CompatVerdict {
        let (verdict, score) = match self {
            Self::Paper if gold.get("numbers").is_some() || gold.get("target").is_some() => {
                paper(gold, answer)
            }
            Self::Paper => (by_text(gold, answer, math_paper), None),
            Self::MathVerify => (by_text(gold, answer, math_verify), None),
            Self::Gsm8kEm => (exact_match(gold, answer), None),
        };
        CompatVerdict {
            scorer: self,
            verdict,
            score,
        }
    }
}

fn paper(gold: &Value, answer: &str) -> (Verdict, Option<f64>) {
    let numbers = gold.get("numbers").and_then(Value::as_array);
    let numbers: Option<Vec<i64>> =
        numbers.and_then(|list| list.iter().map(Value::as_i64).collect());
    let (Some(numbers), Some(target)) = (numbers, gold.get("target")) else {
        return (Verdict::Ungraded, None);
    };
    let score = countdown_paper(answer, &numbers, target);
    let verdict = if score >= 1.0 {
        Verdict::Correct
    } else if score > 0.0 {
        Verdict::Wrong
    } else {
        Verdict::NoAnswer
    };
    (verdict, Some(score))
}

/// A scorer of texts that states nothing where it reads no answer.
fn by_text(gold: &Value, answer: &str, scorer: fn(&str, &str) -> Option<bool>) -> Verdict {
    let gold = match gold.get("answer").unwrap_or(gold) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match scorer(&gold, answer) {
        Some(true) => Verdict::Correct,
        Some(false) => Verdict::Wrong,
        // A gold that does not equal itself is one that the scorer cannot read.
        None if scorer(&gold, &gold).is_none() => Verdict::Ungraded,
        None => Verdict::NoAnswer,
    }
}

fn exact_match(gold: &Value, answer: &str) -> Verdict {
    let gold = match gold.get("answer").unwrap_or(gold) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Our gold object holds the bare number; the scorer reads what follows the mark.
    let gold = if gold.contains("#### ") {
        gold
    } else {
        format!("#### {gold}")
    };
    match gsm8k_em(&gold, answer) {
        None => Verdict::Ungraded,
        Some(true) => Verdict::Correct,
        // An answer that equals itself has one that the scorer can read.
        Some(false) if gsm8k_em(answer, answer).is_some() => Verdict::Wrong,
        Some(false) => Verdict::NoAnswer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_papers_scores_are_verdicts() {
        let gold = json!({"numbers": [1, 2, 3], "target": 1});
        let judged = |answer| Compat::Paper.judge(&gold, answer);
        assert_eq!(
            judged("<answer> (1 + 2) / 3 </answer>").verdict,
            Verdict::Correct
        );
        let wrong = judged("<answer> 1 + 2 + 3 </answer>");
        assert_eq!((wrong.verdict, wrong.score), (Verdict::Wrong, Some(0.5)));
        assert_eq!(judged("none").verdict, Verdict::NoAnswer);
        let no_numbers = json!({"target": 1});
        assert_eq!(
            Compat::Paper.judge(&no_numbers, "1").verdict,
            Verdict::Ungraded
        );
    }

    #[test]
    fn exact_match_needs_the_mark() {
        let judged = |answer| {
            Compat::Gsm8kEm
                .judge(&json!({"answer": "18"}), answer)
                .verdict
        };
        assert_eq!(judged("so #### 18"), Verdict::Correct);
        assert_eq!(judged("so #### 18.0"), Verdict::Wrong);
        assert_eq!(judged("the answer is 18"), Verdict::NoAnswer);
    }

    #[test]
    fn math_verify_rounds_and_leaves_out_what_it_cannot_read() {
        let judged = |gold: &str, answer: &str| {
            Compat::MathVerify
                .judge(&json!({"answer": gold}), answer)
                .verdict
        };
        assert_eq!(judged("\\frac{1}{3}", "so $0.333333$"), Verdict::Correct);
        assert_eq!(judged("(1,2)", "$1 < x < 2$"), Verdict::Wrong);
        assert_eq!(judged("24", "I cannot solve this"), Verdict::NoAnswer);
    }

    #[test]
    fn a_scorer_of_another_task_is_wrong_use() {
        assert!(Compat::Paper.judges_all([TaskName::Countdown]).is_ok());
        let words = Compat::Paper
            .judges_all([TaskName::Mbpp])
            .unwrap_err()
            .to_string();
        assert!(
            words.contains("paper judges countdown, math, gsm8k"),
            "{words}"
        );
    }
}
