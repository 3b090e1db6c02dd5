//! Gradients of many rows, a few hundred tokens at a time.
//!
//! A large model's operations are shared by the threads. Those of a small one are too short for
//! that (handing one over costs more than it saves, `bench/RESULTS.md`): its threads have runs of
//! rows of their own instead, with gradients of their own, which are then added in the order of
//! the rows. Either way the number of threads changes no bit.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::backward::Draw;
use crate::batch::{TokenRow, runs, tokens_at_a_time};
use crate::decoder::Decoder;
use crate::ops::cpu::{Cpu, CpuWorkspace};
use crate::threads::Threads;
use crate::workspace::Workspace;

/// Parameters below which threads have runs of their own.
const SMALL: usize = 1_000_000;

/// Runs that are computed at once, as each has gradients of its own.
const WAVE: usize = 16;

/// Buffers for it; they grow and are reused.
#[derive(Debug, Default)]
pub(crate) struct Accumulator {
    /// One a thread that has runs of its own.
    workspaces: Vec<Mutex<Workspace>>,
    /// Gradients of the runs of a wave but the first.
    parts: Vec<f32>,
    memory: CpuWorkspace,
    gradient_checkpointing: bool,
}

/// Rows with what their loss is multiplied by, and what is dropped.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) rows: &'a [&'a TokenRow],
    /// See [`Workspace::accumulate`].
    pub(crate) loss_scale: f64,
    /// Its rows are these.
    pub(crate) draw: Option<Draw<'a>>,
}

impl<'a> Rows<'a> {
    fn part(&self, run: Range<usize>) -> Self {
        Self {
            rows: &self.rows[run.clone()],
            draw: self.draw.map(|draw| Draw {
                rows: &draw.rows[run],
                ..draw
            }),
            ..*self
        }
    }
}

impl Accumulator {
    /// Empty; with `gradient_checkpointing` as [`Workspace::with_gradient_checkpointing`].
    pub(crate) fn new(gradient_checkpointing: bool) -> Self {
        Self {
            gradient_checkpointing,
            ..Self::default()
        }
    }

    /// [`Workspace::accumulate`] of any number of rows.
    pub(crate) fn accumulate(
        &mut self,
        decoder: &Decoder,
        rows: Rows<'_>,
        gradients: &mut [f32],
        threads: &Threads,
    ) -> f64 {
        let inputs = rows.rows.iter().map(|row| row.n_inputs());
        let runs = runs(inputs, tokens_at_a_time(decoder.config()));
        let small = decoder.layout().len() < SMALL;
        let workers = if small { threads.n() } else { 1 };
        let gradient_checkpointing = self.gradient_checkpointing;
        self.workspaces.resize_with(workers, || {
            Mutex::new(if gradient_checkpointing {
                Workspace::with_gradient_checkpointing()
            } else {
                Workspace::new()
            })
        });
        let single = Threads::single();
        let (wave, inner) = if small { (WAVE, &single) } else { (1, threads) };
        runs.chunks(wave)
            .map(|wave| self.wave(decoder, rows, wave, gradients, (threads, inner)))
            .sum()
    }

    /// Runs with gradients of their own, shared by the threads; `inner` share the operations of one.
    fn wave(
        &mut self,
        decoder: &Decoder,
        rows: Rows<'_>,
        runs: &[Range<usize>],
        gradients: &mut [f32],
        (threads, inner): (&Threads, &Threads),
    ) -> f64 {
        let n = gradients.len();
        let needed = n * runs.len().saturating_sub(1);
        if self.parts.len() < needed {
            self.parts.resize(needed, 0.0);
        }
        let parts = self.parts[..needed].chunks_exact_mut(n.max(1));
        let slots: Vec<Mutex<(&mut [f32], f64)>> = std::iter::once(&mut *gradients)
            .chain(parts)
            .map(|into| Mutex::new((into, 0.0)))
            .collect();
        let workspaces = &self.workspaces;
        threads.run(runs.len(), &|worker, i| {
            let mut slot = slots[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (into, loss) = &mut *slot;
            if i > 0 {
                into.fill(0.0);
            }
            let workspace = workspaces[worker].lock();
            let mut workspace = workspace.unwrap_or_else(PoisonError::into_inner);
            let Rows {
                rows,
                loss_scale,
                draw,
            } = rows.part(runs[i].clone());
            *loss = workspace.accumulate_dropping(decoder, rows, loss_scale, draw, into, inner);
        });
        let losses = slots.into_iter().map(|slot| {
            let (_, loss) = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
            loss
        });
        let loss = losses.sum();
        if needed > 0 {
            Cpu::new(threads, &mut self.memory).add_all(gradients, &self.parts[..needed]);
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::model_config::Family;
    use crate::ops::testing::close;
    use crate::tests::{decoder, tiny};

    #[test]
    fn any_number_of_threads_gives_the_bits_and_one_pass_the_sum() {
        let model = decoder(tiny(Family::Llama));
        let rows: Vec<TokenRow> = (0..40)
            .map(|i| TokenRow {
                ids: (0..23 + i % 7).map(|t| ((i * t + t) % 29) as u32).collect(),
                completion_start: 1 + i % 5,
                weight: 1.0 + (i % 3) as f32,
                loss_mask: Vec::new(),
            })
            .collect();
        let rows: Vec<&TokenRow> = rows.iter().collect();
        let of = Rows {
            rows: &rows,
            loss_scale: 0.01,
            draw: None,
        };
        let all: Vec<(f64, Vec<f32>)> = (1..4)
            .map(|n| {
                let threads = Threads::new(NonZeroUsize::new(n).unwrap());
                let mut accumulator = Accumulator::new(false);
                // The second time on top of what buffers held after the first.
                let [_, second] = [(); 2].map(|()| {
                    let mut gradients = vec![0.0; model.n_trained()];
                    let loss = accumulator.accumulate(&model, of, &mut gradients, &threads);
                    (loss, gradients)
                });
                assert!(accumulator.parts.len() >= 2 * model.n_trained(), "runs");
                second
            })
            .collect();
        assert!(all.iter().all(|one| one == &all[0]));
        let mut once = vec![0.0; model.n_trained()];
        let single = Threads::single();
        let loss = Workspace::new().accumulate(&model, &rows, 0.01, &mut once, &single);
        assert!((loss - all[0].0).abs() < 1e-5 * loss);
        close("gradients", &all[0].1, &once, 1e-5);
    }
}
