//! Asking the servers of an endpoint until there is an answer, or it is known whose fault it is that
//! there is none.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use idiolect_model::{ModelError, Rng, RowError};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Method, Url};
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, sleep_until};

use super::Settings;
use super::refusal::{Fault, error_message};
use super::servers::{Asked, Servers};
use super::usage::Counters;
use crate::address::Base;
use crate::http::{self, Bounds, exchange};
use crate::pace::backoff;

/// The longest pause after rate limits that do not state how long.
const LONGEST_COOL_DOWN: Duration = Duration::from_secs(60);

/// How often a server is asked whether it lives before the work stops.
const LIFE_ATTEMPTS: u32 = 3;

/// What is sent; where to, below each base.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) path: Path,
    /// `None` for a GET.
    pub(super) body: Option<Arc<[u8]>>,
    /// Prompt tokens to be counted against the bound of those in flight.
    pub(super) prompt_tokens: usize,
}

/// A path of a server's API.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path {
    /// Below the base URL.
    Below(&'static str),
    /// Beside the `v1` that the base URL ends in.
    Beside(&'static str),
}

impl Call {
    pub(super) fn get(path: Path) -> Self {
        Self {
            path,
            body: None,
            prompt_tokens: 0,
        }
    }

    pub(super) fn post(path: Path, body: &Value) -> Self {
        Self {
            path,
            body: Some(body.to_string().into_bytes().into()),
            prompt_tokens: 0,
        }
    }

    fn url(&self, base: &Base) -> Url {
        match self.path {
            Path::Below(path) => base.join(path),
            Path::Beside(path) => base.beside(path),
        }
    }
}

/// Why a request has no answer and will have none.
#[derive(Debug)]
pub(super) enum Stop {
    /// It is this row's fault.
    Row(RowError),
    /// Nothing more can be asked.
    All(ModelError),
}

/// Reads what was asked for out of a reply.
pub(super) type Read<'a, T> = &'a (dyn Fn(&Value) -> Result<T, Fault> + Send + Sync);

/// The way to the servers, shared by all requests.
pub(super) struct Transport {
    client: Client,
    authorization: Option<HeaderValue>,
    bounds: Bounds,
    pub(super) settings: Settings,
    pub(super) servers: Servers,
    pub(super) counters: Counters,
    in_flight: Semaphore,
    prompt_tokens: Semaphore,
    /// A request that the servers are known to answer; it shows whether they live.
    life: OnceLock<Call>,
    /// When they were last asked that, and what came.
    lives: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Transport {
    pub(super) fn new(bases: Vec<Base>, settings: Settings) -> Result<Self, ModelError> {
        let invalid = |what: &str| ModelError::Invalid(what.to_owned());
        let loopback = bases.iter().all(Base::is_loopback);
        let client = http::builder(http::same_server_only(), loopback)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(settings.in_flight)
            .pool_idle_timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| {
                invalid(&format!("cannot use the network: {}", http::causes(&error)))
            })?;
        let authorization = match &settings.key {
            None => None,
            Some(key) => Some(
                key.header()
                    .ok_or_else(|| invalid("the key holds characters that no header can hold"))?,
            ),
        };
        Ok(Self {
            client,
            authorization,
            bounds: Bounds {
                timeout: settings.timeout,
                stall_timeout: settings.stall_timeout,
                max_body: settings.max_body,
                long_body: Arc::default(),
            },
            servers: Servers::new(bases),
            counters: Counters::default(),
            in_flight: Semaphore::new(settings.in_flight.clamp(1, Semaphore::MAX_PERMITS)),
            prompt_tokens: Semaphore::new(settings.token_permits() as usize),
            settings,
            life: OnceLock::new(),
            lives: Mutex::new(None),
        })
    }

    /// Sets the request that the servers are known to answer.
    pub(super) fn set_life(&self, call: Call) {
        // Set once, at opening.
        let _ = self.life.set(call);
    }

    /// Asks until there is an answer. `chance` keys the jitter of the pauses.
    pub(super) async fn ask<T>(
        &self,
        call: &Call,
        read: Read<'_, T>,
        chance: u64,
    ) -> Result<T, Stop> {
        let mut chance = Rng::keyed(chance, &["pauses"]);
        let mut failed = 0;
        let mut last_chance = false;
        let mut limited_since: Option<Instant> = None;
        let mut again = false;
        loop {
            let began = Instant::now();
            let (index, result) = self.attempt(call, read, again, &mut chance).await;
            again = true;
            let fault = match result {
                Ok(value) => {
                    self.servers.answered(index);
                    return Ok(value);
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::Row { error, .. } => {
                    self.servers.answered(index);
                    return Err(Stop::Row(error));
                }
                Fault::All(reason) => return Err(stop_all(reason)),
                Fault::Limited { wait, reason } => {
                    let own = *limited_since.get_or_insert(began);
                    let (pause, since) = self.limited(index, wait, &mut chance);
                    if self.is_spent(since, pause) || self.is_spent(own, pause) {
                        let reason = format!("the rate limit leaves no way on: {reason}");
                        return Err(if self.servers.answered_since(own) {
                            Stop::Row(RowError::other(reason))
                        } else {
                            stop_all(reason)
                        });
                    }
                }
                Fault::Failed {
                    reason,
                    wait,
                    unreachable,
                } => {
                    failed += 1;
                    if !self.settings.alive.is_alive() {
                        return Err(stop_all(reason));
                    }
                    let elsewhere = unreachable && self.servers.down(index);
                    if let Some(wait) = wait {
                        self.servers
                            .cool_down(index, wait.min(self.settings.patience));
                    }
                    if last_chance {
                        return Err(Stop::Row(RowError::other(format!(
                            "no answer to this request in {failed} attempts, while the server \
                             answered others: {reason}"
                        ))));
                    }
                    if failed >= self.settings.attempts {
                        self.lives(began, &mut chance).await.map_err(|death| {
                            stop_all(format!("no answer in {failed} attempts: {reason}{death}"))
                        })?;
                        last_chance = true;
                    }
                    if !elsewhere {
                        sleep(backoff(self.settings.backoff, failed, &mut chance)).await;
                    }
                }
            }
        }
    }

    /// Starts a cool-down after a rate limit; how long it is, and since when nothing but limits came.
    fn limited(
        &self,
        index: usize,
        wait: Option<Duration>,
        chance: &mut Rng,
    ) -> (Duration, Instant) {
        self.counters.limited();
        let (in_a_row, since) = self.servers.limited(index);
        let pause = wait.filter(|wait| !wait.is_zero()).unwrap_or_else(|| {
            backoff(self.settings.backoff, in_a_row, chance).min(LONGEST_COOL_DOWN)
        });
        self.servers.cool_down(index, pause);
        (pause, since)
    }

    /// Whether the patience for rate limits is spent, or will be before the only server may be asked
    /// again.
    fn is_spent(&self, since: Instant, pause: Duration) -> bool {
        let only = self.servers.bases().len() == 1;
        let pause = if only { pause } else { Duration::ZERO };
        since.elapsed().saturating_add(pause) > self.settings.patience
    }

    /// One exchange with the server that is best asked now; which one that was.
    async fn attempt<T>(
        &self,
        call: &Call,
        read: Read<'_, T>,
        again: bool,
        chance: &mut Rng,
    ) -> (usize, Result<T, Fault>) {
        let tokens = u32::try_from(call.prompt_tokens).unwrap_or(u32::MAX);
        let tokens = tokens.min(self.settings.token_permits());
        loop {
            // Neither semaphore is ever closed; what could not be had is not held.
            let _place = self.in_flight.acquire().await.ok();
            let _tokens = self.prompt_tokens.acquire_many(tokens).await.ok();
            match self.servers.pick() {
                Ok(asked) => {
                    self.counters.sent(again);
                    let result = self.once(call, &asked, read).await;
                    return (asked.index, result);
                }
                Err(until) => {
                    drop((_place, _tokens));
                    // Those that waited together do not come back at the same instant.
                    let spread = self.settings.backoff.mul_f64(chance.uniform());
                    sleep_until((until + spread).into()).await;
                }
            }
        }
    }

    async fn once<T>(&self, call: &Call, asked: &Asked<'_>, read: Read<'_, T>) -> Result<T, Fault> {
        let base = &self.servers.bases()[asked.index];
        let reply = self.send(call, base).await?;
        let value = serde_json::from_slice(&reply)
            .map_err(|error| Fault::failed(format!("{} sent no JSON: {error}", base.text())))?;
        read(&value).map_err(|fault| self.without_key(fault))
    }

    /// One exchange with one server; the body of a reply with status 200.
    pub(super) async fn send(&self, call: &Call, base: &Base) -> Result<Vec<u8>, Fault> {
        let method = if call.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let mut request = self.client.request(method, call.url(base));
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(body) = &call.body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_vec());
        }
        let reply = exchange(request, &self.bounds)
            .await
            .map_err(|fault| self.without_key(Fault::of_no_reply(fault).of_server(base.text())))?;
        if reply.status == 200 {
            return Ok(reply.body);
        }
        let key = self.settings.key.as_ref();
        Err(Fault::of_status(&reply, base.text(), key))
    }

    fn without_key(&self, fault: Fault) -> Fault {
        match &self.settings.key {
            None => fault,
            Some(key) => fault.map_reason(|reason| {
                // In the form of every server's message: one line, of bounded length.
                error_message(reason.as_bytes(), Some(key))
            }),
        }
    }

    /// Whether the servers live: some request was answered since `began`, or one that they are known
    /// to answer is now. The error names what came instead.
    async fn lives(&self, began: Instant, chance: &mut Rng) -> Result<(), String> {
        let Some(call) = self.life.get() else {
            return Err(String::new());
        };
        let mut known = self.lives.lock().await;
        if self.servers.answered_since(began) {
            return Ok(());
        }
        if let Some((_, result)) = known.as_ref().filter(|(at, _)| *at >= began) {
            return result.clone();
        }
        let mut result = Ok(());
        for attempt in 1..=LIFE_ATTEMPTS {
            let (index, reply) = self.attempt(call, &|_| Ok(()), true, chance).await;
            match reply {
                Ok(()) | Err(Fault::Row { .. } | Fault::Limited { .. }) => {
                    self.servers.answered(index);
                    result = Ok(());
                    break;
                }
                Err(fault) => {
                    if matches!(
                        fault,
                        Fault::Failed {
                            unreachable: true,
                            ..
                        }
                    ) {
                        self.servers.down(index);
                    }
                    result = Err(format!(
                        "; nor to one that it answered at the start: {}",
                        fault.reason()
                    ));
                }
            }
            sleep(backoff(self.settings.backoff, attempt, chance)).await;
        }
        *known = Some((Instant::now(), result.clone()));
        result
    }
}

fn stop_all(reason: String) -> Stop {
    Stop::All(ModelError::Invalid(reason))
}

impl Settings {
    /// Prompt tokens in flight as a semaphore counts them.
    fn token_permits(&self) -> u32 {
        u32::try_from(self.prompt_tokens_in_flight)
            .unwrap_or(u32::MAX)
            .clamp(1, u32::MAX >> 4)
    }
}
