use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::record::{Finish, Origin, OriginKind, TaskName, Verdict, content_hash};
use idiolect_model::{Rng, RowErrorKind};

struct World {
    problems: Vec<Problem>,
    traces: Vec<Trace>,
    verdicts: Vec<VerdictRow>,
    prompts: BTreeMap<String, String>,
}

impl World {
    fn input(&self) -> ArmsInput<'_> {
        ArmsInput {
            problems: &self.problems,
            traces: &self.traces,
            verdicts: &self.verdicts,
            scores: &[],
            prompts: &self.prompts,
            student: None,
        }
    }

    fn add(
        &mut self,
        problem: &str,
        text: &str,
        finish: Finish,
        origin: Origin,
        verdict: Option<Verdict>,
    ) -> String {
        let trace = Trace::new(problem, text, finish, origin);
        if let Some(verdict) = verdict {
            self.verdicts.push(VerdictRow {
                trace_id: trace.id.clone(),
                problem_id: problem.to_owned(),
                verdict,
                extracted: (verdict != Verdict::NoAnswer).then(|| "1".to_owned()),
                reason: String::new(),
                verifier: "countdown@1".into(),
                steps: Vec::new(),
                read: None,
            });
        }
        let id = trace.id.clone();
        self.traces.push(trace);
        id
    }
}

fn problem(id: &str, split: Split) -> Problem {
    Problem {
        id: id.to_owned(),
        task: TaskName::Countdown,
        question: format!("what is {id}?"),
        gold: json!({"numbers": [1, 2], "target": 3}),
        human: Some(format!("human {id}")),
        split,
        extra: Map::new(),
    }
}

fn flawed(parent: &str, dose: f64) -> Origin {
    Origin {
        parent: Some(parent.to_owned()),
        ops: vec![json!({"dose": dose, "steps": 2, "flawed": [0]})],
        ..Origin::of(OriginKind::Flawed)
    }
}

/// Forty training problems with everything, and ten test problems with traces too.
fn world() -> World {
    let mut world = World {
        problems: Vec::new(),
        traces: Vec::new(),
        verdicts: Vec::new(),
        prompts: BTreeMap::new(),
    };
    for at in 0..50 {
        let split = if at < 40 { Split::Train } else { Split::Test };
        let id = format!("p{at:02}");
        world.prompts.insert(id.clone(), format!("prompt {id}"));
        let sampled = || Origin::of(OriginKind::Sampled);
        for k in 0..3 {
            let parent = world.add(
                &id,
                &format!("right {id} {k}"),
                Finish::Stop,
                sampled(),
                Some(Verdict::Correct),
            );
            for dose in [0.25, 1.0] {
                world.add(
                    &id,
                    &format!("flawed {id} {k} {dose}"),
                    Finish::Stop,
                    flawed(&parent, dose),
                    None,
                );
            }
            world.add(
                &id,
                &format!("wrong {id} {k}"),
                Finish::Stop,
                sampled(),
                Some(Verdict::Wrong),
            );
        }
        world.add(
            &id,
            &format!("cut {id}"),
            Finish::Length,
            sampled(),
            Some(Verdict::Wrong),
        );
        world.add(
            &id,
            &format!("unknown {id}"),
            Finish::Unknown,
            sampled(),
            Some(Verdict::Wrong),
        );
        world.add(
            &id,
            &format!("mute {id}"),
            Finish::Stop,
            sampled(),
            Some(Verdict::NoAnswer),
        );
        let paraphrased = || Origin::of(OriginKind::Paraphrased);
        world.add(
            &id,
            &format!("said anew {id}"),
            Finish::Stop,
            paraphrased(),
            Some(Verdict::Correct),
        );
        world.add(
            &id,
            &format!("said wrong {id}"),
            Finish::Stop,
            paraphrased(),
            Some(Verdict::Wrong),
        );
        world.add(
            &id,
            &format!("control {id}"),
            Finish::Stop,
            Origin::of(OriginKind::Control),
            Some(Verdict::Wrong),
        );
        world.problems.push(problem(&id, split));
    }
    world
}

fn options(arms: &[&str]) -> ArmsOptions {
    ArmsOptions {
        arms: arms.iter().map(|a| a.parse().unwrap()).collect(),
        ..ArmsOptions::default()
    }
}

fn rows<'a>(built: &'a BuiltArms, name: &str) -> &'a [ArmRow] {
    &built
        .arms
        .iter()
        .find(|arm| arm.spec.name == name)
        .unwrap()
        .rows
}

/// The traces of an arm's rows, by id.
fn held<'a>(built: &'a BuiltArms, name: &str) -> Vec<&'a str> {
    rows(built, name)
        .iter()
        .map(|row| row.trace_id.as_str())
        .collect()
}

fn ids<'a>(traces: &[&'a Trace]) -> Vec<&'a str> {
    traces.iter().map(|trace| trace.id.as_str()).collect()
}

