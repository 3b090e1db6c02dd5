//! A line as `adapter_config.json`, the rest as `adapter_model.safetensors`: refused with a reason that
//! names the file, or finite adapters of the right shapes.

use idiolect_engine::model_config::{Family, ModelConfig, Sizes};
use idiolect_engine::peft;

/// A model of one small layer.
fn config() -> ModelConfig {
    let sizes = Sizes {
        vocab: 3,
        hidden: 2,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_dim: 2,
        intermediate: 2,
    };
    ModelConfig::new(Family::Llama, sizes)
}

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let cut = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
    let weights = data.get(cut + 1..).unwrap_or_default();
    let dir = std::env::temp_dir().join(format!("idiolect-fuzz-adapter-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary folder can be written");
    std::fs::write(dir.join(peft::CONFIG), &data[..cut]).expect("the folder was made");
    std::fs::write(dir.join("adapter_model.safetensors"), weights).expect("the folder was made");
    let read = peft::read_config(&dir).and_then(|settings| peft::read(&dir, &settings, &config()));
    match read {
        Ok((adapter, _)) => assert!(adapter.values().iter().all(|v| v.is_finite())),
        Err(error) => assert!(
            error.to_string().contains("idiolect-fuzz-adapter"),
            "{error}"
        ),
    }
}
