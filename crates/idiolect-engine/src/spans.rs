//! Which tokens of a completion take part in the training loss.

use idiolect_model::{RowError, RowErrorKind, Span};

/// The loss mask of the targets: a token takes part in the loss as the span that holds its first
/// byte states, and where no span holds it. The end token, whose first byte lies behind the
/// completion, always takes part.
///
/// - `byte_starts`: the targets' first bytes, from the first byte of the completion; the end
///   token's last
///
/// # Errors
/// When spans are empty, overlap or reach beyond the completion, or no token of the completion is
/// left to train on.
pub(crate) fn loss_mask(
    spans: &[Span],
    completion: usize,
    byte_starts: &[u32],
) -> Result<Vec<bool>, RowError> {
    if spans.is_empty() {
        return Ok(Vec::new());
    }
    let refuse = |reason: String| Err(RowError::other(reason));
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| (span.start, span.end));
    for span in &sorted {
        if span.start >= span.end || span.end > completion {
            return refuse(format!(
                "span {}..{} is no part of a completion of {completion} bytes",
                span.start, span.end
            ));
        }
    }
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].end > pair[1].start) {
        return refuse(format!(
            "spans {}..{} and {}..{} overlap",
            pair[0].start, pair[0].end, pair[1].start, pair[1].end
        ));
    }
    let of = |start: &u32| {
        let holds = |span: &&Span| (span.start..span.end).contains(&(*start as usize));
        sorted.iter().find(holds).is_none_or(|span| span.train)
    };
    let loss_mask: Vec<bool> = byte_starts.iter().map(of).collect();
    let of_completion = loss_mask.len().saturating_sub(1);
    if !loss_mask[..of_completion].contains(&true) {
        return Err(RowError {
            kind: RowErrorKind::NoTarget,
            reason: "its spans leave no token of the completion to train on".to_owned(),
        });
    }
    Ok(loss_mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize, train: bool) -> Span {
        Span { start, end, train }
    }

    #[test]
    fn a_token_is_trained_on_as_the_span_of_its_first_byte_says() {
        // Tokens of bytes 0..3, 3..4, 4..9, then the end token.
        let starts = [0, 3, 4, 9];
        let of = |spans: &[Span]| loss_mask(spans, 9, &starts);
        assert_eq!(of(&[]), Ok(vec![]));
        let masked = of(&[span(3, 5, false)]);
        assert_eq!(masked, Ok(vec![true, false, false, true]));
        // The first byte decides, not the last.
        let masked = of(&[span(5, 9, false)]);
        assert_eq!(masked, Ok(vec![true, true, true, true]));
        let masked = of(&[span(4, 9, true), span(0, 4, false)]);
        assert_eq!(masked, Ok(vec![false, false, true, true]));
    }

    #[test]
    fn spans_that_say_nothing_sensible_are_refused() {
        let why = |spans: &[Span]| loss_mask(spans, 9, &[0, 3, 9]).unwrap_err().reason;
        assert!(why(&[span(0, 9, false)]).contains("no token of the completion"));
        assert!(why(&[span(3, 3, true)]).contains("3..3"));
        assert!(why(&[span(3, 10, true)]).contains("9 bytes"));
        assert!(why(&[span(2, 5, true), span(0, 3, false)]).contains("overlap"));
    }
}
