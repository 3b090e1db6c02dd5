//! What a report out of single files has no data for, and which file would give it.

use super::{Block, Section};
use crate::view::RunView;

/// The section; `None` where nothing is stated to lack.
pub(super) fn section(view: &RunView) -> Option<Section> {
    (!view.lacks.is_empty()).then(|| Section {
        id: "lacks",
        title: "What this page lacks".to_owned(),
        blocks: vec![Block::List(view.lacks.clone())],
    })
}
