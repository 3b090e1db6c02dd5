//! Countdown's 204 whole tokens, and the tokenizer files that transformers would save for any
//! vocabulary of the miniature.
//!
//! The tokenizer splits at white space and looks whole words up (`WordLevel`); with no decoder
//! declared, decoding joins tokens with single spaces. There is no beginning-of-text token.

use serde_json::{Map, Value, json};

use super::model::MAX_POSITIONS;
use super::prose;

/// Ends every text; id 0.
pub const EOS: &str = "<eos>";
/// Stands for words outside the vocabulary, which no text of the miniature holds; id 1.
pub const UNK: &str = "<unk>";

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

/// `tokenizer.json` of a vocabulary that begins with [`EOS`] and [`UNK`].
pub fn tokenizer_json(vocabulary: &[String]) -> Value {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::miniature::{ModelFamily, ModelShape, config_json};

    #[test]
    fn there_are_204_distinct_tokens() {
        let words = vocabulary();
        assert_eq!(words.len(), 204);
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), 204);
        assert!(words.iter().all(|word| !word.contains(char::is_whitespace)));
    }

    #[test]
    fn special_tokens_have_the_ids_that_the_config_names() {
        let tokenizer = tokenizer_json(&vocabulary());
        assert_eq!(tokenizer["model"]["vocab"][EOS], 0);
        assert_eq!(tokenizer["added_tokens"][1]["content"], UNK);
        assert_eq!(
            config_json(ModelFamily::Llama, &ModelShape::STUDENT, 204)["eos_token_id"],
            0
        );
    }

    #[test]
    fn the_shapes_have_the_documented_sizes() {
        assert_eq!(ModelShape::STUDENT.parameters(204), 164_032);
        assert_eq!(ModelShape::TEACHER.parameters(204), 592_256);
    }
}
