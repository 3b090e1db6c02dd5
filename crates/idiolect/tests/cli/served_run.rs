//! A whole experiment whose models are all behind servers that the run starts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::Place;
use crate::launch::ends;

/// A folder with a server that notes its process id, and the recipe's settings for it.
fn place() -> (Place, Vec<String>) {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_idiolect");
    place.write(
        "serve.sh",
        &format!(
            "echo $$ >> pids\nexec '{program}' serve --model \"$1\" --port $2 --served-model-name \"$3\" \
             --threads 1 --quiet\n"
        ),
    );
    let sets = [
        "server.command=\"sh serve.sh {model} {port} {name}\"",
        "generate.backend=server",
        "paraphrase.backend=server",
        "score.backend=server",
        "eval.backend=server",
    ];
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    (place, sets.map(str::to_owned).collect())
}

/// Greedy throughout: of a seed, servers take 32 bits.
const SMALL: [&str; 14] = [
    "--set",
    "generate.n=1",
    "--set",
    "generate.temperature=0",
    "--set",
    "eval.n=0",
    "--set",
    "arms.names=[\"H\", \"W\", \"P\"]",
    "--set",
    "train.seeds=1",
    "--set",
    "flaws.doses=[]",
    "--threads",
    "2",
];

fn run<'a>(out: &'a str, more: &'a [String]) -> Vec<&'a str> {
    let mut words = vec!["run", "tiny", "--out", out];
    words.extend(SMALL);
    words.extend(more.iter().map(String::as_str));
    words
}

fn servers(place: &Place) -> Vec<i32> {
    let pids = place.text("pids");
    pids.lines().map(|pid| pid.parse().unwrap()).collect()
}

/// The same answers, traces and checkpoints, and scores as near as two passes are.
fn as_native(place: &Place, native: &str, served: &str) {
    for file in [
        "data/r0/traces.jsonl",
        "data/r0/verdicts.jsonl",
        "students/student/r0/arms/W.jsonl",
        "students/student/r0/train/W/0/model.safetensors",
        "students/student/r0/eval/base/0/greedy.jsonl",
        "students/student/r0/eval/W/0/greedy.jsonl",
        "students/student/r0/eval/P/0/greedy.jsonl",
    ] {
        let [a, b] = [native, served].map(|run| place.bytes(&format!("{run}/{file}")));
        assert!(a == b, "{file} differs");
    }
    for file in ["scores.jsonl", "eval/W/0/gold.jsonl"] {
        let file = format!("students/student/r0/{file}");
        let [a, b] = [native, served].map(|run| place.lines(&format!("{run}/{file}")));
        assert_eq!(a.len(), b.len());
        for (a, b) in a.iter().zip(&b) {
            let nll = |row: &Value| row["nll_nats"].as_f64().unwrap();
            assert!((nll(a) - nll(b)).abs() < 1e-3, "{a} {b}");
            assert!(b["entropy_nats"].is_null() && !a["entropy_nats"].is_null());
        }
    }
    assert!(place.text(&format!("{served}/report.html")).len() > 10_000);
}

#[test]
fn a_run_by_servers_has_the_rows_of_a_native_one_and_shares_starts() {
    let (place, by_server) = place();
    place.done(&run("native", &[]));
    let plan = place.done(&[&run("served", &by_server)[..], &["--dry-run"]].concat());
    assert!(
        plan.contains("starts servers, 1 at a time, for generate, paraphrase, score, eval"),
        "{plan}"
    );
    assert!(!place.path("pids").exists());
    let ran = place.run(&run("served", &by_server));
    assert_eq!(ran.code, 0, "{}", ran.err);
    as_native(&place, "native", "served");
    // Teacher: samples and rewritings. Student: scores and evaluation. Three checkpoints. Teacher again
    // at the end.
    let started = servers(&place);
    assert!(started.len() <= 6, "{} starts", started.len());
    started.into_iter().for_each(ends);
    assert!(place.path("served/servers/student-W-seed0.log").is_file());
    // Nothing is done again, and nothing is started for that.
    let before = servers(&place).len();
    place.done(&run("served", &by_server));
    assert_eq!(servers(&place).len(), before);
    for file in [
        "served/plan.json",
        "served/recipe.toml",
        "served/comparison.json",
    ] {
        assert!(!place.text(file).contains("127.0.0.1"), "{file}");
    }
}

#[test]
fn a_killed_run_by_servers_leaves_none_and_goes_on() {
    let (place, by_server) = place();
    place.done(&run("native", &[]));
    for file in [
        "data/r0/parts/sampled.jsonl",
        "students/student/r0/eval/base/0/greedy.jsonl",
    ] {
        let mut child = place
            .command(&run("served", &by_server))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while !place.path(&format!("served/{file}")).exists() {
            assert!(begun.elapsed() < Duration::from_secs(300), "{file}");
            assert!(
                child.try_wait().unwrap().is_none(),
                "it ended before {file}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        servers(&place).into_iter().for_each(ends);
    }
    place.done(&run("served", &by_server));
    as_native(&place, "native", "served");
    servers(&place).into_iter().for_each(ends);
}

#[test]
fn what_a_run_by_servers_cannot_do_is_known_before_any_work() {
    let (place, by_server) = place();
    let with = |set: &str| [&by_server[..], &["--set".to_owned(), set.to_owned()]].concat();
    let cases = [
        ("server.command=\"\"", 2, "`server.command` is not set"),
        ("server.command=\"x {model}\"", 2, "lacks {port}"),
        (
            "server.command=\"no-such-server {model} {port}\"",
            1,
            "`no-such-server` is not found",
        ),
        ("server.gpus=[\"a b\"]", 2, "`server.gpus`"),
        ("server.gpus=[true]", 2, "number of a GPU"),
        ("server.environment.HF_TOKEN=x", 2, "stored with the run"),
        ("eval.compute=bf16", 2, "a server answers for this one"),
        ("server.ready_timeout_s=0", 2, "`server.ready_timeout_s`"),
        (
            "models.teacher=\"http://127.0.0.1:1/v1#m\"",
            2,
            "`generate.backend`",
        ),
    ];
    for (set, code, words) in cases {
        let ran = place.run(&run("served", &with(set)));
        assert_eq!(ran.code, code, "{set}: {}", ran.err);
        assert!(ran.err.contains(words), "{set}: {}", ran.err);
        assert!(!place.path("served/data").exists(), "{set}");
    }
    assert!(!place.path("pids").exists());
}

#[test]
fn adapters_are_merged_for_their_server() {
    let (place, by_server) = place();
    let lora: Vec<String> = [
        "train.method=lora",
        "arms.names=[\"H\"]",
        "score.backend=native",
    ]
    .iter()
    .flat_map(|set| ["--set".to_owned(), (*set).to_owned()])
    .collect();
    place.done(&run("native", &lora));
    let ran = place.run(&run("served", &[&by_server[..], &lora].concat()));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let file = "students/student/r0/eval/H/0/greedy.jsonl";
    assert_eq!(
        place.text(&format!("served/{file}")),
        place.text(&format!("native/{file}"))
    );
    assert!(!place.path("served/servers/student-H-seed0.merged").exists());
    assert!(place.path("served/servers/student-H-seed0.log").exists());
}
