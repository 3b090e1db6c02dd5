//! How the run was made: recipe, seeds, hashes, versions, and the commands that make it again.

use super::{Block, Section};
use crate::format;
use crate::reading;
use crate::view::RunView;

pub(super) fn section(view: &RunView) -> Section {
    let c = &view.comparison;
    let mut blocks = Vec::new();
    if !view.commands.is_empty() {
        blocks.push(Block::Paragraph(
            "The same commands with the same inputs give the same page, byte for byte.".to_owned(),
        ));
        blocks.push(Block::Commands(view.commands.clone()));
    }
    for group in view
        .provenance
        .iter()
        .filter(|group| !group.facts.is_empty())
    {
        blocks.push(Block::Heading(group.title.clone()));
        blocks.push(Block::Facts(group.facts.clone()));
    }
    blocks.push(Block::Heading("Statistics".to_owned()));
    let facts = [
        ("test problems", format::number(c.n_problems)),
        ("replication", reading::replication(c)),
        ("intervals", reading::coverage(c)),
        ("bootstrap draws", format::number(c.draws)),
        ("bootstrap seed", format::count(c.seed)),
        ("baselines", format::listed(&c.baselines)),
    ];
    blocks.push(Block::Facts(
        facts
            .into_iter()
            .filter(|(_, v)| !v.is_empty())
            .map(|(k, v)| (k.to_owned(), v))
            .collect(),
    ));
    if !c.metrics.is_empty() && c.arms.iter().any(|arm| !arm.closeness.is_empty()) {
        blocks.push(Block::Heading("Closeness metrics".to_owned()));
        let facts = c.metrics.iter().map(|m| {
            let source = if m.source.is_empty() {
                String::new()
            } else {
                format!(" Source: {}.", m.source.trim_end_matches('.'))
            };
            let definition = m.definition.trim_end_matches('.');
            (
                reading::metric_name(&m.name),
                format!("{definition} ({}).{source}", reading::unit_and_direction(m)),
            )
        });
        blocks.push(Block::Facts(facts.collect()));
    }
    Section {
        id: "making",
        title: "How it was made".to_owned(),
        blocks,
    }
}
