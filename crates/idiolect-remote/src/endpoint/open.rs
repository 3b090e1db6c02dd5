//! Opening an endpoint: which model it is, and what its server can do.

use std::sync::Arc;

use idiolect_model::{Compute, Context, ModelError, ModelInfo, Sampling, Template, content_hash};
use serde_json::{Map, Value};

use super::refusal::Fault;
use super::request::Parameters;
use super::transport::{Call, Path, Stop, Transport};
use super::{Endpoint, Settings, network, reply};
use crate::address::{Address, Base};

/// Enough for a reply, little enough to cost nothing; some models think before they answer.
const PROBE_TOKENS: usize = 16;

/// A server that refuses one field at a time is asked so often.
const MOST_PROBES: usize = 12;

/// What `/models` states of a model that does not change from one start of the server to the next.
const STABLE: [&str; 6] = ["id", "root", "parent", "owned_by", "max_model_len", "meta"];

/// Within `meta`, which is llama.cpp's.
const STABLE_META: [&str; 5] = ["vocab_type", "n_vocab", "n_embd", "n_params", "size"];

pub(super) fn open(
    reference: &str,
    template: Template,
    settings: Settings,
) -> Result<Endpoint, ModelError> {
    let address = Address::parse(reference).map_err(ModelError::Invalid)?;
    let transport = Arc::new(Transport::new(address.bases, settings)?);
    let network = network()?;
    let (name, stable) = network.block_on(find_model(&transport, address.model))?;
    let mut parameters = Parameters::default();
    let sampled_logprobs =
        network.block_on(try_out(&transport, (template, &name), &mut parameters))?;
    let info = ModelInfo {
        hash: content_hash(stable.to_string().as_bytes()),
        tokenizer_hash: String::new(),
        template,
        name,
        ignored_config_fields: Vec::new(),
        compute: Compute::F32,
        server: None,
    };
    Ok(Endpoint {
        transport,
        info,
        parameters,
        sampled_logprobs,
        scoring: None,
    })
}

/// The model's name, and what its servers state of it.
async fn find_model(
    transport: &Transport,
    wanted: Option<String>,
) -> Result<(String, Value), ModelError> {
    let bases = transport.servers.bases();
    let mut unreachable = Vec::new();
    let mut found: Option<(String, Value, &Base)> = None;
    let mut unlisted = false;
    for (index, base) in bases.iter().enumerate() {
        let entries = match list(transport, base).await {
            Ok(entries) => entries,
            Err(Fault::All(reason)) => return Err(ModelError::Invalid(reason)),
            Err(fault) => {
                transport.servers.down(index);
                unreachable.push(fault.reason().to_owned());
                continue;
            }
        };
        if entries.is_empty() {
            unlisted = true;
            continue;
        }
        let (name, stable) = choose(&entries, wanted.as_deref(), base)?;
        match &found {
            Some((known, same, first)) if *known != name || *same != stable => {
                return Err(ModelError::Invalid(format!(
                    "{} and {} serve different models: {same} and {stable}",
                    first.text(),
                    base.text()
                )));
            }
            Some(_) => {}
            None => found = Some((name, stable, base)),
        }
    }
    if unreachable.len() == bases.len() {
        return Err(ModelError::Invalid(unreachable.join("; ")));
    }
    match (found, wanted) {
        (Some((name, stable, _)), _) => Ok((name, stable)),
        (None, Some(name)) if unlisted => {
            let stable = serde_json::json!({ "id": name });
            Ok((name, stable))
        }
        _ => Err(ModelError::Invalid(format!(
            "{} lists no model; name one: {}#MODEL",
            bases[0].text(),
            bases[0].text()
        ))),
    }
}

