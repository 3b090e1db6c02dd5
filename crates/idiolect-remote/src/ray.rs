//! Jobs on a Ray cluster, by the REST API of its dashboard.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::Key;
use crate::address::Base;
use crate::http::{self, Bounds, exchange};
use crate::runtime;

/// The longest reply: the list of jobs, or a job's log.
const MAX_BODY: usize = 64 << 20;

/// The variable that holds the token of a cluster that asks for one.
const TOKEN: &str = "RAY_AUTH_TOKEN";

/// The jobs of a Ray cluster.
pub struct RayJobs {
    base: Base,
    client: Client,
    token: Option<Key>,
    network: Handle,
    timeout: Duration,
}

/// Why a cluster did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RayError {
    /// Nobody answers, or with no sense: it may do so later.
    #[error("{0}")]
    Unreachable(String),
    /// It answers, and refuses.
    #[error("{0}")]
    Refused(String),
}

/// A job to submit.
#[derive(Clone, Debug)]
pub struct RaySubmission {
    /// Its name, chosen by the caller: the same one is never begun twice.
    pub id: String,
    /// A shell command.
    pub entrypoint: String,
    /// Cores that it waits for.
    pub cpus: usize,
    /// Graphics processors that it waits for.
    pub gpus: usize,
    /// Memory that it waits for, bytes.
    pub memory_bytes: Option<u64>,
}

/// A job as the cluster sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RayJob {
    /// `PENDING`, `RUNNING`, `STOPPED`, `SUCCEEDED` or `FAILED`.
    pub status: String,
    /// The cluster's words about it, with the end of its log where it failed.
    pub message: String,
    /// The exit code of its command, where it ended.
    pub exit_code: Option<i64>,
}

/// What a node has in all.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RayNode {
    /// Cores.
    pub cpus: f64,
    /// Graphics processors.
    pub gpus: f64,
    /// Bytes.
    pub memory_bytes: f64,
}

impl RayJobs {
    /// The cluster whose dashboard is at `HOST:PORT`. Nobody is asked yet. A token is taken from
    /// `RAY_AUTH_TOKEN`; each answer is waited for `timeout` at most.
    ///
    /// # Errors
    /// [`RayError::Refused`] where `address` is none.
    pub fn new(address: &str, timeout: Duration) -> Result<Self, RayError> {
        let refused = |why: String| RayError::Refused(format!("ray://{address}: {why}"));
        let base = Base::parse(&format!("http://{address}")).map_err(refused)?;
        let client = http::builder(http::same_server_only(), base.is_loopback())
            .connect_timeout(timeout)
            .build()
            .map_err(|error| refused(http::causes(&error)))?;
        Ok(Self {
            base,
            client,
            token: std::env::var(TOKEN).ok().and_then(|token| Key::new(&token)),
            network: runtime::handle().map_err(|error| refused(error.to_string()))?,
            timeout,
        })
    }

    /// The version of Ray that answers.
    ///
    /// # Errors
    /// [`RayError`], also where what answers is no dashboard of Ray.
    pub fn version(&self) -> Result<String, RayError> {
        let no_ray = || {
            RayError::Refused(format!(
                "what answers at {} is no dashboard of Ray; its port is usually 8265",
                self.base.text()
            ))
        };
        let (status, body) = self.ask(Method::GET, "api/version", None)?;
        match (status, body["ray_version"].as_str()) {
            (200, Some(version)) => Ok(version.to_owned()),
            (401 | 403, _) => Err(self.refusal(status, &body, "its version")),
            _ => Err(no_ray()),
        }
    }

    /// A job; `None` where the cluster knows none of this id.
    ///
    /// # Errors
    /// [`RayError`].
    pub fn job(&self, id: &str) -> Result<Option<RayJob>, RayError> {
        let (status, body) = self.ask(Method::GET, &format!("api/jobs/{id}"), None)?;
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        match (status, body["status"].as_str()) {
            (200, Some(state)) => Ok(Some(RayJob {
                status: state.to_owned(),
                message: text("message"),
                exit_code: body["driver_exit_code"].as_i64(),
            })),
            (404, _) => Ok(None),
            _ => Err(self.refusal(status, &body, id)),
        }
    }

