//! What the engine computes against what PyTorch and transformers compute: `fixtures/parity`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets what it cannot use should stop there"
)]

mod adapters;
mod agree;
mod configs;
mod corpus;
mod fixture;
mod hostile;
mod mutation;
mod own_samples;
mod parity;
mod reading;
mod stories;
mod subject;
mod templates;
