//! Training on token rows: order, steps, learning rate, resumption.
//!
//! The conventions are those of PyTorch and transformers, which users compare with: AdamW and
//! clipping are PyTorch's, the decay after the warm-up is that of transformers' linear and cosine
//! schedules (the first full-rate step is the one after the warm-up, and the rate of the last
//! step is not yet the final one). One thing differs on purpose: the warm-up starts at lr/warmup,
//! where transformers spends its first step at a rate of 0.

use std::ops::{ControlFlow, Range};

use idiolect_model::{
    ModelError, Rng, SaveDtype, Schedule, StepSize, TrainEvent, TrainSettings, content_hash,
};
use sha2::{Digest, Sha256};

use crate::accumulate::{Accumulator, Rows};
use crate::backward::{Draw, total_weight};
use crate::batch::{TokenRow, runs};
use crate::checkpoint::{self, Place, State};
use crate::decoder::Decoder;
use crate::memory;
use crate::ops::adamw::{AdamW, clip_coefficient, round_to_bf16};
use crate::ops::cpu::{Cpu, CpuWorkspace};
use crate::parameters::decay_runs;
use crate::score::score_rows;
use crate::threads::Threads;

/// What to train on, and how.
#[derive(Clone, Copy)]
pub struct Training<'a> {
    /// The rows; indices in events and errors are theirs.
    pub rows: &'a [TokenRow],
    /// Scored at the end of each epoch, and as often as the settings ask for.
    pub dev: &'a [TokenRow],
    /// How.
    pub settings: &'a TrainSettings,
    /// Where resumable states lie; without one nothing is resumed or written.
    pub place: Option<Place<'a>>,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Optimiser steps done in all.
    pub steps: usize,
    /// Whether the sink stopped it, after a state was written where there is a place.
    pub stopped: bool,
}

/// The rate of a step, from 1, of `steps` in all.
pub fn learning_rate(settings: &TrainSettings, step: usize, steps: usize) -> f64 {
    let warmup = settings.warmup_steps;
    if step <= warmup {
        return settings.lr * step as f64 / warmup as f64;
    }
    let progress = (step - 1 - warmup) as f64 / (steps.saturating_sub(warmup)).max(1) as f64;
    let fraction = match settings.schedule {
        Schedule::Constant => return settings.lr,
        Schedule::Linear => 1.0 - progress,
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
    };
    settings.lr * (settings.min_lr_ratio + (1.0 - settings.min_lr_ratio) * fraction)
}

/// The rows of each step of an epoch, in a seeded order of its own.
fn epoch_order(
    rows: &[TokenRow],
    settings: &TrainSettings,
    epoch: usize,
) -> (Vec<usize>, Vec<Range<usize>>) {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    Rng::keyed(settings.seed, &["train", "epoch", &epoch.to_string()]).shuffle(&mut order);
    let steps = match settings.step_size {
        StepSize::Rows(n) => (0..order.len())
            .step_by(n.max(1))
            .map(|start| start..(start + n.max(1)).min(order.len()))
            .collect(),
        StepSize::Tokens(tokens) => runs(order.iter().map(|&i| rows[i].n_inputs()), tokens),
    };
    (order, steps)
}

/// One optimiser step of a training, known before it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedStep {
    /// Indices of its rows, in their order.
    pub rows: Vec<usize>,
    /// The learning rate.
    pub lr: f64,
    /// Whether it is the last of a pass over the rows.
    pub ends_epoch: bool,
}

/// Every step of a training on the rows, in order.
pub fn planned_steps(rows: &[TokenRow], settings: &TrainSettings) -> Vec<PlannedStep> {
    let all = n_steps(rows, settings);
    let mut planned = Vec::with_capacity(all);
    for epoch in 0..settings.epochs {
        let (order, steps) = epoch_order(rows, settings, epoch);
        let last = planned.len() + steps.len();
        for range in steps {
            let step = planned.len() + 1;
            planned.push(PlannedStep {
                rows: order[range].to_vec(),
                lr: learning_rate(settings, step, all),
                ends_epoch: step == last,
            });
        }
    }
    planned
}

/// Optimiser steps of a training on the rows.
pub(crate) fn n_steps(rows: &[TokenRow], settings: &TrainSettings) -> usize {
    if let StepSize::Rows(n) = settings.step_size {
        // The same whatever the order.
        return settings
            .epochs
            .saturating_mul(rows.len().div_ceil(n.max(1)));
    }
    (0..settings.epochs)
        .map(|epoch| epoch_order(rows, settings, epoch).1.len())
        .sum()
}

