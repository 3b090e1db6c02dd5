//! Which Python interpreter runs candidates, and what it reads.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde::Deserialize;

/// An interpreter.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    /// The program itself, no link and no wrapper around it.
    pub(super) path: PathBuf,
    /// For example `3.11.7`.
    pub(super) version: String,
    /// Folders and files that it needs to read.
    pub(super) reads: Vec<PathBuf>,
}

/// What an interpreter says of itself.
#[derive(Deserialize)]
struct Answer {
    executable: PathBuf,
    version: Vec<u32>,
    library: Vec<Option<PathBuf>>,
}

const QUESTION: &str = "
import json, sys, sysconfig
paths = sysconfig.get_paths()
print(json.dumps({
    'executable': getattr(sys, '_base_executable', None) or sys.executable,
    'version': list(sys.version_info[:3]),
    'library': [paths.get('stdlib'), paths.get('platstdlib'), sysconfig.get_config_var('LIBDIR')],
}))";

/// The interpreter that `IDIOLECT_PYTHON` names, else `python3`, else `python`.
///
/// # Errors
/// In words: what was tried.
pub(super) fn find() -> Result<Interpreter, String> {
    if let Some(named) = std::env::var_os("IDIOLECT_PYTHON") {
        let named = PathBuf::from(named);
        return ask(&named)
            .map_err(|why| format!("IDIOLECT_PYTHON names `{}`: {why}", named.display()));
    }
    let mut tried = Vec::new();
    for name in ["python3", "python"] {
        match ask(&PathBuf::from(name)) {
            Ok(interpreter) => return Ok(interpreter),
            Err(why) => tried.push(format!("`{name}`: {why}")),
        }
    }
    Err(tried.join("; "))
}

fn ask(program: &PathBuf) -> Result<Interpreter, String> {
    let output = Command::new(program)
        .args(["-I", "-S", "-c", QUESTION])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is none".to_owned(),
            _ => error.to_string(),
        })?;
    let answer: Answer = serde_json::from_slice(&output.stdout)
        .map_err(|_| "it does not answer as an interpreter does".to_owned())?;
    let version: Vec<String> = answer.version.iter().map(u32::to_string).collect();
    let version = version.join(".");
    if answer.version < vec![3, 9] {
        return Err(format!("it is version {version}"));
    }
    let path = answer
        .executable
        .canonicalize()
        .map_err(|error| format!("`{}`: {error}", answer.executable.display()))?;
    let mut reads: Vec<PathBuf> = answer.library.into_iter().flatten().collect();
    reads.push(path.clone());
    Ok(Interpreter {
        path,
        version,
        reads,
    })
}
