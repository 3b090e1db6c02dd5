//! How the torch worker is run: `[torch]` of a recipe, and the flags of `score` that mean the same.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the torch worker is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TorchSettings {
    /// The interpreter of the environment that holds torch and transformers (peft for adapters).
    pub python: String,
    /// Where it computes, as torch names it: `cuda`, `cuda:1`, `mps`, `cpu`; the best there is where
    /// unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Tokens that it computes at once, padding included; it takes less where memory runs out.
    pub batch_tokens: usize,
}

impl Default for TorchSettings {
    fn default() -> Self {
        Self {
            python: "python3".to_owned(),
            device: None,
            batch_tokens: 16_384,
        }
    }
}