#[test]
fn every_arm_that_the_traces_support_is_built_on_the_same_problems() {
    let world = world();
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    let names: Vec<&str> = built
        .arms
        .iter()
        .map(|arm| arm.spec.name.as_str())
        .collect();
    assert_eq!(names, ["H", "G", "W", "P", "F25", "F100", "R"]);
    let ids = |name| {
        rows(&built, name)
            .iter()
            .map(|row| row.problem_id.clone())
            .collect::<Vec<_>>()
    };
    for name in names {
        assert_eq!(ids(name), ids("H"));
        assert_eq!(ids(name).len(), 40);
    }
    assert_eq!(rows(&built, "H")[3].completion, "human p03");
    assert_eq!(rows(&built, "H")[3].prompt, "prompt p03");
    assert_eq!(
        rows(&built, "H")[3].trace_id,
        crate::record::trace_id("p03", "human p03")
    );
}

#[test]
fn no_held_out_problem_is_in_any_arm() {
    let world = world();
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    for arm in &built.arms {
        assert!(
            arm.rows.iter().all(|row| row.problem_id.as_str() < "p40"),
            "{}",
            arm.spec.name
        );
        assert_eq!(refuse_held_out(&arm.rows, &world.problems), Ok(()));
    }
    assert_eq!(built.summary.coverage.held_out_traces, 10 * 18);
    let mut leaky = rows(&built, "H").to_vec();
    leaky[0].problem_id = "p45".into();
    let error = refuse_held_out(&leaky, &world.problems)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("1 training rows") && error.contains("`p45`"),
        "{error}"
    );
}

#[test]
fn a_training_problem_that_a_test_problem_repeats_is_left_out() {
    let mut world = world();
    world.problems[45].question = "what  is p07?".into();
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    assert_eq!(built.summary.coverage.same_question_as_held_out, 1);
    assert!(rows(&built, "G").iter().all(|row| row.problem_id != "p07"));
    assert!(
        built
            .summary
            .warnings
            .iter()
            .any(|w| w.contains("same question"))
    );
}

#[test]
fn w_holds_finished_readable_wrong_traces_alone() {
    let world = world();
    let built = build(world.input(), &options(&["W"])).unwrap();
    assert!(
        rows(&built, "W")
            .iter()
            .all(|row| row.completion.starts_with("wrong "))
    );
    let excluded = &built.summary.coverage.arms["W"].excluded;
    let expected = [
        ("correct", 120),
        ("cut off by the token limit", 40),
        ("no readable answer", 40),
        ("not known to be finished", 40),
    ];
    assert_eq!(
        excluded
            .iter()
            .map(|(k, v)| (k.as_str(), *v))
            .collect::<Vec<_>>(),
        expected
    );
    assert_eq!(
        built.summary.arms["W"].verdicts,
        BTreeMap::from([("wrong".to_owned(), 40)])
    );

    let lenient = ArmsOptions {
        unknown_finish_is_stop: true,
        ..options(&["W"])
    };
    let built = build(world.input(), &lenient).unwrap();
    assert!(
        !built.summary.coverage.arms["W"]
            .excluded
            .contains_key("not known to be finished")
    );
}

#[test]
fn flawed_traces_are_copies_of_the_trace_that_g_holds() {
    let world = world();
    let built = build(
        world.input(),
        &ArmsOptions {
            seed: 4,
            ..ArmsOptions::default()
        },
    )
    .unwrap();
    for (g, (low, high)) in rows(&built, "G")
        .iter()
        .zip(rows(&built, "F25").iter().zip(rows(&built, "F100")))
    {
        let copied = g.completion.strip_prefix("right ").unwrap();
        assert_eq!(low.completion, format!("flawed {copied} 0.25"));
        assert_eq!(high.completion, format!("flawed {copied} 1"));
    }
    let specs = built.arms.iter().map(|arm| arm.spec.clone());
    let picks = picks(
        &world.input(),
        &specs.collect::<Vec<_>>(),
        &Source::Correct,
        4,
    )
    .unwrap();
    assert_eq!(held(&built, "G"), ids(&picks));
}

#[test]
fn g_follows_the_traces_that_were_corrupted() {
    let mut world = world();
    // Only the second correct trace of each problem has flawed copies.
    world
        .traces
        .retain(|t| t.origin.kind != OriginKind::Flawed || t.text.contains(" 1 "));
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    assert_eq!(built.summary.coverage.arms["F25"].problems, 40);
    assert!(
        rows(&built, "G")
            .iter()
            .all(|row| row.completion.ends_with(" 1"))
    );
    let plain = build(world.input(), &options(&["G"])).unwrap();
    assert!(
        rows(&plain, "G")
            .iter()
            .any(|row| !row.completion.ends_with(" 1"))
    );
}

/// Forty problems with correct traces of the models `a` and `b`, and what is copied of which.
fn two_models(copied: &[&str]) -> World {
    let mut world = world();
    world
        .traces
        .retain(|t| t.origin.kind != OriginKind::Flawed && !t.text.starts_with("right"));
    for at in 0..40 {
        let id = format!("p{at:02}");
        for model in ["a", "b"] {
            let by = |origin: Origin| Origin {
                model: Some(format!("{model}@{at}")),
                ..origin
            };
            for k in 0..2 {
                let text = format!("right {id} by {model} {k}");
                let sampled = by(Origin::of(OriginKind::Sampled));
                let parent = world.add(&id, &text, Finish::Stop, sampled, Some(Verdict::Correct));
                if copied.contains(&model) && k == 1 {
                    let text = format!("flawed {id} by {model} {k}");
                    world.add(&id, &text, Finish::Stop, by(flawed(&parent, 0.25)), None);
                }
            }
        }
    }
    world
}

