//! The benchmark of rankings, on a seconds-long run made by the library.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::Path;
use std::process::Command;

use idiolect::interrupt::Stop;
use idiolect::progress::Progress;
use idiolect::run::{RunSettings, run};
use serde_json::Value;

fn tiny_run(dir: &Path) {
    let settings = RunSettings {
        recipe: Some("tiny".to_owned()),
        out: Some(dir.to_owned()),
        ..RunSettings::default()
    };
    run(&settings, Progress::quiet(), &Stop::default()).unwrap();
}

fn json(dir: &Path) -> Value {
    let ended = Command::new(env!("CARGO_BIN_EXE_idiolect-lab"))
        .current_dir(dir)
        .args([
            "run",
            "-o",
            "b.md",
            "--claims",
            "c.md",
            "--finished",
            "f.jsonl",
            "--json",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{errors}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn a_finished_run_is_judged_by_every_ranking() {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    tiny_run(&dir.path().join("run"));
    let judged = json(dir.path());
    let rankings: Vec<&str> = judged["judged"]
        .as_array()
        .unwrap()
        .iter()
        .map(|j| j["ranking"].as_str().unwrap())
        .collect();
    for ranking in [
        "random",
        "longest",
        "nll_per_token",
        "rsr",
        "lark",
        "grape",
        "lalp",
        "mmd2_to_own",
        "ifd_loss",
        "ifd_ppl",
    ] {
        assert!(rankings.contains(&ranking), "{ranking} of {rankings:?}");
    }
    // One student and one task: advice on it has no other to learn from, and is not judged.
    assert!(!rankings.contains(&"advise"));
    assert!(text("b.md").contains("could not be judged"));
    assert!(text("c.md").contains("W − base"), "{}", text("c.md"));
    let finished: Value = serde_json::from_str(text("f.jsonl").lines().next().unwrap()).unwrap();
    assert_eq!(finished["task"], "countdown");
    // What was measured is kept: the same command reads it and gives the same page.
    let before = (text("b.md"), text("run/advice.jsonl"));
    json(dir.path());
    assert_eq!((text("b.md"), text("run/advice.jsonl")), before);
}
