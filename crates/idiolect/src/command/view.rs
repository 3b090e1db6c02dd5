//! `idiolect view`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;

use super::output::{self, CommandOutput};
use idiolect::exit;
use idiolect::interrupt::Stop;

/// Show a run in a browser on this machine, while it goes and when it is done
///
/// Serves one page on 127.0.0.1: every job with its progress, training losses as they come, the
/// report once it is there, and any trace by its id, token by token. It reads the run directory and
/// changes nothing in it. Ctrl-C stops.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect view runs/default
  idiolect view runs/default --port 0 --json   # the first line names the address")]
pub(super) struct Arguments {
    /// The directory that `idiolect run` writes or wrote
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    port: u16,
    /// Print the address as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let listening = |address: SocketAddr| {
        let url = format!("http://{address}");
        output::print_error(&format!("view: open {url} in a browser; Ctrl-C stops"));
        if arguments.json {
            let mut out = io::stdout().lock();
            // Whoever closed it does not wait for the address.
            let _ = writeln!(out, "{}", json!({"listening": url, "port": address.port()}))
                .and_then(|()| out.flush());
        }
    };
    idiolect::serve::view(&arguments.run, arguments.port, listening, &Stop::default())?;
    Ok(CommandOutput {
        text: String::new(),
        json: json!({}),
        as_json: false,
        code: exit::DONE,
    })
}
