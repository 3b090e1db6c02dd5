//! The guard: a process between idiolect and a program that it started, which sees to it that the
//! program and all that it started end when idiolect does.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, wait};

use super::process::End;

/// The first argument of this program when it is to become a guard.
pub(super) const GUARD: &str = "__guard";

/// How long processes that were killed may take to be gone: one that waits for a disk or a driver
/// cannot be killed before that.
pub(super) const UNKILLABLE: Duration = Duration::from_secs(10);

/// How often the guard looks at its program.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// Asked to end by a signal of its own.
static ASKED: AtomicBool = AtomicBool::new(false);

/// A line of what the guard reports.
pub(super) enum Report {
    /// The program runs.
    Started(Pid),
    /// It cannot be started.
    Cannot(String),
    /// It has ended; what it started may not have yet.
    Ended(End),
    /// Nothing of it is left.
    Done,
}

impl Report {
    fn text(&self) -> String {
        match self {
            Self::Started(pid) => format!("started {}", pid.as_raw_nonzero()),
            Self::Cannot(why) => format!("cannot {}", why.replace('\n', " ")),
            Self::Ended(End::Exited(code)) => format!("exited {code}"),
            Self::Ended(End::Killed(signal)) => format!("killed {signal}"),
            Self::Ended(End::Lost) => "lost".to_owned(),
            Self::Done => "done".to_owned(),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line
            .trim_end()
            .split_once(' ')
            .unwrap_or((line.trim_end(), ""));
        match word {
            "started" => rest.parse().ok().and_then(Pid::from_raw).map(Self::Started),
            "cannot" => Some(Self::Cannot(rest.to_owned())),
            "exited" => rest.parse().ok().map(|code| Self::Ended(End::Exited(code))),
            "killed" => rest.parse().ok().map(|n| Self::Ended(End::Killed(n))),
            "lost" => Some(Self::Ended(End::Lost)),
            "done" => Some(Self::Done),
            _ => None,
        }
    }
}

/// Where this process was started to guard a program, does that until the program has ended.
pub fn enter() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != GUARD {
        return None;
    }
    let grace = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok());
    let grace = Duration::from_millis(grace.unwrap_or(0));
    let words: Vec<OsString> = arguments.collect();
    match start(&words) {
        Err(error) => report(&Report::Cannot(error.to_string())),
        Ok(program) => {
            report(&Report::Started(program));
            let mut guarded = Guarded {
                program,
                end: None,
                alone: false,
            };
            guarded.watch();
            guarded.end_all(grace);
            guarded.ended(End::Lost);
            report(&Report::Done);
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Nobody is left to report to if the pipe is closed.
fn report(report: &Report) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{}", report.text()).and_then(|()| out.flush());
}

fn start(words: &[OsString]) -> io::Result<Pid> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::other("no program is named"));
    };
    // Else the signals that end a session would end the guard before its program.
    let _ = ctrlc::set_handler(|| ASKED.store(true, Ordering::Relaxed));
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let log = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    #[cfg(target_os = "linux")]
    die_with_parent(&mut command);
    // Its end is waited for with that of all others.
    let child = command.spawn()?;
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("its process id is not known"))
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "what runs between fork and exec is two system calls"
)]
fn die_with_parent(command: &mut Command) {
    use rustix::process::{getpid, getppid, set_parent_process_death_signal};
    let guard = getpid();
    let arm = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // A guard that was killed before that is no parent any more.
        if getppid() != Some(guard) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: two system calls, no allocation and no lock; both are safe after fork.
    unsafe { command.pre_exec(arm) };
}

struct Guarded {
    program: Pid,
    end: Option<End>,
    /// Whether no child is left.
    alone: bool,
}

impl Guarded {
    /// Waits until the program ends, idiolect is gone, or a signal asks.
    fn watch(&mut self) {
        while !ASKED.load(Ordering::Relaxed) && !is_closed() {
            self.reap();
            if self.end.is_some() {
                return;
            }
        }
    }

    /// Reports how the program ended, the first time that it is known.
    fn ended(&mut self, end: End) {
        if self.end.is_none() {
            self.end = Some(end);
            report(&Report::Ended(end));
        }
    }

    /// Takes notice of every child that has ended. On Linux these are all that lost their parents.
    fn reap(&mut self) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.program => self.ended(end(status)),
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return,
                Err(_) => {
                    self.alone = true;
                    return;
                }
            }
        }
    }

    /// Asks the program and all that it started to end, waits, and kills what is left.
    fn end_all(&mut self, grace: Duration) {
        let asked = Instant::now();
        self.signal(Signal::TERM);
        loop {
            self.reap();
            // Without a subreaper only the program itself is a child, and its group is left.
            if self.alone && cfg!(target_os = "linux") {
                return;
            }
            let waited = asked.elapsed();
            if waited >= grace || self.alone {
                self.signal(Signal::KILL);
            }
            if waited >= grace + UNKILLABLE || self.alone {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: Signal) {
        // Some may have ended since they were listed.
        #[cfg(target_os = "linux")]
        for pid in descendants::of(rustix::process::getpid()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = rustix::process::kill_process_group(self.program, signal);
    }
}

fn end(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, Some(signal)) => End::Killed(signal),
        _ => End::Lost,
    }
}

/// Whether the other end of standard input is closed; waits a moment for that.
fn is_closed() -> bool {
    let stdin = io::stdin();
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut ready, Some(&LOOK)) {
        Ok(0) | Err(_) => false,
        // Nobody writes to it.
        Ok(_) => !matches!(rustix::io::read(&stdin, &mut [0u8; 64]), Ok(n) if n > 0),
    }
}

#[cfg(target_os = "linux")]
mod descendants {
    use std::collections::BTreeMap;
    use std::fs;

    use rustix::process::Pid;

    /// Every process below one, by the kernel's list of who is whose child.
    pub(super) fn of(root: Pid) -> Vec<Pid> {
        let mut children: BTreeMap<i32, Vec<Pid>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid.and_then(Pid::from_raw)
                && let Ok(stat) = fs::read_to_string(entry.path().join("stat"))
                && let Some(parent) = parent(&stat)
            {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut found = Vec::new();
        let mut open = vec![root];
        while let Some(pid) = open.pop() {
            let below = children.remove(&pid.as_raw_pid()).unwrap_or_default();
            open.extend(&below);
            found.extend(below);
        }
        found
    }

    /// The parent in a line of `/proc/PID/stat`: the second field behind the name, which stands in
    /// brackets and may hold some itself.
    fn parent(stat: &str) -> Option<i32> {
        let behind = stat.rsplit_once(')')?.1;
        let parent = behind.split_whitespace().nth(1)?;
        parent.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_brackets_hides_no_parent() {
            assert_eq!(parent("12 (a) S 9 (b) R 34 12 12 0"), Some(34));
        }
    }
}
