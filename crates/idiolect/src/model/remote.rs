//! A model behind an endpoint whose prompts are rendered and tokenized here, so that its scores are
//! those of the same weights on this machine.

use std::ops::ControlFlow;

use idiolect_engine::encode::Row;
use idiolect_engine::text::TextModel;
use idiolect_model::{
    Capabilities, Example, Generate, Model, ModelError, ModelInfo, Score, Scored, Sink, TokenScore,
    Usage,
};
use idiolect_remote::{Endpoint, IdsRow, IdsScore};

use super::encoded::score_encoded;

/// A text whose tokens are compared with the server's.
const PROBE: &str = "Answer: 3 * (1.5 + 2) = 10.5\nIsn\'t it? #12";

pub(super) struct Remote {
    endpoint: Endpoint,
    text: TextModel,
    info: ModelInfo,
}

impl Remote {
    /// An endpoint and the tokenizer of its model.
    ///
    /// # Errors
    /// Where the server makes other tokens of a text.
    pub(super) fn new(endpoint: Endpoint, text: TextModel) -> Result<Self, ModelError> {
        // A vocabulary that cannot write it is compared row by row: the ids that come back are.
        let own = text.tokenizer().encode_rendered(PROBE).map(|own| own.ids);
        if let (Some(served), Ok(own)) = (endpoint.token_ids(PROBE)?, own)
            && served != own
        {
            return Err(ModelError::Invalid(format!(
                "the tokenizer given is not that of the endpoint's model `{}`: of the text {PROBE:?} \
                 it makes the tokens {own:?}, and the server {served:?}",
                endpoint.info().name
            )));
        }
        let info = ModelInfo {
            tokenizer_hash: text.hash(),
            template: text.template(),
            ignored_config_fields: text.ignored_config_fields(),
            ..endpoint.info().clone()
        };
        Ok(Self {
            endpoint,
            text,
            info,
        })
    }
}

impl Model for Remote {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn capabilities(&self) -> Capabilities {
        self.endpoint.capabilities()
    }

    fn usage(&self) -> Option<Usage> {
        Some(self.endpoint.usage())
    }

    fn as_generate(&mut self) -> Result<&mut dyn Generate, ModelError> {
        self.endpoint.as_generate()
    }

    fn as_score(&mut self) -> Result<&mut dyn Score, ModelError> {
        self.endpoint.probe_scoring()?;
        Ok(self)
    }
}

impl Score for Remote {
    fn score(&mut self, examples: &[Example], sink: Sink<'_, Scored>) -> Result<(), ModelError> {
        let Self { endpoint, text, .. } = self;
        score_encoded(text, examples, sink, |rows, sink| {
            let sent: Vec<IdsRow> = rows
                .iter()
                .map(|row| IdsRow {
                    ids: row.ids.clone(),
                    from: row.completion_start,
                })
                .collect();
            endpoint.score_ids(&sent, &mut |index, result| {
                sink(index, result.map(|score| scored(&rows[index], &score)))
            })?;
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// The scores of a row; what the server does not give is absent.
fn scored(row: &Row, score: &IdsScore) -> Scored {
    let n = score.logprobs.len();
    let tokens = row.ids[row.completion_start..]
        .iter()
        .zip(&row.byte_starts)
        .zip(&score.logprobs)
        .enumerate()
        .map(|(i, ((&token_id, &byte_start), &logprob))| TokenScore {
            token_id,
            logprob,
            rank: score.ranks.as_ref().map(|ranks| ranks[i]),
            distribution: None,
            byte_start,
            is_end: i + 1 == n,
        });
    Scored {
        tokens: tokens.collect(),
        traits: row.traits,
    }
}
