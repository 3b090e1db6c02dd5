//! The user's own Python environment: what it holds, asked before any work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::stage::StageError;

/// A package that some work needs, from a version on.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The lowest version that will do.
    pub from: &'static str,
}

/// What an interpreter says of its environment.
#[derive(Deserialize)]
struct Answer {
    python: String,
    packages: BTreeMap<String, Option<String>>,
}

/// Reads versions without importing the packages, which takes seconds.
const QUESTION: &str = "
import json, platform, sys
from importlib import metadata
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
print(json.dumps({'python': platform.python_version(), 'packages': {n: version(n) for n in sys.argv[1:]}}))";

/// The versions of Python and of the packages in the environment of `python`, by name.
///
/// # Errors
/// When it is no interpreter, or a package is missing or too old; with the command that installs it.
pub fn versions(
    python: &str,
    packages: &[Package],
    what_for: &str,
) -> Result<BTreeMap<String, String>, StageError> {
    let how = "name the interpreter of an environment that has them: --python, or `python` in the \
               recipe";
    let output = Command::new(python)
        .args(["-c", QUESTION])
        .args(packages.iter().map(|package| package.name))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            StageError::failed(
                format!(
                    "cannot run the Python interpreter `{python}` that {what_for} needs: {error}"
                ),
                how,
            )
        })?;
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|_| {
        StageError::failed(
            format!(
                "`{python}`, which {what_for} needs, does not answer as a Python interpreter does"
            ),
            how,
        )
    })?;
    let mut wrong = Vec::new();
    let mut found = BTreeMap::from([("python".to_owned(), answer.python)]);
    for package in packages {
        match answer.packages.get(package.name).cloned().flatten() {
            None => wrong.push(format!("{} is missing", package.name)),
            Some(version) if number(&version) < number(package.from) => {
                wrong.push(format!(
                    "{} is {version}, older than {}",
                    package.name, package.from
                ));
            }
            Some(version) => {
                // What follows a `+` names a build for some hardware.
                let public = version.split('+').next().unwrap_or_default().to_owned();
                found.insert(package.name.to_owned(), public);
            }
        }
    }
    if wrong.is_empty() {
        return Ok(found);
    }
    let wanted = packages.iter().map(|p| format!("'{}>={}'", p.name, p.from));
    Err(StageError::failed(
        format!(
            "{what_for} needs packages that the environment of `{python}` lacks: {}",
            wrong.join("; ")
        ),
        &format!(
            "{python} -m pip install {}\nor {how}",
            wanted.collect::<Vec<_>>().join(" ")
        ),
    ))
}

/// The leading numbers of a version.
fn number(version: &str) -> Vec<u64> {
    version
        .split('.')
        .map_while(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

/// `PATH` with the folder of an interpreter first, so that the programs of its environment are found
/// by their names; unset where it is a bare name itself.
pub fn search_path(python: &str) -> Option<(String, String)> {
    let folder = Path::new(python)
        .parent()
        .filter(|f| !f.as_os_str().is_empty())?;
    let others = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::iter::once(folder.to_owned())
        .chain(std::env::split_paths(&others))
        .collect();
    let joined = std::env::join_paths(folders).ok()?;
    Some(("PATH".to_owned(), joined.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(number("2.10.0") > number("2.9.1"));
        assert!(number("1.16.0.dev0") >= number("1.16"));
        assert_eq!(number("2.15.0+cu130"), [2, 15, 0]);
    }

    #[test]
    fn programs_beside_an_interpreter_are_found_first() {
        let (_, path) = search_path("/opt/venv/bin/python").unwrap();
        assert!(path.starts_with("/opt/venv/bin:"));
        assert!(search_path("python3").is_none());
    }
}
