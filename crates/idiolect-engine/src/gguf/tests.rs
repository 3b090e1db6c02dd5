//! Whole files, read again.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::metadata::{Metadata, metadata};
use super::reader::{File, read};
use super::vocabulary::{Files, vocabulary};
use super::{Entry, Value, head, tensors};
use crate::bpe::learn_bpe;
use crate::config::Config;
use crate::directory::tests::stories_dir;
use crate::files::parse_json;
use crate::frozen::Weights;
use crate::local::LocalModel;
use crate::parameters::Layout;
use crate::tokenizer::Tokenizer;
use crate::weights::{Dtype, WeightFiles};

fn parity(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/parity")
        .join(name)
}

fn config(name: &str) -> serde_json::Value {
    let path = parity(name).join("config.json");
    parse_json(&path, &std::fs::read(&path).unwrap()).unwrap()
}

/// A parity model as a file without a tokenizer.
fn file(name: &str, dtype: Dtype) -> (File, Metadata, Weights) {
    let config = Config::read(&config(name)).unwrap();
    let (parameters, _) = WeightFiles::open(&parity(name))
        .unwrap()
        .read(&config.model)
        .unwrap();
    let weights = Weights::from(parameters);
    let metadata = metadata(&config).unwrap();
    let layout = Layout::new(&config.model);
    let planned = tensors::planned(&config.model, layout.tensors(), &metadata, dtype);
    let mut bytes = head(&metadata.entries, planned.iter().map(|one| &one.listed));
    tensors::write(&mut bytes, &weights, &planned).unwrap();
    (read(&bytes), metadata, weights)
}

fn values<'a>(weights: &'a Weights, name: &str) -> &'a [f32] {
    match weights {
        Weights::F32(parameters) => parameters.get(name).unwrap(),
        Weights::Bf16(_) => panic!("read in f32"),
    }
}

#[test]
fn every_family_has_its_tensors_and_entries() {
    for (name, arch, tensors) in [
        // Embedding and final norm; nine a layer (bias, norms of heads and of outputs more); a head
        // where it is not the embedding; rotary factors.
        ("llama", "llama", 2 + 3 * 9 + 2),
        ("mistral", "llama", 2 + 3 * 9 + 1),
        ("qwen3", "qwen3", 2 + 3 * 11),
        ("gemma2", "gemma2", 2 + 3 * 11),
        ("gemma3", "gemma3", 2 + 3 * 13),
    ] {
        let (file, _, _) = file(name, Dtype::F32);
        assert_eq!(file.tensors.len(), tensors, "{name}");
        let entry = |name: &str| &file.entries[&format!("{arch}.{name}")];
        let config = Config::read(&config(name)).unwrap().model;
        assert_eq!(
            file.entries["general.architecture"],
            Value::Text(arch.into())
        );
        assert_eq!(entry("block_count"), &Value::U32(3));
        assert_eq!(
            entry("attention.key_length"),
            &Value::U32(config.head_dim as u32)
        );
        assert_eq!(
            entry("rope.freq_base"),
            &Value::F32(config.rope.theta as f32)
        );
        let (shape, ..) = &file.tensors["blk.2.attn_k.weight"];
        let wanted = [config.kv_heads * config.head_dim, config.hidden];
        assert_eq!(shape, &wanted, "{name}");
    }
}

#[test]
fn the_halves_of_a_llamas_heads_take_turns_and_of_no_other() {
    let (file, _, weights) = file("llama", Dtype::F32);
    let width = 24;
    for (tensor, name) in [("attn_q", "q_proj"), ("attn_k", "k_proj")] {
        let (_, _, written) = &file.tensors[&format!("blk.1.{tensor}.weight")];
        let own = values(&weights, &format!("model.layers.1.self_attn.{name}.weight"));
        for (at, row) in written.chunks(width).enumerate() {
            let (head, within) = (at / 8, at % 8);
            let from = head * 8 + [0, 4, 1, 5, 2, 6, 3, 7][within];
            assert_eq!(row, &own[from * width..][..width], "{tensor}, row {at}");
        }
    }
    let (_, _, written) = &file.tensors["blk.1.attn_v.weight"];
    assert_eq!(
        written,
        values(&weights, "model.layers.1.self_attn.v_proj.weight")
    );
    let (qwen, _, weights) = self::file("qwen3", Dtype::F32);
    let (_, _, written) = &qwen.tensors["blk.1.attn_q.weight"];
    assert_eq!(
        written,
        values(&weights, "model.layers.1.self_attn.q_proj.weight")
    );
}

