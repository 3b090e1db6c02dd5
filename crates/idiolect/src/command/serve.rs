//! `idiolect serve`.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use idiolect_model::Model;
use serde_json::json;

use super::options::{self, KvOption, ModelOptions};
use super::output::{self, CommandOutput};
use idiolect::exit;
use idiolect::interrupt::Stop;
use idiolect::serve::{ServeSettings, serve};
use idiolect::stage::StageError;

/// Serve a model over HTTP to OpenAI-compatible clients
///
/// Answers /v1/completions, /v1/chat/completions, /v1/models, /tokenize, /detokenize, /health and
/// /metrics. Requests join a running batch; a request's text is that of `generate` for the same
/// prompt, sampling and seed, whatever it is batched with. Log-probabilities are those of the model
/// as it is, without temperature and filters. Ctrl-C stops: running requests finish.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect serve --model models/student
  idiolect serve --model models/student --port 0 --json   # the first line names the address
  KEY=$(openssl rand -hex 16) idiolect serve --model models/student --host 0.0.0.0 --api-key-env KEY

  curl http://127.0.0.1:8080/v1/completions -H 'Content-Type: application/json' \\
    -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 32, \"temperature\": 0}'")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Address to listen on; others than this machine reach it only if it is not loopback
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// Environment variable that holds the key which clients must send as a bearer token
    #[arg(long, value_name = "NAME")]
    api_key_env: Option<String>,
    /// Name of the model in requests and answers; default the directory's
    #[arg(long, value_name = "NAME")]
    served_model_name: Option<String>,
    /// Completions that may wait for a slot; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 1024,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    max_queue: usize,
    /// Largest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    max_body: usize,
    /// Seconds that running requests have to finish once the server stops
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    #[command(flatten)]
    kv: KvOption,
    /// Threads to use, default all cores; never changes results
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print the address as one line of JSON, and at the end what was served
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let address = address(&arguments.host, arguments.port)?;
    let key = arguments.api_key_env.as_deref().map(key).transpose()?;
    let threads = options::threads(arguments.threads);
    let progress = options::progress(arguments.quiet);
    let model = arguments
        .model
        .open_here(threads, &arguments.kv, &progress)?;
    let own = model.info().name.clone();
    let settings = ServeSettings {
        address,
        key,
        names: vec![
            arguments.served_model_name.clone().unwrap_or(own),
            arguments.model.text.model.clone(),
        ],
        max_queue: arguments.max_queue,
        max_body: arguments.max_body << 20,
        grace: Duration::from_secs(arguments.grace),
    };
    if !address.ip().is_loopback() && settings.key.is_none() {
        output::print_error(
            "warning: everybody who reaches this machine can use the model; --api-key-env NAME \
             asks for a key",
        );
    }
    let listening = |address: SocketAddr| {
        let url = format!("http://{address}");
        output::print_error(&format!("serve: {} on {url}", settings.names[0]));
        if arguments.json {
            let line = json!({"listening": url, "host": address.ip().to_string(),
                "port": address.port(), "model": settings.names[0]});
            let mut out = io::stdout().lock();
            // Whoever closed it does not wait for the address.
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    };
    let served = serve(model, &settings, listening, (&progress, &Stop::default()))?;
    let mut text = format!(
        "served {} requests: {} prompt tokens, {} generated tokens",
        served.requests, served.prompt_tokens, served.generated_tokens
    );
    if served.cut_off {
        text.push_str("; some were cut off (--grace)");
    }
    Ok(CommandOutput {
        text,
        json: json!({
            "requests": served.requests,
            "prompt_tokens": served.prompt_tokens,
            "generated_tokens": served.generated_tokens,
            "cut_off": served.cut_off,
        }),
        as_json: arguments.json,
        code: exit::DONE,
    })
}

fn address(host: &str, port: u16) -> Result<SocketAddr, StageError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    let found = (host, port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut a| a.next());
    found.ok_or_else(|| {
        StageError::usage(
            format!("--host {host}: no such host"),
            "127.0.0.1 is this machine alone, 0.0.0.0 every network that it is on",
        )
    })
}

/// The key in an environment variable. Its value is never shown.
fn key(name: &str) -> Result<String, StageError> {
    match std::env::var(name) {
        Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
        Ok(_) => Err(StageError::usage(
            format!("--api-key-env {name}: the variable is empty"),
            "set it to the key that clients are to send",
        )),
        Err(_) => Err(StageError::usage(
            format!("--api-key-env {name}: no such variable, or it is no text"),
            "set it to the key that clients are to send",
        )),
    }
}
