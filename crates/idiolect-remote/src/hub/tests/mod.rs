//! The hub against a mock of it that behaves, and against one that does not.

mod downloading;
mod having;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::mock::{Answer, Request, Server};

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
const SECRET: &str = "hf_secret77";

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn git_blob(bytes: &[u8]) -> String {
    use sha1::Digest;
    let head = format!("blob {}\0", bytes.len()).into_bytes();
    let digest = sha1::Sha1::digest([&head[..], bytes].concat());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let weights = (0..300_000u32).map(|i| (i * 7 % 251) as u8).collect();
    [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights),
        ("tokenizer.json", b"{\"a\": 1}".to_vec()),
        ("pytorch_model.bin", b"pickle".to_vec()),
        ("modeling.py", b"import os".to_vec()),
        ("empty.txt", Vec::new()),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn etag(name: &str, bytes: &[u8]) -> String {
    if name.ends_with(".safetensors") || name.ends_with(".parquet") {
        sha256(bytes)
    } else {
        git_blob(bytes)
    }
}

/// The part of a file that is asked for, as a server does that knows ranges.
fn ranged(request: &Request, bytes: &[u8]) -> Answer {
    let range = request.headers.get("range");
    let from = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    match from {
        None => Answer::Reply(200, Vec::new(), bytes.to_vec()),
        Some(from) if from >= bytes.len() => Answer::Reply(416, Vec::new(), Vec::new()),
        Some(from) => {
            let part = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Answer::Reply(206, Vec::new(), bytes[from..].to_vec()).with("content-range", &part)
        }
    }
}

/// A hub of one repository; `get` gives the bytes of large files.
fn hub_of(
    files: BTreeMap<String, Vec<u8>>,
    get: impl Fn(&Request, &[u8]) -> Answer + Send + Sync + 'static,
) -> Server {
    Server::start(move |request| {
        let path = request.path.trim_start_matches("/datasets");
        if let Some(rest) = request.path.strip_prefix("/api/models/org/tiny/revision/") {
            if !["main", SHA, "v1"].contains(&rest) {
                return Answer::json(404, &json!({"error": "Invalid rev id"}));
            }
            let siblings: Vec<_> = files
                .keys()
                .map(|name| json!({"rfilename": name}))
                .collect();
            return Answer::json(200, &json!({"sha": SHA, "siblings": siblings}));
        }
        let name = ["main", "v1", SHA]
            .iter()
            .find_map(|revision| path.strip_prefix(&format!("/org/tiny/resolve/{revision}/")));
        let Some((name, bytes)) = name.and_then(|name| files.get_key_value(name)) else {
            return Answer::json(404, &json!({"error": "not found"}));
        };
        let etag = etag(name, bytes);
        let large = etag.len() == 64;
        if request.method == "HEAD" {
            let size = bytes.len().to_string();
            let head = |status| Answer::Reply(status, Vec::new(), Vec::new());
            return if large {
                head(302)
                    .with("location", "https://cdn.invalid/signed?secret=1")
                    .with("x-linked-etag", &format!("\"{etag}\""))
                    .with("x-linked-size", &size)
                    .with("x-repo-commit", SHA)
            } else {
                head(200)
                    .with("etag", &format!("W/\"{etag}\""))
                    .with("content-length", &size)
                    .with("x-repo-commit", SHA)
            };
        }
        if large {
            get(request, bytes)
        } else {
            ranged(request, bytes)
        }
    })
}

fn at(server: &Server, cache: &Path) -> Hub {
    Hub {
        endpoint: server.url.clone(),
        token: Key::new(SECRET),
        cache: cache.to_owned(),
        offline: false,
        stall_timeout: Duration::from_millis(300),
        attempts: 3,
        backoff: Duration::from_millis(2),
    }
}

fn offline(hub: &Hub) -> Hub {
    Hub {
        offline: true,
        ..hub.clone()
    }
}

fn assert_whole(directory: &Path) {
    for (name, bytes) in files() {
        let wanted = !name.ends_with(".bin") && !name.ends_with(".py");
        let path = directory.join(&name);
        assert_eq!(path.exists(), wanted, "{name}");
        if wanted {
            assert_eq!(fs::read(&path).unwrap(), bytes);
            let target = fs::read_link(&path).unwrap();
            let expected = format!("../../blobs/{}", etag(&name, &bytes));
            assert_eq!(target, Path::new(&expected));
        }
    }
}

/// Names below a folder.
fn names(folder: PathBuf) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .map(|entries| {
            let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
            entries
                .map(|entry| name(entry).into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    names.sort();
    names
}
