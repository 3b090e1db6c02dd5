//! Servers that limit, fail, cut, stall, flood and lie.

use super::*;

fn limit(headers: &[(&'static str, &str)]) -> Answer {
    let reply = Answer::json(429, &json!({"error": {"message": "slow down"}}));
    let with = |reply: Answer, (name, value): &(&'static str, &str)| reply.with(name, value);
    headers.iter().fold(reply, with)
}

#[test]
fn rate_limits_spend_no_attempt_and_slow_all_requests_down() {
    let server = server(|request, times| {
        // More often than there are attempts.
        if times < 5 {
            limit(&[("retry-after", "0.02")])
        } else {
            good(request)
        }
    });
    let mut endpoint = open(&server, settings());
    generate(&mut endpoint, 12).all_good();
    assert_eq!(endpoint.usage().limited, 60);
    assert_eq!(endpoint.usage().retries, 60);
}

#[test]
fn a_cool_down_is_shared() {
    let limited = Mutex::new(None);
    let server = server(move |request, _| {
        let mut limited = limited.lock().unwrap();
        let since = *limited.get_or_insert_with(Instant::now);
        // Those on their way together are all limited; what comes later is not.
        if since.elapsed() < Duration::from_millis(60) {
            limit(&[("x-ratelimit-reset-requests", "200ms")])
        } else {
            good(request)
        }
    });
    let mut endpoint = open(&server, settings());
    generate(&mut endpoint, 40).all_good();
    let log = server.log();
    let work: Vec<&Request> = log.iter().filter(|r| r.prompt().starts_with('q')).collect();
    let pause = Duration::from_millis(190);
    let early = work.iter().filter(|r| r.at < work[0].at + pause).count();
    assert!(early <= 8, "{early} requests in spite of the cool-down");
}

#[test]
fn limits_without_a_header_are_backed_off() {
    let server = server(
        |request, times| {
            if times < 3 { limit(&[]) } else { good(request) }
        },
    );
    let mut endpoint = open(&server, settings());
    generate(&mut endpoint, 20).all_good();
}

#[test]
fn patience_with_limits_ends_and_refuses_no_row() {
    for headers in [&[][..], &[("retry-after", "3600")][..]] {
        let headers = headers.to_vec();
        let server = server(move |_, _| limit(&headers));
        let mut endpoint = open(&server, settings());
        let outcome = generate(&mut endpoint, 20);
        assert!(outcome.rows.iter().all(Option::is_none));
        assert!(
            outcome.error().contains("rate limit"),
            "{}",
            outcome.error()
        );
        assert!(outcome.took < Duration::from_secs(3));
    }
}

#[test]
fn a_spent_quota_ends_the_work_at_once() {
    let server = server(|_, _| {
        let error = json!({"message": "no credit", "code": "insufficient_quota"});
        Answer::json(429, &json!({ "error": error }))
    });
    let outcome = generate(&mut open(&server, settings()), 4);
    assert!(outcome.error().contains("insufficient_quota"));
    assert!(outcome.refused().is_empty());
}

#[test]
fn storms_of_server_errors_pass() {
    for status in [500, 502, 503, 504, 408] {
        let server = server(move |request, times| {
            if times < 2 {
                Answer::json(status, &json!({"error": "busy"}))
            } else {
                good(request)
            }
        });
        let mut endpoint = open(&server, settings());
        generate(&mut endpoint, 20).all_good();
        for i in 0..20 {
            assert_eq!(asked(&server, &format!("q{i}")), 3);
        }
    }
}

#[test]
fn replies_that_are_none_are_asked_for_again() {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"choices\": [".to_vec();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{".to_vec();
    let kinds: Vec<Box<dyn Fn() -> Answer + Send + Sync>> = vec![
        Box::new(move || Answer::Raw(cut.clone())),
        Box::new(move || Answer::Raw(chunked.clone())),
        Box::new(|| Answer::Raw(Vec::new())),
        Box::new(|| Answer::Raw(b"garbage\r\n\r\n".to_vec())),
        Box::new(|| Answer::Reply(200, Vec::new(), b"{\"choices\": [}".to_vec())),
        Box::new(|| Answer::json(200, &json!({"choices": []}))),
        Box::new(|| Answer::json(200, &json!({"error": {"message": "overloaded"}}))),
        Box::new(|| {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_vec();
            Answer::Stall(head, Duration::from_millis(400))
        }),
    ];
    for kind in kinds {
        let server = server(
            move |request, times| {
                if times == 0 { kind() } else { good(request) }
            },
        );
        let mut endpoint = open(&server, settings());
        let outcome = generate(&mut endpoint, 10);
        outcome.all_good();
        assert!(outcome.took < Duration::from_secs(3));
        for i in 0..10 {
            assert_eq!(asked(&server, &format!("q{i}")), 2);
        }
    }
}

#[test]
fn a_reply_after_the_time_out_is_not_taken() {
    let server = server(|request, times| {
        let pause = Duration::from_millis(if times == 0 { 600 } else { 0 });
        Answer::Late(pause, Box::new(good(request)))
    });
    let quick = Settings {
        timeout: Duration::from_millis(200),
        ..settings()
    };
    let mut endpoint = open(&server, quick);
    generate(&mut endpoint, 6).all_good();
    assert_eq!(asked(&server, "q0"), 2);
}

#[test]
fn log_probabilities_that_are_left_out_or_miscounted_are_dropped() {
    let server = server(|request, _| {
        let mut reply = completion(request);
        match request.prompt().as_str() {
            "q0" => reply["choices"][0]["logprobs"] = Value::Null,
            "q1" => reply["choices"][0]["logprobs"]["content"] = json!([]),
            "q2" => reply["usage"]["completion_tokens"] = json!(9),
            _ => {}
        }
        Answer::json(200, &reply)
    });
    let outcome = generate(&mut open(&server, settings()), 4);
    outcome.all_good();
    let given = |i: usize| outcome.rows[i].clone().unwrap().unwrap().logprobs.len();
    assert_eq!([0, 1, 2, 3].map(given), [0, 0, 0, 1]);
}

#[test]
fn one_row_that_never_gets_an_answer_is_refused_alone() {
    let server = server(|request, _| match request.prompt().as_str() {
        "q3" => Answer::json(500, &json!({"error": "this one kills me"})),
        "q5" => Answer::Raw(Vec::new()),
        _ => good(request),
    });
    let mut endpoint = open(&server, settings());
    let outcome = generate(&mut endpoint, 10);
    assert!(outcome.end.is_ok(), "{:?}", outcome.end);
    assert_eq!(outcome.refused(), [3, 5]);
    let row = outcome.rows[3].clone().unwrap().unwrap_err();
    assert!(row.reason.contains("this one kills me"), "{}", row.reason);
    // All attempts, and one more once the server was known to live.
    assert_eq!(asked(&server, "q3"), 4);
}

#[test]
fn a_server_that_dies_refuses_no_row() {
    let dead = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dies = std::sync::Arc::clone(&dead);
    let failing = Server::start(move |request| {
        if request.path.ends_with("/models") {
            return models(1);
        }
        if request.prompt() == "q5" {
            dies.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        if dies.load(std::sync::atomic::Ordering::SeqCst) {
            return Answer::json(503, &json!({"error": "no backend"}));
        }
        good(request)
    });
    let outcome = generate(&mut open(&failing, settings()), 50);
    assert!(outcome.refused().is_empty());
    assert!(outcome.error().contains("503"), "{}", outcome.error());

    let stopping = std::sync::Arc::new(server(|request, _| {
        Answer::Late(Duration::from_millis(3), Box::new(good(request)))
    }));
    let mut endpoint = open(&stopping, settings());
    let other = std::sync::Arc::clone(&stopping);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        other.stop();
    });
    let outcome = generate(&mut endpoint, 5000);
    killer.join().unwrap();
    assert!(outcome.refused().is_empty());
    assert!(
        outcome.error().contains(&stopping.url),
        "{}",
        outcome.error()
    );
    assert!(outcome.took < Duration::from_secs(5));
}

#[test]
fn a_key_that_is_refused_midway_ends_the_work() {
    let server = server(|request, _| match request.prompt().as_str() {
        "q3" => {
            let sent = &request.headers["authorization"];
            Answer::json(401, &json!({"error": format!("no: {sent}")}))
        }
        _ => good(request),
    });
    let outcome = generate(&mut open(&server, settings()), 10);
    assert!(outcome.refused().is_empty());
    assert!(outcome.error().contains("[key]"), "{}", outcome.error());
}

#[test]
fn messages_that_repeat_the_key_are_cleaned_wherever_they_come_from() {
    let server = server(|request, _| {
        let sent = request.headers["authorization"].clone();
        match request.prompt().as_str() {
            "q0" => Answer::json(400, &json!({"error": {"message": sent}})),
            "q1" => Answer::json(500, &json!({ "detail": sent })),
            "q2" => Answer::json(200, &json!({ "error": sent })),
            "q3" => {
                let choice = json!({"message": {"content": null, "refusal": sent}});
                Answer::json(200, &json!({ "choices": [choice] }))
            }
            _ => good(request),
        }
    });
    let outcome = generate(&mut open(&server, settings()), 8);
    assert_eq!(outcome.refused(), [0, 1, 2, 3]);
}

#[test]
fn the_key_does_not_follow_a_redirect_to_another_server() {
    let elsewhere = server(|request, _| good(request));
    let target = format!("{}/v1/chat/completions", elsewhere.url);
    for status in [301, 302, 307, 308] {
        let target = target.clone();
        let server = server(move |_, _| {
            Answer::Reply(status, vec![("location", target.clone())], Vec::new())
        });
        let outcome = generate(&mut open(&server, settings()), 3);
        assert!(outcome.error().contains("refused"), "{}", outcome.error());
    }
    assert!(elsewhere.log().is_empty());
    // Within one server nothing is lost.
    let server = server(|request, _| {
        if request.path.starts_with("/v2") {
            return good(request);
        }
        let target = "/v2/chat/completions".to_owned();
        Answer::Reply(307, vec![("location", target)], Vec::new())
    });
    generate(&mut open(&server, settings()), 3).all_good();
}

/// Peak memory of this process, MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

#[test]
fn replies_without_end_are_errors_in_bounded_memory() {
    let server = server(|request, _| match request.prompt().as_str() {
        // A GiB that nobody announced, one that was announced, one that never ends a header.
        "q0" | "q1" | "q2" | "q3" => {
            Answer::Flood(b"HTTP/1.1 200 OK\r\n\r\n{\"choices\":".to_vec(), 1024)
        }
        "q4" => Answer::Flood(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec(),
            1024,
        ),
        "q5" => Answer::Flood(b"HTTP/1.1 200 OK\r\nx-long: ".to_vec(), 64),
        _ => good(request),
    });
    let mut endpoint = open(&server, settings());
    let before = peak_mib();
    let outcome = generate(&mut endpoint, 10);
    let grown = peak_mib() - before;
    assert!(outcome.end.is_ok(), "{:?}", outcome.end);
    assert_eq!(outcome.refused(), [0, 1, 2, 3, 4, 5]);
    let row = outcome.rows[0].clone().unwrap().unwrap_err();
    assert!(row.reason.contains("longer than 8 MiB"), "{}", row.reason);
    assert!(grown < 128, "{grown} MiB");
    assert_eq!(asked(&server, "q0"), 1);
}

#[test]
fn a_server_that_is_known_to_be_gone_is_asked_nothing_more() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let lives = Arc::new(AtomicBool::new(true));
    let dies = Arc::clone(&lives);
    let server = server(move |_, _| {
        dies.store(false, Ordering::SeqCst);
        Answer::json(500, &json!({"error": {"message": "going down"}}))
    });
    let told = Arc::clone(&lives);
    let mut endpoint = open(
        &server,
        Settings {
            in_flight: 1,
            // More than any test waits for.
            backoff: Duration::from_secs(600),
            alive: crate::Alive::told_by(move || told.load(Ordering::SeqCst)),
            ..settings()
        },
    );
    let error = generate(&mut endpoint, 3).error();
    assert!(error.contains("going down"), "{error}");
}
