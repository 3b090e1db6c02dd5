//! Adapter directories in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! The config is read as strictly as a model's: every field is used, listed as irrelevant to what
//! is computed, at the value that changes nothing, or an error that names it. Files written here
//! hold no absolute path: the base is a path relative to the adapter, or an id of the hub.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use idiolect_model::{Lora, ModelError};
use serde_json::{Map, Value, json};

use crate::adapter::{Adapter, AdapterError, TARGETS};
use crate::files;
use crate::model_config::ModelConfig;
use crate::weights::{Dtype, Slot, WeightFiles, write_slots};

/// The file that makes a directory an adapter.
pub const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The content of an `adapter_config.json`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AdapterConfig {
    /// What the adapters are.
    pub lora: Lora,
    /// `base_model_name_or_path`, as written.
    pub base: Option<String>,
}

/// Whether a directory holds an adapter and no model of its own.
pub fn is_adapter(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && !dir.join("config.json").exists()
}

/// Fields that do not change what is computed with the trained values.
const IRRELEVANT: [&str; 12] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "layers_pattern",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    "lora_ga_config",
];

/// Starts of A and B after which the base is still the model that it was.
const KEEPS_BASE: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Reads the settings of an adapter directory.
///
/// # Errors
/// Names the file, and the field that cannot be used.
pub fn read_config(dir: &Path) -> Result<AdapterConfig, ModelError> {
    let path = dir.join(CONFIG);
    let value = files::parse_json(&path, &files::read(&path)?)?;
    parse(&value).map_err(|reason| ModelError::Invalid(format!("`{}`: {reason}", path.display())))
}

fn parse(config: &Value) -> Result<AdapterConfig, String> {
    let mut fields: Map<String, Value> = config
        .as_object()
        .ok_or("the adapter's config is not a JSON object")?
        .clone();
    let mut take = |name: &str| fields.remove(name).unwrap_or(Value::Null);
    let fault =
        |name: &str, value: &Value, expected: &str| Err(format!("`{name}` is {value}; {expected}"));
    match take("peft_type") {
        Value::String(kind) if kind == "LORA" => {}
        other => return fault("peft_type", &other, "only LORA adapters are read"),
    }
    let r = match take("r") {
        Value::Null => 8,
        value => match value.as_u64().and_then(|r| usize::try_from(r).ok()) {
            Some(r) => r,
            None => return fault("r", &value, "expected a rank"),
        },
    };
    let alpha = match take("lora_alpha") {
        Value::Null => 8.0,
        value => match value.as_f64() {
            Some(alpha) => alpha,
            None => return fault("lora_alpha", &value, "expected a number"),
        },
    };
    let dropout = match take("lora_dropout") {
        Value::Null => 0.0,
        value => match value.as_f64() {
            Some(fraction) => fraction,
            None => return fault("lora_dropout", &value, "expected a fraction"),
        },
    };
    let rslora = match take("use_rslora") {
        Value::Null => false,
        Value::Bool(flag) => flag,
        value => return fault("use_rslora", &value, "expected true or false"),
    };
    let targets = match take("target_modules") {
        Value::String(all) if all == "all-linear" => Vec::new(),
        Value::Array(names) if !names.is_empty() => names
            .iter()
            .map(|name| name.as_str().map(str::to_owned))
            .collect::<Option<Vec<String>>>()
            .ok_or("`target_modules` holds something that is not a name")?,
        value @ Value::String(_) => {
            let expected =
                "a pattern is not supported: expected a list of names, or \"all-linear\"";
            return fault("target_modules", &value, expected);
        }
        value => return fault("target_modules", &value, "expected a list of names"),
    };
    let base = match take("base_model_name_or_path") {
        Value::Null => None,
        Value::String(base) => Some(base).filter(|base| !base.is_empty()),
        value => return fault("base_model_name_or_path", &value, "expected a path or id"),
    };
    match take("init_lora_weights") {
        Value::Null | Value::Bool(_) => {}
        Value::String(start) if KEEPS_BASE.contains(&start.as_str()) => {}
        value => {
            let expected = "it changes the base's weights, which is not supported: convert the \
                            adapter with PEFT to one of the unchanged base first";
            return fault("init_lora_weights", &value, expected);
        }
    }
    match take("bias") {
        Value::Null => {}
        Value::String(none) if none == "none" => {}
        value => return fault("bias", &value, "trained biases are not supported"),
    }
    for (name, value) in &fields {
        let idle = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !idle && !IRRELEVANT.contains(&name.as_str()) {
            let expected = "this option changes what is computed, or is not known, and is not \
                            supported";
            return fault(name, value, expected);
        }
    }
    let lora = Lora {
        r,
        alpha,
        rslora,
        dropout,
        targets,
    };
    lora.check()?;
    Ok(AdapterConfig { lora, base })
}

