use proptest::prelude::*;

use super::*;
use crate::record::{ArmRow, Decoding, Finish, Step, StepCheck, Verdict, VerdictRow};
use crate::scores::empty;
use crate::scores::tests::identity;
use idiolect_model::Rng;

fn row(problem: usize, sample: usize, decoding: Decoding, verdict: Verdict) -> EvalRow {
    EvalRow {
        problem_id: format!("p{problem:04}"),
        sample,
        decoding,
        text: String::new(),
        finish: if verdict == Verdict::NoAnswer {
            Finish::Length
        } else {
            Finish::Stop
        },
        verdict,
        reason: None,
        extracted: (verdict != Verdict::NoAnswer).then(|| format!("{verdict:?}")),
        n_tokens: 3,
        read: None,
    }
}

/// An evaluation in which a problem of ease e is right with chance `skill`·e, greedy and in four samples.
fn evaluation(arm: &str, replicate: usize, seed: u64, n: usize, skill: f64) -> Evaluation {
    let mut rows = Vec::new();
    for problem in 0..n {
        let ease = Rng::keyed(9, &["ease", &problem.to_string()]).uniform();
        let mut rng = Rng::keyed(
            seed,
            &["answers", arm, &replicate.to_string(), &problem.to_string()],
        );
        let mut answer = || {
            let right = if rng.chance(skill * ease) {
                Verdict::Correct
            } else {
                Verdict::Wrong
            };
            if rng.chance(0.05) {
                Verdict::NoAnswer
            } else {
                right
            }
        };
        rows.push(row(problem, 0, Decoding::Greedy, answer()));
        rows.extend((0..4).map(|k| row(problem, k, Decoding::Sampled, answer())));
    }
    Evaluation {
        arm: arm.to_owned(),
        replicate,
        seed,
        rows,
        gold: Vec::new(),
    }
}

fn scores(n: usize, nll_per_token: f64) -> Vec<ScoreRow> {
    (0..n)
        .map(|at| ScoreRow {
            trace_id: format!("t{at}"),
            problem_id: Some(format!("q{at}")),
            n_tokens: 20,
            n_bytes: 60,
            nll_nats: 20.0 * nll_per_token * (1.0 + 0.1 * (at % 3) as f64),
            entropy_nats: Some(18.0),
            varentropy_nats2: Some(9.0),
            abs_excess_nats: Some(8.0),
            rank_sum: Some(40.0),
            rank_clip100_sum: Some(40.0),
            log_rank_sum: Some(9.0),
            top1: Some(12),
            top5: Some(18),
            top10: Some(19),
            top50: Some(20),
            brier_sum: Some(7.0),
            ..empty(identity())
        })
        .collect()
}

fn data(arm: &str, nll_per_token: f64) -> ArmData {
    let steps = StepCounts {
        valid: 80,
        invalid: 20,
        unchecked: 5,
    };
    ArmData {
        arm: arm.into(),
        replicate: 0,
        spec: None,
        rows: 50,
        problems: 50,
        scores: scores(50, nll_per_token),
        steps: Some(steps),
        right: None,
    }
}

fn options() -> CompareOptions {
    CompareOptions {
        draws: 2000,
        ..CompareOptions::default()
    }
}

const ARMS: [(&str, f64); 5] = [
    ("H", 0.05),
    ("G", 0.5),
    ("W", 0.4),
    ("F25", 0.3),
    ("F100", 0.02),
];

fn whole() -> (Vec<Evaluation>, Vec<ArmData>) {
    let mut evaluations = vec![evaluation("base", 0, 0, 400, 0.12)];
    for (arm, skill) in ARMS {
        evaluations.extend((0..3).map(|seed| evaluation(arm, 0, seed, 400, skill)));
    }
    let nll = [
        ("H", 5.0),
        ("G", 0.3),
        ("W", 0.6),
        ("F25", 1.0),
        ("F100", 2.5),
    ];
    (
        evaluations,
        nll.iter().map(|(arm, nll)| data(arm, *nll)).collect(),
    )
}

fn find<'a>(
    comparison: &'a Comparison,
    arm: &str,
    baseline: &str,
    decoding: Decoding,
) -> &'a Difference {
    let mut all = comparison.differences.iter();
    all.find(|d| d.arm == arm && d.baseline == baseline && d.decoding == decoding)
        .unwrap()
}

