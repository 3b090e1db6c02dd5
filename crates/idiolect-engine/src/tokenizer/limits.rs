//! What a `tokenizer.json` may ask of the machine: how much longer its normalizer can make a text, how
//! many steps it has, how long its tokens are. Checked before the library builds anything of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use idiolect_model::budget::Budget;
use serde_json::Value;

/// Steps of the normalizer and the pre-tokenizer, each with a compiled pattern of its own.
const STEPS: Budget = Budget {
    what: "the number of steps of the normalizer and the pre-tokenizer",
    least: 0,
    most: 32,
    unit: "steps",
    remedy: "published tokenizers have up to ten",
};

/// Tokens that are sought in a text before all else.
const ADDED_TOKENS: Budget = Budget {
    what: "the number of added tokens",
    least: 0,
    most: 1 << 16,
    unit: "tokens",
    remedy: "",
};

/// Their text: an automaton several hundred times as large is made of it.
const ADDED_BYTES: Budget = Budget {
    what: "the text of all added tokens",
    least: 0,
    most: 1 << 20,
    unit: "bytes",
    remedy: "",
};

/// Tokens that the post-processor puts around a text.
const POST_PROCESSING: Budget = Budget {
    what: "the number of parts of the post-processor",
    least: 0,
    most: 1 << 10,
    unit: "parts",
    remedy: "",
};

/// A text after its normalizer: the library keeps two numbers for each byte.
const NORMALIZED: u64 = 32 << 20;

/// How much longer a text can become: `factor` times its length and `added` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    factor: u64,
    added: u64,
}

impl Growth {
    /// Refuses a text that could become too long.
    pub(super) fn check(self, text: &str) -> Result<(), String> {
        let longest = (text.len() as u64)
            .saturating_mul(self.factor)
            .saturating_add(self.added);
        if longest <= NORMALIZED {
            return Ok(());
        }
        Err(format!(
            "the text has {} bytes, of which the tokenizer's normalizer could make {longest}; at \
             most {NORMALIZED} are tokenized in one piece",
            text.len()
        ))
    }

    fn then(self, factor: u64, added: u64) -> Self {
        Self {
            factor: self.factor.saturating_mul(factor),
            added: self.added.saturating_mul(factor).saturating_add(added),
        }
    }
}

/// Checks a parsed `tokenizer.json`, and states how much longer its normalizer can make a text.
pub(super) fn check(json: &Value) -> Result<Growth, String> {
    let over = |error: idiolect_model::budget::OverBudget| error.to_string();
    let normalizers = steps(&json["normalizer"], "normalizers");
    let splits = steps(&json["pre_tokenizer"], "pretokenizers");
    STEPS
        .check_size(normalizers.len() + splits.len())
        .map_err(over)?;
    let none = Vec::new();
    let added = json["added_tokens"].as_array().unwrap_or(&none);
    ADDED_TOKENS.check_size(added.len()).map_err(over)?;
    let bytes = added.iter().filter_map(|token| token["content"].as_str());
    ADDED_BYTES
        .check_size(bytes.map(str::len).sum())
        .map_err(over)?;
    let post = &json["post_processor"];
    POST_PROCESSING.check_size(parts(post)).map_err(over)?;
    let start = Growth {
        factor: 1,
        added: 0,
    };
    normalizers.into_iter().try_fold(start, grown)
}

/// The steps of a normalizer or a pre-tokenizer, those of sequences one by one.
fn steps<'j>(step: &'j Value, list: &str) -> Vec<&'j Value> {
    match step[list].as_array() {
        Some(inner) => inner.iter().flat_map(|step| steps(step, list)).collect(),
        None if step.is_null() => Vec::new(),
        None => vec![step],
    }
}

/// How much longer one more step can make a text. Bytes of a character stand for the character: an
/// upper bound.
fn grown(growth: Growth, step: &Value) -> Result<Growth, String> {
    let len = |name: &str| step[name].as_str().map_or(0, |text| text.len() as u64);
    Ok(match step["type"].as_str() {
        Some("Replace") => {
            let sought = step["pattern"]["String"].as_str();
            match sought.map(|text| text.len() as u64).filter(|n| *n > 0) {
                Some(n) => growth.then(len("content").div_ceil(n).max(1), 0),
                // A pattern may match between any two characters, and at both ends.
                None => growth.then(len("content") + 1, len("content")),
            }
        }
        Some("Prepend") => growth.then(1, len("prepend")),
        Some("ByteLevel") => growth.then(2, 0),
        Some("Precompiled") => {
            check_characters(step)?;
            growth.then(WIDEST, 0)
        }
        // Compatibility forms: U+FDFA becomes eighteen characters.
        Some("NFKC" | "NFKD") => growth.then(WIDEST, 0),
        Some("NFC" | "NFD" | "Lowercase" | "BertNormalizer" | "Nmt") => growth.then(3, 0),
        _ => growth,
    })
}

