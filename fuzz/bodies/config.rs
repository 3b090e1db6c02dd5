//! Any bytes as a `config.json`: refused with a reason, or a model that a decoder computes with.

use idiolect_engine::config::Config;
use idiolect_engine::decoder::Decoder;
use idiolect_engine::forward::logits;
use idiolect_engine::threads::Threads;

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let Ok(value) = serde_json::from_slice(data) else {
        return;
    };
    let Ok(config) = Config::read(&value) else {
        return;
    };
    let model = config.model;
    model.check().expect("the sizes of a config fit each other");
    // What is small enough to be made is computed: three tokens.
    if model.n_parameters() < 50_000 {
        let vocab = model.vocab;
        let decoder = Decoder::random(model, 0, config.initial_sd).expect("a checked config");
        let ids = [0, (vocab - 1) as u32, 0];
        assert_eq!(logits(&decoder, &ids, &Threads::single()).len(), 3 * vocab);
    }
}
