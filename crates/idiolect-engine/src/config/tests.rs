use super::*;
use crate::model_config::{Norms, Scaling};
use serde_json::json;

/// A config of each family in the spelling of its published files.
fn published(family: &str) -> Value {
    let mut config = json!({
        "architectures": ["X"], "model_type": family, "vocab_size": 100, "hidden_size": 24, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "torch_dtype": "bfloat16", "tie_word_embeddings": true,
        "eos_token_id": [1, 2], "use_cache": true
    });
    let more = match family {
        "qwen2" | "qwen3" => {
            json!({"hidden_act": "silu", "use_sliding_window": false, "sliding_window": 8, "max_window_layers": 2})
        }
        "gemma2" => json!({
            "head_dim": 8, "query_pre_attn_scalar": 5, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh",
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 7
        }),
        "mistral" => json!({"sliding_window": null, "hidden_act": "silu"}),
        _ => json!({
            "hidden_act": "silu", "attention_bias": false, "mlp_bias": false, "head_dim": 10,
            "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 128}
        }),
    };
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    config
}

fn with(family: &str, changes: &Value) -> Result<Config, ConfigError> {
    let mut config = published(family);
    for (name, value) in changes.as_object().unwrap() {
        config[name] = value.clone();
    }
    Config::read(&config)
}

#[track_caller]
fn refuses(family: &str, changes: Value, parts: &[&str]) {
    let message = with(family, &changes)
        .expect_err("must be refused")
        .to_string();
    for part in parts {
        assert!(message.contains(part), "`{message}` lacks `{part}`");
    }
}

#[test]
fn a_llama_is_read_with_its_scaling_and_own_head_dim() {
    let config = with("llama", &json!({})).unwrap();
    let model = config.model;
    assert_eq!((model.head_dim, model.kv_heads, model.heads), (10, 2, 4));
    assert!((model.attention_scale - 10f32.sqrt().recip()).abs() < 1e-7);
    let Some(Scaling::Llama3(scaling)) = model.rope.scaling else {
        panic!("{:?}", model.rope)
    };
    assert!(
        (scaling.factor - 8.0).abs() < 1e-12
            && (scaling.original_max_position_embeddings - 128.0).abs() < 1e-12
    );
    assert!((model.rope.theta - 5e5).abs() < 1e-6);
    assert_eq!(
        (config.dtype, config.max_position_embeddings, model.tied),
        (Dtype::Bf16, 512, true)
    );
    assert_eq!(model.windows, vec![None; 4]);
}

#[test]
fn the_newer_spelling_says_the_same_as_the_older() {
    let mut newer = published("llama");
    let map = newer.as_object_mut().unwrap();
    let theta = map.shift_remove("rope_theta").unwrap();
    let mut rope = map.shift_remove("rope_scaling").unwrap();
    rope["rope_theta"] = theta;
    map.insert("rope_parameters".to_owned(), rope);
    let dtype = map.shift_remove("torch_dtype").unwrap();
    map.insert("dtype".to_owned(), dtype);
    assert_eq!(
        Config::read(&newer).unwrap(),
        with("llama", &json!({})).unwrap()
    );
}

#[test]
fn a_qwen2_has_biases_and_a_window_only_where_it_is_enabled() {
    let model = with("qwen2", &json!({})).unwrap().model;
    assert!(model.qkv_bias && model.windows == vec![None; 4] && model.head_dim == 6);
    let model = with("qwen2", &json!({"use_sliding_window": true}))
        .unwrap()
        .model;
    assert_eq!(model.windows, vec![None, None, Some(8), Some(8)]);
    let types = [
        "sliding_attention",
        "full_attention",
        "full_attention",
        "sliding_attention",
    ];
    let model = with(
        "qwen2",
        &json!({"use_sliding_window": true, "layer_types": types}),
    )
    .unwrap()
    .model;
    assert_eq!(model.windows, vec![Some(8), None, None, Some(8)]);
}

#[test]
fn a_gemma2_has_its_own_scales_caps_and_even_windows() {
    let model = with("gemma2", &json!({})).unwrap().model;
    assert!(model.norm_plus_one && model.norms == Norms::BeforeAndAfter);
    assert_eq!(model.activation, Activation::GeluTanh);
    assert!((model.attention_scale - 5f32.sqrt().recip()).abs() < 1e-7);
    assert_eq!(
        (model.attention_softcap, model.final_softcap),
        (Some(50.0), Some(30.0))
    );
    assert_eq!(model.windows, vec![Some(7), None, Some(7), None]);
    // √24 = 4.89898 lies between the bfloat16 4.875 and 4.90625.
    assert!((model.embedding_scale - 4.90625).abs() < 1e-9);
    let off = with(
        "gemma2",
        &json!({"attn_logit_softcapping": null, "torch_dtype": "float32"}),
    );
    let model = off.unwrap().model;
    assert_eq!(model.attention_softcap, None);
    assert!((model.embedding_scale - 24f32.sqrt()).abs() < 1e-6);
}

