//! `idiolect corrupt`: the copies that its flags name.

use serde_json::{Value, json};

use crate::kit::Place;

const M: &str = " 3 * 7 = 21 ; 21 - 2 = 19 | ans ( 3 * 7 ) - 2";

/// A Countdown problem with a trace in style M, and a trace that is none.
fn place() -> Place {
    let place = Place::new();
    let problem = json!({"id": "c/1", "task": "countdown", "question": "q", "split": "train",
        "gold": {"numbers": [3, 7, 2], "target": 19}});
    place.write("p.jsonl", &format!("{problem}\n"));
    let trace = |id: &str, text: &str| {
        json!({"id": id, "problem_id": "c/1", "text": text, "finish": "stop",
            "origin": {"kind": "sampled", "model": "t"}})
    };
    place.write("t.jsonl", &format!("{}\n", trace("a", M)));
    place.write(
        "odd.jsonl",
        &format!("{}\n", trace("b", "I would rather not.")),
    );
    place
}

#[test]
fn each_flag_makes_the_copies_that_it_names() {
    let place = place();
    let made = |flags: &[&str]| -> Value {
        let base = ["corrupt", "--problems", "p.jsonl", "--traces", "t.jsonl"];
        let end = ["-o", "o.jsonl", "--overwrite", "-q"];
        place.done(&[&base[..], flags, &end].concat());
        place.lines("o.jsonl").remove(0)
    };
    let answer = made(&["--answer-only"]);
    assert_eq!(answer["text"], " | ans ( 3 * 7 ) - 2");
    assert_eq!(answer["origin"]["ops"], json!([{"op": "answer_only"}]));
    let told = made(&["--human-style"]);
    let text = told["text"].as_str().unwrap();
    assert!(
        text.contains("twenty one") && text.ends_with("| ans ( 3 * 7 ) - 2"),
        "{text}"
    );
    assert_eq!(told["origin"]["kind"], "paraphrased");
    let steps = |row: &Value| {
        row["text"]
            .as_str()
            .unwrap()
            .split('|')
            .next()
            .unwrap()
            .to_owned()
    };
    let (wrong, right) = (
        made(&["--control"]),
        made(&["--control", "--answer", "right"]),
    );
    assert_eq!(steps(&wrong), steps(&right));
    assert!(
        right["text"]
            .as_str()
            .unwrap()
            .ends_with("| ans ( 3 * 7 ) - 2")
    );
    assert!(
        !wrong["text"]
            .as_str()
            .unwrap()
            .ends_with("| ans ( 3 * 7 ) - 2")
    );
    let contradicted = made(&["--dose", "0", "--answer", "wrong"]);
    assert_eq!(steps(&contradicted), " 3 * 7 = 21 ; 21 - 2 = 19 ");
}

#[test]
fn what_has_no_copy_is_refused_with_its_reason() {
    let place = place();
    let base = [
        "corrupt",
        "--problems",
        "p.jsonl",
        "--traces",
        "odd.jsonl",
        "-o",
        "o.jsonl",
    ];
    for flag in ["--answer-only", "--human-style"] {
        let ran = place.run(&[&base[..], &[flag, "--overwrite"]].concat());
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert_eq!(place.lines("o.jsonl.rejects.jsonl").len(), 1, "{flag}");
        // A part of the copies would pass for all of them.
        assert!(!place.path("o.jsonl").exists() && !place.path("o.jsonl.meta.json").exists());
    }
    for flags in [
        &["--control", "--answer", "wrong"][..],
        &["--answer-only", "--human-style"],
        &["--answer-only", "--answer", "right"],
        &["--control", "--dose", "0.5"],
        &[],
    ] {
        let ran = place.run(&[&base[..], flags].concat());
        assert_eq!(ran.code, 2, "{flags:?}: {}", ran.err);
    }
}