#[test]
fn a_clear_winner_is_named_with_its_margin() {
    let (evaluations, arms) = whole();
    let comparison = compare(&evaluations, &arms, &options()).unwrap();
    assert_eq!(comparison.baselines, ["base", "H"]);
    assert_eq!((comparison.n_problems, comparison.n_replicates), (400, 1));
    let w = find(&comparison, "W", "base", Decoding::Greedy);
    assert_eq!((w.relation, w.n_seeds), (Relation::Above, 3));
    assert!(
        w.verdict.starts_with("W > base by ") && w.verdict.ends_with("], 3 seeds"),
        "{}",
        w.verdict
    );
    assert!(w.interval.contains(w.difference) && w.p <= w.p_holm);
    assert!((w.gained - w.lost - w.difference).abs() < 1e-12);
    assert_eq!(w.mcnemar.len(), 3);
    assert!(w.method.contains("seeds and problems"), "{}", w.method);
    let f = find(&comparison, "F100", "base", Decoding::Greedy);
    assert_eq!(f.relation, Relation::Below);
    assert!(f.verdict.starts_with("F100 < base by "), "{}", f.verdict);
    assert_eq!(comparison.best.as_ref().unwrap().arm, "G");
    println!("{}", comparison.answer);
    let rivals = &comparison.best.as_ref().unwrap().not_distinguished_from;
    let opening = if rivals.is_empty() {
        "G (teacher, correct answer) taught this student most: "
    } else {
        "The most accurate arm is G (teacher, correct answer): "
    };
    assert!(
        comparison.answer.starts_with(opening),
        "{}",
        comparison.answer
    );
    assert!(
        comparison
            .answer
            .contains("G > base (untrained student) by "),
        "{}",
        comparison.answer
    );
    assert!(
        rivals
            .iter()
            .all(|rival| comparison.answer.contains(&format!("{rival} ")))
    );
    // Two baselines meet once, and no arm meets itself.
    let pairs = comparison
        .differences
        .iter()
        .filter(|d| d.decoding == Decoding::Greedy);
    assert_eq!(pairs.count(), 5 + 4);
}

#[test]
fn most_is_claimed_only_over_arms_that_are_distinguished() {
    let skills = [("base", 0.1), ("G", 0.9), ("W", 0.4)];
    let evaluations = skills.map(|(arm, skill)| evaluation(arm, 0, 0, 400, skill));
    let clear = compare(&evaluations, &[], &options()).unwrap().answer;
    assert!(
        clear.starts_with("G (teacher, correct answer) taught this student most: "),
        "{clear}"
    );
    let evaluations = [("base", 0.1), ("G", 0.9), ("W", 0.89)]
        .map(|(arm, skill)| evaluation(arm, 0, 0, 400, skill));
    let close = compare(&evaluations, &[], &options()).unwrap().answer;
    assert!(
        close.starts_with("The most accurate arm is ")
            && close.contains(" is not distinguished from "),
        "{close}"
    );
    let nothing = [("base", 0.4), ("G", 0.4)].map(|(arm, skill)| evaluation(arm, 0, 0, 100, skill));
    let none = compare(&nothing, &[], &options()).unwrap().answer;
    assert!(none.starts_with("No arm is "), "{none}");
}

#[test]
fn per_arm_numbers_agree_with_plain_counting() {
    let (evaluations, arms) = whole();
    let comparison = compare(&evaluations, &arms, &options()).unwrap();
    let result = comparison.arms.iter().find(|a| a.arm == "G").unwrap();
    let greedy = result.greedy.as_ref().unwrap();
    let rows = evaluations
        .iter()
        .filter(|e| e.arm == "G")
        .flat_map(|e| &e.rows);
    let right = |decoding| {
        rows.clone()
            .filter(|r| r.decoding == decoding && r.verdict == Verdict::Correct)
            .count()
    };
    assert!((greedy.mean - right(Decoding::Greedy) as f64 / 1200.0).abs() < 1e-12);
    assert_eq!((greedy.counts.total, greedy.per_seed.len()), (1200, 3));
    assert_eq!(
        greedy.counts.correct + greedy.counts.wrong + greedy.counts.no_answer,
        1200
    );
    assert_eq!(greedy.counts.truncated, greedy.counts.no_answer);
    assert!(greedy.wilson.contains(greedy.mean) && greedy.interval.contains(greedy.mean));
    let sampled = result.sampled.as_ref().unwrap();
    assert!((sampled.avg_at_k - right(Decoding::Sampled) as f64 / 4800.0).abs() < 1e-12);
    assert_eq!(
        sampled.pass_at.keys().copied().collect::<Vec<_>>(),
        [1, 2, 4]
    );
    assert!((sampled.pass_at[&1] - sampled.avg_at_k).abs() < 1e-12);
    assert!(sampled.pass_at[&2] > sampled.pass_at[&1] && sampled.pass_at[&4] > sampled.pass_at[&2]);
    assert_eq!((result.rows, result.tokens), (Some(50), Some(1000)));
    assert_eq!(result.steps.and_then(|s| s.valid_share()), Some(0.8));
    assert!((result.closeness["nll_per_token"].value - 0.3 * 1.098).abs() < 1e-9);
    let base = comparison.arms.iter().find(|a| a.arm == "base").unwrap();
    assert_eq!(
        (base.rows, base.tokens, base.closeness.len()),
        (None, None, 0)
    );
}

