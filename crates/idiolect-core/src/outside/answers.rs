//! Plain rows of answers to problems that are known already, under the names that people give their
//! columns: one answer a row, or a list of them. The problem is named by its id or by its question.

use serde_json::{Map, Value};

use super::value::{problem_named, text_if, wrong};
use super::{AnsweredRow, Reply};

/// What names the problem.
const IDS: [&str; 3] = ["problem_id", "id", "task_id"];
/// What was asked: the question, or a prompt that holds it.
const ASKED: [&str; 6] = [
    "question",
    "problem",
    "prompt",
    "query",
    "instruction",
    "input",
];
/// What was answered.
const RESPONSES: [&str; 11] = [
    "response",
    "responses",
    "completion",
    "completions",
    "generation",
    "generations",
    "generated_text",
    "output",
    "outputs",
    "samples",
    "text",
];
const FINISH: [&str; 4] = ["finish", "finish_reason", "stop_reason", "done_reason"];

/// The fields of a row that speak neither of the problem nor of the answer.
pub fn unknown_fields(row: &Map<String, Value>) -> Map<String, Value> {
    let is_known = |name: &str| {
        [
            &IDS[..],
            &ASKED,
            &RESPONSES,
            &FINISH,
            &["model", "messages"],
        ]
        .iter()
        .any(|names| names.contains(&name))
    };
    row.iter()
        .filter(|(name, _)| !is_known(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

pub(super) fn read(row: &Map<String, Value>) -> Result<AnsweredRow, String> {
    if row.contains_key("origin") {
        return Err("it has an `origin`: it is a trace already, as `verify` takes it".to_owned());
    }
    let first = |names: &[&'static str]| {
        names
            .iter()
            .find_map(|name| Some((*name, row.get(*name).filter(|value| !value.is_null())?)))
    };
    let (id, index) = problem_named(row, &IDS)?;
    let null = || {
        Some((
            *RESPONSES.iter().find(|name| row.contains_key(**name))?,
            &Value::Null,
        ))
    };
    let (name, answered) = first(&RESPONSES).or_else(null).ok_or(
        "it has no `response` (nor `completion`, `output`, `generation` or `text`); --map response=COLUMN, or data.columns in a recipe, names another column",
    )?;
    let finish = match first(&FINISH) {
        None => None,
        Some((_, Value::String(reason))) => Some(reason.clone()),
        Some((name, other)) => return Err(wrong(name, other, "text")),
    };
    let reply = |text: &Value| match text {
        Value::String(text) => Ok(Reply {
            finish: finish.clone(),
            ..Reply::of(text.trim())
        }),
        Value::Null => Ok(Reply::none(format!(
            "`{name}` is null: nothing was answered"
        ))),
        other => Err(wrong(name, other, "text, or a list of texts")),
    };
    let replies = match answered {
        Value::Array(texts) if texts.is_empty() => return Err(format!("`{name}` is empty")),
        Value::Array(texts) => texts.iter().map(reply).collect::<Result<_, _>>()?,
        text => vec![reply(text)?],
    };
    Ok(AnsweredRow {
        id,
        index,
        columns: row.clone(),
        prompt: prompt(row),
        model: text_if(row.get("model"), "model")?,
        replies,
        ..AnsweredRow::default()
    })
}

/// All that the row tells of what was asked.
fn prompt(row: &Map<String, Value>) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for message in row
        .get("messages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let is_asked = message.get("role").and_then(Value::as_str) != Some("assistant");
        let text = message.get("content").and_then(Value::as_str);
        parts.extend(text.filter(|_| is_asked));
    }
    parts.extend(ASKED.iter().filter_map(|name| row.get(*name)?.as_str()));
    (!parts.is_empty()).then(|| parts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_read_under_the_names_that_people_use() {
        let of = |row: Value| read(row.as_object().unwrap());
        let row = of(
            json!({"q": "?", "question": "1 + 1?", "completion": " 2\n", "model": "m", "note": 1,
            "finish_reason": "stop"}),
        )
        .unwrap();
        assert_eq!(row.prompt.as_deref(), Some("1 + 1?"));
        assert_eq!(row.replies[0].text, Ok("2".to_owned()));
        assert_eq!(row.replies[0].finish.as_deref(), Some("stop"));
        let left: Vec<String> = unknown_fields(&row.columns)
            .into_iter()
            .map(|(k, _)| k)
            .collect();
        assert_eq!(left, ["q", "note"]);
        let several = of(json!({"problem_id": 7, "responses": ["a", "b"]})).unwrap();
        assert_eq!(
            (several.id.as_deref(), several.replies.len()),
            (Some("7"), 2)
        );
        let chat = of(json!({"messages": [{"role": "system", "content": "s"},
            {"role": "user", "content": "1 + 1?"}], "output": "2"}))
        .unwrap();
        assert_eq!(chat.prompt.as_deref(), Some("s\n1 + 1?"));
        for (row, words) in [
            (json!({"question": "1"}), "no `response`"),
            (json!({"response": 3}), "`response` is a number"),
            (json!({"response": []}), "`response` is empty"),
            (json!({"text": "a", "origin": {}}), "a trace already"),
            (json!({"id": [], "text": "a"}), "`id` is a list"),
        ] {
            let reason = of(row).unwrap_err();
            assert!(reason.contains(words), "{words}: {reason}");
        }
    }
}
