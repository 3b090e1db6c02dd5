//! Our half of `bench/run.py`: reads one JSON job a line from standard input, answers with JSON
//! lines. `bench/torch_side.py` and `bench/llama_side.py` do the same jobs with the peers.
//!
//!     cargo bench -p idiolect-engine --bench peers -- ROWS.json
//!
//! A training answers one line a step and waits for the line `step` before each, so that two
//! sides can take turns.
#![expect(
    clippy::print_stdout,
    reason = "the answer to a job goes to standard output"
)]

#[path = "peak/square.rs"]
mod square;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use idiolect_engine::adapter::Adapter;
use idiolect_engine::batch::TokenRow;
use idiolect_engine::config::Config;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::local::LocalModel;
use idiolect_engine::score::score_rows;
use idiolect_engine::text::Opening;
use idiolect_engine::threads::Threads;
use idiolect_engine::train::{Training, train_rows};
use idiolect_engine::weights::WeightFiles;
use idiolect_model::{
    Compute, Context, Generate, GenerateRequest, Lora, Rng, Sampling, Schedule, StepSize, Template,
    TrainEvent, TrainSettings,
};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Value, json};
use square::square_product;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// One row of tokens; every token from `completion_start` on is a target.
#[derive(Clone, Deserialize)]
struct Row {
    ids: Vec<u32>,
    completion_start: usize,
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
struct Prompt {
    text: String,
}

#[derive(Deserialize)]
struct Data {
    batches: BTreeMap<String, Vec<Vec<Row>>>,
    prompts: BTreeMap<String, Vec<Prompt>>,
    settings: Settings,
}

/// Adapters to train, started from a directory that PEFT wrote.
#[derive(Deserialize)]
struct LowRank {
    r: usize,
    alpha: f64,
    from: PathBuf,
}

/// A job as `run.py` writes it; what another kind of job or side needs is ignored.
#[derive(Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
enum Job {
    Train {
        model: PathBuf,
        batches: String,
        threads: usize,
        lora: Option<LowRank>,
        #[serde(default)]
        compute: Compute,
        #[serde(default)]
        gradient_checkpointing: bool,
    },
    Score {
        model: PathBuf,
        batches: String,
        #[serde(default)]
        with_scores: bool,
        threads: usize,
        #[serde(default)]
        compute: Compute,
    },
    Generate {
        model: PathBuf,
        prompts: String,
        samples: usize,
        new_tokens: usize,
        threads: usize,
        #[serde(default)]
        compute: Compute,
    },
    Peak {
        threads: usize,
        #[serde(default)]
        compute: Compute,
    },
}

fn main() -> Fallible<()> {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args_os().skip(1).filter(|a| a != "--bench");
    let Some(rows) = arguments.next() else {
        println!("peers: no ROWS.json was given; `python bench/run.py` makes it and runs this");
        return Ok(());
    };
    let data: Data = serde_json::from_slice(&std::fs::read(rows)?)?;
    print(&json!({"idiolect": env!("CARGO_PKG_VERSION")}))?;
    while let Some(line) = next_line()? {
        answer(&data, serde_json::from_str(&line)?)?;
    }
    Ok(())
}

fn print(value: &Value) -> Fallible<()> {
    println!("{value}");
    Ok(std::io::stdout().flush()?)
}

fn next_line() -> Fallible<Option<String>> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line)?;
    Ok((read > 0).then_some(line))
}

fn load(directory: &Path, compute: Compute) -> Fallible<Decoder> {
    let config: Value = serde_json::from_slice(&std::fs::read(directory.join("config.json"))?)?;
    let model = Config::read(&config)?.model;
    let (weights, _) = WeightFiles::open(directory)?.read_as_stored(&model)?;
    Ok(Decoder::new(model, weights)?.with_compute(compute)?)
}

/// The same model with the adapters of a directory, whose tensors bear the names that ours do.
fn with_adapter(decoder: Decoder, lora: &LowRank) -> Fallible<Decoder> {
    let settings = Lora {
        r: lora.r,
        alpha: lora.alpha,
        rslora: false,
        dropout: 0.0,
        targets: Vec::new(),
    };
    let mut adapter = Adapter::zeros(decoder.config(), settings)?;
    let bytes = std::fs::read(lora.from.join("adapter_model.safetensors"))?;
    let file = SafeTensors::deserialize(&bytes)?;
    for tensor in adapter.tensors().to_vec() {
        let stored = file.tensor(&tensor.name)?;
        let values = stored.data().chunks_exact(4);
        let own = &mut adapter.values_mut()[tensor.range.clone()];
        if stored.dtype() != Dtype::F32 || values.len() != own.len() {
            return Err(format!("`{}` does not fit the model", tensor.name).into());
        }
        for (to, from) in own.iter_mut().zip(values) {
            *to = f32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        }
    }
    Ok(decoder.with_adapter(adapter))
}

