//! Traces to read: each token shaded by the student's surprisal, each step marked by what the
//! checker found. One problem's traces are on the page; with script, those of many can be chosen.

use std::borrow::Cow;

use idiolect_core::record::StepCheck;
use maud::{Markup, html};

use super::{Block, Section};
use crate::explore::Tool;
use crate::format::{self, decimal, inline, visible};
use crate::reading;
use crate::table::markdown_text;
use crate::view::{Example, ExampleToken, RunView};

/// Shades begin at these surprisals, in nats.
pub(crate) const SHADES: [f64; 6] = [0.1, 0.5, 1.0, 2.0, 4.0, 8.0];

/// Tokens at least this surprising carry their number, in nats.
const NUMBERED: f64 = 1.0;

/// So many of the most surprising tokens are named where shades cannot be shown.
const NAMED: usize = 5;

/// Bytes of a prompt or a trace that are shown.
pub(crate) const SHOWN_BYTES: usize = 16_000;

pub(super) fn section(view: &RunView) -> Section {
    let mut blocks = Vec::new();
    if view.examples.is_empty() {
        blocks.push(Block::Missing(
            "No example traces were handed to this report.".to_owned(),
        ));
    } else {
        blocks.push(Block::Paragraph(
            "Surprisal is −ln p of a token under the untrained student, in nats: 0 is what it would have written itself, 1 a factor of 2.7 less likely. \
             Darker tokens surprise it more; from 1 nat on the number is above the token. \
             Steps are underlined: solid and ✓ where a checker recomputed them and they hold, wavy and ✗ where they are false, dotted where there is nothing to recompute. \
             The prompt is given, the trace after it is trained on; what a loss mask keeps out is struck through."
                .to_owned(),
        ));
        blocks.push(Block::Tool(Tool::Rows));
        let first = &view.examples[0].problem_id;
        let of_first = view.examples.iter().filter(|e| &e.problem_id == first);
        blocks.extend(of_first.map(|example| {
            Block::Example(Example {
                arm: reading::full_name(&view.comparison, &example.arm),
                ..example.clone()
            })
        }));
    }
    Section {
        id: "examples",
        title: "Traces, token by token".to_owned(),
        blocks,
    }
}

/// The scale of shades.
pub(crate) fn legend() -> Markup {
    let names = ["< 0.1", "0.1", "0.5", "1", "2", "4", "≥ 8"];
    html! {
        p.legend aria-label="Scale of surprisal in nats" {
            "nats "
            @for (level, name) in names.iter().enumerate() { span class=(format!("t h{level}")) { (name) } " " }
        }
    }
}

/// One trace as a block of the page.
pub(crate) fn html(example: &Example) -> Markup {
    let (shown, more) = shown(example);
    let (steps, end) = pieces(&shown);
    let prompt = &example.prompt[..boundary(&example.prompt, SHOWN_BYTES)];
    html! {
        article.example {
            h3 { "Arm " bdi { (inline(&example.arm)) } }
            p.about {
                bdi { (inline(&example.problem_id)) }
                @if !example.verdict.is_empty() { " · verdict: " strong { (inline(&example.verdict).replace('_', " ")) } }
                @if !example.reason.is_empty() { " (" bdi { (inline(&example.reason)) } ")" }
                @if let Some(sum) = summary(example) { " · " (sum) }
            }
            @if !prompt.is_empty() { p.prompt dir="auto" { (visible(prompt)) } }
            p.trace dir="ltr" {
                @for step in &steps { (step_html(step)) }
                @if let Some(nats) = end { " " span class=(format!("t end h{}", shade(nats))) title=(format!("end of text: {} nats", decimal(nats, 2))) { "end " (decimal(nats, 1)) } }
            }
            @if more > 0 { p.about { "… and " (format::number(more)) " more bytes" } }
        }
    }
}

/// One trace as Markdown: the text as it is, its steps, its most surprising tokens.
pub(crate) fn markdown(example: &Example) -> String {
    let mut about = vec![inline(&example.problem_id)];
    if !example.verdict.is_empty() {
        about.push(format!("verdict: {}", example.verdict.replace('_', " ")));
    }
    about.extend(summary(example));
    let mut out = format!(
        "### Arm {}\n\n{}\n\n",
        markdown_text(&example.arm),
        markdown_text(&about.join(" · "))
    );
    if !example.prompt.is_empty() {
        out += &format!("{}\n\n", fenced(&example.prompt));
    }
    out += &format!("{}\n", fenced(&example.text));
    let (steps, _) = pieces(example);
    let marked: Vec<String> = steps
        .iter()
        .filter_map(|step| {
            Some(format!(
                "{} {}",
                mark(step.check?),
                markdown_text(step.text().trim())
            ))
        })
        .collect();
    if !marked.is_empty() {
        out += &format!("\nSteps: {}\n", marked.join(" ⁄ "));
    }
    let mut tokens: Vec<&Piece> = steps
        .iter()
        .flat_map(|s| &s.pieces)
        .filter(|p| p.nats.is_some())
        .collect();
    tokens.sort_by(|a, b| {
        b.nats
            .unwrap_or(0.0)
            .total_cmp(&a.nats.unwrap_or(0.0))
            .then(a.start.cmp(&b.start))
    });
    let named: Vec<String> = tokens
        .iter()
        .take(NAMED)
        .map(|p| {
            format!(
                "“{}” {}",
                markdown_text(p.text.trim()),
                decimal(p.nats.unwrap_or(0.0), 1)
            )
        })
        .collect();
    if !named.is_empty() {
        out += &format!(
            "\nMost surprising to the untrained student (nats): {}.\n",
            named.join(", ")
        );
    }
    out
}

