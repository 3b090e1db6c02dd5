//! Export: rows to train on in the shape of another trainer.

use std::path::{Path, PathBuf};

use idiolect_core::store::{BadRow, Meta, Opened, Output, StoreError, file_name, write_atomic};
use idiolect_model::{Context, Example, Message, Span};
use serde_json::{Map, Value, json};

use super::inputs::{DataRow, Input};
use super::{Control, Outcome, StageError};

/// Whose shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `prompt` and `completion`, as the SFT trainer of TRL takes them.
    Trl,
    /// `messages`, as TRL and most others take conversations.
    TrlMessages,
    /// `messages` as OpenAI's fine-tuning takes them, with `weight` 0 where a row has it.
    Openai,
    /// `instruction` and `output`, or `messages`, with the entry of `dataset_info.json` beside it.
    LlamaFactory,
    /// `messages` with the parts of the answer that are trained on.
    Axolotl,
}

impl Shape {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trl => "trl",
            Self::TrlMessages => "trl-messages",
            Self::Openai => "openai",
            Self::LlamaFactory => "llama-factory",
            Self::Axolotl => "axolotl",
        }
    }
}

/// What to export, and into what.
#[derive(Clone, Debug)]
pub struct ExportSettings {
    /// Rows of prompt and completion, or of messages.
    pub input: PathBuf,
    /// The shape to write.
    pub shape: Shape,
    /// The file of rows to write.
    pub output: PathBuf,
}

/// Writes the rows in their order. A row that holds what the shape cannot (a weight, a loss mask,
/// tools) is refused: training on it without would be another training.
pub fn export(settings: &ExportSettings, control: Control<'_>) -> Result<Outcome, StageError> {
    let input = Input::open(&settings.input)?;
    let mut meta = Meta::of("convert");
    meta.input("data", input.hash());
    meta.setting("to", settings.shape.name());
    let mut output = match Output::open(&settings.output, &meta, control.overwrite)? {
        Opened::Complete(meta) => return Outcome::of(&settings.output, &meta, true, control),
        Opened::Unfinished(output) => output,
    };
    // It is quick, so an unfinished output starts over.
    output.restart()?;
    let (mut seen, mut conversations) = (0, 0);
    for row in input.rows::<Value>()? {
        seen += 1;
        let made = match row? {
            Err(bad) => Err(bad),
            Ok(row) => DataRow::parse(&row.value)
                .and_then(|data| {
                    conversations +=
                        u64::from(matches!(data.example.context, Context::Messages(_)));
                    shaped(&data.example, settings.shape)
                })
                .map_err(|reason| BadRow::new(&row.file, row.line, reason, &row.value.to_string())),
        };
        match made {
            Ok(row) => output.append(&row)?,
            Err(bad) => output.append_refused(&bad)?,
        }
        if control.stop.requested() {
            return Err(StageError::Interrupted);
        }
    }
    let rejected = output.rejected();
    if control.too_many(rejected, seen) {
        output.abandon()?;
        return Err(control.refusal(&settings.output, rejected, seen)?);
    }
    let mixed = conversations > 0 && conversations < seen;
    if mixed && matches!(settings.shape, Shape::Trl | Shape::LlamaFactory) {
        output.abandon()?;
        return Err(StageError::failed(
            format!(
                "`{}` mixes rows of `prompt` with rows of `messages`, which have no shape in common \
                 for `{}`",
                settings.input.display(),
                settings.shape.name()
            ),
            "--to trl-messages takes both",
        ));
    }
    // First: what is complete is not looked at again.
    if settings.shape == Shape::LlamaFactory {
        list_data_set(&settings.output, conversations > 0, control)?;
    }
    let meta = output.finish_appended(seen)?;
    Outcome::of(&settings.output, &meta, false, control)
}

