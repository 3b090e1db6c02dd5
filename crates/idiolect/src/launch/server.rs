//! A model server that idiolect starts: ready before it is asked, watched while it is, stopped after.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use idiolect_remote::loopback::{Port, Readiness, readiness};
use idiolect_remote::{Alive, Key};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::{End, Launch, Process};
use super::template::Template;
use crate::interrupt::Stop;
use crate::stage::StageError;

/// How often a server that starts is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Ports that are tried where another process takes one first.
const PORT_TRIES: usize = 3;

/// Lines of a log that an error shows.
const TAIL: usize = 12;

/// What a command template may hold, and what it has to.
const KNOWN: [&str; 4] = ["model", "port", "name", "log"];
const REQUIRED: [&str; 2] = ["model", "port"];

/// How long a server may take until it is ready where nothing else is asked for, seconds: a large
/// model is loaded, and its kernels are compiled.
pub const READY_TIMEOUT_S: f64 = 600.0;

/// How servers are started.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// The command as the user wrote it.
    pub command: String,
    template: Template,
    /// How long one may take until it is ready.
    pub ready_timeout: Duration,
    /// Variables set beside those of this process.
    pub environment: Vec<(String, String)>,
    /// How an adapter reaches a server.
    pub adapters: Adapters,
}

/// How an adapter reaches a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Adapters {
    /// Merged into its base, as a model of its own in f32: works with every server.
    #[default]
    Merge,
    /// Loaded by the running server of its base, as vLLM can; adapters of one base share its start.
    Load,
}

impl ServerSettings {
    /// Of a command template.
    ///
    /// # Errors
    /// In words: a command that cannot be one, or a key in it.
    pub fn new(command: &str, ready_timeout: Duration) -> Result<Self, String> {
        let template = Template::parse(command, &KNOWN, &REQUIRED)?;
        if template
            .fill(&[])
            .iter()
            .any(|word| word.starts_with("--api-key"))
        {
            return Err(
                "the command holds `--api-key`, and it is stored with the results: set the key in \
                 the environment instead (vLLM reads VLLM_API_KEY, llama.cpp LLAMA_API_KEY; \
                 idiolect sends IDIOLECT_API_KEY)"
                    .to_owned(),
            );
        }
        Ok(Self {
            command: command.to_owned(),
            template,
            ready_timeout,
            environment: Vec::new(),
            adapters: Adapters::default(),
        })
    }

    /// Whether the system has the program.
    ///
    /// # Errors
    /// In words.
    pub fn check_program(&self) -> Result<(), String> {
        self.template.program().map(drop)
    }
}

/// What one server is started for.
#[derive(Clone, Debug)]
pub struct Serving<'a> {
    /// The model's directory.
    pub model: &'a Path,
    /// What people call it; `{name}` of the template.
    pub name: &'a str,
    /// The GPUs that it may use, as `CUDA_VISIBLE_DEVICES` takes them; those of this process where
    /// unset.
    pub gpus: Option<&'a str>,
    /// The file that what it writes is appended to.
    pub log: PathBuf,
}

/// A running server. Dropping it stops it.
pub struct Server {
    process: Arc<Mutex<Process>>,
    port: Port,
    /// What people call its model.
    name: String,
    /// What it calls its model.
    served: String,
}

impl Server {
    /// Starts a server and waits until it is ready; one whose port another process took gets another.
    ///
    /// # Errors
    /// [`StageError::Interrupted`]; otherwise in words, with the end of its log: it cannot be
    /// started, ended by itself, or was not ready in time.
    pub fn start(
        settings: &ServerSettings,
        serving: &Serving<'_>,
        note: &dyn Fn(&str),
        stop: &Stop,
    ) -> Result<Self, StageError> {
        let mut tries = 1;
        loop {
            let port = Port::choose().map_err(|error| failed(error.to_string()))?;
            match Self::start_at(settings, serving, port, stop)? {
                Started::Ready(server) => return Ok(server),
                Started::PortTaken(port) if tries < PORT_TRIES => {
                    tries += 1;
                    note(&format!(
                        "port {port} was taken before the server of `{}` listened on it; it is started again with another",
                        serving.name
                    ));
                }
                Started::PortTaken(port) => {
                    return Err(failed(format!(
                        "the server of `{}` found its port taken {tries} times, port {port} at last",
                        serving.name
                    )));
                }
            }
        }
    }

