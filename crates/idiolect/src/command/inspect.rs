//! `idiolect inspect`.

use std::io::IsTerminal;
use std::path::PathBuf;

use idiolect_core::model::Template;
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
    /// Ends the row; learnt and scored.
    End,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Put => "template",
            Self::Completion => "completion",
            Self::End => "end",
        }
    }

    /// Its escape sequence on a terminal.
    fn colour(self) -> &'static str {
        match self {
            Self::Context => "\x1b[2m",
            Self::Put => "\x1b[33m",
            Self::Completion => "\x1b[32m",
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
    straddled: u64,
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
                let encoded = model.encode(&row.example);
                encoded
                    .map(|encoded| (encoded, row.example.weight))
                    .map_err(|error| error.reason)
            }),
        };
        counts.add(encoded.as_ref().ok().map(|(row, _)| row));
        if number == arguments.row {
            wanted = Some(encoded);
        }
    }
    let (row, weight) = match wanted {
        Some(Ok(found)) => found,
        Some(Err(reason)) => {
            return Err(StageError::failed(
                format!(
                    "row {} of {} is refused: {reason}",
                    arguments.row,
                    input.name()
                ),
                "the trainer leaves it out and says so",
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
        text: text(&model, &row, weight, arguments.row, &counts, coloured),
        json: document(&model, &row, weight, arguments.row, &counts),
        as_json,
        code: super::code(counts.refused),
    })
}

impl Counts {
    fn add(&mut self, row: Option<&Row>) {
        self.rows += 1;
        let Some(row) = row else {
            self.refused += 1;
            return;
        };
        self.tokens += row.ids.len();
        self.learnt += row.ids.len() - row.learn_from;
        self.longest = self.longest.max(row.ids.len());
        self.straddled += u64::from(row.straddled);
    }
}

fn kind(row: &Row, index: usize) -> Kind {
    if index + 1 == row.ids.len() {
        Kind::End
    } else if index >= row.first_target {
        Kind::Completion
    } else if index >= row.learn_from {
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

fn document(model: &TextModel, row: &Row, weight: f32, number: u64, counts: &Counts) -> Value {
    let tokenizer = model.tokenizer();
    let token = |(index, &id): (usize, &u32)| {
        let place = index.checked_sub(row.first_target);
        json!({
            "index": index,
            "id": id,
            "text": tokenizer.shown(id),
            "special": tokenizer.is_special(id),
            "kind": kind(row, index).name(),
            "learnt": index >= row.learn_from,
            "byte_start": place.and_then(|place| row.byte_starts.get(place)),
        })
    };
    let tokens: Vec<Value> = row.ids.iter().enumerate().map(token).collect();
    json!({
        "row": number,
        "template": template(model),
        "weight": weight,
        "n_tokens": row.ids.len(),
        "n_learnt": row.ids.len() - row.learn_from,
        "n_completion": row.ids.len() - 1 - row.first_target,
        "straddled": row.straddled,
        "tokens": tokens,
        "file": {
            "rows": counts.rows, "refused": counts.refused, "tokens": counts.tokens, "learnt": counts.learnt,
            "longest": counts.longest, "straddled": counts.straddled,
        },
    })
}

fn text(
    model: &TextModel,
    row: &Row,
    weight: f32,
    number: u64,
    counts: &Counts,
    coloured: bool,
) -> String {
    let learnt = row.ids.len() - row.learn_from;
    let mut out = format!(
        "row {number} of {}, template {}, weight {weight}: {} tokens, {learnt} learnt\n",
        counts.rows,
        template(model),
        row.ids.len(),
    );
    if row.straddled {
        out.push_str(
            "a token stands over the border of prompt and completion; it counts as prompt\n",
        );
    }
    out.push('\n');
    for (index, &id) in row.ids.iter().enumerate() {
        if index == row.learn_from && !coloured {
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
                kind(row, index).colour()
            ));
        } else {
            out.push_str(&shown);
        }
        if index + 1 < row.ids.len() {
            out.push_str(if coloured { "\x1b[2m·\x1b[0m" } else { "·" });
        }
    }
    if !coloured {
        out.push('⟧');
    }
    out.push_str("\n\n");
    out.push_str(&legend(row, coloured));
    out.push_str(&format!(
        "file: {} rows, {} refused, {} tokens, {} learnt, longest row {}, {} with a token over the border",
        counts.rows, counts.refused, counts.tokens, counts.learnt, counts.longest, counts.straddled
    ));
    out
}

fn legend(row: &Row, coloured: bool) -> String {
    if !coloured {
        return "·: border of two tokens; ⏎: line break; ⟦ ⟧: what is learnt\n".to_owned();
    }
    let mut kinds = vec![
        (Kind::Context, "given"),
        (Kind::Completion, "completion, learnt"),
        (Kind::End, "end, learnt"),
    ];
    if row.learn_from < row.first_target {
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
