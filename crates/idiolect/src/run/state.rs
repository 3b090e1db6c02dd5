//! How far a run is: each job's state, from its outputs and from `events.jsonl`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use idiolect_core::store::{Lock, Meta, Rows};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::{self, Ask, Placed};
use super::dry_run::duration;
use super::plan::{Job, Stage};
use super::record::unix_seconds;
use super::{Begun, Finished};
use crate::progress::Pace;
use crate::stage::StageError;

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Done,
    Running,
    /// Submitted to a cluster, and not begun.
    Submitted,
    /// Begun by a process that ended; the next one continues it.
    Interrupted,
    Failed,
    Waiting,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Running => "running",
            Self::Submitted => "submitted",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
        }
    }
}

/// A line of `events.jsonl`.
#[derive(Deserialize)]
struct Event {
    at_unix_s: f64,
    job: String,
    event: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(flatten)]
    spent: Spent,
    #[serde(flatten)]
    progress: Option<Progress>,
}

/// How far a running job is.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Progress {
    /// Units done in all.
    done: u64,
    /// Of these, by earlier processes.
    #[serde(skip_serializing)]
    before: u64,
    /// Units in all, where known.
    total: Option<u64>,
    unit: String,
    /// Seconds left at the rate of this process.
    #[serde(skip_deserializing)]
    left_s: Option<f64>,
}

impl Progress {
    /// With the time left, from how long this process took so far.
    fn after(mut self, seconds: f64) -> Self {
        let pace = Pace {
            before: self.before,
            done: self.done,
            total: self.total,
            // A clock that was set back gives no rate.
            elapsed: Duration::try_from_secs_f64(seconds).unwrap_or_default(),
        };
        self.left_s = pace.seconds_left();
        self
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.total {
            Some(total) => write!(f, "{} of {total} {}", self.done, self.unit)?,
            None => write!(f, "{} {}", self.done, self.unit)?,
        }
        match self.left_s {
            Some(left) => write!(f, ", about {} left", duration(left)),
            None => Ok(()),
        }
    }
}

/// What endpoints were asked.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(default)]
struct Spent {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// In the money of the recipe's prices, where it states them.
    cost: f64,
}

impl Spent {
    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.cost += other.cost;
    }
}

/// Whether everything that a job writes is complete.
pub(super) fn is_done(dir: &Path, job: &Job) -> bool {
    let is_complete = |output: &String| {
        let path = dir.join(output);
        match Meta::read(&path) {
            Ok(Some(meta)) => meta.complete && path.exists(),
            // Pages, and what models start from, have no provenance and are written whole; a folder
            // of another stage has none yet while it is begun.
            Ok(None) => matches!(job.stage, Stage::Data | Stage::Report) && path.exists(),
            Err(_) => false,
        }
    };
    // A shard is removed once the output has taken it over.
    let is_merged = !job.merged.is_empty() && job.merged.iter().all(is_complete);
    is_merged || job.outputs.iter().all(is_complete)
}

/// A job and where it is.
struct Planned {
    job: Job,
    state: State,
    seconds: Option<f64>,
    message: Option<String>,
    /// Of one that runs.
    progress: Option<Progress>,
    /// Where a cluster has it.
    placed: Option<Placed>,
}

struct Run {
    planned: Vec<Planned>,
    /// Time left, from the rate so far.
    left: Option<f64>,
    spent: Spent,
}

/// Every job with its state.
///
/// # Errors
/// If `dir` holds no run, or its inputs are gone.
pub fn jobs(dir: &Path) -> Result<Finished, StageError> {
    let run = read(dir)?;
    let mut text = format!(
        "{:<12}{:>12}{:>10}  {}\n",
        "state", "M tokens", "time", "job"
    );
    for one in &run.planned {
        let time = one.seconds.map_or("–".to_owned(), duration);
        let tokens = one.job.cost.tokens / 1e6;
        let placed = one.placed.as_ref().map(where_it_is);
        text.push_str(&format!(
            "{:<12}{tokens:>12.2}{time:>10}  {}{}\n",
            one.state.name(),
            one.job.id,
            placed.map_or(String::new(), |words| format!("  {words}"))
        ));
    }
    let rows: Vec<Value> = run.planned.iter().map(row).collect();
    Ok(Finished {
        text,
        json: json!({ "jobs": rows }),
    })
}

fn row(one: &Planned) -> Value {
    let mut row = serde_json::to_value(&one.job).unwrap_or_default();
    row["state"] = json!(one.state);
    if let Some(seconds) = one.seconds {
        row["wall_s"] = json!(seconds);
    }
    if let Some(message) = &one.message {
        row["message"] = json!(message);
    }
    if let Some(progress) = &one.progress {
        row["progress"] = json!(progress);
    }
    if let Some(placed) = &one.placed {
        row["cluster"] = json!(placed);
    }
    row
}

