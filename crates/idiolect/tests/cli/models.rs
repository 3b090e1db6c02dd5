//! Real models, tiny: from problems to a comparison by single commands.

use std::process::Stdio;
use std::time::{Duration, Instant};

use idiolect_core::miniature::{
    ModelFamily, World, WorldSettings, config_json, tokenizer_config_json, tokenizer_json,
    vocabulary,
};
use idiolect_core::record::Split;
use serde_json::{Value, json};

use crate::kit::{Place, curves};

/// A tiny Countdown world: problems, human traces, a teacher's script and what a student is made of.
fn world() -> Place {
    let place = Place::new();
    let world = World::new(WorldSettings {
        student_tokens: 12_000,
        ..WorldSettings::tiny()
    })
    .unwrap();
    let lines = |rows: Vec<Value>| {
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>()
    };
    let wanted = |split: Split| matches!(split, Split::Train | Split::Test);
    let problems: Vec<_> = world
        .problems()
        .into_iter()
        .filter(|p| wanted(p.split))
        .collect();
    place.write(
        "p.jsonl",
        &lines(problems.iter().map(|p| json!(p)).collect()),
    );
    let script = problems.iter().map(|problem| {
        let gold = &problem.gold;
        let [a, b, c] = [0, 1, 2].map(|i| gold["numbers"][i].as_u64().unwrap());
        let wrong = format!(
            " {a} + {b} = {} ; {} + {c} = {} | ans ( {a} + {b} ) + {c}",
            a + b,
            a + b,
            a + b + c
        );
        let right = problem.human.as_deref().unwrap_or_default();
        let right = format!(
            " {}",
            right
                .rsplit_once("| ans")
                .map_or(right, |(_, answer)| answer.trim())
        );
        json!({"contains": format!("nums {a} {b} {c} -> {} |", gold["target"]),
            "completions": [wrong, format!(" {a} + {b} = {} | ans{right}", a + b)]})
    });
    place.write("teacher.jsonl", &lines(script.collect()));
    place.write(
        "text.jsonl",
        &lines(
            world
                .student_corpus()
                .iter()
                .map(|row| json!(row))
                .collect(),
        ),
    );
    let words = vocabulary();
    let shape = &world.settings().student;
    place.write(
        "config.json",
        &config_json(ModelFamily::Llama, shape, words.len()).to_string(),
    );
    place.write("tokenizer.json", &tokenizer_json(&words).to_string());
    place.write(
        "tokenizer_config.json",
        &tokenizer_config_json().to_string(),
    );
    place
}

const PRETRAIN: [&str; 14] = [
    "pretrain",
    "--config",
    "config.json",
    "--tokenizer",
    "tokenizer.json",
    "--data",
    "text.jsonl",
    "--lr",
    "4e-3",
    "--schedule",
    "cosine",
    "--checkpoint-every",
    "5",
    "-q",
];

#[test]
fn single_commands_lead_from_problems_to_a_comparison() {
    let place = world();
    let test_problems = place
        .lines("p.jsonl")
        .iter()
        .filter(|problem| problem["split"] == "test")
        .count();
    let train = |data: &str, output: &str| {
        place.done(&[
            "train",
            "--model",
            "student",
            "--data",
            data,
            "--epochs",
            "2",
            "--lr",
            "1e-3",
            "--batch-size",
            "8",
            "-q",
            "-o",
            output,
        ])
    };
    place.done(&[&PRETRAIN[..], &["-o", "student"]].concat());
    place.done(&[
        "generate",
        "--model",
        "scripted:teacher.jsonl",
        "--problems",
        "p.jsonl",
        "--split",
        "train",
        "--prompt",
        "mini",
        "-n",
        "6",
        "-o",
        "t.jsonl",
    ]);
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
    ]);
    place.done(&[
        "score",
        "--model",
        "student",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "--prompt",
        "mini",
        "-o",
        "a.jsonl",
    ]);
    let said = place.done(&[
        "arms",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "--verdicts",
        "v.jsonl",
        "--scores",
        "a.jsonl",
        "--prompt",
        "mini",
        "--arm",
        "G=G",
        "--arm",
        "W=W",
        "-o",
        "arms",
    ]);
    assert!(said.contains("covered by every arm"), "{said}");
    let arms: Value = serde_json::from_str(&place.text("arms/arms.json")).unwrap();
    assert_eq!(arms["arms"]["W"]["rows"], arms["arms"]["G"]["rows"]);
    assert!(arms["arms"]["W"]["tokens"].as_u64().unwrap() > 0);
    for arm in ["G", "W"] {
        train(&format!("arms/{arm}.jsonl"), arm);
    }
    for model in ["student", "G", "W"] {
        let output = format!("{model}.eval.jsonl");
        place.done(&[
            "eval",
            "--model",
            model,
            "--problems",
            "p.jsonl",
            "--split",
            "test",
            "--prompt",
            "mini",
            "--max-tokens",
            "40",
            "-o",
            &output,
        ]);
        assert_eq!(place.count(&output), test_problems);
    }
    let evaluations = [
        "base=student.eval.jsonl",
        "G=G.eval.jsonl",
        "W=W.eval.jsonl",
    ];
    let said = place.done(&[&["compare"], &evaluations[..]].concat());
    assert!(said.contains("base") && said.contains('W'), "{said}");
    let document = place.done(&[&["compare", "--json"], &evaluations[..]].concat());
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["n_problems"], test_problems);
    let log = place.lines("W/log.jsonl");
    assert!(
        log.iter().enumerate().all(|(i, row)| row["step"] == i + 1),
        "{log:?}"
    );
    assert!(log[0]["loss"].as_f64().unwrap() > 0.0 && log[0]["wall_s"].is_number());
    let logged = log.iter().flat_map(|row| {
        let point = |tag: &str, name: &str| {
            let value = f64::from(row[name].as_f64().unwrap() as f32);
            (format!("train/{tag}"), row["step"].as_i64().unwrap(), value)
        };
        [
            point("loss", "loss"),
            point("grad_norm", "gradient_norm"),
            point("learning_rate", "lr"),
        ]
    });
    let drawn = curves(&place.path("W/events.out.tfevents.0.idiolect"));
    assert_eq!(drawn, logged.collect::<Vec<_>>());
    train("arms/W.jsonl", "W2");
    assert_eq!(
        place.bytes("W/model.safetensors"),
        place.bytes("W2/model.safetensors")
    );
}

