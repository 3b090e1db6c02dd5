//! Ray by the Jobs API of its dashboard. Its jobs have no dependencies: what is submitted can begin.

use std::time::Duration;

use idiolect_remote::ray::{RayError, RayJobs, RayNode, RaySubmission};

use super::super::place::Asked;
use super::journal::{Submission, task_name};
use super::submit::Refusal;
use super::{End, Look, Seen};
use crate::shown::escaped;

/// Characters of what the cluster states that are shown.
const LONGEST: usize = 1000;

/// How long an answer is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn open(address: &str, limit: Duration) -> Result<RayJobs, RayError> {
    RayJobs::new(address, limit)
}

/// Submits every task that the cluster does not know yet.
pub(super) fn submit(
    ray: &RayJobs,
    submission: &Submission,
    script: &dyn Fn(&str) -> String,
) -> Result<String, Refusal> {
    for task in submission.open() {
        let job = RaySubmission {
            id: task_name(&submission.name, task),
            entrypoint: script(&task.to_string()),
            cpus: submission.asked.cpus,
            gpus: submission.asked.gpus,
            memory_bytes: submission.asked.memory_bytes,
        };
        ray.submit(&job).map_err(|error| match error {
            RayError::Refused(words) => Refusal::Never(escaped(&words, LONGEST)),
            other => Refusal::Later(words_of(&other)),
        })?;
    }
    Ok(submission.name.clone())
}

/// Every open task that the cluster knows of these submissions.
pub(super) fn look(ray: &RayJobs, submissions: &[&Submission]) -> Result<Look, String> {
    let mut found = Look::default();
    let mut nodes = None;
    for one in submissions {
        let mut all_known = true;
        for task in one.open() {
            let id = task_name(&one.name, task);
            let Some(job) = ray.job(&id).map_err(|error| words_of(&error))? else {
                all_known = false;
                continue;
            };
            let exit = job
                .exit_code
                .map_or(String::new(), |code| format!(", exit code {code}"));
            let first = job.message.lines().next().unwrap_or_default();
            let seen = match job.status.as_str() {
                "PENDING" => {
                    // Ray itself never states that a job is too large.
                    let nodes = nodes.get_or_insert_with(|| ray.nodes().unwrap_or_default());
                    let why = too_large(&one.asked, nodes);
                    Seen::Pending(why.unwrap_or_else(|| "PENDING".to_owned()))
                }
                "SUCCEEDED" => Seen::Ended(End::Completed, job.status),
                "STOPPED" => Seen::Ended(End::Cancelled, job.status),
                "FAILED" => Seen::Ended(
                    End::Lost,
                    format!("FAILED{exit}: {}", escaped(first, LONGEST)),
                ),
                _ => Seen::Running(escaped(&job.status, LONGEST)),
            };
            if matches!(seen, Seen::Ended(End::Lost, _)) {
                found.logs.insert((one.name.clone(), task), job.message);
            }
            found.tasks.insert((one.name.clone(), task), seen);
        }
        // Else the rest is submitted under the same names.
        if all_known {
            found.ids.insert(one.name.clone(), one.name.clone());
        }
    }
    Ok(found)
}

/// Why no node can take what is asked for, where that is so.
fn too_large(asked: &Asked, nodes: &[RayNode]) -> Option<String> {
    let memory = asked.memory_bytes.unwrap_or(0) as f64;
    let fits = |node: &RayNode| {
        node.cpus >= asked.cpus as f64
            && node.gpus >= asked.gpus as f64
            && node.memory_bytes >= memory
    };
    if nodes.is_empty() || nodes.iter().any(fits) {
        return None;
    }
    let most = |of: fn(&RayNode) -> f64| nodes.iter().map(of).fold(0.0, f64::max);
    Some(format!(
        "PENDING: it asks for {asked}, and no node has that (the most: {} CPU, {} GPU, {:.1} GiB): it waits until one joins",
        most(|node| node.cpus),
        most(|node| node.gpus),
        most(|node| node.memory_bytes) / (1u64 << 30) as f64
    ))
}

/// Asks these tasks to stop.
pub(super) fn cancel(
    ray: &RayJobs,
    submission: &Submission,
    tasks: &[usize],
) -> Result<(), String> {
    tasks.iter().try_for_each(|task| {
        let stopped = ray.stop(&task_name(&submission.name, *task));
        stopped.map_err(|error| words_of(&error))
    })
}

fn words_of(error: &RayError) -> String {
    escaped(&error.to_string(), LONGEST)
}
