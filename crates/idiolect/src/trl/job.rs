//! The files that the training script reads.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use idiolect_engine::batch::TokenRow;
use idiolect_engine::local::external::ExternalTraining;
use idiolect_model::{Compute, ModelError, SaveDtype, TrainSettings};
use serde_json::{Map, Value, json};

use super::settings::Shares;

/// The script.
const SCRIPT: &str = include_str!("train.py");

/// Rows whose losses are computed by TRL and again here, and their tokens together.
const CHECKED_ROWS: usize = 4;
const CHECKED_TOKENS: usize = 2048;

/// Where a training's files lie.
pub(super) struct Folder {
    pub(super) work: PathBuf,
}

impl Folder {
    /// Beside the model that is trained; removed when that is finished.
    pub(super) fn of(out: &Path) -> Self {
        Self {
            work: out.join(".trl.tmp"),
        }
    }

    pub(super) fn script(&self) -> PathBuf {
        self.work.join("train.py")
    }

    pub(super) fn job(&self) -> PathBuf {
        self.work.join("job.json")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.work.join("events.jsonl")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.work.join("trl.log")
    }

    /// The adapter that training begins with.
    pub(super) fn first_adapter(&self) -> PathBuf {
        self.work.join("first-adapter")
    }

    /// What was trained.
    pub(super) fn trained(&self) -> PathBuf {
        self.work.join("final")
    }
}

/// A training as TRL is to do it.
pub(super) struct Job<'a> {
    pub(super) model: &'a Path,
    pub(super) out: &'a Path,
    pub(super) training: &'a ExternalTraining,
    pub(super) settings: &'a TrainSettings,
    pub(super) compute: Compute,
    pub(super) shares: Shares,
    /// Fields of SFTConfig that the user sets.
    pub(super) config: &'a std::collections::BTreeMap<String, Value>,
    /// The state to go on from.
    pub(super) resume: Option<PathBuf>,
}

impl Job<'_> {
    /// Rows that are computed again when the model is back: those of the last step, as far as few
    /// tokens hold them.
    pub(super) fn checked(&self) -> Vec<TokenRow> {
        let last = self
            .training
            .steps
            .last()
            .map_or(&[][..], |step| &step.rows);
        let mut tokens = 0;
        let mut rows = Vec::new();
        for row in last.iter().map(|&i| &self.training.rows[i]) {
            tokens += row.ids.len();
            if rows.len() == CHECKED_ROWS || (!rows.is_empty() && tokens > CHECKED_TOKENS) {
                break;
            }
            rows.push(row.clone());
        }
        rows
    }

    /// Whether rows differ in their weight in the loss.
    fn is_weighted(&self) -> bool {
        #[expect(clippy::float_cmp, reason = "weight 1 is the default, written as such")]
        self.training.rows.iter().any(|row| row.weight != 1.0)
    }

    /// The rows of every step in order, each step filled up with a row without a loss, which is the
    /// one behind the others.
    pub(super) fn order(&self) -> Vec<usize> {
        let filler = self.training.rows.len();
        let all = self.shares.rows();
        let mut order = Vec::with_capacity(all * self.training.steps.len());
        for step in &self.training.steps {
            order.extend(&step.rows);
            order.extend(std::iter::repeat_n(filler, all - step.rows.len()));
        }
        order
    }

    /// A row without a loss, of as few tokens as a row can have.
    fn filler(&self) -> Value {
        let id = self.training.rows.first().and_then(|row| row.ids.first());
        row(&[id.copied().unwrap_or_default(); 2], &[-100; 2], 0.0)
    }

    /// Writes everything that the script reads.
    pub(super) fn write(&self, folder: &Folder) -> Result<(), ModelError> {
        fs::create_dir_all(&folder.work).map_err(io(&folder.work))?;
        let of = |row_of: &TokenRow| row(&row_of.ids, &row_of.labels(), row_of.weight);
        let rows = self.training.rows.iter().map(of);
        lines(&folder.work.join("rows.jsonl"), rows.chain([self.filler()]))?;
        lines(
            &folder.work.join("dev.jsonl"),
            self.training.dev.iter().map(of),
        )?;
        lines(
            &folder.work.join("check.jsonl"),
            self.checked().iter().map(of),
        )?;
        lines(&folder.work.join("order.json"), [json!(self.order())])?;
        lines(&folder.job(), [self.json(folder)?])?;
        fs::write(folder.script(), SCRIPT).map_err(io(&folder.script()))
    }

    fn json(&self, folder: &Folder) -> Result<Value, ModelError> {
        let absolute = |path: &Path| fs::canonicalize(path).map_err(io(path));
        let settings = self.settings;
        let steps = &self.training.steps;
        let dev_after: Vec<usize> = (1..)
            .zip(steps)
            .filter(|(step, planned)| {
                let due = settings.dev_every > 0 && step % settings.dev_every == 0;
                !self.training.dev.is_empty() && (planned.ends_epoch || due)
            })
            .map(|(step, _)| step)
            .collect();
        let lora = settings.lora.as_ref().map(|lora| {
            json!({"r": lora.r, "alpha": lora.alpha, "rslora": lora.rslora, "dropout": lora.dropout,
                "targets": lora.targets,
                "start": Some(folder.first_adapter()).filter(|dir| dir.is_dir())})
        });
        let resume = self.resume.as_deref().map(absolute).transpose()?;
        Ok(json!({
            "model": absolute(self.model)?,
            "output": absolute(self.out)?,
            "work": absolute(&folder.work)?,
            "events": absolute(&folder.work)?.join("events.jsonl"),
            "processes": self.shares.processes,
            "rates": steps.iter().map(|step| step.lr).collect::<Vec<f64>>(),
            "dev_after": dev_after,
            "checkpoint_every": settings.checkpoint_every,
            "weighted": self.is_weighted(),
            "lora": lora,
            "save_dtype": match settings.save_dtype {
                SaveDtype::F32 => "float32",
                SaveDtype::Bf16 => "bfloat16",
            },
            "resume": resume,
            "config": self.config(),
        }))
    }

    /// TRL's SFTConfig: what the user adds, and what follows from the settings.
    fn config(&self) -> Map<String, Value> {
        let settings = self.settings;
        let bf16 = !self.compute.is_f32();
        let ours = json!({
            "learning_rate": settings.lr,
            "num_train_epochs": 1,
            "per_device_train_batch_size": self.shares.per_device,
            "gradient_accumulation_steps": self.shares.accumulation,
            "weight_decay": settings.weight_decay,
            "adam_beta1": settings.betas.0,
            "adam_beta2": settings.betas.1,
            "adam_epsilon": settings.epsilon,
            // Without a bound the norm is still to be computed.
            "max_grad_norm": if settings.max_grad_norm > 0.0 { settings.max_grad_norm } else { 1e30 },
            // What numpy's generator takes. Only dropout draws from it.
            "seed": settings.seed % (1 << 31),
            "bf16": bf16,
            "fp16": false,
            "gradient_checkpointing": settings.gradient_checkpointing,
            "max_length": null,
            "packing": false,
            "shuffle_dataset": false,
            "dataloader_drop_last": false,
            "remove_unused_columns": false,
            "dataset_kwargs": {"skip_prepare_dataset": true},
            "completion_only_loss": false,
            "average_tokens_across_devices": true,
            "logging_strategy": "no",
            "logging_nan_inf_filter": false,
            "eval_strategy": "no",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": true,
        });
        let mut config = Map::new();
        config.insert("optim".to_owned(), json!("adamw_torch"));
        config.extend(self.config.iter().map(|(k, v)| (k.clone(), v.clone())));
        if let Value::Object(ours) = ours {
            config.extend(ours);
        }
        config
    }
}

