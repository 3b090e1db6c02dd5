//! What a machine can do: the rate of the `gemm` crate's 1024³ f32 products, one on each of some
//! threads, in GFLOP per CPU second of one thread.

mod square;

use std::sync::Barrier;

use square::square_product;

/// The mean over the threads of the best of 20 rounds.
pub fn peak(threads: usize) -> f64 {
    const SIZE: usize = 1024;
    let barrier = Barrier::new(threads);
    let work = || {
        let (a, b, mut c) = (
            vec![0.5f32; SIZE * SIZE],
            vec![0.25f32; SIZE * SIZE],
            vec![0f32; SIZE * SIZE],
        );
        let mut best = f64::INFINITY;
        barrier.wait();
        for _ in 0..5 {
            let start = thread_ns();
            (0..4).for_each(|_| square_product(SIZE, &a, &b, &mut c));
            best = best.min((thread_ns() - start) as f64 / 4.0);
        }
        2.0 * (SIZE as f64).powi(3) / best
    };
    let rates: Vec<f64> = std::thread::scope(|s| {
        let handles: Vec<_> = (0..threads).map(|_| s.spawn(work)).collect();
        handles.into_iter().filter_map(|h| h.join().ok()).collect()
    });
    rates.iter().sum::<f64>() / rates.len().max(1) as f64
}

/// Nanoseconds that the calling thread has run; 0 where the system does not state it.
fn thread_ns() -> u64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// Nanoseconds that the threads of this process have run; 0 where the system does not state it.
pub fn cpu_ns() -> u64 {
    std::fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}
