//! `idiolect compare` over evaluations that show little: few problems, all right, other decodings,
//! other numbers of samples.

use serde_json::{Value, json};

use crate::kit::Place;

/// Judged answers to `n` problems in `samples` samples each; one sample is greedy.
fn evaluation(n: usize, samples: usize, is_right: impl Fn(usize, usize) -> bool) -> String {
    let mut text = String::new();
    for problem in 0..n {
        for sample in 0..samples {
            let right = is_right(problem, sample);
            let row = json!({
                "problem_id": format!("p{problem}"),
                "sample": sample,
                "decoding": if samples == 1 { "greedy" } else { "sampled" },
                "text": "",
                "finish": "stop",
                "verdict": if right { "correct" } else { "wrong" },
                "extracted": if right { "5" } else { "7" },
                "n_tokens": 3,
            });
            text += &format!("{row}\n");
        }
    }
    text
}

fn compared(place: &Place, evaluations: &[&str]) -> (String, Value) {
    let base = ["compare", "--assume-same", "-q"];
    let text = place.done(&[&base[..], evaluations].concat());
    let json = place.done(&[&base[..], &["--json"], evaluations].concat());
    (text, serde_json::from_str(&json).unwrap())
}

#[test]
fn without_a_baseline_named_all_are_compared_with_base_and_h_as_help_states() {
    let place = Place::new();
    for (at, name) in ["W", "base", "H"].into_iter().enumerate() {
        let file = format!("{name}.jsonl");
        place.write(&file, &evaluation(40, 1, |problem, _| problem % 4 <= at));
    }
    let (_, found) = compared(&place, &["W=W.jsonl", "base=base.jsonl", "H=H.jsonl"]);
    assert_eq!(found["baselines"], json!(["base", "H"]));
    let (_, found) = compared(&place, &["W=W.jsonl", "H=H.jsonl"]);
    assert_eq!(found["baselines"], json!(["H"]));
    let (_, found) = compared(&place, &["W=W.jsonl", "a=H.jsonl"]);
    assert_eq!(found["baselines"], json!(["W"]));
}

#[test]
fn one_problem_or_all_right_gives_no_point_for_an_interval() {
    let place = Place::new();
    place.write("right.jsonl", &evaluation(1, 1, |_, _| true));
    place.write("wrong.jsonl", &evaluation(1, 1, |_, _| false));
    place.write("all.jsonl", &evaluation(50, 1, |_, _| true));
    place.write("none.jsonl", &evaluation(50, 1, |_, _| false));
    let (text, one) = compared(&place, &["a=right.jsonl", "b=wrong.jsonl"]);
    let d = &one["differences"][0];
    let end = |name: &str| d["interval"][name].as_f64().unwrap();
    assert!(end("low") <= -1.0 + 1e-9 && end("high") > 0.9, "{d}");
    assert!(d["smallest_detectable"].is_null(), "{d}");
    assert!(
        text.contains("1 problem cannot distinguish any two arms"),
        "{text}"
    );
    assert!(text.contains("not distinguished"), "{text}");
    for (file, begin) in [("r.html", "<!DOCTYPE html>"), ("r.md", "# ")] {
        compared(
            &place,
            &["a=right.jsonl", "b=wrong.jsonl", "--report", file],
        );
        assert!(place.text(file).starts_with(begin), "{file}");
    }

    let (text, all) = compared(&place, &["a=all.jsonl", "b=all.jsonl", "c=none.jsonl"]);
    assert!(
        !text.contains("[1.000, 1.000]") && !text.contains("[.000, .000]"),
        "{text}"
    );
    for d in all["differences"].as_array().unwrap() {
        let end = |name: &str| d["interval"][name].as_f64().unwrap();
        assert!(end("high") - end("low") > 0.05, "{d}");
        assert!(d["smallest_detectable"].as_f64().unwrap() > 0.1, "{d}");
    }
    assert_eq!(all["differences"][1]["relation"], "below");
}

