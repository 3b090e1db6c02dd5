//! Model directories as transformers saves them are read to the settings they state, and text to the
//! tokens and offsets of the reference.

use idiolect_engine::config::Config;
use idiolect_engine::encode::{Limits, encode_example};
use idiolect_engine::model_config::{
    Activation, Family, Llama3Scaling, ModelConfig, Norms, Rope, Scaling,
};
use idiolect_engine::parameters::Parameters;
use idiolect_engine::tokenizer::Tokenizer;
use idiolect_engine::weights::WeightFiles;
use idiolect_model::{Context, Example};
use serde_json::Value;

use crate::fixture::{FAMILIES, path};

/// The configuration and parameters of a model directory below `fixtures/`.
pub(crate) fn model(name: &str) -> (ModelConfig, Parameters) {
    let model = Config::read(&config(name)).unwrap().model;
    let (parameters, _) = WeightFiles::open(&path(name))
        .unwrap()
        .read(&model)
        .unwrap();
    (model, parameters)
}

pub(crate) fn config(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name).join("config.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The configuration as `make.py` states it, family by family.
fn stated(family: &str) -> ModelConfig {
    let scaling = Llama3Scaling {
        factor: 4.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_max_position_embeddings: 32.0,
    };
    let llama = ModelConfig {
        family: Family::Llama,
        vocab: 61,
        hidden: 24,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 8,
        intermediate: 52,
        norm_eps: 0.03,
        rope: Rope {
            theta: 50.0,
            scaling: Some(Scaling::Llama3(scaling)),
        },
        local_rope: None,
        qkv_bias: false,
        qk_norm: false,
        qk_norm_whole: false,
        norm_plus_one: false,
        norms: Norms::Before,
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 8f32.sqrt().recip(),
        attention_softcap: None,
        final_softcap: None,
        windows: vec![None; 3],
        tied: false,
    };
    let plain = |theta: f64| Rope {
        theta,
        scaling: None,
    };
    let gemma2 = ModelConfig {
        family: Family::Gemma2,
        vocab: 59,
        hidden: 28,
        heads: 4,
        head_dim: 10,
        intermediate: 46,
        norm_eps: 0.04,
        rope: plain(20.0),
        norm_plus_one: true,
        norms: Norms::BeforeAndAfter,
        activation: Activation::GeluTanh,
        embedding_scale: 28f32.sqrt(),
        attention_scale: 7f32.sqrt().recip(),
        attention_softcap: Some(1.5),
        final_softcap: Some(2.5),
        windows: vec![Some(6), None, Some(6)],
        tied: true,
        ..llama.clone()
    };
    match family {
        "llama" => llama,
        "mistral" => ModelConfig {
            vocab: 55,
            heads: 4,
            kv_heads: 1,
            head_dim: 10,
            intermediate: 44,
            norm_eps: 0.05,
            rope: plain(40.0),
            attention_scale: 10f32.sqrt().recip(),
            windows: vec![Some(7); 3],
            ..llama
        },
        "qwen3" => ModelConfig {
            family: Family::Qwen3,
            vocab: 51,
            heads: 4,
            head_dim: 10,
            intermediate: 42,
            rope: plain(25.0),
            qk_norm: true,
            attention_scale: 10f32.sqrt().recip(),
            windows: vec![None, None, Some(4)],
            tied: true,
            ..llama
        },
        "olmo2" => ModelConfig {
            family: Family::Olmo2,
            vocab: 49,
            intermediate: 48,
            rope: plain(35.0),
            qk_norm: true,
            qk_norm_whole: true,
            norms: Norms::After,
            ..llama
        },
        "gemma2" => gemma2,
        "gemma3" => ModelConfig {
            family: Family::Gemma3,
            vocab: 57,
            hidden: 24,
            heads: 6,
            head_dim: 6,
            intermediate: 40,
            rope: Rope {
                theta: 60.0,
                scaling: Some(Scaling::Linear(2.5)),
            },
            local_rope: Some(plain(12.0)),
            qk_norm: true,
            embedding_scale: 24f32.sqrt(),
            attention_scale: 9f32.sqrt().recip(),
            attention_softcap: None,
            final_softcap: Some(3.5),
            ..gemma2
        },
        "qwen2" => ModelConfig {
            family: Family::Qwen2,
            vocab: 53,
            kv_heads: 3,
            head_dim: 6,
            intermediate: 50,
            norm_eps: 0.02,
            rope: plain(30.0),
            qkv_bias: true,
            attention_scale: 6f32.sqrt().recip(),
            windows: vec![None, Some(5), Some(5)],
            tied: true,
            ..llama
        },
        _ => panic!("no family `{family}`"),
    }
}

#[test]
fn saved_configurations_are_read_to_their_settings() {
    for family in FAMILIES {
        let mut model = model(&format!("parity/{family}")).0;
        let stated = stated(family);
        let scale = model.attention_scale;
        assert!(
            (scale - stated.attention_scale).abs() < 1e-6 * scale,
            "{family}: {scale}"
        );
        model.attention_scale = stated.attention_scale;
        assert_eq!(model, stated, "{family}");
    }
}

#[test]
fn text_becomes_the_reference_tokens_and_offsets() {
    let config = config("stories260K");
    let read = Config::read(&config).unwrap();
    let limits = Limits {
        max_position_embeddings: read.max_position_embeddings,
        vocabulary: read.model.vocab,
    };
    let tokenizer = Tokenizer::load(&path("stories260K"), &path("stories260K"), &config).unwrap();
    let rows = crate::fixture::stories("scored.jsonl");
    for row in &rows {
        let (prompt, completion) = (
            row["prompt"].as_str().unwrap(),
            row["completion"].as_str().unwrap(),
        );
        let example = Example::new(Context::Prompt(prompt.to_owned()), completion);
        let encoded = encode_example(&tokenizer, limits, &example).unwrap();
        assert_eq!(serde_json::json!(encoded.ids), row["ids"], "{prompt}");
        assert_eq!(
            serde_json::json!(encoded.completion_start),
            row["completion_start"],
            "{prompt}"
        );
        assert_eq!(
            serde_json::json!(encoded.byte_starts),
            row["byte_start"],
            "{prompt}"
        );
    }
    assert_eq!(rows.len(), 4);
}
