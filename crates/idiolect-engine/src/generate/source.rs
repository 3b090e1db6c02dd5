//! The interface between the writers and whoever asks: requests in, completions out.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use idiolect_model::{Finish, RowError, Sampling};

use super::text::Text;

/// Where requests come from and where completions go.
pub(crate) trait Source {
    /// One completion to write.
    type Request;

    /// The next requests, all with one context; none where none waits now.
    fn claim(&mut self) -> VecDeque<Self::Request>;

    /// Waits until there is a request to claim; `false` where none will come any more.
    fn wait(&mut self) -> bool;

    /// The tokens that a request's completion follows.
    fn encode(&self, request: &Self::Request) -> Result<Vec<u32>, RowError>;

    /// Whether two requests follow the same tokens.
    fn same_context(&self, a: &Self::Request, b: &Self::Request) -> bool;

    /// How a request's tokens are chosen.
    fn sampling<'r>(&'r self, request: &'r Self::Request) -> &'r Sampling;

    /// Seeds a request's own generator.
    fn seed(&self, request: &Self::Request) -> u64;

    /// The most probable tokens that a request wants to know of at each place.
    fn n_top(&self, request: &Self::Request) -> usize;

    /// Whether anybody still waits for it; one that is not wanted leaves its slot.
    fn wanted(&self, request: &Self::Request) -> bool;

    /// A token was added to a request's text, which goes on.
    fn grown(&mut self, request: &mut Self::Request, text: &Text);

    /// A request ended or failed. Breaking stops the work.
    fn ended(&mut self, request: Self::Request, result: Result<Ended, RowError>)
    -> ControlFlow<()>;
}

/// A text that ended.
pub(crate) struct Ended {
    pub(super) text: Text,
    pub(super) finish: Finish,
    /// The end token, where one was drawn; no part of the text.
    pub(super) end: Option<Written>,
}

/// A token that was chosen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Written {
    /// Its id.
    pub id: u32,
    /// Log-probability under the model as it is, without temperature and filters; nats.
    pub logprob: f32,
    /// The most probable tokens at its place with their log-probabilities, the first choice first;
    /// as many as were asked for.
    pub top: Vec<(u32, f32)>,
}
