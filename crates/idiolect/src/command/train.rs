//! `idiolect train`.

use std::path::PathBuf;

use clap::ValueEnum;
use idiolect_model::{Lora, SaveDtype, Schedule, StepSize, TrainSettings};
use serde_json::{Value, json};

use super::numbers;
use super::options::{self, Common, FloatName, ModelOptions, Seed};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;
use idiolect::stage::StageError;
use idiolect::stage::student::StudentText;
use idiolect::stage::train::{REMEDY, TrainStageSettings, train_within, trial};
use idiolect::trl::{Trl, TrlSettings};

/// Fine-tune a model on the rows of an arm
///
/// The folder that is written is the finished model, with log.jsonl and its curves for TensorBoard
/// (events.out.tfevents.*); its `checkpoint-STEP` folders are resumable states. Weights are written in f32 whatever the type of the model's own, so that
/// the model on disk is the one whose dev loss the log shows. A row that the model cannot be trained
/// on (too long, nothing left to train on) is refused before the first step; `idiolect arms
/// --model` builds arms without such rows. The loss is over completions and their end, never over
/// prompts. A step holds 32 rows unless --batch-size or --batch-tokens is given.
///
/// With --lora the folder is an adapter in PEFT's format: the model's own weights stay as they are
/// and are found beside it. It can be given wherever a model can; `idiolect convert` merges it.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect train --model models/student --data arms/W.jsonl --epochs 3 --lr 1e-5 \\
    --dev dev.jsonl --dev-every 50 -o train/W
  idiolect train --model models/student --data arms/W.jsonl --lora r=16,alpha=32 --lr 2e-4 \\
    --schedule cosine --warmup-steps 20 --batch-tokens 8192 -o train/W-lora
  idiolect train --model models/student --data arms/W.jsonl --max-tokens 2048 --dry-run
  idiolect train --model models/student --data arms/W.jsonl --backend trl \\
    --python venv/bin/python --launch 'accelerate launch --config_file fsdp.yaml' -o train/W-trl
  idiolect train --model models/student --data arms/W.jsonl \\
    --lora r=64,alpha=16,rslora=true,dropout=0.05,targets=q_proj,v_proj -o train/W-qv")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Rows of prompt and completion, or of messages
    #[arg(long, value_name = "ARM")]
    data: PathBuf,
    /// Rows whose loss is reported during training
    #[arg(long, value_name = "ROWS")]
    dev: Option<PathBuf>,
    /// Train a low-rank adapter: rank and alpha, and if wanted rslora=true (scale by alpha/sqrt(r)),
    /// dropout=FRACTION, targets=q_proj,v_proj (default: every linear layer of attention and MLP)
    #[arg(long, value_name = "r=R,alpha=A,...", value_parser = lora)]
    lora: Option<Lora>,
    /// Longest row in tokens, prompt and end included: longer ones are refused before training;
    /// default what the model can hold
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// Score the dev rows every so many steps too; 0 at the end of each epoch only
    #[arg(long, value_name = "STEPS", default_value_t = 0, requires = "dev")]
    dev_every: usize,
    #[command(flatten)]
    schedule: TrainingOptions,
    #[command(flatten)]
    trainer: TrainerOptions,
    #[command(flatten)]
    seed: Seed,
    /// Folder of the model to write
    #[arg(short, long, value_name = "DIR", value_parser = options::output, required_unless_present = "dry_run")]
    output: Option<OutputPath>,
    /// Print which rows would be trained on, in how many tokens and steps, and which cannot; read
    /// no weights and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// Who trains.
