//! A model behind a socket: shapes, and parity with the commands that work on files.

use idiolect_core::store::tokens;
use serde_json::{Value, json};

use crate::kit::Place;
use crate::server::{MODEL, Server};

pub(crate) const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// A template for the small model.
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}:\n{{ m.content | trim }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}";

pub(crate) fn error_of(body: &Value) -> (&str, &str) {
    let error = &body["error"];
    (
        error["message"].as_str().unwrap(),
        error["type"].as_str().unwrap(),
    )
}

/// Problems whose prompt is their question alone.
fn questions(place: &Place) -> [&'static str; 4] {
    let questions = [
        "Once upon a time",
        "Tom and Lily went to the park.",
        "The little dog",
        "Zoë said: \"Hi\"",
    ];
    let rows: String = questions
        .iter()
        .enumerate()
        .map(|(i, question)| {
            let row = json!({"id": format!("gsm8k/test/{i}"), "task": "gsm8k",
                "question": question, "gold": {"answer": "1"}, "split": "test"});
            format!("{row}\n")
        })
        .collect();
    place.write("p.jsonl", &rows);
    place.write("ask.txt", "{question}");
    questions
}

/// What `generate` writes for those, with further flags.
fn generated(place: &Place, model: &str, output: &str, flags: &[&str]) -> Vec<Value> {
    let fixed = [
        "generate",
        "--model",
        model,
        "--problems",
        "p.jsonl",
        "--prompt",
        "ask.txt",
        "-o",
        output,
    ];
    place.done(&[&fixed[..], flags].concat());
    place.lines(output)
}

fn question_of(trace: &Value, questions: &[&'static str]) -> &'static str {
    let id = trace["problem_id"].as_str().unwrap();
    questions[id.rsplit('/').next().unwrap().parse::<usize>().unwrap()]
}

#[test]
fn every_route_answers_in_its_shape() {
    let place = Place::new();
    let server = Server::start(&place, &["--model", MODEL]);
    assert_eq!(server.get("/health").json()["status"], "ok");
    let models = server.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], "stories260K");
    assert_eq!(models["data"][0]["max_model_len"], 512);
    let tokens = server.done("/tokenize", &json!({"prompt": "Once upon a time"}));
    assert_eq!(tokens["count"], 5);
    assert_eq!(tokens["tokens"], json!([1, 403, 407, 261, 378]));
    assert_eq!(tokens["max_model_len"], 512);
    let bare = json!({"prompt": "Once upon a time", "add_special_tokens": false});
    let bare = server.done("/tokenize", &bare);
    assert_eq!(bare["tokens"], json!([403, 407, 261, 378]));
    let text = server.done("/detokenize", &json!({"tokens": tokens["tokens"]}));
    assert_eq!(text["prompt"], "Once upon a time");
    // All forms of a prompt are one.
    let ask = |prompt: Value| {
        server.done(
            COMPLETIONS,
            &json!({"prompt": prompt, "max_tokens": 6, "temperature": 0}),
        )
    };
    let one = ask(json!("Once upon a time"));
    assert_eq!(one["object"], "text_completion");
    assert_eq!(one["choices"][0]["finish_reason"], "length");
    assert_eq!(
        one["usage"],
        json!({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11})
    );
    let text = &one["choices"][0]["text"];
    assert_eq!(&ask(tokens["tokens"].clone())["choices"][0]["text"], text);
    for two in [
        json!(["The", "Once upon a time"]),
        json!([[1, 291], tokens["tokens"]]),
    ] {
        let two = ask(two);
        assert_eq!(two["choices"].as_array().unwrap().len(), 2);
        assert_eq!(two["choices"][1]["index"], 1);
        assert_eq!(&two["choices"][1]["text"], text);
    }
    let (code, out, err) = server.stop();
    assert_eq!(code, 0, "{err}");
    let summary: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(summary["requests"], 9);
    assert!(err.contains("stories260K on http://127.0.0.1:"), "{err}");
}