/// Every job's id and where it is, with the time left, for a page; and the jobs.
///
/// # Errors
/// As [`jobs`].
pub(super) fn progress(dir: &Path) -> Result<(Value, Vec<Job>), StageError> {
    let run = read(dir)?;
    let rows: Vec<Value> = run
        .planned
        .iter()
        .map(|one| {
            json!({
                "id": one.job.id,
                "state": one.state,
                "wall_s": one.seconds,
                "message": one.message,
                "progress": one.progress,
            })
        })
        .collect();
    let done = run.planned.iter().filter(|one| one.state == State::Done);
    let document = json!({ "jobs": rows, "done": done.count(), "left_s": run.left });
    Ok((
        document,
        run.planned.into_iter().map(|one| one.job).collect(),
    ))
}

/// What is done, what runs, how long it takes yet, what failed and why.
///
/// # Errors
/// As [`jobs`].
pub fn status(dir: &Path) -> Result<Finished, StageError> {
    let run = read(dir)?;
    let of = |state: State| run.planned.iter().filter(move |one| one.state == state);
    let total = run.planned.len();
    let mut text = format!("{} of {total} jobs done\n", of(State::Done).count());
    for (state, heading) in [
        (State::Running, "running"),
        (State::Submitted, "submitted"),
        (
            State::Interrupted,
            "interrupted; the same command continues",
        ),
        (State::Failed, "failed"),
    ] {
        for one in of(state) {
            let progress = one.progress.as_ref().map(ToString::to_string);
            let placed = one.placed.as_ref().map(where_it_is);
            let parts = [placed, one.message.clone().or(progress)];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            let more = match parts.is_empty() {
                true => String::new(),
                false => format!(": {}", parts.join(", ")),
            };
            text.push_str(&format!("{heading}  {}{more}\n", one.job.id));
        }
    }
    if let Some(one) = of(State::Waiting).next() {
        text.push_str(&format!("next  {}\n", one.job.id));
    }
    let spent = run.spent;
    if spent.requests > 0 {
        let cost = match spent.cost > 0.0 {
            true => format!(", cost {:.4}", spent.cost),
            false => String::new(),
        };
        text.push_str(&format!(
            "endpoints: {} requests, {} prompt and {} completion tokens{cost}\n",
            spent.requests, spent.prompt_tokens, spent.completion_tokens
        ));
    }
    if let (Some(left), true) = (run.left, of(State::Done).count() < total) {
        text.push_str(&format!(
            "about {} left at the rate so far\n",
            duration(left)
        ));
    }
    let progress: BTreeMap<&str, &Progress> = of(State::Running)
        .filter_map(|one| Some((one.job.id.as_str(), one.progress.as_ref()?)))
        .collect();
    let placed: BTreeMap<&str, &Placed> = run
        .planned
        .iter()
        .filter_map(|one| Some((one.job.id.as_str(), one.placed.as_ref()?)))
        .collect();
    let ids = |state| of(state).map(|one| one.job.id.clone()).collect::<Vec<_>>();
    let failed: Vec<Value> = of(State::Failed)
        .map(|one| json!({"job": one.job.id, "message": one.message}))
        .collect();
    Ok(Finished {
        text,
        json: json!({
            "jobs": total,
            "done": of(State::Done).count(),
            "running": ids(State::Running),
            "submitted": ids(State::Submitted),
            "cluster": placed,
            "progress": progress,
            "interrupted": ids(State::Interrupted),
            "failed": failed,
            "waiting": of(State::Waiting).count(),
            "left_s": run.left,
            "endpoints": run.spent,
        }),
    })
}

/// Where a cluster has a job, in words.
fn where_it_is(placed: &Placed) -> String {
    let seen = placed.seen_unix_s.map_or(String::new(), |at| {
        let ago = duration((unix_seconds() - at).max(0.0));
        format!(" as seen {ago} ago")
    });
    format!("{} {}{seen}", placed.task, placed.words)
}

/// The events of a run in their order: those of the submitting process, and of each task on a
/// cluster.
fn events(dir: &Path) -> Result<Vec<Event>, StageError> {
    let mut paths = vec![dir.join("events.jsonl")];
    if let Ok(entries) = fs::read_dir(cluster::folder(dir).join("events")) {
        paths.extend(entries.flatten().map(|entry| entry.path()));
    }
    let mut events = Vec::new();
    for path in paths.iter().filter(|path| path.exists()) {
        let rows = Rows::<Event>::open(path)?.collect_good(|_| {})?;
        events.extend(rows.into_iter().map(|row| row.value));
    }
    events.sort_by(|a, b| a.at_unix_s.total_cmp(&b.at_unix_s));
    Ok(events)
}