#[test]
fn closeness_is_correlated_over_trained_arms_with_exact_p() {
    let (evaluations, arms) = whole();
    let comparison = compare(&evaluations, &arms, &options()).unwrap();
    let nll = comparison
        .correlations
        .iter()
        .find(|c| c.metric == "nll_per_token")
        .unwrap();
    // Closeness order G W F25 F100 H; accuracy order G W F25 H F100.
    assert!((nll.spearman - 0.9).abs() < 1e-12 && (nll.p_spearman - 10.0 / 120.0).abs() < 1e-12);
    assert_eq!(
        (nll.n_arms, nll.nearest.as_str(), nll.exact),
        (5, "G", true)
    );
    assert!(nll.regret.abs() < 1e-12);
    // Metrics that are equal for all arms rank nothing.
    assert!(
        comparison
            .correlations
            .iter()
            .all(|c| c.metric != "mean_rank")
    );
    assert!(
        comparison
            .answer
            .contains("Over 5 arms surprisal alone is not shown to rank"),
        "{}",
        comparison.answer
    );
}

#[test]
fn the_dose_curve_starts_at_g() {
    let (evaluations, arms) = whole();
    let curve = compare(&evaluations, &arms, &options()).unwrap().dose_curve;
    let points: Vec<(&str, f64)> = curve.iter().map(|p| (p.arm.as_str(), p.dose)).collect();
    assert_eq!(points, [("G", 0.0), ("F25", 0.25), ("F100", 1.0)]);
    assert!(
        curve
            .windows(2)
            .all(|w| w[0].accuracy.value > w[1].accuracy.value)
    );
}

/// Arms of an experiment in which the student's style is worth 0.2, a natural mistake costs nothing,
/// and a wrong answer behind true steps costs all.
fn crossed() -> (Vec<Evaluation>, Vec<ArmData>) {
    let mut evaluations = vec![evaluation("base", 0, 0, 800, 0.2)];
    let mut sets = Vec::new();
    for (arm, spec, skill) in [
        ("right", Some("G"), 0.8),
        ("GH", None, 0.4),
        ("W", None, 0.8),
        ("WH", Some("WH"), 0.4),
        ("A", Some("A"), 0.6),
        ("F0@wrong", None, 0.0),
        ("F50@right", None, 0.5),
        ("R", None, 0.3),
        ("mixed", Some("G:0.5+W:0.5"), 0.7),
    ] {
        evaluations.extend((0..3).map(|seed| evaluation(arm, 0, seed, 800, skill)));
        sets.push(ArmData {
            spec: spec.map(str::to_owned),
            ..data(arm, 0.3)
        });
    }
    (evaluations, sets)
}

#[test]
fn factors_are_read_off_arms_that_were_made_to_differ_in_one_thing() {
    let (evaluations, sets) = crossed();
    let comparison = compare(&evaluations, &sets, &options()).unwrap();
    let found = comparison.factors.as_ref().unwrap();
    let of = |arms: &str| found.contrasts.iter().find(|c| c.arms == arms).unwrap();
    let accuracy = |arm: &str| {
        let arm = comparison.arms.iter().find(|a| a.arm == arm).unwrap();
        arm.greedy.as_ref().unwrap().mean
    };
    let style = of("(right − GH + W − WH) / 2");
    let expected = (accuracy("right") - accuracy("GH") + accuracy("W") - accuracy("WH")) / 2.0;
    assert!((style.effect - expected).abs() < 1e-12, "{style:?}");
    assert!(
        style.interval.unwrap().low > 0.1 && style.p_holm.unwrap() < 0.05,
        "{style:?}"
    );
    let natural = of("(right − W + GH − WH) / 2");
    assert!(natural.interval.unwrap().contains(0.0), "{natural:?}");
    // "Wrong" is three things.
    assert!(of("F0@wrong − right").interval.unwrap().high < -0.2);
    assert!(of("F50@right − right").interval.unwrap().high < 0.0);
    assert!(of("A − base").interval.unwrap().low > 0.0);
    assert!(of("right − GH − W + WH").interval.unwrap().contains(0.0));
    // Each p is adjusted over all that are listed, and nothing is read off a control's steps alone, a
    // mixture, or arms that are not there.
    let tested: Vec<f64> = found.contrasts.iter().filter_map(|c| c.p).collect();
    let adjusted = crate::statistics::holm(&tested);
    let listed: Vec<f64> = found.contrasts.iter().filter_map(|c| c.p_holm).collect();
    assert_eq!(listed, adjusted);
    assert!(
        found
            .method
            .contains(&format!("these {} contrasts", found.contrasts.len()))
    );
    let arms: Vec<&str> = found.contrasts.iter().map(|c| c.arms.as_str()).collect();
    assert!(
        !arms
            .iter()
            .any(|a| a.contains("− R") || a.contains("mixed") || a.contains("RR"))
    );
    assert!(
        comparison
            .answer
            .contains("the student's style instead of the human one +"),
        "{}",
        comparison.answer
    );
}

