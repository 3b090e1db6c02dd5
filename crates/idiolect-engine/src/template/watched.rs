//! Work that may take too long, and is then given up.
//!
//! The engine counts instructions, and one instruction can read a value of any length: a loop that
//! compares two long lists would go on for hours within its fuel. Nothing can stop an instruction,
//! so what is not over soon goes on in a thread of its own, which nobody waits for beyond a limit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// How long a rendering may take. With all its fuel an ordinary one is over in two seconds.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// As much as the main thread has.
const STACK: usize = 8 << 20;

/// What `work` gives, done in another thread; an error once it takes longer than `limit`, and for
/// all that come after it: the thread still goes on.
///
/// # Errors
/// Why it was given up.
pub(super) fn watched<T: Send + 'static>(
    given_up: &AtomicBool,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let too_long = || {
        format!(
            "the chat template failed: one conversation takes longer than {} s",
            limit.as_secs_f64()
        )
    };
    if given_up.load(Ordering::Acquire) {
        return Err(too_long());
    }
    let (send, receive) = sync_channel(1);
    let run = move || drop(send.send(work()));
    Builder::new()
        .stack_size(STACK)
        .spawn(run)
        .map_err(|error| format!("no thread for the chat template: {error}"))?;
    receive.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            given_up.store(true, Ordering::Release);
            too_long()
        }
        RecvTimeoutError::Disconnected => "the chat template failed: a panic".to_owned(),
    })
}
