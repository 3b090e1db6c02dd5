//! One exchange over HTTP, bounded in time and in memory.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, Url};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Replies up to this size are read side by side; longer ones wait for each other, so that many
/// endless replies together take no more memory than one.
const SMALL_BODY: usize = 2 << 20;

/// What bounds an exchange.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Until the whole reply is there.
    pub(crate) timeout: Duration,
    /// Between two pieces of a reply.
    pub(crate) stall_timeout: Duration,
    /// The longest reply, bytes.
    pub(crate) max_body: usize,
    /// Taken by whoever reads a long reply.
    pub(crate) long_body: Arc<Mutex<()>>,
}

/// A whole reply, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no whole reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReply {
    /// No connection, or none that lived until the reply began.
    #[error("{0}")]
    Unreachable(String),
    /// The reply began and did not end.
    #[error("the reply was cut off: {0}")]
    Cut(String),
    /// Too slow.
    #[error("no whole reply within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// Too slow in sending what had begun.
    #[error("the reply stalled for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// Longer than a reply may be.
    #[error("the reply is longer than {} MiB", .0 >> 20)]
    TooLong(usize),
}

/// A builder of clients with what all share: TLS by ring with the system's certificates, no cookies,
/// and no redirects but those that `redirects` allows. Servers on this machine are spoken to without
/// a proxy, whatever the environment sets.
pub(crate) fn builder(redirects: Policy, loopback: bool) -> ClientBuilder {
    // Another part of the process may have chosen a provider already; that one serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .redirect(redirects)
        .referer(false)
        .http1_only()
        .tcp_nodelay(true)
        .tcp_keepalive(Duration::from_secs(30))
        .user_agent(concat!("idiolect/", env!("CARGO_PKG_VERSION")));
    if loopback {
        builder.no_proxy()
    } else {
        builder
    }
}

/// Follows redirects within one server; one to another is left unfollowed, so that nothing that was
/// sent with a key goes elsewhere.
pub(crate) fn same_server_only() -> Policy {
    Policy::custom(|attempt| {
        let same = attempt
            .previous()
            .first()
            .is_some_and(|first| is_same_server(first, attempt.url()));
        if same && attempt.previous().len() <= 5 {
            attempt.follow()
        } else {
            attempt.stop()
        }
    })
}

/// Whether two URLs are of one server: scheme, host and port.
pub(crate) fn is_same_server(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// Sends a request and reads its whole reply.
pub(crate) async fn exchange(request: RequestBuilder, bounds: &Bounds) -> Result<Reply, NoReply> {
    let whole = async {
        let response = request.send().await.map_err(|error| no_reply(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = read_body(response, bounds).await?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    };
    timeout(bounds.timeout, whole)
        .await
        .unwrap_or(Err(NoReply::TimedOut(bounds.timeout)))
}

/// Reads the whole body of a reply.
pub(crate) async fn read_body(mut response: Response, bounds: &Bounds) -> Result<Vec<u8>, NoReply> {
    let too_long = NoReply::TooLong(bounds.max_body);
    let declared = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bounds.max_body as u64) {
        return Err(too_long);
    }
    let mut body = Vec::new();
    let mut turn = None;
    loop {
        let chunk = timeout(bounds.stall_timeout, response.chunk())
            .await
            .map_err(|_| NoReply::Stalled(bounds.stall_timeout))?
            .map_err(|error| NoReply::Cut(causes(&error)))?;
        let Some(chunk) = chunk else {
            return Ok(body);
        };
        if body.len() + chunk.len() > bounds.max_body {
            return Err(too_long);
        }
        if turn.is_none() && body.len() + chunk.len() > SMALL_BODY {
            turn = Some(bounds.long_body.lock().await);
        }
        body.extend_from_slice(&chunk);
    }
}

fn no_reply(error: &reqwest::Error) -> NoReply {
    NoReply::Unreachable(causes(error))
}

/// An error with its causes, without the URL, which the caller names.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() {
        "cannot connect".to_owned()
    } else if error.is_body() || error.is_decode() {
        "the connection broke".to_owned()
    } else {
        "the request failed".to_owned()
    };
    let mut last = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        last = cause.to_string();
        source = cause.source();
    }
    // The innermost cause is the system's own; those around it repeat where it happened.
    if !last.is_empty() {
        text.push_str(": ");
        text.push_str(&last);
    }
    text
}
