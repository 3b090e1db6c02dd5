//! Training: settings and examples in, a model directory out.

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Example, Model, ModelError, RowError, TraitCounts, budget};

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Straight to `min_lr_ratio`.
    Linear,
    /// Half a cosine to `min_lr_ratio`.
    Cosine,
    /// Not at all.
    Constant,
}

/// How many rows make an optimiser step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSize {
    /// This many rows.
    Rows(usize),
    /// As many whole rows as fit this many tokens (at least one).
    Tokens(usize),
}

/// Low-rank adapters beside frozen linear layers: y = W x + scale · B (A x), where A is (r, in)
/// and B is (out, r) and starts at 0 (arXiv 2106.09685).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// The rank.
    pub r: usize,
    /// Scales by alpha / r.
    pub alpha: f64,
    /// Scales by alpha / √r instead (arXiv 2312.03732).
    #[serde(default)]
    pub rslora: bool,
    /// Fraction of A's inputs that are dropped in training.
    #[serde(default)]
    pub dropout: f64,
    /// Names of the layers that get one, for example `q_proj`; none are all linear layers of
    /// attention and MLP.
    #[serde(default)]
    pub targets: Vec<String>,
}

impl Lora {
    /// What B (A x) is multiplied by.
    pub fn scale(&self) -> f64 {
        let r = self.r as f64;
        self.alpha / if self.rslora { r.sqrt() } else { r }
    }

    /// Whether the numbers make an adapter.
    ///
    /// # Errors
    /// Names the setting and what was expected.
    pub fn check(&self) -> Result<(), String> {
        if self.r == 0 {
            return Err("`r` is 0; the rank begins at 1".to_owned());
        }
        let over = |error: budget::OverBudget| error.to_string();
        budget::RANK.check_size(self.r).map_err(over)?;
        budget::TARGETS
            .check_size(self.targets.len())
            .map_err(over)?;
        // Adapters are computed in f32.
        if !((self.alpha as f32).is_finite() && self.alpha > 0.0) {
            return Err(format!(
                "`alpha` is {:?}; expected a number above 0 and below 3.4e38",
                self.alpha
            ));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!(
                "`dropout` is {}; expected a fraction from 0 to below 1",
                self.dropout
            ));
        }
        Ok(())
    }
}

/// The type that a trained model's weights are written in. Training computes in f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SaveDtype {
    /// IEEE single: the weights as they were trained.
    #[default]
    F32,
    /// bfloat16: half the size, each weight rounded to 8 bits of precision. Updates smaller than
    /// half a unit in the last place are lost, which at small learning rates are nearly all.
    Bf16,
}

impl SaveDtype {
    /// The name, as `--save-dtype` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// How to train. The loss is the weighted sum over target tokens, divided once by the sum of
/// their weights in the whole step; the end token is always a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Passes over the examples.
    pub epochs: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Fall after the warm-up.
    pub schedule: Schedule,
    /// Ratio of the rate that the schedule ends at to the peak.
    pub min_lr_ratio: f64,
    /// Warm-up steps, from lr/warmup up to lr.
    pub warmup_steps: usize,
    /// Decoupled, not on norms and biases.
    pub weight_decay: f64,
    /// AdamW's first- and second-moment decay.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// Largest norm of the whole gradient; 0 does not clip.
    pub max_grad_norm: f64,
    /// Rows of a step.
    pub step_size: StepSize,
    /// Shuffles the rows of each epoch, starts adapters and draws their dropout.
    pub seed: u64,
    /// Train adapters of this kind and leave the model's own weights as they are.
    pub lora: Option<Lora>,
    /// For comparison with trainings whose parameters are bf16: what trains, its gradient and
    /// both moments are rounded to bf16 in each step, as PyTorch holds them for a model that was
    /// loaded in bf16. Small rates then move nothing.
    pub bf16_parity: bool,
    /// The type that the trained weights are written in; adapters are always written in f32.
    #[serde(default)]
    pub save_dtype: SaveDtype,
    /// Compute each layer's activations again in the backward instead of keeping them: less
    /// memory, a third more work, the same bits.
    pub gradient_checkpointing: bool,
    /// Score the dev examples every so many steps too; 0 at the end of each epoch only.
    pub dev_every: usize,
    /// A resumable state every so many steps; 0 writes none.
    pub checkpoint_every: usize,
}

