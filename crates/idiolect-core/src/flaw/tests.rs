use proptest::prelude::*;

use super::*;
use crate::miniature::chain::{MAX_VALUE, chains_of};
use crate::record::Finish;
use idiolect_model::Rng;

fn sampled(problem: &str, text: &str) -> Trace {
    Trace::new(problem, text, Finish::Stop, Origin::of(OriginKind::Sampled))
}

fn at(dose: f64) -> FlawSettings {
    FlawSettings {
        dose,
        ops: Vec::new(),
        answer: FinalAnswer::AsItComes,
        seed: 0,
    }
}

/// A word problem whose answer is 14.
fn problem() -> Problem {
    serde_json::from_str(
        r#"{"id":"p","task":"gsm8k","question":"q","gold":{"answer":"14"},"split":"train"}"#,
    )
    .unwrap()
}

const SOLUTION: &str = "She starts with 12.\nThen 12 + 5 = 17.\nThen 17 - 3 = 14.\n#### 14";

fn with(op: FlawOp, answer: FinalAnswer, seed: u64) -> Trace {
    let settings = FlawSettings {
        dose: 1.0,
        ops: vec![op],
        answer,
        seed,
    };
    let donors = ["Half of 40 / 2 = 20 are red.", "That is 3 * 9 = 27."];
    corrupt_problem(&problem(), &sampled("p", SOLUTION), &donors, &settings).unwrap()
}

fn lines(trace: &Trace) -> Vec<&str> {
    trace.text.lines().collect()
}

#[test]
fn each_operator_does_what_it_says() {
    let original: Vec<&str> = SOLUTION.lines().collect();
    let plain = |op| with(op, FinalAnswer::AsItComes, 0);

    let dropped = plain(FlawOp::DroppedStep);
    assert_eq!(
        lines(&dropped),
        ["Then 17 - 3 = 14.", "#### 14"],
        "one step stays"
    );

    let doubled = plain(FlawOp::DuplicatedStep);
    assert_eq!(lines(&doubled).len(), 7);
    assert_eq!(lines(&doubled)[0], lines(&doubled)[1]);

    let shuffled = plain(FlawOp::ShuffledSteps);
    let (mut old, mut new) = (original.clone(), lines(&shuffled));
    assert_ne!(old, new);
    assert_eq!(new[3], "#### 14");
    old.sort_unstable();
    new.sort_unstable();
    assert_eq!(old, new);

    let contradicted = plain(FlawOp::ContradictingStep);
    let text = lines(&contradicted);
    assert_eq!(
        (text.len(), text[1], text[3]),
        (6, original[1], original[2])
    );
    assert!(text[2].starts_with("Then 12 + 5 = ") && text[2] != original[1]);
    assert_eq!(text[5], "#### 14");

    let foreign = plain(FlawOp::ForeignStep);
    assert!(
        lines(&foreign)[..3]
            .iter()
            .all(|line| line.contains("40 / 2") || line.contains("3 * 9"))
    );

    let answered = plain(FlawOp::WrongAnswer);
    assert_eq!(lines(&answered)[..3], original[..3]);
    assert_ne!(lines(&answered)[3], original[3]);
    assert_eq!(answered.origin.ops[0]["flawed"], json!([]));
    assert_eq!(answered.origin.ops[1]["op"], "wrong_answer");
}

#[test]
fn the_step_checker_finds_every_flaw_of_an_equation() {
    for op in [
        FlawOp::NumberSlip,
        FlawOp::OperatorSwap,
        FlawOp::ContradictingStep,
    ] {
        for seed in 0..40 {
            // The switch takes every operator through the checked path.
            let trace = with(op, FinalAnswer::Wrong, seed);
            let steps = crate::task::task(problem().task).steps(&problem(), &trace.text);
            let flaws = &trace.origin.ops[1..];
            let made = flaws.iter().filter(|f| f["op"] == json!(op));
            assert!(made.clone().count() >= 1);
            assert!(made.clone().all(|f| f["check"] == "invalid"), "{flaws:?}");
            assert!(
                steps
                    .iter()
                    .any(|s| s.check == crate::record::StepCheck::Invalid),
                "{}",
                trace.text
            );
        }
    }
}