#[test]
fn a_control_without_content_is_held_against_no_attempt() {
    let (evaluations, arms) = whole();
    let found = compare(&evaluations, &arms, &options())
        .unwrap()
        .factors
        .unwrap();
    let listed: Vec<&str> = found.contrasts.iter().map(|c| c.arms.as_str()).collect();
    // Of H, G, W, F25 and F100 the flawed ones differ from G in answer and steps at once.
    assert_eq!(listed, ["G − W"]);
    let only = evaluations
        .iter()
        .filter(|e| ["base", "H", "F25"].contains(&e.arm.as_str()));
    let only: Vec<Evaluation> = only.cloned().collect();
    assert_eq!(compare(&only, &[], &options()).unwrap().factors, None);
}

#[test]
fn one_seed_says_one_training_run_and_uses_exact_tests() {
    let evaluations = [
        evaluation("base", 0, 0, 400, 0.1),
        evaluation("W", 0, 0, 400, 0.5),
    ];
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let w = find(&comparison, "W", "base", Decoding::Greedy);
    assert!(
        w.verdict.ends_with("on these problems, one training run"),
        "{}",
        w.verdict
    );
    assert_eq!(
        (w.p_method.as_str(), w.method.as_str()),
        ("exact McNemar test", "BCa bootstrap over problems")
    );
    assert!((w.p - w.mcnemar[0].p).abs() < 1e-15);
    let sampled = find(&comparison, "W", "base", Decoding::Sampled);
    assert_eq!(sampled.p_method, "sign-flip test over problems");
    assert!((sampled.p - sampled.p_sign_flip).abs() < 1e-15);
    assert!(
        comparison
            .warnings
            .iter()
            .any(|w| w.contains("one training run"))
    );
}

#[test]
fn an_arm_compared_with_itself_differs_by_0_with_p_1() {
    let mut evaluations: Vec<Evaluation> = (0..3)
        .map(|seed| evaluation("A", 0, seed, 300, 0.3))
        .collect();
    let copies: Vec<Evaluation> = evaluations
        .iter()
        .map(|e| Evaluation {
            arm: "B".into(),
            ..e.clone()
        })
        .collect();
    evaluations.extend(copies);
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    for d in &comparison.differences {
        assert!(d.difference.abs() < 1e-12 && d.interval.contains(0.0));
        assert!(
            d.p > 0.9 && (d.p_sign_flip - 1.0).abs() < 1e-12,
            "{} {}",
            d.p,
            d.p_sign_flip
        );
        assert_eq!(d.relation, Relation::Unresolved);
        assert!(d.mcnemar.iter().all(|m| (m.p - 1.0).abs() < 1e-12));
    }
    assert!(
        comparison
            .warnings
            .iter()
            .any(|w| w.contains("`A` and `B` get exactly the same problems right"))
    );

    let single = [
        evaluation("A", 0, 0, 300, 0.3),
        Evaluation {
            arm: "B".into(),
            ..evaluation("A", 0, 0, 300, 0.3)
        },
    ];
    let comparison = compare(&single, &[], &options()).unwrap();
    // Nothing differs in 300 problems: at most 1 − .025^(1/300) of all could.
    let expected = 1.0 - 0.025f64.powf(1.0 / 300.0);
    for d in comparison
        .differences
        .iter()
        .filter(|d| d.decoding == Decoding::Greedy)
    {
        assert!(d.p >= 1.0);
        assert!((d.interval.high - expected).abs() < 1e-9, "{d:?}");
        assert!((d.interval.low + expected).abs() < 1e-9, "{d:?}");
    }
}

