//! Servers under load: clients that leave, misbehave, come too many at once or while it stops.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::Place;
use crate::serve::{COMPLETIONS, error_of};
use crate::server::{MODEL, Server, reply};

/// A request that takes long on this model: seeds that do not end early.
fn long(seed: usize) -> Value {
    json!({"prompt": "Once upon a time", "max_tokens": 500, "seed": seed, "temperature": 1.6,
        "stream": seed.is_multiple_of(2)})
}

#[test]
fn clients_that_leave_or_misbehave_cost_the_others_nothing() {
    let place = Place::new();
    let flags = ["--model", MODEL, "--max-body", "1", "-q"];
    let server = Server::start(&place, &flags);
    let expected = |seed| {
        server.done(
            COMPLETIONS,
            &json!({"prompt": "The", "max_tokens": 80,
        "seed": seed}),
        )["choices"][0]["text"]
            .clone()
    };
    let alone: Vec<Value> = (0..32).map(expected).collect();
    std::thread::scope(|scope| {
        let (server, alone) = (&server, &alone);
        for client in 0..64 {
            scope.spawn(move || {
                if client % 2 == 0 {
                    let seed = client / 2;
                    let body = json!({"prompt": "The", "max_tokens": 80, "seed": seed});
                    let whole = server.done(COMPLETIONS, &body);
                    assert_eq!(whole["choices"][0]["text"], alone[seed]);
                    return;
                }
                let mut stream =
                    server.send("POST", COMPLETIONS, "", &long(client / 2).to_string());
                if client % 4 == 1 {
                    // Leaves in the middle of a stream, or before its answer.
                    let _ = stream.read(&mut [0; 16]);
                }
            });
        }
        for bad in ["{", "\u{0}", "[[[[", "{\"prompt\": 3}"] {
            scope.spawn(move || assert_eq!(server.ask("POST", COMPLETIONS, "", bad).status, 400));
        }
        scope.spawn(move || {
            // A body without an end.
            let mut stream = server.connect();
            let head =
                "POST /v1/completions HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
            for _ in 0..64 {
                if stream.write_all(chunk.as_bytes()).is_err() {
                    break;
                }
            }
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            // It may be reset before it is read.
            assert!(answer.is_empty() || answer.contains(" 413 "), "{answer}");
        });
        scope.spawn(move || {
            // Not HTTP at all.
            let mut stream = server.connect();
            let _ = stream.write_all(b"\x16\x03\x01 hello\r\n\r\n");
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(!answer.contains(" 200 "));
        });
    });
    assert_eq!(
        server
            .ask("POST", COMPLETIONS, "", &" ".repeat(2 << 20))
            .status,
        413
    );
    server.wait_for("idiolect_sequences_running ", |n| n == 0);
    assert_eq!(server.metric("idiolect_sequences_waiting "), 0);
    // Those that did not end before they were left.
    assert!(server.metric("idiolect_requests_cancelled_total ") > 8);
    let done = "idiolect_requests_total{route=\"/v1/completions\",status=\"400\"} ";
    assert_eq!(server.metric(done), 4);
    assert!(server.metric("idiolect_generation_tokens_total ") > 1000);
    assert_eq!(server.stop().0, 0);
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let place = Place::new();
    let server = Server::start(
        &place,
        &[
            "--model",
            MODEL,
            "--max-queue",
            "2",
            "--threads",
            "1",
            "--kv-memory",
            "1",
        ],
    );
    // Memory for one or two at a time, so that others wait.
    let waiting: Vec<_> = (0..16)
        .map(|seed| server.send("POST", COMPLETIONS, "", &long(2 * seed + 1).to_string()))
        .collect();
    let replies: Vec<_> = waiting.into_iter().map(reply).collect();
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(
        !refused.is_empty() && refused.len() < 16,
        "{}",
        refused.len()
    );
    for reply in &refused {
        assert!(reply.head.to_ascii_lowercase().contains("retry-after: 1"));
        assert_eq!(error_of(&reply.json()).1, "rate_limit_error");
    }
    assert!(replies.iter().all(|r| matches!(r.status, 200 | 429)));
    assert_eq!(
        server.metric("idiolect_queue_refusals_total "),
        refused.len() as u64
    );
}

#[test]
fn a_stopping_server_finishes_what_runs_and_takes_nothing_new() {
    let place = Place::new();
    let server = Server::start(&place, &["--model", MODEL]);
    let running: Vec<_> = (0..6)
        .map(|seed| server.send("POST", COMPLETIONS, "", &long(seed).to_string()))
        .collect();
    server.wait_for("idiolect_sequences_running ", |n| n > 0);
    server.interrupt();
    for stream in running {
        let reply = reply(stream);
        // Whoever was not read yet may be turned away.
        assert!(matches!(reply.status, 200 | 503), "{}", reply.body);
        if reply.head.contains("event-stream") {
            reply.events();
        }
    }
    let (code, out, err) = server.ended();
    assert_eq!(code, 0, "{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["cut_off"], false);
    // A grace that is too short cuts off, and ends as well.
    let server = Server::start(&place, &["--model", MODEL, "--grace", "0"]);
    let body = json!({"prompt": "Once", "max_tokens": 500, "n": 128, "temperature": 2});
    let _left = server.send("POST", COMPLETIONS, "", &body.to_string());
    server.wait_for("idiolect_sequences_running ", |n| n > 0);
    let begun = Instant::now();
    let (code, out, _) = server.stop();
    assert_eq!(code, 0);
    assert!(begun.elapsed() < Duration::from_secs(10), "{out}");
}
