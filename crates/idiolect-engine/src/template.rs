//! A model's chat template: messages to the text that is tokenized.
//!
//! Templates are Jinja2 as transformers renders it: `trim_blocks` and `lstrip_blocks`, loop
//! controls, a `tojson` that escapes no HTML, `raise_exception`, `strftime_now`, and
//! `{% generation %}` blocks, which render as what they hold. The engine is minijinja; where Python
//! shows through Jinja2, `python`, `methods` and `filters` put its values, methods, filters and
//! tests in place of the engine's, and `rewrite` its operators. What a template may
//! spend is bounded in `limits`, its time in `watched`, and the date is fixed ([`TODAY`]): rows of one model must not change from
//! day to day. Held to transformers' bytes by `fixtures/templates`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use idiolect_model::{Message, content_hash};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde_json::Map;

mod bounded;
mod filters;
mod limits;
mod methods;
mod python;
mod rewrite;
mod strings;
mod sum;
mod tokens;
mod watched;

/// The day that `strftime_now` prints, the one that Llama's templates fall back to: a Friday.
pub const TODAY: &str = "26 Jul 2024";

/// A template that has been read.
pub struct ChatTemplate {
    /// With the fuel that nearly all conversations get by with.
    soon: Environment<'static>,
    /// With all of it.
    whole: Arc<Environment<'static>>,
    /// Whether a rendering took too long.
    given_up: AtomicBool,
    /// The special tokens by their names in `tokenizer_config.json`, which templates put.
    tokens: BTreeMap<String, String>,
    source: String,
    hash: String,
}

impl ChatTemplate {
    /// Reads a template. `tokens` are the special tokens that it may name, such as `bos_token`.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        let rewritten = rewrite::rewritten(source)?;
        environment.set_unknown_method_callback(methods::call);
        environment.set_formatter(|out, _, value| Ok(out.write_str(&python::str_of(value)?)?));
        filters::add(&mut environment);
        environment.add_function("raise_exception", |reason: String| -> Result<(), Error> {
            Err(Error::new(ErrorKind::InvalidOperation, reason))
        });
        environment.add_function("strftime_now", |format: String| date(&format));
        environment
            .add_template_owned("chat template", rewritten.text)
            .map_err(|error| message(&error))?;
        let with_fuel = |most: u64| {
            let mut environment = environment.clone();
            environment.set_fuel(Some(limits::fuel(rewritten.kept_text).min(most)));
            environment
        };
        Ok(Self {
            soon: with_fuel(limits::SOON.fuel),
            whole: Arc::new(with_fuel(limits::WHOLE.fuel)),
            given_up: AtomicBool::new(false),
            hash: content_hash(format!("{source}\0{tokens:?}").as_bytes()),
            source: source.to_owned(),
            tokens,
        })
    }

    /// The template of a model directory's files: `file` is `chat_template.jinja`, which goes
    /// before what `tokenizer_config.json` (`settings`) holds; `special` is
    /// `special_tokens_map.json`. `Null` represents an absent one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_files(
        file: Option<&str>,
        settings: &serde_json::Value,
        special: &serde_json::Value,
    ) -> Result<Option<Self>, String> {
        let Some(source) = Self::source_of_files(file, settings)? else {
            return Ok(None);
        };
        let mut tokens = BTreeMap::new();
        for values in [special, settings] {
            for (name, value) in values.as_object().into_iter().flatten() {
                let token = value.as_str().or_else(|| value["content"].as_str());
                if let (true, Some(token)) = (name.ends_with("_token"), token) {
                    tokens.insert(name.clone(), token.to_owned());
                }
            }
        }
        Self::new(&source, tokens).map(Some)
    }

    /// The text of the template that [`of_files`](Self::of_files) reads.
    ///
    /// # Errors
    /// When `chat_template` is neither a text nor a list with one.
    pub(crate) fn source_of_files(
        file: Option<&str>,
        settings: &serde_json::Value,
    ) -> Result<Option<String>, String> {
        if let Some(file) = file {
            return Ok(Some(file.to_owned()));
        }
        match &settings["chat_template"] {
            serde_json::Value::Null => Ok(None),
            serde_json::Value::String(source) => Ok(Some(source.clone())),
            serde_json::Value::Array(named) => default_of(named).map(Some),
            _ => Err("`chat_template` is neither a text nor a list".to_owned()),
        }
    }

    /// The text of a conversation; with `generation_prompt` it ends where the assistant begins.
    ///
    /// # Errors
    /// The template's own error about these messages, or what it cannot do.
    pub fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, String> {
        self.render_with(messages, &Map::new(), generation_prompt)
    }

    /// [`render`](Self::render) with further variables of the conversation, such as `tools`.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &[Message],
        variables: &Map<String, serde_json::Value>,
        generation_prompt: bool,
    ) -> Result<String, String> {
        let turns = serde_json::to_value(messages).map_err(|error| error.to_string())?;
        let absent = context! { tools => (), documents => () };
        let variables: Value = variables
            .iter()
            .map(|(name, value)| (name.as_str(), python::of_json(value)))
            .collect();
        let tokens = Value::from_serialize(&self.tokens);
        let given = context! {
            messages => python::of_json(&turns),
            add_generation_prompt => generation_prompt,
        };
        // What comes first goes before what follows.
        let values = context! { ..given, ..variables, ..absent, ..tokens };
        let soon = rendered(&self.soon, limits::SOON, values.clone());
        if !limits::exhausted(&soon) {
            return soon.map_err(|error| message(&error));
        }
        let whole = self.whole.clone();
        let again = move || rendered(&whole, limits::WHOLE, values);
        let text = watched::watched(&self.given_up, watched::LIMIT, again)?;
        text.map_err(|error| message(&error))
    }

    /// The source of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Hash of the template and the tokens that it may put.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

