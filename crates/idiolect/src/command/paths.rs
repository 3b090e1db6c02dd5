//! The paths of a command line. What a command writes is none of the files that it reads and no
//! other of its outputs, by whatever name: looked at in one place, before any command begins.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use idiolect::stage::StageError;
use idiolect_core::store::{Meta, Rejects, beside, part_of};
use idiolect_files::{is_same, is_within, refuse_link};

use super::options;

/// A file or folder that a command writes. A path of any other type is one that it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OutputPath(PathBuf);

impl OutputPath {
    pub(super) fn new(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl Deref for OutputPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

/// References that may be files or folders of this machine.
const REFERENCES: [&str; 3] = ["model", "tokenizer", "prompt"];

/// A path with the argument that it was given by.
struct Given {
    argument: String,
    path: PathBuf,
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.argument, self.path.display())
    }
}

/// Refuses a command line of which an output is also something else.
///
/// # Errors
/// [`StageError::Usage`] with the names of both.
pub(super) fn check(command: &clap::Command, matches: &ArgMatches) -> Result<(), StageError> {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for id in matches.ids().map(clap::Id::as_str) {
        let argument = name_of(command, id);
        let given = |path: &Path| Given {
            argument: argument.clone(),
            path: path.to_owned(),
        };
        if let Ok(Some(paths)) = matches.try_get_many::<OutputPath>(id) {
            outputs.extend(paths.map(|path| given(path)));
        }
        if let Ok(Some(paths)) = matches.try_get_many::<PathBuf>(id) {
            for path in paths {
                // A pattern that matches nothing is told by the command itself.
                let files = options::matched(path).unwrap_or_default();
                inputs.extend(files.iter().map(|path| given(path)));
            }
        }
        if let Ok(Some(pairs)) = matches.try_get_many::<(String, PathBuf)>(id) {
            inputs.extend(pairs.map(|(_, path)| given(path)));
        }
        if REFERENCES.contains(&id)
            && let Ok(Some(references)) = matches.try_get_many::<String>(id)
        {
            let path = |text: &String| given(Path::new(text.trim_start_matches("scripted:")));
            inputs.extend(references.map(path));
        }
    }
    for (number, output) in outputs.iter().enumerate() {
        refuse_link(&output.path)
            .map_err(|error| StageError::usage(format!("{output}: {error}"), ""))?;
        for input in &inputs {
            apart(output, input, std::slice::from_ref(&input.path))?;
        }
        for other in &outputs[..number] {
            apart(output, other, &owned(&other.path))?;
            apart(other, output, &owned(&output.path))?;
        }
    }
    Ok(())
}

/// Refuses an output that is, or holds, one of the files of something else, with what is kept beside
/// the output.
fn apart(output: &Given, other: &Given, files: &[PathBuf]) -> Result<(), StageError> {
    for own in owned(&output.path) {
        for file in files {
            let what = if is_same(&own, file) {
                "are the same file"
            } else if is_within(file, &own) {
                "lie in each other"
            } else {
                continue;
            };
            let beside = match own == output.path {
                true => String::new(),
                false => format!(" (by `{}`, which is kept beside it)", own.display()),
            };
            return Err(StageError::usage(
                format!("{output}{beside} and {other} {what}"),
                "what is written needs a name of its own; nothing was changed",
            ));
        }
    }
    Ok(())
}

/// An output with what the store keeps beside it.
fn owned(output: &Path) -> Vec<PathBuf> {
    vec![
        output.to_owned(),
        part_of(output),
        Meta::path_of(output),
        Rejects::path_of(output),
        beside(output, ".lock"),
    ]
}

