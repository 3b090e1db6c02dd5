//! What rows go in and come out.

use std::io::Write;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::kit::{Place, SCRIPT, problems, traces};

#[test]
fn some_refused_rows_are_3_and_too_many_are_1() {
    let place = Place::new();
    let bad = "{\"question\":\"q\"}\nnot json\n";
    place.write("raw.jsonl", &format!("{}{bad}", problems(8)));
    let import = ["import", "gsm8k", "raw.jsonl", "-o", "p.jsonl"];
    let ran = place.run(&import);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("2 of 10 rows were refused"), "{}", ran.err);
    assert!(
        ran.err.contains("`p.jsonl.rejects.jsonl` names each"),
        "{}",
        ran.err
    );
    // The share is no setting of the output: the same rows pass a larger one.
    let ran = place.run(&[&import[..], &["--max-rejects", "0.2"]].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("p.jsonl.rejects.jsonl"), "{}", ran.err);
    let rejects = place.lines("p.jsonl.rejects.jsonl");
    assert_eq!(
        (rejects[0]["line"].as_u64(), rejects[1]["line"].as_u64()),
        (Some(9), Some(10))
    );
    assert_eq!(rejects[0]["file"], "raw.jsonl");
    assert!(
        rejects[1]["reason"]
            .as_str()
            .unwrap()
            .starts_with("not JSON")
    );
    assert_eq!(place.count("p.jsonl"), 8);
}