#[test]
fn rotary_scaling_of_llama_3_is_a_tensor_of_factors() {
    let (file, _, _) = file("llama", Dtype::F32);
    let (_, dtype, factors) = &file.tensors["rope_freqs.weight"];
    assert_eq!(*dtype, Dtype::F32);
    // As llama.cpp's converter states them: factor 4 above wavelength 32, 1 below 32 / 4.
    let wanted: Vec<f64> = (0..4)
        .map(|i| {
            let wavelength = std::f64::consts::TAU * 50_f64.powf(f64::from(i) / 4.0);
            if wavelength < 8.0 {
                1.0
            } else if wavelength > 32.0 {
                4.0
            } else {
                let smooth = (32.0 / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / 4.0 + smooth)
            }
        })
        .collect();
    assert!(wanted[1] > 1.0 && wanted[1] < 4.0, "{wanted:?}");
    for (factor, wanted) in factors.iter().zip(&wanted) {
        assert!((f64::from(*factor) - wanted).abs() < 1e-5, "{factors:?}");
    }
}

#[test]
fn gemmas_norms_hold_their_one_and_their_queries_the_scale() {
    let (file, metadata, weights) = file("gemma3", Dtype::Bf16);
    let scale = (6_f64 / 9.0).sqrt() as f32;
    assert!((metadata.query_scale - scale).abs() < 1e-6);
    for (tensor, name, scale) in [
        ("attn_norm", "input_layernorm", 1.0),
        ("post_attention_norm", "post_attention_layernorm", 1.0),
        ("ffn_norm", "pre_feedforward_layernorm", 1.0),
        ("post_ffw_norm", "post_feedforward_layernorm", 1.0),
        ("attn_k_norm", "self_attn.k_norm", 1.0),
        ("attn_q_norm", "self_attn.q_norm", metadata.query_scale),
    ] {
        let (_, dtype, written) = &file.tensors[&format!("blk.0.{tensor}.weight")];
        assert_eq!(*dtype, Dtype::F32, "{tensor}");
        let own = values(&weights, &format!("model.layers.0.{name}.weight"));
        let wanted: Vec<f32> = own.iter().map(|x| (x + 1.0) * scale).collect();
        assert_eq!(written, &wanted, "{tensor}");
    }
    let (_, dtype, written) = &file.tensors["blk.0.attn_q.weight"];
    assert_eq!(*dtype, Dtype::Bf16);
    let own = values(&weights, "model.layers.0.self_attn.q_proj.weight");
    let rounded: Vec<f32> = own.iter().map(|x| Dtype::Bf16.round(*x)).collect();
    assert_eq!(written, &rounded);
    // Which layers have the window, their own rotary base, and the scaling of the others.
    let entry = |name: &str| &file.entries[&format!("gemma3.{name}")];
    assert_eq!(
        entry("attention.sliding_window_pattern"),
        &Value::Bools(vec![true, false, true])
    );
    assert_eq!(entry("attention.sliding_window"), &Value::U32(6));
    assert_eq!(entry("rope.freq_base_swa"), &Value::F32(12.0));
    assert_eq!(entry("rope.scaling.factor"), &Value::F32(2.5));
    assert_eq!(entry("final_logit_softcapping"), &Value::F32(3.5));
    // Without norms of heads the projection holds the scale.
    let (file, metadata, weights) = self::file("gemma2", Dtype::F32);
    let (_, _, written) = &file.tensors["blk.0.attn_q.weight"];
    let own = values(&weights, "model.layers.0.self_attn.q_proj.weight");
    assert!((metadata.query_scale - (10_f32 / 7.0).sqrt()).abs() < 1e-6);
    let scaled: Vec<f32> = own.iter().map(|x| x * metadata.query_scale).collect();
    assert_eq!(written, &scaled);
}