    /// Submits a job; one that the cluster knows already is left as it is.
    ///
    /// # Errors
    /// [`RayError`].
    pub fn submit(&self, job: &RaySubmission) -> Result<(), RayError> {
        // An id that is taken is answered with status 500, as faults of the server are.
        if self.job(&job.id)?.is_some() {
            return Ok(());
        }
        let mut body = json!({
            "submission_id": job.id,
            "entrypoint": job.entrypoint,
            "entrypoint_num_cpus": job.cpus,
        });
        if job.gpus > 0 {
            body["entrypoint_num_gpus"] = json!(job.gpus);
        }
        if let Some(bytes) = job.memory_bytes {
            body["entrypoint_memory"] = json!(bytes);
        }
        let (status, reply) = self.ask(Method::POST, "api/jobs/", Some(&body))?;
        match status {
            200 => Ok(()),
            // Another process was faster.
            500 if self.job(&job.id)?.is_some() => Ok(()),
            _ => Err(self.refusal(status, &reply, &job.id)),
        }
    }

    /// Asks a job to stop. One that waits for resources may stay listed; one that is over is left.
    ///
    /// # Errors
    /// [`RayError`].
    pub fn stop(&self, id: &str) -> Result<(), RayError> {
        let path = format!("api/jobs/{id}/stop");
        match self.ask(Method::POST, &path, None)? {
            (200 | 404, _) => Ok(()),
            (status, body) => Err(self.refusal(status, &body, id)),
        }
    }

