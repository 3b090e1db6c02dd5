//! Any bytes as a safetensors file: refused with a reason, or read into finite parameters.

use idiolect_engine::model_config::{Family, ModelConfig, Sizes};
use idiolect_engine::weights::WeightFiles;

/// A model of 40 parameters, so that mutations of a whole file reach every check.
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
    ModelConfig {
        tied: true,
        ..ModelConfig::new(Family::Llama, sizes)
    }
}

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("idiolect-fuzz-{}.bin", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written");
    let read = WeightFiles::open_file(path).and_then(|files| files.read(&config()));
    match read {
        Ok((parameters, _)) => assert!(parameters.values().iter().all(|v| v.is_finite())),
        Err(error) => assert!(error.to_string().contains("idiolect-fuzz-")),
    }
}
