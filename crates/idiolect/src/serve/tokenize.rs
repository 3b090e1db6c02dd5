//! `POST /tokenize` and `POST /detokenize`, in vLLM's shapes.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::App;
use super::error::ApiError;
use super::fields::Fields;
use super::json::Json;
use super::prompt::{Turn, encode, encode_chat, messages};
use super::request::check_model;

/// Tokens of a text or of a conversation.
pub(super) async fn tokenize(app: Arc<App>, body: Vec<u8>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    let (ids, strings) = app
        .blocking(move || {
            let mut fields = Fields::parse(&body)?;
            check_model(&mut fields, &reader)?;
            let special: Option<bool> = fields.take("add_special_tokens")?;
            let strings = fields.flag("return_token_strs")?;
            let prompt: Option<String> = fields.take("prompt")?;
            let turns: Option<Vec<Turn>> = fields.take("messages")?;
            let variables: Option<Map<String, Value>> = fields.take("chat_template_kwargs")?;
            fields.finish()?;
            let ids = match (prompt, turns) {
                (Some(text), None) => encode(&reader, &text, special.unwrap_or(true))?,
                (None, Some(turns)) => encode_chat(
                    &reader,
                    &messages(turns)?,
                    &variables.unwrap_or_default(),
                    special.unwrap_or(false),
                )?,
                _ => return Err(ApiError::bad("give either `prompt` or `messages`")),
            };
            Ok((ids, strings))
        })
        .await?;
    let tokenizer = app.tokenizer();
    let strings =
        strings.then(|| -> Vec<_> { ids.iter().map(|id| tokenizer.token(*id)).collect() });
    Ok(Json(json!({
        "count": ids.len(),
        "max_model_len": app.max_model_len(),
        "tokens": ids,
        "token_strs": strings,
    }))
    .into_response())
}

/// The text of tokens.
pub(super) async fn detokenize(app: Arc<App>, body: Vec<u8>) -> Result<Response, ApiError> {
    let mut fields = Fields::parse(&body)?;
    check_model(&mut fields, &app)?;
    let ids: Vec<u32> = fields
        .take("tokens")?
        .ok_or_else(|| ApiError::field("tokens", "`tokens` is missing"))?;
    fields.finish()?;
    let tokenizer = app.tokenizer();
    if let Some(id) = ids.iter().find(|id| **id as usize >= tokenizer.size()) {
        let message = format!("token {id} is not one of the {} known", tokenizer.size());
        return Err(ApiError::field("tokens", message));
    }
    let prompt = tokenizer.decode_after(&[], &ids);
    Ok(Json(json!({"prompt": prompt})).into_response())
}