#[test]
fn a_mistral_is_a_llama_with_an_optional_window() {
    assert_eq!(
        with("mistral", &json!({})).unwrap().model.windows,
        vec![None; 4]
    );
    let model = with("mistral", &json!({"sliding_window": 9}))
        .unwrap()
        .model;
    assert_eq!(
        (model.family, model.windows),
        (Family::Llama, vec![Some(9); 4])
    );
}

#[test]
fn fields_that_would_change_the_arithmetic_are_refused_by_name_and_value() {
    refuses(
        "gpt2",
        json!({}),
        &[
            "\"gpt2\"".trim_matches('"'),
            "llama, mistral, qwen2, qwen3, gemma2",
        ],
    );
    refuses(
        "llama",
        json!({"model_type": null}),
        &["`model_type` is missing"],
    );
    refuses(
        "llama",
        json!({"hidden_size": null}),
        &["`hidden_size` is missing"],
    );
    refuses(
        "llama",
        json!({"hidden_size": -3}),
        &["`hidden_size` is -3", "whole number"],
    );
    refuses(
        "llama",
        json!({"hidden_act": "relu"}),
        &["`hidden_act` is \"relu\"", "silu"],
    );
    refuses(
        "llama",
        json!({"attention_bias": true}),
        &["`attention_bias` is true"],
    );
    refuses("llama", json!({"mlp_bias": true}), &["`mlp_bias` is true"]);
    refuses(
        "llama",
        json!({"sliding_window": 5}),
        &["`sliding_window` is 5"],
    );
    refuses(
        "llama",
        json!({"attention_dropout": 0.1}),
        &["`attention_dropout` is 0.1"],
    );
    refuses(
        "llama",
        json!({"rope_interleaved": true}),
        &["`rope_interleaved` is true"],
    );
    refuses(
        "llama",
        json!({"num_experts": 8}),
        &["`num_experts` is 8", "mixtures of experts"],
    );
    refuses(
        "llama",
        json!({"quantization_config": {"bits": 4}}),
        &["`quantization_config`"],
    );
    refuses(
        "llama",
        json!({"query_pre_attn_scalar": 3}),
        &["`query_pre_attn_scalar` is 3"],
    );
    refuses(
        "llama",
        json!({"attn_logit_softcapping": 3.0}),
        &["`attn_logit_softcapping`"],
    );
    refuses("llama", json!({"num_key_value_heads": 3}), &["kv_heads"]);
    refuses(
        "llama",
        json!({"num_hidden_layers": 1_000_000}),
        &["`num_hidden_layers`", "4096"],
    );
    refuses(
        "llama",
        json!({"torch_dtype": "float8"}),
        &["`torch_dtype` is \"float8\""],
    );
    refuses(
        "llama",
        json!({"rope_parameters": {}}),
        &["`rope_scaling`", "keep one"],
    );
    refuses(
        "llama",
        json!({"partial_rotary_factor": 0.5}),
        &["`partial_rotary_factor` is 0.5"],
    );
    refuses(
        "llama",
        json!({"layer_types": ["x"]}),
        &["`layer_types` is [\"x\"]"],
    );
    refuses(
        "llama",
        json!({"head_dim": null, "hidden_size": 25}),
        &["`hidden_size` is 25"],
    );
    refuses(
        "llama",
        json!({"rope_scaling": {"type": "yarn", "factor": 2.0}}),
        &["`rope_scaling.type` is \"yarn\"", "llama3"],
    );
    refuses(
        "llama",
        json!({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}),
        &["`rope_scaling.low_freq_factor` is missing"],
    );
    refuses(
        "llama",
        json!({"rope_scaling": {"rope_type": "default", "beta_fast": 2.0}}),
        &["`rope_scaling.beta_fast` is 2.0"],
    );
    refuses(
        "gemma2",
        json!({"head_dim": null}),
        &["`head_dim` is missing"],
    );
    refuses(
        "gemma2",
        json!({"hidden_activation": "silu"}),
        &["`hidden_activation` is \"silu\""],
    );
    refuses(
        "qwen2",
        json!({"num_key_value_heads": null}),
        &["`num_key_value_heads` is missing"],
    );
    assert_eq!(Config::read(&json!([])), Err(ConfigError::NotAnObject));
}

