#![doc = include_str!("../README.md")]
#![warn(clippy::undocumented_unsafe_blocks)]
#![cfg_attr(
    test,
    expect(
        clippy::float_cmp,
        reason = "tests of bits compare bits: zeros, ones, equal runs"
    )
)]

pub mod adapter;
pub mod backward;
pub mod batch;
pub mod bpe;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod doctor;
pub mod encode;
pub mod forward;
pub mod frozen;
pub mod kv_cache;
pub mod local;
pub mod model_config;
pub mod parameters;
pub mod peft;
pub mod score;
pub mod template;
pub mod text;
pub mod threads;
pub mod tokenizer;
pub mod train;
pub mod weights;
pub mod workspace;

mod accumulate;
mod directory;
mod files;
mod generate;
mod gguf;
mod in_order;
mod lookahead;
mod memory;
mod ops;
mod sample;
mod spans;
#[cfg(test)]
mod tests;
