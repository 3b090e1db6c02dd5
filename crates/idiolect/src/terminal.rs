//! The terminal that results are shown on.

/// Its columns; `None` where standard output is none, or the system does not state it.
#[cfg(unix)]
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Its columns: not known on this system.
#[cfg(not(unix))]
pub fn columns() -> Option<usize> {
    None
}
