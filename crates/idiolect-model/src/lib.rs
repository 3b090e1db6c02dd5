#![doc = include_str!("../README.md")]

pub mod budget;
mod context;
mod error;
mod generate;
mod hash;
mod info;
mod rng;
mod score;
pub mod scripted;
mod train;

pub use context::{ChatFields, Context, Message, Template};
pub use error::{ModelError, RowError, RowErrorKind, Sink};
pub use generate::{Completion, Finish, Generate, GenerateRequest, Sampling};
pub use hash::content_hash;
pub use info::{Capabilities, Compute, Model, ModelInfo, Usage};
pub use rng::Rng;
pub use score::{Distribution, Example, RowTraits, Score, Scored, Span, TokenScore, TraitCounts};
pub use train::{
    Lookahead, LookaheadSettings, Lora, SaveDtype, Schedule, StepSize, Train, TrainEvent,
    TrainPlan, TrainSettings, TrainSummary,
};
