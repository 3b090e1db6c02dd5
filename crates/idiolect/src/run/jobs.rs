//! Independent jobs side by side: one thread each, results in the order of the jobs.
//!
//! A tiny model does not thread well inside an operation, but two trainings side by side use two
//! cores fully. A job depends on its own inputs only, so how many run at once changes no result.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Runs `work` on every job, at most `threads` at once, taking them in order. After a failure no
/// further job starts; the error of the first failed job (by position) is returned.
pub(crate) fn side_by_side<J: Sync, T: Send, E: Send>(
    threads: usize,
    jobs: &[J],
    work: impl Fn(&J) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Vec<Mutex<Option<Result<T, E>>>> = jobs.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { break };
            let result = work(job);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            *results[index].lock().unwrap_or_else(|e| e.into_inner()) = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(worker);
        }
        worker();
    });
    // Jobs are taken in order, so every job before a missing result has one.
    results
        .into_iter()
        .map_while(|cell| cell.into_inner().unwrap_or_else(|e| e.into_inner()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_for_any_thread_count() {
        let jobs: Vec<u64> = (0..50).collect();
        for threads in [1, 2, 7, 100] {
            let squares = side_by_side(threads, &jobs, |j| Ok::<_, ()>(j * j)).unwrap();
            assert_eq!(squares, jobs.iter().map(|j| j * j).collect::<Vec<_>>());
        }
        assert_eq!(
            side_by_side(2, &[] as &[u64], |j| Ok::<_, ()>(*j)).unwrap(),
            Vec::<u64>::new()
        );
    }

    #[test]
    fn a_failure_stops_the_jobs_after_it_and_is_returned() {
        let ran = AtomicUsize::new(0);
        let result = side_by_side(1, &[1, 2, 3, 4], |j| {
            ran.fetch_add(1, Ordering::Relaxed);
            if *j == 2 { Err("job 2") } else { Ok(*j) }
        });
        assert_eq!((result, ran.into_inner()), (Err("job 2"), 2));
    }
}
