//! The command line: one file a command, each turns its arguments into settings, calls its stage
//! and prints the result.

mod advise;
mod arms;
mod audit;
mod compare;
mod completions;
mod convert;
mod corrupt;
mod doctor;
#[cfg(test)]
mod documented;
mod eval;
mod generate;
mod import;
mod init;
mod inspect;
mod job;
mod jobs;
mod man;
mod numbers;
mod options;
mod output;
mod paraphrase;
mod paths;
mod pretrain;
mod progress;
mod race;
mod report;
mod run;
mod schema;
mod score;
mod serve;
mod status;
mod train;
mod verify;
mod view;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::CommandOutput;
use idiolect::exit;
use idiolect::stage::StageError;

/// Which reasoning traces does this language model learn most from, and how sure is that?
///
/// Every command reads and writes plain files of rows, continues an unfinished output of the same
/// settings, and prints its result on standard output (`--json` for programs).
#[derive(Debug, Parser)]
#[command(name = "idiolect", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 done but some rows were refused
(OUTPUT.rejects.jsonl names them), 130 interrupted (the same command continues).";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Jobs(jobs::Arguments),
    Job(job::Arguments),
    Status(status::Arguments),
    View(view::Arguments),
    Init(init::Arguments),
    Import(import::Arguments),
    Generate(generate::Arguments),
    Paraphrase(paraphrase::Arguments),
    Corrupt(corrupt::Arguments),
    Verify(verify::Arguments),
    Audit(audit::Arguments),
    Score(score::Arguments),
    Arms(arms::Arguments),
    Train(train::Arguments),
    Eval(eval::Arguments),
    Compare(compare::Arguments),
    Report(report::Arguments),
    Pretrain(pretrain::Arguments),
    Advise(advise::Arguments),
    Race(race::Arguments),
    Convert(convert::Arguments),
    Inspect(inspect::Arguments),
    Serve(serve::Arguments),
    Doctor(doctor::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// The whole command line, as it is parsed and as help, manual pages and completions show it.
fn command_line() -> clap::Command {
    let mut command = with_negative_numbers(Arguments::command());
    // What needs a model's weights or tokenizer takes no server.
    for name in ["train", "inspect", "advise", "race"] {
        command = command.mut_subcommand(name, |sub| {
            sub.mut_arg("model", |arg| {
                arg.help("A model directory in Hugging Face layout, an adapter directory, or hf:OWNER/NAME")
            })
        });
    }
    command
}

/// Takes `-1` for the value of the option before it, which then states what it expects.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            let takes = arg.get_action().takes_values() && !arg.is_positional();
            arg.allow_negative_numbers(takes)
        })
        .mut_subcommands(with_negative_numbers)
}

/// Reads the command line, runs the command, prints and gives the exit code.
pub(super) fn main() -> ExitCode {
    let mut command_line = command_line();
    let matches = command_line.get_matches_mut();
    let arguments = Arguments::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.format(&mut command_line).exit());
    if let Some((name, matches)) = matches.subcommand()
        && let Some(command) = command_line.find_subcommand(name)
        && let Err(error) = paths::check(command, matches)
    {
        return ExitCode::from(report_error(&error));
    }
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Jobs(arguments) => jobs::run(&arguments),
        Command::Job(arguments) => job::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::View(arguments) => view::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Paraphrase(arguments) => paraphrase::run(&arguments),
        Command::Corrupt(arguments) => corrupt::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Arms(arguments) => arms::run(&arguments),
        Command::Train(arguments) => train::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Pretrain(arguments) => pretrain::run(&arguments),
        Command::Advise(arguments) => advise::run(&arguments),
        Command::Race(arguments) => race::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    };
    ExitCode::from(match result {
        Ok(output) => output::print(&output),
        Err(error) => report_error(&error),
    })
}

fn report_error(error: &StageError) -> u8 {
    let mut message = if matches!(error, StageError::Interrupted) {
        error.to_string()
    } else {
        format!("error: {error}")
    };
    if let Some(hint) = error.hint() {
        message.push_str("\nhint: ");
        message.push_str(&hint);
    }
    output::print_error(&message);
    error.exit_code()
}

type Result = std::result::Result<CommandOutput, StageError>;

/// The code of a command that did its work.
fn code(rejected: u64) -> u8 {
    if rejected > 0 {
        exit::REFUSED
    } else {
        exit::DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        for command in Arguments::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
        {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says nothing");
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                after.contains(&format!("idiolect {name}")),
                "{name} shows no example"
            );
        }
    }
}
