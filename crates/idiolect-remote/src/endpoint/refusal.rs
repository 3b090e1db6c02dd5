//! What a failed exchange means: for the attempt, for the row, or for the whole work.

use std::time::{Duration, SystemTime};

use idiolect_model::{RowError, RowErrorKind};
use serde_json::Value;

use crate::Key;
use crate::http::{NoReply, Reply};
use crate::key::KEY_VARIABLES;
use crate::pace::asked_wait;

/// Why an attempt gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server limits the rate; how long it asks to wait. Spends no attempt.
    Limited {
        wait: Option<Duration>,
        reason: String,
    },
    /// It may go better the next time.
    Failed {
        reason: String,
        wait: Option<Duration>,
        unreachable: bool,
    },
    /// The server refuses this request, now and later.
    Row { error: RowError, status: u16 },
    /// The server refuses all requests.
    All(String),
}

impl Fault {
    /// A failure that may go better the next time.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
            wait: None,
            unreachable: false,
        }
    }

    /// A refusal of one row, from a reply that was no error.
    pub(super) fn row(reason: impl Into<String>) -> Self {
        Self::Row {
            error: RowError::other(reason),
            status: 200,
        }
    }

    /// What a missing reply means.
    pub(super) fn of_no_reply(fault: NoReply) -> Self {
        match fault {
            NoReply::TooLong(_) => Self::row(fault.to_string()),
            NoReply::Unreachable(reason) => Self::Failed {
                reason,
                wait: None,
                unreachable: true,
            },
            other => Self::failed(other.to_string()),
        }
    }

    /// What a reply means whose status is not 200. `server` is how messages name who sent it.
    pub(super) fn of_status(reply: &Reply, server: &str, key: Option<&Key>) -> Self {
        let status = reply.status;
        let message = error_message(&reply.body, key);
        let reason = format!("status {status} from {server}: {message}");
        let wait = || asked_wait(&reply.headers, SystemTime::now());
        if is_too_long(&message) && !matches!(status, 401 | 403 | 404 | 429) {
            return Self::Row {
                error: RowError {
                    kind: RowErrorKind::TooLong,
                    reason,
                },
                status,
            };
        }
        match status {
            429 if is_spent(&message) => Self::All(reason),
            429 => Self::Limited {
                wait: wait(),
                reason,
            },
            300..=399 => Self::All(format!(
                "{server} sends requests elsewhere (status {status}), which is refused: the key \
                 would go with them. Give the URL that it sends to, if you trust it"
            )),
            403 if is_moderation(&message) => Self::Row {
                error: RowError::other(reason),
                status,
            },
            401 | 403 => Self::All(key_message(status, server, &message, key)),
            402 | 404 | 405 | 410 | 501 => Self::All(reason),
            // llama.cpp cannot force a token that is part of a character.
            500 if message.contains("grammar") => Self::Row {
                error: RowError::other(reason),
                status,
            },
            408 | 425 | 500..=599 => Self::Failed {
                reason,
                wait: wait(),
                unreachable: false,
            },
            413 => Self::Row {
                error: RowError {
                    kind: RowErrorKind::TooLong,
                    reason,
                },
                status,
            },
            400..=499 => Self::Row {
                error: RowError::other(reason),
                status,
            },
            _ => Self::failed(reason),
        }
    }

    /// The fault with the server that it is of in its reason.
    pub(super) fn of_server(self, server: &str) -> Self {
        self.map_reason(|reason| format!("{server}: {reason}"))
    }

    /// The fault with another reason, made from its own.
    pub(super) fn map_reason(mut self, map: impl FnOnce(&str) -> String) -> Self {
        let reason = match &mut self {
            Self::Limited { reason, .. } | Self::Failed { reason, .. } | Self::All(reason) => {
                reason
            }
            Self::Row { error, .. } => &mut error.reason,
        };
        *reason = map(reason);
        self
    }

    /// The reason, for a message.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Limited { reason, .. } | Self::Failed { reason, .. } | Self::All(reason) => {
                reason
            }
            Self::Row { error, .. } => &error.reason,
        }
    }
}

fn key_message(status: u16, server: &str, message: &str, key: Option<&Key>) -> String {
    let [own, common] = KEY_VARIABLES;
    let what = match key {
        None => format!("wants a key: set {own} or {common} in the environment"),
        Some(_) => format!("refuses the key given in {own} or {common}"),
    };
    format!("{server} {what} (status {status}: {message})")
}

/// The longest part of a server's message that is repeated.
const MESSAGE_CHARS: usize = 400;

/// The error message of a server, in whichever shape, on one line and without the key.
pub(super) fn error_message(body: &[u8], key: Option<&Key>) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(1 << 16)]);
    let found = serde_json::from_str::<Value>(&text)
        .ok()
        .and_then(|value| message_of(&value));
    let message = found.unwrap_or_else(|| text.into_owned());
    // Before the text is cut: half a key is a key too.
    let message = key.map_or_else(|| message.clone(), |key| key.hide_in(&message));
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    if line.is_empty() {
        return "no message".to_owned();
    }
    match line.char_indices().nth(MESSAGE_CHARS) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// The message in `{"error": {"message", "code"}}`, `{"error": "…"}`, `{"message": "…"}` or
