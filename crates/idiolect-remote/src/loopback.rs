//! Servers on this machine that the program starts itself: a port for one, whether it is ready,
//! adapters of a running one.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::Key;
use crate::http::{self, Bounds, NoReply, Reply, exchange};
use crate::runtime;

/// Below the ports that systems give to outgoing connections, which a server that loads for minutes
/// before it listens could lose its port to.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports that are tried.
const TRIES: usize = 1000;

/// A port for a server of this process, that no other process of this program chooses while it is
/// held.
#[derive(Debug)]
pub struct Port {
    number: u16,
    #[cfg(target_os = "linux")]
    _held: std::os::unix::net::UnixListener,
}

impl Port {
    /// A free one by chance.
    ///
    /// # Errors
    /// Where none of many is free.
    pub fn choose() -> io::Result<Self> {
        let chance = RandomState::new();
        for attempt in 0..TRIES {
            let span = u64::from(PORTS.end - PORTS.start);
            let offset = (chance.hash_one(attempt) % span) as u16;
            let number = PORTS.start + offset;
            if let Some(port) = Self::hold(number).filter(|port| !port.is_taken()) {
                return Ok(port);
            }
        }
        Err(io::Error::other(format!(
            "no port of this machine from {} to {} is free",
            PORTS.start, PORTS.end
        )))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Whether some process listens on it.
    pub fn is_taken(&self) -> bool {
        TcpListener::bind(("127.0.0.1", self.number)).is_err()
    }

    /// A name that the kernel gives to one process at a time, and takes back at its end.
    #[cfg(target_os = "linux")]
    fn hold(number: u16) -> Option<Self> {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener};
        let name = SocketAddr::from_abstract_name(format!("idiolect-port-{number}")).ok()?;
        let held = UnixListener::bind_addr(&name).ok()?;
        Some(Self {
            number,
            _held: held,
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(number: u16) -> Option<Self> {
        Some(Self { number })
    }
}

/// Whether a server can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can; the names of the models that it lists.
    Ready(Vec<String>),
    /// Not yet, and what it answers.
    NotYet(String),
}

/// How long one question about readiness may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks a server on this machine whether it is ready: by `/health` where it has that, else by
/// `/v1/models`. Either alone says too little: llama.cpp lists its model while it loads it, and
/// some servers have no `/health`.
pub fn readiness(port: u16, key: Option<&Key>) -> Readiness {
    let health = ask(port, "health", None, key, PATIENCE);
    match health {
        Ok(Reply { status: 200, .. }) => {}
        Ok(Reply {
            status: 401 | 403 | 404 | 405 | 501,
            ..
        }) => {}
        Ok(reply) => return Readiness::NotYet(format!("`/health` answers {}", reply.status)),
        Err(error) => return Readiness::NotYet(error),
    }
    let has_health = matches!(health, Ok(Reply { status: 200, .. }));
    match ask(port, "v1/models", None, key, PATIENCE) {
        Ok(reply) if reply.status == 200 => Readiness::Ready(names(&reply.body)),
        // What it lacks, and whether it wants a key, is found out where it is opened.
        Ok(reply) if has_health && reply.status < 500 => Readiness::Ready(Vec::new()),
        Ok(reply) => Readiness::NotYet(format!("`/v1/models` answers {}", reply.status)),
        Err(error) => Readiness::NotYet(error),
    }
}

fn names(body: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    let entries = list.get("data").and_then(Value::as_array);
    let ids = entries.into_iter().flatten();
    ids.filter_map(|entry| entry.get("id")?.as_str().map(str::to_owned))
        .collect()
}

/// Has a server load an adapter under a name, as vLLM does where it runs with `--enable-lora` and
/// the variable `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`.
///
/// # Errors
/// The server's words.
pub fn load_adapter(port: u16, name: &str, path: &str, key: Option<&Key>) -> Result<(), String> {
    let body = json!({"lora_name": name, "lora_path": path});
    change_adapters(port, "v1/load_lora_adapter", &body, key)
}

/// Has a server forget an adapter.
///
/// # Errors
/// As [`load_adapter`].
pub fn unload_adapter(port: u16, name: &str, key: Option<&Key>) -> Result<(), String> {
    let body = json!({"lora_name": name});
    change_adapters(port, "v1/unload_lora_adapter", &body, key)
}

fn change_adapters(port: u16, path: &str, body: &Value, key: Option<&Key>) -> Result<(), String> {
    let reply = ask(port, path, Some(body), key, Duration::from_secs(600))?;
    match reply.status {
        200 => Ok(()),
        status => {
            let text = String::from_utf8_lossy(&reply.body);
            let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let text: String = text.chars().filter(|c| !c.is_control()).take(400).collect();
            Err(format!("`/{path}` answers {status}: {text}"))
        }
    }
}

/// One exchange with a server on this machine.
fn ask(
    port: u16,
    path: &str,
    body: Option<&Value>,
    key: Option<&Key>,
    patience: Duration,
) -> Result<Reply, String> {
    let plain = |error: &dyn std::fmt::Display| error.to_string();
    let url = Url::parse(&format!("http://127.0.0.1:{port}/{path}")).map_err(|e| plain(&e))?;
    let network = runtime::handle().map_err(|e| plain(&e))?;
    let client = http::builder(http::same_server_only(), true)
        .connect_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| http::causes(&error))?;
    let method = if body.is_some() {
        Method::POST
    } else {
        Method::GET
    };
    let mut request = client.request(method, url);
    if let Some(value) = key.and_then(Key::header) {
        request = request.header(AUTHORIZATION, value);
    }
    if let Some(body) = body {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    let bounds = Bounds {
        timeout: patience,
        stall_timeout: patience,
        max_body: 4 << 20,
        long_body: Arc::default(),
    };
    network
        .block_on(exchange(request, &bounds))
        .map_err(|error: NoReply| match error {
            NoReply::Unreachable(_) => format!("nothing listens on port {port}"),
            other => format!("`/{path}`: {other}"),
        })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// A server that answers each path of `replies` by its status and body, and 404 else.
    fn serve(port: &Port, replies: &'static [(&'static str, u16, &'static str)]) {
        let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = vec![0; 4096];
                let n = stream.read(&mut head).unwrap();
                let head = String::from_utf8_lossy(&head[..n]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let (status, body) = replies
                    .iter()
                    .find(|(known, _, _)| *known == path)
                    .map_or((404, "{}"), |(_, status, body)| (*status, *body));
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
    }

    #[test]
    fn no_two_hold_one_port_and_a_taken_one_is_seen() {
        let a = Port::choose().unwrap();
        assert!(PORTS.contains(&a.number()) && !a.is_taken());
        #[cfg(target_os = "linux")]
        assert!(Port::hold(a.number()).is_none());
        let _listener = TcpListener::bind(("127.0.0.1", a.number())).unwrap();
        assert!(a.is_taken());
    }

    #[test]
    fn ready_is_what_health_and_models_say_together() {
        const LIST: &str = r#"{"data":[{"id":"m"},{"id":"n"}]}"#;
        const EMPTY: &str = r#"{"object":"list"}"#;
        type Replies = &'static [(&'static str, u16, &'static str)];
        let cases: [(Replies, Result<&[&str], &str>); 6] = [
            (
                &[("/health", 200, ""), ("/v1/models", 200, LIST)],
                Ok(&["m", "n"]),
            ),
            // llama.cpp while it loads.
            (
                &[("/health", 503, ""), ("/v1/models", 200, LIST)],
                Err("`/health` answers 503"),
            ),
            (&[("/v1/models", 200, LIST)], Ok(&["m", "n"])),
            (&[("/v1/models", 200, EMPTY)], Ok(&[])),
            (&[("/health", 200, "")], Ok(&[])),
            (&[], Err("`/v1/models` answers 404")),
        ];
        for (replies, expected) in cases {
            let port = Port::choose().unwrap();
            serve(&port, replies);
            let found = readiness(port.number(), None);
            let expected = match expected {
                Ok(names) => Readiness::Ready(names.iter().map(|n| (*n).to_owned()).collect()),
                Err(words) => Readiness::NotYet(words.to_owned()),
            };
            assert_eq!(found, expected, "{replies:?}");
        }
        let port = Port::choose().unwrap();
        let Readiness::NotYet(words) = readiness(port.number(), None) else {
            panic!("nobody is ready");
        };
        assert!(words.contains("nothing listens"), "{words}");
    }

    #[test]
    fn adapters_come_and_go_or_the_server_says_why_not() {
        let port = Port::choose().unwrap();
        serve(&port, &[("/v1/load_lora_adapter", 200, "Success")]);
        assert_eq!(load_adapter(port.number(), "a", "/a", None), Ok(()));
        let error = unload_adapter(port.number(), "a", None).unwrap_err();
        assert_eq!(error, "`/v1/unload_lora_adapter` answers 404: {}");
    }
}
