//! Any bytes as a `tokenizer.json`: refused with a reason, or it makes tokens whose spans lie in the text.

use idiolect_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

const TEXTS: [&str; 3] = ["", "a b  c\n", "Zwölf <s> 雪 12"];

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let end = json!({"eos_token_id": 0});
    let tokenizer = match Tokenizer::from_parts(data, &Value::Null, &Value::Null, &[&end]) {
        Ok(tokenizer) => tokenizer,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    for text in TEXTS {
        let Ok(encoded) = tokenizer.encode(text) else {
            continue;
        };
        assert_eq!(encoded.ids.len(), encoded.spans.len());
        for (from, to) in encoded.spans {
            assert!(from <= to && to <= text.len());
        }
        tokenizer.decode_after(&[], &encoded.ids);
    }
}
