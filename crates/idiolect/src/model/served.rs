//! A model in a directory that a server answers for which this program starts, when it is first
//! asked for something.

use std::fs;
use std::path::{Path, PathBuf};

use idiolect_core::store::{Meta, hash_file};
use idiolect_engine::local::identify;
use idiolect_engine::peft;
use idiolect_engine::text::{Opening, TextModel};
use idiolect_engine::weights::Dtype;
use idiolect_model::{
    Capabilities, Completion, Compute, Example, Generate, GenerateRequest, Model, ModelError,
    ModelInfo, Sampling, Score, Scored, Sink, Template, Usage, content_hash,
};
use idiolect_remote::loopback::{load_adapter, unload_adapter};
use idiolect_remote::{Endpoint, Key, Settings};

use super::How;
use super::remote::Remote;
use crate::launch::{Adapters, Lease, Servers};
use crate::sandbox::Protection;
use crate::stage::convert::{ConvertSettings, Form, convert};
use crate::stage::{Control, Extent, StageError};

/// A model and the place where its server runs.
pub struct Served<'a> {
    servers: &'a Servers,
    how: How<'a>,
    directory: PathBuf,
    /// What the server loads in the directory's place.
    file: Option<PathBuf>,
    /// What people call it.
    name: String,
    info: ModelInfo,
    /// Until the server runs, of a family that this program knows.
    text: Option<TextModel>,
    running: Option<Running<'a>>,
}

/// A server that is asked.
struct Running<'a> {
    model: Box<dyn Model>,
    lease: Lease<'a>,
    /// The name of an adapter that was loaded into it.
    adapter: Option<String>,
    /// A folder that was made for it.
    merged: Option<PathBuf>,
}

impl<'a> Served<'a> {
    /// Of a directory. Nothing is started before the model is asked for something.
    ///
    /// # Errors
    /// Where the directory is none of a model.
    pub(super) fn new(
        servers: &'a Servers,
        directory: &Path,
        name: String,
        how: &How<'a>,
    ) -> Result<Self, StageError> {
        let (text, info) = match identify(directory, &how.opening) {
            Ok((text, info)) => (Some(text), info),
            // A server may know more families than this program; then it renders and tokenizes.
            Err(error) => (None, unknown(directory, &how.opening).ok_or(error)?),
        };
        Ok(Self {
            servers,
            how: *how,
            directory: absolute(directory),
            file: None,
            name,
            info: ModelInfo {
                server: Some(servers.settings().command.clone()),
                ..info
            },
            text,
            running: None,
        })
    }

    /// The same model, which the server loads from a file in another form.
    pub fn of_file(self, file: &Path) -> Self {
        Self {
            file: Some(absolute(file)),
            ..self
        }
    }

    /// Starts the server, or takes one that runs and is not asked.
    ///
    /// # Errors
    /// As [`Servers::lease`] and [`Endpoint::open`].
    pub fn start(&mut self) -> Result<(), StageError> {
        if self.running.is_some() {
            return Ok(());
        }
        let adapter = peft::is_adapter(&self.directory);
        let running = match (self.file.clone(), adapter, self.servers.settings().adapters) {
            (Some(file), ..) => self.lease(&file)?,
            (None, false, _) => self.lease(&self.directory.clone())?,
            (None, true, Adapters::Merge) => self.lease_merged()?,
            (None, true, Adapters::Load) => self.lease_base()?,
        };
        self.running = Some(running);
        Ok(())
    }

    /// Starts the server and finds out what it can do; whether it scores, where that is asked.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`ModelError::Unsupported`] where it does not score.
    pub fn probe(&mut self, scores: bool) -> Result<Capabilities, StageError> {
        self.start()?;
        if scores {
            self.ask(|model| model.as_score().map(drop))?;
        }
        Ok(self.capabilities())
    }

