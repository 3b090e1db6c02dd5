//! The messages that docs/troubleshooting.md explains are those that the program gives.

use serde_json::json;

use crate::kit::{Place, problems};

const PAGE: &str = include_str!("../../../../docs/troubleshooting.md");

/// The messages of the page's table.
fn messages() -> Vec<&'static str> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

#[test]
fn messages_that_are_explained_are_given() {
    let place = Place::new();
    place.copy_student("student");
    let row =
        |completion: &str| format!("{}\n", json!({"prompt": "Once", "completion": completion}));
    place.write("rows.jsonl", &row(" upon"));
    place.write("other.jsonl", &row(" there"));
    place.write(
        "bad.jsonl",
        &format!("{}{}", row(" upon"), "{\"prompt\": \"Once\"}\n"),
    );
    place.write("mine.jsonl", "mine");
    let eval = json!({"problem_id": "p", "sample": 0, "decoding": "greedy", "text": "", "finish": "stop", "verdict": "wrong",
        "extracted": null, "n_tokens": 1});
    place.write("eval.jsonl", &format!("{eval}\n"));
    place.write("p.jsonl", &problems(2));
    place.write(
        "recipe.toml",
        &format!(
            "name = \"x\"\n{}",
            "[data]\ntask = \"gsm8k\"\ntrain = \"no.jsonl\"\n[models]\nstudents = [\"student\"]\n"
        ),
    );
    place.write("python", "#!/bin/sh\necho '{\"python\":\"3.12.0\",\"packages\":{\"torch\":null,\"transformers\":\"5.1\"}}'\n");
    use std::os::unix::fs::PermissionsExt;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(place.path("python"), executable).unwrap();
    let score = |words: &str| -> String {
        let words = format!("score --model student {words}");
        place.run(&words.split(' ').collect::<Vec<_>>()).err
    };
    place.done(&[
        "score",
        "--model",
        "student",
        "--data",
        "rows.jsonl",
        "-o",
        "s.jsonl",
        "-q",
    ]);
    let mut given = vec![
        score("--data other.jsonl -o s.jsonl"),
        score("--data rows.jsonl -o mine.jsonl --overwrite"),
        score("--data bad.jsonl -o t.jsonl"),
        score("--data rows.jsonl -o u.jsonl --backend torch --python ./python"),
        place
            .run(&[
                "score",
                "--model",
                "none",
                "--data",
                "rows.jsonl",
                "-o",
                "v.jsonl",
            ])
            .err,
        place
            .run(&[
                "score",
                "--model",
                "http://127.0.0.1:9/v1#m",
                "--data",
                "rows.jsonl",
                "-o",
                "v.jsonl",
            ])
            .err,
        place
            .run(&[
                "generate",
                "--model",
                "http://127.0.0.1:9/v1#m",
                "--problems",
                "p.jsonl",
                "-o",
                "v.jsonl",
            ])
            .err,
        place.run(&["compare", "a=eval.jsonl", "b=eval.jsonl"]).err,
        place.run(&["run", "recipe.toml"]).err,
    ];
    let text = place
        .text("s.jsonl")
        .replace("\"n_tokens\":1", "\"n_tokens\":2");
    place.write("s.jsonl", &text);
    given.push(score("--data rows.jsonl -o s.jsonl"));
    let given = given.join("\n");
    assert!(!given.contains("``"), "a folder without a name: {given}");
    let messages = messages();
    assert!(messages.len() > 8, "{messages:?}");
    for message in messages {
        // A full disk is tried by bench/faults.py.
        assert!(
            message == "No space left on device" || given.contains(message),
            "{message}: {given}"
        );
    }
}
