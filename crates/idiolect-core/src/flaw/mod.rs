//! Flaw operators: traces with a known fraction of their steps made wrong.
//!
//! Every step of a trace is corrupted with probability `dose` by one of the operators that apply
//! to the text. A step's draws are keyed by seed, trace and step and not by the dose, so the steps
//! that a dose corrupts are corrupted alike at every higher dose: a dose curve compares like with
//! like. What comes out unchanged is kept: it has its parent's id and is known by its origin.
//!
//! Recipe and doses of the paper (arXiv 2512.22255) are unknown; the operators are our own.

mod code;
mod contradicting_step;
mod dropped_step;
mod duplicated_step;
mod equation;
mod foreign_step;
mod number_slip;
mod off_by_one;
mod operator_swap;
mod pieces;
mod renamed_variable;
mod shuffled_steps;
mod step_flaws;
mod wrong_answer;
mod wrong_operator;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(crate) use self::pieces::Pieces;

use crate::miniature::chain::Chain;
use crate::record::{Origin, OriginKind, Problem, Trace};
use idiolect_model::Rng;

/// What can be done to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlawOp {
    /// Another operation and a false result, carried into later steps and the answer: style M.
    WrongOperator,
    /// Another operation in an equation of free text; the stated result stays.
    OperatorSwap,
    /// A false result in an equation of free text, carried into the rest of the text.
    NumberSlip,
    /// A step left out.
    DroppedStep,
    /// Steps in each other's places.
    ShuffledSteps,
    /// A step that is written twice.
    DuplicatedStep,
    /// A step followed by its contradiction.
    ContradictingStep,
    /// A step of another problem's trace.
    ForeignStep,
    /// Another final answer, every step as it was.
    WrongAnswer,
    /// A comparison or number of a line of code, one off.
    OffByOne,
    /// One use of a variable in a line of code, named as another.
    RenamedVariable,
}

impl FlawOp {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::WrongOperator,
        Self::OperatorSwap,
        Self::NumberSlip,
        Self::DroppedStep,
        Self::ShuffledSteps,
        Self::DuplicatedStep,
        Self::ContradictingStep,
        Self::ForeignStep,
        Self::WrongAnswer,
        Self::OffByOne,
        Self::RenamedVariable,
    ];
    /// Those that a dose draws from where none are named.
    const DEFAULT: [Self; 3] = [Self::WrongOperator, Self::OperatorSwap, Self::NumberSlip];

    /// The name in origins and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongOperator => "wrong_operator",
            Self::OperatorSwap => "operator_swap",
            Self::NumberSlip => "number_slip",
            Self::DroppedStep => "dropped_step",
            Self::ShuffledSteps => "shuffled_steps",
            Self::DuplicatedStep => "duplicated_step",
            Self::ContradictingStep => "contradicting_step",
            Self::ForeignStep => "foreign_step",
            Self::WrongAnswer => "wrong_answer",
            Self::OffByOne => "off_by_one",
            Self::RenamedVariable => "renamed_variable",
        }
    }
}

impl fmt::Display for FlawOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FlawOp {
    type Err = FlawError;

    fn from_str(text: &str) -> Result<Self, FlawError> {
        let found = Self::ALL.into_iter().find(|op| op.as_str() == text);
        found.ok_or_else(|| FlawError::UnknownOp {
            name: text.to_owned(),
        })
    }
}

/// How to corrupt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlawSettings {
    /// Probability that a step is corrupted, 0 to 1.
    pub dose: f64,
    /// Operators to draw from; empty: every operator that applies to the text.
    #[serde(default)]
    pub ops: Vec<FlawOp>,
    /// What becomes of the final answer, whatever becomes of the steps.
    #[serde(default, skip_serializing_if = "FinalAnswer::is_as_it_comes")]
    pub answer: FinalAnswer,
    /// Decides which steps and how.
    #[serde(default)]
    pub seed: u64,
}

/// The final answer of a flawed trace: a switch of its own, so that flawed steps and a wrong answer
/// can be distinguished.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FinalAnswer {
    /// What the flawed steps lead to.
    #[default]
    AsItComes,
    /// The parent's, which must be right.
    Right,
    /// A wrong one.
    Wrong,
}

impl FinalAnswer {
    fn is_as_it_comes(&self) -> bool {
        *self == Self::AsItComes
    }
}

/// Why a trace cannot be corrupted as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FlawError {
    /// A name of no operator.
    #[error("no flaw operator `{name}`; there are {}", FlawOp::ALL.map(FlawOp::as_str).join(", "))]
    UnknownOp {
        /// As given.
        name: String,
    },
    /// A dose that is no probability.
    #[error("the dose `{dose}` is not between 0 and 1")]
    Dose {
        /// As given.
        dose: f64,
    },
    /// The final answer cannot be made what was asked.
    #[error("the final answer cannot be made {wanted}: {reason}")]
    Answer {
        /// `right` or `wrong`.
        wanted: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// None of the operators asked for can read the text.
    #[error(
        "`{ops}` cannot corrupt this trace: wrong_operator works on `3 * 7 = 21 ; … | ans …`, the others on free text; leave the operators out to choose by the text"
    )]
    NotApplicable {
        /// Those asked for.
        ops: String,
    },
}

