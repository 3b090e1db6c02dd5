//! A model that serves: requests that come and leave, and scores of prompts.

use std::ops::ControlFlow;

use idiolect_model::{ModelError, RowError, Sampling};

use super::{Cached, LocalModel, SMALL};
use crate::batch::TokenRow;
use crate::generate::live::Live;
use crate::generate::{generate, within};
use crate::kv_cache::{page_bytes, prompt_bytes};
use crate::sample;
use crate::score::{TargetScore, score_rows_with_top};
use crate::text::TextModel;
use crate::threads::Threads;

pub use crate::generate::Written;
pub use crate::generate::live::{LiveCounts, LiveEnd, LiveQueue, LiveRequest, NotTaken, Reader};

/// Tokens of a text to score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScoredPrompt {
    /// All its tokens.
    pub ids: Vec<u32>,
    /// The first that is scored, at least 1. Scores agree with those of an example to the bit where
    /// this is where its completion begins: attention sums the two parts one after the other.
    pub start: usize,
}

/// Scores of a prompt's tokens from its start on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptScores {
    /// One a token.
    pub scores: Vec<TargetScore>,
    /// Of each token's place the most probable tokens with their log-probabilities.
    pub top: Vec<Vec<(u32, f32)>>,
}

impl LocalModel {
    /// The text side: tokenizer and template.
    pub fn text_model(&self) -> &TextModel {
        &self.text
    }

    /// Tokens that a row may have, prompt and completion together.
    pub fn max_position_embeddings(&self) -> usize {
        self.text.description.limits().max_position_embeddings
    }

    /// Threads that it computes with.
    pub fn n_threads(&self) -> usize {
        self.threads.n()
    }

    /// Writes what comes through a queue until that is closed and empty. A request's text is that
    /// of [`Generate`](idiolect_model::Generate) with the same context, sampling and seed, whatever
    /// it is batched with.
    pub fn write_live(&self, queue: &LiveQueue) {
        let workers = self.live_workers();
        let config = self.generation_config(workers);
        let work = |threads: &Threads, mut source: Live<'_>| {
            generate(
                &mut Cached::new(&self.decoder, threads),
                config,
                &mut source,
            );
        };
        let mut sources: Vec<Live<'_>> = (0..workers).map(|_| Live::new(queue)).collect();
        if workers == 1 {
            return sources
                .drain(..)
                .for_each(|source| work(&self.threads, source));
        }
        std::thread::scope(|scope| {
            for source in sources {
                let work = &work;
                scope.spawn(move || work(&Threads::single(), source));
            }
        });
    }

    /// As for requests that are all there: small models stay in each core's cache.
    fn live_workers(&self) -> usize {
        let small = self.model_config().n_parameters() < SMALL;
        if small { self.threads.n() } else { 1 }
    }

    /// Whether the memory for keys and values holds a request of so many tokens and up to so many
    /// more.
    ///
    /// # Errors
    /// How much it needs and how much there is.
    pub fn fits_live(&self, context: usize, max_new_tokens: usize) -> Result<(), RowError> {
        let config = self.model_config();
        let bytes = prompt_bytes(config, context) + page_bytes(config, max_new_tokens);
        within(
            bytes,
            self.kv_bytes / self.live_workers(),
            (context, max_new_tokens),
        )
    }

    /// Scores the tokens of prompts and names the `n_top` most probable at each place. The sink gets
    /// prompts in order.
    pub fn score_prompts(
        &self,
        prompts: &[ScoredPrompt],
        n_top: usize,
        sink: &mut dyn FnMut(usize, Result<PromptScores, RowError>) -> ControlFlow<()>,
    ) {
        let row = |prompt: &ScoredPrompt| TokenRow::new(prompt.ids.clone(), prompt.start);
        let rows: Vec<TokenRow> = prompts.iter().map(row).collect();
        let n_top = n_top.min(self.model_config().vocab);
        score_rows_with_top(
            &self.decoder,
            &rows,
            n_top,
            &self.threads,
            &mut |i, result| {
                let result = result.map_err(|fault| RowError::other(fault.to_string()));
                sink(
                    i,
                    result.map(|(scores, top)| PromptScores {
                        scores: scores.to_vec(),
                        top: top
                            .chunks(n_top.max(1))
                            .map(<[(u32, f32)]>::to_vec)
                            .collect(),
                    }),
                )
            },
        );
    }
}

/// Whether settings of sampling mean something.
///
/// # Errors
/// Names the setting and its value.
pub fn check_sampling(sampling: &Sampling) -> Result<(), ModelError> {
    sample::check(sampling)
}
