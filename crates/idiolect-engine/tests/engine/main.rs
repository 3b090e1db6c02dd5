//! What the engine computes against what PyTorch and transformers compute: `fixtures/parity`.

mod agree;
mod fixture;
mod mutation;
mod parity;
mod reading;
mod stories;
mod subject;
