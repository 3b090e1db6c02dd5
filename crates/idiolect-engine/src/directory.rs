//! A model directory in Hugging Face layout, read whole and written whole.
//!
//! What a trained model keeps of the one it came from (config, tokenizer files) is copied byte for
//! byte; nothing that is written holds a path or a time.

use std::fs;
use std::path::Path;

use idiolect_model::{ModelError, Template, content_hash};
use serde_json::{Value, json};

use crate::config::Config;
use crate::encode::Limits;
use crate::files;
use crate::frozen::Weights;
use crate::model_config::ModelConfig;
use crate::parameters::Parameters;
use crate::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::weights::{Dtype, WeightFiles, write_weights};

/// Everything of a model directory but its weights.
#[derive(Clone)]
pub(crate) struct Description {
    /// The parsed `config.json`.
    pub(crate) config: Config,
    /// The tokenizer with its end tokens.
    pub(crate) tokenizer: Tokenizer,
    /// Whether the directory brings a chat template.
    pub(crate) has_chat_template: bool,
    /// Files that a trained model keeps, by name.
    kept: Vec<(&'static str, Vec<u8>)>,
    /// `generation_config.json`, if there is one.
    generation: Option<Vec<u8>>,
    /// Fields of the config that the caller sets aside.
    ignored: Vec<String>,
}

/// Where the parts of a description lie.
pub(crate) struct Parts<'a> {
    /// The `config.json`.
    pub(crate) config: &'a Path,
    /// The folder of `tokenizer.json` and the files that belong to it.
    pub(crate) tokenizer: &'a Path,
    /// The folder whose chat template is used.
    pub(crate) template: &'a Path,
    /// The folder of `generation_config.json`.
    pub(crate) generation: &'a Path,
    /// Fields of the config to set aside where they are not known.
    pub(crate) ignored: &'a [String],
}

/// Files that are copied unchanged from model to model, if they are there.
pub(crate) const KEPT: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

impl Description {
    /// Reads a model directory without its weights, with `ignored` fields of its config set aside;
    /// of an adapter, `dir` is its base's, and what the adapter brings of a tokenizer goes before.
    ///
    /// # Errors
    /// When a file is missing or cannot be used; names it.
    pub(crate) fn read(
        dir: &Path,
        adapter: Option<&Path>,
        ignored: &[String],
    ) -> Result<Self, ModelError> {
        if !dir.is_dir() {
            return Err(ModelError::Invalid(format!(
                "`{}` is not a directory; a model is a directory with config.json, \
                 model.safetensors and tokenizer.json",
                dir.display()
            )));
        }
        Self::read_parts(&Parts {
            config: &dir.join("config.json"),
            tokenizer: adapter.filter(|dir| has_tokenizer(dir)).unwrap_or(dir),
            template: adapter.filter(|dir| has_template(dir)).unwrap_or(dir),
            generation: dir,
            ignored,
        })
    }

    /// Reads a description whose parts lie in different places.
    ///
    /// # Errors
    /// When a file is missing or cannot be used; names it.
    pub(crate) fn read_parts(parts: &Parts<'_>) -> Result<Self, ModelError> {
        let config_path = parts.config;
        let config_bytes = files::read(config_path)?;
        let value = files::parse_json(config_path, &config_bytes)?;
        let invalid =
            |reason: String| ModelError::Invalid(format!("`{}`: {reason}", config_path.display()));
        let config = Config::read_ignoring(&value, parts.ignored)
            .map_err(|error| invalid(error.to_string()))?;
        let generation = files::read_optional(&parts.generation.join("generation_config.json"))?;
        let tokenizer = Tokenizer::load(parts.tokenizer, parts.generation, &value)?;
        let vocabulary = config.model.vocab;
        if tokenizer.base_size() > vocabulary {
            return Err(invalid(format!(
                "`vocab_size` is {vocabulary} and tokenizer.json has {} tokens; they are not of \
                 one model",
                tokenizer.base_size()
            )));
        }
        if let Some(id) = tokenizer
            .stops()
            .iter()
            .find(|&&id| id as usize >= vocabulary)
        {
            return Err(invalid(format!(
                "`eos_token_id` {id} is outside `vocab_size` {vocabulary}"
            )));
        }
        let mut kept = vec![("config.json", config_bytes)];
        for name in KEPT.into_iter().filter(|name| *name != "config.json") {
            let dir = match name {
                "chat_template.jinja" => parts.template,
                _ => parts.tokenizer,
            };
            kept.extend(files::read_optional(&dir.join(name))?.map(|bytes| (name, bytes)));
        }
        let has_chat_template = kept.iter().any(|(name, bytes)| match *name {
            "chat_template.jinja" => true,
            "tokenizer_config.json" => serde_json::from_slice::<Value>(bytes)
                .is_ok_and(|settings| !settings["chat_template"].is_null()),
            _ => false,
        });
        Ok(Self {
            config,
            tokenizer,
            has_chat_template,
            kept,
            generation,
            ignored: parts.ignored.to_vec(),
        })
    }

