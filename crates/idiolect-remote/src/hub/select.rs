//! Which files of a model's repository are wanted: weights that can be loaded safely, settings,
//! tokenizer and templates; no code and no pickles.

use super::HubError;
use super::name::Repo;

/// The wanted ones of a repository's files, in order of their names.
pub(super) fn wanted(files: &[String], repo: &Repo) -> Result<Vec<String>, HubError> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let one = has("model.safetensors");
    let sharded = has("model.safetensors.index.json");
    let mut names: Vec<String> = files
        .iter()
        .filter(|name| {
            if name.ends_with(".safetensors") && (one || sharded) {
                // The same weights often lie beside them in other forms.
                return if one && name.starts_with("model") {
                    *name == "model.safetensors"
                } else {
                    name.starts_with("model-") || name.starts_with("adapter_")
                };
            }
            is_wanted(name)
        })
        .filter(|name| !name.contains('/'))
        .cloned()
        .collect();
    names.sort_unstable();
    if names.iter().any(|name| name.ends_with(".safetensors")) {
        return Ok(names);
    }
    let others: Vec<&str> = files
        .iter()
        .map(String::as_str)
        .filter(|name| is_weights(name))
        .take(8)
        .collect();
    let has = if others.is_empty() {
        "it has no weights at all".to_owned()
    } else {
        format!("it has `{}`", others.join("`, `"))
    };
    Err(HubError::NoWeights(format!(
        "{repo} has no *.safetensors at its top, and no other weights are loaded; {has}"
    )))
}

fn is_wanted(name: &str) -> bool {
    [".safetensors", ".json", ".jinja", ".txt"]
        .iter()
        .any(|end| name.ends_with(end))
        || name == "tokenizer.model"
}

pub(super) fn is_weights(name: &str) -> bool {
    [
        ".bin",
        ".pt",
        ".pth",
        ".gguf",
        ".safetensors",
        ".h5",
        ".msgpack",
        ".onnx",
        ".ckpt",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> Result<Vec<String>, HubError> {
        let files: Vec<String> = files.iter().map(|name| (*name).to_owned()).collect();
        wanted(&files, &Repo::model("a/b").unwrap())
    }

    #[test]
    fn weights_come_once_and_code_never() {
        let common = [
            "README.md",
            "config.json",
            "merges.txt",
            "modeling.py",
            "onnx/model.json",
        ];
        let with = |weights: &[&'static str]| of(&[&common[..], weights].concat()).unwrap();
        assert_eq!(
            with(&[
                "model.safetensors",
                "model.fp16.safetensors",
                "pytorch_model.bin"
            ]),
            ["config.json", "merges.txt", "model.safetensors"]
        );
        assert_eq!(
            with(&[
                "model.safetensors.index.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "consolidated.safetensors",
                "chat_template.jinja",
                "tokenizer.model",
            ]),
            [
                "chat_template.jinja",
                "config.json",
                "merges.txt",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
                "tokenizer.model",
            ]
        );
        assert_eq!(
            with(&["adapter_model.safetensors", "adapter_config.json"]).len(),
            4
        );
    }

    #[test]
    fn without_safe_weights_the_error_says_what_there_is() {
        let error = of(&["config.json", "pytorch_model.bin", "q4.gguf"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`pytorch_model.bin`, `q4.gguf`"), "{text}");
        assert!(
            of(&["config.json"])
                .unwrap_err()
                .to_string()
                .contains("no weights at all")
        );
    }
}
