//! Chat templates are rendered to transformers' bytes, and rows of them have its tokens:
//! `fixtures/templates`.

use std::collections::BTreeMap;

use idiolect_engine::encode::{Limits, encode_chat_context, encode_chat_example};
use idiolect_engine::template::ChatTemplate;
use idiolect_engine::tokenizer::Tokenizer;
use idiolect_model::{ChatFields, Context, Example, Message};
use serde_json::{Value, json};

use crate::fixture::path;

const LIMITS: Limits = Limits {
    max_position_embeddings: 4096,
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

fn written(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, BTreeMap::new()).unwrap()
}

/// The tokens of a text without special tokens of its own, as a person reads them.
fn read(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    ids.iter().map(|&id| tokenizer.token_text(id)).collect()
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
    Example::new(Context::Messages(before.to_vec()), &last.content)
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
fn the_span_that_is_trained_on_is_the_one_that_generation_blocks_mark() {
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
        assert_eq!(
            (encoded.loss_start, encoded.completion_start),
            (start, start)
        );
        let decoded = tokenizer.decode_after(&[], &encoded.ids[encoded.completion_start..]);
        // Decoding leaves special tokens out.
        let said = messages(&row).last().unwrap().content.clone();
        let said = said.replace("<think>", "").replace("</think>", "");
        assert_eq!(decoded, said);
    }
}

fn plain(prompt: &str, completion: &str) -> Example {
    Example::new(Context::Prompt(prompt.to_owned()), completion)
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
            row.ids[..row.loss_start],
            asked,
            "{name}: what is trained on follows it"
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
        assert!(!row.traits.straddled);
    }
}

#[test]
fn what_a_template_puts_before_the_answer_is_trained_on_and_not_scored() {
    let tokenizer = tokenizer();
    let template = template(&json!("qwen3.jinja"));
    let row = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", "7")).unwrap();
    let put = tokenizer
        .encode_rendered("<think>\n\n</think>\n\n")
        .unwrap()
        .ids;
    assert_eq!(row.ids[row.loss_start..row.completion_start], put);
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
        max_position_embeddings: 8,
        ..LIMITS
    };
    assert!(why("gemma2.jinja", &plain("q", "a"), small).contains("model holds 8"));
    let turns = vec![Message::new("system", "s")];
    let system = Example {
        context: Context::Messages(turns),
        ..plain("", "a")
    };
    assert!(why("gemma2.jinja", &system, LIMITS).contains("no system turns here"));
    let rewritten = plain("q", "<think>\n\n\nx</think>y");
    assert!(why("qwen3.jinja", &rewritten, LIMITS).contains("changes the completion"));
}

/// Turns in `<|turn|>role … <|end|>`; `said` is how a turn's text is put, `asks` what follows the
/// role where an answer is asked for.
fn turns(said: &str, asks: &str) -> String {
    format!(
        "{{% for m in messages %}}<|turn|>{{{{ m.role }}}}\n{{{{ {said} }}}}<|end|>\n{{% endfor %}}\
         {{% if add_generation_prompt %}}<|turn|>assistant\n{asks}{{% endif %}}"
    )
}

#[test]
fn rows_follow_the_prompt_that_asks_whatever_a_finished_turn_is_rendered_after() {
    let tokenizer = tokenizer();
    let answer = "m.content.split('</think>')[-1]";
    let cases = [
        // The thought that the prompt opens is missing in finished turns.
        (turns("m.content", "<think>\\n"), "7", "7"),
        // … and there where the completion brings it: given by the prompt, not trained on.
        (
            turns("m.content", "<think>\\n"),
            "<think>\n3 + 4\n</think>\n7",
            "3 + 4\n</think>\n7",
        ),
        // Finished turns drop thoughts.
        (
            turns(answer, "<think>\\n"),
            "3 + 4\n</think>\n7",
            "3 + 4\n</think>\n7",
        ),
        (
            turns(answer, "<think>\\n"),
            "<think>\n3 + 4\n</think>\n7",
            "3 + 4\n</think>\n7",
        ),
        (
            turns(answer, "<think>\\n"),
            "<think>3 + 4</think>7",
            "3 + 4</think>7",
        ),
        // The role is written otherwise, and the completion begins as it.
        (
            turns("m.content", "").replace("assistant", "model"),
            "model 7",
            "model 7",
        ),
        (
            turns("m.content", "").replace("assistant", "model"),
            "7",
            "7",
        ),
        (turns("m.content | trim", "<think>"), "7 \n", "7"),
    ];
    for (source, completion, trained) in cases {
        let template = written(&source.replace("\\n", "\n"));
        let example = plain("3 + 4?", completion);
        let asked = encode_chat_context(&tokenizer, &template, LIMITS, &example.context).unwrap();
        let row = encode_chat_example(&tokenizer, &template, LIMITS, &example).unwrap();
        assert_eq!(row.ids[..row.loss_start], asked, "{source}");
        assert_eq!(row.loss_start, row.completion_start, "{source}");
        let said = read(&tokenizer, &row.ids[row.completion_start..]);
        assert_eq!(said, format!("{trained}<|end|>"), "{source}");
        // Offsets are those of the completion as it was given.
        let first = completion.find(trained).unwrap() as u32;
        assert_eq!(row.byte_starts[0], first, "{source}");
        assert_eq!(row.byte_starts.len(), row.ids.len() - row.completion_start);
        assert_eq!(row.byte_starts.last(), Some(&(completion.len() as u32)));
        let brings_it = source.contains("{{ m.content }}") && completion.starts_with("<think>");
        assert_eq!(row.traits.other_prompt, !brings_it, "{source}");
    }
}

