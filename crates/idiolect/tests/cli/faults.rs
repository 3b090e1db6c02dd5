//! What would spoil an experiment, stated in plain words: a leak, an arm of three rows, an arm of
//! broken rows. Evaluations of other settings are in `models`, arms that answer alike in
//! `idiolect-core`'s comparison.

use serde_json::json;

use crate::kit::Place;

/// Four training questions, of which the last is a test question too; seven problems in all.
fn leaky() -> Place {
    let place = Place::new();
    let row = |n: usize| {
        let sum = 2 * n + 2;
        let question = format!("Tom has {n} apples and buys {} more. How many?", n + 2);
        let answer = format!(
            "He has {n}+{}=<<{n}+{}={sum}>>{sum}.\n#### {sum}",
            n + 2,
            n + 2
        );
        format!("{}\n", json!({"question": question, "answer": answer}))
    };
    place.write("train.jsonl", &(3..7).map(row).collect::<String>());
    place.write("test.jsonl", &(6..9).map(row).collect::<String>());
    place.done(&[
        "import",
        "gsm8k",
        "train.jsonl",
        "test.jsonl",
        "-o",
        "p.jsonl",
        "--traces",
        "h.jsonl",
    ]);
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "h.jsonl",
        "-o",
        "v.jsonl",
    ]);
    place
}

#[test]
fn a_leak_and_an_arm_of_three_rows_are_told() {
    let place = leaky();
    let built = place.run(&[
        "arms",
        "--problems",
        "p.jsonl",
        "--traces",
        "h.jsonl",
        "--verdicts",
        "v.jsonl",
        "--arm",
        "H=H",
        "-o",
        "arms",
    ]);
    assert_eq!(built.code, 0, "{}", built.err);
    for words in [
        "1 training problems were left out: a held-out problem asks the same question",
        "arm `H` has 3 rows: too few to show what it teaches",
    ] {
        assert!(built.err.contains(words), "{}", built.err);
    }
    assert!(
        place.lines("arms/H.jsonl").iter().all(|row| {
            let asked = row["prompt"].as_str().unwrap();
            !asked.contains("has 6 apples")
        }),
        "the leaked question is in no arm"
    );
}

#[test]
fn an_arm_of_which_half_the_rows_are_broken_trains_nothing_unless_allowed() {
    let place = leaky();
    let row = json!({"prompt": "Once", "completion": " upon a time."});
    let rows: String = (0..8)
        .map(|i| {
            if i % 2 == 0 {
                format!("{row}\n")
            } else {
                "{\"prompt\": \"On\n".to_owned()
            }
        })
        .collect();
    place.write("half.jsonl", &rows);
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");
    let train = ["train", "--model", model, "--data", "half.jsonl", "-o", "t"];
    let ran = place.run(&train);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("4 of 8 rows were refused"), "{}", ran.err);
    let named = place.lines("t.rejects.jsonl");
    let lines: Vec<u64> = named.iter().map(|r| r["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, [2, 4, 6, 8]);
    let allowed = place.run(&[&train[..], &["--max-rejects", "0.5"]].concat());
    assert_eq!(allowed.code, 3, "{}", allowed.err);
}