#[test]
fn replicates_are_an_outer_level() {
    let mut evaluations = Vec::new();
    for replicate in 0..3 {
        evaluations.push(evaluation("base", replicate, 0, 300, 0.1));
        evaluations.extend((0..2).map(|seed| evaluation("W", replicate, seed, 300, 0.4)));
    }
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let w = find(&comparison, "W", "base", Decoding::Greedy);
    assert_eq!(
        (
            comparison.n_replicates,
            w.per_replicate.len(),
            w.mcnemar.len()
        ),
        (3, 3, 6)
    );
    assert!((crate::statistics::mean(&w.per_replicate) - w.difference).abs() < 1e-12);
    assert!(
        w.verdict.ends_with("2 seeds in each of 3 replicates"),
        "{}",
        w.verdict
    );
    assert!(w.method.contains("replicates, seeds and problems"));
    let accuracy = comparison.arms[1].greedy.as_ref().unwrap();
    assert!(accuracy.replicate_error.is_some() && accuracy.seed_error.is_some());
    assert_eq!(comparison.arms[0].greedy.as_ref().unwrap().seed_error, None);
}

#[test]
fn replicates_may_have_problems_of_their_own() {
    let mut evaluations = Vec::new();
    for replicate in 0..2 {
        for (arm, skill) in [("base", 0.1), ("W", 0.4)] {
            let mut e = evaluation(arm, replicate, 0, 300, skill);
            e.rows
                .iter_mut()
                .for_each(|row| row.problem_id = format!("{replicate}/{}", row.problem_id));
            evaluations.push(e);
        }
    }
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let w = find(&comparison, "W", "base", Decoding::Greedy);
    assert_eq!((comparison.n_problems, w.n_problems), (600, 600));
    assert!((w.gained - w.lost - w.difference).abs() < 1e-12);
    assert!((crate::statistics::mean(&w.per_replicate) - w.difference).abs() < 1e-12);
}

#[test]
fn gold_surprisal_is_averaged_over_seeds() {
    let mut evaluations = whole().0;
    for (at, e) in evaluations.iter_mut().filter(|e| e.arm == "G").enumerate() {
        e.gold = scores(30, 1.0 + at as f64);
    }
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let gold = comparison
        .arms
        .iter()
        .find(|a| a.arm == "G")
        .unwrap()
        .gold
        .clone()
        .unwrap();
    assert!((gold.nll_per_token - 2.0 * 1.1).abs() < 1e-9 && gold.n_tokens == 600);
    assert!((gold.seed_error.unwrap() - 1.1 / 3f64.sqrt()).abs() < 1e-9);
    assert!(gold.bits_per_byte.is_some());
}

#[test]
fn what_cannot_be_compared_is_an_error_that_names_it() {
    let (evaluations, _) = whole();
    let error = |evaluations: &[Evaluation], options: &CompareOptions| {
        compare(evaluations, &[], options).unwrap_err().to_string()
    };
    assert!(error(&[], &options()).contains("no evaluation"));
    let misspelt = CompareOptions {
        baselines: vec!["Base".into()],
        ..options()
    };
    assert!(error(&evaluations, &misspelt).contains("`Base` is not among the arms `base`, `H`"));
    let twice = [evaluations[1].clone(), evaluations[1].clone()];
    assert!(
        error(&twice, &options()).contains("arm `H` has two evaluations of replicate 0, seed 0")
    );
    let mut changed = evaluations.clone();
    changed[3].rows.retain(|row| row.problem_id != "p0007");
    let lacking = error(&changed, &options());
    assert!(
        lacking.contains("1 missing, 0 too many, such as `p0007`"),
        "{lacking}"
    );
    changed[3] = evaluations[3].clone();
    let again = changed[3].rows[0].clone();
    changed[3].rows.push(again);
    assert!(error(&changed, &options()).contains("problem `p0000` has two rows of sample 0"));
    let mut arm = data("H", 1.0);
    arm.scores[4].model = "another".into();
    let mixed = compare(&evaluations, &[arm], &options())
        .unwrap_err()
        .to_string();
    assert!(
        mixed.contains("arm `H`") && mixed.contains("different students"),
        "{mixed}"
    );
}

