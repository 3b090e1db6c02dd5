//! Models and rows in the forms of other programs.

use serde_json::{Value, json};

use crate::kit::Place;

#[test]
fn a_model_and_an_adapter_become_gguf_files() {
    let place = Place::new();
    place.copy_student("student");
    let convert = |more: &[&str]| {
        let base = ["convert", "student", "-o", "student.gguf", "--to", "gguf"];
        place.run(&[&base[..], more].concat())
    };
    let ran = convert(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let whole = place.bytes("student.gguf");
    assert!(whole.starts_with(b"GGUF"));
    // 260,032 parameters of 4 bytes, and the vocabulary.
    assert!(whole.len() > 4 * 260_000 && whole.len() < 5 * 260_000);
    let again = convert(&["--json"]);
    let document: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(document["was_complete"], true);
    let changed = convert(&["--dtype", "bf16"]);
    assert_eq!(changed.code, 1, "{}", changed.err);
    assert!(changed.err.contains("dtype"), "{}", changed.err);
    assert_eq!(place.bytes("student.gguf"), whole);
    assert_eq!(convert(&["--dtype", "bf16", "--overwrite"]).code, 0);
    assert!(place.bytes("student.gguf").len() < whole.len() / 2 + 20_000);

    place.write("mine.gguf", "mine");
    let ran = place.run(&["convert", "student", "-o", "mine.gguf", "--to", "gguf"]);
    assert_ne!(ran.code, 0);
    assert_eq!(place.text("mine.gguf"), "mine");

    let data = json!({"prompt": "Once", "completion": " upon a time"});
    place.write("data.jsonl", &format!("{data}\n"));
    let lora = "r=2,alpha=4";
    place.done(&[
        "train",
        "--model",
        "student",
        "--data",
        "data.jsonl",
        "--lora",
        lora,
        "--lr",
        "0.1",
        "-o",
        "adapter",
        "-q",
    ]);
    place.done(&["convert", "adapter", "-o", "adapter.gguf", "--to", "gguf"]);
    assert_eq!(place.bytes("adapter.gguf").len(), whole.len());
    assert_ne!(place.bytes("adapter.gguf"), whole);
}

/// The server stands in for llama.cpp: it has to be given the file, and answers with a directory.
#[test]
fn a_gguf_file_is_compared_with_its_model_by_rows() {
    let place = Place::new();
    for name in ["student", "other"] {
        place.copy_student(name);
    }
    let row = |i: usize| json!({"prompt": "Once", "completion": format!(" upon {i} times")});
    let rows: String = (0..5).map(|i| format!("{}\n", row(i))).collect();
    place.write("rows.jsonl", &rows);
    let program = env!("CARGO_BIN_EXE_idiolect");
    place.write(
        "serve.sh",
        &format!(
            "case $1 in */student.gguf) ;; *) echo not the file >&2; exit 1 ;; esac\n\
             exec '{program}' serve --model \"$(cat served)\" --port $2 --threads 1 --quiet\n"
        ),
    );
    let check = |served: &str, more: &[&str]| {
        place.write("served", served);
        let base = [
            "convert",
            "student",
            "-o",
            "student.gguf",
            "--to",
            "gguf",
            "--check",
            "rows.jsonl",
            "--check-rows",
            "3",
            "--server",
            "sh serve.sh {model} {port}",
            "--json",
        ];
        place.run(&[&base[..], more].concat())
    };
    let found = |served: &str| -> Value {
        let ran = check(served, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        serde_json::from_str::<Value>(&ran.out).unwrap()["check"].clone()
    };
    let same = found("student");
    assert_eq!(same["rows"], 3);
    assert_eq!(same["mean_abs_diff_nats"], 0.0);
    // A model with other weights is told, also of a file that was written before.
    place.done(&[
        "train",
        "--model",
        "other",
        "--data",
        "rows.jsonl",
        "--lr",
        "1e-3",
        "-o",
        "trained",
        "-q",
    ]);
    let other = found("trained");
    assert_eq!(other["tokens"], same["tokens"]);
    assert!(
        other["mean_abs_diff_nats"].as_f64().unwrap() > 1e-3,
        "{other}"
    );
    // What cannot be compared is said, and the file stays.
    place.write("rows.jsonl", "{\"prompt\": 1}\n");
    let ran = check("student", &[]);
    assert!(ran.code == 1 && ran.err.contains("line 1"), "{}", ran.err);
    assert!(place.path("student.gguf").exists());
    let ran = place.run(&[
        "convert",
        "student",
        "-o",
        "x.gguf",
        "--to",
        "gguf",
        "--check",
        "rows.jsonl",
    ]);
    assert!(ran.code == 2 && ran.err.contains("--server"), "{}", ran.err);
}

#[test]
fn rows_take_the_shape_of_another_trainer() {
    let place = Place::new();
    let rows = [
        json!({"prompt": "1 + 1?", "completion": "2", "trace_id": "a", "weight": 1.0}),
        json!({"prompt": "1 + 2?", "completion": "3", "spans": [{"start": 0, "end": 1, "train": false}]}),
    ];
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write("arm.jsonl", &lines);
    let convert = |form: &str, more: &[&str]| {
        let out = format!("{form}.jsonl");
        let base = ["convert", "arm.jsonl", "-o", &out, "--to", form];
        place.run(&[&base[..], more].concat())
    };
    // Half of the rows is more than is allowed.
    let ran = convert("trl", &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("--to axolotl"), "{}", ran.err);
    let ran = convert("trl", &["--max-rejects", "1"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(
        place.lines("trl.jsonl"),
        [json!({"prompt": "1 + 1?", "completion": "2"})]
    );
    assert_eq!(place.count("trl.jsonl.rejects.jsonl"), 1);
    assert_eq!(convert("axolotl", &[]).code, 0);
    let detail = &place.lines("axolotl.jsonl")[1]["messages"][1]["train_detail"];
    assert_eq!(
        detail,
        &json!([{"begin_offset": 0, "end_offset": 0, "train": false}])
    );
    let ran = convert("llama-factory", &["--max-rejects", "1"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let info: Value = serde_json::from_str(&place.text("dataset_info.json")).unwrap();
    let entry = &info["llama-factory"];
    assert_eq!(entry["file_name"], "llama-factory.jsonl");
    assert_eq!(entry["columns"]["response"], "output");
    // Another's list of data sets stays as it is.
    place.write("dataset_info.json", "{\"theirs\":{}}");
    let ran = convert("llama-factory", &["--max-rejects", "1", "--overwrite"]);
    assert!(ran.err.contains("this entry belongs in it"), "{}", ran.err);
    assert_eq!(place.text("dataset_info.json"), "{\"theirs\":{}}");
    let ran = convert("trl", &["--dtype", "bf16"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--dtype"), "{}", ran.err);
}
