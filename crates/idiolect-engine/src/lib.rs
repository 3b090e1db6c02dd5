//! The transformer: load, score, train and sample, on the CPU.
//!
//! Knows nothing of tasks, arms, runs or networks; of `idiolect-core` it imports
//! [`idiolect_core::model`] and nothing else (a test checks it).

pub mod backward;
pub mod batch;
pub mod bpe;
pub mod cached;
pub mod checkpoint;
pub mod config;
pub mod decoder;
mod directory;
pub mod encode;
pub mod facts;
mod files;
mod generate;
pub mod parameters;
pub mod score;
pub mod threads;
mod sample;
pub mod tokenizer;
pub mod train;
pub mod weights;

mod ops;
