//! What is had from the cache, what the hub does not give, and what the environment sets.

use super::*;

#[test]
fn offline_the_cache_serves_or_says_what_is_missing() {
    let server = hub_of(files(), ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let offline = offline(&hub);
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

#[test]
fn the_text_side_comes_without_weights_and_is_no_whole_model() {
    let server = hub_of(files(), ranged);
    let folder = tempfile::tempdir().unwrap();
    let hub = at(&server, folder.path());
    let offline = offline(&hub);
    let directory = hub.text_side("org/tiny").unwrap();
    assert_eq!(
        names(directory.clone()),
        ["config.json", "empty.txt", "tokenizer.json"]
    );
    assert_eq!(offline.text_side("org/tiny").unwrap(), directory);
    assert!(matches!(
        offline.model("org/tiny"),
        Err(HubError::Offline(_))
    ));
    assert!(
        server
            .log()
            .iter()
            .all(|r| !r.path.ends_with(".safetensors") || r.method == "HEAD")
    );
    assert_whole(&hub.model("org/tiny").unwrap());
}
