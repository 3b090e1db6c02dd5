//! A model behind a socket, as OpenAI's clients and vLLM's ask for it.
//!
//! One thread reads and writes sockets; the engine's threads write completions, which join the
//! batch when they come and leave it when they are done, and score prompts. Requests that wait are
//! bounded, and so is what each may send and how long it may take to. A run is shown to a browser
//! over the same connections. This is the only place of this crate that opens sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use idiolect_engine::local::LocalModel;
use idiolect_engine::tokenizer::Tokenizer;
use idiolect_model::{Model, ModelInfo};
use serde_json::{Value, json};

use self::error::ApiError;
use self::metrics::Metrics;
use self::scheduler::Scheduler;
use crate::interrupt::Stop;
use crate::progress::Progress;
use crate::stage::StageError;

mod answer;
mod chat;
mod completions;
mod connections;
mod error;
mod fields;
mod json;
mod logprobs;
mod metrics;
mod prompt;
mod request;
mod routes;
mod scheduler;
mod stream;
mod tokenize;
mod view;

use connections::Connections;
pub use view::view;

/// How a model is served.
#[derive(Debug)]
pub struct ServeSettings {
    /// The address to listen on; port 0 takes a free one.
    pub address: SocketAddr,
    /// What clients have to send.
    pub key: Option<String>,
    /// Names that clients may call the model; the first is shown.
    pub names: Vec<String>,
    /// Completions that may wait, and prompts that may wait for their scores.
    pub max_queue: usize,
    /// Bytes of a request's body.
    pub max_body: usize,
    /// Time that requests have to finish once the server stops.
    pub grace: Duration,
}

/// What a server did.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Requests answered.
    pub requests: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub generated_tokens: u64,
    /// Whether requests were dropped at the end, as they took longer than the grace.
    pub cut_off: bool,
}

/// What all requests share.
struct App {
    scheduler: Scheduler,
    metrics: Metrics,
    info: ModelInfo,
    names: Vec<String>,
    key: Option<String>,
    max_queue: usize,
    max_body: usize,
    started: u64,
    stopping: AtomicBool,
}

impl App {
    fn tokenizer(&self) -> &Tokenizer {
        self.scheduler.model.text_model().tokenizer()
    }

    /// Tokens of prompt and completion that the model holds.
    fn max_model_len(&self) -> usize {
        self.scheduler.model.max_position_embeddings()
    }

    /// Does what takes long, such as tokenizing a long text, beside the sockets.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|_| Err(ApiError::failed("the request could not be read")))
    }
}

/// What an answer's document begins with.
struct Head {
    id: String,
    created: u64,
}

impl Head {
    fn new(kind: &str) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let id = RandomState::new().hash_one(kind);
        Self {
            id: format!("{kind}-{id:016x}"),
            created: now(),
        }
    }

    /// The document of some choices, whole or a chunk.
    fn document(&self, app: &App, object: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": app.names[0],
            "choices": choices,
        })
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Threads that read requests beside the sockets.
const READERS: usize = 2;

/// Serves a model until it is asked to stop. `listening` is called once with the address.
pub fn serve(
    model: LocalModel,
    settings: &ServeSettings,
    listening: impl FnOnce(SocketAddr),
    (progress, stop): (&Progress, &Stop),
) -> Result<Served, StageError> {
    let address = settings.address;
    let failed = |error| cannot_listen(address, &error);
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?);
    let info = model.info().clone();
    let (scheduler, threads) = Scheduler::start(model, settings.max_queue).map_err(failed)?;
    let app = Arc::new(App {
        scheduler,
        metrics: Metrics::default(),
        info,
        names: settings.names.clone(),
        key: settings.key.clone(),
        max_queue: settings.max_queue,
        max_body: settings.max_body,
        started: now(),
        stopping: AtomicBool::new(false),
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(READERS)
        .build()
        .map_err(failed)?;
    let lost = || threads.iter().any(std::thread::JoinHandle::is_finished);
    let cut_off = runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let connections = Connections::new(routes::router(Arc::clone(&app)));
        let ended = || stop.requested() || lost();
        tokio::select! {
            () = connections.accept(&listener) => {}
            () = until(ended) => {}
            () = report(&app, progress) => {}
        }
        drop(listener);
        if lost() {
            return Err(StageError::failed("the engine ended unexpectedly", ""));
        }
        progress.note("serve", "stopping: no new requests, running ones finish");
        app.stopping.store(true, Ordering::Relaxed);
        app.scheduler.close();
        let all = tokio::time::timeout(settings.grace, connections.finish()).await;
        app.scheduler.abort();
        Ok(all.is_err())
    })?;
    runtime.shutdown_background();
    Ok(Served {
        requests: app.metrics.n_answered(),
        prompt_tokens: app.metrics.prompt_tokens.get(),
        generated_tokens: app.scheduler.queue.counts().generated,
        cut_off,
    })
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> StageError {
    StageError::failed(
        format!("cannot listen on {address}: {error}"),
        "--port 0 takes a free port",
    )
}

/// Returns once something is so.
async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Time between lines on how fast it goes.
const REPORT: Duration = Duration::from_secs(10);

/// Says every now and then how fast it goes, while there is something to do.
async fn report(app: &App, progress: &Progress) {
    let tokens = || {
        let counts = app.scheduler.queue.counts();
        (app.metrics.prompt_tokens.get(), counts.generated, counts)
    };
    let (mut prompts, mut generated, _) = tokens();
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(REPORT).await;
        let (new_prompts, new_generated, counts) = tokens();
        let seconds = last.elapsed().as_secs_f64();
        let rate = |new: u64, old: u64| (new - old) as f64 / seconds;
        if (new_prompts, new_generated) != (prompts, generated) || counts.running > 0 {
            progress.note(
                "serve",
                &format!(
                    "{:.1} prompt tokens/s, {:.1} generated tokens/s, {} running, {} waiting",
                    rate(new_prompts, prompts),
                    rate(new_generated, generated),
                    counts.running,
                    counts.waiting
                ),
            );
        }
        (prompts, generated, last) = (new_prompts, new_generated, Instant::now());
    }
}
