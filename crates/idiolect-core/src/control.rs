//! The content control R: the style of a trace without its problem's content.
//!
//! What R teaches is format; what a real trace teaches beyond R is content. For Countdown in
//! style M it is a random chain of true steps on the problem's own numbers that ends somewhere
//! else; for other text it is another problem's trace of nearly the same length. [`donors`] hands
//! each trace out once: a set in which few texts stand many times would show what repetition does,
//! not what missing content does.

use serde_json::{Value, json};

use crate::miniature::chain::{Chain, MAX_VALUE, Op, Step};
use crate::record::{Finish, Origin, OriginKind, Problem, TaskName, Trace};
use idiolect_model::Rng;

/// Draws after which a chain that misses the target is given up on.
const MAX_DRAWS: usize = 1_000;

/// Why there is no control trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// The gold object is not one of Countdown in style M.
    #[error(
        "`{id}`: the gold object `{gold}` does not hold `numbers`, at least two of 0 to 99, and a `target`"
    )]
    Gold {
        /// The problem.
        id: String,
        /// As it is.
        gold: String,
    },
    /// Every chain drawn reached the target.
    #[error("`{id}`: no chain on its numbers that misses the target was found")]
    NoWrongChain {
        /// The problem.
        id: String,
    },
    /// Nobody to borrow from.
    #[error("`{id}`: no trace of another problem to borrow; give traces of at least two problems")]
    NoDonor {
        /// The problem.
        id: String,
    },
}

/// The control for one trace of a problem: a random chain where the trace is Countdown's style
/// M, else the text of its donor, as [`donors`] gives it one.
///
/// # Errors
/// See [`random_chain`] and [`borrowed`].
pub fn control(
    problem: &Problem,
    trace: &Trace,
    donor: Option<&Trace>,
    seed: u64,
) -> Result<Trace, ControlError> {
    if problem.task == TaskName::Countdown && Chain::parse(&trace.text).is_some() {
        random_chain(problem, &trace.id, seed)
    } else {
        borrowed(trace, donor)
    }
}

/// A random chain of true steps that uses each of the problem's numbers once, keeps to values
/// 0..=99, and ends above 0 and not at the target. `key` distinguishes several for one problem.
///
/// # Errors
/// A gold object without such numbers, or numbers that reach nothing but the target.
pub fn random_chain(problem: &Problem, key: &str, seed: u64) -> Result<Trace, ControlError> {
    let (numbers, target) = gold(&problem.gold).ok_or_else(|| ControlError::Gold {
        id: problem.id.clone(),
        gold: problem.gold.to_string(),
    })?;
    let mut rng = Rng::keyed(seed, &["control", &problem.id, key]);
    let chains = (0..MAX_DRAWS).filter_map(|_| walk(&numbers, &mut rng));
    let mut texts = chains
        .filter(|c| c.result().is_some_and(|r| r > 0 && r != target))
        .filter_map(|c| c.text());
    let text = texts.next().ok_or_else(|| ControlError::NoWrongChain {
        id: problem.id.clone(),
    })?;
    let mut origin = Origin::of(OriginKind::Control);
    origin.ops.push(json!({"op": "random_chain"}));
    // Follows its prompt like every completion of the style: behind a space.
    Ok(Trace::new(
        &problem.id,
        &format!(" {text}"),
        Finish::Stop,
        origin,
    ))
}

/// Joins two values at a time, any true step alike, until one is left.
fn walk(numbers: &[u32], rng: &mut Rng) -> Option<Chain> {
    let mut values = numbers.to_vec();
    let mut steps = Vec::new();
    while values.len() > 1 {
        rng.shuffle(&mut values);
        let (right, left) = (values.pop()?, values.pop()?);
        let possible: Vec<Step> = Op::ALL
            .iter()
            .filter_map(|&op| Step::of(left, op, right))
            .collect();
        let step = *rng.choose(&possible)?;
        values.push(step.result);
        steps.push(step);
    }
    Some(Chain { steps })
}

fn gold(gold: &Value) -> Option<(Vec<u32>, u32)> {
    let value = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    let in_vocabulary = |v: &Value| value(v).filter(|n| *n <= MAX_VALUE);
    let numbers = gold
        .get("numbers")?
        .as_array()?
        .iter()
        .map(in_vocabulary)
        .collect::<Option<Vec<_>>>()?;
    (numbers.len() > 1).then_some((numbers, value(gold.get("target")?)?))
}