/// Everything that decides the outcome, hashed.
fn fingerprint(decoder: &Decoder, training: &Training<'_>) -> Result<String, ModelError> {
    let settings = TrainSettings {
        checkpoint_every: 0,
        gradient_checkpointing: false,
        ..training.settings.clone()
    };
    let invalid = |e: serde_json::Error| ModelError::Invalid(e.to_string());
    let mut hash = Sha256::new();
    hash.update(serde_json::to_string(&settings).map_err(invalid)?);
    hash.update(serde_json::to_string(decoder.config()).map_err(invalid)?);
    let mut put_row = |row: &TokenRow| {
        hash.update((row.ids.len() as u64).to_le_bytes());
        hash.update((row.completion_start as u64).to_le_bytes());
        hash.update(row.weight.to_le_bytes());
        hash.update((row.loss_mask.len() as u64).to_le_bytes());
        row.loss_mask
            .iter()
            .for_each(|in_loss| hash.update([u8::from(*in_loss)]));
        row.ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
    };
    training.rows.iter().for_each(&mut put_row);
    put_row(&TokenRow {
        ids: Vec::new(),
        completion_start: 0,
        weight: 0.0,
        loss_mask: Vec::new(),
    });
    training.dev.iter().for_each(put_row);
    let mut put_values = |values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        hash.update(bytes);
    };
    decoder.weights().each_chunk(&mut put_values);
    if let Some(adapter) = decoder.adapter() {
        adapter.values().chunks(1 << 14).for_each(put_values);
    }
    Ok(content_hash(&hash.finalize()))
}

/// Trains the decoder in place: its adapters if it has any, else all parameters. The same rows,
/// settings and start give the same bits, whatever the number of threads and however often it was
/// interrupted and resumed.
///
/// # Errors
/// When there is no row or one cannot be trained on, the loss or gradient is not finite, a state
/// cannot be written, or the newest state in the place belongs to another training.
pub fn train_rows(
    decoder: &mut Decoder,
    training: Training<'_>,
    threads: &Threads,
    sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
) -> Result<Outcome, ModelError> {
    let settings = training.settings;
    settings.check().map_err(ModelError::Invalid)?;
    check_rows(decoder, training.rows)?;
    let mark = fingerprint(decoder, &training)?;
    let resumed = match training.place {
        Some(place) => checkpoint::resume(place.folder, &mark, decoder)?,
        None => None,
    };
    let n = decoder.n_trained();
    // Both moments and the gradients, and the weights where they are held in bf16 still.
    memory::available::<f32>(n, 4, "the state of the training").map_err(ModelError::Invalid)?;
    if decoder.adapter().is_none() {
        decoder.parameters_mut();
    }
    if settings.bf16_parity && resumed.is_none() {
        round_to_bf16(decoder.trained_mut());
    }
    let state = resumed.unwrap_or_else(|| State {
        step: 0,
        first: vec![0.0; n],
        second: vec![0.0; n],
        past: Vec::new(),
    });
    let mut run = Run {
        saved: state.step,
        state,
        gradients: vec![0.0; n],
        accumulator: Accumulator::new(settings.gradient_checkpointing),
        memory: CpuWorkspace::default(),
        steps: n_steps(training.rows, settings),
        training,
        threads,
        mark,
        reached: false,
    };
    let started = TrainEvent::Started {
        steps: run.steps,
        done: run.state.step,
        refused: Vec::new(),
        past: run.state.past.clone(),
    };
    if sink(started).is_break() {
        return run.stop(decoder);
    }
    let mut first = 0;
    for epoch in 0..settings.epochs {
        let (order, steps) = epoch_order(training.rows, settings, epoch);
        let last = first + steps.len();
        for (step, rows) in (first + 1..)
            .zip(steps)
            .skip(run.state.step.saturating_sub(first))
        {
            let event = run.step(decoder, step, &order[rows])?;
            let mut stop = run.report(event, sink).is_break();
            let due = settings.dev_every > 0 && step % settings.dev_every == 0;
            if (step == last || due) && !training.dev.is_empty() {
                for event in run.dev(decoder, step)? {
                    stop |= run.report(event, sink).is_break();
                }
            }
            if stop {
                return run.stop(decoder);
            }
            if settings.checkpoint_every > 0
                && step % settings.checkpoint_every == 0
                && run.save(decoder)?
            {
                let event = TrainEvent::Checkpoint { step };
                if sink(event).is_break() {
                    return Ok(Outcome {
                        steps: step,
                        stopped: true,
                    });
                }
            }
        }
        first = last;
    }
    run.check_finite(decoder)?;
    Ok(Outcome {
        steps: run.steps,
        stopped: false,
    })
}

