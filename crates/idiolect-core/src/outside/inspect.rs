//! A log of inspect_ai as JSON (`--log-format json`, or `inspect log convert --to json`): one document
//! with the settings in `eval` and the answers in `samples`. Its epochs are samples of one problem.
//!
//! Source: `inspect_ai/log/_log.py`, `inspect_ai/model/_model_output.py` of 0.3.285.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::value::{list, number_in, object, sampling, text_if, with_reasoning, wrong};
use super::{AnsweredRow, Reply};

/// A sample's texts may lie here, named by hash.
const ATTACHMENT: &str = "attachment://";

/// Bytes of an unpacked document that are looked at.
const HEAD: u64 = 64 << 10;

/// The field of a sample that [`log`] adds where the log's numbers count from 0.
const FROM_ZERO: &str = "ids_from_zero";

/// Whether a document begins as a log does: `version`, `status` and the object `eval` come first, and
/// nothing comes after it. The document may be gzipped.
pub fn is_log(head: &[u8]) -> bool {
    let mut unpacked = Vec::new();
    let head = if head.starts_with(&[0x1f, 0x8b]) {
        // A beginning is cut off, and a file that is none is an error of whom reads it.
        let _ = MultiGzDecoder::new(head)
            .take(HEAD)
            .read_to_end(&mut unpacked);
        &unpacked
    } else {
        head
    };
    let text = String::from_utf8_lossy(head);
    let fields = fields(text.trim_start_matches('\u{feff}').trim_start());
    let has = |name: &str| fields.iter().any(|(field, _)| *field == name);
    has("version") && has("status") && fields.contains(&("eval", '{'))
}

/// The fields of the object that a text begins with, each with the first character of its value; none
/// where something stands behind the object, as the next of several rows does.
fn fields(text: &str) -> Vec<(&str, char)> {
    let (mut fields, mut name, mut depth) = (Vec::new(), "", 0_u64);
    if !text.starts_with('{') {
        return fields;
    }
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let mut escaped = false;
                let end = chars.find(|(_, c)| {
                    let ends = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    ends
                });
                name = end.map_or("", |(end, _)| &text[at + 1..end]);
            }
            ':' if depth == 1 => {
                fields.extend(
                    text[at + 1..]
                        .trim_start()
                        .chars()
                        .next()
                        .map(|c| (name, c)),
                );
            }
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && !text[at + 1..].trim().is_empty() {
                    return Vec::new();
                }
            }
            _ => {}
        }
    }
    fields
}

/// What [`Program::read`](super::Program::read) reads of a sample, or why it is none.
pub type Fields = Result<Map<String, Value>, String>;

/// A log, its samples unread.
#[derive(Debug)]
pub struct Log {
    /// How it ended, where that is no success.
    pub ended: Option<String>,
    /// The task's name.
    pub task: String,
    /// Each sample with the line where it begins, from 1.
    pub samples: Vec<(u64, Fields)>,
}

/// What is read of the document.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default)]
    status: Value,
    #[serde(default)]
    eval: Value,
    #[serde(default)]
    plan: Value,
    #[serde(borrow, default)]
    samples: Option<Vec<&'a RawValue>>,
}

/// What is read of a sample: events and messages, most of a log, are passed over.
#[derive(Deserialize)]
struct Sample {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    epoch: Value,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    target: Value,
    #[serde(default)]
    metadata: Value,
    #[serde(default)]
    output: Value,
    #[serde(default)]
    scores: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    attachments: Value,
}

/// Reads a log.
///
/// # Errors
/// When it is none, or holds no samples.
pub fn log(text: &str) -> Result<Log, String> {
    let document: Document<'_> =
        serde_json::from_str(text).map_err(|error| format!("not a log of inspect_ai: {error}"))?;
    let samples = document
        .samples
        .filter(|samples| !samples.is_empty())
        .ok_or("the log holds no samples: it is a header, or was written with --no-log-samples")?;
    let (mut line, mut at) = (1, 0);
    let mut read = Vec::with_capacity(samples.len());
    for sample in samples {
        // A part of `text`, so the difference is where it begins.
        let begin = sample
            .get()
            .as_ptr()
            .addr()
            .saturating_sub(text.as_ptr().addr());
        line += text.as_bytes()[at..begin]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count() as u64;
        at = begin;
        read.push((line, row(sample.get(), &document.eval, &document.plan)));
    }
    // A list without ids is numbered from 1; one with a 0 counts itself.
    let from_zero = |(_, fields): &(u64, Fields)| {
        let id = fields.as_ref().ok().and_then(|fields| fields.get("id"));
        id.is_some_and(|id| id.is_number() && number_in(id) == Some(0))
    };
    if read.iter().any(from_zero) {
        for fields in read
            .iter_mut()
            .filter_map(|(_, fields)| fields.as_mut().ok())
        {
            fields.insert(FROM_ZERO.to_owned(), Value::from(true));
        }
    }
    let named = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Log {
        ended: ended(&document.status, &document.eval, read.len()),
        task: document.eval.get("task").map(named).unwrap_or_default(),
        samples: read,
    })
}

