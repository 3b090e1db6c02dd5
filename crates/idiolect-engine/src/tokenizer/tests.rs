use super::*;
use serde_json::json;

/// Whole words split at spaces, no special tokens: the miniature's kind.
pub(crate) fn words() -> Tokenizer {
    let names = [
        "<unk>", "<end>", "nums", "3", "7", "2", "->", "19", "|", "*", "=", "21", ";",
    ];
    let vocab: serde_json::Map<String, Value> = names
        .iter()
        .enumerate()
        .map(|(i, name)| ((*name).to_owned(), json!(i)))
        .collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [{"id": 1, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}
    });
    let config = json!({"eos_token_id": 1});
    Tokenizer::from_parts(
        json.to_string().as_bytes(),
        &Value::Null,
        &Value::Null,
        &[&config],
    )
    .unwrap()
}

/// Byte-level BPE over all 256 bytes with a few merges; `trim`: the post-processor trims spaces
/// from the library's offsets.
pub(crate) fn byte_level(trim: bool) -> Tokenizer {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = 0;
    let spelled: Vec<String> = (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                return char::from(byte).to_string();
            }
            others += 1;
            char::from_u32(255 + others).unwrap().to_string()
        })
        .collect();
    let merges = [("Ġ", "u"), ("Ġu", "p"), ("h", "i")];
    let mut vocab: serde_json::Map<String, Value> = spelled
        .iter()
        .enumerate()
        .map(|(i, name)| (name.clone(), json!(i)))
        .collect();
    for (i, (a, b)) in merges.iter().enumerate() {
        vocab.insert(format!("{a}{b}"), json!(256 + i));
    }
    vocab.insert("<|end|>".to_owned(), json!(259));
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [{"id": 259, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()}
    });
    let settings = json!({"eos_token": "<|end|>"});
    Tokenizer::from_parts(json.to_string().as_bytes(), &settings, &Value::Null, &[]).unwrap()
}

/// The SentencePiece vocabulary of the stories260K model.
pub(crate) fn stories() -> Tokenizer {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K");
    Tokenizer::load(&dir, &dir, &json!({"eos_token_id": 2})).unwrap()
}

/// The bytes that each token of a text represents.
fn token_bytes<'t>(tokenizer: &Tokenizer, text: &'t str) -> Vec<&'t [u8]> {
    let encoded = tokenizer.encode(text).unwrap();
    encoded.spans[encoded.lead..]
        .iter()
        .map(|&(start, end)| &text.as_bytes()[start..end])
        .collect()
}

#[test]
fn byte_level_tokens_own_their_leading_space_and_each_byte_of_a_character() {
    for trim in [true, false] {
        let tokenizer = byte_level(trim);
        assert_eq!(token_bytes(&tokenizer, "hi up"), [&b"hi"[..], b" up"]);
        assert_eq!(token_bytes(&tokenizer, "é"), [[0xc3], [0xa9]]);
        assert_eq!(
            token_bytes(&tokenizer, " \n up"),
            [&b" "[..], b"\n", b" up"]
        );
    }
}

#[test]
fn sentencepiece_tokens_own_their_leading_space_and_fallback_bytes() {
    let tokenizer = stories();
    let text = "Once upon a time, caf\u{e9} \u{1f600}!";
    let encoded = tokenizer.encode(text).unwrap();
    assert_eq!(
        (encoded.lead, encoded.ids[0], encoded.spans[0]),
        (1, 1, (0, 0))
    );
    assert_eq!(token_bytes(&tokenizer, text).concat(), text.as_bytes());
    assert!(
        token_bytes(&tokenizer, text).contains(&&b" time"[..])
            || token_bytes(&tokenizer, text).contains(&&b" t"[..])
    );
    let mut end = 0;
    for &(start, stop) in &encoded.spans[1..] {
        assert_eq!(start, end);
        end = stop;
    }
}

