//! A pool of threads that waits between products and gives the same bits whatever its size.
//!
//! Work is split by what is written, never by what is summed: each chunk writes its own part of
//! the outputs and computes every value in it alone, so it does not matter who takes which chunk.
//! Between tasks threads look out for the next one for some microseconds, then yield, then sleep:
//! a hand-over inside a step costs about a microsecond, and an idle pool costs nothing.
//! With one thread there is no pool, no lock and no atomic, only a loop.
#![expect(
    unsafe_code,
    reason = "hands disjoint parts of a slice, and a borrowed task, to other threads"
)]

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// The threads of one job.
pub struct Threads {
    shared: Option<Arc<Shared>>,
    workers: Vec<JoinHandle<()>>,
}

/// A borrowed task with its lifetime taken off; see [`Threads::run`] for why that is sound.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize, usize) + Sync));

/// Looks at a word before yielding: about a microsecond.
const SPINS: usize = 32;
/// Yields before going to sleep: the operations of a step follow each other within some tens of
/// microseconds, and waking a sleeper costs as much.
const YIELDS: usize = 100;

/// What the threads share. A round is open while its task may be begun; a worker that comes late
/// misses it, and nobody waits for a worker that is not inside.
#[derive(Default)]
struct Shared {
    /// The open round, or 0.
    open: AtomicU64,
    /// Workers that may be using the task.
    inside: AtomicUsize,
    /// Written only while no round is open and nobody is inside.
    job: UnsafeCell<Option<(Task, usize)>>,
    next: AtomicUsize,
    closing: AtomicBool,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
    /// Workers asleep, and whether the caller is; changed under the lock.
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    lock: Mutex<()>,
    begin: Condvar,
    end: Condvar,
    /// Rounds so far; one task at a time.
    rounds: Mutex<u64>,
}

// SAFETY: `job` is written by the caller that holds `rounds`, while no worker is inside; the task
// in it is `Sync`, so it may be called from any thread.
unsafe impl Sync for Shared {}
// SAFETY: the address in `job` is that of a `Sync` task and is not bound to the thread it is on.
unsafe impl Send for Shared {}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic inside a task is caught before any lock is taken.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Takes chunks until none is left.
    fn work(&self, worker: usize, (task, chunks): (Task, usize)) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            // SAFETY: whoever calls this is inside the task's round, and `run` keeps the task alive
            // until nobody is; the task is `Sync`.
            unsafe { (*task.0)(worker, chunk) }
        }
    }

    /// A round other than the last, once one is open; none when the pool closes.
    fn next_round(&self, last: u64) -> Option<u64> {
        let look = || {
            let open = self.open.load(Ordering::SeqCst);
            let closing = self.closing.load(Ordering::SeqCst);
            (closing || (open != 0 && open != last)).then_some((!closing).then_some(open))
        };
        wait(&look).unwrap_or_else(|| {
            let mut guard = locked(&self.lock);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            // Whoever opens a round afterwards sees the sleeper; a round opened before is seen here.
            let round = loop {
                if let Some(round) = look() {
                    break round;
                }
                guard = self
                    .begin
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner);
            };
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
            round
        })
    }

    fn serve(&self, worker: usize) {
        let mut last = 0;
        while let Some(round) = self.next_round(last) {
            self.inside.fetch_add(1, Ordering::SeqCst);
            // The caller closes the round before it looks whether anybody is inside.
            if self.open.load(Ordering::SeqCst) == round {
                // SAFETY: the round is open and this worker inside, so the job is not written.
                let job = unsafe { *self.job.get() };
                let work = || job.map(|job| self.work(worker, job));
                if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                    locked(&self.panic).get_or_insert(panic);
                }
            }
            last = round;
            if self.inside.fetch_sub(1, Ordering::SeqCst) == 1
                && self.caller_sleeps.load(Ordering::SeqCst)
            {
                let _guard = locked(&self.lock);
                self.end.notify_all();
            }
        }
    }

    /// Returns once nobody is inside.
    fn leave(&self) {
        let look = || (self.inside.load(Ordering::SeqCst) == 0).then_some(());
        if wait(&look).is_none() {
            let mut guard = locked(&self.lock);
            self.caller_sleeps.store(true, Ordering::SeqCst);
            while look().is_none() {
                guard = self.end.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, Ordering::SeqCst);
        }
    }

    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = locked(&self.lock);
            self.begin.notify_all();
        }
    }
}