/// The text of one conversation's values, within what it may spend.
fn rendered(
    environment: &Environment<'_>,
    most: limits::Limits,
    values: Value,
) -> Result<String, Error> {
    most.begin();
    let mut out = limits::Bounded::default();
    let template = environment.get_template("chat template")?;
    template.render_captured_to(values, &mut out)?;
    String::from_utf8(out.0).map_err(|error| python::fault(error.to_string()))
}

/// Of a list of named templates the one that is used where nobody asks for another.
fn default_of(named: &[serde_json::Value]) -> Result<String, String> {
    let of = |entry: &serde_json::Value| {
        Some((
            entry["name"].as_str()?,
            entry["template"].as_str()?.to_owned(),
        ))
        .map(|(name, template)| (name.to_owned(), template))
    };
    let entries: Vec<(String, String)> = named.iter().filter_map(of).collect();
    let names: Vec<&str> = entries.iter().map(|(name, _)| name.as_str()).collect();
    let found = entries.iter().find(|(name, _)| name == "default");
    found.map(|(_, template)| template.clone()).ok_or_else(|| {
        format!(
            "`chat_template` lists {} and none is named `default`",
            names.join(", ")
        )
    })
}

fn message(error: &Error) -> String {
    let what = match error.kind() {
        ErrorKind::WriteFailure => std::error::Error::source(error)
            .map_or_else(|| error.kind().to_string(), ToString::to_string),
        kind => error
            .detail()
            .map_or_else(|| kind.to_string(), str::to_owned),
    };
    let line = error
        .line()
        .map_or_else(String::new, |line| format!(" (line {line})"));
    format!("the chat template failed: {what}{line}")
}

/// [`TODAY`] at midnight in the directives of `strftime` that templates use.
fn date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(match characters.next() {
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('d' | 'e') => "26",
            Some('F') => "2024-07-26",
            Some('H' | 'M' | 'S') => "00",
            Some('I') => "12",
            Some('j') => "208",
            Some('m') => "07",
            Some('p') => "AM",
            Some('y') => "24",
            Some('Y') => "2024",
            Some('%') => "%",
            other => {
                let reason = format!(
                    "`strftime_now` does not know `%{}`",
                    other.map_or_else(String::new, String::from)
                );
                return Err(Error::new(ErrorKind::InvalidOperation, reason));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