fn answer(data: &Data, job: Job) -> Fallible<()> {
    let batches = |name: &str| {
        data.batches
            .get(name)
            .ok_or_else(|| format!("no batches `{name}`"))
    };
    match job {
        Job::Train {
            model,
            batches: name,
            threads,
            lora,
            compute,
            gradient_checkpointing,
        } => {
            let decoder = load(&model, compute)?;
            let decoder = match &lora {
                Some(lora) => with_adapter(decoder, lora)?,
                None => decoder,
            };
            let settings = TrainSettings {
                gradient_checkpointing,
                ..settings_of(&data.settings)
            };
            train(decoder, batches(&name)?, settings, &pool(threads)?)
        }
        Job::Score {
            model,
            batches: name,
            with_scores,
            threads,
            compute,
        } => score(
            &load(&model, compute)?,
            batches(&name)?,
            with_scores,
            &pool(threads)?,
        ),
        Job::Generate {
            model,
            prompts: name,
            samples,
            new_tokens,
            threads,
            compute,
        } => {
            let model = (&*model, compute);
            let prompts = data.prompts.get(&name);
            let prompts = prompts.ok_or_else(|| format!("no prompts `{name}`"))?;
            generate(model, prompts, samples, new_tokens, threads)
        }
        Job::Peak { threads, compute } => {
            let gflops = match compute {
                Compute::F32 => Some(peak(threads)),
                Compute::Bf16 => bf16_peak(threads),
            };
            print(&json!({"gflops": gflops}))
        }
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
        completion_start: row.completion_start,
        weight: 1.0,
        loss_mask: Vec::new(),
    })
}

/// Steps that one job can do; no bench asks for more.
const STEPS: usize = 400;

fn settings_of(s: &Settings) -> TrainSettings {
    TrainSettings {
        lr: s.lr,
        schedule: Schedule::Constant,
        weight_decay: s.weight_decay,
        betas: s.betas,
        epsilon: s.epsilon,
        max_grad_norm: s.clip,
        ..TrainSettings::default()
    }
}

