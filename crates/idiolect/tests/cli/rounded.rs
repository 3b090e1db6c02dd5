//! An answer that equals the gold only when rounded: ungraded, unless it is to be accepted.

use serde_json::{Value, json};

use crate::kit::Place;

fn place() -> Place {
    let place = Place::new();
    let problem = json!({"id": "math/test/0", "task": "math", "question": "What is $1/3$?", "gold": {"answer": "\\frac{1}{3}"}, "split": "test"});
    let trace = json!({"id": "t0", "problem_id": "math/test/0", "text": "It is $\\boxed{0.3333}$.", "finish": "stop", "origin": {"kind": "sampled", "model": "m"}});
    place.write("p.jsonl", &format!("{problem}\n"));
    place.write("t.jsonl", &format!("{trace}\n"));
    place.write(
        "s.jsonl",
        &format!("{}\n", json!({"completions": ["It is $\\boxed{0.3333}$."]})),
    );
    place
}

#[test]
fn verify_eval_and_audit_leave_a_rounded_answer_ungraded_or_accept_it() {
    let place = place();
    let verify = [
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-q",
        "-o",
    ];
    let eval = [
        "eval",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--temperature",
        "0",
        "-q",
        "-o",
    ];
    for (more, verdict) in [
        (&[][..], "ungraded"),
        (&["--accept-rounded"][..], "correct"),
    ] {
        let (v, e) = (format!("{verdict}.v.jsonl"), format!("{verdict}.e.jsonl"));
        place.done(&[&verify[..], &[v.as_str()], more].concat());
        place.done(&[&eval[..], &[e.as_str()], more].concat());
        let row = &place.lines(&v)[0];
        assert_eq!(row["verdict"], verdict, "{row}");
        assert!(row["reason"].as_str().unwrap().contains("rounded"), "{row}");
        assert_eq!(place.lines(&e)[0]["verdict"], verdict);
    }
    let audit = [
        "audit",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "--verdicts",
        "ungraded.v.jsonl",
        "--json",
    ];
    let audit: Value = serde_json::from_str(&place.done(&audit)).unwrap();
    assert_eq!(
        audit["groups"]["sampled"]["ungraded_for_rounding"], 1,
        "{audit}"
    );
    // Another setting is another output.
    let ran = place.run(&[&verify[..], &["ungraded.v.jsonl", "--accept-rounded"]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("accept_rounded"), "{}", ran.err);
}
