//! Counters, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use idiolect_engine::local::live::LiveCounts;

/// What was done since the start.
#[derive(Default)]
pub(super) struct Metrics {
    answered: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Tokens of the prompts that were taken.
    pub(super) prompt_tokens: Counter,
    /// Requests whose client left before the answer was complete.
    pub(super) cancelled: Counter,
    /// Requests refused because too many waited.
    pub(super) queue_refusals: Counter,
}

/// A number that grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// A request was answered; of a stream, its beginning.
    pub(super) fn answered(&self, route: &'static str, status: u16) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered.entry((route, status)).or_default() += 1;
    }

    /// Requests answered in all.
    pub(super) fn n_answered(&self) -> u64 {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.values().sum()
    }

    /// All of it as text.
    pub(super) fn text(&self, counts: LiveCounts, scoring: usize) -> String {
        let mut text = String::new();
        head(
            &mut text,
            "requests_total",
            "counter",
            "Requests answered, by route and status.",
        );
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        for ((route, status), n) in &*answered {
            // Writing to a string does not fail; so too below.
            let _ = writeln!(
                text,
                "idiolect_requests_total{{route=\"{route}\",status=\"{status}\"}} {n}"
            );
        }
        let values = [
            (
                "sequences_running",
                "gauge",
                "Completions being written.",
                counts.running as u64,
            ),
            (
                "sequences_waiting",
                "gauge",
                "Completions that wait for a slot.",
                counts.waiting as u64,
            ),
            (
                "prompts_scoring",
                "gauge",
                "Prompts that wait for their scores.",
                scoring as u64,
            ),
            (
                "prompt_tokens_total",
                "counter",
                "Tokens of prompts taken.",
                self.prompt_tokens.get(),
            ),
            (
                "generation_tokens_total",
                "counter",
                "Tokens generated.",
                counts.generated,
            ),
            (
                "requests_cancelled_total",
                "counter",
                "Requests whose client left before the end.",
                self.cancelled.get(),
            ),
            (
                "queue_refusals_total",
                "counter",
                "Requests refused because the queue was full.",
                self.queue_refusals.get(),
            ),
        ];
        for (name, kind, help, value) in values {
            head(&mut text, name, kind, help);
            let _ = writeln!(text, "idiolect_{name} {value}");
        }
        text
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(
        text,
        "# HELP idiolect_{name} {help}\n# TYPE idiolect_{name} {kind}"
    );
}