#[test]
fn what_llama_cpp_does_not_compute_is_refused_or_noted() {
    let refused = |name: &str| metadata(&Config::read(&config(name)).unwrap()).unwrap_err();
    // Heads that are together wider than the residual.
    assert!(refused("qwen2").contains("36"), "{}", refused("qwen2"));
    assert!(refused("olmo2").contains("48"), "{}", refused("olmo2"));
    let changed = |name: &str, field: &str, value: serde_json::Value| {
        let mut config = config(name);
        config[field] = value;
        metadata(&Config::read(&config).unwrap())
    };
    let gelu = changed("llama", "hidden_act", json!("gelu_pytorch_tanh"));
    assert!(gelu.unwrap_err().contains("activation"));
    let uncapped = changed("gemma2", "final_logit_softcapping", json!(null));
    assert!(uncapped.unwrap_err().contains("soft caps"));
    let mistral = metadata(&Config::read(&config("mistral")).unwrap()).unwrap();
    assert!(mistral.notes[0].contains("window of 7 tokens"));
    let entries: Vec<&Entry> = mistral.entries.iter().collect();
    assert!(entries.contains(&&("llama.context_length".into(), Value::U32(7))));
    let rounded = changed("gemma3", "dtype", json!("bfloat16")).unwrap();
    assert!(rounded.notes[0].contains("multiplies embeddings"));
}

#[test]
fn an_olmo_2_has_a_head_of_its_own() {
    let mut config = config("olmo2");
    for (field, value) in [("num_attention_heads", 3), ("num_key_value_heads", 3)] {
        config[field] = json!(value);
    }
    config["tie_word_embeddings"] = json!(true);
    let config = Config::read(&config).unwrap();
    let metadata = metadata(&config).unwrap();
    let layout = Layout::new(&config.model);
    let planned = tensors::planned(&config.model, layout.tensors(), &metadata, Dtype::F32);
    let names: Vec<&str> = planned.iter().map(|one| one.listed.name.as_str()).collect();
    assert!(names.contains(&"output.weight"), "{names:?}");
    assert!(names.contains(&"blk.0.attn_q_norm.weight"));
    assert!(names.contains(&"blk.0.post_ffw_norm.weight"));
    assert!(!names.contains(&"blk.0.attn_norm.weight"));
}

#[test]
fn a_model_directory_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = LocalModel::load(&stories_dir(), None, 1).unwrap();
    let path = folder.path().join("stories.gguf");
    let notes = model.write_gguf(&path, Dtype::F32).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let file = read(&std::fs::read(&path).unwrap());
    let entry = |name: &str| &file.entries[name];
    assert_eq!(entry("general.file_type"), &Value::U32(0));
    assert_eq!(entry("general.name"), &Value::Text("stories260K".into()));
    assert_eq!(entry("llama.context_length"), &Value::U32(512));
    assert_eq!(entry("llama.attention.head_count_kv"), &Value::U32(4));
    assert_eq!(entry("llama.rope.dimension_count"), &Value::U32(8));
    assert_eq!(
        entry("llama.attention.layer_norm_rms_epsilon"),
        &Value::F32(1e-5)
    );
    for (name, value) in [
        ("model", Value::Text("llama".into())),
        ("add_space_prefix", Value::Bool(true)),
        ("add_bos_token", Value::Bool(true)),
        ("add_eos_token", Value::Bool(false)),
        ("bos_token_id", Value::U32(1)),
        ("eos_token_id", Value::U32(2)),
        ("unknown_token_id", Value::U32(0)),
    ] {
        assert_eq!(entry(&format!("tokenizer.ggml.{name}")), &value, "{name}");
    }
    let [
        Value::Texts(tokens),
        Value::I32s(types),
        Value::F32s(scores),
    ] = ["tokens", "token_type", "scores"].map(|name| entry(&format!("tokenizer.ggml.{name}")))
    else {
        panic!("lists of other types");
    };
    assert_eq!((tokens.len(), types.len(), scores.len()), (512, 512, 512));
    assert_eq!(tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
    assert_eq!(types[..4], [2, 3, 3, 6]);
    // The first piece that is merged has the best score, and the next ones fall by one each.
    assert_eq!(scores[259..262], [0.0, -1.0, -2.0]);
    assert!(!file.entries.contains_key("tokenizer.chat_template"));
    let (shape, _, embedding) = &file.tensors["token_embd.weight"];
    assert_eq!(shape, &[512, 64]);
    let config = model.model_config();
    let (parameters, _) = WeightFiles::open(&stories_dir())
        .unwrap()
        .read(config)
        .unwrap();
    assert_eq!(
        embedding,
        parameters.get("model.embed_tokens.weight").unwrap()
    );
    assert!(!file.tensors.contains_key("output.weight"), "it is tied");
}