#[test]
fn the_final_answer_is_a_switch_of_its_own() {
    let task = crate::task::task(problem().task);
    let verdict = |trace: &Trace| {
        task.verify(&problem(), &trace.text, Finish::Stop, &crate::task::NoCode)
            .verdict
    };
    for op in FlawOp::ALL {
        for seed in 0..10 {
            let right = with(op, FinalAnswer::Right, seed);
            assert_eq!(
                verdict(&right),
                crate::record::Verdict::Correct,
                "{op}: {}",
                right.text
            );
            let wrong = with(op, FinalAnswer::Wrong, seed);
            assert_eq!(
                verdict(&wrong),
                crate::record::Verdict::Wrong,
                "{op}: {}",
                wrong.text
            );
            assert_eq!(wrong.origin.ops[0]["answer"], "wrong");
        }
    }
}

#[test]
fn flaws_of_code_change_one_thing() {
    use super::{off_by_one, pieces::Pieces, renamed_variable};
    let code = "def f(n, k):\n    total = 0\n    for i in range(n):\n        if i <= k: # i < 3\n            total = total + i";
    let pieces = || Pieces {
        steps: code.lines().map(str::to_owned).collect(),
        gaps: vec![String::new(); 6],
    };
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut one = pieces();
        assert!(off_by_one::apply(&mut one, 3, &mut Rng::keyed(seed, &[])));
        assert_eq!(one.steps[3], "        if i < k: # i < 3");
        let mut other = pieces();
        assert!(renamed_variable::apply(
            &mut other,
            4,
            &mut Rng::keyed(seed, &[])
        ));
        assert_ne!(other.steps[4], pieces().steps[4]);
        assert!(other.steps[4].starts_with("            total = "));
        seen.insert(other.steps[4].clone());
    }
    assert!(seen.len() >= 6, "{seen:?}");
    assert!(!off_by_one::apply(
        &mut pieces(),
        0,
        &mut Rng::keyed(0, &[])
    ));
}

#[test]
fn the_same_seed_gives_the_same_flaws_and_a_higher_dose_more_of_them() {
    let at_dose = |dose: f64| {
        let settings = FlawSettings {
            dose,
            ops: vec![FlawOp::ContradictingStep, FlawOp::DuplicatedStep],
            answer: FinalAnswer::AsItComes,
            seed: 5,
        };
        let trace = corrupt_problem(&problem(), &sampled("p", SOLUTION), &[], &settings).unwrap();
        let mask: Vec<usize> =
            serde_json::from_value(trace.origin.ops[0]["flawed"].clone()).unwrap();
        (trace.text, mask)
    };
    assert_eq!(at_dose(0.6), at_dose(0.6));
    let mut before: Vec<usize> = Vec::new();
    for tenth in 0..=10 {
        let (_, mask) = at_dose(f64::from(tenth) / 10.0);
        assert!(before.iter().all(|step| mask.contains(step)));
        before = mask;
    }
}

proptest! {
    #[test]
    fn any_text_can_be_asked_for_any_flaw(text in "[0-9+*/= .;|#\n<>a-c]{0,60}", seed in 0..20u64, at in 0..11usize) {
        let settings = FlawSettings {
            dose: 1.0,
            ops: vec![FlawOp::ALL[at]],
            answer: if seed % 2 == 0 { FinalAnswer::AsItComes } else { FinalAnswer::Wrong },
            seed,
        };
        // An error with a message, or a trace; never a panic.
        let _ = corrupt_problem(&problem(), &sampled("p", &text), &["1 + 1 = 2"], &settings);
    }
}

