//! What idiolect knows without a tensor, a socket or a clock: the records and their files, the
//! tasks and their verification, flaws, scores, arms and statistics.
//!
//! Everything here is a total function on parsed values; only [`store`] touches files.

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
pub mod record;
pub mod scores;
pub mod statistics;
pub mod store;
pub mod task;
