//! What a training saves is what its log states: the dev loss of the directory on disk.

use std::path::Path;

use idiolect_engine::local::LocalModel;
use idiolect_engine::weights::Dtype;
use serde_json::{Value, json};

use crate::kit::{Place, curves};

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// A place with the small trained model stored in bf16, and rows of GSM8K.
fn place() -> Place {
    let place = Place::new();
    let model = LocalModel::load(&fixture("stories260K"), None, 1).unwrap();
    model.write(&place.path("bf16"), Dtype::Bf16).unwrap();
    let text = std::fs::read_to_string(fixture("gsm8k/train.jsonl")).unwrap();
    let rows: Vec<String> = text
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let prompt = format!("Question: {}\nAnswer:", row["question"].as_str().unwrap());
            let completion = format!(" {}", row["answer"].as_str().unwrap());
            format!("{}\n", json!({"prompt": prompt, "completion": completion}))
        })
        .filter(|row| row.len() < 700)
        .collect();
    let (dev, data) = rows.split_at(6);
    place.write("dev.jsonl", &dev.concat());
    place.write("data.jsonl", &data[..16].concat());
    place
}

fn train(place: &Place, out: &str, more: &[&str]) -> crate::kit::Ran {
    let base = [
        "train",
        "--model",
        "bf16",
        "--data",
        "data.jsonl",
        "--dev",
        "dev.jsonl",
        "--batch-size",
        "2",
        "--schedule",
        "constant",
        "-o",
        out,
    ];
    let ran = place.run(&[&base[..], more].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran
}

/// Mean surprisal of the dev rows' targets, the end tokens among them, under a model on disk.
fn dev_loss(place: &Place, model: &str) -> f64 {
    let base = [
        "score",
        "--data",
        "dev.jsonl",
        "--overwrite",
        "-q",
        "-o",
        "s.jsonl",
    ];
    place.done(&[&base[..], &["--model", model]].concat());
    let (mut sum, mut n) = (0.0, 0.0);
    for row in place.lines("s.jsonl") {
        let number = |name: &str| row[name].as_f64().unwrap();
        sum += number("nll_nats") + number("end_nll_nats");
        n += number("n_tokens") + 1.0;
    }
    sum / n
}

/// The dev rows of a log: step, loss, and of which saved type.
fn dev_rows(place: &Place, out: &str) -> Vec<(u64, f64, Option<String>)> {
    let rows = place.lines(&format!("{out}/log.jsonl")).into_iter();
    rows.filter(|row| row["event"] == "dev")
        .map(|row| {
            let saved = row["save_dtype"].as_str().map(str::to_owned);
            (
                row["step"].as_u64().unwrap(),
                row["loss"].as_f64().unwrap(),
                saved,
            )
        })
        .collect()
}

fn dtype(place: &Place, model: &str) -> Value {
    let config: Value = serde_json::from_str(&place.text(&format!("{model}/config.json"))).unwrap();
    config["dtype"].clone()
}

#[test]
fn a_bf16_model_is_saved_as_the_model_whose_dev_loss_the_log_shows() {
    let place = place();
    assert_eq!(dtype(&place, "bf16"), "bfloat16");
    let base = dev_loss(&place, "bf16");
    for (lr, out) in [("1e-5", "a"), ("1e-6", "b")] {
        let more = [
            "--lr",
            lr,
            "--checkpoint-every",
            "4",
            "--dev-every",
            "4",
            "-q",
        ];
        train(&place, out, &more);
        let logged = dev_rows(&place, out);
        let (step, last, saved) = logged.last().unwrap();
        assert_eq!((*step, saved), (8, &None));
        assert!(base - last > 1e-3, "it has learned: {base} {last}");
        let on_disk = dev_loss(&place, out);
        assert!(
            (on_disk - last).abs() < 1e-4,
            "lr {lr}: saved {on_disk}, logged {last}"
        );
        // A state on the way is a model of its own.
        let (of_state, first) = (
            dev_loss(&place, &format!("{out}/checkpoint-4")),
            logged[0].1,
        );
        assert!(
            (of_state - first).abs() < 1e-4,
            "lr {lr}: state {of_state}, logged {first}"
        );
        for model in [out.to_owned(), format!("{out}/checkpoint-4")] {
            assert_eq!(dtype(&place, &model), "float32", "{model}");
        }
    }
    let meta: Value = serde_json::from_str(&place.text("a.meta.json")).unwrap();
    assert_eq!(meta["settings"]["save_dtype"], "f32");
}

#[test]
fn rounded_weights_are_evaluated_and_both_losses_reported() {
    let place = place();
    let more = ["--lr", "1e-5", "--save-dtype", "bf16"];
    let ran = train(&place, "a", &more);
    let logged = dev_rows(&place, "a");
    let [(_, trained, None), (_, rounded, Some(saved))] = &logged[..] else {
        panic!("{logged:?}");
    };
    assert_eq!(saved, "bf16");
    assert!((rounded - trained).abs() > 1e-3, "{trained} {rounded}");
    let on_disk = dev_loss(&place, "a");
    assert!((on_disk - rounded).abs() < 1e-4, "{on_disk} {rounded}");
    assert_eq!(dtype(&place, "a"), "bfloat16");
    for loss in [trained, rounded] {
        assert!(
            ran.err.contains(&format!("dev loss {loss:.4}")),
            "{}",
            ran.err
        );
    }
    assert!(ran.err.contains("rounded to bf16"), "{}", ran.err);
    let again = place.run(&[
        "train",
        "--model",
        "bf16",
        "--data",
        "data.jsonl",
        "--dev",
        "dev.jsonl",
        "--batch-size",
        "2",
        "--schedule",
        "constant",
        "-o",
        "a",
        "--lr",
        "1e-5",
    ]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("save_dtype"), "{}", again.err);
}

#[test]
fn adapters_and_what_is_merged_of_them_are_f32() {
    let place = place();
    let lora = ["--lora", "r=4,alpha=8", "--lr", "1e-4", "-q"];
    train(&place, "a", &lora);
    let logged = dev_rows(&place, "a").last().unwrap().1;
    assert!((dev_loss(&place, "a") - logged).abs() < 1e-4);
    place.done(&["convert", "a", "-o", "m", "--to", "merged", "-q"]);
    assert_eq!(dtype(&place, "m"), "float32");
    let merged = dev_loss(&place, "m");
    assert!((merged - logged).abs() < 1e-4, "{merged} {logged}");
    let more = [
        "--model",
        "bf16",
        "--data",
        "data.jsonl",
        "-o",
        "b",
        "--save-dtype",
        "bf16",
    ];
    let ran = place.run(&[&["train"], &more[..], &lora].concat());
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("adapter's files hold f32"), "{}", ran.err);
}

