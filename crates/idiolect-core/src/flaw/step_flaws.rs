//! Corrupting a trace step by step, by operators of any kind.

use serde_json::{Value, json};

use super::pieces::Pieces;
use super::{
    FinalAnswer, FlawError, FlawOp, FlawSettings, contradicting_step, dropped_step,
    duplicated_step, equation, foreign_step, number_slip, off_by_one, operator_swap,
    renamed_variable, shuffled_steps, wrong_answer,
};
use crate::record::{Origin, OriginKind, Problem, StepCheck, Trace, Verdict};
use crate::task::{NoCode, Task, task};
use idiolect_model::Rng;

/// Draws after which a flaw that keeps coming out true is given up.
const MAX_DRAWS: usize = 16;

/// A flaw that was made.
struct Flaw {
    step: Option<usize>,
    op: FlawOp,
    check: Option<StepCheck>,
}

/// Programs are not run here: the answer of a code trace cannot be switched.
pub(super) fn corrupt(
    problem: &Problem,
    trace: &Trace,
    donors: &[&str],
    settings: &FlawSettings,
) -> Result<Trace, FlawError> {
    let dose = settings.dose;
    if !(0.0..=1.0).contains(&dose) {
        return Err(FlawError::Dose { dose });
    }
    let task = task(problem.task);
    let original = Pieces::of(&trace.text, &task.steps(problem, &trace.text));
    let mut pieces = original.clone();
    let steps = pieces.steps.len();
    let asked: Vec<FlawOp> = match settings.ops.as_slice() {
        [] => FlawOp::DEFAULT.to_vec(),
        ops => ops.to_vec(),
    };
    let of_steps: Vec<FlawOp> = asked
        .iter()
        .copied()
        .filter(|op| *op != FlawOp::WrongAnswer)
        .collect();
    let rng = |what: &str| Rng::keyed(settings.seed, &["flaw", &trace.id, what]);
    let mut flaws: Vec<Flaw> = Vec::new();
    let mut moved: Vec<usize> = Vec::new();
    for step in 0..steps {
        let mut rng = rng(&step.to_string());
        if !rng.chance(dose) {
            continue;
        }
        let Some(op) = rng.choose(&of_steps).copied() else {
            continue;
        };
        if op == FlawOp::ShuffledSteps {
            moved.push(step);
        } else if let Some(check) = flawed(problem, task, &mut pieces, step, op, donors, &mut rng) {
            flaws.push(Flaw {
                step: Some(step),
                op,
                check,
            });
        }
    }
    if !moved.is_empty() && shuffled_steps::apply(&mut pieces, &moved) {
        flaws.extend(moved.into_iter().map(|step| Flaw {
            step: Some(step),
            op: FlawOp::ShuffledSteps,
            check: None,
        }));
    }
    let wrong_asked = asked.contains(&FlawOp::WrongAnswer) && rng("answer").chance(dose);
    let is_right = |pieces: &Pieces| {
        task.verify(problem, &pieces.text(), trace.finish, &NoCode)
            .verdict
            == Verdict::Correct
    };
    match settings.answer {
        FinalAnswer::Right => {
            pieces.gaps = original.gaps;
            if !is_right(&pieces) {
                return Err(FlawError::Answer {
                    wanted: "right",
                    reason: "the parent's answer, put behind the flawed steps, is not",
                });
            }
        }
        FinalAnswer::Wrong if is_right(&pieces) => {
            flaws.push(answer_flaw(
                problem,
                task,
                trace,
                &mut pieces,
                settings.seed,
            )?);
        }
        FinalAnswer::AsItComes if wrong_asked => {
            flaws.push(answer_flaw(
                problem,
                task,
                trace,
                &mut pieces,
                settings.seed,
            )?);
        }
        FinalAnswer::Wrong | FinalAnswer::AsItComes => {}
    }
    flaws.sort_by_key(|flaw| (flaw.step.is_none(), flaw.step));
    Ok(annotated(trace, settings, steps, &pieces.text(), &flaws))
}

