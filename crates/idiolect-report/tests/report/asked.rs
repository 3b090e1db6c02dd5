//! Views whose page can be asked: answers to every problem, and rows of every arm.

use idiolect_core::record::{Decoding, EvalRow, Finish, Verdict};
use idiolect_model::{Rng, Span};
use idiolect_report::RunView;
use idiolect_report::view::{Answers, Asked, Checkpoint};

use crate::sample;

/// The sample of one replicate with `problems` answered problems and rows of as many train problems
/// as `traces`.
pub(crate) fn view(problems: usize, traces: usize) -> RunView {
    let mut view = sample::miniature(1, 3);
    view.answers = vec![answers(&view, problems)];
    let first = view.examples.clone();
    for i in 1..traces {
        view.examples.extend(first.iter().cloned().map(|mut row| {
            row.problem_id = format!("countdown/mini/{i:05}");
            row.prompt = format!("nums {i} 7 2 -> 19 |");
            row
        }));
    }
    for arm in &mut view.arms {
        arm.rows = (arm.name != "base").then_some(1000);
    }
    // The second arm's first row is kept out of the loss in part.
    view.examples[1].spans = vec![Span {
        start: 0,
        end: 10,
        train: false,
    }];
    view
}

fn answers(view: &RunView, problems: usize) -> Answers {
    let asked = (0..problems).map(|i| Asked {
        id: format!("test/{i}"),
        question: format!("nums {i} 7 2 -> 19 |"),
        gold: r#"{"numbers":[3,7,2],"target":19}"#.to_owned(),
    });
    let mut checkpoints = Vec::new();
    for arm in &view.comparison.arms {
        let rate = arm.greedy.as_ref().unwrap().mean;
        for seed in 0..if arm.arm == "base" { 1 } else { 3 } {
            let rows = (0..problems).map(|i| answer(&arm.arm, seed, i, rate));
            checkpoints.push(Checkpoint {
                arm: arm.arm.clone(),
                seed,
                rows: rows.collect(),
            });
        }
    }
    Answers {
        replicate: 0,
        problems: asked.collect(),
        checkpoints,
    }
}

fn answer(arm: &str, seed: u64, problem: usize, rate: f64) -> EvalRow {
    let mut rng = Rng::keyed(seed, &[arm, &problem.to_string()]);
    let verdict = match rng.chance(rate) {
        true => Verdict::Correct,
        false if rng.chance(0.1) => Verdict::NoAnswer,
        false => Verdict::Wrong,
    };
    let (text, reason) = match verdict {
        Verdict::Correct => ("3 * 7 = 21 ; 21 - 2 = 19 | ans 3 * 7 - 2", "equals 19"),
        Verdict::Wrong => (
            "3 * 7 = 21 ; 21 + 2 = 23 | ans 3 * 7 + 2",
            "equals 23, not 19",
        ),
        _ => ("3 * 7 =", "no expression was answered"),
    };
    EvalRow {
        problem_id: format!("test/{problem}"),
        sample: 0,
        decoding: Decoding::Greedy,
        text: text.to_owned(),
        finish: Finish::Stop,
        verdict,
        reason: Some(reason.to_owned()),
        extracted: text.split_once("ans ").map(|(_, answer)| answer.to_owned()),
        n_tokens: 9,
        read: None,
    }
}