/// The models that a server lists; none where it has no list.
async fn list(transport: &Transport, base: &Base) -> Result<Vec<Value>, Fault> {
    transport.counters.sent(false);
    let call = Call::get(Path::Below("models"));
    let mut sent = transport.send(&call, base).await;
    if matches!(sent, Err(Fault::Failed { .. } | Fault::Limited { .. })) {
        tokio::time::sleep(transport.settings.backoff).await;
        transport.counters.sent(true);
        sent = transport.send(&call, base).await;
    }
    let body = match sent {
        Ok(body) => body,
        // Not every server has a list; what it lacks besides is found out next.
        Err(Fault::All(reason))
            if reason.contains("status 404") || reason.contains("status 405") =>
        {
            return Ok(Vec::new());
        }
        Err(Fault::Row { .. } | Fault::Limited { .. }) => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(value
        .get("data")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default())
}

fn choose(
    entries: &[Value],
    wanted: Option<&str>,
    base: &Base,
) -> Result<(String, Value), ModelError> {
    let id = |entry: &Value| entry.get("id").and_then(Value::as_str).map(str::to_owned);
    let mut served: Vec<String> = entries.iter().filter_map(id).collect();
    let chosen = match wanted {
        Some(name) => entries
            .iter()
            .find(|entry| id(entry).as_deref() == Some(name)),
        None if entries.len() == 1 => entries.first(),
        None => None,
    };
    if let Some((entry, name)) = chosen.and_then(|entry| Some((entry, id(entry)?))) {
        return Ok((name, stable(entry)));
    }
    served.sort_unstable();
    let listed = 20;
    let more = served.len().saturating_sub(listed);
    served.truncate(listed);
    let list = served.join("`, `");
    let and_more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let at = base.text();
    Err(ModelError::Invalid(match wanted {
        Some(name) => format!("{at} does not serve `{name}`; it serves `{list}`{and_more}"),
        None => format!("{at} serves several models; choose one with #MODEL: `{list}`{and_more}"),
    }))
}

/// What a server states of a model, without what changes from one start to the next.
fn stable(entry: &Value) -> Value {
    let keep = |entry: &Value, names: &[&str]| {
        let kept = names.iter().filter_map(|&name| {
            let value = entry.get(name).filter(|value| !value.is_null())?;
            Some((name.to_owned(), value.clone()))
        });
        Value::Object(kept.collect::<Map<_, _>>())
    };
    let mut stable = keep(entry, &STABLE);
    if let Some(meta) = stable.get_mut("meta") {
        *meta = keep(meta, &STABLE_META);
    }
    stable
}

/// Has a few tokens written: learns which fields the server takes and whether it gives the
/// log-probabilities of what it writes, and keeps the request as a sign of life.
async fn try_out(
    transport: &Transport,
    (template, name): (Template, &str),
    parameters: &mut Parameters,
) -> Result<bool, ModelError> {
    let sampling = Sampling {
        max_tokens: PROBE_TOKENS,
        ..Sampling::default()
    };
    let context = Context::Prompt("Hi".to_owned());
    let logprobs = transport.settings.logprobs;
    let mut refusal = String::new();
    for _ in 0..MOST_PROBES {
        let body = parameters
            .body((template, name), &context, &sampling, 0, logprobs)
            .map_err(|error| ModelError::Invalid(error.reason))?;
        let call = Call::post(Endpoint::path(template), &body);
        let read = |value: &Value| read_probe(value, template);
        match transport.ask(&call, &read, 0).await {
            Ok(written) => {
                transport.set_life(call);
                return Ok(written.is_some_and(|written| {
                    transport
                        .counters
                        .tokens(written.prompt_tokens, written.completion_tokens);
                    !written.completion.logprobs.is_empty()
                }));
            }
            Err(Stop::Row(error)) => refusal = error.reason,
            Err(Stop::All(error)) => return Err(hinted(error, template)),
        }
        // All tokens went into thinking: it lives, and states no more of itself.
        if refusal.contains("output limit was reached") {
            transport.set_life(call);
            return Ok(false);
        }
        if !parameters.learn(&refusal) {
            break;
        }
    }
    let hint = if template == Template::Chat && refusal.contains("template") {
        ". A model without a chat template takes --template raw, in a recipe `teacher_template = \"raw\"` in [models]"
    } else {
        ""
    };
    Err(ModelError::Invalid(format!(
        "a request with the usual settings is refused: {refusal}{hint}"
    )))
}

/// Reads the probe's completion; one that has only begun to think is a completion too.
fn read_probe(value: &Value, template: Template) -> Result<Option<reply::Written>, Fault> {
    match reply::read(value, template) {
        Err(Fault::Row { status: 200, .. }) => Ok(None),
        other => other.map(Some),
    }
}

/// An error of a first request, with what is often behind it.
fn hinted(error: ModelError, template: Template) -> ModelError {
    let text = error.to_string();
    if !text.contains("status 404") && !text.contains("status 405") {
        return error;
    }
    let other = match template {
        Template::Chat => "--template raw",
        Template::Raw => "--template chat",
    };
    ModelError::Invalid(format!(
        "{text}. The URL of most servers ends in /v1; one that lacks this kind of request may take \
         {other}"
    ))
}
