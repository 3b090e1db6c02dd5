//! `idiolect inspect`.

use std::io::IsTerminal;
use std::path::PathBuf;

use idiolect_core::store::write_page;
use idiolect_engine::encode::Row;
use idiolect_engine::text::TextModel;
use idiolect_model::{Template, TraitCounts};
use serde_json::{Value, json};

use super::options::{self, TextOptions};
use super::output::CommandOutput;
use super::paths::OutputPath;
use idiolect::stage::StageError;
use idiolect::stage::inputs::{DataRow, Input};

/// Show a row exactly as the trainer sees it: its tokens, and which of them are trained on
///
/// Special tokens and line breaks are visible; what is trained on is coloured on a terminal (unless
/// NO_COLOR is set) and set in ⟦ ⟧ elsewhere. Counts are over the whole file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect inspect --model models/student --data arms/W.jsonl
  idiolect inspect --model models/student --data arms/W.jsonl --row 17 --template raw --json
  idiolect inspect --model models/student --data arms/W.jsonl --html row.html")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: TextOptions,
    /// Rows of prompt and completion, or of messages
    #[arg(long, value_name = "ARM")]
    data: PathBuf,
    /// Which row, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,
    /// Write the row as an HTML page too
    #[arg(long, value_name = "FILE", value_parser = options::output)]
    html: Option<OutputPath>,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

/// What a token is to the trainer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What is given.
    Context,
    /// What the template puts before the answer; trained on.
    Put,
    /// Trained on and scored.
    Completion,
    /// Scored, and kept out of the loss by the row's `spans`.
    Masked,
    /// Ends the row; trained on and scored.
    End,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Put => "template",
            Self::Completion | Self::Masked => "completion",
            Self::End => "end",
        }
    }

    /// Its class in HTML.
    fn class(self) -> &'static str {
        match self {
            Self::Masked => "masked",
            other => other.name(),
        }
    }

    /// Its escape sequence on a terminal.
    fn colour(self) -> &'static str {
        match self {
            Self::Context => "\x1b[2m",
            Self::Put => "\x1b[33m",
            Self::Completion => "\x1b[32m",
            Self::Masked => "\x1b[31m",
            Self::End => "\x1b[1;35m",
        }
    }
}

/// Counts over the file.
#[derive(Default)]
struct Counts {
    rows: u64,
    refused: u64,
    tokens: usize,
    loss_tokens: usize,
    longest: usize,
    traits: TraitCounts,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let model = arguments.model.open()?;
    let input = Input::open(&arguments.data)?;
    let mut counts = Counts::default();
    let mut wanted = None;
    for (number, read) in (1..).zip(input.rows::<Value>()?) {
        let encoded = match read? {
            Err(bad) => Err(bad.reason),
            Ok(row) => DataRow::parse(&row.value).and_then(|row| {
                let encoded = model.encode_to_learn(&row.example);
                encoded
                    .map(|(tokens, loss_mask)| Found {
                        row: tokens,
                        loss_mask,
                        weight: row.example.weight,
                    })
                    .map_err(|error| error.reason)
            }),
        };
        counts.add(encoded.as_ref().ok());
        if number == arguments.row {
            wanted = Some(encoded);
        }
    }
    let found = match wanted {
        Some(Ok(found)) => found,
        Some(Err(reason)) => {
            return Err(StageError::failed(
                format!(
                    "row {} of {} is refused: {reason}",
                    arguments.row,
                    input.name()
                ),
                "the trainer refuses it; `idiolect arms --model` leaves such rows out of every arm",
            ));
        }
        None => {
            return Err(StageError::usage(
                format!("{} has {} rows", input.name(), counts.rows),
                "--row counts from 1",
            ));
        }
    };
    if let Some(path) = &arguments.html {
        let page = page(&model, &found, arguments.row, &counts);
        write_page(path, &page)?;
    }
    let as_json = arguments.json;
    let coloured = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(CommandOutput {
        text: text(&model, &found, arguments.row, &counts, coloured),
        json: document(&model, &found, arguments.row, &counts),
        as_json,
        code: super::code(counts.refused),
    })
}

