//! Folds of scores: from the scores of a trace's tokens to sums and counts, and from those of
//! several traces to the sums of their set.
//!
//! The end token enters [`ScoreRow::end_nll_nats`] alone. Sums are f64 in token order, so that
//! equal scores give equal bits. What is derived from the sums lies in [`crate::metric`].

use crate::record::ScoreRow;
use idiolect_model::{Template, TokenScore};

/// Ranks beyond this count as this much in `rank_clip100_sum`.
pub const RANK_CLIP: u32 = 100;

/// What a score row is about, beside its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The trace scored, or the line number of a row without one.
    pub trace_id: &'a str,
    /// Its problem, where known.
    pub problem_id: Option<&'a str>,
    /// Hash of the student that scored.
    pub model: &'a str,
    /// How the prompt was rendered.
    pub template: Template,
    /// UTF-8 bytes of the completion.
    pub completion_bytes: usize,
}

/// Why score rows cannot be summed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Surprisal under two students, or two renderings, has no common sum.
    #[error(
        "scores of different students or templates cannot be summed: trace `{left}` has {left_model}, trace `{right}` has {right_model}; score all traces with one student and one template"
    )]
    Mixed {
        /// A trace.
        left: String,
        /// Its model and template.
        left_model: String,
        /// Another trace.
        right: String,
        /// Its model and template.
        right_model: String,
    },
}

/// Sums the scores of one trace. `tokens` are the completion's, in text order, then the end token
/// (where there is none, `end_nll_nats` is 0). `n_bytes` counts the bytes of completion tokens:
/// those of a first token that straddles the border of prompt and completion are the prompt's.
pub fn fold(tokens: &[TokenScore], identity: Identity<'_>) -> ScoreRow {
    let mut sums = empty(identity);
    let mut first_byte = None;
    let mut surprisals = Vec::with_capacity(tokens.len());
    for token in tokens {
        let surprisal = -f64::from(token.logprob);
        if token.is_end {
            sums.end_nll_nats += surprisal;
            continue;
        }
        first_byte.get_or_insert(u64::from(token.byte_start));
        add_token(&mut sums, token, surprisal);
        surprisals.push(surprisal);
    }
    surprisals.sort_unstable_by(|a, b| b.total_cmp(a));
    sums.min20_nats = Some(surprisals.iter().take(least_likely(sums.n_tokens)).sum());
    sums.n_bytes = first_byte.map_or(0, |start| {
        (identity.completion_bytes as u64).saturating_sub(start)
    });
    sums
}

/// How many of `n_tokens` are the least likely fifth: rounded down as the authors of Min-K% do, and
/// at least one, so that a text of fewer than five tokens has a value.
pub(crate) fn least_likely(n_tokens: u64) -> usize {
    (n_tokens / 5).max(1) as usize
}

fn add_token(sums: &mut ScoreRow, token: &TokenScore, surprisal: f64) {
    let distribution = token.distribution;
    let entropy = distribution.map(|d| f64::from(d.entropy));
    let rank = token.rank;
    let within = |k: u32| rank.map(|rank| u64::from(rank <= k));
    sums.n_tokens += 1;
    sums.nll_nats += surprisal;
    plus(&mut sums.entropy_nats, entropy);
    let varentropy = distribution.map(|d| f64::from(d.varentropy));
    plus(&mut sums.varentropy_nats2, varentropy);
    let excess = entropy.map(|entropy| (surprisal - entropy).abs());
    plus(&mut sums.abs_excess_nats, excess);
    plus(&mut sums.rank_sum, rank.map(f64::from));
    let clipped = rank.map(|rank| f64::from(rank.min(RANK_CLIP)));
    plus(&mut sums.rank_clip100_sum, clipped);
    let log_rank = rank.map(|rank| f64::from(rank.max(1)).ln());
    plus(&mut sums.log_rank_sum, log_rank);
    plus(&mut sums.top1, within(1));
    plus(&mut sums.top5, within(5));
    plus(&mut sums.top10, within(10));
    plus(&mut sums.top50, within(50));
    // ‖p − onehot‖² by its expansion.
    let brier =
        distribution.map(|d| 1.0 - 2.0 * f64::from(token.logprob).exp() + f64::from(d.sum_p2));
    plus(&mut sums.brier_sum, brier);
}

/// A sum with a term that is not known is not known.
fn plus<T: std::ops::Add<Output = T> + Copy>(sum: &mut Option<T>, term: Option<T>) {
    *sum = sum.zip(term).map(|(sum, term)| sum + term);
}

