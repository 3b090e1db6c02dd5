//! The messages that docs/troubleshooting.md explains are those that the program gives, and the commands
//! of docs/start.md run.

use serde_json::json;

use crate::kit::{Place, problems};

const PAGE: &str = include_str!("../../../../docs/troubleshooting.md");

/// The messages of the page's table.
fn messages() -> Vec<&'static str> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split('`').next().unwrap()).collect()
}

const START: &str = include_str!("../../../../docs/start.md");

#[test]
fn the_first_steps_are_those_that_the_page_shows() {
    let place = Place::new();
    let clone = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let blocks = START.split("```").skip(1).step_by(2);
    let commands: Vec<&str> = blocks
        .flat_map(str::lines)
        .filter(|line| !line.is_empty())
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let command = command.replace("CLONE", clone);
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "idiolect");
        let ran = place.run(&words[1..]);
        // 3: some samples have no answer that could stand alone.
        assert!(
            [0, 3].contains(&ran.code),
            "{command}: {} {}",
            ran.code,
            ran.err
        );
    }
    assert_eq!(place.count("sampled.jsonl"), 53);
    let arms = ["H", "G", "A"].map(|arm| place.count(&format!("arms/{arm}.jsonl")));
    assert!(
        arms[0] > 5 && arms.iter().all(|rows| *rows == arms[0]),
        "{arms:?}"
    );
    assert!(place.text("report.html").contains("</html>"));
}

/// Errors of arms that nothing, or not every trace, is for, and of a row number of another file.
fn of_arms(place: &Place) -> [String; 3] {
    let row = |question: u32, answer: u32| {
        let row = json!({"question": format!("What is {question} and {question}?"), "answer": format!("{}", 2 * question),
            "response": format!("#### {answer}"), "model": "m", "finish": "stop"});
        format!("{row}\n")
    };
    place.write("one.jsonl", &[row(1, 2), row(2, 5)].concat());
    place.write("two.jsonl", &[row(2, 4), row(1, 2)].concat());
    for name in ["one", "two"] {
        let [file, problems, traces] =
            [".jsonl", ".p.jsonl", ".t.jsonl"].map(|end| format!("{name}{end}"));
        place.done(&[
            "import", "gsm8k", &file, "-o", &problems, "--traces", &traces, "-q",
        ]);
    }
    let words = |command: &str| place.run(&command.split(' ').collect::<Vec<_>>());
    let verify = "verify --problems one.p.jsonl --traces";
    assert_eq!(
        words(&format!("{verify} one.t.jsonl -o one.v.jsonl")).code,
        0
    );
    let arms =
        "arms --problems one.p.jsonl --traces one.t.jsonl --verdicts one.v.jsonl -o arms --arm";
    [
        words(&format!("{verify} two.t.jsonl -o two.v.jsonl")).err,
        words(&format!("{arms} A")).err,
        words(&format!("{arms} G --arm W")).err,
    ]
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
    given.extend(of_arms(&place));
    let given = given.join("\n");
    assert!(!given.contains("``"), "a folder without a name: {given}");
    let messages = messages();
    assert!(messages.len() > 8, "{messages:?}");
    for message in messages {
        // A full disk is tried by bench/faults.py, a missing module by the tests of the code runner.
        let elsewhere = ["No space left on device", "which is not installed here"];
        assert!(
            elsewhere.contains(&message) || given.contains(message),
            "{message}: {given}"
        );
    }
}
