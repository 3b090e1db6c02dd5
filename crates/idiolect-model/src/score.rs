//! Scoring the tokens of given completions.

use serde::{Deserialize, Serialize};

use crate::{ChatFields, Context, Model, ModelError, Sink};

/// An example to score or to train on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What the completion follows.
    pub context: Context,
    /// The text that is scored or trained on.
    pub completion: String,
    /// Weight of its tokens in the training loss; scoring ignores it.
    pub weight: f32,
    /// Loss mask: parts of the completion that are trained on or not; scoring ignores them. What
    /// lies in none is trained on, and so is the end token.
    pub spans: Vec<Span>,
    /// What a chat template is given beside the turns.
    pub chat: ChatFields,
}

impl Example {
    /// A completion after its context, all of it trained on, at weight 1.
    pub fn new(context: Context, completion: &str) -> Self {
        Self {
            context,
            completion: completion.to_owned(),
            weight: 1.0,
            spans: Vec::new(),
            chat: ChatFields::default(),
        }
    }
}

/// A part of a completion, which takes part in the training loss or not. A token belongs to it if
/// the token's first byte does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// First byte, from the first byte of the completion.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
    /// Whether its tokens are targets.
    pub train: bool,
}

/// The distribution that a token was drawn from, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Entropy, nats.
    pub entropy: f32,
    /// Σ p (ln p)² − entropy², nats².
    pub varentropy: f32,
    /// Σ p².
    pub sum_p2: f32,
}

/// What the student finds of one token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScore {
    /// Token id.
    pub token_id: u32,
    /// Log-probability, nats.
    pub logprob: f32,
    /// 1 + the number of tokens with a strictly larger logit, where the model gives ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    /// What the whole distribution was like, where the model gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Offset of its first byte from the first byte of the completion; the end token has the
    /// completion's length.
    pub byte_start: u32,
    /// Whether it is the end token.
    pub is_end: bool,
}

/// The scores of one example: its completion's tokens, then the end token.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// In text order.
    pub tokens: Vec<TokenScore>,
    /// How its row was made.
    pub traits: RowTraits,
}

/// What a person should know of how a row was made of its example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTraits {
    /// A token straddled the border of prompt and completion (it counts as prompt).
    pub straddled: bool,
    /// The completion's text already ended in an end token, which the row holds once.
    pub end_in_text: bool,
    /// The chat template renders the finished answer after another text than the prompt that asks
    /// for it (`add_generation_prompt`); the row begins with that prompt, as generation does.
    pub other_prompt: bool,
}

/// How many rows have which traits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraitCounts {
    /// Rows in all.
    pub rows: u64,
    /// See [`RowTraits::straddled`].
    pub straddled: u64,
    /// See [`RowTraits::end_in_text`].
    pub end_in_text: u64,
    /// See [`RowTraits::other_prompt`].
    pub other_prompt: u64,
}

impl TraitCounts {
    /// Counts a row.
    pub fn add(&mut self, traits: RowTraits) {
        self.rows += 1;
        self.straddled += u64::from(traits.straddled);
        self.end_in_text += u64::from(traits.end_in_text);
        self.other_prompt += u64::from(traits.other_prompt);
    }

    /// Adds the counts of further rows.
    pub fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.straddled += other.straddled;
        self.end_in_text += other.end_in_text;
        self.other_prompt += other.other_prompt;
    }

    /// A sentence for each trait that some row has.
    pub fn notes(&self) -> Vec<String> {
        let of =
            |n: u64, what: &str| (n > 0).then(|| format!("in {n} of {} rows {what}", self.rows));
        [
            of(
                self.straddled,
                "a token straddles the border of prompt and completion; it counts as prompt. A \
                 prompt that ends in a space or line break often causes this",
            ),
            of(
                self.end_in_text,
                "the completion's text already ends in an end token; the row holds that token once",
            ),
            of(
                self.other_prompt,
                "the chat template renders the finished answer after another text than the prompt \
                 that asks for it (add_generation_prompt); the row holds the prompt that asks, as \
                 generation does, and `idiolect inspect` shows it",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Scores the tokens of given completions.
pub trait Score: Model {
    /// Scores each example's completion and end token. Examples with equal contexts that are
    /// adjacent may share the prompt's computation.
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError>;
}
