//! `idiolect schema`.

use super::output::CommandOutput;
use idiolect::exit;
use idiolect::run::schema;

/// Print the JSON schema of a recipe, for editors that check and complete TOML
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  idiolect schema > recipe.schema.json   # then in a recipe's first line: #:schema ./recipe.schema.json")]
pub(super) struct Arguments {
    /// Accepted as everywhere; the schema is JSON anyway
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let schema = schema::schema();
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    Ok(CommandOutput {
        text,
        json: schema,
        as_json: arguments.json,
        code: exit::DONE,
    })
}
