//! A small HTTP server on loopback for tests, which can misbehave in every way that a socket allows.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The text that a completion is asked for.
    pub(crate) fn prompt(&self) -> String {
        let body = self.json();
        let of_chat = body["messages"][0]["content"].as_str();
        let text = of_chat.or_else(|| body["prompt"].as_str());
        text.unwrap_or_default().to_owned()
    }
}

/// What a server does with a request.
pub(crate) enum Answer {
    /// A whole reply.
    Reply(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Bytes as they are, then the end of the connection.
    Raw(Vec<u8>),
    /// Bytes as they are, then nothing for so long.
    Stall(Vec<u8>, Duration),
    /// Bytes as they are, then so many pieces of one MiB each.
    Flood(Vec<u8>, usize),
    /// Waits, then a whole reply.
    Late(Duration, Box<Self>),
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Reply(status, Vec::new(), body.to_string().into_bytes())
    }

    pub(crate) fn with(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Reply(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Reply(status, headers, body)
            }
            other => other,
        }
    }
}

type Handler = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    log: Mutex<Vec<Request>>,
    stopped: AtomicBool,
    busy: AtomicUsize,
    busiest: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A server; it stops when it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            busiest: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let copy = stream.try_clone().unwrap();
                accepting.open.lock().unwrap().push(copy);
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Self {
            url: format!("http://{address}"),
            address,
            shared,
        }
    }

    /// Requests as they came.
    pub(crate) fn log(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().clone()
    }

    /// The most requests that were answered at the same time.
    pub(crate) fn busiest(&self) -> usize {
        self.shared.busiest.load(Ordering::SeqCst)
    }

    /// Accepts no more connections and breaks those there are.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let _ = stream.set_nodelay(true);
    while let Some(request) = read_request(&mut reader) {
        let busy = shared.busy.fetch_add(1, Ordering::SeqCst) + 1;
        shared.busiest.fetch_max(busy, Ordering::SeqCst);
        shared.log.lock().unwrap().push(request.clone());
        let answer = (shared.handler)(&request);
        let goes_on = give(&mut stream, answer, request.method == "HEAD", &shared.busy);
        if !goes_on {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// Gives an answer; whether the connection goes on.
fn give(stream: &mut TcpStream, answer: Answer, head: bool, busy: &AtomicUsize) -> bool {
    let done = || busy.fetch_sub(1, Ordering::SeqCst);
    match answer {
        Answer::Reply(status, headers, body) => {
            let mut bytes = format!("HTTP/1.1 {status} x\r\n").into_bytes();
            if !headers.iter().any(|(name, _)| *name == "content-length") {
                bytes.extend(format!("content-length: {}\r\n", body.len()).into_bytes());
            }
            for (name, value) in headers {
                bytes.extend(format!("{name}: {value}\r\n").into_bytes());
            }
            bytes.extend(b"\r\n");
            if !head {
                bytes.extend(body);
            }
            done();
            stream.write_all(&bytes).is_ok()
        }
        Answer::Raw(bytes) => {
            done();
            let _ = stream.write_all(&bytes);
            false
        }
        Answer::Stall(bytes, pause) => {
            let _ = stream.write_all(&bytes);
            std::thread::sleep(pause);
            done();
            false
        }
        Answer::Flood(bytes, pieces) => {
            let _ = stream.write_all(&bytes);
            let piece = vec![b' '; 1 << 20];
            for _ in 0..pieces {
                if stream.write_all(&piece).is_err() {
                    break;
                }
            }
            done();
            false
        }
        Answer::Late(pause, then) => {
            std::thread::sleep(pause);
            give(stream, *then, head, busy)
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        headers,
        body,
        at: Instant::now(),
    })
}