#[test]
fn a_comparison_survives_its_file() {
    let (evaluations, arms) = whole();
    let comparison = compare(&evaluations, &arms, &options()).unwrap();
    let text = serde_json::to_string(&comparison).unwrap();
    assert_eq!(
        serde_json::from_str::<Comparison>(&text).unwrap(),
        comparison
    );
}

#[test]
fn steps_of_the_rows_alone_are_counted() {
    let step = |check| Step {
        start: 0,
        end: 1,
        check,
    };
    let verdict = |id: &str, steps| VerdictRow {
        trace_id: id.into(),
        problem_id: "p".into(),
        verdict: Verdict::Correct,
        extracted: None,
        reason: String::new(),
        verifier: String::new(),
        steps,
        read: None,
    };
    let verdicts = [
        verdict(
            "a",
            vec![
                step(StepCheck::Valid),
                step(StepCheck::Invalid),
                step(StepCheck::Unchecked),
            ],
        ),
        verdict("b", vec![step(StepCheck::Valid)]),
    ];
    let row = ArmRow {
        trace_id: "a".into(),
        problem_id: "p".into(),
        prompt: String::new(),
        completion: String::new(),
        weight: 1.0,
        spans: Vec::new(),
    };
    assert_eq!(
        StepCounts::of(std::slice::from_ref(&row), &verdicts),
        Some(StepCounts {
            valid: 1,
            invalid: 1,
            unchecked: 1
        })
    );
    assert_eq!(
        StepCounts::of(
            &[ArmRow {
                trace_id: "z".into(),
                ..row
            }],
            &verdicts
        ),
        None
    );
}

#[test]
fn no_difference_is_rarely_called_one() {
    // Four arms of three seeds, all of the same skill as the base: any claim is false. More runs:
    // IDIOLECT_SIMULATIONS=1000 cargo test --release -p idiolect-core rarely_called -- --nocapture
    let runs = std::env::var("IDIOLECT_SIMULATIONS").map_or(60, |n| n.parse().unwrap());
    let false_alarms = (0..runs)
        .filter(|run| {
            let mut evaluations = vec![evaluation("base", *run, 0, 150, 0.4)];
            for arm in ["A", "B", "C", "D"] {
                evaluations.extend((0..3).map(|seed| evaluation(arm, *run, seed, 150, 0.4)));
            }
            let options = CompareOptions {
                draws: 600,
                baselines: vec!["base".into()],
                ..options()
            };
            let comparison = compare(&evaluations, &[], &options).unwrap();
            let mut greedy = comparison
                .differences
                .iter()
                .filter(|d| d.decoding == Decoding::Greedy);
            greedy.any(|d| d.relation != Relation::Unresolved)
        })
        .count();
    println!("{false_alarms} of {runs} comparisons claimed something");
    // At 5 % more than this (7 of 60) has a probability of about 0.01.
    let (share, n) = (0.05, runs as f64);
    let most = share * n + 2.33 * (share * (1.0 - share) * n).sqrt();
    assert!(
        false_alarms as f64 <= most.max(7.0),
        "{false_alarms} of {runs}"
    );
}

#[test]
fn a_comparison_of_full_size_holds_every_pair_and_no_wrong_order() {
    let mut evaluations = vec![evaluation("base", 0, 0, 600, 0.12)];
    for at in 0..9 {
        evaluations.extend(
            (0..3).map(|seed| evaluation(&format!("A{at}"), 0, seed, 600, 0.1 * f64::from(at))),
        );
    }
    let arms: Vec<ArmData> = (0..9)
        .map(|at| ArmData {
            scores: scores(1000, 1.0 + f64::from(at)),
            ..data(&format!("A{at}"), 1.0)
        })
        .collect();
    let options = CompareOptions {
        baselines: vec!["base".into(), "A0".into()],
        ..CompareOptions::default()
    };
    let comparison = compare(&evaluations, &arms, &options).unwrap();
    let greedy: Vec<_> = comparison
        .differences
        .iter()
        .filter(|d| d.decoding == Decoding::Greedy)
        .collect();
    // Nine arms against the base and eight against A0, which is the worst of the nine.
    assert_eq!(greedy.len(), 9 + 8);
    assert!(
        greedy
            .iter()
            .filter(|d| d.baseline == "A0")
            .all(|d| d.difference > 0.0)
    );
}

