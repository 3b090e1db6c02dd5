//! Where a training step's time goes: each operation of a model's shape alone, in GFLOP per CPU
//! second and as a share of what the `gemm` crate reaches on 1024³ products, one on each core.
//!
//! `cargo bench -p idiolect-engine --bench profile -- [tokens] [threads] [f32|bf16] [filter]`
//!
//! The shape is SmolLM2-135M's. Times are CPU seconds of all threads (waiting included), the best
//! of several rounds, because a shared machine makes wall time mean little.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the operations are compiled in from the engine's source with their tests, to be timed alone"
)]

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

#[path = "../src/ops/mod.rs"]
mod ops;
#[path = "peak/mod.rs"]
mod peak;
#[path = "../src/threads.rs"]
mod threads;
mod model_config {
    pub(crate) use idiolect_engine::model_config::{Activation, Rope};
}

use ops::arithmetic::Factors;
use ops::attention::{Backward, Heads, Segment};
use ops::cpu::{Cpu, CpuWorkspace};
use ops::head::loss::LossAndGradients;
use ops::head::{Head, Target};
use ops::operand::Stored;
use peak::{cpu_ns, peak};
use threads::Threads;

const HIDDEN: usize = 576;
const LAYERS: usize = 30;
const INTERMEDIATE: usize = 1536;
const VOCAB: usize = 49152;
const HEADS: usize = 9;
const KV: usize = 3;
const WIDTH: usize = 64;

struct Bench {
    threads: Threads,
    peak: f64,
    filter: String,
    /// CPU seconds, and operations, of a whole step.
    total: (f64, f64),
}

impl Bench {
    /// Times `run`, which does `flops` (or moves `bytes`), and is done `times` in a step.
    fn time(
        &mut self,
        name: &str,
        times: usize,
        flops: f64,
        bytes: f64,
        mut run: impl FnMut(&Threads),
    ) {
        if !name.contains(&self.filter) {
            return;
        }
        // The system's clock of CPU time is coarse, so a round runs often enough to take a while.
        let (mut best, mut repeat, mut rounds) = (f64::INFINITY, 1, 0);
        while rounds < 6 {
            let (wall, before) = (Instant::now(), cpu_ns());
            (0..repeat).for_each(|_| run(&self.threads));
            if wall.elapsed() < Duration::from_millis(80) {
                repeat *= 2;
                continue;
            }
            best = best.min((cpu_ns() - before) as f64 / 1e9 / f64::from(repeat));
            rounds += 1;
        }
        self.total.0 += best * times as f64;
        self.total.1 += flops * times as f64;
        println!(
            "{name:28} x{times:<3} {:8.2} ms  {:7.1} GFLOP/s/core {:5.1}%  {:6.1} GB/s/core",
            best * 1e3,
            flops / best / 1e9,
            100.0 * flops / best / 1e9 / self.peak,
            bytes / best / 1e9,
        );
    }
}