/// The sums of a set of traces, in their order; `None` of no trace. The result is about no single
/// trace: its `trace_id` is empty and its `problem_id` stays only where all share it.
///
/// # Errors
/// When the traces were scored by different students or under different templates.
pub fn merge<'a>(
    scores: impl IntoIterator<Item = &'a ScoreRow>,
) -> Result<Option<ScoreRow>, MergeError> {
    let mut scores = scores.into_iter();
    let Some(first) = scores.next() else {
        return Ok(None);
    };
    let mut sums = ScoreRow {
        trace_id: String::new(),
        ..first.clone()
    };
    for row in scores {
        if row.model != first.model || row.template != first.template {
            return Err(mixed(first, row));
        }
        if sums.problem_id != row.problem_id {
            sums.problem_id = None;
        }
        add(&mut sums, row);
    }
    Ok(Some(sums))
}

fn add(sums: &mut ScoreRow, other: &ScoreRow) {
    sums.n_tokens += other.n_tokens;
    sums.n_bytes += other.n_bytes;
    sums.nll_nats += other.nll_nats;
    plus(&mut sums.entropy_nats, other.entropy_nats);
    plus(&mut sums.varentropy_nats2, other.varentropy_nats2);
    plus(&mut sums.abs_excess_nats, other.abs_excess_nats);
    plus(&mut sums.rank_sum, other.rank_sum);
    plus(&mut sums.rank_clip100_sum, other.rank_clip100_sum);
    plus(&mut sums.log_rank_sum, other.log_rank_sum);
    plus(&mut sums.top1, other.top1);
    plus(&mut sums.top5, other.top5);
    plus(&mut sums.top10, other.top10);
    plus(&mut sums.top50, other.top50);
    plus(&mut sums.brier_sum, other.brier_sum);
    // The least likely fifth of two traces is not the two fifths.
    sums.min20_nats = None;
    sums.end_nll_nats += other.end_nll_nats;
}

fn mixed(left: &ScoreRow, right: &ScoreRow) -> MergeError {
    let describe =
        |a: &ScoreRow| format!("model `{}`, template {:?}", a.model, a.template).to_lowercase();
    MergeError::Mixed {
        left: left.trace_id.clone(),
        left_model: describe(left),
        right: right.trace_id.clone(),
        right_model: describe(right),
    }
}

