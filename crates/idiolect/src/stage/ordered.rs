//! Results in the order of their requests, whatever order a model finishes them in.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use idiolect_model::{Completion, Generate, GenerateRequest, RowError, Sampling};

use super::StageError;
use crate::interrupt::Stop;

/// Asks a model and passes its answers on in the order of the requests, until done or stopped.
pub(super) fn generate_in_order(
    model: &mut dyn Generate,
    requests: &[GenerateRequest],
    sampling: &Sampling,
    stop: &Stop,
    mut each: impl FnMut(usize, Result<Completion, RowError>) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let (mut order, mut failed) = (InOrder::new(), None);
    model.generate(requests, sampling, &mut |index, result| match order
        .put(index, result, &mut each)
    {
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
        Ok(()) if stop.requested() => ControlFlow::Break(()),
        Ok(()) => ControlFlow::Continue(()),
    })?;
    finished(failed, order.passed(), requests.len(), stop)
}

/// Why a model's work ended before its last result, if it did.
pub(super) fn finished(
    failed: Option<StageError>,
    passed: usize,
    asked: usize,
    stop: &Stop,
) -> Result<(), StageError> {
    match failed {
        Some(error) => Err(error),
        None if passed == asked => Ok(()),
        None if stop.requested() => Err(StageError::Interrupted),
        None => Err(StageError::failed(
            format!("the model gave {passed} results to {asked} requests"),
            "this is a fault of the model's implementation",
        )),
    }
}

/// Holds results that came before their turn.
pub(super) struct InOrder<T> {
    next: usize,
    waiting: BTreeMap<usize, T>,
}

impl<T> InOrder<T> {
    /// Expects indices from 0.
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes the result of `index` and passes on every result whose turn has come.
    pub(super) fn put<E>(
        &mut self,
        index: usize,
        result: T,
        mut each: impl FnMut(usize, T) -> Result<(), E>,
    ) -> Result<(), E> {
        self.waiting.insert(index, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            each(self.next - 1, result)?;
        }
        Ok(())
    }

    /// How many were passed on.
    pub(super) fn passed(&self) -> usize {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_out_in_order_of_their_requests() {
        let (mut order, mut out) = (InOrder::new(), Vec::new());
        for index in [2, 0, 3, 1, 4] {
            order
                .put(index, index * 10, |i, result| {
                    out.push((i, result));
                    Ok::<(), ()>(())
                })
                .unwrap();
        }
        assert_eq!(out, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
        assert_eq!(order.passed(), 5);
    }
}
