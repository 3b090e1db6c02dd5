//! What was submitted: `cluster/submissions.jsonl` of the run directory.
//!
//! A submission is written down before the cluster is asked, under a name of its own that the cluster
//! is given too: whatever ends this process in between, the next one asks the cluster for the name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use idiolect_core::record::content_hash;
use idiolect_core::store::StoreError;
use serde::{Deserialize, Serialize};

use super::super::place::{Asked, On};
use super::super::record::unix_seconds;
use crate::stage::StageError;

/// Jobs that were handed over together.
#[derive(Clone, Debug)]
pub(in super::super) struct Submission {
    /// As the cluster knows it: `idiolect-<run>-<group>-<how often the group was submitted>`.
    pub(super) name: String,
    pub(super) group: String,
    pub(super) on: On,
    pub(super) asked: Asked,
    /// The ids of each task's jobs.
    pub(super) tasks: Vec<Vec<String>>,
    /// Slurm's number of the array, once known.
    pub(super) cluster_id: Option<String>,
    /// Tasks that are over, each with why.
    pub(super) closed: BTreeMap<usize, String>,
    /// Whether this program asked the cluster to end it.
    pub(super) cancelled: bool,
}

impl Submission {
    /// The tasks that are not over.
    pub(super) fn open(&self) -> impl Iterator<Item = usize> {
        (0..self.tasks.len()).filter(|task| !self.closed.contains_key(task))
    }

    /// A task as the user finds it on the cluster.
    pub(super) fn shown(&self, task: usize) -> String {
        match (&self.on, &self.cluster_id) {
            (On::Slurm, Some(id)) => format!("slurm {id}_{task}"),
            (On::Ray(_), _) => format!("ray {}", task_name(&self.name, task)),
            _ => format!("{} {}", self.on, task_name(&self.name, task)),
        }
    }
}

/// A task's name: that of its submission, and its number.
pub(super) fn task_name(submission: &str, task: usize) -> String {
    format!("{submission}.{task}")
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Row {
    /// It is about to be submitted.
    Submit {
        at_unix_s: f64,
        name: String,
        group: String,
        on: On,
        asked: Asked,
        tasks: Vec<Vec<String>>,
    },
    /// The cluster took it.
    Taken { name: String, cluster_id: String },
    /// The cluster was asked to end it.
    Cancelled { name: String },
    /// A task is over.
    Closed {
        at_unix_s: f64,
        name: String,
        task: usize,
        why: String,
    },
}

/// The folder of everything that has to do with a cluster.
pub(in super::super) fn folder(run: &Path) -> PathBuf {
    run.join("cluster")
}

/// The log of a task.
pub(super) fn log_of(run: &Path, submission: &str, task: usize) -> PathBuf {
    folder(run)
        .join("logs")
        .join(format!("{}.log", task_name(submission, task)))
}

/// The events of a task: one process writes one file, since appending from several machines to one
/// is not safe on every shared file system.
pub(in super::super) fn events_of(run: &Path, task: &str) -> PathBuf {
    folder(run).join("events").join(format!("{task}.jsonl"))
}

/// The journal, open for the one submitting process.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    token: String,
    pub(super) submissions: Vec<Submission>,
}

impl Journal {
    /// Opens or begins the journal of a run.
    pub(super) fn open(run: &Path) -> Result<Self, StageError> {
        for part in ["logs", "events"] {
            let path = folder(run).join(part);
            fs::create_dir_all(&path).map_err(StoreError::io("create", &path))?;
        }
        let path = path_in(run);
        let mut file = idiolect_files::append_to(&path).map_err(StoreError::io("write", &path))?;
        end_last_line(&mut file).map_err(StoreError::io("write", &path))?;
        let submissions = read(run)?;
        let token = match submissions
            .first()
            .and_then(|one| one.name.split('-').nth(1))
        {
            Some(token) => token.to_owned(),
            None => {
                let unique = format!(
                    "{} {} {}",
                    run.display(),
                    unix_seconds(),
                    std::process::id()
                );
                content_hash(unique.as_bytes()).chars().take(8).collect()
            }
        };
        Ok(Self {
            file,
            path,
            token,
            submissions,
        })
    }

    /// Writes down that tasks of a group are about to be submitted.
    pub(super) fn submit(
        &mut self,
        group: &str,
        on: &On,
        asked: &Asked,
        tasks: Vec<Vec<String>>,
    ) -> Result<usize, StageError> {
        let times = self
            .submissions
            .iter()
            .filter(|one| one.group == group)
            .count()
            + 1;
        let one = Submission {
            name: format!("idiolect-{}-{group}-{times}", self.token),
            group: group.to_owned(),
            on: on.clone(),
            asked: asked.clone(),
            tasks,
            cluster_id: None,
            closed: BTreeMap::new(),
            cancelled: false,
        };
        self.write(&Row::Submit {
            at_unix_s: unix_seconds(),
            name: one.name.clone(),
            group: one.group.clone(),
            on: one.on.clone(),
            asked: one.asked.clone(),
            tasks: one.tasks.clone(),
        })?;
        self.submissions.push(one);
        Ok(self.submissions.len() - 1)
    }

