//! The program: which reasoning traces does this student learn most from?

mod command;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = idiolect::launch::enter().or_else(idiolect::sandbox::enter) {
        return code;
    }
    idiolect::interrupt::catch_signals();
    command::main()
}
