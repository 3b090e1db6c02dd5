//! `wrong_operator`: a step of style M gets another operation and a false result; later steps go
//! on from that result, and the answer expression takes the new operation.

use super::{FlawOp, Flawed};
use crate::miniature::chain::{Chain, MAX_VALUE, Op, Step};
use idiolect_model::Rng;

/// Corrupts each step with probability `dose`.
///
/// A false result is drawn from the values that the next step, if it stays as it is, can go on
/// from; where there is none (`1 / 1`), that step keeps the result it had and is false too. The answer expression is written
/// anew from the steps, or kept where an earlier result is never used.
pub(super) fn corrupt(
    text: &str,
    mut chain: Chain,
    answer: &str,
    dose: f64,
    step_rng: impl Fn(usize) -> Rng,
) -> Flawed {
    let sources = chain.sources();
    let steps = chain.steps.len();
    let mut rngs: Vec<Rng> = (0..steps).map(step_rng).collect();
    let mask: Vec<bool> = rngs.iter_mut().map(|rng| rng.chance(dose)).collect();
    if !mask.contains(&true) {
        return Flawed {
            text: text.to_owned(),
            steps,
            flaws: Vec::new(),
        };
    }
    for at in 0..steps {
        let before = chain.steps[at];
        let step = fed(&chain, &sources, at);
        chain.steps[at] = if mask[at] {
            let follower =
                (at + 1..steps).find(|&later| !mask[later] && sources[later].contains(&Some(at)));
            let goes_on = |result: u32| {
                follower.is_none_or(|later| follows(&chain, &sources, at, result, later))
            };
            flawed_step(step, before.result, goes_on, &mut rngs[at])
        } else if (step.left, step.right) == (before.left, before.right) {
            before
        } else {
            Step::of(step.left, step.op, step.right).unwrap_or(step)
        };
    }
    let expression = chain
        .expression_from(&sources)
        .unwrap_or_else(|| answer.to_owned());
    let lead = &text[..text.len() - text.trim_start().len()];
    let flaws = (0..steps)
        .filter(|&at| mask[at])
        .map(|at| (at, FlawOp::WrongOperator))
        .collect();
    Flawed {
        text: format!("{lead}{chain} | ans {expression}"),
        steps,
        flaws,
    }
}

/// A step with the operands that earlier steps now give.
fn fed(chain: &Chain, sources: &[[Option<usize>; 2]], at: usize) -> Step {
    let step = chain.steps[at];
    let [left, right] = sources[at];
    let given = |source: Option<usize>, value| {
        source.map_or(value, |earlier: usize| chain.steps[earlier].result)
    };
    Step {
        left: given(left, step.left),
        right: given(right, step.right),
        ..step
    }
}

/// Whether step `later` can be computed when step `at` gives `result`.
fn follows(
    chain: &Chain,
    sources: &[[Option<usize>; 2]],
    at: usize,
    result: u32,
    later: usize,
) -> bool {
    let step = chain.steps[later];
    let [left, right] = sources[later];
    let given = |source, value| if source == Some(at) { result } else { value };
    Step::of(given(left, step.left), step.op, given(right, step.right)).is_some()
}

/// Another operation and a result that is neither its true one nor the one before: with a result
/// that goes on where some operation has one, else with any.
fn flawed_step(step: Step, before: u32, goes_on: impl Fn(u32) -> bool, rng: &mut Rng) -> Step {
    let is_false =
        |op: Op, result: u32| result != before && op.apply(step.left, step.right) != Some(result);
    let choices = |fits: &dyn Fn(u32) -> bool| -> Vec<(Op, Vec<u32>)> {
        let others = Op::ALL.into_iter().filter(|op| *op != step.op);
        let results = |op| {
            (0..=MAX_VALUE)
                .filter(|&r| is_false(op, r) && fits(r))
                .collect::<Vec<_>>()
        };
        others
            .map(|op| (op, results(op)))
            .filter(|(_, results)| !results.is_empty())
            .collect()
    };
    let mut possible = choices(&goes_on);
    if possible.is_empty() {
        possible = choices(&|_| true);
    }
    let (op, results) = &possible[rng.below(possible.len())];
    Step {
        op: *op,
        result: results[rng.below(results.len())],
        ..step
    }
}
