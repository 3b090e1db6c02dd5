//! Reads the parity fixtures; `fixtures/parity/README.md` lists what is in them.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The families with a fixture.
pub(crate) const FAMILIES: [&str; 7] = [
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "olmo2",
];

/// A path below `fixtures/`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// The expected tensors of one family.
pub(crate) struct Expected {
    bytes: Vec<u8>,
}

impl Expected {
    pub(crate) fn of(family: &str) -> Self {
        let file = path("parity").join(family).join("expected.safetensors");
        Self {
            bytes: std::fs::read(file).unwrap(),
        }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn read<const W: usize, T>(
        &self,
        name: &str,
        dtype: Dtype,
        from: impl Fn([u8; W]) -> T,
    ) -> Vec<T> {
        let tensors = self.tensors();
        let tensor = tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tensor.dtype(), dtype, "{name}");
        tensor
            .data()
            .chunks_exact(W)
            .map(|c| from(c.try_into().unwrap()))
            .collect()
    }

    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.read(name, Dtype::F32, f32::from_le_bytes)
    }

    pub(crate) fn f64(&self, name: &str) -> Vec<f64> {
        self.read(name, Dtype::F64, f64::from_le_bytes)
    }

    /// Indices and counts; none is negative.
    pub(crate) fn usize(&self, name: &str) -> Vec<usize> {
        self.read(name, Dtype::I32, |b| {
            usize::try_from(i32::from_le_bytes(b)).unwrap()
        })
    }

    /// What follows `prefix` in the names that begin with it, in order.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let tensors = self.tensors();
        let mut names: Vec<String> = tensors
            .names()
            .iter()
            .filter_map(|n| n.strip_prefix(prefix))
            .map(str::to_owned)
            .collect();
        names.sort();
        assert!(!names.is_empty(), "no tensor is named `{prefix}…`");
        names
    }
}

/// The rows of a JSON-lines file in `fixtures/parity/stories260K`.
pub(crate) fn stories(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path("parity/stories260K").join(file)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_fixtures_are_those_that_the_generator_wrote() {
    let directory = path("parity");
    let sums = std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    assert!(
        sums.lines().count() >= 30,
        "the list of sums is short:\n{sums}"
    );
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let bytes = std::fs::read(directory.join(name)).unwrap();
        let found: String = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            found, sum,
            "`{name}` is not the file that make.py wrote: run make.py again, or restore it"
        );
    }
}
