//! What teaches: style, answer or steps?

use idiolect_core::comparison::{FactorAnalysis, PlannedContrast};

use super::{Block, Section};
use crate::format::{NONE, p_value, signed, signed_interval};
use crate::table::{Table, left, right};
use crate::view::RunView;

/// Left out where no two arms are planned to be held against each other.
pub(super) fn section(view: &RunView) -> Option<Section> {
    let factors = view.comparison.factors.as_ref()?;
    Some(Section {
        id: "factors",
        title: "Style, answer or steps?".to_owned(),
        blocks: vec![
            Block::Paragraph(format!("{}.", factors.method)),
            Block::Table(contrasts(
                factors,
                &crate::reading::coverage(&view.comparison),
            )),
        ],
    })
}

fn contrasts(factors: &FactorAnalysis, coverage: &str) -> Table {
    let row = |contrast: &PlannedContrast| {
        vec![
            contrast.factor.clone(),
            signed(contrast.effect),
            contrast
                .interval
                .map_or(NONE.to_owned(), |i| signed_interval((i.low, i.high))),
            contrast.p_holm.map_or(NONE.to_owned(), p_value),
            contrast.arms.clone(),
        ]
    };
    let unsure = factors.contrasts.iter().any(|c| c.interval.is_none());
    let caption = format!(
        "Planned contrasts of accuracy.{}",
        if unsure {
            " Where an effect is the same on nearly all problems there is too little to resample for an interval."
        } else {
            ""
        }
    );
    Table {
        caption,
        columns: vec![
            left("changed"),
            right("effect"),
            right(&format!("[{coverage}]")),
            right("p"),
            left("read off"),
        ],
        rows: factors.contrasts.iter().map(row).collect(),
        quiet: Vec::new(),
    }
}