/// An argument as it is written on the command line.
fn name_of(command: &clap::Command, id: &str) -> String {
    let argument = command
        .get_arguments()
        .find(|argument| argument.get_id() == id);
    let name = argument.and_then(|argument| match argument.get_long() {
        Some(long) => Some(format!("--{long}")),
        None => argument
            .get_value_names()
            .and_then(|names| names.first().map(ToString::to_string)),
    });
    name.unwrap_or_else(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use std::any::TypeId;

    use clap::{Arg, CommandFactory};

    use super::*;

    /// What argument `argument` of a command reads or writes `path` by, after what comes before it.
    fn written(command: &clap::Command, argument: &Arg, path: &Path) -> Vec<String> {
        let pair = argument.get_value_parser().type_id() == TypeId::of::<(String, PathBuf)>();
        let path = path.display();
        let value = if pair {
            format!("name={path}")
        } else {
            path.to_string()
        };
        match argument.get_long() {
            Some(long) => vec![format!("--{long}"), value],
            None => {
                let positionals = command.get_positionals();
                positionals
                    .take_while(|other| other.get_id() != argument.get_id())
                    .map(|_| "gsm8k".to_owned())
                    .chain([value])
                    .collect()
            }
        }
    }

    fn is_input(argument: &Arg) -> bool {
        let kind = argument.get_value_parser().type_id();
        kind == TypeId::of::<PathBuf>()
            || kind == TypeId::of::<(String, PathBuf)>()
            || REFERENCES.contains(&argument.get_id().as_str())
    }

    fn is_output(argument: &Arg) -> bool {
        argument.get_value_parser().type_id() == TypeId::of::<OutputPath>()
    }

    /// Every pair of an output and another path of every command, as the same file, a hard link, a
    /// symbolic link, its journal and a folder that holds it.
    #[test]
    fn no_command_writes_what_it_reads() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (mut pairs, mut commands) = (0, 0);
        for command in super::super::Arguments::command().get_subcommands() {
            let outputs: Vec<&Arg> = command.get_arguments().filter(|a| is_output(a)).collect();
            commands += usize::from(!outputs.is_empty());
            for output in outputs {
                for other in command.get_arguments() {
                    if other.get_id() == output.get_id() || !(is_input(other) || is_output(other)) {
                        continue;
                    }
                    pairs += 1;
                    let _ = std::fs::remove_dir_all(at("d"));
                    std::fs::create_dir(at("d")).unwrap();
                    std::fs::write(at("d/a"), "a").unwrap();
                    std::fs::write(at("d/a.part"), "a").unwrap();
                    std::fs::hard_link(at("d/a"), at("d/hard")).unwrap();
                    let mut cases = vec![
                        ("d/a", "d/a"),
                        ("d/hard", "d/a"),
                        ("d/a", "d/../d/a"),
                        ("d/a", "d/a.part"),
                        ("d", "d/a"),
                        ("d/new", "d/new"),
                    ];
                    #[cfg(unix)]
                    {
                        std::os::unix::fs::symlink("a", at("d/soft")).unwrap();
                        cases.extend([("d/soft", "d/a"), ("d/a", "d/soft")]);
                    }
                    for (written_path, other_path) in cases {
                        let mut line = vec![command.get_name().to_owned()];
                        line.extend(written(command, output, &at(written_path)));
                        line.extend(written(command, other, &at(other_path)));
                        // What else the command needs does not matter here.
                        let matches = command
                            .clone()
                            .ignore_errors(true)
                            .try_get_matches_from(&line)
                            .unwrap();
                        let refused = check(command, &matches);
                        let words = refused.expect_err(&format!("{line:?}")).to_string();
                        assert!(
                            words.contains("--") && words.contains("d/"),
                            "{line:?}: {words}"
                        );
                    }
                }
            }
        }
        assert!(
            pairs > 40 && commands > 12,
            "{pairs} pairs of {commands} commands"
        );
    }

    #[test]
    fn files_beside_each_other_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(folder.path().join("t.jsonl"), "").unwrap();
        let command = super::super::Arguments::command();
        let score = command.find_subcommand("score").unwrap();
        let line = [
            "score".to_owned(),
            "--model".to_owned(),
            path(""),
            "--data".to_owned(),
            path("t.jsonl"),
            "-o".to_owned(),
            path("s.jsonl"),
            "--tokens".to_owned(),
            path("s.parquet"),
        ];
        let matches = score.clone().try_get_matches_from(line).unwrap();
        assert!(check(score, &matches).is_ok());
    }
}