#[test]
fn completions_are_those_of_generate_whatever_they_are_batched_with() {
    let place = Place::new();
    let questions = questions(&place);
    let server = Server::start(&place, &["--model", MODEL]);
    let greedy = generated(
        &place,
        MODEL,
        "g.jsonl",
        &["--temperature", "0", "--max-tokens", "60"],
    );
    let flags = [
        "-n",
        "12",
        "--temperature",
        "0.9",
        "--top-p",
        "0.95",
        "--top-k",
        "50",
        "--min-p",
        "0.01",
        "--max-tokens",
        "60",
        "--stop",
        ".\n",
        "--stop",
        "said",
    ];
    let sampled = generated(&place, MODEL, "s.jsonl", &flags);
    assert!(sampled.len() > 40);
    let request = |trace: &Value| {
        let mut body = json!({"prompt": question_of(trace, &questions), "max_tokens": 60});
        let sampling = &trace["origin"]["sampling"];
        if sampling["temperature"] == json!(0.0) {
            body["temperature"] = json!(0);
        } else {
            body["seed"] = sampling["seed"].clone();
            body["temperature"] = json!(0.9);
            body["top_p"] = json!(0.95);
            body["top_k"] = json!(50);
            body["min_p"] = json!(0.01);
            body["stop"] = json!([".\n", "said"]);
        }
        body
    };
    let check = |trace: &Value, text: &str, finish: &Value| {
        assert_eq!(trace["text"], text, "{trace}");
        assert_eq!(&trace["finish"], finish, "{trace}");
    };
    std::thread::scope(|scope| {
        let (server, request, check) = (&server, &request, &check);
        for traces in [&greedy[..], &sampled[..]] {
            for (i, trace) in traces.iter().enumerate() {
                scope.spawn(move || {
                    let mut body = request(trace);
                    if i % 2 == 0 {
                        let choice = &server.done(COMPLETIONS, &body)["choices"][0];
                        let text = choice["text"].as_str().unwrap();
                        return check(trace, text, &choice["finish_reason"]);
                    }
                    body["stream"] = json!(true);
                    let events = server.post(COMPLETIONS, &body).events();
                    let text: String = events
                        .iter()
                        .filter_map(|event| event["choices"][0]["text"].as_str())
                        .collect();
                    let last = &events.last().unwrap()["choices"][0];
                    check(trace, &text, &last["finish_reason"]);
                });
            }
        }
    });
}

#[test]
fn chat_renders_the_template_and_streams_what_it_answers() {
    let place = Place::new();
    place.copy_student("m");
    place.write("m/chat_template.jinja", TEMPLATE);
    let questions = questions(&place);
    let traces = generated(&place, "m", "t.jsonl", &["-n", "2", "--max-tokens", "40"]);
    let server = Server::start(&place, &["--model", "m", "--served-model-name", "story"]);
    for trace in &traces {
        let content = question_of(trace, &questions);
        let mut body = json!({"model": "story", "max_completion_tokens": 40, "logprobs": true,
            "top_logprobs": 2, "seed": trace["origin"]["sampling"]["seed"],
            "messages": [{"role": "user", "content": [{"type": "text", "text": content}]}]});
        let whole = server.done(CHAT, &body);
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["message"]["content"], trace["text"]);
        assert_eq!(choice["finish_reason"], trace["finish"]);
        let content = choice["logprobs"]["content"].as_array().unwrap();
        assert_eq!(whole["usage"]["completion_tokens"], content.len());
        assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
        let events = server.post(CHAT, &body).events();
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let pieces = events[..events.len() - 1].iter();
        let deltas: Vec<&Value> = pieces.map(|event| &event["choices"][0]).collect();
        let text: String = deltas
            .iter()
            .filter_map(|choice| choice["delta"]["content"].as_str())
            .collect();
        assert_eq!(trace["text"], text);
        let listed = deltas
            .iter()
            .filter_map(|choice| choice["logprobs"]["content"].as_array());
        assert_eq!(&listed.flatten().cloned().collect::<Vec<_>>(), content);
        assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
        assert_eq!(
            deltas.last().unwrap()["finish_reason"],
            choice["finish_reason"]
        );
    }
    let tokens = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let tokens = server.done("/tokenize", &tokens);
    let text = json!({"prompt": "<s>user:\nHi</s>\nassistant:\n", "add_special_tokens": false});
    assert_eq!(tokens["tokens"], server.done("/tokenize", &text)["tokens"]);
    let image = json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]});
    assert_eq!(server.post(CHAT, &image).status, 400);
    // A server without a template has no chat.
    let plain = Server::start(&place, &["--model", "m", "--template", "raw"]);
    let refused = plain.post(
        CHAT,
        &json!({"messages": [{"role": "user", "content": "Hi"}]}),
    );
    assert!(
        error_of(&refused.json())
            .0
            .contains("without a chat template")
    );
}

