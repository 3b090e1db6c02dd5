//! The local executor: jobs of a plan side by side, as many as cores allow, each as soon as what it
//! reads is there.
//!
//! A job that a server answers takes one of the places for servers, and no core: it waits.
//!
//! A job depends on its inputs alone, so how many run at once changes no result. A tiny model does
//! not thread well inside an operation, but two trainings side by side use two cores fully.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use super::plan::{Cpu, Job};

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
}

struct Board<E> {
    states: Vec<State>,
    /// Threads that no job has.
    free: usize,
    /// Places for servers that no job has.
    places: usize,
    /// The first failure, by position in the plan.
    failed: Option<(usize, E)>,
}

/// Does every job with `work(job, threads)`, those of servers `places` at a time. Jobs start in the order of the plan as far as their
/// inputs allow. After a failure no further job starts, and the failure of the first job by position
/// is returned.
pub(super) fn local<E: Send>(
    jobs: &[Job],
    threads: usize,
    places: usize,
    work: impl Fn(&Job, usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let needs = needs(jobs);
    let board = Mutex::new(Board {
        states: vec![State::Waiting; jobs.len()],
        free: threads.max(1),
        places,
        failed: None,
    });
    let changed = Condvar::new();
    let worker = || {
        let mut now = board.lock().unwrap_or_else(PoisonError::into_inner);
        while now.failed.is_none() && now.states.contains(&State::Waiting) {
            let Some(start) = next(jobs, &needs, &now, threads.max(1)) else {
                now = changed.wait(now).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Start {
                index,
                threads,
                places,
            } = start;
            now.states[index] = State::Running;
            now.free -= threads;
            now.places -= places;
            drop(now);
            let result = work(&jobs[index], threads.max(1));
            now = board.lock().unwrap_or_else(PoisonError::into_inner);
            now.states[index] = State::Done;
            now.free += threads;
            now.places += places;
            if let Err(error) = result {
                let earlier = now.failed.as_ref().is_some_and(|(first, _)| *first < index);
                if !earlier {
                    now.failed = Some((index, error));
                }
            }
            changed.notify_all();
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..(threads.max(1) + places).min(jobs.len().max(1)) {
            scope.spawn(worker);
        }
        worker();
    });
    let board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
    board.failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// The jobs of `jobs` whose outputs each job reads, as indices. What no job here writes is taken to
/// be there.
pub(super) fn needs(jobs: &[Job]) -> Vec<Vec<usize>> {
    let mut made_by: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        made_by.extend(job.outputs.iter().map(|output| (output.as_str(), index)));
    }
    let of = |job: &Job| {
        let inputs = job.inputs.iter();
        inputs
            .filter_map(|input| made_by.get(input.as_str()).copied())
            .collect()
    };
    jobs.iter().map(of).collect()
}

/// A job to start, and what it takes meanwhile.
struct Start {
    index: usize,
    threads: usize,
    places: usize,
}

/// The next job that can start: one for a server where a place is free, else the first other one,
/// with its share of the threads.
fn next<E>(jobs: &[Job], needs: &[Vec<usize>], now: &Board<E>, threads: usize) -> Option<Start> {
    let is_ready = |index: &usize| {
        now.states[*index] == State::Waiting
            && needs[*index]
                .iter()
                .all(|need| now.states[*need] == State::Done)
    };
    let (served, own): (Vec<usize>, Vec<usize>) = (0..jobs.len())
        .filter(is_ready)
        .partition(|index| jobs[*index].is_served());
    if let Some(index) = served.first().filter(|_| now.places > 0) {
        return Some(Start {
            index: *index,
            threads: 0,
            places: 1,
        });
    }
    let index = *own.first()?;
    let share = match jobs[index].resources.cpu {
        Cpu::All => (now.free == threads).then_some(threads),
        Cpu::Shared => {
            let sharing = own
                .iter()
                .filter(|i| jobs[**i].resources.cpu == Cpu::Shared);
            let share = (now.free / sharing.count().max(1)).max(1);
            (now.free > 0).then_some(share)
        }
    };
    share.map(|threads| Start {
        index,
        threads,
        places: 0,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::plan::Stage;
    use super::super::tests::plan_of;
    use super::*;

    #[test]
    fn every_job_is_done_once_after_what_it_reads_for_any_threads() {
        let jobs = plan_of("tiny");
        for threads in [1, 2, 7] {
            let done = Mutex::new(Vec::new());
            let busy = AtomicUsize::new(0);
            local(&jobs, threads, 0, |job, share| {
                let now = busy.fetch_add(share, Ordering::SeqCst) + share;
                assert!(share >= 1 && now <= threads, "{now} of {threads} threads");
                let known = done.lock().unwrap().clone();
                for other in jobs
                    .iter()
                    .filter(|o| o.outputs.iter().any(|p| job.inputs.contains(p)))
                {
                    assert!(known.contains(&other.id), "{} before {}", job.id, other.id);
                }
                busy.fetch_sub(share, Ordering::SeqCst);
                done.lock().unwrap().push(job.id.clone());
                Ok::<_, ()>(())
            })
            .unwrap();
            let mut done = done.into_inner().unwrap();
            done.sort();
            let mut all: Vec<String> = jobs.iter().map(|job| job.id.clone()).collect();
            all.sort();
            assert_eq!(done, all);
        }
    }

    #[test]
    fn jobs_of_servers_run_as_many_at_once_as_there_are_places() {
        let mut jobs = plan_of("tiny");
        for job in jobs.iter_mut().filter(|job| job.stage == Stage::Eval) {
            job.resources.gpu = 1;
        }
        for places in [1, 3] {
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let count = AtomicUsize::new(0);
            local(&jobs, 1, places, |job, share| {
                assert_eq!(share, 1);
                count.fetch_add(1, Ordering::SeqCst);
                if job.is_served() {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    now.fetch_sub(1, Ordering::SeqCst);
                }
                Ok::<_, ()>(())
            })
            .unwrap();
            assert_eq!(count.into_inner(), jobs.len());
            assert!((1..=places).contains(&most.into_inner()));
        }
    }

    #[test]
    fn after_a_failure_nothing_more_starts_and_it_is_returned() {
        let jobs = plan_of("tiny");
        let begun = AtomicUsize::new(0);
        let failed = local(&jobs, 1, 0, |job, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            if job.id == jobs[2].id {
                Err("the third")
            } else {
                Ok(())
            }
        });
        assert_eq!((failed, begun.into_inner()), (Err("the third"), 3));
    }
}