#[test]
fn copies_of_one_model_leave_the_other_models_traces_alone() {
    let arms = ["G=G[model=a]", "F=F25[model=a]", "other=G[model=b]"];
    // The traces to copy are of the model that copies are asked of, one of each problem.
    let world = two_models(&[]);
    let specs = options(&arms).arms;
    let to_copy = picks(&world.input(), &specs, &Source::Correct, 0).unwrap();
    assert_eq!(to_copy.len(), 40);
    assert!(to_copy.iter().all(|trace| trace.text.contains(" by a ")));

    let world = two_models(&["a"]);
    let built = build(world.input(), &options(&arms)).unwrap();
    assert_eq!(built.summary.coverage.matched_problems, 40);
    let mut of_b = BTreeSet::new();
    for (g, (f, other)) in rows(&built, "G")
        .iter()
        .zip(rows(&built, "F").iter().zip(rows(&built, "other")))
    {
        assert_eq!(f.completion, g.completion.replace("right", "flawed"));
        assert!(other.completion.contains(" by b "));
        of_b.insert(other.completion.ends_with(" 1"));
    }
    assert_eq!(
        of_b.len(),
        2,
        "one model's copies decided the other's traces"
    );
}

#[test]
fn copies_of_two_sets_of_models_are_made_of_a_trace_of_each() {
    let arms = ["F=F25", "Fa=F25[model=a]", "G", "Ga=G[model=a]"];
    let specs = options(&arms).arms;
    let models = models_to_copy(&specs, &Source::Correct);
    assert_eq!(models, [vec![], vec!["model=a".to_owned()]]);
    let world = two_models(&[]);
    let to_copy = picks(&world.input(), &specs, &Source::Correct, 0).unwrap();
    let of_b = to_copy.iter().filter(|t| t.text.contains(" by b ")).count();
    assert!((5..35).contains(&of_b), "{of_b}");
    // Of each problem a trace of `a`, and another where the one of all models is another.
    let of_a: BTreeSet<&str> = to_copy
        .iter()
        .filter(|t| t.text.contains(" by a "))
        .map(|t| t.problem_id.as_str())
        .collect();
    assert_eq!(of_a.len(), 40);
    assert!(ids(&to_copy).iter().collect::<BTreeSet<_>>().len() == to_copy.len());

    let world = two_models(&["a", "b"]);
    let built = build(world.input(), &options(&arms)).unwrap();
    for (g, f) in [("G", "F"), ("Ga", "Fa")] {
        for (g, f) in rows(&built, g).iter().zip(rows(&built, f)) {
            assert_eq!(f.completion, g.completion.replace("right", "flawed"));
        }
    }
}

#[test]
fn an_unchanged_flawed_copy_stays_in_its_arm() {
    let mut world = world();
    world.traces.retain(|t| t.origin.kind != OriginKind::Flawed);
    let parents: Vec<Trace> = world
        .traces
        .iter()
        .filter(|t| t.text.starts_with("right"))
        .cloned()
        .collect();
    for parent in parents {
        for dose in [0.25, 0.5] {
            world.add(
                &parent.problem_id,
                &parent.text,
                Finish::Stop,
                flawed(&parent.id, dose),
                None,
            );
        }
    }
    let built = build(world.input(), &options(&["G", "F25", "F50"])).unwrap();
    assert_eq!(rows(&built, "F25"), rows(&built, "G"));
    let same = built
        .summary
        .warnings
        .iter()
        .filter(|w| w.contains("hold the same rows"))
        .count();
    assert_eq!(same, 3, "{:?}", built.summary.warnings);
}

#[test]
fn p_holds_paraphrases_that_keep_the_answer() {
    let built = build(world().input(), &options(&["P"])).unwrap();
    assert!(
        rows(&built, "P")
            .iter()
            .all(|row| row.completion.starts_with("said anew"))
    );
    assert_eq!(
        built.summary.coverage.arms["P"].excluded["the answer was not preserved"],
        40
    );
}

#[test]
fn other_human_styles_are_arms_of_their_own() {
    let mut world = world();
    for at in 0..40 {
        let digits = Origin {
            ops: vec![json!({"op": "digits"})],
            ..Origin::of(OriginKind::Human)
        };
        let second = Origin {
            model: Some("second".into()),
            ops: vec![json!("terse")],
            ..Origin::of(OriginKind::Human)
        };
        world.add(
            &format!("p{at:02}"),
            &format!("digits {at}"),
            Finish::Stop,
            digits,
            None,
        );
        world.add(
            &format!("p{at:02}"),
            &format!("terse {at}"),
            Finish::Stop,
            second,
            None,
        );
    }
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    assert!(
        rows(&built, "HD")
            .iter()
            .all(|row| row.completion.starts_with("digits"))
    );
    assert!(
        rows(&built, "H@terse")
            .iter()
            .all(|row| row.completion.starts_with("terse"))
    );
    assert!(
        rows(&built, "H")
            .iter()
            .all(|row| row.completion.starts_with("human"))
    );
    let by_model = build(world.input(), &options(&["X=H@second"])).unwrap();
    assert!(
        rows(&by_model, "X")
            .iter()
            .all(|row| row.completion.starts_with("terse"))
    );
}