    /// Unties the head from the embedding where the weights in `dir` hold a head that differs: that
    /// is the model that was trained, and what transformers computes. The config that is written
    /// with it states it.
    ///
    /// # Errors
    /// When the two tensors cannot be read.
    pub(crate) fn follow_head(&mut self, dir: &Path) -> Result<(), ModelError> {
        if !self.config.model.tied
            || !WeightFiles::open(dir)?.holds_other_head(&self.config.model)?
        {
            return Ok(());
        }
        self.config.model.tied = false;
        let path = Path::new("config.json");
        for (_, bytes) in self.kept.iter_mut().filter(|(n, _)| *n == "config.json") {
            let mut value = files::parse_json(path, bytes)?;
            value["tie_word_embeddings"] = json!(false);
            *bytes = serde_json::to_vec_pretty(&value)
                .map_err(|error| ModelError::Invalid(format!("config.json: {error}")))?;
            bytes.push(b'\n');
        }
        Ok(())
    }

    /// The same with weights written in a given type, which the config then states. What is
    /// computed is what a reader of that config computes: Gemma's embedding scale is held in the
    /// weights' type.
    ///
    /// # Errors
    /// When the config cannot be read again, which it was before.
    pub(crate) fn with_dtype(&self, dtype: Dtype) -> Result<Self, ModelError> {
        let mut changed = self.clone();
        changed.config.dtype = dtype;
        let path = Path::new("config.json");
        for (_, bytes) in changed.kept.iter_mut().filter(|(n, _)| *n == "config.json") {
            let mut value = files::parse_json(path, bytes)?;
            let fields = value
                .as_object_mut()
                .ok_or_else(|| ModelError::Invalid("config.json is no object".to_owned()))?;
            // Whichever spelling the file has; the newer where it has none.
            let stated = ["torch_dtype", "dtype"].map(|name| (name, fields.contains_key(name)));
            let named = match stated {
                [(_, false), (_, false)] => vec!["dtype"],
                spellings => spellings
                    .into_iter()
                    .filter_map(|(name, there)| there.then_some(name))
                    .collect(),
            };
            let unstated_default = fields.get(named[0]).is_none() && dtype == Dtype::F32;
            let same = |name: &&str| fields.get(*name) == Some(&json!(dtype.config_name()));
            if unstated_default || named.iter().all(same) {
                continue;
            }
            for name in named {
                fields.insert(name.to_owned(), json!(dtype.config_name()));
            }
            let read = Config::read_ignoring(&value, &self.ignored)
                .map_err(|error| ModelError::Invalid(format!("config.json: {error}")))?;
            changed.config.model.embedding_scale = read.model.embedding_scale;
            *bytes = serde_json::to_vec_pretty(&value)
                .map_err(|error| ModelError::Invalid(format!("config.json: {error}")))?;
            bytes.push(b'\n');
        }
        Ok(changed)
    }