#[test]
fn scores_of_prompts_are_those_of_score_to_the_bit() {
    let place = Place::new();
    let rows = [
        ("Once upon a time", ", there was a little girl named Lily."),
        ("Tom saw a", " big red ball. He said: \"Wow, Zoë!\""),
        ("The", " end"),
    ];
    let lines = rows.map(|(prompt, completion)| {
        format!("{}\n", json!({"prompt": prompt, "completion": completion}))
    });
    place.write("rows.jsonl", &lines.concat());
    place.done(&[
        "score",
        "--model",
        MODEL,
        "--data",
        "rows.jsonl",
        "-o",
        "s.jsonl",
        "--tokens",
        "t.parquet",
    ]);
    let mut scored = Vec::new();
    tokens::read(&place.path("t.parquet"), |row| scored.push(row)).unwrap();
    let server = Server::start(&place, &["--model", MODEL]);
    let bits = |value: &Value| (value.as_f64().unwrap() as f32).to_bits();
    for ((prompt, completion), row) in rows.iter().zip(&scored) {
        let text = format!("{prompt}{completion}");
        let ids = server.done("/tokenize", &json!({"prompt": text}))["tokens"].clone();
        let mut ids: Vec<u64> = serde_json::from_value(ids).unwrap();
        let start = ids.len() + 1 - row.tokens.len();
        ids.push(2);
        let body = json!({"prompt": ids, "max_tokens": 1, "echo": true, "logprobs": 1,
            "prompt_logprobs": 0, "prompt_logprobs_start": start, "temperature": 0});
        let whole = server.done(COMPLETIONS, &body);
        let choice = &whole["choices"][0];
        let lists = &choice["logprobs"];
        let values = lists["token_logprobs"].as_array().unwrap();
        // One token more, which clients cut off: `[context:-1]`.
        assert_eq!(values.len(), ids.len() + 1);
        assert!(values[..start].iter().all(Value::is_null));
        let prompt_logprobs = choice["prompt_logprobs"].as_array().unwrap();
        assert_eq!(prompt_logprobs.len(), ids.len());
        for (at, token) in (start..).zip(&row.tokens) {
            assert_eq!(bits(&values[at]), token.logprob.to_bits());
            let entry = &prompt_logprobs[at][ids[at].to_string()];
            assert_eq!(bits(&entry["logprob"]), token.logprob.to_bits());
            assert_eq!(entry["rank"], token.rank.unwrap());
            // The first choice is named: a client sees whether the token is it.
            let top = lists["top_logprobs"][at].as_object().unwrap();
            let best = top.values().filter_map(Value::as_f64);
            let best = best.fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(token.rank == Some(1), values[at].as_f64().unwrap() >= best);
        }
        // Without the border all but the first are scored, to the rounding of sums.
        let body = json!({"prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 0});
        let all = server.done(COMPLETIONS, &body);
        assert_eq!(all["usage"]["completion_tokens"], 0);
        let all = all["choices"][0]["logprobs"]["token_logprobs"].clone();
        assert!(all[0].is_null() && all[1].is_number());
        for (at, token) in (start..).zip(&row.tokens) {
            assert!((all[at].as_f64().unwrap() as f32 - token.logprob).abs() < 1e-4);
        }
    }
}

#[test]
fn token_ids_and_offsets_describe_the_text() {
    let place = Place::new();
    let server = Server::start(&place, &["--model", MODEL]);
    let body = json!({"prompt": "Zoë was", "max_tokens": 30, "seed": 5, "n": 3, "logprobs": 3,
        "return_token_ids": true, "echo": true});
    let whole = server.done(COMPLETIONS, &body);
    let choices = whole["choices"].as_array().unwrap();
    assert_ne!(choices[0]["text"], choices[1]["text"]);
    for choice in choices {
        let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
        let lists = &choice["logprobs"];
        let tokens = lists["tokens"].as_array().unwrap();
        for (token, at) in tokens.iter().zip(lists["text_offset"].as_array().unwrap()) {
            let token = token.as_str().unwrap();
            // Not of special tokens and parts of characters.
            if !token.starts_with('<') {
                let at = at.as_u64().unwrap() as usize;
                let n = token.chars().count();
                assert_eq!(text[at..at + n].iter().collect::<String>(), token);
            }
        }
        let given = choice["prompt_token_ids"].as_array().unwrap();
        let written = choice["token_ids"].as_array().unwrap();
        assert_eq!(given.len() + written.len(), tokens.len());
    }
    // The same seed gives the same choices, in a stream too.
    let mut body = body;
    body["stream"] = json!(true);
    let mut texts = vec![String::new(); 3];
    let mut offsets = vec![Vec::new(); 3];
    for event in server.post(COMPLETIONS, &body).events() {
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index].push_str(choice["text"].as_str().unwrap());
        let new = choice["logprobs"]["text_offset"].as_array();
        offsets[index].extend(new.into_iter().flatten().cloned());
    }
    for (choice, (text, offsets)) in choices.iter().zip(texts.iter().zip(offsets)) {
        assert_eq!(&choice["text"], text);
        assert_eq!(choice["logprobs"]["text_offset"], json!(offsets));
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let place = Place::new();
    let server = Server::start(&place, &["--model", MODEL, "--max-queue", "8"]);
    let long = json!({"prompt": "a", "max_tokens": 600});
    for (body, status, words) in [
        (long, 400, "holds 512 tokens and the request needs 602"),
        (
            json!({"prompt": "a", "logit_bias": {"1": 2}}),
            400,
            "`logit_bias`",
        ),
        (json!({"prompt": "a", "best_of": 4}), 400, "`best_of`"),
        (
            json!({"prompt": "a", "frequency_penalty": 1}),
            400,
            "`frequency_penalty`",
        ),
        (
            json!({"prompt": "a", "prompt_logprobs": 99}),
            400,
            "expected 0 to 20",
        ),
        (
            json!({"prompt": "a", "temperature": -1}),
            400,
            "`temperature`",
        ),
        (json!({"prompt": "a", "stop": ""}), 400, "stop string"),
        (
            json!({"prompt": "a", "n": 2, "temperature": 0}),
            400,
            "all would be equal",
        ),
        (json!({"prompt": "a", "n": 9}), 400, "--max-queue"),
        (
            json!({"prompt": "a", "max_tokens": 0}),
            400,
            "`max_tokens` is 0",
        ),
        (json!({"prompt": [[9999]]}), 400, "vocabulary of 512"),
        (json!({"prompt": [[]]}), 400, "no tokens"),
        (
            json!({"prompt": "a", "top_k": "many"}),
            400,
            "`top_k`: it is string \"many\", expected a whole number",
        ),
        (
            json!({"prompt": "a", "stop": {"a": 1}}),
            400,
            "`stop`: expected a text or a list of texts",
        ),
        (json!({"prompt": {"a": 1}}), 400, "expected a text"),
        (json!({"max_tokens": 3}), 400, "`prompt` is missing"),
        (
            json!({"prompt": "a", "model": "other"}),
            404,
            "`stories260K` is",
        ),
        (
            json!({"prompt": "a", "stream": true, "prompt_logprobs": 0}),
            400,
            "`stream`",
        ),
        (json!([1]), 400, "no JSON object"),
    ] {
        let reply = server.post(COMPLETIONS, &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        let document = reply.json();
        let (message, kind) = error_of(&document);
        assert!(message.contains(words), "{body}: {message}");
        assert_eq!(kind, "invalid_request_error");
    }
    assert_eq!(server.ask("POST", COMPLETIONS, "", "{\"prompt").status, 400);
    assert_eq!(server.get(COMPLETIONS).status, 405);
    assert_eq!(server.get("/nothing").status, 404);
    // What changes nothing is ignored.
    let ignored = json!({"prompt": "a", "user": "me", "best_of": 1, "logit_bias": null,
        "presence_penalty": 0, "max_tokens": 1});
    server.done(COMPLETIONS, &ignored);
}

#[test]
fn a_key_is_asked_for_everywhere_but_health_and_never_shown() {
    let place = Place::new();
    let flags = ["--model", MODEL, "--api-key-env", "SERVE_KEY"];
    let server = Server::start_with(&place, &flags, &[("SERVE_KEY", "hush-1234")]);
    assert_eq!(server.get("/health").status, 200);
    for path in ["/v1/models", "/metrics", "/v1/completions"] {
        for headers in [
            "",
            "Authorization: Bearer hush\r\n",
            "Authorization: hush-1234\r\n",
        ] {
            let reply = server.ask("GET", path, headers, "");
            assert_eq!(reply.status, 401, "{path} {headers}");
            assert_eq!(reply.json()["error"]["code"], "invalid_api_key");
        }
    }
    let with = "Authorization: Bearer hush-1234\r\n";
    assert_eq!(server.ask("GET", "/v1/models", with, "").status, 200);
    let (code, out, err) = server.stop();
    assert_eq!(code, 0);
    assert!(!out.contains("hush") && !err.contains("hush"), "{err}");
    let refused = place.run(&["serve", "--model", MODEL, "--api-key-env", "NO_SUCH_KEY"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("NO_SUCH_KEY"), "{}", refused.err);
}
