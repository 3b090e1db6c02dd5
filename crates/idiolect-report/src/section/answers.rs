//! Every arm's answer to each test problem, the problems on which two arms differ first.

use super::{Block, Section};
use crate::explore::Tool;
use crate::view::RunView;

/// The section; `None` where no answers were handed to the report.
pub(super) fn section(view: &RunView) -> Option<Section> {
    let any = view.answers.iter().any(|a| !a.checkpoints.is_empty());
    any.then(|| Section {
        id: "answers",
        title: "Answers, problem by problem".to_owned(),
        blocks: vec![Block::Tool(Tool::Answers)],
    })
}
