//! The sections of the report, one a file, as blocks that the page and `report.md` both show. A
//! section without data holds one line that states why.

mod answer;
mod answers;
mod arms;
mod closeness;
mod conclusions;
mod coverage;
mod differences;
mod dose;
pub(crate) mod examples;
mod factors;
mod gold;
mod lacks;
mod making;
mod outcomes;
mod training;

use crate::explore::Tool;
use crate::figure::Figure;
use crate::reading;
use crate::table::Table;
use crate::view::{Example, RunView};

pub(crate) use arms::terminal;

/// A titled part of the report.
pub(crate) struct Section {
    /// Unique on the page.
    pub(crate) id: &'static str,
    /// As the heading shows it.
    pub(crate) title: String,
    /// In reading order.
    pub(crate) blocks: Vec<Block>,
}

impl Section {
    /// Whether it holds nothing but why it is empty.
    fn is_empty(&self) -> bool {
        self.blocks
            .iter()
            .all(|block| matches!(block, Block::Missing(_)))
    }

    /// Whether nothing of it can be read without script.
    pub(crate) fn needs_script(&self) -> bool {
        self.blocks
            .iter()
            .all(|block| matches!(block, Block::Tool(_)))
    }
}

/// One thing to read.
pub(crate) enum Block {
    /// The answer, set larger.
    Lead(String),
    /// Plain text.
    Paragraph(String),
    /// A heading inside the section.
    Heading(String),
    /// Sentences, one an item.
    List(Vec<String>),
    /// Numbers in rows.
    Table(Table),
    /// A drawing.
    Figure(Figure),
    /// Named facts.
    Facts(Vec<(String, String)>),
    /// Commands, one a line.
    Commands(Vec<String>),
    /// A trace to read.
    Example(Example),
    /// A part that needs script.
    Tool(Tool),
    /// Why the section is empty.
    Missing(String),
}

/// All sections in reading order. Where accuracy cannot rank the arms, the surprisal of gold
/// solutions comes before everything that ranks by accuracy.
pub(crate) fn all(view: &RunView) -> Vec<Section> {
    let mut sections = vec![answer::section(view), arms::section(view)];
    let gold_first = reading::near_zero(&view.comparison);
    if gold_first {
        sections.extend(gold::section(view));
    }
    sections.push(closeness::section(view));
    sections.extend(dose::section(view));
    sections.push(differences::section(view));
    sections.extend(factors::section(view));
    sections.push(outcomes::section(view));
    sections.extend(answers::section(view));
    if !gold_first {
        sections.extend(gold::section(view));
    }
    sections.extend([
        training::section(view),
        coverage::section(view),
        examples::section(view),
        conclusions::section(view),
    ]);
    if let Some(lacks) = lacks::section(view) {
        sections.retain(|section| !section.is_empty());
        sections.push(lacks);
    }
    sections.push(making::section(view));
    sections
}