/// Greedy answers (or samples) to `n` problems, right as `is_right` of problem and sample states.
fn answered(
    arm: &str,
    seed: u64,
    (n, samples): (usize, usize),
    is_right: impl Fn(usize, usize) -> bool,
) -> Evaluation {
    let decoding = if samples == 1 {
        Decoding::Greedy
    } else {
        Decoding::Sampled
    };
    let verdict = |problem, sample| {
        if is_right(problem, sample) {
            Verdict::Correct
        } else {
            Verdict::Wrong
        }
    };
    let rows = (0..n).flat_map(|problem| {
        (0..samples).map(move |sample| row(problem, sample, decoding, verdict(problem, sample)))
    });
    Evaluation {
        arm: arm.to_owned(),
        replicate: 0,
        seed,
        rows: rows.collect(),
        gold: Vec::new(),
    }
}

/// Every interval of a document that is one number, and every error or detectable difference of 0.
fn certainties(at: &str, value: &serde_json::Value, found: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            let end = |name: &str| fields.get(name).and_then(Value::as_f64);
            if let (Some(low), Some(high)) = (end("low"), end("high"))
                && high - low < 1e-9
            {
                found.push(format!("{at}: [{low}, {high}]"));
            }
            for (name, value) in fields {
                let claims = name.ends_with("_error") || name == "smallest_detectable";
                if claims && value.as_f64().is_some_and(|error| error < 1e-9) {
                    found.push(format!("{at}.{name}: {value}"));
                }
                certainties(&format!("{at}.{name}"), value, found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                certainties(&format!("{at}[{i}]"), item, found);
            }
        }
        _ => {}
    }
}