#[test]
fn mixtures_take_exact_shares_of_the_plain_arms_traces() {
    let world = world();
    let built = build(world.input(), &options(&["G", "W", "m=W:0.3+G:0.7"])).unwrap();
    let wrong = rows(&built, "m")
        .iter()
        .filter(|row| row.completion.starts_with("wrong"))
        .count();
    assert_eq!((wrong, rows(&built, "m").len()), (12, 40));
    for ((m, g), w) in rows(&built, "m")
        .iter()
        .zip(rows(&built, "G"))
        .zip(rows(&built, "W"))
    {
        assert!(m == g || m == w);
    }
    assert_eq!(built.summary.arms["m"].spec, "W:0.3+G:0.7");
}

#[test]
fn equal_texts_of_one_making_collapse_and_are_counted() {
    let mut world = world();
    let copy = world
        .traces
        .iter()
        .find(|t| t.text == "wrong p00 1")
        .unwrap()
        .clone();
    world.traces.push(copy.clone());
    world.traces.push(Trace {
        finish: Finish::Length,
        ..copy
    });
    let before = build(self::world().input(), &options(&["W"])).unwrap();
    let after = build(world.input(), &options(&["W"])).unwrap();
    assert_eq!(after.summary.coverage.duplicates, 2);
    assert_eq!(before.arms, after.arms);
}

#[test]
fn arms_that_cannot_be_are_errors_with_reasons() {
    let mut world = world();
    let error = |world: &World, options: &ArmsOptions| {
        build(world.input(), options).unwrap_err().to_string()
    };
    assert!(error(&world, &options(&["F50"])).contains("arm `F50` covers no training problem"));
    assert!(error(&world, &options(&["W", "W=G"])).contains("two arms are called `W`"));
    world.prompts.remove("p05");
    assert!(error(&world, &options(&["W"])).contains("problem `p05` has no rendered prompt"));
    world.verdicts.push(VerdictRow {
        verdict: Verdict::Wrong,
        verifier: "paper".into(),
        ..world.verdicts[0].clone()
    });
    assert!(error(&world, &options(&["W"])).contains("by `countdown@1` and `paper`"));
    world.verdicts.clear();
    let unjudged = error(&world, &options(&["W"]));
    assert!(unjudged.contains("(360 no verdict, "), "{unjudged}");
    world.problems.retain(|p| p.split != Split::Train);
    assert!(error(&world, &ArmsOptions::default()).contains("support no arm"));
}

#[test]
fn arms_without_a_common_problem_are_refused_with_their_coverage() {
    let mut world = world();
    world.traces.retain(|t| match t.origin.kind {
        OriginKind::Paraphrased => t.problem_id.as_str() < "p10",
        OriginKind::Control => t.problem_id.as_str() >= "p10",
        _ => true,
    });
    let error = build(world.input(), &options(&["P", "R"]))
        .unwrap_err()
        .to_string();
    assert!(error.contains("P 10, R 30"), "{error}");
}

#[test]
fn coverage_holds_difficulty_length_and_tiny_arms() {
    let mut world = world();
    // Ten problems are easy: all their samples are right.
    world.traces.retain(|t| {
        t.problem_id.as_str() >= "p10" || t.text.starts_with("right") || t.text.starts_with("said")
    });
    let built = build(
        world.input(),
        &ArmsOptions {
            rows: Some(5),
            ..options(&["G", "W"])
        },
    )
    .unwrap();
    let coverage = &built.summary.coverage;
    assert_eq!(
        (coverage.arms["G"].problems, coverage.arms["W"].problems),
        (40, 30)
    );
    let easy = coverage.arms["G"].difficulty.unwrap();
    let hard = coverage.arms["W"].difficulty.unwrap();
    assert!(
        (hard - 6.0 / 9.0).abs() < 1e-12 && (easy - 0.75 * 6.0 / 9.0).abs() < 1e-12,
        "{easy} {hard}"
    );
    assert!((coverage.arms["W"].mean_bytes.unwrap() - 11.0).abs() < 1e-12);
    assert_eq!((coverage.matched_problems, coverage.used_problems), (30, 5));
    assert!(
        built
            .summary
            .warnings
            .iter()
            .any(|w| w.contains("`W` has 5 rows"))
    );
    assert_eq!(built.summary.arms["W"].tokens, None);
}

