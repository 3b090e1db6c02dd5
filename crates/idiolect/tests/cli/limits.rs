//! Hostile files under a limit on addresses of 1 GiB: every command ends in words and an exit code,
//! never in an abort, a panic or a file of refused rows as large as what it was given.

use std::io::Write;
use std::process::Command;

use serde_json::{Value, json};

use crate::kit::{Place, Ran};

const STUDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");

/// Runs the program with 1 GiB of addresses and two threads' worth of work.
fn limited(place: &Place, arguments: &[&str]) -> Ran {
    let ended = Command::new("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_idiolect"))
        .args(arguments)
        .current_dir(place.path("."))
        .output()
        .unwrap();
    Ran {
        code: ended.status.code().unwrap_or(-1),
        out: String::from_utf8(ended.stdout).unwrap(),
        err: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}

/// Fails unless the command was refused and the message holds the words.
#[track_caller]
fn refused(place: &Place, arguments: &[&str], words: &[&str]) {
    let ran = limited(place, arguments);
    assert!(
        (1..=2).contains(&ran.code),
        "{arguments:?}: code {}\n{}",
        ran.code,
        ran.err
    );
    for word in words {
        assert!(
            ran.err.contains(word),
            "{arguments:?} lacks `{word}`:\n{}",
            ran.err
        );
    }
    for word in ["memory allocation of", "overflowed its stack"] {
        assert!(!ran.err.contains(word), "{arguments:?}:\n{}", ran.err);
    }
}

fn a_row(place: &Place) {
    let row = json!({"prompt": "Tom", "completion": " sat."});
    place.write("d.jsonl", &format!("{row}\n"));
}

/// A copy of the student with one of its JSON files changed.
fn changed(place: &Place, name: &str, file: &str, change: impl Fn(&mut Value)) {
    place.copy_student(name);
    let path = format!("{name}/{file}");
    let mut value: Value = serde_json::from_str(&place.text(&path)).unwrap();
    change(&mut value);
    place.write(&path, &value.to_string());
}

#[test]
fn adapters_larger_than_their_base_are_refused() {
    let place = Place::new();
    a_row(&place);
    for (field, value, words) in [
        ("r", json!(1_000_000_000_000u64), "`r` is 1000000000000"),
        ("r", json!(u64::MAX), "`r`"),
        ("r", json!(60_000), "widest layer"),
        ("lora_alpha", json!(1e308), "`alpha`"),
        (
            "target_modules",
            json!(vec!["q_proj"; 20_000]),
            "target_modules",
        ),
    ] {
        let mut config = json!({"peft_type": "LORA", "target_modules": ["q_proj"], "r": 4,
            "lora_alpha": 8, "base_model_name_or_path": STUDENT});
        config[field] = value;
        place.write("a/adapter_config.json", &config.to_string());
        let mut weights = 2u64.to_le_bytes().to_vec();
        weights.extend(b"{}");
        std::fs::write(place.path("a/adapter_model.safetensors"), weights).unwrap();
        let score = [
            "score", "--model", "a", "--data", "d.jsonl", "-o", "s.jsonl",
        ];
        refused(&place, &score, &[words, "adapter_config.json"]);
    }
}

#[test]
fn chat_templates_that_make_too_much_are_refused() {
    let place = Place::new();
    a_row(&place);
    let doubled = |step: &str| {
        format!(
            "{{% set n = namespace(s='x', l=[0]) %}}{{% for i in range(60) %}}{step}{{% endfor %}}\
             {{{{ n.s }}}}{{{{ n.l|length }}}}"
        )
    };
    let made = "MiB of text and lists";
    let cases = [
        (doubled("{% set n.s = n.s + n.s %}"), made),
        (doubled("{% set n.s = n.s ~ n.s %}"), made),
        (doubled("{% set n.s = n.s.join([n.s, n.s, n.s]) %}"), made),
        (
            doubled("{% set n.s = n.s.replace('x', 'xxxxxxxx') %}"),
            made,
        ),
        (doubled("{% set n.l = n.l + n.l %}"), "too"),
        (
            doubled("{% set n.l = n.l + ['x'.ljust(1000000)|list] %}"),
            made,
        ),
        (doubled("{% set n.l = n.l + ['x' * 90000000] %}"), made),
        (
            doubled("{% set k %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = k %}"),
            made,
        ),
        ("{{ '{:>9999999999}'.format(1) }}".to_owned(), "width"),
        ("{{ '%0.999999999f'|format(1.0) }}".to_owned(), "width"),
        (
            "{{ [1]|batch(10000000000, 0)|list|length }}".to_owned(),
            "width",
        ),
        ("{{ 'a\nb'|indent(10000000000) }}".to_owned(), "width"),
        (
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
                .to_owned(),
            made,
        ),
        (
            format!(
                "{{% for i in range(99999) %}}{}{{% endfor %}}",
                "x".repeat(9999)
            ),
            "rendered conversation has more",
        ),
        (
            format!(
                "{{% set a %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}",
                "x".repeat(9999)
            ),
            "fuel",
        ),
        (
            "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}".to_owned(),
            "recursion",
        ),
        (format!("{{{{ {}1 }}}}", "1+".repeat(100_000)), "one tag"),
        (format!("{{{{ x{} }}}}", ".a".repeat(100_000)), "one tag"),
        (
            format!("{{{{ {}{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
            "depth of brackets",
        ),
        (
            format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(50_000)),
            "`elif`",
        ),
        ("x".repeat(2 << 20), "the length of the chat template"),
    ];
    place.copy_student("m");
    for (template, words) in cases {
        place.write("m/chat_template.jinja", &template);
        let inspect = ["inspect", "--model", "m", "--data", "d.jsonl"];
        refused(&place, &inspect, &[words, "chat template"]);
    }
}

