//! What can be submitted, is: tasks of jobs whose inputs are there or on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::place::On;
use super::groups::tasks;
use super::script::script;
use super::{Cluster, Executor, State, ray, slurm};
use crate::stage::StageError;

/// Why a cluster did not take a submission.
pub(super) enum Refusal {
    /// It may take it later, or has it without our knowing.
    Later(String),
    /// It will not.
    Never(String),
}

/// A submission that another one waits for.
pub(super) struct After {
    pub(super) cluster_id: String,
    /// Whether each task waits for that of the same number alone.
    pub(super) aligned: bool,
}

impl Executor<'_> {
    /// Submits every job whose inputs are there, or, on Slurm, come from tasks that are submitted.
    pub(super) fn submit_open_jobs(&mut self) -> Result<(), StageError> {
        self.submit_again()?;
        let blocked = self.blocked();
        let mut live: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (at, task) in self.open_tasks() {
            let ids = self.journal.submissions[at].tasks[task].clone();
            live.extend(
                ids.iter()
                    .filter_map(|id| Some((self.position(id)?, (at, task)))),
            );
        }
        for index in 0..self.groups.len() {
            let group = &self.groups[index];
            let Some(asked) = group.asked.clone() else {
                continue;
            };
            let mut chosen: Vec<usize> = Vec::new();
            for job in &group.jobs {
                let comes = |need: &usize| {
                    self.states[*need] == State::Done
                        || (!group.wide && chosen.contains(need))
                        || live
                            .get(need)
                            .is_some_and(|(at, _)| self.can_be_waited_for(*at))
                };
                if self.states[*job] == State::Open
                    && !live.contains_key(job)
                    && !blocked[*job]
                    && self.needs[*job].iter().all(comes)
                {
                    chosen.push(*job);
                }
            }
            let tasks = tasks(group, &chosen, self.run.recipe.execute.tasks);
            if tasks.is_empty() {
                continue;
            }
            let name = group.name.clone();
            let ids =
                |task: &Vec<usize>| task.iter().map(|job| self.jobs[*job].id.clone()).collect();
            let ids: Vec<Vec<String>> = tasks.iter().map(ids).collect();
            let at = self.journal.submit(&name, &self.on, &asked, ids)?;
            for (number, task) in tasks.iter().enumerate() {
                live.extend(task.iter().map(|job| (*job, (at, number))));
            }
            let after = self.after(&tasks, &live, at);
            self.hand_over(at, &after)?;
        }
        Ok(())
    }

    /// Whether others may be submitted that wait for a submission: on Slurm, one that is known to be
    /// taken and of which nothing was lost.
    fn can_be_waited_for(&self, at: usize) -> bool {
        let one = &self.journal.submissions[at];
        matches!(self.cluster, Cluster::Slurm)
            && one.cluster_id.is_some()
            && !one.cancelled
            && one.closed.values().all(|why| why == "done")
    }

    /// The submissions that tasks wait for.
    fn after(
        &self,
        tasks: &[Vec<usize>],
        live: &BTreeMap<usize, (usize, usize)>,
        own: usize,
    ) -> Vec<After> {
        let mut found: BTreeMap<usize, bool> = BTreeMap::new();
        for (number, task) in tasks.iter().enumerate() {
            for need in task.iter().flat_map(|job| &self.needs[*job]) {
                let at = live.get(need).filter(|_| self.states[*need] != State::Done);
                let Some((at, other)) = at.filter(|(at, _)| *at != own) else {
                    continue;
                };
                let same = self.journal.submissions[*at].tasks.len() == tasks.len();
                let aligned = found.entry(*at).or_insert(same);
                *aligned &= *other == number;
            }
        }
        let of = |(at, aligned): (usize, bool)| {
            let cluster_id = self.journal.submissions[at].cluster_id.clone()?;
            Some(After {
                cluster_id,
                aligned,
            })
        };
        found.into_iter().filter_map(of).collect()
    }

    /// Submits again what the cluster did not take. What it waited for must be there by now.
    fn submit_again(&mut self) -> Result<(), StageError> {
        let waiting: BTreeSet<usize> = self
            .open_tasks()
            .into_iter()
            .map(|(at, _)| at)
            .filter(|at| {
                let one = &self.journal.submissions[*at];
                one.cluster_id.is_none() && !one.cancelled
            })
            .collect();
        for at in waiting {
            if self
                .later
                .get(&at)
                .is_some_and(|when| Instant::now() < *when)
            {
                continue;
            }
            let one = &self.journal.submissions[at];
            let members = one.open().flat_map(|task| &one.tasks[task]);
            let members: Vec<usize> = members.filter_map(|id| self.position(id)).collect();
            let is_there =
                |need: &usize| self.states[*need] == State::Done || members.contains(need);
            if members
                .iter()
                .flat_map(|job| &self.needs[*job])
                .all(is_there)
            {
                self.hand_over(at, &[])?;
            } else {
                // Its jobs are submitted anew once their inputs are there or on their way.
                for task in self.journal.submissions[at].open().collect::<Vec<_>>() {
                    self.journal.close(at, task, "never taken")?;
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, at: usize, after: &[After]) -> Result<(), StageError> {
        let one = &self.journal.submissions[at];
        let text = |task: &str| {
            script(
                (&self.program, &self.flags),
                &self.dir,
                &one.name,
                task,
                &one.asked,
            )
        };
        let taken = match &self.cluster {
            Cluster::Slurm => slurm::submit(&self.dir, one, after, &text("$SLURM_ARRAY_TASK_ID")),
            Cluster::Ray(jobs) => ray::submit(jobs, one, &text),
        };
        match taken {
            Ok(id) => {
                self.later.remove(&at);
                self.journal.taken(at, &id)?;
                let one = &self.journal.submissions[at];
                let jobs: usize = one.tasks.iter().map(Vec::len).sum();
                self.run.note(&format!(
                    "{}: {} submitted: {jobs} job(s) in {} task(s), each {}",
                    one.on,
                    match &one.on {
                        On::Slurm => format!("{id} ({})", one.group),
                        _ => one.group.clone(),
                    },
                    one.tasks.len(),
                    one.asked
                ));
            }
            Err(Refusal::Later(words)) => {
                let pause = Duration::from_secs_f64(self.run.recipe.execute.poll_s);
                self.later.insert(at, Instant::now() + pause);
                let group = one.group.clone();
                self.show(&format!(
                    "{} does not take {group} yet ({words}); asked again",
                    self.on
                ));
            }
            Err(Refusal::Never(words)) => {
                let message = format!(
                    "{} refuses what its stage asks for ({}): {words}",
                    self.on, one.asked
                );
                let open: Vec<usize> = one.open().collect();
                let members = open.iter().flat_map(|task| &one.tasks[*task]);
                let members: Vec<usize> = members.filter_map(|id| self.position(id)).collect();
                for task in open {
                    self.journal.close(at, task, "refused")?;
                }
                for job in members {
                    self.fail(job, message.clone(), true);
                }
            }
        }
        Ok(())
    }
}