#[test]
fn words_own_no_space_and_are_joined_by_one() {
    let tokenizer = words();
    assert_eq!(
        token_bytes(&tokenizer, "nums 3  7 |"),
        [&b"nums"[..], b"3", b"7", b"|"]
    );
    let prompt = tokenizer.encode("nums 3 |").unwrap().ids;
    let ids = tokenizer.encode("3 * 7").unwrap().ids;
    assert_eq!(tokenizer.decode_after(&prompt, &ids), " 3 * 7");
    assert_eq!(tokenizer.decode_after(&[], &ids), "3 * 7");
}

#[test]
fn decoding_what_was_encoded_gives_the_text() {
    let text = "Once upon a time \u{1f600} caf\u{e9}\n  up";
    for tokenizer in [byte_level(true), stories()] {
        let ids = tokenizer.encode(text).unwrap().ids;
        assert_eq!(tokenizer.decode_after(&[], &ids), text);
        for cut in 2..ids.len() {
            let whole = [
                tokenizer.decode_after(&[], &ids[..cut]),
                tokenizer.decode_after(&ids[..cut], &ids[cut..]),
            ];
            // A cut inside a character cannot be written as text; everywhere else nothing is lost.
            if !whole.concat().contains('\u{fffd}') {
                assert_eq!(whole.concat(), text);
            }
        }
    }
}

#[test]
fn own_decoding_agrees_with_the_library() {
    for tokenizer in [words(), byte_level(true), stories()] {
        for text in ["nums 3 7 2 -> 19 |", "Once upon a time", "hi up é"] {
            let ids = tokenizer.encode(text).unwrap().ids;
            let library = tokenizer.library.decode(&ids, true).unwrap();
            assert_eq!(tokenizer.decode_after(&[], &ids), library, "{text}");
        }
    }
}

#[test]
fn bytes_that_are_no_character_decode_to_the_replacement() {
    assert_eq!(byte_level(true).decode_after(&[], &[0xc3]), "\u{fffd}");
}

#[test]
fn the_end_token_is_the_tokenizers_own_if_listed_else_the_first() {
    let both = json!({"eos_token_id": [7, 5]});
    assert_eq!(end_tokens(&[&both], Some(5)), Ok((5, vec![5, 7])));
    assert_eq!(end_tokens(&[&both], Some(9)), Ok((7, vec![5, 7])));
    assert_eq!(end_tokens(&[&both], None), Ok((7, vec![5, 7])));
    let one = json!({"eos_token_id": 3});
    assert_eq!(end_tokens(&[&Value::Null, &one], Some(9)), Ok((3, vec![3])));
    assert_eq!(end_tokens(&[&both, &one], Some(9)), Ok((7, vec![5, 7])));
    assert_eq!(end_tokens(&[], Some(9)), Ok((9, vec![9])));
    assert!(end_tokens(&[], None).unwrap_err().contains("no end token"));
    assert!(
        end_tokens(&[&json!({"eos_token_id": "x"})], None)
            .unwrap_err()
            .contains("\"x\"")
    );
}

#[test]
fn files_that_cannot_be_trusted_are_refused_with_a_reason() {
    let refuse = |change: fn(&mut Value), settings: Value| {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K/tokenizer.json");
        let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        change(&mut json);
        Tokenizer::from_parts(
            json.to_string().as_bytes(),
            &settings,
            &Value::Null,
            &[&json!({"eos_token_id": 2})],
        )
        .map(|_| ())
        .unwrap_err()
    };
    assert!(
        refuse(|json| json["model"]["dropout"] = json!(0.1), Value::Null)
            .contains("`model.dropout` is 0.1")
    );
    assert!(
        refuse(
            |json| json["decoder"] = json!({"type": "WordPiece"}),
            Value::Null
        )
        .contains("`WordPiece`")
    );
    assert!(refuse(|json| json["decoder"] = json!(3), Value::Null).contains("decoder"));
    assert!(refuse(|json| json["model"] = json!({}), Value::Null).len() > 3);
    let promise = json!({"add_bos_token": false, "bos_token": {"content": "<s>"}});
    assert!(refuse(|_| {}, promise).contains("`add_bos_token`"));
    let unlisted = Tokenizer::from_parts(b"{", &Value::Null, &Value::Null, &[])
        .map(|_| ())
        .unwrap_err();
    assert!(unlisted.contains("not JSON"));
}