fn read(dir: &Path) -> Result<Run, StageError> {
    let begun = Begun::read(dir)?;
    let mut last: BTreeMap<String, Event> = BTreeMap::new();
    let mut spans: BTreeMap<String, (f64, Option<f64>)> = BTreeMap::new();
    let mut far: BTreeMap<String, Progress> = BTreeMap::new();
    let mut spent = Spent::default();
    for event in events(dir)? {
        match event.event.as_str() {
            "spent" => {
                spent.add(event.spent);
                continue;
            }
            "progress" => {
                if let (Some(progress), Some((begin, _))) = (event.progress, spans.get(&event.job))
                {
                    let progress = progress.after(event.at_unix_s - begin);
                    far.insert(event.job, progress);
                }
                continue;
            }
            "begin" => {
                far.remove(&event.job);
                spans.insert(event.job.clone(), (event.at_unix_s, None));
            }
            _ => {
                if let Some(span) = spans.get_mut(&event.job) {
                    span.1 = Some(event.at_unix_s);
                }
            }
        }
        last.insert(event.job.clone(), event);
    }
    let is_run_on = Lock::acquire(&dir.join(".lock"), dir).is_err();
    let mut placed = cluster::placed(dir, &begun.jobs, Ask::Yes)?;
    let planned: Vec<Planned> = begun
        .jobs
        .into_iter()
        .map(|job| {
            let placed = placed.remove(&job.id);
            let mut one = of_job(dir, job, &last, &spans, (is_run_on, placed));
            one.progress = far
                .remove(&one.job.id)
                .filter(|_| one.state == State::Running);
            one
        })
        .collect();
    let left = time_left(&planned, &spans);
    Ok(Run {
        planned,
        left,
        spent,
    })
}

fn of_job(
    dir: &Path,
    job: Job,
    last: &BTreeMap<String, Event>,
    spans: &BTreeMap<String, (f64, Option<f64>)>,
    (is_run_on, placed): (bool, Option<Placed>),
) -> Planned {
    let event = last.get(&job.id);
    let state = match (event.map(|event| event.event.as_str()), &placed) {
        (Some("begin"), Some(Placed { running: true, .. })) => State::Running,
        (_, Some(_)) => State::Submitted,
        (Some("begin"), None) if is_run_on => State::Running,
        (Some("failed"), _) => State::Failed,
        _ if is_done(dir, &job) => State::Done,
        (Some("begin" | "interrupted" | "locked"), _) => State::Interrupted,
        _ => State::Waiting,
    };
    let span = spans.get(&job.id);
    Planned {
        state,
        seconds: span.and_then(|(begin, end)| Some((*end)? - begin)),
        // What an earlier attempt ended with is not what the job is at now.
        message: event
            .filter(|_| !matches!(state, State::Submitted | State::Done))
            .and_then(|event| event.message.clone()),
        progress: None,
        placed,
        job,
    }
}

/// What is left of the cost over the rate of what was done while any job ran.
fn time_left(planned: &[Planned], spans: &BTreeMap<String, (f64, Option<f64>)>) -> Option<f64> {
    let mut done: Vec<(f64, f64)> = Vec::new();
    let (mut cost, mut left) = (0.0, 0.0);
    for one in planned {
        match (one.state, spans.get(&one.job.id)) {
            (State::Done, Some((begin, Some(end)))) => {
                done.push((*begin, *end));
                cost += one.job.cost.tera_operations;
            }
            (State::Done, _) => {}
            _ => left += one.job.cost.tera_operations,
        }
    }
    done.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut busy, mut until) = (0.0, f64::NEG_INFINITY);
    for (begin, end) in done {
        busy += (end - f64::max(begin, until)).max(0.0);
        until = f64::max(until, end);
    }
    (cost > 0.0 && busy > 0.0).then(|| left / (cost / busy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_job_states_its_rows_and_the_time_left_at_the_rate_of_this_process() {
        let of = |row: Value| {
            let event: Event = serde_json::from_value(row).unwrap();
            event.progress.unwrap().after(event.at_unix_s - 100.0)
        };
        let row = json!({"at_unix_s": 160.0, "job": "j", "stage": "generate", "event": "progress",
            "total": 320, "before": 100, "unit": "samples", "done": 160});
        assert_eq!(of(row.clone()).left_s, Some(160.0));
        assert_eq!(of(row).to_string(), "160 of 320 samples, about 3 min left");
        let unknown = json!({"at_unix_s": 160.0, "job": "j", "event": "progress", "total": null,
            "before": 0, "unit": "rows", "done": 7});
        assert_eq!(of(unknown).to_string(), "7 rows");
    }
}