/// The score row of no token.
pub(crate) fn empty(identity: Identity<'_>) -> ScoreRow {
    ScoreRow {
        trace_id: identity.trace_id.to_owned(),
        problem_id: identity.problem_id.map(str::to_owned),
        model: identity.model.to_owned(),
        template: identity.template,
        n_tokens: 0,
        n_bytes: 0,
        nll_nats: 0.0,
        entropy_nats: Some(0.0),
        varentropy_nats2: Some(0.0),
        abs_excess_nats: Some(0.0),
        rank_sum: Some(0.0),
        rank_clip100_sum: Some(0.0),
        log_rank_sum: Some(0.0),
        top1: Some(0),
        top5: Some(0),
        top10: Some(0),
        top50: Some(0),
        brier_sum: Some(0.0),
        min20_nats: Some(0.0),
        end_nll_nats: 0.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use idiolect_model::Distribution;

    /// The golden trace of four tokens over five: logit rows and targets.
    pub(crate) const LOGITS: [[f64; 5]; 4] = [
        [2.0, 1.0, 0.0, -1.0, -2.0],
        [0.5, 0.5, 0.0, 0.0, 3.0],
        [1.0, 2.0, 3.0, 0.0, -1.0],
        [0.0; 5],
    ];
    pub(crate) const TARGETS: [usize; 4] = [0, 0, 1, 4];

    /// Surprisal, rank, entropy, varentropy and Σp² of a target, in f64.
    pub(crate) fn direct(logits: &[f64], target: usize) -> (f64, u32, f64, f64, f64) {
        let log_z = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
        let log_p: Vec<f64> = logits.iter().map(|z| z - log_z).collect();
        let entropy = -log_p.iter().map(|l| l.exp() * l).sum::<f64>();
        let varentropy = log_p.iter().map(|l| l.exp() * l * l).sum::<f64>() - entropy * entropy;
        let sum_p2 = log_p.iter().map(|l| (2.0 * l).exp()).sum();
        let rank = 1 + logits.iter().filter(|z| **z > logits[target]).count() as u32;
        (-log_p[target], rank, entropy, varentropy, sum_p2)
    }

    pub(crate) fn identity() -> Identity<'static> {
        Identity {
            trace_id: "t",
            problem_id: Some("p"),
            model: "m",
            template: Template::Raw,
            completion_bytes: 9,
        }
    }

    fn golden_tokens() -> Vec<TokenScore> {
        let mut tokens: Vec<TokenScore> = LOGITS
            .iter()
            .zip(TARGETS)
            .enumerate()
            .map(|(at, (logits, target))| {
                let (s, rank, entropy, varentropy, sum_p2) = direct(logits, target);
                TokenScore {
                    token_id: target as u32,
                    logprob: -s as f32,
                    rank: Some(rank),
                    distribution: Some(Distribution {
                        entropy: entropy as f32,
                        varentropy: varentropy as f32,
                        sum_p2: sum_p2 as f32,
                    }),
                    byte_start: 2 * at as u32,
                    is_end: false,
                }
            })
            .collect();
        tokens.push(TokenScore {
            token_id: 9,
            logprob: -7.5,
            rank: Some(99),
            distribution: Some(Distribution {
                entropy: 3.0,
                varentropy: 3.0,
                sum_p2: 0.9,
            }),
            byte_start: 9,
            is_end: true,
        });
        tokens
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    #[test]
    fn the_golden_trace_folds_to_its_sums() {
        let sums = fold(&golden_tokens(), identity());
        // Scores are f32: half a unit in the last place of each, four tokens.
        let f32_sum = 1e-6;
        assert_eq!((sums.n_tokens, sums.n_bytes), (4, 9));
        near(sums.nll_nats, 6.247345554, f32_sum);
        near(
            sums.entropy_nats.unwrap(),
            0.999972828 * 2.0 + 0.795226778 + 1.609437912,
            f32_sum,
        );
        near(
            sums.varentropy_nats2.unwrap(),
            0.749931772 * 2.0 + 1.206172259,
            f32_sum,
        );
        near(sums.abs_excess_nats.unwrap(), 4.0 * 0.734713018, f32_sum);
        near(sums.log_rank_sum.unwrap(), 4.0 * 0.346573590, f32_sum);
        near(sums.brier_sum.unwrap(), 3.503502388, f32_sum);
        assert_eq!(
            (sums.rank_sum, sums.rank_clip100_sum),
            (Some(6.0), Some(6.0))
        );
        // The least likely of four tokens is the second.
        near(sums.min20_nats.unwrap(), 2.734078850, f32_sum);
        let tops = [sums.top1, sums.top5, sums.top10, sums.top50];
        assert_eq!(tops, [Some(2), Some(4), Some(4), Some(4)]);
    }

    #[test]
    fn what_one_token_lacks_the_sum_lacks() {
        let mut tokens = golden_tokens();
        tokens[1].rank = None;
        let sums = fold(&tokens, identity());
        assert_eq!((sums.rank_sum, sums.top1), (None, None));
        assert!(sums.entropy_nats.is_some());
        tokens[2].distribution = None;
        let sums = fold(&tokens, identity());
        assert_eq!((sums.entropy_nats, sums.brier_sum), (None, None));
        near(sums.nll_nats, 6.247345554, 1e-6);
        let row = serde_json::to_value(&sums).unwrap();
        assert!(row.get("entropy_nats").is_none() && row.get("rank_sum").is_none());
        assert_eq!(serde_json::from_value::<ScoreRow>(row).unwrap(), sums);
        let whole = fold(&golden_tokens(), identity());
        let merged = merge([&whole, &sums]).unwrap().unwrap();
        assert_eq!((merged.rank_sum, merged.n_tokens), (None, 8));
    }

    #[test]
    fn the_end_token_enters_its_own_surprisal_alone() {
        let mut tokens = golden_tokens();
        let with = fold(&tokens, identity());
        near(with.end_nll_nats, 7.5, 0.0);
        tokens.pop();
        let without = fold(&tokens, identity());
        assert_eq!(
            with,
            ScoreRow {
                end_nll_nats: 7.5,
                ..without
            }
        );
    }

    #[test]
    fn bytes_of_a_straddling_token_are_the_prompts() {
        let tokens = golden_tokens();
        assert_eq!(fold(&tokens[1..], identity()).n_bytes, 7);
        assert_eq!(fold(&tokens[4..], identity()).n_bytes, 0);
    }

    #[test]
    fn merging_parts_gives_the_whole() {
        let tokens = golden_tokens();
        let parts = [
            fold(&tokens[..1], identity()),
            fold(&tokens[1..], identity()),
        ];
        let whole = fold(&tokens, identity());
        let merged = merge(&parts).unwrap().unwrap();
        assert_eq!(merged.n_tokens, whole.n_tokens);
        near(merged.nll_nats, whole.nll_nats, 1e-12);
        near(merged.brier_sum.unwrap(), whole.brier_sum.unwrap(), 1e-12);
        near(merged.end_nll_nats, 7.5, 0.0);
        assert_eq!(merged.min20_nats, None);
        assert_eq!(merge([]), Ok(None));
    }

    #[test]
    fn scores_of_two_students_do_not_merge() {
        let a = fold(&golden_tokens(), identity());
        let b = ScoreRow {
            model: "other".into(),
            trace_id: "u".into(),
            ..a.clone()
        };
        let error = merge([&a, &b]).unwrap_err().to_string();
        assert!(
            error.contains("`t` has model `m`") && error.contains("`u` has model `other`"),
            "{error}"
        );
    }
}