#[test]
fn a_config_of_bf16_does_not_round_what_is_trained_from_random_weights() {
    let place = place();
    place.write(
        "texts.jsonl",
        &"{\"text\":\"Once upon a time there was a dog.\"}\n".repeat(4),
    );
    let pretrain = |out: &str, more: &[&str]| {
        let base = [
            "pretrain",
            "--config",
            "bf16/config.json",
            "--tokenizer",
            "bf16/tokenizer.json",
            "--data",
            "texts.jsonl",
            "-q",
            "-o",
            out,
        ];
        place.done(&[&base[..], more].concat());
    };
    pretrain("a", &[]);
    pretrain("b", &["--save-dtype", "bf16"]);
    assert_eq!(dtype(&place, "a"), "float32");
    assert_eq!(dtype(&place, "b"), "bfloat16");
    let size = |out: &str| place.bytes(&format!("{out}/model.safetensors")).len();
    assert!(size("a") > 19 * size("b") / 10);
}

#[test]
fn rows_of_the_log_that_could_not_be_written_come_back_from_the_state() {
    let place = place();
    let train = |out: &str, epochs: &str| {
        place.run(&[
            "train",
            "--model",
            "bf16",
            "--data",
            "data.jsonl",
            "--dev",
            "dev.jsonl",
            "--epochs",
            epochs,
            "--batch-size",
            "8",
            "--checkpoint-every",
            "1",
            "-q",
            "-o",
            out,
        ])
    };
    assert_eq!(train("whole", "2").code, 0);
    let log = |out: &str| -> Vec<Value> {
        let mut rows = place.lines(&format!("{out}/log.jsonl"));
        for row in &mut rows {
            row.as_object_mut().unwrap().shift_remove("wall_s");
        }
        rows
    };
    let rows = log("whole");
    assert!(rows.len() > 3, "{rows:?}");
    let drawn = |out: &str| curves(&place.path(out).join("events.out.tfevents.0.idiolect"));
    assert!(drawn("whole").iter().any(|(tag, ..)| tag == "eval/loss"));
    // As a full disk leaves it: the states are there, the finished model is not, and the log lacks
    // its end, or a row in its midst.
    for lost in [1, rows.len() - 1, 2] {
        assert_eq!(train("cut", "2").code, 0);
        let text = place.text("cut/log.jsonl");
        let kept: Vec<&str> = text
            .lines()
            .enumerate()
            .filter(|(i, _)| match lost {
                2 => *i != 1,
                _ => i + lost < rows.len(),
            })
            .map(|(_, row)| row)
            .collect();
        place.write("cut/log.jsonl", &format!("{}\n", kept.join("\n")));
        let mut meta: Value = serde_json::from_str(&place.text("cut.meta.json")).unwrap();
        meta["complete"] = false.into();
        place.write("cut.meta.json", &meta.to_string());
        let resumed = train("cut", "2");
        assert_eq!(resumed.code, 0, "{}", resumed.err);
        assert_eq!(log("cut"), rows, "{lost}");
        assert_eq!(drawn("cut"), drawn("whole"), "{lost}");
        std::fs::remove_dir_all(place.path("cut")).unwrap();
        std::fs::remove_file(place.path("cut.meta.json")).unwrap();
    }
}
