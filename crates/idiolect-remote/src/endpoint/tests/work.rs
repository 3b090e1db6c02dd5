//! Work with servers that behave.

use std::sync::atomic::{AtomicBool, Ordering};

use idiolect_model::{Finish, RowErrorKind};

use super::*;

#[test]
fn each_request_is_asked_and_answered_once() {
    let server = server(|request, _| good(request));
    let mut endpoint = open(&server, settings());
    let outcome = generate(&mut endpoint, 200);
    outcome.all_good();
    for i in 0..200 {
        assert_eq!(asked(&server, &format!("q{i}")), 1);
    }
    let usage = endpoint.usage();
    assert_eq!((usage.requests, usage.retries, usage.limited), (202, 0, 0));
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (402, 201));
    let first = outcome.rows[0].clone().unwrap().unwrap();
    assert_eq!((first.finish, first.n_tokens), (Finish::Length, 1));
    assert_eq!(first.logprobs, [-0.5]);
}

#[test]
fn no_more_requests_are_on_the_way_than_allowed() {
    let server =
        server(|request, _| Answer::Late(Duration::from_millis(3), Box::new(good(request))));
    let mut endpoint = open(&server, settings());
    generate(&mut endpoint, 100).all_good();
    assert!((4..=8).contains(&server.busiest()), "{}", server.busiest());
}

#[test]
fn breaking_drops_what_is_on_the_way() {
    let first = AtomicBool::new(true);
    let server = server(move |request, _| {
        let first = first.swap(false, Ordering::SeqCst);
        let pause = Duration::from_millis(if first { 0 } else { 1000 });
        Answer::Late(pause, Box::new(good(request)))
    });
    let mut endpoint = open(&server, settings());
    let began = Instant::now();
    let mut calls = 0;
    endpoint
        .generate(&requests(500), &Sampling::default(), &mut |_, row| {
            calls += 1;
            assert!(row.is_ok(), "{row:?}");
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(calls, 1);
    assert!(began.elapsed() < Duration::from_millis(900));
    std::thread::sleep(Duration::from_millis(50));
    // The first, those beside it, and the few that took the places of those dropped before them.
    assert!(server.log().len() < 30, "{}", server.log().len());
}

#[test]
fn a_sink_that_takes_its_time_loses_nothing() {
    let server = server(|request, _| good(request));
    let mut endpoint = open(&server, settings());
    let mut seen = Vec::new();
    endpoint
        .generate(&requests(60), &Sampling::default(), &mut |index, row| {
            std::thread::sleep(Duration::from_millis(4));
            assert!(row.is_ok());
            seen.push(index);
            ControlFlow::Continue(())
        })
        .unwrap();
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

#[test]
fn rows_that_the_server_refuses_are_refused_with_its_reason() {
    let server = server(|request, _| match request.prompt().as_str() {
        "q1" => {
            let message = "This model's maximum context length is 64 tokens";
            Answer::json(400, &json!({"error": {"message": message}}))
        }
        "q2" => {
            let choice = json!({"message": {"content": ""}, "finish_reason": "content_filter"});
            Answer::json(200, &json!({ "choices": [choice] }))
        }
        _ => good(request),
    });
    let mut endpoint = open(&server, settings());
    let outcome = generate(&mut endpoint, 5);
    assert_eq!(outcome.refused(), [1, 2]);
    let kind = |i: usize| outcome.rows[i].clone().unwrap().unwrap_err().kind;
    assert_eq!(
        (kind(1), kind(2)),
        (RowErrorKind::TooLong, RowErrorKind::Other)
    );
    assert_eq!((asked(&server, "q1"), asked(&server, "q2")), (1, 1));
}

#[test]
fn requests_are_spread_over_servers_and_one_that_is_down_is_skipped() {
    let slow =
        |request: &Request, _| Answer::Late(Duration::from_millis(2), Box::new(good(request)));
    let (a, b) = (server(slow), server(slow));
    let reference = format!("{}/v1,{}/v1#m", a.url, b.url);
    let mut endpoint = Endpoint::open(&reference, None, settings()).unwrap();
    generate(&mut endpoint, 40).all_good();
    let (of_a, of_b) = (a.log().len(), b.log().len());
    assert!(of_a > 10 && of_b > 10, "{of_a} {of_b}");
    a.stop();
    generate(&mut endpoint, 40).all_good();
    assert_eq!(b.log().len(), of_b + 40);
    // Down from the start.
    let mut endpoint = Endpoint::open(&reference, None, settings()).unwrap();
    generate(&mut endpoint, 10).all_good();
}
