//! The executors of Slurm and Ray: groups of the plan's jobs are handed to a cluster, whose nodes do
//! them as `idiolect job` does.
//!
//! The truth is in the run directory: what is done is seen from the outputs ([`is_done`]), what
//! failed from the events that the workers wrote. The cluster is asked only where a task is, and
//! whether it is over. So this process, a worker or the cluster's head may die at any moment: the
//! same command finds what was submitted by its names and goes on.

mod cancel;
mod groups;
mod journal;
mod over;
mod preview;
mod ray;
mod script;
mod slurm;
mod submit;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use idiolect_remote::ray::RayJobs;

use self::groups::{Group, groups};
use self::journal::{Journal, Submission};
use self::script::Program;
use super::execute;
use super::place::On;
use super::plan::Job;
use super::record::Record;
use super::state::is_done;
use super::{Process, RunContext, one};
use crate::sandbox::Protection;
use crate::stage::StageError;

pub(super) use self::journal::{events_of, folder};
pub(super) use self::preview::describe;
pub(super) use self::watch::{Ask, Placed, check_idle, placed, task_jobs};

/// How often the queue is shown.
const NOW_AND_THEN: Duration = Duration::from_secs(30);

/// A cluster.
enum Cluster {
    Slurm,
    Ray(RayJobs),
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// With the cluster's word and reason.
    Pending(String),
    /// With its state, and where.
    Running(String),
    /// With the cluster's word.
    Ended(End, String),
}

/// How a task ended, as far as the cluster knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its program ended well.
    Completed,
    /// Its worker failed or was taken: the program's own failure is in its events.
    Lost,
    /// Someone cancelled it.
    Cancelled,
    /// What it waited for will not come.
    NeverBegan,
}

/// What a cluster knows.
#[derive(Default)]
struct Look {
    /// By submission and task.
    tasks: BTreeMap<(String, usize), Seen>,
    /// The cluster's own numbers, by submission.
    ids: BTreeMap<String, String>,
    /// What tasks wrote, where the cluster keeps it.
    logs: BTreeMap<(String, usize), String>,
}

impl Cluster {
    fn open(on: &On) -> Result<Self, StageError> {
        match on {
            On::Ray(address) => {
                let ray = ray::open(address, ray::LIMIT);
                let ray = ray.and_then(|ray| ray.version().map(|_| ray));
                let ray = ray.map_err(|error| {
                    StageError::failed(
                        error.to_string(),
                        "give the address of the dashboard: --on ray://HOST:8265; `ray status` on its head states whether it runs",
                    )
                })?;
                Ok(Self::Ray(ray))
            }
            _ => {
                slurm::check().map_err(|words| {
                    StageError::failed(
                        words,
                        "--on slurm runs sbatch, squeue and scancel: give the command on a machine that submits to the cluster",
                    )
                })?;
                Ok(Self::Slurm)
            }
        }
    }

    fn look(&self, submissions: &[&Submission]) -> Result<Look, String> {
        match self {
            Self::Slurm => slurm::look(submissions),
            Self::Ray(jobs) => ray::look(jobs, submissions),
        }
    }

    fn cancel(&self, submission: &Submission, tasks: &[usize]) -> Result<(), String> {
        match self {
            Self::Slurm => slurm::cancel(submission, tasks),
            Self::Ray(jobs) => ray::cancel(jobs, submission, tasks),
        }
    }
}

/// Where a job of the plan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    Failed,
}

struct Executor<'a> {
    run: &'a RunContext<'a>,
    record: &'a Record,
    /// The run directory as the nodes are told.
    dir: PathBuf,
    jobs: &'a [Job],
    positions: BTreeMap<&'a str, usize>,
    needs: Vec<Vec<usize>>,
    groups: Vec<Group>,
    on: On,
    cluster: Cluster,
    journal: Journal,
    program: Program,
    flags: String,
    states: Vec<State>,
    /// How often a job's worker was lost.
    lost: Vec<usize>,
    /// What failed, by position, with why.
    failures: BTreeMap<usize, String>,
    /// When a task was first seen to have ended without its outputs.
    settling: BTreeMap<(String, usize), Instant>,
    /// The last words about the queue, when they were shown, and what tasks waited for so far.
    shown: String,
    shown_at: Instant,
    reasons: BTreeSet<String>,
    /// Submissions that the cluster did not take yet, with when to ask again.
    later: BTreeMap<usize, Instant>,
}

