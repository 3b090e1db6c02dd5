//! The program: which reasoning traces does this student learn most from?
//!
//! `command` holds one file per command, `stage` the work behind them, `run` the whole experiment.

mod command;
mod exit;
mod interrupt;
mod model;
mod progress;
mod run;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    interrupt::catch_signals();
    command::main()
}