#[test]
fn tokenizers_that_blow_a_text_up_are_refused() {
    let place = Place::new();
    a_row(&place);
    let normalizer = |steps: Value| {
        move |json: &mut Value| {
            json["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
        }
    };
    let blown = |pattern: Value| json!({"type": "Replace", "pattern": pattern, "content": "T".repeat(1000)});
    let added = |json: &mut Value, tokens: Vec<Value>| {
        json["added_tokens"].as_array_mut().unwrap().extend(tokens);
    };
    let token = |id: u64, content: String| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": true, "special": false})
    };
    let inspect = ["inspect", "--model", "m", "--data", "d.jsonl"];
    type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let cases: Vec<(&str, Change<'_>)> = vec![
        (
            "could make",
            Box::new(normalizer(json!(vec![blown(json!({"String": "T"})); 4]))),
        ),
        (
            "could make",
            Box::new(normalizer(json!(vec![blown(json!({"Regex": ""})); 4]))),
        ),
        (
            "could make",
            Box::new(normalizer(
                json!([{"type": "Prepend", "prepend": "x".repeat(40 << 20)}]),
            )),
        ),
        (
            "number of steps",
            Box::new(normalizer(json!(vec![json!({"type": "Lowercase"}); 100]))),
        ),
        (
            "precompiled_charsmap",
            Box::new(normalizer(
                json!([{"type": "Precompiled", "precompiled_charsmap": "/////w=="}]),
            )),
        ),
        (
            "text of all added tokens",
            Box::new(|json| added(json, vec![token(600, "x".repeat(50_000_000))])),
        ),
        (
            "number of added tokens",
            Box::new(|json| {
                added(
                    json,
                    (0..70_000)
                        .map(|i| token(600 + i, format!("t{i}")))
                        .collect(),
                )
            }),
        ),
        (
            "a token has id",
            Box::new(|json| json["model"]["vocab"]["zzzz"] = json!(16_000_000)),
        ),
        (
            "post-processor",
            Box::new(|json| {
                let first = json["post_processor"]["single"][0].clone();
                json["post_processor"]["single"] = json!(vec![first; 100_000]);
            }),
        ),
    ];
    for (words, change) in cases {
        changed(&place, "m", "tokenizer.json", change);
        refused(&place, &inspect, &[words]);
    }
    let values = format!("[{}0]", "0,".repeat(5_000_000));
    place.write("m/tokenizer.json", &values);
    refused(&place, &inspect, &["tokenizer.json", "values"]);
}

#[test]
fn files_whose_rows_are_no_rows_are_refused_at_once() {
    let place = Place::new();
    let import = [
        "import",
        "gsm8k",
        "x",
        "-q",
        "-o",
        "p.jsonl",
        "--overwrite",
        "--threads",
        "2",
    ];
    let of = |name: &'static str| import.map(|word| if word == "x" { name } else { word });
    let row =
        |list: &str| format!("{{\"question\":\"q\",\"answer\":\"#### 1\",\"x\":[{list}0]}}\n");
    place.write("wide.jsonl", &row(&"0,".repeat(20_000_000)));
    refused(&place, &of("wide.jsonl"), &["line 1", "values"]);
    place.write("lists.jsonl", &row(&"[],".repeat(15_000_000)));
    refused(&place, &of("lists.jsonl"), &["line 1", "values"]);
    place.write("blank.jsonl", &format!("{{\n{}", "\n".repeat(2_000_000)));
    refused(&place, &of("blank.jsonl"), &["blank lines from line 2"]);
    let cells = format!("{}\n", ",".repeat(20_000_000));
    place.write("cells.csv", &format!("question,answer\n{cells}"));
    refused(&place, &of("cells.csv"), &["more than 100000 cells"]);
    let names: Vec<String> = (0..90_000).map(|i| format!("c{i}")).collect();
    place.write("columns.csv", &format!("{0}\n{0}\n", names.join(",")));
    refused(&place, &of("columns.csv"), &["were refused"]);
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..300 {
        bomb.write_all(&vec![b'a'; 1 << 20]).unwrap();
    }
    std::fs::write(place.path("bomb.jsonl.gz"), bomb.finish().unwrap()).unwrap();
    refused(&place, &of("bomb.jsonl.gz"), &["longer than 64 MiB"]);

    place.write("text.txt", &"no row\n".repeat(500_000));
    refused(&place, &of("text.txt"), &["rows were refused"]);
    assert_eq!(place.count("p.jsonl.rejects.jsonl"), 10_000);
    let good = json!({"question": "q", "answer": "#### 1"});
    place.write("half.jsonl", &format!("{good}\n{}", "{\n".repeat(200_000)));
    refused(&place, &of("half.jsonl"), &["rows were refused"]);
    assert!(
        place.count("p.jsonl.rejects.jsonl") < 3000,
        "one in a hundred is known to be exceeded"
    );
}