fn byte_level(change: impl FnOnce(&mut serde_json::Value)) -> Result<Vec<Entry>, String> {
    let files = learn_bpe(["the cat sat on the mat", "1 + 2 = 3"].into_iter(), 262).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&files.tokenizer).unwrap();
    change(&mut json);
    let none = serde_json::Value::Null;
    let config = json!({"eos_token_id": files.end_id});
    let text = json.to_string();
    let tokenizer =
        Tokenizer::from_parts(text.as_bytes(), &files.tokenizer_config, &none, &[&config])?;
    let files = Files {
        tokenizer: &json,
        settings: &files.tokenizer_config,
        special: &none,
    };
    vocabulary(&files, &tokenizer, 264).map(|(entries, _)| entries)
}

#[test]
fn a_byte_level_vocabulary_has_merges_and_a_named_pre_tokenizer() {
    let entries: std::collections::BTreeMap<_, _> =
        byte_level(|_| {}).unwrap().into_iter().collect();
    let entry = |name: &str| &entries[format!("tokenizer.ggml.{name}").as_str()];
    assert_eq!(entry("model"), &Value::Text("gpt2".into()));
    assert_eq!(entry("pre"), &Value::Text("gpt-2".into()));
    assert_eq!(entry("add_bos_token"), &Value::Bool(false));
    assert_eq!(entry("eos_token_id"), &Value::U32(0));
    let [
        Value::Texts(tokens),
        Value::I32s(types),
        Value::Texts(merges),
    ] = ["tokens", "token_type", "merges"].map(entry)
    else {
        panic!("lists of other types");
    };
    assert_eq!(tokens[0], "<|end|>");
    assert_eq!((types[0], types[1]), (3, 1));
    // The embedding has rows without a token.
    assert_eq!(tokens[262..], ["[PAD262]", "[PAD263]"]);
    assert_eq!(types[262..], [5, 5]);
    assert_eq!(merges.len(), 262 - 257);
    assert!(merges.iter().all(|merge| merge.split(' ').count() == 2));
    assert!(!entries.contains_key("tokenizer.ggml.scores"));

    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
    let entries = byte_level(|json| json["pre_tokenizer"] = digits).unwrap();
    let smollm = ("tokenizer.ggml.pre".into(), Value::Text("smollm".into()));
    assert!(entries.contains(&smollm));
}

#[test]
fn a_tokenizer_that_llama_cpp_lacks_is_refused() {
    let reason = byte_level(|json| json["model"]["ignore_merges"] = json!(true)).unwrap_err();
    assert!(reason.contains("pre-tokenizer"), "{reason}");
    let reason = byte_level(|json| json["normalizer"] = json!({"type": "Lowercase"})).unwrap_err();
    assert!(reason.contains("Lowercase"), "{reason}");
    let words = json!({"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"});
    let json = json!({"version": "1.0", "model": words, "decoder": null, "added_tokens": []});
    let none = serde_json::Value::Null;
    let tokenizer = Tokenizer::from_parts(
        json.to_string().as_bytes(),
        &none,
        &none,
        &[&json!({"eos_token_id": 1})],
    )
    .unwrap();
    let files = Files {
        tokenizer: &json,
        settings: &none,
        special: &none,
    };
    let reason = vocabulary(&files, &tokenizer, 2).unwrap_err();
    assert!(reason.contains("WordLevel"), "{reason}");
}
