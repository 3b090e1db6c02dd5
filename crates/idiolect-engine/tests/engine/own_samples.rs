//! A model's own samples at temperature 1 are as surprising as its entropy: what the
//! entropy-relative metrics rest on.

use std::sync::Arc;

use idiolect_core::metric::named;
use idiolect_core::record::ScoreRow;
use idiolect_core::scores::{Identity, fold};
use idiolect_core::statistics::{mean, standard_error};
use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::kv_cache::{PagePool, Sequence, forward_prompts, forward_step};
use idiolect_engine::model_config::{Family, ModelConfig, Sizes};
use idiolect_engine::threads::Threads;
use idiolect_engine::workspace::Workspace;
use idiolect_model::{Distribution, Rng, Template, TokenScore};

use crate::subject::scores;

const VOCAB: usize = 40;
const TRACES: usize = 3000;
const TOKENS: usize = 200;
/// Traces computed side by side.
const TOGETHER: usize = 100;

fn model() -> Decoder {
    let sizes = Sizes {
        vocab: VOCAB,
        hidden: 16,
        layers: 2,
        heads: 2,
        kv_heads: 2,
        head_dim: 8,
        intermediate: 24,
    };
    let config = ModelConfig::new(Family::Llama, sizes);
    Decoder::random(config, 3, 0.5).unwrap()
}

/// One token drawn from softmax(logits / temperature), in f64.
fn draw(logits: &[f32], temperature: f64, rng: &mut Rng) -> u32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits
        .iter()
        .map(|z| (f64::from(z - top) / temperature).exp())
        .collect();
    let mut left = rng.uniform() * weights.iter().sum::<f64>();
    for (token, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return token as u32;
        }
    }
    weights.len() as u32 - 1
}

/// Traces of `TOKENS` tokens after one first token, none stopped early, sampled step by step
/// and scored whole.
fn sampled(decoder: &Decoder, traces: usize, temperature: f64) -> Vec<ScoreRow> {
    let mut rows: Vec<TokenRow> = Vec::new();
    let threads = Threads::single();
    for group in 0..traces / TOGETHER {
        let mut rngs: Vec<Rng> = (0..TOGETHER)
            .map(|at| Rng::keyed((group * TOGETHER + at) as u64, &["own samples"]))
            .collect();
        let mut ids: Vec<Vec<u32>> = vec![vec![1]; TOGETHER];
        let (mut workspace, mut pages, mut logits) =
            (Workspace::new(), PagePool::default(), Vec::new());
        let first =
            forward_prompts(decoder, &mut workspace, &[&[1]], &threads, &mut logits).remove(0);
        let first = Arc::new(first);
        let mut sequences: Vec<Sequence> = (0..TOGETHER).map(|_| Sequence::after(&first)).collect();
        let mut logits = logits.repeat(TOGETHER);
        for at in 0..TOKENS {
            let drawn: Vec<u32> = rngs
                .iter_mut()
                .zip(logits.chunks(VOCAB))
                .map(|(rng, logits)| draw(logits, temperature, rng))
                .collect();
            ids.iter_mut()
                .zip(&drawn)
                .for_each(|(ids, id)| ids.push(*id));
            if at + 1 < TOKENS {
                forward_step(
                    decoder,
                    &mut workspace,
                    &mut pages,
                    &mut sequences,
                    &drawn,
                    &threads,
                    &mut logits,
                );
            }
        }
        rows.extend(ids.into_iter().map(|ids| TokenRow {
            ids,
            completion_start: 1,
            weight: 1.0,
            loss_mask: Vec::new(),
        }));
    }
    let identity = Identity {
        trace_id: "t",
        problem_id: None,
        model: "m",
        template: Template::Raw,
        completion_bytes: TOKENS,
    };
    scores(decoder, &rows)
        .chunks(TOKENS)
        .map(|scores| {
            let tokens: Vec<TokenScore> = scores
                .iter()
                .map(|s| TokenScore {
                    token_id: 0,
                    logprob: s.logprob,
                    rank: Some(s.rank),
                    distribution: Some(Distribution {
                        entropy: s.entropy,
                        varentropy: s.varentropy,
                        sum_p2: s.sum_p2,
                    }),
                    byte_start: 0,
                    is_end: false,
                })
                .collect();
            fold(&tokens, identity)
        })
        .collect()
}

fn z_scores(scores: &[ScoreRow]) -> Vec<f64> {
    let z = named("z_score").unwrap().of;
    scores.iter().map(|a| z(a).unwrap()).collect()
}

/// Largest distance of the empirical distribution from the standard normal's.
fn kolmogorov_smirnov(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    sorted
        .iter()
        .enumerate()
        .map(|(at, z)| {
            let expected = idiolect_core::statistics::normal::cdf(*z);
            (expected - at as f64 / n)
                .abs()
                .max((expected - (at + 1) as f64 / n).abs())
        })
        .fold(0.0, f64::max)
}

#[test]
fn own_samples_at_temperature_1_have_no_excess_and_a_standard_normal_z() {
    let scores = sampled(&model(), TRACES, 1.0);
    let excess: Vec<f64> = scores
        .iter()
        .map(|a| a.nll_nats - a.entropy_nats.unwrap())
        .collect();
    let z = z_scores(&scores);
    let n = TRACES as f64;
    let error = standard_error(&excess).unwrap();
    println!("sum(s − H): mean {:.4} ± {error:.4}", mean(&excess));
    assert!(mean(&excess).abs() < 4.0 * error);
    let centre = mean(&z);
    let deviation = (z.iter().map(|z| (z - centre).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let distance = kolmogorov_smirnov(&z);
    println!("Z: mean {centre:.4}, deviation {deviation:.4}, Kolmogorov-Smirnov {distance:.4}");
    // Four standard errors of a mean and of a deviation of 3,000 standard normals.
    assert!(centre.abs() < 4.0 / n.sqrt(), "{centre}");
    assert!(
        (deviation - 1.0).abs() < 4.0 / (2.0 * n).sqrt(),
        "{deviation}"
    );
    // The 0.1 % point of the test; the skew of a sum of 200 terms is far below it.
    assert!(distance < 1.95 / n.sqrt(), "{distance}");
}

#[test]
fn cooled_samples_lie_below_0_and_fail_the_test() {
    let z = z_scores(&sampled(&model(), 400, 0.7));
    println!("temperature 0.7: Z mean {:.2}", mean(&z));
    assert!(mean(&z) < -1.0, "{}", mean(&z));
    assert!(kolmogorov_smirnov(&z) > 1.95 / 400f64.sqrt());
}
