//! A damaged or lying model directory is refused with the file and the tensor or field by name;
//! it never panics, and allocates nothing by what it claims.

use std::fs;
use std::path::Path;

use idiolect_engine::local::LocalModel;
use idiolect_model::Template;
use serde_json::{Value, json};

use crate::fixture::path;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const GATE: &str = "model.layers.1.mlp.gate_proj.weight";

/// The message of loading a changed copy of the small trained model.
fn error_of(change: impl Fn(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(path("stories260K")).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    change(dir.path());
    match LocalModel::load(dir.path(), Some(Template::Raw), 1) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refuses(change: impl Fn(&Path), parts: &[&str]) {
    let message = error_of(change);
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

/// The header and the data of the weights.
fn split(dir: &Path) -> (Value, Vec<u8>) {
    let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    (header, bytes[8 + len..].to_vec())
}

fn join(file: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(file, bytes).unwrap();
}

/// Changes the header alone.
fn header(change: impl Fn(&mut Value)) -> impl Fn(&Path) {
    move |dir| {
        let (mut header, data) = split(dir);
        change(&mut header);
        join(&dir.join(WEIGHTS), &header, &data);
    }
}

fn field(file: &'static str, name: &'static str, value: Value) -> impl Fn(&Path) {
    move |dir| {
        let path = dir.join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[name] = value.clone();
        fs::write(path, json.to_string()).unwrap();
    }
}

/// Moves the weights into one shard, and names it in an index as `change` leaves it.
fn sharded(change: impl Fn(&mut Value)) -> impl Fn(&Path) {
    move |dir| {
        let (header, _) = split(dir);
        let names = header.as_object().unwrap().keys();
        let mut map: Value = names
            .filter(|name| *name != "__metadata__")
            .map(|name| (name.clone(), json!("model-00001-of-00001.safetensors")))
            .collect();
        fs::rename(
            dir.join(WEIGHTS),
            dir.join("model-00001-of-00001.safetensors"),
        )
        .unwrap();
        change(&mut map);
        fs::write(dir.join(INDEX), json!({"weight_map": map}).to_string()).unwrap();
    }
}

#[test]
fn the_unchanged_directory_loads_whole_and_in_shards() {
    assert_eq!(error_of(|_| ()), "");
    assert_eq!(error_of(sharded(|_| ())), "");
}

#[test]
fn weights_that_are_cut_off_or_lie_about_their_size_are_named() {
    for keep in [0, 5, 8, 100, 20_000, 500_000] {
        let cut = move |dir: &Path| {
            let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
            fs::write(dir.join(WEIGHTS), &bytes[..keep]).unwrap();
        };
        refuses(cut, &[WEIGHTS]);
    }
    for claimed in [u64::MAX, 1 << 50, 90_000_000] {
        let lie = move |dir: &Path| {
            let mut bytes = fs::read(dir.join(WEIGHTS)).unwrap();
            bytes[..8].copy_from_slice(&claimed.to_le_bytes());
            fs::write(dir.join(WEIGHTS), bytes).unwrap();
        };
        refuses(lie, &[WEIGHTS, "claims a header of"]);
    }
    refuses(
        header(|h| h[GATE]["data_offsets"] = json!([0, 4 * 64 * 172])),
        &[WEIGHTS, "overlaps another"],
    );
    refuses(
        header(|h| h[GATE]["shape"] = json!([1u64 << 40, 1u64 << 40])),
        &[WEIGHTS, GATE, "impossible shape"],
    );
    refuses(
        header(|h| h[GATE]["shape"] = json!([64, 172])),
        &[WEIGHTS, GATE, "[64, 172]", "[172, 64]"],
    );
    refuses(
        header(|h| h[GATE]["dtype"] = json!("I32")),
        &[WEIGHTS, GATE, "I32", "F32, BF16, F16"],
    );
}

#[test]
fn weights_that_are_not_those_of_the_model_are_named() {
    let damaged = |dir: &Path| {
        let (header, mut data) = split(dir);
        let at = header[GATE]["data_offsets"][0].as_u64().unwrap() as usize + 40;
        data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        join(&dir.join(WEIGHTS), &header, &data);
    };
    refuses(damaged, &[WEIGHTS, GATE, "NaN at index 10"]);
    let renamed = |h: &mut Value| {
        let map = h.as_object_mut().unwrap();
        let tensor = map.shift_remove(GATE).unwrap();
        map.insert("model.layers.1.mlp.gate.weight".to_owned(), tensor);
    };
    refuses(
        header(renamed),
        &[
            WEIGHTS,
            "model.layers.1.mlp.gate.weight",
            "not part of the model",
        ],
    );
    let missing = |dir: &Path| {
        let (mut header, mut data) = split(dir);
        let map = header.as_object_mut().unwrap();
        let end = data.len() as u64;
        let last = map.iter().find(|(_, t)| t["data_offsets"][1] == end);
        let name = last.unwrap().0.clone();
        let tensor = map.shift_remove(&name).unwrap();
        data.truncate(tensor["data_offsets"][0].as_u64().unwrap() as usize);
        join(&dir.join(WEIGHTS), &header, &data);
    };
    refuses(missing, &[WEIGHTS, "is missing; expected shape"]);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_named() {
    let gone = |dir: &Path| {
        sharded(|_| ())(dir);
        fs::remove_file(dir.join("model-00001-of-00001.safetensors")).unwrap();
    };
    refuses(gone, &["model-00001-of-00001.safetensors"]);
    refuses(
        sharded(|map| map["extra"] = json!("model-00001-of-00001.safetensors")),
        &[INDEX, "`extra`", "and is not"],
    );
    refuses(
        sharded(|map| {
            map.as_object_mut().unwrap().shift_remove(GATE);
        }),
        &[INDEX, GATE, "the index does not list it there"],
    );
    refuses(
        sharded(|map| map[GATE] = json!("../elsewhere.safetensors")),
        &[INDEX, GATE, "not a plain file name"],
    );
}

#[test]
fn a_config_of_another_model_or_of_absurd_sizes_is_named() {
    let config = |name, value| field("config.json", name, value);
    refuses(
        config("vocab_size", json!(1u64 << 60)),
        &["config.json", "vocab"],
    );
    refuses(
        config("vocab_size", json!(16_000_000)),
        &[WEIGHTS, "model.embed_tokens.weight"],
    );
    refuses(
        config("num_hidden_layers", json!(4000)),
        &[WEIGHTS, "4000 layers"],
    );
    refuses(
        config("hidden_size", json!(1 << 25)),
        &["config.json", "`hidden`"],
    );
    refuses(
        config("hidden_size", json!(1 << 20)),
        &[WEIGHTS, "model.embed_tokens.weight"],
    );
    refuses(
        config("rms_norm_eps", json!(1e-60)),
        &["config.json", "norm_eps"],
    );
    refuses(
        config("model_type", json!("mamba")),
        &["config.json", "mamba"],
    );
    refuses(
        |dir| fs::write(dir.join("config.json"), "[".repeat(100_000)).unwrap(),
        &["config.json"],
    );
}

#[test]
fn a_tokenizer_that_is_not_the_models_is_named() {
    refuses(
        field("config.json", "vocab_size", json!(300)),
        &["config.json", "300", "512 tokens"],
    );
    refuses(
        field("generation_config.json", "eos_token_id", json!(4000)),
        &["eos_token_id", "4000"],
    );
    refuses(
        |dir| fs::remove_file(dir.join("tokenizer.json")).unwrap(),
        &["tokenizer.json"],
    );
    refuses(
        |dir| {
            let bytes = fs::read(dir.join("tokenizer.json")).unwrap();
            fs::write(dir.join("tokenizer.json"), &bytes[..bytes.len() / 2]).unwrap();
        },
        &["tokenizer.json", "not JSON"],
    );
}
