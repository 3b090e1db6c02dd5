//! The report page out of single files: of evaluations alone, and of arms, scores, verdicts and
//! trainings beside them.

use serde_json::json;

use crate::kit::Place;

/// Greedy answers to 12 problems.
fn evaluation(is_right: impl Fn(usize) -> bool) -> String {
    let row = |i: usize| {
        let right = is_right(i);
        let row = json!({"problem_id": format!("gsm8k/test/{i}"), "sample": 0, "decoding": "greedy",
            "text": format!("<b>answer {i}</b>"), "finish": "stop", "verdict": if right { "correct" } else { "wrong" },
            "reason": "because", "extracted": "1", "n_tokens": 3});
        format!("{row}\n")
    };
    (0..12).map(row).collect()
}

pub(crate) fn arm(name: &str) -> String {
    let row = |i: usize| {
        let row = json!({"trace_id": format!("{name}{i}"), "problem_id": format!("gsm8k/train/{i}"), "prompt": "q",
            "completion": format!("trace {i} of {name}"), "weight": 1.0});
        format!("{row}\n")
    };
    (0..4).map(row).collect()
}

fn scores(name: &str, nll: f64) -> String {
    let row = |i: usize| {
        let row = json!({"trace_id": format!("{name}{i}"), "problem_id": format!("gsm8k/train/{i}"), "model": "m", "template": "raw",
            "n_tokens": 10, "n_bytes": 40, "nll_nats": nll + i as f64, "end_nll_nats": 0.1});
        format!("{row}\n")
    };
    (0..4).map(row).collect()
}

fn verdicts(name: &str, verdict: &str) -> String {
    let row = |i: usize| {
        let row = json!({"trace_id": format!("{name}{i}"), "problem_id": format!("gsm8k/train/{i}"), "verdict": verdict,
            "extracted": "1", "reason": "r", "verifier": "gsm8k@3", "steps": []});
        format!("{row}\n")
    };
    (0..4).map(row).collect()
}

/// A place with evaluations of the base and two arms.
pub(crate) fn place() -> Place {
    let place = Place::new();
    place.write("base.jsonl", &evaluation(|i| i < 2));
    place.write("W.jsonl", &evaluation(|i| i < 9));
    place.write("G.jsonl", &evaluation(|i| i < 6));
    let problems: String = (0..12)
        .map(|i| format!("{}\n", json!({"id": format!("gsm8k/test/{i}"), "task": "gsm8k", "question": format!("How many are {i} & 1?"), "gold": {"answer": format!("{}", 770 + i)}, "split": "test"})))
        .collect();
    place.write("problems.jsonl", &problems);
    place
}

const EVALUATIONS: [&str; 3] = ["base=base.jsonl", "W=W.jsonl", "G=G.jsonl"];

#[test]
fn a_comparison_has_a_page_with_answers_and_says_what_it_lacks() {
    let place = place();
    let compare = [&["compare", "--assume-same", "-q"], &EVALUATIONS[..]].concat();
    place.done(&[&compare[..], &["--report", "r.html"]].concat());
    let page = place.text("r.html");
    for words in [
        "What this page lacks",
        "Answers, problem by problem",
        "idiolect compare base=base.jsonl W=W.jsonl G=G.jsonl --assume-same --report r.html",
        "--problems problems.jsonl has them",
        "How W was evaluated",
        "“idiolect compare --json” prints the same numbers",
    ] {
        let found = page.contains(words)
            || (words.starts_with("How W") && page.contains("its making is not recorded"));
        assert!(found, "no `{words}`");
    }
    // No section stands there empty, and text of a model stays text.
    for heading in [
        "The dose of flaws",
        "Coverage",
        ">Training<",
        "Traces, token by token",
        "Closeness and accuracy",
        "class=\"missing\"",
    ] {
        assert!(!page.contains(heading), "`{heading}`");
    }
    assert!(!page.contains("<b>answer"), "markup of an answer");
    assert!(
        page.contains("\\u003cb>answer 3"),
        "the answers are in the page"
    );
    assert!(!page.contains("How many are 3"));
    place.done(
        &[
            &compare[..],
            &["--report", "q.html", "--problems", "problems.jsonl"],
        ]
        .concat(),
    );
    let page = place.text("q.html");
    assert!(page.contains("How many are 3 \\u0026 1?") || page.contains("How many are 3 & 1?"));
    assert!(!page.contains("answers are shown by the ids"));
    // The same files give the same bytes, and a file that is no page of ours stays.
    place.done(&[&compare[..], &["--report", "r2.html"]].concat());
    let unsealed = |name: &str| {
        let page = place.text(name);
        page.rsplit_once("\n<!-- written by").unwrap().0.to_owned()
    };
    let again = unsealed("r2.html").replace("r2.html", "r.html");
    assert_eq!(again, unsealed("r.html"));
    place.write("mine.html", "mine");
    let ran = place.run(&[&compare[..], &["--report", "mine.html"]].concat());
    assert_eq!(ran.code, 1);
    assert_eq!(place.text("mine.html"), "mine");
}