#[test]
fn truncation_and_padding_of_the_file_are_set_aside() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K/tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    json["truncation"] =
        json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    let config = json!({"eos_token_id": 2});
    let cut = Tokenizer::from_parts(
        json.to_string().as_bytes(),
        &Value::Null,
        &Value::Null,
        &[&config],
    )
    .unwrap();
    let text = "Once upon a time there was a dog";
    assert_eq!(cut.encode(text).unwrap(), stories().encode(text).unwrap());
}

/// Ids of transformers 5.24 (`AutoTokenizer` on copies of `fixtures/stories260K` with these
/// settings).
#[test]
fn a_llama_tokenizer_is_built_as_transformers_5_builds_it() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/stories260K/tokenizer.json");
    let json = std::fs::read(path).unwrap();
    let of = |settings: Value, model_type: &str, text: &str| {
        let config = json!({"eos_token_id": 2, "model_type": model_type});
        let tokenizer = Tokenizer::from_parts(&json, &settings, &Value::Null, &[&config]).unwrap();
        tokenizer.encode(text).unwrap().ids
    };
    let text = "One day</s>there was  a";
    let first = [1, 385, 328, 2, 413, 260, 276, 286, 410, 261];
    let always = [1, 385, 328, 2, 383, 286, 410, 261];
    for class in ["LlamaTokenizer", "LlamaTokenizerFast"] {
        for model in ["llama", "gemma2"] {
            assert_eq!(of(json!({"tokenizer_class": class}), model, text), first);
            let legacy = |legacy: bool| json!({"tokenizer_class": class, "legacy": legacy});
            assert_eq!(of(legacy(false), model, text), first);
            assert_eq!(of(legacy(true), model, text), always);
            assert_eq!(of(legacy(true), model, " x"), [1, 410, 444]);
        }
        assert_eq!(
            of(json!({"tokenizer_class": class}), "mistral", text),
            always
        );
    }
    for settings in [
        json!({}),
        json!({"tokenizer_class": "PreTrainedTokenizerFast"}),
    ] {
        assert_eq!(of(settings.clone(), "llama", text), always);
        assert_eq!(of(settings, "llama", " x"), [1, 410, 410, 444]);
    }
}

proptest::proptest! {
    #[test]
    fn spans_cover_any_text_without_gap_and_decode_to_it(text in "\\PC{0,24}|[ \\n\\té中😀a-z]{0,24}") {
        for (tokenizer, plain) in [(byte_level(true), true), (stories(), !text.contains('▁'))] {
            let encoded = tokenizer.encode(&text).unwrap();
            let mut end = 0;
            for &(start, stop) in &encoded.spans[encoded.lead..] {
                proptest::prop_assert_eq!(start, end, "{:?}", text);
                end = stop;
            }
            proptest::prop_assert_eq!(end, text.len());
            if plain {
                proptest::prop_assert_eq!(tokenizer.decode_after(&[], &encoded.ids), text.clone());
            }
        }
    }

    #[test]
    fn any_words_round_trip_behind_a_prompt(words_of in proptest::collection::vec(2u32..13, 1..20)) {
        let tokenizer = words();
        let prompt = tokenizer.encode("nums 3 |").unwrap().ids;
        let text = tokenizer.decode_after(&prompt, &words_of);
        let whole = tokenizer.encode(&format!("nums 3 |{text}")).unwrap().ids;
        proptest::prop_assert_eq!(&whole[prompt.len()..], &words_of[..]);
    }
}
