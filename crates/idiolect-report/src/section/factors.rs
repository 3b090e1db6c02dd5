//! What teaches: the answer, the closeness or the steps?

use idiolect_core::comparison::FactorAnalysis;

use super::{Block, Section};
use crate::format::{NONE, signed, signed_interval};
use crate::table::{Table, left, right};
use crate::view::RunView;

/// Left out where no arm can be placed.
pub(super) fn section(view: &RunView) -> Option<Section> {
    let factors = view.comparison.factors.as_ref()?;
    Some(Section {
        id: "factors",
        title: "Answer, closeness or steps?".to_owned(),
        blocks: vec![
            Block::Paragraph(format!("{}.", factors.method)),
            Block::Table(levels(view, factors)),
            Block::Table(effects(
                factors,
                &crate::reading::coverage(&view.comparison),
            )),
        ],
    })
}

fn levels(view: &RunView, factors: &FactorAnalysis) -> Table {
    let word = |yes: bool, words: [&str; 2]| words[usize::from(!yes)].to_owned();
    let row = |arm: &idiolect_core::comparison::FactorLevels| {
        vec![
            crate::reading::full_name(&view.comparison, &arm.arm),
            word(arm.right, ["right", "wrong"]),
            word(arm.near, ["near", "far"]),
            word(arm.valid, ["valid", "flawed"]),
        ]
    };
    Table {
        caption: "The levels of each arm; arms in between are left out.".to_owned(),
        columns: vec![left("arm"), left("answers"), left("student"), left("steps")],
        rows: factors.arms.iter().map(row).collect(),
        quiet: Vec::new(),
    }
}

fn effects(factors: &FactorAnalysis, coverage: &str) -> Table {
    let rows = factors.effects.iter().map(|effect| {
        let strata = if effect.strata.is_empty() {
            "no two of these arms differ in this alone".to_owned()
        } else {
            effect.strata.join("; ")
        };
        vec![
            effect.factor.clone(),
            effect.effect.map_or(NONE.to_owned(), signed),
            effect
                .interval
                .map_or(NONE.to_owned(), |i| signed_interval((i.low, i.high))),
            strata,
        ]
    });
    let unsure = factors
        .effects
        .iter()
        .any(|effect| effect.effect.is_some() && effect.interval.is_none());
    let caption = format!(
        "Main effects and interactions on accuracy, read off arms that differ in nothing else.{}",
        if unsure {
            " Where an effect is the same on nearly all problems there is too little to resample for an interval."
        } else {
            ""
        }
    );
    Table {
        caption,
        columns: vec![
            left("factor"),
            right("effect"),
            right(&format!("[{coverage}]")),
            left("read off"),
        ],
        rows: rows.collect(),
        quiet: Vec::new(),
    }
}