    /// Writes down that the cluster has a submission.
    pub(super) fn taken(&mut self, at: usize, cluster_id: &str) -> Result<(), StageError> {
        let one = &mut self.submissions[at];
        one.cluster_id = Some(cluster_id.to_owned());
        let row = Row::Taken {
            name: one.name.clone(),
            cluster_id: cluster_id.to_owned(),
        };
        self.write(&row)
    }

    /// Writes down that the cluster is asked to end a submission.
    pub(super) fn cancel(&mut self, at: usize) -> Result<(), StageError> {
        let one = &mut self.submissions[at];
        one.cancelled = true;
        let row = Row::Cancelled {
            name: one.name.clone(),
        };
        self.write(&row)
    }

    /// Writes down that a task is over: one that the cluster begins after that does nothing.
    pub(super) fn close(&mut self, at: usize, task: usize, why: &str) -> Result<(), StageError> {
        let one = &mut self.submissions[at];
        one.closed.insert(task, why.to_owned());
        let row = Row::Closed {
            at_unix_s: unix_seconds(),
            name: one.name.clone(),
            task,
            why: why.to_owned(),
        };
        self.write(&row)
    }

    fn write(&mut self, row: &Row) -> Result<(), StageError> {
        let line = serde_json::to_string(row).expect("a row of plain values serialises") + "\n";
        let written = self.file.write_all(line.as_bytes());
        let written = written.and_then(|()| self.file.sync_data());
        Ok(written.map_err(StoreError::io("write", &self.path))?)
    }
}

fn path_in(run: &Path) -> PathBuf {
    folder(run).join("submissions.jsonl")
}

/// Goes to the end, where the line that a killed process left unfinished is ended.
fn end_last_line(file: &mut File) -> std::io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    match last {
        [b'\n'] => Ok(()),
        _ => file.write_all(b"\n"),
    }
}

/// The submissions of a run, from its journal; none where nothing was submitted.
pub(in super::super) fn read(run: &Path) -> Result<Vec<Submission>, StageError> {
    let path = path_in(run);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(StoreError::io("read", &path))?,
    };
    let mut found: Vec<Submission> = Vec::new();
    // A line that a kill left unfinished was acted upon by nobody.
    for row in text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
    {
        match row {
            Row::Submit {
                name,
                group,
                on,
                asked,
                tasks,
                ..
            } => found.push(Submission {
                name,
                group,
                on,
                asked,
                tasks,
                cluster_id: None,
                closed: BTreeMap::new(),
                cancelled: false,
            }),
            Row::Taken { name, cluster_id } => {
                if let Some(one) = found.iter_mut().find(|one| one.name == name) {
                    one.cluster_id = Some(cluster_id);
                }
            }
            Row::Cancelled { name } => {
                if let Some(one) = found.iter_mut().find(|one| one.name == name) {
                    one.cancelled = true;
                }
            }
            Row::Closed {
                name, task, why, ..
            } => {
                if let Some(one) = found.iter_mut().find(|one| one.name == name) {
                    one.closed.insert(task, why);
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked {
        Asked {
            cpus: 1,
            gpus: 0,
            memory_bytes: None,
            time: None,
            sbatch: Vec::new(),
        }
    }

    #[test]
    fn what_was_submitted_is_known_to_the_next_process_whatever_ended_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = vec![vec!["a".to_owned()], vec!["b".to_owned()]];
        let mut journal = Journal::open(dir.path()).unwrap();
        let at = journal
            .submit("01-train", &On::Slurm, &asked(), tasks.clone())
            .unwrap();
        journal.taken(at, "17").unwrap();
        journal.close(at, 1, "done").unwrap();
        let name = journal.submissions[at].name.clone();
        drop(journal);
        // Killed within a line.
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(path_in(dir.path()))
            .unwrap();
        file.write_all(b"{\"event\":\"clo").unwrap();
        drop(file);
        let mut journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.submissions[0].open().collect::<Vec<_>>(), [0]);
        assert_eq!(journal.submissions[0].shown(0), "slurm 17_0");
        let again = journal
            .submit("01-train", &On::Slurm, &asked(), tasks)
            .unwrap();
        let second = journal.submissions[again].name.clone();
        assert_eq!(
            (name.strip_suffix("-1"), second.len()),
            (second.strip_suffix("-2"), name.len())
        );
        drop(journal);
        assert_eq!(read(dir.path()).unwrap().len(), 2);
    }
}
