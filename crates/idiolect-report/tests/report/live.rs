//! The page over a run that goes, in a real browser, with a server that answers as `idiolect view`
//! does.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::chromium::start_or_say;
use crate::sample;

const HOSTILE: &str = "<img src=x onerror=alert(1)>\u{202e}";

/// Answers every request of a page until the test ends; gives the address.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    // The head to its end.
    lines.by_ref().map_while(Result::ok).find(String::is_empty);
    let (status, kind, body) = match path.as_str() {
        "/" => ("200 OK", "text/html", idiolect_report::live_html("A run")),
        "/run.json" => ("200 OK", "application/json", run().to_string()),
        "/traces/p%2F1" => {
            let mut example = sample::miniature(1, 1).examples[1].clone();
            example.reason = HOSTILE.to_owned();
            let found = idiolect_report::traces_json(&[(format!("sampled {HOSTILE}"), example)]);
            (
                "200 OK",
                "application/json",
                json!({ "traces": found, "more": 2 }).to_string(),
            )
        }
        _ => {
            let error = json!({ "error": { "message": "no trace of this run has this id" } });
            ("404 Not Found", "application/json", error.to_string())
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all((head + &body).as_bytes());
}

fn run() -> Value {
    let job = |id: &str, state: &str, progress: Value| json!({ "id": id, "state": state, "wall_s": 12.5, "message": null, "progress": progress });
    let progress = json!({ "done": 30, "total": 120, "unit": "steps", "left_s": 240.0 });
    idiolect_report::shown(json!({
        "done": 1,
        "left_s": 600.0,
        "jobs": [
            job("run/r0/data", "done", Value::Null),
            job(&format!("run/r0/{HOSTILE}/W/seed0/train"), "running", progress),
            job("run/report", "waiting", Value::Null),
        ],
        "curves": [{ "job": "run/r0/student/W/seed0/train", "steps": 120, "points": [[1, 2.5], [15, 1.5], [30, 0.75]] }],
        "reports": [],
    }))
}

#[test]
fn a_run_that_goes_is_shown_with_its_losses_and_traces() {
    let test = "a_run_that_goes_is_shown_with_its_losses_and_traces";
    let Some(mut browser) = start_or_say(test) else {
        return;
    };
    let address = serve();
    for width in [360, 1200] {
        browser.open_address(&format!("{address}/"), width);
        browser.eval("new Promise(done => { const wait = () => document.querySelector('#live-jobs tr') ? done() : setTimeout(wait, 20); wait(); })");
        let status = browser.text_of("#live-status");
        assert_eq!(
            status,
            "1 of 3 jobs done, about 10 min left at the rate so far."
        );
        let first = browser.text_of("#live-jobs tr");
        assert!(
            first.contains("running") && first.contains("30 of 120 steps, about 4 min left"),
            "{first}"
        );
        assert!(
            first.contains("<img src=x") && first.contains("⟨U+202E⟩"),
            "{first}"
        );
        assert!(
            browser
                .text_of("#live-losses")
                .contains("0.750 nats, step 30 of 120")
        );
        browser.eval("document.getElementById('live-id').focus()");
        browser.write("p/1");
        browser.key("Enter");
        browser.eval("new Promise(done => { const wait = () => document.querySelector('#live-found .trace') ? done() : setTimeout(wait, 20); wait(); })");
        let found = browser.text_of("#live-found");
        for expected in ["3 * 7", "verdict: wrong", "<img src=x", "2 more traces"] {
            assert!(found.contains(expected), "no {expected} in {found}");
        }
        assert_eq!(browser.eval("document.images.length"), 0);
        let wide = browser
            .eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "{width}");
        let beyond: Vec<String> = browser
            .wrongs()
            .into_iter()
            .filter(|wrong| !wrong.starts_with(&address))
            .collect();
        assert_eq!(beyond, [""; 0]);
    }
    // What is not there is said.
    browser.eval("(() => { document.getElementById('live-id').value = 'nothing'; document.getElementById('live-trace').requestSubmit(); })()");
    browser.eval("new Promise(done => { const wait = () => document.querySelector('#live-found .missing') ? done() : setTimeout(wait, 20); wait(); })");
    assert_eq!(
        browser.text_of("#live-found"),
        "no trace of this run has this id"
    );
}
