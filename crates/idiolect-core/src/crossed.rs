//! Crossed traces: copies of a trace that change one thing of it and keep the rest.
//!
//! A trace that a teacher got wrong differs from one that it got right in its answer, in how it got
//! there and in what kind of problem it is. To tell which of them teaches, each is changed alone:
//!
//! - [`answer_only`] keeps the final answer and leaves the steps out;
//! - [`unrelated_steps`] keeps the final answer and puts a content control's steps before it;
//! - [`in_human_style`] keeps the chain of a generated world's trace, its answer as written, and tells
//!   it as that world's people do.
//!
//! Flawed steps with the answer kept, and kept steps with a wrong answer, are [`crate::flaw`]'s.

use serde_json::json;

use crate::flaw::Pieces;
use crate::miniature::chain::Chain;
use crate::miniature::prose::{self, Numerals};
use crate::miniature::stories;
use crate::record::{Finish, Origin, OriginKind, Problem, TaskName, Trace, Verdict};
use crate::task::{Judgement, NoCode, Task, task};
use idiolect_model::Rng;

/// The operation in the origin of an [`answer_only`].
pub const ANSWER_ONLY: &str = "answer_only";
/// The operation in the origin of [`unrelated_steps`].
pub const RIGHT_ANSWER: &str = "right_answer";
/// The operation in the origin of a trace [`in_human_style`].
pub const HUMAN_STYLE: &str = "human_style";

/// Why a trace has no crossed copy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CrossedError {
    /// The answer of a program is the program.
    #[error("`{id}`: a program has no answer apart from itself")]
    Program {
        /// The problem.
        id: String,
    },
    /// Nothing of the text is read as its answer when it stands alone.
    #[error("`{id}`: the answer cannot be told apart from the steps: {reason}")]
    Answer {
        /// The problem.
        id: String,
        /// What verification made of the text, or of the answer alone.
        reason: String,
    },
    /// The answer to keep behind other steps is not right.
    #[error("`{id}`: the answer is not right ({reason}); give traces that were verified correct")]
    NotRight {
        /// The problem.
        id: String,
        /// What verification found.
        reason: String,
    },
    /// Only chains of a generated world have another style.
    #[error(
        "`{id}`: the trace is no chain of a generated world that its people can tell: of Countdown two steps `3 * 7 = 21 ; … | ans …`, of stories `12 + 5 = 17 ; … | #### …`"
    )]
    Style {
        /// The problem.
        id: String,
    },
}

/// The trace's final answer alone, as the text behind its last step writes it, else in the task's own
/// form (`#### 72`, `\boxed{72}`, `<answer>…</answer>`). It is read as the trace's own answer.
///
/// # Errors
/// Of a program; of a trace without a readable answer.
pub fn answer_only(problem: &Problem, trace: &Trace) -> Result<Trace, CrossedError> {
    let judged = judged(problem, &trace.text, trace.finish);
    let answer = answer_text(problem, trace, &judged)?;
    let space = &trace.text[..trace.text.len() - trace.text.trim_start().len()];
    let text = format!("{space}{}", answer.trim_start());
    let mut origin = Origin::of(OriginKind::Control);
    origin.model.clone_from(&trace.origin.model);
    origin.parent = Some(trace.id.clone());
    origin.ops.push(json!({"op": ANSWER_ONLY}));
    Ok(Trace::new(&problem.id, &text, Finish::Stop, origin))
}

/// The steps of a content control of the trace with the trace's right answer behind them.
///
/// # Errors
/// Of a program; of a trace whose answer is not right, or whose answer is not read behind those steps.
pub fn unrelated_steps(
    problem: &Problem,
    trace: &Trace,
    control: &Trace,
) -> Result<Trace, CrossedError> {
    let own = judged(problem, &trace.text, trace.finish);
    if own.verdict != Verdict::Correct {
        return Err(CrossedError::NotRight {
            id: problem.id.clone(),
            reason: own.reason,
        });
    }
    let answer = answer_text(problem, trace, &own)?;
    let mut pieces = Pieces::of(
        &control.text,
        &solver(problem).steps(problem, &control.text),
    );
    if let Some(tail) = pieces.gaps.last_mut() {
        *tail = answer;
    }
    let text = pieces.text();
    let found = judged(problem, &text, Finish::Stop);
    if found.verdict != Verdict::Correct {
        return Err(CrossedError::Answer {
            id: problem.id.clone(),
            reason: found.reason,
        });
    }
    let mut origin = Origin::of(OriginKind::Control);
    origin.model.clone_from(&control.origin.model);
    origin.parent = Some(trace.id.clone());
    origin.ops.push(json!({"op": RIGHT_ANSWER}));
    origin.ops.extend(control.origin.ops.iter().cloned());
    Ok(Trace::new(&problem.id, &text, Finish::Stop, origin))
}

