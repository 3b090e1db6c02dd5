//! The exit codes, fixed by the command line's contract.

/// Done.
pub(crate) const DONE: u8 = 0;
/// Failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong use.
pub(crate) const USAGE: u8 = 2;
/// Done, but some rows were refused.
pub(crate) const REFUSED: u8 = 3;
/// Interrupted; the same command continues.
pub(crate) const INTERRUPTED: u8 = 130;
