//! A `tokenizer.json` in llama.cpp's terms.
//!
//! llama.cpp has its own tokenizers: byte-level BPE with pre-tokenizers that it knows by name, and
//! SentencePiece's BPE, which merges the pair whose piece has the best score. What neither computes is
//! refused. Source: `src/llama-vocab.cpp` of llama.cpp, and its converter's conventions.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value as Json;

use super::{Entry, Value};
use crate::tokenizer::Tokenizer;

/// Types of tokens, as llama.cpp numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Below the score of every piece: such a token is never made by merging.
const NEVER: f32 = -1e9;

/// The files that a vocabulary is made of.
pub(crate) struct Files<'a> {
    /// `tokenizer.json`.
    pub(crate) tokenizer: &'a Json,
    /// `tokenizer_config.json`, or null.
    pub(crate) settings: &'a Json,
    /// `special_tokens_map.json`, or null.
    pub(crate) special: &'a Json,
}

/// The entries `tokenizer.*` of a model whose embedding has `rows` rows, and what its tokenizer does
/// that llama.cpp's does not.
///
/// # Errors
/// Why llama.cpp has no such tokenizer.
pub(crate) fn vocabulary(
    files: &Files<'_>,
    tokenizer: &Tokenizer,
    rows: usize,
) -> Result<(Vec<Entry>, Vec<String>), String> {
    let json = files.tokenizer;
    if json["model"]["type"] != "BPE" {
        return Err(format!(
            "llama.cpp has no tokenizer of the kind `{}` for text; it has BPE",
            json["model"]["type"].as_str().unwrap_or("?")
        ));
    }
    let mut notes = Vec::new();
    let added = added(json);
    let byte_level = json["decoder"]["type"] == "ByteLevel";
    let mut tokens = Tokens::read(json, &added, tokenizer, rows, byte_level, &mut notes);
    tokens.check_distinct()?;
    let mut entries = if byte_level {
        byte_level_entries(json, &mut notes)?
    } else {
        let merges = merges(json)?;
        tokens.scores = scores(&tokens, &merges, &mut notes);
        sentence_piece_entries(&tokens, tokenizer)?
    };
    entries.push(("tokenizer.ggml.tokens".into(), Value::Texts(tokens.texts)));
    entries.push((
        "tokenizer.ggml.token_type".into(),
        Value::I32s(tokens.types),
    ));
    if !byte_level {
        entries.push(("tokenizer.ggml.scores".into(), Value::F32s(tokens.scores)));
    }
    entries.extend(special_entries(files, tokenizer, rows, &mut notes)?);
    Ok((entries, notes))
}

/// An added token of `tokenizer.json`.
struct Added {
    content: String,
    special: bool,
}

fn added(json: &Json) -> HashMap<u32, Added> {
    let tokens = json["added_tokens"].as_array().into_iter().flatten();
    let read = |token: &Json| {
        let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok())?;
        let content = token["content"].as_str()?.to_owned();
        let special = token["special"] == true || looks_special(&content);
        Some((id, Added { content, special }))
    };
    tokens.filter_map(read).collect()
}

/// Whether llama.cpp's converter takes a token for a control token whatever the file states.
fn looks_special(token: &str) -> bool {
    let within = |open: &str, close: &str| token.starts_with(open) && token.ends_with(close);
    within("<|", "|>")
        || within("<｜", "｜>")
        || within("<unused", ">")
        || ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
}

/// Every row of the embedding as a token.
struct Tokens {
    texts: Vec<String>,
    types: Vec<i32>,
    scores: Vec<f32>,
}

impl Tokens {
    fn read(
        json: &Json,
        added: &HashMap<u32, Added>,
        tokenizer: &Tokenizer,
        rows: usize,
        byte_level: bool,
        notes: &mut Vec<String>,
    ) -> Self {
        let unknown = json["model"]["unk_token"].as_str();
        let one = |id: u32| match (added.get(&id), tokenizer.token(id)) {
            (_, None) => (format!("[PAD{id}]"), UNUSED),
            (_, Some(text)) if !byte_level && Some(text.as_str()) == unknown => (text, UNKNOWN),
            (Some(token), _) if token.special => (token.content.clone(), CONTROL),
            // Matched before spaces are written as `▁`.
            (Some(token), _) => (token.content.replace('▁', " "), USER_DEFINED),
            (None, Some(text)) if !byte_level && is_byte(&text) => (text, BYTE),
            (None, Some(text)) => (text, NORMAL),
        };
        let (texts, types) = (0..u32::try_from(rows).unwrap_or(u32::MAX))
            .map(one)
            .unzip();
        if tokenizer.size() > rows {
            notes.push(format!(
                "the tokenizer has {} tokens and the embedding {rows} rows; tokens without a row are \
                 left out",
                tokenizer.size()
            ));
        }
        Self {
            texts,
            types,
            scores: Vec::new(),
        }
    }