/// Does the jobs of a plan on a cluster; whether all are done. With `detach` it submits what can be
/// submitted, and the same command looks after it later.
///
/// # Errors
/// [`StageError::Interrupted`] after Ctrl-C, with everything cancelled; the jobs that failed.
pub(super) fn run(
    run: &RunContext<'_>,
    record: &Record,
    jobs: &[Job],
    (on, detach): (&On, bool),
) -> Result<bool, StageError> {
    let execute = &run.recipe.execute;
    let mut executor = Executor {
        run,
        record,
        dir: absolute(run.dir)?,
        jobs,
        positions: jobs
            .iter()
            .enumerate()
            .map(|(index, job)| (job.id.as_str(), index))
            .collect(),
        needs: execute::needs(jobs),
        groups: groups(jobs, execute),
        on: on.clone(),
        cluster: Cluster::open(on)?,
        journal: Journal::open(run.dir)?,
        program: Program::of(execute.program.as_deref()),
        flags: flags(run.process),
        states: vec![State::Open; jobs.len()],
        lost: vec![0; jobs.len()],
        failures: BTreeMap::new(),
        settling: BTreeMap::new(),
        shown: String::new(),
        shown_at: Instant::now(),
        reasons: BTreeSet::new(),
        later: BTreeMap::new(),
    };
    executor.work(detach)
}

/// The run directory, as the nodes are to find it.
fn absolute(dir: &Path) -> Result<PathBuf, StageError> {
    std::path::absolute(dir).map_err(|source| super::io("find", dir, source))
}

/// What workers are told of how this process works.
fn flags(process: Process) -> String {
    let mut flags = format!(" --max-rejects {}", process.max_rejects);
    if process.protection == Protection::Waived {
        flags.push_str(" --unsafe-no-sandbox");
    }
    flags
}