/// Looks for a while, first without giving the core away.
fn wait<T>(look: &dyn Fn() -> Option<T>) -> Option<T> {
    for i in 0..SPINS + YIELDS {
        if let Some(found) = look() {
            return Some(found);
        }
        if i < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    None
}

/// A base address that chunks are cut from.
#[derive(Clone, Copy)]
struct Base(*mut f32);

// SAFETY: only ever used to cut disjoint parts, each used by one thread at a time.
unsafe impl Sync for Base {}

/// As [`Base`], for the scratch memory of each worker.
struct Scratches(*mut Vec<f32>);

// SAFETY: each worker touches its own entry only.
unsafe impl Sync for Scratches {}

impl Threads {
    /// `n` threads in all, the caller's own among them.
    pub fn new(n: NonZeroUsize) -> Self {
        if n.get() == 1 {
            return Self {
                shared: None,
                workers: Vec::new(),
            };
        }
        let shared = Arc::new(Shared::default());
        let workers = (1..n.get())
            .filter_map(|worker| {
                let shared = Arc::clone(&shared);
                let builder = std::thread::Builder::new().name(format!("engine-{worker}"));
                // A thread that the system refuses is one fewer; the results are the same.
                builder.spawn(move || shared.serve(worker)).ok()
            })
            .collect();
        Self {
            shared: Some(shared),
            workers,
        }
    }

    /// The caller's thread and nothing else.
    pub fn single() -> Self {
        Self::new(NonZeroUsize::MIN)
    }

    /// Threads in all.
    pub fn n(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(worker, chunk)` once for each chunk below `chunks`, on any thread.
    pub(crate) fn run(&self, chunks: usize, task: &(dyn Fn(usize, usize) + Sync)) {
        let Some(shared) = self
            .shared
            .as_ref()
            .filter(|_| chunks > 1 && !self.workers.is_empty())
        else {
            return (0..chunks).for_each(|chunk| task(0, chunk));
        };
        let mut rounds = locked(&shared.rounds);
        *rounds += 1;
        // SAFETY: the lifetime is only hidden. This function does not return, not even by a
        // panic, before nobody is inside, and after that no worker touches the task.
        let erased = Task(unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync),
                *const (dyn Fn(usize, usize) + Sync),
            >(task)
        });
        // SAFETY: this is the only caller in its rounds, no round is open and nobody is inside.
        unsafe { *shared.job.get() = Some((erased, chunks)) };
        shared.next.store(0, Ordering::Relaxed);
        shared.open.store(*rounds, Ordering::SeqCst);
        shared.wake();
        let own = catch_unwind(AssertUnwindSafe(|| shared.work(0, (erased, chunks))));
        shared.open.store(0, Ordering::SeqCst);
        shared.leave();
        let panic = locked(&shared.panic).take();
        drop(rounds);
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }

    /// Cuts each slice into `chunks` parts of the given sizes (the last may be shorter) and calls
    /// `task(chunk, parts, scratch)` for each, `scratch` being the worker's own.
    ///
    /// # Panics
    /// When there is less scratch than threads; a programmer mistake.
    pub(crate) fn for_chunks<const P: usize>(
        &self,
        chunks: usize,
        slices: [(&mut [f32], usize); P],
        scratch: &mut [Vec<f32>],
        task: impl Fn(usize, [&mut [f32]; P], &mut Vec<f32>) + Sync,
    ) {
        assert!(scratch.len() >= self.n(), "one scratch a thread");
        let parts = slices.map(|(slice, size)| (Base(slice.as_mut_ptr()), slice.len(), size));
        let scratches = Scratches(scratch.as_mut_ptr());
        let (parts, scratches) = (&parts, &scratches);
        self.run(chunks, &move |worker, chunk| {
            let cut = parts.map(|(base, len, size)| {
                let start = (chunk * size).min(len);
                let end = (start + size).min(len);
                // SAFETY: parts of different chunks do not overlap, each chunk is taken once, and
                // the slices stay borrowed until `run` returns.
                unsafe { std::slice::from_raw_parts_mut(base.0.add(start), end - start) }
            });
            // SAFETY: `worker` is below `n()`, of which there is a scratch each (asserted above), and
            // a worker runs one chunk at a time.
            let scratch = unsafe { &mut *scratches.0.add(worker) };
            task(chunk, cut, scratch);
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.closing.store(true, Ordering::SeqCst);
            shared.wake();
        }
        for worker in self.workers.drain(..) {
            // A worker ends only after its loop; a panic in a task was already passed on.
            drop(worker.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(n: usize) -> Threads {
        Threads::new(NonZeroUsize::new(n).unwrap())
    }

    #[test]
    fn every_chunk_runs_once_and_writes_its_own_part() {
        for n in 1..5 {
            let pool = threads(n);
            for round in 0..50 {
                let (mut a, mut b) = (vec![0.0; 103], vec![0.0; 11]);
                let mut scratch = vec![Vec::new(); n];
                pool.for_chunks(
                    11,
                    [(&mut a, 10), (&mut b, 1)],
                    &mut scratch,
                    |i, [a, b], _| {
                        a.iter_mut().for_each(|v| *v += (i + round) as f32);
                        b[0] += 1.0;
                    },
                );
                assert!(
                    a.iter()
                        .enumerate()
                        .all(|(i, v)| *v == (i / 10 + round) as f32)
                );
                assert!(b.iter().all(|v| *v == 1.0));
            }
        }
    }

    #[test]
    fn rounds_reach_workers_that_spin_and_workers_that_sleep() {
        let pool = threads(4);
        let count = AtomicUsize::new(0);
        for round in 0..3000 {
            pool.run(7, &|_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            if round % 300 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        }
        assert_eq!(count.into_inner(), 21_000);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_goes_on() {
        let pool = threads(3);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|_, chunk| assert!(chunk != 5, "chunk five"));
        }));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        pool.run(8, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }
}