    /// llama.cpp ends on two tokens of one text.
    fn check_distinct(&self) -> Result<(), String> {
        let mut seen = HashSet::new();
        match self.texts.iter().find(|text| !seen.insert(text.as_str())) {
            Some(text) => Err(format!(
                "two tokens have the text {text:?}, which llama.cpp does not take"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a token of a SentencePiece vocabulary is a single byte, `<0x0A>`.
fn is_byte(token: &str) -> bool {
    let digits = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// The merges in order of rank; newer files hold pairs, older ones texts with a space between.
fn merges(json: &Json) -> Result<Vec<(&str, &str)>, String> {
    let list = json["model"]["merges"].as_array();
    let list = list.ok_or("`model.merges` is missing in tokenizer.json")?;
    list.iter()
        .map(|merge| {
            let pair = match merge {
                Json::String(text) => text.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            pair.ok_or_else(|| format!("`{merge}` of `model.merges` is no pair of tokens"))
        })
        .collect()
}

/// Regular expressions of published pre-tokenizers, with llama.cpp's name for each and whether that
/// looks for a word in the vocabulary before it merges.
const SPLITS: [(&str, &str, bool); 4] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
        true,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "dbrx",
        false,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
        false,
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "tekken",
        true,
    ),
];

/// llama.cpp's name for the pre-tokenizer of a byte-level tokenizer.
fn pre_tokenizer(json: &Json) -> Result<&'static str, String> {
    let whole = &json["pre_tokenizer"];
    let parts = match whole["type"].as_str() {
        Some("Sequence") => whole["pretokenizers"].as_array().map_or(&[][..], |all| all),
        _ => std::slice::from_ref(whole),
    };
    let whole_words = json["model"]["ignore_merges"] == true;
    let bytes = |part: &Json, with_regex: bool| {
        // Files leave the fields out where they have their defaults.
        part["type"] == "ByteLevel"
            && part["add_prefix_space"].as_bool() == Some(false)
            && part["use_regex"].as_bool().unwrap_or(true) == with_regex
    };
    let found = match parts {
        [last] if bytes(last, true) && !whole_words => Some("gpt-2"),
        [digits, last]
            if digits["type"] == "Digits"
                && digits["individual_digits"] == true
                && bytes(last, true)
                && !whole_words =>
        {
            Some("smollm")
        }
        [split, last]
            if split["type"] == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"] != true
                && bytes(last, false) =>
        {
            let regex = split["pattern"]["Regex"].as_str().unwrap_or_default();
            let named = SPLITS
                .iter()
                .find(|(known, _, whole)| *known == regex && *whole == whole_words);
            named.map(|(_, name, _)| *name)
        }
        _ => None,
    };
    found.ok_or_else(|| {
        format!(
            "the pre-tokenizer of tokenizer.json is none that llama.cpp is known to have: {}",
            short(&whole.to_string())
        )
    })
}

fn short(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn byte_level_entries(json: &Json, notes: &mut Vec<String>) -> Result<Vec<Entry>, String> {
    match json["normalizer"]["type"].as_str() {
        None => {}
        Some("NFC") => notes.push(
            "llama.cpp does not compose characters (NFC) before it tokenizes: texts that are not \
             composed get other tokens there"
                .to_owned(),
        ),
        Some(other) => return Err(format!("llama.cpp has no normalizer `{other}`")),
    }
    let joined = merges(json)?.into_iter().map(|(a, b)| format!("{a} {b}"));
    Ok(vec![
        ("tokenizer.ggml.model".into(), Value::Text("gpt2".into())),
        (
            "tokenizer.ggml.pre".into(),
            Value::Text(pre_tokenizer(json)?.into()),
        ),
        (
            "tokenizer.ggml.merges".into(),
            Value::Texts(joined.collect()),
        ),
    ])
}

/// A piece's score is minus its place among the pieces that merges make, so that the merge of best
/// score is the one of lowest rank. States where the two orders are not the same.
fn scores(tokens: &Tokens, merges: &[(&str, &str)], notes: &mut Vec<String>) -> Vec<f32> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let (mut last, mut out_of_order) = (0, 0_usize);
    for (a, b) in merges {
        let next = places.len();
        let place = *places.entry(format!("{a}{b}")).or_insert(next);
        out_of_order += usize::from(place < last);
        last = last.max(place);
    }
    let is_piece = |kind: i32| kind == NORMAL;
    let known: HashSet<&str> = merged_pieces(tokens, is_piece).collect();
    let pairs: HashSet<(&str, &str)> = merges.iter().copied().collect();
    let missing = known
        .iter()
        .flat_map(|piece| splits(piece))
        .filter(|(a, b)| known.contains(a) && known.contains(b) && !pairs.contains(&(*a, *b)))
        .count();
    if out_of_order + missing > 0 {
        notes.push(format!(
            "the merges of this tokenizer are not those of a SentencePiece vocabulary ({out_of_order} \
             of {} in another order, {missing} missing): llama.cpp may cut texts into other tokens",
            merges.len()
        ));
    }
    let score = |(text, kind): (&String, &i32)| match (places.get(text), *kind) {
        (Some(place), NORMAL) => -(*place as f32),
        (_, CONTROL | USER_DEFINED | UNUSED) => NEVER,
        // No merge makes them: single characters, bytes.
        _ => 0.0,
    };
    tokens.texts.iter().zip(&tokens.types).map(score).collect()
}

fn merged_pieces(tokens: &Tokens, wanted: impl Fn(i32) -> bool) -> impl Iterator<Item = &str> {
    let both = tokens.texts.iter().zip(&tokens.types);
    both.filter(move |(_, kind)| wanted(**kind))
        .map(|(text, _)| text.as_str())
}

/// Every way to cut a piece in two between characters.
fn splits(piece: &str) -> impl Iterator<Item = (&str, &str)> {
    piece
        .char_indices()
        .skip(1)
        .map(|(at, _)| piece.split_at(at))
}

fn sentence_piece_entries(tokens: &Tokens, tokenizer: &Tokenizer) -> Result<Vec<Entry>, String> {
    let bytes = tokens.types.iter().filter(|kind| **kind == BYTE).count();
    // A character that no vocabulary has.
    let rare = tokenizer.encode_rendered("\u{10fffd}")?.ids;
    let falls_back = rare
        .iter()
        .rev()
        .take(4)
        .all(|id| tokenizer.token(*id).is_some_and(|text| is_byte(&text)));
    if bytes != 256 || rare.len() < 4 || !falls_back {
        return Err(
            "llama.cpp writes a character that is not in the vocabulary as its bytes, and this \
             tokenizer does not"
                .to_owned(),
        );
    }
    let first = tokenizer.encode_rendered("a")?.ids;
    let prefixed = first
        .first()
        .and_then(|id| tokenizer.token(*id))
        .is_some_and(|text| text.starts_with('▁'));
    Ok(vec![
        ("tokenizer.ggml.model".into(), Value::Text("llama".into())),
        ("tokenizer.ggml.pre".into(), Value::Text("default".into())),
        (
            "tokenizer.ggml.add_space_prefix".into(),
            Value::Bool(prefixed),
        ),
    ])
}

/// Ids of special tokens, and which are put around a text.
fn special_entries(
    files: &Files<'_>,
    tokenizer: &Tokenizer,
    rows: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<Entry>, String> {
    let named = |name: &str| {
        let text = [files.settings, files.special]
            .into_iter()
            .find_map(|file| {
                file[name]
                    .as_str()
                    .or_else(|| file[name]["content"].as_str())
            })?;
        tokenizer.id(text)
    };
    let encoded = tokenizer.encode("a")?;
    let lead = &encoded.ids[..encoded.lead];
    if lead.len() > 1 {
        notes.push(format!(
            "this tokenizer puts {} tokens before a text; llama.cpp puts one",
            lead.len()
        ));
    }
    let begin = lead.first().copied().or_else(|| named("bos_token"));
    let end = tokenizer.end();
    let stops: BTreeSet<u32> = tokenizer.stops().iter().copied().collect();
    let other_stop = stops.into_iter().find(|id| *id != end);
    let ids = [
        ("bos", begin),
        ("eos", Some(end)),
        ("eot", other_stop),
        ("unknown", named("unk_token")),
        ("padding", named("pad_token")),
    ];
    let mut entries: Vec<Entry> = ids
        .into_iter()
        .filter_map(|(name, id)| Some((name, id.filter(|id| (*id as usize) < rows)?)))
        .map(|(name, id)| {
            let name = format!("tokenizer.ggml.{name}_token_id");
            (name.into(), Value::U32(id))
        })
        .collect();
    entries.push((
        "tokenizer.ggml.add_bos_token".into(),
        Value::Bool(!lead.is_empty()),
    ));
    entries.push(("tokenizer.ggml.add_eos_token".into(), Value::Bool(false)));
    Ok(entries)
}
