//! Token rows, and their packing into one batch without padding.

use crate::model_config::ModelConfig;
use crate::ops::attention::Segment;
use crate::ops::head::Target;
use crate::ops::shared_prefix::PrefixedSegment;

/// A sequence of tokens of which the last part is to be trained on or scored.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    /// Token ids, prompt first, the end token last.
    pub ids: Vec<u32>,
    /// The targets are positions `completion_start..ids.len()`, each predicted from those before it;
    /// at least 1, as nothing predicts the first token.
    pub completion_start: usize,
    /// Weight of each of its targets in the training loss; scoring ignores it.
    pub weight: f32,
    /// The loss mask: which of the targets take part in the loss, in their order; all of them where
    /// it is shorter. Scoring ignores it.
    pub loss_mask: Vec<bool>,
}

impl TokenRow {
    /// A row all of whose targets count, at weight 1.
    pub fn new(ids: Vec<u32>, completion_start: usize) -> Self {
        Self {
            ids,
            completion_start,
            weight: 1.0,
            loss_mask: Vec::new(),
        }
    }
}

/// Why a row cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// No position is predicted.
    #[error(
        "holds no target with a loss: {ids} tokens, the completion starts at {completion_start}"
    )]
    NoTarget {
        /// Tokens of the row.
        ids: usize,
        /// As given.
        completion_start: usize,
    },
    /// The first token would have to be predicted from nothing.
    #[error("the first token cannot be a target; put a start token or a prompt before it")]
    FirstToken,
    /// A token that the model does not have.
    #[error("token {id} at position {position} is not below the model's vocabulary of {vocab}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// Its position.
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
    /// Whether a model with this config can train on and score this row.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, config: &ModelConfig) -> Result<(), RowFault> {
        if self.completion_start == 0 {
            return Err(RowFault::FirstToken);
        }
        if self.completion_start >= self.ids.len() || self.n_loss_tokens() == 0 {
            return Err(RowFault::NoTarget {
                ids: self.ids.len(),
                completion_start: self.completion_start,
            });
        }
        if !(self.weight.is_finite() && self.weight >= 0.0) {
            return Err(RowFault::Weight {
                weight: self.weight,
            });
        }
        match self.ids.iter().position(|&id| id as usize >= config.vocab) {
            None => Ok(()),
            Some(position) => Err(RowFault::UnknownToken {
                id: self.ids[position],
                position,
                vocab: config.vocab,
            }),
        }
    }

    /// Positions that are predicted.
    pub fn n_targets(&self) -> usize {
        self.ids.len().saturating_sub(self.completion_start)
    }

    /// Whether the target at a position takes part in the loss.
    pub(crate) fn in_loss(&self, position: usize) -> bool {
        *self
            .loss_mask
            .get(position - self.completion_start)
            .unwrap_or(&true)
    }

    /// The row's labels as PyTorch's losses take them: the ids that take part in the loss, -100 for
    /// every other.
    pub fn labels(&self) -> Vec<i64> {
        let label = |(t, id): (usize, &u32)| match t >= self.completion_start && self.in_loss(t) {
            true => i64::from(*id),
            false => -100,
        };
        self.ids.iter().enumerate().map(label).collect()
    }

    /// Positions that take part in the loss.
    pub fn n_loss_tokens(&self) -> usize {
        let masked = self.loss_mask.iter().filter(|in_loss| !**in_loss).count();
        self.n_targets().saturating_sub(masked)
    }

    /// Tokens that are computed: all but the last, from which nothing is predicted.
    pub fn n_inputs(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }
}

