//! From the plan to what is submitted: few groups of jobs, each a list of tasks that a cluster
//! places.
//!
//! Jobs that load a model, and shards, are tasks that run side by side: one group holds those of one
//! stage that wait for as many groups before them. The light jobs between two such groups (putting
//! parts together, corrupting, building arms) are one task together, done in one process.

use std::collections::BTreeMap;

use super::super::execute::needs;
use super::super::place::{Asked, asked};
use super::super::plan::{Job, Stage};
use super::super::recipe::Execute;
use crate::stage::Extent;

/// Jobs that are handed over together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// `06-train`: the same whenever the plan is.
    pub(super) name: String,
    /// What each task asks for; `None`: the submitting process does them.
    pub(super) asked: Option<Asked>,
    /// Whether its jobs are tasks of their own.
    pub(super) wide: bool,
    /// Positions in the plan.
    pub(super) jobs: Vec<usize>,
}

/// What decides which jobs may be in one group.
#[derive(Clone, PartialEq)]
enum Kind {
    Local,
    /// Of one stage, independent of each other.
    Wide(Stage, Asked),
    Light(Asked),
}

impl Kind {
    fn of(job: &Job, execute: &Execute) -> Self {
        let asked = asked(execute, job);
        let is_wide = job.resources.model.is_some() || matches!(job.extent, Extent::Shard(_));
        match job.stage.name() {
            stage if execute.local.iter().any(|local| local == stage) => Self::Local,
            _ if is_wide => Self::Wide(job.stage, asked),
            _ => Self::Light(asked),
        }
    }
}

/// The groups of a plan, each after those that it reads from.
pub(super) fn groups(jobs: &[Job], execute: &Execute) -> Vec<Group> {
    let needs = needs(jobs);
    let kinds: Vec<Kind> = jobs.iter().map(|job| Kind::of(job, execute)).collect();
    let mut levels = vec![0; jobs.len()];
    for (index, needed) in needs.iter().enumerate() {
        // Light jobs of one kind are one task, whatever their order; what else reads comes later.
        let after = |need: &usize| {
            let is_one_task =
                kinds[*need] == kinds[index] && !matches!(kinds[index], Kind::Wide(..));
            levels[*need] + usize::from(!is_one_task)
        };
        levels[index] = needed.iter().map(after).max().unwrap_or(0);
    }
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| levels[*index]);
    let mut found: Vec<(usize, Kind, Vec<usize>)> = Vec::new();
    for index in order {
        let same = found
            .iter_mut()
            .find(|(level, kind, _)| *level == levels[index] && *kind == kinds[index]);
        match same {
            Some((_, _, members)) => members.push(index),
            None => found.push((levels[index], kinds[index].clone(), vec![index])),
        }
    }
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let named = found.into_iter().map(|(level, kind, members)| {
        let name = format!("{level:02}-{}", jobs[members[0]].stage.name());
        let times = taken.entry(name.clone()).or_default();
        *times += 1;
        let name = match times {
            1 => name,
            times => format!("{name}-{times}"),
        };
        let (asked, wide) = match kind {
            Kind::Local => (None, false),
            Kind::Wide(_, asked) => (Some(asked), true),
            Kind::Light(asked) => (Some(asked), false),
        };
        Group {
            name,
            asked,
            wide,
            jobs: members,
        }
    });
    named.collect()
}

/// The tasks of those jobs of a group that are `open`, at most `most`.
pub(super) fn tasks(group: &Group, open: &[usize], most: usize) -> Vec<Vec<usize>> {
    if open.is_empty() {
        return Vec::new();
    }
    let n = match group.wide {
        true => open.len().min(most.max(1)),
        false => 1,
    };
    let mut tasks = vec![Vec::new(); n];
    for (position, job) in open.iter().enumerate() {
        tasks[position % n].push(*job);
    }
    tasks
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{plan_of, split_plan_of};
    use super::*;

    #[test]
    fn every_job_is_in_one_group_after_those_that_it_reads_from() {
        let plans = ["tiny", "miniature", "gsm8k-real", "benchmark"].map(plan_of);
        for jobs in plans.into_iter().chain([split_plan_of("tiny", 16)]) {
            let groups = groups(&jobs, &Execute::default());
            let mut position = vec![None; jobs.len()];
            for (at, group) in groups.iter().enumerate() {
                for job in &group.jobs {
                    assert_eq!(position[*job].replace(at), None, "{}", jobs[*job].id);
                }
            }
            for (index, needs) in needs(&jobs).iter().enumerate() {
                for need in needs {
                    let (own, other) = (position[index].unwrap(), position[*need].unwrap());
                    let together = own == other && !groups[own].wide;
                    assert!(
                        other < own || together,
                        "{} {}",
                        jobs[index].id,
                        jobs[*need].id
                    );
                }
            }
            let names: std::collections::BTreeSet<&String> =
                groups.iter().map(|group| &group.name).collect();
            assert_eq!(names.len(), groups.len());
        }
    }

    #[test]
    fn a_plan_is_few_groups_and_tasks_are_dealt_evenly() {
        let jobs = plan_of("tiny");
        let groups = groups(&jobs, &Execute::default());
        let train = groups
            .iter()
            .find(|group| group.name.ends_with("-train"))
            .unwrap();
        assert_eq!(train.jobs.len(), 12);
        assert!(
            groups.len() <= 12,
            "{} of {} jobs",
            groups.len(),
            jobs.len()
        );
        let sizes: Vec<usize> = tasks(train, &train.jobs, 5).iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 2, 2, 2]);
        assert_eq!(tasks(train, &[], 5).len(), 0);
        let arms = groups
            .iter()
            .find(|group| group.name.ends_with("-arms"))
            .unwrap();
        assert_eq!(tasks(arms, &arms.jobs, 5).len(), 1);
    }
}