/// A thousand traces of style M.
fn traces() -> Vec<Trace> {
    let numbers = (1..=15).flat_map(|a| [[a, 3, 7], [2, a, 12]]);
    let chains = numbers.flat_map(chains_of).enumerate();
    let traces =
        chains.map(|(i, chain)| sampled(&format!("p/{i}"), &format!(" {}", chain.text().unwrap())));
    traces.take(1_000).collect()
}

#[test]
fn doses_hit_their_share_of_steps() {
    for dose in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let mut steps = 0;
        let mut flawed = 0;
        for trace in traces() {
            let origin = corrupt(&trace, &at(dose)).unwrap().origin;
            assert_eq!(origin.ops[0]["dose"], dose);
            steps += origin.ops[0]["steps"].as_u64().unwrap();
            flawed += origin.ops[0]["flawed"].as_array().unwrap().len();
            assert_eq!(
                origin.ops.len(),
                1 + origin.ops[0]["flawed"].as_array().unwrap().len()
            );
        }
        // Binomial sd over 2,000 steps is at most 0.011; four of them.
        assert!(
            (flawed as f64 / steps as f64 - dose).abs() < 0.045,
            "{dose}: {flawed} of {steps}"
        );
    }
}

#[test]
fn flawed_chains_stay_in_the_style_and_are_wrong_where_it_says() {
    let mut stuck = 0;
    for trace in traces() {
        let (before, _) = Chain::parse(&trace.text).unwrap();
        let flawed = corrupt(&trace, &at(0.6)).unwrap();
        let (after, answer) = Chain::parse(&flawed.text).unwrap();
        assert_eq!(after.steps.len(), before.steps.len());
        assert!(
            after
                .steps
                .iter()
                .all(|step| step.left.max(step.right).max(step.result) <= MAX_VALUE)
        );
        let mask: Vec<usize> =
            serde_json::from_value(flawed.origin.ops[0]["flawed"].clone()).unwrap();
        for (i, (old, new)) in before.steps.iter().zip(&after.steps).enumerate() {
            assert_eq!(
                new.op != old.op,
                mask.contains(&i),
                "{} -> {}",
                trace.text,
                flawed.text
            );
            stuck += usize::from(!new.is_valid() && !mask.contains(&i));
            let says = !new.is_valid() || !mask.contains(&i);
            assert!(says, "{} -> {}", trace.text, flawed.text);
        }
        let operators = |text: &str| {
            text.split(' ')
                .filter_map(crate::miniature::chain::Op::of)
                .collect::<Vec<_>>()
        };
        let mut expected: Vec<_> = after.steps.iter().map(|step| step.op).collect();
        let mut found = operators(&answer);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        assert!(flawed.text.starts_with(' '));
    }
    // Only a step that one single value can enter, such as `1 / 1`, cannot go on from a false one.
    assert!(stuck < 20, "{stuck}");
}

