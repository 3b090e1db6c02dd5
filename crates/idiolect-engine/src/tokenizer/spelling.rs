//! The bytes that a vocabulary's token strings spell.

use serde_json::Value;
use tokenizers::Tokenizer as Library;

/// A table by id is made of the vocabulary; an id beyond this is a damaged file, not a token.
const LARGEST_VOCABULARY: usize = 1 << 21;

/// How token strings spell bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// One printable character a byte (GPT-2's table).
    ByteLevel,
    /// `▁` is a space and `<0x0A>` a byte; `prepended`: the first token's leading space is not
    /// text.
    SentencePiece { prepended: bool },
    /// Whole words; the decoder joins them by one space.
    Words,
}

/// What one token id represents.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// Its bytes, a leading space included.
    pub(super) bytes: Vec<u8>,
    /// Whether decoding leaves it out.
    pub(super) special: bool,
}

impl Spelling {
    /// Reads the `decoder` field of `tokenizer.json`.
    pub(super) fn of(decoder: &Value) -> Result<Self, String> {
        let unknown = |part: &Value| {
            format!(
                "the decoder `{}` is not supported; supported are ByteLevel, Metaspace, the \
                 SentencePiece sequence (Replace, ByteFallback, Fuse, Strip) and none",
                part["type"].as_str().unwrap_or("?")
            )
        };
        let parts: &[Value] = match decoder["type"].as_str() {
            None if decoder.is_null() => return Ok(Self::Words),
            Some("Sequence") => decoder["decoders"].as_array().map_or(&[], Vec::as_slice),
            _ => std::slice::from_ref(decoder),
        };
        let mut spelling = None;
        for part in parts {
            match part["type"].as_str() {
                Some("ByteLevel") if parts.len() == 1 => spelling = Some(Self::ByteLevel),
                Some("Metaspace") if part["replacement"] == "▁" => {
                    let scheme = part["prepend_scheme"].as_str().unwrap_or("always");
                    spelling = Some(Self::SentencePiece {
                        prepended: scheme != "never",
                    });
                }
                Some("Replace") if part["pattern"]["String"] == "▁" && part["content"] == " " => {
                    spelling = Some(Self::SentencePiece { prepended: false });
                }
                Some("Strip")
                    if part["content"] == " " && part["start"] == 1 && part["stop"] == 0 =>
                {
                    spelling = Some(Self::SentencePiece { prepended: true });
                }
                Some("ByteFallback" | "Fuse") => {}
                _ => return Err(unknown(part)),
            }
        }
        spelling.ok_or_else(|| unknown(decoder))
    }

    /// The bytes that a token string spells.
    fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Self::Words => token.as_bytes().to_vec(),
            Self::ByteLevel => token
                .chars()
                .map(byte_of_character)
                .collect::<Option<Vec<u8>>>()
                .unwrap_or_else(|| token.as_bytes().to_vec()),
            Self::SentencePiece { .. } => fallback_byte(token)
                .map_or_else(|| token.replace('▁', " ").into_bytes(), |byte| vec![byte]),
        }
    }
}

/// `<0x0A>` is the byte 10.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// GPT-2's table read backwards: printable Latin-1 characters are themselves, and the other 68
/// bytes are, in ascending order, the characters from U+0100.
fn byte_of_character(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    match u32::from(character) {
        code @ 0..=255 => u8::try_from(code).ok().filter(|&byte| printable(byte)),
        code => (0..=255u8)
            .filter(|&byte| !printable(byte))
            .nth((code - 256) as usize),
    }
}

pub(super) fn spell_all(library: &Library, spelling: Spelling) -> Result<Vec<Piece>, String> {
    let size = library
        .get_vocab(true)
        .values()
        .max()
        .map_or(0, |&id| id as usize + 1);
    if size > LARGEST_VOCABULARY {
        return Err(format!(
            "a token has id {}; at most {LARGEST_VOCABULARY} are read",
            size - 1
        ));
    }
    let added = library.get_added_tokens_decoder();
    let spell = |id: u32| match added.get(&id) {
        // Added tokens are matched literally, whatever the spelling.
        Some(token) => Piece {
            bytes: token.content.clone().into_bytes(),
            special: token.special,
        },
        None => Piece {
            bytes: library
                .id_to_token(id)
                .map_or_else(Vec::new, |token| spelling.bytes(&token)),
            special: false,
        },
    };
    Ok((0..size as u32).map(spell).collect())
}
