//! Asking a model until it is done or the user stops it.

use std::ops::ControlFlow;

use idiolect_model::{Completion, Generate, GenerateRequest, RowError, Sampling};

use super::StageError;
use crate::interrupt::Stop;

/// Asks a model and passes its answers on as they come, in any order, until done or stopped.
pub(super) fn ask(
    model: &mut dyn Generate,
    requests: &[GenerateRequest],
    sampling: &Sampling,
    stop: &Stop,
    mut each: impl FnMut(usize, Result<Completion, RowError>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let mut answers = Answers::default();
    model.generate(requests, sampling, &mut |index, result| {
        answers.take(each(index, result), stop)
    })?;
    answers.finished(requests.len(), stop)
}

/// Counts what a model answers, and states when it is to stop.
#[derive(Default)]
pub(super) struct Answers {
    count: usize,
    failed: Option<StageError>,
}

impl Answers {
    /// An answer was dealt with, or could not be.
    pub(super) fn take(&mut self, dealt: Result<(), StageError>, stop: &Stop) -> ControlFlow<()> {
        self.count += 1;
        match dealt {
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
            Ok(()) if stop.requested() => ControlFlow::Break(()),
            Ok(()) => ControlFlow::Continue(()),
        }
    }

    /// Why the work ended before its last answer, if it did.
    pub(super) fn finished(self, asked: usize, stop: &Stop) -> Result<(), StageError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.count == asked => Ok(()),
            None if stop.requested() => Err(StageError::Interrupted),
            None => Err(StageError::failed(
                format!("the model gave {} answers to {asked} requests", self.count),
                "this is a fault of the model's implementation",
            )),
        }
    }
}
