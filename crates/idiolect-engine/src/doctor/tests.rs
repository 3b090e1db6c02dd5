use super::*;
use crate::directory::tests::stories_dir;
use crate::template::TODAY;
use serde_json::json;
use std::fs;

const TURNS: &str = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

/// What is found in a copy of the small trained model after a change.
fn findings(change: impl Fn(&Path)) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(stories_dir()).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    change(dir.path());
    examine(dir.path(), &Opening::default())
}

fn field(file: &'static str, name: &'static str, value: Value) -> impl Fn(&Path) {
    move |dir| {
        let path = dir.join(file);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json[name] = value.clone();
        fs::write(path, json.to_string()).unwrap();
    }
}

fn chat(source: &'static str) -> impl Fn(&Path) {
    move |dir| fs::write(dir.join("chat_template.jinja"), source).unwrap()
}

#[track_caller]
fn finds(change: impl Fn(&Path), severity: Severity, about: &str, text: &str) {
    let found = findings(change);
    let fits = |f: &Finding| f.severity == severity && f.about == about && f.what.contains(text);
    assert!(found.iter().any(fits), "{found:#?}");
}

#[test]
fn a_sound_model_has_no_errors_or_warnings() {
    for found in [findings(|_| ()), findings(chat(TURNS))] {
        assert!(
            found.iter().all(|f| f.severity == Severity::Note),
            "{found:#?}"
        );
        assert!(!found.is_empty());
    }
}

#[test]
fn broken_files_and_weights_are_errors() {
    use Severity::Error;
    finds(
        |d| fs::remove_file(d.join("tokenizer.json")).unwrap(),
        Error,
        "files",
        "tokenizer.json",
    );
    finds(
        |d| fs::remove_file(d.join("model.safetensors")).unwrap(),
        Error,
        "weights",
        "model.safetensors",
    );
    finds(
        field("config.json", "tie_word_embeddings", json!(false)),
        Error,
        "weights",
        "`lm_head.weight` is missing",
    );
    finds(
        field("tokenizer_config.json", "eos_token", json!("<end>")),
        Error,
        "end token",
        "`<end>`",
    );
    finds(chat("{% if %}"), Error, "template", "line 1");
    finds(
        chat("{{ raise_exception('no') }}"),
        Error,
        "template",
        "cannot be rendered",
    );
    finds(
        chat(
            "{{ bos_token }}{{ bos_token }}{% for m in messages %}{{ m.content }}</s>{% endfor %}",
        ),
        Error,
        "begin token",
        "twice",
    );
}

#[test]
fn tokens_and_templates_that_disagree_are_warnings() {
    use Severity::{Note, Warning};
    finds(
        field("config.json", "eos_token_id", json!(1)),
        Warning,
        "end token",
        "config.json ends texts with",
    );
    finds(
        field("tokenizer_config.json", "eos_token", json!("<s>")),
        Warning,
        "end token",
        "does not stop",
    );
    finds(
        field("config.json", "pad_token_id", json!(9000)),
        Warning,
        "padding",
        "9000",
    );
    finds(
        field("config.json", "pad_token_id", json!(2)),
        Note,
        "padding",
        "never teach the model to stop",
    );
    finds(
        field("generation_config.json", "temperature", json!(0.6)),
        Note,
        "generation",
        "temperature 0.6",
    );
    finds(
        chat("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"),
        Warning,
        "end of turn",
        "no special token",
    );
    finds(
        chat("{% for m in messages %}{{ m.content }}<unk>{% endfor %}"),
        Warning,
        "end of turn",
        "`<unk>` (0)",
    );
    finds(
        chat("{% for m in messages %}{{ m.content }}</s>{% endfor %}"),
        Warning,
        "begin token",
        "the template does not",
    );
    finds(
        chat("<|im_start|>{% for m in messages %}{{ m.content }}</s>{% endfor %}"),
        Warning,
        "template",
        "`<|im_start|>`",
    );
    finds(
        chat(
            "{% for m in messages %}{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
        ),
        Warning,
        "template",
        "does not begin as",
    );
    finds(
        chat("{{ strftime_now('%d') }}{% for m in messages %}{{ m.content }}</s>{% endfor %}"),
        Note,
        "template",
        TODAY,
    );
}