/// The directory of an adapter's base, which is `given` or what its config names; none where `dir`
/// is no adapter.
///
/// # Errors
/// When a base is given for a directory that is no adapter, or the base cannot be found or used.
pub(crate) fn base_directory(
    dir: &Path,
    given: Option<&Path>,
) -> Result<Option<PathBuf>, ModelError> {
    match given {
        None if !is_adapter(dir) => Ok(None),
        _ => find_base(dir, &read_adapter_config(dir)?, given).map(Some),
    }
}

/// [`read_config`] of what has to be an adapter directory.
///
/// # Errors
/// When it is none; and as [`read_config`].
pub fn read_adapter_config(dir: &Path) -> Result<AdapterConfig, ModelError> {
    if !is_adapter(dir) {
        return Err(ModelError::Invalid(format!(
            "`{}` is no adapter directory (it has no {CONFIG}, or a config.json of its own), so it \
             has no base",
            dir.display()
        )));
    }
    read_config(dir)
}

/// Where the base of an adapter lies: the one given, or what the config names, seen from the
/// adapter, then from where the program runs.
///
/// # Errors
/// When the config names no directory, or the base is an adapter too; the message states what to do.
pub fn find_base(
    dir: &Path,
    config: &AdapterConfig,
    given: Option<&Path>,
) -> Result<PathBuf, ModelError> {
    let base = match given {
        Some(base) => base.to_owned(),
        None => named_base(dir, config)?,
    };
    if is_adapter(&base) {
        return Err(ModelError::Unsupported(format!(
            "`{}`: its base `{}` is an adapter too; merge that into a model first: idiolect \
             convert {1} -o MERGED --to merged",
            dir.display(),
            base.display()
        )));
    }
    Ok(base)
}

fn named_base(dir: &Path, config: &AdapterConfig) -> Result<PathBuf, ModelError> {
    let Some(base) = &config.base else {
        return Err(ModelError::Invalid(format!(
            "`{}` does not name its base model (`base_model_name_or_path`); give it with --base",
            dir.join(CONFIG).display()
        )));
    };
    for path in [dir.join(base), PathBuf::from(base)] {
        if path.is_dir() {
            return Ok(path);
        }
    }
    Err(ModelError::Invalid(format!(
        "`{}`: the base model `{base}` is no directory seen from the adapter or from here; give \
         the model's directory with --base",
        dir.join(CONFIG).display()
    )))
}

/// Reads an adapter's values for a model with this config, and their hash.
///
/// # Errors
/// When a target names no layer, or the file does not hold what the settings describe.
pub fn read(
    dir: &Path,
    config: &AdapterConfig,
    model: &ModelConfig,
) -> Result<(Adapter, String), ModelError> {
    let invalid = |error: AdapterError| {
        ModelError::Invalid(format!("`{}`: {error}", dir.join(CONFIG).display()))
    };
    let file = WeightFiles::open_file(dir.join(WEIGHTS))?;
    let planned = Adapter::laid_out(model, config.lora.clone()).map_err(invalid)?;
    let slots: Vec<Slot<'_>> = planned.tensors().iter().map(Slot::of).collect();
    file.check_slots(&slots)?;
    let mut adapter = Adapter::zeros(model, config.lora.clone()).map_err(invalid)?;
    let hash = file.read_slots(&slots, adapter.values_mut())?;
    Ok((adapter, hash))
}

