//! How an endpoint is used.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Key;

/// How an endpoint is used: its key, how much is asked at once, how long is waited.
///
/// `Default` has no key; [`Settings::from_env`] is what a program wants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sent to the server, where it wants a key.
    pub key: Option<Key>,
    /// The most requests on the network at once.
    pub in_flight: usize,
    /// The most prompt tokens on the network at once while scoring.
    pub prompt_tokens_in_flight: usize,
    /// How long one attempt may take until its whole reply is there.
    pub timeout: Duration,
    /// How long a reply that has begun may pause.
    pub stall_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// The longest reply that is read, bytes.
    pub max_body: usize,
    /// How often a request is sent before the server is asked whether it lives; after that, once more.
    pub attempts: u32,
    /// The pause after a first failure; it doubles with each further one.
    pub backoff: Duration,
    /// How long a server may do nothing but limit the rate (status 429) before the work stops.
    pub patience: Duration,
    /// Whether the log-probabilities of what is written are asked for.
    pub logprobs: bool,
    /// Whether the server still runs, where that is known: one that does not is asked nothing more.
    pub alive: Alive,
}

/// Tells whether a server still runs; one of which nothing is known does.
#[derive(Clone, Default)]
pub struct Alive(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Alive {
    /// As `tell` tells it.
    pub fn told_by(tell: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub(super) fn is_alive(&self) -> bool {
        self.0.as_ref().is_none_or(|tell| tell())
    }
}

impl fmt::Debug for Alive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alive(..)")
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key: None,
            in_flight: 64,
            prompt_tokens_in_flight: 65_536,
            timeout: Duration::from_secs(600),
            stall_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(10),
            max_body: 64 << 20,
            attempts: 6,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(30 * 60),
            logprobs: true,
            alive: Alive::default(),
        }
    }
}

impl Settings {
    /// The defaults with the key of the environment: `IDIOLECT_API_KEY`, else `OPENAI_API_KEY`.
    pub fn from_env() -> Self {
        Self {
            key: Key::from_env(),
            ..Self::default()
        }
    }
}
