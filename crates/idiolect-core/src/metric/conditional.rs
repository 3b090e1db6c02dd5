//! What the prompt adds: the same completion scored with and without its problem. Needs a second
//! pass, over the completion after an empty user turn.

use super::likelihood::nll_per_token;
use super::ratio;
use crate::record::ScoreRow;

/// s̄(y|c) and s̄(y|∅), where both have tokens.
fn both(with: &ScoreRow, without: &ScoreRow) -> Option<(f64, f64)> {
    nll_per_token(with).zip(nll_per_token(without))
}

/// s̄(y|c) / s̄(y|∅), as Cherry LLM and data-juicer define IFD (arXiv 2308.12032). Preferred there:
/// highest below 1.
pub fn ifd_loss(with: &ScoreRow, without: &ScoreRow) -> Option<f64> {
    both(with, without).and_then(|(c, e)| ratio(c, e))
}

/// exp(s̄(y|c) − s̄(y|∅)), as Superfiltering defines IFD (arXiv 2402.00530). Preferred there: highest
/// below 1. Not monotone in [`ifd_loss`].
pub fn ifd_ppl(with: &ScoreRow, without: &ScoreRow) -> Option<f64> {
    pmi(with, without).map(|pmi| (-pmi).exp())
}

/// s̄(y|∅) − s̄(y|c), nats per token: how much the prompt states of the completion.
pub fn pmi(with: &ScoreRow, without: &ScoreRow) -> Option<f64> {
    both(with, without).map(|(c, e)| e - c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{empty, tests::identity};

    fn of(nll_nats: f64) -> ScoreRow {
        ScoreRow {
            n_tokens: 4,
            nll_nats,
            ..empty(identity())
        }
    }

    #[test]
    fn the_golden_trace_gives_both_ifds() {
        let (with, without) = (of(6.247345554), of(8.0));
        let near = |got: Option<f64>, expected: f64| {
            assert!(
                (got.unwrap() - expected).abs() < 1e-9,
                "{got:?} is not {expected}"
            );
        };
        near(ifd_loss(&with, &without), 0.780918194);
        near(ifd_ppl(&with, &without), 0.645220209);
        near(pmi(&with, &without).map(|pmi| (-pmi).exp()), 0.645220209);
    }

    #[test]
    fn a_completion_without_tokens_has_none() {
        let nothing = empty(identity());
        assert_eq!(ifd_loss(&nothing, &of(1.0)), None);
        assert_eq!(pmi(&of(1.0), &nothing), None);
    }
}
