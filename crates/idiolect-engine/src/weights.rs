//! Model weights on disk: safetensors in and out.
//!
//! The format: 8 bytes little-endian length of a JSON header, the header (tensor name → dtype,
//! shape, byte range in the data), the data without holes or overlaps
//! (<https://github.com/huggingface/safetensors>). Everything a file claims is checked before
//! anything is indexed or allocated by it; a bad file is an error that names file and tensor.
//! Reads f32, bf16 and f16; computes in f32. No pickles, no other formats.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use idiolect_model::ModelError;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::files;
use crate::frozen::{Frozen, Weights};
use crate::memory;
use crate::model_config::ModelConfig;
use crate::parameters::{Layout, Parameters, Tensor};
use header::Header;

use values::{Destination, Found, read_tensor};

pub use dtype::Dtype;
pub(crate) use dtype::has_non_finite;
pub(crate) use values::write_slots;
pub use values::write_weights;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

mod dtype;
mod header;
mod values;

/// What can be wrong with weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The system refused to read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's message.
        source: io::Error,
    },
    /// The file as a whole cannot be safetensors.
    #[error("`{}`: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// One tensor cannot be used.
    #[error("`{}`: tensor `{tensor}` {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// What was found and what was expected.
        reason: String,
    },
}

impl From<WeightsError> for ModelError {
    fn from(error: WeightsError) -> Self {
        match error {
            WeightsError::Io { path, source } => files::io_error(&path, source),
            other => Self::Invalid(other.to_string()),
        }
    }
}

/// A tensor that a model needs or has, and its place among the model's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [usize],
    pub(crate) range: Range<usize>,
}

impl<'a> Slot<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Self {
        Self {
            name: &tensor.name,
            shape: &tensor.shape,
            range: tensor.range.clone(),
        }
    }
}

/// The weight files of a model directory, with headers read and checked.
pub struct WeightFiles {
    shards: Vec<(PathBuf, Header)>,
    /// Where the message about a missing tensor points.
    entry: PathBuf,
}

