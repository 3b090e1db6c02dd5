//! Servers that the program starts: this program's own `serve`, in every way to fail.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::{Place, Ran, problems, traces};
use crate::launch::{ends, is_alive};
use crate::server::MODEL;

/// The server as a script that notes its process id.
const SERVE: &str = "sh serve.sh {model} {port}";

/// A folder with problems and `serve.sh`, which does `first` before it becomes the server.
fn place(first: &str) -> Place {
    let place = Place::new();
    place.write("p.jsonl", &problems(12));
    let program = env!("CARGO_BIN_EXE_idiolect");
    place.write(
        "serve.sh",
        &format!(
            "echo $$ >> pids\nport=$2\n{first}\n\
             exec '{program}' serve --model \"$1\" --port $port --threads 1 --quiet\n"
        ),
    );
    place
}

/// Every process that a script noted is gone.
fn nothing_is_left(place: &Place, servers: usize) {
    let pids = place.text("pids");
    assert_eq!(pids.lines().count(), servers, "{pids}");
    for pid in pids.lines() {
        assert!(!is_alive(pid.parse().unwrap()), "server {pid} still runs");
    }
}

fn generate<'a>(command: &'a str, output: &'a str) -> Vec<&'a str> {
    let mut words: Vec<&str> = "generate --problems p.jsonl --temperature 0 --max-tokens 12"
        .split(' ')
        .collect();
    words.extend(["--model", MODEL, "--server", command, "-o", output]);
    words
}

fn native(place: &Place) -> String {
    let mut words = generate("", "native.jsonl");
    words.drain(words.len() - 4..words.len() - 2);
    place.done(&words);
    place.text("native.jsonl")
}

fn failed(place: &Place, command: &str, flags: &[&str]) -> Ran {
    let ran = place.run(&[&generate(command, "t.jsonl")[..], flags].concat());
    assert_eq!(ran.code, 1, "{}", ran.err);
    ran
}

