//! The exit codes, fixed by the command line's contract.

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong use.
pub const USAGE: u8 = 2;
/// Done, but some rows were refused.
pub const REFUSED: u8 = 3;
/// Interrupted; the same command continues.
pub const INTERRUPTED: u8 = 130;