/// One row in a shape.
///
/// # Errors
/// What of the row the shape cannot hold.
fn shaped(example: &Example, shape: Shape) -> Result<Value, String> {
    let holds_spans = shape == Shape::Axolotl;
    if !holds_spans && example.spans.iter().any(|span| !span.train) {
        return Err(format!(
            "its `spans` leave parts of the completion out of the training, which `{}` cannot state; \
             --to axolotl can",
            shape.name()
        ));
    }
    let weight = example.weight;
    let states_weight =
        weight.to_bits() == 1.0_f32.to_bits() || (shape == Shape::Openai && weight == 0.0);
    if !states_weight {
        return Err(format!(
            "its weight is {weight}, which `{}` cannot state",
            shape.name()
        ));
    }
    let mut row = Map::new();
    let is_prompt = matches!(example.context, Context::Prompt(_));
    match (shape, &example.context) {
        (Shape::Trl, Context::Prompt(prompt)) => {
            row.insert("prompt".to_owned(), json!(prompt));
            row.insert("completion".to_owned(), json!(example.completion));
        }
        (Shape::Trl, Context::Messages(turns)) => {
            row.insert("prompt".to_owned(), json!(turns));
            row.insert("completion".to_owned(), json!([answer(example)]));
        }
        (Shape::LlamaFactory, Context::Prompt(prompt)) => {
            row.insert("instruction".to_owned(), json!(prompt));
            row.insert("input".to_owned(), json!(""));
            row.insert("output".to_owned(), json!(example.completion));
        }
        (_, context) => {
            let mut turns = match context {
                Context::Prompt(prompt) => vec![json!(Message::new("user", prompt))],
                Context::Messages(turns) => turns.iter().map(|turn| json!(turn)).collect(),
            };
            let mut last = json!(answer(example));
            if shape == Shape::Openai && weight == 0.0 {
                last["weight"] = json!(0);
            }
            if holds_spans && !example.spans.is_empty() {
                last["train_detail"] = train_detail(&example.completion, &example.spans)?;
            }
            turns.push(last);
            row.insert("messages".to_owned(), Value::Array(turns));
        }
    }
    let variables = &example.chat.variables;
    if is_prompt && (!variables.is_empty() || !example.chat.answer.is_empty()) {
        return Err("a row of `prompt` and `completion` has fields of a chat template".to_owned());
    }
    for (name, value) in variables {
        if name != "tools" {
            return Err(format!(
                "its `{name}`, which the chat template is given, has no place in `{}`",
                shape.name()
            ));
        }
        row.insert(name.clone(), value.clone());
    }
    Ok(Value::Object(row))
}

/// The assistant's turn.
fn answer(example: &Example) -> Message {
    let mut turn = Message::new("assistant", &example.completion);
    turn.fields = example.chat.answer.clone();
    turn
}

/// The whole text in parts, each trained on or not, in characters with both ends inside: what
/// axolotl reads. What no span holds is trained on here, and nothing there.
fn train_detail(text: &str, spans: &[Span]) -> Result<Value, String> {
    let mut sorted = spans.to_vec();
    sorted.sort_by_key(|span| span.start);
    let mut parts: Vec<(usize, usize, bool)> = Vec::new();
    let mut at = 0;
    for span in sorted {
        let fits = span.start >= at
            && span.end >= span.start
            && text.is_char_boundary(span.start)
            && text.is_char_boundary(span.end);
        if !fits {
            return Err(format!(
                "its span from {} to {} overlaps another, or does not lie between characters of the \
                 completion",
                span.start, span.end
            ));
        }
        parts.push((at, span.start, true));
        parts.push((span.start, span.end, span.train));
        at = span.end;
    }
    parts.push((at, text.len(), true));
    let mut characters = 0;
    let detail = parts.into_iter().filter_map(|(start, end, train)| {
        let n = text[start..end].chars().count();
        let begin = characters;
        characters += n;
        (n > 0).then(|| json!({"begin_offset": begin, "end_offset": begin + n - 1, "train": train}))
    });
    Ok(Value::Array(detail.collect()))
}