/// How a log ended that is no success, with how much of the plan is in it.
fn ended(status: &Value, eval: &Value, held: usize) -> Option<String> {
    let how = match status.as_str()? {
        "success" => return None,
        "started" => "is of an evaluation that had not ended".to_owned(),
        "error" => "ended in an error".to_owned(),
        other => format!("was {other}"),
    };
    let config = |name: &str| eval.get("config").and_then(|config| config.get(name));
    let limit = match config("limit") {
        Some(Value::Array(range)) => match range.as_slice() {
            [from, to] => to
                .as_u64()
                .zip(from.as_u64())
                .map(|(to, from)| to.saturating_sub(from)),
            _ => None,
        },
        limit => limit.and_then(Value::as_u64),
    };
    let planned = eval
        .get("dataset")
        .and_then(|dataset| dataset.get("samples")?.as_u64())
        .map(|all| {
            let epochs = config("epochs").and_then(Value::as_u64).unwrap_or(1);
            all.min(limit.unwrap_or(all)).saturating_mul(epochs)
        });
    let planned = planned.map_or_else(String::new, |n| format!(", of {n} that were planned"));
    Some(format!("the log {how}: {held} samples are in it{planned}"))
}

/// A sample's own fields, with those of the log that decide it.
fn row(sample: &str, eval: &Value, plan: &Value) -> Fields {
    if !sample.starts_with('{') {
        let start: String = sample.chars().take(20).collect();
        return Err(format!(
            "a sample is an object, and this begins with {start:?}"
        ));
    }
    let sample: Sample =
        serde_json::from_str(sample).map_err(|error| format!("not a sample: {error}"))?;
    let fields = [
        ("id", sample.id),
        ("epoch", sample.epoch),
        ("input", sample.input),
        ("target", sample.target),
        ("metadata", sample.metadata),
        ("output", sample.output),
        ("scores", sample.scores),
        ("error", sample.error),
        ("attachments", sample.attachments),
        ("model", eval.get("model").cloned().unwrap_or_default()),
        ("config", config(eval, plan)),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_null());
    Ok(present
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}

/// The generation settings: those of the model, over them those of the plan.
fn config(eval: &Value, plan: &Value) -> Value {
    let mut all = Map::new();
    for source in [eval.get("model_generate_config"), plan.get("config")] {
        if let Some(Value::Object(fields)) = source {
            all.extend(
                fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone())),
            );
        }
    }
    Value::Object(all)
}

/// Reads a sample that [`log`] gave.
pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    let attachments = row.get("attachments").unwrap_or(&Value::Null);
    let (id, index) = match row.get("id") {
        Some(number @ Value::Number(_)) => {
            let first = usize::from(!row.contains_key(FROM_ZERO));
            (None, number_in(number).and_then(|n| n.checked_sub(first)))
        }
        Some(Value::String(id)) => (Some(id.clone()), None),
        Some(other) => return Err(wrong("id", other, "text or a number")),
        None => return Err("no field `id`".to_owned()),
    };
    let columns = match row.get("metadata") {
        Some(Value::Object(metadata)) => metadata.clone(),
        Some(other) => return Err(wrong("metadata", other, "an object")),
        None => Map::new(),
    };
    let question = asked(row.get("input"), attachments)?;
    let model = match row
        .get("output")
        .and_then(|output| output.get("model"))
        .and_then(Value::as_str)
    {
        Some(model) if !model.is_empty() => Some(model.to_owned()),
        _ => None,
    };
    let names = [
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        ("max_tokens", "max_tokens"),
    ];
    Ok(AnsweredRow {
        id,
        index,
        columns,
        prompt: Some(question.clone()),
        question: Some(question),
        gold: target(row.get("target"))?,
        model: text_if(row.get("model"), "eval.model")?.or(model),
        sampling: row
            .get("config")
            .map(|config| sampling(config, &names))
            .unwrap_or_default(),
        replies: replies(row, attachments)?,
        scores: scores(row.get("scores")),
        filter: None,
    })
}