/// A copy of a problem's trace with each step corrupted with probability `dose` by any of the
/// operators, and with the final answer that is asked for. `donors` are steps of other problems'
/// traces, for `foreign_step`.
///
/// As [`corrupt`], and every flaw of an equation carries what the step checker found of it
/// (`"check":"invalid"`): one that came out true by accident is drawn again, or left out.
///
/// # Errors
/// As [`corrupt`]; an answer that cannot be made what is asked.
pub fn corrupt_problem(
    problem: &Problem,
    trace: &Trace,
    donors: &[&str],
    settings: &FlawSettings,
) -> Result<Trace, FlawError> {
    let plain = settings.ops.iter().all(|op| FlawOp::DEFAULT.contains(op));
    if plain && settings.answer == FinalAnswer::AsItComes {
        return corrupt(trace, settings);
    }
    step_flaws::corrupt(problem, trace, donors, settings)
}

/// A copy of a trace with each step corrupted with probability `dose` by operators of equations.
///
/// `origin.ops` opens with `{"dose":…,"steps":n,"flawed":[…]}` (n steps were found; those listed,
/// from 0, were corrupted) and goes on with one `{"op":…,"dose":…,"step":…}` a flaw. A trace in
/// which no equation is found has 0 steps and stays as it is. Flawed texts of style M can be
/// read as style M and hold no value outside its vocabulary.
///
/// # Errors
/// A dose outside 0..=1, or operators of which none reads the text.
pub fn corrupt(trace: &Trace, settings: &FlawSettings) -> Result<Trace, FlawError> {
    let FlawSettings {
        dose,
        ref ops,
        seed,
        ..
    } = *settings;
    if !(0.0..=1.0).contains(&dose) {
        return Err(FlawError::Dose { dose });
    }
    let chain = Chain::parse(&trace.text);
    let asked = if ops.is_empty() {
        &FlawOp::DEFAULT[..]
    } else {
        &ops[..]
    };
    let in_style_m = |op: &FlawOp| *op == FlawOp::WrongOperator;
    let fitting: Vec<FlawOp> = asked
        .iter()
        .copied()
        .filter(|op| FlawOp::DEFAULT.contains(op) && in_style_m(op) == chain.is_some())
        .collect();
    if fitting.is_empty() {
        let ops = asked
            .iter()
            .map(|op| op.as_str())
            .collect::<Vec<_>>()
            .join(",");
        return Err(FlawError::NotApplicable { ops });
    }
    let step_rng = |step: usize| Rng::keyed(seed, &["flaw", &trace.id, &step.to_string()]);
    let flawed = match chain {
        Some((chain, answer)) => {
            wrong_operator::corrupt(&trace.text, chain, &answer, dose, step_rng)
        }
        None => corrupt_equations(&trace.text, &fitting, dose, step_rng),
    };
    Ok(annotated(trace, dose, flawed))
}

/// A corrupted text.
#[derive(Clone, Debug, PartialEq)]
struct Flawed {
    text: String,
    /// Steps that were found.
    steps: usize,
    /// Which of them were corrupted, ascending, and how.
    flaws: Vec<(usize, FlawOp)>,
}

/// Free text: its steps are its equations. The text is searched anew behind each one, since a
/// flaw may change what follows.
fn corrupt_equations(
    text: &str,
    ops: &[FlawOp],
    dose: f64,
    step_rng: impl Fn(usize) -> Rng,
) -> Flawed {
    let mut flawed = Flawed {
        text: text.to_owned(),
        steps: 0,
        flaws: Vec::new(),
    };
    let mut from = 0;
    while let Some(equation) = equation::next(&flawed.text, from) {
        let mut rng = step_rng(flawed.steps);
        from = equation.result.end;
        if rng.chance(dose) {
            let op = ops[rng.below(ops.len())];
            let (text, end) = match op {
                FlawOp::NumberSlip => number_slip::apply(&flawed.text, &equation, &mut rng),
                _ => operator_swap::apply(&flawed.text, &equation, &mut rng),
            };
            flawed.text = text;
            flawed.flaws.push((flawed.steps, op));
            from = end;
        }
        flawed.steps += 1;
    }
    flawed
}

fn annotated(parent: &Trace, dose: f64, flawed: Flawed) -> Trace {
    let mask: Vec<usize> = flawed.flaws.iter().map(|(step, _)| *step).collect();
    let mut ops: Vec<Value> = vec![json!({"dose": dose, "steps": flawed.steps, "flawed": mask})];
    ops.extend(
        flawed
            .flaws
            .iter()
            .map(|(step, op)| json!({"op": op, "dose": dose, "step": step})),
    );
    let origin = Origin {
        kind: OriginKind::Flawed,
        model: parent.origin.model.clone(),
        sampling: None,
        parent: Some(parent.id.clone()),
        ops,
    };
    Trace::new(&parent.problem_id, &flawed.text, parent.finish, origin)
}

#[cfg(test)]
mod tests;
