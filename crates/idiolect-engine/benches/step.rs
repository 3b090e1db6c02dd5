//! Times one training step and one scoring pass: tokens a second and GFLOP/s, counting
//! 6 (training) or 2 (scoring) operations a parameter and token. Where the system states the
//! process's own CPU time, rates per CPU second are printed too: they hold on a busy machine.
//!
//! `cargo bench -p idiolect-engine --bench step -- [student|teacher|arm|135m] [threads]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use idiolect_engine::batch::TokenRow;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::model_config::{Family, ModelConfig, Sizes};
use idiolect_engine::score::score_rows;
use idiolect_engine::threads::Threads;
use idiolect_engine::train::{Training, train_rows};
use idiolect_model::{Rng, StepSize, TrainEvent, TrainSettings};

struct Shape {
    vocab: usize,
    hidden: usize,
    layers: usize,
    heads: (usize, usize),
    intermediate: usize,
    /// Rows of a step, tokens of a row, position of its first target, steps.
    rows: (usize, usize, usize, usize),
}

fn shape(name: &str) -> Shape {
    let student = Shape {
        vocab: 204,
        hidden: 64,
        layers: 3,
        heads: (4, 4),
        intermediate: 176,
        rows: (8, 129, 1, 150),
    };
    match name {
        "teacher" => Shape {
            hidden: 128,
            intermediate: 320,
            rows: (8, 129, 1, 60),
            ..student
        },
        "arm" => Shape {
            rows: (32, 31, 9, 200),
            ..student
        },
        "135m" => Shape {
            vocab: 49152,
            hidden: 576,
            layers: 30,
            heads: (9, 3),
            intermediate: 1536,
            rows: (4, 257, 64, 2),
        },
        _ => student,
    }
}

fn config(s: &Shape) -> ModelConfig {
    let sizes = Sizes {
        vocab: s.vocab,
        hidden: s.hidden,
        layers: s.layers,
        heads: s.heads.0,
        kv_heads: s.heads.1,
        head_dim: s.hidden / s.heads.0,
        intermediate: s.intermediate,
    };
    ModelConfig {
        tied: true,
        ..ModelConfig::new(Family::Llama, sizes)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let name = arguments.next().unwrap_or_default();
    let threads = arguments.next();
    let threads = Threads::new(threads.map_or(Ok(NonZeroUsize::MIN), |n| n.parse())?);
    let shape = shape(&name);
    let (per_step, length, completion_start, steps) = shape.rows;
    let mut rng = Rng::keyed(0, &["example", "step"]);
    let rows: Vec<TokenRow> = (0..per_step * steps)
        .map(|_| TokenRow {
            ids: (0..length).map(|_| rng.below(shape.vocab) as u32).collect(),
            completion_start,
            weight: 1.0,
            loss_mask: Vec::new(),
        })
        .collect();
    let mut decoder = Decoder::random(config(&shape), 0, 0.02)?;
    let parameters = decoder.parameters().values().len() as f64;
    let settings = TrainSettings {
        step_size: StepSize::Rows(per_step),
        ..TrainSettings::default()
    };
    let training = Training {
        rows: &rows,
        dev: &[],
        settings: &settings,
        place: None,
    };
    let (mut start, mut tokens) = (Clock::start(), 0);
    train_rows(&mut decoder, training, &threads, &mut |event| {
        match event {
            // The first step plans the buffers.
            TrainEvent::Step { step: 1, .. } => start = Clock::start(),
            TrainEvent::Step { tokens: n, .. } => tokens += n,
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    report("train", tokens, start, 6.0 * parameters);
    let start = Clock::start();
    let mut tokens = 0;
    score_rows(&decoder, &rows, &threads, &mut |i, _| {
        tokens += rows[i].n_inputs();
        ControlFlow::Continue(())
    });
    report("score", tokens, start, 2.0 * parameters);
    Ok(())
}

/// Wall time and, where Linux states it, CPU time.
struct Clock {
    wall: Instant,
    cpu_ns: Option<u64>,
}

impl Clock {
    fn start() -> Self {
        Self {
            wall: Instant::now(),
            cpu_ns: cpu_ns(),
        }
    }
}

/// Nanoseconds that the threads of this process have run.
fn cpu_ns() -> Option<u64> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let one = |path: std::path::PathBuf| {
        std::fs::read_to_string(path.join("schedstat"))
            .ok()?
            .split(' ')
            .next()?
            .parse::<u64>()
            .ok()
    };
    threads.flatten().map(|t| one(t.path())).sum()
}

fn report(what: &str, tokens: usize, start: Clock, operations: f64) {
    let rate = tokens as f64 / start.wall.elapsed().as_secs_f64();
    println!(
        "{what}: {rate:.0} tokens/s, {:.1} GFLOP/s",
        rate * operations / 1e9
    );
    if let (Some(before), Some(now)) = (start.cpu_ns, cpu_ns()) {
        let rate = tokens as f64 / ((now - before) as f64 / 1e9);
        println!(
            "    per CPU second: {rate:.0} tokens, {:.1} GFLOP",
            rate * operations / 1e9
        );
    }
}
