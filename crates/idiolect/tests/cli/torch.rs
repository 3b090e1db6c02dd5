//! Scoring by the torch worker, whose place a shell script takes: it answers as an interpreter with
//! the packages, and replies to requests with what the test wrote down.

use serde_json::{Value, json};

use crate::kit::{Place, Ran};

/// An interpreter that names its packages, and else does what the script `behave` says, with the
/// folder of requests as `folder`. As the worker does, it writes `ready.json` whole.
const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = -c ]; then cat packages.json; exit; fi
folder=$(dirname "$2")
cp ready.json "$folder/part"
mv "$folder/part" "$folder/ready.json"
. ./behave
"#;

/// Waits for the first request and keeps it.
const REQUEST: &str = "while [ ! -e \"$folder/0.request.jsonl\" ]; do sleep 0.02; done\n\
    cp \"$folder/0.request.jsonl\" request.jsonl\n";

/// Waits until it is not needed any more.
const END: &str = "while [ ! -e \"$folder/end\" ]; do sleep 0.02; done\n";

fn place() -> Place {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.copy_student("student");
    let row = |(i, told): (usize, &str)| {
        format!(
            "{}\n",
            json!({"trace_id": format!("t{i}"), "prompt": "Once", "completion": told})
        )
    };
    let rows = [" upon a time", " there was", " a", ""];
    place.write(
        "rows.jsonl",
        &rows.into_iter().enumerate().map(row).collect::<String>(),
    );
    place.write("python", PYTHON);
    std::fs::set_permissions(place.path("python"), PermissionsExt::from_mode(0o755)).unwrap();
    place.write(
        "packages.json",
        "{\"python\":\"3.11.7\",\"packages\":{\"torch\":\"2.15.0+cu130\",\"transformers\":\"5.24.0\",\"peft\":null}}",
    );
    place.write(
        "ready.json",
        "{\"device\":\"cuda\",\"vocabulary\":512,\"apart\":true}",
    );
    place
}

const BASE: [&str; 8] = [
    "score",
    "--model",
    "student",
    "--data",
    "rows.jsonl",
    "-q",
    "--max-rejects",
    "0.5",
];

fn score(place: &Place, more: &[&str]) -> Ran {
    let own = [
        "--backend",
        "torch",
        "--python",
        "./python",
        "-o",
        "scores.jsonl",
    ];
    place.run(&[&BASE[..], &own, more].concat())
}

/// A reply of so many tokens, each at ln p = -0.5.
fn reply(row: usize, n: usize) -> String {
    let each = |value: f64| vec![value; n];
    json!({"row": row, "logprob": each(-0.5), "rank": vec![2; n], "entropy": each(1.0),
        "varentropy": each(0.25), "sum_p2": each(0.125)})
    .to_string()
}