/// Refuses a training of which a row cannot be trained on: the caller chooses the rows, and none is
/// left out behind its back.
fn check_rows(decoder: &Decoder, rows: &[TokenRow]) -> Result<(), ModelError> {
    if rows.is_empty() {
        return Err(ModelError::Invalid(
            "there is no row to train on".to_owned(),
        ));
    }
    if rows.iter().all(|row| row.weight <= 0.0) {
        return Err(ModelError::Invalid(format!(
            "nothing would be trained on: all {} rows have weight 0",
            rows.len()
        )));
    }
    let check = |(i, row): (usize, &TokenRow)| {
        row.check(decoder.config())
            .map_err(|fault| ModelError::Invalid(format!("row {i} cannot be trained on: {fault}")))
    };
    rows.iter().enumerate().try_for_each(check)
}

/// Mean surprisal of the rows' targets in the loss, nats; rows that cannot be scored are left out.
fn dev_loss(decoder: &Decoder, rows: &[TokenRow], threads: &Threads) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    score_rows(decoder, rows, threads, &mut |i, scores| {
        let targets = (rows[i].completion_start..).zip(scores.unwrap_or_default());
        for (_, score) in targets.filter(|(t, _)| rows[i].in_loss(*t)) {
            sum -= f64::from(score.logprob);
            count += 1;
        }
        ControlFlow::Continue(())
    });
    sum / count.max(1) as f64
}

/// A tensor that trains and whose gradient is all zeros would stay what it is without a word: a
/// mistake in a backward, or in the model. An adapter's A is rightly idle while its B is zero.
fn all_reached(decoder: &Decoder, gradients: &[f32]) -> Result<(), ModelError> {
    let unreached = decoder.trained_tensors().iter().find(|tensor| {
        let idle = decoder.adapter().is_some_and(|a| a.is_idle(tensor));
        !idle && gradients[tensor.range.clone()].iter().all(|g| *g == 0.0)
    });
    match unreached {
        None => Ok(()),
        Some(tensor) => Err(ModelError::Invalid(format!(
            "no gradient reaches `{}`: after the first backward all of it is 0, so training would \
             leave it as it is; look whether that tensor, or one that follows it, is all zeros",
            tensor.name
        ))),
    }
}

/// The error of a training whose step left something that is no number.
fn not_finite(step: usize, what: &str) -> ModelError {
    ModelError::Invalid(format!(
        "step {step} leaves a model that is not one: {what} is not finite; lower the learning rate \
         (--lr) or the scale of the adapter"
    ))
}

struct Run<'a> {
    training: Training<'a>,
    threads: &'a Threads,
    state: State,
    /// Zeros between steps.
    gradients: Vec<f32>,
    accumulator: Accumulator,
    /// Memory of the optimiser's operations.
    memory: CpuWorkspace,
    steps: usize,
    mark: String,
    /// The step of the newest state on disk; 0 where there is none.
    saved: usize,
    /// Whether everything that trains was seen to get a gradient.
    reached: bool,
}

