//! `--compute bf16`: what it changes, where it is recorded, and what refuses it.

use idiolect_engine::decoder::check_compute;
use idiolect_model::Compute;
use serde_json::Value;

use crate::kit::Place;

/// Whether this machine multiplies bf16; where not, that the command states so is what is tested.
#[expect(clippy::print_stderr, reason = "a check that is skipped states so")]
fn machine_has_bf16(place: &Place, arguments: &[&str]) -> bool {
    if check_compute(Compute::Bf16).is_ok() {
        return true;
    }
    eprintln!("SKIPPED: this machine has no AVX-512 instructions for bf16");
    let ran = place.run(arguments);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("cannot multiply bf16"), "{}", ran.err);
    false
}

fn place() -> Place {
    let place = Place::new();
    place.copy_student("student");
    let rows: Vec<String> = (2..12)
        .map(|n| {
            let story = "a little girl named Lily. She loved to play outside in the park. ";
            format!(
                "{}\n",
                serde_json::json!({"prompt": "Once upon a time, there was ", "completion": &story[..5 * n]})
            )
        })
        .collect();
    place.write("rows.jsonl", &rows.concat());
    place
}

const SCORE: [&str; 7] = [
    "score",
    "--model",
    "student",
    "--data",
    "rows.jsonl",
    "--compute",
    "bf16",
];

#[test]
fn scores_in_bf16_are_near_those_in_f32_and_state_what_they_are() {
    let place = place();
    let score = |more: &[&str]| place.run(&[&SCORE[..5], more].concat());
    let in_bf16 = ["--compute", "bf16", "-o", "bf16.jsonl"];
    if !machine_has_bf16(&place, &[&SCORE[..], &["-o", "none.jsonl"]].concat()) {
        return;
    }
    assert_eq!(score(&["-o", "f32.jsonl"]).code, 0);
    assert_eq!(score(&in_bf16).code, 0);
    let nll = |file: &str| -> Vec<f64> {
        let rows = place.lines(file);
        rows.iter()
            .map(|row| row["nll_nats"].as_f64().unwrap())
            .collect()
    };
    let (exact, rounded) = (nll("f32.jsonl"), nll("bf16.jsonl"));
    assert_ne!(exact, rounded);
    for (a, b) in exact.iter().zip(&rounded) {
        assert!((a / b - 1.0).abs() < 0.02, "{a} {b}");
    }
    let settings = |file: &str| -> Value {
        let meta: Value = serde_json::from_str(&place.text(&format!("{file}.meta.json"))).unwrap();
        meta["settings"].clone()
    };
    assert_eq!(settings("bf16.jsonl")["compute"], "bf16");
    assert!(settings("f32.jsonl").get("compute").is_none());
    // Neither overwrites the other, and each is finished for its own settings.
    let other = score(&["-o", "bf16.jsonl"]);
    assert_ne!(other.code, 0);
    assert!(other.err.contains("compute"), "{}", other.err);
    assert_eq!(score(&in_bf16).code, 0);
}

#[test]
fn a_training_in_bf16_learns_and_continues_only_as_it_began() {
    let place = place();
    let train = [
        "train",
        "--model",
        "student",
        "--data",
        "rows.jsonl",
        "--batch-size",
        "2",
        "--epochs",
        "4",
        "--lr",
        "1e-3",
        "-o",
        "trained",
        "--compute",
    ];
    if !machine_has_bf16(&place, &[&train[..], &["bf16"]].concat()) {
        return;
    }
    place.done(&[&train[..], &["bf16"]].concat());
    let log = place.lines("trained/log.jsonl");
    let loss = |row: &Value| row["loss"].as_f64().unwrap();
    let steps: Vec<f64> = log
        .iter()
        .filter(|row| row["event"] == "step")
        .map(loss)
        .collect();
    assert!(steps[steps.len() - 1] < 0.8 * steps[0], "{steps:?}");
    let ran = place.run(&[&train[..], &["f32"]].concat());
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("compute"), "{}", ran.err);
}

#[test]
fn what_is_not_computed_here_has_no_type() {
    let place = Place::new();
    place.write(
        "script.jsonl",
        "{\"contains\": \"\", \"completions\": [\"1\"]}\n",
    );
    place.write("p.jsonl", &crate::kit::problems(2));
    let ran = place.run(&[
        "generate",
        "--model",
        "scripted:script.jsonl",
        "--problems",
        "p.jsonl",
        "-o",
        "t.jsonl",
        "--compute",
        "bf16",
    ]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("is not computed here"), "{}", ran.err);
}

/// A run in bf16 whose arms are compared: every stage states it, and a server refuses it.
#[test]
fn a_recipe_states_the_type_of_each_stage() {
    let (task, case, columns) = crate::own_data::TASKS[0];
    let place = crate::own_data::place(task, case, columns);
    let server = [
        "run",
        "mine/recipe.toml",
        "--out",
        "far",
        "--dry-run",
        "--set",
        "models.teacher=http://127.0.0.1:1/v1#m",
        "--set",
        "generate.compute=bf16",
    ];
    let ran = place.run(&server);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err
            .contains("`generate.compute` is of a model that is computed here"),
        "{}",
        ran.err
    );
    let run = [
        "run",
        "mine/recipe.toml",
        "--out",
        "here",
        "-q",
        "--set",
        "data.max_problems={train=20, test=6}",
        "--set",
        "score.compute=bf16",
        "--set",
        "train.compute=bf16",
        "--set",
        "eval.compute=bf16",
    ];
    if !machine_has_bf16(&place, &run) {
        return;
    }
    place.done(&run);
    for output in [
        "scores.jsonl",
        "eval/W/0/greedy.jsonl",
        "eval/W/0/gold.jsonl",
    ] {
        let meta = format!("here/students/small/r0/{output}.meta.json");
        let meta: Value = serde_json::from_str(&place.text(&meta)).unwrap();
        assert_eq!(meta["settings"]["compute"], "bf16", "{output}");
    }
    let meta: Value =
        serde_json::from_str(&place.text("here/students/small/r0/train/W/0.meta.json")).unwrap();
    assert_eq!(meta["settings"]["compute"], "bf16");
    let ran = place.run(&[&run[..], &["--set", "eval.compute=f32"]].concat());
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("eval.compute"), "{}", ran.err);
}