#[derive(clap::Args, Clone, Debug)]
struct TrainerOptions {
    /// Who trains: this program's engine, or TRL in a Python environment of yours, on its GPUs; with
    /// the same rows, order, learning rates and loss
    #[arg(long, value_name = "NAME", default_value = "native")]
    backend: TrainerName,
    /// With --backend trl: the interpreter of the environment that holds torch, transformers, trl,
    /// accelerate, datasets and, for --lora, peft [default: python3]
    #[arg(long, value_name = "FILE")]
    python: Option<String>,
    /// With --backend trl: the command that starts the training script, which is put behind it, for
    /// example 'torchrun --nproc_per_node 4' [default: {python}]
    #[arg(long, value_name = "COMMAND")]
    launch: Option<String>,
    /// With --backend trl: processes that the launch runs in all, where neither its words nor its
    /// accelerate config state it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    processes: Option<u16>,
    /// With --backend trl: rows that a process computes at once [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    per_device_batch_size: Option<u16>,
    /// With --backend trl: a field of TRL's SFTConfig, its value in JSON or a plain text, for example
    /// optim=adamw_torch_fused; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = config_field)]
    trl_config: Vec<(String, Value)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TrainerName {
    Native,
    Trl,
}

impl TrainerOptions {
    /// How TRL is run, where it trains.
    fn resolve(&self) -> Result<Option<TrlSettings>, StageError> {
        let default = TrlSettings::default();
        let settings = TrlSettings {
            launch: self.launch.clone().unwrap_or(default.launch),
            python: self.python.clone().unwrap_or(default.python),
            processes: self.processes.map(usize::from),
            per_device_batch_size: self
                .per_device_batch_size
                .map_or(default.per_device_batch_size, usize::from),
            config: self.trl_config.iter().cloned().collect(),
        };
        if self.backend == TrainerName::Trl {
            return Ok(Some(settings));
        }
        let given = [
            ("--python", self.python.is_some()),
            ("--launch", self.launch.is_some()),
            ("--processes", self.processes.is_some()),
            (
                "--per-device-batch-size",
                self.per_device_batch_size.is_some(),
            ),
            ("--trl-config", !self.trl_config.is_empty()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(None),
            Some((flag, _)) => Err(StageError::usage(
                format!("{flag} is of a training by TRL"),
                "--backend trl",
            )),
        }
    }
}

/// Reads `NAME=VALUE`.
fn config_field(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("expected NAME=VALUE".to_owned());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}

/// How to train.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct TrainingOptions {
    /// Passes over the rows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = numbers::epochs)]
    epochs: usize,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 1e-5, value_parser = numbers::rate)]
    lr: f64,
    /// Rows of an optimiser step (default 32)
    #[arg(long, value_name = "N", conflicts_with = "batch_tokens", value_parser = numbers::step_size)]
    batch_size: Option<usize>,
    /// As many whole rows an optimiser step as fit this many tokens
    #[arg(long, value_name = "N", value_parser = numbers::step_size)]
    batch_tokens: Option<usize>,
    /// Fall of the learning rate after the warm-up
    #[arg(long, value_name = "NAME", default_value = "linear")]
    schedule: ScheduleName,
    /// Ratio of the rate that the schedule ends at to the peak rate
    #[arg(long, value_name = "RATIO", default_value_t = 0.0, value_parser = numbers::share)]
    min_lr_ratio: f64,
    /// Steps from zero to the peak rate
    #[arg(long, value_name = "STEPS", default_value_t = 0)]
    warmup_steps: usize,
    /// Decoupled weight decay, not on norms and biases
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = not_negative)]
    weight_decay: f64,
    /// Largest norm of the whole gradient; 0 does not clip
    #[arg(long, value_name = "NORM", default_value_t = 1.0, value_parser = not_negative)]
    max_grad_norm: f64,
    /// Compute activations again in the backward instead of keeping them: less memory, a third
    /// more work, the same result
    #[arg(long)]
    gradient_checkpointing: bool,
    /// For comparison with trainings in bf16: round what trains, gradients and moments to bf16 in
    /// each step. At small rates nothing then moves
    #[arg(long)]
    bf16_parity: bool,
    /// Type of the weights written, in the finished model and in its checkpoints. bf16 rounds what
    /// was trained: the dev rows are then scored under the rounded weights too
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    save_dtype: FloatName,
    /// Save a resumable state every so many steps; 0 saves one only when interrupted
    #[arg(long, value_name = "STEPS", default_value_t = 200)]
    checkpoint_every: usize,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleName {
    Linear,
    Cosine,
    Constant,
}

