//! What is read of a response and of a raw row before anything is judged.

use serde_json::json;

use crate::kit::{Place, problems};

/// The model goes on with a next problem in the words of the prompt, which no built-in prompt has.
#[test]
fn a_next_problem_in_the_words_of_the_prompt_is_not_read() {
    let place = Place::new();
    place.write("p.jsonl", &problems(1));
    place.write("own.txt", "Rechne.\n\nAufgabe: {question}\nLösung:");
    let answer = "So it is 1.\nAufgabe: And 3 + 4?\nLösung: 7";
    let script = json!({"completions": [answer]});
    place.write("s.jsonl", &format!("{script}\n"));
    let asked = [
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--prompt",
        "own.txt",
        "-q",
        "-o",
    ];
    place.done(
        &[
            &["generate", "-n", "1", "--temperature", "0"][..],
            &asked,
            &["t.jsonl"],
        ]
        .concat(),
    );
    let trace = &place.lines("t.jsonl")[0];
    assert_eq!(trace["origin"]["sampling"]["introduction"], "Aufgabe:");
    assert_eq!(trace["text"], answer);
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
        "-q",
    ]);
    let read = json!({"start": 0, "end": "So it is 1.\n".len()});
    let verdict = &place.lines("v.jsonl")[0];
    assert_eq!(
        (&verdict["verdict"], &verdict["read"]),
        (&json!("correct"), &read)
    );
    place.done(&[&["eval"][..], &asked, &["e.jsonl"]].concat());
    let row = &place.lines("e.jsonl")[0];
    assert_eq!(row["text"], answer);
    assert_eq!((&row["verdict"], &row["read"]), (&json!("correct"), &read));
}

#[test]
fn finish_reasons_of_other_servers_are_read_and_unknown_ones_counted() {
    let place = Place::new();
    let reasons = [
        "max_tokens",
        "MAX_TOKENS",
        "end_turn",
        "STOP",
        "length",
        "tool_use",
        "tool_use",
    ];
    let row = |(i, reason): (usize, &&str)| {
        let row = json!({"question": format!("q{i}"), "answer": "#### 5",
            "response": "so it is 5 or", "finish_reason": reason});
        format!("{row}\n")
    };
    let rows: String = reasons.iter().enumerate().map(row).collect();
    place.write("raw.jsonl", &rows);
    let ran = place.run(&[
        "import",
        "gsm8k",
        "raw.jsonl",
        "-o",
        "p.jsonl",
        "--traces",
        "t.jsonl",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("2 responses") && ran.err.contains("\"tool_use\" 2 times"),
        "{}",
        ran.err
    );
    let finishes: Vec<_> = place
        .lines("t.jsonl")
        .iter()
        .filter(|trace| trace["origin"]["kind"] == "imported")
        .map(|trace| (trace["finish"].clone(), trace["finish_reason"].clone()))
        .collect();
    let known = |finish: &str| (json!(finish), json!(null));
    let unknown = (json!("unknown"), json!("tool_use"));
    assert_eq!(
        finishes,
        [
            known("length"),
            known("length"),
            known("stop"),
            known("stop"),
            known("length"),
            unknown.clone(),
            unknown,
        ]
    );
    // What was cut off is not judged by its last number; what ended is.
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
        "-q",
    ]);
    let verdicts: Vec<_> = place
        .lines("v.jsonl")
        .iter()
        .zip(place.lines("t.jsonl"))
        .filter(|(_, trace)| trace["origin"]["kind"] == "imported")
        .map(|(verdict, _)| verdict["verdict"].clone())
        .collect();
    assert_eq!(
        verdicts[..3],
        [json!("no_answer"), json!("no_answer"), json!("correct")]
    );
}

#[test]
fn a_gold_that_is_no_single_number_is_refused_by_its_line() {
    let place = Place::new();
    let golds = [
        "It fell.\n#### - 7",
        "A lot.\n#### 1 000",
        "Either.\n#### 7 or 8",
        "Both.\n#### 12 boys and 15 girls",
    ];
    let rows: String = golds
        .iter()
        .map(|gold| format!("{}\n", json!({"question": gold, "answer": gold})))
        .collect();
    place.write("raw.jsonl", &rows);
    let ran = place.run(&[
        "import",
        "gsm8k",
        "raw.jsonl",
        "-o",
        "p.jsonl",
        "--max-rejects",
        "1",
    ]);
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.err);
    let golds: Vec<_> = place
        .lines("p.jsonl")
        .iter()
        .map(|p| p["gold"]["answer"].clone())
        .collect();
    assert_eq!(golds, [json!("-7"), json!("1000")]);
    let refused = place.lines("p.jsonl.rejects.jsonl");
    let lines: Vec<_> = refused.iter().map(|bad| bad["line"].clone()).collect();
    assert_eq!(lines, [json!(3), json!(4)]);
    assert!(
        refused
            .iter()
            .all(|bad| bad["reason"].as_str().unwrap().contains("no single number"))
    );
}
