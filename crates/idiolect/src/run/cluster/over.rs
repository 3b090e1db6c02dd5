//! Tasks that are over: done, failed, lost or cancelled, and what follows for their jobs.

use std::time::{Duration, Instant};

use super::super::place::On;
use super::journal::Submission;
use super::{End, Executor, Look, Seen, State, slurm, watch};
use crate::stage::StageError;

/// How long the outputs of a task that ended well may take to be seen here, through the caches of a
/// shared file system.
const SETTLE: Duration = Duration::from_secs(90);

/// How long a task may go on waiting for jobs that are done.
const FORGOTTEN: Duration = Duration::from_secs(30);

impl Executor<'_> {
    /// Closes a task that is over.
    pub(super) fn see(&mut self, at: usize, task: usize, look: &Look) -> Result<(), StageError> {
        let one = &self.journal.submissions[at];
        let key = (one.name.clone(), task);
        let members: Vec<usize> = one.tasks[task]
            .iter()
            .filter_map(|id| self.position(id))
            .collect();
        let undone: Vec<usize> = members
            .into_iter()
            .filter(|job| self.states[*job] != State::Done)
            .collect();
        if undone.is_empty() {
            return self.journal.close(at, task, "done");
        }
        let (end, words) = match look.tasks.get(&key) {
            Some(Seen::Ended(end, words)) => (*end, words.clone()),
            Some(Seen::Pending(words)) if words == slurm::DEPENDENCY => {
                self.release(at, task, &undone);
                return Ok(());
            }
            Some(_) => {
                self.settling.remove(&key);
                return Ok(());
            }
            // It was not taken yet: it is submitted again under its name.
            None if one.cluster_id.is_none() && !one.cancelled => return Ok(()),
            None => match slurm_fate(one, task) {
                Some(fate) => fate,
                None => (End::Lost, "the cluster no longer knows it".to_owned()),
            },
        };
        if one.cancelled {
            return self.journal.close(at, task, "cancelled");
        }
        let failed = watch::failures(self.run.dir, &one.name, task)?;
        let failed: Vec<(usize, String)> = undone
            .iter()
            .filter_map(|job| Some((*job, failed.get(&self.jobs[*job].id)?.clone())))
            .collect();
        let shown = one.shown(task);
        if !failed.is_empty() {
            for (job, message) in failed {
                self.fail(job, format!("{message} ({shown})"), false);
            }
            return self.journal.close(at, task, "failed");
        }
        let is_settled = self
            .settling
            .entry(key.clone())
            .or_insert_with(Instant::now)
            .elapsed()
            >= self.patience(end);
        match end {
            End::NeverBegan => return self.journal.close(at, task, "never began"),
            End::Cancelled => {
                for job in undone {
                    let message =
                        format!("its task was cancelled on the cluster ({shown}: {words})");
                    self.fail(job, message, true);
                }
                return self.journal.close(at, task, "cancelled by someone");
            }
            End::Completed | End::Lost if !is_settled => return Ok(()),
            End::Completed | End::Lost => {}
        }
        let log = look.logs.get(&key).cloned();
        let log = watch::end_of_log(self.run.dir, &one.name, task, log.as_deref());
        let begun = watch::begun(self.run.dir, &one.name, task)?;
        let is_begun = |job: &usize| begun.contains(&self.jobs[*job].id);
        let mut hit: Vec<usize> = undone.iter().copied().filter(is_begun).collect();
        if hit.is_empty() {
            hit = undone;
        }
        let words = match end {
            End::Completed => format!(
                "{words}, but its outputs are not seen here: do the nodes see the same `{}`?",
                self.dir.display()
            ),
            _ => words,
        };
        let retries = self.run.recipe.execute.retries;
        for job in hit {
            self.lost[job] += 1;
            let times = self.lost[job];
            if times > retries {
                let message =
                    format!("its worker was lost {times} time(s), last {shown}: {words}{log}");
                self.fail(job, message, true);
            } else {
                let id = &self.jobs[job].id;
                self.run.note(&format!(
                    "{id}: {shown} was lost: {words}; submitted again ({times} of {retries})"
                ));
            }
        }
        // One that is held would stay in the queue.
        let _ = self.cluster.cancel(&self.journal.submissions[at], &[task]);
        self.journal.close(at, task, &format!("lost: {words}"))
    }

    /// Lets a task begin that waits in the queue for jobs that are done: a controller that was
    /// killed may have forgotten them.
    fn release(&mut self, at: usize, task: usize, undone: &[usize]) {
        let one = &self.journal.submissions[at];
        let key = (one.name.clone(), task);
        let is_there = |need: &usize| self.states[*need] == State::Done || undone.contains(need);
        let needed = undone.iter().flat_map(|job| &self.needs[*job]);
        if !needed.into_iter().all(is_there) {
            self.settling.remove(&key);
            return;
        }
        let since = self.settling.entry(key).or_insert_with(Instant::now);
        if since.elapsed() >= FORGOTTEN {
            *since = Instant::now();
            // It is tried again, and the queue shows what the task waits for.
            let _ = slurm::release(one, task);
        }
    }

    /// How long to wait for the outputs of a task that ended.
    fn patience(&self, end: End) -> Duration {
        match end {
            End::Completed => SETTLE,
            // A queue may be short of a task for a moment.
            _ => Duration::from_secs_f64(self.run.recipe.execute.poll_s.min(5.0)),
        }
    }
}

/// What Slurm's accounting states of a task that left the queue.
fn slurm_fate(submission: &Submission, task: usize) -> Option<(End, String)> {
    match submission.on {
        On::Slurm => slurm::fate(submission, task),
        _ => None,
    }
}
