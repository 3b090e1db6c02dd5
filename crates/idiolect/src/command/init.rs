//! `idiolect init`.

use idiolect_core::record::TaskName;
use idiolect_core::store::write_atomic;
use serde_json::json;

use super::options;
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;
use idiolect::run::template::recipe_for;
use idiolect::stage::StageError;

/// Write a commented recipe to start from
///
/// Every table and key with its default. Prints it, or writes it to a file that does not exist yet.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect init gsm8k -o mine.toml
  idiolect init mbpp | less")]
pub(super) struct Arguments {
    /// The task
    #[arg(value_name = "TASK", default_value = "gsm8k", value_parser = options::task())]
    task: TaskName,
    /// The file to write
    #[arg(short, long, value_name = "RECIPE.toml", value_parser = options::output)]
    output: Option<OutputPath>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let recipe = recipe_for(arguments.task);
    let text = match &arguments.output {
        None => recipe.clone(),
        Some(path) if path.exists() => {
            return Err(StageError::usage(
                format!("`{}` exists", path.display()),
                "give the name of a new file",
            ));
        }
        Some(path) => {
            write_atomic(path, recipe.as_bytes())?;
            format!(
                "wrote {}; run it with: idiolect run {}",
                path.display(),
                path.display()
            )
        }
    };
    Ok(CommandOutput {
        text,
        json: json!({"recipe": recipe}),
        as_json: arguments.json,
        code: exit::DONE,
    })
}