/// Text between fences that it cannot close.
pub(crate) fn fenced(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

fn summary(example: &Example) -> Option<String> {
    let (n, sum) = sums(example);
    (n > 0).then(|| {
        format!(
            "{n} tokens, {} nats, {} a token",
            decimal(sum, 1),
            decimal(sum / n as f64, 2)
        )
    })
}

/// Tokens of a trace without the end token, and their surprisal in nats.
pub(crate) fn sums(example: &Example) -> (usize, f64) {
    let of_text = |token: &&ExampleToken| token.byte_start < example.text.len();
    let tokens = example.tokens.iter().filter(of_text);
    tokens.fold((0, 0.0), |(n, sum), t| (n + 1, sum + t.surprisal_nats))
}

/// The part of an example that is shown, and how many bytes of its text are not.
pub(crate) fn shown(example: &Example) -> (Cow<'_, Example>, usize) {
    let (at, all) = (boundary(&example.text, SHOWN_BYTES), example.text.len());
    if at == all {
        return (Cow::Borrowed(example), 0);
    }
    let mut shown = example.clone();
    shown.text.truncate(at);
    shown
        .tokens
        .retain(|token| token.byte_start < at || token.byte_start >= all);
    (Cow::Owned(shown), all - at)
}

fn step_html(step: &StepPiece) -> Markup {
    let tokens = html! { @for piece in &step.pieces { (token_html(piece)) } };
    match step.check {
        None => tokens,
        Some(check) => html! {
            span class=(format!("step {}", class(check))) { (tokens) span.mark role="img" aria-label=(class(check)) { (mark(check)) } }
        },
    }
}

fn token_html(piece: &Piece) -> Markup {
    let text = visible(&piece.text);
    let class = format!(
        "t h{}{}",
        piece.shade,
        if piece.masked { " masked" } else { "" }
    );
    let Some(nats) = piece.nats else {
        return html! { span class=(class) { (text) } };
    };
    let mut title = format!("{} nats", decimal(nats, 2));
    if let Some(rank) = piece.rank {
        title.push_str(&format!(", rank {rank}"));
    }
    html! {
        span class=(class) title=(title) {
            @if nats >= NUMBERED && !text.trim().is_empty() { ruby { (text) rt { (decimal(nats, 1)) } } }
            @else { (text) }
        }
    }
}

fn class(check: StepCheck) -> &'static str {
    match check {
        StepCheck::Valid => "valid",
        StepCheck::Invalid => "invalid",
        StepCheck::Unchecked => "unchecked",
    }
}

fn mark(check: StepCheck) -> &'static str {
    match check {
        StepCheck::Valid => "✓",
        StepCheck::Invalid => "✗",
        StepCheck::Unchecked => "·",
    }
}

fn shade(nats: f64) -> usize {
    SHADES.iter().filter(|from| nats >= **from).count()
}

/// A run of text inside one step, or between steps.
pub(crate) struct StepPiece {
    pub(crate) check: Option<StepCheck>,
    step: Option<usize>,
    pub(crate) pieces: Vec<Piece>,
}

impl StepPiece {
    fn text(&self) -> String {
        self.pieces.iter().map(|p| p.text.as_str()).collect()
    }
}

/// A token, or the part of it inside a step. Only a token's first part carries its number.
pub(crate) struct Piece {
    start: usize,
    pub(crate) text: String,
    pub(crate) nats: Option<f64>,
    pub(crate) rank: Option<u32>,
    pub(crate) shade: usize,
    /// Kept out of the loss.
    pub(crate) masked: bool,
}

