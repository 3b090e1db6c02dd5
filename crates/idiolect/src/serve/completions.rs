//! `POST /v1/completions`.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use idiolect_engine::local::live::{PromptScores, ScoredPrompt};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::answer::{Answer, Guard, Piece, Whole, token_ids};
use super::error::ApiError;
use super::fields::Fields;
use super::json::Json;
use super::logprobs::{Placed, Speller, of_prompt, placed};
use super::prompt::{Prompt, Prompts};
use super::request::{Asked, MOST_TOP, check_lengths};
use super::scheduler::{Job, Scores};
use super::stream::{Pieces, stream};
use super::{App, Head};

/// Tokens of a completion whose request names no number, as OpenAI has it.
const MAX_TOKENS: usize = 16;

/// What answers state that they are.
const OBJECT: &str = "text_completion";

/// A request that was read.
struct Completions {
    asked: Asked,
    prompts: Vec<Prompt>,
    logprobs: Option<usize>,
    echo: bool,
    prompt_logprobs: Option<usize>,
    /// The first token of a prompt that is scored.
    start: usize,
}

impl Completions {
    fn read(app: &App, body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let mut asked = Asked::take(&mut fields, app, &["max_tokens"])?;
        let most = MOST_TOP as u64;
        let logprobs = fields.count("logprobs", 0, most)?;
        let prompt_logprobs = fields.count("prompt_logprobs", 0, most)?;
        let start = fields.count("prompt_logprobs_start", 1, u64::from(u32::MAX))?;
        let echo = fields.flag("echo")?;
        let prompts: Prompts = fields
            .take("prompt")?
            .ok_or_else(|| ApiError::field("prompt", "`prompt` is missing"))?;
        fields.finish()?;
        let max_tokens = asked.max_tokens.unwrap_or(MAX_TOKENS);
        if max_tokens == 0 && !echo && prompt_logprobs.is_none() {
            let message = "`max_tokens` is 0: nothing to do without `echo` or `prompt_logprobs`";
            return Err(ApiError::field("max_tokens", message));
        }
        if asked.stream && prompt_logprobs.is_some() {
            let message = "`prompt_logprobs` does not go with `stream`";
            return Err(ApiError::field("prompt_logprobs", message));
        }
        let prompts = prompts.encode(app, asked.add_special_tokens.unwrap_or(true))?;
        let completions = prompts.len().saturating_mul(asked.n);
        if completions == 0 || completions > app.max_queue {
            let message = format!(
                "the request asks for {completions} completions; expected 1 to {} (--max-queue)",
                app.max_queue
            );
            return Err(ApiError::field("prompt", message));
        }
        let ids: Vec<Arc<[u32]>> = prompts.iter().map(|p| Arc::clone(&p.ids)).collect();
        check_lengths(app, "prompt", &ids, max_tokens)?;
        asked.sampling.max_tokens = max_tokens;
        Ok(Self {
            asked,
            prompts,
            logprobs,
            echo,
            prompt_logprobs,
            start: start.unwrap_or(1),
        })
    }

    /// Completions of all prompts.
    fn n_choices(&self) -> usize {
        self.prompts.len() * self.asked.n
    }

    /// Whether only the prompts are asked about.
    fn writes_nothing(&self) -> bool {
        self.asked.sampling.max_tokens == 0
    }

    /// How many alternatives the prompts' scores are to name; none where they are not asked for.
    fn scored(&self) -> Option<usize> {
        let echoed = self.logprobs.filter(|_| self.echo);
        echoed.max(self.prompt_logprobs)
    }

    fn prompt_of(&self, choice: usize) -> &Prompt {
        &self.prompts[choice / self.asked.n]
    }

    /// The prompt as text, as it is echoed.
    fn echoed(&self, app: &App, choice: usize) -> String {
        let prompt = self.prompt_of(choice);
        let decoded = || app.tokenizer().decode_after(&[], &prompt.ids);
        prompt.text.clone().unwrap_or_else(decoded)
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        let prompt_tokens: usize = self.prompts.iter().map(|prompt| prompt.ids.len()).sum();
        usage(prompt_tokens, completion_tokens)
    }
}

/// Tokens of a request.
pub(super) fn usage(prompt_tokens: usize, completion_tokens: usize) -> Value {
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    })
}