#[test]
fn a_limit_on_the_rows_refused_does_not_count_wrongly() {
    let place = Place::new();
    let row = |i: usize| {
        format!(
            "{}\n",
            json!({"question": format!("q{i}"), "answer": "#### 1"})
        )
    };
    let mut rows: String = (0..99).map(row).collect();
    // One bad row of a hundred is allowed, and the last row has no line break.
    rows = format!("{{\n{rows}");
    place.write("r.jsonl", rows.trim_end());
    let ran = place.run(&["import", "gsm8k", "r.jsonl", "-q", "-o", "p.jsonl"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(place.count("p.jsonl"), 99);
}

#[test]
fn numbers_that_no_experiment_has_are_wrong_use() {
    let place = Place::new();
    a_row(&place);
    let huge = "100000000000";
    let train = ["train", "--model", STUDENT, "--data", "d.jsonl", "-o", "t"];
    for flag in [
        ["--epochs", huge],
        ["--epochs", "0"],
        ["--lr=-1", "-q"],
        ["--lr", "NaN"],
        ["--batch-size", "0"],
        ["--batch-tokens", huge],
        ["--weight-decay", "inf"],
        ["--lora", "r=100000000000,alpha=1"],
    ] {
        refused(&place, &[&train[..], &flag].concat(), &[]);
        assert!(!place.path("t").exists(), "{flag:?}");
    }
    for set in [
        "replicates=100000000000",
        "train.seeds=0",
        "train.lr=-1.0",
        "train.lr=nan",
        "train.epochs=100000000000",
        "train.weight_decay=inf",
        "generate.n=100000000000",
        "generate.temperature=nan",
        "generate.top_p=-1.0",
        "eval.max_tokens=100000000000",
        "eval.n=100000000000",
        "execute.rows_per_shard=0",
        "models.teacher.scratch.lr=-1.0",
        "models.teacher.scratch.epochs=100000000000",
        "models.teacher.scratch.batch_tokens=0",
    ] {
        let name = set.split(['=', '.']).next().unwrap();
        refused(
            &place,
            &["run", "tiny", "--out", "r", "--set", set],
            &[name],
        );
        assert!(!place.path("r").exists(), "{set}");
    }
}

#[test]
fn a_stage_ends_once_too_many_rows_are_refused_and_keeps_what_it_did() {
    let place = Place::new();
    place.write("p.jsonl", &crate::kit::problems(1));
    let mut rows = vec![("0", "#### 1"); 200];
    rows.extend([("9", "#### 1"); 3000]);
    rows.extend([("0", "#### 1"); 6000]);
    place.write("t.jsonl", &crate::kit::traces(&rows));
    let model = ["--model", STUDENT];
    for (stage, more) in [("verify", &[][..]), ("score", &model)] {
        let output = format!("{stage}.jsonl");
        let given = [
            stage,
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "-o",
            &output,
        ];
        let arguments = [&given[..], more].concat();
        let ran = place.run(&arguments);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(
            ran.err.contains("no problem has the id `gsm8k/test/9`")
                && ran.err.contains("--max-rejects"),
            "{}",
            ran.err
        );
        let refused = place.count(&format!("{output}.rejects.jsonl"));
        assert!((1000..1500).contains(&refused), "{stage}: {refused}");
        assert!(!place.path(&output).exists());
        if stage == "verify" {
            let done = place.count("verify.jsonl.part");
            assert_eq!(done, 200 + refused);
            let ran = place.run(&[&arguments[..], &["--max-rejects", "0.4"]].concat());
            assert_eq!(ran.code, 3, "{}", ran.err);
            assert_eq!(place.count(&output), 6200);
            assert_eq!(place.count("verify.jsonl.rejects.jsonl"), 3000);
        }
    }
}
