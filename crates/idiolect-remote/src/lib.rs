#![doc = include_str!("../README.md")]

mod address;
mod endpoint;
mod http;
pub mod hub;
mod key;
pub mod loopback;
#[cfg(test)]
mod mock;
mod pace;
pub mod ray;
mod runtime;

pub use endpoint::{Alive, Batch, Endpoint, IdsRow, IdsScore, ScoringMethod, Settings};
pub use key::Key;
