//! Where submitted jobs are, for whoever looks at a run: the submitting process, `status`, a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use idiolect_core::store::{Rows, write_atomic};
use serde::{Deserialize, Serialize};

use super::super::place::On;
use super::super::plan::Job;
use super::super::record::unix_seconds;
use super::super::state::is_done;
use super::journal::{self, Submission, events_of, folder, log_of, task_name};
use super::{Look, Seen, ray, slurm};
use crate::shown::escaped;
use crate::stage::StageError;

/// How long `status` waits for a dashboard.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of a log is shown.
const LINES: usize = 8;
const CHARACTERS: usize = 1000;

/// Where a submitted job is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(in super::super) struct Placed {
    /// The task as the cluster knows it: `slurm 12_3`.
    pub(in super::super) task: String,
    /// Whether its task runs; one that does may do another of its jobs first.
    pub(in super::super) running: bool,
    /// The cluster's word.
    pub(in super::super) words: String,
    /// When the submitting process saw it, where the cluster cannot be asked from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in super::super) seen_unix_s: Option<f64>,
}

/// Whether the cluster itself is asked, or what was seen last is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Ask {
    Yes,
    No,
}

/// `cluster/queue.json`: what the submitting process saw last.
#[derive(Default, Deserialize, Serialize)]
struct Queue {
    at_unix_s: f64,
    /// By task.
    tasks: BTreeMap<String, Line>,
}

#[derive(Clone, Deserialize, PartialEq, Serialize)]
struct Line {
    running: bool,
    words: String,
}

fn queue_path(run: &Path) -> PathBuf {
    folder(run).join("queue.json")
}