/// Writes `dataset_info.json` beside a file of LLaMA-Factory. One that is there, and lists other data
/// sets, stays as it is, and the entry to add is shown.
fn list_data_set(
    output: &Path,
    conversations: bool,
    control: Control<'_>,
) -> Result<(), StageError> {
    let file = file_name(output);
    let name = file.split('.').next().unwrap_or(&file).to_owned();
    let entry = if conversations {
        json!({
            "file_name": file,
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user",
                "assistant_tag": "assistant", "system_tag": "system"},
        })
    } else {
        json!({
            "file_name": file,
            "formatting": "alpaca",
            "columns": {"prompt": "instruction", "query": "input", "response": "output"},
        })
    };
    let path = output.with_file_name("dataset_info.json");
    let info = json!({ &name: entry });
    let text = format!("{info:#}");
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(write_atomic(&path, format!("{text}\n").as_bytes())?)
        }
        Err(error) => Err(StoreError::io("read", &path)(error).into()),
        Ok(held) => {
            let held: Value = serde_json::from_slice(&held).unwrap_or_default();
            if held.get(&name) != info.get(&name) {
                control.progress.note(
                    "convert",
                    &format!(
                        "dataset_info.json is there already and is not changed; this entry belongs in \
                         it:\n{text}"
                    ),
                );
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Value, shape: Shape) -> Result<Value, String> {
        shaped(&DataRow::parse(&value).unwrap().example, shape)
    }

    #[test]
    fn a_prompt_has_a_row_in_every_shape() {
        let plain = json!({"prompt": "2 + 2?", "completion": "4", "trace_id": "t"});
        let messages = json!({"messages": [
            {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]});
        let of = |shape| row(plain.clone(), shape).unwrap();
        assert_eq!(
            of(Shape::Trl),
            json!({"prompt": "2 + 2?", "completion": "4"})
        );
        assert_eq!(of(Shape::TrlMessages), messages);
        assert_eq!(of(Shape::Openai), messages);
        assert_eq!(of(Shape::Axolotl), messages);
        assert_eq!(
            of(Shape::LlamaFactory),
            json!({"instruction": "2 + 2?", "input": "", "output": "4"})
        );
        let conversation = row(messages.clone(), Shape::Trl).unwrap();
        assert_eq!(
            conversation,
            json!({"prompt": [{"role": "user", "content": "2 + 2?"}],
                "completion": [{"role": "assistant", "content": "4"}]})
        );
        assert_eq!(
            row(messages.clone(), Shape::LlamaFactory).unwrap(),
            messages
        );
    }

    #[test]
    fn spans_are_characters_with_both_ends_inside() {
        // `é` has two bytes.
        let spanned = json!({"prompt": "p", "completion": "é = 4, so 5",
            "spans": [{"start": 3, "end": 7, "train": false}]});
        let made = row(spanned.clone(), Shape::Axolotl).unwrap();
        assert_eq!(
            made["messages"][1]["train_detail"],
            json!([{"begin_offset": 0, "end_offset": 1, "train": true},
                {"begin_offset": 2, "end_offset": 5, "train": false},
                {"begin_offset": 6, "end_offset": 10, "train": true}])
        );
        for shape in [
            Shape::Trl,
            Shape::TrlMessages,
            Shape::Openai,
            Shape::LlamaFactory,
        ] {
            let reason = row(spanned.clone(), shape).unwrap_err();
            assert!(reason.contains("--to axolotl"), "{reason}");
        }
        let torn = json!({"prompt": "p", "completion": "é",
            "spans": [{"start": 1, "end": 2, "train": false}]});
        assert!(
            row(torn, Shape::Axolotl)
                .unwrap_err()
                .contains("characters")
        );
    }

    #[test]
    fn what_a_shape_cannot_hold_is_refused() {
        let half = json!({"prompt": "p", "completion": "c", "weight": 0.5});
        for shape in [Shape::Trl, Shape::Openai, Shape::Axolotl] {
            let reason = row(half.clone(), shape).unwrap_err();
            assert!(reason.contains("weight is 0.5"), "{reason}");
        }
        let none = json!({"prompt": "p", "completion": "c", "weight": 0});
        assert_eq!(
            row(none.clone(), Shape::Openai).unwrap()["messages"][1]["weight"],
            0
        );
        assert!(row(none, Shape::Trl).is_err());
        let turns =
            json!([{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]);
        let tools = json!({"messages": turns, "tools": [{"name": "f"}]});
        assert_eq!(row(tools.clone(), Shape::TrlMessages).unwrap(), tools);
        let documents = json!({"messages": turns, "documents": []});
        let reason = row(documents, Shape::TrlMessages).unwrap_err();
        assert!(reason.contains("`documents`"), "{reason}");
    }
}
