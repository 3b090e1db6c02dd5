//! Token rows, and their packing into one batch without padding.

use crate::facts::Facts;
use crate::ops::attention::Segment;
use crate::ops::head::Target;

/// A sequence of tokens of which the last part is to be learnt or scored.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    /// Token ids, prompt first, the end token last.
    pub ids: Vec<u32>,
    /// The targets are positions `first_target..ids.len()`, each predicted from those before it;
    /// at least 1, as nothing predicts the first token.
    pub first_target: usize,
    /// Weight of each of its targets in the training loss; scoring ignores it.
    pub weight: f32,
}

/// Why a row cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RowFault {
    /// No position is predicted.
    #[error("holds no target: {ids} tokens, the first target at {first_target}")]
    NoTarget {
        /// Tokens of the row.
        ids: usize,
        /// As given.
        first_target: usize,
    },
    /// The first token would have to be predicted from nothing.
    #[error("the first token cannot be a target; put a start token or a prompt before it")]
    FirstToken,
    /// A token that the model does not have.
    #[error("token {id} at position {position} is not below the model's vocabulary of {vocab}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Where it stands.
        position: usize,
        /// Rows of the embedding.
        vocab: usize,
    },
    /// The weight would poison the whole step.
    #[error("weight {weight} is not a finite number of at least 0")]
    Weight {
        /// As given.
        weight: f32,
    },
}

impl TokenRow {
    /// Whether a model with these facts can train on and score this row.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check(&self, facts: &Facts) -> Result<(), RowFault> {
        if self.first_target == 0 {
            return Err(RowFault::FirstToken);
        }
        if self.first_target >= self.ids.len() {
            return Err(RowFault::NoTarget {
                ids: self.ids.len(),
                first_target: self.first_target,
            });
        }
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(RowFault::Weight {
                weight: self.weight,
            });
        }
        match self.ids.iter().position(|&id| id as usize >= facts.vocab) {
            None => Ok(()),
            Some(position) => Err(RowFault::UnknownToken {
                id: self.ids[position],
                position,
                vocab: facts.vocab,
            }),
        }
    }

    /// Positions that are predicted.
    pub fn n_targets(&self) -> usize {
        self.ids.len().saturating_sub(self.first_target)
    }

    /// Tokens that are computed: all but the last, from which nothing is predicted.
    pub fn n_inputs(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }
}

/// N tokens of many sequences, side by side.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<u32>,
    /// Of each token in its own sequence.
    pub(crate) positions: Vec<u32>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) targets: Vec<Target>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.positions.clear();
        self.segments.clear();
        self.targets.clear();
    }

    /// Adds a sequence that starts at a position.
    pub(crate) fn push_tokens(&mut self, ids: &[u32], position: usize) {
        self.segments.push(Segment {
            start: self.ids.len(),
            len: ids.len(),
        });
        self.ids.extend_from_slice(ids);
        self.positions
            .extend((position..position + ids.len()).map(|p| p as u32));
    }

    /// Adds a row with its targets, each weighing the row's weight times `share`.
    pub(crate) fn push_row(&mut self, row: &TokenRow, share: f64) {
        let start = self.ids.len();
        self.push_tokens(&row.ids[..row.n_inputs()], 0);
        let weight = (f64::from(row.weight) * share) as f32;
        self.targets
            .extend((row.first_target..row.ids.len()).map(|t| Target {
                lane: start + t - 1,
                token: row.ids[t],
                weight,
            }));
    }
}

/// Tokens to compute at a time. Measured on models of 0.2 and 0.6 million parameters: with 256 a
/// layer's activations stay in a second-level cache of 2 MiB, and a training step is a fifth
/// faster than with 1024. Larger models read their weights from further away and want more
/// tokens for each reading. Depends on the model alone, as sums over tokens follow it.
pub(crate) fn tokens_at_a_time(facts: &Facts) -> usize {
    if facts.n_parameters() < 4_000_000 {
        256
    } else {
        512
    }
}

/// Cuts rows into runs of at most `tokens` computed tokens (at least one row each), in order.
pub(crate) fn runs<'a>(
    n_inputs: impl Iterator<Item = usize> + 'a,
    tokens: usize,
) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum, mut end) = (0, 0, 0);
    for n in n_inputs {
        if end > start && sum + n > tokens {
            runs.push(start..end);
            (start, sum) = (end, 0);
        }
        sum += n;
        end += 1;
    }
    if end > start {
        runs.push(start..end);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_is_never_computed_and_every_target_has_its_lane() {
        let mut batch = Batch::default();
        batch.push_row(
            &TokenRow {
                ids: vec![5, 6, 7, 8],
                first_target: 2,
                weight: 3.0,
            },
            0.5,
        );
        batch.push_row(
            &TokenRow {
                ids: vec![1, 2],
                first_target: 1,
                weight: 1.0,
            },
            0.5,
        );
        assert_eq!(batch.ids, [5, 6, 7, 1]);
        assert_eq!(batch.positions, [0, 1, 2, 0]);
        let found: Vec<_> = batch
            .targets
            .iter()
            .map(|t| (t.lane, t.token, t.weight))
            .collect();
        assert_eq!(found, [(1, 7, 1.5), (2, 8, 1.5), (3, 2, 0.5)]);
    }

    #[test]
    fn runs_hold_whole_rows_and_none_is_lost() {
        assert_eq!(runs([3, 3, 9, 1, 1].into_iter(), 6), [0..2, 2..3, 3..5]);
        assert!(runs([].into_iter(), 6).is_empty());
    }
}
