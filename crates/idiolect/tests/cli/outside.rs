//! Models behind endpoints, in batch files and on the hub, and data from there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use crate::kit::{Place, Ran, problems, traces};
use crate::server::{MODEL, Server};
use crate::web::{self, Web, chat, teacher};

const KEY: &str = "sk-secret-4711";

fn address(server: &Server) -> String {
    format!("{}/v1", server.url())
}

fn scored(place: &Place, name: &str) -> Vec<idiolect_core::store::tokens::TokenRow> {
    let mut rows = Vec::new();
    idiolect_core::store::tokens::read(&place.path(name), |row| rows.push(row)).unwrap();
    rows
}

#[test]
fn scores_through_an_endpoint_are_those_of_the_engine() {
    let place = Place::new();
    let server = Server::start_with(
        &place,
        &["--model", MODEL, "--api-key-env", "SERVER_KEY"],
        &[("SERVER_KEY", KEY)],
    );
    place.write("p.jsonl", &problems(3));
    place.write(
        "t.jsonl",
        &traces(&[
            ("0", "Once there was one. #### 1"),
            ("1", "Zoë said: ####  1"),
            ("2", "2"),
        ]),
    );
    let score = |model: &str, output: &str, more: &[&str]| -> Ran {
        let tokens = format!("{output}.parquet");
        let arguments = [
            "score",
            "--model",
            model,
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "-o",
            output,
            "--tokens",
            &tokens,
        ];
        let arguments = [&arguments[..], more].concat();
        place.run_with(&arguments, &[("IDIOLECT_API_KEY", KEY)])
    };
    let ran = score(MODEL, "native.jsonl", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = score(&address(&server), "remote.jsonl", &["--tokenizer", MODEL]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("prompt_tokens"), "{}", ran.out);
    let (native, remote) = (
        scored(&place, "native.jsonl.parquet"),
        scored(&place, "remote.jsonl.parquet"),
    );
    assert_eq!(native.len(), 3);
    for (a, b) in native.iter().zip(&remote) {
        assert_eq!((&a.trace_id, a.tokens.len()), (&b.trace_id, b.tokens.len()));
        for (a, b) in a.tokens.iter().zip(&b.tokens) {
            assert!((a.logprob - b.logprob).abs() < 1e-3, "{a:?} {b:?}");
            assert_eq!(
                (a.token_id, a.rank, a.byte_start),
                (b.token_id, b.rank, b.byte_start)
            );
            assert!(a.distribution.is_some() && b.distribution.is_none());
        }
    }
    let row = &place.lines("remote.jsonl")[0];
    assert!(
        row.get("entropy_nats").is_none() && row["rank_sum"].is_number(),
        "{row}"
    );
    // Without its tokenizer an endpoint cannot be scored by texts; with another's it is refused.
    let ran = score(&address(&server), "x.jsonl", &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--tokenizer"), "{}", ran.err);
    place.copy_student("other");
    let mut tokenizer: Value = serde_json::from_str(&place.text("other/tokenizer.json")).unwrap();
    let vocab = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let (one, three) = (vocab["1"].clone(), vocab["3"].clone());
    vocab["1"] = three;
    vocab["3"] = one;
    place.write("other/tokenizer.json", &tokenizer.to_string());
    let ran = score(&address(&server), "x.jsonl", &["--tokenizer", "other"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("not that of the endpoint's model"),
        "{}",
        ran.err
    );
    assert!(!place.path("x.jsonl").exists());
    no_key(&place);
}

/// No file of the folder holds the key.
fn no_key(place: &Place) {
    let mut folders = vec![place.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap();
            let found = bytes.windows(KEY.len()).any(|part| part == KEY.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

#[test]
fn answers_of_an_endpoint_are_written_as_they_come_and_paid_for_once() {
    let place = Place::new();
    place.write("p.jsonl", &problems(40));
    let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let (log, count) = (Arc::clone(&asked), AtomicUsize::new(0));
    let server = teacher(move |request| {
        let key = format!("{} {}", request.prompt(), request.body["seed"]);
        // Slow enough to be killed in between.
        std::thread::sleep(Duration::from_millis(20));
        if count.fetch_add(1, Ordering::Relaxed) % 7 == 3 {
            return (503, String::new(), b"{}".to_vec());
        }
        // The requests by which each process tries the server out are others.
        if key.contains("apples") {
            *log.lock().unwrap().entry(key).or_default() += 1;
        }
        chat(&format!("So it is {}. #### 1", request.body["seed"]))
    });
    let model = format!("{}/v1#teacher", server.url);
    let arguments = [
        "generate",
        "--model",
        &model,
        "--problems",
        "p.jsonl",
        "-n",
        "3",
        "--in-flight",
        "4",
        "-o",
        "t.jsonl",
        "-q",
    ];
    let mut kills = 0;
    for wait in (0..20).map(|n| 60 + n * 37 % 80) {
        let mut child = place
            .command(&arguments)
            .env("OPENAI_API_KEY", KEY)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills > 0, "it was over before it was killed");
    let ended = place
        .command(&arguments)
        .env("OPENAI_API_KEY", KEY)
        .output()
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert_eq!(place.count("t.jsonl"), 120);
    // What was on the network when the program was killed may be asked for again: at most as many
    // as are in flight.
    let asked = asked.lock().unwrap();
    let again: usize = asked.values().map(|n| n - 1).sum();
    assert!(
        again <= kills * 4,
        "{again} answers were paid for twice, {kills} kills"
    );
    let seen = server.seen.lock().unwrap();
    assert!(
        seen.iter().any(|(_, _, head)| head.contains(KEY)),
        "the key is shown to the server"
    );
    drop(seen);
    no_key(&place);
}

#[test]
fn a_batch_is_written_answered_and_read() {
    let place = Place::new();
    place.write("p.jsonl", &problems(5));
    let arguments = [
        "generate",
        "--model",
        "http://127.0.0.1:1/v1#org/m",
        "--problems",
        "p.jsonl",
        "-n",
        "2",
        "--batch",
        "batch",
        "-o",
        "t.jsonl",
    ];
    let ran = place.run(&arguments);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("10 requests have no reply yet"),
        "{}",
        ran.err
    );
    let replies: String = place
        .lines("batch/requests-0001.jsonl")
        .iter()
        .map(|request| {
            let text = format!("#### {}", request["body"]["seed"]);
            let message = json!({"role": "assistant", "content": text});
            let body = json!({"choices": [{"message": message, "finish_reason": "stop"}]});
            let response = json!({"status_code": 200, "body": body});
            let row = json!({"custom_id": request["custom_id"], "response": response});
            format!("{row}\n")
        })
        .collect();
    place.write("batch/replies.jsonl", &replies);
    place.done(&arguments);
    assert_eq!(place.count("t.jsonl"), 10);
    let row = &place.lines("t.jsonl")[0];
    assert_eq!(row["origin"]["kind"], "sampled");
    assert!(
        row["origin"]["model"]
            .as_str()
            .unwrap()
            .starts_with("org/m@"),
        "{row}"
    );
}

#[test]
fn what_has_no_server_has_no_use_for_its_flags() {
    let place = Place::new();
    place.write("p.jsonl", &problems(1));
    let ask = |model: &str, more: &[&str]| {
        let arguments = [
            "generate",
            "--model",
            model,
            "--problems",
            "p.jsonl",
            "-o",
            "t.jsonl",
        ];
        place.run(&[&arguments[..], more].concat())
    };
    let ran = ask(MODEL, &["--in-flight", "3"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is no endpoint"), "{}", ran.err);
    let ran = ask("http://127.0.0.1:1/v1#m", &[]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("127.0.0.1:1"), "{}", ran.err);
    assert!(!place.path("t.jsonl").exists());
}

/// A hub that holds the small trained model and a data set.
fn tiny_hub() -> Web {
    let mut files = web::files_of(MODEL, "models/org/tiny");
    let rows = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/gsm8k");
    files.extend(web::files_of(rows, "datasets/org/rows/main"));
    web::hub(files)
}

fn with_hub(place: &Place, hub: &Web, arguments: &[&str]) -> Ran {
    let home = place.path("hf");
    let environment = [
        ("HF_ENDPOINT", hub.url.as_str()),
        ("HF_HOME", home.to_str().unwrap()),
    ];
    place.run_with(arguments, &environment)
}

#[test]
fn models_and_data_of_the_hub_are_used_by_name() {
    let place = Place::new();
    let hub = tiny_hub();
    let import = [
        "import",
        "gsm8k",
        "hf:datasets/org/rows/main/test.jsonl",
        "-o",
        "p.jsonl",
    ];
    let ran = with_hub(
        &place,
        &hub,
        &[&import[..], &["--traces", "t.jsonl"]].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    let score = |model: &str, output: &str| {
        let arguments = [
            "score",
            "--model",
            model,
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "-o",
            output,
            "--max-rejects",
            "1",
        ];
        with_hub(&place, &hub, &arguments)
    };
    let ran = score("hf:org/tiny", "a.jsonl");
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.err);
    score(MODEL, "b.jsonl");
    assert_eq!(place.bytes("a.jsonl"), place.bytes("b.jsonl"));
    let weights = |_: &str, path: &str| path.ends_with(".safetensors");
    assert_eq!(
        hub.count(|method, path| method == "GET" && weights(method, path)),
        1
    );
    let ran = score("hf:org/other", "c.jsonl");
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("org/other"), "{}", ran.err);
}

#[test]
fn a_run_takes_data_and_student_from_the_hub_and_keeps_their_commit() {
    let place = Place::new();
    let hub = tiny_hub();
    place.write(
        "r.toml",
        r#"name = "r"
[data]
task = "gsm8k"
train = "hf:datasets/org/rows/main/train.jsonl"
test = "hf:datasets/org/rows/main/test.jsonl"
max_problems = { train = 8, test = 4 }
[models]
students = ["hf:org/tiny"]
[arms]
names = ["H"]
[train]
seeds = 1
[eval]
max_tokens = 4
"#,
    );
    let run = |more: &[&str]| with_hub(&place, &hub, &[&["run", "r.toml", "-q"], more].concat());
    let ran = run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        place
            .path("runs/r/students/tiny/r0/train/H/0/model.safetensors")
            .exists()
    );
    let manifest: Value = serde_json::from_str(&place.text("runs/r/manifest.json")).unwrap();
    assert_eq!(manifest["inputs"]["commits"]["hf:org/tiny"], web::COMMIT);
    let weights = |method: &str, path: &str| method == "GET" && path.ends_with(".safetensors");
    assert_eq!(hub.count(weights), 1);
    let id = "r/r0/tiny/H/seed0/eval";
    let ran = with_hub(&place, &hub, &["job", "runs/r", id, "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn the_papers_recipes_are_planned_from_the_hub() {
    let place = Place::new();
    let mut files = BTreeMap::new();
    for name in [
        "Qwen/Qwen2.5-1.5B",
        "meta-llama/Llama-3.1-8B",
        "google/gemma-2-2b",
    ] {
        files.extend(web::files_of(MODEL, &format!("models/{name}")));
    }
    let gsm8k =
        |n: usize| json!({"question": format!("{n}?"), "answer": format!("It is {n}.\n#### {n}")});
    let math = |n: usize| json!({"problem": format!("${n}$?"), "solution": format!("$\\boxed{{{n}}}$"), "level": "Level 1", "type": "Algebra"});
    let countdown = |n: usize| json!({"nums": [n, 2, 3], "target": n + 5});
    let mbpp = |n: usize| json!({"task_id": n, "text": format!("f{n}"), "code": format!("def f{n}(): return {n}"), "test_list": [format!("assert f{n}() == {n}")], "test_setup_code": "", "challenge_test_list": []});
    let rows = |row: &dyn Fn(usize) -> Value, from: usize| -> Vec<Value> {
        (from..from + 120).map(row).collect()
    };
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../recipes/shape-of-thought"
    );
    for (task, row) in [
        ("gsm8k", &gsm8k as &dyn Fn(usize) -> Value),
        ("math", &math),
        ("countdown", &countdown),
        ("mbpp", &mbpp),
    ] {
        let recipe = format!("{root}/{task}.toml");
        let text = std::fs::read_to_string(&recipe).unwrap();
        let names = text
            .split('"')
            .filter(|name| name.starts_with("hf:datasets/"));
        let mut from = 10;
        for name in names {
            let name = name.replace("hf:datasets/", "datasets/");
            files.insert(name.clone(), parquet(&rows(row, from)));
            from += 200;
        }
    }
    let hub = web::hub(files);
    for task in ["gsm8k", "math", "countdown", "mbpp"] {
        let recipe = format!("{root}/{task}.toml");
        let ran = with_hub(&place, &hub, &["run", &recipe, "--dry-run"]);
        assert_eq!(ran.code, 0, "{task}: {}", ran.err);
        for words in [
            "Llama-3.1-8B",
            "GPU hours",
            "disk about",
            "download hf:google/gemma-2-2b",
            "asks http://127.0.0.1:8000/v1#google/gemma-2-27b-it",
            "test problems ",
        ] {
            assert!(
                ran.out.contains(words),
                "{task}: no `{words}` in\n{}",
                ran.out
            );
        }
    }
    let weights = |method: &str, path: &str| method == "GET" && path.ends_with(".safetensors");
    assert_eq!(hub.count(weights), 0, "a dry run downloads no weights");
}

/// Rows of texts, numbers, and lists of either as a parquet file.
fn parquet(rows: &[Value]) -> Vec<u8> {
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    let kind = |value: &Value| match value {
        Value::Number(_) => "INT64",
        _ => "BYTE_ARRAY",
    };
    let fields: String = columns
        .iter()
        .map(|name| match &rows[0][*name] {
            Value::Array(list) => {
                let (kind, note) = match list.first() {
                    Some(Value::Number(_)) => ("INT64", ""),
                    _ => ("BYTE_ARRAY", "(UTF8)"),
                };
                format!("REQUIRED GROUP {name} (LIST) {{ REPEATED GROUP list {{ REQUIRED {kind} element {note}; }} }}")
            }
            value if value.is_number() => format!("REQUIRED {} {name};", kind(value)),
            value => format!("REQUIRED {} {name} (UTF8);", kind(value)),
        })
        .collect();
    let schema = parse_message_type(&format!("message rows {{ {fields} }}")).unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for name in columns {
        let is_list = rows[0][name].is_array();
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match &row[name] {
                Value::Array(list) => {
                    for (at, value) in list.iter().enumerate() {
                        values.push(value);
                        definitions.push(1);
                        repetitions.push(i16::from(at > 0));
                    }
                    if list.is_empty() {
                        definitions.push(0);
                        repetitions.push(0);
                    }
                }
                value => values.push(value),
            }
        }
        let levels = is_list.then_some((&definitions[..], &repetitions[..]));
        let (definitions, repetitions) = (levels.map(|l| l.0), levels.map(|l| l.1));
        let mut column = group.next_column().unwrap().unwrap();
        if values.first().is_some_and(|value| value.is_number()) {
            let numbers: Vec<i64> = values.iter().filter_map(|value| value.as_i64()).collect();
            let typed = column.typed::<Int64Type>();
            typed
                .write_batch(&numbers, definitions, repetitions)
                .unwrap();
        } else {
            let texts = values.iter().filter_map(|value| value.as_str());
            let texts: Vec<ByteArray> = texts.map(ByteArray::from).collect();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&texts, definitions, repetitions).unwrap();
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn a_teacher_behind_an_endpoint_and_two_students_run_to_a_report() {
    for (task, case, columns) in crate::own_data::TASKS {
        let place = crate::own_data::place(task, case, columns);
        let script: Vec<Value> = place.lines("mine/answers.jsonl");
        let asked: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let log = Arc::clone(&asked);
        let server = teacher(move |request| {
            let prompt = request.prompt();
            let known = script.iter().find(|row| {
                row["contains"]
                    .as_str()
                    .is_some_and(|text| prompt.contains(text))
            });
            let seed = request.body["seed"].as_u64().unwrap_or(0);
            *log.lock()
                .unwrap()
                .entry(format!("{prompt} {seed}"))
                .or_default() += 1;
            std::thread::sleep(Duration::from_millis(2));
            let texts = known.map(|row| &row["completions"]);
            let text = texts.and_then(|texts| texts[(seed % 2) as usize].as_str());
            chat(&format!(
                "{}{}",
                "\n".repeat(seed as usize % 5),
                text.unwrap_or("no idea")
            ))
        });
        let set = format!("models.teacher=\"{}/v1#teacher\"", server.url);
        let price = "models.price={prompt=1, completion=2}";
        let arguments = [
            "run",
            "mine/recipe.toml",
            "--set",
            &set,
            "--set",
            price,
            "-q",
        ];
        let mut child = place.command(&arguments).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
        // How many requests are under way changes no result, so a run goes on with more.
        place.done(&[&arguments[..], &["--set", "models.in_flight=7"]].concat());
        let status: Value =
            serde_json::from_str(&place.done(&["status", "runs/mine", "--json"])).unwrap();
        let spent = |name: &str| status["endpoints"][name].as_f64().unwrap();
        assert!(spent("requests") > 0.0, "{status}");
        let money = spent("prompt_tokens") + 2.0 * spent("completion_tokens");
        assert!((1e6 * spent("cost") - money).abs() < 1.0, "{status}");
        assert!(
            place.text("runs/mine/report.html").contains("<html"),
            "{task}"
        );
        let traces = place.lines("runs/mine/data/r0/parts/sampled.jsonl");
        assert!(traces.len() > 24, "{task}: {} traces", traces.len());
        // Nothing is asked for again once it is there, nor once all is done.
        let before = asked.lock().unwrap().values().sum::<usize>();
        place.done(&arguments);
        assert_eq!(
            asked.lock().unwrap().values().sum::<usize>(),
            before,
            "{task}"
        );
    }
}

#[test]
fn a_run_scores_through_servers_and_reports_what_they_give() {
    let (task, case, columns) = crate::own_data::TASKS[0];
    let place = crate::own_data::place(task, case, columns);
    let server = Server::start(&place, &["--model", MODEL]);
    let url = address(&server);
    let endpoints = format!("score.endpoints={{small=\"{url}\", other=\"{url}\"}}");
    let run = |out: &str, more: &[&str]| {
        let arguments = [
            "run",
            "mine/recipe.toml",
            "--out",
            out,
            "--set",
            "data.max_problems={train=20, test=6}",
        ];
        place.run(&[&arguments[..], more].concat())
    };
    let ran = run("native", &["--until", "score", "-q"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let problems = place.lines("native/data/r0/problems.jsonl");
    let of = |split: &str| problems.iter().filter(|row| row["split"] == split).count();
    assert_eq!((of("train"), of("dev"), of("test")), (20, 4, 6));
    let wrong = run("remote", &["--set", "score.backend=endpoint"]);
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.err.contains("names no server of the student `small`"),
        "{}",
        wrong.err
    );
    let ran = run(
        "remote",
        &["--set", "score.backend=endpoint", "--set", &endpoints],
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("gives no entropies"), "{}", ran.err);
    let scores = |out: &str| place.lines(&format!("{out}/students/small/r0/scores.jsonl"));
    let (native, remote) = (scores("native"), scores("remote"));
    assert_eq!(native.len(), remote.len());
    for (a, b) in native.iter().zip(&remote) {
        for field in ["trace_id", "n_tokens", "n_bytes", "rank_sum", "top5"] {
            assert_eq!(a[field], b[field], "{field}");
        }
        let nll = |row: &Value| row["nll_nats"].as_f64().unwrap();
        assert!((nll(a) - nll(b)).abs() < 1e-3);
        assert!(a.get("entropy_nats").is_some() && b.get("entropy_nats").is_none());
    }
    assert!(
        place
            .text("remote/students/small/report.html")
            .contains("<html")
    );
}