/// Steps over the batches in turn, each when the other end asks for it.
///
/// Training shuffles the rows of an epoch by a generator keyed by the seed; they are laid down
/// where that shuffle picks them up, so that both sides see the same batches in the same order.
fn train(
    mut decoder: Decoder,
    batches: &[Vec<Row>],
    settings: TrainSettings,
    threads: &Threads,
) -> Fallible<()> {
    let wanted: Vec<TokenRow> = (0..STEPS)
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
        step_size: StepSize::Rows(batches[0].len()),
        ..settings
    };
    let training = Training {
        rows: &rows,
        dev: &[],
        settings: &settings,
        place: None,
    };
    let (mut started, mut fault) = (Instant::now(), None);
    train_rows(&mut decoder, training, threads, &mut |event| {
        if let TrainEvent::Step { loss, .. } = event {
            let wall_s = started.elapsed().as_secs_f64();
            if let Err(error) = print(&json!({"wall_s": wall_s, "loss": loss})) {
                fault = Some(error);
            }
        }
        if matches!(event, TrainEvent::Step { .. } | TrainEvent::Started { .. }) {
            match next_line() {
                Ok(Some(line)) if line.trim() == "step" => started = Instant::now(),
                _ => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    })?;
    fault.map_or_else(|| print(&json!({"done": true})), Err)
}

/// Log-probability, rank and entropy of every target; the model is loaded before the clock starts.
fn score(
    decoder: &Decoder,
    batches: &[Vec<Row>],
    with_scores: bool,
    threads: &Threads,
) -> Fallible<()> {
    let rows: Vec<TokenRow> = batches.iter().flat_map(|batch| token_rows(batch)).collect();
    let mut scores = Vec::new();
    let started = Instant::now();
    score_rows(decoder, &rows, threads, &mut |_, row| {
        // A row that cannot be scored gives none, which the comparison with the other side finds.
        scores.extend(
            row.unwrap_or_default()
                .iter()
                .map(|s| (s.logprob, s.rank, s.entropy)),
        );
        ControlFlow::Continue(())
    });
    let wall_s = started.elapsed().as_secs_f64();
    if !with_scores {
        scores.clear();
    }
    print(&json!({"wall_s": wall_s, "scores": scores}))
}

/// `samples` completions of at most `new_tokens` tokens for every prompt, at temperature 1, from
/// text to text; the model is loaded before the clock starts.
fn generate(
    (model, compute): (&Path, Compute),
    prompts: &[Prompt],
    samples: usize,
    new_tokens: usize,
    threads: usize,
) -> Fallible<()> {
    let opening = Opening {
        template: Some(Template::Raw),
        compute,
        ..Opening::default()
    };
    let mut model = LocalModel::open(model, &opening, threads)?;
    let requests: Vec<GenerateRequest> = prompts
        .iter()
        .flat_map(|p| std::iter::repeat_n(p, samples))
        .zip(0..)
        .map(|(p, seed)| GenerateRequest {
            context: Context::Prompt(p.text.clone()),
            seed,
        })
        .collect();
    let sampling = Sampling {
        max_tokens: new_tokens,
        ..Sampling::default()
    };
    let (mut tokens, mut refused) = (0, None);
    let started = Instant::now();
    model.generate(&requests, &sampling, &mut |_, completion| {
        match completion {
            Ok(completion) => tokens += completion.n_tokens,
            Err(error) => refused = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    let wall_s = started.elapsed().as_secs_f64();
    match refused {
        Some(error) => Err(error.into()),
        None => print(&json!({"wall_s": wall_s, "tokens": tokens})),
    }
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
    best_rate(threads, ROUNDS, 2.0 * (SIZE as f64).powi(3) / 1e9, work)
}

/// GFLOP/s of `vdpbf16ps` on registers alone, on each of `threads` threads, summed over them: what no
/// product of bf16 factors exceeds. Best of several rounds; none on a machine without it.
#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    clippy::needless_range_loop,
    reason = "an instruction that was just found; an index keeps the sums in registers"
)]
fn bf16_peak(threads: usize) -> Option<f64> {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_reduce_add_ps,
        _mm512_set1_epi16, _mm512_setzero_ps,
    };

    const STEPS: usize = 2_000_000;
    const SUMS: usize = 12;
    const ROUNDS: usize = 20;
    /// Independent sums, so that no step waits for the one before.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn sums(steps: usize) -> f32 {
        let mut sums = [_mm512_setzero_ps(); SUMS];
        let value = || std::hint::black_box(_mm512_set1_epi16(0x3f80));
        // SAFETY: vectors of one size.
        let [a, b] =
            unsafe { std::mem::transmute::<[__m512i; 2], [__m512bh; 2]>([value(), value()]) };
        for _ in 0..steps {
            for i in 0..SUMS {
                sums[i] = _mm512_dpbf16_ps(sums[i], a, b);
            }
        }
        let mut total = sums[0];
        for i in 1..SUMS {
            total = _mm512_add_ps(total, sums[i]);
        }
        _mm512_reduce_add_ps(total)
    }
    if !(std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bf16")) {
        return None;
    }
    let barrier = std::sync::Barrier::new(threads);
    let work = || {
        let seconds = (0..ROUNDS).map(|_| {
            barrier.wait();
            let started = Instant::now();
            // SAFETY: both features were found.
            std::hint::black_box(unsafe { sums(STEPS) });
            started.elapsed().as_secs_f64()
        });
        seconds.collect::<Vec<f64>>()
    };
    // 16 lanes of two products and two sums each.
    Some(best_rate(
        threads,
        ROUNDS,
        (STEPS * SUMS * 64) as f64 / 1e9,
        work,
    ))
}

#[cfg(not(target_arch = "x86_64"))]
fn bf16_peak(_: usize) -> Option<f64> {
    None
}

/// The best round's rates summed over threads that begin each round together: seconds of each round
/// are what `work` returns.
fn best_rate(
    threads: usize,
    rounds: usize,
    operations: f64,
    work: impl Fn() -> Vec<f64> + Sync,
) -> f64 {
    let seconds: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        let joined = handles.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined.filter_map(Result::ok).collect()
    });
    let rates = (0..rounds).map(|round| seconds.iter().map(|s| operations / s[round]).sum());
    rates.fold(0.0, f64::max)
}
