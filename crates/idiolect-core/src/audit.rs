//! How far a trace is right: its longest valid prefix, its first error, its fraction of valid steps.
//!
//! A right answer proves no sound reasoning, and a wrong one seldom lacks it from the start
//! (arXiv 2512.22255). A fold of what the step checks found; what they could not check counts
//! neither as valid nor as an error.

use serde::Serialize;

use crate::record::{Step, StepCheck};

/// What the checks of one trace's steps add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StepAudit {
    /// Steps recomputed and right.
    pub valid: usize,
    /// Steps recomputed and false.
    pub invalid: usize,
    /// Steps with nothing to recompute.
    pub unchecked: usize,
    /// Steps before the first error; all of them where there is none.
    pub prefix_steps: usize,
    /// Those of them that are valid.
    pub prefix_valid: usize,
    /// The first error: an index into the steps.
    pub first_error: Option<usize>,
}

impl StepAudit {
    /// Folds the steps of a trace, in text order.
    pub fn of(steps: &[Step]) -> Self {
        let mut audit = Self::default();
        for (index, step) in steps.iter().enumerate() {
            match step.check {
                StepCheck::Valid => audit.valid += 1,
                StepCheck::Unchecked => audit.unchecked += 1,
                StepCheck::Invalid => {
                    audit.invalid += 1;
                    audit.first_error.get_or_insert(index);
                }
            }
            if audit.first_error.is_none() {
                audit.prefix_steps = index + 1;
                audit.prefix_valid = audit.valid;
            }
        }
        audit
    }

    /// All steps.
    pub fn steps(&self) -> usize {
        self.valid + self.invalid + self.unchecked
    }

    /// Valid steps among those that could be checked, a fraction; `None` where none could.
    pub fn valid_share(&self) -> Option<f64> {
        let checked = self.valid + self.invalid;
        (checked > 0).then(|| self.valid as f64 / checked as f64)
    }

    /// The longest valid prefix among all steps, a fraction; `None` without steps.
    pub fn prefix_share(&self) -> Option<f64> {
        (self.steps() > 0).then(|| self.prefix_steps as f64 / self.steps() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audit(checks: &str) -> StepAudit {
        let step = |(at, c): (usize, char)| Step {
            start: at,
            end: at + 1,
            check: match c {
                'v' => StepCheck::Valid,
                'i' => StepCheck::Invalid,
                _ => StepCheck::Unchecked,
            },
        };
        StepAudit::of(&checks.chars().enumerate().map(step).collect::<Vec<_>>())
    }

    #[test]
    fn the_prefix_ends_before_the_first_error() {
        let found = audit("uvviuv");
        assert_eq!((found.prefix_steps, found.prefix_valid), (3, 2));
        assert_eq!((found.first_error, found.invalid), (Some(3), 1));
        assert_eq!(found.valid_share(), Some(0.75));
        assert_eq!(found.prefix_share(), Some(0.5));
    }

    #[test]
    fn a_trace_without_an_error_is_its_own_prefix() {
        let found = audit("vu");
        assert_eq!((found.prefix_steps, found.first_error), (2, None));
        assert_eq!(found.prefix_share(), Some(1.0));
        assert_eq!(audit("i").prefix_steps, 0);
        assert_eq!(audit("u").valid_share(), None);
        assert_eq!(audit("").prefix_share(), None);
    }
}
