//! What would go wrong with a model directory, and how to fix it: end tokens, padding, template,
//! vocabulary, weights.
//!
//! Reads no weights but their headers and a head that may be tied, and never fails: what cannot be
//! read is a finding. Checks what a person can fix in files; how well the model does is no question
//! here.

use std::path::{Path, PathBuf};

use idiolect_model::{Lora, Template};
use serde::Serialize;
use serde_json::Value;

use crate::directory::{Description, has_template, has_tokenizer};
use crate::peft;
use crate::text::{Opening, TextModel};
use crate::tokenizer::Tokenizer;
use crate::weights::WeightFiles;

use template::template;

mod template;

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
#[non_exhaustive]
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
            let message = error.to_string();
            let fix = if message.contains("`lm_head.weight` is missing") {
                "set `tie_word_embeddings` to true in config.json if the head is the embedding"
            } else {
                "get the file anew, or the config.json that belongs to it"
            };
            report.add(Severity::Error, "weights", message, fix);
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

#[cfg(test)]
mod tests;
