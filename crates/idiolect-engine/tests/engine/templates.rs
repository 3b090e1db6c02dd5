//! Chat templates are rendered to transformers' bytes, and rows of them have its tokens:
//! `fixtures/templates`.

use std::collections::BTreeMap;

use idiolect_core::model::{Context, Example, Message};
use idiolect_engine::encode::{Limits, encode_chat_context, encode_chat_example};
use idiolect_engine::template::ChatTemplate;
use idiolect_engine::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::fixture::path;

const LIMITS: Limits = Limits {
    positions: 4096,
    vocabulary: 1024,
};

fn rows(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path("templates").join(file)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn template(name: &Value) -> ChatTemplate {
    let source = std::fs::read_to_string(path("templates").join(name.as_str().unwrap())).unwrap();
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens: BTreeMap<String, String> = tokens
        .map(|(name, token)| (name.to_owned(), token.to_owned()))
        .into();
    ChatTemplate::new(&source, tokens).unwrap()
}

fn tokenizer() -> Tokenizer {
    let json = std::fs::read(path("templates/tokenizer.json")).unwrap();
    let settings = json!({"bos_token": "<s>", "eos_token": "<|end|>"});
    Tokenizer::from_parts(&json, &settings, &Value::Null, &[]).unwrap()
}

fn messages(row: &Value) -> Vec<Message> {
    serde_json::from_value(row["messages"].clone()).unwrap()
}

fn example(messages: &[Message]) -> Example {
    let (last, before) = messages.split_last().unwrap();
    Example {
        context: Context::Messages(before.to_vec()),
        completion: last.content.clone(),
        weight: 1.0,
        spans: Vec::new(),
    }
}

#[test]
fn conversations_are_rendered_to_transformers_bytes() {
    let cases = rows("cases.jsonl");
    assert!(cases.len() >= 140);
    for case in &cases {
        let got = template(&case["template"]).render(&messages(case), case["prompt"] == true);
        let about = format!("{} {}", case["template"], case["messages"]);
        match (got, case["text"].as_str()) {
            (Ok(got), Some(want)) => assert_eq!(got, want, "{about}"),
            (Err(got), None) => {
                let want = case["error"].as_str().unwrap();
                assert!(got.contains(want), "{about}: {got} lacks {want}");
            }
            (got, want) => panic!("{about}: {got:?} and not {want:?}"),
        }
    }
}

/// The last assistant turn of each row is the completion; the template marks it with its end.
#[test]
fn the_span_that_is_learnt_is_the_one_that_generation_blocks_mark() {
    let tokenizer = tokenizer();
    let rows = rows("tokens.jsonl");
    assert!(rows.len() >= 3);
    for row in rows {
        let template = template(&row["template"]);
        let encoded =
            encode_chat_example(&tokenizer, &template, LIMITS, &example(&messages(&row))).unwrap();
        let numbers = |name: &str| -> Vec<u64> {
            let values = row[name].as_array().unwrap().iter();
            values.map(|v| v.as_u64().unwrap()).collect()
        };
        let (ids, marks) = (numbers("ids"), numbers("assistant"));
        let end = marks.iter().rposition(|&mark| mark == 1).unwrap() + 1;
        let start = marks[..end].iter().rposition(|&mark| mark == 0).unwrap() + 1;
        let got: Vec<u64> = encoded.ids.iter().map(|&id| u64::from(id)).collect();
        assert_eq!(got, ids[..end], "up to the end of the turn");
        assert_eq!((encoded.learn_from, encoded.first_target), (start, start));
        let decoded = tokenizer.decode_after(&[], &encoded.ids[encoded.first_target..]);
        // Decoding leaves special tokens out.
        let said = messages(&row).last().unwrap().content.clone();
        let said = said.replace("<think>", "").replace("</think>", "");
        assert_eq!(decoded, said);
    }
}

fn plain(prompt: &str, completion: &str) -> Example {
    Example {
        context: Context::Prompt(prompt.to_owned()),
        completion: completion.to_owned(),
        weight: 1.0,
        spans: Vec::new(),
    }
}

#[test]
fn a_row_begins_as_the_model_is_asked_and_ends_with_the_turn() {
    let tokenizer = tokenizer();
    for name in ["llama3", "qwen25", "qwen3", "gemma2", "gemma3", "marked"] {
        let template = template(&json!(format!("{name}.jinja")));
        let row = plain("3 + 4?", "  It is\n7. ");
        let asked = encode_chat_context(&tokenizer, &template, LIMITS, &row.context).unwrap();
        let row = encode_chat_example(&tokenizer, &template, LIMITS, &row).unwrap();
        assert_eq!(
            row.ids[..row.learn_from],
            asked,
            "{name}: what is learnt follows it"
        );
        let begins = row
            .ids
            .iter()
            .filter(|&&id| id == tokenizer.id("<s>").unwrap());
        assert!(begins.count() <= 1, "{name}: no second begin token");
        let gemma = name.starts_with("gemma");
        let end = if gemma { "<end_of_turn>" } else { "<|end|>" };
        // Its line break behind the end of the turn is no part of the row.
        let wanted = if gemma {
            tokenizer.end()
        } else {
            tokenizer.id(end).unwrap()
        };
        assert_eq!(row.ids.last(), Some(&wanted), "{name}");
        assert_eq!(row.byte_starts.last(), Some(&11), "{name}");
        let trims = ["llama3", "gemma2", "gemma3"].contains(&name);
        let first = if trims { 2 } else { 0 };
        assert_eq!(
            row.byte_starts[0], first,
            "{name}: offsets of what was said"
        );
        assert!(!row.straddled);
    }
}

#[test]
fn what_a_template_puts_before_the_answer_is_learnt_and_not_scored() {
    let tokenizer = tokenizer();
    let template = template(&json!("qwen3.jinja"));
    let row = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", "7")).unwrap();
    let put = tokenizer
        .encode_rendered("<think>\n\n</think>\n\n")
        .unwrap()
        .ids;
    assert_eq!(row.ids[row.learn_from..row.first_target], put);
    assert_eq!(row.byte_starts, [0, 1]);
}

#[test]
fn a_conversation_that_cannot_be_a_row_is_refused_with_a_reason() {
    let tokenizer = tokenizer();
    let why = |name: &str, example: &Example, limits: Limits| {
        let template = template(&json!(name));
        encode_chat_example(&tokenizer, &template, limits, example)
            .unwrap_err()
            .reason
    };
    assert!(why("gemma2.jinja", &plain("q", " \n"), LIMITS).contains("completion is empty"));
    let small = Limits {
        positions: 8,
        ..LIMITS
    };
    assert!(why("gemma2.jinja", &plain("q", "a"), small).contains("model holds 8"));
    let turns = vec![Message {
        role: "system".to_owned(),
        content: "s".to_owned(),
    }];
    let system = Example {
        context: Context::Messages(turns),
        ..plain("", "a")
    };
    assert!(why("gemma2.jinja", &system, LIMITS).contains("no system turns here"));
    let rewritten = plain("q", "<think>\n\n\nx</think>y");
    assert!(why("qwen3.jinja", &rewritten, LIMITS).contains("changes it"));
}