fn row(ids: &[u32], labels: &[i64], weight: f32) -> Value {
    json!({"input_ids": ids, "labels": labels, "weight": weight})
}

fn lines(path: &Path, values: impl IntoIterator<Item = Value>) -> Result<(), ModelError> {
    let mut file = BufWriter::new(File::create(path).map_err(io(path))?);
    for value in values {
        writeln!(file, "{value}").map_err(io(path))?;
    }
    file.flush().map_err(io(path))
}

pub(super) fn io(path: &Path) -> impl Fn(std::io::Error) -> ModelError + '_ {
    move |source| ModelError::Io {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use idiolect_engine::train::PlannedStep;
    use idiolect_model::StepSize;

    use super::*;

    fn training() -> ExternalTraining {
        let row = |ids: &[u32], start| TokenRow::new(ids.to_vec(), start);
        let masked = TokenRow {
            loss_mask: vec![false, true],
            ..row(&[1, 8, 9], 1)
        };
        let step = |rows: &[usize], lr, ends_epoch| PlannedStep {
            rows: rows.to_vec(),
            lr,
            ends_epoch,
        };
        ExternalTraining {
            rows: vec![row(&[1, 5, 6], 1), row(&[1, 7], 1), masked],
            dev: vec![row(&[1, 5], 1)],
            steps: vec![
                step(&[2, 0], 0.5, false),
                step(&[1], 0.4, true),
                step(&[0, 1], 0.3, false),
                step(&[2], 0.2, true),
            ],
        }
    }

    fn written(settings: &TrainSettings) -> (tempfile::TempDir, Value) {
        let dir = tempfile::tempdir().unwrap();
        let training = training();
        let config = std::collections::BTreeMap::from([
            ("optim".to_owned(), json!("sgd")),
            ("max_steps_of_next_year".to_owned(), json!(3)),
        ]);
        let job = Job {
            model: dir.path(),
            out: dir.path(),
            training: &training,
            settings,
            compute: Compute::Bf16,
            shares: Shares {
                processes: 1,
                per_device: 2,
                accumulation: 1,
            },
            config: &config,
            resume: None,
        };
        assert_eq!(job.order(), [2, 0, 1, 3, 0, 1, 2, 3]);
        assert_eq!(job.checked(), [training.rows[2].clone()]);
        let folder = Folder::of(dir.path());
        job.write(&folder).unwrap();
        let text = fs::read_to_string(folder.job()).unwrap();
        (dir, serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn rows_are_written_in_step_order_and_filled_up() {
        let settings = TrainSettings {
            step_size: StepSize::Rows(2),
            dev_every: 3,
            max_grad_norm: 0.0,
            seed: u64::MAX,
            ..TrainSettings::default()
        };
        let (dir, job) = written(&settings);
        let rows = fs::read_to_string(dir.path().join(".trl.tmp/rows.jsonl")).unwrap();
        let rows: Vec<Value> = rows
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(rows[0]["labels"], json!([-100, 5, 6]));
        assert_eq!(rows[2]["labels"], json!([-100, -100, 9]));
        assert_eq!(rows[3]["labels"], json!([-100, -100]), "the filler");
        assert_eq!(job["dev_after"], json!([2, 3, 4]));
        assert_eq!(job["rates"], json!([0.5, 0.4, 0.3, 0.2]));
        assert_eq!(job["weighted"], json!(false));
        let config = &job["config"];
        assert_eq!(config["bf16"], json!(true));
        assert_eq!(config["max_length"], Value::Null);
        assert_eq!(config["optim"], json!("sgd"));
        assert_eq!(config["max_steps_of_next_year"], json!(3));
        assert!(config["max_grad_norm"].as_f64().unwrap() > 1e29);
        assert!(config["seed"].as_u64().unwrap() < 1 << 31);
    }
}