/// `{"detail": …}`.
fn message_of(value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let inner = ["error", "message", "detail", "msg"]
        .iter()
        .find_map(|name| object.get(*name).filter(|inner| !inner.is_null()))?;
    if let Some(text) = inner.as_str() {
        return Some(text.to_owned());
    }
    match message_of(inner) {
        Some(text) => {
            let code = inner.get("code").and_then(Value::as_str);
            Some(match code {
                Some(code) if !text.contains(code) => format!("{text} ({code})"),
                _ => text,
            })
        }
        None => Some(inner.to_string()),
    }
}

fn holds(message: &str, words: &[&str]) -> bool {
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

/// Whether a message means that a request has more tokens than the model takes.
fn is_too_long(message: &str) -> bool {
    holds(
        message,
        &[
            "context length",
            "context_length",
            "context size",
            "context_size",
            "context window",
            "maximum model length",
            "max_model_len",
            "max_seq_len",
            "maximum sequence length",
            "prompt is too long",
            "prompt too long",
            "input is too long",
            "too many tokens",
            "too many input tokens",
            "tokens + `max_new_tokens` must be",
            "exceeds the maximum number of tokens",
        ],
    )
}

/// Whether a rate limit is none: what was paid for is spent.
fn is_spent(message: &str) -> bool {
    holds(
        message,
        &["insufficient_quota", "exceeded your current quota"],
    )
}

fn is_moderation(message: &str) -> bool {
    holds(message, &["moderation", "flagged", "content policy"])
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn fault(status: u16, body: &str, key: Option<&Key>) -> Fault {
        let reply = Reply {
            status,
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
        };
        Fault::of_status(&reply, "http://a/v1", key)
    }

    #[test]
    fn statuses_say_whose_fault_it_is() {
        for status in [408, 500, 502, 503, 504, 529] {
            assert!(matches!(fault(status, "", None), Fault::Failed { .. }));
        }
        for status in [302, 401, 402, 403, 404, 405] {
            assert!(matches!(fault(status, "", None), Fault::All(_)), "{status}");
        }
        let grammar = "Unexpected empty grammar stack after accepting piece";
        assert!(matches!(fault(500, grammar, None), Fault::Row { .. }));
        for status in [400, 409, 422] {
            assert!(matches!(fault(status, "", None), Fault::Row { .. }));
        }
        assert!(matches!(fault(429, "", None), Fault::Limited { .. }));
        let spent = r#"{"error":{"message":"no money","code":"insufficient_quota"}}"#;
        assert!(matches!(fault(429, spent, None), Fault::All(_)));
        let flagged = r#"{"error":{"message":"input was flagged"}}"#;
        assert!(matches!(fault(403, flagged, None), Fault::Row { .. }));
    }

    #[test]
    fn rows_that_are_too_long_are_known_by_their_message() {
        for (status, message) in [
            (
                400,
                "This model's maximum context length is 4096 tokens. However, you requested 5000",
            ),
            (
                400,
                "the request exceeds the available context size, try increasing it",
            ),
            (500, "the request exceeds the available context size"),
            (422, "`inputs` tokens + `max_new_tokens` must be <= 2048"),
            (413, "payload"),
        ] {
            let Fault::Row { error, .. } = fault(status, message, None) else {
                panic!("{message}");
            };
            assert_eq!(error.kind, RowErrorKind::TooLong, "{message}");
        }
    }

    #[test]
    fn messages_are_found_in_every_shape_and_never_hold_the_key() {
        let key = Key::new("sk-123").unwrap();
        for (body, expected) in [
            (r#"{"error":{"message":"no","code":"x1"}}"#, "no (x1)"),
            (r#"{"error":"no"}"#, "no"),
            (r#"{"object":"error","message":"no","code":400}"#, "no"),
            (
                r#"{"detail":[{"loc":["body","top_k"]}]}"#,
                r#"[{"loc":["body","top_k"]}]"#,
            ),
            ("<h1>\n no\u{1b} </h1>", "<h1> no </h1>"),
            ("", "no message"),
            ("you sent Bearer sk-123", "you sent Bearer [key]"),
        ] {
            assert_eq!(error_message(body.as_bytes(), Some(&key)), expected);
        }
        let long = format!("{}sk-123", "x".repeat(MESSAGE_CHARS - 3));
        assert!(!error_message(long.as_bytes(), Some(&key)).contains("sk-"));
        for status in [400, 401, 403, 404, 429, 500] {
            let fault = fault(status, r#"{"error":"bad key sk-123"}"#, Some(&key));
            assert!(!format!("{fault:?}").contains("123"));
        }
    }
}