impl Counts {
    fn add(&mut self, found: Option<&Found>) {
        self.rows += 1;
        let Some(found) = found else {
            self.refused += 1;
            return;
        };
        let row = &found.row;
        self.tokens += row.ids.len();
        self.loss_tokens += found.n_loss_tokens();
        self.longest = self.longest.max(row.ids.len());
        self.traits.add(row.traits);
    }
}

/// A row as it is trained on.
struct Found {
    row: Row,
    /// From `row.loss_start` on; none where all are.
    loss_mask: Vec<bool>,
    weight: f32,
}

impl Found {
    fn in_loss(&self, index: usize) -> bool {
        let place = index.checked_sub(self.row.loss_start);
        let inside = place.filter(|_| index < self.row.ids.len());
        inside.is_some_and(|place| self.loss_mask.get(place).copied().unwrap_or(true))
    }

    fn n_loss_tokens(&self) -> usize {
        let all = 0..self.row.ids.len();
        all.filter(|index| self.in_loss(*index)).count()
    }
}

fn kind(found: &Found, index: usize) -> Kind {
    let row = &found.row;
    if index + 1 == row.ids.len() {
        Kind::End
    } else if index >= row.completion_start {
        if found.in_loss(index) {
            Kind::Completion
        } else {
            Kind::Masked
        }
    } else if index >= row.loss_start {
        Kind::Put
    } else {
        Kind::Context
    }
}

fn template(model: &TextModel) -> &'static str {
    match model.template() {
        Template::Raw => "raw",
        Template::Chat => "chat",
    }
}

fn document(model: &TextModel, found: &Found, number: u64, counts: &Counts) -> Value {
    let row = &found.row;
    let tokenizer = model.tokenizer();
    let token = |(index, &id): (usize, &u32)| {
        let place = index.checked_sub(row.completion_start);
        json!({
            "index": index,
            "id": id,
            "text": tokenizer.token_text(id),
            "special": tokenizer.is_special(id),
            "kind": kind(found, index).name(),
            "loss_mask": found.in_loss(index),
            "byte_start": place.and_then(|place| row.byte_starts.get(place)),
        })
    };
    let tokens: Vec<Value> = row.ids.iter().enumerate().map(token).collect();
    json!({
        "row": number,
        "template": template(model),
        "weight": found.weight,
        "n_tokens": row.ids.len(),
        "n_loss_tokens": found.n_loss_tokens(),
        "n_completion": row.ids.len() - 1 - row.completion_start,
        "straddled": row.traits.straddled,
        "end_in_text": row.traits.end_in_text,
        "other_prompt": row.traits.other_prompt,
        "tokens": tokens,
        "file": {
            "rows": counts.rows, "refused": counts.refused, "tokens": counts.tokens, "loss_tokens": counts.loss_tokens,
            "longest": counts.longest, "straddled": counts.traits.straddled,
            "end_in_text": counts.traits.end_in_text, "other_prompt": counts.traits.other_prompt,
        },
    })
}

fn text(model: &TextModel, found: &Found, number: u64, counts: &Counts, coloured: bool) -> String {
    let row = &found.row;
    let mut out = format!(
        "row {number} of {}, template {}, weight {}: {} tokens, {} trained on\n",
        counts.rows,
        template(model),
        found.weight,
        row.ids.len(),
        found.n_loss_tokens(),
    );
    if row.traits.straddled {
        out.push_str(
            "a token straddles the border of prompt and completion; it counts as prompt\n",
        );
    }
    if row.traits.end_in_text {
        out.push_str("the completion's text ends in an end token; the row holds it once\n");
    }
    if row.traits.other_prompt {
        out.push_str(
            "the chat template renders the finished answer after another text than the prompt that \
             asks for it; the row begins with the prompt that asks, as generation does\n",
        );
    }
    out.push('\n');
    for (index, &id) in row.ids.iter().enumerate() {
        let in_loss = found.in_loss(index);
        if in_loss && !coloured && !found.in_loss(index.wrapping_sub(1)) {
            out.push('⟦');
        }
        let text = visible(&model.tokenizer().token_text(id));
        if coloured {
            let special = if model.tokenizer().is_special(id) {
                "\x1b[7m"
            } else {
                ""
            };
            out.push_str(&format!(
                "{}{special}{text}\x1b[0m",
                kind(found, index).colour()
            ));
        } else {
            out.push_str(&text);
        }
        if in_loss && !coloured && !found.in_loss(index + 1) {
            out.push('⟧');
        }
        if index + 1 < row.ids.len() {
            out.push_str(if coloured { "\x1b[2m·\x1b[0m" } else { "·" });
        }
    }
    out.push_str("\n\n");
    out.push_str(&legend(found, coloured));
    out.push_str(&format!(
        "file: {} rows, {} refused, {} tokens, {} trained on, longest row {}",
        counts.rows, counts.refused, counts.tokens, counts.loss_tokens, counts.longest
    ));
    for note in counts.traits.notes() {
        out.push_str(&format!("\nfile: {note}"));
    }
    out
}

