//! The hub against a mock of it that behaves, and against one that does not.

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

#[test]
fn a_model_is_downloaded_once_in_the_usual_layout() {
    let server = hub_of(files(), ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let plan = hub.plan("org/tiny").unwrap();
    assert_eq!(plan.commit, SHA);
    assert_eq!(
        (plan.total_bytes(), plan.missing_bytes()),
        (300_010, 300_010)
    );
    assert!(!folder.path().join("models--org--tiny").exists());

    let mut told = Vec::new();
    let directory = hub
        .model_with("org/tiny", &mut |done, total| {
            told.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(told.last(), Some(&(300_010, 300_010)));
    assert!(told.is_sorted());
    let own = folder.path().join("models--org--tiny");
    assert_eq!(directory, own.join("snapshots").join(SHA));
    assert_whole(&directory);
    assert_eq!(fs::read_to_string(own.join("refs/main")).unwrap(), SHA);
    assert_eq!(hub.plan("org/tiny").unwrap().missing_bytes(), 0);

    let gets = || {
        server
            .log()
            .iter()
            .filter(|r| r.path.contains("resolve") && r.method == "GET")
            .count()
    };
    let before = gets();
    assert_eq!(hub.model("org/tiny@v1").unwrap(), directory);
    assert_eq!(gets(), before);
    assert_eq!(fs::read_to_string(own.join("refs/v1")).unwrap(), SHA);
    for request in server.log() {
        assert_eq!(request.headers["authorization"], format!("Bearer {SECRET}"));
    }
}

#[test]
fn cut_and_stalled_downloads_are_continued() {
    let times = AtomicUsize::new(0);
    let server = hub_of(files(), move |request, bytes| {
        let head = |from: usize| {
            let status = if from == 0 { "200 OK" } else { "206 Partial" };
            let (n, end) = (bytes.len() - from, bytes.len() - 1);
            format!(
                "HTTP/1.1 {status}\r\ncontent-length: {n}\r\ncontent-range: bytes {from}-{end}/{}\r\n\r\n",
                bytes.len()
            )
        };
        match times.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Raw([head(0).as_bytes(), &bytes[..100_000]].concat()),
            1 => {
                assert_eq!(request.headers["range"], "bytes=100000-");
                let part = [head(100_000).as_bytes(), &bytes[100_000..150_000]].concat();
                Answer::Stall(part, Duration::from_millis(800))
            }
            2 => Answer::Raw(Vec::new()),
            3 => Answer::Reply(503, Vec::new(), Vec::new()),
            _ => {
                assert_eq!(request.headers["range"], "bytes=150000-");
                ranged(request, bytes)
            }
        }
    });
    let folder = tempfile::tempdir().unwrap();
    assert_whole(&at(&server, folder.path()).model("org/tiny").unwrap());
}

#[test]
fn a_stopped_download_is_continued_by_the_next() {
    let server = hub_of(files(), ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let stopped = hub.model_with("org/tiny", &mut |done, _| {
        if done > 50 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert!(matches!(stopped, Err(HubError::Stopped)), "{stopped:?}");
    let own = folder.path().join("models--org--tiny");
    let cut = names(own.join("blobs"));
    assert!(
        cut.iter().any(|name| name.ends_with(".incomplete")),
        "{cut:?}"
    );
    assert!(names(own.join("refs")).is_empty());
    let plan = hub.plan("org/tiny").unwrap();
    assert!(plan.missing_bytes() < plan.total_bytes());
    assert_whole(&hub.model("org/tiny").unwrap());
    let ranges = server
        .log()
        .iter()
        .filter(|r| r.headers.contains_key("range"))
        .count();
    assert_eq!(ranges, 1);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let server = hub_of(files(), |_, bytes| {
        Answer::Reply(200, Vec::new(), bytes.to_vec())
    });
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let name = etag("model.safetensors", &files()["model.safetensors"]);
    fs::write(blobs.join(format!("{name}.incomplete")), b"rubbish").unwrap();
    assert_whole(&at(&server, folder.path()).model("org/tiny").unwrap());
}

#[test]
fn rubbish_from_before_is_found_by_its_checksum_and_replaced() {
    let server = hub_of(files(), ranged);
    for rubbish in [1000, 300_000, 400_000] {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("models--org--tiny/blobs");
        fs::create_dir_all(&blobs).unwrap();
        let name = etag("model.safetensors", &files()["model.safetensors"]);
        fs::write(blobs.join(format!("{name}.incomplete")), vec![9; rubbish]).unwrap();
        assert_whole(&at(&server, folder.path()).model("org/tiny").unwrap());
    }
}

#[test]
fn files_with_a_wrong_checksum_or_size_are_refused_and_removed() {
    let wrong: [fn(&[u8]) -> Answer; 2] = [
        |bytes| Answer::Reply(200, Vec::new(), vec![1; bytes.len()]),
        |bytes| Answer::Reply(200, Vec::new(), vec![1; bytes.len() + 5]),
    ];
    for (wrong, expected) in wrong
        .into_iter()
        .zip(["is not what the hub says", "is longer than"])
    {
        let server = hub_of(files(), move |_, bytes| wrong(bytes));
        let folder = tempfile::tempdir().unwrap();
        let error = at(&server, folder.path()).model("org/tiny").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("model.safetensors"), "{error}");
        let own = folder.path().join("models--org--tiny");
        let large = etag("model.safetensors", &files()["model.safetensors"]);
        assert!(!own.join("blobs").join(&large).exists());
        let left = fs::metadata(own.join(format!("blobs/{large}.incomplete")));
        assert_eq!(left.map_or(0, |file| file.len()), 0);
        assert!(names(own.join("refs")).is_empty());
    }
}

#[test]
fn the_token_does_not_follow_a_redirect_to_another_server() {
    let bytes = files()["model.safetensors"].clone();
    let cdn = Arc::new(Server::start(move |request| ranged(request, &bytes)));
    let url = format!("{}/signed?secret=1", cdn.url);
    let server = hub_of(files(), move |_, _| {
        Answer::Reply(302, vec![("location", url.clone())], Vec::new())
    });
    let folder = tempfile::tempdir().unwrap();
    assert_whole(&at(&server, folder.path()).model("org/tiny").unwrap());
    let log = cdn.log();
    assert_eq!(log.len(), 1);
    assert!(!log[0].headers.contains_key("authorization"));
    // Nor is the signed address told to anybody.
    cdn.stop();
    let folder = tempfile::tempdir().unwrap();
    let error = at(&server, folder.path()).model("org/tiny").unwrap_err();
    assert!(
        !format!("{error} {error:?}").contains("secret"),
        "{error:?}"
    );
}

#[test]
fn renamed_repositories_are_followed_within_the_hub() {
    let all = files();
    let server = Server::start(move |request| {
        if request.path.contains("/org/old") {
            let new = request.path.replace("/org/old", "/org/tiny");
            return Answer::Reply(307, vec![("location", new)], Vec::new());
        }
        if request.path.starts_with("/api/") {
            let siblings: Vec<_> = all.keys().map(|name| json!({"rfilename": name})).collect();
            return Answer::json(200, &json!({"sha": SHA, "siblings": siblings}));
        }
        let name = request.path.rsplit('/').next().unwrap();
        let bytes = &all[name];
        match ranged(request, bytes) {
            Answer::Reply(status, headers, body) => Answer::Reply(status, headers, body)
                .with("etag", &format!("\"{}\"", etag(name, bytes))),
            other => other,
        }
    });
    let folder = tempfile::tempdir().unwrap();
    assert_whole(&at(&server, folder.path()).model("org/old").unwrap());
}

#[test]
fn offline_the_cache_serves_or_says_what_is_missing() {
    let server = hub_of(files(), ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let offline = Hub {
        offline: true,
        ..hub.clone()
    };
    for error in [
        offline.model("org/tiny").unwrap_err(),
        offline.plan("org/tiny").unwrap_err(),
        offline.dataset_file("org/tiny/a.parquet").unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains("`org/tiny`") && text.contains("HF_HUB_OFFLINE"),
            "{text}"
        );
    }
    let directory = hub.model("org/tiny").unwrap();
    let before = server.log().len();
    assert_eq!(offline.model("org/tiny").unwrap(), directory);
    assert_eq!(
        offline.model(&format!("org/tiny@{SHA}")).unwrap(),
        directory
    );
    assert!(offline.model("org/tiny@v1").is_err());
    assert_eq!(server.log().len(), before);
    // Without a connection it is as if offline.
    server.stop();
    assert_eq!(hub.model("org/tiny").unwrap(), directory);
    let error = hub.model("org/other").unwrap_err();
    assert!(matches!(error, HubError::Unreachable(_)), "{error}");
    // A copy that lacks its weights is none.
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    assert!(matches!(
        offline.model("org/tiny"),
        Err(HubError::Offline(_))
    ));
}

#[test]
fn a_cache_that_python_wrote_is_read() {
    // As `snapshot_download` leaves a sharded model.
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("models--org--big");
    let snapshot = own.join("snapshots").join(SHA);
    for path in [own.join("blobs"), own.join("refs"), snapshot.clone()] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(own.join("refs/main"), SHA).unwrap();
    let index = json!({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}});
    let put = |name: &str, bytes: &[u8]| {
        let etag = etag(name, bytes);
        fs::write(own.join("blobs").join(&etag), bytes).unwrap();
        std::os::unix::fs::symlink(format!("../../blobs/{etag}"), snapshot.join(name)).unwrap();
    };
    put("config.json", b"{}");
    put("model.safetensors.index.json", index.to_string().as_bytes());
    put("model-1.safetensors", b"one");
    let server = Server::start(|_| Answer::Raw(Vec::new()));
    let offline = Hub {
        offline: true,
        ..at(&server, folder.path())
    };
    assert!(offline.model("org/big").is_err());
    put("model-2.safetensors", b"two");
    assert_eq!(offline.model("org/big").unwrap(), snapshot);
    assert!(server.log().is_empty());
}

#[test]
fn what_the_hub_does_not_give_is_said_with_what_to_do() {
    let status = Arc::new(AtomicUsize::new(401));
    let given = Arc::clone(&status);
    let server = Server::start(move |request| {
        let status = given.load(Ordering::SeqCst) as u16;
        let sent = request.headers.get("authorization").cloned();
        Answer::json(status, &json!({ "error": sent })).with("x-error-code", "GatedRepo")
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let open = Hub {
        token: None,
        ..hub.clone()
    };
    let text = open.model("org/gated").unwrap_err().to_string();
    assert!(
        text.contains("accept its licence on its page and set HF_TOKEN"),
        "{text}"
    );
    let text = hub.model("org/gated").unwrap_err().to_string();
    assert!(text.contains("the account that HF_TOKEN is of"), "{text}");
    assert!(!format!("{text} {hub:?}").contains("secret"));
    status.store(404, Ordering::SeqCst);
    let text = hub.model("org/none@v9").unwrap_err().to_string();
    assert!(text.contains("`org/none` at revision `v9`"), "{text}");
    status.store(503, Ordering::SeqCst);
    let text = hub.model("org/none").unwrap_err().to_string();
    assert!(text.contains("status 503"), "{text}");
}

#[test]
fn two_downloads_of_one_model_do_the_work_once() {
    let server = hub_of(files(), |request, bytes| {
        Answer::Late(Duration::from_millis(60), Box::new(ranged(request, bytes)))
    });
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_whole(&hub.model("org/tiny").unwrap()));
        }
    });
    let is_weights = |r: &&Request| r.method == "GET" && r.path.ends_with("model.safetensors");
    assert_eq!(server.log().iter().filter(is_weights).count(), 1);
}

#[test]
fn a_file_of_a_data_set_is_downloaded() {
    let rows: Vec<u8> = (0..9999).map(|i| (i % 250) as u8).collect();
    let all = [("main/test.parquet".to_owned(), rows.clone())].into();
    let server = hub_of(all, ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let file = hub.dataset_file("org/tiny@v1/main/test.parquet").unwrap();
    assert_eq!(fs::read(&file).unwrap(), rows);
    let own = folder.path().join("datasets--org--tiny");
    assert_eq!(file, own.join(format!("snapshots/{SHA}/main/test.parquet")));
    let target = format!("../../../blobs/{}", sha256(&rows));
    assert_eq!(fs::read_link(&file).unwrap(), Path::new(&target));
    let text = hub
        .dataset_file("org/tiny/none.csv")
        .unwrap_err()
        .to_string();
    assert!(text.contains("`none.csv` of data set `org/tiny`"), "{text}");
    server.stop();
    assert_eq!(
        hub.dataset_file("org/tiny@v1/main/test.parquet").unwrap(),
        file
    );
}

#[test]
fn a_full_disk_is_known_before_the_download() {
    let server = Server::start(|request| {
        if request.path.starts_with("/api/") {
            let siblings =
                json!([{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]);
            return Answer::json(200, &json!({"sha": SHA, "siblings": siblings}));
        }
        Answer::Reply(200, Vec::new(), Vec::new())
            .with("x-linked-etag", &"a".repeat(64))
            .with("x-linked-size", "4000000000000000")
    });
    let folder = tempfile::tempdir().unwrap();
    let error = at(&server, folder.path()).model("org/huge").unwrap_err();
    assert!(matches!(error, HubError::NoRoom { .. }), "{error}");
    assert!(
        server
            .log()
            .iter()
            .all(|r| r.method == "HEAD" || r.path.starts_with("/api/"))
    );
}

#[test]
fn a_repository_without_safe_weights_and_names_that_lead_elsewhere_are_refused() {
    let server = Server::start(|_| {
        let siblings =
            json!([{"rfilename": "pytorch_model.bin"}, {"rfilename": "../../x.safetensors"}]);
        Answer::json(200, &json!({"sha": SHA, "siblings": siblings}))
    });
    let folder = tempfile::tempdir().unwrap();
    let text = at(&server, folder.path())
        .model("org/old")
        .unwrap_err()
        .to_string();
    assert!(text.contains("it has `pytorch_model.bin`"), "{text}");
    let evil = Server::start(|_| Answer::json(200, &json!({"sha": "../..", "siblings": []})));
    assert!(matches!(
        at(&evil, folder.path()).model("a/b"),
        Err(HubError::Invalid(_))
    ));
}

#[test]
fn the_environment_says_where_and_how() {
    let of = |set: &[(&str, &str)]| {
        let set: BTreeMap<String, String> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Hub::from_variables(|name| set.get(name).cloned())
    };
    let plain = of(&[("HOME", "/home/me")]);
    assert_eq!(plain.endpoint, "https://huggingface.co");
    assert_eq!(plain.cache, Path::new("/home/me/.cache/huggingface/hub"));
    assert!(!plain.offline && plain.token.is_none());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "hf_file\n").unwrap();
    let home = folder.path().to_str().unwrap();
    let set = of(&[
        ("HF_HOME", home),
        ("HF_ENDPOINT", "http://127.0.0.1:1/"),
        ("HF_HUB_OFFLINE", "true"),
    ]);
    assert_eq!(set.cache, folder.path().join("hub"));
    assert_eq!(
        (set.endpoint.as_str(), set.offline),
        ("http://127.0.0.1:1", true)
    );
    assert_eq!(set.token, Key::new("hf_file"));
    let set = of(&[
        ("HF_HOME", home),
        ("HF_TOKEN", "hf_own"),
        ("HF_HUB_CACHE", "/c"),
    ]);
    assert_eq!(
        (set.token, set.cache),
        (Key::new("hf_own"), PathBuf::from("/c"))
    );
    assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline);
    let hub = Hub {
        endpoint: "http://me:hunter2@127.0.0.1:1".to_owned(),
        ..plain
    };
    let text = hub.model("a/b").unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "{text}");
}
