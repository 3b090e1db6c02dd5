//! How TRL is run: `[trl]` of a recipe, and the flags of `train` that mean the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::launch::Template;

/// How TRL is run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrlSettings {
    /// The command that starts the training script, which is put behind it with its job file:
    /// `accelerate launch --config_file accelerate.yaml`, `torchrun --nproc_per_node 4`. `{python}`
    /// is the interpreter, `{script}` and `{job}` the two files where they do not come last.
    pub launch: String,
    /// The interpreter of the environment that holds torch, transformers, trl, accelerate and
    /// datasets (peft for adapters). Programs beside it, such as its accelerate, are found first.
    pub python: String,
    /// Processes that the launch runs in all; those that its words or its accelerate config state
    /// where unset, else 1. A launch that runs another number is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<usize>,
    /// Rows that a process computes at once; changes memory and speed.
    pub per_device_batch_size: usize,
    /// Fields of TRL's SFTConfig beside those that idiolect sets: `optim`, `model_init_kwargs`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Value>,
}

impl Default for TrlSettings {
    fn default() -> Self {
        Self {
            launch: "{python}".to_owned(),
            python: "python3".to_owned(),
            processes: None,
            per_device_batch_size: 8,
            config: BTreeMap::new(),
        }
    }
}

/// The placeholders of a launch.
const KNOWN: [&str; 3] = ["python", "script", "job"];

/// Fields of SFTConfig that follow from the settings of the training, and what states them.
const OURS: [(&str, &str); 36] = [
    ("output_dir", "-o"),
    ("learning_rate", "lr"),
    ("lr_scheduler_type", "schedule"),
    ("lr_scheduler_kwargs", "schedule"),
    ("warmup_steps", "warmup_steps"),
    ("warmup_ratio", "warmup_steps"),
    ("num_train_epochs", "epochs"),
    ("max_steps", "epochs"),
    ("per_device_train_batch_size", "per_device_batch_size"),
    ("gradient_accumulation_steps", "batch_size"),
    ("auto_find_batch_size", "per_device_batch_size"),
    ("weight_decay", "weight_decay"),
    ("adam_beta1", "the trainer's fixed betas"),
    ("adam_beta2", "the trainer's fixed betas"),
    ("adam_epsilon", "the trainer's fixed epsilon"),
    ("max_grad_norm", "max_grad_norm"),
    ("seed", "seed"),
    ("data_seed", "seed"),
    ("bf16", "compute"),
    ("fp16", "compute"),
    ("gradient_checkpointing", "gradient_checkpointing"),
    ("max_length", "max_tokens"),
    ("packing", "the order of idiolect's steps"),
    ("train_sampling_strategy", "the order of idiolect's steps"),
    ("shuffle_dataset", "the order of idiolect's steps"),
    ("group_by_length", "the order of idiolect's steps"),
    ("dataloader_drop_last", "the order of idiolect's steps"),
    ("remove_unused_columns", "the rows that idiolect writes"),
    ("dataset_kwargs", "the rows that idiolect writes"),
    ("completion_only_loss", "the loss mask of the rows"),
    ("assistant_only_loss", "the loss mask of the rows"),
    (
        "average_tokens_across_devices",
        "idiolect's loss, one mean over a step",
    ),
    ("save_strategy", "checkpoint_every"),
    ("save_steps", "checkpoint_every"),
    ("save_total_limit", "checkpoint_every"),
    ("report_to", "log.jsonl, which idiolect writes"),
];

/// How a step's rows are shared out: `processes` times `accumulation` times `per_device` rows, of
/// which those that a step has too few of are filled with rows without a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) processes: usize,
    pub(super) per_device: usize,
    pub(super) accumulation: usize,
}

impl Shares {
    /// Of steps of at most so many rows.
    fn of(rows: usize, processes: usize, most_per_device: usize) -> Self {
        let per_device = most_per_device.min(rows.div_ceil(processes)).max(1);
        Self {
            processes,
            per_device,
            accumulation: rows.div_ceil(processes * per_device).max(1),
        }
    }

    /// Rows of every step, fillers included.
    pub(super) fn rows(self) -> usize {
        self.processes * self.per_device * self.accumulation
    }
}

impl TrlSettings {
    /// Whether they can be used, but for what only the system can tell.
    ///
    /// # Errors
    /// In words, with the name of the setting.
    pub fn check(&self) -> Result<(), String> {
        self.template()?;
        if self.processes == Some(0) || self.per_device_batch_size == 0 {
            return Err("`processes` and `per_device_batch_size` begin at 1".to_owned());
        }
        match OURS
            .iter()
            .find(|(name, _)| self.config.contains_key(*name))
        {
            None => Ok(()),
            Some((name, by)) => Err(format!(
                "`{name}` of TRL's config is set by idiolect ({by}); leave it out of `config`"
            )),
        }
    }

    fn template(&self) -> Result<Template, String> {
        Template::parse(&self.launch, &KNOWN, &[]).map_err(|why| format!("`launch`: {why}"))
    }