#[test]
fn published_files_are_read_as_they_stand() {
    // The fields of SmolLM2-135M-Instruct, Qwen2.5-0.5B and gemma-2-2b, sizes included.
    let smol = json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536, "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
        "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": false, "rope_scaling": null,
        "rope_theta": 100_000, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}}, "transformers_version": "4.42.3",
        "use_cache": true, "vocab_size": 49152
    });
    let config = Config::read(&smol).unwrap();
    assert!((config.initial_sd - 1.0 / 24.0).abs() < 1e-9 && config.model.head_dim == 64);
    let qwen = json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151_643, "eos_token_id": 151_643,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1_000_000.0,
        "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
        "use_cache": true, "use_mrope": false, "use_sliding_window": false, "vocab_size": 151_936
    });
    assert_eq!(Config::read(&qwen).unwrap().model.windows, vec![None; 24]);
    let gemma = json!({
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
        "transformers_version": "4.42.4", "use_cache": true, "vocab_size": 256_000
    });
    let model = Config::read(&gemma).unwrap().model;
    assert!(model.tied && model.windows[..2] == [Some(4096), None]);
}

/// A Gemma 3 in the spelling of transformers 5, with the given rope parameters.
fn gemma3(rope: Value) -> Value {
    json!({
        "model_type": "gemma3_text", "vocab_size": 100, "hidden_size": 24, "num_hidden_layers": 3, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "query_pre_attn_scalar": 5,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 7,
        "rope_parameters": rope
    })
}

#[test]
fn a_gemma3_has_a_position_embedding_for_its_windows() {
    let model = Config::read(&gemma3(json!({
        "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 50.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}
    })))
    .unwrap()
    .model;
    let local = model.local_rope.unwrap();
    assert_eq!(model.rope.scaling, Some(Scaling::Linear(4.0)));
    assert!((local.theta - 20.0).abs() < 1e-12 && local.scaling.is_none());
    assert!(model.qk_norm && model.norm_plus_one && model.final_softcap.is_none());
    let same = json!({"rope_theta": 50.0});
    let model = Config::read(&gemma3(
        json!({"full_attention": same, "sliding_attention": same}),
    ))
    .unwrap()
    .model;
    assert_eq!(model.local_rope, None, "not another");
}

#[test]
fn fields_of_the_newer_families_that_would_change_the_arithmetic_are_refused() {
    let refused = |config: Value, parts: &[&str]| {
        let message = Config::read(&config)
            .expect_err("must be refused")
            .to_string();
        for part in parts {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    };
    let changed = |name: &str, value: Value| {
        let mut config = gemma3(json!(null));
        config[name] = value;
        config
    };
    refused(
        gemma3(json!({"rope_theta": 5.0})),
        &["`rope_parameters.rope_theta` is 5.0", "may change what"],
    );
    refused(
        gemma3(json!({"full_attention": {"rope_type": "yarn"}})),
        &["`rope_parameters.full_attention.rope_type` is \"yarn\""],
    );
    refused(
        changed("sliding_window_pattern", json!(0)),
        &["`sliding_window_pattern` is 0"],
    );
    refused(
        changed("attn_logit_softcapping", json!(50.0)),
        &["`attn_logit_softcapping` is 50.0"],
    );
    refused(
        changed("use_bidirectional_attention", json!(true)),
        &["`use_bidirectional_attention`"],
    );
    refused(
        changed("model_type", json!("gemma3")),
        &["gemma3_text", "from_pretrained"],
    );
    refuses(
        "llama",
        json!({"sliding_window_pattern": 6}),
        &["`sliding_window_pattern` is 6"],
    );
    refuses(
        "qwen3",
        json!({"attention_bias": true}),
        &["`attention_bias` is true"],
    );
    let full = json!([
        "full_attention",
        "sliding_attention",
        "full_attention",
        "full_attention"
    ]);
    refuses(
        "mistral",
        json!({"sliding_window": 9, "layer_types": full}),
        &["`layer_types`", "every layer of a mistral"],
    );
}

#[test]
fn what_transformers_writes_beside_the_model_is_irrelevant() {
    // Attributes of the base configuration and of generation, private ones, other programs' notes.
    let written: serde_json::Value = serde_json::from_str(
        r#"{
        "_name_or_path": "x/y", "_model_name_or_path": "x/y", "_attn_implementation": "sdpa", "_commit_hash": "0", "_from_model_config": true,
        "name_or_path": "z", "unsloth_version": "2025.3.9", "trl_version": "1.16", "tokenizer_class": "GPT2Tokenizer", "prefix": "a",
        "finetuning_task": "b", "torchscript": true, "tf_legacy_loss": true, "use_bfloat16": true, "is_decoder": true, "pruned_heads": {},
        "task_specific_params": {"a": 1}, "sep_token_id": 3, "cls_token_id": 3, "decoder_start_token_id": 3, "return_dict": true,
        "max_length": 20, "min_length": 1, "do_sample": true, "temperature": 0.6, "top_k": 50, "top_p": 0.9, "num_beams": 4,
        "repetition_penalty": 1.1, "length_penalty": 1.0, "no_repeat_ngram_size": 2, "bad_words_ids": [[1]], "suppress_tokens": [1],
        "max_new_tokens": 5, "stop_strings": ["a"], "watermarking_config": {"a": 1}, "early_stopping": true, "typical_p": 0.9,
        "exponential_decay_length_penalty": [1, 1.1], "forced_eos_token_id": 2, "output_scores": true, "gradient_checkpointing": true
    }"#,
    )
    .unwrap();
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma2", "olmo2"] {
        assert_eq!(with(family, &written), with(family, &json!({})), "{family}");
    }
}

