//! Models behind an OpenAI-compatible server.

mod batch;
mod fan_out;
mod open;
mod refusal;
mod reply;
mod request;
mod score;
mod servers;
mod settings;
#[cfg(test)]
mod tests;
mod tokenize;
mod transport;
mod usage;

use std::fmt;
use std::sync::Arc;

use idiolect_model::{
    Capabilities, Completion, Generate, GenerateRequest, Model, ModelError, ModelInfo, RowError,
    Sampling, Score, Sink, Template, Usage,
};

pub use batch::Batch;
pub use score::{IdsRow, IdsScore, ScoringMethod};
pub use settings::{Alive, Settings};

use fan_out::fan_out;
use request::Parameters;
use tokio::runtime::Handle;
use transport::{Call, Path, Stop, Transport};

use crate::runtime;

/// A model behind one or several OpenAI-compatible servers. Calls block; requests run side by side.
///
/// A request that fails is sent again after a pause that doubles. A row is refused where the server
/// states that it is at fault, or where it alone gets no answer while the server answers others; a
/// server that does not live is an error of the whole, and refuses no row.
pub struct Endpoint {
    transport: Arc<Transport>,
    info: ModelInfo,
    parameters: Parameters,
    sampled_logprobs: bool,
    scoring: Option<ScoringMethod>,
}

impl Endpoint {
    /// Opens `http(s)://HOST[:PORT]/v1#MODEL`: several base URLs of the same model are separated by
    /// commas, and without `#MODEL` it is the one that the server lists. Prompts are rendered as
    /// [`Template::Chat`] unless `template` is given. A few tiny requests find out what the server can do.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where no server is reached, the model is not served, the key is
    /// refused, or what comes back is no completion.
    pub fn open(
        reference: &str,
        template: Option<Template>,
        settings: Settings,
    ) -> Result<Self, ModelError> {
        open::open(reference, template.unwrap_or(Template::Chat), settings)
    }

    /// What was asked and spent since opening.
    pub fn usage(&self) -> Usage {
        self.transport.counters.read()
    }

    /// The path of requests for completions.
    fn path(template: Template) -> Path {
        Path::Below(match template {
            Template::Raw => "completions",
            Template::Chat => "chat/completions",
        })
    }
}

/// The threads that wait for the network.
fn network() -> Result<Handle, ModelError> {
    runtime::handle().map_err(|error| {
        ModelError::Invalid(format!("cannot start the threads for the network: {error}"))
    })
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bases = self.transport.servers.bases();
        f.debug_struct("Endpoint")
            .field(
                "servers",
                &bases.iter().map(|base| base.text()).collect::<Vec<_>>(),
            )
            .field("info", &self.info)
            .field("capabilities", &self.capabilities())
            .finish_non_exhaustive()
    }
}

impl Model for Endpoint {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            generate: true,
            sampled_logprobs: self.sampled_logprobs,
            score: self.scoring.is_some(),
            ranks: self.scoring.is_some_and(ScoringMethod::gives_ranks),
            entropies: false,
            gradients: false,
            deterministic: false,
        }
    }

    fn usage(&self) -> Option<Usage> {
        Some(Self::usage(self))
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Ok(self)
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Err(self
            .info
            .lacks("scores token ids; without its tokenizer it cannot score texts"))
    }
}

impl Generate for Endpoint {
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError> {
        self.parameters.require(sampling, &self.info.name)?;
        let template = self.info.template;
        let logprobs = self.sampled_logprobs && self.transport.settings.logprobs;
        let start = |index: usize| -> Result<_, RowError> {
            let request: &GenerateRequest = &requests[index];
            let body = self.parameters.body(
                (template, &self.info.name),
                &request.context,
                sampling,
                request.seed,
                logprobs,
            )?;
            let call = Call::post(Self::path(template), &body);
            let transport = Arc::clone(&self.transport);
            let chance = request.seed ^ index as u64;
            Ok(async move { write(&transport, &call, template, chance).await })
        };
        fan_out(
            requests.len(),
            self.transport.settings.in_flight,
            start,
            sink,
        )
    }
}

async fn write(
    transport: &Transport,
    call: &Call,
    template: Template,
    chance: u64,
) -> Result<Completion, Stop> {
    let written = transport
        .ask(call, &|reply| reply::read(reply, template), chance)
        .await?;
    transport
        .counters
        .tokens(written.prompt_tokens, written.completion_tokens);
    Ok(written.completion)
}