fn legend(found: &Found, coloured: bool) -> String {
    if !coloured {
        return "·: border of two tokens; ⏎: line break; ⟦ ⟧: what is trained on\n".to_owned();
    }
    let words: Vec<String> = kinds(found)
        .into_iter()
        .map(|(kind, words)| format!("{}{words}\x1b[0m", kind.colour()))
        .collect();
    format!(
        "{}; \x1b[7mspecial\x1b[0m; ·: border of two tokens; ⏎: line break\n",
        words.join("; ")
    )
}

/// The kinds of tokens that the row has, and what each means.
fn kinds(found: &Found) -> Vec<(Kind, &'static str)> {
    let mut kinds = vec![
        (Kind::Context, "given"),
        (Kind::Completion, "completion, trained on"),
        (Kind::End, "end, trained on"),
    ];
    if found.loss_mask.contains(&false) {
        kinds.push((Kind::Masked, "completion, masked by spans"));
    }
    if found.row.loss_start < found.row.completion_start {
        kinds.push((Kind::Put, "put by the template, trained on"));
    }
    kinds
}

const STYLE: &str = "body{font:16px/1.6 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
pre{white-space:pre-wrap;overflow-wrap:anywhere}\
span{border-right:1px dotted #999}\
.context{color:#666}.template{background:#fff3c4}.completion{background:#d7f0d7}\
.masked{background:#f6d5d5}.end{background:#e6d7f5}.special{font-weight:bold}\
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}.context{color:#999}\
.template{background:#4d4215}.completion{background:#1f451f}.masked{background:#552222}.end{background:#412a5c}}";

/// The row as an HTML page that needs no network and no script: a token a span, coloured by kind.
/// What only a page of this command holds.
const TITLE_END: &str = " – idiolect</title>";

fn page(model: &TextModel, found: &Found, number: u64, counts: &Counts) -> String {
    let row = &found.row;
    let tokenizer = model.tokenizer();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>row {number}{TITLE_END}<style>{STYLE}</style></head><body>\n\
         <p>row {number} of {}, template {}, weight {}: {} tokens, {} trained on</p>\n<p>",
        counts.rows,
        template(model),
        found.weight,
        row.ids.len(),
        found.n_loss_tokens(),
    );
    for (kind, words) in kinds(found) {
        out.push_str(&format!("<span class=\"{}\">{words}</span> ", kind.class()));
    }
    out.push_str("</p>\n<pre>");
    for (index, &id) in row.ids.iter().enumerate() {
        let special = if tokenizer.is_special(id) {
            " special"
        } else {
            ""
        };
        out.push_str(&format!(
            "<span class=\"{}{special}\" title=\"token {id}\">{}</span>",
            kind(found, index).class(),
            escaped(&visible(&tokenizer.token_text(id)))
        ));
    }
    out.push_str("</pre>\n</body></html>\n");
    out
}

/// Text without a character that HTML reads as its own.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Line breaks stay and are seen; other control characters, which could speak to the terminal, are
/// spelled out.
fn visible(token: &str) -> String {
    let mut out = String::new();
    for c in token.chars() {
        match c {
            '\n' => out.push_str("⏎\n"),
            '\t' => out.push('⇥'),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_row_is_no_html() {
        assert_eq!(escaped("<a b=\"&\">"), "&lt;a b=&quot;&amp;&quot;&gt;");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(
            visible("a\nb\tc\x1b[31m\u{9b}"),
            "a⏎\nb⇥c\\u{1b}[31m\\u{9b}"
        );
    }
}