    fn lease(&mut self, directory: &Path) -> Result<Running<'a>, StageError> {
        let lease = self.lease_of(directory, &self.name)?;
        let reference = lease.server().reference();
        self.open(lease, &reference)
    }

    fn lease_of(&self, directory: &Path, name: &str) -> Result<Lease<'a>, StageError> {
        let note = |text: &str| self.how.progress.note("server", text);
        self.servers.lease(directory, name, &note, self.how.stop)
    }

    /// The adapter and its base as a model of its own, beside the log, until the server is left.
    fn lease_merged(&mut self) -> Result<Running<'a>, StageError> {
        let log = self.servers.logs().of(&self.name);
        let merged = log.with_extension("merged");
        let settings = ConvertSettings {
            input: self.directory.clone(),
            base: self.how.opening.base.map(Path::to_owned),
            ignored_fields: self.how.opening.ignored_fields.to_vec(),
            form: Form::Merged,
            dtype: Dtype::F32,
            output: merged.clone(),
        };
        let control = Control {
            progress: self.how.progress,
            stop: self.how.stop,
            overwrite: false,
            max_rejects: 0.0,
            threads: self.how.threads,
            protection: Protection::Required,
            extent: Extent::Whole,
        };
        convert(&settings, control)?;
        let mut running = self.lease(&merged)?;
        running.merged = Some(merged);
        Ok(running)
    }

    /// The server of the base, which loads the adapter while it runs.
    fn lease_base(&mut self) -> Result<Running<'a>, StageError> {
        let config = peft::read_config(&self.directory)?;
        let base = peft::find_base(&self.directory, &config, self.how.opening.base)?;
        let base = absolute(&base);
        let base_name = base.file_name().unwrap_or_default().to_string_lossy();
        let lease = self.lease_of(&base, &base_name)?;
        let path = absolute(&self.directory);
        load_adapter(
            lease.server().port(),
            &self.name,
            &path.to_string_lossy(),
            Key::from_env().as_ref(),
        )
        .map_err(|why| {
            StageError::failed(
                format!("the server of `{base_name}` does not load the adapter `{}`: {why}", self.name),
                "`adapters = \"load\"` needs a server that does: vLLM with `--enable-lora`, `--max-lora-rank` of at least the adapter's r, and `environment = { VLLM_ALLOW_RUNTIME_LORA_UPDATING = \"True\" }`; `adapters = \"merge\"` works with every server",
            )
        })?;
        let reference = lease.server().reference_of(&self.name);
        let mut running = self.open(lease, &reference)?;
        running.adapter = Some(self.name.clone());
        Ok(running)
    }

    fn open(&mut self, lease: Lease<'a>, reference: &str) -> Result<Running<'a>, StageError> {
        let mut settings = Settings::from_env();
        settings.in_flight = self.how.in_flight.unwrap_or(settings.in_flight);
        settings.alive = lease.server().alive();
        let template = Some(self.info.template);
        let text = self.text.take();
        let open = || -> Result<Box<dyn Model>, ModelError> {
            let endpoint = Endpoint::open(reference, template, settings)?;
            Ok(match text {
                None => Box::new(endpoint),
                Some(text) => Box::new(Remote::new(endpoint, text)?),
            })
        };
        match open() {
            Ok(model) => Ok(Running {
                model,
                lease,
                adapter: None,
                merged: None,
            }),
            Err(error) => Err(explained(error, &lease).into()),
        }
    }

    /// Asks the running server.
    fn ask(
        &mut self,
        ask: impl FnOnce(&mut dyn Model) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        self.start().map_err(as_model_error)?;
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        ask(running.model.as_mut()).map_err(|error| explained(error, &running.lease))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // A server that is gone has forgotten it, and what is left of a folder is made anew.
        if let Some(adapter) = &self.adapter {
            let _ = unload_adapter(
                self.lease.server().port(),
                adapter,
                Key::from_env().as_ref(),
            );
        }
        if let Some(merged) = &self.merged {
            remove(merged);
        }
    }
}

/// Removes a folder that [`convert`] made, with its provenance.
fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let _ = fs::remove_file(Meta::path_of(folder));
}

impl Model for Served<'_> {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What its server can do; until it runs, what every server can.
    fn capabilities(&self) -> Capabilities {
        let running = self.running.as_ref();
        running.map_or(
            Capabilities {
                generate: true,
                sampled_logprobs: false,
                score: false,
                ranks: false,
                entropies: false,
                gradients: false,
                deterministic: false,
            },
            |running| running.model.capabilities(),
        )
    }

    fn usage(&self) -> Option<Usage> {
        self.running.as_ref()?.model.usage()
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Ok(self)
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Ok(self)
    }
}

impl Generate for Served<'_> {
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        if requests.is_empty() {
            return Ok(());
        }
        self.ask(|model| model.as_generate()?.generate(requests, sampling, sink))
    }
}

impl Score for Served<'_> {
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError> {
        if examples.is_empty() {
            return Ok(());
        }
        self.ask(|model| model.as_score()?.score(examples, sink))
    }
}

/// An error of a model whose server may be the reason.
fn explained(error: ModelError, lease: &Lease<'_>) -> ModelError {
    lease.server().gone().map_or(error, as_model_error)
}

/// The error of a server as one of its model.
fn as_model_error(error: StageError) -> ModelError {
    match error {
        StageError::Interrupted => ModelError::Interrupted,
        StageError::Model(error) => error,
        error => ModelError::Server {
            hint: error.hint(),
            message: error.to_string(),
        },
    }
}

/// What is known of a model of a family that this program does not know: its files. None where
/// there are no weights.
fn unknown(directory: &Path, opening: &Opening<'_>) -> Option<ModelInfo> {
    let mut names: Vec<PathBuf> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let is = |ending: &str| path.extension().is_some_and(|found| found == ending);
            is("safetensors") || is("json") || is("jinja") || is("gguf") || is("bin")
        })
        .collect();
    names.sort();
    let has_weights = names.iter().any(|path| {
        ["safetensors", "gguf", "bin"]
            .iter()
            .any(|ending| path.extension() == Some(ending.as_ref()))
    });
    if !has_weights || !directory.join("config.json").is_file() {
        return None;
    }
    let mut listed = String::new();
    for path in &names {
        let name = path.file_name()?.to_string_lossy();
        listed.push_str(&format!("{name} {}\n", hash_file(path).ok()?));
    }
    let has_template = directory.join("chat_template.jinja").is_file()
        || fs::read_to_string(directory.join("tokenizer_config.json"))
            .is_ok_and(|text| text.contains("\"chat_template\""));
    let default = if has_template {
        Template::Chat
    } else {
        Template::Raw
    };
    Some(ModelInfo {
        hash: content_hash(listed.as_bytes()),
        tokenizer_hash: String::new(),
        template: opening.template.unwrap_or(default),
        name: directory.file_name()?.to_string_lossy().into_owned(),
        ignored_config_fields: Vec::new(),
        compute: Compute::F32,
        server: None,
    })
}

/// Servers may take a relative path for a name on the hub.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