fn read_queue(run: &Path) -> Queue {
    let text = fs::read(queue_path(run)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn lines(look: &Look) -> BTreeMap<String, Line> {
    let of = |((name, task), seen): (&(String, usize), &Seen)| {
        let (running, words) = match seen {
            Seen::Running(words) => (true, words),
            Seen::Pending(words) => (false, words),
            Seen::Ended(..) => return None,
        };
        let line = Line {
            running,
            words: escaped(words, CHARACTERS),
        };
        Some((task_name(name, *task), line))
    };
    look.tasks.iter().filter_map(of).collect()
}

/// Writes down what was seen, for machines that cannot ask the cluster.
pub(super) fn write_queue(run: &Path, look: &Look) -> Result<(), StageError> {
    let tasks = lines(look);
    if read_queue(run).tasks == tasks {
        return Ok(());
    }
    let queue = Queue {
        at_unix_s: unix_seconds(),
        tasks,
    };
    let text = serde_json::to_string_pretty(&queue).expect("plain values serialise") + "\n";
    Ok(write_atomic(&queue_path(run), text.as_bytes())?)
}

/// The submitted jobs that are not done, by id.
pub(in super::super) fn placed(
    run: &Path,
    jobs: &[Job],
    ask: Ask,
) -> Result<BTreeMap<String, Placed>, StageError> {
    let submissions = journal::read(run)?;
    let undone: BTreeSet<&str> = jobs
        .iter()
        .filter(|job| !is_done(run, job))
        .map(|job| job.id.as_str())
        .collect();
    let is_open = |one: &&Submission| {
        one.open().any(|task| {
            one.tasks[task]
                .iter()
                .any(|id| undone.contains(id.as_str()))
        })
    };
    let open: Vec<&Submission> = submissions.iter().filter(is_open).collect();
    let asked = match ask {
        Ask::Yes if !open.is_empty() => look(&open).ok(),
        _ => None,
    };
    let (tasks, seen_unix_s) = match &asked {
        Some(look) => (lines(look), None),
        None => {
            let queue = read_queue(run);
            (queue.tasks, Some(queue.at_unix_s).filter(|at| *at > 0.0))
        }
    };
    let mut found = BTreeMap::new();
    for one in open {
        for task in one.open() {
            let unseen = || Line {
                running: false,
                words: "submitted, and not seen since".to_owned(),
            };
            // What the cluster does not list is over; what nobody saw yet may be anything.
            let known = tasks.get(&task_name(&one.name, task)).cloned();
            let unseen = (ask == Ask::Yes && asked.is_none()).then(unseen);
            let Some(line) = known.or(unseen) else {
                continue;
            };
            for id in one.tasks[task]
                .iter()
                .filter(|id| undone.contains(id.as_str()))
            {
                let placed = Placed {
                    task: one.shown(task),
                    running: line.running,
                    words: line.words.clone(),
                    seen_unix_s: seen_unix_s.filter(|_| ask == Ask::Yes),
                };
                found.insert(id.clone(), placed);
            }
        }
    }
    Ok(found)
}

/// Asks the clusters of submissions where their tasks are.
fn look(submissions: &[&Submission]) -> Result<Look, String> {
    let mut all = Look::default();
    let places: BTreeSet<String> = submissions.iter().map(|one| one.on.to_string()).collect();
    for place in places {
        let there: Vec<&Submission> = submissions
            .iter()
            .copied()
            .filter(|one| one.on.to_string() == place)
            .collect();
        let look = match there.first().map(|one| &one.on) {
            Some(On::Ray(address)) => {
                let jobs = ray::open(address, PATIENCE).map_err(|error| error.to_string())?;
                ray::look(&jobs, &there)?
            }
            _ => slurm::look(&there)?,
        };
        all.tasks.extend(look.tasks);
    }
    Ok(all)
}

/// `3 running, 8 waiting: PENDING (Resources)`
pub(super) fn summary<'a>(placed: impl Iterator<Item = &'a Placed>) -> String {
    let tasks: BTreeMap<&str, &Placed> = placed.map(|one| (one.task.as_str(), one)).collect();
    let running = tasks.values().filter(|one| one.running).count();
    let waiting = tasks.len() - running;
    let mut parts = Vec::new();
    if running > 0 {
        parts.push(format!("{running} task(s) running"));
    }
    if waiting > 0 {
        let words: BTreeSet<&str> = tasks
            .values()
            .filter(|one| !one.running)
            .map(|one| one.words.as_str())
            .collect();
        let words: Vec<&str> = words.into_iter().collect();
        parts.push(format!("{waiting} waiting, {}", words.join("; ")));
    }
    parts.join(", ")
}

/// Refuses to do jobs in this process while a cluster has some of them.
///
/// # Errors
/// Names what the cluster has.
pub(in super::super) fn check_idle(run: &Path, doing: &str) -> Result<(), StageError> {
    let submissions = journal::read(run)?;
    let open: Vec<&Submission> = submissions
        .iter()
        .filter(|one| one.open().next().is_some())
        .collect();
    // Where the cluster cannot be asked, the locks of the outputs hold two workers apart.
    let Ok(look) = look(&open) else { return Ok(()) };
    let is_live = |one: &&&Submission| {
        let of = |task| look.tasks.get(&(one.name.clone(), task));
        one.open()
            .any(|task| matches!(of(task), Some(Seen::Pending(_) | Seen::Running(_))))
    };
    match open.iter().find(is_live) {
        None => Ok(()),
        Some(one) => Err(StageError::failed(
            format!(
                "jobs of the run in `{}` are on {} still (`{}`), so it cannot be {doing}",
                run.display(),
                one.on,
                one.name
            ),
            &format!("continue with --on {}; Ctrl-C there cancels them", one.on),
        )),
    }
}

/// The jobs of a task, for the worker that does them.
///
/// # Errors
/// Where the run has no such task, or it is over or cancelled: then nothing is to be done.
pub(in super::super) fn task_jobs(run: &Path, task: &str) -> Result<Vec<String>, StageError> {
    let none = || {
        StageError::usage(
            format!(
                "the run in `{}` has no task `{}`",
                run.display(),
                task.escape_debug()
            ),
            "--task is for what `idiolect run --on` submits; give JOB_ID for one job",
        )
    };
    let (name, number) = task.rsplit_once('.').ok_or_else(none)?;
    let number: usize = number.parse().map_err(|_| none())?;
    let submissions = journal::read(run)?;
    let one = submissions
        .iter()
        .find(|one| one.name == name)
        .ok_or_else(none)?;
    let jobs = one.tasks.get(number).ok_or_else(none)?;
    let why = match (one.cancelled, one.closed.get(&number)) {
        (true, _) => "cancelled",
        (_, Some(why)) => why,
        _ => return Ok(jobs.clone()),
    };
    Err(StageError::failed(
        format!(
            "the task `{task}` is over ({}), so nothing is done",
            escaped(why, CHARACTERS)
        ),
        "",
    ))
}

#[derive(Deserialize)]
struct Event {
    job: String,
    event: String,
    #[serde(default)]
    message: Option<String>,
}

/// The last event of each job that a task's worker wrote down.
fn last_events(
    run: &Path,
    submission: &str,
    task: usize,
) -> Result<BTreeMap<String, Event>, StageError> {
    let path = events_of(run, &task_name(submission, task));
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let rows = Rows::<Event>::open(&path)?.collect_good(|_| {})?;
    let of_jobs = rows.into_iter().map(|row| row.value);
    let of_jobs = of_jobs.filter(|event| !matches!(event.event.as_str(), "progress" | "spent"));
    Ok(of_jobs.map(|event| (event.job.clone(), event)).collect())
}

/// The jobs that failed in a task, with why.
pub(super) fn failures(
    run: &Path,
    submission: &str,
    task: usize,
) -> Result<BTreeMap<String, String>, StageError> {
    let events = last_events(run, submission, task)?.into_values();
    Ok(events
        .filter(|event| event.event == "failed")
        .map(|event| {
            (
                event.job,
                event
                    .message
                    .unwrap_or_else(|| "no reason is given".to_owned()),
            )
        })
        .collect())
}

/// The jobs that a task began and did not end.
pub(super) fn begun(
    run: &Path,
    submission: &str,
    task: usize,
) -> Result<BTreeSet<String>, StageError> {
    let events = last_events(run, submission, task)?.into_values();
    Ok(events
        .filter(|event| matches!(event.event.as_str(), "begin" | "locked" | "interrupted"))
        .map(|event| event.job)
        .collect())
}

/// The end of a task's log, as a part of a message; `given` is what the cluster kept of it.
pub(super) fn end_of_log(run: &Path, submission: &str, task: usize, given: Option<&str>) -> String {
    let path = log_of(run, submission, task);
    let text = match given {
        Some(text) => Some(text.to_owned()),
        None => tail(&path),
    };
    let Some(text) = text else {
        return format!(
            "; it left no log (where the node does not see `{}`, there is none)",
            folder(run).display()
        );
    };
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    if last.is_empty() {
        return "; its log is empty".to_owned();
    }
    let shown: Vec<String> = last
        .iter()
        .map(|line| escaped(line, CHARACTERS / LINES))
        .collect();
    format!("; its log ends:\n    {}", shown.join("\n    "))
}

/// The last few KiB of a file.
fn tail(path: &Path) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(8 << 10)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(8 << 10).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(task: &str, running: bool, words: &str) -> Placed {
        Placed {
            task: task.to_owned(),
            running,
            words: words.to_owned(),
            seen_unix_s: None,
        }
    }

    #[test]
    fn a_queue_is_told_in_a_line() {
        let all = [
            placed("slurm 1_0", true, "RUNNING on n1"),
            placed("slurm 1_0", true, "RUNNING on n1"),
            placed("slurm 1_1", false, "PENDING (Resources)"),
            placed("slurm 2_0", false, "PENDING (Dependency)"),
        ];
        assert_eq!(
            summary(all.iter()),
            "1 task(s) running, 2 waiting, PENDING (Dependency); PENDING (Resources)"
        );
        assert_eq!(summary([].iter()), "");
    }

    #[test]
    fn the_end_of_a_log_is_shown_without_its_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        assert!(end_of_log(dir.path(), "n", 0, None).contains("left no log"));
        let path = log_of(dir.path(), "n", 0);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text: String = (0..5000).map(|i| format!("line {i}\n")).collect();
        fs::write(&path, text + "\x1b[2Jkilled\n\n").unwrap();
        let shown = end_of_log(dir.path(), "n", 0, None);
        assert!(
            shown.ends_with("line 4999\n    \\u{1b}[2Jkilled"),
            "{shown}"
        );
        assert_eq!(shown.lines().count(), LINES + 1);
    }
}