#[test]
fn gzip_arrays_parquet_and_standard_input_are_read_alike() {
    let place = Place::new();
    place.write("test.jsonl", &problems(3));
    place.done(&[
        "import",
        "gsm8k",
        "test.jsonl",
        "-o",
        "a.jsonl",
        "--traces",
        "at.jsonl",
    ]);
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(problems(3).as_bytes()).unwrap();
    std::fs::write(place.path("test.jsonl.gz"), gz.finish().unwrap()).unwrap();
    place.done(&["import", "gsm8k", "test.jsonl.gz", "-o", "b.jsonl"]);
    let array: Vec<Value> = place.lines("test.jsonl");
    place.write("test.json", &serde_json::to_string_pretty(&array).unwrap());
    place.done(&["import", "gsm8k", "test.json", "-o", "c.jsonl"]);
    let mut child = place
        .command(&[
            "import", "gsm8k", "-", "--split", "test", "-q", "-o", "d.jsonl",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(problems(3).as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    for other in ["b.jsonl", "c.jsonl", "d.jsonl"] {
        assert_eq!(place.text("a.jsonl"), place.text(other), "{other}");
    }
    assert_eq!(place.lines("at.jsonl")[0]["origin"]["kind"], "human");
    parquet(&place, "rows.parquet");
    place.done(&[
        "import",
        "gsm8k",
        "rows.parquet",
        "--map",
        "answer=solution",
        "-o",
        "e.jsonl",
    ]);
    let rows = place.lines("e.jsonl");
    assert_eq!(
        (
            rows[0]["gold"]["answer"].as_str(),
            rows[0]["question"].as_str()
        ),
        (Some("7"), Some("ä?"))
    );
}

fn parquet(place: &Place, name: &str) {
    use parquet::data_type::ByteArrayType;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let schema =
        "message m { REQUIRED BYTE_ARRAY question (UTF8); REQUIRED BYTE_ARRAY solution (UTF8); }";
    let schema = std::sync::Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(place.path(name)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for text in ["ä?", "3 + 4 = 7\n#### 7"] {
        let mut column = group.next_column().unwrap().unwrap();
        column
            .typed::<ByteArrayType>()
            .write_batch(&[text.into()], None, None)
            .unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn gz_output_is_compressed_rows() {
    let place = Place::new();
    place.write("test.jsonl", &problems(3));
    place.done(&["import", "gsm8k", "test.jsonl", "-o", "a.jsonl"]);
    place.done(&["import", "gsm8k", "test.jsonl", "-o", "a.jsonl.gz"]);
    let mut text = String::new();
    let bytes = place.bytes("a.jsonl.gz");
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut text)
        .unwrap();
    assert_eq!(text, place.text("a.jsonl"));
    assert!(!place.path("a.jsonl.gz.part").exists());
}

#[test]
fn pairs_give_one_row_a_well_formed_pair_in_order() {
    let place = Place::new();
    let pairs = [
        json!({"id": "right", "gold": "18", "answer": "so it is #### 18"}),
        json!({"id": 2, "gold": {"answer": "18"}, "answer": "17"}),
        json!({"id": "empty", "gold": "18", "answer": ""}),
        json!({"id": "null", "gold": "18", "answer": null}),
        json!({"id": "bad gold", "gold": "eighteen-ish", "answer": "18"}),
    ];
    let text: String = pairs.iter().map(|pair| format!("{pair}\n")).collect();
    place.write("pairs.jsonl", &text);
    let verify = [
        "verify",
        "--task",
        "gsm8k",
        "--pairs",
        "pairs.jsonl",
        "-o",
        "r.jsonl",
    ];
    place.done(&verify);
    let rows = place.lines("r.jsonl");
    let said: Vec<_> = rows
        .iter()
        .map(|row| (row["id"].clone(), row["verdict"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            (json!("right"), "correct"),
            (json!(2), "wrong"),
            (json!("empty"), "no_answer"),
            (json!("null"), "no_answer"),
            (json!("bad gold"), "ungraded"),
        ]
    );
    assert!(
        rows.iter()
            .all(|row| !row["reason"].as_str().unwrap().is_empty())
    );
    assert!(!place.path("r.jsonl.rejects.jsonl").exists());
    place.write(
        "pairs2.jsonl",
        &format!("{text}{{\"id\":\"x\",\"gold\":\"1\"}}\n[]\n{{\n"),
    );
    let ran = place.run(&[
        "verify",
        "--task",
        "gsm8k",
        "--pairs",
        "pairs2.jsonl",
        "-o",
        "r2.jsonl",
        "--max-rejects",
        "1",
    ]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(
        (
            place.count("r2.jsonl"),
            place.count("r2.jsonl.rejects.jsonl")
        ),
        (5, 3)
    );
}

#[test]
fn a_second_labelled_verdict_is_written_beside_ours() {
    let place = Place::new();
    let gold = json!({"numbers": [1, 2, 3], "target": 1});
    let pair = json!({"id": "a", "gold": gold, "answer": "<answer> (1 + 2) ÷ 3 </answer>"});
    place.write("pairs.jsonl", &format!("{pair}\n"));
    place.done(&[
        "verify",
        "--task",
        "countdown",
        "--pairs",
        "pairs.jsonl",
        "--compat",
        "paper",
        "-o",
        "r.jsonl",
    ]);
    let row = &place.lines("r.jsonl")[0];
    assert_eq!(
        (&row["verdict"], &row["compat"]["scorer"]),
        (&json!("correct"), &json!("paper"))
    );
    assert_eq!(row["compat"]["verdict"], "wrong");
    let ran = place.run(&[
        "verify",
        "--task",
        "countdown",
        "--pairs",
        "pairs.jsonl",
        "--compat",
        "gsm8k-em",
        "-o",
        "s.jsonl",
    ]);
    assert_eq!(ran.code, 2, "{}", ran.err);
}

#[test]
fn verdicts_are_in_trace_order_for_any_number_of_threads() {
    let place = Place::new();
    place.write("p.jsonl", &problems(10));
    let answers = ["#### 1", "#### 2", "nothing", "it is 1"];
    let texts: Vec<(String, String)> = (0..300)
        .map(|i| {
            (
                (i % 10).to_string(),
                format!("trace {i} {}", answers[i % 4]),
            )
        })
        .collect();
    let texts: Vec<(&str, &str)> = texts
        .iter()
        .map(|(p, t)| (p.as_str(), t.as_str()))
        .collect();
    place.write("t.jsonl", &traces(&texts));
    for threads in ["1", "3"] {
        let output = format!("v{threads}.jsonl");
        place.done(&[
            "verify",
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "--threads",
            threads,
            "-o",
            &output,
        ]);
    }
    assert_eq!(place.text("v1.jsonl"), place.text("v3.jsonl"));
    let rows = place.lines("v1.jsonl");
    assert!(
        rows.iter()
            .enumerate()
            .all(|(i, row)| row["trace_id"] == format!("t{i}"))
    );
}

#[test]
fn a_trace_without_its_problem_is_refused() {
    let place = Place::new();
    place.write("p.jsonl", &problems(1));
    place.write("t.jsonl", &traces(&[("0", "#### 1"), ("99", "#### 1")]));
    let ran = place.run(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
        "--max-rejects",
        "0.5",
    ]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let reject = &place.lines("v.jsonl.rejects.jsonl")[0];
    assert_eq!(reject["line"], 2);
    assert!(
        reject["reason"]
            .as_str()
            .unwrap()
            .contains("no problem has the id `gsm8k/test/99`")
    );
}

#[test]
fn scores_are_in_row_order_in_either_form() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    place.write("s.jsonl", SCRIPT);
    // Prompts alternate, and the last row repeats the first.
    place.write(
        "t.jsonl",
        &traces(&[
            ("0", "a b"),
            ("1", "c"),
            ("0", "d é f"),
            ("1", "g"),
            ("0", "a b"),
        ]),
    );
    let model = ["score", "--model", "scripted:s.jsonl"];
    place.done(
        &[
            &model[..],
            &[
                "--problems",
                "p.jsonl",
                "--traces",
                "t.jsonl",
                "-o",
                "a.jsonl",
                "--tokens",
                "a.parquet",
            ],
        ]
        .concat(),
    );
    let rows = place.lines("a.jsonl");
    let ids: Vec<_> = rows
        .iter()
        .map(|row| row["trace_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!(
        (&rows[2]["n_tokens"], &rows[2]["n_bytes"]),
        (&json!(3), &json!(6))
    );
    assert_eq!(rows[0]["nll_nats"], rows[4]["nll_nats"]);
    let mut tokens = Vec::new();
    idiolect_core::store::tokens::read(&place.path("a.parquet"), |row| tokens.push(row)).unwrap();
    for (row, scores) in tokens.iter().zip(&rows) {
        assert_eq!(row.trace_id, scores["trace_id"]);
        let (end, completion) = row.tokens.split_last().unwrap();
        assert!(end.is_end && completion.len() as u64 == scores["n_tokens"].as_u64().unwrap());
        let nll: f64 = completion
            .iter()
            .map(|token| -f64::from(token.logprob))
            .sum();
        assert!((nll - scores["nll_nats"].as_f64().unwrap()).abs() < 1e-9);
    }
    let turns = json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a b"}]);
    let data = [
        json!({"prompt": "u", "completion": "a b"}),
        json!({"messages": turns, "problem_id": "p"}),
        json!({"prompt": "u", "completion": "a b", "trace_id": "mine"}),
    ];
    place.write(
        "rows.jsonl",
        &data
            .iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>(),
    );
    place.done(&[&model[..], &["--data", "rows.jsonl", "-o", "d.jsonl"]].concat());
    let rows = place.lines("d.jsonl");
    let ids: Vec<_> = rows
        .iter()
        .map(|row| (row["trace_id"].as_str(), row["problem_id"].as_str()))
        .collect();
    assert_eq!(
        ids,
        [
            (Some("1"), None),
            (Some("2"), Some("p")),
            (Some("mine"), None)
        ]
    );
    assert_eq!(rows[0]["nll_nats"], rows[1]["nll_nats"]);
}

#[test]
fn unknown_fields_of_a_problem_pass_through() {
    let place = Place::new();
    place.write(
        "test.jsonl",
        "{\"question\":\"q?\",\"answer\":\"#### 4\",\"level\":\"hard\"}\n",
    );
    place.done(&["import", "gsm8k", "test.jsonl", "-o", "p.jsonl"]);
    assert_eq!(place.lines("p.jsonl")[0]["level"], "hard");
}

#[test]
fn equal_samples_of_one_problem_collapse_and_seeds_decide() {
    let place = Place::new();
    place.write("p.jsonl", &problems(6));
    place.write("s.jsonl", SCRIPT);
    let generate = |seed: &str, output: &str| {
        place.done(&[
            "generate",
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "-n",
            "6",
            "--seed",
            seed,
            "-o",
            output,
        ])
    };
    generate("0", "a.jsonl");
    generate("0", "b.jsonl");
    generate("1", "c.jsonl");
    assert_eq!(place.text("a.jsonl"), place.text("b.jsonl"));
    assert_ne!(place.text("a.jsonl"), place.text("c.jsonl"));
    let rows = place.lines("a.jsonl");
    let mut seen: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| {
            (
                row["problem_id"].as_str().unwrap(),
                row["text"].as_str().unwrap(),
            )
        })
        .collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all);
    assert!(all < 36);
}

#[test]
fn nothing_but_rows_settings_and_hashes_is_written() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    place.write("s.jsonl", SCRIPT);
    place.done(&[
        "eval",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "-o",
        "e.jsonl",
    ]);
    let meta = place.text("e.jsonl.meta.json");
    let folder = place.path("").to_string_lossy().into_owned();
    assert!(
        !meta.contains(&folder) && !place.text("e.jsonl").contains(&folder),
        "{meta}"
    );
    let meta: Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(
        (&meta["complete"], &meta["settings"]["temperature"]),
        (&json!(true), &json!(0.0))
    );
    for name in ["task", "prompt", "model", "tokenizer", "idiolect"] {
        assert!(meta["versions"][name].is_string(), "{name}");
    }
}

#[test]
fn drawn_countdown_problems_are_solved_distinct_and_repeatable() {
    let place = Place::new();
    let draw = |seed: &str, output: &str| {
        let draw = [
            "import",
            "countdown",
            "--generate",
            "20",
            "--numbers",
            "3",
            "--max",
            "30",
        ];
        let rest = ["--max-solutions", "1", "--seed", seed, "-o", output, "-q"];
        place.done(&[draw.as_slice(), rest.as_slice()].concat())
    };
    draw("7", "a.jsonl");
    draw("7", "b.jsonl");
    draw("8", "c.jsonl");
    assert_eq!(place.bytes("a.jsonl"), place.bytes("b.jsonl"));
    assert_ne!(place.bytes("a.jsonl"), place.bytes("c.jsonl"));
    let problems = place.lines("a.jsonl");
    assert_eq!(problems.len(), 20);
    assert_eq!(problems[19]["id"], "countdown/train/19");
    let pairs: String = problems
        .iter()
        .map(|row| {
            let pair = json!({"id": row["id"], "gold": row["gold"], "answer": row["gold_expr"]});
            format!("{pair}\n")
        })
        .collect();
    place.write("pairs.jsonl", &pairs);
    place.done(&[
        "verify",
        "--task",
        "countdown",
        "--pairs",
        "pairs.jsonl",
        "-o",
        "r.jsonl",
        "-q",
    ]);
    assert!(
        place
            .lines("r.jsonl")
            .iter()
            .all(|row| row["verdict"] == "correct")
    );

    let ran = place.run(&["import", "gsm8k", "--generate", "5", "-o", "d.jsonl"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let ran = place.run(&[
        "import",
        "countdown",
        "--generate",
        "5",
        "--numbers",
        "9",
        "-o",
        "d.jsonl",
    ]);
    assert!(
        ran.code == 2 && ran.err.contains("9 numbers"),
        "{}",
        ran.err
    );
}

#[test]
fn an_audit_finds_lucky_answers_and_good_beginnings() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    place.write(
        "t.jsonl",
        &traces(&[
            ("0", "2 + 2 = 5. #### 1"),
            ("0", "2 + 2 = 4. 4 - 3 = 1. #### 1"),
            ("1", "x = 3\nx + 1 = 4\n4 * 2 = 9\n#### 9"),
            ("1", "4 * 2 = 9\n#### 9"),
        ]),
    );
    let verify = [
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
        "-q",
    ];
    place.done(&verify);
    let audit = [
        "audit",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "--verdicts",
        "v.jsonl",
    ];
    let shown = place.done(&audit);
    for words in [
        "imported",
        "right answers with a false step: 1",
        "wrong answers with a valid prefix: 1",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    let found: Value =
        serde_json::from_str(&place.done(&[&audit[..], &["--json"]].concat())).unwrap();
    assert_eq!(found["right_with_invalid"][0]["trace_id"], "t0");
    let began = &found["wrong_with_valid_prefix"][0];
    assert_eq!(began["trace_id"], "t2");
    assert_eq!(began["first_error_text"], "4 * 2 = 9");
    assert_eq!(began["prefix_steps"], 2);
    let counts = &found["groups"]["imported"];
    assert_eq!(
        (counts["correct"].as_u64(), counts["wrong"].as_u64()),
        (Some(2), Some(2))
    );

    // By arms, where a trace may be in several.
    let row = |id: &str| {
        format!(
            "{}\n",
            json!({"trace_id": id, "problem_id": "p", "prompt": "", "completion": "", "weight": 1.0})
        )
    };
    place.write("arms/G.jsonl", &row("t0"));
    place.write("arms/W.jsonl", &(row("t2") + &row("t3")));
    let by_arm = place.done(&[&audit[..], &["--arms", "arms", "--json"]].concat());
    let found: Value = serde_json::from_str(&by_arm).unwrap();
    assert_eq!(found["groups"]["G"]["correct_with_invalid"], 1);
    assert_eq!(found["groups"]["W"]["wrong_with_valid_prefix"], 1);
    assert_eq!(found["groups"].as_object().unwrap().len(), 2);
}
