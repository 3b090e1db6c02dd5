//! The start-up test of scoring: two rows with a shared beginning, in both orders. A server that
//! keeps beginnings it has seen (prefix caching) must not give other scores for that.

use idiolect_model::ModelError;

use super::super::transport::{Stop, Transport};
use super::forced::EndTokens;
use super::{IdsRow, IdsScore, ScoringMethod};

/// Longer than the pieces in which servers keep beginnings (16 or 32 tokens).
const SHARED: u32 = 70;

/// Ids that are scored of each row.
const OWN: u32 = 6;

/// The largest difference that rounding explains where a batch was cut otherwise, nats.
const TOLERANCE: f32 = 0.25;

pub(super) enum Trouble {
    /// The server does not score in this way.
    Absent(String),
    /// Scores depend on what was asked before.
    Depends(String),
    /// It does not answer at all.
    Dead(ModelError),
}

/// A text whose tokens every server can write. What small ids mean differs from vocabulary to
/// vocabulary: pieces of characters, which llama.cpp's grammars cannot hold, are among them.
pub(super) const TEXT: &str = "Once upon a time there was a small dog who lived in a big red house by \
    the sea, and every day it ran down to the water to look for something new to play with. One day it \
    found a ball.";

/// Ids to make rows of: those of [`TEXT`], else small ones, for some vocabularies are small.
pub(super) fn alphabet(of_text: Option<Vec<u32>>) -> Vec<u32> {
    of_text
        .filter(|ids| ids.len() > OWN as usize)
        .unwrap_or_else(|| (100..250).collect())
}

fn row(alphabet: &[u32], own: u32) -> IdsRow {
    let id =
        |k: u32, salt: u32| alphabet[(k * 37 + salt * 101 + k * k * 11) as usize % alphabet.len()];
    let shared = (0..SHARED).map(|k| id(k, 0));
    IdsRow {
        ids: shared.chain((0..OWN).map(|k| id(k, own))).collect(),
        from: SHARED as usize,
    }
}

pub(super) async fn same_in_both_orders(
    transport: &Transport,
    model: &str,
    method: ScoringMethod,
    alphabet: &[u32],
) -> Result<(), Trouble> {
    let ends = EndTokens::default();
    let (a, b) = (row(alphabet, 1), row(alphabet, 2));
    let mut scores = Vec::new();
    for row in [&a, &b, &b, &a] {
        let score = method.score(transport, model, row, &ends, true).await;
        scores.push(score.map_err(|stop| match stop {
            Stop::Row(error) => Trouble::Absent(error.reason),
            // A path that the server does not have.
            Stop::All(error) if error.to_string().contains("status 4") => {
                Trouble::Absent(error.to_string())
            }
            Stop::All(error) => Trouble::Dead(error),
        })?);
    }
    if method.gives_ranks() && scores.iter().any(|score| score.ranks.is_none()) {
        return Err(Trouble::Absent("scores without ranks".to_owned()));
    }
    let apart = difference(&scores[0], &scores[3]).max(difference(&scores[1], &scores[2]));
    if apart > TOLERANCE {
        return Err(Trouble::Depends(format!(
            "the server's scores depend on the order of requests: the same row differs by {apart} \
             nats after one that begins alike. Switch its prefix caching off (vLLM: \
             --no-enable-prefix-caching)"
        )));
    }
    Ok(())
}

fn difference(a: &IdsScore, b: &IdsScore) -> f32 {
    let pairs = a.logprobs.iter().zip(&b.logprobs);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_share_a_beginning_only() {
        let alphabet = alphabet(None);
        let (a, b) = (row(&alphabet, 1), row(&alphabet, 2));
        let shared = SHARED as usize;
        assert_eq!(a.ids[..shared], b.ids[..shared]);
        assert_ne!(a.ids[shared], b.ids[shared]);
        assert!(a.ids.iter().all(|&id| (100..250).contains(&id)));
    }
}