/// Cuts the text at every border of a token and a step, and gives the end token's surprisal.
/// Offsets beyond the text or inside a character move to the character's start; tokens that then
/// share a start are added up. Steps that overlap an earlier one are passed over.
pub(crate) fn pieces(example: &Example) -> (Vec<StepPiece>, Option<f64>) {
    let text = &example.text;
    let mut tokens: Vec<(usize, f64, Option<u32>)> = Vec::new();
    let mut end = None;
    for token in &example.tokens {
        if token.byte_start >= text.len() {
            end = Some(token.surprisal_nats);
            continue;
        }
        let start = boundary(text, token.byte_start);
        match tokens.last_mut() {
            Some(last) if start <= last.0 => {
                *last = (
                    last.0,
                    last.1 + token.surprisal_nats,
                    last.2.max(token.rank),
                )
            }
            _ => tokens.push((start, token.surprisal_nats, token.rank)),
        }
    }
    let mut steps: Vec<(usize, usize, StepCheck)> = Vec::new();
    for step in &example.steps {
        let (start, stop) = (boundary(text, step.start), boundary(text, step.end));
        if start < stop && steps.last().is_none_or(|last| last.1 <= start) {
            steps.push((start, stop, step.check));
        }
    }
    // Where no token was scored, the loss mask is shown by its own borders.
    let borders = example.spans.iter().flat_map(|s| [s.start, s.end]);
    let borders = borders
        .filter(|_| tokens.is_empty())
        .map(|byte| boundary(text, byte));
    let mut cuts: Vec<usize> = tokens
        .iter()
        .map(|t| t.0)
        .chain(steps.iter().flat_map(|s| [s.0, s.1]))
        .chain(borders)
        .chain([0, text.len()])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut out: Vec<StepPiece> = Vec::new();
    for cut in cuts.windows(2) {
        let (start, stop) = (cut[0], cut[1]);
        let token = tokens.iter().rfind(|t| t.0 <= start);
        let step = steps.iter().position(|s| s.0 <= start && start < s.1);
        let piece = Piece {
            start,
            text: text[start..stop].to_owned(),
            nats: token.filter(|t| t.0 == start).map(|t| t.1),
            rank: token.and_then(|t| t.2),
            shade: token.map_or(0, |t| shade(t.1)),
            masked: is_masked(example, token.map_or(start, |t| t.0)),
        };
        match out.last_mut() {
            Some(last) if last.step == step => last.pieces.push(piece),
            _ => out.push(StepPiece {
                check: step.map(|s| steps[s].2),
                step,
                pieces: vec![piece],
            }),
        }
    }
    (out, end)
}

/// Whether a token that starts at a byte is kept out of the loss.
fn is_masked(example: &Example, start: usize) -> bool {
    let mut spans = example.spans.iter();
    spans
        .find(|span| (span.start..span.end).contains(&start))
        .is_some_and(|span| !span.train)
}

/// The start of the character at or before a byte.
pub(crate) fn boundary(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

#[cfg(test)]
mod tests {
    use idiolect_core::record::Step;

    use super::*;
    use crate::view::ExampleToken;

    fn example(
        text: &str,
        starts: &[(usize, f64)],
        steps: &[(usize, usize, StepCheck)],
    ) -> Example {
        let token = |(byte_start, surprisal_nats): &(usize, f64)| ExampleToken {
            byte_start: *byte_start,
            surprisal_nats: *surprisal_nats,
            rank: Some(1),
        };
        Example {
            text: text.to_owned(),
            tokens: starts.iter().map(token).collect(),
            steps: steps
                .iter()
                .map(|(start, end, check)| Step {
                    start: *start,
                    end: *end,
                    check: *check,
                })
                .collect(),
            ..Example::default()
        }
    }

    fn marked(example: &Example) -> String {
        let show = |p: &Piece| {
            p.nats
                .map_or(format!("{}|", p.text), |n| format!("{}={n}|", p.text))
        };
        let step = |s: &StepPiece| {
            let body: String = s.pieces.iter().map(show).collect();
            s.check
                .map_or(body.clone(), |check| format!("{}({body})", mark(check)))
        };
        pieces(example).0.iter().map(step).collect()
    }

    #[test]
    fn text_is_cut_at_tokens_and_steps_and_nothing_is_lost() {
        let e = example(
            "ab cd ef",
            &[(0, 1.0), (2, 2.0), (5, 3.0), (8, 0.5)],
            &[(3, 8, StepCheck::Valid)],
        );
        assert_eq!(marked(&e), "ab=1| =2|✓(cd| ef=3|)");
        assert_eq!(pieces(&e).1, Some(0.5));
    }

    #[test]
    fn tokens_inside_a_character_are_added_up() {
        let e = example(
            "aé→b",
            &[(0, 1.0), (1, 1.0), (2, 1.0), (4, 2.0), (6, 4.0)],
            &[],
        );
        assert_eq!(marked(&e), "a=1|é=2|→=2|b=4|");
    }

    #[test]
    fn broken_offsets_do_no_harm() {
        let e = example(
            "é",
            &[(1, 1.0), (99, 2.0)],
            &[
                (5, 2, StepCheck::Invalid),
                (0, 900, StepCheck::Invalid),
                (0, 1, StepCheck::Valid),
            ],
        );
        assert_eq!(marked(&e), "✗(é=1|)");
        assert_eq!(marked(&example("", &[(0, 1.0)], &[])), "");
    }

    #[test]
    fn fences_are_longer_than_any_in_the_text() {
        assert_eq!(fenced("a ```` b"), "`````text\na ```` b\n`````");
        assert_eq!(fenced("a\0"), "```text\na␀\n```");
    }
}
