//! One fork server: a Python process that judges programs one after another.
//!
//! Requests and reports are frames: a length of four bytes, highest first, and that many bytes of
//! JSON. A report counts only with the nonce of its request.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use idiolect_core::task::{Execution, Program};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::python::Interpreter;
use super::{Limits, Protection, confine, reason};

/// The harness: one program for the interpreter, in files of one idea each.
const HARNESS: &str = concat!(
    include_str!("harness/common.py"),
    include_str!("harness/values.py"),
    include_str!("harness/setup_classes.py"),
    include_str!("harness/candidate.py"),
    include_str!("harness/message.py"),
    include_str!("harness/channel.py"),
    include_str!("harness/handle.py"),
    include_str!("harness/judge.py"),
    include_str!("harness/confine.py"),
    include_str!("harness/server.py"),
);

/// A report longer than this is none.
const MAX_REPORT: usize = 1 << 20;

/// The message of a server that is gone.
#[derive(Debug)]
pub(super) struct Lost(pub(super) String);

/// A running fork server. Dropping it ends it and whatever it forked.
pub(super) struct Server {
    child: Child,
    requests: Option<ChildStdin>,
    reports: ChildStdout,
    limits: Limits,
    alive: bool,
}

#[derive(Serialize)]
struct Config<'a> {
    protected: bool,
    #[serde(flatten)]
    filters: &'a confine::Filters,
    #[serde(flatten)]
    limits: Limits,
}

#[derive(Serialize)]
struct Request<'a> {
    nonce: &'a str,
    code: &'a str,
    setup: &'a str,
    tests: &'a [String],
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Report {
    /// The server waits for requests.
    Ready(serde::de::IgnoredAny),
    /// It cannot.
    Cannot(String),
    /// A judge met a fault of its own.
    Ended(String),
    /// A judge died of a signal.
    Signal(i32),
    #[serde(untagged)]
    Verdict(Judged),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    nonce: String,
    verdict: Found,
    reason: String,
    line: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Found {
    Passed,
    Failed,
    Unjudged,
}

impl Server {
    /// Starts one and waits until it is ready.
    ///
    /// # Errors
    /// In words, where it cannot run or cannot be confined.
    pub(super) fn start(
        interpreter: &Interpreter,
        protection: Protection,
        limits: Limits,
    ) -> Result<Self, String> {
        let protected = protection == Protection::Required;
        let filters = if protected {
            confine::filters()?
        } else {
            confine::Filters::default()
        };
        let config = Config {
            protected,
            filters: &filters,
            limits,
        };
        let config = serde_json::to_string(&config).map_err(|error| error.to_string())?;
        let mut command = if protected {
            let program = std::env::current_exe()
                .map_err(|error| format!("the path of this program is unknown: {error}"))?;
            let reads = std::env::join_paths(&interpreter.reads)
                .map_err(|error| format!("a path of the interpreter: {error}"))?;
            let mut command = Command::new(program);
            command.args([confine::ENTER.as_ref(), reads.as_os_str()]);
            command.arg(&interpreter.path);
            command
        } else {
            Command::new(&interpreter.path)
        };
        let mut child = command
            .args(["-s", "-S", "-B", "-X", "utf8", "-c", HARNESS, &config])
            .env_clear()
            // Sets iterate in the same order in every run.
            .env("PYTHONHASHSEED", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start it: {error}"))?;
        let (Some(requests), Some(reports)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("its pipes are missing".to_owned());
        };
        let mut server = Self {
            child,
            requests: Some(requests),
            reports,
            limits,
            alive: true,
        };
        match server.report(Duration::from_secs(60)) {
            Ok(Report::Ready(_)) => Ok(server),
            Ok(Report::Cannot(why)) => Err(why),
            Ok(_) => Err("it talks out of turn".to_owned()),
            Err(error) => Err(format!("it does not start: {error}")),
        }
    }

    /// Judges one program.
    ///
    /// # Errors
    /// Where the server is lost before it has reported; whose fault that is, is unknown.
    pub(super) fn run(&mut self, program: &Program<'_>) -> Result<Execution, Lost> {
        let result = self.judge(program);
        self.alive = matches!(result, Ok((_, true)));
        result.map(|(execution, _)| execution).map_err(Lost)
    }

    /// Whether it can take another program.
    pub(super) fn is_alive(&self) -> bool {
        self.alive
    }

    /// What came of it, and whether the server goes on.
    fn judge(&mut self, program: &Program<'_>) -> Result<(Execution, bool), String> {
        let nonce = nonce().map_err(|error| format!("no random numbers: {error}"))?;
        let request = serde_json::to_vec(&Request {
            nonce: &nonce,
            code: program.code,
            setup: program.setup,
            tests: program.tests,
        })
        .map_err(|error| error.to_string())?;
        self.send(&request)
            .map_err(|error| format!("it takes no request: {error}"))?;
        // The judge keeps the candidate's time, and the kernel the judge's; this is for a judge that
        // waits for neither, on a machine that gives it a twentieth of a processor.
        let patience = self.limits.wall_s + 20 * (1 + 2) * self.limits.cpu_s;
        let patience = Duration::from_secs(patience);
        let failed = |reason: &str| Execution::Failed {
            reason: reason.to_owned(),
            line: None,
        };
        match self.report(patience) {
            Ok(Report::Verdict(judged)) if judged.nonce == nonce => {
                let reason = reason::plain(&judged.reason);
                let lines = program.code.matches('\n').count() + 1;
                let execution = match judged.verdict {
                    Found::Passed => Execution::Passed,
                    Found::Failed => Execution::Failed {
                        reason,
                        line: judged.line.filter(|line| (1..=lines).contains(line)),
                    },
                    Found::Unjudged => Execution::NotJudged(reason),
                };
                Ok((execution, true))
            }
            Ok(Report::Signal(SIGXCPU)) => {
                let reason = "its tests used more CPU time than the limit";
                Ok((failed(reason), false))
            }
            Ok(Report::Signal(signal)) => Err(format!("the judge died of signal {signal}")),
            Ok(Report::Ended(why) | Report::Cannot(why)) => Err(why),
            Ok(Report::Ready(_) | Report::Verdict(_)) => Err("it talks out of turn".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let reason = "its tests took longer than the limit";
                Ok((failed(reason), false))
            }
            Err(error) => Err(format!("it is gone: {error}")),
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let length = u32::try_from(message.len())
            .map_err(|_| io::Error::other("a program of more than 4 GiB"))?;
        let requests = self.requests.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        requests.write_all(&length.to_be_bytes())?;
        requests.write_all(message)?;
        requests.flush()
    }

    fn report(&mut self, patience: Duration) -> io::Result<Report> {
        let deadline = Instant::now() + patience;
        let mut length = [0; 4];
        self.read(&mut length, deadline)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_REPORT {
            return Err(io::Error::other("a report of absurd length"));
        }
        let mut message = vec![0; length];
        self.read(&mut message, deadline)?;
        serde_json::from_slice(&message).map_err(io::Error::other)
    }

    fn read(&mut self, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
        while !buffer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut ready = [PollFd::new(&self.reports, PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let n = self.reports.read(buffer)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut std::mem::take(&mut buffer)[n..];
        }
        Ok(())
    }
}

/// The kernel's number of the signal that ends a process at its limit of CPU time.
const SIGXCPU: i32 = 24;

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.requests.take());
        // The whole group: a judge and a candidate may be at work. It may be gone already.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// 128 random bits in hexadecimal.
fn nonce() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    let n = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if n < bytes.len() {
        return Err(io::Error::other("too few of them"));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