/// The trace's chain as the people of its generated world tell it, step for step, right or wrong as
/// it is, with the answer as the trace writes it. `seed` decides phrasings.
///
/// # Errors
/// A text that is no such chain.
pub fn in_human_style(problem: &Problem, trace: &Trace, seed: u64) -> Result<Trace, CrossedError> {
    let mut rng = Rng::keyed(seed, &["human style", &problem.id, &trace.id]);
    let prose = match problem.task {
        TaskName::Countdown => Chain::parse(&trace.text).and_then(|(chain, answer)| {
            prose::human_with(&chain, &answer, Numerals::Words, &mut rng)
        }),
        TaskName::Gsm8k => stories::retold(&trace.text, &mut rng),
        TaskName::Math | TaskName::Mbpp => None,
    };
    let prose = prose.ok_or_else(|| CrossedError::Style {
        id: problem.id.clone(),
    })?;
    let mut origin = Origin::of(OriginKind::Paraphrased);
    origin.model.clone_from(&trace.origin.model);
    origin.parent = Some(trace.id.clone());
    origin.ops.push(json!({"op": HUMAN_STYLE}));
    // Follows its prompt like every completion of the world: behind a space.
    let text = format!(" {prose}");
    Ok(Trace::new(&problem.id, &text, trace.finish, origin))
}

fn solver(problem: &Problem) -> &'static dyn Task {
    task(problem.task)
}

/// Programs are not run here: their answers are not asked for.
fn judged(problem: &Problem, text: &str, finish: Finish) -> Judgement {
    solver(problem).verify(problem, text, finish, &NoCode)
}

