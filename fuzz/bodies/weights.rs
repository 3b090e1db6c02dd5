//! Any bytes as a safetensors file: refused with a reason, or read into finite parameters.

use idiolect_engine::facts::{Activation, Facts, Family, Norms, Rope};
use idiolect_engine::weights::WeightFiles;

/// A model of 40 parameters, so that mutations of a whole file reach every check.
fn facts() -> Facts {
    Facts {
        family: Family::Llama,
        vocab: 3,
        hidden: 2,
        layers: 1,
        heads: 1,
        kv_heads: 1,
        head_width: 2,
        intermediate: 2,
        norm_eps: 1e-5,
        rope: Rope {
            theta: 100.0,
            scaling: None,
        },
        local_rope: None,
        qkv_bias: false,
        qk_norm: false,
        gain_plus_one: false,
        norms: Norms::Before,
        activation: Activation::Silu,
        embedding_scale: 1.0,
        attention_scale: 0.5,
        attention_softcap: None,
        final_softcap: None,
        windows: vec![None],
        tied: true,
    }
}

/// The body of the target.
pub(crate) fn run(data: &[u8]) {
    let path = std::env::temp_dir().join(format!("idiolect-fuzz-{}.bin", std::process::id()));
    std::fs::write(&path, data).expect("the temporary folder can be written");
    let read = WeightFiles::open_file(path).and_then(|files| files.read(&facts()));
    match read {
        Ok((parameters, _)) => assert!(parameters.values().iter().all(|v| v.is_finite())),
        Err(error) => assert!(error.to_string().contains("idiolect-fuzz-")),
    }
}
