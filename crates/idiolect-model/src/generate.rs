//! Writing completions.

use serde::{Deserialize, Serialize};

use crate::{Context, Model, ModelError, Sink};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Keep the smallest set of tokens whose probability reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep tokens at least this fraction as probable as the most probable; 0 keeps all.
    pub min_p: f32,
    /// Stop after this many tokens with finish `length`.
    pub max_tokens: usize,
    /// Texts that end the completion and are cut from it.
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            max_tokens: 512,
            stop: Vec::new(),
        }
    }
}

/// How a trace ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// The writer ended it: an end token, a stop string, or a human.
    Stop,
    /// Cut off by a token limit.
    Length,
    /// The source does not state it.
    Unknown,
}

impl Finish {
    /// How a text ended by the finish reason of its server, as the common ones name it (OpenAI,
    /// Anthropic, Gemini, Mistral, Cohere, Bedrock, vLLM, TGI, SGLang, llama.cpp, Ollama), without
    /// regard to case. `None` where the reason is not known, or is neither: a refusal, a call of a
    /// tool.
    pub fn of_reason(reason: &str) -> Option<Self> {
        let reason = reason.trim().to_ascii_lowercase().replace(['-', ' '], "_");
        // `FinishReason.MAX_TOKENS`, `FINISH_REASON_STOP`
        let reason = reason.rsplit('.').next().unwrap_or_default();
        match reason.strip_prefix("finish_reason_").unwrap_or(reason) {
            "stop" | "end_turn" | "eos" | "eos_token" | "end" | "end_of_text" | "end_of_turn"
            | "endoftext" | "stop_sequence" | "stop_string" | "stop_token" | "stop_word"
            | "word" | "complete" | "completed" | "finish" | "finished" | "done" => {
                Some(Self::Stop)
            }
            "length"
            | "max_tokens"
            | "max_length"
            | "max_output_tokens"
            | "max_new_tokens"
            | "max_completion_tokens"
            | "model_length"
            | "model_max_length"
            | "token_limit"
            | "limit"
            | "truncated"
            | "incomplete"
            | "context_length"
            | "context_length_exceeded"
            | "model_context_window_exceeded" => Some(Self::Length),
            _ => None,
        }
    }
}

/// One completion to write. The same request gives the same text, whatever it is batched with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateRequest {
    /// What to continue.
    pub context: Context,
    /// Seeds this request's own generator.
    pub seed: u64,
}

/// One completion written.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The text, without prompt, end token and stop string.
    pub text: String,
    /// `stop` or `length`.
    pub finish: Finish,
    /// Log-probabilities under the untempered model of the tokens written, the end token not
    /// included; nats. Empty where the model does not give them.
    pub logprobs: Vec<f32>,
    /// Tokens written, the end token not counted.
    pub n_tokens: usize,
}

/// Writes completions.
pub trait Generate: Model {
    /// Writes one completion a request. Requests with equal contexts that are adjacent may
    /// share the prompt's computation.
    fn generate(
        &mut self,
        requests: &[GenerateRequest],
        sampling: &Sampling,
        sink: Sink<'_, Completion>,
    ) -> Result<(), ModelError>;

    /// How many requests it is best given at once: enough for any batch, little enough for memory.
    fn requests_at_once(&self) -> usize {
        16_384
    }
}
