//! `idiolect race` on the arms of a seconds-long run.

use std::process::Stdio;

use serde_json::Value;

use crate::kit::Place;

/// The arms of a tiny run.
fn arms() -> Place {
    let place = Place::new();
    place.copy_run("run", &["--until", "arms"]);
    place
}

fn race<'a>(arms: &[&'a str], out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["race"];
    all.extend(arms);
    all.extend([
        "--model",
        "run/models/r0/student",
        "--template",
        "raw",
        "--problems",
        "run/data/r0/problems.jsonl",
        "--prompt",
        "mini",
        "--max-tokens",
        "40",
        "--epochs",
        "6",
        "--lr",
        "1e-3",
        "--batch-size",
        "8",
        "--ask",
        "60",
        "-q",
        "--json",
        "-o",
        out,
    ]);
    all.extend(more);
    all
}

const G: &str = "G=run/students/student/r0/arms/G.jsonl";
const W: &str = "W=run/students/student/r0/arms/W.jsonl";
const H: &str = "H=run/students/student/r0/arms/H.jsonl";

#[test]
fn a_race_is_repeated_continued_and_kept() {
    let place = arms();
    // Nothing but the last rung ends it.
    let long = [
        "--budget",
        "1",
        "--stop-at",
        "1",
        "--tolerance",
        "0",
        "--drop-below",
        "0",
    ];
    let found: Value =
        serde_json::from_str(&place.done(&race(&[G, W, H], "whole", &long))).unwrap();
    assert_eq!(found["ending"], "full");
    let arms = found["arms"].as_array().unwrap();
    let sum: f64 = arms.iter().map(|arm| arm["p_best"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{found}");
    for arm in arms {
        let rungs = arm["rungs"].as_array().unwrap();
        let epochs: Vec<u64> = rungs
            .iter()
            .map(|r| r["epochs"].as_u64().unwrap())
            .collect();
        assert_eq!(epochs, [1, 3, 6]);
        // (1 + 3 + 6) / 6 of a training, of three seeds' worth of full ones.
        let tokens: u64 = rungs.iter().map(|r| r["tokens"].as_u64().unwrap()).sum();
        assert_eq!(tokens * 6, rungs[2]["tokens"].as_u64().unwrap() * 10);
    }
    assert!((found["spent_fraction"].as_f64().unwrap() - 10.0 / 18.0).abs() < 1e-9);
    assert_eq!(found["pick"], arms[0]["arm"]);
    let answer = found["answer"].as_str().unwrap();
    assert!(
        answer.starts_with("Train on") || answer.starts_with("Not resolved: "),
        "{answer}"
    );
    // Asked were none of the arms' problems and none of the test's.
    let mut held: Vec<Value> = Vec::new();
    for arm in ["G", "W", "H"] {
        let rows = place.lines(&format!("run/students/student/r0/arms/{arm}.jsonl"));
        held.extend(rows.into_iter().map(|row| row["problem_id"].clone()));
    }
    for problem in place.lines("whole/problems.jsonl") {
        assert_ne!(problem["split"], "test");
        assert!(!held.contains(&problem["id"]), "{problem}");
    }

    // Said again without another training, and the same after a kill.
    let again: Value =
        serde_json::from_str(&place.done(&race(&[G, W, H], "whole", &long))).unwrap();
    assert_eq!(again, found);
    let mut child = place
        .command(&race(&[G, W, H], "killed", &long))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !place.path("killed/rung-1/W").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // An unfinished one is bound to its settings too.
    let other = place.run(&race(&[G, W, H], "killed", &["--budget", "0.5"]));
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("budget"), "{}", other.err);
    let resumed: Value =
        serde_json::from_str(&place.done(&race(&[G, W, H], "killed", &long))).unwrap();
    assert_eq!(resumed, found);
    assert_eq!(
        place.bytes("killed/race.json"),
        place.bytes("whole/race.json")
    );
    // Other rules are another race, and nothing of the finished one is lost.
    let other = place.run(&race(&[G, W, H], "whole", &["--budget", "0.5"]));
    assert_eq!(other.code, 1, "{}", other.err);
    assert!(other.err.contains("budget"), "{}", other.err);

    // What was trained in full is what `train` makes: it finds the folder complete.
    let kept = place.done(&[
        "train",
        "--model",
        "run/models/r0/student",
        "--template",
        "raw",
        "--data",
        "run/students/student/r0/arms/G.jsonl",
        "--epochs",
        "6",
        "--lr",
        "1e-3",
        "--batch-size",
        "8",
        "-o",
        "whole/rung-3/G",
        "-q",
    ]);
    assert!(kept.contains("complete before"), "{kept}");
}

#[test]
fn a_race_ends_by_its_rules_and_its_budget() {
    let place = arms();
    let ending = |out: &str, more: &[&str]| -> Value {
        serde_json::from_str(&place.done(&race(&[G, W, H], out, more))).unwrap()
    };
    let sure = ending("sure", &["--stop-at", "0"]);
    assert_eq!(sure["ending"], "sure");
    assert_eq!(
        ending("near", &["--stop-at", "1", "--tolerance", "1"])["ending"],
        "tolerable"
    );
    let poor = ending(
        "poor",
        &["--stop-at", "1", "--tolerance", "0", "--budget", "0.05"],
    );
    assert_eq!(poor["ending"], "budget");
    let warned = |found: &Value, words: &str| {
        let warnings = found["warnings"].as_array().unwrap().iter();
        warnings
            .filter_map(Value::as_str)
            .any(|w| w.contains(words))
    };
    assert!(warned(&poor, "the first rung alone"), "{poor}");
    assert!(!warned(&sure, "the first rung alone") && !warned(&sure, "not matched"));
    let rows = place.text("run/students/student/r0/arms/W.jsonl");
    place.write("one.jsonl", &format!("{}\n", rows.lines().next().unwrap()));
    let unlike: Value = serde_json::from_str(&place.done(&race(
        &[G, "S=one.jsonl"],
        "unlike",
        &["--stop-at", "0"],
    )))
    .unwrap();
    let words = format!("not matched: G has {} rows, S 1;", rows.lines().count());
    assert!(warned(&unlike, &words), "{unlike}");
    for found in [sure, poor] {
        // A sixth of every arm's training, of three seeds' worth.
        assert!((found["spent_fraction"].as_f64().unwrap() - 1.0 / 18.0).abs() < 1e-9);
    }
    let words = place.done(
        &[&race(&[G, W, H], "sure", &["--stop-at", "0"])[..]]
            .concat()
            .into_iter()
            .filter(|a| *a != "--json")
            .collect::<Vec<_>>(),
    );
    assert!(
        words.contains("G (teacher, correct answer)") && words.contains("P(best)"),
        "{words}"
    );
}

#[test]
fn what_cannot_be_raced_is_told_before_any_training() {
    let place = arms();
    let refused = |arms: &[&str], more: &[&str]| -> String {
        let ran = place.run(&race(arms, "refused", more));
        assert_ne!(ran.code, 0);
        assert!(!place.path("refused/rung-1").exists());
        ran.err
    };
    assert!(refused(&[G], &[]).contains("at least two arms"));
    assert!(refused(&[G, G], &[]).contains("two arms are named `G`"));
    assert!(refused(&["../G=x.jsonl", W], &[]).contains("cannot be a folder's"));
    let again = G.replacen("G=", "X=", 1);
    assert!(refused(&[G, again.as_str()], &[]).contains("are the same rows"));
    assert!(refused(&[G, W], &["--budget", "0"]).contains("above 0"));
    let mut row = place
        .lines("run/students/student/r0/arms/W.jsonl")
        .remove(0);
    row["prompt"] = "asked otherwise".into();
    place.write("otherwise.jsonl", &format!("{row}\n"));
    assert!(refused(&["O=otherwise.jsonl", W], &[]).contains("another prompt"));
    // A name that an arm can have is one that can be raced.
    assert!(refused(&["F0@wrong=none.jsonl", W], &[]).contains("none.jsonl"));
    place.write(
        "broken.jsonl",
        "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":1}\n",
    );
    assert!(refused(&["B=broken.jsonl", W], &[]).contains("line 2"));
    place.write("advice.json", "{\"ranking\":[]}");
    assert!(refused(&[G, W], &["--prior", "advice.json"]).contains("no advice on these arms"));
    let row =
        |completion: &str| format!("{{\"prompt\":\"3 4 : 7\",\"completion\":\"{completion}\"}}\n");
    let long = " 3 + 4 = 7 |".repeat(2_000);
    place.write("long.jsonl", &(row(" 3 + 4 = 7 | ans 3 + 4") + &row(&long)));
    let error = refused(&["L=long.jsonl", W], &[]);
    assert!(
        error.contains("cannot be trained on") && error.contains("arm `L`"),
        "{error}"
    );
}
