//! What the engine computes against what PyTorch and transformers compute: `fixtures/parity`.

mod agree;
mod fixture;
mod reading;
