#![doc = include_str!("../README.md")]

pub mod event_file;
pub mod exit;
pub mod hub;
pub mod interrupt;
pub mod launch;
pub mod model;
pub mod progress;
pub mod run;
pub mod sandbox;
pub mod serve;
mod shown;
pub mod stage;
pub mod terminal;
pub mod torch;
pub mod trl;
