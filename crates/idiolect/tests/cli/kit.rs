//! A folder to run the program in.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

/// Answers every problem of [`problems`] correctly when greedy, else correctly or wrongly.
pub(crate) const SCRIPT: &str = r######"{"contains":"0 apples","completions":["It is #### 1","It is #### 8"]}
{"completions":["#### 1","First 2 + 2 = 4. #### 5","no idea","half"]}
"######;

/// Raw rows that are also problems of GSM8K, all with the answer 1.
pub(crate) fn problems(n: usize) -> String {
    (0..n)
        .map(|i| {
            let row = json!({
                "id": format!("gsm8k/test/{i}"),
                "task": "gsm8k",
                "question": format!("{i} apples and how many are one?"),
                "gold": {"answer": "1"},
                "answer": "one is 1\n#### 1",
                "split": "test",
            });
            format!("{row}\n")
        })
        .collect()
}

/// Traces of those problems.
pub(crate) fn traces(texts: &[(&str, &str)]) -> String {
    let row = |(id, (problem, text)): (usize, &(&str, &str))| {
        let origin = json!({"kind": "imported"});
        let row = json!({"id": format!("t{id}"), "problem_id": format!("gsm8k/test/{problem}"),
            "text": text, "finish": "stop", "origin": origin});
        format!("{row}\n")
    };
    texts.iter().enumerate().map(row).collect()
}

/// The points of an event file: tag, step, value.
pub(crate) fn curves(file: &std::path::Path) -> Vec<(String, i64, f64)> {
    let points = idiolect::event_file::read(file).unwrap().into_iter();
    points.map(|one| (one.tag, one.step, one.value)).collect()
}

pub(crate) struct Place {
    dir: tempfile::TempDir,
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A copy of the small trained model as folder `name`.
    pub(crate) fn copy_student(&self, name: &str) {
        let from = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");
        copy_folder(Path::new(from), &self.path(name));
    }

    /// A run of the seconds-long recipe with these arguments as folder `name`: made once for all tests
    /// that only go on from there, and kept until the program is built anew.
    pub(crate) fn copy_run(&self, name: &str, arguments: &[&str]) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs");
        std::fs::create_dir_all(&kept).unwrap();
        // Tests may be threads of one process or processes.
        let lock = std::fs::File::create(kept.join(".lock")).unwrap();
        lock.lock().unwrap();
        let program = std::fs::metadata(env!("CARGO_BIN_EXE_idiolect")).unwrap();
        let built = program.modified().unwrap().duration_since(UNIX_EPOCH);
        let of_build = kept.join(built.unwrap().as_nanos().to_string());
        if !of_build.exists() {
            for old in std::fs::read_dir(&kept).unwrap().flatten() {
                if old.path().is_dir() {
                    std::fs::remove_dir_all(old.path()).unwrap();
                }
            }
            std::fs::create_dir(&of_build).unwrap();
        }
        let words = [&["run"], arguments].concat().join(" ");
        let run = of_build.join(words.replace('/', "_"));
        if !run.exists() {
            let place = Self::new();
            place.done(&[&["run", "tiny", "--out", "run", "-q"], arguments].concat());
            let begun = of_build.join("begun");
            let _ = std::fs::remove_dir_all(&begun);
            copy_folder(&place.path("run"), &begun);
            std::fs::rename(begun, &run).unwrap();
        }
        copy_folder(&run, &self.path(name));
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// How many whole lines a file has; 0 where it is not there.
    pub(crate) fn count(&self, name: &str) -> usize {
        std::fs::read(self.path(name))
            .map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_idiolect"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
        let mut command = self.command(arguments);
        let ended = command.envs(environment.iter().copied()).output().unwrap();
        Ran {
            code: ended.status.code().unwrap_or(-1),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    /// Runs what must succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}\n{}", ran.err);
        ran.out
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_folder(&path, &name),
            false => drop(std::fs::copy(&path, &name).unwrap()),
        }
    }
}
