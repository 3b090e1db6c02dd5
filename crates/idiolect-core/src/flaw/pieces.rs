//! A text as its steps and what is between them.

use crate::record::Step;

/// `gaps[0] steps[0] gaps[1] steps[1] … gaps[n]`; an empty step was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) steps: Vec<String>,
    pub(crate) gaps: Vec<String>,
}

impl Pieces {
    /// Steps that overlap or lie outside the text are left out.
    pub(crate) fn of(text: &str, steps: &[Step]) -> Self {
        let mut pieces = Self {
            steps: Vec::new(),
            gaps: Vec::new(),
        };
        let mut at = 0;
        for step in steps {
            let (Some(gap), Some(own)) = (text.get(at..step.start), text.get(step.start..step.end))
            else {
                continue;
            };
            pieces.gaps.push(gap.to_owned());
            pieces.steps.push(own.to_owned());
            at = step.end;
        }
        pieces.gaps.push(text[at..].to_owned());
        pieces
    }

    /// What separates step `at` from another: what follows it in the text, where a step follows;
    /// else what is before it.
    pub(super) fn separator(&self, at: usize) -> &str {
        let gap = if at + 1 < self.steps.len() {
            &self.gaps[at + 1]
        } else {
            &self.gaps[at]
        };
        let alone = self.steps.len() == 1 || gap.is_empty();
        if alone { " " } else { gap }
    }

    /// The text again.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // The gap behind a dropped step goes with it, but for what follows the last step.
        let mut dropped = false;
        for (gap, step) in self.gaps.iter().zip(&self.steps) {
            if !dropped {
                text.push_str(gap);
            }
            text.push_str(step);
            dropped = step.is_empty();
        }
        if dropped {
            let last = self.gaps.len() - 1;
            let kept = self.gaps[last - 1].len().min(text.len());
            // A last step that was dropped takes the gap before it along, unless it opened the text.
            if last > 1 && text.ends_with(self.gaps[last - 1].as_str()) {
                text.truncate(text.len() - kept);
            }
        }
        text.push_str(self.gaps.last().map_or("", String::as_str));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::StepCheck;

    fn pieces() -> Pieces {
        let step = |start, end| Step {
            start,
            end,
            check: StepCheck::Unchecked,
        };
        Pieces::of(
            " a ; b ; c | #### 1",
            &[step(1, 2), step(5, 6), step(9, 10)],
        )
    }

    #[test]
    fn pieces_are_the_text() {
        assert_eq!(pieces().text(), " a ; b ; c | #### 1");
        assert_eq!(pieces().steps, ["a", "b", "c"]);
    }

    #[test]
    fn a_dropped_step_takes_one_gap_along() {
        let dropped = |at: usize| {
            let mut pieces = pieces();
            pieces.steps[at].clear();
            pieces.text()
        };
        assert_eq!(dropped(0), " b ; c | #### 1");
        assert_eq!(dropped(1), " a ; c | #### 1");
        assert_eq!(dropped(2), " a ; b | #### 1");
    }
}