#[test]
fn a_started_server_gives_the_rows_of_the_model_itself_and_is_stopped() {
    let place = place("");
    let ran = place.run(&generate(SERVE, "t.jsonl"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(place.text("t.jsonl") == native(&place), "other rows");
    nothing_is_left(&place, 1);
    let meta: Value = serde_json::from_str(&place.text("t.jsonl.meta.json")).unwrap();
    assert_eq!(meta["settings"]["server"], SERVE);
    assert!(!meta.to_string().contains("127.0.0.1"), "{meta}");
    // What is complete needs no server; another command would be other settings.
    let again = place.done(&generate(SERVE, "t.jsonl"));
    assert!(again.contains("complete before"), "{again}");
    let other = format!("{SERVE} more");
    let changed = place.run(&generate(&other, "t.jsonl"));
    assert_eq!(changed.code, 1);
    assert!(changed.err.contains("server"), "{}", changed.err);
    nothing_is_left(&place, 1);
}

#[test]
fn every_command_that_asks_a_model_can_start_its_server() {
    let place = place("");
    place.write("t.jsonl", &traces(&[("0", "one #### 1"), ("1", "two")]));
    let cases: [(&str, &[&str]); 3] = [
        ("eval", &["-n", "1"]),
        ("paraphrase", &["--traces", "t.jsonl", "--unchecked"]),
        ("score", &["--traces", "t.jsonl"]),
    ];
    for (command, flags) in cases {
        let run = |server: &[&str], output: &str| {
            let ask = [
                command,
                "--model",
                MODEL,
                "--problems",
                "p.jsonl",
                "-o",
                output,
            ];
            let short: &[&str] = match command {
                "score" => &[],
                _ => &["--max-tokens", "8"],
            };
            place.done(&[&ask[..], flags, short, server].concat());
            place.lines(output)
        };
        let served = run(&["--server", SERVE], &format!("{command}.served.jsonl"));
        let own = run(&[], &format!("{command}.own.jsonl"));
        if command != "score" {
            assert!(served == own, "{command}: {served:?} {own:?}");
            continue;
        }
        for (served, own) in served.iter().zip(&own) {
            let nll = |row: &Value| row["nll_nats"].as_f64().unwrap();
            assert!((nll(served) - nll(own)).abs() < 1e-3, "{served} {own}");
            assert_eq!(served["model"], own["model"]);
            assert_eq!(served["n_tokens"], own["n_tokens"]);
            assert!(served["entropy_nats"].is_null(), "{served}");
        }
    }
    nothing_is_left(&place, 3);
}

#[test]
fn a_command_that_cannot_be_one_is_wrong_use() {
    let place = place("");
    for (command, words) in [
        ("vllm serve {model}", "lacks {port}"),
        (
            "vllm serve {modle} --port {port}",
            "unknown placeholder {modle}",
        ),
        (
            "vllm serve {model} --port {port} --api-key x",
            "VLLM_API_KEY",
        ),
    ] {
        let ran = place.run(&generate(command, "t.jsonl"));
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
    let ran = failed(&place, "no-such-server {model} {port}", &[]);
    assert!(
        ran.err.contains("`no-such-server` is not found"),
        "{}",
        ran.err
    );
    let scripted = [
        "eval",
        "--model",
        "scripted:s",
        "--problems",
        "p.jsonl",
        "-o",
        "e",
    ];
    let ran = place.run(&[&scripted[..], &["--server", SERVE]].concat());
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("has no files"), "{}", ran.err);
}

#[test]
fn a_server_that_dies_at_its_start_is_the_error_with_the_end_of_its_log() {
    let place =
        place("echo 'loading'; printf 'out of \\033[31mmemory\\033[0m\\007\\n' >&2; exit 3");
    let ran = failed(&place, SERVE, &[]);
    for words in [
        "the server of `stories260K` ended with exit code 3 before it was ready",
        "| loading",
        "| out of memory\\u{7}",
        "t.jsonl.server.log",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    nothing_is_left(&place, 1);
}

#[test]
fn a_server_that_is_never_ready_is_stopped_in_time() {
    let place = place("echo 'loading weights'; sleep 1000 & echo $! >> pids; wait");
    let ran = failed(&place, SERVE, &["--ready-timeout", "1.5"]);
    for words in [
        "was not ready within 1.5 s (nothing listens on port",
        "| loading weights",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    nothing_is_left(&place, 2);
}

#[test]
fn a_port_that_another_process_took_is_left_to_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let place = place(&format!("[ -e once ] || port={port}\ntouch once"));
    let ran = place.run(&generate(SERVE, "t.jsonl"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("it is started again with another"),
        "{}",
        ran.err
    );
    assert!(place.text("t.jsonl") == native(&place), "other rows");
    nothing_is_left(&place, 2);
}

/// Starts a generation over many problems, one request at a time, and waits for some rows.
fn at_work(place: &Place) -> Child {
    place.write("p.jsonl", &problems(200));
    let mut command = place.command(&generate(SERVE, "t.jsonl"));
    command.args(["--in-flight", "1"]);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while place.count("t.jsonl.part") < 3 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no rows");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn signal(name: &str, pid: &str) {
    let sent = Command::new("kill").args([name, pid]).status().unwrap();
    assert!(sent.success());
}

fn last_server(place: &Place) -> String {
    place.text("pids").lines().last().unwrap().to_owned()
}

/// The same command goes on and ends in the rows of the model itself.
fn goes_on(place: &Place, servers: usize) {
    let kept = place.count("t.jsonl.part");
    assert!(kept >= 3, "{kept} rows were kept");
    let ran = place.run(&generate(SERVE, "t.jsonl"));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(place.text("t.jsonl") == native(place), "other rows");
    nothing_is_left(place, servers);
}

#[test]
fn a_server_killed_at_work_is_the_error_and_no_row_is_lost() {
    let place = place("");
    let child = at_work(&place);
    signal("-9", &last_server(&place));
    let ended = child.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{err}");
    for words in [
        "the server of `stories260K` was killed by signal 9",
        "while it was at work",
        "the same command goes on",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(!place.path("t.jsonl").exists() && !place.path("t.jsonl.rejects.jsonl").exists());
    goes_on(&place, 2);
}

#[test]
fn a_server_that_crashes_at_work_is_the_error_with_its_log() {
    let program = env!("CARGO_BIN_EXE_idiolect");
    let crash = format!(
        "[ -e once ] && exec '{program}' serve --model \"$1\" --port $port --quiet\n\
         touch once\n\
         '{program}' serve --model \"$1\" --port $port --quiet & server=$!\n\
         while [ $(wc -l < t.jsonl.part 2>/dev/null || echo 0) -lt 3 ]; do sleep 0.02; done\n\
         kill -9 $server\necho 'CUDA error: an illegal memory access'\nexit 7"
    );
    let place = place(&crash);
    place.write("p.jsonl", &problems(200));
    let ran = failed(&place, SERVE, &["--in-flight", "1"]);
    for words in [
        "ended with exit code 7 while it was at work",
        "| CUDA error: an illegal memory access",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    goes_on(&place, 2);
}

#[test]
fn ctrl_c_and_a_kill_of_the_program_leave_no_server() {
    let place = place("");
    let child = at_work(&place);
    signal("-INT", &child.id().to_string());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130));
    nothing_is_left(&place, 1);
    let mut command = place.command(&generate(SERVE, "t.jsonl"));
    let mut child = command
        .args(["--in-flight", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let before = place.count("t.jsonl.part");
    while place.count("t.jsonl.part") <= before {
        assert!(begun.elapsed() < Duration::from_secs(60), "no rows");
        std::thread::sleep(Duration::from_millis(2));
    }
    let server = last_server(&place).parse().unwrap();
    assert!(is_alive(server));
    child.kill().unwrap();
    child.wait().unwrap();
    ends(server);
    goes_on(&place, 3);
}
