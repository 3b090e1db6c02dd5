//! What would go wrong with a model directory, and how to fix it: end tokens, padding, template,
//! vocabulary, weights.
//!
//! Reads no weights but their headers and a head that may be tied, and never fails: what cannot be
//! read is a finding. Checks what a person can fix in files; how well the model does is no question
//! here.

use std::path::{Path, PathBuf};

use idiolect_model::{Lora, Message, Template};
use serde::Serialize;
use serde_json::Value;

use crate::directory::{Description, has_template, has_tokenizer};
use crate::encode::turn_end;
use crate::peft;
use crate::template::{ChatTemplate, TODAY};
use crate::text::{Opening, TextModel};
use crate::tokenizer::Tokenizer;
use crate::weights::WeightFiles;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The model cannot be used, or gives wrong results.
    Error,
    /// It works here; something will surprise, here or in another program.
    Warning,
    /// Worth knowing.
    Note,
}

/// One thing about a model directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, one or two words.
    pub about: &'static str,
    /// What is the case and what comes of it.
    pub what: String,
    /// How to fix it; empty where there is nothing to do.
    pub fix: String,
}

/// Examines a model directory, or an adapter and its base; worst first. The template of `opening`
/// is not used: both ways to render are looked at.
pub fn examine(dir: &Path, opening: &Opening<'_>) -> Vec<Finding> {
    let mut report = Report::default();
    if !peft::is_adapter(dir) && opening.base.is_none() {
        model(dir, dir, opening, &mut report);
    } else if let Some(base) = adapter(dir, opening, &mut report) {
        model(dir, &base, opening, &mut report);
    }
    report.findings.sort_by_key(|finding| finding.severity);
    report.findings
}

/// Checks an adapter against its base, which is returned.
fn adapter(dir: &Path, opening: &Opening<'_>, report: &mut Report) -> Option<PathBuf> {
    let found = peft::read_adapter_config(dir).and_then(|config| {
        let base = peft::find_base(dir, &config, opening.base)?;
        let model = Description::read(&base, Some(dir), opening.ignored_fields)?
            .config
            .model;
        peft::read(dir, &config, &model)?;
        Ok((config, base))
    });
    match found {
        Err(error) => {
            report.add(
                Severity::Error,
                "adapter",
                error.to_string(),
                "fix the file that is named, or give the base with --base",
            );
            None
        }
        Ok((config, base)) => {
            let Lora { r, alpha, .. } = config.lora;
            report.add(
                Severity::Note,
                "adapter",
                format!(
                    "of rank {r}, alpha {alpha}, fits its base `{}`; the tokenizer is {}, the chat template {}, the rest of what follows is of the base",
                    base.display(),
                    whose(has_tokenizer(dir)),
                    whose(has_template(dir)),
                ),
                "",
            );
            Some(base)
        }
    }
}

fn whose(own: bool) -> &'static str {
    if own { "its own" } else { "the base's" }
}

/// Checks the model that `dir` opens as, with its weights in `base`.
fn model(dir: &Path, base: &Path, opening: &Opening<'_>, report: &mut Report) {
    let raw = Opening {
        template: Some(Template::Raw),
        ..*opening
    };
    match TextModel::open(dir, &raw) {
        Err(error) => report.add(
            Severity::Error,
            "files",
            error.to_string(),
            "fix the file that is named",
        ),
        Ok(model) => {
            let files = Files::of(&model.description);
            weights(base, &model, report);
            end_tokens(&model, &files, report);
            padding(&model, &files, report);
            vocabulary(&model, &files, report);
            sampling(&files, report);
            template(base, &model, &files, report);
        }
    }
}

#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(
        &mut self,
        severity: Severity,
        about: &'static str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            about,
            what: what.into(),
            fix: fix.into(),
        });
    }
}

/// The small files, `Null` where absent; [`TextModel::load`] has reported what is wrong with them.
struct Files {
    config: Value,
    generation: Value,
    settings: Value,
}

impl Files {
    fn of(description: &Description) -> Self {
        Self {
            config: description.json("config.json"),
            generation: description.json("generation_config.json"),
            settings: description.json("tokenizer_config.json"),
        }
    }

    /// A token named in `tokenizer_config.json`.
    fn token(&self, name: &str) -> Option<&str> {
        let value = &self.settings[name];
        value.as_str().or_else(|| value["content"].as_str())
    }
}

/// The ids of a field that holds one or a list.
fn ids(value: &Value) -> Vec<u64> {
    match value {
        Value::Array(ids) => ids.iter().filter_map(Value::as_u64).collect(),
        id => id.as_u64().into_iter().collect(),
    }
}

fn named(tokenizer: &Tokenizer, id: u64) -> String {
    let token = u32::try_from(id).ok().and_then(|id| tokenizer.token(id));
    token.map_or_else(|| id.to_string(), |token| format!("`{token}` ({id})"))
}

fn list(tokenizer: &Tokenizer, ids: &[u64]) -> String {
    let names: Vec<String> = ids.iter().map(|id| named(tokenizer, *id)).collect();
    names.join(", ")
}