impl WeightFiles {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// When neither is there, a header lies, or index and shards disagree.
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() {
            let header = Header::read(&single)?;
            return Ok(Self {
                shards: vec![(single.clone(), header)],
                entry: single,
            });
        }
        if !index.exists() {
            return Err(WeightsError::File {
                path: dir.to_owned(),
                reason: "holds neither `model.safetensors` nor `model.safetensors.index.json`; \
                         other weight formats are not read, convert them to safetensors"
                    .to_owned(),
            });
        }
        let mut shards = Vec::new();
        for (file, names) in read_index(&index)? {
            let path = dir.join(&file);
            let header = Header::read(&path)?;
            check_shard(&index, &file, &names, &header)?;
            shards.push((path, header));
        }
        Ok(Self {
            shards,
            entry: index,
        })
    }

    /// Opens one file.
    ///
    /// # Errors
    /// When it is not there or its header lies.
    pub fn open_file(path: PathBuf) -> Result<Self, WeightsError> {
        let header = Header::read(&path)?;
        Ok(Self {
            shards: vec![(path.clone(), header)],
            entry: path,
        })
    }

    /// Checks that every tensor of the model that `config` describes is there, by the headers alone.
    ///
    /// # Errors
    /// When one is missing, unexpected, of another shape or type.
    pub fn check(&self, config: &ModelConfig) -> Result<(), WeightsError> {
        self.check_layers(config)?;
        let layout = Layout::new(config);
        self.find(&slots(&layout), |name| is_ignored(name, config.tied))?;
        Ok(())
    }

    /// Nothing is laid out for more layers than there are tensors.
    fn check_layers(&self, config: &ModelConfig) -> Result<(), WeightsError> {
        let held: usize = self
            .shards
            .iter()
            .map(|(_, header)| header.tensors.len())
            .sum();
        if config.layers > held {
            let reason = format!(
                "has {held} tensors; config.json describes {} layers",
                config.layers
            );
            return Err(WeightsError::File {
                path: self.entry.clone(),
                reason,
            });
        }
        Ok(())
    }

    /// A tensor that is not in this type, and its type.
    pub(crate) fn of_other_type(&self, dtype: Dtype) -> Option<(&str, &str)> {
        let mut all = self.shards.iter().flat_map(|(_, header)| &header.tensors);
        all.find(|(_, tensor)| tensor.dtype != dtype.name())
            .map(|(name, tensor)| (name.as_str(), tensor.dtype.as_str()))
    }

    /// The files, what names the others last.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.shards.iter().map(|(path, _)| path.clone()).collect();
        if !paths.contains(&self.entry) {
            paths.push(self.entry.clone());
        }
        paths
    }

    /// Whether some file holds a tensor of that name.
    pub fn holds(&self, name: &str) -> bool {
        let mut headers = self.shards.iter().map(|(_, header)| header);
        headers.any(|header| header.tensors.contains_key(name))
    }

    /// Whether the files hold a head that differs from the embedding, though the config ties them.
    /// Values are compared as f32. Transformers keeps such a head and does not tie it.
    ///
    /// # Errors
    /// When one of the two has another shape or type than the config states, or cannot be read.
    pub fn holds_other_head(&self, config: &ModelConfig) -> Result<bool, WeightsError> {
        if !config.tied || !self.holds(HEAD) {
            return Ok(false);
        }
        self.check_layers(config)?;
        let untied = Layout::new(&ModelConfig {
            tied: false,
            ..config.clone()
        });
        let found = self.find(&slots(&untied), |name| is_ignored(name, false))?;
        let of = |name: &str| found.iter().find(|found| found.slot.name == name);
        let (Some(head), Some(embedding)) = (of(HEAD), of(EMBEDDING)) else {
            return Ok(false);
        };
        let open = |found: &Found<'_>| {
            let path = &self.shards[found.shard].0;
            File::open(path)
                .map(|file| (file, path))
                .map_err(|source| io_at(path, source))
        };
        let ((mut a, a_path), (mut b, b_path)) = (open(head)?, open(embedding)?);
        let row = config.hidden;
        let (mut x, mut y) = (vec![0.0f32; row], vec![0.0f32; row]);
        for at in (0..head.slot.range.len()).step_by(row.max(1)) {
            let read = |file: &mut File, path: &Path, found: &Found<'_>, out: &mut [f32]| {
                let start = found.start + (at * found.dtype.size()) as u64;
                read_tensor(file, start, found.dtype, out, &mut Sha256::new())
                    .map_err(|source| io_at(path, source))
            };
            read(&mut a, a_path, head, &mut x)?;
            read(&mut b, b_path, embedding, &mut y)?;
            if x.iter().zip(&y).any(|(x, y)| x.to_bits() != y.to_bits()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads the model that `config` describes, and a hash of the names, types, shapes and bytes of
    /// all its tensors. Nothing of the model's size is allocated before every tensor is found.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected, of another shape or type, or not finite.
    pub fn read(&self, config: &ModelConfig) -> Result<(Parameters, String), WeightsError> {
        self.check_layers(config)?;
        let layout = Layout::new(config);
        let found = self.find(&slots(&layout), |name| is_ignored(name, config.tied))?;
        self.memory_for::<f32>(layout.len())?;
        let mut parameters = Parameters::of(layout.clone());
        let hash = self.read_found(&found, Destination::Values(parameters.values_mut()))?;
        Ok((parameters, hash))
    }

    /// [`read`](Self::read), with the matrices left in bf16 where the files hold all of them so.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_as_stored(&self, config: &ModelConfig) -> Result<(Weights, String), WeightsError> {
        self.check_layers(config)?;
        let layout = Layout::new(config);
        let found = self.find(&slots(&layout), |name| is_ignored(name, config.tied))?;
        let mut matrices = found.iter().filter(|found| found.is_matrix());
        if matrices.any(|found| found.dtype != Dtype::Bf16) {
            let (parameters, hash) = self.read(config)?;
            return Ok((Weights::F32(parameters), hash));
        }
        self.memory_for::<u16>(layout.len())?;
        let mut frozen = Frozen::zeros(layout.clone());
        let hash = self.read_found(&found, Destination::Frozen(&mut frozen))?;
        Ok((Weights::Bf16(frozen), hash))
    }

    /// The hash that [`read`](Self::read) gives, without the memory that the model takes.
    ///
    /// # Errors
    /// When a tensor is missing, unexpected, or of another shape or type.
    pub fn hash(&self, config: &ModelConfig) -> Result<String, WeightsError> {
        self.check_layers(config)?;
        let layout = Layout::new(config);
        let found = self.find(&slots(&layout), |name| is_ignored(name, config.tied))?;
        self.read_found(&found, Destination::Nowhere)
    }

    /// Asks for the memory of `n` values.
    fn memory_for<T>(&self, n: usize) -> Result<(), WeightsError> {
        memory::available::<T>(n, 1, "the weights").map_err(|reason| WeightsError::File {
            path: self.entry.clone(),
            reason,
        })
    }

    /// Checks that exactly these slots are there, by the headers alone.
    pub(crate) fn check_slots(&self, slots: &[Slot<'_>]) -> Result<(), WeightsError> {
        self.find(slots, |_| false).map(drop)
    }

    /// Reads exactly these slots into their places and returns the hash of it all.
    pub(crate) fn read_slots(
        &self,
        slots: &[Slot<'_>],
        values: &mut [f32],
    ) -> Result<String, WeightsError> {
        let found = self.find(slots, |_| false)?;
        self.read_found(&found, Destination::Values(values))
    }

    /// Finds every slot in the files, with the right shape and a type that can be read, in
    /// ascending order of name. `ignored` selects which further tensors may be there unread.
    fn find<'a>(
        &'a self,
        slots: &[Slot<'a>],
        ignored: impl Fn(&str) -> bool,
    ) -> Result<Vec<Found<'a>>, WeightsError> {
        let mut wanted: BTreeMap<&str, &Slot<'a>> =
            slots.iter().map(|slot| (slot.name, slot)).collect();
        let mut found = Vec::with_capacity(slots.len());
        for (shard, (path, header)) in self.shards.iter().enumerate() {
            for (name, info) in &header.tensors {
                let fault = |reason: String| tensor_at(path, name, reason);
                let Some(slot) = wanted.remove(name.as_str()) else {
                    if ignored(name) {
                        continue;
                    }
                    return Err(fault(
                        "is not part of the model that the config describes".to_owned(),
                    ));
                };
                if info.shape != slot.shape {
                    let reason = format!("has shape {:?}; expected {:?}", info.shape, slot.shape);
                    return Err(fault(reason));
                }
                let dtype = Dtype::of(&info.dtype).ok_or_else(|| {
                    fault(format!(
                        "has dtype {}; supported are F32, BF16, F16",
                        info.dtype
                    ))
                })?;
                let start = header.data_start + info.begin;
                found.push(Found {
                    slot: slot.clone(),
                    shard,
                    start,
                    dtype,
                });
            }
        }
        if let Some((name, slot)) = wanted.first_key_value() {
            let reason = format!("is missing; expected shape {:?}", slot.shape);
            return Err(tensor_at(&self.entry, name, reason));
        }
        found.sort_by_key(|found| found.slot.name);
        Ok(found)
    }
}