/// The donor of each of some traces, by place: a trace of another problem with another text, each
/// handed out once (a derangement), of nearly the same length in bytes. Neighbours in order of length
/// borrow from each other; who is neighbour among equally long ones is drawn by `seed`.
///
/// Where the traces of one problem outnumber all others, those left over take the nearest trace of
/// another problem, which is then handed out more than once. `None` for a trace where no other problem
/// has one.
pub fn donors(traces: &[Trace], seed: u64) -> Vec<Option<usize>> {
    let lot = |trace: &Trace| Rng::keyed(seed, &["donor", &trace.problem_id, &trace.id]).next_u64();
    let mut order: Vec<usize> = (0..traces.len()).collect();
    order.sort_by_cached_key(|&at| (traces[at].text.len(), lot(&traces[at]), at));
    let apart = |a: usize, b: usize| {
        traces[a].problem_id != traces[b].problem_id && traces[a].text != traces[b].text
    };
    let mut donors = vec![None; traces.len()];
    // Traces that could borrow from none before them: few, where problems differ.
    let mut waiting: Vec<usize> = Vec::new();
    for &at in &order {
        match waiting.iter().position(|&other| apart(at, other)) {
            Some(place) => {
                let other = waiting.remove(place);
                (donors[at], donors[other]) = (Some(other), Some(at));
            }
            None => waiting.push(at),
        }
    }
    for at in waiting {
        let length = |other: usize| traces[other].text.len().abs_diff(traces[at].text.len());
        // One joins a pair: it takes the donor of another, which takes its text instead.
        let joins = order.iter().copied().filter(|&other| {
            donors[other].is_some_and(|donor: usize| apart(at, donor)) && apart(other, at)
        });
        if let Some(other) = joins.min_by_key(|&other| length(other)) {
            donors[at] = donors[other].replace(at);
            continue;
        }
        let of_others = order
            .iter()
            .copied()
            .filter(|&other| traces[other].problem_id != traces[at].problem_id);
        donors[at] = of_others.min_by_key(|&other| length(other));
    }
    donors
}

