//! Scores through servers that answer in the shapes of those in use.

use idiolect_model::{Model, Template};

use super::super::{IdsRow, IdsScore, ScoringMethod};
use super::*;

type Handler = fn(&Request) -> Answer;

/// What the mock finds of an id after the one before it.
fn logprob(before: u64, id: u64) -> f64 {
    -0.125 * (1 + (before * 7 + id * 3) % 40) as f64
}

fn ids(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(Value::as_u64).collect()
}

fn text_choice(fields: Value, n: usize) -> Answer {
    let mut choice = json!({"index": 0, "text": "x", "finish_reason": "length"});
    if let Some(fields) = fields.as_object() {
        choice.as_object_mut().unwrap().extend(fields.clone());
    }
    let usage = json!({"prompt_tokens": n, "completion_tokens": 1});
    Answer::json(200, &json!({"choices": [choice], "usage": usage}))
}

fn vllm(request: &Request) -> Answer {
    let body = request.json();
    let Some(ids) = ids(&body["prompt"]) else {
        return text_choice(json!({}), 1);
    };
    if body.get("prompt_logprobs").is_none() {
        return text_choice(json!({}), ids.len());
    }
    let mut entries = vec![Value::Null];
    for pair in ids.windows(2) {
        let logprob = logprob(pair[0], pair[1]);
        let entry = json!({"logprob": logprob, "rank": pair[1] % 5 + 1, "decoded_token": "t"});
        entries.push(json!({ pair[1].to_string(): entry }));
    }
    text_choice(json!({ "prompt_logprobs": entries }), ids.len())
}

fn echo(request: &Request) -> Answer {
    let body = request.json();
    let Some(ids) = ids(&body["prompt"]) else {
        return text_choice(json!({}), 1);
    };
    if body["echo"] != json!(true) {
        return text_choice(json!({}), ids.len());
    }
    let mut values = vec![Value::Null];
    values.extend(ids.windows(2).map(|pair| json!(logprob(pair[0], pair[1]))));
    values.push(json!(-0.01));
    let tokens: Vec<String> = (0..values.len()).map(|i| format!("t{i}")).collect();
    let logprobs = json!({"token_logprobs": values, "tokens": tokens});
    text_choice(json!({ "logprobs": logprobs }), ids.len())
}

/// The id that ends a text for the llama.cpp mock, and another such.
const END: u64 = 2;
const OTHER_END: u64 = 1;

fn llama_cpp(request: &Request) -> Answer {
    let body = request.json();
    if request.path == "/completion" {
        let prompt = ids(&body["prompt"]).unwrap();
        let grammar = body["grammar"].as_str().unwrap();
        let rule = grammar.strip_prefix("root ::= ").unwrap();
        let mut forced: Vec<u64> = rule
            .split(' ')
            .filter_map(|word| word.strip_prefix("<[")?.strip_suffix("]>")?.parse().ok())
            .collect();
        assert!(!forced.contains(&END), "an end token in the grammar");
        // Where the grammar ends, an end token is all that is allowed.
        let biased = body["logit_bias"][0][0].as_u64();
        let end = if biased == Some(END) { END } else { OTHER_END };
        let n = body["n_predict"].as_u64().unwrap() as usize;
        forced.push(end);
        forced.truncate(n);
        let mut before = *prompt.last().unwrap();
        let mut entries = Vec::new();
        for id in &forced {
            let logprob = logprob(before, *id);
            entries.push(json!({"id": id, "token": "t", "logprob": logprob, "top_logprobs": []}));
            before = *id;
        }
        let counts = json!({"tokens_evaluated": prompt.len(), "tokens_predicted": forced.len(),
            "content": "t", "tokens": forced, "completion_probabilities": entries});
        return Answer::json(200, &counts);
    }
    // `echo` and `prompt_logprobs` are ignored; log-probabilities are those of what was written.
    let logprobs = json!({"content": [{"id": 9, "token": "x", "logprob": -0.5}]});
    text_choice(json!({ "logprobs": logprobs }), 3)
}

fn transformers(request: &Request) -> Answer {
    if request.path == "/completion" {
        return Answer::json(404, &json!({"detail": "Not Found"}));
    }
    if request.json()["prompt"].is_array() {
        return Answer::json(422, &json!({"detail": "prompt must be a string"}));
    }
    text_choice(json!({}), 1)
}

fn open_raw(handler: Handler) -> (Server, Endpoint) {
    let server = Server::start(move |request| {
        if request.path.ends_with("/models") {
            return Answer::json(200, &json!({"data": []}));
        }
        handler(request)
    });
    let reference = format!("{}/v1#m", server.url);
    let endpoint = Endpoint::open(&reference, Some(Template::Raw), settings()).unwrap();
    (server, endpoint)
}

