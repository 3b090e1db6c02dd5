//! A pool of threads that waits between products and gives the same bits whatever its size.
//!
//! Work is split by what is written, never by what is summed: each chunk writes its own part of
//! the outputs and computes every value in it alone, so it does not matter who takes which chunk.
//! With one thread there is no pool, no lock and no atomic, only a loop.
#![expect(
    unsafe_code,
    reason = "hands disjoint parts of a slice, and a borrowed task, to other threads"
)]

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
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

// SAFETY: the task behind the pointer is `Sync`, so it may be called from any thread.
unsafe impl Send for Task {}

#[derive(Default)]
struct State {
    /// Moves with every task, so that a worker knows a new one.
    round: u64,
    task: Option<Task>,
    chunks: usize,
    /// Workers that have not finished the round.
    busy: usize,
    panic: Option<Box<dyn std::any::Any + Send>>,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    begin: Condvar,
    end: Condvar,
    next: AtomicUsize,
    /// One task at a time.
    turn: Mutex<()>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside a task is caught before the lock is taken again.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes chunks until none is left.
    fn work(&self, worker: usize, chunks: usize, task: Task) {
        loop {
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            // SAFETY: `run` keeps the task alive until every worker has left this round.
            unsafe { (*task.0)(worker, chunk) }
        }
    }

    fn serve(&self, worker: usize) {
        let mut seen = 0;
        loop {
            let mut state = self.lock();
            while state.round == seen && !state.closing {
                state = self
                    .begin
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.closing {
                return;
            }
            seen = state.round;
            let (task, chunks) = (state.task, state.chunks);
            drop(state);
            let result = match task {
                Some(task) => catch_unwind(AssertUnwindSafe(|| self.work(worker, chunks, task))),
                None => Ok(()),
            };
            let mut state = self.lock();
            if let Err(panic) = result {
                state.panic.get_or_insert(panic);
            }
            state.busy -= 1;
            if state.busy == 0 {
                self.end.notify_one();
            }
        }
    }
}

/// A base address that chunks are cut from.
#[derive(Clone, Copy)]
struct Base(*mut f32);

// SAFETY: only ever used to cut disjoint parts, each used by one thread at a time.
unsafe impl Sync for Base {}
// SAFETY: as above.
unsafe impl Send for Base {}

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
        let _turn = shared.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the lifetime is only hidden. This function does not return, not even by a
        // panic, before `busy` is 0, and after that no worker touches the task.
        let erased = Task(unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync),
                *const (dyn Fn(usize, usize) + Sync),
            >(task)
        });
        {
            let mut state = shared.lock();
            shared.next.store(0, Ordering::Relaxed);
            state.task = Some(erased);
            state.chunks = chunks;
            state.busy = self.workers.len();
            state.round += 1;
            shared.begin.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| shared.work(0, chunks, erased)));
        let mut state = shared.lock();
        while state.busy > 0 {
            state = shared
                .end
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.task = None;
        let panic = state.panic.take();
        drop(state);
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
            // SAFETY: `worker` is below `n()`, and a worker runs one chunk at a time.
            let scratch = unsafe { &mut *scratches.0.add(worker) };
            task(chunk, cut, scratch);
        });
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().closing = true;
            shared.begin.notify_all();
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