/// The text of a donor as an answer to the trace's problem.
///
/// # Errors
/// Without a donor.
pub fn borrowed(trace: &Trace, donor: Option<&Trace>) -> Result<Trace, ControlError> {
    let donor = donor.ok_or_else(|| ControlError::NoDonor {
        id: trace.problem_id.clone(),
    })?;
    let mut origin = Origin::of(OriginKind::Control);
    origin.model.clone_from(&donor.origin.model);
    origin.parent = Some(donor.id.clone());
    origin
        .ops
        .push(json!({"op": "borrowed", "from": donor.problem_id}));
    Ok(Trace::new(
        &trace.problem_id,
        &donor.text,
        donor.finish,
        origin,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miniature::{World, WorldSettings};
    use crate::record::{StepCheck, Verdict};
    use crate::task::{NoCode, task};

    fn trace(problem_id: &str, text: &str) -> Trace {
        Trace::new(
            problem_id,
            text,
            Finish::Stop,
            Origin::of(OriginKind::Sampled),
        )
    }

    #[test]
    fn control_chains_are_true_and_wrong() {
        for problem in World::new(WorldSettings::tiny()).unwrap().problems() {
            let trace = random_chain(&problem, "", 0).unwrap();
            let (chain, answer) = Chain::parse(&trace.text).unwrap();
            assert!(chain.steps.iter().all(Step::is_valid), "{}", trace.text);
            assert_ne!(problem.gold["target"], json!(chain.result()));
            assert_eq!(chain.expression(), Some(answer));
            let mut given: Vec<u32> =
                serde_json::from_value(problem.gold["numbers"].clone()).unwrap();
            let mut used = chain.numbers();
            given.sort_unstable();
            used.sort_unstable();
            assert_eq!(used, given);
            assert_eq!(trace, random_chain(&problem, "", 0).unwrap());
        }
    }

    #[test]
    fn the_verifier_finds_control_chains_wrong_in_their_answer_alone() {
        let countdown = task(TaskName::Countdown);
        for problem in World::new(WorldSettings::tiny()).unwrap().problems() {
            let trace = random_chain(&problem, "", 0).unwrap();
            let judged = countdown.verify(&problem, &trace.text, trace.finish, &NoCode);
            assert_eq!(judged.verdict, Verdict::Wrong, "{}", trace.text);
            assert!(
                judged
                    .steps
                    .iter()
                    .all(|step| step.check == StepCheck::Valid)
            );
        }
    }

    #[test]
    fn seed_and_key_vary_the_chain() {
        let problem = &World::new(WorldSettings::tiny()).unwrap().problems()[0];
        let draw = |key: &str, seed| random_chain(problem, key, seed).unwrap().text;
        assert!((1..20).any(|seed| draw("", seed) != draw("", 0)));
        assert!((1..20).any(|key| draw(&key.to_string(), 0) != draw("", 0)));
    }

    #[test]
    fn each_trace_is_borrowed_once_by_one_of_nearly_its_length() {
        // Lengths as those of short answers: many traces share each.
        let mut traces: Vec<Trace> = (0..301)
            .map(|at| {
                trace(
                    &format!("p{at}"),
                    &format!("{at:0width$}", width = 20 + at % 12),
                )
            })
            .collect();
        // Several of one problem, and one text twice.
        traces.extend((0..5).map(|at| trace("p7", &format!("again {at:020}"))));
        traces.push(trace("twin", &traces[3].text.clone()));
        let found = donors(&traces, 0);
        let lent: std::collections::BTreeSet<usize> = found.iter().flatten().copied().collect();
        assert_eq!(lent.len(), traces.len(), "a donor was used twice");
        for (at, donor) in found.iter().enumerate() {
            let donor = &traces[donor.unwrap()];
            assert_ne!(donor.problem_id, traces[at].problem_id);
            assert_ne!(donor.text, traces[at].text);
            assert!(donor.text.len().abs_diff(traces[at].text.len()) <= 1);
        }
        assert_ne!(found, donors(&traces, 1));
        assert_eq!(found, donors(&traces, 0));
    }

    #[test]
    fn a_problem_that_outnumbers_the_others_borrows_what_there_is() {
        let traces = [
            trace("a", "1234"),
            trace("a", "123456789"),
            trace("a", "12"),
            trace("c", "12345"),
        ];
        let found = donors(&traces, 0);
        assert_eq!(found[..3], [Some(3); 3]);
        assert!(found[3].is_some_and(|donor| donor < 3));
        let borrowed = borrowed(&traces[0], Some(&traces[3])).unwrap();
        assert_eq!(
            (borrowed.problem_id.as_str(), borrowed.text.as_str()),
            ("a", "12345")
        );
        assert_eq!(borrowed.origin.parent.as_ref(), Some(&traces[3].id));
        assert_eq!(donors(&traces[..3], 0), [None; 3]);
    }

    #[test]
    fn a_trace_in_style_m_gets_a_chain_and_another_a_loan() {
        let problem = &World::new(WorldSettings::tiny()).unwrap().problems()[0];
        let donor = trace("other", "Let me think.");
        let kind = |text| {
            control(problem, &trace(&problem.id, text), Some(&donor), 0)
                .unwrap()
                .origin
                .ops[0]["op"]
                .clone()
        };
        assert_eq!(kind("3 + 4 = 7 | ans 3 + 4"), "random_chain");
        assert_eq!(kind("3 plus 4 is 7"), "borrowed");
    }

    #[test]
    fn what_has_no_control_is_said() {
        let mut problem = World::new(WorldSettings::tiny()).unwrap().problems()[0].clone();
        let mut reason = |gold: Value| {
            problem.gold = gold;
            random_chain(&problem, "", 0).unwrap_err().to_string()
        };
        for gold in [
            json!({}),
            json!({"numbers": [3], "target": 3}),
            json!({"numbers": [3, -4], "target": 3}),
            json!({"numbers": [3, 400], "target": 3}),
        ] {
            assert!(reason(gold).contains("does not hold `numbers`"));
        }
        assert!(reason(json!({"numbers": [0, 1], "target": 1})).contains("misses the target"));
        let alone = trace("a", "x");
        assert!(
            borrowed(&alone, None)
                .unwrap_err()
                .to_string()
                .contains("at least two problems")
        );
    }
}
