//! Any bytes as a `config.json`: refused with a reason, or facts that a decoder computes with.

use idiolect_engine::config::Config;
use idiolect_engine::decoder::{Decoder, logits};
use idiolect_engine::threads::Threads;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else {
        return;
    };
    let Ok(config) = Config::read(&value) else {
        return;
    };
    let facts = config.facts;
    facts.check().expect("a config's facts fit each other");
    // What is small enough to be made is computed: three tokens.
    if facts.n_parameters() < 50_000 {
        let vocab = facts.vocab;
        let decoder = Decoder::random(facts, 0, config.initial_sd).expect("checked facts");
        let ids = [0, (vocab - 1) as u32, 0];
        assert_eq!(logits(&decoder, &ids, &Threads::single()).len(), 3 * vocab);
    }
}
