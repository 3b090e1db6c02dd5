//! The sandbox: the one place of the program that starts processes, to run Python code that a model
//! wrote.
//!
//! # How a verdict comes about
//!
//! The harness (`harness/`) runs in three kinds of process. A *server* keeps a warm interpreter and
//! forks a *judge* per program; the judge forks a *candidate* and only then reads the request. The
//! tests, the nonce and the pipe of verdicts are the judge's; the candidate has two pipes to the
//! judge and answers calls with plain data of known types, parsed strictly; any other object stays with the
//! candidate, and a test that applies an operator to it fails. So no trick inside the candidate's
//! interpreter (a patched builtin, an `__eq__` that always says yes, frames, the garbage collector,
//! native code) reaches the comparison or the verdict, and a candidate that ends its process has
//! failed. `server` is this program's side; [`Sandbox`] keeps as many servers as there are callers.
//! `docs/threat-model.md` lists what a candidate can try and what holds it.
//!
//! # What keeps it in (Linux)
//!
//! - Landlock (5.13 or later): no file but the interpreter's library and the system's shared
//!   libraries can be opened, none can be written, made or removed; where the kernel knows it, no
//!   TCP port and no signal to a process outside.
//! - seccomp, a list of allowed calls: no sockets of any kind, no new processes or programs, no
//!   signals, no tracing, no reading of another process's memory, no shared memory or message
//!   queues that would outlive it, no changes to modes, owners or times of files.
//! - Limits on address space, threads (the kernel asks the judge about each `clone`), CPU time, wall
//!   time, size of files (0), descriptors, and bytes returned. Its output goes nowhere. No descriptor
//!   of the caller's reaches it.
//! - No environment, no capability even as root, `no_new_privs`, death with its parent.
//!
//! Whether this holds is tried before anything else runs: a program that attempts the forbidden
//! must fail at all of it. Where the kernel offers too little, [`Sandbox::open`] refuses and names
//! `--unsafe-no-sandbox`, which leaves only the limits and the separate processes.
//!
//! # What is not covered
//!
//! - Faults of the kernel, and of the processor (timing, speculation).
//! - That a file exists, its size and times: Landlock does not govern `stat`. Contents and listings
//!   it does. Host name, kernel version, clock, user id and load can be read.
//! - Time: a candidate may use its whole allowance of a core; a program near the limit may pass on
//!   one machine and not on another. Programs that draw from the clock or from the operating
//!   system's random numbers are judged by one run.
//! - The tests. They run in the judge, under the same confinement, but they are believed: a test
//!   that evaluates a text which the candidate returned lets it decide its own verdict.
//! - Values cross as copies: a test that asks whether two results are one object fails. Sets are
//!   rebuilt and may iterate in another order. Instances of the setup's classes keep their identity;
//!   those of a class that only the tests know cannot cross, and leave the program unjudged.
//! - Objects of the candidate's own classes: attributes and methods that the tests ask for by name
//!   are believed, their operators are not, so that a right program whose tests need those fails.
//! - A candidate may leave its verdict undecided (an import that fails, a value that cannot cross),
//!   never make it better.

mod confine;
mod python;
mod reason;
mod server;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use idiolect_core::task::{Execute, Execution, Program};
use serde::Serialize;

use self::python::Interpreter;
use self::server::{Lost, Server};

/// What a candidate may use.
#[derive(Clone, Copy, Debug, Serialize)]
struct Limits {
    /// Address space, bytes; the judge has twice as much.
    memory_bytes: u64,
    /// Processor time, seconds; the judge has twice as much.
    cpu_s: u64,
    /// Wall time, seconds, in which it has to use a tenth of a second of processor time or answer.
    idle_s: u64,
    /// Wall time, seconds, of everything it does; twenty more for each second of processor time used.
    wall_s: u64,
    /// Bytes of all values returned.
    output_bytes: u64,
}

const LIMITS: Limits = Limits {
    memory_bytes: 1 << 30,
    cpu_s: 10,
    idle_s: 20,
    wall_s: 120,
    output_bytes: 16 << 20,
};

/// Whether code runs in the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Refuse where the kernel offers too little.
    Required,
    /// `--unsafe-no-sandbox`.
    Waived,
}

/// Why code cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// No interpreter, or one that is too old.
    #[error("running MBPP's code needs a Python interpreter of version 3.9 or later, and {0}")]
    NoPython(String),
    /// The system does not protect.
    #[error("code written by a model is run in a sandbox, and this system does not offer one: {0}")]
    NoProtection(String),
    /// The interpreter runs and the harness does not.
    #[error("the code runner does not start: {0}")]
    Broken(String),
}