impl Run<'_> {
    /// One optimiser step over the given rows.
    fn step(
        &mut self,
        decoder: &mut Decoder,
        step: usize,
        indices: &[usize],
    ) -> Result<TrainEvent, ModelError> {
        let settings = self.training.settings;
        let all = indices.iter().map(|&i| &self.training.rows[i]);
        let (targets, tokens) = all.fold((0, 0), |(targets, tokens), row| {
            (targets + row.n_loss_tokens(), tokens + row.n_inputs())
        });
        // A row of weight 0 has no part in the step, so nothing of it is computed.
        let indices: Vec<usize> = indices
            .iter()
            .copied()
            .filter(|&i| self.training.rows[i].weight > 0.0)
            .collect();
        let rows: Vec<&TokenRow> = indices.iter().map(|&i| &self.training.rows[i]).collect();
        let loss_scale = 1.0 / total_weight(&rows);
        let dropout = settings.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        let drawn = Rng::keyed(settings.seed, &["train", "dropout", &step.to_string()]).next_u64();
        let weighted = Rows {
            rows: &rows,
            loss_scale,
            draw: Some(Draw {
                fraction: dropout,
                step: drawn,
                rows: &indices,
            }),
        };
        let gradients = &mut self.gradients;
        let loss = self
            .accumulator
            .accumulate(decoder, weighted, gradients, self.threads);
        if settings.bf16_parity {
            round_to_bf16(&mut self.gradients);
        }
        let norm = Cpu::new(self.threads, &mut self.memory).gradient_norm(&self.gradients);
        if !(loss.is_finite() && norm.is_finite()) {
            let names: Vec<String> = indices.iter().map(ToString::to_string).collect();
            return Err(ModelError::NonFinite {
                step,
                rows: names.join(", "),
            });
        }
        // A target that follows one token only asks nothing of queries and keys.
        let asks = |r: &&TokenRow| (r.completion_start.max(2)..r.ids.len()).any(|t| r.in_loss(t));
        if !self.reached && rows.iter().any(asks) {
            all_reached(decoder, &self.gradients)?;
            self.reached = true;
        }
        let lr = learning_rate(settings, step, self.steps);
        self.update(
            decoder,
            step,
            lr,
            clip_coefficient(norm, settings.max_grad_norm),
        );
        self.state.step = step;
        Ok(TrainEvent::Step {
            step,
            loss,
            lr,
            gradient_norm: norm,
            target_tokens: targets,
            tokens,
        })
    }

    /// Scores the dev rows under the weights as they train, and as they are saved where that is
    /// rounded.
    fn dev(&self, decoder: &Decoder, step: usize) -> Result<Vec<TrainEvent>, ModelError> {
        let event = |decoder: &Decoder, save_dtype| {
            let loss = dev_loss(decoder, self.training.dev, self.threads);
            // JSON has no such number: a log that held it could not be read again.
            if !loss.is_finite() {
                return Err(not_finite(step, "the dev loss"));
            }
            Ok(TrainEvent::Dev {
                step,
                loss,
                save_dtype,
            })
        };
        let mut events = vec![event(decoder, None)?];
        let rounded = decoder.adapter().is_none();
        if rounded && self.training.settings.save_dtype == SaveDtype::Bf16 {
            events.push(event(&decoder.rounded_to_bf16(), Some(SaveDtype::Bf16))?);
        }
        Ok(events)
    }

    fn update(&mut self, decoder: &mut Decoder, step: usize, lr: f64, coefficient: f64) {
        let settings = self.training.settings;
        for (range, decays) in decay_runs(decoder.trained_tensors()) {
            let step = AdamW {
                lr,
                betas: settings.betas,
                epsilon: settings.epsilon,
                weight_decay: if decays { settings.weight_decay } else { 0.0 },
                t: step,
                bf16: settings.bf16_parity,
            };
            let parts = [
                &mut decoder.trained_mut()[range.clone()],
                &mut self.state.first[range.clone()],
                &mut self.state.second[range.clone()],
                &mut self.gradients[range],
            ];
            Cpu::new(self.threads, &mut self.memory).adamw(step, coefficient, parts);
        }
    }

    /// Reports an event. States keep it: whoever hears of it may fail to write it down.
    fn report(
        &mut self,
        event: TrainEvent,
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.state.past.push(event.clone());
        sink(event)
    }

    /// Writes a state where there is a place for it.
    fn save(&mut self, decoder: &Decoder) -> Result<bool, ModelError> {
        let Some(place) = self.training.place else {
            return Ok(false);
        };
        self.check_finite(decoder)?;
        checkpoint::write(place, &self.mark, decoder, &self.state)?;
        self.saved = self.state.step;
        Ok(true)
    }

    /// Refuses weights that are not numbers before they reach a file.
    fn check_finite(&self, decoder: &Decoder) -> Result<(), ModelError> {
        decoder.not_finite().map_or(Ok(()), |tensor| {
            Err(not_finite(self.state.step, &format!("`{tensor}`")))
        })
    }

    /// Stops after a state is written, unless no step was done since the newest one, or at all.
    fn stop(&mut self, decoder: &Decoder) -> Result<Outcome, ModelError> {
        if self.state.step > self.saved {
            self.save(decoder)?;
        }
        Ok(Outcome {
            steps: self.state.step,
            stopped: true,
        })
    }
}
