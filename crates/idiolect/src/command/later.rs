//! Commands of the contract that later versions bring.

use crate::stage::StageError;

/// Not in this version
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Whatever they will take
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Says so. A script that relies on the command must not take silence for success.
pub(super) fn run(name: &str, _arguments: &Arguments) -> super::Result {
    Err(StageError::failed(
        format!("`idiolect {name}` is not in this version"),
        "`idiolect help` lists the commands that are",
    ))
}