impl SandboxError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoPython(_) => {
                "install python3, or name an interpreter in the environment variable IDIOLECT_PYTHON"
            }
            Self::NoProtection(_) => {
                "use Linux 5.13 or later with Landlock and seccomp, or accept the risk that such code harms this machine with --unsafe-no-sandbox"
            }
            Self::Broken(_) => "this is a fault of the program or of the interpreter",
        }
    }
}

/// Runs Python programs. Threads may share it; each takes a server of its own.
pub struct Sandbox {
    interpreter: Interpreter,
    protection: Protection,
    idle: Mutex<Vec<Server>>,
    broken: Mutex<Option<String>>,
}

impl Sandbox {
    /// Finds an interpreter, starts the first server, and makes sure that the protection holds.
    pub fn open(protection: Protection) -> Result<Self, SandboxError> {
        let interpreter = python::find().map_err(SandboxError::NoPython)?;
        let sandbox = Self {
            interpreter,
            protection,
            idle: Mutex::default(),
            broken: Mutex::default(),
        };
        if protection == Protection::Required {
            confine::offered().map_err(SandboxError::NoProtection)?;
        }
        let mut server = sandbox.start().map_err(|why| match protection {
            Protection::Required => SandboxError::NoProtection(why),
            Protection::Waived => SandboxError::Broken(why),
        })?;
        sandbox.try_out(&mut server)?;
        sandbox.put_back(server);
        Ok(sandbox)
    }

    /// What ran the code, as an output's provenance records it.
    pub fn describe(&self) -> String {
        let how = match self.protection {
            Protection::Required => "sandbox",
            Protection::Waived => "unprotected",
        };
        format!("python {} in {how}@2", self.interpreter.version)
    }

    /// Why a program could not be judged, if that happened: servers died of no fault of theirs.
    pub fn broken(&self) -> Option<String> {
        self.broken.lock().ok().and_then(|broken| broken.clone())
    }

    fn start(&self) -> Result<Server, String> {
        Server::start(&self.interpreter, self.protection, LIMITS)
    }

    fn take(&self) -> Option<Server> {
        self.idle.lock().ok().and_then(|mut idle| idle.pop())
    }

    fn put_back(&self, server: Server) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(server);
        }
    }

    /// Runs a program that does nothing wrong and one that tries what must fail.
    fn try_out(&self, server: &mut Server) -> Result<(), SandboxError> {
        try_harmless(server).map_err(SandboxError::Broken)?;
        if self.protection == Protection::Required {
            let attempts = include_str!("harness/attempts.py");
            let test = "open_ways = attempts()\nassert not open_ways, ', '.join(open_ways)";
            passes(server, attempts, test)
                .map_err(|why| SandboxError::NoProtection(format!("a trial got through: {why}")))?;
        }
        Ok(())
    }
}

/// Whether a program passes its test.
fn passes(server: &mut Server, code: &str, test: &str) -> Result<(), String> {
    let tests = [test.to_owned()];
    let program = Program {
        code,
        setup: "",
        tests: &tests,
    };
    match server.run(&program) {
        Ok(Execution::Passed) => Ok(()),
        Ok(Execution::Failed { reason, .. } | Execution::NotJudged(reason)) => Err(reason),
        Err(Lost(why)) => Err(why),
    }
}

fn try_harmless(server: &mut Server) -> Result<(), String> {
    passes(server, "def f(x): return x + 1", "assert f(1) == 2")
}

impl Execute for Sandbox {
    /// A server that is lost takes its program with it; a second one tries once more. Where that is
    /// lost too, a program that does nothing wrong shows whether the machine is at fault, which ends
    /// the stage, or this program, which is left unjudged. It gets three tries: a neighbour may have
    /// taken all memory for a moment.
    fn execute(&self, program: &Program<'_>) -> Execution {
        let mut why = String::new();
        for _ in 0..2 {
            let mut server = match self.take().map_or_else(|| self.start(), Ok) {
                Ok(server) => server,
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            match server.run(program) {
                Ok(execution) => {
                    if server.is_alive() {
                        self.put_back(server);
                    }
                    return execution;
                }
                Err(Lost(error)) => why = error,
            }
        }
        for pause_s in [0, 1, 5] {
            std::thread::sleep(Duration::from_secs(pause_s));
            if let Ok(mut server) = self.start()
                && try_harmless(&mut server).is_ok()
            {
                self.put_back(server);
                let reason = format!("it ends what judges it: {why}");
                return Execution::NotJudged(reason::plain(&reason));
            }
        }
        if let Ok(mut broken) = self.broken.lock() {
            broken.get_or_insert_with(|| why.clone());
        }
        Execution::NotJudged(reason::plain(&format!("the code runner failed: {why}")))
    }
}

/// Where this process was started to become a confined interpreter, does that and never returns
/// except by failing.
pub fn enter() -> Option<ExitCode> {
    confine::enter()
}
