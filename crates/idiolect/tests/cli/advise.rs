//! `idiolect advise` on a seconds-long run, which it measures to learn from.

use serde_json::Value;

use crate::kit::Place;

#[test]
fn a_finished_run_is_measured_and_learned_from() {
    let place = Place::new();
    place.copy_run("run", &[]);
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
    let mut rows = place.text("run/students/student/r0/arms/H.jsonl");
    let n = rows.lines().count();
    let mut long: Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    long["completion"] = " 3 + 4 = 7 |".repeat(2_000).into();
    place.write("long.jsonl", &format!("{long}\n"));
    rows.push_str(&format!("{long}\n"));
    place.write("some.jsonl", &rows);
    let words = place.done(&[&ask[..], &["L=some.jsonl", "--budget", "0.2"]].concat());
    // What is too long for the student is left out and counted, and a race is stated that nobody ran.
    let left = format!(
        "arm L: the student cannot score 1 of {0} rows; the first of them, `some.jsonl`, line {0}: ",
        n + 1
    );
    assert!(words.contains(&left), "{words}");
    assert!(
        words.contains(
            "  idiolect race --model run/models/r0/student --problems run/data/r0/problems.jsonl --prompt mini \
             --template raw --max-tokens 40 --epochs 1 --lr 1e-5 --batch-size 32 --budget 0.2"
        ) && words.contains("G=run/students/student/r0/arms/G.jsonl"),
        "{words}"
    );
    assert!(!place.path("race").exists());
    let none = place.run(&[&ask[..], &["L=long.jsonl"]].concat());
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(
        none.err.contains("cannot score 1 of 1 rows")
            && none.err.contains("idiolect arms --model M"),
        "{}",
        none.err
    );
    assert!(words.contains("trusted, by the points"), "{words}");
    assert!(words.contains("of a lookup by the arms' names"), "{words}");
    let finished = &place.lines("run/advice.jsonl")[0];
    assert_eq!(finished["task"], "countdown");
    assert_eq!(finished["student"], "llama");
    let measured = place.bytes("run/advice.jsonl");
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
    // What is expected of an arm depends on no other.
    let gain = |advice: &Value| {
        let ranking = advice["ranking"].as_array().unwrap();
        let of = ranking.iter().find(|arm| arm["arm"] == "G").unwrap();
        of["gain"].as_f64().unwrap()
    };
    let others: Vec<&str> = as_json
        .iter()
        .copied()
        .filter(|a| !a.starts_with("W=") && !a.starts_with("H="))
        .collect();
    let alone: Value = serde_json::from_str(&place.done(&others)).unwrap();
    assert_eq!(alone["ranking"].as_array().unwrap().len(), 1);
    assert!(!alone["answer"].as_str().unwrap().starts_with("Train on"));
    assert!((gain(&alone) - gain(&advice)).abs() < 1e-12, "{alone}");
    // What was measured once is read from then on, from the run or from its file.
    assert_eq!(place.bytes("run/advice.jsonl"), measured);
    let from_file: Vec<&str> = as_json
        .iter()
        .map(|a| if *a == "run" { "run/advice.jsonl" } else { a })
        .collect();
    let again: Value = serde_json::from_str(&place.done(&from_file)).unwrap();
    assert_eq!(advice, again);
    let unfinished: Vec<&str> = ask
        .iter()
        .map(|a| if *a == "run" { "." } else { a })
        .collect();
    let ran = place.run(&unfinished);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("holds no run"), "{}", ran.err);

    // Another prompt than the arms' would ask for another style.
    let wrong: Vec<&str> = ask
        .iter()
        .map(|a| if *a == "mini" { "plain" } else { a })
        .collect();
    let ran = place.run(&wrong);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("prompt"), "{}", ran.err);
}
