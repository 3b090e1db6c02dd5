//! LALP, local naturalness: how likely each step is given the problem and the few steps before it
//! (arXiv 2510.03988). Higher is preferred. The mean is over steps, not tokens.
//!
//! The authors' code was not found; four steps of context follow a third-party implementation.

use crate::record::{Step, StepCheck};

/// Steps of context.
pub const CONTEXT_STEPS: usize = 4;

/// The mean over steps of ln p per token, from (Σ ln p, tokens) of each step; steps without tokens
/// are left out, and `None` where no step has any.
pub fn lalp(steps: &[(f64, u64)]) -> Option<f64> {
    let means: Vec<f64> = steps
        .iter()
        .filter(|(_, tokens)| *tokens > 0)
        .map(|(logprob, tokens)| logprob / *tokens as f64)
        .collect();
    (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
}

/// One scoring of a local pass: `completion` after the prompt, of which the tokens from byte
/// `start` on count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local<'a> {
    /// The context steps and the step, as they are in the trace.
    pub text: &'a str,
    /// First byte of the step in `text`.
    pub start: usize,
}

/// The local texts of a trace: each unit with the `context` units before it. Units are the trace cut
/// at the starts of its steps, so that every byte belongs to one.
pub fn locals<'a>(text: &'a str, steps: &[Step], context: usize) -> Vec<Local<'a>> {
    let mut starts: Vec<usize> = steps
        .iter()
        .map(|step| step.start)
        .filter(|start| *start > 0 && *start < text.len() && text.is_char_boundary(*start))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    // What is before the first step is a unit of its own only where it states something.
    if starts
        .first()
        .is_some_and(|first| text[..*first].trim().is_empty())
    {
        starts[0] = 0;
    } else {
        starts.insert(0, 0);
    }
    (0..starts.len())
        .filter(|_| !text.is_empty())
        .map(|unit| {
            let from = starts[unit.saturating_sub(context)];
            let to = starts.get(unit + 1).copied().unwrap_or(text.len());
            Local {
                text: &text[from..to],
                start: starts[unit] - from,
            }
        })
        .collect()
}

/// Steps at the ends of lines, for traces whose task cuts no steps.
pub fn lines(text: &str) -> Vec<Step> {
    let mut start = 0;
    text.split_inclusive('\n')
        .map(|line| {
            let step = Step {
                start,
                end: start + line.len(),
                check: StepCheck::Unchecked,
            };
            start += line.len();
            step
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_steps_give_the_mean_of_step_means() {
        let value = lalp(&[(-4.0, 2), (-5.0, 1)]).unwrap();
        assert!((value + 3.5).abs() < 1e-12);
        assert_eq!(lalp(&[(0.0, 0)]), None);
    }

    #[test]
    fn one_step_is_the_negative_mean_surprisal() {
        let value = lalp(&[(-6.247345554, 4)]).unwrap();
        assert!((value + 1.5618363885).abs() < 1e-9);
        let text = "one line";
        assert_eq!(locals(text, &lines(text), 4), [Local { text, start: 0 }]);
    }

    #[test]
    fn every_byte_is_scored_once_after_at_most_the_context() {
        let text = "a\nbb\nccc\ndddd";
        let found = locals(text, &lines(text), 1);
        let scored: String = found
            .iter()
            .map(|local| &local.text[local.start..])
            .collect();
        assert_eq!(scored, text);
        assert_eq!(
            found[2],
            Local {
                text: "bb\nccc\n",
                start: 3
            }
        );
        assert!(locals("", &[], 4).is_empty());
        // A space before the first step belongs to it.
        let step = |start, end| Step {
            start,
            end,
            check: StepCheck::Valid,
        };
        let text = " 1 + 1 = 2 ; 2 + 2 = 4";
        let found = locals(text, &[step(1, 10), step(13, 22)], 1);
        assert_eq!(
            found[0],
            Local {
                text: " 1 + 1 = 2 ; ",
                start: 0
            }
        );
        assert_eq!(found.len(), 2);
    }
}
