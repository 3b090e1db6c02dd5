//! Where everything lies within a run directory; the contract of `docs/formats.md`.

use std::path::{Path, PathBuf};

/// The tree of one world: the run directory itself, or `worlds/<name>` where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    root: PathBuf,
}

impl World {
    /// World `number` of `worlds` in a run directory.
    pub(crate) fn of(run: &Path, number: usize, worlds: usize) -> Self {
        let root = if worlds == 1 {
            run.to_owned()
        } else {
            run.join("worlds").join(Self::name(number))
        };
        Self { root }
    }

    /// `w0`, `w1`, …
    pub(crate) fn name(number: usize) -> String {
        format!("w{number}")
    }

    pub(crate) fn problems(&self) -> PathBuf {
        self.root.join("problems.jsonl")
    }

    /// The text that a model is pretrained on.
    pub(crate) fn corpus(&self, model: &str) -> PathBuf {
        self.root.join("corpora").join(format!("{model}.jsonl"))
    }

    /// `config.json` and tokenizer files that a model starts from.
    pub(crate) fn blank(&self, model: &str) -> PathBuf {
        self.root.join("corpora").join(model)
    }

    /// `student` or `teacher`.
    pub(crate) fn model(&self, model: &str) -> PathBuf {
        self.root.join("models").join(model)
    }

    /// Traces of one origin before they are gathered.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.root.join("parts").join(format!("{name}.jsonl"))
    }

    pub(crate) fn traces(&self) -> PathBuf {
        self.root.join("traces.jsonl")
    }

    pub(crate) fn verdicts(&self) -> PathBuf {
        self.root.join("verdicts.jsonl")
    }

    pub(crate) fn scores(&self) -> PathBuf {
        self.root.join("scores.jsonl")
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.root.join("tokens.parquet")
    }

    pub(crate) fn arms(&self) -> PathBuf {
        self.root.join("arms")
    }

    /// The training rows of an arm.
    pub(crate) fn arm(&self, arm: &str) -> PathBuf {
        self.arms().join(format!("{arm}.jsonl"))
    }

    /// The student fine-tuned on an arm.
    pub(crate) fn checkpoint(&self, arm: &str, seed: u64) -> PathBuf {
        self.root.join("train").join(arm).join(seed.to_string())
    }

    /// Answers of a checkpoint: `greedy`, `sampled`, `dev` or `gold`.
    pub(crate) fn evaluation(&self, arm: &str, seed: u64, what: &str) -> PathBuf {
        self.root
            .join("eval")
            .join(arm)
            .join(seed.to_string())
            .join(format!("{what}.jsonl"))
    }
}