/// Answers a request.
pub(super) async fn answer(app: Arc<App>, body: Vec<u8>) -> Result<Response, ApiError> {
    let reader = Arc::clone(&app);
    let request = app
        .blocking(move || Completions::read(&reader, &body))
        .await?;
    let scores = score(&app, &request)?;
    let prompts: Vec<Arc<[u32]>> = request.prompts.iter().map(|p| Arc::clone(&p.ids)).collect();
    let completions = if request.writes_nothing() {
        Vec::new()
    } else {
        request.asked.completions(&prompts)
    };
    let choices = completions.len();
    let events = app.scheduler.submit(Job {
        completions,
        sampling: Arc::new(request.asked.sampling.clone()),
        n_top: request.logprobs.unwrap_or(0),
        stream: request.asked.stream,
    })?;
    let tokens = prompts.iter().map(|ids| ids.len()).sum();
    app.metrics.prompt_tokens.add(tokens);
    let answer = Answer::new(events, choices, Guard::new(&app));
    let head = Head::new("cmpl");
    if request.asked.stream {
        return streamed(app, request, head, answer, scores).await;
    }
    let scores = scores_of(scores, &request).await?;
    let mut all = answer.whole(choices).await?;
    all.resize_with(request.n_choices(), || Whole {
        finish: "length",
        ..Whole::default()
    });
    let n_tokens = all.iter().map(|whole| whole.tokens.len()).sum();
    let choices: Vec<Value> = all
        .iter()
        .enumerate()
        .map(|(choice, whole)| whole_choice(&app, &request, (choice, whole), &scores))
        .collect();
    let mut document = head.document(&app, OBJECT, json!(choices));
    document["usage"] = request.usage(n_tokens);
    Ok(Json(document).into_response())
}

/// Begins to score the prompts that are to be.
fn score(app: &App, request: &Completions) -> Result<Option<oneshot::Receiver<Scores>>, ApiError> {
    let Some(n_top) = request.scored() else {
        return Ok(None);
    };
    let prompts = request
        .prompts
        .iter()
        .filter(|prompt| prompt.ids.len() > request.start)
        .map(|prompt| ScoredPrompt {
            ids: prompt.ids.to_vec(),
            start: request.start,
        });
    app.scheduler.score(prompts.collect(), n_top).map(Some)
}

/// The scores of each prompt; empty where none were asked for, or a prompt has no token to score.
async fn scores_of(
    scores: Option<oneshot::Receiver<Scores>>,
    request: &Completions,
) -> Result<Vec<PromptScores>, ApiError> {
    let mut scores = match scores {
        Some(scores) => scores.await.map_err(|_| ApiError::stopping())?.into_iter(),
        None => return Ok(vec![PromptScores::default(); request.prompts.len()]),
    };
    request
        .prompts
        .iter()
        .map(|prompt| {
            if prompt.ids.len() <= request.start {
                return Ok(PromptScores::default());
            }
            match scores.next() {
                Some(Ok(scores)) => Ok(scores),
                Some(Err(error)) => Err(ApiError::failed(error.reason)),
                None => Err(ApiError::stopping()),
            }
        })
        .collect()
}

fn whole_choice(
    app: &App,
    request: &Completions,
    (choice, whole): (usize, &Whole),
    scores: &[PromptScores],
) -> Value {
    let prompt = request.prompt_of(choice);
    let scores = &scores[choice / request.asked.n];
    let text = if request.echo {
        request.echoed(app, choice) + &whole.text
    } else {
        whole.text.clone()
    };
    let logprobs = request.logprobs.map(|n_top| {
        let mut speller = Speller::new(app.tokenizer());
        let written = whole.tokens.iter().map(Placed::from);
        if request.echo {
            let given = placed(&prompt.ids, request.start, scores).map(|mut token| {
                token.top = &token.top[..n_top.min(token.top.len())];
                token
            });
            speller.lists(given.chain(written))
        } else {
            speller.skip(&prompt.ids);
            speller.restart();
            speller.lists(written)
        }
    });
    let mut document = json!({
        "index": choice,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": whole.finish,
        "stop_reason": null,
    });
    if let Some(n_top) = request.prompt_logprobs {
        let top = |all: &Vec<(u32, f32)>| all[..n_top.min(all.len())].to_vec();
        let scores = PromptScores {
            scores: scores.scores.clone(),
            top: scores.top.iter().map(top).collect(),
        };
        document["prompt_logprobs"] =
            of_prompt(app.tokenizer(), &prompt.ids, request.start, &scores);
    }
    if request.asked.return_token_ids {
        document["prompt_token_ids"] = json!(&prompt.ids[..]);
        document["token_ids"] = json!(token_ids(&whole.tokens));
    }
    document
}