impl TrainingOptions {
    /// The settings.
    pub(super) fn resolve(
        &self,
        default: TrainSettings,
        seed: u64,
    ) -> Result<TrainSettings, StageError> {
        let step_size = match (self.batch_size, self.batch_tokens) {
            (Some(rows), _) => StepSize::Rows(rows),
            (None, Some(tokens)) => StepSize::Tokens(tokens),
            (None, None) => default.step_size,
        };
        let settings = TrainSettings {
            epochs: self.epochs,
            lr: self.lr,
            schedule: match self.schedule {
                ScheduleName::Linear => Schedule::Linear,
                ScheduleName::Cosine => Schedule::Cosine,
                ScheduleName::Constant => Schedule::Constant,
            },
            min_lr_ratio: self.min_lr_ratio,
            warmup_steps: self.warmup_steps,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            step_size,
            seed,
            checkpoint_every: self.checkpoint_every,
            gradient_checkpointing: self.gradient_checkpointing,
            bf16_parity: self.bf16_parity,
            save_dtype: match self.save_dtype {
                FloatName::F32 => SaveDtype::F32,
                FloatName::Bf16 => SaveDtype::Bf16,
            },
            ..default
        };
        settings
            .check()
            .map_err(|reason| StageError::usage(reason, ""))?;
        Ok(settings)
    }
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("expected a number of at least 0".to_owned()),
    }
}

/// Reads `r=16,alpha=32`. What has no `=` goes on with the list before it.
pub(super) fn lora(text: &str) -> Result<Lora, String> {
    let (mut r, mut alpha) = (None, None);
    let mut lora = Lora {
        r: 0,
        alpha: 0.0,
        rslora: false,
        dropout: 0.0,
        targets: Vec::new(),
    };
    let mut in_targets = false;
    for part in text.split(',') {
        let Some((name, value)) = part.split_once('=') else {
            if !in_targets || part.is_empty() {
                return Err(format!("`{part}` is not NAME=VALUE"));
            }
            lora.targets.push(part.to_owned());
            continue;
        };
        in_targets = name == "targets";
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| format!("`{name}` is no number"))
        };
        match name {
            "r" => {
                r = Some(
                    value
                        .parse()
                        .map_err(|_| "`r` is no whole number".to_owned())?,
                )
            }
            "alpha" => alpha = Some(number()?),
            "dropout" => lora.dropout = number()?,
            "rslora" => {
                lora.rslora = value
                    .parse()
                    .map_err(|_| "`rslora` is true or false".to_owned())?;
            }
            "targets" if !value.is_empty() => lora.targets.push(value.to_owned()),
            "targets" => return Err("`targets` names no layer".to_owned()),
            _ => {
                return Err(format!(
                    "`{name}` is none of r, alpha, rslora, dropout, targets"
                ));
            }
        }
    }
    lora.r = r.ok_or("`r` is missing: r=16,alpha=32")?;
    lora.alpha = alpha.ok_or("`alpha` is missing: r=16,alpha=32")?;
    lora.check()?;
    Ok(lora)
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let train_settings = TrainSettings {
        lora: arguments.lora.clone(),
        dev_every: arguments.dev_every,
        ..arguments
            .schedule
            .resolve(TrainSettings::default(), arguments.seed.seed)?
    };
    if train_settings.lora.is_some() && train_settings.save_dtype != SaveDtype::F32 {
        return Err(StageError::usage(
            "--save-dtype is of a model's own weights; an adapter's files hold f32",
            "leave it out, and give --dtype to `idiolect convert --to merged` where a merged model \
             of another type is wanted",
        ));
    }
    let trl = arguments.trainer.resolve()?;
    let Some(output) = arguments.output.as_deref().filter(|_| !arguments.dry_run) else {
        return dry_run(arguments, &train_settings);
    };
    let settings = TrainStageSettings {
        data: arguments.data.clone(),
        dev: arguments.dev.clone(),
        train: train_settings,
        output: output.to_owned(),
    };
    let limit = match arguments.max_tokens {
        Some(_) => Some(student(arguments)?),
        None => None,
    };
    let outcome = match trl {
        None => {
            let here = arguments.common.here_alone();
            let mut model = arguments.model.open(&arguments.common, &here)?;
            arguments.common.with_control(|control| {
                train_within(&settings, limit.as_ref(), model.as_train()?, control)
            })
        }
        Some(trl) => arguments.common.with_control(|control| {
            let how = arguments
                .model
                .how(control.threads, control.progress, control.stop);
            let adapter = settings.train.lora.is_some();
            let mut model = Trl::open(&arguments.model.text.model, &how, &trl, adapter)?;
            train_within(&settings, limit.as_ref(), &mut model, control)
        }),
    }?;
    let facts = [("model_hash", json!(outcome.hash))];
    Ok(CommandOutput::rows(
        &settings.output,
        &outcome,
        &facts,
        arguments.common.json,
    ))
}

