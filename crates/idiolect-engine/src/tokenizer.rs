//! Text to token ids and back, with the exact bytes that each token represents.
//!
//! Wraps a Hugging Face `tokenizer.json`. Ids come from the `tokenizers` library; byte offsets and
//! decoded bytes come from a table of *pieces*, one byte string a token, because the library trims
//! spaces from offsets, gives every byte of a character the offsets of the whole character, and
//! decodes only whole texts. Three spellings are known, read off the `decoder` field: byte-level
//! BPE, SentencePiece (`▁` and byte fallback) and whole words joined by spaces (no decoder). A
//! decoder of another kind is an error, not a guess. Knows no templates.

use std::path::Path;

use idiolect_model::{ModelError, content_hash};
use serde_json::Value;
use tokenizers::{Encoding, Tokenizer as Library};

use crate::files;

use limits::{Growth, guarded};
use spelling::{Piece, Spelling, spell_all};

mod limits;
mod llama;
mod spelling;

/// A tokenizer with its end token.
#[derive(Clone)]
pub struct Tokenizer {
    library: Library,
    spelling: Spelling,
    pieces: Vec<Piece>,
    end: u32,
    stops: Vec<u32>,
    hash: String,
    base_size: usize,
    growth: Growth,
}

/// A tokenized text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// Token ids: `lead` special tokens that the tokenizer adds, then those of the text. Special
    /// tokens that it would add behind the text are left out: the end token is the caller's.
    pub ids: Vec<u32>,
    /// First byte and one past the last byte of what each token represents; (0, 0) for the lead.
    pub spans: Vec<(usize, usize)>,
    /// Number of special tokens before the text.
    pub lead: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a directory with the files beside it, if they are there:
    /// `tokenizer_config.json` and `special_tokens_map.json`. `generation` is the directory of the
    /// model's `generation_config.json`, and `config` its parsed `config.json`, for the end token's
    /// id.
    ///
    /// # Errors
    /// When a file cannot be read, the decoder is of an unknown kind or no end token is named.
    pub fn load(dir: &Path, generation: &Path, config: &Value) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer.json");
        let optional = |dir: &Path, name: &str| -> Result<Value, ModelError> {
            let path = dir.join(name);
            match files::read_optional(&path)? {
                Some(bytes) => files::parse_json(&path, &bytes),
                None => Ok(Value::Null),
            }
        };
        let settings = optional(dir, "tokenizer_config.json")?;
        let special = optional(dir, "special_tokens_map.json")?;
        let generation = optional(generation, "generation_config.json")?;
        let Some(json) = files::read_optional(&path)? else {
            return Err(ModelError::Invalid(missing(dir)));
        };
        Self::from_parts(&json, &settings, &special, &[&generation, config])
            .map_err(|reason| ModelError::Invalid(format!("`{}`: {reason}", path.display())))
    }

    /// Builds a tokenizer from the parsed files; `Null` represents an absent one. The end tokens
    /// are those of the first of `sources` (generation config, config) that has `eos_token_id`.
    ///
    /// # Errors
    /// The reason as a message.
    pub fn from_parts(
        json: &[u8],
        settings: &Value,
        special: &Value,
        sources: &[&Value],
    ) -> Result<Self, String> {
        let value = files::json(json)?;
        refuse_dropout(&value)?;
        let growth = limits::check(&value)?;
        let model_type = sources
            .iter()
            .find_map(|source| source["model_type"].as_str());
        let rebuilt =
            llama::rebuilt(json, &value, settings, model_type).map(|value| value.to_string());
        let json = rebuilt.as_deref().map_or(json, str::as_bytes);
        let spelling = Spelling::of(&value["decoder"])?;
        let mut library = guarded(|| Library::from_bytes(json))?;
        // AutoTokenizer sets both aside unless a call asks for them.
        library
            .with_truncation(None)
            .map_err(|error| error.to_string())?;
        library.with_padding(None);
        let pieces = spell_all(&library, spelling)?;
        let name = eos_token(settings).or_else(|| eos_token(special));
        let named = name.and_then(|name| library.token_to_id(&name));
        let (end, stops) = end_tokens(sources, named)?;
        if let Some(&id) = stops.iter().find(|&&id| id as usize >= pieces.len()) {
            return Err(format!(
                "`eos_token_id` {id} is not in the vocabulary of {}",
                pieces.len()
            ));
        }
        let tokenizer = Self {
            hash: content_hash(&[json, format!("{end} {stops:?}").as_bytes()].concat()),
            base_size: library.get_vocab_size(false),
            growth,
            library,
            spelling,
            pieces,
            end,
            stops,
        };
        tokenizer.check_lead(settings)?;
        Ok(tokenizer)
    }

    /// Token ids and byte spans of a text, with the special tokens that the tokenizer puts before
    /// it by default.
    ///
    /// # Errors
    /// When a word is not in the vocabulary and there is no unknown token.
    pub fn encode(&self, text: &str) -> Result<Encoded, String> {
        let encoding = self.encoding(text, true)?;
        let added = encoding.get_special_tokens_mask();
        let lead = added.iter().take_while(|&&mask| mask == 1).count();
        let len = added.len()
            - added[lead..]
                .iter()
                .rev()
                .take_while(|&&mask| mask == 1)
                .count();
        let ids = encoding.get_ids()[..len].to_vec();
        let mut spans = vec![(0, 0); lead];
        spans.extend(self.align(text, &ids[lead..], &encoding.get_offsets()[lead..len]));
        Ok(Encoded { ids, spans, lead })
    }

    /// Token ids and byte spans of a text that holds its special tokens itself, such as a rendered
    /// chat template: none are added, and `lead` is 0.
    ///
    /// # Errors
    /// When a word is not in the vocabulary and there is no unknown token.
    pub fn encode_rendered(&self, text: &str) -> Result<Encoded, String> {
        let encoding = self.encoding(text, false)?;
        let ids = encoding.get_ids().to_vec();
        let spans = self.align(text, &ids, encoding.get_offsets());
        Ok(Encoded {
            ids,
            spans,
            lead: 0,
        })
    }

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding, String> {
        self.growth.check(text)?;
        guarded(|| self.library.encode(text, special))
    }

    /// Whether a token is a special one, which decoding leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        self.pieces
            .get(id as usize)
            .is_some_and(|piece| piece.special)
    }

    /// The token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// The token of a name in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    /// The same tokenizer with texts that end with `id`, which stops a generation too.
    pub(crate) fn ending_with(mut self, id: u32) -> Self {
        self.end = id;
        if let Err(place) = self.stops.binary_search(&id) {
            self.stops.insert(place, id);
        }
        self
    }

    /// The same tokenizer with the end tokens of another config.
    #[cfg(test)]
    pub(crate) fn with_ends(mut self, config: &Value) -> Self {
        (self.end, self.stops) = end_tokens(&[config], None).unwrap();
        self
    }

    /// The bytes that `id` adds to a text. `first`: no token with text comes before it, so that
    /// the space that joins or is put before the text is not part of it. Special tokens and
    /// unknown ids add nothing.
    pub fn append(&self, id: u32, first: bool, bytes: &mut Vec<u8>) {
        let Some(piece) = self.pieces.get(id as usize).filter(|piece| !piece.special) else {
            return;
        };
        match self.spelling {
            Spelling::Words => {
                if !first {
                    bytes.push(b' ');
                }
                bytes.extend(&piece.bytes);
            }
            Spelling::SentencePiece { prepended: true } if first => {
                bytes.extend(piece.bytes.strip_prefix(b" ").unwrap_or(&piece.bytes));
            }
            Spelling::ByteLevel | Spelling::SentencePiece { .. } => bytes.extend(&piece.bytes),
        }
    }

    /// The text of `ids` where they follow `before`: what decoding all of them adds to decoding
    /// `before` alone. Words joined by spaces therefore begin with the space. Bytes that are not
    /// UTF-8 become U+FFFD.
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> String {
        let mut first = !self.any_text(before);
        let mut bytes = Vec::new();
        for &id in ids {
            self.append(id, first, &mut bytes);
            first &= !self.any_text(&[id]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether some of the tokens are not special.
    pub fn any_text(&self, ids: &[u32]) -> bool {
        ids.iter().any(|&id| {
            self.pieces
                .get(id as usize)
                .is_some_and(|piece| !piece.special)
        })
    }

    /// The token that ends a text in training and scoring.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// All tokens that end a generation, ascending.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Hash of `tokenizer.json` and the end tokens.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// One past the largest token id, added tokens counted.
    pub fn size(&self) -> usize {
        self.pieces.len()
    }

    /// What a token adds to a text, or as the vocabulary writes it where that is no text: special
    /// tokens, and bytes that are part of a character.
    pub fn token_text(&self, id: u32) -> String {
        let mut bytes = Vec::new();
        self.append(id, false, &mut bytes);
        match String::from_utf8(bytes) {
            Ok(text) if !text.is_empty() => text,
            _ => self.token(id).unwrap_or_else(|| id.to_string()),
        }
    }

    /// Number of tokens of the model's own vocabulary, added tokens not counted.
    pub fn base_size(&self) -> usize {
        self.base_size
    }

    /// Refuses a `tokenizer_config.json` that promises another begin token than `tokenizer.json`
    /// adds: which of the two holds depends on the reading program's version.
    fn check_lead(&self, settings: &Value) -> Result<(), String> {
        let Some(promised) = settings["add_bos_token"].as_bool() else {
            return Ok(());
        };
        let lead = self.encoding("", true)?;
        let bos = token_name(&settings["bos_token"]).and_then(|t| self.library.token_to_id(&t));
        let added = bos.is_some_and(|id| lead.get_ids().first() == Some(&id));
        if promised == added {
            return Ok(());
        }
        Err(format!(
            "`add_bos_token` of tokenizer_config.json is {promised}, and this file's \
             `post_processor` {} the begin token; make the two agree",
            if added { "adds" } else { "does not add" }
        ))
    }

    /// Where each token's bytes lie in the text. If the tokens spell the text, perhaps behind a
    /// space that the normaliser put before it, found by their lengths; else [`Self::anchor`].
    fn align(&self, text: &str, ids: &[u32], anchors: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let text = text.as_bytes();
        let spelled = ids.iter().flat_map(|&id| self.bytes(id)).copied();
        let shift = if spelled.clone().eq(text.iter().copied()) {
            0
        } else if spelled.eq(std::iter::once(b' ').chain(text.iter().copied())) {
            1
        } else {
            return self.anchor(text, ids, anchors);
        };
        let mut end = 0usize;
        ids.iter()
            .map(|&id| {
                let start = end;
                end += self.bytes(id).len();
                (start.saturating_sub(shift), end.saturating_sub(shift))
            })
            .collect()
    }

    /// Where each token's bytes lie in a text that the normaliser changed. The library's offsets
    /// are the anchor; where the token's own bytes continue the text seamlessly they decide.
    fn anchor(&self, text: &[u8], ids: &[u32], anchors: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let blank = |from: usize, to: usize| {
            text.get(from..to)
                .is_some_and(|gap| gap.iter().all(u8::is_ascii_whitespace))
        };
        let mut spans = Vec::with_capacity(ids.len());
        let mut cursor = 0;
        for (i, (&id, &(start, end))) in ids.iter().zip(anchors).enumerate() {
            let mut piece = self.bytes(id);
            // The space that the normaliser puts before the text is no byte of it.
            if i == 0 && !text.starts_with(piece) {
                piece = piece.strip_prefix(b" ").unwrap_or(piece);
            }
            let near = cursor <= end && (cursor >= start || blank(cursor, start));
            let span = if near && text[cursor..].starts_with(piece) {
                (cursor, cursor + piece.len())
            } else if piece.first() == Some(&b' ') && cursor < start && blank(cursor, start) {
                (cursor, end)
            } else {
                (start, end)
            };
            cursor = cursor.max(span.1).min(text.len());
            // Callers cut rows at a byte and rely on ascending starts.
            let floor = spans.last().map_or(0, |last: &(usize, usize)| last.0);
            spans.push((span.0.max(floor), span.1.max(floor)));
        }
        spans
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.pieces
            .get(id as usize)
            .map_or(&[], |piece| &piece.bytes)
    }
}

/// Why there is no `tokenizer.json` to read, and how to come by one.
fn missing(dir: &Path) -> String {
    let others: Vec<&str> = ["tokenizer.model", "vocab.json", "merges.txt", "vocab.txt"]
        .into_iter()
        .filter(|name| dir.join(name).exists())
        .collect();
    let remedy = if others.is_empty() {
        "download the model again with its tokenizer files (`hf download OWNER/NAME --local-dir DIR`), \
         or copy those of the model that it was trained from"
            .to_owned()
    } else {
        format!(
            "there is {}, from which transformers makes it: \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            others.join(" and ")
        )
    };
    format!(
        "`{}` is missing, the only form of a tokenizer that is read; {remedy}",
        dir.join("tokenizer.json").display()
    )
}

/// Merges that are dropped by chance cannot give the same ids twice.
fn refuse_dropout(json: &Value) -> Result<(), String> {
    match json["model"]["dropout"].as_f64() {
        Some(dropout) if dropout > 0.0 => Err(format!(
            "`model.dropout` is {dropout}; tokenization must be the same every time"
        )),
        _ => Ok(()),
    }
}

fn eos_token(settings: &Value) -> Option<String> {
    token_name(&settings["eos_token"])
}

/// A token in `tokenizer_config.json`: a string, or an object that holds it.
fn token_name(value: &Value) -> Option<String> {
    value
        .as_str()
        .or_else(|| value["content"].as_str())
        .map(str::to_owned)
}

/// The end token and all that stop: of a list the tokenizer's own `eos_token` if it is listed,
/// else the first.
fn end_tokens(sources: &[&Value], named: Option<u32>) -> Result<(u32, Vec<u32>), String> {
    let listed = sources
        .iter()
        .map(|source| &source["eos_token_id"])
        .find(|ids| !ids.is_null());
    let mut stops = match listed {
        Some(ids) => token_ids(ids)?,
        None => named.into_iter().collect(),
    };
    let first = *stops.first().ok_or(
        "no end token: neither `eos_token_id` of generation_config.json or config.json nor \
         `eos_token` of tokenizer_config.json names one",
    )?;
    let end = named.filter(|id| stops.contains(id)).unwrap_or(first);
    stops.sort_unstable();
    stops.dedup();
    Ok((end, stops))
}

fn token_ids(value: &Value) -> Result<Vec<u32>, String> {
    let one = |id: &Value| {
        id.as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| {
                format!("`eos_token_id` is {value}; expected a token id or a list of them")
            })
    };
    match value {
        Value::Array(ids) => ids.iter().map(one).collect(),
        id => Ok(vec![one(id)?]),
    }
}

#[cfg(test)]
pub(crate) mod tests;