impl Executor<'_> {
    fn work(&mut self, detach: bool) -> Result<bool, StageError> {
        let poll = Duration::from_secs_f64(self.run.recipe.execute.poll_s);
        loop {
            if self.run.stop.requested() {
                return Err(self.cancel_all());
            }
            self.see_what_is_done();
            if let Err(words) = self.look()? {
                // Nothing is submitted while it is not known what is there.
                self.show(&format!(
                    "{} does not answer ({words}); asked again",
                    self.on
                ));
                self.pause(poll);
                continue;
            }
            if self.do_local_jobs()? {
                continue;
            }
            self.submit_open_jobs()?;
            if self.open_tasks().is_empty() {
                break;
            }
            self.show_queue()?;
            if detach && self.later.is_empty() {
                return Ok(false);
            }
            self.pause(poll);
        }
        self.outcome().map(|()| true)
    }

    /// Waits, but not for long after Ctrl-C.
    fn pause(&self, whole: Duration) {
        let until = Instant::now() + whole;
        while Instant::now() < until && !self.run.stop.requested() {
            let left = until.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// The journal's tasks that are not over and have jobs of this plan that are not done.
    fn open_tasks(&self) -> Vec<(usize, usize)> {
        let mut open = Vec::new();
        for (at, one) in self.journal.submissions.iter().enumerate() {
            let here = |task: &usize| {
                one.tasks[*task]
                    .iter()
                    .any(|id| self.position(id).is_some())
            };
            open.extend(one.open().filter(here).map(|task| (at, task)));
        }
        open
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.positions.get(id).copied()
    }

    fn see_what_is_done(&mut self) {
        for (index, job) in self.jobs.iter().enumerate() {
            if self.states[index] != State::Done && is_done(self.run.dir, job) {
                self.states[index] = State::Done;
                self.failures.remove(&index);
                self.run.overall.finish(job);
            }
        }
    }

    /// Asks the cluster for every open task, and closes those that are over. The inner error is that
    /// the cluster does not answer.
    fn look(&mut self) -> Result<Result<(), String>, StageError> {
        let open = self.open_tasks();
        if open.is_empty() {
            return Ok(Ok(()));
        }
        let of: BTreeSet<usize> = open.iter().map(|(at, _)| *at).collect();
        if let Some(other) = of
            .iter()
            .map(|at| &self.journal.submissions[*at])
            .find(|one| one.on != self.on)
        {
            return Err(StageError::failed(
                format!(
                    "jobs of this run are on {} still, submitted as {}",
                    other.on, other.name
                ),
                &format!(
                    "continue with --on {} until it is done, or press Ctrl-C there to cancel them",
                    other.on
                ),
            ));
        }
        let submissions: Vec<&Submission> =
            of.iter().map(|at| &self.journal.submissions[*at]).collect();
        let look = match self.cluster.look(&submissions) {
            Ok(look) => look,
            Err(words) => return Ok(Err(words)),
        };
        for at in of {
            let one = &self.journal.submissions[at];
            let taken = look.ids.get(&one.name).filter(|_| one.cluster_id.is_none());
            if let Some(id) = taken.cloned() {
                self.journal.taken(at, &id)?;
                self.later.remove(&at);
            }
        }
        watch::write_queue(self.run.dir, &look)?;
        // What ended meanwhile has left its outputs.
        self.see_what_is_done();
        for (at, task) in open {
            self.see(at, task, &look)?;
        }
        Ok(Ok(()))
    }

    /// Notes a failure; with `unseen`, one that no worker wrote down.
    fn fail(&mut self, job: usize, message: String, unseen: bool) {
        if unseen {
            self.record.event(&self.jobs[job], "failed", Some(&message));
        }
        self.run
            .note(&format!("{} failed: {message}", self.jobs[job].id));
        self.states[job] = State::Failed;
        self.failures.insert(job, message);
    }

    /// Jobs that cannot be done, since what they read failed.
    fn blocked(&self) -> Vec<bool> {
        let mut blocked = vec![false; self.jobs.len()];
        for index in 0..self.jobs.len() {
            let is_lost = |need: &usize| blocked[*need] || self.states[*need] == State::Failed;
            blocked[index] = self.needs[index].iter().any(is_lost);
        }
        blocked
    }

    /// Does the jobs that are this process's and whose inputs are there; whether there were any.
    fn do_local_jobs(&mut self) -> Result<bool, StageError> {
        let mut chosen: Vec<usize> = Vec::new();
        for group in self.groups.iter().filter(|group| group.asked.is_none()) {
            for job in &group.jobs {
                let is_there =
                    |need: &usize| self.states[*need] == State::Done || chosen.contains(need);
                if self.states[*job] == State::Open && self.needs[*job].iter().all(is_there) {
                    chosen.push(*job);
                }
            }
        }
        if chosen.is_empty() {
            return Ok(false);
        }
        let jobs: Vec<Job> = chosen.iter().map(|job| self.jobs[*job].clone()).collect();
        let failed = Mutex::new(Vec::new());
        let done = execute::local(
            &jobs,
            self.run.process.threads,
            self.run.recipe.server.places(),
            |job, threads| {
                one(self.run, self.record, job, threads).inspect_err(|error| {
                    if let (Ok(mut failed), false) =
                        (failed.lock(), matches!(error, StageError::Interrupted))
                    {
                        failed.push((job.id.clone(), error.to_string()));
                    }
                })
            },
        );
        match done {
            Err(StageError::Interrupted) => return Err(self.cancel_all()),
            Err(error) if failed.lock().is_ok_and(|failed| failed.is_empty()) => return Err(error),
            Err(_) => {}
            Ok(()) => {
                for job in chosen {
                    self.states[job] = State::Done;
                }
            }
        }
        for (id, message) in failed.into_inner().unwrap_or_default() {
            if let Some(job) = self.position(&id) {
                self.fail(job, message, false);
            }
        }
        Ok(true)
    }

    fn show(&mut self, words: &str) {
        if self.shown != words {
            self.run.note(words);
            words.clone_into(&mut self.shown);
        }
    }

    /// Shows how many tasks run and wait, and why: now and then, and at once where one waits for
    /// what none waited for before.
    fn show_queue(&mut self) -> Result<(), StageError> {
        let placed = watch::placed(self.run.dir, self.jobs, watch::Ask::No)?;
        let waiting = placed.values().filter(|one| !one.running);
        let reasons: BTreeSet<String> = waiting.map(|one| one.words.clone()).collect();
        let is_new = !reasons.is_subset(&self.reasons);
        self.reasons.extend(reasons);
        if placed.is_empty() || (!is_new && self.shown_at.elapsed() < NOW_AND_THEN) {
            return Ok(());
        }
        self.shown_at = Instant::now();
        let done = self.states.iter().filter(|state| **state == State::Done);
        let done = done.count();
        let words = watch::summary(placed.values());
        let all = self.jobs.len();
        self.show(&format!("{}: {words}; {done} of {all} jobs done", self.on));
        Ok(())
    }

    fn outcome(&self) -> Result<(), StageError> {
        if self.failures.is_empty() {
            return Ok(());
        }
        let blocked = self.blocked().iter().filter(|blocked| **blocked).count();
        let mut text = format!("{} job(s) failed on {}", self.failures.len(), self.on);
        if blocked > 0 {
            text.push_str(&format!(", and {blocked} read what they write"));
        }
        for (job, message) in self.failures.iter().take(MOST_SHOWN) {
            text.push_str(&format!("\n  {}: {message}", self.jobs[*job].id));
        }
        if self.failures.len() > MOST_SHOWN {
            text.push_str(&format!(
                "\n  and {} more",
                self.failures.len() - MOST_SHOWN
            ));
        }
        Err(StageError::failed(
            text,
            &format!(
                "the logs are in {}; correct the cause (resources: [execute.resources.STAGE]), and the same command goes on with these",
                folder(self.run.dir).join("logs").display()
            ),
        ))
    }
}

/// Failures that the error lists.
const MOST_SHOWN: usize = 10;
