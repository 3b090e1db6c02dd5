//! Ctrl-C: the first asks the work to stop between rows or steps, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::exit;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Whether the work should stop; stages look at it between rows and steps.
#[derive(Debug, Default)]
pub struct Stop {
    own: AtomicBool,
}

impl Stop {
    /// Whether to stop: asked for here, or by a signal to the program.
    pub fn requested(&self) -> bool {
        self.own.load(Ordering::Relaxed) || REQUESTED.load(Ordering::Relaxed)
    }

    /// Asks everything that watches this one to stop.
    #[allow(dead_code, reason = "`run` stops its other jobs when one fails")]
    pub fn request(&self) {
        self.own.store(true, Ordering::Relaxed);
    }
}

/// Catches Ctrl-C and the termination signal from here on.
pub fn catch_signals() {
    // Without a handler the signal still ends the program; only the kind words are lost.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(exit::INTERRUPTED));
        }
    });
}
