//! The text of a completion while it grows.

use idiolect_model::{Completion, Finish};

use super::Written;
use crate::tokenizer::Tokenizer;

/// The text of a completion while it grows.
pub(crate) struct Text {
    bytes: Vec<u8>,
    /// Where each token's bytes begin.
    starts: Vec<usize>,
    pub(super) tokens: Vec<Written>,
    /// Whether no text comes before the next token.
    first: bool,
}

impl Text {
    pub(super) fn new(first: bool) -> Self {
        Self {
            bytes: Vec::new(),
            starts: Vec::new(),
            tokens: Vec::new(),
            first,
        }
    }

    /// Appends a token and cuts the text at the first stop string, if one is complete. Tokens
    /// that begin at or behind the cut are not counted as written.
    pub(super) fn push(&mut self, tokenizer: &Tokenizer, token: Written, stop: &[String]) -> bool {
        let before = self.bytes.len();
        self.starts.push(before);
        tokenizer.append(token.id, self.first, &mut self.bytes);
        self.first &= !tokenizer.any_text(&[token.id]);
        self.tokens.push(token);
        let found = stop
            .iter()
            .filter_map(|stop| {
                // A stop that is complete now ends in the new bytes.
                let from = (before + 1).saturating_sub(stop.len());
                let tail = &self.bytes[from..];
                tail.windows(stop.len())
                    .position(|w| w == stop.as_bytes())
                    .map(|i| from + i)
            })
            .min();
        let Some(cut) = found else { return false };
        self.bytes.truncate(cut);
        let kept = self.starts.partition_point(|&start| start < cut);
        self.starts.truncate(kept);
        self.tokens.truncate(kept);
        true
    }

    /// How much of a text that goes on will stay whatever follows: tokens, and bytes at the end of
    /// a character. What may become a stop string is not among it.
    pub(super) fn settled(&self, stop: &[String]) -> (usize, usize) {
        let open = stop.iter().map(|stop| begun(&self.bytes, stop.as_bytes()));
        let bytes = self.bytes.len() - open.max().unwrap_or(0);
        let tokens = if stop.is_empty() {
            self.tokens.len()
        } else {
            self.starts.partition_point(|&start| start < bytes)
        };
        (tokens, whole_characters(&self.bytes[..bytes]))
    }

    /// All of an ended text.
    pub(super) fn whole(&self) -> (usize, usize) {
        (self.tokens.len(), self.bytes.len())
    }

    /// Some of its bytes as text.
    pub(super) fn between(&self, start: usize, end: usize) -> String {
        String::from_utf8_lossy(&self.bytes[start..end]).into_owned()
    }

    pub(super) fn complete(self, finish: Finish) -> Completion {
        Completion {
            text: String::from_utf8_lossy(&self.bytes).into_owned(),
            finish,
            n_tokens: self.tokens.len(),
            logprobs: self.tokens.into_iter().map(|token| token.logprob).collect(),
        }
    }
}

/// Bytes at the end of a text that begin a stop string.
fn begun(bytes: &[u8], stop: &[u8]) -> usize {
    let most = bytes.len().min(stop.len().saturating_sub(1));
    (1..=most)
        .rev()
        .find(|&n| bytes.ends_with(&stop[..n]))
        .unwrap_or(0)
}

/// Bytes without a last character that is not whole yet.
fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes, so that an open one begins in the last three.
    let from = (bytes.len().saturating_sub(3)..bytes.len())
        .find(|&at| bytes[at] >= 0xC0)
        .unwrap_or(bytes.len());
    let open = |at: &usize| {
        let rest = &bytes[*at..];
        matches!(std::str::from_utf8(rest), Err(error)
            if error.error_len().is_none() && error.valid_up_to() == 0)
    };
    (from..bytes.len()).find(open).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_begin_a_stop_or_a_character_is_held_back() {
        assert_eq!(begun(b"one ##", b"####"), 2);
        assert_eq!(begun(b"aab", b"aabaac"), 3);
        assert_eq!(begun(b"done", b"####"), 0);
        assert_eq!(begun(b"", b"x"), 0);
        let euro = "€".as_bytes();
        assert_eq!(whole_characters(b"ab"), 2);
        for n in 1..3 {
            assert_eq!(whole_characters(&[b"ab", &euro[..n]].concat()), 2);
        }
        assert_eq!(whole_characters(&[b"ab", euro].concat()), 5);
        // Bytes that no character can begin with are final.
        assert_eq!(whole_characters(b"ab\xFF"), 3);
        assert_eq!(whole_characters(b"ab\x80\x80\x80\x80"), 6);
        assert_eq!(whole_characters(&[euro, &euro[..2]].concat()), 3);
    }
}
