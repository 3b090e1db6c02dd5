//! `report.md`: the same sections as the page, with tables where the page also draws.

use crate::section::{self, Block, Section, examples};
use crate::table::markdown_text;
use crate::view::RunView;

/// The whole report as Markdown.
pub(crate) fn markdown(view: &RunView) -> String {
    let mut out = format!("# {}\n", markdown_text(&view.title));
    if !view.setting.is_empty() {
        out += &format!("\n{}\n", markdown_text(&view.setting));
    }
    for section in section::all(view).iter().filter(|s| !s.needs_script()) {
        out += &section_markdown(section);
    }
    out += &format!("\n---\n\n{} {}.\n", crate::MARK, env!("CARGO_PKG_VERSION"));
    out
}

fn section_markdown(section: &Section) -> String {
    let mut out = format!("\n## {}\n", markdown_text(&section.title));
    let readable = |block: &&Block| !matches!(block, Block::Tool(_));
    for block in section.blocks.iter().filter(readable) {
        out.push('\n');
        out += &block_markdown(block);
    }
    out
}

fn block_markdown(block: &Block) -> String {
    match block {
        Block::Lead(text) => format!("**{}**\n", markdown_text(text)),
        Block::Paragraph(text) => format!("{}\n", markdown_text(text)),
        Block::Heading(text) => format!("### {}\n", markdown_text(text)),
        Block::List(items) => items
            .iter()
            .map(|item| format!("- {}\n", markdown_text(item)))
            .collect(),
        Block::Table(table) => table.markdown(),
        Block::Figure(figure) => format!(
            "*Drawn in report.html: {}*\n",
            markdown_text(&figure.caption)
        ),
        Block::Facts(facts) => facts
            .iter()
            .map(|(name, value)| format!("- {}: {}\n", markdown_text(name), markdown_text(value)))
            .collect(),
        Block::Commands(lines) => format!("{}\n", examples::fenced(&lines.join("\n"))),
        Block::Example(example) => examples::markdown(example),
        Block::Tool(_) => String::new(),
        Block::Missing(why) => format!("*{}*\n", markdown_text(why)),
    }
}
