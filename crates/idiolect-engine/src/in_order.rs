//! Jobs of unequal size on several threads, their results handed over in the order of the jobs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

struct State<R> {
    /// The next job to begin.
    next: usize,
    /// Results handed over.
    taken: usize,
    done: BTreeMap<usize, R>,
    stopped: bool,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
    jobs: usize,
    /// Jobs that may be begun beyond the last result handed over; bounds what waits.
    ahead: usize,
}

impl<R> Shared<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A job to begin now, if there is one.
    fn claim(&self, state: &mut State<R>) -> Option<usize> {
        let job = state.next;
        let free = !state.stopped && job < self.jobs && job < state.taken + self.ahead;
        free.then(|| {
            state.next += 1;
            job
        })
    }

    fn finish(&self, job: usize, result: R) {
        self.lock().done.insert(job, result);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies the others when a thread leaves, by a panic too, so that nobody waits for it.
struct Leaving<'a, R>(&'a Shared<R>);

impl<R> Drop for Leaving<'_, R> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

/// Calls `work` once for each job on `threads` threads, the caller's among them, each with a
/// workspace of its own, and `take` with each result in order on the caller's thread. Breaking
/// stops the work. At most `4 · threads` results wait at a time.
pub(crate) fn in_order<W: Default, R: Send>(
    threads: usize,
    jobs: usize,
    work: impl Fn(&mut W, usize) -> R + Sync,
    mut take: impl FnMut(usize, R) -> ControlFlow<()>,
) {
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            taken: 0,
            done: BTreeMap::new(),
            stopped: false,
        }),
        changed: Condvar::new(),
        jobs,
        ahead: 4 * threads.max(1),
    };
    let serve = || {
        let _leaving = Leaving(&shared);
        let mut workspace = W::default();
        let mut state = shared.lock();
        while !state.stopped && state.next < jobs {
            state = match shared.claim(&mut state) {
                None => shared.wait(state),
                Some(job) => {
                    drop(state);
                    shared.finish(job, work(&mut workspace, job));
                    shared.lock()
                }
            };
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(jobs) {
            scope.spawn(serve);
        }
        let _leaving = Leaving(&shared);
        let mut workspace = W::default();
        let mut state = shared.lock();
        while !state.stopped && state.taken < jobs {
            let job = state.taken;
            if let Some(result) = state.done.remove(&job) {
                drop(state);
                let flow = take(job, result);
                state = shared.lock();
                state.taken += 1;
                state.stopped |= flow.is_break();
                shared.changed.notify_all();
            } else if let Some(job) = shared.claim(&mut state) {
                drop(state);
                shared.finish(job, work(&mut workspace, job));
                state = shared.lock();
            } else {
                state = shared.wait(state);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_once_each_and_breaking_stops() {
        for threads in 1..5 {
            let mut seen = Vec::new();
            in_order(
                threads,
                50,
                |done: &mut usize, job| {
                    *done += 1;
                    std::thread::sleep(std::time::Duration::from_micros(97 * job as u64 % 400));
                    job * job
                },
                |job, square| {
                    seen.push((job, square));
                    if job == 40 {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                },
            );
            let expected: Vec<_> = (0..41).map(|job| (job, job * job)).collect();
            assert_eq!(seen, expected);
        }
        in_order(3, 0, |_: &mut (), job| job, |_, _| panic!("no job"));
    }

    #[test]
    fn a_panic_in_a_job_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| {
            in_order(
                3,
                30,
                |_: &mut (), job| assert!(job != 7, "job seven"),
                |_, ()| ControlFlow::Continue(()),
            );
        });
        assert!(caught.is_err());
    }
}
