//! One step ahead: what a single AdamW step along a set's mean gradient would do to other texts.
//!
//! A step's direction is m/√v with m and v the mean and the mean square of the gradients of a few
//! batches: what AdamW's own moments would settle at if the weights did not change. So a set whose
//! batches agree moves the weights far and one of noise moves them about 1/√batches as far, as in
//! training. Then the moved copy scores the goal texts: a finite difference, as the loss is far
//! from linear already over one step. It moves what trains: the weights,
//! or an adapter beside them. Needs about five times that in memory, beside a copy of the model.

use std::ops::ControlFlow;

use idiolect_model::{Lookahead, LookaheadSettings};

use crate::accumulate::{Accumulator, Rows};
use crate::backward::total_weight;
use crate::batch::TokenRow;
use crate::decoder::Decoder;
use crate::score::score_rows;
use crate::threads::Threads;

/// AdamW's usual epsilon.
const EPSILON: f64 = 1e-8;

/// The texts that a step is judged by.
pub(crate) struct Goal {
    rows: Vec<TokenRow>,
    /// ln p of each before any step.
    before: Vec<f64>,
    /// Gradient of −Σ credit · ln p over the number of texts.
    gradient: Vec<f32>,
}

impl Goal {
    /// Texts with their credits, positive or negative, under a model.
    pub(crate) fn new(
        decoder: &Decoder,
        rows: Vec<TokenRow>,
        credits: Vec<f64>,
        threads: &Threads,
    ) -> Self {
        let mut gradient = vec![0.0f32; decoder.n_trained()];
        // A row's weight in a loss is never negative: the two signs are summed apart.
        for sign in [1.0, -1.0] {
            let part: Vec<TokenRow> = rows
                .iter()
                .zip(&credits)
                .filter(|(_, credit)| sign * **credit > 0.0)
                .map(|(row, credit)| TokenRow {
                    weight: (sign * credit) as f32,
                    ..row.clone()
                })
                .collect();
            let refs: Vec<&TokenRow> = part.iter().collect();
            let mut sums = vec![0.0f32; gradient.len()];
            let part = Rows {
                rows: &refs,
                loss_scale: 1.0 / rows.len().max(1) as f64,
                draw: None,
            };
            Accumulator::new(false).accumulate(decoder, part, &mut sums, threads);
            for (total, part) in gradient.iter_mut().zip(&sums) {
                *total += sign as f32 * part;
            }
        }
        let before = log_probabilities(decoder, &rows, threads);
        Self {
            rows,
            before,
            gradient,
        }
    }
}

/// What one step on `rows` would do. Every row must pass [`TokenRow::check`].
pub(crate) fn look_ahead(
    decoder: &Decoder,
    goal: &Goal,
    rows: &[TokenRow],
    settings: &LookaheadSettings,
    threads: &Threads,
) -> Lookahead {
    let n = decoder.n_trained();
    let (mut mean, mut square) = (vec![0.0f32; n], vec![0.0f32; n]);
    let mut gradients = vec![0.0f32; n];
    let mut accumulator = Accumulator::new(false);
    let (mut loss, mut batches) = (0.0, 0usize);
    for batch in rows.chunks(settings.rows_per_batch.max(1)) {
        let refs: Vec<&TokenRow> = batch.iter().collect();
        let loss_scale = 1.0 / total_weight(&refs);
        gradients.fill(0.0);
        let batch = Rows {
            rows: &refs,
            loss_scale,
            draw: None,
        };
        loss += accumulator.accumulate(decoder, batch, &mut gradients, threads);
        for ((m, v), g) in mean.iter_mut().zip(&mut square).zip(&gradients) {
            *m += g;
            *v += g * g;
        }
        batches += 1;
    }
    let count = batches.max(1) as f32;
    let mut moved = decoder.clone();
    let (mut along, mut length) = (0.0f64, 0.0f64);
    for (((weight, m), v), goal) in moved
        .trained_mut()
        .iter_mut()
        .zip(&mean)
        .zip(&square)
        .zip(&goal.gradient)
    {
        let direction = f64::from(m / count) / (f64::from(v / count).sqrt() + EPSILON);
        *weight -= (settings.lr * direction) as f32;
        along += direction * f64::from(*goal);
        length += direction * direction;
    }
    let goal_length: f64 = goal.gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
    let scale = (length * goal_length).sqrt();
    let after = log_probabilities(&moved, &goal.rows, threads);
    Lookahead {
        loss: loss / f64::from(count),
        cosine: if scale > 0.0 { along / scale } else { 0.0 },
        moved: after.iter().zip(&goal.before).map(|(a, b)| a - b).collect(),
    }
}

fn log_probabilities(decoder: &Decoder, rows: &[TokenRow], threads: &Threads) -> Vec<f64> {
    let mut sums = vec![0.0; rows.len()];
    score_rows(decoder, rows, threads, &mut |i, scores| {
        sums[i] = scores
            .unwrap_or_default()
            .iter()
            .map(|score| f64::from(score.logprob))
            .sum();
        ControlFlow::Continue(())
    });
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_config::Family;
    use crate::tests::tiny;
    use idiolect_model::Rng;

    fn small_decoder() -> Decoder {
        Decoder::random(tiny(Family::Llama), 5, 0.3).unwrap()
    }

    fn rows(seed: u64, n: usize, vocab: usize) -> Vec<TokenRow> {
        let mut rng = Rng::keyed(seed, &["lookahead"]);
        (0..n)
            .map(|_| TokenRow {
                ids: (0..9).map(|_| rng.below(vocab) as u32).collect(),
                completion_start: 3,
                weight: 1.0,
                loss_mask: Vec::new(),
            })
            .collect()
    }

    fn settings(lr: f64) -> LookaheadSettings {
        LookaheadSettings {
            rows_per_batch: 4,
            lr,
        }
    }

    #[test]
    fn a_step_on_the_goal_itself_raises_it_and_one_away_lowers_it() {
        let decoder = small_decoder();
        let texts = rows(1, 8, decoder.config().vocab);
        let threads = Threads::single();
        let towards = Goal::new(&decoder, texts.clone(), vec![1.0; 8], &threads);
        let away = Goal::new(&decoder, texts.clone(), vec![-1.0; 8], &threads);
        let up = look_ahead(&decoder, &towards, &texts, &settings(1e-3), &threads);
        let down = look_ahead(&decoder, &away, &texts, &settings(1e-3), &threads);
        assert!(
            up.cosine > 0.1 && up.moved.iter().sum::<f64>() > 0.0,
            "{up:?}"
        );
        assert!((up.cosine + down.cosine).abs() < 1e-6);
        assert_eq!(up.moved, down.moved);
    }

    #[test]
    fn a_step_of_no_length_moves_nothing_and_threads_change_no_bit() {
        let decoder = small_decoder();
        let vocab = decoder.config().vocab;
        let (texts, set) = (rows(2, 6, vocab), rows(3, 10, vocab));
        let of = |lr: f64, threads: &Threads| {
            let goal = Goal::new(&decoder, texts.clone(), vec![1.0; 6], threads);
            look_ahead(&decoder, &goal, &set, &settings(lr), threads)
        };
        assert!(of(0.0, &Threads::single()).moved.iter().all(|m| *m == 0.0));
        let two = Threads::new(std::num::NonZeroUsize::new(2).unwrap());
        assert_eq!(of(1e-3, &Threads::single()), of(1e-3, &two));
    }
}