#[test]
fn an_unknown_field_names_the_flag_that_sets_it_aside() {
    let config = {
        let mut config = published("llama");
        config["my_note"] = json!("x");
        config["my_scale"] = json!(2.0);
        config
    };
    let read = |ignored: &[&str]| {
        let names: Vec<String> = ignored.iter().map(|name| (*name).to_owned()).collect();
        Config::read_ignoring(&config, &names)
    };
    let message = read(&[]).unwrap_err().to_string();
    assert!(
        message.contains("--ignore-config-field my_note"),
        "{message}"
    );
    let message = read(&["my_note"]).unwrap_err().to_string();
    assert!(
        message.contains("--ignore-config-field my_scale"),
        "{message}"
    );
    assert_eq!(
        read(&["my_scale", "my_note", "not_there"]),
        Config::read(&published("llama"))
    );
}

#[test]
fn a_field_that_changes_what_is_computed_cannot_be_set_aside() {
    for (field, value) in [
        ("quantization_config", json!({"bits": 4})),
        ("num_local_experts", json!(8)),
        ("attn_logit_softcapping", json!(30.0)),
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
        ("rms_norm_eps", json!(1e-5)),
        ("per_layer_config", json!({"0": {"head_dim": 4}})),
        ("use_bidirectional_attention", json!(true)),
    ] {
        let mut config = published("llama");
        config[field] = value;
        let message = Config::read_ignoring(&config, &[field.to_owned()])
            .unwrap_err()
            .to_string();
        assert!(message.contains(field), "{message}");
        assert!(!message.contains("--ignore-config-field rope"), "{message}");
    }
    let nested =
        json!({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "temperature": 1.5}});
    let mut config = published("llama");
    config["rope_scaling"] = nested["rope_scaling"].clone();
    let ignored = [
        "temperature".to_owned(),
        "rope_scaling.temperature".to_owned(),
    ];
    let message = Config::read_ignoring(&config, &ignored)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("`rope_scaling.temperature` is 1.5"),
        "{message}"
    );
}

#[test]
fn an_old_rope_type_is_refused_by_its_name() {
    for kind in ["dynamic", "mrope", "yarn", "su"] {
        refuses(
            "llama",
            json!({"rope_scaling": {"type": kind, "factor": 2.0}}),
            &[&format!("`rope_scaling.type` is \"{kind}\""), "llama3"],
        );
    }
    let both = json!({"rope_scaling": {"type": "linear", "rope_type": "longrope", "factor": 2.0}});
    refuses("llama", both, &["`rope_scaling.rope_type` is \"longrope\""]);
}

#[test]
fn gemma_3_takes_its_pattern_from_the_public_field_alone() {
    let mut config = published("gemma2");
    config["model_type"] = json!("gemma3_text");
    for name in [
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "rope_theta",
    ] {
        config.as_object_mut().unwrap().remove(name);
    }
    config["num_hidden_layers"] = json!(12);
    let global = |config: &Value| {
        let windows = Config::read(config).unwrap().model.windows;
        let layers = windows.iter().enumerate();
        layers
            .filter_map(|(i, w)| w.is_none().then_some(i))
            .collect::<Vec<_>>()
    };
    assert_eq!(global(&config), [5, 11]);
    // Transformers writes this one and does not read it.
    config["_sliding_window_pattern"] = json!(2);
    assert_eq!(global(&config), [5, 11]);
    config["sliding_window_pattern"] = json!(4);
    assert_eq!(global(&config), [3, 7, 11]);
}