/// Flaws one step; `None` where the operator finds nothing to change in it, or only what stays true.
fn flawed(
    problem: &Problem,
    task: &dyn Task,
    pieces: &mut Pieces,
    at: usize,
    op: FlawOp,
    donors: &[&str],
    rng: &mut Rng,
) -> Option<Option<StepCheck>> {
    for _ in 0..MAX_DRAWS {
        let mut tried = pieces.clone();
        let done = match op {
            FlawOp::DroppedStep => dropped_step::apply(&mut tried, at),
            FlawOp::DuplicatedStep => duplicated_step::apply(&mut tried, at),
            FlawOp::ContradictingStep => contradicting_step::apply(&mut tried, at, rng),
            FlawOp::ForeignStep => foreign_step::apply(&mut tried, at, donors, rng),
            FlawOp::OffByOne => off_by_one::apply(&mut tried, at, rng),
            FlawOp::RenamedVariable => renamed_variable::apply(&mut tried, at, rng),
            FlawOp::NumberSlip => slipped(&mut tried, at, rng),
            FlawOp::WrongOperator | FlawOp::OperatorSwap => swapped(&mut tried, at, rng),
            FlawOp::ShuffledSteps | FlawOp::WrongAnswer => false,
        };
        if !done {
            return None;
        }
        let arithmetic = matches!(
            op,
            FlawOp::NumberSlip
                | FlawOp::OperatorSwap
                | FlawOp::WrongOperator
                | FlawOp::ContradictingStep
        );
        let check = arithmetic.then(|| worst(&task.steps(problem, &tried.steps[at])));
        if check != Some(StepCheck::Valid) {
            *pieces = tried;
            return Some(check);
        }
    }
    None
}

fn worst(steps: &[crate::record::Step]) -> StepCheck {
    let has = |check| steps.iter().any(|step| step.check == check);
    if has(StepCheck::Invalid) {
        StepCheck::Invalid
    } else if has(StepCheck::Valid) {
        StepCheck::Valid
    } else {
        StepCheck::Unchecked
    }
}

/// Another result in the step's first equation, taken up by everything behind it.
fn slipped(pieces: &mut Pieces, at: usize, rng: &mut Rng) -> bool {
    let step = pieces.steps[at].clone();
    let Some(equation) = equation::next(&step, 0) else {
        return false;
    };
    let old = step[equation.result.clone()].to_owned();
    let new = number_slip::slip(&old, rng);
    let carry = |text: &str| number_slip::replace_number(text, &old, &new);
    let head = &step[..equation.result.start];
    pieces.steps[at] = format!("{head}{new}{}", carry(&step[equation.result.end..]));
    for later in &mut pieces.steps[at + 1..] {
        *later = carry(later);
    }
    if let Some(tail) = pieces.gaps.last_mut() {
        *tail = carry(tail);
    }
    true
}

fn swapped(pieces: &mut Pieces, at: usize, rng: &mut Rng) -> bool {
    let Some(equation) = equation::next(&pieces.steps[at], 0) else {
        return false;
    };
    pieces.steps[at] = operator_swap::apply(&pieces.steps[at], &equation, rng).0;
    true
}

/// A final answer that verification calls wrong.
fn answer_flaw(
    problem: &Problem,
    task: &dyn Task,
    trace: &Trace,
    pieces: &mut Pieces,
    seed: u64,
) -> Result<Flaw, FlawError> {
    let mut rng = Rng::keyed(seed, &["flaw", &trace.id, "answer", "draw"]);
    for _ in 0..MAX_DRAWS {
        let mut tried = pieces.clone();
        if !wrong_answer::apply(&mut tried, &mut rng) {
            return Err(FlawError::Answer {
                wanted: "wrong",
                reason: "no number follows the last step",
            });
        }
        if task
            .verify(problem, &tried.text(), trace.finish, &NoCode)
            .verdict
            == Verdict::Wrong
        {
            *pieces = tried;
            return Ok(Flaw {
                step: None,
                op: FlawOp::WrongAnswer,
                check: None,
            });
        }
    }
    Err(FlawError::Answer {
        wanted: "wrong",
        reason: "no change of its last number is judged wrong",
    })
}

fn annotated(
    parent: &Trace,
    settings: &FlawSettings,
    steps: usize,
    text: &str,
    flaws: &[Flaw],
) -> Trace {
    let dose = settings.dose;
    let mask: Vec<usize> = flaws.iter().filter_map(|flaw| flaw.step).collect();
    let mut head = json!({"dose": dose, "steps": steps, "flawed": mask});
    if settings.answer != FinalAnswer::AsItComes {
        head["answer"] = json!(settings.answer);
    }
    let mut ops: Vec<Value> = vec![head];
    for flaw in flaws {
        let mut op = json!({"op": flaw.op, "dose": dose});
        if let Some(step) = flaw.step {
            op["step"] = json!(step);
        }
        if let Some(check) = flaw.check {
            op["check"] = json!(check);
        }
        ops.push(op);
    }
    let origin = Origin {
        kind: OriginKind::Flawed,
        model: parent.origin.model.clone(),
        sampling: None,
        parent: Some(parent.id.clone()),
        ops,
    };
    Trace::new(&parent.problem_id, text, parent.finish, origin)
}
