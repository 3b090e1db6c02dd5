use super::*;
use std::path::PathBuf;

/// The trained model that comes with the repository.
pub(crate) fn stories_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K")
}

fn read(dir: &Path) -> Result<Description, ModelError> {
    Description::read(dir, None, &[])
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

fn error_of(dir: &Path) -> String {
    read(dir).err().expect("must be refused").to_string()
}

#[test]
fn what_is_written_is_the_model_that_was_read_to_the_bit() {
    let description = read(&stories_dir()).unwrap();
    let (weights, hash) = description.read_weights(&stories_dir()).unwrap();
    let out = tempfile::tempdir().unwrap();
    assert_eq!(
        description
            .write(out.path(), &weights.to_f32(), "# card\n")
            .unwrap(),
        hash
    );
    let again = read(out.path()).unwrap();
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
    let description = read(&stories_dir()).unwrap();
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
    let other = read(dir.path())
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
        let description = read(dir.path()).unwrap();
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
    assert!(error_of(Path::new("/nowhere")).contains("is not a directory"));
    for file in ["config.json", "tokenizer.json"] {
        let dir = changed(|dir| fs::remove_file(dir.join(file)).unwrap());
        assert!(error_of(dir.path()).contains(file));
        let dir = changed(|dir| fs::write(dir.join(file), "{").unwrap());
        assert!(error_of(dir.path()).contains(file));
    }
    let dir = changed(|dir| edit(dir, "config.json", |c| c["vocab_size"] = json!(100)));
    assert!(error_of(dir.path()).contains("`vocab_size` is 100 and tokenizer.json has 512"));
    let dir = changed(|dir| edit(dir, "config.json", |c| c["num_hidden_layers"] = json!(6)));
    let message = read(dir.path())
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
        read(&stories_dir()).unwrap().default_template(),
        Template::Raw
    );
    let dir = changed(|dir| fs::write(dir.join("chat_template.jinja"), "{{x}}").unwrap());
    assert_eq!(read(dir.path()).unwrap().default_template(), Template::Chat);
    let dir = changed(|dir| {
        edit(dir, "tokenizer_config.json", |c| {
            c["chat_template"] = json!("x")
        })
    });
    assert_eq!(read(dir.path()).unwrap().default_template(), Template::Chat);
}

/// Adds an `lm_head.weight` to the weights: the embedding with its first value changed by `by`.
fn add_head(dir: &Path, by: f32) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let held = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let embedding = held.tensor("model.embed_tokens.weight").unwrap();
    assert_eq!(embedding.dtype(), safetensors::Dtype::F32);
    let mut head = embedding.data().to_vec();
    let first = f32::from_le_bytes(head[..4].try_into().unwrap()) + by;
    head[..4].copy_from_slice(&first.to_le_bytes());
    let head = safetensors::tensor::TensorView::new(
        safetensors::Dtype::F32,
        embedding.shape().to_vec(),
        &head,
    )
    .unwrap();
    let mut tensors = held.tensors();
    tensors.push(("lm_head.weight".to_owned(), head));
    let bytes = safetensors::serialize(tensors, None).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_head_that_differs_from_the_embedding_is_kept_and_the_written_config_says_so() {
    let dir = changed(|dir| add_head(dir, 1.0));
    let mut description = read(dir.path()).unwrap();
    assert!(description.config.model.tied);
    description.follow_head(dir.path()).unwrap();
    assert!(!description.config.model.tied);
    let (weights, hash) = description.read_weights(dir.path()).unwrap();
    let weights = weights.to_f32();
    let (head, embedding) = (
        weights.get("lm_head.weight").unwrap(),
        weights.get("model.embed_tokens.weight").unwrap(),
    );
    assert_eq!(head[0], embedding[0] + 1.0);
    assert_eq!(head[1..], embedding[1..]);
    let out = tempfile::tempdir().unwrap();
    description.write(out.path(), &weights, "").unwrap();
    let mut again = read(out.path()).unwrap();
    assert!(!again.config.model.tied);
    again.follow_head(out.path()).unwrap();
    assert_eq!(again.read_weights(out.path()).unwrap().1, hash);
}

#[test]
fn a_second_copy_of_the_embedding_stays_tied() {
    let dir = changed(|dir| add_head(dir, 0.0));
    let mut description = read(dir.path()).unwrap();
    description.follow_head(dir.path()).unwrap();
    let (_, hash) = description.read_weights(dir.path()).unwrap();
    let plain = read(&stories_dir()).unwrap();
    assert_eq!(hash, plain.read_weights(&stories_dir()).unwrap().1);
}

#[test]
fn a_git_lfs_pointer_is_told_from_a_damaged_file() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4cac19622fc3ada9c0fdeadb33f88f367b541f38b89102a3f1261ac81fd5bcb5\nsize 5120\n";
    for file in ["config.json", "tokenizer.json", "generation_config.json"] {
        let dir = changed(|dir| fs::write(dir.join(file), pointer).unwrap());
        let message = error_of(dir.path());
        assert!(
            message.contains(file)
                && message.contains("Git LFS")
                && message.contains("git lfs pull"),
            "{message}"
        );
    }
    let dir = changed(|dir| fs::write(dir.join("model.safetensors"), pointer).unwrap());
    let description = read(dir.path()).unwrap();
    let message = description
        .read_weights(dir.path())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("model.safetensors") && message.contains("Git LFS"),
        "{message}"
    );
}

#[test]
fn a_missing_tokenizer_says_how_to_come_by_one() {
    let dir = changed(|dir| fs::remove_file(dir.join("tokenizer.json")).unwrap());
    assert!(error_of(dir.path()).contains("hf download"));
    fs::write(dir.path().join("tokenizer.model"), "x").unwrap();
    let message = error_of(dir.path());
    assert!(
        message.contains("tokenizer.model") && message.contains("save_pretrained"),
        "{message}"
    );
}
