//! How fast this machine is at a model's size, from a second of real work.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::model_config::{Family, ModelConfig, Sizes};
use idiolect_engine::threads::Threads;
use idiolect_engine::train::{Training, train_rows};
use idiolect_model::{Compute, Rng, StepSize, TrainEvent, TrainSettings};

/// How long is measured, at least one step.
const MEASURED: Duration = Duration::from_millis(700);
/// Layers of the stand-in model.
const LAYERS: usize = 3;
/// Its vocabulary.
const VOCAB: usize = 256;
/// Parameters beyond which the stand-in does not grow: products run no faster from there on.
const LARGEST: f64 = 20e6;

/// Operations a second of one training job on one thread, counting 6 a parameter and token, for a
/// model of about that many parameters that multiplies in a type; measured on random weights and rows.
/// `None` where not one step could be done.
pub(super) fn operations_per_second(parameters: f64, compute: Compute) -> Option<f64> {
    let config = stand_in(parameters.min(LARGEST));
    let decoder = Decoder::random(config, 0, 0.02).ok()?;
    let mut decoder = decoder.with_compute(compute).ok()?;
    let mut rng = Rng::keyed(0, &["calibrate"]);
    let rows: Vec<TokenRow> = (0..256)
        .map(|_| TokenRow {
            ids: (0..65).map(|_| rng.below(VOCAB) as u32).collect(),
            completion_start: 1,
            weight: 1.0,
            loss_mask: Vec::new(),
        })
        .collect();
    let settings = TrainSettings {
        epochs: 1000,
        step_size: StepSize::Rows(16),
        ..TrainSettings::default()
    };
    let training = Training {
        rows: &rows,
        dev: &[],
        settings: &settings,
        place: None,
    };
    let n = decoder.parameters().values().len() as f64;
    let mut begun: Option<Instant> = None;
    let mut done = 0usize;
    let threads = Threads::new(NonZeroUsize::MIN);
    let mut elapsed = 0.0;
    train_rows(&mut decoder, training, &threads, &mut |event| {
        if let TrainEvent::Step { tokens, .. } = event {
            // The first step plans its buffers; it is not counted.
            match begun {
                None => begun = Some(Instant::now()),
                Some(begun) => {
                    done += tokens;
                    elapsed = begun.elapsed().as_secs_f64();
                    if begun.elapsed() >= MEASURED {
                        return ControlFlow::Break(());
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })
    .ok()?;
    (elapsed > 0.0).then(|| 6.0 * n * done as f64 / elapsed)
}

/// A Llama shape of about that many parameters.
fn stand_in(parameters: f64) -> ModelConfig {
    // A layer has 4 C² of attention and 3 · 2.75 C² of MLP.
    let width = (parameters / (12.25 * LAYERS as f64)).sqrt();
    let hidden = ((width / 16.0).round().max(2.0) as usize) * 16;
    let sizes = Sizes {
        vocab: VOCAB,
        hidden,
        layers: LAYERS,
        heads: hidden / 16,
        kv_heads: hidden / 16,
        head_dim: 16,
        intermediate: hidden * 11 / 4,
    };
    ModelConfig {
        tied: true,
        ..ModelConfig::new(Family::Llama, sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_has_about_the_size() {
        for parameters in [1.6e5, 6e5, 5e6] {
            let got = stand_in(parameters).n_parameters() as f64;
            assert!(
                (0.6..1.6).contains(&(got / parameters)),
                "{parameters}: {got}"
            );
        }
    }

    #[test]
    fn a_rate_is_measured() {
        assert!(operations_per_second(1e5, Compute::F32).is_some_and(|rate| rate > 1e6));
    }
}