#[test]
fn no_finite_data_makes_an_interval_of_no_width() {
    type Right = fn(usize, usize) -> bool;
    let kinds: [(&str, Right); 4] = [
        ("right", |_, _| true),
        ("wrong", |_, _| false),
        ("half", |_, sample| sample % 2 == 0),
        ("mixed", |problem, _| problem % 2 == 0),
    ];
    for n in [1, 2, 5, 6, 30, 300] {
        for samples in [1, 2] {
            for seeds in [1, 3] {
                let mut evaluations = vec![answered("base", 0, (n, samples), |_, _| false)];
                for (name, is_right) in kinds {
                    evaluations.extend(
                        (0..seeds).map(|seed| answered(name, seed, (n, samples), is_right)),
                    );
                }
                for e in &mut evaluations {
                    e.gold = scores(1, 2.0);
                }
                let arms: Vec<ArmData> = kinds
                    .iter()
                    .enumerate()
                    .map(|(at, (arm, _))| ArmData {
                        scores: scores(1, 1.0 + at as f64),
                        rows: 1,
                        right: Some(f64::from(u8::from(at % 2 == 0))),
                        ..data(arm, 1.0)
                    })
                    .collect();
                let comparison = compare(&evaluations, &arms, &options()).unwrap();
                let mut found = Vec::new();
                let document = serde_json::to_value(&comparison).unwrap();
                certainties("comparison", &document, &mut found);
                assert!(
                    found.is_empty(),
                    "{n} × {samples}, {seeds} seeds: {found:#?}"
                );
                for d in &comparison.differences {
                    assert!(d.interval.contains(d.difference), "{d:?}");
                    assert!(d.interval.low >= -1.0 && d.interval.high <= 1.0, "{d:?}");
                    assert_eq!(d.smallest_detectable.is_none(), n < 6, "{d:?}");
                    if n < 6 {
                        assert_eq!(d.relation, Relation::Unresolved, "{d:?}");
                        assert!(d.p > 0.05, "{d:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn one_problem_right_against_wrong_shows_nothing() {
    let evaluations = [
        answered("a", 0, (1, 1), |_, _| true),
        answered("b", 0, (1, 1), |_, _| false),
    ];
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let d = find(&comparison, "b", "a", Decoding::Greedy);
    assert!(
        (d.interval.low + 1.0).abs() < 1e-9 && d.interval.high > 0.9,
        "{d:?}"
    );
    assert!(d.verdict.contains("not distinguished"), "{}", d.verdict);
    assert!(
        comparison.warnings[0].contains("1 problem cannot distinguish any two arms"),
        "{:?}",
        comparison.warnings
    );
}

#[test]
fn the_majority_is_over_as_many_samples_of_every_arm() {
    // The first of each problem's samples is wrong, all others are right.
    let arm = |name: &str, k: usize| answered(name, 0, (30, k), |_, sample| sample > 0);
    let evaluations = [arm("a", 4), arm("b", 2)];
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    let of = |at: usize| comparison.arms[at].sampled.as_ref().unwrap();
    assert_eq!((of(0).k, of(0).common_k, of(1).common_k), (4, 2, 2));
    assert!((of(0).maj_at_k - 0.5).abs() < 1e-12, "{:?}", of(0));
    assert!((of(1).maj_at_k - 0.5).abs() < 1e-12, "{:?}", of(1));
    assert!((of(0).avg_at_k - 0.75).abs() < 1e-12);
    assert!(of(0).pass_at.contains_key(&2) && of(1).pass_at.contains_key(&2));
    let said = comparison.warnings.join("; ");
    assert!(
        said.contains("different numbers of samples") && said.contains("`a` 4"),
        "{said}"
    );
    let alike = compare(&[arm("a", 4), arm("b", 4)], &[], &options()).unwrap();
    let said = alike.warnings.join("; ");
    assert!(!said.contains("different numbers"), "{said}");
    assert!((alike.arms[0].sampled.as_ref().unwrap().maj_at_k - 1.0).abs() < 1e-12);
}

#[test]
fn greedy_and_sampled_answers_are_said_not_to_meet() {
    let evaluations = [
        answered("a", 0, (40, 2), |_, _| true),
        answered("b", 0, (40, 1), |_, _| false),
    ];
    let comparison = compare(&evaluations, &[], &options()).unwrap();
    assert!(comparison.differences.is_empty());
    let said = comparison.warnings.join("; ");
    assert!(
        said.contains(
            "`b` has greedy answers only and `a` sampled ones only: they are not compared"
        ),
        "{said}"
    );
    assert!(
        comparison
            .answer
            .starts_with("Nothing can be compared: b alone has greedy answers"),
        "{}",
        comparison.answer
    );
    // A third arm with both kinds meets each of them.
    let mut both = answered("c", 0, (40, 1), |problem, _| problem % 2 == 0);
    both.rows
        .extend(answered("c", 0, (40, 2), |_, _| true).rows);
    let [a, b] = evaluations;
    let options = CompareOptions {
        baselines: vec!["c".into()],
        ..options()
    };
    let comparison = compare(&[a, b, both], &[], &options).unwrap();
    assert_eq!(comparison.differences.len(), 2);
    let said = comparison.warnings.join("; ");
    assert!(said.contains("arm `a` has no greedy answers"), "{said}");
    assert!(said.contains("arm `b` has no sampled answers"), "{said}");
}

#[test]
fn an_empty_evaluation_beside_others_is_refused() {
    let empty = Evaluation {
        rows: Vec::new(),
        ..answered("b", 0, (1, 1), |_, _| true)
    };
    let evaluations = [answered("a", 0, (5, 1), |_, _| true), empty.clone()];
    let error = compare(&evaluations, &[], &options()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("arm `b`, replicate 0, seed 0: the evaluation has no rows"),
        "{error}"
    );
    assert_eq!(
        compare(&[empty], &[], &options()).unwrap_err(),
        CompareError::Nothing
    );
}

#[test]
fn arms_are_described_by_what_they_are_made_of() {
    let evaluations = [
        evaluation("base", 0, 0, 60, 0.1),
        evaluation("W", 0, 0, 60, 0.9),
        evaluation("mine", 0, 0, 60, 0.2),
        evaluation("other", 0, 0, 60, 0.2),
    ];
    let arms = [ArmData {
        spec: Some("W:0.25+G:0.75".into()),
        ..data("mine", 1.0)
    }];
    let comparison = compare(&evaluations, &arms, &options()).unwrap();
    let described: Vec<&str> = comparison
        .arms
        .iter()
        .map(|a| a.description.as_str())
        .collect();
    assert_eq!(
        described,
        [
            "untrained student",
            "teacher, wrong answer",
            "25 % teacher, wrong answer; 75 % teacher, correct answer",
            ""
        ]
    );
    let answer = &comparison.answer;
    assert!(answer.contains("W (teacher, wrong answer)"), "{answer}");
    assert!(answer.contains("base (untrained student)"), "{answer}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn row_order_changes_no_bit(seed in 0u64..1000) {
        let mut evaluations = vec![evaluation("base", 0, 0, 60, 0.2)];
        evaluations.extend((0..2).map(|s| evaluation("W", 0, s, 60, 0.4)));
        let mut arms = vec![data("W", 0.5)];
        let options = CompareOptions { draws: 200, ..options() };
        let expected = compare(&evaluations, &arms, &options).unwrap();
        let mut rng = Rng::keyed(seed, &["order"]);
        for e in &mut evaluations {
            rng.shuffle(&mut e.rows);
        }
        rng.shuffle(&mut arms[0].scores);
        rng.shuffle(&mut evaluations[1..]);
        prop_assert_eq!(compare(&evaluations, &arms, &options).unwrap(), expected);
    }
}