#[test]
fn fields_of_an_answer_that_have_no_place_behind_the_prompt_that_asks_are_refused_by_name() {
    let tokenizer = tokenizer();
    let source = turns("m.content", "<think>\n");
    let told = source.replace("{{ m.content }}", "({{ m.thinking or '' }}){{ m.content }}");
    let with = |fields: Value| Example {
        chat: ChatFields {
            answer: fields.as_object().cloned().unwrap(),
            ..ChatFields::default()
        },
        ..plain("q", "7")
    };
    let encoded = |source: &str, example: &Example| {
        encode_chat_example(&tokenizer, &written(source), LIMITS, example)
    };
    let reason = encoded(&told, &with(json!({"thinking": "hm"})))
        .unwrap_err()
        .reason;
    assert!(reason.contains("(thinking)"), "{reason}");
    // A field that is not rendered, and one that is rendered behind the completion, are no fault.
    assert!(encoded(&source, &with(json!({"thinking": "hm"}))).is_ok());
    let called = source.replace("{{ m.content }}", "{{ m.content }}[{{ m.call }}]");
    let row = encoded(&called, &with(json!({"call": "f"}))).unwrap();
    let said = read(&tokenizer, &row.ids[row.loss_start..]);
    assert_eq!(said, "7[f]<|end|>");
}

#[test]
fn a_completion_that_is_also_part_of_the_templates_own_text_is_found() {
    let tokenizer = tokenizer();
    let source = turns("m.content", "").replace("assistant", "model");
    for (template, completion) in [
        (written(&source), "end"),
        (written(&turns("m.content", "")), "n"),
    ] {
        let row =
            encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", completion)).unwrap();
        let said = read(&tokenizer, &row.ids[row.completion_start..]);
        assert_eq!(said, format!("{completion}<|end|>"));
    }
    // In a thought that the template puts before the answer.
    let qwen3 = template(&json!("qwen3.jinja"));
    let row = encode_chat_example(&tokenizer, &qwen3, LIMITS, &plain("q", "\n\n7")).unwrap();
    assert_eq!(
        read(&tokenizer, &row.ids[row.completion_start..]),
        "7<|end|>"
    );
}

#[test]
fn a_completion_that_ends_in_the_end_token_has_it_once() {
    let tokenizer = tokenizer();
    let template = written(&turns("m.content", ""));
    let once = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", "7")).unwrap();
    assert!(!once.traits.end_in_text);
    for text in ["7<|end|>", "7<|end|>\n", "7<|end|><|end|>"] {
        let row = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", text)).unwrap();
        assert_eq!((&row.ids, &row.byte_starts), (&once.ids, &once.byte_starts));
        assert!(row.traits.end_in_text);
    }
    // In the middle it is what was written.
    let row = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", "7<|end|>8")).unwrap();
    assert!(!row.traits.end_in_text && row.ids.len() > once.ids.len());
    let only = encode_chat_example(&tokenizer, &template, LIMITS, &plain("q", "<|end|>"));
    assert!(only.unwrap_err().reason.contains("completion is empty"));
}

#[test]
fn fields_of_turns_and_variables_of_the_conversation_reach_the_template() {
    let tokenizer = tokenizer();
    let template = written(
        "{% if tools %}Tools: {{ tools | tojson }}\n{% endif %}{% if documents %}{{ documents[0].title }}\n{% endif %}\
         {% if style is defined %}{{ style }}\n{% endif %}\
         {% for m in messages %}<|turn|>{{ m.role }}{{ m.name or '' }}\n\
         {% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\
         {% for call in m.tool_calls or [] %}[{{ call.function.name }}]{% endfor %}<|end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|turn|>assistant\n{% endif %}",
    );
    let turn: Message =
        serde_json::from_value(json!({"role": "user", "name": " Ann", "content": "2+2?"})).unwrap();
    let object = |value: Value| value.as_object().cloned().unwrap();
    let example = Example {
        chat: ChatFields {
            variables: object(
                json!({"tools": [{"name": "calc"}], "documents": [{"title": "D"}], "style": "short"}),
            ),
            answer: object(
                json!({"reasoning_content": "two", "tool_calls": [{"function": {"name": "f"}}]}),
            ),
        },
        ..Example::new(Context::Messages(vec![turn]), "4")
    };
    let row = encode_chat_example(&tokenizer, &template, LIMITS, &example).unwrap();
    assert_eq!(
        read(&tokenizer, &row.ids[..row.loss_start]),
        "Tools: [{\"name\": \"calc\"}]\nD\nshort\n<|turn|>user Ann\n2+2?<|end|>\n<|turn|>assistant\n"
    );
    // The thought and the call are written by the model, so they are trained on.
    assert_eq!(
        read(&tokenizer, &row.ids[row.loss_start..]),
        "<think>two</think>4[f]<|end|>"
    );
}
