//! Log-probabilities in the shapes of OpenAI and vLLM. They are those of the model as it is,
//! without temperature and filters.

use idiolect_engine::local::live::{PromptScores, Written};
use idiolect_engine::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

/// A token at its place, whether it was written or given.
pub(super) struct Placed<'a> {
    pub(super) id: u32,
    /// None for a token that follows nothing.
    pub(super) logprob: Option<f32>,
    pub(super) top: &'a [(u32, f32)],
}

impl<'a> From<&'a Written> for Placed<'a> {
    fn from(token: &'a Written) -> Self {
        Self {
            id: token.id,
            logprob: Some(token.logprob),
            top: &token.top,
        }
    }
}

/// JSON has no infinity.
fn number(logprob: f32) -> Value {
    json!(logprob.max(-9999.0))
}

/// Spells tokens one after the other as parts of one text.
pub(super) struct Speller<'a> {
    tokenizer: &'a Tokenizer,
    first: bool,
    /// Characters of the text so far.
    characters: usize,
}

impl<'a> Speller<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Self {
            tokenizer,
            first: true,
            characters: 0,
        }
    }

    /// Goes behind some tokens.
    pub(super) fn skip(&mut self, ids: &[u32]) {
        for &id in ids {
            self.next(id);
        }
    }

    /// Counts from here.
    pub(super) fn restart(&mut self) {
        self.characters = 0;
    }

    fn bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.tokenizer.append(id, self.first, &mut bytes);
        bytes
    }

    /// A token's text here; special tokens and parts of characters as the vocabulary writes them.
    fn spell(&self, id: u32) -> String {
        match String::from_utf8(self.bytes(id)) {
            Ok(text) if !text.is_empty() || !self.tokenizer.is_special(id) => text,
            _ => self.tokenizer.token_text(id),
        }
    }

    /// A token's text, and the character that it begins at.
    fn next(&mut self, id: u32) -> (String, usize) {
        let (text, at) = (self.spell(id), self.characters);
        let begins = |byte: &&u8| **byte & 0xC0 != 0x80;
        self.characters += self.bytes(id).iter().filter(begins).count();
        self.first &= !self.tokenizer.any_text(&[id]);
        (text, at)
    }

    /// The legacy shape of completions: parallel lists.
    pub(super) fn lists<'t>(&mut self, tokens: impl Iterator<Item = Placed<'t>>) -> Value {
        let (mut texts, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
        for token in tokens {
            let top = token.logprob.map(|own| self.top(&token, own));
            let (text, at) = self.next(token.id);
            texts.push(text);
            offsets.push(at);
            logprobs.push(token.logprob.map(number));
            tops.push(top);
        }
        json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops,
            "text_offset": offsets})
    }

    /// The alternatives and the token itself by their texts; of equal texts the more probable.
    fn top(&self, token: &Placed<'_>, own: f32) -> Value {
        let mut map = Map::new();
        for &(id, logprob) in token.top.iter().chain([&(token.id, own)]) {
            map.entry(self.spell(id)).or_insert_with(|| number(logprob));
        }
        Value::Object(map)
    }

    /// The shape of chat completions: a list of objects.
    pub(super) fn content<'t>(&mut self, tokens: impl Iterator<Item = Placed<'t>>) -> Value {
        let mut content = Vec::new();
        for token in tokens {
            let one = |id: u32, logprob: f32| {
                json!({"token": self.spell(id), "logprob": number(logprob),
                    "bytes": self.bytes(id)})
            };
            let top: Vec<Value> = token.top.iter().map(|(id, l)| one(*id, *l)).collect();
            let mut entry = one(token.id, token.logprob.unwrap_or(0.0));
            entry["top_logprobs"] = json!(top);
            content.push(entry);
            self.next(token.id);
        }
        json!({"content": content})
    }
}

/// A prompt's tokens with their scores, those before `start` without.
pub(super) fn placed<'a>(
    ids: &'a [u32],
    start: usize,
    scores: &'a PromptScores,
) -> impl Iterator<Item = Placed<'a>> {
    ids.iter().enumerate().map(move |(at, &id)| {
        let index = at.checked_sub(start);
        let score = index.and_then(|i| scores.scores.get(i));
        let top = index.and_then(|i| scores.top.get(i));
        Placed {
            id,
            logprob: score.map(|score| score.logprob),
            top: top.map_or(&[], Vec::as_slice),
        }
    })
}

/// vLLM's `prompt_logprobs`: for each token an object by ids, the token itself first.
pub(super) fn of_prompt(
    tokenizer: &Tokenizer,
    ids: &[u32],
    start: usize,
    scores: &PromptScores,
) -> Value {
    let mut speller = Speller::new(tokenizer);
    let entries = placed(ids, start, scores).enumerate().map(|(at, token)| {
        let entry = token.logprob.map(|own| {
            let mut map = Map::new();
            let rank = scores.scores[at - start].rank;
            let mut put = |id: u32, logprob: f32, rank: u32| {
                map.entry(id.to_string()).or_insert_with(|| {
                    json!({"logprob": number(logprob), "rank": rank,
                        "decoded_token": speller.spell(id)})
                });
            };
            put(token.id, own, rank);
            for (rank, (id, logprob)) in (1..).zip(token.top) {
                put(*id, *logprob, rank);
            }
            Value::Object(map)
        });
        speller.next(token.id);
        entry.unwrap_or(Value::Null)
    });
    Value::Array(entries.collect())
}
