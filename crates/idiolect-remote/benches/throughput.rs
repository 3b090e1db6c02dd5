//! How many requests a second one endpoint takes: 10,000 of them, 256 in flight, against a trivial
//! server in this process. Prints the rate and the peak memory.
//!
//! `cargo bench -p idiolect-remote --bench throughput`

#![allow(
    clippy::print_stdout,
    reason = "a program whose result is what it prints"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::time::Instant;

use idiolect_model::{Context, Generate, GenerateRequest, Sampling};
use idiolect_remote::{Endpoint, Settings};

const REQUESTS: usize = 10_000;
const IN_FLIGHT: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let reference = format!("http://{}/v1#m", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let settings = Settings {
        in_flight: IN_FLIGHT,
        ..Settings::default()
    };
    let mut endpoint = Endpoint::open(&reference, None, settings)?;
    let prompt = "A farmer has some sheep. ".repeat(20);
    let requests: Vec<GenerateRequest> = (0..REQUESTS as u64)
        .map(|seed| GenerateRequest {
            context: Context::Prompt(prompt.clone()),
            seed,
        })
        .collect();
    println!("peak memory before: {} MiB", peak_mib());
    for round in 1..=3 {
        let mut answered = 0;
        let began = Instant::now();
        endpoint.generate(&requests, &Sampling::default(), &mut |_, result| {
            answered += usize::from(result.is_ok());
            ControlFlow::Continue(())
        })?;
        let rate = answered as f64 / began.elapsed().as_secs_f64();
        let peak = peak_mib();
        println!(
            "round {round}: {answered} of {REQUESTS} answered, {rate:.0} requests/s, peak memory {peak} MiB"
        );
    }
    println!("{:?}", endpoint.usage());
    Ok(())
}

/// Answers every request of a connection with the same completion.
fn serve(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let text = "Each sheep has four legs, so the answer is 48. ".repeat(20);
    let choice = format!(r#"{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}"#);
    let usage = r#"{"prompt_tokens":120,"completion_tokens":240}"#;
    let completion = format!(r#"{{"choices":[{choice}],"usage":{usage}}}"#);
    loop {
        let (mut list, mut length) = (false, 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
            list |= line.starts_with("GET");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let body = if list {
            r#"{"data":[{"id":"m"}]}"#
        } else {
            &completion
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).ok()?;
    }
}

/// Peak memory of this process, server included, where the system states it.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
