//! Findings about the chat template: what it cannot render, and what it puts around an answer.

use std::path::Path;

use idiolect_model::Message;

use super::{Files, Report, Severity, named};
use crate::encode::turn_end;
use crate::template::{ChatTemplate, TODAY};
use crate::text::TextModel;

pub(super) fn template(dir: &Path, raw: &TextModel, files: &Files, report: &mut Report) {
    let description = &raw.description;
    if !description.has_chat_template {
        report.add(
            Severity::Note,
            "template",
            "there is no chat template; prompts are raw text by default",
            "",
        );
        return;
    }
    let chat = match description.chat(dir) {
        Ok(chat) => chat,
        Err(error) => {
            let fix = "correct the template, or use `--template raw`";
            report.add(Severity::Error, "template", error.to_string(), fix);
            return;
        }
    };
    let turns = [
        Message::new("user", "Is it?"),
        Message::new("assistant", "Yes."),
    ];
    let rendered = chat.render(&turns[..1], true);
    let (asked, whole) = match (rendered, chat.render(&turns, false)) {
        (Ok(asked), Ok(whole)) => (asked, whole),
        (Err(reason), _) | (_, Err(reason)) => {
            let what = format!("a question and its answer cannot be rendered: {reason}");
            let fix = "correct the template, or use `--template raw`";
            report.add(Severity::Error, "template", what, fix);
            return;
        }
    };
    turn(raw, &chat, files, report);
    between(&asked, &whole, report);
    begin(raw, files, &asked, report);
    let system = Message::new("system", "Be kind.");
    if let Err(reason) = chat.render(&[system, turns[0].clone()], true) {
        let what = format!("system turns are refused: {reason}");
        report.add(
            Severity::Note,
            "template",
            what,
            "put it into the user's turn",
        );
    }
    if chat.source().contains("strftime_now") {
        report.add(
            Severity::Note,
            "template",
            format!("it prints the day, which would change scores from day to day; here it is always {TODAY}"),
            "",
        );
    }
    for token in tags(chat.source()) {
        if raw.tokenizer().id(&token).is_none() {
            report.add(
                Severity::Warning,
                "template",
                format!("it writes `{token}`, which is not a token of the vocabulary and falls into pieces"),
                "use the template that belongs to the tokenizer",
            );
        }
    }
}

/// What ends the assistant's turn.
fn turn(raw: &TextModel, chat: &ChatTemplate, files: &Files, report: &mut Report) {
    let tokenizer = raw.tokenizer();
    let Some(end) = turn_end(tokenizer, chat) else {
        report.add(
            Severity::Warning,
            "end of turn",
            format!(
                "the template puts no special token behind the assistant's turn; texts here end with {}, and other trainers teach no end",
                named(tokenizer, u64::from(tokenizer.end()))
            ),
            "let the template put the end token behind the assistant's turn",
        );
        return;
    };
    if !tokenizer.stops().contains(&end) {
        let name = named(tokenizer, u64::from(end));
        let where_ = if files.generation["eos_token_id"].is_null() {
            "config.json"
        } else {
            "generation_config.json"
        };
        report.add(
            Severity::Warning,
            "end of turn",
            format!("the template ends a turn with {name}, which `eos_token_id` of {where_} does not list; it stops generation here, and other programs run on"),
            format!("add {end} to `eos_token_id` of generation_config.json"),
        );
    }
}

/// What the template puts between the place where the assistant begins and its answer.
fn between(asked: &str, whole: &str, report: &mut Report) {
    match whole.strip_prefix(asked) {
        None => report.add(
            Severity::Warning,
            "template",
            "the conversation with the answer does not begin as the one that asks for it (`add_generation_prompt`): here rows that are trained and scored begin with the text that asks, as generation does; trainers that render the whole conversation train on another text",
            "compare `add_generation_prompt` with what comes before an assistant's turn",
        ),
        Some(rest) => {
            let put = rest.split("Yes.").next().unwrap_or_default();
            if !put.is_empty() {
                report.add(
                    Severity::Note,
                    "template",
                    format!("it puts {put:?} before an answer; the model learns to write that itself, and it is not scored"),
                    "",
                );
            }
        }
    }
}

/// The begin token, which templates and tokenizers both may put.
fn begin(raw: &TextModel, files: &Files, asked: &str, report: &mut Report) {
    let Some(token) = files.token("bos_token") else {
        return;
    };
    let tokenizer = raw.tokenizer();
    let added = tokenizer.encode("x").is_ok_and(|e| e.lead > 0);
    let written = asked.starts_with(token);
    if written && asked[token.len()..].starts_with(token) {
        let what = format!("it writes the begin token `{token}` twice");
        report.add(
            Severity::Error,
            "begin token",
            what,
            "remove one of them from the template",
        );
    } else if written && added {
        report.add(
            Severity::Note,
            "begin token",
            format!("template and tokenizer both put `{token}`; rendered text is tokenized here without adding it again"),
            "",
        );
    } else if added && !written {
        report.add(
            Severity::Warning,
            "begin token",
            format!("the tokenizer puts `{token}` before a text and the template does not: chats are computed without it, as in transformers"),
            "if the model was trained with it, let the template begin with `{{ bos_token }}`",
        );
    }
}

/// The `<|…|>` tags of a template's source, each once.
fn tags(source: &str) -> Vec<String> {
    let mut found: Vec<String> = source
        .split("<|")
        .skip(1)
        .filter_map(|rest| rest.split_once("|>"))
        .filter(|(name, _)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            !name.is_empty() && name.chars().all(plain)
        })
        .map(|(name, _)| format!("<|{name}|>"))
        .collect();
    found.sort();
    found.dedup();
    found
}
