//! The page: every section of the report in one HTML file that needs no network and no script.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::format::{inline, visible};
use crate::section::{self, Block, Section, examples};
use crate::view::RunView;

/// Forbids whatever is not in the file, should an escape ever be missed.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Counts figures and tables through the page.
#[derive(Default)]
struct Numbers {
    figures: usize,
    tables: usize,
}

/// The whole page.
pub(crate) fn html(view: &RunView) -> String {
    let sections = section::all(view);
    let mut numbers = Numbers::default();
    let main = html! {
        @for (i, section) in sections.iter().enumerate() {
            (section_html(section, i == 0, &mut numbers))
            @if i == 0 { (contents(&sections[1..])) }
        }
    };
    page(&view.title, &view.setting, &main)
}

/// The overview of several students.
pub(crate) fn students(students: &[(String, RunView)]) -> String {
    let mut numbers = Numbers::default();
    let main = html! {
        @for (name, view) in students {
            section {
                h2 { "Student " bdi { (inline(name)) } }
                @if let Some(answer) = section::all(view).first() {
                    @for block in &answer.blocks { (block_html(block, &mut numbers)) }
                }
                p { a href=(format!("students/{name}/report.html")) { "The whole report of this student" } }
            }
        }
    };
    let first = students.first().map(|(_, view)| view);
    let (title, setting) = first.map_or(("", ""), |view| (&view.title, &view.setting));
    page(title, setting, &main)
}

fn page(title: &str, setting: &str, main: &Markup) -> String {
    let title = inline(title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(format!("idiolect {}", env!("CARGO_PKG_VERSION")));
                title { (title) " – idiolect" }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                header {
                    p.kicker { "idiolect · which traces does this student learn most from?" }
                    h1 { bdi { (title) } }
                    @if !setting.is_empty() { p.setting { (inline(setting)) } }
                }
                main { (main) }
                footer { p { (crate::MARK) " " (env!("CARGO_PKG_VERSION")) ". The same numbers are in report.md and comparison.json." } }
            }
        }
    };
    page.into_string()
}

fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-label="Contents" { ol {
            @for section in sections { li { a href=(format!("#{}", section.id)) { (section.title) } } }
        } }
    }
}

fn section_html(section: &Section, first: bool, numbers: &mut Numbers) -> Markup {
    html! {
        section id=(section.id) {
            h2.unseen[first] { (section.title) }
            @for (i, block) in section.blocks.iter().enumerate() {
                @if matches!(block, Block::Example(_)) && !section.blocks[..i].iter().any(|b| matches!(b, Block::Example(_))) { (examples::legend()) }
                (block_html(block, numbers))
            }
        }
    }
}

fn block_html(block: &Block, numbers: &mut Numbers) -> Markup {
    match block {
        Block::Lead(text) => html! { p.lead { (inline(text)) } },
        Block::Paragraph(text) => html! { p { (inline(text)) } },
        Block::Heading(text) => html! { h3 { (inline(text)) } },
        Block::List(items) => html! { ul { @for item in items { li { (inline(item)) } } } },
        Block::Table(table) => {
            numbers.tables += 1;
            table.html(numbers.tables)
        }
        Block::Figure(figure) => {
            numbers.figures += 1;
            figure.html(numbers.figures)
        }
        Block::Facts(facts) => html! {
            dl { @for (name, value) in facts { div { dt { bdi { (inline(name)) } } dd { bdi { (inline(value)) } } } } }
        },
        Block::Commands(lines) => html! { pre { code { (visible(&lines.join("\n"))) } } },
        Block::Example(example) => examples::html(example),
        Block::Missing(why) => html! { p.missing { (inline(why)) } },
    }
}