#[test]
fn the_answer_still_uses_the_given_numbers() {
    for trace in traces() {
        let numbers = |text: &str| {
            let answer = text.split("| ans").nth(1).unwrap();
            let mut numbers: Vec<u32> = answer.split(' ').filter_map(|w| w.parse().ok()).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(
            numbers(&corrupt(&trace, &at(1.0)).unwrap().text),
            numbers(&trace.text)
        );
    }
}

#[test]
fn a_higher_dose_keeps_the_flaws_of_a_lower_one() {
    for trace in traces().iter().take(200) {
        let mask = |dose| -> Vec<u64> {
            serde_json::from_value(
                corrupt(trace, &at(dose)).unwrap().origin.ops[0]["flawed"].clone(),
            )
            .unwrap()
        };
        let (low, high) = (mask(0.25), mask(0.75));
        assert!(low.iter().all(|step| high.contains(step)));
    }
}

#[test]
fn an_unchanged_trace_is_known_by_its_origin() {
    let trace = sampled("p", "3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2");
    let flawed = corrupt(&trace, &at(0.0)).unwrap();
    assert_eq!((&flawed.id, &flawed.text), (&trace.id, &trace.text));
    assert_eq!(flawed.origin.kind, OriginKind::Flawed);
    assert_eq!(flawed.origin.parent.as_ref(), Some(&trace.id));
    assert_eq!(
        flawed.origin.ops,
        [json!({"dose": 0.0, "steps": 2, "flawed": []})]
    );
}

const WORD_PROBLEM: &str =
    "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = <<48+24=72>>72 clips.\n#### 72";

#[test]
fn a_number_slip_goes_through_to_the_answer() {
    let ops = vec![FlawOp::NumberSlip];
    let trace = sampled("p", WORD_PROBLEM);
    let flawed = corrupt(&trace, &FlawSettings { ops, ..at(1.0) }).unwrap();
    assert_eq!(
        flawed.origin.ops[0],
        json!({"dose": 1.0, "steps": 2, "flawed": [0, 1]})
    );
    let last = |text: &str| text.rsplit("#### ").next().map(str::to_owned).unwrap();
    assert_ne!(last(&flawed.text), "72");
    assert!(
        flawed
            .text
            .contains(&format!("={0}>>{0}", last(&flawed.text))),
        "{}",
        flawed.text
    );
    assert!(!flawed.text.contains("=24>>"), "{}", flawed.text);
}

#[test]
fn an_operator_swap_keeps_the_results() {
    let ops = vec![FlawOp::OperatorSwap];
    let flawed = corrupt(
        &sampled("p", WORD_PROBLEM),
        &FlawSettings { ops, ..at(1.0) },
    )
    .unwrap();
    assert!(
        flawed.text.contains("=24>>24") && flawed.text.ends_with("#### 72"),
        "{}",
        flawed.text
    );
    assert!(
        !flawed.text.contains("48/2") && !flawed.text.contains("48+24"),
        "{}",
        flawed.text
    );
}

#[test]
fn text_without_equations_has_no_steps() {
    let trace = sampled("p", "It is plainly nineteen.");
    let flawed = corrupt(&trace, &at(1.0)).unwrap();
    assert_eq!(
        (&flawed.id, &flawed.origin.ops[0]["steps"]),
        (&trace.id, &json!(0))
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let chain = sampled("p", "3 + 4 = 7 | ans 3 + 4");
    let swap = FlawSettings {
        ops: vec![FlawOp::OperatorSwap],
        ..at(0.5)
    };
    assert!(
        corrupt(&chain, &swap)
            .unwrap_err()
            .to_string()
            .contains("`operator_swap` cannot")
    );
    let wrong = FlawSettings {
        ops: vec![FlawOp::WrongOperator],
        ..at(0.5)
    };
    assert!(corrupt(&sampled("p", WORD_PROBLEM), &wrong).is_err());
    assert_eq!(
        corrupt(&chain, &at(1.5)).unwrap_err().to_string(),
        "the dose `1.5` is not between 0 and 1"
    );
    assert!(corrupt(&chain, &at(f64::NAN)).is_err());
    assert!(
        "swap"
            .parse::<FlawOp>()
            .unwrap_err()
            .to_string()
            .contains("number_slip")
    );
    assert!(FlawOp::ALL.iter().all(|op| op.as_str().parse() == Ok(*op)));
}

proptest! {
    #[test]
    fn any_text_can_be_corrupted(text in "[0-9a-z+*/=×$<> .,\n|;é-]{0,60}", dose in 0.0..=1.0f64, seed: u64) {
        let settings = FlawSettings { dose, ops: Vec::new(), answer: FinalAnswer::AsItComes, seed };
        let flawed = corrupt(&sampled("p", &text), &settings).unwrap();
        prop_assert_eq!(&flawed, &corrupt(&sampled("p", &text), &settings).unwrap());
    }
}