impl TrainSettings {
    /// Whether the numbers make a training.
    ///
    /// # Errors
    /// Names the setting, what it is and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let over = |error: budget::OverBudget| error.to_string();
        budget::EPOCHS.check_size(self.epochs).map_err(over)?;
        let (StepSize::Rows(size) | StepSize::Tokens(size)) = self.step_size;
        budget::STEP_SIZE.check_size(size).map_err(over)?;
        // A comparison with what is not a number is false.
        let numbers = [
            ("lr", self.lr, 0.0..=f64::from(f32::MAX)),
            ("min_lr_ratio", self.min_lr_ratio, 0.0..=1.0),
            ("weight_decay", self.weight_decay, 0.0..=f64::from(f32::MAX)),
            ("max_grad_norm", self.max_grad_norm, 0.0..=f64::MAX),
            ("beta1", self.betas.0, 0.0..=BELOW_ONE),
            ("beta2", self.betas.1, 0.0..=BELOW_ONE),
            ("epsilon", self.epsilon, 0.0..=f64::from(f32::MAX)),
        ];
        for (name, value, expected) in numbers {
            if !expected.contains(&value) {
                return Err(format!(
                    "`{name}` is {value:e}; expected a number from {} to {:e}",
                    expected.start(),
                    expected.end()
                ));
            }
        }
        self.lora.as_ref().map_or(Ok(()), Lora::check)
    }
}

/// The largest decay of a moment: at 1 nothing of a gradient enters it.
const BELOW_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

impl Default for TrainSettings {
    fn default() -> Self {
        Self {
            epochs: 1,
            lr: 1e-5,
            schedule: Schedule::Linear,
            min_lr_ratio: 0.0,
            warmup_steps: 0,
            weight_decay: 0.0,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            max_grad_norm: 1.0,
            step_size: StepSize::Rows(32),
            seed: 0,
            lora: None,
            bf16_parity: false,
            save_dtype: SaveDtype::F32,
            gradient_checkpointing: false,
            dev_every: 0,
            checkpoint_every: 0,
        }
    }
}

/// What training reports while it runs. Steps count from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TrainEvent {
    /// The first event: how many steps there are, and how many an earlier process had finished
    /// (a resumed training repeats none of those).
    Started {
        /// Optimiser steps in all.
        steps: usize,
        /// Finished before; 0 from the start.
        done: usize,
        /// Texts of a pretraining that give no row (index and reason).
        refused: Vec<(usize, String)>,
        /// What was reported of the finished steps, in order: a log of them may have lost its end.
        /// Empty where the trainer does not keep it.
        #[serde(default)]
        past: Vec<TrainEvent>,
    },
    /// One optimiser step is done.
    Step {
        /// From 1.
        step: usize,
        /// Weighted mean surprisal of the step's target tokens, nats.
        loss: f64,
        /// The rate used.
        lr: f64,
        /// Norm of the gradient before clipping.
        gradient_norm: f64,
        /// Target tokens of the step.
        target_tokens: usize,
        /// Tokens computed in the step.
        tokens: usize,
    },
    /// The dev examples were scored.
    Dev {
        /// After this step.
        step: usize,
        /// Mean surprisal of their target tokens, nats.
        loss: f64,
        /// Of the weights rounded to this type, in which they are saved; absent for the weights as
        /// they train.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        save_dtype: Option<SaveDtype>,
    },
    /// A resumable state lies on disk.
    Checkpoint {
        /// After this step.
        step: usize,
    },
}

