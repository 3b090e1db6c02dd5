//! What is recorded of the model that made a result, and what a model can be asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Generate, ModelError, Score, Template, Train};

/// The identity of a model, recorded with every result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Hash of weights and settings.
    pub hash: String,
    /// Hash of the tokenizer (and template, where one renders); empty for a fake.
    pub tokenizer_hash: String,
    /// How prompts are rendered.
    pub template: Template,
    /// A name for people; never a path.
    pub name: String,
    /// Fields of its config that the caller had set aside as unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_config_fields: Vec<String>,
    /// What it multiplies in, where it is computed here.
    #[serde(default, skip_serializing_if = "Compute::is_f32")]
    pub compute: Compute,
    /// The command of the server that answers for it, where this program starts one; its port
    /// stands as `{port}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// The type of the factors of a model's large products; their sums, and everything else that is
/// computed, are f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// IEEE single.
    #[default]
    F32,
    /// bfloat16, as mixed precision has it: factors keep 8 bits of precision, sums 24.
    Bf16,
}

impl Compute {
    /// The name, as `--compute` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }

    /// Whether nothing is rounded.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

/// What a model can be asked for. What it lacks is known before any work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Writes completions.
    pub generate: bool,
    /// Gives the log-probabilities of the tokens that it wrote.
    pub sampled_logprobs: bool,
    /// Gives the log-probability of each token of a given completion.
    pub score: bool,
    /// Scores hold the rank of each token.
    pub ranks: bool,
    /// Scores hold entropy, varentropy and Σ p² of each token's distribution.
    pub entropies: bool,
    /// Gives gradients, so that it can be trained and looked ahead with.
    pub gradients: bool,
    /// The same request gives the same bits, whatever it is batched with.
    pub deterministic: bool,
}

/// What a model behind a network was asked and spent since it was opened, probes included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens of prompts, as the server counts them.
    pub prompt_tokens: u64,
    /// Tokens written, as the server counts them.
    pub completion_tokens: u64,
    /// Requests sent, retries included.
    pub requests: u64,
    /// Requests sent again after a failure or a rate limit.
    pub retries: u64,
    /// Replies that limited the rate (status 429).
    pub limited: u64,
}

/// Any model: its identity, and what it can be asked for.
pub trait Model: Send {
    /// The identity that is recorded with its results.
    fn info(&self) -> &ModelInfo;
    /// What it can be asked for.
    fn capabilities(&self) -> Capabilities;
    /// What else decides its results, by name: recorded with them. Nothing for what is computed by
    /// this program.
    fn recorded(&self) -> BTreeMap<String, Value> {
        BTreeMap::new()
    }
    /// What it was asked and spent, where it is behind a network.
    fn usage(&self) -> Option<Usage> {
        None
    }
    /// The model as one that writes completions.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] where it is none; so too below.
    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        Err(self.info().lacks("does not write completions"))
    }
    /// The model as one that scores given completions.
    ///
    /// # Errors
    /// See [`as_generate`](Self::as_generate).
    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        Err(self.info().lacks("does not score given completions"))
    }
    /// The model as one that can be trained.
    ///
    /// # Errors
    /// See [`as_generate`](Self::as_generate).
    fn as_train(&mut self) -> Result<&mut dyn Train, ModelError> {
        Err(self
            .info()
            .lacks("gives no gradients, so it cannot be trained"))
    }
}

impl ModelInfo {
    /// The error of a model that was asked for what it cannot do.
    pub fn lacks(&self, what: &str) -> ModelError {
        ModelError::Unsupported(format!("the model `{}` {what}", self.name))
    }
}
