//! What completions and chat completions have in common: sampling, number, seeds, limits.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use idiolect_engine::local::live::check_sampling;
use idiolect_model::{Rng, Sampling};
use serde::Deserialize;

use super::App;
use super::error::ApiError;
use super::fields::Fields;

/// Most alternatives that are named at a place.
pub(super) const MOST_TOP: usize = 20;

/// Most completions of one prompt.
const MOST_CHOICES: u64 = 128;

/// How the tokens of a request are chosen and how the answer is given.
pub(super) struct Asked {
    pub(super) sampling: Sampling,
    /// `max_tokens` as it was sent.
    pub(super) max_tokens: Option<usize>,
    /// Completions of each prompt.
    pub(super) n: usize,
    seed: u64,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) return_token_ids: bool,
    pub(super) add_special_tokens: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl Asked {
    /// Takes the common fields, the model's name among them.
    pub(super) fn take(
        fields: &mut Fields,
        app: &App,
        max_tokens_names: &[&str],
    ) -> Result<Self, ApiError> {
        check_model(fields, app)?;
        let mut max_tokens = None;
        for name in max_tokens_names {
            let given = fields.count(name, 0, u64::from(u32::MAX))?;
            max_tokens = max_tokens.or(given);
        }
        let top_k: i64 = fields.take("top_k")?.unwrap_or(0);
        let top_k = match top_k {
            -1 => 0,
            k => usize::try_from(k).map_err(|_| {
                ApiError::field(
                    "top_k",
                    format!("`top_k` is {k}; expected -1 (all) or more"),
                )
            })?,
        };
        let stop = match fields.take("stop")? {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop],
            Some(Stop::Many(stops)) => stops,
        };
        let sampling = Sampling {
            temperature: fields.number("temperature", 0.0, 100.0)?.unwrap_or(1.0),
            top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(1.0),
            top_k,
            min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(0.0),
            max_tokens: max_tokens.unwrap_or(0),
            stop,
        };
        check_sampling(&sampling).map_err(|error| ApiError::bad(error.to_string()))?;
        let n = fields.count("n", 1, MOST_CHOICES)?.unwrap_or(1);
        if n > 1 && sampling.temperature <= 0.0 {
            let message = format!("`n` is {n}, and at temperature 0 all would be equal");
            return Err(ApiError::field("n", message));
        }
        let seed = match fields.take::<serde_json::Number>("seed")? {
            None => RandomState::new().hash_one("seed"),
            Some(seed) => seed
                .as_u64()
                .or_else(|| seed.as_i64().map(i64::cast_unsigned))
                .ok_or_else(|| ApiError::field("seed", "`seed` is no whole number"))?,
        };
        let options: Option<StreamOptions> = fields.take("stream_options")?;
        Ok(Self {
            sampling,
            max_tokens,
            n,
            seed,
            stream: fields.flag("stream")?,
            include_usage: options.and_then(|o| o.include_usage).unwrap_or(false),
            return_token_ids: fields.flag("return_token_ids")?,
            add_special_tokens: fields.take("add_special_tokens")?,
        })
    }

    /// What is written behind some prompts. The first choice of each has the request's seed itself,
    /// the others seeds made of it.
    pub(super) fn completions(&self, prompts: &[Arc<[u32]>]) -> Vec<(Arc<[u32]>, u64)> {
        let seed = |choice: usize| match choice {
            0 => self.seed,
            _ => Rng::keyed(self.seed, &["choice", &choice.to_string()]).next_u64(),
        };
        prompts
            .iter()
            .flat_map(|prompt| (0..self.n).map(move |choice| (Arc::clone(prompt), seed(choice))))
            .collect()
    }
}

/// Refuses a request for another model.
pub(super) fn check_model(fields: &mut Fields, app: &App) -> Result<(), ApiError> {
    match fields.take::<String>("model")? {
        Some(name) if !app.names.contains(&name) => Err(ApiError::no_model(&name, &app.names[0])),
        _ => Ok(()),
    }
}

/// Refuses prompts that the model cannot hold with what is to follow them.
pub(super) fn check_lengths(
    app: &App,
    param: &str,
    prompts: &[Arc<[u32]>],
    max_tokens: usize,
) -> Result<(), ApiError> {
    for prompt in prompts {
        let (len, most) = (prompt.len(), app.max_model_len());
        if len == 0 {
            let message = "a prompt has no tokens, and nothing follows nothing; give a text";
            return Err(ApiError::field(param, message));
        }
        if len + max_tokens > most {
            return Err(ApiError::too_long(
                param,
                format!(
                    "the model holds {most} tokens and the request needs {}: {len} of the prompt \
                     and {max_tokens} of the completion",
                    len + max_tokens
                ),
            ));
        }
        let vocabulary = app.scheduler.model.model_config().vocab;
        if let Some(id) = prompt.iter().find(|id| **id as usize >= vocabulary) {
            let message = format!("token {id} is outside the model's vocabulary of {vocabulary}");
            return Err(ApiError::field(param, message));
        }
        if max_tokens > 0 {
            let fits = app.scheduler.model.fits_live(len, max_tokens);
            fits.map_err(|error| ApiError::field(param, error.reason))?;
        }
    }
    Ok(())
}
