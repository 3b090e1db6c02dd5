//! Downloads that are cut, stalled, stopped, sent elsewhere or wrong.

use super::*;

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

    let mut progress = Vec::new();
    let directory = hub
        .model_with("org/tiny", &mut |done, total| {
            progress.push((done, total));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(progress.last(), Some(&(300_010, 300_010)));
    assert!(progress.is_sorted());
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
        .zip(["is not what the hub lists", "is longer than"])
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
    // Nor is the signed address sent to anybody.
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
        // A hub that lists files in its tree only.
        if request.path.contains("/revision/") {
            return Answer::json(200, &json!({ "sha": SHA }));
        }
        if request.path.starts_with("/api/") {
            assert!(
                request
                    .path
                    .ends_with("/tree/0123456789abcdef0123456789abcdef01234567?recursive=true")
            );
            let entry = |name| json!({"type": "file", "path": name});
            let mut tree: Vec<_> = all.keys().map(entry).collect();
            tree.push(json!({"type": "directory", "path": "onnx.json"}));
            return Answer::json(200, &json!(tree));
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