/// Bytes that a byte of a character can become when characters are mapped to their parts.
const WIDEST: u64 = 11;

/// The table of a precompiled normalizer begins with the size of what follows, by which the library
/// allocates.
fn check_characters(step: &Value) -> Result<(), String> {
    let text = step["precompiled_charsmap"].as_str().unwrap_or_default();
    let wrong = || {
        "the `precompiled_charsmap` of the normalizer is damaged: the size that it begins with is \
         not that of what follows"
            .to_owned()
    };
    let head: Vec<u32> = text.bytes().take(6).map_while(base64_value).collect();
    let [a, b, c, d, e, f] = head.try_into().map_err(|_| wrong())?;
    let bits = u64::from(a) << 30
        | u64::from(b) << 24
        | u64::from(c) << 18
        | u64::from(d) << 12
        | u64::from(e) << 6
        | u64::from(f);
    // Little-endian, of the first four bytes.
    let size = ((bits >> 4) as u32).swap_bytes();
    let decoded = text.len() as u64 / 4 * 3;
    if u64::from(size) + 4 > decoded {
        return Err(wrong());
    }
    Ok(())
}

fn base64_value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Parts of a post-processor: the pieces of its templates and the ids of its special tokens.
fn parts(post: &Value) -> usize {
    let list = |value: &Value| value.as_array().map_or(0, Vec::len);
    let special = post["special_tokens"].as_object();
    let ids = special
        .into_iter()
        .flat_map(|tokens| tokens.values())
        .map(|token| 1 + list(&token["ids"]));
    let inner = post["processors"].as_array().into_iter().flatten();
    list(&post["single"])
        + list(&post["pair"])
        + ids.sum::<usize>()
        + inner.map(|step| 1 + parts(step)).sum::<usize>()
}

/// The library panics on some damaged files; a bad file must not end the program.
pub(super) fn guarded<T, E: ToString>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizer library failed on it: a part of it is damaged".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn growth(normalizers: Value) -> Result<Growth, String> {
        check(&json!({"normalizer": {"type": "Sequence", "normalizers": normalizers}}))
    }

    #[test]
    fn growth_is_bounded_by_what_the_normalizer_states() {
        let llama = growth(json!([
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ]))
        .unwrap();
        assert_eq!(
            llama,
            Growth {
                factor: 3,
                added: 9
            }
        );
        assert!(llama.check(&"a".repeat(1 << 20)).is_ok());
        let blown =
            json!({"type": "Replace", "pattern": {"String": "T"}, "content": "T".repeat(1000)});
        let grown = growth(json!([blown, blown, blown])).unwrap();
        let message = grown.check("Tom").unwrap_err();
        assert!(
            message.contains("3 bytes") && message.contains("3000000000"),
            "{message}"
        );
        let empty = json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "xyz"});
        assert_eq!(growth(json!([empty])).unwrap().factor, 4);
    }

    #[test]
    fn what_is_built_of_the_file_is_bounded() {
        let lower = json!({"type": "Lowercase"});
        assert!(growth(json!(vec![lower; 33])).unwrap_err().contains("33"));
        let token = |text: &str| json!({"id": 1, "content": text});
        let added = |tokens: Vec<Value>| check(&json!({"added_tokens": tokens}));
        assert!(added(vec![token("</s>")]).is_ok());
        assert!(
            added(vec![token("x"); 70_000])
                .unwrap_err()
                .contains("70000")
        );
        assert!(
            added(vec![token(&"x".repeat(2 << 20))])
                .unwrap_err()
                .contains("text of all")
        );
        let post = json!({"single": vec![json!({"SpecialToken": {"id": "<s>"}}); 2000]});
        assert!(
            check(&json!({"post_processor": post}))
                .unwrap_err()
                .contains("2000")
        );
    }

    #[test]
    fn a_table_that_lies_about_its_size_is_named() {
        let table =
            |text: &str| growth(json!([{"type": "Precompiled", "precompiled_charsmap": text}]));
        for text in ["", "AAA", "/////w==", "!!!!!!!!"] {
            assert!(
                table(text).unwrap_err().contains("precompiled_charsmap"),
                "{text}"
            );
        }
        // Eight bytes of zeros: a size of 0, and four that follow.
        assert!(table("AAAAAAAAAAA=").is_ok());
    }
}
