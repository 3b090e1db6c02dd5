//! This program's side of a started process: start, look, wait, stop.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};

use super::guard::{GUARD, Report, UNKILLABLE};
use super::log::Log;
use crate::interrupt::Stop;
use crate::stage::StageError;

/// How often a process that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A program to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Variables set beside those of this process.
    pub environment: Vec<(String, String)>,
    /// Where it runs; the current directory where unset.
    pub directory: Option<PathBuf>,
    /// The file that what it writes is appended to.
    pub log: PathBuf,
    /// How long it has to end once it was asked to.
    pub grace: Duration,
    /// The program whose `main` calls [`super::enter`]; this one where unset.
    pub guard: Option<PathBuf>,
}

impl Launch {
    /// Of a command, with ten seconds to end and nothing else set.
    pub fn new(words: Vec<String>, log: &Path) -> Self {
        Self {
            words,
            environment: Vec::new(),
            directory: None,
            log: log.to_owned(),
            grace: Duration::from_secs(10),
            guard: None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an exit code.
    Exited(i32),
    /// By a signal.
    Killed(i32),
    /// Unknown: the process that guarded it was killed, and it after that.
    Lost,
}

impl End {
    /// Whether it did what it was started for.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(9) => f.write_str(
                "was killed by signal 9 (by the system, if memory ran out, or by someone)",
            ),
            Self::Killed(signal) => write!(f, "was killed by signal {signal}"),
            Self::Lost => f.write_str("was lost: the process that guarded it was killed"),
        }
    }
}

/// A started process. Dropping it ends it and everything that it started, and returns when that is
/// done.
#[derive(Debug)]
pub struct Process {
    guard: Child,
    /// The guard ends the process when this is closed.
    lifeline: Option<ChildStdin>,
    reports: ChildStdout,
    received: Vec<u8>,
    /// None until the guard has reported it.
    pid: Option<Pid>,
    log: Log,
    grace: Duration,
    end: Option<End>,
    /// Whether nothing of it is left.
    done: bool,
}

impl Process {
    /// Starts a program in a process group of its own, without standard input.
    ///
    /// # Errors
    /// In words, where its log cannot be written or it cannot be started.
    pub fn start(launch: &Launch) -> Result<Self, String> {
        let program = launch.words.first().map_or("", String::as_str);
        let log_error =
            |error: io::Error| format!("cannot write the log `{}`: {error}", launch.log.display());
        let log = open_log(&launch.log).map_err(log_error)?;
        let begin = log.metadata().map_err(log_error)?.len();
        let mut guard = spawn_guard(launch, log)
            .map_err(|error| format!("cannot guard the program `{program}`: {error}"))?;
        let (Some(lifeline), Some(reports)) = (guard.stdin.take(), guard.stdout.take()) else {
            return Err("the pipes of a guard are missing".to_owned());
        };
        let mut process = Self {
            guard,
            lifeline: Some(lifeline),
            reports,
            received: Vec::new(),
            pid: None,
            log: Log::new(&launch.log, begin),
            grace: launch.grace,
            end: None,
            done: false,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && !process.done {
            match process.receive(LOOK) {
                Some(Report::Started(pid)) => {
                    process.pid = Some(pid);
                    return Ok(process);
                }
                Some(Report::Cannot(why)) => {
                    process.done = true;
                    return Err(format!("cannot start `{program}`: {why}"));
                }
                Some(Report::Ended(_) | Report::Done) | None => {}
            }
        }
        Err(format!(
            "cannot start `{program}`: the process that is to guard it does not answer"
        ))
    }

    /// Its process id, which is that of its group.
    pub fn id(&self) -> i32 {
        Pid::as_raw(self.pid)
    }

    /// What it wrote.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How it ended, if it has; what it started may take a moment longer.
    pub fn has_ended(&mut self) -> Option<End> {
        self.hear(Duration::ZERO);
        self.end
    }

    /// How it ended, once everything that it started has ended too.
    pub fn poll(&mut self) -> Option<End> {
        self.hear(Duration::ZERO);
        self.end.filter(|_| self.done)
    }

    /// Hears what the guard reports within so long.
    fn hear(&mut self, patience: Duration) {
        while !self.done {
            match self.receive(patience) {
                Some(Report::Ended(end)) => self.end = Some(end),
                Some(Report::Done) => self.done = true,
                Some(Report::Started(_) | Report::Cannot(_)) => {}
                None => return,
            }
        }
    }

    /// Waits for its end, looking at it twenty times a second and calling `each` as often, and once
    /// more at the end. Where the user stops the program or `each` fails, it is ended first.
    ///
    /// # Errors
    /// [`StageError::Interrupted`]; what `each` returns.
    pub fn wait(
        &mut self,
        stop: &Stop,
        each: &mut dyn FnMut(&Log) -> Result<(), StageError>,
    ) -> Result<End, StageError> {
        loop {
            let end = self.poll();
            if let Err(error) = each(&self.log) {
                self.stop();
                return Err(error);
            }
            if let Some(end) = end {
                return Ok(end);
            }
            if stop.requested() {
                self.stop();
                return Err(StageError::Interrupted);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Ends it and everything that it started: asks, waits for the grace, kills.
    pub fn stop(&mut self) {
        self.lifeline = None;
        // The guard takes no longer than this by its own rules; one that was stopped or hangs is
        // killed, and what it guarded with it.
        let deadline = Instant::now() + self.grace + UNKILLABLE + Duration::from_secs(5);
        while !self.done && Instant::now() < deadline {
            self.hear(LOOK);
        }
        if !self.done {
            // It may be gone already.
            let _ = self.guard.kill();
            self.abandon();
        }
        let _ = self.guard.wait();
    }

    /// The next report of the guard, waited for so long. A guard that is gone without one is an end.
    fn receive(&mut self, patience: Duration) -> Option<Report> {
        loop {
            if let Some(at) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=at).collect();
                return Report::parse(&String::from_utf8_lossy(&line));
            }
            let timeout = Timespec {
                tv_sec: patience.as_secs() as i64,
                tv_nsec: i64::from(patience.subsec_nanos()),
            };
            let mut ready = [PollFd::new(&self.reports, PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
            let mut piece = [0; 512];
            match self.reports.read(&mut piece) {
                Ok(n) if n > 0 => self.received.extend(&piece[..n]),
                _ => {
                    self.abandon();
                    return None;
                }
            }
        }
    }

    /// The guard is gone: kills what can still be found.
    fn abandon(&mut self) {
        self.done = true;
        self.end.get_or_insert(End::Lost);
        if let Some(group) = self.pid {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// For appending, whatever other processes write to it.
fn open_log(path: &Path) -> io::Result<File> {
    // Creates it with its folder, and refuses a symbolic link.
    drop(idiolect_files::append_to(path)?);
    OpenOptions::new().append(true).open(path)
}

fn spawn_guard(launch: &Launch, log: File) -> io::Result<Child> {
    let program = match &launch.guard {
        Some(program) => program.clone(),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(program);
    command
        .arg(GUARD)
        .arg(launch.grace.as_millis().to_string())
        .args(&launch.words)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C at a terminal is for idiolect, which ends the rest in order.
        .process_group(0);
    if let Some(directory) = &launch.directory {
        command.current_dir(directory);
    }
    command.spawn()
}