/// Writes an adapter directory, values in f32, and returns the hash that [`read`] will give.
/// `card` is the text of its README. The values come last: a directory with values is whole.
///
/// # Errors
/// When a file cannot be written or a value is not finite.
pub(crate) fn write(
    out: &Path,
    adapter: &Adapter,
    base: Option<&str>,
    card: &str,
) -> Result<String, ModelError> {
    fs::create_dir_all(out).map_err(|error| files::io_error(out, error))?;
    let put = |name: &str, text: &str| {
        files::write_atomic(&out.join(name), |file| file.write_all(text.as_bytes()))
    };
    put(CONFIG, &config_text(adapter.settings(), base)?)?;
    put("README.md", card)?;
    let slots: Vec<Slot<'_>> = adapter.tensors().iter().map(Slot::of).collect();
    let hash = write_slots(&out.join(WEIGHTS), &slots, adapter.values(), Dtype::F32)?;
    files::sync_directory(out)?;
    Ok(hash)
}

/// Writes the config of an adapter directory.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_config(dir: &Path, config: &AdapterConfig) -> Result<(), ModelError> {
    let text = config_text(&config.lora, config.base.as_deref())?;
    files::write_atomic(&dir.join(CONFIG), |file| file.write_all(text.as_bytes()))
}

fn config_text(lora: &Lora, base: Option<&str>) -> Result<String, ModelError> {
    let config = serde_json::to_string_pretty(&render(lora, base))
        .map_err(|error| ModelError::Invalid(format!("{CONFIG}: {error}")))?;
    Ok(format!("{config}\n"))
}

/// The config as PEFT reads it.
fn render(lora: &Lora, base: Option<&str>) -> BTreeMap<&'static str, Value> {
    let targets: Vec<&str> = if lora.targets.is_empty() {
        TARGETS.to_vec()
    } else {
        lora.targets.iter().map(String::as_str).collect()
    };
    // PEFT's own type of `lora_alpha` is a whole number; it takes others.
    let alpha = if lora.alpha.fract() == 0.0 && lora.alpha < 1e15 {
        json!(lora.alpha as u64)
    } else {
        json!(lora.alpha)
    };
    BTreeMap::from([
        ("alpha_pattern", json!({})),
        ("base_model_name_or_path", json!(base)),
        ("bias", json!("none")),
        ("fan_in_fan_out", json!(false)),
        ("inference_mode", json!(true)),
        ("init_lora_weights", json!(true)),
        ("layers_to_transform", Value::Null),
        ("lora_alpha", alpha),
        ("lora_dropout", json!(lora.dropout)),
        ("modules_to_save", Value::Null),
        ("peft_type", json!("LORA")),
        ("r", json!(lora.r)),
        ("rank_pattern", json!({})),
        ("revision", Value::Null),
        ("target_modules", json!(targets)),
        ("task_type", json!("CAUSAL_LM")),
        ("use_dora", json!(false)),
        ("use_rslora", json!(lora.rslora)),
    ])
}