/// The part of a text that states its answer, with what separates it from the steps.
fn answer_text(
    problem: &Problem,
    trace: &Trace,
    judged: &Judgement,
) -> Result<String, CrossedError> {
    if problem.task == TaskName::Mbpp {
        return Err(CrossedError::Program {
            id: problem.id.clone(),
        });
    }
    let Some(extracted) = &judged.extracted else {
        return Err(CrossedError::Answer {
            id: problem.id.clone(),
            reason: judged.reason.clone(),
        });
    };
    let pieces = Pieces::of(&trace.text, &solver(problem).steps(problem, &trace.text));
    let behind = pieces.gaps.last().cloned().unwrap_or_default();
    let form = match problem.task {
        TaskName::Math => format!("\n\\boxed{{{extracted}}}"),
        TaskName::Countdown => format!("\n<answer>{extracted}</answer>"),
        TaskName::Gsm8k | TaskName::Mbpp => format!("\n#### {extracted}"),
    };
    let mut reason = String::new();
    for text in [behind, form] {
        let alone = self::judged(problem, &text, Finish::Stop);
        if alone.verdict == judged.verdict && alone.extracted == judged.extracted {
            return Ok(text);
        }
        reason = alone.reason;
    }
    Err(CrossedError::Answer {
        id: problem.id.clone(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control;
    use crate::miniature::stories::{StorySettings, StoryWorld};
    use crate::miniature::{World, WorldSettings};
    use crate::record::StepCheck;

    fn sampled(problem: &Problem, text: &str) -> Trace {
        let origin = Origin::of(OriginKind::Sampled);
        Trace::new(&problem.id, text, Finish::Stop, origin)
    }

    fn problem(task: &str, gold: &str) -> Problem {
        let text =
            format!(r#"{{"id":"p","task":"{task}","question":"q","gold":{gold},"split":"train"}}"#);
        serde_json::from_str(&text).unwrap()
    }

    fn countdown() -> (Problem, Trace) {
        let problem = problem("countdown", r#"{"numbers":[3,7,2],"target":19}"#);
        let trace = sampled(&problem, " 3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2");
        (problem, trace)
    }

    fn verdict(problem: &Problem, trace: &Trace) -> Verdict {
        judged(problem, &trace.text, trace.finish).verdict
    }

    #[test]
    fn an_answer_alone_is_what_stands_behind_the_last_step() {
        let (problem, trace) = countdown();
        let alone = answer_only(&problem, &trace).unwrap();
        assert_eq!(alone.text, " | ans ( 3 * 7 ) - 2");
        assert_eq!(verdict(&problem, &alone), Verdict::Correct);
        assert_eq!(alone.origin.parent.as_ref(), Some(&trace.id));
        // Of a wrong trace it is wrong.
        let wrong = sampled(&problem, " 3 * 7 = 21 ; 21 + 2 = 23 | ans ( 3 * 7 ) + 2");
        let alone = answer_only(&problem, &wrong).unwrap();
        assert_eq!(verdict(&problem, &alone), Verdict::Wrong);
    }

    #[test]
    fn an_answer_within_the_last_step_takes_the_tasks_form() {
        for (task, gold, text, expected) in [
            (
                "gsm8k",
                r#"{"answer":"72"}"#,
                "Half of 48 is 24. So 48 + 24 = 72.\n#### 72",
                "#### 72",
            ),
            (
                "gsm8k",
                r#"{"answer":"72"}"#,
                "Half of 48 is 24.\nThe answer is 72.",
                "#### 72",
            ),
            (
                "math",
                r#"{"answer":"\\frac{1}{2}"}"#,
                "We add and get $\\boxed{\\frac{1}{2}}$.",
                "\\boxed{\\frac{1}{2}}",
            ),
        ] {
            let problem = problem(task, gold);
            let alone = answer_only(&problem, &sampled(&problem, text)).unwrap();
            assert!(alone.text.contains(expected), "{text}: {}", alone.text);
            assert!(!alone.text.contains("Half"), "{}", alone.text);
            assert_eq!(verdict(&problem, &alone), Verdict::Correct, "{text}");
        }
    }

    #[test]
    fn what_has_no_answer_of_its_own_is_said() {
        let (problem, _) = countdown();
        let silent = sampled(&problem, " 3 * 7 = 21 ;");
        let reason = answer_only(&problem, &silent).unwrap_err().to_string();
        assert!(reason.contains("cannot be told apart"), "{reason}");
        let program = self::problem("mbpp", r#"{"tests":["assert f(1) == 1"],"setup":""}"#);
        let code = sampled(&program, "def f(x):\n    return x");
        assert_eq!(
            answer_only(&program, &code),
            Err(CrossedError::Program { id: "p".to_owned() })
        );
        let wrong = sampled(&problem, " 3 * 7 = 21 ; 21 + 2 = 23 | ans ( 3 * 7 ) + 2");
        let reason = unrelated_steps(&problem, &wrong, &wrong).unwrap_err();
        assert!(reason.to_string().contains("verified correct"), "{reason}");
    }

    #[test]
    fn a_right_answer_stands_behind_a_random_chain() {
        let (problem, trace) = countdown();
        let control = control::random_chain(&problem, &trace.id, 0).unwrap();
        let crossed = unrelated_steps(&problem, &trace, &control).unwrap();
        let steps = |text: &str| text.split('|').next().unwrap_or_default().to_owned();
        assert_eq!(steps(&crossed.text), steps(&control.text));
        assert!(
            crossed.text.ends_with("| ans ( 3 * 7 ) - 2"),
            "{}",
            crossed.text
        );
        assert_eq!(verdict(&problem, &crossed), Verdict::Correct);
        assert_eq!(verdict(&problem, &control), Verdict::Wrong);
        // Of free text the steps are another problem's.
        let problem = self::problem("gsm8k", r#"{"answer":"72"}"#);
        let trace = sampled(&problem, "48 / 2 = 24\n48 + 24 = 72\n#### 72");
        let donor = Trace {
            problem_id: "other".to_owned(),
            ..sampled(&problem, "5 * 3 = 15\n15 - 1 = 14\n#### 14")
        };
        let control = control::borrowed(&trace, Some(&donor)).unwrap();
        let crossed = unrelated_steps(&problem, &trace, &control).unwrap();
        assert_eq!(crossed.text, "5 * 3 = 15\n15 - 1 = 14\n#### 72");
    }

    #[test]
    fn a_chain_is_told_in_the_human_style_right_or_wrong() {
        let (problem, trace) = countdown();
        let told = in_human_style(&problem, &trace, 0).unwrap();
        assert!(
            told.text.starts_with(' ') && told.text.contains("twenty one"),
            "{}",
            told.text
        );
        assert!(told.text.ends_with(" | ans ( 3 * 7 ) - 2"));
        assert_eq!(verdict(&problem, &told), Verdict::Correct);
        // A false step and an answer that is not the chain's stay as they are.
        let wrong = sampled(&problem, " 3 * 7 = 20 ; 20 - 2 = 18 | ans 3 + 7 + 2");
        let told = in_human_style(&problem, &wrong, 0).unwrap();
        assert!(told.text.contains("eighteen") && told.text.ends_with(" | ans 3 + 7 + 2"));
        assert_eq!(verdict(&problem, &told), Verdict::Wrong);
        let own_words = sampled(&problem, "I would multiply first.");
        assert!(matches!(
            in_human_style(&problem, &own_words, 0),
            Err(CrossedError::Style { .. })
        ));
    }

    #[test]
    fn every_solution_of_both_worlds_is_retold_with_its_verdict() {
        let world = World::new(WorldSettings::tiny()).unwrap();
        let stories = StoryWorld::new(StorySettings::tiny()).unwrap();
        let solved = world.problems().into_iter().map(|problem| {
            let numbers: Vec<u32> =
                serde_json::from_value(problem.gold["numbers"].clone()).unwrap();
            let chains = crate::miniature::chain::chains_of(numbers.try_into().unwrap());
            let target = problem.gold["target"].as_u64();
            let chain = chains
                .into_iter()
                .find(|chain| chain.result().map(u64::from) == target)
                .unwrap();
            let text = format!(" {}", chain.text().unwrap());
            (problem, text)
        });
        for (problem, text) in solved.chain(stories.solutions()) {
            let trace = sampled(&problem, &text);
            assert_eq!(verdict(&problem, &trace), Verdict::Correct, "{text}");
            let told = in_human_style(&problem, &trace, 1).unwrap();
            assert_eq!(verdict(&problem, &told), Verdict::Correct, "{}", told.text);
            let checks = solver(&problem).steps(&problem, &told.text);
            assert!(checks.iter().all(|step| step.check != StepCheck::Invalid));
            assert_ne!(told.text, trace.text);
        }
    }
}
