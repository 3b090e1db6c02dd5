//! Evaluations and rows in the shapes of other programs.

use serde_json::{Value, json};

use crate::page::{arm, place};

#[test]
fn an_evaluation_is_written_as_lm_eval_writes_its_results() {
    let place = place();
    let convert = [
        "convert",
        "W.jsonl",
        "-o",
        "results",
        "--to",
        "lm-eval",
        "--problems",
        "problems.jsonl",
    ];
    place.done(&convert);
    let results: Value =
        serde_json::from_str(&place.text("results/results_1970-01-01T00-00-00.000000.json"))
            .unwrap();
    let metrics = &results["results"]["gsm8k"];
    assert_eq!(metrics["exact_match,none"], 0.75);
    // The deviation of nine ones and three zeros, over the root of twelve.
    let error = metrics["exact_match_stderr,none"].as_f64().unwrap();
    assert!(
        (error - (0.1875_f64 / 11.0).sqrt()).abs() < 1e-12,
        "{error}"
    );
    assert_eq!(
        results["n-samples"]["gsm8k"],
        json!({"original": 12, "effective": 12})
    );
    let rows = place.lines("results/samples_gsm8k_1970-01-01T00-00-00.000000.jsonl");
    assert_eq!(
        (rows.len(), &rows[9]["exact_match"], &rows[9]["target"]),
        (12, &json!(0.0), &json!("779"))
    );
    assert_eq!(rows[3]["resps"], json!([["<b>answer 3</b>"]]));
    // What is written is read again as lm-eval's, and judged anew.
    let samples = "results/samples_gsm8k_1970-01-01T00-00-00.000000.jsonl";
    let ran = place.run(&[
        "import",
        "gsm8k",
        samples,
        "--problems",
        "problems.jsonl",
        "--eval",
        "again.jsonl",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ids: Vec<Value> = place
        .lines("again.jsonl")
        .iter()
        .map(|row| row["problem_id"].clone())
        .collect();
    assert_eq!(ids[11], "gsm8k/test/11");
    let again = place.run(&convert);
    assert!(again.out.contains("complete before"), "{}", again.out);
    let ran = place.run(&["convert", "W.jsonl", "-o", "other", "--to", "lm-eval"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--problems problems.jsonl"), "{}", ran.err);
    place.write("few.jsonl", "");
    let ran = place.run(&[
        "convert",
        "W.jsonl",
        "-o",
        "other",
        "--to",
        "lm-eval",
        "--problems",
        "few.jsonl",
    ]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err
            .contains("`gsm8k/test/0`, which --problems does not have"),
        "{}",
        ran.err
    );
}

#[test]
fn rows_become_a_table_with_a_data_card() {
    let place = place();
    place.write("rows.jsonl", &arm("W"));
    let convert = [
        "convert",
        "rows.jsonl",
        "-o",
        "data/W.parquet",
        "--to",
        "parquet",
    ];
    place.write("data/other.txt", "");
    place.done(&convert);
    let card = place.text("data/README.md");
    for words in [
        "data_files: \"W.parquet\"",
        "4 rows of 4 problems",
        "| `completion` | text |",
        "| `weight` | float64 |",
        "Nothing is recorded",
        "Written by idiolect",
    ] {
        assert!(card.contains(words), "{words}: {card}");
    }
    // The table is rows again.
    place.done(&[
        "convert",
        "data/W.parquet",
        "-o",
        "back.jsonl",
        "--to",
        "trl",
        "-q",
    ]);
    assert_eq!(
        place.lines("back.jsonl")[2],
        json!({"prompt": "q", "completion": "trace 2 of W"})
    );
    // Of rows that this program made the card states how.
    place.done(&["import", "gsm8k", "problems.jsonl", "-o", "p.jsonl", "-q"]);
    place.done(&[
        "convert",
        "p.jsonl",
        "-o",
        "made/p.parquet",
        "--to",
        "parquet",
        "-q",
    ]);
    assert!(
        place
            .text("made/README.md")
            .contains("By `idiolect import`, 12 rows")
    );
    // A card that was added to, and that of another table, stays.
    let licence = format!("{}\nLicence: MIT\n", place.text("data/README.md"));
    place.write("data/README.md", &licence);
    place.done(&[&convert[..], &["--overwrite", "-q"]].concat());
    assert_eq!(place.text("data/README.md"), licence);
    let of_p = place.text("made/README.md");
    let ran = place.run(&[
        "convert",
        "rows.jsonl",
        "-o",
        "made/W.parquet",
        "--to",
        "parquet",
    ]);
    assert!(ran.err.contains("is there already"), "{}", ran.err);
    assert_eq!(place.text("made/README.md"), of_p);
    // A README that is not ours stays.
    place.write("mine/README.md", "my words\n");
    let ran = place.run(&[
        "convert",
        "rows.jsonl",
        "-o",
        "mine/W.parquet",
        "--to",
        "parquet",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err
            .contains("README.md` is there already and is not changed"),
        "{}",
        ran.err
    );
    assert_eq!(place.text("mine/README.md"), "my words\n");
    place.write("bad.jsonl", "{\"a\": 1}\n[2]\n");
    let ran = place.run(&[
        "convert",
        "bad.jsonl",
        "-o",
        "bad.parquet",
        "--to",
        "parquet",
    ]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("bad.jsonl, line 2") && !place.path("bad.parquet").exists(),
        "{}",
        ran.err
    );
}
