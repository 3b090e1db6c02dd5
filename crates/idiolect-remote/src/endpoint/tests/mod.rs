//! Endpoints against servers that behave, and against those that do not.

mod hostile;
mod opening;
mod scoring;
mod work;

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use idiolect_model::{
    Completion, Context, Generate, GenerateRequest, ModelError, RowError, Sampling,
};
use serde_json::{Value, json};

use super::{Endpoint, Settings};
use crate::Key;
use crate::mock::{Answer, Request, Server};

pub(super) const SECRET: &str = "sk-secret-77";

/// What the probe asks.
pub(super) const PROBE: &str = "Hi";

pub(super) fn settings() -> Settings {
    Settings {
        key: Key::new(SECRET),
        in_flight: 8,
        timeout: Duration::from_millis(1500),
        stall_timeout: Duration::from_millis(150),
        connect_timeout: Duration::from_millis(1500),
        max_body: 8 << 20,
        attempts: 3,
        backoff: Duration::from_millis(2),
        patience: Duration::from_millis(600),
        ..Settings::default()
    }
}

/// A well-behaved completion that repeats its prompt.
pub(super) fn completion(request: &Request) -> Value {
    let prompt = request.prompt();
    let logprobs = json!({"content": [{"token": prompt, "logprob": -0.5}]});
    let choice = json!({
        "message": {"role": "assistant", "content": prompt},
        "logprobs": logprobs,
        "finish_reason": "length",
    });
    json!({"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 1}})
}

pub(super) fn good(request: &Request) -> Answer {
    Answer::json(200, &completion(request))
}

/// The list of models of a server that serves `m`, started at some time.
pub(super) fn models(created: u64) -> Answer {
    let entry = json!({"id": "m", "object": "model", "created": created, "owned_by": "vllm",
        "root": "org/m", "permission": [{"id": format!("perm-{created}")}]});
    Answer::json(200, &json!({"object": "list", "data": [entry]}))
}

/// A server of `m` that answers the probe as it should and everything else as given, with the
/// number of times that a prompt was seen before.
pub(super) fn server(
    misbehave: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static,
) -> Server {
    let seen: Mutex<std::collections::BTreeMap<String, usize>> = Mutex::default();
    Server::start(move |request| {
        if request.path.ends_with("/models") {
            return models(1);
        }
        if request.prompt() == PROBE {
            return good(request);
        }
        let times = {
            let mut seen = seen.lock().unwrap();
            let times = seen.entry(request.prompt()).or_default();
            *times += 1;
            *times - 1
        };
        misbehave(request, times)
    })
}

pub(super) fn open(server: &Server, settings: Settings) -> Endpoint {
    let reference = format!("{}/v1#m", server.url);
    Endpoint::open(&reference, None, settings).unwrap()
}

pub(super) fn requests(n: usize) -> Vec<GenerateRequest> {
    (0..n)
        .map(|i| GenerateRequest {
            context: Context::Prompt(format!("q{i}")),
            seed: i as u64,
        })
        .collect()
}

/// What became of each request, in order; each was answered at most once and no error holds the
/// key.
pub(super) struct Outcome {
    pub(super) rows: Vec<Option<Result<Completion, RowError>>>,
    pub(super) end: Result<(), ModelError>,
    pub(super) took: Duration,
}

impl Outcome {
    /// Asserts that all were answered, with their own text.
    pub(super) fn all_good(&self) {
        assert!(self.end.is_ok(), "{:?}", self.end);
        for (i, row) in self.rows.iter().enumerate() {
            let row = row.as_ref().expect("answered").as_ref().expect("good");
            assert_eq!(row.text, format!("q{i}"));
        }
    }

    pub(super) fn refused(&self) -> Vec<usize> {
        let is = |i: &usize| matches!(self.rows[*i], Some(Err(_)));
        (0..self.rows.len()).filter(is).collect()
    }

    pub(super) fn error(&self) -> String {
        self.end.as_ref().unwrap_err().to_string()
    }
}

pub(super) fn generate(endpoint: &mut Endpoint, n: usize) -> Outcome {
    let mut rows = vec![None; n];
    let began = Instant::now();
    let end = endpoint.generate(&requests(n), &Sampling::default(), &mut |index, row| {
        assert!(rows[index].is_none(), "{index} was answered twice");
        rows[index] = Some(row);
        ControlFlow::Continue(())
    });
    let outcome = Outcome {
        rows,
        end,
        took: began.elapsed(),
    };
    assert_no_secret(&format!(
        "{:?} {:?} {endpoint:?}",
        outcome.rows, outcome.end
    ));
    outcome
}

pub(super) fn assert_no_secret(text: &str) {
    assert!(!text.contains("secret"), "{text}");
}

/// How often each prompt was asked.
pub(super) fn asked(server: &Server, prompt: &str) -> usize {
    let log = server.log();
    log.iter()
        .filter(|request| request.prompt() == prompt)
        .count()
}
