//! `idiolect benchmark` and `idiolect advise` on a seconds-long run.

use serde_json::Value;

use crate::kit::Place;

#[test]
fn a_finished_run_is_judged_and_advised_on() {
    let place = Place::new();
    place.done(&["run", "tiny", "--out", "run", "-q"]);
    let args = [
        "benchmark",
        "run",
        "-o",
        "b.md",
        "--claims",
        "c.md",
        "--finished",
        "f.jsonl",
        "-q",
        "--json",
    ];
    let judged: Value = serde_json::from_str(&place.done(&args)).unwrap();
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
    // One student and one task: advice on it has no other to learn from, and says so.
    assert!(!rankings.contains(&"advise"));
    assert!(place.text("b.md").contains("could not be judged"));
    assert!(
        place.text("c.md").contains("W − base"),
        "{}",
        place.text("c.md")
    );
    let finished = &place.lines("f.jsonl")[0];
    assert_eq!(finished["task"], "countdown");
    assert_eq!(finished["student"], "llama");
    // What was measured is kept: the same command reads it and gives the same page.
    let before = place.text("b.md");
    let measured = place.bytes("run/advice.jsonl");
    place.done(&args);
    assert_eq!(
        (place.text("b.md"), place.bytes("run/advice.jsonl")),
        (before, measured)
    );

    let arms = [
        "G=run/students/student/r0/arms/G.jsonl",
        "W=run/students/student/r0/arms/W.jsonl",
        "H=run/students/student/r0/arms/H.jsonl",
    ];
    let mut ask = vec![
        "advise",
        "--model",
        "run/models/r0/student",
        "--problems",
        "run/data/r0/problems.jsonl",
        "--prompt",
        "mini",
        "--template",
        "raw",
        "--learn",
        "run",
        "--max-tokens",
        "40",
        "-q",
    ];
    ask.extend(arms);
    let words = place.done(&ask);
    assert!(words.contains("trusted, by weight"), "{words}");
    let mut as_json = ask.clone();
    as_json.extend(["--json", "--threads", "2"]);
    let advice: Value = serde_json::from_str(&place.done(&as_json)).unwrap();
    assert_eq!(advice["ranking"].as_array().unwrap().len(), 3);
    for arm in advice["ranking"].as_array().unwrap() {
        assert!(arm["measured"]["closeness"].is_f64(), "{arm}");
    }
    as_json.pop();
    as_json.push("1");
    let again: Value = serde_json::from_str(&place.done(&as_json)).unwrap();
    assert_eq!(advice, again);

    // Another prompt than the arms' would ask for another style.
    let wrong: Vec<&str> = ask
        .iter()
        .map(|a| if *a == "mini" { "plain" } else { a })
        .collect();
    let ran = place.run(&wrong);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("prompt"), "{}", ran.err);
}
