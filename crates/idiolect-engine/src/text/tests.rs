use std::fs;

use idiolect_model::Message;

use super::*;
use crate::directory::tests::stories_dir;

const OWN: &str = "{% for m in messages %}[{{ m.content }}]</s>{% endfor %}";

/// A base without a chat template and an adapter of it, and where they lie.
fn pair(change: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (base, adapter) = (dir.path().join("base"), dir.path().join("adapter"));
    fs::create_dir_all(&base).unwrap();
    fs::create_dir_all(&adapter).unwrap();
    for entry in fs::read_dir(stories_dir()).unwrap() {
        let file = entry.unwrap().path();
        fs::copy(&file, base.join(file.file_name().unwrap())).unwrap();
    }
    let config = r#"{"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "../base"}"#;
    fs::write(adapter.join("adapter_config.json"), config).unwrap();
    change(&adapter);
    dir
}

fn rendered(model: &TextModel) -> Option<String> {
    let turns: Vec<Message> =
        serde_json::from_str(r#"[{"role": "user", "content": "a"}]"#).unwrap();
    model.chat().map(|chat| chat.render(&turns, false).unwrap())
}

#[test]
fn an_adapter_without_a_tokenizer_has_its_bases() {
    let dir = pair(|_| ());
    let adapted = TextModel::load(&dir.path().join("adapter"), None).unwrap();
    let base = TextModel::load(&dir.path().join("base"), None).unwrap();
    assert_eq!(adapted.hash(), base.hash());
    assert_eq!(adapted.template(), Template::Raw);
}

#[test]
fn an_adapters_own_tokenizer_and_template_go_before_its_bases() {
    let copy = |adapter: &Path, name: &str| {
        fs::copy(stories_dir().join(name), adapter.join(name)).unwrap();
    };
    // All of it: the tokenizer has one token more, and the template lies in its settings.
    let dir = pair(|adapter| {
        let text = fs::read_to_string(stories_dir().join("tokenizer.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let token = serde_json::json!({"id": 512, "content": "<turn>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
        json["added_tokens"].as_array_mut().unwrap().push(token);
        fs::write(adapter.join("tokenizer.json"), json.to_string()).unwrap();
        let settings = serde_json::json!({"eos_token": "</s>", "chat_template": OWN});
        fs::write(adapter.join("tokenizer_config.json"), settings.to_string()).unwrap();
    });
    let model = TextModel::load(&dir.path().join("adapter"), None).unwrap();
    assert_eq!(rendered(&model).unwrap(), "[a]</s>");
    assert_eq!(model.tokenizer().id("<turn>"), Some(512));
    // A template alone: the tokenizer stays the base's.
    let dir = pair(|adapter| fs::write(adapter.join("chat_template.jinja"), OWN).unwrap());
    let model = TextModel::load(&dir.path().join("adapter"), None).unwrap();
    assert_eq!(rendered(&model).unwrap(), "[a]</s>");
    assert_eq!(model.tokenizer().id("<turn>"), None);
    // A tokenizer without a template has none, even if the base has one.
    let dir = pair(|adapter| copy(adapter, "tokenizer.json"));
    fs::write(dir.path().join("base/chat_template.jinja"), OWN).unwrap();
    let model = TextModel::load(&dir.path().join("adapter"), None).unwrap();
    assert_eq!(rendered(&model), None);
}

#[test]
fn a_field_that_is_set_aside_is_named_by_the_model() {
    let dir = pair(|_| ());
    let path = dir.path().join("base/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"my_note\": 1,", 1)).unwrap();
    let adapter = dir.path().join("adapter");
    let error = TextModel::load(&adapter, None).err().unwrap().to_string();
    assert!(error.contains("--ignore-config-field my_note"), "{error}");
    let ignored = ["my_note".to_owned(), "other".to_owned()];
    let opening = Opening {
        ignored_fields: &ignored,
        ..Opening::default()
    };
    let model = TextModel::open(&adapter, &opening).unwrap();
    assert_eq!(model.description.set_aside(), ["my_note"]);
}
