//! What a node runs for a task: a POSIX shell script that looks whether the node sees the run and the
//! program, and then becomes `idiolect job`.

use std::path::Path;

use super::super::place::Asked;

/// A text as one word of a shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// The program on the nodes.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// As the recipe names it, else this program's path.
    pub(super) name: String,
    /// Whether `idiolect` on the node's PATH does where that is not there.
    pub(super) or_path: bool,
}

impl Program {
    pub(super) fn of(stated: Option<&str>) -> Self {
        let own = || std::env::current_exe().map(|path| path.display().to_string());
        match stated {
            Some(name) => Self {
                name: name.to_owned(),
                or_path: false,
            },
            None => Self {
                name: own().unwrap_or_else(|_| "idiolect".to_owned()),
                or_path: true,
            },
        }
    }
}

/// The script of a submission. `task` is the shell's word for a task's number; `run` is absolute.
pub(super) fn script(
    (program, flags): (&Program, &str),
    run: &Path,
    submission: &str,
    task: &str,
    asked: &Asked,
) -> String {
    let run = quoted(&run.display().to_string());
    let name = quoted(&program.name);
    let or_path = match program.or_path {
        true => "command -v \"$program\" >/dev/null 2>&1 || program=idiolect\n",
        false => "",
    };
    format!(
        "#!/bin/sh
run={run}
program={name}
if [ ! -f \"$run/recipe.toml\" ]; then
  echo \"idiolect: node $(uname -n) does not see the run directory $run\" >&2
  exit 72
fi
{or_path}if ! command -v \"$program\" >/dev/null 2>&1; then
  echo \"idiolect: node $(uname -n) has no program $program; set [execute] program\" >&2
  exit 73
fi
exec \"$program\" job \"$run\" --task {submission}.{task} --threads {threads}{flags}
",
        threads = asked.cpus,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_word_of_a_shell() {
        assert_eq!(quoted("/a/b-1.2"), "/a/b-1.2");
        assert_eq!(quoted("it's $HOME `x`"), "'it'\\''s $HOME `x`'");
        assert_eq!(quoted(""), "''");
    }
}