    /// What rows the model can hold.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_position_embeddings: self.config.max_position_embeddings,
            vocabulary: self.config.model.vocab,
        }
    }

    /// The model's chat template.
    ///
    /// # Errors
    /// When it has none, or one that cannot be read.
    pub(crate) fn chat(&self, dir: &Path) -> Result<ChatTemplate, ModelError> {
        let file = self.kept_text("chat_template.jinja");
        let (settings, special) = (
            self.json("tokenizer_config.json"),
            self.json("special_tokens_map.json"),
        );
        match ChatTemplate::of_files(file.as_deref(), &settings, &special) {
            Ok(Some(template)) => Ok(template),
            Ok(None) => Err(ModelError::Unsupported(format!(
                "`{}` has no chat template (`chat_template.jinja`, or `chat_template` in \
                 tokenizer_config.json); `--template raw` works without",
                dir.display()
            ))),
            Err(reason) => Err(ModelError::Invalid(format!(
                "`{}`: the chat template cannot be used: {reason}; `--template raw` works without",
                dir.display()
            ))),
        }
    }

    /// One of the small files, parsed; `Null` where it is absent.
    pub(crate) fn json(&self, name: &str) -> Value {
        let bytes = if name == "generation_config.json" {
            self.generation.as_deref()
        } else {
            let kept = self.kept.iter().find(|(kept, _)| *kept == name);
            kept.map(|(_, bytes)| bytes.as_slice())
        };
        bytes
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default()
    }

    /// The fields of the config that are there and that the caller had set aside, in order.
    pub(crate) fn set_aside(&self) -> Vec<String> {
        let config = self.json("config.json");
        let mut names = self.ignored.clone();
        names.retain(|name| config.get(name).is_some());
        names.sort();
        names.dedup();
        names
    }

    /// The text of the model's chat template, if it has one.
    ///
    /// # Errors
    /// When the files hold something else in its place.
    pub(crate) fn template_source(&self) -> Result<Option<String>, String> {
        let file = self.kept_text("chat_template.jinja");
        ChatTemplate::source_of_files(file.as_deref(), &self.json("tokenizer_config.json"))
    }

    fn kept_text(&self, name: &str) -> Option<String> {
        let (_, bytes) = self.kept.iter().find(|(kept, _)| *kept == name)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The template that is used when none is asked for.
    pub(crate) fn default_template(&self) -> Template {
        if self.has_chat_template {
            Template::Chat
        } else {
            Template::Raw
        }
    }

    /// Reads the weights of the same directory and the hash of the model.
    ///
    /// # Errors
    /// When a weight file does not hold the model that the config describes.
    pub(crate) fn read_weights(&self, dir: &Path) -> Result<(Weights, String), ModelError> {
        let (weights, hash) = WeightFiles::open(dir)?.read_as_stored(&self.config.model)?;
        Ok((weights, model_hash(&self.config.model, &hash)))
    }

    /// The hash of the model whose weights lie in a directory; they are read but not held.
    ///
    /// # Errors
    /// As [`read_weights`](Self::read_weights).
    pub(crate) fn hash_weights(&self, dir: &Path) -> Result<String, ModelError> {
        let hash = WeightFiles::open(dir)?.hash(&self.config.model)?;
        Ok(model_hash(&self.config.model, &hash))
    }

    /// Writes a whole model directory with `parameters` in the config's type and returns the
    /// model's hash. `card` is the text of its README. The weights come last: a directory with
    /// weights is whole.
    ///
    /// # Errors
    /// When a file cannot be written or a weight is not finite.
    pub(crate) fn write(
        &self,
        out: &Path,
        parameters: &Parameters,
        card: &str,
    ) -> Result<String, ModelError> {
        fs::create_dir_all(out).map_err(|error| files::io_error(out, error))?;
        self.write_beside(out, card)?;
        let hash = write_weights(
            &out.join("model.safetensors"),
            parameters,
            self.config.dtype,
        )?;
        files::sync_directory(out)?;
        Ok(model_hash(&self.config.model, &hash))
    }

    /// Writes what lies beside the weights of a model directory. An empty `card` writes none.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write_beside(&self, out: &Path, card: &str) -> Result<(), ModelError> {
        let write = |name: &str, bytes: &[u8]| {
            files::write_atomic(&out.join(name), |file| file.write_all(bytes))
        };
        for (name, bytes) in &self.kept {
            write(name, bytes)?;
        }
        write("generation_config.json", &self.generation_config()?)?;
        if card.is_empty() {
            return Ok(());
        }
        write("README.md", card.as_bytes())
    }

    /// The generation config with the end token that was trained among those that stop.
    fn generation_config(&self) -> Result<Vec<u8>, ModelError> {
        let end = self.tokenizer.end();
        let mut config = match &self.generation {
            Some(bytes) => files::parse_json(Path::new("generation_config.json"), bytes)?,
            None => json!({}),
        };
        let stops = match &config["eos_token_id"] {
            Value::Array(ids) => ids.iter().any(|id| id == end),
            id => id == end,
        };
        if let (true, Some(bytes)) = (stops, &self.generation) {
            return Ok(bytes.clone());
        }
        // The trained end token first: readers without the tokenizer's settings take the first.
        let others = self.tokenizer.stops().iter().filter(|id| **id != end);
        let mut ids = vec![json!(end)];
        ids.extend(others.map(|id| json!(id)));
        config["eos_token_id"] = if ids.len() == 1 {
            json!(end)
        } else {
            Value::Array(ids)
        };
        let mut text = serde_json::to_vec_pretty(&config)
            .map_err(|error| ModelError::Invalid(format!("generation_config.json: {error}")))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Whether an adapter's directory brings a tokenizer of its own.
pub(crate) fn has_tokenizer(adapter: &Path) -> bool {
    adapter.join("tokenizer.json").is_file()
}

/// Whether an adapter's directory brings a chat template of its own, or a tokenizer, whose template
/// (or lack of one) goes with it.
pub(crate) fn has_template(adapter: &Path) -> bool {
    has_tokenizer(adapter) || adapter.join("chat_template.jinja").is_file()
}

/// A model is its weights and what the decoder makes of them.
fn model_hash(model: &ModelConfig, weights_hash: &str) -> String {
    let model = serde_json::to_string(model).expect("it holds numbers, names and lists");
    content_hash(format!("{weights_hash} {model}").as_bytes())
}

#[cfg(test)]
pub(crate) mod tests;
