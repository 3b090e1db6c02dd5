//! The servers of a command or a run: as many at once as there are places for them, each kept for
//! the next job that needs the same model.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::server::{Server, ServerSettings, Serving};
use crate::interrupt::Stop;
use crate::stage::StageError;

/// How long one waits for a place before it looks whether the user has stopped the program.
const LOOK: Duration = Duration::from_millis(100);

/// Where servers may run, and those that do.
pub struct Servers {
    settings: ServerSettings,
    /// The GPUs of each place, as `CUDA_VISIBLE_DEVICES` takes them.
    gpus: Vec<Option<String>>,
    logs: Logs,
    places: Mutex<Vec<Place>>,
    changed: Condvar,
}

/// Where the logs of servers go.
#[derive(Clone, Debug)]
pub enum Logs {
    /// All to one file.
    File(PathBuf),
    /// To a file for each model, in a folder.
    Folder(PathBuf),
}

impl Logs {
    /// The log of a model's servers.
    pub fn of(&self, name: &str) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Folder(folder) => folder.join(format!("{name}.log")),
        }
    }
}

enum Place {
    Free,
    /// A server that nobody asks now.
    Idle(PathBuf, Server),
    Busy,
}

impl Servers {
    /// None runs yet. One place where `gpus` names none, which has those of this process.
    pub fn new(settings: ServerSettings, gpus: &[String], logs: Logs) -> Self {
        let gpus: Vec<Option<String>> = match gpus {
            [] => vec![None],
            gpus => gpus.iter().cloned().map(Some).collect(),
        };
        Self {
            places: Mutex::new(gpus.iter().map(|_| Place::Free).collect()),
            settings,
            gpus,
            logs,
            changed: Condvar::new(),
        }
    }

    /// How they are started.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Where their logs go.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// A server of the model in a directory: one that runs already and is not asked, or a new one in
    /// a free place, for which an idle server of another model is stopped. Waits for a place.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn lease(
        &self,
        model: &Path,
        name: &str,
        note: &dyn Fn(&str),
        stop: &Stop,
    ) -> Result<Lease<'_>, StageError> {
        let (place, found) = self.take(model, stop)?;
        let mut lease = Lease {
            servers: self,
            place,
            model: model.to_owned(),
            server: None,
        };
        if let Some(server) = found.filter(|server| server.gone().is_none()) {
            lease.server = Some(server);
            return Ok(lease);
        }
        let serving = Serving {
            model,
            name,
            gpus: self.gpus[place].as_deref(),
            log: self.logs.of(name),
        };
        note(&format!("starting the server of `{name}`"));
        let began = Instant::now();
        lease.server = Some(Server::start(&self.settings, &serving, note, stop)?);
        note(&format!(
            "the server of `{name}` is ready after {:.0} s",
            began.elapsed().as_secs_f64()
        ));
        Ok(lease)
    }

    /// Takes a place, with the server of the model where one idles there.
    fn take(&self, model: &Path, stop: &Stop) -> Result<(usize, Option<Server>), StageError> {
        let mut places = self.lock();
        loop {
            let same = |place: &Place| matches!(place, Place::Idle(of, _) if of == model);
            let chosen = places
                .iter()
                .position(same)
                .or_else(|| places.iter().position(|place| matches!(place, Place::Free)))
                .or_else(|| {
                    places
                        .iter()
                        .position(|place| matches!(place, Place::Idle(..)))
                });
            if let Some(at) = chosen {
                let before = std::mem::replace(&mut places[at], Place::Busy);
                // Stopping another model's server takes a while.
                drop(places);
                return Ok(match before {
                    Place::Idle(of, server) if of == model => (at, Some(server)),
                    _ => (at, None),
                });
            }
            if stop.requested() {
                return Err(StageError::Interrupted);
            }
            let waited = self.changed.wait_timeout(places, LOOK);
            places = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(places, _)| places);
        }
    }

    /// Stops the servers that nobody asks, so that their memory is free for other work.
    pub fn stop_idle(&self) {
        let mut idle = Vec::new();
        for place in self.lock().iter_mut() {
            if matches!(place, Place::Idle(..)) {
                idle.push(std::mem::replace(place, Place::Free));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server in use. Dropping it leaves the server to the next who needs its model.
pub struct Lease<'a> {
    servers: &'a Servers,
    place: usize,
    model: PathBuf,
    /// None until it is started.
    server: Option<Server>,
}

impl Lease<'_> {
    /// The server.
    pub fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("a lease is given out with its server")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let server = self.server.take().filter(|server| server.gone().is_none());
        self.servers.lock()[self.place] = match server {
            Some(server) => Place::Idle(std::mem::take(&mut self.model), server),
            None => Place::Free,
        };
        self.servers.changed.notify_all();
    }
}
