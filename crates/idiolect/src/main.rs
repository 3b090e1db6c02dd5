//! The program: which reasoning traces does this student learn most from?
//!
//! `command` holds one file per command, `stage` the work behind them, `run` the whole experiment,
//! `sandbox` what runs model-written code, `serve` a model behind a socket.

mod command;
mod exit;
mod hub;
mod interrupt;
mod model;
mod progress;
mod run;
mod sandbox;
mod serve;
mod stage;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = sandbox::enter() {
        return code;
    }
    interrupt::catch_signals();
    command::main()
}
