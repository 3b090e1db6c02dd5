//! Chat templates from end to end, `inspect` and `doctor`, on the small trained model.

use serde_json::{Value, json};

use crate::kit::Place;

const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}:\n{{ m.content | trim }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}";

/// The trained model of the repository, with a template.
fn place() -> Place {
    let place = Place::new();
    place.copy_student("m");
    place.write("m/chat_template.jinja", TEMPLATE);
    let turns = json!([{"role": "user", "content": "Tell a story."}, {"role": "assistant", "content": "Once upon a time."}]);
    let rows = [
        json!({"messages": turns}),
        json!({"prompt": "Tell a story.", "completion": "Once upon a time."}),
    ];
    place.write("rows.jsonl", &rows.map(|row| format!("{row}\n")).concat());
    place
}

#[test]
fn chat_is_the_default_of_a_model_with_a_template_in_every_command() {
    let place = place();
    place.done(&[
        "score",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "-o",
        "a.jsonl",
    ]);
    let rows = place.lines("a.jsonl");
    assert_eq!(rows[0]["template"], "chat");
    // A prompt is the user's turn.
    assert_eq!(rows[0]["nll_nats"], rows[1]["nll_nats"]);
    place.write(
        "raw.jsonl",
        &format!(
            "{}\n",
            json!({"prompt": "Tell a story.", "completion": "Once upon a time."})
        ),
    );
    place.done(&[
        "score",
        "--model",
        "m",
        "--template",
        "raw",
        "--data",
        "raw.jsonl",
        "-o",
        "b.jsonl",
    ]);
    let raw = &place.lines("b.jsonl")[0];
    assert_eq!(raw["template"], "raw");
    assert_ne!(raw["nll_nats"], rows[0]["nll_nats"]);
    let refused = place.run(&[
        "score",
        "--model",
        "m",
        "--template",
        "raw",
        "--data",
        "rows.jsonl",
        "-o",
        "c.jsonl",
    ]);
    assert_eq!(refused.code, 1, "half of the rows have messages");
    assert!(
        place
            .text("c.jsonl.rejects.jsonl")
            .contains("chat template")
    );

    let train = [
        "train",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "-o",
        "t",
        "--lr",
        "0.003",
        "--epochs",
        "30",
        "--batch-size",
        "2",
    ];
    place.done(&train);
    assert!(place.path("t/chat_template.jinja").exists());
    let problem = json!({"id": "gsm8k/test/1", "task": "gsm8k", "question": "Tell a story.", "gold": {"answer": "1"}, "split": "test"});
    place.write("p.jsonl", &format!("{problem}\n"));
    place.write("prompt.txt", "{question}");
    place.done(&[
        "generate",
        "--model",
        "t",
        "--problems",
        "p.jsonl",
        "--prompt",
        "prompt.txt",
        "-n",
        "1",
        "--temperature",
        "0",
        "--max-tokens",
        "60",
        "-o",
        "g.jsonl",
    ]);
    let written = &place.lines("g.jsonl")[0];
    assert_eq!(
        (&written["text"], &written["finish"]),
        (&json!("Once upon a time."), &json!("stop")),
        "it ends its turn"
    );
}

#[test]
fn inspect_shows_what_is_trained_on() {
    let place = place();
    let shown = place.done(&["inspect", "--model", "m", "--data", "rows.jsonl"]);
    assert!(shown.contains("row 1 of 2, template chat"), "{shown}");
    let trained = shown
        .split_once('⟦')
        .unwrap()
        .1
        .split_once('⟧')
        .unwrap()
        .0
        .replace('·', "");
    assert_eq!(trained, "Once upon a time.</s>", "{shown}");
    assert!(shown.contains("⏎") && !shown.contains('\x1b'), "{shown}");
    let document: Value = serde_json::from_str(&place.done(&[
        "inspect",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "--row",
        "2",
        "--json",
    ]))
    .unwrap();
    let tokens = document["tokens"].as_array().unwrap();
    let trained: Vec<&Value> = tokens
        .iter()
        .filter(|token| token["loss_mask"] == true)
        .collect();
    assert_eq!(
        trained.len() as u64,
        document["n_loss_tokens"].as_u64().unwrap()
    );
    assert_eq!(trained[0]["byte_start"], 0);
    let end = trained.last().unwrap();
    assert_eq!(
        (&end["kind"], &end["special"], &end["text"]),
        (&json!("end"), &json!(true), &json!("</s>"))
    );
    assert_eq!(tokens[0]["text"], "<s>");
    assert_eq!(document["file"]["rows"], 2);
    let beyond = place.run(&[
        "inspect",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "--row",
        "3",
    ]);
    assert_eq!(beyond.code, 2);
    assert!(beyond.err.contains("has 2 rows"), "{}", beyond.err);
}

#[test]
fn inspect_shows_what_spans_keep_out_of_the_loss() {
    let place = place();
    place.write(
        "masked.jsonl",
        r#"{"prompt":"Once:","completion":"Upon a time.","spans":[{"start":6,"end":12,"train":false}]}"#,
    );
    for template in ["raw", "chat"] {
        let base = [
            "inspect",
            "--model",
            "m",
            "--data",
            "masked.jsonl",
            "--template",
            template,
        ];
        let shown = place.done(&base);
        let trained: Vec<&str> = shown
            .split('⟦')
            .skip(1)
            .filter_map(|part| part.split_once('⟧').map(|(trained, _)| trained))
            .collect();
        let trained = trained.concat().replace('·', "");
        assert!(
            trained.contains("pon") && !trained.contains("time"),
            "{shown}"
        );
        assert!(
            trained.contains("</s>"),
            "the end is always trained on: {shown}"
        );
        let document: Value =
            serde_json::from_str(&place.done(&[&base[..], &["--json"]].concat())).unwrap();
        let tokens = document["tokens"].as_array().unwrap();
        let masked: Vec<&Value> = tokens
            .iter()
            .filter(|t| t["kind"] == "completion" && t["loss_mask"] == false)
            .collect();
        assert!(!masked.is_empty(), "{document}");
        assert!(
            masked
                .iter()
                .all(|t| t["byte_start"].as_u64().unwrap() >= 6)
        );
        let trained = tokens.iter().filter(|t| t["loss_mask"] == true).count();
        assert_eq!(document["n_loss_tokens"], trained);
        assert_eq!(document["file"]["loss_tokens"], trained);
    }
}

