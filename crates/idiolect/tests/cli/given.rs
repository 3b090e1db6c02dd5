//! What rows and templates give is what is trained and scored, or it is refused.

use serde_json::{Value, json};

use crate::kit::{Place, Ran};

/// The small trained model, with a chat template where one is given.
fn place(template: Option<&str>) -> Place {
    let place = Place::new();
    place.copy_student("m");
    if let Some(template) = template {
        place.write("m/chat_template.jinja", template);
    }
    place
}

fn rows(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn train(place: &Place, more: &[&str]) -> Ran {
    let base = ["train", "--model", "m", "--data", "d.jsonl", "-o", "t"];
    place.run(&[&base[..], more].concat())
}

fn inspect(place: &Place, more: &[&str]) -> Value {
    let base = ["inspect", "--model", "m", "--data", "d.jsonl", "--json"];
    serde_json::from_str(&place.done(&[&base[..], more].concat())).unwrap()
}

/// The text of a row's tokens, and of those that are trained on.
fn texts(document: &Value) -> (String, String) {
    let tokens = document["tokens"].as_array().unwrap();
    // This tokenizer begins a text behind a special token with a space of its own.
    let of = |trained: bool| {
        let wanted = tokens.iter().filter(|t| !trained || t["loss_mask"] == true);
        let text: String = wanted.map(|t| t["text"].as_str().unwrap()).collect();
        text.trim_start().replace("s> ", "s>")
    };
    (of(false), of(true))
}

#[test]
fn rows_that_all_weigh_nothing_are_refused_before_training() {
    let place = place(None);
    let row = |n: u32| json!({"prompt": format!("Tom has {n}."), "completion": " He has it.", "weight": 0});
    place.write("d.jsonl", &rows(&[row(0), row(1), row(2)]));
    let ran = train(&place, &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("all 3 rows of `d.jsonl` have weight 0"),
        "{}",
        ran.err
    );
    assert!(!place.path("t").exists(), "nothing was begun");
    // The corrected rows go to the same place.
    let mut some = row(2);
    some["weight"] = json!(0.5);
    place.write("d.jsonl", &rows(&[row(0), some]));
    assert_eq!(train(&place, &["-q"]).code, 0);
    // Rows that weigh something and cannot be trained on leave nothing either.
    let long = json!({"prompt": "Once", "completion": " upon a time".repeat(400)});
    place.write("d.jsonl", &rows(&[row(0), long]));
    let ran = train(&place, &["--overwrite", "--max-rejects", "1"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("weight 0"), "{}", ran.err);
}

#[test]
fn a_dev_file_without_rows_is_an_error() {
    let place = place(None);
    let row = json!({"prompt": "Once upon", "completion": " a time."});
    place.write("d.jsonl", &rows(&[row]));
    for (text, words) in [
        ("", "`dev.jsonl` holds no row to take the dev loss of"),
        ("{\"completion\":\"x\"}\n", "line 1"),
    ] {
        place.write("dev.jsonl", text);
        let ran = train(&place, &["--dev", "dev.jsonl"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(words), "{}", ran.err);
        assert!(!place.path("t").exists(), "nothing was begun");
    }
}

#[test]
fn an_end_token_that_the_completion_brings_is_trained_on_once_and_reported_once() {
    let place = place(None);
    let row = |completion: &str| json!({"prompt": "Once upon", "completion": completion});
    place.write(
        "d.jsonl",
        &rows(&[row(" a time.</s>"), row(" a day.</s>\n"), row(" a dog.")]),
    );
    let document = inspect(&place, &[]);
    assert_eq!(texts(&document).1, "a time.</s>");
    assert_eq!(document["end_in_text"], true);
    assert_eq!(document["file"]["end_in_text"], 2);
    let ran = train(&place, &["--epochs", "3"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let said = "in 2 of 3 rows the completion's text already ends in an end token";
    assert_eq!(ran.err.matches(said).count(), 1, "{}", ran.err);
    let score = |data: &str| {
        let more = [
            "--model",
            "m",
            "--data",
            data,
            "-o",
            "s.jsonl",
            "--overwrite",
        ];
        let ran = place.run(&[&["score"], &more[..]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        (place.lines("s.jsonl")[0].clone(), ran.err)
    };
    let (twice, told) = score("d.jsonl");
    assert_eq!(told.matches(said).count(), 1, "{told}");
    place.write("plain.jsonl", &rows(&[row(" a time.")]));
    let (once, told) = score("plain.jsonl");
    assert!(!told.contains("end token"), "{told}");
    assert_eq!(once, twice, "the same scores, bytes and tokens");
}

const THINKS: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}:\n{{ m.content }}</s>\n{% endfor %}\
    {% if add_generation_prompt %}assistant:\n<think>\n{% endif %}";

#[test]
fn rows_begin_with_the_prompt_that_generation_begins_with() {
    let place = place(Some(THINKS));
    let row = |completion: &str| json!({"prompt": "2 + 2?", "completion": completion});
    place.write(
        "d.jsonl",
        &rows(&[row("two</think>4"), row("<think>\ntwo</think>4")]),
    );
    let document = inspect(&place, &[]);
    let (whole, trained) = texts(&document);
    assert_eq!(
        whole,
        "<s>user:\n2 + 2?</s>\nassistant:\n<think>\ntwo</think>4</s>"
    );
    assert_eq!(trained, "two</think>4</s>");
    assert_eq!(document["other_prompt"], true);
    // A completion that brings the thought's beginning has it in its prompt.
    assert_eq!(texts(&inspect(&place, &["--row", "2"])), (whole, trained));
    let shown = place.done(&["inspect", "--model", "m", "--data", "d.jsonl"]);
    assert!(
        shown.contains("begins with the prompt that asks"),
        "{shown}"
    );
    let ran = train(&place, &[]);
    assert!(
        ran.err.contains("in 1 of 2 rows the chat template"),
        "{}",
        ran.err
    );
    place.done(&[
        "score", "--model", "m", "--data", "d.jsonl", "-o", "s.jsonl",
    ]);
    let scores = place.lines("s.jsonl");
    assert_eq!(scores[0]["nll_nats"], scores[1]["nll_nats"]);
}

const FIELDS: &str = "{% if tools %}Tools: {{ tools | tojson }}</s>\n{% endif %}{% for d in documents or [] %}[{{ d.title }}]{% endfor %}\
    {% if mood %}{{ mood }}\n{% endif %}\
    {% for m in messages %}{{ m.role }}{{ m.name or '' }}:\n{% if m.thinking %}({{ m.thinking }}){% endif %}\
    {% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\
    {% for c in m.tool_calls or [] %}[{{ c.name }}]{% endfor %}</s>\n{% endfor %}\
    {% if add_generation_prompt %}assistant:\n{% endif %}";

#[test]
fn what_a_row_gives_its_template_is_rendered() {
    let place = place(Some(FIELDS));
    let user = json!({"role": "user", "name": " Ann", "content": "2+2?"});
    let answer = json!({"role": "assistant", "content": "4", "reasoning_content": "two plus two", "tool_calls": [{"name": "f"}]});
    let full = json!({"messages": [user, answer], "tools": [{"name": "calc", "b": 1, "a": 2}],
        "documents": [{"title": "Sums"}], "chat_template_kwargs": {"mood": "calm"}});
    let listed = json!({"prompt": [{"role": "user", "content": "2+2?"}],
        "completion": [{"role": "assistant", "content": "4", "thinking": "hm"}], "tools": "[{\"name\":\"calc\"}]"});
    place.write("d.jsonl", &rows(&[full, listed]));
    assert_eq!(
        texts(&inspect(&place, &[])),
        (
            "Tools: [{\"name\": \"calc\", \"b\": 1, \"a\": 2}]</s>\n[Sums]calm\nuser Ann:\n2+2?</s>\nassistant:\n\
             <think>two plus two</think>4[f]</s>"
                .to_owned(),
            "<think>two plus two</think>4[f]</s>".to_owned()
        )
    );
    assert_eq!(
        texts(&inspect(&place, &["--row", "2"])).0,
        "Tools: [{\"name\": \"calc\"}]</s>\nuser:\n2+2?</s>\nassistant:\n(hm)4</s>"
    );
}

#[test]
fn fields_that_cannot_be_given_to_a_template_are_refused_by_name() {
    let place = place(Some(FIELDS));
    let turns = |answer: Value| json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": answer}]);
    let with = |name: &str, value: Value| {
        let mut row = json!({"messages": turns(json!("a"))});
        row[name] = value;
        row
    };
    for (row, words) in [
        (
            with("tools", json!({"name": "f"})),
            "`tools` must be a list",
        ),
        (
            with("tools", json!("f(x)")),
            "`tools` is a text that is no JSON list",
        ),
        (with("documents", json!(3)), "`documents` must be a list"),
        (
            with("chat_template_kwargs", json!([])),
            "`chat_template_kwargs` must be an object",
        ),
        (
            with(
                "chat_template_kwargs",
                json!({"add_generation_prompt": true}),
            ),
            "must not hold `add_generation_prompt`",
        ),
        (
            json!({"messages": turns(json!(null))}),
            "`content` of a message of `messages` is null",
        ),
        (
            json!({"messages": turns(json!([{"type": "text", "text": "a"}]))}),
            "`content` of a message of `messages` is not a text",
        ),
    ] {
        place.write("d.jsonl", &rows(&[row]));
        let ran = place.run(&["inspect", "--model", "m", "--data", "d.jsonl"]);
        assert_eq!(ran.code, 1, "{}", ran.out);
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
}
