//! Our half of `bench/run.py`: reads one JSON job a line from standard input, answers with one
//! JSON line. `bench/torch_side.py` does the same jobs with PyTorch.
//!
//!     bench MODEL_DIR ROWS.json
#![expect(
    clippy::print_stdout,
    reason = "the answer to a job goes to standard output"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use idiolect_core::model::{Rng, Schedule, StepSize, TrainEvent, TrainSettings};
use idiolect_engine::batch::TokenRow;
use idiolect_engine::config::Config;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::score::score_rows;
use idiolect_engine::threads::Threads;
use idiolect_engine::train::{Training, train_rows};
use idiolect_engine::weights::WeightFiles;
use serde::Deserialize;
use serde_json::{Value, json};

type Fallible<T> = Result<T, Box<dyn Error>>;

/// One row of tokens; every token from `first_target` on is a target.
#[derive(Clone, Deserialize)]
struct Row {
    ids: Vec<u32>,
    first_target: usize,
}

#[derive(Deserialize)]
struct Settings {
    lr: f64,
    betas: (f64, f64),
    epsilon: f64,
    weight_decay: f64,
    clip: f64,
}

#[derive(Deserialize)]
struct Data {
    batches: BTreeMap<String, Vec<Vec<Row>>>,
    settings: Settings,
}

/// A job as `run.py` writes it; what another kind of job or side needs is ignored.
#[derive(Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
enum Job {
    Train {
        batches: String,
        steps: usize,
        warmup: usize,
        threads: usize,
    },
    Score {
        batches: String,
        passes: usize,
        with_scores: bool,
        threads: usize,
    },
    Peak {
        threads: usize,
    },
}

