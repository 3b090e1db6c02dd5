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

/// Ids of plain text in any vocabulary; small, for some are.
fn row(own: u32) -> IdsRow {
    let id = |k: u32, salt: u32| 100 + (k * 37 + salt * 101 + k * k * 11) % 150;
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
) -> Result<(), Trouble> {
    let ends = EndTokens::default();
    let (a, b) = (row(1), row(2));
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
        let (a, b) = (row(1), row(2));
        let shared = SHARED as usize;
        assert_eq!(a.ids[..shared], b.ids[..shared]);
        assert_ne!(a.ids[shared], b.ids[shared]);
        assert!(a.ids.iter().all(|&id| (100..250).contains(&id)));
    }
}
