//! Training by TRL, whose place a shell script takes: it answers as an interpreter with the packages
//! and writes the events of a training that changes nothing.

use serde_json::{Value, json};

use crate::kit::{Place, Ran};

/// An interpreter that names its packages, and else does what the script `behave` says, with the
/// folder of the job as `work` and that of the model as `out`.
const PYTHON: &str = r#"#!/bin/sh
if [ "$1" = -c ]; then cat packages.json; exit; fi
work=$(dirname "$2")
out=$(dirname "$work")
. ./behave
"#;

/// Leaves the model as it was, as one that was trained.
const SAVE: &str = "mkdir -p \"$work/final\" && cp student/model.safetensors \"$work/final/\"\n";

fn packages(of: &[(&str, &str)]) -> String {
    let mut packages = json!({"torch": "2.15.0+cpu", "transformers": "5.24.0", "trl": "1.16.0",
        "accelerate": "1.15.0", "datasets": "5.2.0", "peft": "0.21.2"});
    for (name, version) in of {
        packages[*name] = match *version {
            "" => Value::Null,
            version => json!(version),
        };
    }
    json!({"python": "3.11.7", "packages": packages}).to_string()
}

/// A place with a student, six rows, and the events of three steps that change nothing.
fn place() -> Place {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.copy_student("student");
    let rows: String = (0..6)
        .map(|i| {
            let told = format!(" was {} dog{}.", ["a", "the"][i % 2], "s".repeat(i));
            format!("{}\n", json!({"prompt": "Once there", "completion": told}))
        })
        .collect();
    place.write("rows.jsonl", &rows);
    place.write("python", PYTHON);
    std::fs::set_permissions(place.path("python"), PermissionsExt::from_mode(0o755)).unwrap();
    place.write("packages.json", &packages(&[]));
    place
}

const BASE: [&str; 12] = [
    "train",
    "--model",
    "student",
    "--data",
    "rows.jsonl",
    "--batch-size",
    "1",
    "--epochs",
    "1",
    "--schedule",
    "constant",
    "-q",
];

fn train(place: &Place, out: &str, more: &[&str]) -> Ran {
    let own = [
        "--lr",
        "1e-30",
        "--backend",
        "trl",
        "--python",
        "./python",
        "-o",
        out,
    ];
    place.run(&[&BASE[..], &own, more].concat())
}

/// The lines of a training's events, as the native engine's log has them: of one row a step, at a
/// rate at which nothing moves.
fn events(place: &Place) -> Vec<String> {
    let own = ["--lr", "1e-30", "-o", "native"];
    place.done(&[&BASE[..], &own].concat());
    let steps: Vec<Value> = place
        .lines("native/log.jsonl")
        .into_iter()
        .filter(|event| event["event"] == "step")
        .collect();
    let mut lines =
        vec![json!({"event": "started", "processes": 1, "steps": steps.len(), "done": 0})];
    for step in &steps {
        let mut line = step.clone();
        // The script counts a row's last token too.
        line["tokens"] = json!(step["tokens"].as_u64().unwrap() + 1);
        lines.push(line);
    }
    let last = steps.last().unwrap();
    lines.push(json!({"event": "finished", "step": steps.len(), "losses": [last["loss"]]}));
    lines.iter().map(Value::to_string).collect()
}

/// Has the fake trainer report these lines.
fn behave(place: &Place, lines: &[String], more: &str) {
    place.write("events", &format!("{}\n", lines.join("\n")));
    place.write(
        "behave",
        &format!("{SAVE}cat events >> \"$work/events.jsonl\"\n{more}"),
    );
}

