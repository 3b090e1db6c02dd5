//! What is found out of a server at the start.

use idiolect_model::{Model, Template};

use super::*;

fn fails(reference: &str, template: Option<Template>) -> String {
    let error = Endpoint::open(reference, template, settings()).unwrap_err();
    let text = format!("{error}");
    assert_no_secret(&format!("{text} {error:?}"));
    text
}

#[test]
fn a_server_is_described_by_what_does_not_change() {
    let info = |created| {
        let server = Server::start(move |request| {
            if request.path.ends_with("/models") {
                models(created)
            } else {
                good(request)
            }
        });
        // The only model that there is needs no name.
        let reference = format!("{}/v1", server.url);
        let endpoint = Endpoint::open(&reference, None, settings()).unwrap();
        for request in server.log() {
            assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
        }
        assert!(endpoint.capabilities().sampled_logprobs);
        assert!(!endpoint.capabilities().score && !endpoint.capabilities().deterministic);
        assert_no_secret(&format!("{endpoint:?} {:?}", settings()));
        endpoint.info().clone()
    };
    let (first, second) = (info(1), info(2));
    assert_eq!(first, second);
    assert_eq!((first.name.as_str(), first.template), ("m", Template::Chat));
    assert!(first.tokenizer_hash.is_empty() && first.hash.len() == 32);
}

#[test]
fn a_wrong_name_is_an_error_that_lists_the_served_ones() {
    let server = server(|request, _| good(request));
    let error = fails(&format!("{}/v1#other", server.url), None);
    assert!(
        error.contains("does not serve `other`; it serves `m`"),
        "{error}"
    );
    let two = Server::start(|_| {
        let data = json!([{"id": "b"}, {"id": "a"}]);
        Answer::json(200, &json!({ "data": data }))
    });
    let error = fails(&format!("{}/v1", two.url), None);
    assert!(
        error.contains("choose one with #MODEL: `a`, `b`"),
        "{error}"
    );
}

#[test]
fn servers_without_a_list_of_models_are_used_by_name() {
    for list in [Answer::json as fn(u16, &Value) -> Answer, |_, _| {
        Answer::json(404, &json!({"detail": "Not Found"}))
    }] {
        let server = Server::start(move |request| {
            if request.path.ends_with("/models") {
                return list(200, &json!({"data": []}));
            }
            good(request)
        });
        assert_eq!(open(&server, settings()).info().name, "m");
        let error = fails(&format!("{}/v1", server.url), None);
        assert!(error.contains("#MODEL"), "{error}");
    }
}

#[test]
fn a_refused_key_names_the_variables_and_never_the_key() {
    for status in [401, 403] {
        let server = Server::start(move |request| {
            let sent = request.headers.get("authorization").cloned();
            let message = format!("Incorrect API key provided: {}", sent.unwrap_or_default());
            Answer::json(status, &json!({"error": {"message": message}}))
        });
        let reference = format!("{}/v1#m", server.url);
        let error = fails(&reference, None);
        assert!(
            error.contains("IDIOLECT_API_KEY or OPENAI_API_KEY"),
            "{error}"
        );
        let open = Settings {
            key: None,
            ..settings()
        };
        let error = Endpoint::open(&reference, None, open)
            .unwrap_err()
            .to_string();
        assert!(error.contains("wants a key"), "{error}");
    }
}

#[test]
fn an_unreachable_server_is_a_clear_error_soon() {
    let began = Instant::now();
    let gone = server(|request, _| good(request));
    let url = gone.url.clone();
    drop(gone);
    let error = fails(&format!("{url}/v1#m"), None);
    assert!(
        error.contains(&url) && error.contains("cannot connect"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_page_that_is_no_api_is_a_clear_error() {
    let server = Server::start(|_| Answer::Reply(404, Vec::new(), b"<h1>nothing</h1>".to_vec()));
    let error = fails(&format!("{}#m", server.url), None);
    assert!(error.contains("ends in /v1"), "{error}");
    let other = Server::start(|_| Answer::Reply(200, Vec::new(), b"<h1>hello</h1>".to_vec()));
    let error = fails(&format!("{}/v1#m", other.url), None);
    assert!(error.contains("sent no JSON"), "{error}");
}

#[test]
fn a_base_model_without_a_chat_template_is_pointed_to_raw() {
    let server = server(|request, _| good(request));
    drop(server);
    let server = Server::start(|request| {
        if request.path.ends_with("/models") {
            return models(1);
        }
        if request.path.ends_with("/chat/completions") {
            let message = "default chat template is no longer allowed";
            return Answer::json(400, &json!({"message": message}));
        }
        let choice = json!({"text": "x", "finish_reason": "stop"});
        Answer::json(200, &json!({ "choices": [choice] }))
    });
    let reference = format!("{}/v1#m", server.url);
    assert!(fails(&reference, None).contains("--template raw"));
    let raw = Endpoint::open(&reference, Some(Template::Raw), settings()).unwrap();
    assert!(!raw.capabilities().sampled_logprobs);
}

#[test]
fn fields_that_a_server_does_not_know_are_left_out_or_are_errors() {
    let server = Server::start(|request| {
        if request.path.ends_with("/models") {
            return models(1);
        }
        let body = request.json();
        for name in ["top_k", "min_p", "repetition_penalty", "logprobs"] {
            if body.get(name).is_some() {
                let message = format!("Unrecognized request argument supplied: {name}");
                return Answer::json(400, &json!({"error": {"message": message}}));
            }
        }
        good(request)
    });
    let mut endpoint = open(&server, settings());
    generate(&mut endpoint, 5).all_good();
    let top = Sampling {
        top_k: 4,
        ..Sampling::default()
    };
    let before = server.log().len();
    let error = endpoint.generate(&requests(1), &top, &mut |_, _| ControlFlow::Continue(()));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`top_k`"), "{error}");
    assert_eq!(server.log().len(), before);
}

#[test]
fn servers_of_different_models_are_not_mixed() {
    let server = server(|request, _| good(request));
    let other = Server::start(|request| {
        if request.path.ends_with("/models") {
            let entry = json!({"id": "m", "root": "org/other"});
            return Answer::json(200, &json!({ "data": [entry] }));
        }
        good(request)
    });
    let error = fails(&format!("{}/v1,{}/v1#m", server.url, other.url), None);
    assert!(error.contains("serve different models"), "{error}");
}