/// The response of a stream, once its first piece is there: what is refused until then has a
/// status of its own.
async fn streamed(
    app: Arc<App>,
    request: Completions,
    head: Head,
    mut answer: Answer,
    scores: Option<oneshot::Receiver<Scores>>,
) -> Result<Response, ApiError> {
    let scores = scores_of(scores, &request).await?;
    let first = answer.next().await?;
    let (pieces, response) = stream();
    tokio::spawn(async move {
        let writer = Writer {
            app: &app,
            request: &request,
            head: &head,
            pieces: &pieces,
        };
        // A client that leaves ends the stream early; dropping the answer gives the job up.
        writer.write(first, answer, &scores).await
    });
    Ok(response)
}

/// Writes the pieces of a stream.
struct Writer<'a> {
    app: &'a App,
    request: &'a Completions,
    head: &'a Head,
    pieces: &'a Pieces,
}

impl Writer<'_> {
    async fn write(
        &self,
        first: Option<Piece>,
        answer: Answer,
        scores: &[PromptScores],
    ) -> Option<()> {
        let n_choices = self.request.n_choices();
        let mut spellers = Vec::with_capacity(n_choices);
        for choice in 0..n_choices {
            spellers.push(self.begin(choice, scores).await?);
        }
        let document = |piece: &Piece| {
            let choice = self.choice(piece, &mut spellers[piece.choice]);
            self.chunk(json!([choice]), Value::Null)
        };
        let n_tokens = answer.relay(first, self.pieces, document).await?;
        if self.request.asked.include_usage {
            self.send(json!([]), self.request.usage(n_tokens)).await?;
        }
        self.pieces.done().await.then_some(())
    }

    /// What comes before a choice's own text: its prompt, where it is echoed.
    async fn begin(&self, choice: usize, scores: &[PromptScores]) -> Option<Speller<'_>> {
        let prompt = self.request.prompt_of(choice);
        let mut speller = Speller::new(self.app.tokenizer());
        let mut document = json!({"index": choice, "text": "", "logprobs": null,
            "finish_reason": null});
        if self.request.echo {
            document["text"] = json!(self.request.echoed(self.app, choice));
            if self.request.logprobs.is_some() {
                let scores = &scores[choice / self.request.asked.n];
                document["logprobs"] =
                    speller.lists(placed(&prompt.ids, self.request.start, scores));
            } else {
                speller.skip(&prompt.ids);
            }
            if self.request.writes_nothing() {
                document["finish_reason"] = json!("length");
            }
        } else {
            speller.skip(&prompt.ids);
            speller.restart();
        }
        if self.request.asked.return_token_ids {
            document["prompt_token_ids"] = json!(&prompt.ids[..]);
        }
        if self.request.echo || self.request.asked.return_token_ids {
            self.send(json!([document]), Value::Null).await?;
        }
        Some(speller)
    }

    fn choice(&self, piece: &Piece, speller: &mut Speller<'_>) -> Value {
        let logprobs = self
            .request
            .logprobs
            .filter(|_| !piece.tokens.is_empty())
            .map(|_| speller.lists(piece.tokens.iter().map(Placed::from)));
        let mut document = json!({"index": piece.choice, "text": piece.text, "logprobs": logprobs,
            "finish_reason": piece.finish});
        if self.request.asked.return_token_ids {
            document["token_ids"] = json!(token_ids(&piece.tokens));
        }
        document
    }

    fn chunk(&self, choices: Value, usage: Value) -> Value {
        let mut document = self.head.document(self.app, OBJECT, choices);
        if self.request.asked.include_usage {
            document["usage"] = usage;
        }
        document
    }

    async fn send(&self, choices: Value, usage: Value) -> Option<()> {
        let chunk = self.chunk(choices, usage);
        self.pieces.send(&chunk).await.then_some(())
    }
}
