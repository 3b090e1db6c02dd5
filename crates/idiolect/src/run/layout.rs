//! Where everything lies within a run directory; the contract of `docs/formats.md`.

use std::path::{Path, PathBuf};

use idiolect_core::record::Split;

/// The run directory and what is relative to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of a run directory.
    pub(super) fn of(run: &Path) -> Self {
        Self {
            root: run.to_owned(),
        }
    }

    /// Problems, traces and verdicts of a replicate.
    pub(super) fn data(&self, replicate: usize) -> DataPaths {
        DataPaths {
            root: self.root.join("data").join(format!("r{replicate}")),
        }
    }

    /// A model trained inside the run: `student` or `teacher`.
    pub(super) fn model(&self, replicate: usize, model: &str) -> PathBuf {
        let replicate = format!("r{replicate}");
        self.root.join("models").join(replicate).join(model)
    }

    /// The logs of the servers that the run starts.
    pub(super) fn servers(&self) -> PathBuf {
        self.root.join("servers")
    }

    /// Everything of one student in a replicate.
    pub(super) fn student(&self, replicate: usize, student: &str) -> StudentPaths {
        let student = self.root.join("students").join(student);
        StudentPaths {
            root: student.join(format!("r{replicate}")),
        }
    }
}

/// Whether a run puts something of this name into its directory.
pub(super) fn is_of_a_run(name: &str) -> bool {
    const NAMES: [&str; 13] = [
        "advice.jsonl",
        "cluster",
        "comparison.json",
        "data",
        "events.jsonl",
        "manifest.json",
        "models",
        "plan.json",
        "recipe.toml",
        "report.html",
        "report.md",
        "servers",
        "students",
    ];
    let is_temporary = name.starts_with('.') && name.ends_with(".tmp");
    NAMES.contains(&name) || is_temporary
}

/// `data/r<replicate>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataPaths {
    root: PathBuf,
}

impl DataPaths {
    pub(super) fn problems(&self) -> PathBuf {
        self.root.join("problems.jsonl")
    }

    pub(super) fn traces(&self) -> PathBuf {
        self.root.join("traces.jsonl")
    }

    pub(super) fn verdicts(&self) -> PathBuf {
        self.root.join("verdicts.jsonl")
    }

    /// Traces of one origin before they are gathered.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.root.join("parts").join(format!("{name}.jsonl"))
    }

    /// The verdicts on a part.
    pub(super) fn part_verdicts(&self, name: &str) -> PathBuf {
        let name = format!("{name}.verdicts.jsonl");
        self.root.join("parts").join(name)
    }

    /// Problems of a split as they were imported.
    pub(super) fn imported(&self, split: Split) -> PathBuf {
        self.root.join("imported").join(format!("{split}.jsonl"))
    }

    /// The traces that stand in a split's files.
    pub(super) fn imported_traces(&self, split: Split) -> PathBuf {
        let name = format!("{split}.traces.jsonl");
        self.root.join("imported").join(name)
    }

    /// The text that a model is pretrained on.
    pub(super) fn corpus(&self, model: &str) -> PathBuf {
        self.root.join("corpora").join(format!("{model}.jsonl"))
    }

    /// `config.json` and tokenizer files that a model starts from.
    pub(super) fn blank(&self, model: &str) -> PathBuf {
        self.root.join("corpora").join(model)
    }

    /// The teacher's greedy answers to the test problems.
    pub(super) fn teacher_evaluation(&self) -> PathBuf {
        self.root.join("teacher.eval.jsonl")
    }
}

/// `students/<student>/r<replicate>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StudentPaths {
    root: PathBuf,
}

impl StudentPaths {
    /// The student's own samples, for arm S.
    pub(super) fn own(&self) -> PathBuf {
        self.root.join("own.jsonl")
    }

    pub(super) fn own_verdicts(&self) -> PathBuf {
        self.root.join("own.verdicts.jsonl")
    }

    pub(super) fn scores(&self) -> PathBuf {
        self.root.join("scores.jsonl")
    }

    pub(super) fn tokens(&self) -> PathBuf {
        self.root.join("tokens.parquet")
    }

    pub(super) fn arms(&self) -> PathBuf {
        self.root.join("arms")
    }

    /// The training rows of an arm.
    pub(super) fn arm(&self, arm: &str) -> PathBuf {
        self.arms().join(format!("{arm}.jsonl"))
    }

    /// The student fine-tuned on an arm.
    pub(super) fn checkpoint(&self, arm: &str, seed: u64) -> PathBuf {
        self.root.join("train").join(arm).join(seed.to_string())
    }

    /// Answers of a checkpoint, `greedy`, `sampled` or `dev`, or its scores of the test problems'
    /// own solutions, `gold`.
    pub(super) fn evaluation(&self, arm: &str, seed: u64, what: &str) -> PathBuf {
        self.root
            .join("eval")
            .join(arm)
            .join(seed.to_string())
            .join(format!("{what}.jsonl"))
    }
}
