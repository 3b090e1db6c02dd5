//! The transformer: load, score, train and sample, on the CPU.
//!
//! Knows nothing of tasks, arms, runs or networks; of `idiolect-core` it imports
//! [`idiolect_core::model`] and nothing else (a test checks it).

pub mod bpe;
pub mod config;
pub mod encode;
pub mod backward;
pub mod batch;
pub mod cached;
pub mod checkpoint;
pub mod decoder;
pub mod facts;
mod files;
pub mod parameters;
pub mod tokenizer;
pub mod weights;
pub mod score;
pub mod threads;
pub mod train;

mod ops;