fn rows() -> Vec<IdsRow> {
    let row = |k: u32| IdsRow {
        ids: (0..6 + k % 5).map(|i| 10 + (i * 13 + k) % 90).collect(),
        from: 1 + (k as usize % 4),
    };
    let mut rows: Vec<IdsRow> = (0..40).map(row).collect();
    for row in rows.iter_mut().step_by(2) {
        row.ids.push(END as u32);
    }
    // Only the end token.
    rows.push(IdsRow {
        ids: vec![7, 8, END as u32],
        from: 2,
    });
    rows
}

fn score(endpoint: &mut Endpoint, rows: &[IdsRow]) -> Vec<Result<IdsScore, RowError>> {
    let mut scores = vec![None; rows.len()];
    endpoint
        .score_ids(rows, &mut |index, score| {
            assert!(scores[index].is_none());
            scores[index] = Some(score);
            ControlFlow::Continue(())
        })
        .unwrap();
    scores.into_iter().map(Option::unwrap).collect()
}

#[test]
fn every_way_of_scoring_gives_the_same_scores() {
    let all: [(Handler, ScoringMethod); 3] = [
        (vllm, ScoringMethod::PromptLogprobs),
        (echo, ScoringMethod::Echo),
        (llama_cpp, ScoringMethod::ForcedGrammar),
    ];
    for (handler, method) in all {
        let (_server, mut endpoint) = open_raw(handler);
        assert!(!endpoint.capabilities().score);
        assert_eq!(endpoint.probe_scoring().unwrap(), method);
        assert!(endpoint.capabilities().score);
        assert_eq!(
            endpoint.capabilities().ranks,
            method == ScoringMethod::PromptLogprobs
        );
        let rows = rows();
        for (row, score) in rows.iter().zip(score(&mut endpoint, &rows)) {
            let score = score.unwrap();
            let pairs = row.ids[row.from - 1..].windows(2);
            let expected: Vec<f32> = pairs
                .map(|pair| logprob(pair[0].into(), pair[1].into()) as f32)
                .collect();
            assert_eq!(score.logprobs, expected, "{method:?}");
            let ranks = row.ids[row.from..].iter().map(|id| id % 5 + 1).collect();
            assert_eq!(score.ranks, method.gives_ranks().then_some(ranks));
        }
    }
}

#[test]
fn a_server_that_cannot_score_says_so_before_any_work() {
    let (server, mut endpoint) = open_raw(transformers);
    let before = server.log().len();
    let mut called = false;
    let error = endpoint.score_ids(&rows(), &mut |_, _| {
        called = true;
        ControlFlow::Continue(())
    });
    let ModelError::Unsupported(reason) = error.unwrap_err() else {
        panic!("unsupported");
    };
    assert!(!called);
    assert!(reason.contains("prompt must be a string"), "{reason}");
    assert!(server.log().len() - before <= 6);
}

#[test]
fn scores_that_depend_on_the_order_of_requests_are_refused() {
    let seen: Mutex<std::collections::BTreeSet<Vec<u8>>> = Mutex::default();
    let server = Server::start(move |request| {
        if request.path.ends_with("/models") {
            return models(1);
        }
        let again = !seen.lock().unwrap().insert(request.body.clone());
        let mut body = request.json();
        if again && body["prompt"].is_array() {
            // As if the beginning that was kept were another one.
            body["prompt"][69] = json!(1);
            body["prompt"][70] = json!(body["prompt"][70].as_u64().unwrap());
        }
        vllm(&Request {
            body: body.to_string().into_bytes(),
            ..request.clone()
        })
    });
    let reference = format!("{}/v1#m", server.url);
    let mut endpoint = Endpoint::open(&reference, Some(Template::Raw), settings()).unwrap();
    let error = endpoint.probe_scoring().unwrap_err().to_string();
    assert!(error.contains("prefix caching"), "{error}");
}

#[test]
fn rows_without_anything_to_score_and_wrong_counts_are_refused_alone() {
    let (_server, mut endpoint) = open_raw(|request| {
        let body = request.json();
        if ids(&body["prompt"]).is_some_and(|ids| ids[0] == 99) {
            return text_choice(json!({"prompt_logprobs": [null, null]}), 2);
        }
        if ids(&body["prompt"]).is_some_and(|ids| ids[0] == 98) {
            let message = "maximum context length is 4 tokens";
            return Answer::json(400, &json!({ "message": message }));
        }
        vllm(request)
    });
    let row = |ids: &[u32], from| IdsRow {
        ids: ids.to_vec(),
        from,
    };
    let rows = [
        row(&[5, 6], 1),
        row(&[5, 6], 0),
        row(&[5, 6], 2),
        row(&[], 0),
        row(&[99, 1, 2], 1),
        row(&[98, 1, 2], 1),
    ];
    let scores = score(&mut endpoint, &rows);
    assert!(scores[0].is_ok());
    let kinds: Vec<_> = scores[1..]
        .iter()
        .map(|score| score.as_ref().unwrap_err().kind.name())
        .collect();
    let none = "no token left to train on";
    let long = "longer than the student's limit";
    assert_eq!(kinds, [none, none, none, "not a row for the student", long]);
}
