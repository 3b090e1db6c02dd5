//! Short commands of other programs: `sbatch`, `squeue`, `scancel`.

use std::io::{self, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a command wrote is read up to this size.
const MOST: u64 = 64 << 20;

/// What a command left.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether its exit code is 0.
    pub success: bool,
    /// What it wrote.
    pub out: String,
    /// What it wrote about errors.
    pub err: String,
}

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum NoResult {
    /// It is not installed, or may not be run.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// Its name.
        program: String,
        /// The system's word.
        source: io::Error,
    },
    /// It took too long, and was killed.
    #[error("`{program}` did not answer within {} s", .limit.as_secs())]
    Late {
        /// Its name.
        program: String,
        /// The time that it had.
        limit: Duration,
    },
}

/// Runs a command to its end: `words` are the program and its arguments, `input` is its standard
/// input, and after `limit` it is killed. Ctrl-C at a terminal does not reach it.
///
/// # Errors
/// [`NoResult`]; a command that fails is a result.
pub fn run(words: &[String], input: &str, limit: Duration) -> Result<Ended, NoResult> {
    let (program, arguments) = words
        .split_first()
        .map_or(("", words), |(program, rest)| (program.as_str(), rest));
    let start = |source| NoResult::Start {
        program: program.to_owned(),
        source,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A command that does not read it to its end may still do what it was asked.
        let _ = stdin.write_all(input.as_bytes());
    }
    let out = reading(child.stdout.take());
    let err = reading(child.stderr.take());
    let ended = wait(&mut child, limit).map_err(start)?;
    let Some(success) = ended else {
        return Err(NoResult::Late {
            program: program.to_owned(),
            limit,
        });
    };
    Ok(Ended {
        success,
        out: out.join().unwrap_or_default(),
        err: err.join().unwrap_or_default(),
    })
}

/// Reads a pipe while the command goes on, so that a full pipe does not stop it.
fn reading(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What could be read is what there is.
            let _ = pipe.take(MOST).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Whether it succeeded; `None` where it was killed for taking too long.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<bool>> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.success()));
        }
        if begun.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(50));
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Ended, NoResult> {
        run(&["sh", "-c", script].map(str::to_owned), "given", limit)
    }

    #[test]
    fn a_command_gives_what_it_wrote_or_why_it_did_not() {
        let minute = Duration::from_secs(60);
        let ended = sh("cat; echo wrong >&2; exit 3", minute).unwrap();
        assert_eq!(
            (ended.success, ended.out.as_str(), ended.err.as_str()),
            (false, "given", "wrong\n")
        );
        // More than a pipe holds.
        let ended = sh("yes | head -c 1000000", minute).unwrap();
        assert_eq!((ended.success, ended.out.len()), (true, 1_000_000));
        let late = sh("exec sleep 600", Duration::from_millis(50)).unwrap_err();
        assert!(late.to_string().contains("`sh` did not answer"), "{late}");
        let absent = run(&["/no/such/program".to_owned()], "", minute).unwrap_err();
        assert!(
            absent.to_string().contains("cannot run `/no/such/program`"),
            "{absent}"
        );
    }
}
