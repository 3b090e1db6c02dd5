//! `idiolect completions`.

use clap_complete::Shell;
use serde_json::json;

use super::output::CommandOutput;
use idiolect::exit;

/// Print a script that completes commands and flags in a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect completions bash > ~/.local/share/bash-completion/completions/idiolect
  idiolect completions zsh > ~/.zfunc/_idiolect
  idiolect completions fish > ~/.config/fish/completions/idiolect.fish")]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let mut script = Vec::new();
    let mut program = super::command_line();
    clap_complete::generate(arguments.shell, &mut program, "idiolect", &mut script);
    let script = String::from_utf8_lossy(&script).trim_end().to_owned();
    Ok(CommandOutput {
        json: json!({"shell": arguments.shell.to_string(), "script": script}),
        text: script,
        as_json: arguments.json,
        code: exit::DONE,
    })
}