/// What was asked: a text, or the last turn of the user.
fn asked(input: Option<&Value>, attachments: &Value) -> Result<String, String> {
    match input {
        Some(Value::String(text)) => Ok(resolved(text, attachments).to_owned()),
        Some(Value::Array(turns)) => {
            let is_user = |turn: &&Value| turn.get("role").and_then(Value::as_str) == Some("user");
            let last = turns
                .iter()
                .rfind(is_user)
                .ok_or("`input` has no turn of the user")?;
            content(last.get("content"), "input.content", attachments)
        }
        Some(other) => Err(wrong("input", other, "text or a list of turns")),
        None => Err("no field `input`".to_owned()),
    }
}

/// The right answer; of several the first.
fn target(value: Option<&Value>) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(all)) => Ok(all.first().and_then(Value::as_str).map(str::to_owned)),
        Some(other) => Err(wrong("target", other, "text or a list of texts")),
    }
}

fn replies(row: &Map<String, Value>, attachments: &Value) -> Result<Vec<Reply>, String> {
    if let Some(error) = row.get("error") {
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or("no message");
        return Ok(vec![Reply::none(format!(
            "the sample ended in an error: {message}"
        ))]);
    }
    let output = object(row.get("output"), "output")?;
    if let Some(error) =
        text_if(output.get("error"), "output.error")?.filter(|error| !error.is_empty())
    {
        return Ok(vec![Reply::none(format!(
            "the model's output is an error: {error}"
        ))]);
    }
    let choices = list(output.get("choices"), "output.choices")?;
    if choices.is_empty() {
        return Ok(vec![Reply::none("`output.choices` is empty".to_owned())]);
    }
    let usage = output
        .get("usage")
        .and_then(|usage| usage.get("output_tokens"));
    let n_tokens = usage.and_then(Value::as_u64).filter(|_| choices.len() == 1);
    let reply = |(i, choice): (usize, &Value)| {
        let name = format!("output.choices.{i}");
        let message = object(choice.get("message"), &format!("{name}.message"))?;
        let name_of_content = format!("{name}.message.content");
        Ok(Reply {
            text: match message.get("content") {
                Some(Value::Null) => {
                    Err(format!("`{name_of_content}` is null: nothing was answered"))
                }
                written => Ok(content(written, &name_of_content, attachments)?),
            },
            finish: text_if(choice.get("stop_reason"), &format!("{name}.stop_reason"))?,
            n_tokens,
        })
    };
    choices.iter().enumerate().map(reply).collect()
}

/// A turn's text: what it is, or its parts of text after its parts of reasoning.
fn content(value: Option<&Value>, name: &str, attachments: &Value) -> Result<String, String> {
    let parts = match value {
        Some(Value::String(text)) => return Ok(resolved(text, attachments).to_owned()),
        other => list(other, name)?,
    };
    let (mut reasoning, mut text) = (String::new(), String::new());
    for part in parts {
        let of = |field: &str| {
            part.get(field)
                .and_then(Value::as_str)
                .map(|text| resolved(text, attachments))
        };
        match part.get("type").and_then(Value::as_str) {
            Some("text") => text.push_str(of("text").unwrap_or_default()),
            Some("reasoning") => reasoning.push_str(of("reasoning").unwrap_or_default()),
            _ => {}
        }
    }
    Ok(with_reasoning(&reasoning, &text))
}

/// The text itself, or the attachment that it names.
fn resolved<'a>(text: &'a str, attachments: &'a Value) -> &'a str {
    text.strip_prefix(ATTACHMENT)
        .and_then(|hash| attachments.get(hash)?.as_str())
        .unwrap_or(text)
}

