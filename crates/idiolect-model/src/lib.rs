//! The model interface: what a language model can be asked, and the plain values that cross.
//!
//! A local engine, a remote endpoint and the scripted fake implement the same traits: [`Generate`]
//! writes completions, [`Score`] scores the tokens of given ones, [`Train`] makes a model directory
//! out of examples. Slices in, results out through a sink, one entry may fail alone; batching and
//! concurrency are the implementer's business. A sink gets each index exactly once, in any order,
//! and may stop the work by returning [`ControlFlow::Break`](std::ops::ControlFlow::Break).

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
pub use info::{Capabilities, Model, ModelInfo, Usage};
pub use rng::Rng;
pub use score::{Distribution, Example, RowTraits, Score, Scored, Span, TokenScore, TraitCounts};
pub use train::{
    Lookahead, LookaheadSettings, Lora, SaveDtype, Schedule, StepSize, Train, TrainEvent,
    TrainPlan, TrainSettings, TrainSummary,
};