fn random(n: usize, scale: f32) -> Vec<f32> {
    let mut state = 12345u32;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

fn main() {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let n: usize = arguments
        .next()
        .and_then(|a| a.parse().ok())
        .unwrap_or(1024);
    let count: usize = arguments.next().and_then(|a| a.parse().ok()).unwrap_or(2);
    let factors = match arguments.next().as_deref() {
        Some("bf16") => Factors::bf16().expect("a machine with AVX-512 for bf16"),
        _ => Factors::F32,
    };
    let filter = arguments.next().unwrap_or_default();
    let threads = Threads::new(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN));
    let peak = peak(count);
    println!("peak {peak:.1} GFLOP/s per core, {n} tokens, {count} threads");
    let memory = &mut CpuWorkspace::default();
    let mut bench = Bench {
        threads,
        peak,
        filter,
        total: (0.0, 0.0),
    };
    let ld = ops::leading_dim(n);
    let shape = (n, ld);
    let segment = 256.min(n);
    let segments: Vec<Segment> = (0..n / segment)
        .map(|i| Segment {
            start: i * segment,
            len: segment,
        })
        .collect();

    for (name, o, i) in [
        ("qkv", (HEADS + 2 * KV) * WIDTH, HIDDEN),
        ("output", HIDDEN, HEADS * WIDTH),
        ("gate_up", 2 * INTERMEDIATE, HIDDEN),
        ("down", HIDDEN, INTERMEDIATE),
    ] {
        let weight = random(o * i, 0.05);
        let mut d_weight = vec![0.0; o * i];
        let mut x = random(i * ld, 1.0);
        let mut y = random(o * ld, 1.0);
        ops::clear_beyond(&mut x, n, ld);
        ops::clear_beyond(&mut y, n, ld);
        let mut tokens = vec![0.0; n * ops::leading_dim(i)];
        let flops = 2.0 * (o * i * n) as f64;
        let bytes = 4.0 * (o * i + (o + i) * n) as f64;
        bench.time(&format!("{name} forward"), LAYERS, flops, bytes, |t| {
            Cpu::new(t, memory).linear(
                factors,
                &mut y,
                (Stored::F32(&weight), &[]),
                &x,
                None,
                shape,
            );
        });
        bench.time(&format!("{name} d_input"), LAYERS, flops, bytes, |t| {
            Cpu::new(t, memory).linear_d_input(factors, &mut x, Stored::F32(&weight), &y, shape);
        });
        bench.time(&format!("{name} d_weight"), LAYERS, flops, bytes, |t| {
            Cpu::new(t, memory).linear_d_weight(
                factors,
                (&mut d_weight, &mut []),
                &y,
                &x,
                shape,
                &mut tokens,
            );
        });
    }

    let heads = Heads {
        n: HEADS,
        kv: KV,
        head_dim: WIDTH,
        window: None,
        softcap: None,
    };
    let qkv = random((HEADS + 2 * KV) * WIDTH * ld, 0.3);
    let mut out = vec![0.0; HEADS * WIDTH * ld];
    let mut lse = vec![0.0; HEADS * ld];
    // Two products over half of the square.
    let flops: f64 = segments
        .iter()
        .map(|s| 4.0 * (HEADS * WIDTH * s.len * (s.len + 1) / 2) as f64)
        .sum();
    bench.time("attention forward", LAYERS, flops, 0.0, |t| {
        Cpu::new(t, memory).attention(&heads, (&segments, ld), &mut out, &mut lse, &qkv);
    });
    let d_out = random(HEADS * WIDTH * ld, 1.0);
    let mut d_qkv = vec![0.0; qkv.len()];
    bench.time("attention backward", LAYERS, 2.5 * flops, 0.0, |t| {
        Cpu::new(t, memory).attention_backward(Backward {
            heads: &heads,
            segments: &segments,
            ld,
            d_qkv: &mut d_qkv,
            d_out: &d_out,
            out: &out,
            lse: &lse,
            qkv: &qkv,
        });
    });
    drop((qkv, out, d_out, d_qkv));

    let mut gate_up = random(2 * INTERMEDIATE * ld, 1.0);
    let mut gated = random(INTERMEDIATE * ld, 1.0);
    let bytes = 4.0 * (3 * INTERMEDIATE * n) as f64;
    bench.time("gate forward", LAYERS, 0.0, bytes, |t| {
        Cpu::new(t, memory).gate(model_config::Activation::Silu, &mut gated, &gate_up, ld);
    });
    bench.time("gate backward", LAYERS, 0.0, 2.0 * bytes, |t| {
        Cpu::new(t, memory).gate_backward(
            model_config::Activation::Silu,
            &mut gate_up,
            &mut gated,
            ld,
        );
    });
    drop((gate_up, gated));

    let x = random(HIDDEN * ld, 1.0);
    let mut y = x.clone();
    let ones = vec![1.0; HIDDEN];
    let weight = ops::norm::NormWeight {
        values: &ones,
        plus_one: false,
    };
    let mut rstd = vec![0.0; ld];
    let bytes = 4.0 * (HIDDEN * n) as f64;
    bench.time("norm forward", 2 * LAYERS + 1, 0.0, 3.0 * bytes, |t| {
        ops::norm::compute_rstd(&mut rstd, &x, ld, 1e-5);
        Cpu::new(t, memory).normalize(&mut y, &x, &rstd, weight, &[]);
    });
    bench.time("norm again", 2 * LAYERS, 0.0, 2.0 * bytes, |t| {
        Cpu::new(t, memory).normalize(&mut y, &x, &rstd, weight, &[]);
    });
    let mut means = vec![0.0; ld];
    let mut d_weight = vec![0.0; HIDDEN];
    let d = x.clone();
    bench.time("norm backward", 2 * LAYERS + 1, 0.0, 6.0 * bytes, |t| {
        Cpu::new(t, memory).rms_norm_backward(ops::norm::Backward {
            d_input: &mut y,
            add: true,
            d_weight: &mut d_weight,
            d_output: &d,
            input: &x,
            rstd: &rstd,
            weight,
            means: &mut means,
        });
    });
    let mut angles = ops::rope::Angles::default();
    let frequencies: Vec<f64> = (0..WIDTH / 2)
        .map(|i| 1e4f64.powf(-2.0 * i as f64 / WIDTH as f64))
        .collect();
    let positions: Vec<u32> = (0..n).map(|i| (i % segment) as u32).collect();
    angles.fill(&frequencies, &positions, ld);
    bench.time("rotate", 2 * LAYERS, 0.0, 2.0 * bytes, |t| {
        Cpu::new(t, memory).rotate(&mut y, ld, &angles, ops::rope::Rotation::Forward, 1.0);
    });

    let embedding = random(VOCAB * HIDDEN, 0.05);
    let mut d_weight = vec![0.0; VOCAB * HIDDEN];
    let ids: Vec<u32> = (0..n).map(|i| (i * 7919 % VOCAB) as u32).collect();
    bench.time("embed", 1, 0.0, 2.0 * bytes, |t| {
        Cpu::new(t, memory).embed(&mut y, ld, Stored::F32(&embedding), &ids, 1.0);
    });
    bench.time("embed backward", 1, 0.0, 3.0 * bytes, |_| {
        ops::embed::embed_backward(&mut d_weight, &y, ld, &ids, 1.0);
    });
    let targets: Vec<Target> = (0..n)
        .map(|lane| Target {
            lane,
            token: (lane * 31 % VOCAB) as u32,
            weight: 1.0 / n as f32,
        })
        .collect();
    let mut logprobs = vec![0.0; n];
    let mut buffer = ops::Buffer::default();
    bench.time(
        "head loss and gradients",
        1,
        6.0 * (VOCAB * HIDDEN * n) as f64,
        0.0,
        |t| {
            Cpu::new(t, memory).loss_and_gradients(LossAndGradients {
                head: Head {
                    weight: Stored::F32(&embedding),
                    width: HIDDEN,
                    softcap: None,
                    factors,
                },
                hidden: &x,
                ld,
                targets: &targets,
                d_hidden: &mut y,
                d_weight: &mut d_weight,
                logprobs: &mut logprobs,
                buffer: &mut buffer,
            });
        },
    );
    drop((buffer, embedding, d_weight));

    let p = 134_515_008 / 4;
    let [mut a, mut b, mut c] = [0.1, 0.2, 0.3].map(|v| vec![v; p]);
    let mut g = random(p, 1e-3);
    let bytes = 4.0 * p as f64;
    let settings = ops::adamw::AdamW {
        lr: 1e-3,
        betas: (0.9, 0.95),
        epsilon: 1e-8,
        weight_decay: 0.1,
        t: 3,
        bf16: false,
    };
    bench.time("gradient norm (a quarter)", 4, 0.0, bytes, |t| {
        std::hint::black_box(Cpu::new(t, memory).gradient_norm(&g));
    });
    bench.time("adamw (a quarter)", 4, 0.0, 8.0 * bytes, |t| {
        let parts = [&mut a[..], &mut b, &mut c, &mut g];
        Cpu::new(t, memory).adamw(settings, 0.5, parts);
    });
    let (s, flops) = bench.total;
    println!(
        "step: {:.2} CPU s, {:.0} GFLOP, {:.1} GFLOP/s/core, {:.1}% of peak",
        s,
        flops / 1e9,
        flops / s / 1e9,
        100.0 * flops / s / 1e9 / bench.peak
    );
}