    /// The words of the launch for a script and its job.
    ///
    /// # Errors
    /// In words.
    pub(super) fn words(&self, script: &Path, job: &Path) -> Result<Vec<String>, String> {
        let template = self.template()?;
        let (script, job) = (script.to_string_lossy(), job.to_string_lossy());
        let values = [
            ("python", self.python.as_str()),
            ("script", &script),
            ("job", &job),
        ];
        let mut words = template.fill(&values);
        if !template.holds("script") {
            words.push(script.into_owned());
        }
        if !template.holds("job") {
            words.push(job.into_owned());
        }
        Ok(words)
    }

    /// Processes that the launch is to run.
    ///
    /// # Errors
    /// In words, where its words state no number that can be read.
    pub(super) fn expected_processes(&self) -> Result<usize, String> {
        if let Some(processes) = self.processes {
            return Ok(processes);
        }
        let words = self.template()?.fill(&[]);
        let value = |names: &[&str]| value_of(&words, names);
        let number = |name: &str, text: &str| {
            text.parse::<usize>()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| {
                    format!(
                        "`launch` states `{name}` as `{text}`, which is no number; state `processes`"
                    )
                })
        };
        if let Some(n) = value(&["--num_processes", "--num-processes", "-n"]) {
            return number("num_processes", &n);
        }
        if let Some(n) = value(&["--nproc_per_node", "--nproc-per-node"]) {
            let nodes = value(&["--nnodes"]).unwrap_or_else(|| "1".to_owned());
            return Ok(number("nproc_per_node", &n)? * number("nnodes", &nodes)?);
        }
        let Some(file) = value(&["--config_file", "--config-file"]) else {
            return Ok(1);
        };
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("`launch` names the config `{file}`: {error}"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("num_processes:"));
        match line {
            None => Ok(1),
            Some(n) => {
                let n = n.split('#').next().unwrap_or(n);
                number(&format!("num_processes` of `{file}"), n.trim())
            }
        }
    }

    /// How steps of at most so many rows are shared out among processes.
    pub(super) fn shares(&self, rows: usize, processes: usize) -> Shares {
        Shares::of(rows, processes, self.per_device_batch_size)
    }
}

/// The value of a flag among words, behind it or behind its `=`.
fn value_of(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().enumerate().find_map(|(i, word)| {
        names
            .iter()
            .find_map(|name| match word.strip_prefix(name)? {
                "" => words.get(i + 1).cloned(),
                rest => rest.strip_prefix('=').map(str::to_owned),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(text: &str) -> TrlSettings {
        TrlSettings {
            launch: text.to_owned(),
            ..TrlSettings::default()
        }
    }

    #[test]
    fn the_script_comes_last_unless_it_has_a_place() {
        let words = |text: &str| {
            launch(text)
                .words(Path::new("a b/train.py"), Path::new("job.json"))
                .unwrap()
        };
        assert_eq!(words("{python}"), ["python3", "a b/train.py", "job.json"]);
        assert_eq!(
            words("srun {python} {script} --x {job} --y"),
            ["srun", "python3", "a b/train.py", "--x", "job.json", "--y"]
        );
        assert!(launch("{python} {model}").check().is_err());
    }

    #[test]
    fn processes_are_read_off_the_launch() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(
            &file,
            "distributed_type: MULTI_CPU\nnum_processes: 2 # two\n",
        )
        .unwrap();
        let by_file = format!("accelerate launch --config_file {}", file.display());
        for (text, n) in [
            ("{python}", 1),
            ("accelerate launch --num_processes 4", 4),
            ("accelerate launch --num-processes=3 --x", 3),
            ("torchrun --nnodes 2 --nproc-per-node 8", 16),
            ("torchrun --standalone", 1),
            (&by_file, 2),
        ] {
            assert_eq!(launch(text).expected_processes(), Ok(n), "{text}");
        }
        let stated = TrlSettings {
            processes: Some(5),
            ..launch("torchrun --nproc_per_node gpu")
        };
        assert_eq!(stated.expected_processes(), Ok(5));
        for text in [
            "torchrun --nproc_per_node gpu",
            "accelerate launch --config_file no.yaml",
        ] {
            assert!(launch(text).expected_processes().is_err(), "{text}");
        }
    }

    #[test]
    fn rows_of_a_step_are_shared_out_whole() {
        for (rows, processes, most, shares) in [
            (32, 1, 8, (8, 4)),
            (5, 2, 8, (3, 1)),
            (1, 4, 8, (1, 1)),
            (33, 2, 8, (8, 3)),
        ] {
            let found = Shares::of(rows, processes, most);
            assert_eq!((found.per_device, found.accumulation), shares);
            assert!(found.rows() >= rows);
        }
    }

    #[test]
    fn what_idiolect_sets_is_refused_by_name() {
        let mut settings = TrlSettings::default();
        settings.config.insert("optim".to_owned(), "sgd".into());
        assert_eq!(settings.check(), Ok(()));
        settings.config.insert("max_length".to_owned(), 9.into());
        assert!(settings.check().unwrap_err().contains("`max_length`"));
    }
}
