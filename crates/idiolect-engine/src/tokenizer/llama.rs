//! The SentencePiece tokenizer of Llama as transformers 5 builds it.
//!
//! Where `tokenizer_config.json` names the class `LlamaTokenizer`, transformers takes vocabulary,
//! merges and added tokens of `tokenizer.json` and writes the rest itself: no normaliser, and a
//! pre-tokenizer that puts `▁` before a text, only at its beginning unless `legacy` is true, and
//! not where the text begins with a space. Files as transformers 4 wrote them put it before every
//! stretch between special tokens. (`LlamaTokenizer.__init__` and `AutoTokenizer` of transformers
//! 5.24; for Mistral and Qwen models `AutoTokenizer` sets the class aside.)

use serde_json::{Value, json};

/// The `tokenizer.json` that transformers computes with, where it is not the file's own.
pub(super) fn rebuilt(
    text: &[u8],
    file: &Value,
    settings: &Value,
    model_type: Option<&str>,
) -> Option<Value> {
    let class = settings["tokenizer_class"].as_str()?;
    let sets_aside = matches!(model_type, Some("mistral" | "qwen2" | "qwen3"));
    // Files of Llama 3 name the class too; transformers takes a file with this word as it is.
    let word = b"\"ByteLevel\"";
    let byte_level = text.windows(word.len()).any(|part| part == word);
    if class.trim_end_matches("Fast") != "LlamaTokenizer"
        || sets_aside
        || byte_level
        || file["model"]["type"] != "BPE"
    {
        return None;
    }
    let prefix = settings["add_prefix_space"].as_bool().unwrap_or(true);
    let legacy = settings["legacy"].as_bool().unwrap_or(false);
    let scheme = match (prefix, legacy) {
        (false, _) => "never",
        (true, true) => "always",
        (true, false) => "first",
    };
    let mut made = file.clone();
    made["normalizer"] = Value::Null;
    made["pre_tokenizer"] = json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false
    });
    made["model"]["byte_fallback"] = json!(true);
    made["model"]["fuse_unk"] = json!(true);
    made["model"]["ignore_merges"] = json!(false);
    Some(made)
}