/// Tokens of each row that is scored, the end token included, as the native engine counts them.
fn counts(place: &Place) -> Vec<usize> {
    let ran = place.run(&[&BASE[..], &["-o", "native.jsonl"]].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    let count = |row: Value| row["n_tokens"].as_u64().unwrap() as usize + 1;
    place.lines("native.jsonl").into_iter().map(count).collect()
}

fn behave(place: &Place, replies: &[String], then: &str) {
    place.write("replies", &format!("{}\n", replies.join("\n")));
    let text = format!("{REQUEST}cat replies > \"$folder/0.reply.jsonl\"\n{then}");
    place.write("behave", &text);
}

#[test]
fn replies_become_scores_and_every_column_of_the_tokens() {
    let place = place();
    let n = counts(&place);
    assert_eq!(n.len(), 3);
    // In any order.
    let replies = [reply(2, n[2]), reply(0, n[0]), reply(1, n[1])];
    behave(&place, &replies, END);
    let ran = score(&place, &["--tokens", "tokens.parquet"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let rows = place.lines("scores.jsonl");
    for (row, native) in rows.iter().zip(place.lines("native.jsonl")) {
        let tokens = row["n_tokens"].as_f64().unwrap();
        for name in ["trace_id", "n_tokens", "n_bytes", "model", "template"] {
            assert_eq!(row[name], native[name], "{name}");
        }
        for (name, each) in [
            ("nll_nats", 0.5),
            ("entropy_nats", 1.0),
            ("varentropy_nats2", 0.25),
            ("rank_sum", 2.0),
            ("brier_sum", 1.0 + 0.125 - 2.0 * (-0.5f64).exp()),
        ] {
            let found = row[name].as_f64().unwrap();
            assert!((found - each * tokens).abs() < 1e-5, "{name}: {found}");
        }
        assert_eq!(row["end_nll_nats"], 0.5);
    }
    assert!(place.path("tokens.parquet").exists());
    let meta: Value = serde_json::from_str(&place.text("scores.jsonl.meta.json")).unwrap();
    for (name, value) in [
        ("backend", "torch"),
        ("torch.device", "cuda"),
        ("torch.versions.torch", "2.15.0"),
    ] {
        assert_eq!(meta["settings"][name], value);
    }
    // The ids are those of the native engine's rows: as many as it scored.
    let asked = place.lines("request.jsonl");
    for (row, n) in asked.iter().zip(&n) {
        let ids = row["ids"].as_array().unwrap().len();
        assert_eq!(ids - row["from"].as_u64().unwrap() as usize, *n);
    }
    // Another device is another scoring.
    place.write("ready.json", "{\"device\":\"cpu\",\"vocabulary\":512}");
    place.write("behave", END);
    let ran = score(&place, &["--tokens", "tokens.parquet"]);
    assert!(
        ran.code == 1 && ran.err.contains("torch.device"),
        "{}",
        ran.err
    );
}

#[test]
fn a_worker_that_dies_is_told_and_the_rest_is_scored_later() {
    let place = place();
    let n = counts(&place);
    let die = "sleep 0.3; printf 'CUDA error\\007\\n' >&2; exit 4\n";
    behave(&place, &[reply(1, n[1])], die);
    let ran = score(&place, &[]);
    let told = ran.err.contains("the torch worker ended with exit code 4")
        && ran.err.contains("CUDA error\\u{7}");
    assert!(ran.code == 1 && told, "{}", ran.err);
    behave(&place, &[reply(0, n[0]), reply(1, n[2])], END);
    let ran = score(&place, &[]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(place.count("request.jsonl"), 2, "one of three was done");
    assert_eq!(place.count("scores.jsonl"), 3);
    // Before it is ready.
    place.write("python", "#!/bin/sh\nif [ \"$1\" = -c ]; then cat packages.json; exit; fi\necho no CUDA driver; exit 1\n");
    let ran = score(&place, &["--overwrite"]);
    assert!(
        ran.code == 1 && ran.err.contains("no CUDA driver"),
        "{}",
        ran.err
    );
}

#[test]
fn replies_that_are_none_are_refused() {
    let place = place();
    let n = counts(&place);
    for (replies, words) in [
        (vec![reply(0, n[0] + 1)], "it is not of"),
        (vec![reply(7, 2)], "it is to no row"),
        (
            vec![reply(0, n[0]), reply(0, n[0])],
            "it is to a row that has one",
        ),
        (vec![reply(0, n[0]).replace("-0.5", "0.5")], "above 0"),
        (vec!["{\"row\":0}".to_owned()], "missing field"),
        (
            vec![reply(0, n[0]).replace("\"row\"", "\"x\":1,\"row\"")],
            "unknown field",
        ),
    ] {
        behave(&place, &replies, END);
        let ran = score(&place, &["--overwrite"]);
        assert!(
            ran.code == 1 && ran.err.contains(words),
            "{words}: {}",
            ran.err
        );
    }
    place.write("ready.json", "{\"device\":\"cpu\",\"vocabulary\":513}");
    let ran = score(&place, &["--overwrite"]);
    assert!(
        ran.code == 1 && ran.err.contains("a vocabulary of 513"),
        "{}",
        ran.err
    );
    place.write(
        "packages.json",
        "{\"python\":\"3.9.1\",\"packages\":{\"torch\":null,\"transformers\":\"4.57.1\"}}",
    );
    let ran = score(&place, &["--overwrite"]);
    for words in [
        "torch is missing",
        "transformers is 4.57.1, older than 5.0",
        "-m pip install",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = place.run(&[&BASE[..], &["-o", "x.jsonl", "--python", "./python"]].concat());
    assert!(
        ran.code == 2 && ran.err.contains("--backend torch"),
        "{}",
        ran.err
    );
}
