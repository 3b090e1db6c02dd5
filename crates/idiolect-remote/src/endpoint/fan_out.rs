//! Many requests side by side, their results on the caller's thread as they come.

use std::future::Future;
use std::sync::mpsc::{Sender, channel};

use idiolect_model::{ModelError, RowError, Sink};
use tokio::task::JoinSet;

use super::network;
use super::transport::Stop;

/// Besides those on the network, so many requests are made ready, for a sink that takes its time.
const READY: usize = 64;

/// Sends the result of one request, or that there is none, when it is dropped.
struct Answer<T> {
    index: usize,
    result: Option<Result<T, Stop>>,
    to: Sender<(usize, Result<T, Stop>)>,
}

impl<T> Answer<T> {
    fn give(mut self, result: Result<T, Stop>) {
        self.result = Some(result);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let lost = || {
            let reason = "a request was lost in the program itself".to_owned();
            Err(Stop::All(ModelError::Invalid(reason)))
        };
        // Nobody listens any more once the work was stopped.
        let _ = self
            .to
            .send((self.index, self.result.take().unwrap_or_else(lost)));
    }
}

/// Runs `n` requests, `in_flight` and some at a time, and gives each result to the sink. Where it
/// ends early, requests on their way are dropped.
pub(super) fn fan_out<T, F>(
    n: usize,
    in_flight: usize,
    mut start: impl FnMut(usize) -> Result<F, RowError>,
    sink: Sink<'_, T>,
) -> Result<(), ModelError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Stop>> + Send + 'static,
{
    let network = network()?;
    let most = in_flight.saturating_add(READY.min(in_flight));
    let (to, results) = channel();
    // Dropped at the end of this function, and what still runs with it.
    let mut tasks = JoinSet::new();
    let (mut next, mut outstanding) = (0, 0);
    loop {
        while next < n && outstanding < most {
            let index = next;
            next += 1;
            match start(index) {
                Ok(request) => {
                    let answer = Answer {
                        index,
                        result: None,
                        to: to.clone(),
                    };
                    tasks.spawn_on(async move { answer.give(request.await) }, &network);
                    outstanding += 1;
                }
                Err(error) => {
                    if sink(index, Err(error)).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        if outstanding == 0 {
            return Ok(());
        }
        while tasks.try_join_next().is_some() {}
        // Cannot fail: `to` lives.
        let Ok((index, result)) = results.recv() else {
            return Ok(());
        };
        outstanding -= 1;
        let row = match result {
            Ok(value) => Ok(value),
            Err(Stop::Row(error)) => Err(error),
            Err(Stop::All(error)) => return Err(error),
        };
        if sink(index, row).is_break() {
            return Ok(());
        }
    }
}