    /// The nodes that live.
    ///
    /// # Errors
    /// [`RayError`], also where this version of Ray does not list them.
    pub fn nodes(&self) -> Result<Vec<RayNode>, RayError> {
        let (status, body) = self.ask(Method::GET, "api/v0/nodes?detail=true", None)?;
        let listed = body["data"]["result"]["result"].as_array();
        let Some(listed) = listed.filter(|_| status == 200) else {
            return Err(self.refusal(status, &body, "its nodes"));
        };
        let alive = listed.iter().filter(|node| node["state"] == "ALIVE");
        let of = |node: &Value, name: &str| node["resources_total"][name].as_f64().unwrap_or(0.0);
        Ok(alive
            .map(|node| RayNode {
                cpus: of(node, "CPU"),
                gpus: of(node, "GPU"),
                memory_bytes: of(node, "memory"),
            })
            .collect())
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Value), RayError> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = self.base.join(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = self.client.request(method, url);
        if let Some(value) = self.token.as_ref().and_then(Key::header) {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let bounds = Bounds {
            timeout: self.timeout,
            stall_timeout: self.timeout,
            max_body: MAX_BODY,
            long_body: Arc::default(),
        };
        let reply = self
            .network
            .block_on(exchange(request, &bounds))
            .map_err(|why| RayError::Unreachable(format!("{}: {why}", self.base.text())))?;
        let body = serde_json::from_slice(&reply.body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&reply.body).into_owned()));
        match reply.status {
            // Of whatever stands before the dashboard.
            502..=504 | 429 => Err(self.unreachable(reply.status)),
            status => Ok((status, body)),
        }
    }

    fn unreachable(&self, status: u16) -> RayError {
        RayError::Unreachable(format!("{} answers with status {status}", self.base.text()))
    }

    /// What the server states, or the last line of its traceback.
    fn refusal(&self, status: u16, body: &Value, what: &str) -> RayError {
        let text = match body {
            Value::String(text) => text.clone(),
            Value::Object(fields) => match fields.get("msg").and_then(Value::as_str) {
                Some(words) => words.to_owned(),
                None => body.to_string(),
            },
            _ => body.to_string(),
        };
        let mut lines = text.lines().rev().map(str::trim);
        let last = lines.find(|line| line.len() > 1).unwrap_or("no reason");
        let last = match &self.token {
            Some(token) => token.hide_in(last),
            None => last.to_owned(),
        };
        let short: String = last.chars().take(500).collect();
        let words = format!(
            "{} refuses {what} with status {status}: {short}",
            self.base.text()
        );
        match status {
            500..=599 => RayError::Unreachable(words),
            _ => RayError::Refused(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::mock::{Answer, Server};

    fn jobs(server: &Server) -> RayJobs {
        let address = server.url.strip_prefix("http://").unwrap();
        RayJobs::new(address, Duration::from_secs(20)).unwrap()
    }

    fn submission(id: &str) -> RaySubmission {
        RaySubmission {
            id: id.to_owned(),
            entrypoint: "echo".to_owned(),
            cpus: 2,
            gpus: 0,
            memory_bytes: Some(1 << 30),
        }
    }

    #[test]
    fn a_job_is_submitted_once_whatever_was_answered() {
        let known = Arc::new(Mutex::new(Vec::<String>::new()));
        let (list, race) = (Arc::clone(&known), Arc::new(AtomicBool::new(false)));
        let hidden = Arc::clone(&race);
        let server = Server::start(move |request| {
            let mut list = list.lock().unwrap();
            let id = request.path.trim_start_matches("/api/jobs/").to_owned();
            match request.method.as_str() {
                // Another process submits it between the look and the submission.
                "GET" if hidden.swap(false, Ordering::SeqCst) => Answer::json(404, &json!("no")),
                "GET" if list.contains(&id) => Answer::json(
                    200,
                    &json!({"status": "FAILED", "message": "killed", "driver_exit_code": 137}),
                ),
                "GET" => Answer::json(404, &json!("does not exist")),
                _ => {
                    let id = request.json()["submission_id"].as_str().unwrap().to_owned();
                    if list.contains(&id) {
                        let traceback = format!(
                            "Traceback\n  File x\nValueError: Job with submission_id {id} already exists.\n.\n"
                        );
                        return Answer::Reply(500, Vec::new(), traceback.into_bytes());
                    }
                    list.push(id);
                    Answer::json(200, &json!({}))
                }
            }
        });
        let ray = jobs(&server);
        assert_eq!(ray.job("a").unwrap(), None);
        ray.submit(&submission("a")).unwrap();
        ray.submit(&submission("a")).unwrap();
        race.store(true, Ordering::SeqCst);
        ray.submit(&submission("a")).unwrap();
        assert_eq!(*known.lock().unwrap(), ["a"]);
        let found = ray.job("a").unwrap().unwrap();
        assert_eq!(
            (
                found.status.as_str(),
                found.exit_code,
                found.message.as_str()
            ),
            ("FAILED", Some(137), "killed")
        );
        let posted = server
            .log()
            .into_iter()
            .find(|r| r.method == "POST")
            .unwrap();
        assert_eq!(
            posted.json(),
            json!({"submission_id": "a", "entrypoint": "echo", "entrypoint_num_cpus": 2, "entrypoint_memory": 1u64 << 30})
        );
    }

    #[test]
    fn what_may_come_back_is_told_apart_from_what_is_refused() {
        let server = Server::start(|request| match request.path.as_str() {
            "/api/version" => Answer::json(200, &json!({"hello": 1})),
            "/api/jobs/gone" => Answer::json(502, &json!("bad gateway")),
            "/api/jobs/broken" => Answer::json(500, &json!("ValueError: boom")),
            "/api/jobs/long/stop" => Answer::json(200, &json!({"stopped": true})),
            _ => Answer::json(403, &json!({"msg": "no token"})),
        });
        let ray = jobs(&server);
        assert!(matches!(ray.version(), Err(RayError::Refused(words)) if words.contains("8265")));
        assert!(matches!(ray.job("gone"), Err(RayError::Unreachable(_))));
        assert!(
            matches!(ray.job("broken"), Err(RayError::Unreachable(words)) if words.contains("boom"))
        );
        assert!(
            matches!(ray.job("x"), Err(RayError::Refused(words)) if words.contains("no token"))
        );
        ray.stop("long").unwrap();
        server.stop();
        assert!(matches!(ray.job("x"), Err(RayError::Unreachable(_))));
        assert!(RayJobs::new("a b:1", Duration::from_secs(1)).is_err());
    }
}