#[test]
fn the_hash_is_that_of_the_written_lines() {
    let built = build(world().input(), &options(&["W"])).unwrap();
    let lines: String = rows(&built, "W")
        .iter()
        .map(|r| serde_json::to_string(r).unwrap() + "\n")
        .collect();
    assert_eq!(built.summary.arms["W"].hash, content_hash(lines.as_bytes()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn picks_are_seeded_subsets_of_exact_size_whatever_the_order(seed in 0u64..1000, limit in 1usize..60) {
        let world = world();
        let options = ArmsOptions { seed, rows: Some(limit), ..ArmsOptions::default() };
        let built = build(world.input(), &options).unwrap();
        let mut shuffled = self::world();
        let mut rng = Rng::keyed(seed, &["shuffle"]);
        rng.shuffle(&mut shuffled.traces);
        rng.shuffle(&mut shuffled.problems);
        rng.shuffle(&mut shuffled.verdicts);
        prop_assert_eq!(&built, &build(shuffled.input(), &options).unwrap());
        let known: BTreeSet<&str> = world.traces.iter().map(|t| t.id.as_str()).collect();
        for arm in &built.arms {
            prop_assert_eq!(arm.rows.len(), limit.min(40));
            prop_assert!(arm.spec.name == "H" || arm.rows.iter().all(|row| known.contains(row.trace_id.as_str())));
        }
        let wider = build(world.input(), &ArmsOptions { rows: Some(limit + 7), ..options }).unwrap();
        for (narrow, wide) in built.arms.iter().zip(&wider.arms) {
            prop_assert!(narrow.rows.iter().all(|row| wide.rows.contains(row)));
        }
    }
}

/// `world` with scores for each trace: tokens from the text's length, surprisal from its hash.
fn scores(world: &World) -> Vec<ScoreRow> {
    world
        .traces
        .iter()
        .map(|trace| {
            let tokens = 5 + (trace.id.as_bytes()[0] % 40) as u64;
            let nll = f64::from(trace.id.as_bytes()[1]) / 10.0;
            serde_json::from_value(json!({
                "trace_id": trace.id, "problem_id": trace.problem_id, "model": "student", "template": "raw",
                "n_tokens": tokens, "n_bytes": tokens, "nll_nats": nll, "entropy_nats": 1.0, "varentropy_nats2": 1.0,
                "abs_excess_nats": 1.0, "rank_sum": 4.0, "rank_clip100_sum": 4.0, "log_rank_sum": 0.0, "top1": 0,
                "top5": 0, "top10": 0, "top50": 0, "brier_sum": 0.0, "end_nll_nats": 0.0,
            }))
            .unwrap()
        })
        .collect()
}

fn built(
    world: &World,
    scores: &[ScoreRow],
    arms: &[&str],
    matching: Matching,
) -> Result<BuiltArms, ArmsError> {
    let options = ArmsOptions {
        arms: arms.iter().map(|arm| arm.parse().unwrap()).collect(),
        matching,
        ..ArmsOptions::default()
    };
    build(
        ArmsInput {
            scores,
            ..world.input()
        },
        &options,
    )
}

#[test]
fn token_matched_totals_agree_within_one_percent() {
    let world = world();
    let scores = scores(&world);
    let arms = built(&world, &scores, &["G", "W"], Matching::Tokens).unwrap();
    let totals: Vec<u64> = arms
        .summary
        .arms
        .values()
        .map(|arm| arm.tokens.unwrap())
        .collect();
    let (least, most) = (*totals.iter().min().unwrap(), *totals.iter().max().unwrap());
    assert!(
        (most - least) as f64 <= TOKEN_TOLERANCE * least as f64,
        "{totals:?}"
    );
    let none = built(&world, &[], &["G", "W"], Matching::Tokens).unwrap_err();
    assert!(none.to_string().contains("score the traces"), "{none}");
    // Where others have scores, one without them is most often too long for the student.
    let some = built(&world, &scores[..1], &["G", "W"], Matching::Tokens).unwrap_err();
    assert!(some.to_string().contains("--model M"), "{some}");
}

#[test]
fn row_matched_arms_have_as_many_rows_each_of_its_own_problems() {
    let mut world = world();
    // W loses half of its problems; matched on rows G keeps as many, of any problem.
    let gone: Vec<String> = (0..20).map(|at| format!("p{at:02}")).collect();
    world
        .traces
        .retain(|t| !(gone.contains(&t.problem_id) && t.text.starts_with("wrong")));
    let arms = built(&world, &[], &["G", "W"], Matching::Rows).unwrap();
    let problems = |at: usize| -> BTreeSet<&str> {
        arms.arms[at]
            .rows
            .iter()
            .map(|r| r.problem_id.as_str())
            .collect()
    };
    assert_eq!((problems(0).len(), problems(1).len()), (20, 20));
    assert!(problems(0) != problems(1));
    assert_eq!(arms.summary.coverage.matching, Matching::Rows);
}

#[test]
fn filters_keep_the_traces_for_which_they_hold() {
    let world = world();
    let scores = scores(&world);
    let arms = built(
        &world,
        &scores,
        &["short=W[tokens<=20]", "W"],
        Matching::Problems,
    )
    .unwrap();
    let tokens: BTreeMap<&str, u64> = scores
        .iter()
        .map(|a| (a.trace_id.as_str(), a.n_tokens))
        .collect();
    assert!(!arms.arms[0].rows.is_empty());
    assert!(
        arms.arms[0]
            .rows
            .iter()
            .all(|row| tokens[row.trace_id.as_str()] <= 20)
    );
    assert_eq!(arms.summary.arms["short"].spec, "W[tokens<=20]");
    let none = built(&world, &scores, &["x=W[tokens>1000]"], Matching::Problems).unwrap_err();
    assert!(
        none.to_string().contains("covers no training problem"),
        "{none}"
    );
}

#[test]
fn a_curated_arm_comes_with_its_controls_and_reasons() {
    let world = world();
    let scores = scores(&world);
    let arms = built(
        &world,
        &scores,
        &["near=G{by=nll_per_token}", "W"],
        Matching::Problems,
    )
    .unwrap();
    let names: Vec<&str> = arms.arms.iter().map(|arm| arm.spec.name.as_str()).collect();
    assert_eq!(names, ["near", "near~random", "near~length", "W"]);
    let sizes: BTreeSet<usize> = arms.arms.iter().map(|arm| arm.rows.len()).collect();
    assert_eq!(sizes.len(), 1);
    let closeness = |at: usize| {
        let of: BTreeMap<&str, f64> = scores
            .iter()
            .map(|a| (a.trace_id.as_str(), a.nll_nats / a.n_tokens as f64))
            .collect();
        arms.arms[at]
            .rows
            .iter()
            .map(|r| of[r.trace_id.as_str()])
            .sum::<f64>()
    };
    assert!(closeness(0) < closeness(1) && closeness(0) < closeness(2));
    for arm in &arms.arms {
        assert_eq!(arm.reasons.len(), arm.rows.len());
        for (reason, row) in arm.reasons.iter().zip(&arm.rows) {
            assert_eq!(reason.trace_id, row.trace_id);
            assert!(!reason.why.is_empty());
        }
    }
    let same = built(
        &world,
        &scores,
        &["near=G{by=rsr}", "near~random=W"],
        Matching::Problems,
    )
    .unwrap_err();
    assert!(same.to_string().contains("near~random"));
}

#[test]
fn the_students_own_samples_are_s_and_neither_g_nor_w() {
    let mut world = world();
    for at in 0..40 {
        let mut origin = Origin::of(OriginKind::Sampled);
        origin.model = Some("small@student".to_owned());
        // The same text as the teacher's: it represents both.
        world.add(
            &format!("p{at:02}"),
            &format!("right p{at:02} 0"),
            Finish::Stop,
            origin,
            Some(Verdict::Correct),
        );
    }
    let scores = scores(&world);
    let arms = built(&world, &scores, &["S", "G"], Matching::Problems).unwrap();
    assert!(
        arms.arms[0]
            .rows
            .iter()
            .all(|row| row.completion.ends_with(" 0"))
    );
    assert_eq!(arms.summary.coverage.arms["S"].traces, 40);
    assert_eq!(arms.summary.coverage.arms["G"].traces, 120);
}

#[test]
fn a_training_problem_that_repeats_a_test_question_is_left_out_and_reported() {
    let mut world = world();
    let long = "a farmer with eleven brown cows and seven white hens walks to the market every sunday morning to sell milk and eggs";
    let test = world
        .problems
        .iter()
        .position(|p| p.split == Split::Test)
        .unwrap();
    world.problems[test].question = format!("{long} how much?");
    world.problems[0].question = format!("Read well: {long} how many?");
    world.problems[2].question = format!(
        "Is it so that {} asks this of us today in good time for supper",
        long.replace("seven", "nine")
    );
    let near = world.problems[2].question.to_uppercase();
    world.problems[3].question = near;
    let arms = built(&world, &[], &["G", "W"], Matching::Problems).unwrap();
    let coverage = &arms.summary.coverage;
    assert_eq!(
        (
            coverage.contaminated_problems,
            coverage.near_duplicate_problems
        ),
        (1, 1)
    );
    assert_eq!(coverage.train_problems, 38);
    assert!(
        arms.arms[0]
            .rows
            .iter()
            .all(|row| row.problem_id != "p00" && row.problem_id != "p03")
    );
    let said = arms.summary.warnings.join("\n");
    assert!(
        said.contains("repeat a held-out question") && said.contains("asks nearly the same"),
        "{said}"
    );
}

#[test]
fn a_trace_that_quotes_a_test_question_is_left_out() {
    let mut world = world();
    let long = "a farmer with eleven brown cows and seven white hens walks to the market every sunday morning to sell milk";
    let test = world
        .problems
        .iter()
        .position(|p| p.split == Split::Test)
        .unwrap();
    world.problems[test].question = long.to_owned();
    world.add(
        "p01",
        &format!("Another example: {long} 12"),
        Finish::Stop,
        Origin::of(OriginKind::Sampled),
        Some(Verdict::Wrong),
    );
    let arms = built(&world, &[], &["G", "W"], Matching::Problems).unwrap();
    assert_eq!(arms.summary.coverage.contaminated_traces, 1);
}

#[test]
fn wv_holds_the_trace_of_w_and_learns_it_up_to_its_first_false_step() {
    use crate::record::{Step, StepCheck};
    let mut world = world();
    let step = |start, end, check| Step { start, end, check };
    for verdict in &mut world.verdicts {
        let trace = world
            .traces
            .iter()
            .find(|t| t.id == verdict.trace_id)
            .unwrap();
        let end = trace.text.len();
        verdict.steps = match trace.text.as_bytes()[trace.text.len() - 1] {
            // No step before the first false one; two, the second false; none false.
            b'0' => vec![
                step(0, 3, StepCheck::Invalid),
                step(4, end, StepCheck::Valid),
            ],
            b'1' => vec![
                step(0, 3, StepCheck::Valid),
                step(4, end, StepCheck::Invalid),
            ],
            _ => vec![step(0, end, StepCheck::Valid)],
        };
    }
    let arms = built(&world, &[], &["W", "Wv"], Matching::Rows).unwrap();
    let held: BTreeMap<&str, &ArmRow> = arms.arms[1]
        .rows
        .iter()
        .map(|r| (r.problem_id.as_str(), r))
        .collect();
    let mut kinds = BTreeSet::new();
    for row in arms.arms[1].rows.iter() {
        assert!(
            !row.completion.ends_with('0'),
            "nothing of it could be trained on"
        );
        let masked = row.completion.ends_with('1');
        kinds.insert(masked);
        let spans: Vec<(usize, usize, bool)> = row
            .spans
            .iter()
            .map(|s| (s.start, s.end, s.train))
            .collect();
        assert_eq!(
            spans,
            if masked {
                vec![(4, row.completion.len(), false)]
            } else {
                vec![]
            }
        );
    }
    assert_eq!(kinds.len(), 2);
    for row in &arms.arms[0].rows {
        assert!(row.spans.is_empty());
        if let Some(other) = held.get(row.problem_id.as_str()) {
            assert_eq!(other.trace_id, row.trace_id);
        }
    }
    let line = serde_json::to_string(&arms.arms[0].rows[0]).unwrap();
    assert!(!line.contains("spans"), "{line}");
}

/// A student that cannot be trained on traces of which the test states so.
fn built_for(world: &World, arms: &[&str], refuses: &dyn Fn(&ArmRow) -> bool) -> BuiltArms {
    let takes = |row: &ArmRow| match refuses(row) {
        true => Err(RowErrorKind::TooLong),
        false => Ok(()),
    };
    let input = ArmsInput {
        student: Some(Student::new(&takes)),
        ..world.input()
    };
    build(input, &options(arms)).unwrap()
}

#[test]
fn what_the_student_cannot_take_is_in_no_arm() {
    let world = world();
    let arms = ["H", "G", "W", "F25", "mix=G:0.5+W:0.5"];
    // Two of the three right traces of every problem, and all wrong ones of p03; H of p05.
    let refuses = |row: &ArmRow| {
        let text = &row.completion;
        let right = text.starts_with("right ") && !text.ends_with(" 2");
        let wrong = text.starts_with("wrong p03");
        right || wrong || text == "human p05"
    };
    let built = built_for(&world, &arms, &refuses);
    for name in ["H", "G", "W", "F25", "mix"] {
        let ids: Vec<&str> = rows(&built, name)
            .iter()
            .map(|row| row.problem_id.as_str())
            .collect();
        assert_eq!(ids.len(), 38, "{name}");
        assert!(!ids.contains(&"p03") && !ids.contains(&"p05"), "{name}");
        assert!(rows(&built, name).iter().all(|row| !refuses(row)), "{name}");
    }
    for (g, f) in rows(&built, "G").iter().zip(rows(&built, "F25")) {
        let copied = g.completion.strip_prefix("right ").unwrap();
        assert_eq!(f.completion, format!("flawed {copied} 0.25"));
    }
    let coverage = &built.summary.coverage;
    let student = coverage.student.as_ref().unwrap();
    assert_eq!(student.problems, 2);
    let long = RowErrorKind::TooLong.name();
    assert_eq!(student.traces[long], 2 * 40 + 3 + 1);
    assert_eq!(coverage.arms["G"].excluded[long], 80);
    assert_eq!(coverage.arms["W"].excluded[long], 3);
    assert_eq!(coverage.arms["H"].excluded[long], 1);
    assert_eq!(coverage.arms["F25"].problems, 40);
    assert!(
        built
            .summary
            .warnings
            .iter()
            .any(|w| w.contains("2 problems that every arm would cover"))
    );
    let whole = build(world.input(), &options(&arms)).unwrap();
    assert_eq!(whole.summary.coverage.student, None);
    assert_eq!(rows(&whole, "G").len(), 40);
}

#[test]
fn crossed_arms_hold_copies_of_the_very_traces_of_g_and_w() {
    use crate::crossed::{ANSWER_ONLY, HUMAN_STYLE, RIGHT_ANSWER};
    let mut world = world();
    let sampled: Vec<Trace> = world
        .traces
        .iter()
        .filter(|t| t.text.starts_with("right ") || t.text.starts_with("wrong "))
        .cloned()
        .collect();
    for parent in &sampled {
        let is_right = parent.text.starts_with("right ");
        let verdict = if is_right {
            Verdict::Correct
        } else {
            Verdict::Wrong
        };
        let mut copy = |kind, label: &str, verdict| {
            let origin = Origin {
                parent: Some(parent.id.clone()),
                ops: vec![json!({"op": label})],
                ..Origin::of(kind)
            };
            let text = format!("{label} of {}", parent.text);
            world.add(
                &parent.problem_id,
                &text,
                Finish::Stop,
                origin,
                Some(verdict),
            );
        };
        copy(OriginKind::Paraphrased, HUMAN_STYLE, verdict);
        if is_right {
            copy(OriginKind::Control, ANSWER_ONLY, Verdict::Correct);
            copy(OriginKind::Control, RIGHT_ANSWER, Verdict::Correct);
            let origin = Origin {
                parent: Some(parent.id.clone()),
                ops: vec![json!({"dose": 0.0, "steps": 2, "flawed": [], "answer": "wrong"})],
                ..Origin::of(OriginKind::Flawed)
            };
            let text = format!("contradicted {}", parent.text);
            world.add(&parent.problem_id, &text, Finish::Stop, origin, None);
        }
    }
    let wanted = ["G", "W", "P", "R", "A", "GH", "WH", "RR", "F0@wrong", "F25"];
    let built = build(world.input(), &options(&wanted)).unwrap();
    for (arm, of, prefix) in [
        ("GH", "G", "human_style of "),
        ("WH", "W", "human_style of "),
        ("A", "G", "answer_only of "),
        ("RR", "G", "right_answer of "),
        ("F0@wrong", "G", "contradicted "),
    ] {
        for (copy, original) in rows(&built, arm).iter().zip(rows(&built, of)) {
            assert_eq!(
                copy.completion,
                format!("{prefix}{}", original.completion),
                "{arm}"
            );
        }
    }
    // Copies are none of the plain controls and paraphrases.
    assert!(
        rows(&built, "R")
            .iter()
            .all(|row| row.completion.starts_with("control "))
    );
    assert!(
        rows(&built, "P")
            .iter()
            .all(|row| row.completion.starts_with("said anew "))
    );
    let plain = build(world.input(), &ArmsOptions::default()).unwrap();
    let names: Vec<&str> = plain
        .arms
        .iter()
        .map(|arm| arm.spec.name.as_str())
        .collect();
    assert!(
        ["GH", "WH", "A", "RR", "F0@wrong"]
            .iter()
            .all(|arm| names.contains(arm)),
        "{names:?}"
    );
    let of_w = picks(&world.input(), &options(&["WH"]).arms, &Source::Wrong, 0).unwrap();
    let w = build(world.input(), &options(&["W"])).unwrap();
    assert_eq!(held(&w, "W"), ids(&of_w));
}

#[test]
fn the_trace_to_corrupt_is_one_that_the_student_can_take() {
    let world = world();
    let takes = |row: &ArmRow| match row.completion.ends_with(" 1") {
        true => Ok(()),
        false => Err(RowErrorKind::TooLong),
    };
    let input = ArmsInput {
        student: Some(Student::new(&takes)),
        ..world.input()
    };
    let picks = picks(&input, &options(&["F25"]).arms, &Source::Correct, 4).unwrap();
    assert_eq!(picks.len(), 40);
    assert!(picks.iter().all(|trace| trace.text.ends_with(" 1")));
}

#[test]
fn a_prefix_without_a_token_to_learn_is_no_row_of_wv_and_one_of_w() {
    let mut world = world();
    let wrong: BTreeSet<String> = world
        .traces
        .iter()
        .filter(|trace| trace.text.starts_with("wrong "))
        .map(|trace| trace.id.clone())
        .collect();
    for verdict in &mut world.verdicts {
        if wrong.contains(&verdict.trace_id) {
            let step = |start, end, check| crate::record::Step { start, end, check };
            verdict.steps = vec![
                step(0, 3, crate::record::StepCheck::Valid),
                step(4, 9, crate::record::StepCheck::Invalid),
            ];
        }
    }
    let refuses = |row: &ArmRow| !row.spans.is_empty() && row.problem_id.as_str() < "p10";
    let built = built_for(&world, &["W", "Wv"], &refuses);
    let rows = rows(&built, "Wv");
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|row| row.problem_id.as_str() >= "p10"));
    assert_eq!(built.summary.coverage.arms["W"].problems, 40);
    assert_eq!(built.summary.coverage.arms["Wv"].problems, 30);
}

