//! Own files with own column names: what `import` is told, what it refuses, and how it states so.

use serde_json::{Value, json};

use crate::kit::Place;

fn rows(names: [&str; 3], n: usize) -> String {
    let row = |i: usize| {
        let mut row = serde_json::Map::new();
        row.insert(names[0].into(), json!(format!("How many are {i} and 1?")));
        row.insert(names[1].into(), json!(format!("{i}+1\n#### {}", i + 1)));
        row.insert(names[2].into(), json!(format!("It is {}.", i + 1)));
        format!("{}\n", Value::Object(row))
    };
    (0..n).map(row).collect()
}

const IMPORT: [&str; 8] = [
    "import",
    "gsm8k",
    "raw.jsonl",
    "-o",
    "p.jsonl",
    "--traces",
    "t.jsonl",
    "-q",
];

#[test]
fn the_flags_of_import_speak_for_every_row() {
    let place = Place::new();
    let row = json!({"question": "How many are 1 and 1?", "answer": "2", "response": "2", "split": "test",
        "model": "theirs", "finish": "length"});
    place.write("raw.jsonl", &format!("{row}\n"));
    place.done(&IMPORT);
    let trace = &place.lines("t.jsonl")[0];
    assert_eq!(
        (&trace["origin"]["model"], &trace["finish"]),
        (&json!("theirs"), &json!("length"))
    );
    let told = [
        "--model",
        "mine",
        "--finish",
        "unknown",
        "--split",
        "dev",
        "--overwrite",
    ];
    place.done(&[&IMPORT[..], &told].concat());
    let (problem, trace) = (&place.lines("p.jsonl")[0], &place.lines("t.jsonl")[0]);
    assert_eq!(problem["split"], "dev");
    assert_eq!(
        (&trace["origin"]["model"], &trace["finish"]),
        (&json!("mine"), &json!("unknown"))
    );
    // A row without a response has no trace that a model or an end could be stated of.
    place.write("raw.jsonl", &rows(["question", "answer", "note"], 1));
    place.done(
        &[
            &IMPORT[..],
            &["--model", "mine", "--finish", "stop", "--overwrite"],
        ]
        .concat(),
    );
    let problem = &place.lines("p.jsonl")[0];
    assert!(
        problem["model"].is_null() && problem["finish"].is_null(),
        "{problem}"
    );
    assert_eq!(place.lines("t.jsonl")[0]["origin"]["kind"], "human");
}

#[test]
fn a_mapping_that_no_row_can_follow_is_wrong_use_and_lists_what_there_is() {
    let place = Place::new();
    place.write("raw.jsonl", &rows(["query", "target", "output"], 3));
    let ran = place.run(
        &[
            &IMPORT[..],
            &["--map", "question=qurey", "--map", "answer=target"],
        ]
        .concat(),
    );
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err
            .contains("no row of `raw.jsonl` has a column `qurey`")
            && ran.err.contains("`output`, `query`, `target`"),
        "{}",
        ran.err
    );
    let ran = place.run(&[&IMPORT[..], &["--map", "qestion=query"]].concat());
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err.contains("gsm8k has no field `qestion`") && ran.err.contains("`question`"),
        "{}",
        ran.err
    );
    assert!(!place.path("p.jsonl").exists());
    // A column that only some rows have is one.
    let some = rows(["query", "target", "output"], 3)
        + "{\"query\":\"How many are 7 and 1?\",\"target\":\"8\"}\n";
    place.write("raw.jsonl", &some);
    let map = [
        "--map",
        "question=query",
        "--map",
        "answer=target",
        "--map",
        "response=output",
    ];
    let ran = place.run(&[&IMPORT[..], &map, &["--max-rejects", "0.3"]].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(place.count("p.jsonl"), 3);
}

#[test]
fn a_failed_import_says_why_and_leaves_the_place_free_for_the_corrected_one() {
    let place = Place::new();
    place.write("raw.jsonl", &rows(["query", "target", "output"], 3));
    let ran = place.run(&IMPORT);
    assert_eq!(ran.code, 1);
    for words in [
        "3 of 3 rows were refused",
        "raw.jsonl, line 1: no field `question`",
        "idiolect import gsm8k --help",
        "--map FIELD=COLUMN",
        "`query`, `target`, `output`",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(place.count("p.jsonl.rejects.jsonl"), 3);
    assert!(!place.path("p.jsonl").exists() && !place.path("t.jsonl").exists());
    let map = [
        "--map",
        "question=query",
        "--map",
        "answer=target",
        "--map",
        "response=output",
    ];
    place.done(&[&IMPORT[..], &map].concat());
    assert_eq!((place.count("p.jsonl"), place.count("t.jsonl")), (3, 6));
    assert!(!place.path("p.jsonl.rejects.jsonl").exists());
    // What it made remains: other settings need --overwrite as ever.
    let ran = place.run(
        &[
            &IMPORT[..],
            &["--map", "question=query", "--map", "answer=target"],
        ]
        .concat(),
    );
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--overwrite"), "{}", ran.err);
    assert_eq!(place.count("p.jsonl"), 3);
}

#[test]
fn help_lists_the_fields_with_their_names() {
    let place = Place::new();
    let help = place.done(&["import", "--help"]);
    for words in [
        "question, problem:",
        "numbers, nums:",
        "test_list",
        "finish, finish_reason, stop_reason, done_reason:",
        "canonical_solution",
    ] {
        assert!(help.contains(words), "{words}: {help}");
    }
}

#[test]
fn rows_that_name_their_task_each_are_imported_as_what_they_are() {
    let place = Place::new();
    let rows = [
        json!({"task": "gsm8k", "question": "How many are 1 and 1?", "answer": "2"}),
        json!({"task": "math", "problem": "Find $x$ if $x - 1 = 1$.", "answer": "2"}),
        json!({"task": "countdown", "numbers": [1, 2, 3], "target": 6}),
        json!({"task": "mbpp", "text": "Write f that adds 1.", "test_list": ["assert f(1) == 2"],
            "code": "def f(x):\n    return x + 1"}),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write("mixed.jsonl", &text);
    let import = ["import", "jsonl", "mixed.jsonl", "-o", "p.jsonl", "-q"];
    place.done(&import);
    let tasks: Vec<Value> = place
        .lines("p.jsonl")
        .iter()
        .map(|row| row["task"].clone())
        .collect();
    assert_eq!(json!(tasks), json!(["gsm8k", "math", "countdown", "mbpp"]));
    // What was imported once is such a file itself.
    place.done(&["import", "jsonl", "p.jsonl", "-o", "again.jsonl", "-q"]);
    assert_eq!(place.text("again.jsonl"), place.text("p.jsonl"));

    for (row, words) in [
        (json!({"question": "q", "answer": "2"}), "no field `task`"),
        (json!({"task": "chess", "question": "q"}), "none of gsm8k"),
    ] {
        place.write("mixed.jsonl", &format!("{row}\n"));
        let ran = place.run(&["import", "jsonl", "mixed.jsonl", "-o", "x.jsonl", "-q"]);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
}
