use super::*;
use std::path::PathBuf;

/// The trained model that comes with the repository.
pub(crate) fn stories_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K")
}

/// A copy of its directory with some files changed.
fn changed(change: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(stories_dir()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    change(dir.path());
    dir
}

fn edit(dir: &Path, file: &str, change: impl Fn(&mut Value)) {
    let path = dir.join(file);
    let mut value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

fn complaint(dir: &Path) -> String {
    Description::read(dir)
        .err()
        .expect("must be refused")
        .to_string()
}

#[test]
fn what_is_written_is_the_model_that_was_read_to_the_bit() {
    let description = Description::read(&stories_dir()).unwrap();
    let (weights, hash) = description.read_weights(&stories_dir()).unwrap();
    let out = tempfile::tempdir().unwrap();
    assert_eq!(
        description
            .write(out.path(), &weights.to_f32(), "# card\n")
            .unwrap(),
        hash
    );
    let again = Description::read(out.path()).unwrap();
    let (same, same_hash) = again.read_weights(out.path()).unwrap();
    assert_eq!((same.to_f32(), same_hash), (weights.to_f32(), hash));
    assert_eq!(again.tokenizer.hash(), description.tokenizer.hash());
    for name in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
    ] {
        let bytes = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert_eq!(bytes(out.path()), bytes(&stories_dir()), "{name}");
    }
    assert_eq!(
        fs::read_to_string(out.path().join("README.md")).unwrap(),
        "# card\n"
    );
}

#[test]
fn the_hash_moves_with_a_weight_and_with_a_fact() {
    let description = Description::read(&stories_dir()).unwrap();
    let (mut weights, hash) = description.read_weights(&stories_dir()).unwrap();
    weights.make_f32().values_mut()[7] += 1.0;
    let out = tempfile::tempdir().unwrap();
    assert_ne!(
        description
            .write(out.path(), &weights.to_f32(), "")
            .unwrap(),
        hash
    );
    let dir = changed(|dir| edit(dir, "config.json", |c| c["rms_norm_eps"] = json!(2e-5)));
    let other = Description::read(dir.path())
        .unwrap()
        .read_weights(dir.path())
        .unwrap()
        .1;
    assert_ne!(other, hash);
}

#[test]
fn the_trained_end_token_stops_in_the_written_generation_config() {
    let written = |change: &dyn Fn(&Path)| -> Value {
        let dir = changed(change);
        let description = Description::read(dir.path()).unwrap();
        serde_json::from_slice(&description.generation_config().unwrap()).unwrap()
    };
    let absent = written(&|dir| fs::remove_file(dir.join("generation_config.json")).unwrap());
    assert_eq!(absent, json!({"eos_token_id": 2}));
    let silent = written(&|dir| {
        edit(dir, "generation_config.json", |c| *c = json!({"top_k": 5}));
    });
    assert_eq!(silent, json!({"top_k": 5, "eos_token_id": 2}));
    let listed = written(&|dir| {
        edit(dir, "generation_config.json", |c| {
            c["eos_token_id"] = json!([5, 2])
        });
    });
    assert_eq!(listed["eos_token_id"], json!([5, 2]));
}

#[test]
fn directories_that_are_no_model_are_refused_by_file() {
    assert!(complaint(Path::new("/nowhere")).contains("is not a directory"));
    for file in ["config.json", "tokenizer.json"] {
        let dir = changed(|dir| fs::remove_file(dir.join(file)).unwrap());
        assert!(complaint(dir.path()).contains(file));
        let dir = changed(|dir| fs::write(dir.join(file), "{").unwrap());
        assert!(complaint(dir.path()).contains(file));
    }
    let dir = changed(|dir| edit(dir, "config.json", |c| c["vocab_size"] = json!(100)));
    assert!(complaint(dir.path()).contains("`vocab_size` is 100 and tokenizer.json has 512"));
    let dir = changed(|dir| edit(dir, "config.json", |c| c["num_hidden_layers"] = json!(6)));
    let message = Description::read(dir.path())
        .unwrap()
        .read_weights(dir.path())
        .unwrap_err();
    assert!(
        message.to_string().contains("`model.layers.5."),
        "{message}"
    );
}

#[test]
fn a_chat_template_is_noticed_wherever_it_lies() {
    assert_eq!(
        Description::read(&stories_dir())
            .unwrap()
            .default_template(),
        Template::Raw
    );
    let dir = changed(|dir| fs::write(dir.join("chat_template.jinja"), "{{x}}").unwrap());
    assert_eq!(
        Description::read(dir.path()).unwrap().default_template(),
        Template::Chat
    );
    let dir = changed(|dir| {
        edit(dir, "tokenizer_config.json", |c| {
            c["chat_template"] = json!("x")
        })
    });
    assert_eq!(
        Description::read(dir.path()).unwrap().default_template(),
        Template::Chat
    );
}