#[test]
fn arms_that_one_would_look_for_are_named_with_reason_and_remedy() {
    let mut world = world();
    world
        .problems
        .iter_mut()
        .for_each(|problem| problem.human = None);
    for trace in &mut world.traces {
        if trace.text.starts_with("wrong ") {
            trace.finish = Finish::Unknown;
        }
        if trace.text.starts_with("right ") {
            trace.origin.kind = OriginKind::Imported;
        }
    }
    world
        .traces
        .retain(|trace| trace.origin.kind != OriginKind::Paraphrased);
    let built = build(world.input(), &ArmsOptions::default()).unwrap();
    let left = &built.summary.left_out;
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        ["F100", "F25", "G", "H", "W"]
    );
    assert_eq!(
        left["F25"].reasons["copies of traces that G does not hold"],
        120
    );
    assert_eq!(left["H"].reasons["problems without a human solution"], 40);
    assert_eq!(left["G"].reasons["not known to be sampled by a model"], 120);
    assert_eq!(left["W"].reasons["not known to be finished"], 160);
    let text = left["W"].to_string();
    assert!(
        text.starts_with("(teacher, wrong answer) is left out: ")
            && text.contains("--unknown-finish-is-stop"),
        "{text}"
    );
    assert!(left["G"].to_string().contains("--model NAME"));
    // Who names arms gets those, or an error that states as much.
    let built = build(world.input(), &options(&["R"])).unwrap();
    assert!(built.summary.left_out.is_empty());
    let error = build(world.input(), &options(&["W"])).unwrap_err();
    assert!(
        error.to_string().contains("--unknown-finish-is-stop"),
        "{error}"
    );
}
