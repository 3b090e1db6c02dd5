//! The program from outside: help, exit codes, refused rows, resume, and the whole pipeline tiny.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "cli/adapters.rs"]
mod adapters;
#[path = "cli/advise.rs"]
mod advise;
#[path = "cli/arms.rs"]
mod arms;
#[path = "cli/chat.rs"]
mod chat;
#[cfg(unix)]
#[path = "cli/clusters.rs"]
mod clusters;
#[path = "cli/code.rs"]
mod code;
#[path = "cli/compare.rs"]
mod compare;
#[path = "cli/compute.rs"]
mod compute;
#[path = "cli/convert.rs"]
mod convert;
#[path = "cli/corpus.rs"]
mod corpus;
#[path = "cli/corrupt.rs"]
mod corrupt;
#[path = "cli/documents.rs"]
mod documents;
#[path = "cli/faults.rs"]
mod faults;
#[path = "cli/flags.rs"]
mod flags;
#[path = "cli/given.rs"]
mod given;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/import.rs"]
mod import;
#[path = "cli/judge.rs"]
mod judge;
#[path = "cli/kit.rs"]
mod kit;
#[path = "cli/launch.rs"]
mod launch;
#[cfg(unix)]
#[path = "cli/limits.rs"]
mod limits;
#[path = "cli/managed.rs"]
mod managed;
#[path = "cli/models.rs"]
mod models;
#[path = "cli/others.rs"]
mod others;
#[path = "cli/outputs.rs"]
mod outputs;
#[path = "cli/outside.rs"]
mod outside;
#[path = "cli/own_answers.rs"]
mod own_answers;
#[path = "cli/own_data.rs"]
mod own_data;
#[path = "cli/page.rs"]
mod page;
#[path = "cli/race.rs"]
mod race;
#[path = "cli/reading.rs"]
mod reading;
#[path = "cli/resume.rs"]
mod resume;
#[path = "cli/rounded.rs"]
mod rounded;
#[path = "cli/rows.rs"]
mod rows;
#[path = "cli/run.rs"]
mod run;
#[path = "cli/saved.rs"]
mod saved;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/serve_clients.rs"]
mod serve_clients;
#[path = "cli/served_run.rs"]
mod served_run;
#[path = "cli/server.rs"]
mod server;
#[cfg(unix)]
#[path = "cli/torch.rs"]
mod torch;
#[cfg(unix)]
#[path = "cli/trl.rs"]
mod trl;
#[path = "cli/view.rs"]
mod view;
#[path = "cli/web.rs"]
mod web;
#[path = "cli/written.rs"]
mod written;

use kit::{Place, SCRIPT, problems};

const COMMANDS: [&str; 27] = [
    "schema",
    "run",
    "jobs",
    "job",
    "status",
    "view",
    "init",
    "import",
    "generate",
    "paraphrase",
    "corrupt",
    "verify",
    "audit",
    "score",
    "arms",
    "train",
    "eval",
    "compare",
    "report",
    "inspect",
    "doctor",
    "pretrain",
    "convert",
    "advise",
    "serve",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    for command in COMMANDS {
        let ran = place.run(&[command, "--help"]);
        assert_eq!(ran.code, 0, "{command}: {}", ran.err);
        assert!(
            ran.out.contains(&format!("idiolect {command}")),
            "{command} shows no example"
        );
    }
    let ran = place.run(&["--help"]);
    assert!(COMMANDS.iter().all(|command| ran.out.contains(command)));
    assert!(ran.out.contains("130 interrupted"));
}

