//! Requests to the hub. The token is sent to the hub and to nobody that it redirects to.

use std::fmt;
use std::time::Duration;

use idiolect_model::Rng;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, HeaderMap, LOCATION, RANGE,
};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::name::{Kind, Repo, is_hash, is_path};
use super::{Hub, HubError};
use crate::Key;
use crate::address::Base;
use crate::http::{self, Bounds};
use crate::pace::backoff;

/// From a renamed repository to its new name, from there to where the bytes are, and some more.
const MOST_REDIRECTS: usize = 8;

/// A list of files is not longer than this.
const MAX_LISTING: usize = 64 << 20;

pub(super) struct Access {
    client: Client,
    endpoint: Base,
    token: Option<Key>,
    pub(super) stall_timeout: Duration,
    pub(super) attempts: u32,
    pub(super) backoff: Duration,
}

/// What a repository holds at a revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<String>,
}

/// What the hub lists of a file.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// How messages name it.
    pub(super) file: String,
    pub(super) url: Url,
    /// The hash by which the cache names it.
    pub(super) etag: String,
    pub(super) bytes: u64,
    pub(super) commit: Option<String>,
}

impl Access {
    pub(super) fn new(hub: &Hub) -> Result<Self, HubError> {
        let endpoint = Base::parse(&hub.endpoint)
            .map_err(|reason| HubError::Invalid(format!("HF_ENDPOINT: {reason}")))?;
        let client = http::builder(Policy::none(), endpoint.is_loopback())
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| HubError::Invalid(http::causes(&error)))?;
        Ok(Self {
            client,
            endpoint,
            token: hub.token.clone(),
            stall_timeout: hub.stall_timeout,
            attempts: hub.attempts.max(1),
            backoff: hub.backoff,
        })
    }

    /// The files of a repository: those that the hub names with the commit, else those of its tree.
    pub(super) async fn listing(&self, repo: &Repo) -> Result<Listing, HubError> {
        let api = ["api", repo.plural()];
        let what = repo.to_string();
        let invalid =
            |lacks: &str| HubError::Invalid(format!("{} gives no {lacks} of {what}", self.name()));
        let url = self.url(&api, repo, &["revision", &repo.revision], "");
        let info = self.json(&url, &what).await?;
        let commit = info.get("sha").and_then(Value::as_str);
        let commit = commit.filter(|sha| is_hash(sha));
        let commit = commit.ok_or_else(|| invalid("commit"))?.to_owned();
        let (tree, name) = match info.get("siblings") {
            Some(siblings) => (siblings.clone(), "rfilename"),
            None => {
                let mut url = self.url(&api, repo, &["tree", &commit], "");
                url.set_query(Some("recursive=true"));
                (self.json(&url, &what).await?, "path")
            }
        };
        let entries = tree.as_array().ok_or_else(|| invalid("list of files"))?;
        let is_file = |entry: &&Value| entry.get("type").is_none_or(|kind| kind == "file");
        let names = entries
            .iter()
            .filter(is_file)
            .filter_map(|entry| entry.get(name)?.as_str());
        let files = names
            .filter(|name| is_path(name))
            .map(str::to_owned)
            .collect();
        Ok(Listing { commit, files })
    }

    /// What the hub's API returns at a URL.
    async fn json(&self, url: &Url, what: &str) -> Result<Value, HubError> {
        let bounds = Bounds {
            timeout: self.stall_timeout,
            stall_timeout: self.stall_timeout,
            max_body: MAX_LISTING,
            long_body: std::sync::Arc::default(),
        };
        let body = self
            .persistently(async || {
                let response = self.get(url, None, what).await?;
                http::read_body(response, &bounds)
                    .await
                    .map_err(|fault| self.unreachable(fault))
            })
            .await?;
        serde_json::from_slice(&body).map_err(|error| {
            HubError::Invalid(format!("{} sent no JSON for {what}: {error}", self.name()))
        })
    }

    /// What the hub lists of a file.
    pub(super) async fn metadata(
        &self,
        repo: &Repo,
        revision: &str,
        path: &str,
    ) -> Result<Metadata, HubError> {
        let kind: &[&str] = match repo.kind {
            Kind::Model => &[],
            Kind::Dataset => &["datasets"],
        };
        let url = self.url(kind, repo, &["resolve", revision], path);
        let file = format!("`{path}` of {repo}");
        self.persistently(async || self.head(&url, &file).await)
            .await
    }

    async fn head(&self, url: &Url, what: &str) -> Result<Metadata, HubError> {
        let mut at = url.clone();
        let mut with_token = true;
        let mut commit = None;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(Method::HEAD, &at, with_token, None).await?;
            let headers = response.headers();
            commit = commit.or_else(|| text(headers, "x-repo-commit").map(str::to_owned));
            let linked = text(headers, "x-linked-etag");
            if let Some(next) = next_url(&response, &at).filter(|_| linked.is_none()) {
                with_token &= http::is_same_server(url, &next);
                at = self.safe(next, url)?;
                continue;
            }
            if !response.status().is_redirection() {
                self.check(&response, what)?;
            }
            let invalid = |lacks: &str| {
                HubError::Invalid(format!("{} gives no {lacks} of {what}", self.name()))
            };
            let etag = linked.or_else(|| text(headers, ETAG.as_str()));
            let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
            let etag = etag
                .filter(|etag| is_hash(etag))
                .ok_or_else(|| invalid("hash"))?;
            let bytes = ["x-linked-size", CONTENT_LENGTH.as_str()]
                .into_iter()
                .find_map(|name| text(headers, name)?.parse().ok())
                .ok_or_else(|| invalid("size"))?;
            return Ok(Metadata {
                file: what.to_owned(),
                url: url.clone(),
                etag: etag.to_owned(),
                bytes,
                commit: commit.filter(|commit| is_hash(commit)),
            });
        }
        Err(self.too_many_redirects(what))
    }

    /// Begins to read something, from a byte on where one is given. Redirects are followed; the
    /// token stays with the hub.
    pub(super) async fn get(
        &self,
        url: &Url,
        from: Option<u64>,
        what: &str,
    ) -> Result<Response, HubError> {
        let mut at = url.clone();
        let mut with_token = true;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(Method::GET, &at, with_token, from).await?;
            let Some(next) = next_url(&response, &at) else {
                if response.status().as_u16() != 416 {
                    self.check(&response, what)?;
                }
                return Ok(response);
            };
            with_token &= http::is_same_server(url, &next);
            at = self.safe(next, url)?;
        }
        Err(self.too_many_redirects(what))
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        with_token: bool,
        from: Option<u64>,
    ) -> Result<Response, HubError> {
        let mut request = self
            .client
            .request(method, url.clone())
            // Sizes and hashes are those of the file itself.
            .header(ACCEPT_ENCODING, "identity");
        if let Some(token) = self.token.as_ref().filter(|_| with_token) {
            let value = token.header().ok_or_else(|| {
                HubError::NotAllowed("HF_TOKEN holds characters that no header can".to_owned())
            })?;
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(from) = from {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        timeout(self.stall_timeout, request.send())
            .await
            .map_err(|_| self.unreachable(http::NoReply::TimedOut(self.stall_timeout)))?
            .map_err(|error| self.unreachable(http::causes(&error)))
    }

    /// What the status of a reply means.
    fn check(&self, response: &Response, what: &str) -> Result<(), HubError> {
        let status = response.status().as_u16();
        let code = text(response.headers(), "x-error-code").unwrap_or_default();
        match status {
            200..=299 => Ok(()),
            401 | 403 => Err(HubError::NotAllowed(self.not_allowed(status, code, what))),
            404 | 410 => Err(HubError::NotFound {
                endpoint: self.name().to_owned(),
                what: what.to_owned(),
            }),
            408 | 425 | 429 | 500..=599 => {
                Err(self.unreachable(format!("status {status} for {what}")))
            }
            _ => Err(HubError::Invalid(format!(
                "status {status} from {} for {what}",
                self.name()
            ))),
        }
    }

    fn not_allowed(&self, status: u16, code: &str, what: &str) -> String {
        let hub = self.name();
        let gated = if code == "GatedRepo" {
            "it is gated"
        } else {
            "it does not exist, or is private or gated"
        };
        let fix = if self.token.is_some() {
            "accept its licence on its page with the account that HF_TOKEN is of, or check its name"
        } else {
            "accept its licence on its page and set HF_TOKEN, or check its name"
        };
        format!("{hub} does not give {what} (status {status}): {gated}; {fix}")
    }

    /// Tries something again while the hub is not reached.
    async fn persistently<T>(
        &self,
        mut work: impl AsyncFnMut() -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let mut chance = Rng::keyed(0, &["hub"]);
        for failed in 1..self.attempts {
            match work().await {
                Err(HubError::Unreachable(_)) => {
                    sleep(backoff(self.backoff, failed, &mut chance)).await;
                }
                other => return other,
            }
        }
        work().await
    }

    fn url(&self, kind: &[&str], repo: &Repo, between: &[&str], path: &str) -> Url {
        let mut url = self.endpoint.join("");
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(kind);
            segments.extend(repo.name.split('/'));
            segments.extend(between);
            if !path.is_empty() {
                segments.extend(path.split('/'));
            }
        }
        url
    }

    /// A redirect's target, unless it leaves encryption behind.
    fn safe(&self, next: Url, first: &Url) -> Result<Url, HubError> {
        let plain = first.scheme() == "https" && next.scheme() != "https";
        if plain || !matches!(next.scheme(), "http" | "https") {
            return Err(HubError::Invalid(format!(
                "{} redirects to a connection that is not encrypted",
                self.name()
            )));
        }
        Ok(next)
    }

    fn too_many_redirects(&self, what: &str) -> HubError {
        HubError::Invalid(format!("{} redirects {what} for ever", self.name()))
    }

    pub(super) fn unreachable(&self, reason: impl fmt::Display) -> HubError {
        HubError::Unreachable(format!("{}: {reason}", self.name()))
    }

    fn name(&self) -> &str {
        self.endpoint.text()
    }
}

/// Where a reply sends to.
fn next_url(response: &Response, from: &Url) -> Option<Url> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = text(response.headers(), LOCATION.as_str()).filter(|_| redirects)?;
    from.join(location).ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
