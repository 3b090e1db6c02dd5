//! Downloading one file: continued where it was cut, checked before it gets its name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use idiolect_model::Rng;
use reqwest::header::CONTENT_RANGE;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

use super::HubError;
use super::access::{Access, Metadata};
use super::cache::{Cache, create_parent};
use crate::http::{self, NoReply};
use crate::pace::backoff;

/// How often another process is looked after that downloads the same file.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Another process that gets no further for so long is stuck.
const STUCK: Duration = Duration::from_secs(600);

/// Downloads a file into the cache, unless it is there. Reports how many of its bytes there are.
pub(super) async fn fetch(
    access: &Access,
    cache: &Cache,
    wanted: &Metadata,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<(), HubError> {
    let blob = cache.blob(&wanted.etag);
    let is_there = || blob.metadata().is_ok_and(|file| file.len() == wanted.bytes);
    if !is_there() {
        let _lock = lock(cache, &wanted.etag, progress).await?;
        // Another process may have downloaded it meanwhile.
        if !is_there() {
            let incomplete = cache.incomplete(&wanted.etag);
            let mut partial = Partial::open(&incomplete, wanted)?;
            let continued = partial.bytes > 0;
            partial.complete(access, wanted, progress).await?;
            let mut found = partial.hash.text();
            if found != wanted.etag && continued && partial.hash.is_known() {
                // What was there before may have been another file's.
                partial.restart()?;
                partial.complete(access, wanted, progress).await?;
                found = partial.hash.text();
            }
            if found != wanted.etag && partial.hash.is_known() {
                drop(partial);
                std::fs::remove_file(&incomplete).map_err(HubError::io(&incomplete))?;
                return Err(HubError::Checksum {
                    file: wanted.file.clone(),
                    expected: wanted.etag.clone(),
                    found,
                });
            }
            partial.file.sync_all().map_err(HubError::io(&incomplete))?;
            std::fs::rename(&incomplete, &blob).map_err(HubError::io(&blob))?;
        }
    }
    stopped(progress(wanted.bytes))
}

/// The hash by which a file is named: of its bytes, or of the git object that holds them.
enum Hash {
    Sha256(Sha256),
    GitBlob(Sha1),
    /// Of another kind; such a file cannot be checked.
    Unknown,
}

impl Hash {
    fn new(wanted: &Metadata) -> Self {
        let hexadecimal = wanted.etag.bytes().all(|b| b.is_ascii_hexdigit());
        match wanted.etag.len() {
            64 if hexadecimal => Self::Sha256(Sha256::new()),
            40 if hexadecimal => {
                let head = format!("blob {}\0", wanted.bytes);
                Self::GitBlob(Sha1::new_with_prefix(head))
            }
            _ => Self::Unknown,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    fn text(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Self::Sha256(hash) => hex(&hash.clone().finalize()),
            Self::GitBlob(hash) => hex(&hash.clone().finalize()),
            Self::Unknown => String::new(),
        }
    }

    fn is_known(&self) -> bool {
        !matches!(self, Self::Unknown)
    }
}

/// A file that is being downloaded.
struct Partial<'a> {
    path: &'a Path,
    wanted: &'a Metadata,
    file: File,
    /// Bytes written, all of them hashed.
    bytes: u64,
    hash: Hash,
}

impl<'a> Partial<'a> {
    fn open(path: &'a Path, wanted: &'a Metadata) -> Result<Self, HubError> {
        create_parent(path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(HubError::io(path))?;
        let mut hash = Hash::new(wanted);
        let mut bytes = 0;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer).map_err(HubError::io(path))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            bytes += n as u64;
        }
        let mut partial = Self {
            path,
            wanted,
            file,
            bytes,
            hash,
        };
        if bytes > wanted.bytes {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(HubError::io(self.path))?;
        self.bytes = 0;
        self.hash = Hash::new(self.wanted);
        Ok(())
    }

    /// Downloads what is missing, on as many connections as it takes, as long as each gets further.
    async fn complete(
        &mut self,
        access: &Access,
        wanted: &Metadata,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), HubError> {
        let mut chance = Rng::keyed(0, &["download", &wanted.etag]);
        let mut failed = 0;
        while self.bytes < wanted.bytes {
            let before = self.bytes;
            let Err(error) = self.go_on(access, wanted, progress).await else {
                continue;
            };
            if !matches!(error, HubError::Unreachable(_)) {
                return Err(error);
            }
            failed = if self.bytes > before { 0 } else { failed + 1 };
            if failed >= access.attempts {
                return Err(error);
            }
            sleep(backoff(access.backoff, failed.max(1), &mut chance)).await;
        }
        Ok(())
    }

    /// One connection.
    async fn go_on(
        &mut self,
        access: &Access,
        wanted: &Metadata,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), HubError> {
        let from = (self.bytes > 0).then_some(self.bytes);
        let mut response = access.get(&wanted.url, from, &wanted.file).await?;
        let begins_at = match response.status().as_u16() {
            206 => response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok())
                .and_then(|value| {
                    value
                        .strip_prefix("bytes ")?
                        .split('-')
                        .next()?
                        .parse()
                        .ok()
                }),
            // The server does not continue, or cannot: from the start, then.
            416 => {
                self.restart()?;
                return Err(access.unreachable("it has no more of the file than is there"));
            }
            _ => Some(0),
        };
        if begins_at != Some(self.bytes) {
            self.restart()?;
            if begins_at != Some(0) {
                return Err(access.unreachable("it continues at another byte than was asked for"));
            }
        }
        loop {
            let chunk = timeout(access.stall_timeout, response.chunk())
                .await
                .map_err(|_| access.unreachable(NoReply::Stalled(access.stall_timeout)))?
                .map_err(|error| access.unreachable(NoReply::Cut(http::causes(&error))))?;
            let Some(chunk) = chunk else {
                break;
            };
            if self.bytes + chunk.len() as u64 > wanted.bytes {
                self.restart()?;
                return Err(HubError::Invalid(format!(
                    "{} is longer than the {} bytes that the hub states",
                    wanted.file, wanted.bytes
                )));
            }
            self.file
                .write_all(&chunk)
                .map_err(HubError::io(self.path))?;
            self.hash.update(&chunk);
            self.bytes += chunk.len() as u64;
            stopped(progress(self.bytes))?;
        }
        if self.bytes < wanted.bytes {
            return Err(access.unreachable("the reply ended too early"));
        }
        Ok(())
    }
}

/// Waits until no other process downloads the file.
async fn lock(
    cache: &Cache,
    etag: &str,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<File, HubError> {
    let path = cache.lock(etag);
    create_parent(&path)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(HubError::io(&path))?;
    let mut last = (cache.present(etag), Instant::now());
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(source)) => return Err(HubError::io(&path)(source)),
        }
        let present = cache.present(etag);
        if present != last.0 {
            last = (present, Instant::now());
        } else if last.1.elapsed() > STUCK {
            let stuck = std::io::Error::other("another process holds it and gets no further");
            return Err(HubError::io(&path)(stuck));
        }
        stopped(progress(present))?;
        sleep(LOOK_AGAIN).await;
    }
}

fn stopped(flow: ControlFlow<()>) -> Result<(), HubError> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Stopped),
    }
}
