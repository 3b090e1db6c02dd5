#![doc = include_str!("../README.md")]

pub mod advice;
pub mod arms;
pub mod audit;
pub mod comparison;
pub mod control;
pub mod curation;
pub mod flaw;
pub mod metric;
pub mod miniature;
pub mod paraphrase;
pub mod race;
pub mod record;
pub mod scores;
pub mod statistics;
pub mod store;
pub mod task;