#[test]
fn wrong_use_is_2_and_says_what_is_right() {
    let place = Place::new();
    place.write("p.jsonl", &problems(1));
    place.write("s.jsonl", SCRIPT);
    let wrong: [(&[&str], &str); 8] = [
        (&["frobnicate"], "unrecognized subcommand"),
        (&["verify", "-o", "v.jsonl"], "--problems"),
        (
            &["verify", "--problems", "p.jsonl", "-o", "v.jsonl"],
            "--traces",
        ),
        (
            &[
                "generate",
                "--model",
                "scripted:s.jsonl",
                "--problems",
                "p.jsonl",
                "-o",
                "-",
            ],
            "name one",
        ),
        (
            &[
                "generate",
                "--model",
                "scripted:s.jsonl",
                "--problems",
                "p.jsonl",
                "--temperature",
                "hot",
                "-o",
                "t",
            ],
            "expected a number from 0",
        ),
        (
            &[
                "eval",
                "--model",
                "scripted:s.jsonl",
                "--problems",
                "p.jsonl",
                "-n",
                "4",
                "--temperature",
                "0",
                "-o",
                "e",
            ],
            "4 samples at temperature 0 would all be equal",
        ),
        (
            &[
                "eval",
                "--model",
                "scripted:s.jsonl",
                "--problems",
                "p.jsonl",
                "--prompt",
                "nope",
                "-o",
                "e",
            ],
            "no prompt and no file is named `nope`",
        ),
        (
            &["import", "gsm8k", "p.jsonl", "--map", "x", "-o", "q.jsonl"],
            "expected FIELD=COLUMN",
        ),
    ];
    for (arguments, words) in wrong {
        let ran = place.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{arguments:?}");
    }
}

#[test]
fn failures_are_1_with_error_and_path() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    place.write("cut.jsonl.gz", "");
    std::fs::write(
        place.path("cut.jsonl.gz"),
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b],
    )
    .unwrap();
    let generate = |model: &str| {
        place.run(&[
            "generate",
            "--model",
            model,
            "--problems",
            "p.jsonl",
            "-o",
            "t.jsonl",
        ])
    };
    let fails = [
        (
            place.run(&["import", "gsm8k", "none.jsonl", "-o", "q.jsonl"]),
            "none.jsonl",
        ),
        (
            place.run(&["import", "gsm8k", "cut.jsonl.gz", "-o", "q.jsonl"]),
            "cut off",
        ),
        (
            place.run(&["import", "gsm8k", "p.jsonl", "-o", "/dev/full"]),
            "not a regular file",
        ),
        (generate("scripted:none.jsonl"), "cannot read the script"),
        (generate("hf:../name"), "is named OWNER/NAME"),
        (generate("http://localhost:1/v1#m"), "localhost:1"),
        (
            place.run(&["serve", "--model", "m"]),
            "no model directory `m`",
        ),
        (generate("nowhere"), "no model directory `nowhere`"),
        (
            place.run(&["convert", "nowhere", "-o", "m", "--to", "merged"]),
            "no model directory `nowhere`",
        ),
    ];
    for (ran, words) in fails {
        assert_eq!(ran.code, 1, "{words}: {}", ran.err);
        assert!(
            ran.err.contains("error: ") && ran.err.contains(words),
            "{words}: {}",
            ran.err
        );
    }
    assert!(generate("hf:../name").err.contains("hint: "));
}

#[test]
fn a_closed_pipe_is_quiet() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    let mut child = place
        .command(&["import", "gsm8k", "p.jsonl", "-q", "-o", "q.jsonl"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(
        (ended.status.code(), ended.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
}

#[test]
fn json_is_one_document_and_quiet_is_quiet() {
    let place = Place::new();
    place.write("p.jsonl", &problems(3));
    place.write("s.jsonl", SCRIPT);
    let eval = [
        "eval",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "-o",
        "e.jsonl",
    ];
    let ran = place.run(&[&eval[..], &["--json", "-q"]].concat());
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (document["rows"].as_u64(), document["correct"].as_u64()),
        (Some(3), Some(3))
    );
    assert!(ran.err.is_empty(), "{}", ran.err);
    // Three of three: Wilson's interval at 95 % is [0.4385, 1].
    assert_eq!(
        (
            document["accuracy"].as_f64(),
            document["interval_95"][0].as_f64()
        ),
        (Some(1.0), Some(0.4385))
    );
    let again = place.run(&eval);
    assert!(again.out.contains("complete before"), "{}", again.out);
}