#[test]
fn a_model_trained_by_trl_comes_back_as_one_trained_here() {
    let place = place();
    let lines = events(&place);
    behave(
        &place,
        &lines,
        "echo chatter; cp \"$2\" job.json; cp \"$work/rows.jsonl\" given.jsonl",
    );
    let ran = train(&place, "out", &["--trl-config", "optim=adamw_torch_fused"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let own: Vec<String> = [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "README.md",
    ]
    .map(str::to_owned)
    .to_vec();
    for name in &own[..3] {
        let same = place.bytes(&format!("out/{name}")) == place.bytes(&format!("native/{name}"));
        assert!(same, "{name}");
    }
    assert!(place.text("out/README.md").contains("by TRL 1.16.0"));
    assert!(!place.path("out/.trl.tmp").exists(), "its files are gone");
    let of = |name: &str| {
        let steps = place.lines(name).into_iter();
        let number = |step: &Value, name: &str| step[name].as_f64().unwrap_or_default();
        steps
            .map(|step| ["step", "loss", "lr", "tokens", "target_tokens"].map(|n| number(&step, n)))
            .collect::<Vec<_>>()
    };
    assert_eq!(of("out/log.jsonl"), of("native/log.jsonl"));
    let meta: Value = serde_json::from_str(&place.text("out.meta.json")).unwrap();
    let native: Value = serde_json::from_str(&place.text("native.meta.json")).unwrap();
    assert_eq!(meta["hash"], native["hash"]);
    assert_eq!(meta["settings"]["backend"], "trl");
    assert_eq!(meta["settings"]["trl.versions.torch"], "2.15.0");
    assert_eq!(meta["settings"]["trl.config.optim"], "adamw_torch_fused");
    assert!(!place.text("out.meta.json").contains("./python"));
    let job: Value = serde_json::from_str(&place.text("job.json")).unwrap();
    assert_eq!(job["config"]["optim"], "adamw_torch_fused");
    assert_eq!(
        place.lines("given.jsonl").len(),
        7,
        "six rows and the filler"
    );
    // The same command has nothing to do; another config is another training.
    place.write("behave", "exit 9\n");
    assert_eq!(
        train(&place, "out", &["--trl-config", "optim=adamw_torch_fused"]).code,
        0
    );
    let ran = train(&place, "out", &[]);
    assert!(
        ran.code == 1 && ran.err.contains("trl.config.optim"),
        "{}",
        ran.err
    );
}

#[test]
fn a_training_that_is_not_the_planned_one_is_refused() {
    let place = place();
    let lines = events(&place);
    let changed = |line: usize, name: &str, value: Value| {
        let mut lines = lines.clone();
        let mut event: Value = serde_json::from_str(&lines[line]).unwrap();
        event[name] = value;
        lines[line] = event.to_string();
        lines
    };
    for (i, (lines, words)) in [
        (changed(0, "steps", json!(12)), "12 steps instead of 6"),
        (
            changed(2, "target_tokens", json!(1)),
            "1 tokens in the loss instead of",
        ),
        (changed(2, "tokens", json!(1)), "1 tokens instead of"),
        (changed(3, "loss", Value::Null), "not finite at step 3"),
        (
            changed(7, "losses", json!([0.5])),
            "the model that came back is not the one",
        ),
        (
            changed(7, "losses", json!([])),
            "the model that came back is not the one",
        ),
        (lines[..3].to_vec(), "after step 2 of 6"),
        (
            vec!["nonsense \u{1b}[31m".to_owned()],
            "cannot be read, `nonsense \\u{1b}[31m`",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        behave(&place, &lines, "");
        let ran = train(&place, &format!("out{i}"), &[]);
        assert!(
            ran.code == 1 && ran.err.contains(words),
            "{words}: {}",
            ran.err
        );
    }
    // One process instead of the two that the launch states.
    behave(&place, &lines, "sleep 60\n");
    let ran = train(
        &place,
        "alone",
        &["--launch", "{python} {script} {job} --num_processes 2"],
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("runs 1 process and 2 were to run"),
        "{}",
        ran.err
    );
}

#[test]
fn a_trainer_that_fails_is_told_with_the_end_of_its_log() {
    let place = place();
    let lines = events(&place);
    behave(
        &place,
        &lines[..4],
        "echo first; printf 'CUDA out of \\033[31mmemory\\007\\n' >&2; exit 7",
    );
    let ran = train(&place, "out", &[]);
    assert_eq!(ran.code, 1);
    let told = ran.err.contains("ended with exit code 7 after step 3 of 6")
        && ran.err.contains("CUDA out of memory\\u{7}");
    assert!(told, "{}", ran.err);
    assert_eq!(place.count("out/log.jsonl"), 3, "what was reported is kept");
    // Another model's weights.
    place.write("behave", "mkdir -p \"$work/final\"; cp other \"$work/final/model.safetensors\"; cat events >> \"$work/events.jsonl\"\n");
    place.write("events", &format!("{}\n", lines.join("\n")));
    place.write("other", "no weights");
    let ran = train(&place, "bad", &[]);
    assert!(
        ran.code == 1 && ran.err.contains("model.safetensors"),
        "{}",
        ran.err
    );
    assert!(!place.path("bad/model.safetensors").exists());
    // Nothing at all.
    place.write("behave", "exit 0\n");
    let ran = train(&place, "none", &[]);
    assert!(
        ran.code == 1 && ran.err.contains("after step 0 of 6"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("wrote nothing"), "{}", ran.err);
}

#[test]
fn a_training_goes_on_from_the_trainers_last_whole_checkpoint() {
    let place = place();
    let lines = events(&place);
    // Two checkpoints, of which the newer is torn, then the end of the machine.
    let checkpoints = "mkdir -p \"$out/checkpoint-2\" \"$out/checkpoint-4\"\n\
        cp student/model.safetensors \"$out/checkpoint-2/\"\n\
        echo '{\"step\":2}' > \"$out/checkpoint-2/idiolect.json\"\nexit 7\n";
    behave(&place, &lines[..6], checkpoints);
    let every = ["--checkpoint-every", "2"];
    assert_eq!(train(&place, "out", &every).code, 1);
    assert_eq!(place.count("out/log.jsonl"), 5);
    let mut rest = lines.clone();
    rest[0] = rest[0].replace("\"done\":0", "\"done\":2");
    rest.drain(1..3);
    behave(&place, &rest, "cp \"$2\" job.json\n");
    let ran = train(&place, "out", &every);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let job: Value = serde_json::from_str(&place.text("job.json")).unwrap();
    assert!(
        job["resume"]
            .as_str()
            .unwrap()
            .ends_with("out/checkpoint-2")
    );
    let steps: Vec<u64> = place
        .lines("out/log.jsonl")
        .iter()
        .map(|event| event["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    assert!(
        !place.path("out/checkpoint-4").exists(),
        "the torn one is gone"
    );
    assert!(
        place.path("out/checkpoint-2/config.json").exists(),
        "a model that loads"
    );
}

#[test]
fn what_the_environment_lacks_is_told_before_any_work() {
    let place = place();
    place.write("behave", "exit 9\n");
    place.write(
        "packages.json",
        &packages(&[("trl", ""), ("torch", "2.3.1")]),
    );
    let ran = train(&place, "out", &[]);
    assert_eq!(ran.code, 1);
    for words in [
        "trl is missing",
        "torch is 2.3.1, older than 2.4",
        "./python -m pip install",
        "'trl>=1.0'",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert!(!ran.err.contains("peft"), "{}", ran.err);
    assert!(!place.path("out").exists());
    place.write("packages.json", &packages(&[("peft", "")]));
    let ran = train(&place, "out", &["--lora", "r=2,alpha=4"]);
    assert!(
        ran.code == 1 && ran.err.contains("peft is missing"),
        "{}",
        ran.err
    );
    place.write("packages.json", "hello\n");
    let ran = train(&place, "out", &[]);
    assert!(
        ran.err.contains("does not answer as a Python interpreter"),
        "{}",
        ran.err
    );
    let ran = train(&place, "out", &["--python", "no/such/python"]);
    assert_eq!(ran.code, 2, "given twice");
    for (more, words) in [
        (
            ["--trl-config", "max_length=5"],
            "`max_length` of TRL's config is set by idiolect",
        ),
        (["--launch", "{python} | tee log"], "no shell runs it"),
        (
            ["--launch", "torchrun --nproc_per_node gpu"],
            "state `processes`",
        ),
        (["--launch", "{pyhton}"], "unknown placeholder {pyhton}"),
    ] {
        let ran = train(&place, "out", &more);
        assert!(
            ran.code == 2 && ran.err.contains(words),
            "{more:?}: {}",
            ran.err
        );
    }
    let own = ["--lr", "1e-5", "-o", "out", "--python", "./python"];
    let ran = place.run(&[&BASE[..], &own].concat());
    assert!(
        ran.code == 2 && ran.err.contains("--backend trl"),
        "{}",
        ran.err
    );
}
