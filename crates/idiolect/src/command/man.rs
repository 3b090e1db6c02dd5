//! `idiolect man`.

use std::fs;
use std::io;
use std::path::Path;

use clap_mangen::Man;
use serde_json::json;

use super::options;
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::exit;
use idiolect::stage::StageError;

/// Print the manual page, or write one page a command into a folder
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect man | man -l -
  idiolect man ~/.local/share/man/man1")]
pub(super) struct Arguments {
    /// Folder to write idiolect.1 and a page for each command into; made where it is missing
    #[arg(value_name = "DIR", value_parser = options::output)]
    dir: Option<OutputPath>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let (text, json) = match &arguments.dir {
        Some(dir) => {
            write(dir).map_err(|error| {
                StageError::failed(
                    format!("cannot write into `{}`: {error}", dir.display()),
                    "",
                )
            })?;
            let dir = dir.display().to_string();
            (format!("{dir}: manual pages"), json!({"output": dir}))
        }
        None => {
            let mut page = Vec::new();
            Man::new(super::command_line())
                .render(&mut page)
                .map_err(|error| StageError::failed(error.to_string(), ""))?;
            let page = String::from_utf8_lossy(&page).trim_end().to_owned();
            (page.clone(), json!({"page": page}))
        }
    };
    Ok(CommandOutput {
        text,
        json,
        as_json: arguments.json,
        code: exit::DONE,
    })
}

fn write(dir: &Path) -> io::Result<()> {
    let mut command = super::command_line();
    command.build();
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let page = Man::new(command.clone());
        let path = dir.join(page.get_filename());
        // A page of another program keeps its name.
        let mine = |text: &[u8]| String::from_utf8_lossy(text).contains(".TH idiolect");
        if fs::read(&path).is_ok_and(|text| !text.is_empty() && !mine(&text)) {
            let message = format!("`{}` is no page of this program", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        idiolect_files::replace(&path, |file| page.render(file))?;
    }
    Ok(())
}