#[test]
fn inspect_and_doctor_read_an_adapter_through_its_base() {
    let place = place();
    place.done(&[
        "train",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "-o",
        "a",
        "--lora",
        "r=2,alpha=4",
        "--epochs",
        "1",
    ]);
    let of = |model| place.done(&["inspect", "--model", model, "--data", "rows.jsonl"]);
    assert_eq!(of("a"), of("m"));
    let sound = place.done(&["doctor", "--model", "a"]);
    assert!(
        sound.contains("rank 2") && sound.contains("0 errors"),
        "{sound}"
    );
    std::fs::rename(place.path("m"), place.path("moved")).unwrap();
    let lost = place.run(&["doctor", "--model", "a"]);
    assert_eq!(lost.code, 1);
    assert!(lost.out.contains("--base"), "{}", lost.out);
    let found = place.done(&["doctor", "--model", "a", "--base", "moved"]);
    assert!(found.contains("0 errors"), "{found}");
    place.done(&[
        "inspect",
        "--model",
        "a",
        "--base",
        "moved",
        "--data",
        "rows.jsonl",
    ]);
}

#[test]
fn doctor_tells_errors_by_its_exit_code() {
    let place = place();
    let sound = place.done(&["doctor", "--model", "m"]);
    assert!(sound.contains("0 errors, 0 warnings"), "{sound}");
    place.write(
        "m/chat_template.jinja",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    );
    let warned = place.done(&["doctor", "--model", "m"]);
    assert!(
        warned.contains("warning  end of turn") && warned.contains("→"),
        "{warned}"
    );
    std::fs::write(place.path("m/model.safetensors"), b"short").unwrap();
    let broken = place.run(&["doctor", "--model", "m", "--json"]);
    assert_eq!(broken.code, 1);
    let document: Value = serde_json::from_str(&broken.out).unwrap();
    assert_eq!(document["errors"], 1);
    assert_eq!(document["findings"][0]["severity"], "error");
    assert!(
        document["findings"][0]["what"]
            .as_str()
            .unwrap()
            .contains("model.safetensors")
    );
    assert_eq!(place.run(&["doctor", "--model", "nowhere"]).code, 1);
}

#[test]
fn an_unknown_config_field_is_set_aside_by_its_name_and_recorded() {
    let place = place();
    let config = place.text("m/config.json");
    place.write(
        "m/config.json",
        &config.replacen('{', "{\"my_note\": \"x\",", 1),
    );
    let score = [
        "score",
        "--model",
        "m",
        "--data",
        "rows.jsonl",
        "-o",
        "a.jsonl",
    ];
    let refused = place.run(&score);
    assert_eq!(refused.code, 1);
    assert!(
        refused.err.contains("--ignore-config-field my_note"),
        "{}",
        refused.err
    );
    let flag = ["--ignore-config-field", "my_note"];
    place.done(&[&score[..], &flag].concat());
    let meta: Value = serde_json::from_str(&place.text("a.jsonl.meta.json")).unwrap();
    assert_eq!(meta["settings"]["ignore_config_field"], json!(["my_note"]));
    for command in [
        vec!["doctor", "--model", "m"],
        vec!["inspect", "--model", "m", "--data", "rows.jsonl"],
        vec![
            "train",
            "--model",
            "m",
            "--data",
            "rows.jsonl",
            "-o",
            "t",
            "-q",
        ],
    ] {
        assert_eq!(place.run(&command).code, 1, "{command:?}");
        place.done(&[&command[..], &flag].concat());
    }
    let matters = place.run(
        &[
            &score[..],
            &["--overwrite", "--ignore-config-field", "hidden_size"],
        ]
        .concat(),
    );
    assert!(
        matters.err.contains("`hidden_size`") && matters.err.contains("does not apply"),
        "{}",
        matters.err
    );
}

#[test]
fn rows_of_csv_are_scored_and_trained_as_those_of_json() {
    let place = place();
    place.write(
        "rows.csv",
        "prompt,completion,weight\nTell a story.,\"Once, upon a time.\",0.5\nTell,\"a\nb\",\nbad\n",
    );
    let lines = [
        json!({"prompt": "Tell a story.", "completion": "Once, upon a time.", "weight": 0.5}),
        json!({"prompt": "Tell", "completion": "a\nb"}),
    ];
    place.write("same.jsonl", &lines.map(|row| format!("{row}\n")).concat());
    let run = |data: &str, out: &str| {
        place.run(&[
            "score",
            "--model",
            "m",
            "--data",
            data,
            "-o",
            out,
            "--max-rejects",
            "0.5",
        ])
    };
    assert_eq!(
        (
            run("rows.csv", "a.jsonl").code,
            run("same.jsonl", "b.jsonl").code
        ),
        (3, 0)
    );
    let scores = |name: &str| -> Vec<Value> {
        place
            .lines(name)
            .iter()
            .map(|row| row["nll_nats"].clone())
            .collect()
    };
    assert_eq!(scores("a.jsonl"), scores("b.jsonl"));
    let rejects = place.lines("a.jsonl.rejects.jsonl");
    assert_eq!(rejects[0]["line"], 5);
}