#[test]
fn a_majority_is_over_as_many_samples_of_each() {
    let place = Place::new();
    // The first sample is wrong, all others are right: four votes are right, two are a tie.
    place.write("four.jsonl", &evaluation(30, 4, |_, sample| sample > 0));
    place.write("two.jsonl", &evaluation(30, 2, |_, sample| sample > 0));
    let (text, document) = compared(&place, &["a=four.jsonl", "b=two.jsonl"]);
    for arm in document["arms"].as_array().unwrap() {
        assert_eq!(arm["sampled"]["common_k"], 2);
        assert_eq!(arm["sampled"]["maj_at_k"], 0.5, "{arm}");
    }
    assert!(
        text.contains("maj@2") && text.contains("different numbers of samples"),
        "{text}"
    );
    // An average over four is not called one over two.
    assert!(!text.contains("avg@2"), "{text}");
}

#[test]
fn greedy_and_sampled_answers_are_reported_as_not_comparable() {
    let place = Place::new();
    place.write("sampled.jsonl", &evaluation(20, 2, |_, _| true));
    place.write("greedy.jsonl", &evaluation(20, 1, |_, _| false));
    let (text, document) = compared(&place, &["a=sampled.jsonl", "b=greedy.jsonl"]);
    assert!(
        text.contains(
            "`b` has greedy answers only and `a` sampled ones only: they are not compared"
        ),
        "{text}"
    );
    assert_eq!(document["differences"], json!([]));
}

#[test]
fn an_evaluation_without_rows_is_refused_by_its_file() {
    let place = Place::new();
    place.write("some.jsonl", &evaluation(5, 1, |_, _| true));
    place.write("empty.jsonl", "");
    for evaluations in [
        ["a=some.jsonl", "b=empty.jsonl"],
        ["a=empty.jsonl", "b=some.jsonl"],
    ] {
        let ran = place.run(&[&["compare", "--assume-same"], &evaluations[..]].concat());
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains("empty.jsonl` has no rows"), "{}", ran.err);
    }
}

#[test]
fn letters_of_the_arm_language_are_spelled_out() {
    let place = Place::new();
    place.write("a.jsonl", &evaluation(40, 1, |problem, _| problem % 2 == 0));
    place.write("b.jsonl", &evaluation(40, 1, |problem, _| problem % 3 == 0));
    let (text, document) = compared(&place, &["base=a.jsonl", "W=b.jsonl", "mine=a.jsonl"]);
    for shown in [
        "base (untrained student)",
        "W (teacher, wrong answer)",
        "\nmine ",
    ] {
        assert!(text.contains(shown), "no `{shown}` in\n{text}");
    }
    assert_eq!(document["arms"][1]["description"], "teacher, wrong answer");
    assert_eq!(document["arms"][2]["description"], "");
}

/// docs/statistics.md shows what a command prints; this is the command.
#[test]
fn the_worked_example_of_the_statistics_page_is_what_is_printed() {
    let page = include_str!("../../../../docs/statistics.md");
    let console = page.split_once("```console\n").unwrap().1;
    let (block, _) = console.split_once("```").unwrap();
    let (call, shown) = block.split_once('\n').unwrap();
    let place = Place::new();
    let rows =
        |is_right: &dyn Fn(usize) -> bool| evaluation(200, 1, |problem, _| is_right(problem));
    place.write("base.jsonl", &rows(&|problem| problem < 40));
    place.write(
        "W.jsonl",
        &rows(&|problem| problem < 30 || (40..68).contains(&problem)),
    );
    let words: Vec<&str> = call.trim_start_matches("$ idiolect ").split(' ').collect();
    // The page has plain spaces before its per cent signs.
    let printed = place.done(&words).replace('\u{202f}', " ");
    assert_eq!(printed.trim_end(), shown.trim_end());
    let json: Value =
        serde_json::from_str(&place.done(&[&words[..], &["--json"]].concat())).unwrap();
    let difference = &json["differences"][0];
    let flips = &difference["mcnemar"][0];
    for (stated, found) in [
        (
            "W gains 28 problems and loses 10",
            [&flips["only_arm"], &flips["only_baseline"]] == [28, 10],
        ),
        (
            "probability .0051",
            (difference["p"].as_f64().unwrap() - 0.0051).abs() < 5e-5,
        ),
        ("`p_method`", difference["p_method"] == "exact McNemar test"),
        (
            "is .084",
            (difference["smallest_detectable"].as_f64().unwrap() - 0.084).abs() < 5e-4,
        ),
    ] {
        assert!(page.contains(stated) && found, "{stated}: {difference}");
    }
}