    fn start_at(
        settings: &ServerSettings,
        serving: &Serving<'_>,
        port: Port,
        stop: &Stop,
    ) -> Result<Started, StageError> {
        let (model, log) = (
            serving.model.to_string_lossy(),
            serving.log.to_string_lossy(),
        );
        let number = port.number().to_string();
        let words = settings.template.fill(&[
            ("model", &model),
            ("port", &number),
            ("name", serving.name),
            ("log", &log),
        ]);
        let mut launch = Launch::new(words, &serving.log);
        launch.environment.clone_from(&settings.environment);
        if let Some(gpus) = serving.gpus {
            let variable = "CUDA_VISIBLE_DEVICES".to_owned();
            launch.environment.push((variable, gpus.to_owned()));
        }
        let mut process = Process::start(&launch)
            .map_err(|why| failed(format!("the server of `{}`: {why}", serving.name)))?;
        let key = Key::from_env();
        let began = Instant::now();
        loop {
            // Asked before it is looked at: a process that has ended while its port answers is not
            // who answered.
            let found = readiness(port.number(), key.as_ref());
            if let Some(end) = process.has_ended() {
                process.stop();
                let tail = process.log().tail(TAIL);
                if port.is_taken() || says_taken(&tail) {
                    return Ok(Started::PortTaken(port.number()));
                }
                return Err(ended(serving.name, end, "before it was ready", &tail));
            }
            let why = match found {
                Readiness::Ready(names) => {
                    let served = match names.into_iter().next() {
                        _ if settings.template.holds("name") => serving.name.to_owned(),
                        Some(name) => name,
                        None => model.into_owned(),
                    };
                    return Ok(Started::Ready(Self {
                        process: Arc::new(Mutex::new(process)),
                        port,
                        name: serving.name.to_owned(),
                        served,
                    }));
                }
                Readiness::NotYet(why) => why,
            };
            if stop.requested() {
                return Err(StageError::Interrupted);
            }
            if began.elapsed() >= settings.ready_timeout {
                process.stop();
                return Err(StageError::failed(
                    format!(
                        "the server of `{}` was not ready within {} s ({why}); it was stopped{}",
                        serving.name,
                        settings.ready_timeout.as_secs_f64(),
                        process.log().tail(TAIL)
                    ),
                    "give it longer (`ready_timeout_s` of [server], --ready-timeout), or see in its log what keeps it; it has to answer `/health` or `/v1/models` on {port} of 127.0.0.1",
                ));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The reference of the model that it serves.
    pub fn reference(&self) -> String {
        self.reference_of(&self.served)
    }

    /// The reference of a model that it serves by this name.
    pub fn reference_of(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/v1#{name}", self.port.number())
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id.
    pub fn id(&self) -> i32 {
        lock(&self.process).id()
    }

    /// Tells whether it still runs, for those who ask it.
    pub fn alive(&self) -> Alive {
        let process = Arc::clone(&self.process);
        Alive::told_by(move || lock(&process).has_ended().is_none())
    }

    /// Why it is gone, if it is: its end and that of its log.
    pub fn gone(&self) -> Option<StageError> {
        let mut process = lock(&self.process);
        let end = process.has_ended()?;
        let tail = process.log().tail(TAIL);
        Some(ended(&self.name, end, "while it was at work", &tail))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Those who ask whether it lives may hold it longer.
        lock(&self.process).stop();
    }
}

enum Started {
    Ready(Server),
    PortTaken(u16),
}

fn lock(process: &Mutex<Process>) -> MutexGuard<'_, Process> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(message: String) -> StageError {
    StageError::failed(message, "")
}

fn ended(name: &str, end: End, when: &str, tail: &str) -> StageError {
    StageError::failed(
        format!("the server of `{name}` {end} {when}{tail}"),
        "its log holds the reason; what was received before is kept, and the same command goes on from there",
    )
}

/// Whether a log speaks of a port that another process has.
fn says_taken(log: &str) -> bool {
    let log = log.to_lowercase();
    [
        "address already in use",
        "eaddrinuse",
        "couldn't bind",
        "failed to bind",
    ]
    .iter()
    .any(|words| log.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_model_and_port_and_no_key() {
        let new = |command: &str| ServerSettings::new(command, Duration::from_secs(1));
        assert!(new("vllm serve {model} --port {port} --served-model-name {name}").is_ok());
        for (command, words) in [
            ("vllm serve {model}", "lacks {port}"),
            (
                "vllm serve {model} --port {port} --api-key sk",
                "VLLM_API_KEY",
            ),
            (
                "vllm serve {model} --port {port} --api-key=sk",
                "VLLM_API_KEY",
            ),
        ] {
            let error = new(command).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let missing = new("no-such-server {model} {port}").unwrap();
        assert!(
            missing
                .check_program()
                .unwrap_err()
                .contains("no-such-server")
        );
    }
}
