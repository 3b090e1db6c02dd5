//! A web server of the tests' own, on a free port of this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What came in.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    /// What a completion is asked to follow.
    pub(crate) fn prompt(&self) -> String {
        let turn = &self.body["messages"][0]["content"];
        let prompt = turn.as_str().or_else(|| self.body["prompt"].as_str());
        prompt.unwrap_or_default().to_owned()
    }
}

/// Status, further header lines and body.
pub(crate) type Answer = (u16, String, Vec<u8>);

pub(crate) struct Web {
    pub(crate) url: String,
    /// Method, path and head of each request.
    pub(crate) seen: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Web {
    /// Serves until the test's process ends.
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let seen = (
                        request.method.clone(),
                        request.path.clone(),
                        request.head.clone(),
                    );
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push(seen);
                    drop(log);
                    give(stream, &request, answer(&request));
                });
            }
        });
        Self { url, seen }
    }

    pub(crate) fn count(&self, wanted: impl Fn(&str, &str) -> bool) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|(method, path, _)| wanted(method, path))
            .count()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|n| *n > 0)?;
    }
    let mut words = head.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    Some(Request {
        method,
        path,
        head,
        body,
    })
}

fn give(mut stream: TcpStream, request: &Request, (status, headers, body): Answer) {
    let length = match request.method.as_str() {
        "HEAD" => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{length}{headers}\r\n");
    // A client that was killed does not wait for its answer.
    let _ = stream.write_all(head.as_bytes());
    if request.method != "HEAD" {
        let _ = stream.write_all(&body);
    }
}

pub(crate) fn document(value: &Value) -> Answer {
    (200, String::new(), value.to_string().into_bytes())
}

/// A chat server of the model `teacher`.
pub(crate) fn teacher(say: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Web {
    Web::start(move |request| match request.path.as_str() {
        "/v1/models" => document(&json!({"data": [{"id": "teacher", "object": "model"}]})),
        _ => say(request),
    })
}

pub(crate) fn chat(text: &str) -> Answer {
    let message = json!({"role": "assistant", "content": text});
    document(&json!({
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }))
}

/// A commit of every repository of [`hub`].
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub of the files by `models/OWNER/NAME/FILE` and `datasets/OWNER/NAME/FILE`.
pub(crate) fn hub(files: BTreeMap<String, Vec<u8>>) -> Web {
    Web::start(move |request| hub_answer(&files, request))
}

fn hub_answer(files: &BTreeMap<String, Vec<u8>>, request: &Request) -> Answer {
    let absent = || (404, String::new(), b"{}".to_vec());
    if let Some(rest) = request.path.strip_prefix("/api/") {
        let Some((repo, _)) = rest.split_once("/revision/") else {
            return absent();
        };
        let within = format!("{repo}/");
        let names = files.keys().filter_map(|name| name.strip_prefix(&within));
        let siblings: Vec<Value> = names.map(|name| json!({ "rfilename": name })).collect();
        return match siblings.is_empty() {
            true => absent(),
            false => document(&json!({"sha": COMMIT, "siblings": siblings})),
        };
    }
    let Some((repo, rest)) = request.path.split_once("/resolve/") else {
        return absent();
    };
    let repo = repo.trim_start_matches('/');
    let repo = match repo.starts_with("datasets/") {
        true => repo.to_owned(),
        false => format!("models/{repo}"),
    };
    let file = rest.split_once('/').map_or("", |(_, file)| file);
    let Some(bytes) = files.get(&format!("{repo}/{file}")) else {
        return absent();
    };
    let hash: String = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let headers = format!(
        "x-linked-etag: \"{hash}\"\r\nx-linked-size: {}\r\nx-repo-commit: {COMMIT}\r\n",
        bytes.len()
    );
    (200, headers, bytes.clone())
}

/// The files of a folder, each below `prefix`.
pub(crate) fn files_of(folder: &str, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (format!("{prefix}/{name}"), std::fs::read(&path).unwrap())
        })
        .collect()
}