/// The path that leads from one directory to another, with `/` between names. None where none
/// can: between drives.
///
/// # Errors
/// When one of them cannot be found.
pub(crate) fn relative(from: &Path, to: &Path) -> Result<Option<String>, ModelError> {
    let whole = |path: &Path| fs::canonicalize(path).map_err(|e| files::io_error(path, e));
    let (from, to) = (whole(from)?, whole(to)?);
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    if shared == 0 {
        return Ok(None);
    }
    let mut parts = vec!["..".to_owned(); from.len() - shared];
    for part in &to[shared..] {
        let Component::Normal(name) = part else {
            return Ok(None);
        };
        parts.push(name.to_string_lossy().into_owned());
    }
    if parts.is_empty() {
        parts.push(".".to_owned());
    }
    Ok(Some(parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::tiny;

    fn minimal() -> Value {
        json!({"peft_type": "LORA", "target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 8})
    }

    #[test]
    fn what_changes_arithmetic_and_is_not_supported_is_named() {
        assert!(parse(&minimal()).is_ok());
        let broken = [
            ("peft_type", json!("IA3")),
            ("use_dora", json!(true)),
            ("bias", json!("lora_only")),
            ("lora_bias", json!(true)),
            ("rank_pattern", json!({"q_proj": 8})),
            ("alpha_pattern", json!({"q_proj": 8})),
            ("modules_to_save", json!(["lm_head"])),
            ("fan_in_fan_out", json!(true)),
            ("layers_to_transform", json!([1])),
            ("exclude_modules", json!(["k_proj"])),
            ("target_modules", json!(".*_proj")),
            ("target_modules", json!([])),
            ("target_parameters", json!(["x"])),
            ("trainable_token_indices", json!([3])),
            ("layer_replication", json!([[0, 2]])),
            ("use_qalora", json!(true)),
            ("init_lora_weights", json!("pissa")),
            ("init_lora_weights", json!("olora")),
            ("loftq_config", json!({"loftq_bits": 4})),
            ("alora_invocation_tokens", json!([1])),
            ("of_next_year", json!(1)),
            ("r", json!(0)),
            ("r", json!("x")),
            ("lora_alpha", json!(-1)),
            ("lora_dropout", json!(1.0)),
            ("base_model_name_or_path", json!(3)),
        ];
        for (name, value) in broken {
            let mut config = minimal();
            config[name] = value;
            let reason = parse(&config).unwrap_err();
            let short = name.trim_start_matches("lora_");
            assert!(
                reason.contains(name) || reason.contains(short),
                "{name}: {reason}"
            );
        }
        assert!(parse(&json!([])).is_err());
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_no_absolute_path() {
        let dir = tempfile::tempdir().unwrap();
        let model = tiny(crate::model_config::Family::Qwen2);
        for (rslora, alpha, targets) in [(false, 16.0, vec![]), (true, 0.5, vec!["v_proj"])] {
            let lora = Lora {
                r: 3,
                alpha,
                rslora,
                dropout: 0.25,
                targets: targets.into_iter().map(str::to_owned).collect(),
            };
            let adapter = Adapter::random(&model, lora, 5).unwrap();
            let out = dir.path().join("train/adapter");
            let hash = write(&out, &adapter, Some("../../base"), "# card\n").unwrap();
            let config = read_config(&out).unwrap();
            assert_eq!(config.base.as_deref(), Some("../../base"));
            assert_eq!(config.lora.scale(), adapter.settings().scale());
            let (again, same) = read(&out, &config, &model).unwrap();
            assert_eq!((again.values(), same), (adapter.values(), hash));
            assert_eq!(again.tensors(), adapter.tensors());
            let text = fs::read_to_string(out.join(CONFIG)).unwrap();
            assert!(!text.contains(&dir.path().display().to_string()), "{text}");
        }
    }

    #[test]
    fn the_base_is_found_from_the_adapter_and_a_missing_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (adapter, base) = (dir.path().join("a/b"), dir.path().join("models/base"));
        fs::create_dir_all(&adapter).unwrap();
        fs::create_dir_all(&base).unwrap();
        let path = relative(&adapter, &base).unwrap();
        assert_eq!(path.as_deref(), Some("../../models/base"));
        assert_eq!(relative(&base, &base).unwrap().as_deref(), Some("."));
        let mut config = AdapterConfig {
            base: path,
            ..parse(&minimal()).unwrap()
        };
        assert!(
            find_base(&adapter, &config, None)
                .unwrap()
                .ends_with("models/base")
        );
        config.base = Some("org/model".to_owned());
        let message = find_base(&adapter, &config, None).unwrap_err().to_string();
        assert!(message.contains("org/model") && message.contains("--base"));
        config.base = None;
        let message = find_base(&adapter, &config, None).unwrap_err().to_string();
        assert!(message.contains("--base"), "{message}");
    }
}