/// What a training on some examples would be, known before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainPlan {
    /// Examples that cannot be trained on, by index; what follows is of the others.
    pub refused: Vec<(usize, RowError)>,
    /// Examples that can.
    pub rows: usize,
    /// Their tokens, prompts included.
    pub tokens: usize,
    /// The tokens among them that the loss is over.
    pub target_tokens: usize,
    /// Optimiser steps of all epochs.
    pub steps: usize,
    /// How the rows of the others were made.
    pub traits: TraitCounts,
}

/// What a finished or stopped training was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Optimiser steps done in all.
    pub steps: usize,
    /// Whether the sink stopped it (a resumable state was written first).
    pub stopped: bool,
    /// Hash of the finished model; empty when stopped.
    pub model_hash: String,
}

/// How to look one step ahead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookaheadSettings {
    /// Rows whose mean gradient counts as one draw of the gradient.
    pub rows_per_batch: usize,
    /// Learning rate of the one step.
    pub lr: f64,
}

/// What one step of training on a set would do to other texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookahead {
    /// Weighted mean surprisal of the set's targets before the step, nats.
    pub loss: f64,
    /// Cosine of the step and the gradient of Σ credit · ln p over the goal; positive: the step
    /// raises it, to first order.
    pub cosine: f64,
    /// Change of ln p of each goal text (its end token included) by the step, nats, in order.
    pub moved: Vec<f64>,
}

/// Trains a model on examples and writes it as a model directory.
pub trait Train: Model {
    /// Which of the examples can be trained on, and what the training of those would be.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where the model cannot be trained.
    fn plan(&self, examples: &[Example], settings: &TrainSettings)
    -> Result<TrainPlan, ModelError>;
    /// Trains and leaves the finished model in `out`; resumable states lie in
    /// `out/checkpoint-<step>/`, and the newest whole one is continued from, to the same bits as
    /// an uninterrupted training.
    ///
    /// # Errors
    /// When an example cannot be trained on (see [`plan`](Self::plan)) or a dev example not
    /// scored: leaving it out would change what is compared.
    fn train(
        &mut self,
        examples: &[Example],
        dev: &[Example],
        settings: &TrainSettings,
        out: &Path,
        sink: &mut dyn FnMut(TrainEvent) -> ControlFlow<()>,
    ) -> Result<TrainSummary, ModelError>;

    /// Predicts for each set what one AdamW step along its mean gradient would do to the goal texts,
    /// each with its credit. The model stays as it is.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where the model gives no gradients, which is the default.
    fn look_ahead(
        &mut self,
        goal: &[(Example, f64)],
        sets: &[Vec<Example>],
        settings: &LookaheadSettings,
    ) -> Result<Vec<Lookahead>, ModelError> {
        let _ = (goal, sets, settings);
        Err(self.info().lacks("gives no gradients"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_training_are_named() {
        assert_eq!(TrainSettings::default().check(), Ok(()));
        type Change = fn(&mut TrainSettings);
        let wrong: [(&str, Change); 9] = [
            ("epochs", |s| s.epochs = 0),
            ("epochs", |s| s.epochs = 100_000_000_000),
            ("step", |s| s.step_size = StepSize::Rows(0)),
            ("`lr`", |s| s.lr = -1.0),
            ("`lr`", |s| s.lr = f64::NAN),
            ("`lr`", |s| s.lr = 1e300),
            ("weight_decay", |s| s.weight_decay = f64::INFINITY),
            ("beta2", |s| s.betas.1 = 1.0),
            ("min_lr_ratio", |s| s.min_lr_ratio = 1.5),
        ];
        for (name, change) in wrong {
            let mut settings = TrainSettings::default();
            change(&mut settings);
            let message = settings.check().unwrap_err();
            assert!(message.contains(name), "{name}: {message}");
        }
    }

    #[test]
    fn adapters_that_no_machine_holds_are_refused() {
        let lora = |r, alpha| Lora {
            r,
            alpha,
            rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
        };
        assert_eq!(lora(16, 32.0).check(), Ok(()));
        assert!(lora(usize::MAX, 1.0).check().unwrap_err().contains("`r`"));
        assert!(lora(4, 1e308).check().unwrap_err().contains("`alpha`"));
    }
}