#[test]
fn a_killed_training_ends_in_the_same_model() {
    let place = world();
    place.done(&[&PRETRAIN[..], &["-o", "whole"]].concat());
    let steps = place.count("whole/log.jsonl");
    for rows in [steps / 3, 2 * steps / 3] {
        let mut child = place
            .command(&[&PRETRAIN[..], &["-o", "killed"]].concat())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while place.count("killed/log.jsonl") < rows && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.done(&[&PRETRAIN[..], &["-o", "killed"]].concat());
    assert_eq!(
        place.bytes("whole/model.safetensors"),
        place.bytes("killed/model.safetensors")
    );
    let without_times = |name: &str| {
        let mut rows = place.lines(name);
        rows.iter_mut()
            .for_each(|row| drop(row.as_object_mut().unwrap().remove("wall_s")));
        rows
    };
    assert_eq!(
        without_times("whole/log.jsonl"),
        without_times("killed/log.jsonl")
    );
    let drawn = |out: &str| curves(&place.path(out).join("events.out.tfevents.0.idiolect"));
    assert!(drawn("whole").len() >= 3 * steps);
    assert_eq!(drawn("whole"), drawn("killed"));
}

#[test]
fn rows_that_cannot_be_trained_on_are_refused_and_none_at_all_fails() {
    let place = world();
    place.write("short.jsonl", "{\"text\":\"1 + 2 = 3\"}\n{\"txet\":1}\n");
    let pretrain = |data: &str, more: &[&str]| {
        let base = [
            "pretrain",
            "--config",
            "config.json",
            "--tokenizer",
            "tokenizer.json",
            "-o",
            "m",
            "--data",
            data,
        ];
        place.run(&[&base[..], more].concat())
    };
    place.write("none.jsonl", "{\"txet\":1}\n");
    let ran = pretrain("none.jsonl", &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("holds no text to train on"), "{}", ran.err);
    // The failed one wrote nothing, so it binds nobody.
    let ran = pretrain("short.jsonl", &["--max-rejects", "0.5"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(place.lines("m.rejects.jsonl")[0]["line"], 2);
}

#[test]
fn the_report_of_a_run_is_made_again_from_its_files() {
    let place = Place::new();
    place.copy_run("r", &[]);
    let (html, markdown) = (place.bytes("r/report.html"), place.bytes("r/report.md"));
    std::fs::remove_file(place.path("r/report.html")).unwrap();
    place.done(&["report", "r"]);
    place.done(&["report", "r", "-o", "elsewhere.md"]);
    assert!(place.bytes("r/report.html") == html);
    assert!(place.bytes("r/report.md") == markdown && place.bytes("elsewhere.md") == markdown);
    std::fs::remove_file(place.path("r/comparison.json")).unwrap();
    let ran = place.run(&["report", "r"]);
    assert!(
        ran.code == 1 && ran.err.contains("`r` is not finished"),
        "{}",
        ran.err
    );
}

#[test]
fn evaluations_made_differently_are_not_compared() {
    let place = world();
    let eval = |prompt: &str, output: &str| {
        place.done(&[
            "eval",
            "--model",
            "scripted:teacher.jsonl",
            "--problems",
            "p.jsonl",
            "--split",
            "test",
            "--prompt",
            "mini",
            "--max-tokens",
            prompt,
            "-o",
            output,
        ])
    };
    eval("40", "a.jsonl");
    eval("50", "b.jsonl");
    let ran = place.run(&["compare", "a=a.jsonl", "b=b.jsonl"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("settings.max_tokens: 40 and 50"),
        "{}",
        ran.err
    );
    place.done(&["compare", "a=a.jsonl", "b=b.jsonl", "--assume-same"]);
    std::fs::remove_file(place.path("b.jsonl.meta.json")).unwrap();
    let ran = place.run(&["compare", "a=a.jsonl", "b=b.jsonl"]);
    assert!(
        ran.code == 1 && ran.err.contains("no .meta.json beside it"),
        "{}",
        ran.err
    );
    place.done(&["compare", "a=a.jsonl", "b=b.jsonl", "--assume-same"]);
    let ran = place.run(&["compare", "a=a.jsonl", "--baseline", "z"]);
    assert!(
        ran.code == 2 && ran.err.contains("the baseline `z`"),
        "{}",
        ran.err
    );
}
