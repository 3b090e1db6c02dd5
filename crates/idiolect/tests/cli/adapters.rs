//! Adapters from outside: trained, scored, merged.

use serde_json::{Value, json};

use crate::kit::Place;

/// A place with a small trained model in `models/base` and rows to train on.
fn place() -> Place {
    let place = Place::new();
    place.copy_student("models/base");
    let completions = [
        ", there was a girl named Lily.",
        ", a dog ran.",
        ", Tom had a ball.",
    ];
    let rows: String = completions
        .map(|c| {
            format!(
                "{}\n",
                json!({"prompt": "Once upon a time", "completion": c})
            )
        })
        .concat();
    place.write("rows.jsonl", &rows);
    place
}

fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "train",
        "--model",
        "models/base",
        "--data",
        "rows.jsonl",
        "--batch-size",
        "1",
        "--lr",
        "1e-2",
        "-q",
    ];
    [&base[..], more].concat()
}

/// The scores of the rows under a model, but for the model's hash.
fn scored(place: &Place, model: &str, more: &[&str]) -> Vec<Value> {
    let base = ["score", "--data", "rows.jsonl", "--overwrite", "-q"];
    let rest = ["--model", model, "-o", "a.jsonl"];
    place.done(&[&base[..], &rest, more].concat());
    let mut rows = place.lines("a.jsonl");
    rows.iter_mut()
        .for_each(|row| drop(row.as_object_mut().unwrap().remove("model")));
    rows
}

#[test]
fn an_adapter_is_trained_scored_and_merged() {
    let place = place();
    let lora = "r=4,alpha=8,dropout=0.1,targets=q_proj,v_proj,down_proj";
    let more = ["--lora", lora, "--epochs", "2", "-o", "train/a"];
    place.done(&train(&more));
    let config: Value = serde_json::from_str(&place.text("train/a/adapter_config.json")).unwrap();
    assert_eq!(config["base_model_name_or_path"], "../../models/base");
    assert_eq!(
        config["target_modules"],
        json!(["q_proj", "v_proj", "down_proj"])
    );
    assert_eq!(place.lines("train/a/log.jsonl").len(), 6);

    let (base, adapted) = (
        scored(&place, "models/base", &[]),
        scored(&place, "train/a", &[]),
    );
    assert_ne!(base, adapted);
    let convert = ["convert", "train/a", "-o", "m", "--to", "merged"];
    let told = place.done(&[&convert[..], &["--json"]].concat());
    assert!(told.contains("\"model_hash\""), "{told}");
    assert_eq!(scored(&place, "m", &[]), adapted);
    assert!(place.done(&convert).contains("nothing to do"));

    std::fs::rename(place.path("models/base"), place.path("moved")).unwrap();
    let ran = place.run(&[
        "score",
        "--model",
        "train/a",
        "--data",
        "rows.jsonl",
        "-o",
        "b",
    ]);
    assert!(ran.code == 1 && ran.err.contains("--base"), "{}", ran.err);
    assert_eq!(scored(&place, "train/a", &["--base", "moved"]), adapted);
    std::fs::create_dir(place.path("other")).unwrap();
    for entry in std::fs::read_dir(place.path("m")).unwrap() {
        let file = entry.unwrap();
        std::fs::copy(file.path(), place.path("other").join(file.file_name())).unwrap();
    }
    let ran = place.run(&[&convert[..5], &["merged", "--base", "other"]].concat());
    assert_eq!(ran.code, 1, "another base gives another model: {}", ran.err);
}

#[test]
fn adapters_that_make_no_sense_are_wrong_use() {
    let place = place();
    for (lora, words) in [
        ("r=0,alpha=1", "rank"),
        ("r=4", "alpha"),
        ("r=4,alpha=1,x=2", "none of"),
    ] {
        let ran = place.run(&train(&["--lora", lora, "-o", "a"]));
        assert!(ran.code == 2 && ran.err.contains(words), "{}", ran.err);
    }
    let ran = place.run(&train(&[
        "--lora",
        "r=4,alpha=1,targets=lm_head",
        "-o",
        "a",
    ]));
    assert!(
        ran.code == 1 && ran.err.contains("`lm_head`"),
        "{}",
        ran.err
    );
    let ran = place.run(&["convert", "models/base", "-o", "m", "--to", "merged"]);
    assert!(
        ran.code == 1 && ran.err.contains("adapter directory"),
        "{}",
        ran.err
    );
}

#[test]
fn spans_mask_tokens_and_a_row_without_targets_is_refused() {
    let place = place();
    let row = |spans: Value| json!({"prompt": "Once upon a time", "completion": ", a dog ran.", "spans": spans});
    let rows = [
        row(json!([{"start": 0, "end": 5, "train": false}])),
        row(json!([{"start": 0, "end": 12, "train": false}])),
        row(json!([{"start": 0, "end": 99, "train": false}])),
        row(json!([{"start": 0}])),
    ];
    place.write("rows.jsonl", &rows.map(|row| format!("{row}\n")).concat());
    let ran = place.run(&train(&["--max-rejects", "1", "-o", "a"]));
    assert_eq!(ran.code, 3, "{}", ran.err);
    let log = place.lines("a/log.jsonl");
    assert_eq!(log.len(), 1);
    let rejects = place.lines("a.rejects.jsonl");
    let mut lines: Vec<(u64, &str)> = rejects
        .iter()
        .map(|r| (r["line"].as_u64().unwrap(), r["reason"].as_str().unwrap()))
        .collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 3);
    for ((line, reason), words) in lines.iter().zip([
        (2, "no token of the completion"),
        (3, "12 bytes"),
        (4, "`spans`"),
    ]) {
        assert!(
            *line == words.0 && reason.contains(words.1),
            "{line}: {reason}"
        );
    }
}
