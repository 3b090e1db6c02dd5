//! The miniature's 204 whole tokens, its tokenizer and its model configurations, in the files
//! that transformers would save.
//!
//! The tokenizer splits at white space and looks whole words up (`WordLevel`); with no decoder
//! declared, decoding joins tokens with single spaces. There is no beginning-of-text token.

use serde_json::{Map, Value, json};

use super::{ModelShape, prose};

/// Ends every text; id 0.
pub const EOS: &str = "<eos>";
/// Stands for words outside the vocabulary, which no text of the miniature holds; id 1.
pub const UNK: &str = "<unk>";

/// Longest text that the models have positions for.
const MAX_POSITIONS: usize = 256;

/// Standard deviation of fresh matrices. At transformers' 0.02 models this narrow are still learning
/// to copy their inputs when their text ends.
const INITIAL_SD: f64 = 0.08;

const MARKERS: [&str; 13] = [
    "+", "-", "*", "/", "=", "(", ")", ";", "|", "->", "nums", "ans", "rewrite",
];

const PROSE: [&str; 61] = [
    ".", ",", "add", "after", "among", "and", "at", "away", "before", "by", "can", "comes",
    "divide", "find", "first", "for", "from", "get", "gives", "groups", "have", "into", "is", "it",
    "last", "let", "lower", "make", "makes", "minus", "multiply", "must", "next", "now", "of",
    "over", "parts", "plus", "product", "put", "raise", "reach", "result", "share", "so", "split",
    "start", "step", "subtract", "take", "that", "the", "then", "this", "times", "to", "together",
    "us", "we", "which", "with",
];

/// Every token, its id being its place.
pub fn vocabulary() -> Vec<String> {
    let numbers = (0..=super::chain::MAX_VALUE).map(|n| n.to_string());
    let words = MARKERS
        .iter()
        .chain(&prose::UNITS)
        .chain(&prose::TENS)
        .chain(&PROSE);
    [EOS, UNK]
        .into_iter()
        .map(str::to_owned)
        .chain(numbers)
        .chain(words.map(|w| (*w).to_owned()))
        .collect()
}

/// `tokenizer.json`.
pub fn tokenizer_json() -> Value {
    let vocabulary = vocabulary();
    let ids: Map<String, Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, word)| (word.clone(), json!(id)))
        .collect();
    let special = |id: usize| {
        json!({
            "id": id, "content": vocabulary[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0), special(1)],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": UNK},
    })
}

/// `tokenizer_config.json`. Clean-up of spaces is off: it would change decoded text.
pub fn tokenizer_config_json() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": false,
        "add_eos_token": false,
        "bos_token": null,
        "eos_token": EOS,
        "unk_token": UNK,
        "pad_token": null,
        "clean_up_tokenization_spaces": false,
        "model_max_length": MAX_POSITIONS,
    })
}

/// `config.json` of a model of this shape with the miniature's vocabulary.
pub fn config_json(shape: &ModelShape) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "eos_token_id": 0,
        "head_dim": shape.hidden / shape.heads.max(1),
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": INITIAL_SD,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": MAX_POSITIONS,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.heads,
        "pad_token_id": null,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": null,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "vocab_size": vocabulary().len(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_204_distinct_tokens() {
        let words = vocabulary();
        assert_eq!(words.len(), 204);
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), 204);
        assert!(words.iter().all(|word| !word.contains(char::is_whitespace)));
    }

    #[test]
    fn special_tokens_have_the_ids_that_the_config_names() {
        let tokenizer = tokenizer_json();
        assert_eq!(tokenizer["model"]["vocab"][EOS], 0);
        assert_eq!(tokenizer["added_tokens"][1]["content"], UNK);
        assert_eq!(config_json(&ModelShape::STUDENT)["eos_token_id"], 0);
    }

    #[test]
    fn the_shapes_have_the_documented_sizes() {
        assert_eq!(ModelShape::STUDENT.parameters(), 164_032);
        assert_eq!(ModelShape::TEACHER.parameters(), 592_256);
    }
}
