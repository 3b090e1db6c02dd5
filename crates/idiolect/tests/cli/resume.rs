//! Killed, interrupted, cut short, changed: the same command continues to the same bytes.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::{Place, problems, traces};

/// An answer every 20 ms.
const SLOW: &str =
    "{\"completions\":[\"#### 1\",\"#### 2\",\"#### 3\",\"#### 4\"],\"delay_ms\":20}\n";

fn slow_place() -> Place {
    let place = Place::new();
    place.write("p.jsonl", &problems(12));
    place.write("s.jsonl", SLOW);
    place.write(
        "t.jsonl",
        &traces(&[("0", "one"), ("1", "two"), ("2", "three"), ("3", "four")]),
    );
    place
}

fn start(place: &Place, arguments: &[&str]) -> Child {
    place
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a file has so many rows.
fn await_rows(place: &Place, name: &str, rows: usize) {
    let (begun, journal) = (Instant::now(), format!("{name}.part"));
    while place.count(&journal) < rows {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{name} never got {rows} rows"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

const STAGES: [(&str, &[&str]); 3] = [
    (
        "generate",
        &[
            "generate",
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "-n",
            "4",
        ],
    ),
    (
        "eval",
        &[
            "eval",
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "-n",
            "3",
        ],
    ),
    (
        "paraphrase",
        &[
            "paraphrase",
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
        ],
    ),
];

#[test]
fn a_killed_stage_continues_to_the_same_bytes() {
    let place = slow_place();
    for (name, stage) in STAGES {
        let [whole, killed] = ["whole", "killed"].map(|how| format!("{name}-{how}.jsonl"));
        place.done(&[stage, &["-o", &whole]].concat());
        for rows in [1, 3] {
            let mut child = start(&place, &[stage, &["-o", &killed]].concat());
            await_rows(&place, &killed, rows);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        place.done(&[stage, &["-o", &killed]].concat());
        assert_eq!(place.bytes(&whole), place.bytes(&killed), "{name}");
        let metas = [&whole, &killed].map(|output| place.text(&format!("{output}.meta.json")));
        assert_eq!(metas[0], metas[1], "{name}");
    }
}

#[test]
fn a_cut_output_continues_to_the_same_bytes() {
    let place = slow_place();
    for (name, stage) in STAGES {
        let output = format!("{name}.jsonl");
        place.done(&[stage, &["-o", &output]].concat());
        let whole = place.bytes(&output);
        for cut in [0, whole.len() / 3, whole.len() - 1] {
            std::fs::write(place.path(&output), &whole[..cut]).unwrap();
            place.done(&[stage, &["-o", &output]].concat());
            assert_eq!(place.bytes(&output), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_scoring_that_lost_its_end_is_made_whole_with_its_tokens() {
    let place = slow_place();
    let score = [
        "score",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "a.jsonl",
        "--tokens",
        "a.parquet",
    ];
    place.done(&score);
    let (scores, tokens) = (place.bytes("a.jsonl"), place.bytes("a.parquet"));
    std::fs::write(place.path("a.jsonl"), &scores[..scores.len() / 2]).unwrap();
    place.done(&score);
    assert_eq!(
        (place.bytes("a.jsonl"), place.bytes("a.parquet")),
        (scores.clone(), tokens.clone())
    );
    std::fs::remove_file(place.path("a.parquet")).unwrap();
    place.done(&score);
    assert_eq!(
        (place.bytes("a.jsonl"), place.bytes("a.parquet")),
        (scores, tokens)
    );
}

#[test]
#[cfg(unix)]
fn an_interrupted_stage_says_so_and_continues() {
    let place = slow_place();
    let (_, stage) = STAGES[0];
    place.done(&[stage, &["-o", "whole.jsonl"]].concat());
    let child = start(&place, &[stage, &["-o", "t2.jsonl"]].concat());
    await_rows(&place, "t2.jsonl", 3);
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let ended = child.wait_with_output().unwrap();
    let words = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{words}");
    assert!(
        words.contains("interrupted; the same command continues"),
        "{words}"
    );
    assert!(!words.contains("error:"), "{words}");
    let ran = place.run(&[stage, &["-o", "t2.jsonl"]].concat());
    assert!(ran.err.contains("continuing after"), "{}", ran.err);
    assert_eq!(place.bytes("whole.jsonl"), place.bytes("t2.jsonl"));
}

#[test]
fn a_second_writer_is_refused_while_the_first_works() {
    let place = slow_place();
    let (_, stage) = STAGES[0];
    let arguments = [stage, &["-o", "t2.jsonl"]].concat();
    let mut child = start(&place, &arguments);
    await_rows(&place, "t2.jsonl", 1);
    let ran = place.run(&arguments);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("being written by another process"),
        "{}",
        ran.err
    );
}

#[test]
fn changed_settings_are_listed_and_overwrite_starts_over() {
    let place = slow_place();
    place.write("s.jsonl", "{\"completions\":[\"#### 1\",\"#### 2\"]}\n");
    let generate = |more: &[&str]| {
        let base = [
            "generate",
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "-o",
            "t2.jsonl",
        ];
        place.run(&[&base[..], more].concat())
    };
    assert_eq!(generate(&["-n", "2", "--temperature", "0.8"]).code, 0);
    let before = place.bytes("t2.jsonl");
    let ran = generate(&["-n", "3", "--temperature", "0.7"]);
    assert_eq!(ran.code, 1);
    for words in [
        "made with other settings",
        "settings.samples: 2 before, 3 now",
        "settings.temperature: 0.8 before, 0.7 now",
        "--overwrite",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(place.bytes("t2.jsonl"), before);
    place.write("p.jsonl", &problems(11));
    let ran = generate(&["-n", "2", "--temperature", "0.8"]);
    assert!(ran.err.contains("inputs.problems: "), "{}", ran.err);
    assert_eq!(
        generate(&["-n", "3", "--temperature", "0.7", "--overwrite"]).code,
        0
    );
    assert_ne!(place.bytes("t2.jsonl"), before);
}

#[test]
fn refused_rows_are_counted_alike_after_a_kill() {
    let place = slow_place();
    // The script knows no answer to some problems, and one row is no problem.
    let script = (0..12).filter(|i| i % 4 != 1).map(|i| {
        format!("{{\"contains\":\"{i} apples\",\"completions\":[\"#### {i}\",\"#### 1\"],\"delay_ms\":20}}\n")
    });
    place.write("s.jsonl", &script.collect::<String>());
    place.write(
        "p.jsonl",
        &problems(12).replace("\n{\"id\":\"gsm8k/test/2\"", "\n{\"di\":\"gsm8k/test/2\""),
    );
    let stage = [
        "generate",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "-n",
        "2",
        "--max-rejects",
        "0.9",
    ];
    let whole = place.run(&[&stage[..], &["-o", "whole.jsonl"]].concat());
    assert_eq!(whole.code, 3, "{}", whole.err);
    for rows in [1, 6, 9] {
        let mut child = start(&place, &[&stage[..], &["-o", "killed.jsonl"]].concat());
        await_rows(&place, "killed.jsonl", rows);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(
        place
            .run(&[&stage[..], &["-o", "killed.jsonl"]].concat())
            .code,
        3
    );
    for ending in ["", ".rejects.jsonl", ".meta.json"] {
        let files = ["whole", "killed"].map(|name| place.text(&format!("{name}.jsonl{ending}")));
        assert_eq!(files[0], files[1], "{ending}");
    }
}