#[test]
fn a_report_is_made_of_stage_files_without_a_run_directory() {
    let place = place();
    for name in ["W", "G"] {
        place.write(&format!("arms/{name}.jsonl"), &arm(name));
        let log = json!({"event": "step", "step": 1, "loss": 2.5, "lr": 1e-5, "gradient_norm": 1.0, "target_tokens": 40, "tokens": 48, "wall_s": 0.1});
        place.write(&format!("train/{name}/log.jsonl"), &format!("{log}\n"));
    }
    place.write("scores.jsonl", &(scores("W", 5.0) + &scores("G", 8.0)));
    place.write(
        "verdicts.jsonl",
        &(verdicts("W", "wrong") + &verdicts("G", "correct")),
    );
    let mut report = vec!["report", "--assume-same", "-o", "r.html"];
    for evaluation in EVALUATIONS {
        report.extend(["--eval", evaluation]);
    }
    report.extend([
        "--arms",
        "arms",
        "--scores",
        "scores.jsonl",
        "--verdicts",
        "verdicts.jsonl",
        "--problems",
        "problems.jsonl",
        "--training",
        "W=train/W",
        "--training",
        "G=train/G",
    ]);
    place.done(&report);
    let page = place.text("r.html");
    for words in [
        "Closeness and accuracy",
        "id=\"training\"",
        "trace 3 of W",
        "W (teacher, wrong answer)",
        "What this page lacks",
        "--tokens tokens.parquet",
        "--training W=W --training G=G -o r.html",
    ] {
        assert!(page.contains(words), "no `{words}`");
    }
    for words in [
        "--arms ARMS_DIR`",
        "--verdicts verdicts.jsonl`",
        "Losses during training",
    ] {
        assert!(!page.contains(words), "`{words}`");
    }
    let markdown: Vec<&str> = report
        .iter()
        .map(|word| if *word == "r.html" { "r.md" } else { word })
        .collect();
    place.done(&markdown);
    // 5 + 0 + … + 3 nats over 40 tokens.
    assert!(place.text("r.md").contains(".65"), "{}", place.text("r.md"));
}

#[test]
fn what_a_report_of_files_needs_is_said() {
    let place = place();
    place.write("arms/H.jsonl", &arm("H"));
    place.write(
        "few.jsonl",
        place.text("problems.jsonl").lines().next().unwrap(),
    );
    let eval = [
        "report",
        "--eval",
        "W=W.jsonl",
        "--assume-same",
        "-o",
        "r.html",
    ];
    let with = |more: &[&'static str]| [&eval[..], more].concat();
    for (more, code, words) in [
        (
            with(&["--problems", "base.jsonl"]),
            1,
            "--problems `base.jsonl`, line 1: ",
        ),
        (
            with(&["--problems", "few.jsonl"]),
            2,
            "lacks 11 of the 12 problems",
        ),
        (
            with(&["--training", "Q=arms"]),
            2,
            "no evaluation is called `Q`",
        ),
        (
            with(&["--arms", "nowhere"]),
            2,
            "there is no folder `nowhere`",
        ),
        (
            with(&["--eval", "W=W.jsonl"]),
            2,
            "hold the same answers, both given as `W`",
        ),
    ] {
        let ran = place.run(&more);
        assert_eq!(ran.code, code, "{more:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{more:?}: {}", ran.err);
    }
    let cases: [(&[&str], i32, &str); 4] = [
        (&["report"], 2, "<RUN_DIR>"),
        (&["report", "--eval", "W=W.jsonl"], 2, "--output"),
        (
            &["report", "--eval", "W=W.jsonl", "-o", "r.html"],
            1,
            "--assume-same",
        ),
        (
            &[
                "report",
                "--eval",
                "W=W.jsonl",
                "--assume-same",
                "--arms",
                "arms",
                "-o",
                "r.html",
            ],
            2,
            "holds no arm that was evaluated",
        ),
    ];
    for (arguments, code, words) in cases {
        let ran = place.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    assert!(!place.path("r.html").exists());
}