/// Each scorer's value.
fn scores(value: Option<&Value>) -> Map<String, Value> {
    let Some(Value::Object(scores)) = value else {
        return Map::new();
    };
    scores
        .iter()
        .filter_map(|(name, score)| Some((name.clone(), score.get("value")?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_all(text: &str) -> Vec<(u64, Result<AnsweredRow, String>)> {
        let log = log(text).unwrap();
        let samples = log.samples.into_iter();
        samples
            .map(|(line, row)| (line, row.and_then(|row| read(&row))))
            .collect()
    }

    #[test]
    fn samples_of_a_log_are_read_with_their_lines_and_settings() {
        let text = json!({"version": 2, "status": "success",
            "eval": {"task": "gsm8k", "model": "openai/m", "model_generate_config": {"temperature": 0.5, "max_tokens": 64}},
            "plan": {"config": {"temperature": 0.0}},
            "samples": [
                {"id": 1, "epoch": 1, "input": "q", "target": "3", "metadata": {"level": "1"}, "events": [[[1]]],
                 "output": {"model": "m", "choices": [{"message": {"content": "attachment://h"}, "stop_reason": "max_tokens"}],
                            "usage": {"output_tokens": 5}},
                 "scores": {"match": {"value": "C", "answer": "3"}}, "attachments": {"h": "long"}},
                {"id": "b", "epoch": 1, "input": [{"role": "system", "content": "s"}, {"role": "user", "content": "q2"}],
                 "target": ["4", "four"], "output": {"choices": [{"message": {"content": [
                    {"type": "reasoning", "reasoning": "2+2"}, {"type": "text", "text": "4"}]}}]}},
                {"id": 3, "epoch": 1, "input": "q3", "target": "1", "error": {"message": "no connection"}, "output": {}},
                {"id": 4, "input": 7, "target": "1", "output": {"choices": []}}]});
        let text = serde_json::to_string_pretty(&text).unwrap();
        assert!(is_log(text.as_bytes()));
        let rows = read_all(&text);
        let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
        let begins: Vec<usize> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| *line == "    {")
            .map(|(i, _)| i + 1)
            .collect();
        assert_eq!(lines, begins.iter().map(|n| *n as u64).collect::<Vec<_>>());
        let first = rows[0].1.as_ref().unwrap();
        assert_eq!(
            (first.index, first.is_greedy(), first.gold.as_deref()),
            (Some(0), Some(true), Some("3"))
        );
        assert_eq!(
            first.replies[0],
            Reply {
                text: Ok("long".to_owned()),
                finish: Some("max_tokens".to_owned()),
                n_tokens: Some(5)
            }
        );
        assert_eq!(Value::from(first.scores.clone()), json!({"match": "C"}));
        let second = rows[1].1.as_ref().unwrap();
        assert_eq!(
            (second.id.as_deref(), second.question.as_deref()),
            (Some("b"), Some("q2"))
        );
        assert_eq!(
            second.replies[0].text,
            Ok("<think>\n2+2\n</think>\n\n4".to_owned())
        );
        assert!(
            rows[2].1.as_ref().unwrap().replies[0]
                .text
                .as_ref()
                .unwrap_err()
                .contains("no connection")
        );
        assert!(
            rows[3]
                .1
                .as_ref()
                .unwrap_err()
                .contains("`input` is a number")
        );
    }

    #[test]
    fn numbers_count_from_zero_where_one_is_zero_and_a_log_tells_how_it_ended() {
        let sample = |id: Value| {
            json!({"id": id, "epoch": 1, "input": "q", "target": "1",
            "output": {"choices": [{"message": {"content": null}}]}})
        };
        let text = |ids: [i64; 2]| {
            json!({"status": "cancelled",
                "eval": {"dataset": {"samples": 90}, "config": {"limit": 50, "epochs": 3}},
                "samples": ids.map(|id| sample(json!(id)))})
            .to_string()
        };
        let indexes = |ids: [i64; 2]| -> Vec<Option<usize>> {
            let rows = read_all(&text(ids)).into_iter();
            rows.map(|(_, row)| row.unwrap().index).collect()
        };
        assert_eq!(indexes([1, 2]), [Some(0), Some(1)]);
        assert_eq!(indexes([1, 0]), [Some(1), Some(0)]);
        assert_eq!(indexes([-1, 2]), [None, Some(1)]);
        assert_eq!(
            log(&text([1, 2])).unwrap().ended.as_deref(),
            Some("the log was cancelled: 2 samples are in it, of 150 that were planned")
        );
        // Nothing was answered.
        let row = read_all(&text([1, 2])).remove(0).1.unwrap();
        assert!(
            row.replies[0]
                .text
                .as_ref()
                .unwrap_err()
                .contains("is null")
        );
    }

    #[test]
    fn a_document_of_another_kind_is_no_log() {
        assert!(!is_log(b"{\"question\": \"q\"}\n"));
        let begins = "{\"version\": 2, \"status\": \"a\\\"b\", \"eval\": ";
        let is = |rest: &str| is_log(format!("{begins}{rest}").as_bytes());
        assert!(is("{\"task\": \"t\"}, \"samples\": [{\"id\": \"cut of"));
        assert!(is("{}}\n"));
        // Rows with columns of these names.
        assert!(!is("\"x\"}\n") && !is("{}}\n{\"version\": 2}\n"));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, format!("{begins}{{}}").as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert!(is_log(&packed) && is_log(&packed[..packed.len() - 8]));
        let header = json!({"version": 2, "status": "started", "eval": {"task": "t"}}).to_string();
        assert!(log(&header).unwrap_err().contains("no samples"));
        assert!(log("{\"version\": 2,").unwrap_err().contains("not a log"));
        let odd = log("{\"samples\": [\"a\", {\"id\": 1}]}").unwrap().samples;
        assert!(odd[0].1.as_ref().unwrap_err().contains("begins with"));
        assert!(odd[1].1.is_ok());
        let deep = format!("{{\"version\":2,\"samples\":{}", "[".repeat(100_000));
        assert!(log(&deep).is_err());
    }
}
