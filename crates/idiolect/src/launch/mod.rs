//! Programs of others that idiolect starts: model servers, trainers and the tools of
//! clusters. Beside the sandbox this is
//! the one place that starts processes.
//!
//! # A certain end
//!
//! Between idiolect and the program stands a *guard*: this program once more, with nothing to do but
//! wait. It holds a pipe whose other end only idiolect holds, so that whatever ends idiolect (a
//! return, a panic, Ctrl-C, SIGKILL, the out-of-memory killer) closes the pipe and wakes the guard,
//! which then asks the program to end (SIGTERM), waits for a grace, and kills what is left.
//!
//! A process group is not enough to kill: launchers such as `torchrun` start their workers in
//! sessions of their own, and those hold the GPU's memory. On Linux the guard is therefore the
//! *subreaper* of all that the program started: a descendant whose parent dies becomes the guard's
//! child, whatever its group or session, and the guard ends only when it has none left. Elsewhere it
//! ends the process group.
//!
//! Should the guard itself be killed, the kernel kills the program (parent-death signal, Linux), and
//! idiolect, which sees the pipe of reports close, the program's group. What neither covers: guard
//! and idiolect killed in the same moment, for processes that the program put into other sessions.
//!
//! A program built on this library calls [`enter`] first in its `main`, or names one that does in
//! [`Launch::guard`].

mod guard;
mod log;
mod process;
mod server;
mod servers;
mod template;

pub mod command;
pub mod python;

pub use guard::enter;
pub use log::Log;
pub use process::{End, Launch, Process};
pub use server::{Adapters, READY_TIMEOUT_S, Server, ServerSettings, Serving};
pub use servers::{Lease, Logs, Servers};
pub use template::{Template, find_program};
