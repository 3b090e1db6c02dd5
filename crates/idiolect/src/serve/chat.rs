//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Guard, Piece, Whole, token_ids};
use super::completions::usage;
use super::error::ApiError;
use super::fields::Fields;
use super::json::Json;
use super::logprobs::{Placed, Speller};
use super::prompt::{Turn, encode_chat, messages};
use super::request::{Asked, MOST_TOP, check_lengths};
use super::scheduler::Job;
use super::stream::{Pieces, stream};
use super::{App, Head};

/// A request that was read.
struct Chat {
    asked: Asked,
    ids: Arc<[u32]>,
    /// Alternatives named at each place; none where no log-probabilities are asked for.
    logprobs: Option<usize>,
}

impl Chat {
    fn read(app: &App, body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let names = ["max_completion_tokens", "max_tokens"];
        let mut asked = Asked::take(&mut fields, app, &names)?;
        let wanted = fields.flag("logprobs")?;
        let top = fields.count("top_logprobs", 0, MOST_TOP as u64)?;
        if top.is_some_and(|top| top > 0) && !wanted {
            let message = "`top_logprobs` needs `logprobs: true`";
            return Err(ApiError::field("top_logprobs", message));
        }
        for name in ["echo", "prompt_logprobs"] {
            if fields
                .take::<Value>(name)?
                .is_some_and(|v| v != json!(false))
            {
                let message = format!("`{name}` is answered by /v1/completions only");
                return Err(ApiError::field(name, message));
            }
        }
        let turns: Vec<Turn> = fields
            .take("messages")?
            .ok_or_else(|| ApiError::field("messages", "`messages` is missing"))?;
        let variables: Option<Map<String, Value>> = fields.take("chat_template_kwargs")?;
        fields.finish()?;
        let ids: Arc<[u32]> = encode_chat(
            app,
            &messages(turns)?,
            &variables.unwrap_or_default(),
            asked.add_special_tokens.unwrap_or(false),
        )?
        .into();
        if asked.n > app.max_queue {
            let message = format!("at most {} completions (--max-queue)", app.max_queue);
            return Err(ApiError::field("n", message));
        }
        let max_tokens = asked.max_tokens.unwrap_or_else(|| most(app, ids.len()));
        if max_tokens == 0 {
            return Err(ApiError::field("max_tokens", "0 tokens are no answer"));
        }
        check_lengths(app, "messages", std::slice::from_ref(&ids), max_tokens)?;
        asked.sampling.max_tokens = max_tokens;
        Ok(Self {
            asked,
            ids,
            logprobs: wanted.then(|| top.unwrap_or(0)),
        })
    }
}

/// Tokens that may follow so many: as many as the model's positions and the memory hold, at least
/// one.
fn most(app: &App, context: usize) -> usize {
    let left = app.max_model_len().saturating_sub(context);
    let (mut fits, mut beyond) = (0, left + 1);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        match app.scheduler.model.fits_live(context, middle) {
            Ok(()) => fits = middle,
            Err(_) => beyond = middle,
        }
    }
    fits.max(1)
}

/// Answers a request.
pub(super) async fn answer(app: Arc<App>, body: Vec<u8>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    let request = app.blocking(move || Chat::read(&reader, &body)).await?;
    let choices = request.asked.n;
    let events = app.scheduler.submit(Job {
        completions: request
            .asked
            .completions(std::slice::from_ref(&request.ids)),
        sampling: Arc::new(request.asked.sampling.clone()),
        n_top: request.logprobs.unwrap_or(0),
        stream: request.asked.stream,
    })?;
    app.metrics.prompt_tokens.add(request.ids.len());
    let mut answer = Answer::new(events, choices, Guard::new(&app));
    let head = Head::new("chatcmpl");
    if request.asked.stream {
        let first = answer.next().await?;
        let (pieces, response) = stream();
        tokio::spawn(async move {
            let writer = Writer {
                app: &app,
                request: &request,
                head: &head,
                pieces: &pieces,
            };
            writer.write(first, answer).await
        });
        return Ok(response);
    }
    let all = answer.whole(choices).await?;
    let n_tokens = all.iter().map(|whole| whole.tokens.len()).sum();
    let choice = |(index, whole): (usize, &Whole)| {
        let mut document = json!({
            "index": index,
            "message": {"role": "assistant", "content": whole.text},
            "logprobs": request.logprobs
                .map(|_| speller(&app, &request).content(whole.tokens.iter().map(Placed::from))),
            "finish_reason": whole.finish,
        });
        if request.asked.return_token_ids {
            document["token_ids"] = json!(token_ids(&whole.tokens));
        }
        document
    };
    let choices: Vec<Value> = all.iter().enumerate().map(choice).collect();
    let mut document = head.document(&app, "chat.completion", json!(choices));
    document["usage"] = usage(request.ids.len(), n_tokens);
    if request.asked.return_token_ids {
        document["prompt_token_ids"] = json!(&request.ids[..]);
    }
    Ok(Json(document).into_response())
}

/// Spells what follows the conversation.
fn speller<'a>(app: &'a App, request: &Chat) -> Speller<'a> {
    let mut speller = Speller::new(app.tokenizer());
    speller.skip(&request.ids);
    speller
}

/// Writes the pieces of a stream.
struct Writer<'a> {
    app: &'a App,
    request: &'a Chat,
    head: &'a Head,
    pieces: &'a Pieces,
}

impl Writer<'_> {
    async fn write(&self, first: Option<Piece>, answer: Answer) -> Option<()> {
        let mut spellers = Vec::with_capacity(self.request.asked.n);
        for choice in 0..self.request.asked.n {
            let delta = json!({"role": "assistant", "content": ""});
            let document = json!({"index": choice, "delta": delta, "logprobs": null,
                "finish_reason": null});
            self.send(json!([document]), Value::Null, choice == 0)
                .await?;
            spellers.push(speller(self.app, self.request));
        }
        let document = |piece: &Piece| {
            let choice = self.choice(piece, &mut spellers[piece.choice]);
            self.chunk(json!([choice]), Value::Null, false)
        };
        let n_tokens = answer.relay(first, self.pieces, document).await?;
        if self.request.asked.include_usage {
            let usage = usage(self.request.ids.len(), n_tokens);
            self.send(json!([]), usage, false).await?;
        }
        self.pieces.done().await.then_some(())
    }

    fn choice(&self, piece: &Piece, speller: &mut Speller<'_>) -> Value {
        let logprobs = self
            .request
            .logprobs
            .filter(|_| !piece.tokens.is_empty())
            .map(|_| speller.content(piece.tokens.iter().map(Placed::from)));
        let delta = if piece.text.is_empty() {
            json!({})
        } else {
            json!({"content": piece.text})
        };
        let mut document = json!({"index": piece.choice, "delta": delta, "logprobs": logprobs,
            "finish_reason": piece.finish});
        if self.request.asked.return_token_ids {
            document["token_ids"] = json!(token_ids(&piece.tokens));
        }
        document
    }

    fn chunk(&self, choices: Value, usage: Value, first: bool) -> Value {
        let object = "chat.completion.chunk";
        let mut document = self.head.document(self.app, object, choices);
        if first && self.request.asked.return_token_ids {
            document["prompt_token_ids"] = json!(&self.request.ids[..]);
        }
        if self.request.asked.include_usage {
            document["usage"] = usage;
        }
        document
    }

    async fn send(&self, choices: Value, usage: Value, first: bool) -> Option<()> {
        let chunk = self.chunk(choices, usage, first);
        self.pieces.send(&chunk).await.then_some(())
    }
}
