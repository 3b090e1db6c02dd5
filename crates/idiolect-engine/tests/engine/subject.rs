//! The engine as the parity tests use it.

use std::ops::ControlFlow;
use std::sync::Arc;

use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::kv_cache::{PagePool, Sequence, forward_prompts, forward_step};
use idiolect_engine::score::{TargetScore, score_rows};
use idiolect_engine::threads::Threads;
use idiolect_engine::train::{Training, train_rows};
use idiolect_engine::workspace::Workspace;
use idiolect_model::{Rng, Schedule, StepSize, TrainEvent, TrainSettings};

/// The scores of all targets, row after row.
pub(crate) fn scores(decoder: &Decoder, rows: &[TokenRow]) -> Vec<TargetScore> {
    let mut out = Vec::new();
    score_rows(decoder, rows, &Threads::single(), &mut |_, row| {
        out.extend_from_slice(row.unwrap());
        ControlFlow::Continue(())
    });
    out
}

/// Settings at a constant rate, with every step of `rows` rows.
pub(crate) fn settings(rows: usize) -> TrainSettings {
    TrainSettings {
        schedule: Schedule::Constant,
        step_size: StepSize::Rows(rows),
        ..TrainSettings::default()
    }
}

/// Trains in place on steps of given rows, and returns each step's loss and gradient norm.
///
/// An epoch's order is a shuffle keyed by the seed, so the rows are laid down where that shuffle
/// picks them up again.
pub(crate) fn train(
    decoder: &mut Decoder,
    steps: &[Vec<TokenRow>],
    settings: &TrainSettings,
) -> Vec<(f64, f64)> {
    let wanted = steps.concat();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    Rng::keyed(settings.seed, &["train", "epoch", "0"]).shuffle(&mut order);
    let mut rows = wanted.clone();
    order
        .iter()
        .zip(wanted)
        .for_each(|(&at, row)| rows[at] = row);
    let training = Training {
        rows: &rows,
        dev: &[],
        settings,
        place: None,
    };
    let mut steps = Vec::new();
    train_rows(decoder, training, &Threads::single(), &mut |event| {
        if let TrainEvent::Step {
            loss,
            gradient_norm,
            ..
        } = event
        {
            steps.push((loss, gradient_norm));
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    steps
}

/// The most probable completion, through the caches.
pub(crate) fn greedy(decoder: &Decoder, prompt: &[u32], n_tokens: usize) -> Vec<u32> {
    let threads = Threads::single();
    let (mut workspace, mut pages, mut logits) =
        (Workspace::new(), PagePool::default(), Vec::new());
    let prompts = forward_prompts(decoder, &mut workspace, &[prompt], &threads, &mut logits);
    let mut sequences: Vec<Sequence> = prompts
        .into_iter()
        .map(|prompt| Sequence::after(&Arc::new(prompt)))
        .collect();
    let mut ids = Vec::new();
    while ids.len() < n_tokens {
        let best = (0..logits.len())
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap();
        ids.push(best as u32);
        forward_step(
            decoder,
            &mut workspace,
            &mut pages,
            &mut sequences,
            &[best as u32],
            &threads,
            &mut logits,
        );
    }
    ids
}
