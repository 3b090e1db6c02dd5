#![doc = include_str!("../README.md")]

pub mod event_file;
pub mod exit;
pub mod hub;
pub mod interrupt;
pub mod model;
pub mod progress;
pub mod run;
pub mod sandbox;
pub mod serve;
pub mod stage;