/// The text side of the model, and the longest row that it is to be trained on.
fn student(arguments: &Arguments) -> Result<StudentText, StageError> {
    Ok(StudentText {
        text: arguments.model.text.open()?,
        max_tokens: arguments.max_tokens.map(|most| most as usize),
    })
}

/// Refused rows that a dry run names.
const NAMED: usize = 10;

fn dry_run(arguments: &Arguments, settings: &TrainSettings) -> super::Result {
    let student = student(arguments)?;
    let dev = arguments.dev.as_deref();
    let found = trial(&arguments.data, dev, settings, &student)?;
    let (plan, refused) = (&found.plan, found.refused.len());
    let mut text = format!(
        "{} rows of {} tokens (the loss is over {}), {} steps; epochs: {}; nothing was trained",
        plan.rows, plan.tokens, plan.target_tokens, plan.steps, settings.epochs
    );
    for note in plan.traits.notes() {
        text.push_str(&format!("\n{note}"));
    }
    for bad in found.refused.iter().take(NAMED) {
        text.push_str(&format!(
            "\nrefused: {}, line {}: {}",
            bad.file, bad.line, bad.reason
        ));
    }
    if refused > NAMED {
        text.push_str(&format!("\nand {} more", refused - NAMED));
    }
    let too_many = refused as f64 > arguments.common.max_rejects * found.seen as f64;
    if too_many {
        text.push_str(&format!(
            "\n{refused} of {} rows cannot be trained on, more than the allowed fraction of {}: the \
             training would refuse to begin\n{REMEDY}",
            found.seen, arguments.common.max_rejects
        ));
    }
    Ok(CommandOutput {
        text,
        json: json!({
            "rows": plan.rows,
            "tokens": plan.tokens,
            "target_tokens": plan.target_tokens,
            "steps": plan.steps,
            "refused": found.refused,
        }),
        as_json: arguments.common.json,
        code: if too_many {
            exit::FAILED
        } else {
            super::code(refused as u64)
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_read_from_one_argument() {
        let read = lora("r=16,alpha=32,targets=q_proj,v_proj,rslora=true,dropout=0.1").unwrap();
        assert_eq!(read.targets, ["q_proj", "v_proj"]);
        assert_eq!((read.r, read.alpha), (16, 32.0));
        assert_eq!((read.rslora, read.dropout), (true, 0.1));
        assert_eq!(lora("alpha=1,r=2").unwrap().targets.len(), 0);
        for (text, words) in [
            ("r=16", "alpha"),
            ("alpha=1", "`r`"),
            ("r=0,alpha=1", "begins at 1"),
            ("r=1.5,alpha=1", "whole"),
            ("r=2,alpha=x", "no number"),
            ("r=2,alpha=1,q_proj", "NAME=VALUE"),
            ("r=2,alpha=1,targets=", "names no layer"),
            ("r=2,alpha=1,bias=all", "none of"),
            ("r=2,alpha=1,rslora=1", "true or false"),
            ("r=2,alpha=1,dropout=1", "fraction"),
        ] {
            let message = lora(text).unwrap_err();
            assert!(message.contains(words), "{text}: {message}");
        }
    }
}
