//! The page: every section of the report in one HTML file that needs no network. The script adds to
//! what is there; nothing but the tools of `explore` needs it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::explore::{self, Script, Tool};
use crate::format::{inline, visible};
use crate::section::{self, Block, Section, examples};
use crate::view::RunView;

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
    let data = explore::data(&[("", view)]);
    page(
        &view.title,
        &view.setting,
        &main,
        Script::Report,
        &data,
        numbers_of(view),
    )
}

/// Where the numbers of a page stand for a program.
fn numbers_of(view: &RunView) -> &'static str {
    if view.lacks.is_empty() {
        RUN_NUMBERS
    } else {
        "“idiolect compare --json” prints the same numbers."
    }
}

const RUN_NUMBERS: &str = "The same numbers are in report.md and comparison.json.";

/// The page over a run that goes: its script asks the server that it came from.
pub(crate) fn live(title: &str) -> String {
    let data = serde_json::json!({ "shades": examples::SHADES });
    page(
        title,
        "",
        &explore::live(),
        Script::Live,
        &data,
        RUN_NUMBERS,
    )
}

/// The overview of several students.
pub(crate) fn students(students: &[(String, RunView)]) -> String {
    let named: Vec<(&str, &RunView)> = students
        .iter()
        .map(|(name, view)| (name.as_str(), view))
        .collect();
    let data = explore::data(&named);
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
        @if !data["rows"].is_null() {
            section id="examples" hidden {
                h2 { "Traces, token by token" }
                p { "The training rows of each student's arms; each token is shaded by how much it surprises that student. One trace can be read under two students." }
                (examples::legend())
                (Tool::Rows.html())
            }
        }
    };
    let first = students.first().map(|(_, view)| view);
    let (title, setting) = first.map_or(("", ""), |view| (&view.title, &view.setting));
    page(title, setting, &main, Script::Report, &data, RUN_NUMBERS)
}

fn page(
    title: &str,
    setting: &str,
    main: &Markup,
    script: Script,
    data: &serde_json::Value,
    numbers: &str,
) -> String {
    let title = inline(title);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(script.policy());
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
                footer { p { (crate::MARK) " " (env!("CARGO_PKG_VERSION")) ". " (numbers) } }
                (script.elements(data))
            }
        }
    };
    page.into_string()
}

fn contents(sections: &[Section]) -> Markup {
    html! {
        nav aria-label="Contents" { ol {
            @for section in sections { li hidden[section.needs_script()] { a href=(format!("#{}", section.id)) { (section.title) } } }
        } }
    }
}

fn section_html(section: &Section, first: bool, numbers: &mut Numbers) -> Markup {
    html! {
        section id=(section.id) hidden[section.needs_script()] {
            h2.unseen[first] { (section.title) }
            @for block in &section.blocks {
                @if matches!(block, Block::Tool(Tool::Rows)) { (examples::legend()) }
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
        Block::Commands(lines) => {
            html! { pre tabindex="0" { code { (visible(&lines.join("\n"))) } } }
        }
        Block::Example(example) => examples::html(example),
        Block::Tool(tool) => tool.html(),
        Block::Missing(why) => html! { p.missing { (inline(why)) } },
    }
}
