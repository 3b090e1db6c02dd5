//! The threads that wait for the network, shared by everything in this process that does.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Enough: they wait and copy; what is computed of a reply is little.
const WORKERS: usize = 2;

/// The shared runtime; it lives as long as the process.
pub(crate) fn handle() -> Result<Handle, std::io::Error> {
    static RUNTIME: OnceLock<Result<Runtime, std::io::ErrorKind>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("network")
                .enable_all()
                .build()
                .map_err(|error| error.kind())
        })
        .as_ref()
        .map(|runtime| runtime.handle().clone())
        .map_err(|kind| (*kind).into())
}