/// The T tokens of many sequences, side by side.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<u32>,
    /// Of each token in its own sequence.
    pub(crate) positions: Vec<u32>,
    /// Sequences that see nothing but themselves.
    pub(crate) segments: Vec<Segment>,
    /// Sequences that also see one of the segments before them.
    pub(crate) prefixed: Vec<PrefixedSegment>,
    pub(crate) targets: Vec<Target>,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.positions.clear();
        self.segments.clear();
        self.prefixed.clear();
        self.targets.clear();
    }

    /// Adds a sequence that starts at a position.
    pub(crate) fn push_tokens(&mut self, ids: &[u32], position: usize) {
        let segment = self.push_lanes(ids, position);
        self.segments.push(segment);
    }

    fn push_lanes(&mut self, ids: &[u32], position: usize) -> Segment {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.positions
            .extend((position..position + ids.len()).map(|p| p as u32));
        let len = ids.len();
        Segment { start, len }
    }

    /// Adds rows to be scored, in order. A row that follows the same prompt as the one before it
    /// continues that row's copy of it. Their weights are not looked at.
    pub(crate) fn push_scored<'a>(&mut self, rows: impl Iterator<Item = &'a TokenRow>) {
        let mut last: Option<(&[u32], Segment)> = None;
        for row in rows {
            let (prompt, completion) = row.ids.split_at(row.completion_start);
            let prefix = match last {
                Some((ids, segment)) if ids == prompt => segment,
                _ => {
                    let segment = self.push_lanes(prompt, 0);
                    self.segments.push(segment);
                    segment
                }
            };
            last = Some((prompt, prefix));
            let inputs = &completion[..completion.len() - 1];
            let own = self.push_lanes(inputs, prompt.len());
            if own.len > 0 {
                self.prefixed.push(PrefixedSegment { prefix, own });
            }
            // The prompt's last token predicts the completion's first.
            let lanes = std::iter::once(prefix.start + prefix.len - 1)
                .chain(own.start..own.start + own.len);
            let targets = lanes.zip(completion).map(|(lane, &token)| Target {
                lane,
                token,
                weight: 1.0,
            });
            self.targets.extend(targets);
        }
    }

    /// Adds a row with those of its targets that take part in the loss, each weighing the row's
    /// weight times `loss_scale`.
    pub(crate) fn push_row(&mut self, row: &TokenRow, loss_scale: f64) {
        let start = self.ids.len();
        self.push_tokens(&row.ids[..row.n_inputs()], 0);
        let weight = (f64::from(row.weight) * loss_scale) as f32;
        let targets = (row.completion_start..row.ids.len()).filter(|&t| row.in_loss(t));
        self.targets.extend(targets.map(|t| Target {
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
pub(crate) fn tokens_at_a_time(config: &ModelConfig) -> usize {
    if config.n_parameters() < 4_000_000 {
        256
    } else {
        1024
    }
}

/// Tokens to score at a time. No result depends on it. More than [`tokens_at_a_time`], as a prompt's
/// completions should fit with it, within some 128 MiB of activations for each thread.
pub(crate) fn scored_tokens_at_a_time(config: &ModelConfig) -> usize {
    if config.n_parameters() < 4_000_000 {
        return 256;
    }
    let floats = 4 * config.hidden + 2 * config.qkv_rows() + 4 * config.intermediate;
    ((128 << 20) / (floats * size_of::<f32>())).clamp(512, 2048)
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

/// Cuts rows to be scored into runs of at most `tokens` computed tokens (at least one row each), in
/// order. Rows of one prompt count it once; they come into one run if they fit, and are else spread
/// evenly over as few as hold them, each with the prompt again.
pub(crate) fn scored_runs(rows: &[&TokenRow], tokens: usize) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let (mut start, mut sum, mut group) = (0, 0, 0);
    while group < rows.len() {
        let own = |row: &TokenRow| row.n_inputs() - row.completion_start;
        let prompt = &rows[group].ids[..rows[group].completion_start];
        let len = rows[group..]
            .iter()
            .take_while(|row| row.ids[..row.completion_start] == *prompt)
            .count();
        let group_rows = &rows[group..group + len];
        let shared = prompt.len();
        let total: usize = group_rows.iter().map(|row| own(row)).sum();
        if sum + shared + total > tokens {
            if group > start {
                runs.push(start..group);
            }
            (start, sum) = (group, 0);
        }
        let parts = total.div_ceil(tokens.saturating_sub(shared).max(1)).max(1);
        let part = total.div_ceil(parts);
        sum += shared;
        let mut in_part = 0;
        for (i, row) in group_rows.iter().enumerate() {
            let row = own(row);
            // Half a row over the even part is nearer to it than half a row under.
            if group + i > start && parts > 1 && in_part > 0 && in_part + row / 2 > part {
                runs.push(start..group + i);
                (start, sum, in_part) = (group + i, shared, 0);
            }
            sum += row;
            in_part += row;
        }
        group += len;
    }
    if rows.len() > start {
        runs.push(start..rows.len());
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
                completion_start: 2,
                weight: 3.0,
                loss_mask: Vec::new(),
            },
            0.5,
        );
        batch.push_row(
            &TokenRow {
                ids: vec![1, 2],
                completion_start: 1,
                weight: 1.0,
                loss_mask: Vec::new(),
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

    fn row(prompt: &[u32], completion: &[u32]) -> TokenRow {
        TokenRow {
            ids: [prompt, completion].concat(),
            completion_start: prompt.len(),
            weight: 1.0,
            loss_mask: Vec::new(),
        }
    }

    #[test]
    fn rows_of_one_prompt_continue_one_copy_of_it() {
        let mut batch = Batch::default();
        let rows = [
            row(&[1, 2], &[5, 6, 7]),
            row(&[1, 2], &[9]),
            row(&[1, 2], &[5, 8]),
            row(&[1], &[5, 8]),
        ];
        batch.push_scored(rows.iter());
        assert_eq!(batch.ids, [1, 2, 5, 6, 5, 1, 5]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 2, 0, 1]);
        let spans: Vec<_> = batch.segments.iter().map(|s| (s.start, s.len)).collect();
        assert_eq!(spans, [(0, 2), (5, 1)]);
        let continued: Vec<_> = batch
            .prefixed
            .iter()
            .map(|c| (c.prefix.start, c.own.start, c.own.len))
            .collect();
        assert_eq!(continued, [(0, 2, 2), (0, 4, 1), (5, 6, 1)]);
        let targets: Vec<_> = batch.targets.iter().map(|t| (t.lane, t.token)).collect();
        assert_eq!(
            targets,
            [
                (1, 5),
                (2, 6),
                (3, 7),
                (1, 9),
                (1, 5),
                (4, 8),
                (5, 5),
                (6, 8)
            ]
        );
    }

    #[test]
    fn scored_runs_keep_a_prompt_together_while_it_fits() {
        let group = |prompt: u32, n: usize, own: usize| {
            (0..n).map(move |_| row(&[prompt; 10], &vec![3; own + 1]))
        };
        let runs_of = |groups: &[(usize, usize)], tokens| {
            let rows: Vec<TokenRow> = (0..)
                .zip(groups)
                .flat_map(|(prompt, &(n, own))| group(prompt, n, own))
                .collect();
            scored_runs(&rows.iter().collect::<Vec<_>>(), tokens)
        };
        assert_eq!(runs_of(&[(2, 5), (2, 5), (2, 5)], 40), [0..4, 4..6]);
        assert_eq!(runs_of(&[(1, 5), (8, 10)], 50), [0..1, 1..5, 5..9]);
        assert_eq!(runs_of(&[(2, 90), (1, 1)], 50), [0..1, 1..2, 2..3]);
        assert!(runs_of(&[], 50).is_empty());
    }

    #[test]
    fn runs_hold_whole_rows_and_none_is_lost() {
        assert_eq!(runs([3, 3, 9, 1, 1].into_iter(), 6), [0..2, 2..3, 3..5]);
        assert!(runs([].into_iter(), 6).is_empty());
    }
}
