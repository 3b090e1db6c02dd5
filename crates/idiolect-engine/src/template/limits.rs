//! What a template may spend: the size and depth of its source, and the bytes that one rendering makes.
//!
//! The engine counts instructions (its fuel), and one instruction can make a text of any length. So
//! every function, filter, method and operator that makes texts or lists pays for them here before it
//! makes them; `rewrite` puts the engine's own operators behind functions that do. What is emitted
//! inside a macro or a block that is kept as a value cannot be seen by the rendering: there the text
//! of the template itself bounds the fuel.

use std::cell::Cell;
use std::io::{self, Write};

use idiolect_model::budget::Budget;
use minijinja::{Error, ErrorKind};

use super::python::fault;

/// What one rendering may spend.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Instructions.
    pub(super) fuel: u64,
    /// Bytes of all values that it makes.
    made: usize,
}

/// A few hundred instructions a message, so this bounds a loop that would not end and no
/// conversation.
pub(super) const WHOLE: Limits = Limits {
    fuel: 20_000_000,
    made: MADE,
};

/// Enough for a conversation of some messages, and so little that whatever the instructions are, they
/// are over in a second.
pub(super) const SOON: Limits = Limits {
    fuel: 10_000,
    made: 1 << 18,
};

const MADE: usize = 128 << 20;

/// Bytes of a rendered conversation.
const RENDERED: usize = 32 << 20;

/// The template's text; the longest published one has some thirty thousand bytes.
pub(super) const SOURCE: Budget = Budget {
    what: "the length of the chat template",
    least: 0,
    most: 1 << 20,
    unit: "bytes",
    remedy: "",
};

/// Code of one tag outside its texts, which becomes a tree as deep as it is long.
pub(super) const TAG: Budget = Budget {
    what: "the code of one tag of the chat template",
    least: 0,
    most: 1 << 13,
    unit: "bytes",
    remedy: "use `set` to name its parts",
};

/// Brackets inside each other.
pub(super) const DEPTH: Budget = Budget {
    what: "the depth of brackets in the chat template",
    least: 0,
    most: 100,
    unit: "brackets inside each other",
    remedy: "use `set` to name the inner ones",
};

/// Branches of the template's conditions: each lies inside the one before.
pub(super) const BRANCHES: Budget = Budget {
    what: "the number of `elif` of the chat template",
    least: 0,
    most: 1000,
    unit: "branches",
    remedy: "",
};

/// Instructions for a template whose longest text inside a macro or a kept block is this long.
pub(super) fn fuel(kept_text: usize) -> u64 {
    WHOLE.fuel.min(2 * MADE as u64 / kept_text.max(1) as u64)
}

thread_local! {
    /// Bytes that the rendering on this thread may still make.
    static LEFT: Cell<usize> = const { Cell::new(MADE) };
}

/// Pays for bytes that are about to be made.
///
/// # Errors
/// When the rendering has made too many.
pub(super) fn spend(bytes: usize) -> Result<(), Error> {
    let left = LEFT.get().checked_sub(bytes);
    LEFT.set(left.unwrap_or(0));
    left.map(drop).ok_or_else(|| {
        fault(format!(
            "the template makes more than {} MiB of text and lists for one conversation",
            MADE >> 20
        ))
    })
}

impl Limits {
    /// Begins a rendering on this thread.
    pub(super) fn begin(self) {
        LEFT.set(self.made);
    }
}

/// Whether a rendering on this thread ended for want of something to spend.
pub(super) fn exhausted<T>(rendered: &Result<T, Error>) -> bool {
    let out_of_fuel = |error: &Error| error.kind() == ErrorKind::OutOfFuel;
    rendered
        .as_ref()
        .is_err_and(|error| out_of_fuel(error) || LEFT.get() == 0)
}

/// The text of a rendering, up to what a conversation may have.
#[derive(Default)]
pub(super) struct Bounded(pub(super) Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > RENDERED {
            return Err(io::Error::other(format!(
                "the rendered conversation has more than {} MiB",
                RENDERED >> 20
            )));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
