//! `idiolect inspect`.

use std::io::IsTerminal;
use std::path::PathBuf;

use idiolect_core::model::{Template, TraitCounts};
use idiolect_engine::encode::Row;
use idiolect_engine::text::TextModel;
use serde_json::{Value, json};

use super::options::ModelOptions;
use super::show::Shown;
use crate::stage::StageError;
use crate::stage::inputs::{DataRow, Input};

/// Show a row exactly as the trainer sees it: its tokens, and which of them are learnt
///
/// Special tokens and line breaks are visible; what is learnt is coloured on a terminal (unless
/// NO_COLOR is set) and stands in ⟦ ⟧ elsewhere. Counts are over the whole file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  idiolect inspect --model models/student --data arms/W.jsonl
  idiolect inspect --model models/student --data arms/W.jsonl --row 17 --template raw --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Rows of prompt and completion, or of messages
    #[arg(long, value_name = "ARM")]
    data: PathBuf,
    /// Which row, from 1
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    row: u64,
    /// Print the result as one JSON document
    #[arg(long)]
    json: bool,
}

/// What a token is to the trainer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What is given.
    Context,
    /// What the template puts before the answer; learnt.
    Put,
    /// Learnt and scored.
    Completion,
    /// Scored, and kept out of the loss by the row's `spans`.
    Masked,
    /// Ends the row; learnt and scored.
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
    learnt: usize,
    longest: usize,
    traits: TraitCounts,
}

pub(super) fn run(arguments: &Arguments) -> super::Result {
    let model = arguments.model.text()?;
    let input = Input::open(&arguments.data)?;
    let mut counts = Counts::default();
    let mut wanted = None;
    for (number, read) in (1..).zip(input.rows::<Value>()?) {
        let encoded = match read? {
            Err(bad) => Err(bad.reason),
            Ok(row) => DataRow::parse(&row.value).and_then(|row| {
                let encoded = model.encode_to_learn(&row.example);
                encoded
                    .map(|(tokens, learnt)| Found {
                        row: tokens,
                        learnt,
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
    let as_json = arguments.json;
    let coloured = std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    Ok(Shown {
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
        self.learnt += found.n_learnt();
        self.longest = self.longest.max(row.ids.len());
        self.traits.add(row.traits);
    }
}

/// A row as it is trained on.
struct Found {
    row: Row,
    /// From `row.loss_start` on; none where all are.
    learnt: Vec<bool>,
    weight: f32,
}

impl Found {
    fn is_learnt(&self, index: usize) -> bool {
        let place = index.checked_sub(self.row.loss_start);
        let inside = place.filter(|_| index < self.row.ids.len());
        inside.is_some_and(|place| self.learnt.get(place).copied().unwrap_or(true))
    }

    fn n_learnt(&self) -> usize {
        let all = 0..self.row.ids.len();
        all.filter(|index| self.is_learnt(*index)).count()
    }
}

fn kind(found: &Found, index: usize) -> Kind {
    let row = &found.row;
    if index + 1 == row.ids.len() {
        Kind::End
    } else if index >= row.completion_start {
        if found.is_learnt(index) {
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
            "text": tokenizer.shown(id),
            "special": tokenizer.is_special(id),
            "kind": kind(found, index).name(),
            "learnt": found.is_learnt(index),
            "byte_start": place.and_then(|place| row.byte_starts.get(place)),
        })
    };
    let tokens: Vec<Value> = row.ids.iter().enumerate().map(token).collect();
    json!({
        "row": number,
        "template": template(model),
        "weight": found.weight,
        "n_tokens": row.ids.len(),
        "n_learnt": found.n_learnt(),
        "n_completion": row.ids.len() - 1 - row.completion_start,
        "straddled": row.traits.straddled,
        "end_in_text": row.traits.end_in_text,
        "other_prompt": row.traits.other_prompt,
        "tokens": tokens,
        "file": {
            "rows": counts.rows, "refused": counts.refused, "tokens": counts.tokens, "learnt": counts.learnt,
            "longest": counts.longest, "straddled": counts.traits.straddled,
            "end_in_text": counts.traits.end_in_text, "other_prompt": counts.traits.other_prompt,
        },
    })
}

fn text(model: &TextModel, found: &Found, number: u64, counts: &Counts, coloured: bool) -> String {
    let row = &found.row;
    let mut out = format!(
        "row {number} of {}, template {}, weight {}: {} tokens, {} learnt\n",
        counts.rows,
        template(model),
        found.weight,
        row.ids.len(),
        found.n_learnt(),
    );
    if row.traits.straddled {
        out.push_str(
            "a token stands over the border of prompt and completion; it counts as prompt\n",
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
        let learnt = found.is_learnt(index);
        if learnt && !coloured && !found.is_learnt(index.wrapping_sub(1)) {
            out.push('⟦');
        }
        let shown = visible(&model.tokenizer().shown(id));
        if coloured {
            let special = if model.tokenizer().is_special(id) {
                "\x1b[7m"
            } else {
                ""
            };
            out.push_str(&format!(
                "{}{special}{shown}\x1b[0m",
                kind(found, index).colour()
            ));
        } else {
            out.push_str(&shown);
        }
        if learnt && !coloured && !found.is_learnt(index + 1) {
            out.push('⟧');
        }
        if index + 1 < row.ids.len() {
            out.push_str(if coloured { "\x1b[2m·\x1b[0m" } else { "·" });
        }
    }
    out.push_str("\n\n");
    out.push_str(&legend(found, coloured));
    out.push_str(&format!(
        "file: {} rows, {} refused, {} tokens, {} learnt, longest row {}",
        counts.rows, counts.refused, counts.tokens, counts.learnt, counts.longest
    ));
    for note in counts.traits.notes() {
        out.push_str(&format!("\nfile: {note}"));
    }
    out
}

fn legend(found: &Found, coloured: bool) -> String {
    if !coloured {
        return "·: border of two tokens; ⏎: line break; ⟦ ⟧: what is learnt\n".to_owned();
    }
    let mut kinds = vec![
        (Kind::Context, "given"),
        (Kind::Completion, "completion, learnt"),
        (Kind::End, "end, learnt"),
    ];
    if found.learnt.contains(&false) {
        kinds.push((Kind::Masked, "completion, masked by spans"));
    }
    if found.row.loss_start < found.row.completion_start {
        kinds.push((Kind::Put, "put by the template, learnt"));
    }
    let words: Vec<String> = kinds
        .into_iter()
        .map(|(kind, words)| format!("{}{words}\x1b[0m", kind.colour()))
        .collect();
    format!(
        "{}; \x1b[7mspecial\x1b[0m; ·: border of two tokens; ⏎: line break\n",
        words.join("; ")
    )
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
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(
            visible("a\nb\tc\x1b[31m\u{9b}"),
            "a⏎\nb⇥c\\u{1b}[31m\\u{9b}"
        );
    }
}