fn slots(layout: &Layout) -> Vec<Slot<'_>> {
    layout.tensors().iter().map(Slot::of).collect()
}

/// Tensors that a file may hold beside the model's own: the rotary table, which older files
/// store and which follows from the config, and a second copy of a tied head.
fn is_ignored(name: &str, tied: bool) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (tied && name == HEAD)
}

/// The index file's shards, each with the tensors it should hold.
fn read_index(path: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, WeightsError> {
    let fault = |reason: String| WeightsError::File {
        path: path.to_owned(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(|source| io_at(path, source))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| fault(format!("not JSON: {error}")))?;
    let map = value["weight_map"]
        .as_object()
        .ok_or_else(|| fault("`weight_map` is missing".to_owned()))?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in map {
        // A name with a separator could point outside the directory.
        let file = file
            .as_str()
            .filter(|file| {
                Path::new(file)
                    .file_name()
                    .is_some_and(|plain| plain == *file)
            })
            .ok_or_else(|| fault(format!("tensor `{name}`: {file} is not a plain file name")))?;
        shards
            .entry(file.to_owned())
            .or_default()
            .insert(name.clone());
    }
    Ok(shards)
}

fn check_shard(
    index: &Path,
    file: &str,
    names: &BTreeSet<String>,
    header: &Header,
) -> Result<(), WeightsError> {
    let has: BTreeSet<&String> = header.tensors.keys().collect();
    if let Some(name) = names.iter().find(|name| !has.contains(name)) {
        let reason = format!("is listed in `{file}` and is not there");
        return Err(tensor_at(index, name, reason));
    }
    match has.iter().find(|name| !names.contains(**name)) {
        Some(name) => Err(tensor_at(
            index,
            name,
            format!("is in `{file}` and the index does not list it there"),
        )),
        None => Ok(()),
    }
}

fn io_at(path: &Path, source: io::Error) -> WeightsError {
    WeightsError::Io {
        path: path.to_owned(),
        source,
    }
}

fn tensor_at(path: &Path, tensor: &str, reason: String) -> WeightsError {
    WeightsError::Tensor {
        path: path.to_owned(),
        tensor: tensor.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