fn weights(dir: &Path, model: &TextModel, report: &mut Report) {
    let model = &model.config().model;
    let checked = WeightFiles::open(dir).and_then(|files| {
        files.check(model)?;
        Ok((
            files.holds("lm_head.weight"),
            files.holds_other_head(model)?,
        ))
    });
    match checked {
        Ok((_, true)) => report.add(
            Severity::Warning,
            "tied head",
            "the config ties the head to the embedding, and the weights hold an `lm_head.weight` that differs; it is used here, as transformers does, and other programs compute another model",
            "set `tie_word_embeddings` to false in config.json, or remove `lm_head.weight` if the model was trained with tied weights",
        ),
        Ok((true, false)) if model.tied => report.add(
            Severity::Note,
            "tied head",
            "the weights hold `lm_head.weight`, equal to the embedding that the config ties it to",
            "",
        ),
        Ok(_) => {}
        Err(error) => {
            let words = error.to_string();
            let fix = if words.contains("`lm_head.weight` is missing") {
                "set `tie_word_embeddings` to true in config.json if the head is the embedding"
            } else {
                "get the file anew, or the config.json that belongs to it"
            };
            report.add(Severity::Error, "weights", words, fix);
        }
    }
}

fn end_tokens(model: &TextModel, files: &Files, report: &mut Report) {
    let tokenizer = model.tokenizer();
    let (config, generation) = (
        ids(&files.config["eos_token_id"]),
        ids(&files.generation["eos_token_id"]),
    );
    let missing: Vec<u64> = config
        .iter()
        .filter(|id| !generation.contains(id))
        .copied()
        .collect();
    if !generation.is_empty() && !missing.is_empty() {
        report.add(
            Severity::Warning,
            "end token",
            format!(
                "config.json ends texts with {} and generation_config.json does not; generation stops at {} only",
                list(tokenizer, &missing),
                list(tokenizer, &generation)
            ),
            "make `eos_token_id` of the two files agree",
        );
    }
    let own = files
        .token("eos_token")
        .and_then(|token| tokenizer.id(token));
    if let Some(own) = own.filter(|own| !tokenizer.stops().contains(own)) {
        report.add(
            Severity::Warning,
            "end token",
            format!(
                "the tokenizer's `eos_token` is {}, at which generation does not stop; texts end with {}",
                named(tokenizer, u64::from(own)),
                named(tokenizer, u64::from(tokenizer.end()))
            ),
            "add it to `eos_token_id` of generation_config.json, or correct `eos_token` in tokenizer_config.json",
        );
    }
    if let (Some(token), None) = (files.token("eos_token"), own) {
        report.add(
            Severity::Error,
            "end token",
            format!(
                "`eos_token` of tokenizer_config.json is `{token}`, which is not in the vocabulary"
            ),
            "name a token of tokenizer.json",
        );
    }
}

fn padding(model: &TextModel, files: &Files, report: &mut Report) {
    let vocabulary = model.config().model.vocab as u64;
    let tokenizer = model.tokenizer();
    let of_config = files.config["pad_token_id"].as_u64();
    if let Some(id) = of_config.filter(|id| *id >= vocabulary) {
        report.add(
            Severity::Warning,
            "padding",
            format!("`pad_token_id` {id} is outside `vocab_size` {vocabulary}; nothing is padded here, and other programs fail"),
            "correct it in config.json",
        );
    }
    let own = files
        .token("pad_token")
        .and_then(|token| tokenizer.id(token));
    let pad = own.map(u64::from).or(of_config);
    match pad {
        Some(id) if u64::from(tokenizer.end()) == id => report.add(
            Severity::Note,
            "padding",
            format!(
                "the padding token is the end token {}: trainers that leave padding out of the loss never teach the model to stop; \
                 here nothing is padded and the end is always trained on",
                named(tokenizer, id)
            ),
            "give other programs a padding token of its own",
        ),
        None => report.add(
            Severity::Note,
            "padding",
            "no padding token is named; none is needed here",
            "",
        ),
        _ => {}
    }
}

fn vocabulary(model: &TextModel, files: &Files, report: &mut Report) {
    let (tokenizer, vocabulary) = (model.tokenizer(), model.config().model.vocab);
    let size = tokenizer.size();
    if size > vocabulary {
        let first = tokenizer.token(vocabulary as u32).unwrap_or_default();
        report.add(
            Severity::Error,
            "vocabulary",
            format!("the tokenizer has {size} tokens and the embedding {vocabulary} rows; rows with `{first}` or later tokens are refused"),
            "use the model's own tokenizer, or remove the added tokens from tokenizer.json",
        );
    }
    if size < vocabulary {
        report.add(
            Severity::Note,
            "vocabulary",
            format!(
                "the embedding has {} rows without a token; they are scored and can in principle be drawn",
                vocabulary - size
            ),
            "",
        );
    }
    for name in ["bos_token", "pad_token", "unk_token"] {
        if let Some(token) = files
            .token(name)
            .filter(|token| tokenizer.id(token).is_none())
        {
            report.add(
                Severity::Warning,
                "vocabulary",
                format!(
                    "`{name}` of tokenizer_config.json is `{token}`, which is not in the vocabulary"
                ),
                "name a token of tokenizer.json",
            );
        }
    }
}

fn sampling(files: &Files, report: &mut Report) {
    let asks: Vec<String> = [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "repetition_penalty",
    ]
    .iter()
    .filter_map(|name| {
        let value = &files.generation[*name];
        value.is_number().then(|| format!("{name} {value}"))
    })
    .collect();
    if !asks.is_empty() {
        report.add(
            Severity::Note,
            "generation",
            format!(
                "generation_config.json asks for {}; here sampling follows the command's flags alone",
                asks.join(", ")
            ),
            "give the flags if you want the same",
        );
    }
}

fn template(dir: &Path, raw: &TextModel, files: &Files, report: &mut Report) {
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

#[cfg(test)]
mod tests;