fn main() -> Fallible<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(directory), Some(rows)) = (arguments.next(), arguments.next()) else {
        return Err("usage: bench MODEL_DIR ROWS.json".into());
    };
    let data: Data = serde_json::from_slice(&std::fs::read(rows)?)?;
    let decoder = load(&directory)?;
    println!("{}", json!({"idiolect": env!("CARGO_PKG_VERSION")}));
    for line in std::io::stdin().lock().lines() {
        let answer = answer(&data, &decoder, serde_json::from_str(&line?)?)?;
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn load(directory: &Path) -> Fallible<Decoder> {
    let config: Value = serde_json::from_slice(&std::fs::read(directory.join("config.json"))?)?;
    let facts = Config::read(&config)?.facts;
    let (parameters, _) = WeightFiles::open(directory)?.read(&facts)?;
    Ok(Decoder::new(facts, parameters)?)
}

fn answer(data: &Data, decoder: &Decoder, job: Job) -> Fallible<Value> {
    let batches = |name: &str| {
        data.batches
            .get(name)
            .ok_or_else(|| format!("no batches `{name}`"))
    };
    match job {
        Job::Train {
            batches: name,
            steps,
            warmup,
            threads,
        } => train(
            decoder.clone(),
            batches(&name)?,
            &data.settings,
            steps,
            warmup,
            &pool(threads)?,
        ),
        Job::Score {
            batches: name,
            passes,
            with_scores,
            threads,
        } => score(
            decoder,
            batches(&name)?,
            passes,
            with_scores,
            &pool(threads)?,
        ),
        Job::Peak { threads } => Ok(json!({"gflops": peak(threads)})),
    }
}

fn pool(threads: usize) -> Fallible<Threads> {
    Ok(Threads::new(
        NonZeroUsize::new(threads).ok_or("no threads")?,
    ))
}

fn token_rows(batch: &[Row]) -> impl Iterator<Item = TokenRow> {
    batch.iter().map(|row| TokenRow {
        ids: row.ids.clone(),
        first_target: row.first_target,
        weight: 1.0,
    })
}

/// Steps over the batches in turn; the first `warmup` are not timed.
///
/// Training shuffles the rows of an epoch by a generator keyed by the seed; they are laid down
/// where that shuffle picks them up, so that both sides see the same batches in the same order.
fn train(
    mut decoder: Decoder,
    batches: &[Vec<Row>],
    s: &Settings,
    steps: usize,
    warmup: usize,
    threads: &Threads,
) -> Fallible<Value> {
    let wanted: Vec<TokenRow> = (0..warmup + steps)
        .flat_map(|step| token_rows(&batches[step % batches.len()]))
        .collect();
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    Rng::keyed(0, &["train", "epoch", "0"]).shuffle(&mut order);
    let mut rows = wanted.clone();
    order
        .iter()
        .zip(wanted)
        .for_each(|(&at, row)| rows[at] = row);
    let settings = TrainSettings {
        lr: s.lr,
        schedule: Schedule::Constant,
        weight_decay: s.weight_decay,
        betas: s.betas,
        epsilon: s.epsilon,
        clip: s.clip,
        step_size: StepSize::Rows(batches[0].len()),
        ..TrainSettings::default()
    };
    let training = Training {
        rows: &rows,
        refused: &[],
        dev: &[],
        settings: &settings,
        place: None,
    };
    let (mut losses, mut started) = (Vec::new(), Instant::now());
    train_rows(&mut decoder, training, threads, &mut |event| {
        if let TrainEvent::Step { loss, .. } = event {
            losses.push(loss);
        }
        if losses.len() == warmup {
            started = Instant::now();
        }
        ControlFlow::Continue(())
    })?;
    Ok(json!({"wall_s": started.elapsed().as_secs_f64(), "losses": losses}))
}

/// Log-probability, rank and entropy of every target; the first pass is not timed.
fn score(
    decoder: &Decoder,
    batches: &[Vec<Row>],
    passes: usize,
    with_scores: bool,
    threads: &Threads,
) -> Fallible<Value> {
    let rows: Vec<TokenRow> = batches.iter().flat_map(|batch| token_rows(batch)).collect();
    let (mut scores, mut started) = (Vec::new(), Instant::now());
    for pass in 0..=passes {
        if pass == 1 {
            started = Instant::now();
        }
        scores.clear();
        score_rows(decoder, &rows, threads, &mut |_, row| {
            // A row that cannot be scored gives none, which the comparison with the other side finds.
            scores.extend(
                row.unwrap_or_default()
                    .iter()
                    .map(|s| (s.logprob, s.rank, s.entropy)),
            );
            ControlFlow::Continue(())
        });
    }
    let wall_s = started.elapsed().as_secs_f64();
    if !with_scores {
        scores.clear();
    }
    Ok(json!({"wall_s": wall_s, "scores": scores}))
}

/// GFLOP/s of f32 products of two 1024 x 1024 matrices by the `gemm` crate, one product at a time
/// on each of `threads` threads, summed over them: best of several rounds.
fn peak(threads: usize) -> f64 {
    const SIZE: usize = 1024;
    const ROUNDS: usize = 20;
    let barrier = std::sync::Barrier::new(threads);
    let work = || {
        let (a, b, mut c) = (
            vec![0.5f32; SIZE * SIZE],
            vec![0.25f32; SIZE * SIZE],
            vec![0f32; SIZE * SIZE],
        );
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            barrier.wait();
            let started = Instant::now();
            square_product(SIZE, &a, &b, &mut c);
            seconds.push(started.elapsed().as_secs_f64());
        }
        seconds
    };
    let seconds: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        handles
            .into_iter()
            .filter_map(|handle| handle.join().ok())
            .collect()
    });
    let operations = 2.0 * (SIZE as f64).powi(3) / 1e9;
    // All threads start a round together, so their rates add up.
    let rounds = (0..ROUNDS).map(|round| seconds.iter().map(|s| operations / s[round]).sum());
    rounds.fold(0.0, f64::max)
}

#[expect(unsafe_code, reason = "the matrix product that peak is measured by")]
fn square_product(n: usize, a: &[f32], b: &[f32], c: &mut [f32]) {
    assert!(a.len() == n * n && b.len() == n * n && c.len() == n * n);
    let row = n as isize;
    // SAFETY: three whole n x n matrices stored by rows, c borrowed for writing only here.
    unsafe {
        gemm::gemm(
            n,
            n,
            n,
            c.as_mut_ptr(),
            1,
            row,
            false,
            a.as_ptr(),
            1,
            row,
            b.as_ptr(),
            1,
            row,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
