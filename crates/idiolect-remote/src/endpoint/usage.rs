//! What an endpoint was asked and what it spent.

use std::sync::atomic::{AtomicU64, Ordering};

use idiolect_model::Usage;

#[derive(Debug, Default)]
pub(super) struct Counters {
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    limited: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, again: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.retries.fetch_add(u64::from(again), Ordering::Relaxed);
    }

    pub(super) fn limited(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn tokens(&self, prompt: u64, completion: u64) {
        self.prompt_tokens.fetch_add(prompt, Ordering::Relaxed);
        self.completion_tokens
            .fetch_add(completion, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Usage {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Usage {
            prompt_tokens: of(&self.prompt_tokens),
            completion_tokens: of(&self.completion_tokens),
            requests: of(&self.requests),
            retries: of(&self.retries),
            limited: of(&self.limited),
        }
    }
}
